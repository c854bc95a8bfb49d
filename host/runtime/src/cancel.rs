//! Taking a call back: how whoever made it has it end.
//!
//! It ends as by an operator's kill: a guest that computes stops at its next tick, of a millisecond; of a request that has left, nobody
//! waits for the answer, and it is in doubt. The ledger has the end, with the code `cancelled`. Nothing that has happened is undone by it.

use std::fmt;
use std::sync::{Arc, Weak};

use ambit_core::error::{Code, Refusal};
use ambit_core::guard;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::approvals::{ApprovalError, Stopped, accepted};
use crate::host::Host;
use crate::store::Running;

/// A caller's way to take its call back. Cheap to clone: all clones are one, and what is taken back stays so.
///
/// It is put into a [`CallRequest`](crate::call::CallRequest); each call that is made with it ends.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// Told when it is taken back.
    told: Notify,
}

#[derive(Default)]
struct State {
    cancelled: bool,
    running: Vec<Weak<Running>>,
}

impl Cancel {
    /// Of a call that is to be made.
    #[must_use]
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Ends what runs, and lets nothing begin. Does not wait.
    pub fn cancel(&self) {
        let mut state = self.0.state.lock();
        state.cancelled = true;
        self.0.told.notify_waiters();
        for running in state.running.drain(..).filter_map(|running| running.upgrade()) {
            if !guard!("call.cancelled", false) {
                running.stop(taken_back());
            }
        }
    }

    /// Whether it was taken back.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.state.lock().cancelled
    }

    /// Waits until it is.
    pub(crate) async fn cancelled(&self) {
        let told = self.0.told.notified();
        tokio::pin!(told);
        // From here on nothing is missed, so the look comes after.
        told.as_mut().enable();
        if !self.is_cancelled() {
            told.await;
        }
    }

    /// Whether the call of this id runs by it now. One that an operator has undone, retried or go on runs by none of its caller's.
    #[must_use]
    pub fn ends(&self, call: &str) -> bool {
        let state = self.0.state.lock();
        let mut running = state.running.iter().filter_map(Weak::upgrade);
        running.any(|running| running.call() == call)
    }

    /// That it was not.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        match self.is_cancelled() {
            true => Err(taken_back()),
            false => Ok(()),
        }
    }

    /// Lets a call be found by it. Under the same lock as taking back: whichever comes first, the call ends.
    ///
    /// # Errors
    /// [`Code::Cancelled`] where it was taken back before it began.
    pub(crate) fn attach(&self, running: &Arc<Running>) -> Result<(), Refusal> {
        let mut state = self.0.state.lock();
        if state.cancelled && !guard!("call.cancelled-before", false) {
            return Err(taken_back());
        }
        state.running.retain(|running| running.strong_count() > 0);
        state.running.push(Arc::downgrade(running));
        Ok(())
    }
}

/// Where a suspended call that is taken back ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// It has, here.
    Now,
    /// Somebody is at it, and has to hear of it.
    Elsewhere,
    /// It is over, or waits for people.
    Over,
}

impl Host {
    /// Takes back a call that goes on by itself, or waits for its turn to, as the last host was told to end in it: for its caller, as
    /// whoever asks has found. False where it does not: it is over, waits, or is an operator's doing.
    #[must_use]
    pub fn take_back_suspended(&self, call: &str) -> bool {
        let cancel = {
            let goes_on = self.live.goes_on.lock();
            let runs = || self.shared.store.board().call(call).is_some();
            match goes_on.get(call) {
                Some(one) if one.begun || !runs() => one.cancel.clone(),
                _ => return false,
            }
        };
        if cancel.is_cancelled() && self.shared.store.board().call(call).is_none() {
            return false;
        }
        cancel.cancel();
        let begun = || self.live.goes_on.lock().get(call).map(|one| one.begun);
        // Its turn may be long in coming, and this process may end before.
        match self.current().end_taken_back(call) {
            Ok(Ends::Now) => true,
            // Whoever is at it hears of it where that is its turn, and not where that is an operator's doing.
            Ok(Ends::Elsewhere) => begun() == Some(true),
            Ok(Ends::Over) => false,
            Err(why) => {
                tracing::warn!(call, %why, "a suspended call that was taken back ends when its turn comes");
                begun().is_some()
            }
        }
    }

    /// Ends a suspended call that its caller took back before its turn: no guest of it runs. Where it runs it hears of that itself.
    pub(crate) fn end_taken_back(&self, call: &str) -> Result<Ends, ApprovalError> {
        let Some(_alone) = self.shared.alone(call) else {
            return Ok(Ends::Elsewhere);
        };
        let story = self.reader()?.story(call)?;
        let left = story.suspended().is_some() && !story.is_over();
        let Some(accepted) = accepted(&story).filter(|_| left).cloned() else {
            return Ok(Ends::Over);
        };
        let stopped = Stopped::interrupted(story)?;
        self.void(&stopped, &accepted, &taken_back())?;
        Ok(Ends::Now)
    }
}

/// What is recorded, and told to whoever still listens.
fn taken_back() -> Refusal {
    Refusal::new(Code::Cancelled, "its caller took the call back")
        .advise("what it had done by then stays done; its record says how far it came")
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}
