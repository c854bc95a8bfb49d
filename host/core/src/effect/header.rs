//! Headers: which ones a guest may set or read, and in what form.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Code, Refusal, printable};
use crate::guard;

const LONGEST_NAME: usize = 64;

/// Names of headers, in lower case. None of them is one that belongs to the host.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderSet(BTreeSet<String>);

/// Why a name cannot be in a [`HeaderSet`].
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAHeader {
    /// Not letters, digits and `-`.
    #[error("`{0}` is not a header's name: letters, digits and `-`, at most {LONGEST_NAME}")]
    Name(String),
    /// The host's own.
    #[error("the header `{0}` belongs to the host: it frames, routes or authenticates the request")]
    Host(String),
}

impl HeaderSet {
    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// Adds `name`, in any case.
    ///
    /// # Errors
    /// What is not a header's name, and the host's own headers.
    pub fn insert(&mut self, name: &str) -> Result<(), NotAHeader> {
        let lower = canonical_name(name).ok_or_else(|| NotAHeader::Name(printable(name)))?;
        if !guard!("scope.header-host", !is_hosts(&lower)) {
            return Err(NotAHeader::Host(lower));
        }
        self.0.insert(lower);
        Ok(())
    }

    /// Whether `name`, in lower case, is in the set.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Those in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// Names separated by commas; nothing is the empty set.
impl FromStr for HeaderSet {
    type Err = NotAHeader;

    fn from_str(text: &str) -> Result<Self, NotAHeader> {
        let mut set = Self::new();
        if !text.trim_ascii().is_empty() {
            text.split(',').try_for_each(|name| set.insert(name.trim_ascii()))?;
        }
        Ok(set)
    }
}

impl fmt::Display for HeaderSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.iter().enumerate() {
            write!(f, "{}{name}", if i > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for HeaderSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({self})")
    }
}

impl Serialize for HeaderSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for HeaderSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut set = Self::new();
        let names = Vec::<String>::deserialize(deserializer)?;
        names
            .iter()
            .try_for_each(|name| set.insert(name))
            .map_err(serde::de::Error::custom)?;
        Ok(set)
    }
}

/// The name in lower case. Without `_`, which some servers cannot tell from `-`.
fn canonical_name(name: &str) -> Option<String> {
    let holds =
        (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    holds.then(|| name.to_ascii_lowercase())
}

/// Whether the header decides where a request goes, where it ends, who sends it, or what it does: the host's to write.
/// Those that only answers have (`set-cookie`) are here because what they carry is a credential.
fn is_hosts(lower: &str) -> bool {
    const NAMES: [&str; 30] = [
        // Framing and hop-by-hop (RFC 9110, 7.6.1).
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        // Encodings that the host would have to undo before it can read the answer.
        "accept-encoding",
        // Who sends it.
        "authorization",
        "cookie",
        "cookie2",
        "set-cookie",
        "set-cookie2",
        "www-authenticate",
        "authentication-info",
        // Where from and by what way.
        "client-ip",
        "forwarded",
        "true-client-ip",
        "via",
        "x-real-ip",
        // Another method or path than the one that was checked.
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-rewrite-url",
        // Another host.
        "x-host",
    ];
    const PREFIXES: [&str; 4] = ["proxy-", "x-forwarded-", "sec-", "x-original-"];
    NAMES.contains(&lower) || PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) || lower.contains("idempotency")
}

/// Whether a guest may set this header though nothing names it: `accept`, with one of these types. Any other text would be a
/// way to send something to a service that no declaration, route or policy sees.
pub(crate) fn is_free(name: &str, value: &str) -> bool {
    const TYPES: [&str; 9] = [
        "*/*",
        "application/json",
        "application/octet-stream",
        "application/pdf",
        "application/xml",
        "text/csv",
        "text/html",
        "text/plain",
        "text/xml",
    ];
    name == "accept" && TYPES.contains(&value)
}

/// The guest's headers as the host writes them: names in lower case, sorted.
pub(super) fn check(given: &[(String, String)], most: usize, longest: usize) -> Result<Vec<(String, String)>, Refusal> {
    let refuse = |why: String| Err(Refusal::new(Code::Header, why));
    if !guard!("wire.headers", given.len() <= most) {
        return refuse(format!("the request has more than {most} headers"));
    }
    let bytes = given
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum::<usize>();
    if !guard!("wire.headers-length", bytes <= longest) {
        return refuse(format!("the request's headers are longer than {longest} bytes"));
    }
    let mut headers = Vec::with_capacity(given.len());
    for (name, value) in given {
        let Some(lower) = canonical_name(name) else {
            return refuse(format!("`{}` is not a header's name", printable(name)));
        };
        if !guard!("wire.header-host", !is_hosts(&lower)) {
            return refuse(format!("the header `{lower}` belongs to the host"));
        }
        if !guard!("wire.header-value", is_value(value)) {
            return refuse(format!("the value of the header `{lower}` is not plain ASCII text"));
        }
        headers.push((lower, value.clone()));
    }
    headers.sort();
    let twice = headers.windows(2).find_map(|pair| match pair {
        [(a, _), (b, _)] if a == b => Some(a),
        _ => None,
    });
    if !guard!("wire.header-twice", twice.is_none()) {
        return refuse(format!("the header `{}` comes twice", twice.map_or("", String::as_str)));
    }
    Ok(headers)
}

/// Visible ASCII, with single or more spaces inside: no line ends, no tabs, nothing that two servers decode differently.
fn is_value(value: &str) -> bool {
    value.bytes().all(|b| matches!(b, b' '..=b'~')) && value.trim_ascii() == value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
        given
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[track_caller]
    fn refused(given: &[(&str, &str)], message: &str) {
        let refusal = check(&pairs(given), 4, 64).unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (Code::Header, message));
    }

    #[test]
    fn written_in_one_way() {
        let headers = check(
            &pairs(&[("If-Match", "\"a, b\""), ("Accept", "a/b; q=1"), ("x-e", "")]),
            4,
            64,
        )
        .unwrap();
        assert_eq!(
            headers,
            pairs(&[("accept", "a/b; q=1"), ("if-match", "\"a, b\""), ("x-e", "")])
        );
    }

    #[test]
    fn the_hosts_headers_are_refused_in_any_case() {
        for name in [
            "Host",
            "content-length",
            "Content-Type",
            "TRANSFER-ENCODING",
            "connection",
            "keep-alive",
            "te",
            "upgrade",
            "authorization",
            "Proxy-Authorization",
            "proxy-connection",
            "cookie",
            "set-cookie",
            "accept-encoding",
            "expect",
            "Idempotency-Key",
            "X-Idempotency-Key",
            "x-forwarded-host",
            "forwarded",
            "x-real-ip",
            "x-http-method-override",
            "X-Original-URL",
            "sec-fetch-mode",
            "trailer",
            "via",
        ] {
            let lower = name.to_ascii_lowercase();
            refused(&[(name, "x")], &format!("the header `{lower}` belongs to the host"));
            assert_eq!(name.parse::<HeaderSet>(), Err(NotAHeader::Host(lower)));
        }
    }

    #[test]
    fn what_could_start_another_header_is_refused() {
        refused(
            &[("accept", "a\r\nx: y")],
            "the value of the header `accept` is not plain ASCII text",
        );
        for value in [" a", "a ", "a\tb", "a\0", "é", "a\u{7f}"] {
            refused(
                &[("accept", value)],
                "the value of the header `accept` is not plain ASCII text",
            );
        }
        for name in ["", "a b", "a:", "a_b", "é", "accept\r\nx"] {
            refused(&[(name, "x")], &format!("`{}` is not a header's name", printable(name)));
        }
        refused(&[("accept", "a"), ("Accept", "b")], "the header `accept` comes twice");
        refused(
            &[("a", ""), ("b", ""), ("c", ""), ("d", ""), ("e", "")],
            "the request has more than 4 headers",
        );
        refused(
            &[("a", &"x".repeat(64))],
            "the request's headers are longer than 64 bytes",
        );
    }

    #[test]
    fn sets_read_back() {
        let set: HeaderSet = "If-Match, etag,ETag".parse().unwrap();
        assert_eq!(set.to_string(), "etag, if-match");
        assert_eq!(set.to_string().parse(), Ok(set.clone()));
        assert_eq!(set.intersect(&"etag, link".parse().unwrap()).to_string(), "etag");
        assert!("a,,b".parse::<HeaderSet>().is_err());
    }
}
