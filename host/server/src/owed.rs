//! Requests that have no answer yet: each by its id once, and no more than a host should have to keep.

use std::collections::HashMap;

use ambit_core::guard;
use parking_lot::Mutex;
use rmcp::model::RequestId;
use tokio::sync::Notify;

/// How many requests of one connection may be under way. Calls beyond what the home runs at once wait among them.
pub(crate) const MOST: usize = 128;

/// What a connection owes its other side.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    requests: Mutex<HashMap<RequestId, State>>,
    changed: Notify,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// The other side wants no answer any more.
    cancelled: bool,
    /// What was asked is done, and its answer is on its way.
    ended: bool,
}

/// Why a request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Another one of its id has no answer yet: theirs could not be told apart.
    SameId,
    /// Too many are under way.
    TooMany,
}

impl Owed {
    /// Takes a request.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub(crate) fn begin(&self, id: &RequestId) -> Result<(), NotTaken> {
        let mut requests = self.requests.lock();
        if requests.contains_key(id) && !guard!("mcp.request-id", false) {
            return Err(NotTaken::SameId);
        }
        if !guard!("mcp.requests", requests.len() < MOST) {
            return Err(NotTaken::TooMany);
        }
        requests.insert(id.clone(), State::default());
        Ok(())
    }

    /// The other side wants no answer to this any more. It is owed until what it asked for has ended, so that its id stays taken.
    pub(crate) fn cancel(&self, id: &RequestId) {
        self.change(id, |state| state.cancelled = true);
    }

    /// What was asked is done.
    pub(crate) fn end(&self, id: &RequestId) {
        self.change(id, |state| state.ended = true);
    }

    /// The answer is given.
    pub(crate) fn answered(&self, id: &RequestId) {
        self.requests.lock().remove(id);
        self.changed.notify_waiters();
    }

    /// Waits until nothing is owed.
    pub(crate) async fn nothing(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on nothing is missed, so the look comes after.
            changed.as_mut().enable();
            if self.requests.lock().is_empty() {
                return;
            }
            changed.await;
        }
    }

    fn change(&self, id: &RequestId, change: impl FnOnce(&mut State)) {
        let mut requests = self.requests.lock();
        if let Some(state) = requests.get_mut(id) {
            change(state);
            // Nobody sends the answer to what was cancelled.
            if state.cancelled && state.ended {
                requests.remove(id);
                self.changed.notify_waiters();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn id(number: usize) -> RequestId {
        RequestId::Number(i64::try_from(number).unwrap())
    }

    fn owes(owed: &Owed) -> usize {
        owed.requests.lock().len()
    }

    #[test]
    fn an_id_is_taken_until_its_answer_is_given() {
        let owed = Owed::default();
        owed.begin(&id(1)).unwrap();
        assert_eq!(owed.begin(&id(1)), Err(NotTaken::SameId));
        owed.end(&id(1));
        assert_eq!(owed.begin(&id(1)), Err(NotTaken::SameId));
        owed.answered(&id(1));
        owed.begin(&id(1)).unwrap();
    }

    #[test]
    fn what_is_cancelled_is_owed_until_it_has_ended_in_whatever_order() {
        for cancel_first in [true, false] {
            let owed = Owed::default();
            owed.begin(&id(1)).unwrap();
            if cancel_first {
                owed.cancel(&id(1));
                assert_eq!(owed.begin(&id(1)), Err(NotTaken::SameId));
                owed.end(&id(1));
            } else {
                owed.end(&id(1));
                owed.cancel(&id(1));
            }
            assert_eq!(owes(&owed), 0);
        }
        // What is not there is nothing to cancel.
        Owed::default().cancel(&id(9));
    }

    #[test]
    fn so_many_requests_are_under_way_and_no_more() {
        let owed = Owed::default();
        for number in 0..MOST {
            owed.begin(&id(number)).unwrap();
        }
        assert_eq!(owed.begin(&id(MOST)), Err(NotTaken::TooMany));
        owed.answered(&id(0));
        owed.begin(&id(MOST)).unwrap();
    }

    #[tokio::test]
    async fn who_waits_for_nothing_is_told() {
        let owed = std::sync::Arc::new(Owed::default());
        owed.nothing().await;
        owed.begin(&id(1)).unwrap();
        let waits = tokio::spawn({
            let owed = std::sync::Arc::clone(&owed);
            async move { owed.nothing().await }
        });
        owed.answered(&id(1));
        waits.await.unwrap();
    }
}
