//! Operators over HTTP: what each may do there, and who a token of theirs is about.
//!
//! They are no callers: nothing that is shown for the one is good for the other. A token of an operator is for another audience, and
//! what it may do stands in its scopes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::claims::Issuer;
use super::why::{Denied, Why};
use crate::guard;
use crate::json::Json;

/// What an operator may do over HTTP. Each is by itself: none has another in it. The words are those of tokens; in the order in which
/// an entry prints them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Hand in what people signed: votes.
    #[serde(rename = "ambit:approve")]
    Approve,
    /// Stop and lift, start and end runs, go on with calls, have messages of webhooks sent again or drop them.
    #[serde(rename = "ambit:operate")]
    Operate,
    /// Read what there is: entries, calls, what waits, budgets, proofs. None of the values of calls.
    #[serde(rename = "ambit:read")]
    Read,
    /// Read the values of calls too: arguments, requests, answers, results.
    #[serde(rename = "ambit:values")]
    Values,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Approve, Self::Operate, Self::Read, Self::Values];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "ambit:approve",
            Self::Operate => "ambit:operate",
            Self::Read => "ambit:read",
            Self::Values => "ambit:values",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = &'static str;

    /// The word, or its end: `read` is `ambit:read`.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let same = |scope: &Self| scope.as_str().strip_prefix("ambit:") == Some(text.trim_start_matches("ambit:"));
        Self::ALL
            .into_iter()
            .find(same)
            .ok_or("is one of ambit:read, ambit:operate, ambit:approve and ambit:values")
    }
}

/// Which operator a token is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentifiedOperator {
    /// The operator's name here.
    pub name: String,
    /// What they may do.
    pub scopes: BTreeSet<Scope>,
    /// The token's id with its issuer, where it has one.
    pub jti: Option<String>,
}

impl Issuer {
    /// Says which operator a token is about, whose signature is verified, at `now_s` seconds since 1970. What the issuer calls them is
    /// mapped as an agent's name is ([`Issuer::agents`]), and a token that acts for somebody is nobody's here.
    ///
    /// # Errors
    /// As [`Issuer::identify`]; [`Why::Scope`] also where no scope of the token is an operator's.
    pub fn identify_operator(&self, claims: &Json, now_s: u64) -> Result<IdentifiedOperator, Denied> {
        self.check_whose(claims, now_s)?;
        if !guard!("operator.delegated", claims.get("act").is_none()) {
            return Err(Denied::new(
                Why::Claims,
                "the token is for somebody in whose stead another acts (`act`): an operator acts for themselves",
            ));
        }
        let also = matches!(claims.get("aud"), Some(Json::Array(all)) if all.len() != 1);
        if !guard!("operator.one-audience", !also) {
            return Err(Denied::new(
                Why::Audience,
                "the token is for others besides (`aud`): whoever else it is shown to could be an operator with it",
            ));
        }
        let (said, _) = self.named(claims)?;
        let Some(name) = self.agents.get(said) else {
            return Err(Denied::new(Why::Agent, "the token is of no operator who is known here"));
        };
        let words = self.scopes_of(claims)?;
        let scopes: BTreeSet<Scope> = Scope::ALL
            .into_iter()
            .filter(|scope| words.contains(scope.as_str()))
            .collect();
        let missing = self.required.iter().any(|scope| !words.contains(scope));
        if !guard!("operator.scope", !missing && !scopes.is_empty()) {
            return Err(Denied::new(
                Why::Scope,
                "the token has not the scopes that are asked for",
            ));
        }
        Ok(IdentifiedOperator {
            name: name.clone(),
            scopes,
            jti: claims.get("jti").and_then(Json::as_str).map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeMap;

    use super::super::claims::{ClaimNames, Subjects};
    use super::super::token::Algorithm;
    use super::*;
    use crate::json::Limits;

    const NOW: u64 = 1_700_000_000;

    fn issuer() -> Issuer {
        Issuer {
            name: "staff".into(),
            issuer: "https://id.example".into(),
            audience: "https://ambit.example/v1/operators".into(),
            algorithms: Algorithm::USUAL.into(),
            claims: ClaimNames::default(),
            subjects: Subjects::default(),
            agents: BTreeMap::from([("u-7".to_owned(), "ivy".to_owned())]),
            users: None,
            scopes: BTreeMap::new(),
            required: BTreeSet::new(),
            leeway_s: 0,
            longest_s: 3_600,
        }
    }

    fn identified(more: &str) -> Result<IdentifiedOperator, Why> {
        let text = format!(
            r#"{{"iss":"https://id.example","aud":"https://ambit.example/v1/operators","sub":"u-7","exp":{},"scope":"ambit:read openid"{more}}}"#,
            NOW + 60
        );
        let text = match more.strip_prefix('=') {
            Some(whole) => whole.to_owned(),
            None => text,
        };
        let claims = Json::parse(&text, Limits::default()).unwrap();
        issuer().identify_operator(&claims, NOW).map_err(|denied| denied.why)
    }

    #[test]
    fn an_operator_is_named_and_has_the_scopes_that_are_operators_own() {
        let found = identified(r#","jti":"t""#).unwrap();
        assert_eq!((found.name.as_str(), found.jti.as_deref()), ("ivy", Some("t")));
        assert_eq!(found.scopes, BTreeSet::from([Scope::Read]));
    }

    /// What an issuer calls its people as subjects is another matter than what a claim of its own calls them.
    #[test]
    fn an_operator_named_by_a_claim_is_whom_the_token_may_be_about() {
        let text = format!(
            r#"{{"iss":"https://id.example","aud":"https://ambit.example/v1/operators","sub":"00u9","employee":"u-7","exp":{},"scope":"ambit:read"}}"#,
            NOW + 60
        );
        let claims = Json::parse(&text, Limits::default()).unwrap();
        let of = |subjects: Subjects| {
            let mut issuer = issuer();
            issuer.claims.agent = Some("employee".parse().unwrap());
            issuer.subjects = subjects;
            issuer.identify_operator(&claims, NOW).map(|found| found.name)
        };
        assert_eq!(of(Subjects::Any).unwrap(), "ivy");
        assert_eq!(of(Subjects::Listed(["00u9".to_owned()].into())).unwrap(), "ivy");
        assert_eq!(of(Subjects::Own).unwrap_err().why, Why::Claims);
        assert!(of(Subjects::Listed(["00u8".to_owned()].into())).is_err());
    }

    #[test]
    fn who_is_not_named_or_acts_for_another_is_nobody() {
        assert_eq!(identified(r#","act":{"sub":"u-7"}"#), Err(Why::Claims));
        let other = |sub: &str, aud: &str, scope: &str| {
            format!(
                r#"={{"iss":"https://id.example","aud":"{aud}","sub":"{sub}","exp":{},"scope":"{scope}"}}"#,
                NOW + 60
            )
        };
        let own = "https://ambit.example/v1/operators";
        assert_eq!(identified(&other("u-8", own, "ambit:read")), Err(Why::Agent));
        assert_eq!(identified(&other("ivy", own, "ambit:read")), Err(Why::Agent));
        assert_eq!(
            identified(&other("u-7", "https://ambit.example/mcp", "ambit:read")),
            Err(Why::Audience)
        );
        let several = other("u-7", own, "ambit:read").replace(
            &format!("\"aud\":\"{own}\""),
            &format!("\"aud\":[\"{own}\",\"https://ambit.example/mcp\"]"),
        );
        assert_eq!(identified(&several), Err(Why::Audience));
        for none in ["", "openid", "ambit", "ambit:reads", "AMBIT:READ"] {
            assert_eq!(identified(&other("u-7", own, none)), Err(Why::Scope), "{none}");
        }
    }

    #[test]
    fn scopes_are_read_in_both_forms() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
            assert_eq!(scope.as_str().trim_start_matches("ambit:").parse(), Ok(scope));
            assert_eq!(serde_json::to_string(&scope).unwrap(), format!("\"{scope}\""));
        }
        assert!("everything".parse::<Scope>().is_err());
    }
}
