//! The threads that calls are made on, once they have a place.
//!
//! There are never more than there were places taken at once: where a thread is about to be free the next call waits for that, and no other
//! thread is made for it. Of those that are free the one that was last at work has the next call: what it needs is in the caches still,
//! and those that nobody needs any more end, with the memory that each of them keeps.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::http::work::NotDone;

/// How long a thread is kept that has nothing to do.
const KEPT: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce() + Send>;

/// The threads of calls.
pub(crate) struct CallThreads {
    state: Arc<Mutex<State>>,
    kept: Duration,
    /// What each has for its stack, in bytes; none is what the system gives.
    stack: Option<usize>,
}

#[derive(Default)]
struct State {
    /// How many calls have a place, and not given it back.
    placed: usize,
    /// How many threads there are, and how many there were.
    threads: usize,
    made: u64,
    /// Whether there are fewer than there should be.
    short: bool,
    /// Those that have nothing to do, the one that was last at work at the end.
    idle: Vec<Idle>,
    /// What waits for a thread that is about to be free, or to begin.
    next: VecDeque<Work>,
}

struct Idle {
    number: u64,
    gives: SyncSender<Work>,
}

impl Default for CallThreads {
    fn default() -> CallThreads {
        CallThreads {
            state: Arc::default(),
            kept: KEPT,
            stack: None,
        }
    }
}

impl fmt::Debug for CallThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallThreads").finish_non_exhaustive()
    }
}

impl CallThreads {
    /// Does what may block for a call that has this place, and gives that back afterwards: whoever has it next finds the thread free, or
    /// about to be.
    ///
    /// # Errors
    /// [`NotDone::NoThread`].
    pub(crate) fn begin<P: Send + 'static>(
        &self,
        place: P,
        act: impl FnOnce(&P) + Send + 'static,
    ) -> Result<(), NotDone> {
        let state = Arc::downgrade(&self.state);
        let work: Work = Box::new(move || {
            // Who waits for it is told by what is dropped, and the log by the panic's message.
            drop(catch_unwind(AssertUnwindSafe(|| act(&place))));
            if let Some(state) = state.upgrade() {
                state.lock().placed -= 1;
            }
            drop(place);
        });
        let mut state = self.state.lock();
        state.placed += 1;
        if let Some(idle) = state.idle.pop() {
            drop(state);
            // It waits for this, and there is nothing else that it could have been given.
            return idle.gives.try_send(work).map_err(|_| NotDone::Lost);
        }
        self.as_many_as_placed(&mut state);
        if state.threads == 0 {
            state.placed -= 1;
            return Err(NotDone::NoThread);
        }
        state.next.push_back(work);
        Ok(())
    }

    /// Makes what is missing, which may be more than one where the system had nothing left before.
    fn as_many_as_placed(&self, state: &mut State) {
        while state.threads < state.placed {
            if let Err(error) = self.another(state) {
                if !std::mem::replace(&mut state.short, true) {
                    let threads = state.threads;
                    tracing::warn!(%error, threads, "there are too few threads for calls, which wait for one another");
                }
                return;
            }
        }
        state.short = false;
    }

    /// How many there were.
    #[cfg(test)]
    pub(crate) fn made(&self) -> u64 {
        self.state.lock().made
    }

    fn another(&self, state: &mut State) -> io::Result<()> {
        let (number, all, kept) = (state.made, Arc::downgrade(&self.state), self.kept);
        let mut thread = thread::Builder::new().name("ambit-call".to_owned());
        if let Some(bytes) = self.stack {
            thread = thread.stack_size(bytes);
        }
        thread.spawn(move || {
            let (gives, given) = sync_channel(1);
            while let Some(work) = next(&all, number, &gives, &given, kept) {
                work();
            }
        })?;
        state.made += 1;
        state.threads += 1;
        Ok(())
    }
}

/// What a thread does next; nothing where it is to end, as nobody needs it any more.
fn next(
    all: &Weak<Mutex<State>>,
    number: u64,
    gives: &SyncSender<Work>,
    given: &Receiver<Work>,
    kept: Duration,
) -> Option<Work> {
    {
        let all = all.upgrade()?;
        let mut all = all.lock();
        if let Some(work) = all.next.pop_front() {
            return Some(work);
        }
        all.idle.push(Idle {
            number,
            gives: gives.clone(),
        });
    }
    match given.recv_timeout(kept) {
        Ok(work) => return Some(work),
        // It has the other end itself.
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
    }
    let all = all.upgrade()?;
    let mut all = all.lock();
    match all.idle.iter().position(|idle| idle.number == number) {
        Some(at) => {
            all.idle.remove(at);
            all.threads -= 1;
            None
        }
        // It is given something right now.
        None => {
            drop(all);
            given.recv().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use std::sync::mpsc::channel;
    use std::thread::ThreadId;
    use std::time::Instant;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A place that says when it is given back, as the next call would be told.
    struct Place(std::sync::mpsc::Sender<ThreadId>);

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }

    #[test]
    fn a_thread_that_is_about_to_be_free_has_the_next_call() {
        let (threads, (says, free)) = (CallThreads::default(), channel());
        let mut on = Vec::new();
        for _ in 0..2_000 {
            threads.begin(Place(says.clone()), |_| ()).unwrap();
            // Its thread is not free yet.
            on.push(free.recv_timeout(SOON).unwrap());
        }
        on.dedup();
        assert_eq!((on.len(), threads.made()), (1, 1));
    }

    /// Begins calls that wait until what is given back is dropped.
    fn busy(threads: &CallThreads, many: usize) -> Vec<std::sync::mpsc::Sender<()>> {
        let begin = |_| {
            let (ends, ended) = channel::<()>();
            threads.begin((), move |()| assert!(ended.recv().is_err())).unwrap();
            ends
        };
        (0..many).map(begin).collect()
    }

    fn until(is: impl Fn() -> bool) {
        let began = Instant::now();
        while !is() {
            assert!(began.elapsed() < SOON, "it never is");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn as_many_run_at_once_as_have_a_place_and_the_last_at_work_is_the_next() {
        let threads = CallThreads::default();
        let all = busy(&threads, 8);
        until(|| threads.state.lock().next.is_empty());
        assert_eq!(threads.state.lock().threads, 8);
        drop(all);
        until(|| threads.state.lock().idle.len() == 8);
        let last = threads.state.lock().idle.last().unwrap().number;
        for _ in 0..20 {
            let one = busy(&threads, 1);
            assert_eq!(threads.state.lock().idle.len(), 7);
            drop(one);
            until(|| threads.state.lock().idle.len() == 8);
            assert_eq!(threads.state.lock().idle.last().unwrap().number, last);
        }
        assert_eq!(threads.made(), 8);
    }

    #[test]
    fn a_thread_that_nobody_needs_ends_and_another_is_made_when_somebody_does() {
        let threads = CallThreads {
            kept: Duration::from_millis(5),
            ..CallThreads::default()
        };
        for made in 1..=20 {
            drop(busy(&threads, 1));
            until(|| threads.state.lock().threads == 0);
            assert_eq!(threads.made(), made);
        }
        assert!(threads.state.lock().idle.is_empty());
    }

    /// What is given to a thread at the moment that it would end is done.
    #[test]
    fn nothing_is_lost_where_a_thread_is_about_to_end() {
        let threads = CallThreads {
            kept: Duration::from_micros(50),
            ..CallThreads::default()
        };
        let (says, hears) = channel();
        for number in 0..5_000 {
            let says = says.clone();
            threads.begin((), move |()| says.send(number).unwrap()).unwrap();
            assert_eq!(hears.recv_timeout(SOON), Ok(number));
            if number % 2 == 0 {
                thread::sleep(Duration::from_micros(number % 100));
            }
        }
    }

    #[test]
    fn a_panic_ends_its_call_and_no_thread() {
        let (threads, (says, free)) = (CallThreads::default(), channel());
        for _ in 0..3 {
            threads.begin(Place(says.clone()), |_| panic!("as is tested")).unwrap();
            free.recv_timeout(SOON).unwrap();
        }
        let state = threads.state.lock();
        assert_eq!((state.made, state.placed), (1, 0));
    }

    #[test]
    fn what_has_no_thread_is_not_done_and_keeps_nothing() {
        let (says, free) = channel();
        let threads = CallThreads {
            // No machine has so much.
            stack: Some(1 << 60),
            ..CallThreads::default()
        };
        let begun = threads.begin(Place(says), |_| panic!("it has a thread"));
        assert!(matches!(begun, Err(NotDone::NoThread)), "{begun:?}");
        assert!(free.try_recv().is_ok(), "its place is kept");
        assert_eq!(threads.state.lock().placed, 0);
    }

    /// A call may be the last that has them.
    #[test]
    fn what_runs_goes_on_where_nobody_has_its_threads_any_more() {
        let threads = CallThreads::default();
        let (says, hears) = channel();
        let (ends, ended) = channel::<()>();
        let act = move |(): &()| {
            assert!(ended.recv().is_err());
            says.send(7).unwrap();
        };
        threads.begin((), act).unwrap();
        until(|| threads.state.lock().next.is_empty());
        drop(threads);
        drop(ends);
        assert_eq!(hears.recv_timeout(SOON), Ok(7));
    }
}
