//! A host that is told to end: nothing begins any more, what runs may end for a time, and what is left is suspended.
//!
//! A suspended call is as one that a crash left, and its entry says that it was not that: its guest was stopped, all that it was given is
//! on the ledger, and the next host that serves goes on with it by itself. A request that had left is in doubt, as after a crash, and its
//! call waits for an operator; one that only reads is asked for again.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ambit_core::error::{Code, Refusal};
use ambit_core::ledger::body::CallSuspended;
use parking_lot::Mutex;

use crate::approvals::{ApprovalError, Asker};
use crate::call::{Answer, Fault, Outcome};
use crate::cancel::{Cancel, Ends};
use crate::config::DRAIN_S;
use crate::effects::{CallEffects, SuspendedEffects};
use crate::guests::Guest;
use crate::host::Host;
use crate::store::StoreError;

/// Calls that go on at once when a host begins: there are others to be served.
const AT_ONCE: usize = 4;

/// How long one waits before it asks for a place again, where there was none.
const FULL: Duration = Duration::from_secs(1);

/// A call that goes on by itself.
#[derive(Debug, Default)]
pub(crate) struct GoesOn {
    pub(crate) cancel: Cancel,
    /// Whether its turn has come: who runs it before that is an operator.
    pub(crate) begun: bool,
}

impl Host {
    /// Lets no call begin, and none go on that does not run, from here on and for good. Whoever asks is told that the host ends.
    pub fn close(&self) {
        self.shared.store.board().close(begins_nothing());
        self.live.closed.send_replace(true);
    }

    /// Waits until the host ends, and begins nothing more: for ever, mostly.
    pub fn ends(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closed = self.live.closed.subscribe();
        async move {
            if closed.wait_for(|closed| *closed).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// How long calls go on once the host is told to end.
    #[must_use]
    pub fn drain(&self) -> Duration {
        let host = self.current();
        let server = host.shared.config.server();
        server.map_or(Duration::from_secs(DRAIN_S), |server| server.drain)
    }

    /// Whether it ends, and begins nothing more.
    fn is_closed(&self) -> bool {
        *self.live.closed.borrow()
    }

    /// Whether nothing runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.shared.store.board().running().is_empty()
    }

    /// Ends the guests of all that runs, for the next host to go on with. Nothing begins any more. Does not wait.
    pub fn suspend(&self) {
        self.close();
        let why = Refusal::new(Code::Suspended, "the host ends, and the call goes on when it is back")
            .advise("do not call again for it: what came of it is told then, by its id");
        self.shared.store.board().stop_all(&why);
    }

    /// Leaves what still runs to the next host, and waits so long until it has ended. Blocks.
    pub fn leave(&self, most: Duration) {
        const LOOK: Duration = Duration::from_millis(5);
        let until = Instant::now() + most;
        self.suspend();
        while !self.is_idle() {
            if Instant::now() >= until {
                tracing::warn!("calls did not end in time: they are as after a crash");
                return;
            }
            thread::sleep(LOOK);
        }
    }

    /// Goes on with the calls that a host suspended when it ended, on threads of their own; returns which they are. One with an effect in
    /// doubt waits for an operator, and is not among them. What comes of one is on the ledger, and why one cannot go on is in the log.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub fn go_on_with_suspended(&self) -> Result<Vec<String>, StoreError> {
        let mut left = self.unended()?;
        left.retain(|call| call.story.suspended().is_some() && call.doubts.is_empty());
        // What is its caller's is that also while it waits for its turn.
        let own = left
            .iter()
            .filter(|call| call.story.ran_a_guest() && call.story.undoes().is_none());
        let own = own.map(|call| (call.story.call.clone(), GoesOn::default()));
        self.live.goes_on.lock().extend(own);
        let all: Vec<String> = left.into_iter().map(|call| call.story.call).collect();
        let mut calls = all.clone();
        calls.reverse();
        let queue = Arc::new(Mutex::new(calls));
        for _ in 0..AT_ONCE.min(all.len()) {
            let (host, queue) = (self.current(), Arc::clone(&queue));
            let spawned = thread::Builder::new().name("ambit-goes-on".to_owned()).spawn(move || {
                // A call at a time: the lock is not held while one runs.
                while let Some(call) = { queue.lock().pop() } {
                    host.go_on_suspended(&call);
                }
            });
            if let Err(error) = spawned {
                tracing::error!(%error, "there is no thread to go on with what was suspended: `ambit calls resume --all`");
            }
        }
        Ok(all)
    }

    /// It waits for a place as long as this takes: whoever called for it was told that it goes on.
    fn go_on_suspended(&self, call: &str) {
        let cancel = self.live.goes_on.lock().get_mut(call).map(|one| {
            one.begun = true;
            one.cancel.clone()
        });
        let went_on = loop {
            let asker = Asker {
                listener: None,
                cancel: cancel.clone(),
            };
            match self.current().resume_for(call, asker) {
                Err(ApprovalError::Refused(refusal)) if refusal.code == Code::Limit && !self.is_closed() => {
                    thread::sleep(FULL);
                }
                went_on => break went_on,
            }
        };
        self.live.goes_on.lock().remove(call);
        let taken_back = cancel.is_some_and(|cancel| cancel.is_cancelled());
        let went_on = match went_on {
            Err(_) if taken_back => match self.current().end_taken_back(call) {
                Ok(Ends::Now) => return tracing::info!(call, "a suspended call was taken back before its turn"),
                // It was taken back already, or somebody else went on with it.
                Ok(Ends::Elsewhere | Ends::Over) => return,
                Err(why) => Err(why),
            },
            went_on => went_on,
        };
        match went_on {
            Ok(answer) => tracing::info!(call, outcome = word(&answer.outcome), "a suspended call went on"),
            Err(why) => tracing::warn!(call, %why, "a suspended call stays as it is: `ambit calls resume`"),
        }
    }

    /// Writes down that a call is left to the next host, with all that its guest was given so far.
    pub(crate) fn suspended(
        &self,
        guest: &Guest,
        effects: CallEffects,
        refusal: &Refusal,
        fuel: u64,
        started: Instant,
    ) -> Result<Answer, Fault> {
        let SuspendedEffects {
            mut pending,
            before,
            answer,
            _entered,
        } = effects.into_suspended(refusal.clone(), started);
        pending.entries.extend(guest.end(fuel));
        pending
            .entries
            .push(guest.heading().entry(CallSuspended { before, fuel }));
        self.shared.store.commit(pending)?;
        Ok(answer)
    }
}

/// How a call ended, in a word.
const fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Ok(_) => "ok",
        Outcome::ToolError(_) => "tool-error",
        Outcome::Stopped(_) => "refused",
        Outcome::Held(_) => "held",
        Outcome::Paused(_) => "paused",
        Outcome::FirstWrite(_) => "first-write",
    }
}

/// What a call is told that has not begun when the host ends.
pub(crate) fn begins_nothing() -> Refusal {
    Refusal::new(Code::Suspended, "the host ends, and begins nothing more")
        .advise("nothing was done: call again once it is back, which may be in a moment")
}
