//! What a verified token says, and which caller of the configuration that is.
//!
//! The claims are checked by what the configuration says of their issuer ([`Issuer`]): for whom the token is, when, and for which of
//! the agents that the operator named for this issuer. A token names; it never describes: team and tenant are the configuration's, and
//! what a token says of them has to be the same. What is not mapped is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::token::Algorithm;
use super::why::{Denied, Why};
use super::{Caller, Directory};
use crate::grant::Narrowing;
use crate::guard;
use crate::json::Json;

/// The most that a clock may be off, in seconds.
pub const MOST_LEEWAY_S: u64 = 60;
/// How long a token may be good for where the configuration says nothing, in seconds: a day.
pub const USUAL_LIFETIME_S: u64 = 86_400;
/// The longest text of a claim that names somebody, in bytes.
const LONGEST_NAME: usize = 256;
/// Scopes of one token that are looked at.
const MOST_SCOPES: usize = 128;

/// Where in a token something stands: the name of a claim, as `client_id`, or a path as RFC 6901 writes it, as `/act/sub`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl FromStr for Pointer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || text.len() > LONGEST_NAME || text.chars().any(char::is_control) {
            return Err("is 1 to 256 bytes without control characters");
        }
        let Some(path) = text.strip_prefix('/') else {
            return Ok(Self(vec![text.to_owned()]));
        };
        let unescape = |part: &str| {
            let wrong = part.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1']));
            (!part.is_empty() && !wrong).then(|| part.replace("~1", "/").replace("~0", "~"))
        };
        let parts: Option<Vec<String>> = path.split('/').map(unescape).collect();
        parts
            .map(Self)
            .ok_or("is a path such as `/act/sub`, with `~1` for `/` and `~0` for `~`")
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [name] if !name.starts_with('/') => f.write_str(name),
            path => path
                .iter()
                .try_for_each(|part| write!(f, "/{}", part.replace('~', "~0").replace('/', "~1"))),
        }
    }
}

impl Pointer {
    fn get<'c>(&self, claims: &'c Json) -> Option<&'c Json> {
        self.0.iter().try_fold(claims, |value, name| value.get(name))
    }
}

/// Where an issuer says what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    /// The agent. Without it: `/act/sub` of a token that has an `act` (RFC 8693), and `sub` of one that has none.
    pub agent: Option<Pointer>,
    /// The user that it acts for, which then has to be there. Without it: `sub` of a token that has an `act`, where `agent` is not set
    /// either; else nobody.
    pub user: Option<Pointer>,
    /// The tenant, which has to be the agent's.
    pub tenant: Option<Pointer>,
    /// The team, which has to be the agent's.
    pub team: Option<Pointer>,
    /// The scopes: words with spaces between, or a list of texts.
    pub scopes: Pointer,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            agent: None,
            user: None,
            tenant: None,
            team: None,
            scopes: Pointer(vec!["scope".to_owned()]),
        }
    }
}

/// Whom a token may be about (`sub`) that names its agent elsewhere, and no user: an issuer gives the same client tokens of its own
/// and tokens in the name of those who signed in with it, and tells them apart by nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Subjects {
    /// The agent, under the name that its claim has.
    #[default]
    Own,
    /// The agent, or one of these: what the issuer calls its clients as subjects.
    Listed(BTreeSet<String>),
    /// Anybody: its tokens are of clients alone, as the operator says.
    Any,
}

impl Subjects {
    fn has(&self, subject: &str, agent: &str) -> bool {
        match self {
            Self::Own => subject == agent,
            Self::Listed(listed) => subject == agent || listed.contains(subject),
            Self::Any => true,
        }
    }
}

/// What the configuration says of one issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its name in the configuration.
    pub name: String,
    /// Its `iss`, to the letter.
    pub issuer: String,
    /// For whom its tokens have to be, to the letter.
    pub audience: String,
    /// How its tokens may be signed.
    pub algorithms: BTreeSet<Algorithm>,
    /// Where it says what.
    pub claims: ClaimNames,
    /// Whom its tokens may be about where `claims` says where the agent stands, and of no user.
    pub subjects: Subjects,
    /// Which agents its tokens can be of, or operators: what the token says, and the name here.
    pub agents: BTreeMap<String, String>,
    /// The same of users; none where a token says their names as they are here.
    pub users: Option<BTreeMap<String, String>>,
    /// What each scope is for: functions as a [`Narrowing`] has them. Where it is empty, scopes narrow nothing.
    pub scopes: BTreeMap<String, BTreeSet<String>>,
    /// Scopes that each token must have.
    pub required: BTreeSet<String>,
    /// How far its clock may be off, in seconds: at most [`MOST_LEEWAY_S`].
    pub leeway_s: u64,
    /// How long its tokens may be good for, in seconds.
    pub longest_s: u64,
}

/// Who a token is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Identified {
    /// The caller.
    pub caller: Caller,
    /// What its scopes leave of what the caller could do.
    pub narrowing: Narrowing,
    /// The scopes that it has, sorted.
    pub scopes: BTreeSet<String>,
    /// Its id with its issuer, where it has one.
    pub jti: Option<String>,
}

impl Issuer {
    /// Checks that tokens of this issuer may be signed so. Before any key is looked for.
    ///
    /// # Errors
    /// [`Why::Algorithm`]
    pub fn check_algorithm(&self, algorithm: Algorithm) -> Result<(), Denied> {
        if !guard!("identity.algorithm", self.algorithms.contains(&algorithm)) {
            return Err(Denied::new(
                Why::Algorithm,
                format!("tokens of this issuer are not signed with {algorithm}"),
            ));
        }
        Ok(())
    }

    /// Says who a token is about, whose signature is verified, at `now_s` seconds since 1970.
    ///
    /// # Errors
    /// The first of these that fails: issuer, audience, time, binding to a key, agent, user, team and tenant, scopes.
    pub fn identify(&self, claims: &Json, directory: &Directory, now_s: u64) -> Result<Identified, Denied> {
        self.check_whose(claims, now_s)?;
        let caller = self.caller(claims, directory)?;
        let scopes = self.scopes_of(claims)?;
        let missing = self.required.iter().any(|scope| !scopes.contains(scope));
        if !guard!("identity.scope", !missing) {
            return Err(Denied::new(
                Why::Scope,
                "the token has not the scopes that are asked for",
            ));
        }
        let narrowing = Narrowing {
            functions: self.functions(&scopes),
            ..Narrowing::default()
        };
        let jti = claims.get("jti").and_then(Json::as_str).map(str::to_owned);
        Ok(Identified {
            caller,
            narrowing,
            scopes,
            jti,
        })
    }

    /// That the token is of this issuer, for this host, good now, and nobody's by a key alone.
    pub(super) fn check_whose(&self, claims: &Json, now_s: u64) -> Result<(), Denied> {
        let issuer = claims.get("iss").and_then(Json::as_str);
        if !guard!("identity.issuer", issuer == Some(self.issuer.as_str())) {
            return Err(Denied::new(Why::Issuer, "the token is of another issuer"));
        }
        if !guard!("identity.audience", is_for(claims.get("aud"), &self.audience)) {
            return Err(Denied::new(Why::Audience, "the token is for somebody else (`aud`)"));
        }
        self.check_time(claims, now_s)?;
        if !guard!("identity.bound", claims.get("cnf").is_none()) {
            return Err(Denied::new(
                Why::Bound,
                "the token is bound to a key (`cnf`), and proofs of keys are not looked at here",
            ));
        }
        Ok(())
    }

    /// `exp` must be there; `nbf` and `iat` count where they are.
    fn check_time(&self, claims: &Json, now_s: u64) -> Result<(), Denied> {
        let leeway = self.leeway_s.min(MOST_LEEWAY_S);
        let expires = time(claims, "exp")?.ok_or_else(|| claim("has no `exp`"))?;
        if !guard!("identity.expired", now_s < expires.saturating_add(leeway)) {
            return Err(Denied::new(Why::Expired, "the token is over"));
        }
        let (not_before, issued) = (time(claims, "nbf")?, time(claims, "iat")?);
        let begun = |at: Option<u64>| at.is_none_or(|at| at <= now_s.saturating_add(leeway));
        if !guard!("identity.not-yet", begun(not_before) && begun(issued)) {
            return Err(Denied::new(Why::NotYet, "the token begins later"));
        }
        let from = issued.unwrap_or(now_s);
        if !guard!("identity.lifetime", expires.saturating_sub(from) <= self.longest_s) {
            return Err(Denied::new(
                Why::Lifetime,
                "the token is good for longer than tokens of this issuer may be",
            ));
        }
        Ok(())
    }

    fn caller(&self, claims: &Json, directory: &Directory) -> Result<Caller, Denied> {
        let (agent, user) = self.named(claims)?;
        let known = self.agents.get(agent).map(String::as_str);
        // Without the operator's word, whoever can name a client with the issuer could name one of another tenant's agents.
        let Some(agent) = known.or_else(|| guard!("identity.agent", false).then_some(agent)) else {
            return Err(Denied::new(Why::Agent, "the token is of nobody who is known here"));
        };
        let user = match (user, &self.users) {
            (Some(user), Some(users)) => {
                let mapped = users.get(user).map(String::as_str);
                Some(mapped.ok_or_else(|| Denied::new(Why::User, "the token is for a user who is not known here"))?)
            }
            (user, _) => user,
        };
        let caller = directory.caller(agent, user).map_err(|_| {
            // The directory says which of the two it is; who asks is told neither.
            let why = match directory.caller(agent, None) {
                Ok(_) => Why::User,
                Err(_) => Why::Agent,
            };
            Denied::new(
                why,
                "the token is of nobody who is known here, or for a user whom it may not act for",
            )
        })?;
        let same = |name: &Option<Pointer>, own: &str| match name {
            None => true,
            Some(name) => name.get(claims).and_then(Json::as_str) == Some(own),
        };
        let is_there = same(&self.claims.tenant, caller.tenant()) && same(&self.claims.team, caller.team());
        if !guard!("identity.tenant", is_there) {
            return Err(Denied::new(
                Why::Tenant,
                "the token is of another team or tenant than its agent",
            ));
        }
        Ok(caller)
    }

    /// What the token calls the agent, and the user it acts for.
    pub(super) fn named<'c>(&self, claims: &'c Json) -> Result<(&'c str, Option<&'c str>), Denied> {
        let act = claims.get("act");
        let foreign = act.and_then(|act| act.get("iss"));
        if foreign.is_some_and(|issuer| issuer.as_str() != Some(&self.issuer)) {
            return Err(claim("has an actor (`act`) of another issuer"));
        }
        let Some(agent) = &self.claims.agent else {
            let subject = name(claims.get("sub"), "sub")?;
            let agent = match act {
                Some(act) => name(act.get("sub"), "/act/sub")?,
                None => subject,
            };
            let user = match &self.claims.user {
                Some(user) => Some(name(user.get(claims), &user.to_string())?),
                None => act.map(|_| subject),
            };
            return Ok((agent, user));
        };
        let agent = name(agent.get(claims), &agent.to_string())?;
        match &self.claims.user {
            Some(user) => Ok((agent, Some(name(user.get(claims), &user.to_string())?))),
            // Somebody acts for somebody: dropping the one would make it the agent's own act.
            None if !guard!("identity.delegation", act.is_none()) => Err(claim(
                "is for a user (`act`), and the configuration does not say where its user stands",
            )),
            None => {
                self.check_subject(claims, agent)?;
                Ok((agent, None))
            }
        }
    }

    /// A token that is about somebody else than its agent is that one's, whom nobody here is told of.
    fn check_subject(&self, claims: &Json, agent: &str) -> Result<(), Denied> {
        let Some(subject) = claims.get("sub") else {
            return Ok(());
        };
        let fits = subject
            .as_str()
            .is_some_and(|subject| self.subjects.has(subject, agent));
        if !guard!("identity.subject", fits) {
            return Err(claim(
                "is about another than its agent (`sub`), and the configuration does not say that it may be",
            ));
        }
        Ok(())
    }

    pub(super) fn scopes_of(&self, claims: &Json) -> Result<BTreeSet<String>, Denied> {
        let wrong = || claim(&format!("has scopes in `{}` that are no words", self.claims.scopes));
        let words: Vec<&str> = match self.claims.scopes.get(claims) {
            None => Vec::new(),
            Some(Json::String(text)) => text.split(' ').filter(|word| !word.is_empty()).collect(),
            Some(Json::Array(list)) => list.iter().map(Json::as_str).collect::<Option<_>>().ok_or_else(wrong)?,
            Some(_) => return Err(wrong()),
        };
        if words.len() > MOST_SCOPES {
            return Err(wrong());
        }
        Ok(words.into_iter().map(str::to_owned).collect())
    }

    /// What these scopes are for, all together; none where scopes narrow nothing. A scope that the configuration does not know is for
    /// nothing.
    fn functions(&self, scopes: &BTreeSet<String>) -> Option<BTreeSet<String>> {
        if self.scopes.is_empty() {
            return None;
        }
        let known = scopes.iter().filter_map(|scope| self.scopes.get(scope));
        Some(known.flatten().cloned().collect())
    }

    /// The scopes that a token would need besides `has` to call a function: one that is for it, the first by name. None where it needs no
    /// more, or none helps.
    #[must_use]
    pub fn step_up(&self, has: &BTreeSet<String>, tool: &str, function: &str) -> Option<BTreeSet<String>> {
        let is_for = |functions: &BTreeSet<String>| {
            let narrowing = Narrowing {
                functions: Some(functions.clone()),
                ..Narrowing::default()
            };
            narrowing.keeps_function(tool, function)
        };
        if self.functions(has).is_none_or(|functions| is_for(&functions)) {
            return None;
        }
        let (scope, _) = self.scopes.iter().find(|(_, functions)| is_for(functions))?;
        // All that it has and all that are asked for: a token that is asked for anew has no others.
        let mut needed: BTreeSet<String> = self.required.clone();
        needed.extend(has.iter().filter(|scope| self.scopes.contains_key(*scope)).cloned());
        needed.insert(scope.clone());
        Some(needed)
    }
}

fn claim(what: &str) -> Denied {
    Denied::new(Why::Claims, format!("the token {what}"))
}

/// A text that names somebody.
fn name<'c>(value: Option<&'c Json>, place: &str) -> Result<&'c str, Denied> {
    let text = value.and_then(Json::as_str);
    text.filter(|text| !text.is_empty() && text.len() <= LONGEST_NAME)
        .ok_or_else(|| claim(&format!("names nobody in `{place}`")))
}

/// A time in seconds since 1970. What is before 1970 is 1970; of a fraction the whole counts.
fn time(claims: &Json, name: &str) -> Result<Option<u64>, Denied> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let number = value
        .as_number()
        .ok_or_else(|| claim(&format!("has a `{name}` that is no time")))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and a time is whole seconds"
    )]
    let whole = number.as_u64().unwrap_or_else(|| number.to_f64() as u64);
    Ok(Some(whole))
}

/// Whether `aud`, a text or a list of texts, has this audience.
fn is_for(aud: Option<&Json>, audience: &str) -> bool {
    match aud {
        Some(Json::String(one)) => one == audience,
        Some(Json::Array(list)) => list.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
