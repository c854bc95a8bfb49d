//! Requests that have no answer yet: each by its id once, and no more than a host should have to keep.

use std::collections::{HashMap, HashSet, VecDeque};

use ambit_core::digest::Digest;
use ambit_core::guard;
use parking_lot::Mutex;
use rmcp::model::RequestId;
use tokio::sync::Notify;

/// How many requests of one connection may be under way. Calls beyond what the home runs at once wait among them.
pub(crate) const MOST: usize = 128;

/// Ids of requests that were taken back, and are not taken again. What was asked may have been done just then, with its answer on its way
/// through the protocol's library, which knows requests by their ids alone. By the time that so many more were taken back it has passed.
const SPENT: usize = 4_096;

/// What a connection owes its other side.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    requests: Mutex<Requests>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Requests {
    under_way: HashMap<RequestId, State>,
    spent: Spent,
}

/// The last ids of those that were taken back: their digests, as an id can be long.
#[derive(Debug, Default)]
struct Spent {
    known: HashSet<Digest>,
    in_order: VecDeque<Digest>,
}

impl Spent {
    fn of(id: &RequestId) -> Digest {
        match id {
            RequestId::Number(number) => Digest::domain("ambit/request-number/v1", &[&number.to_be_bytes()]),
            RequestId::String(text) => Digest::domain("ambit/request-text/v1", &[text.as_bytes()]),
        }
    }

    fn has(&self, id: &RequestId) -> bool {
        !self.known.is_empty() && self.known.contains(&Spent::of(id))
    }

    fn put(&mut self, id: &RequestId) {
        let digest = Spent::of(id);
        if self.known.insert(digest) {
            self.in_order.push_back(digest);
        }
        if self.in_order.len() > SPENT
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
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
    /// Another one of its id has no answer yet, or was taken back: theirs could not be told apart.
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
        if requests.under_way.contains_key(id) && !guard!("mcp.request-id", false) {
            return Err(NotTaken::SameId);
        }
        if !guard!("mcp.request-id-spent", !requests.spent.has(id)) {
            return Err(NotTaken::SameId);
        }
        if !guard!("mcp.requests", requests.under_way.len() < MOST) {
            return Err(NotTaken::TooMany);
        }
        requests.under_way.insert(id.clone(), State::default());
        Ok(())
    }

    /// The other side wants no answer to this any more. It is owed until what it asked for has ended, and its id stays taken for good.
    pub(crate) fn cancel(&self, id: &RequestId) {
        self.change(id, |state| state.cancelled = true);
    }

    /// What was asked is done.
    pub(crate) fn end(&self, id: &RequestId) {
        self.change(id, |state| state.ended = true);
    }

    /// The answer is given.
    pub(crate) fn answered(&self, id: &RequestId) {
        self.requests.lock().under_way.remove(id);
        self.changed.notify_waiters();
    }

    /// Waits until nothing is owed.
    pub(crate) async fn nothing(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on nothing is missed, so the look comes after.
            changed.as_mut().enable();
            if self.requests.lock().under_way.is_empty() {
                return;
            }
            changed.await;
        }
    }

    fn change(&self, id: &RequestId, change: impl FnOnce(&mut State)) {
        let mut requests = self.requests.lock();
        let Some(state) = requests.under_way.get_mut(id) else {
            return;
        };
        change(state);
        let State { cancelled, ended } = *state;
        if cancelled {
            requests.spent.put(id);
        }
        // Nobody waits for the answer to what was cancelled.
        if cancelled && ended {
            requests.under_way.remove(id);
            self.changed.notify_waiters();
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
        owed.requests.lock().under_way.len()
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

    /// The answer to what was taken back may still be on its way, and would be that of whatever has its id by then.
    #[test]
    fn the_id_of_what_was_taken_back_is_not_taken_again() {
        let owed = Owed::default();
        let text = RequestId::String("1".into());
        owed.begin(&id(1)).unwrap();
        owed.cancel(&id(1));
        owed.end(&id(1));
        assert_eq!(owed.begin(&id(1)), Err(NotTaken::SameId));
        // Also where the answer went before it was heard.
        owed.begin(&text).unwrap();
        owed.cancel(&text);
        owed.answered(&text);
        assert_eq!(owed.begin(&text), Err(NotTaken::SameId));
        for number in 2..2 * SPENT {
            owed.begin(&id(number)).unwrap();
            owed.end(&id(number));
            owed.cancel(&id(number));
        }
        assert_eq!(owed.begin(&id(2 * SPENT - 1)), Err(NotTaken::SameId));
        let requests = owed.requests.lock();
        assert_eq!(
            (requests.spent.known.len(), requests.spent.in_order.len()),
            (SPENT, SPENT)
        );
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
