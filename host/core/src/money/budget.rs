//! Budgets: hard caps on what callers use up over a window, and their arithmetic.
//!
//! Amounts are reserved before an effect and settled after it (two-phase, as money is moved everywhere). What a window has
//! used and reserved together never passes its cap; what is reserved and not settled counts until it is.

use std::fmt;

use super::{Currency, Spend};
use crate::guard;

/// A cap over a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Its name in the configuration, on the ledger and in refusals.
    pub name: String,
    /// Whose use counts. All that match an effect are reserved.
    pub covers: Match,
    /// What is counted.
    pub unit: Unit,
    /// For how long it counts.
    pub window: Window,
    /// The most that a window may have used and reserved together, in the unit.
    pub cap: u64,
}

/// Whose use a budget counts: a part that is absent matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Tenant of the caller.
    pub tenant: Option<String>,
    /// Team of the agent.
    pub team: Option<String>,
    /// The agent.
    pub agent: Option<String>,
    /// The user it acts for. A call for nobody matches no named user.
    pub user: Option<String>,
    /// The tool's name.
    pub tool: Option<String>,
    /// The function's id.
    pub function: Option<String>,
    /// The connection. A budget with one counts effects, never calls.
    pub connection: Option<String>,
    /// The route, as `connection/route`.
    pub route: Option<String>,
}

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Minor units of one currency. Other currencies do not count towards it.
    Money(Currency),
    /// Calls that were accepted.
    Calls,
    /// Effects with an intent.
    Effects,
}

/// For how long a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// One call.
    Call,
    /// A calendar day in UTC.
    Day,
}

/// What is looked at to find the budgets of a call or an effect.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// Tenant of the caller.
    pub tenant: &'a str,
    /// Team of the agent.
    pub team: &'a str,
    /// The agent.
    pub agent: &'a str,
    /// The user it acts for.
    pub user: Option<&'a str>,
    /// The tool's name.
    pub tool: &'a str,
    /// The function's id.
    pub function: &'a str,
    /// Connection and route of an effect; none for the call itself.
    pub route: Option<(&'a str, &'a str)>,
}

impl Match {
    /// Whether `used` counts.
    #[must_use]
    pub fn covers(&self, used: &Use<'_>) -> bool {
        let same = |mine: &Option<String>, theirs: &str| mine.as_deref().is_none_or(|mine| mine == theirs);
        same(&self.tenant, used.tenant)
            && same(&self.team, used.team)
            && same(&self.agent, used.agent)
            && self.user.as_deref().is_none_or(|mine| Some(mine) == used.user)
            && same(&self.tool, used.tool)
            && same(&self.function, used.function)
            && self.covers_route(used.route)
    }

    fn covers_route(&self, route: Option<(&str, &str)>) -> bool {
        match (&self.connection, &self.route, route) {
            (None, None, _) => true,
            (_, _, None) => false,
            (connection, named, Some((theirs, route))) => {
                connection.as_deref().is_none_or(|mine| mine == theirs)
                    && named.as_deref().is_none_or(|mine| {
                        mine.strip_prefix(theirs).and_then(|rest| rest.strip_prefix('/')) == Some(route)
                    })
            }
        }
    }
}

impl Budget {
    /// What an accepted call takes of it: one call, or nothing.
    #[must_use]
    pub fn of_call(&self, used: &Use<'_>) -> Option<u64> {
        (self.unit == Unit::Calls && self.covers.covers(used)).then_some(1)
    }

    /// What an effect takes of it.
    #[must_use]
    pub fn of_effect(&self, used: &Use<'_>, spend: &Spend) -> Option<u64> {
        if !self.covers.covers(used) {
            return None;
        }
        match (self.unit, spend) {
            (Unit::Effects, _) => Some(1),
            (Unit::Money(mine), Spend::Known { currency, minor }) if mine == *currency => u64::try_from(*minor).ok(),
            _ => None,
        }
    }
}

impl Window {
    /// The key of the window that `time_ms` (milliseconds since 1970, UTC) falls into, within `call`.
    #[must_use]
    pub fn key(self, time_ms: i64, call: &str) -> String {
        match self {
            Window::Call => call.to_owned(),
            Window::Day => day(time_ms),
        }
    }
}

/// The calendar day of a time, as `2026-11-21`. Howard Hinnant's `civil_from_days`, for any day of the proleptic
/// Gregorian calendar.
pub(crate) fn day(time_ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    let days = time_ms.div_euclid(DAY_MS) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// What a window has used, and what is set aside for work under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Used for good.
    pub used: u64,
    /// Set aside.
    pub reserved: u64,
}

/// Why an account does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountError {
    /// Used and reserved together would pass the cap.
    Over,
    /// More would be settled than was reserved.
    Unreserved,
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccountError::Over => "the cap would be passed",
            AccountError::Unreserved => "more would be settled than was reserved",
        })
    }
}

impl std::error::Error for AccountError {}

impl Account {
    /// Sets `amount` aside under `cap`.
    ///
    /// # Errors
    /// [`AccountError::Over`] where used and reserved together would pass the cap, or could not be added up.
    pub fn reserve(self, amount: u64, cap: u64) -> Result<Account, AccountError> {
        let reserved = self.reserved.checked_add(amount).ok_or(AccountError::Over)?;
        let total = self.used.checked_add(reserved).ok_or(AccountError::Over)?;
        if !guard!("budget.cap", total <= cap) {
            return Err(AccountError::Over);
        }
        Ok(Account { reserved, ..self })
    }

    /// Ends a reservation: `amount` of the `reserved` is used for good, the rest is free again.
    ///
    /// # Errors
    /// [`AccountError::Unreserved`] where less than that is set aside.
    pub fn settle(self, reserved: u64, amount: u64) -> Result<Account, AccountError> {
        if amount > reserved {
            return Err(AccountError::Unreserved);
        }
        let left = self.reserved.checked_sub(reserved).ok_or(AccountError::Unreserved)?;
        let used = self.used.checked_add(amount).ok_or(AccountError::Unreserved)?;
        Ok(Account { used, reserved: left })
    }

    /// What is left under `cap`.
    #[must_use]
    pub const fn left(self, cap: u64) -> u64 {
        cap.saturating_sub(self.used).saturating_sub(self.reserved)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn used(route: Option<(&'static str, &'static str)>) -> Use<'static> {
        Use {
            tenant: "acme",
            team: "support",
            agent: "bot",
            user: Some("ann"),
            tool: "refunds",
            function: "refunds.create",
            route,
        }
    }

    #[test]
    fn a_budget_covers_what_it_names() {
        let stripe = Some(("stripe", "refunds.create"));
        let check =
            |covers: Match, route, expected: bool| assert_eq!(covers.covers(&used(route)), expected, "{covers:?}");
        check(Match::default(), None, true);
        check(
            Match {
                agent: Some("bot".into()),
                user: Some("ann".into()),
                ..Match::default()
            },
            stripe,
            true,
        );
        check(
            Match {
                user: Some("bob".into()),
                ..Match::default()
            },
            stripe,
            false,
        );
        check(
            Match {
                connection: Some("stripe".into()),
                ..Match::default()
            },
            stripe,
            true,
        );
        check(
            Match {
                connection: Some("stripe".into()),
                ..Match::default()
            },
            None,
            false,
        );
        check(
            Match {
                route: Some("stripe/refunds.create".into()),
                ..Match::default()
            },
            stripe,
            true,
        );
        check(
            Match {
                route: Some("stripe/refunds".into()),
                ..Match::default()
            },
            stripe,
            false,
        );
        check(
            Match {
                route: Some("stripes/refunds.create".into()),
                ..Match::default()
            },
            stripe,
            false,
        );
    }

    #[test]
    fn money_counts_in_its_own_currency() {
        let usd: Currency = "usd".parse().unwrap();
        let budget = Budget {
            name: "day".into(),
            covers: Match::default(),
            unit: Unit::Money(usd),
            window: Window::Day,
            cap: 100,
        };
        let spend = |code: &str| Spend::Known {
            currency: code.parse().unwrap(),
            minor: 40,
        };
        assert_eq!(budget.of_effect(&used(None), &spend("usd")), Some(40));
        assert_eq!(budget.of_effect(&used(None), &spend("eur")), None);
        assert_eq!(budget.of_effect(&used(None), &Spend::None), None);
    }

    #[test]
    fn days_turn_at_midnight_utc() {
        for (ms, expected) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (951_782_400_000, "2000-02-29"),
            (1_709_251_199_999, "2024-02-29"),
            (1_709_251_200_000, "2024-03-01"),
            (1_795_219_200_000, "2026-11-21"),
        ] {
            assert_eq!(Window::Day.key(ms, "c"), expected);
        }
        assert_eq!(Window::Call.key(0, "c_1"), "c_1");
    }

    proptest! {
        #[test]
        fn trap_12_no_order_of_reserving_and_settling_passes_the_cap(cap in 0_u64..1_000, steps in prop::collection::vec((any::<bool>(), 0_u64..400), 0..60)) {
            let mut account = Account::default();
            let mut open = Vec::new();
            for (settle, amount) in steps {
                match (settle, open.pop()) {
                    (true, Some(reserved)) => account = account.settle(reserved, amount.min(reserved)).unwrap(),
                    (_, popped) => {
                        open.extend(popped);
                        match account.reserve(amount, cap) {
                            Ok(after) => { account = after; open.push(amount); }
                            // Never short either: it was refused because it did not fit.
                            Err(_) => prop_assert!(account.left(cap) < amount),
                        }
                    }
                }
                prop_assert!(account.used + account.reserved <= cap);
                prop_assert_eq!(account.reserved, open.iter().sum::<u64>());
            }
        }
    }
}
