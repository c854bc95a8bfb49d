//! Places for calls that run at once, and a share of them for each agent that comes over a network.
//!
//! A call takes a place before anything about it is decided, and gives it back at its end. Where none is free it waits, and whoever has
//! the fewest running is next: an agent that asks for everything waits behind the others, in its own queue. An agent over a
//! network never has all places: what one of them fills with calls that take long, the others could else only wait for.
//!
//! A thread waits in [`Places::take`]; [`Places::wait`] needs none, so that how many wait is not how many threads there are. Both wait in
//! one queue.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_core::error::{Code, Refusal, printable};
use ambit_core::guard;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::cancel::Cancel;

/// How often a thread that waits for a place looks whether its call was taken back.
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
    called: Called,
}

/// Who is told that it was given a place.
#[derive(Debug)]
enum Called {
    Thread(Condvar),
    Task(Notify),
}

/// One of the places, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    agent: Option<String>,
}

/// Who waits in the queue, until dropped. What it was given by then and did not take goes to the next.
#[derive(Debug)]
struct Queued {
    places: Arc<Places>,
    waiter: Arc<Waiter>,
    /// What became of it is not known yet.
    open: bool,
}

impl Places {
    /// So many, of which an agent over a network has at most `share`.
    pub(crate) fn new(all: u32, share: u32, wait: Duration) -> Arc<Places> {
        Arc::new(Places {
            all,
            share,
            wait,
            state: Mutex::default(),
        })
    }

    /// A place, where one can be had without waiting. `agent` is whose share it is of; none where the operator said who calls.
    pub(crate) fn now(self: &Arc<Places>, agent: Option<&str>) -> Option<Place> {
        let mut state = self.state.lock();
        // Who waits has come earlier, unless it may not have one now.
        if self.next(&state).is_some() || !self.has_one_for(&state, agent) {
            return None;
        }
        state.count(agent);
        Some(self.place(agent.map(str::to_owned)))
    }

    /// A place, which this thread waits for.
    ///
    /// # Errors
    /// [`Code::Limit`] where none is free in time, [`Code::Cancelled`] where the call was taken back meanwhile.
    pub(crate) fn take(self: &Arc<Places>, agent: Option<&str>, cancel: Option<&Cancel>) -> Result<Place, Refusal> {
        if let Some(place) = self.now(agent) {
            return Ok(place);
        }
        let queued = self.queue(agent, Called::Thread(Condvar::new()));
        let until = Instant::now() + self.wait;
        while queued.waits_until(until, cancel) && cancel.is_none_or(|cancel| !cancel.is_cancelled()) {}
        queued.end(cancel)
    }

    /// The same, without a thread.
    ///
    /// # Errors
    /// As [`Places::take`].
    pub(crate) async fn wait(
        self: &Arc<Places>,
        agent: Option<&str>,
        cancel: Option<&Cancel>,
    ) -> Result<Place, Refusal> {
        if let Some(place) = self.now(agent) {
            return Ok(place);
        }
        let queued = self.queue(agent, Called::Task(Notify::new()));
        let taken_back = async {
            match cancel {
                Some(cancel) => cancel.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = queued.called() => {}
            () = taken_back => {}
            () = sleep(self.wait) => {}
        }
        queued.end(cancel)
    }

    fn place(self: &Arc<Places>, agent: Option<String>) -> Place {
        Place {
            places: Arc::clone(self),
            agent,
        }
    }

    /// Waits behind who came before. One may have become free since it was looked, so whose turn it is gets it.
    fn queue(self: &Arc<Places>, agent: Option<&str>, called: Called) -> Queued {
        let waiter = Arc::new(Waiter {
            agent: agent.map(str::to_owned),
            called,
        });
        let mut state = self.state.lock();
        state.waiting.push_back(Arc::clone(&waiter));
        self.give(&mut state);
        drop(state);
        Queued {
            places: Arc::clone(self),
            waiter,
            open: true,
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
        if state.taken >= self.all {
            return None;
        }
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
            match &waiter.called {
                Called::Thread(thread) => drop(thread.notify_one()),
                Called::Task(task) => task.notify_one(),
            }
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

    /// Whether it still waited.
    fn leave(&mut self, waiter: &Arc<Waiter>) -> bool {
        let at = self.waiting.iter().position(|other| Arc::ptr_eq(other, waiter));
        at.and_then(|at| self.waiting.remove(at)).is_some()
    }
}

impl Queued {
    /// Sleeps until it was given a place, until then, or until it is time to look whether its call was taken back. Whether it goes on
    /// waiting.
    fn waits_until(&self, until: Instant, cancel: Option<&Cancel>) -> bool {
        let Called::Thread(called) = &self.waiter.called else {
            return false;
        };
        let mut state = self.places.state.lock();
        if !state.waits(&self.waiter) {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        // Only who can be taken back has anything to look at meanwhile.
        called.wait_for(&mut state, if cancel.is_some() { left.min(CANCEL_LOOK) } else { left });
        state.waits(&self.waiter) && Instant::now() < until
    }

    /// Until it was given a place: for ever, where a thread waits.
    async fn called(&self) {
        match &self.waiter.called {
            Called::Task(called) => called.notified().await,
            Called::Thread(_) => std::future::pending().await,
        }
    }

    /// What it was given; or, where it was given nothing, why it waits no more.
    fn end(mut self, cancel: Option<&Cancel>) -> Result<Place, Refusal> {
        let agent = self.waiter.agent.clone();
        let mut state = self.places.state.lock();
        self.open = false;
        if state.leave(&self.waiter) {
            let over = self.places.refusal(&state, agent.as_deref());
            cancel.map_or(Ok(()), Cancel::check)?;
            if !guard!("sandbox.places", false) {
                return Err(over);
            }
            state.count(agent.as_deref());
        }
        drop(state);
        Ok(self.places.place(agent))
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let mut state = self.places.state.lock();
        if !state.leave(&self.waiter) {
            state.free(self.waiter.agent.as_deref());
            self.places.give(&mut state);
        }
    }
}

impl Drop for Place {
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

    async fn waits_without_a_thread(places: &Places, many: usize) {
        let began = Instant::now();
        while places.waiting() < many {
            assert!(began.elapsed() < Duration::from_secs(10), "nobody waits");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn without_a_thread_one_waits_in_the_same_queue() {
        let places = Places::new(1, 1, Duration::from_secs(20));
        let place = places.wait(Some("a"), None).await.unwrap();
        let (says, order) = channel();
        let thread = thread::spawn({
            let (places, says) = (Arc::clone(&places), says.clone());
            move || {
                let place = places.take(Some("b"), None).unwrap();
                says.send("thread").unwrap();
                drop(place);
            }
        });
        waits_without_a_thread(&places, 1).await;
        let task = tokio::spawn({
            let places = Arc::clone(&places);
            async move {
                let place = places.wait(Some("c"), None).await.unwrap();
                says.send("task").unwrap();
                drop(place);
            }
        });
        waits_without_a_thread(&places, 2).await;
        assert!(places.now(Some("d")).is_none());
        drop(place);
        task.await.unwrap();
        thread.join().unwrap();
        assert_eq!(order.iter().collect::<Vec<_>>(), ["thread", "task"]);
        assert_eq!(places.state.lock().taken, 0);
    }

    #[tokio::test]
    async fn who_waits_without_a_thread_is_told_when_it_takes_too_long_or_is_taken_back() {
        let places = Places::new(1, 1, SOON);
        let place = places.now(None).unwrap();
        let refused = places.wait(Some("a"), None).await.unwrap_err();
        assert_eq!(refused.code, Code::Limit);
        let cancel = Cancel::new();
        let long = Places::new(1, 1, Duration::from_secs(20));
        let taken = long.now(None).unwrap();
        let waits = long.wait(None, Some(&cancel));
        let (refused, ()) = tokio::join!(waits, async {
            waits_without_a_thread(&long, 1).await;
            cancel.cancel();
        });
        assert_eq!(refused.unwrap_err().code, Code::Cancelled);
        assert_eq!(long.wait(None, Some(&cancel)).await.unwrap_err().code, Code::Cancelled);
        drop((place, taken));
        for places in [places, long] {
            let state = places.state.lock();
            assert!(state.waiting.is_empty() && state.taken == 0);
        }
    }

    /// Whoever goes takes no place with it: neither its own in the queue nor one that it was given.
    #[tokio::test]
    async fn who_goes_away_leaves_its_place_to_the_next() {
        let places = Places::new(1, 1, Duration::from_secs(20));
        let place = places.now(None).unwrap();
        let waiting = |agent| {
            let places = Arc::clone(&places);
            tokio::spawn(async move { places.wait(Some(agent), None).await.map(drop) })
        };
        let gone = waiting("a");
        waits_without_a_thread(&places, 1).await;
        gone.abort();
        assert!(gone.await.is_err());
        assert_eq!(places.waiting(), 0);
        let given = waiting("b");
        waits_without_a_thread(&places, 1).await;
        let next = waiting("c");
        waits_without_a_thread(&places, 2).await;
        // It has its place, and is not there any more to take it.
        drop(place);
        given.abort();
        assert!(given.await.is_err());
        next.await.unwrap().unwrap();
        assert_eq!(places.state.lock().taken, 0);
    }

    #[test]
    fn many_at_once_never_pass_what_there_is() {
        let places = Places::new(5, 3, Duration::from_secs(20));
        let most = Arc::new(Mutex::new((0_u32, 0_u32)));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        let tasks: Vec<_> = (0..20_usize)
            .map(|at| {
                let (places, most) = (Arc::clone(&places), Arc::clone(&most));
                runtime.spawn(async move {
                    let agent = ["a", "b", "c"][at % 3];
                    for _ in 0..50 {
                        let place = places.wait(Some(agent), None).await.unwrap();
                        let state = places.state.lock();
                        let mut most = most.lock();
                        most.0 = most.0.max(state.taken);
                        most.1 = most.1.max(state.running(agent));
                        drop((most, state, place));
                    }
                })
            })
            .collect();
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
        tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
        let (all, one) = *most.lock();
        assert!(all <= 5 && one <= 3, "{all} {one}");
        assert_eq!(places.state.lock().taken, 0);
    }
}
