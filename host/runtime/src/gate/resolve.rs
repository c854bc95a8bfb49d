//! Names become addresses once, and every address is judged before any is used.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use ambit_core::error::{Code, Refusal};

use super::address::{self, Class};

/// Most addresses of one name that are tried, in the resolver's order.
const MAX_ADDRESSES: usize = 8;

/// What a [`Resolve`] gives back.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Looks up a name. A trait, so that tests can have names that change their mind.
pub trait Resolve: Send + Sync {
    /// Addresses of `host`, a DNS name, each with `port`.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a>;
}

/// The system's resolver: `/etc/hosts`, then DNS as the system is set up.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Resolve for System {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where names are resolved; what comes back is judged"
    )]
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Where a socket is to be opened: a host and a port, not yet resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Name(String),
    Address(IpAddr),
}

impl Endpoint {
    /// From a host as it stands in an origin (a name, an IPv4 address, or an IPv6 address with or without its brackets) and a port.
    ///
    /// # Errors
    /// One clause: what is wrong with the host or the port.
    pub fn new(host: &str, port: u16) -> Result<Endpoint, String> {
        if port == 0 {
            return Err("port 0 is not a port".into());
        }
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Ok(Endpoint {
                host: Host::Address(address),
                port,
            });
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if host.is_empty() || host.len() > 253 || !host.chars().all(plain) {
            return Err("the host is neither a name nor an address".into());
        }
        // The resolver of the C library reads `0x7f.1` and `2130706433` as addresses. Names end in a letter or `-`; those don't.
        let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or("");
        if last.starts_with(|c: char| c.is_ascii_digit()) {
            return Err("the host looks like an address and is not one".into());
        }
        Ok(Endpoint {
            host: Host::Name(host.to_ascii_lowercase()),
            port,
        })
    }

    /// From `host:port`.
    ///
    /// # Errors
    /// As [`Endpoint::new`], and when there is no port.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        let (host, port) = text.rsplit_once(':').ok_or_else(|| "a port is missing".to_string())?;
        if host.contains(':') && !host.starts_with('[') {
            return Err("an IPv6 address needs brackets before the port".into());
        }
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port
            .parse()
            .ok()
            .filter(|_| digits)
            .ok_or_else(|| "the port is not a number up to 65535".to_string())?;
        Endpoint::new(host, port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Address(address) => write!(f, "{}", SocketAddr::new(*address, self.port)),
        }
    }
}

/// An address that was judged and may be connected to. Only [`checked`] makes one, and only one of these can be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Checked {
    address: SocketAddr,
    public: bool,
}

impl Checked {
    pub(super) fn address(self) -> SocketAddr {
        self.address
    }

    /// Whether the address is anywhere on the Internet, rather than on this machine or its networks.
    pub(super) fn is_public(self) -> bool {
        self.public
    }
}

/// Resolves `endpoint` once and judges every address it has.
///
/// One bad address refuses them all: a name that points inside and outside at once is either broken or an attempt.
///
/// # Errors
/// [`Code::Address`]: the name does not resolve, or which address was refused and as what.
pub(super) async fn checked(
    resolver: &dyn Resolve,
    endpoint: &Endpoint,
    allow_private: bool,
) -> Result<Vec<Checked>, Refusal> {
    let addresses = match &endpoint.host {
        Host::Address(address) => vec![SocketAddr::new(*address, endpoint.port)],
        Host::Name(name) => resolver
            .resolve(name, endpoint.port)
            .await
            .map_err(|error| unresolved(endpoint, &error.to_string()))?,
    };
    if addresses.is_empty() {
        return Err(unresolved(endpoint, "no address"));
    }
    addresses
        .into_iter()
        .take(MAX_ADDRESSES)
        .map(|address| check(endpoint, address, allow_private))
        .collect()
}

fn check(endpoint: &Endpoint, address: SocketAddr, allow_private: bool) -> Result<Checked, Refusal> {
    // A resolver that answers with another port would move the connection elsewhere on the same host.
    let address = SocketAddr::new(address.ip(), endpoint.port);
    let class = address::classify(address.ip());
    match class.admit(allow_private) {
        Ok(()) => Ok(Checked {
            address,
            public: class == Class::Public,
        }),
        Err(kind) => {
            let refusal = Refusal::new(
                Code::Address,
                format!("{endpoint} is at {}, a {kind}; nothing is sent there", address.ip()),
            );
            Err(match class {
                Class::Private(_) => refusal.advise(
                    "if the service is meant to be on this machine or network, set `allow_private = true` on its connection",
                ),
                _ => refusal,
            })
        }
    }
}

fn unresolved(endpoint: &Endpoint, why: &str) -> Refusal {
    Refusal::new(Code::Address, format!("{endpoint} does not resolve: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Vec<SocketAddr>);

    impl Resolve for Fixed {
        fn resolve<'a>(&'a self, _: &'a str, _: u16) -> Resolving<'a> {
            Box::pin(async { Ok(self.0.clone()) })
        }
    }

    fn check(endpoint: &str, answers: &[&str], allow_private: bool) -> Result<Vec<String>, String> {
        let resolver = Fixed(answers.iter().map(|a| a.parse().unwrap()).collect());
        let endpoint = Endpoint::parse(endpoint).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime
            .block_on(checked(&resolver, &endpoint, allow_private))
            .map(|all| all.iter().map(|c| c.address().to_string()).collect())
            .map_err(|refusal| refusal.message)
    }

    #[test]
    fn trap_06_one_refused_address_refuses_all() {
        assert_eq!(
            check("api.example:443", &["8.8.8.8:443", "127.0.0.1:443"], false).unwrap_err(),
            "api.example:443 is at 127.0.0.1, a loopback address; nothing is sent there"
        );
        assert_eq!(
            check("api.example:443", &["8.8.8.8:443", "[2606:4700::1]:443"], false).unwrap(),
            ["8.8.8.8:443", "[2606:4700::1]:443"]
        );
        assert_eq!(
            check("api.example:443", &["127.0.0.1:443"], true).unwrap(),
            ["127.0.0.1:443"]
        );
        assert_eq!(
            check("api.example:443", &["169.254.169.254:443"], true).unwrap_err(),
            "api.example:443 is at 169.254.169.254, a cloud metadata address; nothing is sent there"
        );
        assert_eq!(
            check("api.example:443", &[], true).unwrap_err(),
            "api.example:443 does not resolve: no address"
        );
    }

    #[test]
    fn trap_08_literals_are_judged_without_a_resolver_and_ports_are_ours() {
        assert!(check("127.0.0.1:80", &["8.8.8.8:80"], false).is_err());
        assert!(check("[::ffff:127.0.0.1]:80", &["8.8.8.8:80"], false).is_err());
        assert_eq!(check("8.8.4.4:443", &[], false).unwrap(), ["8.8.4.4:443"]);
        assert_eq!(
            check("api.example:443", &["8.8.8.8:22"], false).unwrap(),
            ["8.8.8.8:443"]
        );
    }

    #[test]
    fn endpoints_have_one_spelling() {
        for (text, expected) in [
            ("API.example:443", Ok("api.example:443")),
            ("[::1]:8443", Ok("[::1]:8443")),
            ("127.0.0.1:8443", Ok("127.0.0.1:8443")),
            ("api.example", Err("a port is missing")),
            ("api.example:", Err("the port is not a number up to 65535")),
            ("api.example:+1", Err("the port is not a number up to 65535")),
            ("api.example:70000", Err("the port is not a number up to 65535")),
            ("api.example:0", Err("port 0 is not a port")),
            ("::1:8443", Err("an IPv6 address needs brackets before the port")),
            ("a b:1", Err("the host is neither a name nor an address")),
            ("user@host:1", Err("the host is neither a name nor an address")),
            (":1", Err("the host is neither a name nor an address")),
            ("2130706433:80", Err("the host looks like an address and is not one")),
            ("0x7f.1:80", Err("the host looks like an address and is not one")),
            ("127.0.0.1.:80", Err("the host looks like an address and is not one")),
        ] {
            let got = Endpoint::parse(text).map(|e| e.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), expected, "{text}");
        }
    }
}
