//! Keys that operators give out to agents over HTTP: made, put in another's place, revoked, and looked at when one is shown.
//!
//! The secret is made by the operator's command and printed there; the process that holds the home is told its digest. What a key
//! is good for is decided in [`ambit_core::identity::key`], and in the transaction of the entry that makes it.

use ambit_core::error::{Code, Refusal, printable};
use ambit_core::grant::Narrowing;
use ambit_core::guard;
use ambit_core::identity::key::{self, ApiKey, LONGEST_MS, NewKey, Shown, Standing};
use ambit_core::identity::why::{Denied, Why};
use ambit_core::identity::{Caller, Directory};
use ambit_core::ledger::EntryDraft;
use ambit_core::ledger::body::{KeyCreated, KeyRevoked, OperatorKey, OperatorShown, Replaced, RunTokenShown, ShownBy};
use serde::{Deserialize, Serialize};

use crate::clock::clock;
use crate::config::{Config, is_name};
use crate::host::{Host, OpenError};
use crate::random;
use crate::store::{Batch, Store};

/// What a key is made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The agent that is known by it; empty of an operator's.
    pub agent: String,
    /// The user that it acts for with it.
    pub user: Option<String>,
    /// What the operator calls it.
    pub name: Option<String>,
    /// What its holder can do less than the agent.
    pub narrowing: Narrowing,
    /// The operator who is known by it, in an agent's place.
    #[serde(default)]
    pub operator: Option<OperatorKey>,
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
                operator: before.created.operator,
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
    // What begins as an id is taken for one where a key is named.
    let fits = |name: &String| is_name(name) && guard!("identity.key-name", !name.starts_with(key::ID_PREFIX));
    if let Some(name) = asked.name.as_ref().filter(|name| !fits(name)) {
        let message = format!("`{}` cannot be the name of a key", printable(name));
        return Err(Refusal::new(Code::Arguments, message).advise(
            "1 to 64 letters, digits, `-` and `_`, a letter or digit first, and not `k_`, as ids begin with it",
        ));
    }
    Ok(KeyCreated {
        agent: asked.agent,
        expires: now.saturating_add(asked.good_for_ms),
        hash: shown.hash,
        key: shown.id,
        name: asked.name,
        narrowing: asked.narrowing,
        operator: asked.operator,
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
    if let Some(operator) = &asked.operator {
        return check_operator(config, asked, operator);
    }
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

/// The same of a key for an operator, who is no agent and has nothing of one.
fn check_operator(config: &Config, asked: &Asked, operator: &OperatorKey) -> Result<(), Refusal> {
    if !is_name(&operator.name) {
        let message = format!("`{}` cannot be the name of an operator", printable(&operator.name));
        return Err(Refusal::new(Code::Arguments, message)
            .advise("1 to 64 letters, digits, `-` and `_`, a letter or digit first"));
    }
    if operator.scopes.is_empty()
        || !asked.agent.is_empty()
        || asked.user.is_some()
        || asked.narrowing != Narrowing::default()
    {
        let message = "an operator's key has scopes, and no agent, user or tool";
        return Err(Refusal::new(Code::Arguments, message).advise("say what it is for: --scope read"));
    }
    if config.server().is_none_or(|server| server.operators.is_none()) {
        let message = "the configuration has no [server.operators]: the key would be good for nothing";
        return Err(Refusal::new(Code::Config, message).advise("add [server.operators] to ambit.toml"));
    }
    Ok(())
}

fn check_run_token(shown: &RunTokenShown) -> Result<(), Refusal> {
    if !guard!("token.again", clock() < shown.expires) {
        return Err(
            Refusal::new(Code::Caller, "the run token that this call was made with is over")
                .advise("call the tool again with another token"),
        );
    }
    Ok(())
}

impl Host {
    /// Whose key is shown, where it is good now: the caller, and what the key leaves of what that one could do. Looks at no disk.
    ///
    /// # Errors
    /// For one that is not known, revoked or over, or whose agent the configuration no longer has.
    pub fn known_key(&self, shown: &Shown) -> Result<(Caller, ApiKey), Denied> {
        let known = self.shared.store.api_key(&shown.id).ok_or_else(key::unknown)?;
        known.verify(shown, clock())?;
        if !ambit_core::guard!("operator.key-apart", known.created.operator.is_none()) {
            return Err(Denied::new(
                Why::Audience,
                "the key is an operator's, and no agent is known by it",
            ));
        }
        let created = &known.created;
        let caller = self
            .shared
            .directory
            .caller(&created.agent, created.user.as_deref())
            .map_err(|_| Denied::new(Why::Agent, "the key's agent is not known any more"))?;
        Ok((caller, known))
    }

    /// Which operator's key is shown, where it is good now, and what it is for. Looks at no disk.
    ///
    /// # Errors
    /// For one that is not known, revoked, over, or an agent's.
    pub fn known_operator(&self, shown: &Shown) -> Result<OperatorKey, Denied> {
        let known = self.shared.store.api_key(&shown.id).ok_or_else(key::unknown)?;
        known.verify(shown, clock())?;
        let apart = || Denied::new(Why::Audience, "the key is an agent's, and no operator is known by it");
        known.created.operator.ok_or_else(apart)
    }

    /// Looks once more at what an operator showed, right before what they ask for is done: a key can be revoked, or be over, while a
    /// request's body is read. Looks at no disk.
    ///
    /// # Errors
    /// For a key that is not good any more.
    pub fn check_operator(&self, by: &OperatorShown) -> Result<(), Denied> {
        let ShownBy::Key(id) = &by.shown else { return Ok(()) };
        let known = self.shared.store.api_key(id).ok_or_else(key::unknown)?;
        let standing = known.check(clock());
        match standing {
            Err(denied) if !ambit_core::guard!("operator.key-again", false) => Err(denied),
            _ => Ok(()),
        }
    }

    /// Looks once more at what a caller showed: a key that was revoked, or that is over, lets no call begin, and none go on, and neither does
    /// a token of a run that is over. Whether the run is open is asked where its calls and effects begin.
    ///
    /// # Errors
    /// [`Code::Caller`] for a token that is over, and for a key that is not good any more, or another's.
    pub(crate) fn check_shown(&self, by: Option<&ShownBy>, caller: &Caller) -> Result<(), Refusal> {
        let id = match by {
            Some(ShownBy::Key(id)) => id,
            Some(ShownBy::RunToken(shown)) => return check_run_token(shown),
            // Those were looked at when they were shown.
            Some(ShownBy::Certificate(_) | ShownBy::Token(_)) | None => return Ok(()),
        };
        let known = self.shared.store.api_key(id).ok_or_else(|| unknown(id))?;
        let refused = |why: &str| {
            Refusal::new(Code::Caller, format!("the key that this call was made with {why}"))
                .advise("call the tool again with another key")
        };
        let own = known.created.agent == caller.agent() && known.created.user.as_deref() == caller.user();
        let revoked = !own || known.revoked.is_some();
        if !ambit_core::guard!("identity.key-again", !revoked) {
            return Err(refused("was revoked"));
        }
        // Also one in whose place another came: its time is over then, whatever it was made for.
        let over = self.standing(&known) == Standing::Expired;
        if !ambit_core::guard!("identity.key-over", !over) {
            return Err(refused("is over"));
        }
        Ok(())
    }

    /// Where a key stands now.
    #[must_use]
    pub fn standing(&self, key: &ApiKey) -> Standing {
        key.standing(clock())
    }
}
