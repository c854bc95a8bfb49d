//! Places for calls that run at once, and a share of them for each agent that comes over a network.
//!
//! A call takes a place before anything about it is decided, and gives it back at its end. Where none is free it waits, and whoever has
//! the fewest running is next: an agent that asks for everything waits behind the others, in its own queue. An agent over a
//! network never has all places: what one of them fills with calls that take long, the others could else only wait for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_core::error::{Code, Refusal, printable};
use ambit_core::guard;
use parking_lot::{Condvar, Mutex};

use crate::cancel::Cancel;

/// How often a call that waits for a place looks whether it was taken back.
const CANCEL_LOOK: Duration = Duration::from_millis(20);

/// The places of a host.
#[derive(Debug)]
pub(crate) struct Places {
    all: u32,
    /// How many of them an agent over a network has at most.
    share: u32,
    /// How long a call waits for a place: as long as one may compute, so that a refusal means that calls pile up.
    wait: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: u32,
    /// What agents over a network have taken; those that have nothing are not in it.
    by_agent: BTreeMap<String, u32>,
    /// In the order in which they came.
    waiting: VecDeque<Arc<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    agent: Option<String>,
    /// Woken when it was given a place.
    called: Condvar,
}

/// One of the places, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<'p> {
    places: &'p Places,
    agent: Option<String>,
}

impl Places {
    /// So many, of which an agent over a network has at most `share`.
    pub(crate) fn new(all: u32, share: u32, wait: Duration) -> Places {
        Places {
            all,
            share,
            wait,
            state: Mutex::default(),
        }
    }

    /// A place, waited for. `agent` is whose share it is of; none where the operator said who calls.
    ///
    /// # Errors
    /// [`Code::Limit`] where none is free in time, [`Code::Cancelled`] where the call was taken back meanwhile.
    pub(crate) fn take(&self, agent: Option<&str>, cancel: Option<&Cancel>) -> Result<Place<'_>, Refusal> {
        let agent = agent.map(str::to_owned);
        let mut state = self.state.lock();
        // Who waits has come earlier, unless it may not have one now.
        if self.next(&state).is_none() && self.has_one_for(&state, agent.as_deref()) {
            state.count(agent.as_deref());
            return Ok(Place { places: self, agent });
        }
        let waiter = Arc::new(Waiter {
            agent: agent.clone(),
            called: Condvar::new(),
        });
        state.waiting.push_back(Arc::clone(&waiter));
        let until = Instant::now() + self.wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Only who can be taken back has anything to look at meanwhile.
            let wait = if cancel.is_some() { left.min(CANCEL_LOOK) } else { left };
            waiter.called.wait_for(&mut state, wait);
            let place = || Place {
                places: self,
                agent: agent.clone(),
            };
            if !state.waits(&waiter) {
                return Ok(place());
            }
            let taken_back = cancel.map_or(Ok(()), Cancel::check);
            if taken_back.is_ok() && Instant::now() < until {
                continue;
            }
            state.leave(&waiter);
            let over = self.refusal(&state, agent.as_deref());
            drop(state);
            taken_back?;
            if !guard!("sandbox.places", false) {
                return Err(over);
            }
            self.state.lock().count(agent.as_deref());
            return Ok(place());
        }
    }

    /// How many calls wait for a place.
    pub(crate) fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Whether there is a place that this agent may have.
    fn has_one_for(&self, state: &State, agent: Option<&str>) -> bool {
        let within = agent.is_none_or(|agent| state.running(agent) < self.share);
        state.taken < self.all && guard!("sandbox.share", within)
    }

    /// Whose turn it is of those who wait: of those who may have a place, whoever has the fewest, and of these the first.
    fn next(&self, state: &State) -> Option<usize> {
        let may = |waiter: &Waiter| self.has_one_for(state, waiter.agent.as_deref());
        let has = |waiter: &Waiter| waiter.agent.as_deref().map_or(0, |agent| state.running(agent));
        let waiting = state.waiting.iter().enumerate();
        let may = waiting.filter(|(_, waiter)| may(waiter));
        may.min_by_key(|(_, waiter)| has(waiter)).map(|(at, _)| at)
    }

    /// Gives what is free to those who wait.
    fn give(&self, state: &mut State) {
        while let Some(waiter) = self.next(state).and_then(|at| state.waiting.remove(at)) {
            state.count(waiter.agent.as_deref());
            waiter.called.notify_one();
        }
    }

    fn refusal(&self, state: &State, agent: Option<&str>) -> Refusal {
        let (all, share, ms) = (self.all, self.share, self.wait.as_millis());
        match agent.filter(|agent| state.running(agent) >= share && state.taken < self.all) {
            Some(agent) => Refusal::new(
                Code::Limit,
                format!(
                    "the host runs {share} calls of the agent `{}` at once, and none ended in {ms} ms",
                    printable(agent)
                ),
            )
            .advise("call again later, or ask the operator to raise `calls_per_agent` in [server]"),
            None => Refusal::new(
                Code::Limit,
                format!("the host runs {all} calls at once, and none ended in {ms} ms"),
            )
            .advise("call again later, or ask the operator to raise `concurrent_calls` in [limits]"),
        }
    }
}

impl State {
    fn running(&self, agent: &str) -> u32 {
        self.by_agent.get(agent).copied().unwrap_or_default()
    }

    fn count(&mut self, agent: Option<&str>) {
        self.taken = self.taken.saturating_add(1);
        if let Some(agent) = agent {
            let running = self.by_agent.entry(agent.to_owned()).or_default();
            *running = running.saturating_add(1);
        }
    }

    fn free(&mut self, agent: Option<&str>) {
        self.taken = self.taken.saturating_sub(1);
        let Some(agent) = agent else { return };
        if let Some(running) = self.by_agent.get_mut(agent) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                self.by_agent.remove(agent);
            }
        }
    }

    fn waits(&self, waiter: &Arc<Waiter>) -> bool {
        self.waiting.iter().any(|other| Arc::ptr_eq(other, waiter))
    }

    fn leave(&mut self, waiter: &Arc<Waiter>) {
        self.waiting.retain(|other| !Arc::ptr_eq(other, waiter));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.places.state.lock();
        state.free(self.agent.as_deref());
        self.places.give(&mut state);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    fn waits(places: &Places, many: usize) {
        let began = Instant::now();
        while places.waiting() < many {
            assert!(began.elapsed() < Duration::from_secs(10), "nobody waits");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn one_agent_leaves_places_for_others() {
        let places = Places::new(4, 3, SOON);
        let own: Vec<_> = (0..3).map(|_| places.take(Some("a"), None).unwrap()).collect();
        let refused = places.take(Some("a"), None).unwrap_err();
        assert!(
            refused.message.contains("3 calls of the agent `a`"),
            "{}",
            refused.message
        );
        assert!(refused.advice.unwrap().contains("calls_per_agent"));
        let other = places.take(Some("b"), None).unwrap();
        // Now there is none at all, and that is what is said.
        let refused = places.take(Some("a"), None).unwrap_err();
        assert!(refused.message.contains("the host runs 4 calls"), "{}", refused.message);
        drop(own);
        places.take(Some("a"), None).unwrap();
        drop(other);
        assert!(places.state.lock().by_agent.is_empty() && places.state.lock().taken == 0);
    }

    #[test]
    fn whom_the_operator_named_has_no_share() {
        let places = Places::new(2, 1, SOON);
        let _both = (places.take(None, None).unwrap(), places.take(None, None).unwrap());
        assert!(places.take(None, None).is_err());
    }

    #[test]
    fn the_next_is_whoever_has_the_fewest_and_then_whoever_came_first() {
        let places = Places::new(4, 3, Duration::from_secs(20));
        let mut own: Vec<_> = (0..3).map(|_| places.take(Some("a"), None).unwrap()).collect();
        let mut other = vec![places.take(Some("b"), None).unwrap()];
        let (says, order) = channel();
        thread::scope(|scope| {
            for (at, agent) in ["a", "a", "b", "c"].into_iter().enumerate() {
                let (says, places) = (says.clone(), &places);
                scope.spawn(move || {
                    let place = places.take(Some(agent), None).unwrap();
                    says.send(agent).unwrap();
                    // Until whoever looks has seen it.
                    thread::sleep(SOON);
                    drop(place);
                });
                waits(places, at + 1);
            }
            drop(own.pop());
            let first: Vec<_> = (0..2).map(|_| order.recv().unwrap()).collect();
            assert_eq!(first, ["c", "b"]);
            other.clear();
            let rest: Vec<_> = (0..2).map(|_| order.recv().unwrap()).collect();
            assert_eq!(rest, ["a", "a"]);
        });
    }

    #[test]
    fn who_is_taken_back_waits_no_more() {
        let places = Places::new(1, 1, Duration::from_secs(20));
        let place = places.take(None, None).unwrap();
        let cancel = Cancel::new();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| places.take(None, Some(&cancel)).map(drop));
            waits(&places, 1);
            cancel.cancel();
            assert_eq!(waiting.join().unwrap().unwrap_err().code, Code::Cancelled);
        });
        assert!(places.state.lock().waiting.is_empty());
        drop(place);
        places.take(None, None).unwrap();
    }

    #[test]
    fn many_at_once_never_pass_what_there_is() {
        let places = Places::new(5, 3, Duration::from_secs(20));
        let most = Mutex::new((0_u32, 0_u32));
        thread::scope(|scope| {
            for at in 0..40_u32 {
                let (places, most) = (&places, &most);
                scope.spawn(move || {
                    let agent = ["a", "b", "c"][(at % 3) as usize];
                    for _ in 0..50 {
                        let place = places.take(Some(agent), None).unwrap();
                        let state = places.state.lock();
                        let mut most = most.lock();
                        most.0 = most.0.max(state.taken);
                        most.1 = most.1.max(state.running(agent));
                        drop((most, state, place));
                    }
                });
            }
        });
        let (all, one) = *most.lock();
        assert!(all <= 5 && one <= 3, "{all} {one}");
        assert_eq!(places.state.lock().taken, 0);
    }
}
