//! Keys that operators give out to agents over HTTP: made, put in another's place, revoked, and looked at when one is shown.
//!
//! The secret is made by the operator's command and printed there; the process that holds the home is told its digest. What a key
//! is good for is decided in [`ambit_core::identity::key`], and in the transaction of the entry that makes it.

use ambit_core::error::{Code, Refusal, printable};
use ambit_core::grant::Narrowing;
use ambit_core::identity::key::{self, ApiKey, LONGEST_MS, NewKey, Shown, Standing};
use ambit_core::identity::why::Denied;
use ambit_core::identity::{Caller, Directory};
use ambit_core::ledger::EntryDraft;
use ambit_core::ledger::body::{KeyCreated, KeyRevoked, Replaced, ShownBy};
use serde::{Deserialize, Serialize};

use crate::config::{Config, is_name};
use crate::host::{Host, OpenError, now_ms};
use crate::random;
use crate::store::{Batch, Store, StoreError};

/// What a key is made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The agent that is known by it.
    pub agent: String,
    /// The user that it acts for with it.
    pub user: Option<String>,
    /// What the operator calls it.
    pub name: Option<String>,
    /// What its holder can do less than the agent.
    pub narrowing: Narrowing,
    /// For how long it is good, in milliseconds: at most 366 days.
    pub good_for_ms: u64,
}

/// What an operator wants done about a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Keep a new key.
    Create(Shown, Asked),
    /// Keep a new key in the place of another, for the same.
    Rotate(Shown, Rotation),
    /// Revoke the key of this id.
    Revoke(String),
}

/// How a key takes another's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// The other's id.
    pub key: String,
    /// For how long it is good beside the new one, in milliseconds.
    pub overlap_ms: u64,
    /// For how long the new one is good; as long as the other was made for, where nothing is said.
    pub good_for_ms: Option<u64>,
}

/// Does what an operator asks for, and says what the key is then.
pub(crate) fn perform(store: &Store, act: Act) -> Result<ApiKey, OpenError> {
    let now = clock();
    let (id, entry) = match act {
        Act::Create(shown, asked) => {
            let id = shown.id.clone();
            (id, EntryDraft::of_ledger(created(shown, asked, now, None)?))
        }
        Act::Rotate(shown, rotation) => {
            let before = good(store, &rotation.key)?;
            let made_for = u64::try_from(before.time_ms).unwrap_or_default();
            let asked = Asked {
                agent: before.created.agent,
                user: before.created.user,
                name: before.created.name,
                narrowing: before.created.narrowing,
                good_for_ms: rotation
                    .good_for_ms
                    .unwrap_or_else(|| before.created.expires.saturating_sub(made_for)),
            };
            let replaced = Replaced {
                key: rotation.key,
                until: now.saturating_add(rotation.overlap_ms),
            };
            let id = shown.id.clone();
            (id, EntryDraft::of_ledger(created(shown, asked, now, Some(replaced))?))
        }
        Act::Revoke(id) => {
            good(store, &id)?;
            (id.clone(), EntryDraft::of_ledger(KeyRevoked { key: id }))
        }
    };
    store.commit(Batch {
        entries: vec![entry],
        ..Batch::default()
    })?;
    let kept = store.reader()?.api_key(&id)?;
    kept.ok_or_else(|| unknown(&id).into())
}

fn created(shown: Shown, asked: Asked, now: u64, replaces: Option<Replaced>) -> Result<KeyCreated, Refusal> {
    if !(1..=LONGEST_MS).contains(&asked.good_for_ms) {
        let message = "a key is good for some time, and for 366 days at most";
        return Err(Refusal::new(Code::Arguments, message).advise("say for how long: --expires-in 90d"));
    }
    if let Some(name) = asked.name.as_ref().filter(|name| !is_name(name)) {
        let message = format!("`{}` cannot be the name of a key", printable(name));
        return Err(Refusal::new(Code::Arguments, message)
            .advise("1 to 64 letters, digits, `-` and `_`, a letter or digit first"));
    }
    Ok(KeyCreated {
        agent: asked.agent,
        expires: now.saturating_add(asked.good_for_ms),
        hash: shown.hash,
        key: shown.id,
        name: asked.name,
        narrowing: asked.narrowing,
        replaces,
        user: asked.user,
    })
}

/// A key that was not revoked.
fn good(store: &Store, id: &str) -> Result<ApiKey, OpenError> {
    match store.reader()?.api_key(id)? {
        None => Err(unknown(id).into()),
        Some(key) if key.revoked.is_some() => {
            let message = format!("the key {id} was revoked already");
            Err(Refusal::new(Code::Arguments, message)
                .advise("make another: ambit keys create")
                .into())
        }
        Some(key) => Ok(key),
    }
}

fn unknown(id: &str) -> Refusal {
    Refusal::new(Code::Arguments, format!("there is no key {}", printable(id))).advise("`ambit keys list` prints them")
}

/// Makes a key. Nobody knows it but whoever is given what comes back.
///
/// # Errors
/// Where the operating system gives no randomness.
pub fn random_key() -> Result<NewKey, OpenError> {
    let (mut id, mut secret) = ([0_u8; 16], zeroize::Zeroizing::new([0_u8; 32]));
    random::fill(&mut id)
        .and_then(|()| random::fill(secret.as_mut_slice()))
        .map_err(|error| OpenError::Home(format!("a key cannot be made: {error}")))?;
    Ok(key::new(id, &secret))
}

/// Checks what a key is asked for against the configuration: a slip in it would make a key that is good for nothing.
///
/// # Errors
/// [`Code::Caller`] for the agent and its user, [`Code::Config`] for a tool that was not accepted or a connection that is not there.
pub fn check(config: &Config, asked: &Asked) -> Result<(), Refusal> {
    let directory = Directory::new(config.agents().clone())?;
    directory.caller(&asked.agent, asked.user.as_deref())?;
    let accepted: Vec<&str> = config.lock().iter().map(|(name, _)| name).collect();
    for function in asked.narrowing.functions.iter().flatten() {
        let tool = function.split_once('/').map_or(function.as_str(), |(tool, _)| tool);
        if !accepted.contains(&tool) {
            let message = format!("no tool `{}` is accepted here", printable(tool));
            return Err(Refusal::new(Code::Config, message).advise(match accepted.as_slice() {
                [] => "accept it first: ambit tools accept".to_owned(),
                names => format!("accepted are: {}", names.join(", ")),
            }));
        }
    }
    for connection in asked.narrowing.connections.iter().flatten() {
        if config.connection(connection).is_none() {
            let names: Vec<&str> = config.connections().map(|(name, _)| name).collect();
            let message = format!("there is no connection `{}`", printable(connection));
            return Err(
                Refusal::new(Code::Config, message).advise(format!("the connections here: {}", names.join(", ")))
            );
        }
    }
    Ok(())
}

/// Why a key that is shown is not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is not known, or not good.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The ledger cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Host {
    /// Whose key is shown, where it is good now: the caller, and what the key leaves of what that one could do.
    ///
    /// # Errors
    /// [`KeyError::Denied`] for one that is not known, revoked or over, or whose agent the configuration no longer has.
    pub fn known_key(&self, shown: &Shown) -> Result<(Caller, ApiKey), KeyError> {
        let known = self.reader()?.api_key(&shown.id)?.ok_or_else(key::unknown)?;
        known.verify(shown, clock())?;
        let created = &known.created;
        let caller = self
            .shared
            .directory
            .caller(&created.agent, created.user.as_deref())
            .map_err(|_| {
                Denied::new(
                    ambit_core::identity::why::Why::Agent,
                    "the key's agent is not known any more",
                )
            })?;
        Ok((caller, known))
    }

    /// Looks once more at what a caller showed: a key that was revoked lets no call begin, and none go on.
    ///
    /// # Errors
    /// [`Code::Caller`] for a key that is not good any more, or another's; [`Code::Ledger`] where the ledger cannot be read.
    pub(crate) fn check_shown(&self, by: Option<&ShownBy>, caller: &Caller) -> Result<(), Refusal> {
        let Some(ShownBy::Key(id)) = by else { return Ok(()) };
        let known = self
            .reader()
            .and_then(|reader| reader.api_key(id))
            .map_err(|error| Refusal::new(Code::Ledger, error.to_string()))?;
        let known = known.ok_or_else(|| unknown(id))?;
        let own = known.created.agent == caller.agent() && known.created.user.as_deref() == caller.user();
        let good = known.revoked.is_none() && own;
        if !ambit_core::guard!("identity.key-again", good) {
            return Err(
                Refusal::new(Code::Caller, "the key that this call was made with was revoked")
                    .advise("call the tool again with another key"),
            );
        }
        Ok(())
    }

    /// Where a key stands now.
    #[must_use]
    pub fn standing(&self, key: &ApiKey) -> Standing {
        key.standing(clock())
    }
}

fn clock() -> u64 {
    u64::try_from(now_ms()).unwrap_or_default()
}
