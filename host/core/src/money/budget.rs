//! Budgets: hard caps on what callers use up over a window, and their arithmetic.
//!
//! Amounts are reserved before an effect and settled after it (two-phase, as money is moved everywhere). What a window has
//! used and reserved together never passes its cap; what is reserved and not settled counts until it is.

use std::fmt;
use std::str::FromStr;

use super::{Currency, NotACurrency, Period, Spend, Window};
use crate::guard;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The largest amount or cap that can be counted: more has no place in a row of the books.
pub const MOST: u64 = i64::MAX as u64;

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
    /// Who may let one effect pass the cap. None where nobody may.
    pub over: Option<Over>,
    /// From how much on, used and reserved together, people are told, in the unit. None where nobody is.
    pub warn: Option<u64>,
}

/// So many percent of a cap, rounded up: at least 1.
#[must_use]
pub fn percent_of(cap: u64, percent: u64) -> u64 {
    let part = (u128::from(cap) * u128::from(percent)).div_ceil(100);
    u64::try_from(part).unwrap_or(u64::MAX).max(1)
}

/// Whose approvals let one effect pass a cap.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Over {
    /// The group.
    pub ask: String,
    /// How many of its people: at least 1.
    pub count: u32,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Minor units of one currency. Other currencies do not count towards it.
    Money(Currency),
    /// Calls that were accepted.
    Calls,
    /// Effects that were sent, whatever the answer; the host's own among them.
    Effects,
    /// Bytes of HTTP that effects sent and received, heads included, above TLS.
    Bytes,
    /// Fuel that guests used, in wasmtime's units.
    Fuel,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit::Money(currency) => currency.fmt(f),
            Unit::Calls => f.pad("calls"),
            Unit::Effects => f.pad("effects"),
            Unit::Bytes => f.pad("bytes"),
            Unit::Fuel => f.pad("fuel"),
        }
    }
}

impl Serialize for Unit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Unit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl FromStr for Unit {
    type Err = NotACurrency;

    /// Reads the word that a configuration and entries have for it.
    fn from_str(text: &str) -> Result<Unit, NotACurrency> {
        Ok(match text {
            "calls" => Unit::Calls,
            "effects" => Unit::Effects,
            "bytes" => Unit::Bytes,
            "fuel" => Unit::Fuel,
            code => Unit::Money(code.parse()?),
        })
    }
}

/// What became of an effect, as far as budgets look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// Nothing left this host.
    NotSent,
    /// The service said that it did not do it.
    Declined,
    /// It counts as done.
    Done,
    /// Something left, and nobody knows what became of it.
    InDoubt,
}

impl Unit {
    /// How much an effect used for good of the `reserved`, where `bytes` went over the wire. None where nobody knows: it
    /// stays reserved. What is known of an effect in doubt is that it was sent, and how many bytes went.
    #[must_use]
    pub fn used(self, reserved: u64, became: Became, bytes: u64) -> Option<u64> {
        match (self, became) {
            (Unit::Bytes, _) => Some(bytes.min(reserved)),
            (_, Became::NotSent) | (Unit::Money(_), Became::Declined) => Some(0),
            (Unit::Money(_), Became::InDoubt) => None,
            _ => Some(reserved),
        }
    }
}

/// What is looked at to find the budgets of a call or an effect.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// The call's id, which a window can be of.
    pub call: &'a str,
    /// The id of the call's run, likewise; none for a call outside of runs, which counts in no window of a run.
    pub run: Option<&'a str>,
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
    /// What an accepted call takes of it that may use so much fuel; or nothing.
    #[must_use]
    pub fn of_call(&self, used: &Use<'_>, fuel: u64) -> Option<u64> {
        let amount = match self.unit {
            Unit::Calls => 1,
            Unit::Fuel => fuel.min(MOST),
            Unit::Money(_) | Unit::Effects | Unit::Bytes => return None,
        };
        self.taken(used, amount)
    }

    /// What an effect takes of it that spends so much, and may send and receive so many bytes; or nothing.
    #[must_use]
    pub fn of_effect(&self, used: &Use<'_>, spend: &Spend, bytes: u64) -> Option<u64> {
        let amount = match (self.unit, spend) {
            (Unit::Effects, _) => 1,
            (Unit::Bytes, _) => bytes.min(MOST),
            (Unit::Money(mine), Spend::Known { currency, minor }) if mine == *currency => u64::try_from(*minor).ok()?,
            _ => return None,
        };
        self.taken(used, amount)
    }

    fn taken(&self, used: &Use<'_>, amount: u64) -> Option<u64> {
        let has_window = self.window != Window::Run || used.run.is_some();
        (amount > 0 && has_window && self.covers.covers(used)).then_some(amount)
    }

    /// What `used` counts in, before the entry's time is known.
    #[must_use]
    pub fn period(&self, used: &Use<'_>) -> Period {
        Period::new(self.unit, self.window, used)
    }
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

    /// Sets `amount` aside though it may pass the cap, which people allowed for one effect.
    ///
    /// # Errors
    /// [`AccountError::Over`] where it could not be added up, or counted.
    pub fn reserve_over(self, amount: u64) -> Result<Account, AccountError> {
        self.reserve(amount, MOST)
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

    /// Takes out what was used so long ago that the window has it no more; none where less was used.
    #[must_use]
    pub fn free(self, amount: u64) -> Option<Account> {
        let used = self.used.checked_sub(amount)?;
        Some(Account { used, ..self })
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
            call: "c_1",
            run: Some("r_1"),
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
    fn a_budget_covers_nothing_of_another_name() {
        type Part = fn(&mut Match) -> &mut Option<String>;
        let parts: [(&str, Part); 6] = [
            ("acme", |covers| &mut covers.tenant),
            ("support", |covers| &mut covers.team),
            ("bot", |covers| &mut covers.agent),
            ("ann", |covers| &mut covers.user),
            ("refunds", |covers| &mut covers.tool),
            ("refunds.create", |covers| &mut covers.function),
        ];
        for (mine, part) in parts {
            for (name, expected) in [(mine, true), ("another", false), ("", false)] {
                let mut covers = Match::default();
                *part(&mut covers) = Some(name.into());
                assert_eq!(covers.covers(&used(None)), expected, "{covers:?}");
            }
        }
        let nobody = Use {
            user: None,
            ..used(None)
        };
        let of_ann = Match {
            user: Some("ann".into()),
            ..Match::default()
        };
        assert!(!of_ann.covers(&nobody));
    }

    fn budget(unit: Unit, covers: Match) -> Budget {
        Budget {
            name: "day".into(),
            covers,
            unit,
            window: Window::Day,
            cap: 100,
            over: None,
            warn: None,
        }
    }

    #[test]
    fn money_counts_in_its_own_currency() {
        let budget = budget(Unit::Money("usd".parse().unwrap()), Match::default());
        let spend = |code: &str| Spend::Known {
            currency: code.parse().unwrap(),
            minor: 40,
        };
        assert_eq!(budget.of_effect(&used(None), &spend("usd"), 9), Some(40));
        assert_eq!(budget.of_effect(&used(None), &spend("eur"), 9), None);
        assert_eq!(budget.of_effect(&used(None), &Spend::None, 9), None);
        assert_eq!(budget.of_call(&used(None), 7), None);
    }

    #[test]
    fn calls_take_calls_and_fuel_and_effects_take_effects_and_bytes() {
        let everything = |unit| {
            let budget = budget(unit, Match::default());
            let of_effect = budget.of_effect(&used(None), &Spend::None, 9);
            (budget.of_call(&used(None), 7), of_effect)
        };
        assert_eq!(everything(Unit::Calls), (Some(1), None));
        assert_eq!(everything(Unit::Fuel), (Some(7), None));
        assert_eq!(everything(Unit::Effects), (None, Some(1)));
        assert_eq!(everything(Unit::Bytes), (None, Some(9)));
        let others = Match {
            agent: Some("another".into()),
            ..Match::default()
        };
        for unit in [Unit::Calls, Unit::Fuel] {
            assert_eq!(budget(unit, others.clone()).of_call(&used(None), 7), None);
        }
        let most = budget(Unit::Fuel, Match::default()).of_call(&used(None), u64::MAX);
        assert_eq!(
            most,
            Some(MOST),
            "fuel without a limit is more than every cap, and can be counted"
        );
    }

    #[test]
    fn what_is_known_is_settled_and_what_is_not_stays_reserved() {
        let usd = Unit::Money("usd".parse().unwrap());
        for (unit, not_sent, declined, done, in_doubt) in [
            (usd, Some(0), Some(0), Some(40), None),
            (Unit::Effects, Some(0), Some(40), Some(40), Some(40)),
            (Unit::Bytes, Some(7), Some(7), Some(7), Some(7)),
        ] {
            let used = |became| unit.used(40, became, 7);
            assert_eq!(used(Became::NotSent), not_sent, "{unit}");
            assert_eq!(used(Became::Declined), declined, "{unit}");
            assert_eq!(used(Became::Done), done, "{unit}");
            assert_eq!(used(Became::InDoubt), in_doubt, "{unit}");
        }
        assert_eq!(Unit::Bytes.used(40, Became::Done, 41), Some(40));
    }

    #[test]
    fn a_budget_says_what_it_counts_in() {
        let said = |window| {
            let budget = Budget {
                window,
                ..budget(Unit::Bytes, Match::default())
            };
            budget.period(&used(None)).to_string()
        };
        assert_eq!(said(Window::Call), "bytes call c_1");
        assert_eq!(said(Window::Run), "bytes run r_1");
        assert_eq!(said(Window::Day), "bytes day");
        assert_eq!(said(Window::Rolling("7d".parse().unwrap())), "bytes rolling 7d");
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
