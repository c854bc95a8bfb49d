//! A circuit breaker: closed, open, and half-open once its time is over.

use std::collections::VecDeque;

use serde::Deserialize;

use super::{Jitter, TimeSpec, count};
use crate::error::Code;
use crate::guard;
use crate::ledger::body::{Answered, Doubt, Outcome};

/// How much longer than at first a breaker stays open at most.
const LONGEST: u64 = 64;

/// `breaker = { failures = 5, within = "60s", open = "30s" }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerSpec {
    /// How many failures open it.
    failures: u32,
    /// Within which time.
    within: TimeSpec,
    /// For how long, the first time.
    open: TimeSpec,
}

impl BreakerSpec {
    /// Checks it.
    ///
    /// # Errors
    /// One clause: a number or a time that is none of a breaker.
    pub fn check(&self) -> Result<BreakerRule, String> {
        const LEAST: u64 = 100;
        const DAY: u64 = 24 * 3_600_000;
        Ok(BreakerRule {
            failures: count("breaker.failures", self.failures, 1_000)?,
            within_ms: self.within.check("breaker.within", LEAST, DAY)?,
            open_ms: self.open.check("breaker.open", LEAST, DAY)?,
        })
    }
}

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRule {
    /// How many failures open it.
    pub failures: u32,
    /// Within how many milliseconds.
    pub within_ms: u64,
    /// For how many milliseconds, the first time.
    pub open_ms: u64,
}

/// One service, or one route of it, that is left alone while it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    rule: BreakerRule,
    state: State,
    /// Which pass counts: that of an earlier state, or of another probe, does not.
    turn: u64,
    /// The latest time that it was told: a clock that goes back changes nothing.
    now_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// When it failed of late.
    Closed(VecDeque<u64>),
    /// Half-open from `until_ms` on.
    Open {
        until_ms: u64,
        in_a_row: u32,
        /// The read that is under way.
        probe: bool,
    },
}

/// Leave to send one request; [`Breaker::end`] is told what became of it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a breaker waits for what became of a probe"]
pub struct Pass {
    turn: u64,
    probe: bool,
}

impl Pass {
    /// Whether what becomes of it closes the breaker or opens it again.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.probe
    }
}

/// Why a request does not go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// It failed too often: for so many milliseconds more nothing goes.
    Open(u64),
    /// Its time is over, and a read has to show that it works: this is none.
    NotARead,
    /// A read is under way to show that.
    Probing,
}

/// What became of a request, as far as a breaker cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The service works.
    Good,
    /// It does not.
    Bad,
    /// It says nothing about that.
    Neither,
}

impl How {
    /// What one sending says of its service, by what the ledger says of it: the one place that says what a failure is. What a service
    /// declines is none, nor is an answer that could not be read unless its status is one, as a guest could have asked for it; and what
    /// nobody saw, or an operator stopped, says nothing.
    #[must_use]
    pub const fn of(sending: &Outcome) -> Self {
        match sending {
            Outcome::Answered(Answered { status: 500.. }) | Outcome::InDoubt(Doubt::Connection | Doubt::Timeout) => {
                Self::Bad
            }
            Outcome::NotSent(refused) if is_unreached(refused.code) => Self::Bad,
            Outcome::Answered(Answered { status: 429 })
            | Outcome::InDoubt(Doubt::Answer | Doubt::Restart | Doubt::Stopped)
            | Outcome::NotSent(_) => Self::Neither,
            Outcome::Answered(_) => Self::Good,
        }
    }
}

/// Whether nothing was sent because the service could not be reached, and not for what was to be sent.
#[must_use]
pub const fn is_unreached(code: Code) -> bool {
    matches!(code, Code::Address | Code::Tls | Code::Limit)
}

/// The last change of a breaker, as a record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its place in the record.
    pub index: u64,
    /// Until when it is open, in milliseconds, and how many times in a row it opened; none where it closed.
    pub open: Option<(u64, u32)>,
}

/// A failure, as a record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The place in the record of what says that its request leaves.
    pub began: u64,
    /// When it was recorded, in milliseconds.
    pub at_ms: u64,
}

/// A change that others are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is open, until then.
    Opened {
        /// The failures that did it.
        failures: u32,
        /// In milliseconds, of the clock that its times are of.
        until_ms: u64,
        /// How many times in a row: 1 where it was closed before.
        in_a_row: u32,
    },
    /// It is closed again.
    Closed,
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// All goes; so many failures count.
    Closed(u32),
    /// Nothing goes until then.
    Open {
        /// In milliseconds, of the clock that its times are of.
        until_ms: u64,
        /// How many times in a row it opened.
        in_a_row: u32,
    },
    /// One read goes.
    HalfOpen {
        /// How many times in a row it opened.
        in_a_row: u32,
    },
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub const fn closed(rule: BreakerRule) -> Self {
        Self {
            rule,
            state: State::Closed(VecDeque::new()),
            turn: 0,
            now_ms: 0,
        }
    }

    /// One that was opened before, `in_a_row` times.
    #[must_use]
    pub fn opened(rule: BreakerRule, until_ms: u64, in_a_row: u32) -> Self {
        let state = State::Open {
            until_ms,
            in_a_row,
            probe: false,
        };
        Self {
            state,
            ..Self::closed(rule)
        }
    }

    /// That it stands in the place of another, under another rule: of what that one let go nothing counts for this one.
    pub fn comes_after(&mut self, older: &Self) {
        if !guard!("flow.breaker-after", false) {
            self.turn = older.turn + 1;
        }
    }

    /// One that goes on from a record: its last change, if it ever changed, and the failures since, oldest first. Of what was under way
    /// when it changed nothing counts, as with one that was there all along.
    #[must_use]
    pub fn recorded(rule: BreakerRule, changed: Option<Changed>, failures: impl IntoIterator<Item = Failure>) -> Self {
        if let Some((until_ms, in_a_row)) = changed.and_then(|changed| changed.open) {
            return Self::opened(rule, until_ms, in_a_row);
        }
        let since = |failure: &Failure| {
            let before = changed.is_some_and(|changed| failure.began < changed.index);
            guard!("flow.breaker-recorded", !before)
        };
        let failed = failures.into_iter().filter(since).map(|failure| failure.at_ms);
        Self {
            state: State::Closed(failed.collect()),
            ..Self::closed(rule)
        }
    }

    /// Its rule.
    #[must_use]
    pub const fn rule(&self) -> BreakerRule {
        self.rule
    }

    /// Whether a request would go, a read or another.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&mut self, now_ms: u64, reads: bool) -> Result<(), Blocked> {
        match self.standing(now_ms) {
            Standing::Closed(_) => Ok(()),
            Standing::Open { until_ms, .. } => {
                let left = until_ms.saturating_sub(self.now_ms);
                if guard!("flow.breaker-open", left == 0) {
                    return Ok(());
                }
                Err(Blocked::Open(left))
            }
            Standing::HalfOpen { .. } if !guard!("flow.probe-reads", reads) => Err(Blocked::NotARead),
            Standing::HalfOpen { .. } => match self.state {
                State::Open { probe, .. } if !guard!("flow.probe-alone", !probe) => Err(Blocked::Probing),
                _ => Ok(()),
            },
        }
    }

    /// Leave for one request. [`Breaker::end`] has to be told what became of it.
    ///
    /// # Errors
    /// Why it does not go.
    pub fn ask(&mut self, now_ms: u64, reads: bool) -> Result<Pass, Blocked> {
        self.check(now_ms, reads)?;
        let probes = match &mut self.state {
            State::Closed(_) => false,
            State::Open { probe, .. } => {
                *probe = true;
                self.turn += 1;
                true
            }
        };
        Ok(Pass {
            turn: self.turn,
            probe: probes,
        })
    }

    /// What became of a request, and what that changes. What began before the last change says nothing any more.
    pub fn end(&mut self, pass: &Pass, now_ms: u64, how: How, jitter: Jitter) -> Option<Change> {
        self.now_ms = self.now_ms.max(now_ms);
        if !guard!("flow.breaker-turn", pass.turn == self.turn) {
            return None;
        }
        let now_ms = self.now_ms;
        match (&mut self.state, how) {
            (State::Closed(_), How::Good | How::Neither) => None,
            (State::Closed(failed), How::Bad) => {
                failed.push_back(now_ms);
                let within = self.rule.within_ms;
                failed.retain(|at| now_ms.saturating_sub(*at) < within);
                let failures = u32::try_from(failed.len()).unwrap_or(u32::MAX);
                (failures >= self.rule.failures).then(|| self.open(failures, 1, jitter))
            }
            (State::Open { probe, .. }, How::Neither) => {
                *probe = false;
                None
            }
            (State::Open { .. }, How::Good) => {
                self.close();
                Some(Change::Closed)
            }
            (State::Open { in_a_row, .. }, How::Bad) => {
                let in_a_row = in_a_row.saturating_add(1);
                Some(self.open(1, in_a_row, jitter))
            }
        }
    }

    /// Closes it: a probe went well, or whoever runs the home says so.
    pub fn close(&mut self) {
        self.state = State::Closed(VecDeque::new());
        self.turn += 1;
    }

    /// Where it stands.
    pub fn standing(&mut self, now_ms: u64) -> Standing {
        self.now_ms = self.now_ms.max(now_ms);
        let now_ms = self.now_ms;
        let within = self.rule.within_ms;
        match &self.state {
            State::Closed(failed) => {
                let recent = failed.iter().filter(|at| now_ms.saturating_sub(**at) < within);
                Standing::Closed(u32::try_from(recent.count()).unwrap_or(u32::MAX))
            }
            State::Open { until_ms, in_a_row, .. } if now_ms < *until_ms => Standing::Open {
                until_ms: *until_ms,
                in_a_row: *in_a_row,
            },
            State::Open { in_a_row, .. } => Standing::HalfOpen { in_a_row: *in_a_row },
        }
    }

    /// Twice as long each time in a row, up to 64 times, and up to a quarter longer by chance: processes that opened together
    /// do not ask together.
    fn open(&mut self, failures: u32, in_a_row: u32, jitter: Jitter) -> Change {
        let times = 1_u64
            .checked_shl(in_a_row.saturating_sub(1))
            .unwrap_or(LONGEST)
            .clamp(1, LONGEST);
        let time = self.rule.open_ms.saturating_mul(times);
        let until_ms = self.now_ms.saturating_add(time).saturating_add(jitter.part(time / 4));
        self.state = State::Open {
            until_ms,
            in_a_row,
            probe: false,
        };
        self.turn += 1;
        Change::Opened {
            failures,
            until_ms,
            in_a_row,
        }
    }
}
