//! The guests of a call, and the fuel that they used.
//!
//! A call that waits and goes on is computed anew each time, by a guest of its own. Where fuel is set aside for the call, each of them
//! begins with an entry and ends with one, the last with the call's own; so what they used together is known, or that it is not.

use crate::money::{Period, Unit};

use super::body::{CallAccepted, CallFinished, CallResumed, GuestEnded, Reservation, Settlement};

/// The guests of a call so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guests {
    /// How many began.
    began: u32,
    /// Whether the last of them has no end.
    runs: bool,
    /// Fuel of those that ended; none where one ended with its host.
    used: Option<u64>,
}

impl Guests {
    /// Of a call that was accepted.
    pub(super) fn begin(accepted: &CallAccepted) -> Self {
        let runs = accepted.runs_a_guest();
        Self {
            began: u32::from(runs),
            runs,
            used: Some(0),
        }
    }

    /// Another one begins; whether it is the next.
    pub(super) fn resume(&mut self, resumed: &CallResumed) -> bool {
        let next = self.next();
        if self.runs {
            self.used = None;
        }
        self.began = next;
        self.runs = true;
        resumed.guest == next
    }

    /// One ended before its call did; whether it is the one that runs.
    pub(super) fn end(&mut self, ended: &GuestEnded) -> bool {
        let running = self.runs && ended.guest == self.began;
        self.used = self.used.map(|used| used.saturating_add(ended.fuel));
        self.runs = false;
        running
    }

    /// The number that the next one has: 2 for the first that goes on.
    #[must_use]
    pub const fn next(&self) -> u32 {
        self.began.saturating_add(1)
    }

    /// The fuel of all of them; none where one of them has no end, and nobody knows.
    #[must_use]
    pub const fn used(&self) -> Option<u64> {
        if self.runs { None } else { self.used }
    }

    /// How many began, and the fuel of all of them where the last used `last`; none where nobody knows. One alone is told as what its call
    /// used.
    #[must_use]
    pub fn together(&self, last: u64) -> Option<(u32, Option<u64>)> {
        let used = self.used.map(|used| used.saturating_add(last));
        (self.began > 1).then_some((self.began, used))
    }

    /// Whether a call's end settles no less fuel than its guests used, of what was set aside for it; and all of that where nobody knows.
    pub(super) fn settled_by(&self, accepted: &CallAccepted, finished: &CallFinished) -> bool {
        let used = self.used.map_or(u64::MAX, |used| used.saturating_add(finished.fuel));
        let settled = |one: &Reservation| {
            let of = |settlement: &&Settlement| settlement.budget == one.budget && settlement.window == one.window;
            finished.settled.iter().find(of).map(|settlement| settlement.amount)
        };
        let fuel = accepted.reserved.iter().filter(|one| counts_fuel(one));
        fuel.map(|one| (one.amount, settled(one)))
            .all(|(reserved, settled)| settled.is_none_or(|settled| settled >= used.min(reserved)))
    }
}

/// Whether fuel is what is set aside.
#[must_use]
pub fn counts_fuel(reserved: &Reservation) -> bool {
    let period: Option<Period> = reserved.window.parse().ok();
    period.is_some_and(|period| period.unit() == Unit::Fuel)
}
