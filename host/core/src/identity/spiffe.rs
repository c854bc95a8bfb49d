//! SPIFFE ids: what a workload is called, as in `spiffe://prod.example/agent/support`.
//!
//! An id is read as the [SPIFFE ID specification](https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md) (section 2) has
//! it, and compared to the letter: there is one spelling of each, so nothing is folded, unescaped or put in order here. [`svid`] finds
//! the id that an X.509 certificate has. Neither says that the certificate is genuine: that is for whoever knows the authorities of the
//! id's trust domain.
//!
//! [`svid`]: super::svid

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::guard;

/// The longest id, in bytes (section 2.3).
pub const LONGEST_ID: usize = 2_048;
/// The longest name of a trust domain, in bytes (section 2.3).
pub const LONGEST_TRUST_DOMAIN: usize = 255;
const SCHEME: &str = "spiffe://";

/// The name of a trust domain: all workloads whose certificates the same authorities sign.
///
/// 1 to 255 of `a` to `z`, `0` to `9`, `.`, `-` and `_`. Capitals are refused and not made small: a name has one spelling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The name, without a scheme.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        check_trust_domain(text)?;
        Ok(Self(text.to_owned()))
    }
}

/// The id of a workload: a trust domain, and a path in it.
///
/// The id of a trust domain itself, which has no path, names no workload and is none here (X509-SVID, section 3.1).
///
/// ```
/// use ambit_core::identity::spiffe::SpiffeId;
///
/// let id: SpiffeId = "spiffe://prod.example/agent/support".parse().unwrap();
/// assert_eq!((id.trust_domain(), id.path()), ("prod.example", "/agent/support"));
/// assert!("spiffe://Prod.example/agent/support".parse::<SpiffeId>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId(String);

impl SpiffeId {
    /// All of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.parts().0
    }

    /// Its path, from its first `/` on.
    #[must_use]
    pub fn path(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        parts(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for SpiffeId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        if text.len() > LONGEST_ID {
            return Err(NotAnId::TooLong);
        }
        let (domain, path) = parts(&text).ok_or(NotAnId::Scheme)?;
        check_trust_domain(domain)?;
        check_path(path)?;
        Ok(Self(text))
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.0
    }
}

/// Why a text is no SPIFFE id, or no name of a trust domain: one clause, which quotes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnId {
    /// It does not begin as ids do.
    #[error("does not begin with `spiffe://`, in small letters")]
    Scheme,
    /// It is longer than any.
    #[error("is longer than {LONGEST_ID} bytes")]
    TooLong,
    /// Its trust domain is empty, too long, or has a character that none has: a port and a user's name have such.
    #[error("has a trust domain that is not 1 to {LONGEST_TRUST_DOMAIN} of a to z, 0 to 9, `.`, `-` and `_`")]
    TrustDomain,
    /// It is that of a trust domain.
    #[error("has no path, so it names no workload")]
    NoPath,
    /// A part of its path is empty, `.` or `..`, or has a character that none has: a query, a fragment and an escape have such.
    #[error(
        "has a path with a part that is empty, `.` or `..`, or has other characters than letters, digits, `.`, `-` and `_`"
    )]
    Path,
}

/// The trust domain and the path of what begins as an id.
fn parts(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix(SCHEME)?;
    Some(rest.split_at(rest.find('/').unwrap_or(rest.len())))
}

fn check_trust_domain(name: &str) -> Result<(), NotAnId> {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    let sound = (1..=LONGEST_TRUST_DOMAIN).contains(&name.len()) && name.bytes().all(inside);
    if guard!("identity.spiffe-domain-name", sound) {
        Ok(())
    } else {
        Err(NotAnId::TrustDomain)
    }
}

/// Of two spellings of one path, a reader that unescapes or goes up would take the one for the other.
fn check_path(path: &str) -> Result<(), NotAnId> {
    let Some(path) = path.strip_prefix('/') else {
        return Err(NotAnId::NoPath);
    };
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let sound = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(inside);
    if guard!("identity.spiffe-path", path.split('/').all(sound)) {
        Ok(())
    } else {
        Err(NotAnId::Path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn why(text: &str) -> Option<NotAnId> {
        text.parse::<SpiffeId>().err()
    }

    #[test]
    fn an_id_has_a_trust_domain_and_a_path() {
        for (text, domain, path) in [
            ("spiffe://a/b", "a", "/b"),
            ("spiffe://prod.example/agent/support", "prod.example", "/agent/support"),
            ("spiffe://10.0.0.1/x", "10.0.0.1", "/x"),
            ("spiffe://a_b-c.d9/A.b-C_9/...", "a_b-c.d9", "/A.b-C_9/..."),
        ] {
            let id: SpiffeId = text.parse().unwrap();
            assert_eq!((id.trust_domain(), id.path(), id.as_str()), (domain, path, text));
            assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<SpiffeId>(&format!("\"{text}\"")).unwrap(), id);
        }
        assert!(serde_json::from_str::<SpiffeId>("\"spiffe://a\"").is_err());
    }

    #[test]
    fn a_trust_domain_has_one_spelling() {
        for text in [
            "spiffe:///b",
            "spiffe://A/b",
            "spiffe://a:8443/b",
            "spiffe://u@a/b",
            "spiffe://a%2fb/c",
            "spiffe://a?b/c",
            "spiffe://a#b/c",
            "spiffe://a b/c",
            "spiffe://\u{e4}/c",
            "spiffe://[::1]/c",
        ] {
            assert_eq!(why(text), Some(NotAnId::TrustDomain), "{text}");
        }
        let long = "a".repeat(LONGEST_TRUST_DOMAIN);
        assert_eq!(why(&format!("spiffe://{long}/b")), None);
        assert_eq!(why(&format!("spiffe://{long}a/b")), Some(NotAnId::TrustDomain));
        assert!(long.parse::<TrustDomain>().is_ok());
        for name in ["", "Prod", "spiffe://a", "a/b", "a:1", "a\n"] {
            assert!(name.parse::<TrustDomain>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_path_has_one_spelling() {
        for text in [
            "spiffe://a/",
            "spiffe://a//b",
            "spiffe://a/b/",
            "spiffe://a/./b",
            "spiffe://a/b/..",
            "spiffe://a/b%2fc",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
            "spiffe://a/b c",
            "spiffe://a/b\0",
            "spiffe://a/b:c",
            "spiffe://a/\u{e4}",
        ] {
            assert_eq!(why(text), Some(NotAnId::Path), "{text}");
        }
        assert_eq!(why("spiffe://a"), Some(NotAnId::NoPath));
    }

    #[test]
    fn another_scheme_is_no_id() {
        for text in [
            "",
            "a/b",
            "SPIFFE://a/b",
            "Spiffe://a/b",
            "spiffe:/a/b",
            "spiffe:a/b",
            "https://a/b",
            " spiffe://a/b",
        ] {
            assert_eq!(why(text), Some(NotAnId::Scheme), "{text}");
        }
        let path = "p".repeat(LONGEST_ID - "spiffe://a/".len());
        assert_eq!(why(&format!("spiffe://a/{path}")), None);
        assert_eq!(why(&format!("spiffe://a/{path}p")), Some(NotAnId::TooLong));
    }

    proptest! {
        #[test]
        fn whatever_is_an_id_says_so_to_the_letter(
            domain in "[a-z0-9._-]{1,40}",
            path in proptest::collection::vec("[A-Za-z0-9_-][A-Za-z0-9._-]{0,12}", 1..6),
        ) {
            let path = format!("/{}", path.join("/"));
            let text = format!("spiffe://{domain}{path}");
            let id: SpiffeId = text.parse().unwrap();
            prop_assert_eq!((id.trust_domain(), id.path()), (domain.as_str(), path.as_str()));
            prop_assert_eq!(String::from(id), text);
        }

        #[test]
        fn any_text_is_an_id_of_its_own_parts_or_none(text in "(spiffe://)?[ -~\u{e4}]{0,40}") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                let again = format!("spiffe://{}{}", id.trust_domain(), id.path());
                prop_assert_eq!(&again, &text);
                prop_assert!(id.trust_domain().parse::<TrustDomain>().is_ok());
                prop_assert!(!id.path().split('/').skip(1).any(|part| matches!(part, "" | "." | "..")));
            }
        }
    }
}
