//! Tokens that are asked for when they are needed, one for each caller and each set of scopes, and kept for minutes.
//!
//! What is asked and what of an answer is believed says [`TokenEndpoint`]; that it is asked at all, and written down before, is the
//! effect's doing (`effects/token.rs`). Here are the way to whoever gives tokens out, what is shown there, and what was given out. Nothing of
//! that is ever written anywhere: a process that starts has no tokens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ambit_core::credential::{Granted, ScopeWord, TokenEndpoint};
use ambit_core::guard;
use ambit_core::identity::Caller;
use bytes::Bytes;
use parking_lot::Mutex;

use super::assert::Assertor;
use super::mask::Masker;
use super::request::{Credential, Presented, encode};
use super::resolve::Endpoint;
use super::tls::Authorities;
use super::upstream::{Base, Shown, Upstream, UpstreamParts};
use crate::host::now_ms;
use crate::secret::Secret;

/// How many tokens are kept for one connection. One more takes the place of the one that ends first.
const MOST_KEPT: usize = 1024;

/// How many tokens are looked for in answers; of more than these the oldest are not any longer.
const MOST_LIVING: usize = 1024;

/// How many of these are of one holder: one whose tokens a service does not take, again and again, drives out nobody else's. A token of an
/// hour that is shown for its first five minutes has twelve others beside it.
const MOST_OF_ONE: usize = 16;

/// How a client shows who it is to whoever gives out tokens.
#[derive(Debug)]
pub enum ClientAuth {
    /// Not at all: what is exchanged says enough.
    None,
    /// In a header, as RFC 6749 asks every service to take it.
    Basic(String, Secret),
    /// In the form, for services that take nothing else.
    Form(Secret),
}

/// What a [`Minter`] is made of.
#[derive(Debug)]
pub struct MinterParts {
    /// The connection's name.
    pub name: String,
    /// What is asked.
    pub asks: TokenEndpoint,
    /// How the client shows who it is.
    pub client: ClientAuth,
    /// Who says about callers what is exchanged.
    pub assertor: Option<Assertor>,
    /// Where the socket goes instead of the origin.
    pub connect_to: Option<Endpoint>,
    /// Who may sign the certificate.
    pub authorities: Authorities,
    /// Whether addresses on this machine and its networks may be connected to.
    pub allow_private: bool,
}

/// Where a connection's tokens come from, and those that it has.
pub struct Minter {
    endpoint: Upstream,
    asks: TokenEndpoint,
    assertor: Option<Assertor>,
    /// The client's secret, where it is shown in another spelling.
    plain: Masker,
    kept: Mutex<BTreeMap<Holder, Kept>>,
    living: Arc<Living>,
}

/// All tokens that are still good for a connection, whether they are kept or not: what answers are searched for. A reading of the files
/// takes them over from the one before it: that makes no token void.
#[derive(Default)]
pub(super) struct Living(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// The oldest first.
    tokens: VecDeque<Alive>,
    masker: Arc<Masker>,
}

/// A token that is still good, as far as is known.
struct Alive {
    holder: Holder,
    masker: Masker,
    until: Instant,
}

impl Living {
    fn add(&self, holder: &Holder, token: &Secret, until: Instant) {
        let mut masker = Masker::default();
        masker.add(token.expose());
        let mut known = self.0.lock();
        let now = Instant::now();
        known.tokens.retain(|token| now < token.until);
        let of_holder = known.tokens.iter().filter(|token| token.holder == *holder).count();
        let full = known.tokens.len() >= MOST_LIVING;
        if of_holder >= MOST_OF_ONE || full {
            let first = known.tokens.iter().position(|token| full || token.holder == *holder);
            first.map(|first| known.tokens.remove(first));
        }
        known.tokens.push_back(Alive {
            holder: holder.clone(),
            masker,
            until,
        });
        known.masker = Arc::new(Masker::of_all(known.tokens.iter().map(|token| &token.masker)));
    }

    /// Covers every one of them.
    pub(super) fn mask(&self, bytes: Bytes) -> Bytes {
        let masker = Arc::clone(&self.0.lock().masker);
        masker.mask(bytes)
    }
}

struct Kept {
    pass: Arc<Pass>,
    /// How often something had been revoked when it was asked for.
    turn: u64,
}

/// Whose a token is, and what for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holder {
    tenant: String,
    team: String,
    agent: String,
    user: Option<String>,
    scopes: BTreeSet<ScopeWord>,
}

impl Holder {
    /// The scopes that the token has.
    pub(crate) fn scopes(&self) -> &BTreeSet<ScopeWord> {
        &self.scopes
    }
}

/// What one request shows beside what its connection always does: a token, or what the home says to get one.
pub(crate) struct Pass {
    number: u64,
    credential: Credential,
    /// Until when it is shown: by a clock that may stop while the machine sleeps, and by one that does not.
    usable: Instant,
    usable_ms: i64,
    /// How often something had been revoked when it was asked for.
    turn: Option<u64>,
    /// Whether its service did not take it.
    declined: AtomicBool,
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pass({})", self.number)
    }
}

impl fmt::Debug for Minter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minter")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Pass {
    fn new(presented: &Presented, secret: &Secret, usable: Instant) -> Result<Pass, String> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let left = usable.saturating_duration_since(Instant::now()).as_millis();
        let left = i64::try_from(left).unwrap_or_default();
        Ok(Pass {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            credential: Credential::new(presented, secret)?,
            usable,
            usable_ms: now_ms().saturating_add(left),
            turn: None,
            declined: AtomicBool::new(false),
        })
    }

    pub(super) fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Whether it can still be shown.
    pub(crate) fn is_usable(&self) -> bool {
        Instant::now() < self.usable && now_ms() < self.usable_ms
    }

    /// Whether it can still be shown, where something was stopped or revoked so often by now: also by an effect that has it already.
    pub(crate) fn is_good(&self, turn: u64) -> bool {
        let revoked = self.turn.is_some_and(|then| then != turn);
        self.is_usable()
            && guard!(
                "credential.revoked-since",
                !revoked && !self.declined.load(Ordering::Relaxed)
            )
    }
}

impl Minter {
    /// # Errors
    /// One clause for the operator, without any secret.
    pub fn new(parts: MinterParts) -> Result<Minter, String> {
        let mut plain = Masker::default();
        let credential = match parts.client {
            ClientAuth::None => None,
            ClientAuth::Basic(id, secret) => {
                plain.add(secret.expose());
                // Both are written as in a form before they are put together (RFC 6749, 2.3.1).
                let secret = Secret::new(encode(secret.expose()).into_bytes())?;
                Some(Shown::Kept(Presented::Basic(encode(id.as_bytes())), secret))
            }
            ClientAuth::Form(secret) => Some(Shown::Kept(Presented::Form("client_secret".to_owned()), secret)),
        };
        let endpoint = Upstream::new(UpstreamParts {
            name: parts.name,
            origin: parts.asks.origin().clone(),
            connect_to: parts.connect_to,
            authorities: parts.authorities,
            allow_private: parts.allow_private,
            trace: false,
            base: Base::Plain(String::new()),
            credential,
        })?;
        let endpoint = if parts.assertor.is_some() {
            endpoint.taking_passes()
        } else {
            endpoint
        };
        Ok(Minter {
            endpoint,
            asks: parts.asks,
            assertor: parts.assertor,
            plain,
            kept: Mutex::default(),
            living: Arc::default(),
        })
    }

    /// The way to whoever gives out tokens.
    pub(crate) fn endpoint(&self) -> &Upstream {
        &self.endpoint
    }

    /// What is asked there.
    pub(crate) fn asks(&self) -> &TokenEndpoint {
        &self.asks
    }

    /// Whose a token for a route with these scopes is.
    pub(crate) fn holder(&self, caller: &Caller, route: &BTreeSet<ScopeWord>) -> Holder {
        Holder {
            tenant: caller.tenant().to_owned(),
            team: caller.team().to_owned(),
            agent: caller.agent().to_owned(),
            user: caller.user().map(str::to_owned),
            scopes: self.asks.scopes(route),
        }
    }

    /// What is shown to get a token for a caller, where something is.
    ///
    /// # Errors
    /// One clause: it cannot be said.
    pub(crate) fn said_of(&self, caller: &Caller) -> Result<Option<Arc<Pass>>, String> {
        let Some(assertor) = &self.assertor else {
            return Ok(None);
        };
        let said = assertor.say(caller, u64::try_from(now_ms() / 1_000).unwrap_or_default())?;
        let until = Instant::now() + Duration::from_secs(ambit_core::credential::assertion::LIFETIME_S);
        let pass = Pass::new(&Presented::Form("subject_token".to_owned()), &said, until)?;
        Ok(Some(Arc::new(pass)))
    }

    /// The token that a holder has: one that is still good for a while, and that was asked for after whatever was last revoked.
    pub(crate) fn kept(&self, holder: &Holder, turn: u64) -> Option<Arc<Pass>> {
        let all = self.kept.lock();
        let kept = all.get(holder)?;
        let usable = guard!("credential.kept", kept.pass.is_usable());
        let valid = guard!("credential.revoked", kept.turn == turn);
        (usable && valid).then(|| Arc::clone(&kept.pass))
    }

    /// Keeps a token that was asked for at this moment, when something had been revoked so often.
    ///
    /// # Errors
    /// One clause: it cannot stand in a header.
    pub(crate) fn keep(
        &self,
        holder: Holder,
        granted: &Granted,
        asked: Instant,
        turn: u64,
    ) -> Result<Arc<Pass>, String> {
        let secret = Secret::new(granted.token.as_bytes().to_vec())?;
        let usable = asked + Duration::from_secs(granted.kept_s());
        let living = asked + Duration::from_secs(granted.lifetime_s);
        let pass = Arc::new(Pass {
            turn: Some(turn),
            ..Pass::new(&Presented::Bearer, &secret, usable)?
        });
        // Before anybody can show it.
        self.living.add(&holder, &secret, living);
        let mut all = self.kept.lock();
        all.retain(|_, kept| kept.pass.is_usable());
        if all.len() >= MOST_KEPT
            && let Some(first) = all
                .iter()
                .min_by_key(|(_, kept)| kept.pass.usable)
                .map(|(holder, _)| holder.clone())
        {
            all.remove(&first);
        }
        let kept = Kept {
            pass: Arc::clone(&pass),
            turn,
        };
        all.insert(holder, kept);
        Ok(pass)
    }

    /// Keeps a token no longer: its service did not take it.
    pub(crate) fn declined(&self, pass: &Pass) {
        pass.declined.store(true, Ordering::Relaxed);
        // A newer one of the same holder stays.
        self.kept
            .lock()
            .retain(|_, kept| guard!("credential.declined", kept.pass.number != pass.number));
    }

    /// Covers every token that is still good, and what the client shows to get one: often both are the same service.
    pub(super) fn mask(&self, bytes: Bytes) -> Bytes {
        self.living.mask(self.plain.mask(self.endpoint.mask(bytes)))
    }

    /// Looks in answers also for the tokens that an older reading of the connection was given, and is left alone as long.
    pub(super) fn goes_on_as(&mut self, older: &Minter) {
        self.living = Arc::clone(&older.living);
        self.endpoint.rest_as(&older.endpoint);
    }

    /// What it was given.
    pub(super) fn living(&self) -> &Arc<Living> {
        &self.living
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn secret(token: &str) -> Secret {
        Secret::new(token.as_bytes().to_vec()).unwrap()
    }

    fn until() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn pass(token: &str, turn: u64) -> Arc<Pass> {
        Arc::new(Pass {
            turn: Some(turn),
            ..Pass::new(&Presented::Bearer, &secret(token), until()).unwrap()
        })
    }

    fn holder(agent: &str) -> Holder {
        Holder {
            tenant: "acme".to_owned(),
            team: "support".to_owned(),
            agent: agent.to_owned(),
            user: None,
            scopes: BTreeSet::new(),
        }
    }

    #[test]
    fn what_an_effect_has_already_is_not_shown_after_something_was_revoked() {
        let kept = pass("token of a minute", 3);
        assert!(kept.is_good(3));
        assert!(!kept.is_good(4));
        kept.declined.store(true, Ordering::Relaxed);
        assert!(!kept.is_good(3));
    }

    #[test]
    fn nobody_drives_out_the_tokens_of_others() {
        let living = Living::default();
        living.add(&holder("quiet"), &secret("the first token"), until());
        for n in 0..2 * MOST_LIVING {
            living.add(&holder("loud"), &secret(&format!("token {n} of the loud one")), until());
        }
        assert_eq!(living.0.lock().tokens.len(), 1 + MOST_OF_ONE);
        let seen = living.mask(Bytes::from_static(b"the first token"));
        assert_eq!(seen, ambit_core::effect::MASKED.as_bytes());
    }
}
