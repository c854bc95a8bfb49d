//! Turns at the processors for guests that compute for long.
//!
//! A guest that is done within a tick needs none: the system lets a thread that wakes run at once. One that computes for
//! longer takes a turn at its first tick and passes it on at each further one, so no more of them compute at once than
//! there are processors, however many there are; else a short call would wait behind all of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Who computes for long, and who waits for it.
pub(super) struct Turns {
    /// How many wait, for the look that each tick takes.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
}

struct Queue {
    free: usize,
    waiters: VecDeque<Arc<Waiter>>,
}

struct Waiter {
    thread: Thread,
    called: AtomicBool,
}

impl Turns {
    /// Turns for `processors` guests at once.
    pub(super) fn new(processors: usize) -> Arc<Turns> {
        Arc::new(Turns {
            waiting: AtomicUsize::new(0),
            queue: Mutex::new(Queue {
                free: processors.max(1),
                waiters: VecDeque::new(),
            }),
        })
    }

    /// Waits for a turn behind those that wait already.
    fn take(&self) {
        let mut queue = self.queue.lock();
        if queue.free > 0 {
            queue.free -= 1;
            return;
        }
        let waiter = self.line_up(&mut queue);
        drop(queue);
        waiter.wait();
    }

    /// Gives a turn back, or to the first that waits.
    fn give(&self) {
        let mut queue = self.queue.lock();
        match queue.waiters.pop_front() {
            Some(next) => self.call(&next),
            None => queue.free += 1,
        }
    }

    /// Gives a turn to the first that waits, and waits for another.
    fn pass(&self) {
        let mut queue = self.queue.lock();
        let Some(next) = queue.waiters.pop_front() else {
            return;
        };
        let waiter = self.line_up(&mut queue);
        self.call(&next);
        drop(queue);
        waiter.wait();
    }

    fn line_up(&self, queue: &mut Queue) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter {
            thread: thread::current(),
            called: AtomicBool::new(false),
        });
        queue.waiters.push_back(Arc::clone(&waiter));
        self.waiting.fetch_add(1, Ordering::Relaxed);
        waiter
    }

    fn call(&self, next: &Waiter) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        next.called.store(true, Ordering::Release);
        next.thread.unpark();
    }
}

impl Waiter {
    fn wait(&self) {
        while !self.called.load(Ordering::Acquire) {
            thread::park();
        }
    }
}

/// One guest's turn, once it has one. Given back when dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    held: bool,
}

impl Turn {
    /// Of a guest that begins: it has none.
    pub(super) fn none_yet(turns: &Arc<Turns>) -> Turn {
        Turn {
            turns: Arc::clone(turns),
            held: false,
        }
    }

    /// What a guest does that still computes at a tick. Returns how long it waited.
    pub(super) fn tick(&mut self) -> Duration {
        if self.held && self.turns.waiting.load(Ordering::Relaxed) == 0 {
            return Duration::ZERO;
        }
        let begun = Instant::now();
        if self.held {
            self.turns.pass();
        } else {
            self.turns.take();
            self.held = true;
        }
        begun.elapsed()
    }

    /// Leaves the processor to others, for something that is waited for.
    pub(super) fn give(&mut self) {
        if std::mem::take(&mut self.held) {
            self.turns.give();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.give();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_processors_and_all_come_to_an_end() {
        let turns = Turns::new(2);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let mut turn = Turn::none_yet(&turns);
                    for round in 0..50 {
                        turn.tick();
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::sleep(Duration::from_micros(50));
                        now.fetch_sub(1, Ordering::SeqCst);
                        if round % 7 == 0 {
                            turn.give();
                        }
                    }
                });
            }
        });
        assert!((1..=2).contains(&most.into_inner()));
        let queue = turns.queue.lock();
        assert_eq!((queue.free, queue.waiters.len()), (2, 0));
        assert_eq!(turns.waiting.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_turn_goes_round() {
        let turns = Turns::new(1);
        let order = Mutex::new(Vec::new());
        let mut first = Turn::none_yet(&turns);
        first.tick();
        thread::scope(|scope| {
            for guest in [1, 2] {
                let (turns, order) = (&turns, &order);
                scope.spawn(move || {
                    let mut turn = Turn::none_yet(turns);
                    for _ in 0..2 {
                        turn.tick();
                        order.lock().push(guest);
                    }
                });
                while turns.waiting.load(Ordering::SeqCst) < guest {
                    thread::yield_now();
                }
            }
            assert!(first.tick() > Duration::ZERO);
            order.lock().push(0);
            drop(first);
        });
        // Both had a turn before the first had its second.
        assert_eq!(order.into_inner(), [1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_guest_that_is_alone_waits_for_nobody() {
        let mut turn = Turn::none_yet(&Turns::new(1));
        turn.tick();
        assert_eq!(turn.tick(), Duration::ZERO);
    }
}
