//! What operators do about stops: put one into force, lift one, look at what is stopped and what runs.
//!
//! Each is an act on the [`Store`] alone, so that it needs no configuration, policy or tool that opens: by the process that
//! holds the home, for itself or for whoever asks over the operators' socket.

use ambit_core::error::{Code, Refusal};
use ambit_core::ledger::EntryDraft;
use ambit_core::ledger::body::{OperatorShown, StopLifted, StopSet};
use ambit_core::stop::{self, Kind, Stop};
use serde::{Deserialize, Serialize};

use crate::host::{Host, OpenError};
use crate::ids::StopId;
use crate::store::{Batch, InForce, Payload, Reader, Running, Store, StoreError};

/// A stop that an operator put into force or lifted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// How much is, or was, stopped.
    pub kind: Kind,
    /// What.
    pub scope: stop::Scope,
    /// The stop's id.
    pub id: String,
    /// The ledger index of the entry that says so.
    pub entry: u64,
    /// Whether it was so already, and nothing was changed.
    pub already: bool,
    /// Calls of this process that it ended.
    pub ended: Vec<String>,
}

/// A stop in force, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// How much is stopped.
    pub kind: Kind,
    /// What.
    pub scope: stop::Scope,
    /// Its id.
    pub id: String,
    /// The ledger index of the entry that began it.
    pub entry: u64,
    /// When, by the ledger's time, in milliseconds since 1970.
    pub since_ms: i64,
    /// The operator's reason, where the reader has the home's keys.
    pub reason: Option<String>,
}

/// A call that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    /// Its id.
    pub call: String,
    /// The tool.
    pub tool: String,
    /// The agent.
    pub agent: String,
    /// The agent's tenant.
    pub tenant: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// Whether it was stopped, and ends.
    pub stopped: bool,
}

impl From<&Running> for Runs {
    fn from(running: &Running) -> Runs {
        let subject = running.subject();
        Runs {
            call: running.call().to_owned(),
            tool: subject.tool.clone(),
            agent: subject.agent.clone(),
            tenant: subject.tenant.clone(),
            since_ms: running.began_ms(),
            stopped: running.check().is_err(),
        }
    }
}

/// Puts a stop into force. When it returns, the stop is on the ledger, whatever it covers is told to end, and nothing begins that it
/// forbids. One that is in force stays as it is. `by` is who, where that was an operator over HTTP.
///
/// # Errors
/// [`Code::Arguments`] without a reason; where the ledger takes no entry.
pub fn set(store: &Store, stop: &Stop, reason: &str, by: Option<&OperatorShown>) -> Result<Done, OpenError> {
    let reason = stop::reason(reason)?;
    if let Some(known) = in_force(store, stop)? {
        return Ok(done(&known, true, Vec::new()));
    }
    let id = StopId::random().map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    let id = id.as_str().to_owned();
    let reason = Payload::new(id.as_str(), "reason", reason.as_bytes().to_vec())?;
    let running = store.board().running();
    let committed = store.commit(Batch {
        entries: vec![EntryDraft::of_ledger(StopSet {
            by: by.cloned(),
            id: id.clone(),
            kind: stop.kind,
            reason: reason.commitment(),
            scope: stop.scope.clone(),
        })],
        payloads: vec![reason],
        ..Batch::default()
    });
    let committed = match committed {
        Ok(committed) => committed,
        Err(error @ StoreError::Batch { .. }) => {
            // Somebody else was quicker.
            let known = in_force(store, stop)?.ok_or(error)?;
            return Ok(done(&known, true, Vec::new()));
        }
        Err(error) => return Err(error.into()),
    };
    let ended = running.iter().filter(|running| stop.forbids_call(running.subject()));
    let known = InForce {
        stop: stop.clone(),
        id,
        index: committed.first_index,
    };
    Ok(done(
        &known,
        false,
        ended.map(|running| running.call().to_owned()).collect(),
    ))
}

/// Lifts a stop that is in force. Calls that it ended do not come back. `by` is who, where that was an operator over HTTP.
///
/// # Errors
/// [`Code::Arguments`] where it is not in force, with what is; where the ledger takes no entry.
pub fn lift(store: &Store, stop: &Stop, reason: Option<&str>, by: Option<&OperatorShown>) -> Result<Done, OpenError> {
    let reason = reason.map(stop::reason).transpose()?;
    let Some(known) = in_force(store, stop)? else {
        return Err(not_in_force(&store.reader()?, stop)?.into());
    };
    let id = known.id.clone();
    let reason = reason
        .map(|reason| Payload::new(id.as_str(), "lifted", reason.as_bytes().to_vec()))
        .transpose()?;
    let committed = store.commit(Batch {
        entries: vec![EntryDraft::of_ledger(StopLifted {
            by: by.cloned(),
            id: known.id.clone(),
            kind: stop.kind,
            reason: reason.as_ref().map(Payload::commitment),
            scope: stop.scope.clone(),
        })],
        payloads: reason.into_iter().collect(),
        ..Batch::default()
    })?;
    let lifted = InForce {
        index: committed.first_index,
        ..known
    };
    Ok(done(&lifted, false, Vec::new()))
}

/// The stops in force, as the ledger says. A reader without the home's keys reads no reasons.
///
/// # Errors
/// Where the ledger cannot be read.
pub fn standing(reader: &Reader) -> Result<Vec<Standing>, StoreError> {
    let standing = |in_force: InForce| {
        let reason = match reader.payload(&in_force.id, "reason") {
            Ok(reason) => reason.map(|reason| String::from_utf8_lossy(reason.bytes()).into_owned()),
            Err(StoreError::Payload { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(Standing {
            kind: in_force.stop.kind,
            scope: in_force.stop.scope,
            id: in_force.id,
            entry: in_force.index,
            since_ms: reader.entry(in_force.index)?.time_ms(),
            reason,
        })
    };
    reader.stops()?.into_iter().map(standing).collect()
}

/// The calls that run in the process that has this store, the oldest first.
pub(crate) fn runs(store: &Store) -> Vec<Runs> {
    let running = store.board().running();
    running.iter().map(|running| Runs::from(running.as_ref())).collect()
}

fn in_force(store: &Store, stop: &Stop) -> Result<Option<InForce>, StoreError> {
    let stops = store.reader()?.stops()?;
    Ok(stops.into_iter().find(|known| known.stop == *stop))
}

fn done(known: &InForce, already: bool, ended: Vec<String>) -> Done {
    Done {
        kind: known.stop.kind,
        scope: known.stop.scope.clone(),
        id: known.id.clone(),
        entry: known.index,
        already,
        ended,
    }
}

fn not_in_force(reader: &Reader, stop: &Stop) -> Result<Refusal, StoreError> {
    let known: Vec<String> = reader.stops()?.iter().map(|known| known.stop.to_string()).collect();
    let refusal = Refusal::new(Code::Arguments, format!("no {stop} is in force"));
    Ok(refusal.advise(match known.as_slice() {
        [] => "nothing is stopped".to_owned(),
        known => format!("in force: {}", known.join(", ")),
    }))
}

impl Host {
    /// Puts a stop into force: [`set`].
    ///
    /// # Errors
    /// As [`set`].
    pub fn stop(&self, stop: &Stop, reason: &str) -> Result<Done, OpenError> {
        set(&self.shared.store, stop, reason, None)
    }

    /// Lifts a stop: [`lift`].
    ///
    /// # Errors
    /// As [`lift`].
    pub fn lift(&self, stop: &Stop, reason: Option<&str>) -> Result<Done, OpenError> {
        lift(&self.shared.store, stop, reason, None)
    }
}
