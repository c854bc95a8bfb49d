//! What is stopped now, and the calls that run: for whoever has to know within a millisecond.
//!
//! The ledger's stops in memory, and the calls of this process. The writer brings the stops up to date once an entry about
//! them is durable and before anyone is told so: a kill is on the board before its operator hears of it, and before any
//! intent of the same group gets its leave to be sent. A call that a kill covers stays stopped, whatever is lifted later.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use ambit_core::error::Refusal;
use ambit_core::guard;
use ambit_core::ledger::body::{StopLifted, StopSet};
use ambit_core::ledger::{Body, EntryDraft};
use ambit_core::scope::Tier;
use ambit_core::stop::{Stop, Subject, forbidding};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Again;

/// What is stopped, and what runs.
#[derive(Default)]
pub(crate) struct Board(Mutex<State>);

#[derive(Default)]
struct State {
    /// Why nothing begins any more.
    closed: Option<Refusal>,
    stops: Vec<Stop>,
    /// How often something was stopped or revoked since the process began.
    turn: u64,
    running: HashMap<String, Arc<Running>>,
}

/// A call that runs in this process.
pub(crate) struct Running {
    call: String,
    subject: Subject,
    began_ms: u64,
    /// Why it must not go on. Once, and for good.
    stopped: OnceLock<Refusal>,
    told: Notify,
}

impl Running {
    /// The call.
    pub(crate) fn call(&self) -> &str {
        &self.call
    }

    /// Who and what it is of.
    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// When it began in this process, in milliseconds since 1970.
    pub(crate) fn began_ms(&self) -> u64 {
        self.began_ms
    }

    /// Whether it may go on.
    ///
    /// # Errors
    /// What stopped it.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        match self.stopped.get() {
            Some(refusal) if !guard!("stop.running", false) => Err(refusal.clone()),
            _ => Ok(()),
        }
    }

    /// Waits until something stops it: for ever, mostly.
    pub(crate) async fn stopped(&self) -> Refusal {
        loop {
            let told = self.told.notified();
            tokio::pin!(told);
            // From here on nothing is missed, so the look comes after.
            told.as_mut().enable();
            if let Err(refusal) = self.check() {
                return refusal;
            }
            told.await;
        }
    }

    /// Ends it, for an operator or its caller.
    pub(crate) fn stop(&self, refusal: Refusal) {
        // The first stop is the reason; later ones change nothing.
        drop(self.stopped.set(refusal));
        self.told.notify_waiters();
    }
}

/// A call on the board, until dropped.
pub(crate) struct Entered {
    board: Arc<Board>,
    running: Arc<Running>,
}

impl Entered {
    /// The call.
    pub(crate) fn running(&self) -> &Arc<Running> {
        &self.running
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.board.0.lock().running.remove(&self.running.call);
    }
}

impl Board {
    /// With the stops that the ledger has.
    pub(super) fn new(stops: Vec<Stop>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            closed: None,
            stops,
            turn: 0,
            running: HashMap::new(),
        })))
    }

    /// Lets a call begin: from here on a kill finds it.
    ///
    /// # Errors
    /// The refusal of the kill that covers it, or why nothing begins any more.
    pub(crate) fn enter(self: &Arc<Self>, call: &str, subject: Subject, began_ms: u64) -> Result<Entered, Refusal> {
        let mut state = self.0.lock();
        if let Some(closed) = &state.closed
            && !guard!("suspend.new-call", false)
        {
            return Err(closed.clone());
        }
        let kill = state.stops.iter().find(|stop| stop.forbids_call(&subject));
        if let Some(kill) = kill
            && !guard!("stop.new-call", false)
        {
            return Err(kill.refusal());
        }
        let running = Arc::new(Running {
            call: call.to_owned(),
            subject,
            began_ms,
            stopped: OnceLock::new(),
            told: Notify::new(),
        });
        state.running.insert(call.to_owned(), Arc::clone(&running));
        Ok(Entered {
            board: Arc::clone(self),
            running,
        })
    }

    /// Whether an effect of this tier through this connection may be, by what is stopped now.
    ///
    /// # Errors
    /// The refusal of the stop that forbids it.
    pub(crate) fn check_effect(&self, subject: &Subject, connection: &str, tier: Tier) -> Result<(), Refusal> {
        let state = self.0.lock();
        if state.stops.is_empty() {
            return Ok(());
        }
        let forbids = forbidding(&state.stops, &subject.through(connection), tier);
        forbids.map_or(Ok(()), |stop| Err(stop.refusal()))
    }

    /// Lets nothing begin from here on. What runs goes on.
    pub(crate) fn close(&self, why: Refusal) {
        self.0.lock().closed.get_or_insert(why);
    }

    /// Ends what runs, as its host ends. Nothing that begins can be missed by it where the board was closed before.
    pub(crate) fn stop_all(&self, why: &Refusal) {
        let state = self.0.lock();
        state.running.values().for_each(|running| running.stop(why.clone()));
    }

    /// A number that is another one once somebody stopped or revoked anything: what was had before is not used after that.
    pub(crate) fn turn(&self) -> u64 {
        self.0.lock().turn
    }

    /// The calls that run, the oldest first.
    pub(crate) fn running(&self) -> Vec<Arc<Running>> {
        let mut running: Vec<_> = self.0.lock().running.values().cloned().collect();
        running.sort_by(|one, other| (one.began_ms, &one.call).cmp(&(other.began_ms, &other.call)));
        running
    }

    /// A call, where it runs.
    pub(crate) fn call(&self, call: &str) -> Option<Arc<Running>> {
        self.0.lock().running.get(call).cloned()
    }

    /// Takes in what has become durable, and stops whom it stops.
    pub(super) fn apply(&self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let mut state = self.0.lock();
        for change in changes {
            match change {
                Change::Set(stop) => {
                    state.turn = state.turn.saturating_add(1);
                    state.set(stop);
                }
                Change::Lifted(stop) => state.stops.retain(|one| one != stop),
                Change::Revoked => state.turn = state.turn.saturating_add(1),
            }
        }
    }
}

impl State {
    fn set(&mut self, stop: &Stop) {
        if !self.stops.contains(stop) {
            self.stops.push(stop.clone());
        }
        let covered = self
            .running
            .values()
            .filter(|running| stop.forbids_call(&running.subject));
        covered.for_each(|running| running.stop(stop.refusal()));
    }
}

/// What an entry changes about what is stopped.
#[derive(Clone)]
pub(super) enum Change {
    Set(Stop),
    Lifted(Stop),
    /// A key, or a person's.
    Revoked,
}

impl Change {
    /// What entries change, in their order.
    pub(super) fn of(entries: &[EntryDraft]) -> Vec<Self> {
        let change = |entry: &EntryDraft| match &entry.body {
            Body::StopSet(set) => Some(Self::Set(StopSet::stop(set))),
            Body::StopLifted(lifted) => Some(Self::Lifted(StopLifted::stop(lifted))),
            Body::KeyRevoked(_) | Body::PersonRevoked(_) => Some(Self::Revoked),
            _ => None,
        };
        entries.iter().filter_map(change).collect()
    }
}

/// What a committed intent is sent under: its call goes on, and nothing that came after it forbids it.
#[derive(Clone)]
pub(crate) struct Leave {
    board: Arc<Board>,
    running: Option<Arc<Running>>,
    connection: String,
    tier: Tier,
}

impl Leave {
    /// Of what is sent.
    pub(super) fn of(board: &Arc<Board>, sent: &Again) -> Self {
        Self {
            board: Arc::clone(board),
            running: sent.of.call.as_deref().and_then(|call| board.call(call)),
            connection: sent.connection.clone(),
            tier: sent.tier,
        }
    }

    /// Whether it still stands: looked at right before the first byte.
    ///
    /// # Errors
    /// The refusal of what stopped it.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let Some(running) = &self.running else { return Ok(()) };
        running.check()?;
        let forbidden = self.board.check_effect(&running.subject, &self.connection, self.tier);
        match forbidden {
            Err(refusal) if !guard!("stop.first-byte", false) => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Waits until a kill, or its caller, ends the call that it is of. Safe mode ends nothing that has begun.
    pub(crate) async fn stopped(&self) -> Refusal {
        match &self.running {
            Some(running) => running.stopped().await,
            None => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        write!(f, "Board({} stops, {} calls)", state.stops.len(), state.running.len())
    }
}

impl fmt::Debug for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leave")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;

    use ambit_core::error::Code;

    use super::*;

    fn subject(agent: &str) -> Subject {
        Subject {
            tenant: "acme".into(),
            agent: agent.into(),
            tool: "refunds".into(),
            connections: BTreeSet::from(["stripe".to_owned()]),
            run: None,
        }
    }

    fn stop(text: &str) -> Stop {
        let (kind, scope) = text.split_once(' ').unwrap();
        Stop {
            kind: kind.parse().unwrap(),
            scope: scope.parse().unwrap(),
        }
    }

    #[test]
    fn a_kill_stops_those_it_covers_for_good() {
        let board = Board::new(vec![]);
        let (one, other) = (
            board.enter("c_1", subject("one"), 1).unwrap(),
            board.enter("c_2", subject("other"), 2).unwrap(),
        );
        board.apply(&[Change::Set(stop("kill agent:one"))]);
        assert_eq!(one.running().check().unwrap_err().code, Code::Killed);
        assert!(other.running().check().is_ok());
        let refused = board.enter("c_3", subject("one"), 3).map(drop).unwrap_err();
        assert!(refused.message.contains("agent:one"));
        board.apply(&[Change::Lifted(stop("kill agent:one"))]);
        assert!(one.running().check().is_err(), "a call that was stopped does not go on");
        assert!(board.enter("c_3", subject("one"), 3).is_ok());
        drop((one, other));
        assert!(board.running().is_empty());
    }

    #[test]
    fn safe_mode_stops_no_call_and_what_changes_something() {
        let board = Board::new(vec![stop("safe-mode connection:stripe")]);
        let call = board.enter("c_1", subject("one"), 1).unwrap();
        let check = |connection, tier| board.check_effect(call.running().subject(), connection, tier);
        assert!(check("stripe", Tier::Read).is_ok());
        for tier in [Tier::Draft, Tier::Commit] {
            assert_eq!(check("stripe", tier).unwrap_err().code, Code::SafeMode);
            assert!(check("slack", tier).is_ok());
        }
        assert!(call.running().check().is_ok());
    }

    #[test]
    fn a_host_that_ends_begins_nothing_and_then_stops_what_runs() {
        let board = Board::new(vec![]);
        let call = board.enter("c_1", subject("one"), 1).unwrap();
        let why = Refusal::new(Code::Suspended, "it ends");
        board.close(why.clone());
        assert_eq!(
            board.enter("c_2", subject("one"), 2).map(drop).unwrap_err().code,
            Code::Suspended
        );
        assert!(call.running().check().is_ok());
        board.stop_all(&why);
        assert_eq!(call.running().check().unwrap_err().code, Code::Suspended);
    }

    #[test]
    fn who_waits_is_told() {
        let board = Board::new(vec![]);
        let call = board.enter("c_1", subject("one"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let running = Arc::clone(call.running());
        let waits = std::thread::spawn(move || runtime.block_on(running.stopped()));
        board.apply(&[Change::Set(stop("kill everything"))]);
        assert_eq!(waits.join().unwrap().code, Code::Killed);
    }
}
