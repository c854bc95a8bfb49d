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

use crate::approvals::ApprovalError;
use crate::call::{Answer, Fault, Outcome};
use crate::config::DRAIN_S;
use crate::effects::CallEffects;
use crate::guests::Guest;
use crate::host::Host;
use crate::store::StoreError;

/// Calls that go on at once when a host begins: there are others to be served.
const AT_ONCE: usize = 4;

/// How long one waits before it asks for a place again, where there was none.
const FULL: Duration = Duration::from_secs(1);

impl Host {
    /// Lets no call begin, and none go on that does not run, from here on and for good. Whoever asks is told that the host ends.
    pub fn close(&self) {
        let why = Refusal::new(Code::Suspended, "the host ends, and begins nothing more")
            .advise("nothing was done: call again once it is back, which may be in a moment");
        self.shared.store.board().close(why);
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
        let mut calls: Vec<String> = self
            .unended()?
            .into_iter()
            .filter(|call| call.story.suspended().is_some() && call.doubts.is_empty())
            .map(|call| call.story.call)
            .collect();
        let all = calls.clone();
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
        let story = self.reader().and_then(|reader| reader.story(call));
        if story.is_ok_and(|story| story.ran_a_guest() && story.undoes().is_none()) {
            self.live.goes_on.lock().insert(call.to_owned());
        }
        let went_on = loop {
            match self.current().resume(call, None) {
                Err(ApprovalError::Refused(refusal)) if refusal.code == Code::Limit && !self.is_closed() => {
                    thread::sleep(FULL);
                }
                went_on => break went_on,
            }
        };
        self.live.goes_on.lock().remove(call);
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
        let (mut batch, before, answer) = effects.into_suspended(refusal.clone(), started);
        batch.entries.extend(guest.end(fuel));
        batch
            .entries
            .push(guest.heading().entry(CallSuspended { before, fuel }));
        self.shared.store.commit(batch)?;
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
