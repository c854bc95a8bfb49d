//! How budgets stand: what the ledger has of each, at one moment, beside what the configuration says of it.

use ambit_core::grant::is_of_token;
use ambit_core::ledger::body::Reservation;
use ambit_core::money::{Account, Budget, Period, Window};
use ambit_core::run;

use crate::store::{Accounts, BudgetState, Slice, Window as Named};

/// All budgets at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// The moment, in milliseconds since 1970: that of the clock, or of the ledger's last entry where the clock is behind it.
    pub time_ms: i64,
    /// The configured ones, by name.
    pub configured: Vec<Standing>,
    /// What the ledger has of budgets that are not configured, with the cap that each was last held against.
    pub others: Vec<BudgetState>,
}

/// A configured budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What the configuration says.
    pub budget: Budget,
    /// Its window at this moment. One of calls has one for each call under way that used it, and one of runs one for each open run.
    pub current: Vec<Counted>,
    /// Other windows in which something is still reserved, or that were its own before the configuration changed: they count towards none
    /// of the current ones.
    pub earlier: Vec<Counted>,
}

/// What a window has used and reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// As the ledger names it, such as `usd day 2026-11-21`.
    pub window: String,
    /// Used and reserved.
    pub account: Account,
    /// What the next change is that time alone brings.
    pub next: Option<Next>,
}

/// What time changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The calendar window is over at this time (milliseconds since 1970), and another begins.
    Turns(i64),
    /// Some of what a rolling window used is free.
    Frees {
        /// From this time on (milliseconds since 1970).
        at: i64,
        /// How much.
        amount: u64,
    },
}

impl Budgets {
    /// Puts configuration and ledger together, at `clock_ms` (milliseconds since 1970). Called by `ambit budgets`.
    #[must_use]
    pub fn new(configured: &[Budget], accounts: &Accounts, clock_ms: i64) -> Budgets {
        let view = View {
            accounts,
            time_ms: clock_ms.max(accounts.time_ms),
        };
        // Those of runs, and of their tokens, are their runs' to show.
        let known = |state: &&BudgetState| {
            let name = &state.window.budget;
            run::is_own(name) || is_of_token(name) || configured.iter().any(|budget| budget.name == *name)
        };
        Budgets {
            time_ms: view.time_ms,
            configured: configured.iter().map(|budget| view.standing(budget)).collect(),
            others: accounts.states.iter().filter(|state| !known(state)).cloned().collect(),
        }
    }

    /// Whether what would be reserved at this moment fits.
    pub(crate) fn have_room(&self, reserved: &Reservation) -> bool {
        let window = window_at(reserved, self.time_ms).window;
        let standing = self.configured.iter().find(|one| one.budget.name == reserved.budget);
        let mut counted = standing.into_iter().flat_map(|one| &one.current);
        let account = counted
            .find(|one| one.window == window)
            .map_or_else(Account::default, |one| one.account);
        account.reserve(reserved.amount, reserved.cap).is_ok()
    }
}

/// The budget and the window in which something would be reserved at a time, in milliseconds since 1970.
pub(crate) fn window_at(reserved: &Reservation, time_ms: i64) -> Named {
    let period = reserved.window.parse::<Period>();
    Named {
        budget: reserved.budget.clone(),
        window: period.map_or_else(|_| reserved.window.clone(), |period| period.at(time_ms).to_string()),
    }
}

/// The ledger's accounts at a time.
struct View<'a> {
    accounts: &'a Accounts,
    time_ms: i64,
}

impl View<'_> {
    fn standing(&self, budget: &Budget) -> Standing {
        let states = self.accounts.states.iter();
        let mine = states.filter(|state| state.window.budget == budget.name);
        let (mut current, mut earlier) = (Vec::new(), Vec::new());
        for (state, period) in mine.filter_map(|state| Some((state, state.window.period()?))) {
            let counted = self.counted(state, &period);
            let same = period.unit() == budget.unit && period.window() == budget.window;
            match (same, self.is_over(&period, counted.account)) {
                (true, false) => current.push(counted),
                (false, false) => earlier.push(counted),
                (_, true) if counted.account.reserved > 0 => earlier.push(counted),
                // Left by the last use, and of no meaning any more.
                (_, true) => {}
            }
        }
        if current.is_empty() && !matches!(budget.window, Window::Call | Window::Run) {
            current.push(self.unused(budget));
        }
        Standing {
            budget: budget.clone(),
            current,
            earlier,
        }
    }

    fn counted(&self, state: &BudgetState, period: &Period) -> Counted {
        let Window::Rolling(span) = period.window() else {
            return Counted {
                window: state.window.window.clone(),
                account: state.account,
                next: period.window().turns(self.time_ms).map(Next::Turns),
            };
        };
        let mine = |slice: &&Slice| slice.window == state.window;
        let free = |slice: &&Slice| slice.starts <= span.free_until(self.time_ms);
        let slices = || self.accounts.slices.iter().filter(mine);
        let freed = slices()
            .filter(free)
            .fold(0_u64, |sum, slice| sum.saturating_add(slice.used));
        let next = slices().find(|slice| !free(slice));
        Counted {
            window: state.window.window.clone(),
            account: state.account.free(freed).unwrap_or(state.account),
            next: next.map(|slice| Next::Frees {
                at: span.frees(slice.starts),
                amount: slice.used,
            }),
        }
    }

    /// Whether nothing that is asked for now counts in the window.
    fn is_over(&self, period: &Period, account: Account) -> bool {
        match (period.window(), period.call()) {
            (Window::Rolling(_), _) => account == Account::default(),
            (_, Some(call)) => !self.accounts.calls.contains(call),
            (Window::Run, _) => !period.run().is_some_and(|run| self.accounts.runs.contains(run)),
            _ => !period.is_of("", None, self.time_ms),
        }
    }

    fn unused(&self, budget: &Budget) -> Counted {
        let named = budget.window.name(self.time_ms);
        let window = [Some(budget.unit.to_string()), Some(budget.window.to_string()), named];
        Counted {
            window: window.into_iter().flatten().collect::<Vec<_>>().join(" "),
            account: Account::default(),
            next: budget.window.turns(self.time_ms).map(Next::Turns),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;

    use ambit_core::money::{Match, Unit};

    use super::*;

    const NOON: i64 = 1_795_262_400_000;
    const HOUR: i64 = 3_600_000;

    fn budget(name: &str, unit: &str, window: Window) -> Budget {
        Budget {
            name: name.into(),
            covers: Match::default(),
            unit: unit.parse::<Unit>().unwrap(),
            window,
            cap: 100,
            over: None,
            warn: None,
        }
    }

    fn named(budget: &str, window: &str) -> Named {
        Named {
            budget: budget.into(),
            window: window.into(),
        }
    }

    fn state(budget: &str, window: &str, used: u64, reserved: u64) -> BudgetState {
        BudgetState {
            window: named(budget, window),
            cap: 50,
            account: Account { used, reserved },
        }
    }

    /// Windows with what they used and reserved.
    fn shown(counted: &[Counted]) -> Vec<(&str, u64, u64)> {
        let row = |counted: &Counted| (counted.account.used, counted.account.reserved);
        counted
            .iter()
            .map(|one| (one.window.as_str(), row(one).0, row(one).1))
            .collect()
    }

    #[test]
    fn a_budget_stands_as_its_own_window_does_at_this_moment() {
        let rolling = Window::Rolling("1h".parse().unwrap());
        let configured = [
            budget("each", "effects", Window::Call),
            budget("late", "usd", Window::Day),
            budget("new", "fuel", Window::Month),
            budget("roll", "bytes", rolling),
            budget("today", "usd", Window::Day),
        ];
        let slice = |starts, used| Slice {
            window: named("roll", "bytes rolling 1h"),
            starts,
            used,
        };
        let accounts = Accounts {
            time_ms: NOON,
            states: vec![
                state("each", "effects call c_over", 3, 1),
                state("each", "effects call c_past", 3, 0),
                state("each", "effects call c_runs", 2, 1),
                state("gone", "usd day 2026-11-01", 7, 0),
                state("late", "usd day 2026-11-20", 9, 40),
                state("roll", "bytes rolling 1h", 60, 5),
                state("today", "calls day 2026-11-21", 4, 0),
                state("today", "usd day 2026-11-20", 9, 0),
                state("today", "usd day 2026-11-21", 9, 1),
            ],
            slices: vec![slice(NOON - 2 * HOUR, 10), slice(NOON - HOUR, 20), slice(NOON, 30)],
            calls: BTreeSet::from(["c_runs".to_owned()]),
            runs: BTreeSet::new(),
        };
        // The clock is behind the ledger: its time stands.
        let budgets = Budgets::new(&configured, &accounts, NOON - HOUR);
        assert_eq!(budgets.time_ms, NOON);
        let current: Vec<_> = budgets.configured.iter().map(|one| shown(&one.current)).collect();
        let earlier: Vec<_> = budgets.configured.iter().map(|one| shown(&one.earlier)).collect();
        assert_eq!(
            current,
            [
                vec![("effects call c_runs", 2, 1)],
                vec![("usd day 2026-11-21", 0, 0)],
                vec![("fuel month 2026-11", 0, 0)],
                vec![("bytes rolling 1h", 50, 5)],
                vec![("usd day 2026-11-21", 9, 1)],
            ]
        );
        assert_eq!(
            earlier,
            [
                vec![("effects call c_over", 3, 1)],
                vec![("usd day 2026-11-20", 9, 40)],
                vec![],
                vec![],
                vec![("calls day 2026-11-21", 4, 0)],
            ]
        );
        assert_eq!(budgets.others, [state("gone", "usd day 2026-11-01", 7, 0)]);
        let next = |at: usize| budgets.configured[at].current[0].next;
        assert_eq!(next(0), None);
        assert_eq!(next(4), Some(Next::Turns(NOON + 12 * HOUR)));
        // An hour and a slice of 30 seconds after the slice began.
        let frees = |starts, amount| {
            Some(Next::Frees {
                at: starts + HOUR + 30_000,
                amount,
            })
        };
        assert_eq!(next(3), frees(NOON - HOUR, 20));
        let later = Budgets::new(&configured, &accounts, NOON + 30_000);
        assert_eq!(shown(&later.configured[3].current), [("bytes rolling 1h", 30, 5)]);
        assert_eq!(later.configured[3].current[0].next, frees(NOON, 30));
        let much_later = Budgets::new(&configured, &accounts, NOON + 24 * HOUR);
        assert_eq!(shown(&much_later.configured[3].current), [("bytes rolling 1h", 0, 5)]);
        assert_eq!(shown(&much_later.configured[4].current), [("usd day 2026-11-22", 0, 0)]);
    }
}
