//! Why somebody is not who they say they are, in a fixed list of words.

use serde::{Deserialize, Serialize};

/// Why a request is refused, for what it shows or for what it is. The words are part of the ledger's format and hold nothing of what was presented; in
/// the order of their words, which is the order in which an entry prints them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The configuration knows no agent by what the token says.
    Agent,
    /// The token's algorithm is not one that is allowed for its issuer.
    Algorithm,
    /// The token is for somebody else.
    Audience,
    /// The token is bound to a key, and a proof of having it is not looked at here.
    Bound,
    /// The client's certificate is not one of a trust domain that is known here, or is no longer.
    Certificate,
    /// A claim is missing, or is not what it should be.
    Claims,
    /// As many connections as there may be are busy.
    Connections,
    /// The token has a header that must be understood, and is not.
    Critical,
    /// It is over.
    Expired,
    /// More than one credential, in another place than its own, or of another scheme.
    Header,
    /// The request is for another host than this one.
    Host,
    /// No such issuer is configured.
    Issuer,
    /// The token is good for longer than its issuer's may be.
    Lifetime,
    /// It is no token and no key.
    Malformed,
    /// Nothing was presented.
    Missing,
    /// It begins later.
    NotYet,
    /// The request is of a page in a browser.
    Origin,
    /// The key was revoked.
    Revoked,
    /// The token has not the scopes that are asked for.
    Scope,
    /// Its caller has as many requests under way as one may have.
    Share,
    /// The signature is not that of the key.
    Signature,
    /// Its team or tenant is not that of the agent.
    Tenant,
    /// A token of another type, such as one for logging out.
    Type,
    /// The issuer's keys cannot be had.
    Unavailable,
    /// There is no such key, with the issuer or here.
    UnknownKey,
    /// The agent may not act for the token's user.
    User,
}

impl Why {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Algorithm => "algorithm",
            Self::Audience => "audience",
            Self::Bound => "bound",
            Self::Certificate => "certificate",
            Self::Claims => "claims",
            Self::Connections => "connections",
            Self::Critical => "critical",
            Self::Expired => "expired",
            Self::Header => "header",
            Self::Host => "host",
            Self::Issuer => "issuer",
            Self::Lifetime => "lifetime",
            Self::Malformed => "malformed",
            Self::Missing => "missing",
            Self::NotYet => "not-yet",
            Self::Origin => "origin",
            Self::Revoked => "revoked",
            Self::Scope => "scope",
            Self::Share => "share",
            Self::Signature => "signature",
            Self::Tenant => "tenant",
            Self::Type => "type",
            Self::Unavailable => "unavailable",
            Self::UnknownKey => "unknown-key",
            Self::User => "user",
        }
    }
}

/// Credentials that are refused: in which word, and in one sentence that quotes nothing of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Denied {
    /// The word.
    pub why: Why,
    /// The sentence. Whoever presented the credentials may read it: it names no agent, user or tenant of this home.
    pub message: String,
}

impl Denied {
    /// Refused for this reason.
    #[must_use]
    pub fn new(why: Why, message: impl Into<String>) -> Self {
        Self {
            why,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_entries_print_and_in_their_order() {
        let all: Vec<Why> = serde_json::from_str(
            r#"["agent","algorithm","audience","bound","certificate","claims","connections","critical","expired","header","host","issuer","lifetime","malformed",
                "missing","not-yet","origin","revoked","scope","share","signature","tenant","type","unavailable","unknown-key","user"]"#,
        )
        .unwrap();
        assert!(
            all.windows(2)
                .all(|pair| pair[0] < pair[1] && pair[0].as_str() < pair[1].as_str())
        );
        assert!(all.iter().all(|why| serde_json::to_value(why).unwrap() == why.as_str()));
    }
}
