use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Scheme, host and port: whom a request is for. It has one spelling, and two origins are the same only if they are
/// spelled the same.
///
/// The host is a DNS name in lower-case ASCII (international names in their `xn--` form), an IPv4 address in its usual
/// form, or an IPv6 address in brackets in its canonical form (RFC 5952). The port is written unless it is the scheme's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
}

/// How the wire is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// TLS.
    Https,
    /// Nothing.
    Http,
}

impl Scheme {
    /// `https` or `http`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    /// 443 or 80.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

impl Origin {
    /// The scheme.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host as in a URL: an IPv6 address has its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's where none is written.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The value of the `Host` header: the port only where it is not the scheme's.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        if self.port == self.scheme.default_port() {
            Ok(())
        } else {
            write!(f, ":{}", self.port)
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not an origin.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnOrigin {
    /// Neither `https://` nor `http://`.
    #[error("an origin begins with `https://` or `http://`, in lower case")]
    Scheme,
    /// There is more than scheme, host and port.
    #[error("an origin is only scheme, host and port: no user, path, query or fragment")]
    More,
    /// Not a host in its one spelling.
    #[error(
        "the host is not a DNS name in lower case (international names as `xn--`, no final dot, no wildcard), \
         an IPv4 address, or an IPv6 address in brackets and canonical form"
    )]
    Host,
    /// Not a port in its one spelling.
    #[error("the port is not a number from 1 to 65535 without leading zeros")]
    Port,
    /// The scheme's own port is not written.
    #[error("the scheme's default port is left out")]
    DefaultPort,
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let (scheme, authority) = scheme_of(text).ok_or(NotAnOrigin::Scheme)?;
        if authority.contains(['/', '?', '#', '@', '\\']) {
            return Err(NotAnOrigin::More);
        }
        let (host, port) = split_port(authority);
        if !is_host(host) {
            return Err(NotAnOrigin::Host);
        }
        let port = match port {
            None => scheme.default_port(),
            Some(port) => parse_port(port).ok_or(NotAnOrigin::Port)?,
        };
        if authority.len() > host.len() && port == scheme.default_port() {
            return Err(NotAnOrigin::DefaultPort);
        }
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
        })
    }
}

fn scheme_of(text: &str) -> Option<(Scheme, &str)> {
    let https = text.strip_prefix("https://").map(|rest| (Scheme::Https, rest));
    https.or_else(|| text.strip_prefix("http://").map(|rest| (Scheme::Http, rest)))
}

/// Divides at the colon before the port, which is not one inside the brackets of an IPv6 address.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    let colon = authority
        .get(after_brackets..)
        .and_then(|rest| rest.find(':'))
        .map(|at| after_brackets + at);
    match colon.and_then(|at| authority.split_at_checked(at)) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => (authority, None),
    }
}

fn parse_port(text: &str) -> Option<u16> {
    let port: u16 = text.parse().ok()?;
    (port > 0 && port.to_string() == text).then_some(port)
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner
            .parse()
            .is_ok_and(|address: Ipv6Addr| address.to_string() == inner);
    }
    // What ends in a number is an address to many parsers, in forms (`127.1`, `0x7f000001`) that are not ours.
    let last = host.rsplit('.').next().unwrap_or("");
    if last.starts_with(|c: char| c.is_ascii_digit()) {
        return host.parse().is_ok_and(|address: Ipv4Addr| address.to_string() == host);
    }
    host.len() <= 253 && host.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let inside = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    (1..=63).contains(&label.len()) && label.bytes().all(inside) && !label.starts_with('-') && !label.ends_with('-')
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, host: &str, port: u16, authority: &str) {
        let origin: Origin = text.parse().unwrap();
        assert_eq!(
            (origin.host(), origin.port(), origin.authority().as_str()),
            (host, port, authority)
        );
        assert_eq!(origin.to_string(), text);
    }

    #[test]
    fn one_spelling() {
        check("https://api.stripe.com", "api.stripe.com", 443, "api.stripe.com");
        check("http://localhost:8080", "localhost", 8080, "localhost:8080");
        check(
            "https://xn--bcher-kva.example:80",
            "xn--bcher-kva.example",
            80,
            "xn--bcher-kva.example:80",
        );
        check("http://127.0.0.1", "127.0.0.1", 80, "127.0.0.1");
        check(
            "https://[2001:db8::1]:8443",
            "[2001:db8::1]",
            8443,
            "[2001:db8::1]:8443",
        );
        check("https://[::1]", "[::1]", 443, "[::1]");
    }

    #[test]
    fn trap_08_anything_else_is_refused() {
        use NotAnOrigin::{DefaultPort, Host, More, Port, Scheme};
        for (text, why) in [
            ("", Scheme),
            ("api.stripe.com", Scheme),
            ("HTTPS://api.stripe.com", Scheme),
            ("ftp://api.stripe.com", Scheme),
            ("https:/api.stripe.com", Scheme),
            ("https://api.stripe.com/", More),
            ("https://api.stripe.com/v1", More),
            ("https://user@api.stripe.com", More),
            ("https://api.stripe.com?x", More),
            ("https://api.stripe.com#x", More),
            ("https://api.stripe.com\\x", More),
            ("https://", Host),
            ("https://:8080", Host),
            ("https://API.stripe.com", Host),
            ("https://api.stripe.com.", Host),
            ("https://*.stripe.com", Host),
            ("https://api..com", Host),
            ("https://-a.com", Host),
            ("https://bücher.example", Host),
            ("https://a b.com", Host),
            ("https://a%2eb.com", Host),
            ("https://127.1", Host),
            ("https://127.0.0.01", Host),
            ("https://2130706433", Host),
            ("https://1.0x7f000001", Host),
            ("https://[::1", Host),
            ("https://::1", Host),
            ("https://[0:0:0:0:0:0:0:1]", Host),
            ("https://[::FFFF]", Host),
            ("https://[fe80::1%25eth0]", Host),
            ("https://a.com:", Port),
            ("https://a.com:0", Port),
            ("https://a.com:0443", Port),
            ("https://a.com:+80", Port),
            ("https://a.com:65536", Port),
            ("https://a.com:80:80", Port),
            ("https://a.com:443", DefaultPort),
            ("http://a.com:80", DefaultPort),
        ] {
            assert_eq!(text.parse::<Origin>(), Err(why), "{text}");
        }
        assert_eq!(format!("https://{}", "a.".repeat(127)).parse::<Origin>(), Err(Host));
        assert_eq!(format!("https://{}.com", "a".repeat(64)).parse::<Origin>(), Err(Host));
    }

    proptest! {
        #[test]
        fn reads_back_as_itself(text in r"https?://([a-z0-9.\[\]:_-]{1,20}|[a-z]{1,5}(:[0-9]{1,5})?)") {
            if let Ok(origin) = text.parse::<Origin>() {
                prop_assert_eq!(origin.to_string(), text);
            }
        }

        #[test]
        fn any_text(text in any::<String>()) {
            let _ = format!("https://{text}").parse::<Origin>();
        }
    }
}
