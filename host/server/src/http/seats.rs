//! Who is connected, and who has requests under way: so that nobody keeps others out by having more of either.
//!
//! A connection is busy while a request of a caller who is known is served over it, and idle at any other time: before its first
//! request, between two, while it shows nothing that is known, and while it does not read its answer. Where all seats are taken,
//! whoever comes gets that of the connection that has been idle for the longest; only where all are busy is it told to come later.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ambit_core::guard;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The seats of a listener.
#[derive(Debug)]
pub(super) struct Seats {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Counts what happens: seats that are taken, and that become idle.
    now: u64,
    /// By number.
    taken: HashMap<u64, Taken>,
    /// The numbers of those that are idle, by since when.
    idle: BTreeMap<u64, u64>,
}

#[derive(Debug)]
struct Taken {
    leaves: Arc<Notify>,
    idle_since: Option<u64>,
}

/// A connection's seat, until dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    leaves: Arc<Notify>,
}

/// A seat that nobody else gets, until dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Seat>);

impl Seats {
    pub(super) fn new(most: usize) -> Arc<Seats> {
        Arc::new(Seats {
            most,
            state: Mutex::default(),
        })
    }

    /// A seat for who comes; none where all are busy.
    pub(super) fn take(self: &Arc<Seats>) -> Option<Seat> {
        let mut state = self.state.lock();
        if !guard!("http.connections", state.taken.len() < self.most) {
            let (_, number) = state.idle.pop_first()?;
            if let Some(taken) = state.taken.remove(&number) {
                taken.leaves.notify_one();
            }
        }
        let (number, leaves) = (state.tick(), Arc::<Notify>::default());
        let taken = Taken {
            leaves: Arc::clone(&leaves),
            idle_since: Some(number),
        };
        state.taken.insert(number, taken);
        state.idle.insert(number, number);
        Some(Seat {
            seats: Arc::clone(self),
            number,
            leaves,
        })
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn set_idle(&mut self, number: u64, idle: bool) {
        let since = idle.then(|| self.tick());
        let Some(taken) = self.taken.get_mut(&number) else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut taken.idle_since, since) {
            self.idle.remove(&before);
        }
        if let Some(since) = since {
            self.idle.insert(since, number);
        }
    }
}

impl Seat {
    /// Waits until somebody else has it.
    pub(super) async fn lost(&self) {
        self.leaves.notified().await;
    }

    /// A known caller's request is served over it.
    pub(super) fn busy(self: &Arc<Seat>) -> Busy {
        self.seats
            .state
            .lock()
            .set_idle(self.number, guard!("http.busy", false));
        Busy(Arc::clone(self))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.seats.state.lock();
        if let Some(since) = state.taken.remove(&self.number).and_then(|taken| taken.idle_since) {
            state.idle.remove(&since);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.seats.state.lock().set_idle(self.0.number, true);
    }
}

/// Requests of an agent beside its share, for what it has under way: as each is short, a few are enough.
const BESIDE: usize = 8;

/// The requests that are under way, by agent.
#[derive(Debug)]
pub(super) struct Requests {
    most: usize,
    under_way: Mutex<HashMap<String, usize>>,
}

/// A request of an agent, until dropped.
#[derive(Debug)]
pub(crate) struct UnderWay {
    requests: Arc<Requests>,
    agent: String,
}

impl Requests {
    /// So many of each agent.
    pub(super) fn new(most: usize) -> Arc<Requests> {
        Arc::new(Requests {
            most,
            under_way: Mutex::default(),
        })
    }

    /// How many of one agent may be under way.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Takes a request of an agent; none where it has as many as it may have.
    pub(super) fn begin(self: &Arc<Requests>, agent: &str) -> Option<UnderWay> {
        self.begin_of(agent, self.most)
    }

    /// The same beside its share, for what is about its own calls: those may be what it is full of. No agent's name has a space in it.
    pub(super) fn begin_beside(self: &Arc<Requests>, agent: &str) -> Option<UnderWay> {
        self.begin_of(&format!("beside {agent}"), BESIDE)
    }

    fn begin_of(self: &Arc<Requests>, who: &str, most: usize) -> Option<UnderWay> {
        let mut under_way = self.under_way.lock();
        let own = under_way.entry(who.to_owned()).or_default();
        if !guard!("http.share", *own < most) {
            return None;
        }
        *own += 1;
        Some(UnderWay {
            requests: Arc::clone(self),
            agent: who.to_owned(),
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = self.requests.under_way.lock();
        if let Some(own) = under_way.get_mut(&self.agent) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                under_way.remove(&self.agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn is_lost(seat: &Seat) -> bool {
        timeout(Duration::from_millis(20), seat.lost()).await.is_ok()
    }

    #[tokio::test]
    async fn whoever_has_been_idle_for_the_longest_makes_room() {
        let seats = Seats::new(2);
        let first = Arc::new(seats.take().unwrap());
        let second = Arc::new(seats.take().unwrap());
        // It served something since, so the second one has been idle for longer.
        drop(first.busy());
        let third = seats.take().unwrap();
        assert!(is_lost(&second).await);
        assert!(!is_lost(&first).await && !is_lost(&third).await);
        // What lost its seat gives none back when it goes.
        drop(second);
        let fourth = seats.take().unwrap();
        assert!(is_lost(&first).await);
        drop((first, third, fourth));
        let state = seats.state.lock();
        assert!(state.taken.is_empty() && state.idle.is_empty());
    }

    #[tokio::test]
    async fn whoever_is_busy_is_not_disturbed() {
        let seats = Seats::new(2);
        let all: Vec<_> = (0..2).map(|_| Arc::new(seats.take().unwrap())).collect();
        let mut busy: Vec<_> = all.iter().map(Seat::busy).collect();
        assert!(seats.take().is_none());
        drop(busy.pop());
        let next = seats.take().unwrap();
        assert!(is_lost(&all[1]).await && !is_lost(&all[0]).await);
        drop(next);
        assert_eq!(seats.state.lock().taken.len(), 1);
    }

    #[test]
    fn an_agent_has_so_many_requests_under_way() {
        let requests = Requests::new(2);
        let both = (requests.begin("a").unwrap(), requests.begin("a").unwrap());
        assert!(requests.begin("a").is_none());
        let other = requests.begin("b").unwrap();
        drop(both.0);
        let again = requests.begin("a").unwrap();
        drop((both.1, other, again));
        assert!(requests.under_way.lock().is_empty());
    }
}
