//! Which calls run right now, each once, and which of them somebody says no to meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ambit_core::digest::Digest;
use parking_lot::{Condvar, Mutex};

/// The calls that run, or are written about, in this process.
#[derive(Debug, Default)]
pub(crate) struct Running {
    calls: Mutex<BTreeSet<String>>,
    freed: Condvar,
    /// How many noes to a hold wait until its call does not run any more.
    objections: Mutex<BTreeMap<Digest, usize>>,
    /// Holds of which the ledger has from this process that their calls have no component to go on in.
    stuck: Mutex<BTreeSet<Digest>>,
}

/// A call that runs, until dropped.
#[derive(Debug)]
pub(crate) struct Alone<'a> {
    running: &'a Running,
    call: String,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.running.calls.lock().remove(&self.call);
        self.running.freed.notify_all();
    }
}

/// A no that waits for its turn, until dropped.
#[derive(Debug)]
pub(crate) struct Objection<'a> {
    running: &'a Running,
    hold: Digest,
}

impl Drop for Objection<'_> {
    fn drop(&mut self) {
        let mut objections = self.running.objections.lock();
        if let Some(count) = objections.get_mut(&self.hold) {
            *count -= 1;
            if *count == 0 {
                objections.remove(&self.hold);
            }
        }
    }
}

impl Running {
    /// The right to run a call, or to write about one that does not run; none where it runs already.
    pub(crate) fn alone(&self, call: &str) -> Option<Alone<'_>> {
        self.alone_within(call, Duration::ZERO)
    }

    /// The same for whoever can wait for it so long.
    pub(crate) fn alone_within(&self, call: &str, patience: Duration) -> Option<Alone<'_>> {
        let until = Instant::now() + patience;
        let mut calls = self.calls.lock();
        while !calls.insert(call.to_owned()) {
            if self.freed.wait_until(&mut calls, until).timed_out() {
                return None;
            }
        }
        Some(Alone {
            running: self,
            call: call.to_owned(),
        })
    }

    /// Whether a call runs.
    pub(crate) fn has(&self, call: &str) -> bool {
        self.calls.lock().contains(call)
    }

    /// Says no to a hold: from here on its effect gets no intent, until the no is on the ledger, or turns out to be none.
    pub(crate) fn object(&self, hold: Digest) -> Objection<'_> {
        *self.objections.lock().entry(hold).or_default() += 1;
        Objection { running: self, hold }
    }

    /// Whether it is news that a hold's call has no component to go on in. It is none from here on.
    pub(crate) fn is_news(&self, hold: Digest) -> bool {
        self.stuck.lock().insert(hold)
    }

    /// Whether somebody is saying no to a hold.
    pub(crate) fn is_objected(&self, hold: &Digest) -> bool {
        self.objections.lock().contains_key(hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_runs_once_and_whoever_waits_comes_next() {
        let running = Running::default();
        let first = running.alone("c_1");
        assert!(first.is_some() && running.has("c_1"));
        assert!(running.alone("c_1").is_none());
        assert!(running.alone("c_2").is_some(), "another call");
        assert!(running.alone_within("c_1", Duration::from_millis(5)).is_none());
        std::thread::scope(|scope| {
            let next = scope.spawn(|| running.alone_within("c_1", Duration::from_secs(60)).is_some());
            std::thread::sleep(Duration::from_millis(10));
            drop(first);
            assert!(next.join().is_ok_and(|there| there));
        });
        assert!(!running.has("c_1"));
    }

    #[test]
    fn an_objection_stands_until_the_last_of_them_is_dropped() {
        let (running, hold) = (Running::default(), Digest::of(b"hold"));
        let one = running.object(hold);
        let other = running.object(hold);
        assert!(running.is_objected(&hold) && !running.is_objected(&Digest::of(b"other")));
        drop(one);
        assert!(running.is_objected(&hold));
        drop(other);
        assert!(!running.is_objected(&hold));
    }
}
