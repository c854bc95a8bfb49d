//! Entries: what is hashed into the ledger, one after another.
//!
//! An entry's bytes are canonical JSON: members sorted, no white space, each value in its one form. They are printed once, stored, hashed
//! and never printed again; reading them accepts exactly what printing would give, so nothing can stand in an entry that its reader does
//! not see.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::body::{Body, CallsReplayed, KeyCreated, Kind, MOST_ERASED, OperatorKey, StopLifted, StopSet};
use super::merkle::{Hash, leaf_hash};
use super::{FORMAT, LedgerError, MAX_ENTRY, number};
use crate::digest::Digest;
use crate::error::printable;
use crate::grant::Narrowing;
use crate::guard;
use crate::identity::Caller;
use crate::identity::key::is_key_id;
use crate::stop;

/// Room for most entries, so that printing one allocates once.
const USUAL_SIZE: usize = 1536;

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// The agent.
    pub agent: String,
    /// The agent's team.
    pub team: String,
    /// The team's tenant.
    pub tenant: String,
    /// The user that the agent acted for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl From<&Caller> for Principal {
    fn from(caller: &Caller) -> Self {
        Self {
            agent: caller.agent().to_owned(),
            team: caller.team().to_owned(),
            tenant: caller.tenant().to_owned(),
            user: caller.user().map(str::to_owned),
        }
    }
}

/// Where an entry stands in the ledger and in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    index: u64,
    time_ms: i64,
    clock_ms: Option<i64>,
}

impl Stamp {
    /// Of a ledger's first entry. The clock's time is in milliseconds since 1970; one before that counts as 1970.
    #[must_use]
    pub fn first(clock_ms: i64) -> Self {
        Self::new(0, clock_ms, 0)
    }

    /// Of the entry after this one. Time never goes back in a ledger: where the clock did, the last entry's time stands, and what the
    /// clock said is kept beside it.
    #[must_use]
    pub fn next(&self, clock_ms: i64) -> Self {
        Self::new(self.index + 1, clock_ms, self.time_ms)
    }

    fn new(index: u64, clock_ms: i64, not_before: i64) -> Self {
        let behind = clock_ms < not_before;
        Self {
            index,
            time_ms: clock_ms.max(not_before),
            clock_ms: behind.then_some(clock_ms),
        }
    }

    /// The entry's index: 0 is the first.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Milliseconds since 1970, never less than in the entry before.
    #[must_use]
    pub const fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// What the clock said, where it had gone back.
    #[must_use]
    pub const fn clock_ms(&self) -> Option<i64> {
        self.clock_ms
    }
}

/// An entry before it has a place in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryDraft {
    /// What it says.
    pub body: Body,
    /// The call it belongs to.
    pub call: Option<String>,
    /// The configuration in force.
    pub config: Option<Digest>,
    /// The policies in force.
    pub policy: Option<Digest>,
    /// Who asked.
    pub principal: Option<Principal>,
    /// The tool's component.
    pub tool: Option<Digest>,
    /// The trace it belongs to (W3C trace context).
    pub trace: Option<String>,
}

impl EntryDraft {
    /// An entry that belongs to no call.
    #[must_use]
    pub fn of_ledger(body: impl Into<Body>) -> Self {
        Self {
            body: body.into(),
            call: None,
            config: None,
            policy: None,
            principal: None,
            tool: None,
            trace: None,
        }
    }

    /// Gives the entry its place, and prints it for good.
    ///
    /// # Errors
    /// [`LedgerError::TooLarge`], and [`LedgerError::Entry`] where it lacks what its kind must have.
    pub fn seal(self, stamp: Stamp) -> Result<Entry, LedgerError> {
        stamp.check()?;
        self.check()?;
        let bytes = self.print(stamp)?;
        if !guard!("ledger.entry-size", bytes.len() <= MAX_ENTRY) {
            return Err(LedgerError::TooLarge { bytes: bytes.len() });
        }
        Ok(Entry {
            leaf: leaf_hash(&bytes),
            draft: self,
            stamp,
            bytes,
        })
    }

    fn print(&self, stamp: Stamp) -> Result<Vec<u8>, LedgerError> {
        let printed = Printed {
            body: &self.body,
            call: self.call.as_deref(),
            clock: stamp.clock_ms,
            config: self.config.as_ref(),
            index: stamp.index,
            kind: self.body.kind(),
            policy: self.policy.as_ref(),
            principal: self.principal.as_ref(),
            time: stamp.time_ms,
            tool: self.tool.as_ref(),
            trace: self.trace.as_deref(),
        };
        let mut bytes = Vec::with_capacity(USUAL_SIZE);
        serde_json::to_writer(&mut bytes, &printed).map_err(|error| LedgerError::Entry(error.to_string()))?;
        Ok(bytes)
    }

    /// What every entry of a kind has: whoever reads it may rely on that.
    fn check(&self) -> Result<(), LedgerError> {
        let kind = self.body.kind();
        let must = |holds: bool, what: &str| match holds {
            true => Ok(()),
            false => Err(LedgerError::Entry(format!("a {kind} entry must have {what}"))),
        };
        if !kind.of_a_call() {
            let bare = self.call.is_none() && self.principal.is_none();
            must(bare, "no call and no principal")?;
            self.check_erased()?;
            self.check_run()?;
            self.check_key()?;
            return self.check_stop();
        }
        must(self.call.as_deref().is_some_and(is_call_id), "the id of its call")?;
        must(
            self.trace.as_deref().is_some_and(is_trace_id),
            "the id of its trace, 32 hexadecimal digits",
        )?;
        must(
            self.config.is_some() && self.policy.is_some(),
            "the digests of configuration and policy",
        )?;
        if kind == Kind::CallDenied {
            return Ok(());
        }
        must(self.principal.is_some(), "a principal")?;
        must(self.tool.is_some(), "the digest of its tool")
    }

    /// A stop has an id, by which its reason is found and it is lifted.
    fn check_stop(&self) -> Result<(), LedgerError> {
        let (Body::StopSet(StopSet { id, .. }) | Body::StopLifted(StopLifted { id, .. })) = &self.body else {
            return Ok(());
        };
        if !guard!("ledger.stop-id", stop::is_id(id)) {
            let kind = self.body.kind();
            return Err(LedgerError::Entry(format!(
                "a {kind} entry must have the id of its stop"
            )));
        }
        Ok(())
    }

    /// A run is started with what a run can have.
    fn check_run(&self) -> Result<(), LedgerError> {
        match &self.body {
            Body::RunStarted(started) => started
                .check()
                .map_err(|why| LedgerError::Entry(format!("a run-started entry: {why}"))),
            _ => Ok(()),
        }
    }

    /// A key has an id, by which it is looked for; a count of what was refused counts something.
    fn check_key(&self) -> Result<(), LedgerError> {
        let sound = match &self.body {
            Body::KeyCreated(created) => {
                let replaced = created.replaces.as_ref().map(|replaced| replaced.key.as_str());
                let named = replaced.is_none_or(|key| is_key_id(key) && key != created.key);
                is_key_id(&created.key) && named && is_of_one(created)
            }
            Body::KeyRevoked(revoked) => is_key_id(&revoked.key),
            Body::CallersRefused(counted) => {
                !counted.refused.is_empty() && counted.refused.values().all(|count| *count > 0)
            }
            Body::CallsReplayed(counted) => *counted != CallsReplayed::default(),
            _ => true,
        };
        if !guard!("identity.key-entry", sound) {
            let kind = self.body.kind();
            return Err(LedgerError::Entry(format!(
                "a {kind} entry names keys by their ids, each once, and whose one is, or counts something"
            )));
        }
        Ok(())
    }

    /// An erasure names calls, each once, and no more than fit.
    fn check_erased(&self) -> Result<(), LedgerError> {
        let Body::ValuesErased(erased) = &self.body else {
            return Ok(());
        };
        let named = erased.calls.iter().all(|call| is_call_id(call)) && erased.is_in_order();
        if !guard!("ledger.erased-list", named) {
            return Err(LedgerError::Entry(format!(
                "a values-erased entry names 1 to {MOST_ERASED} calls by their ids, in order, each once"
            )));
        }
        Ok(())
    }
}

/// A key is an agent's or an operator's, and never good for both.
fn is_of_one(created: &KeyCreated) -> bool {
    let of_operator = |operator: &OperatorKey| {
        let whole = created.narrowing == Narrowing::default() && created.user.is_none();
        created.agent.is_empty() && whole && !operator.name.is_empty() && !operator.scopes.is_empty()
    };
    match &created.operator {
        Some(operator) => guard!("operator.key-of-one", of_operator(operator)),
        None => true,
    }
}

/// `c_` and 26 characters of base32 in lower case.
fn is_call_id(text: &str) -> bool {
    text.strip_prefix("c_")
        .is_some_and(|id| id.len() == 26 && id.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b)))
}

fn is_trace_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// An entry as it is printed. Members in the order of their names.
#[derive(Serialize)]
struct Printed<'e> {
    body: &'e Body,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'e Digest>,
    index: u64,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'e Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<&'e Principal>,
    time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'e Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'e str>,
}

/// An entry as it is read: its kind says what its body must be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read<'e> {
    #[serde(borrow)]
    body: &'e RawValue,
    call: Option<String>,
    clock: Option<i64>,
    config: Option<Digest>,
    index: u64,
    kind: Kind,
    policy: Option<Digest>,
    principal: Option<Principal>,
    time: i64,
    tool: Option<Digest>,
    trace: Option<String>,
}

/// As much as is read of an entry to know its format: whatever a later one adds is passed over.
#[derive(Deserialize)]
struct Probe {
    body: Opening,
    kind: String,
}

#[derive(Deserialize)]
struct Opening {
    format: u64,
}

/// An entry with its place, and the bytes that are stored and hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    draft: EntryDraft,
    stamp: Stamp,
    bytes: Vec<u8>,
    leaf: Hash,
}

impl Entry {
    /// Reads stored bytes: exactly those that printing what they say gives again.
    ///
    /// # Errors
    /// [`LedgerError::Format`] for the first entry of another format's ledger, [`LedgerError::TooLarge`], [`LedgerError::Entry`].
    pub fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        if bytes.len() > MAX_ENTRY {
            return Err(LedgerError::TooLarge { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| LedgerError::Entry("it is not UTF-8".to_owned()))?;
        check_format(text)?;
        let read: Read<'_> = serde_json::from_str(text).map_err(malformed)?;
        let entry = read.entry()?;
        if !guard!("ledger.canonical", entry.bytes == bytes) {
            return Err(LedgerError::Entry(
                "its bytes are not canonical: it says the same in another form".to_owned(),
            ));
        }
        Ok(Self {
            leaf: leaf_hash(bytes),
            bytes: bytes.to_vec(),
            ..entry
        })
    }

    /// The bytes that are stored, hashed and exported.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes as the text they are.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    /// The entry's leaf in the tree.
    #[must_use]
    pub const fn leaf(&self) -> Hash {
        self.leaf
    }

    /// Its place.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Its index: 0 is the ledger's first.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.stamp.index
    }

    /// Milliseconds since 1970, never less than in the entry before.
    #[must_use]
    pub const fn time_ms(&self) -> i64 {
        self.stamp.time_ms
    }

    /// What it records.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.draft.body.kind()
    }

    /// What it says.
    #[must_use]
    pub const fn body(&self) -> &Body {
        &self.draft.body
    }

    /// The call it belongs to.
    #[must_use]
    pub fn call(&self) -> Option<&str> {
        self.draft.call.as_deref()
    }

    /// The trace it belongs to.
    #[must_use]
    pub fn trace(&self) -> Option<&str> {
        self.draft.trace.as_deref()
    }

    /// Who asked.
    #[must_use]
    pub const fn principal(&self) -> Option<&Principal> {
        self.draft.principal.as_ref()
    }

    /// The tool's component.
    #[must_use]
    pub const fn tool(&self) -> Option<Digest> {
        self.draft.tool
    }

    /// The policies in force.
    #[must_use]
    pub const fn policy(&self) -> Option<Digest> {
        self.draft.policy
    }

    /// The configuration in force.
    #[must_use]
    pub const fn config(&self) -> Option<Digest> {
        self.draft.config
    }
}

impl Read<'_> {
    /// The entry that says this, printed anew.
    fn entry(self) -> Result<Entry, LedgerError> {
        let stamp = Stamp {
            index: self.index,
            time_ms: self.time,
            clock_ms: self.clock,
        };
        let draft = EntryDraft {
            body: Body::parse(self.kind, self.body.get()).map_err(malformed)?,
            call: self.call,
            config: self.config,
            policy: self.policy,
            principal: self.principal,
            tool: self.tool,
            trace: self.trace,
        };
        draft.seal(stamp)
    }
}

impl Stamp {
    /// That printing gives these numbers as they are, and that the clock is told only where it is behind.
    fn check(&self) -> Result<(), LedgerError> {
        let exact = |time: i64| time.unsigned_abs() <= number::EXACT;
        let whole =
            self.index <= number::EXACT && self.time_ms >= 0 && exact(self.time_ms) && self.clock_ms.is_none_or(exact);
        if !whole || self.clock_ms.is_some_and(|clock| clock >= self.time_ms) {
            return Err(LedgerError::Entry(
                "its index or time is not one that a ledger has".to_owned(),
            ));
        }
        Ok(())
    }
}

/// A message of the JSON reader, which may quote what it read.
fn malformed(error: serde_json::Error) -> LedgerError {
    LedgerError::Entry(printable(&error.to_string()))
}

/// Before anything else is asked of an opening entry: whether it is of this format at all.
fn check_format(text: &str) -> Result<(), LedgerError> {
    if !text.contains(Kind::LedgerOpened.as_str()) {
        return Ok(());
    }
    match serde_json::from_str::<Probe>(text) {
        Ok(Probe { kind, body }) if kind == Kind::LedgerOpened.as_str() => {
            if !guard!("ledger.format", body.format == FORMAT) {
                return Err(LedgerError::Format { found: body.format });
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
