//! Runs: sessions of an agent, with what they may do, until when, and how much of it.
//!
//! An operator starts a run for one principal. Calls name it, and are refused where they may not be part of it; a run that
//! ends while they are under way lets them finish, and no further effect begin. What a run may use up are budgets of its own,
//! which come with it and go by the same arithmetic as configured ones.
//!
//! All of it follows from entries: [`Run`] is what they say so far. The rules are asked twice, by the host before it does
//! anything, and by the books in the transaction of the entry, which is what makes them hold among many callers.

use serde::{Deserialize, Serialize};

use crate::error::{Code, Refusal, printable};
use crate::guard;
use crate::ledger::Principal;
use crate::ledger::body::{
    Body, CallFinished, EffectOutcome, End, Outcome, Reservation, RunCap, RunDegraded, RunStarted,
};
use crate::money::{Budget, MOST, Match, Unit, Window};
use crate::policy::Mode;
use crate::scope::Tier;

/// The longest that a run can be open, in milliseconds: 31 days.
pub const LONGEST_MS: u64 = 31 * 24 * 3_600_000;
/// How the names of a run's own budgets begin. No configured budget can have such a name.
const OWN: &str = "run/";

/// A run, as the entries so far say it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// What it was started with.
    pub started: RunStarted,
    /// The ledger index of the entry that started it.
    pub index: u64,
    /// When it was started, in milliseconds since 1970.
    pub time_ms: i64,
    /// An operator ended it.
    pub ended: bool,
    /// Too much of it failed: it only reads.
    pub degraded: bool,
    /// Its calls and effects that came to an end.
    pub finished: u64,
    /// Those of them that failed.
    pub failed: u64,
}

/// Why a call or an effect is not part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// There is no run of that id.
    #[error("does not exist")]
    Unknown,
    /// An operator ended it.
    #[error("has ended")]
    Ended,
    /// Its time is over.
    #[error("has expired")]
    Expired,
    /// It was started for another agent, team, tenant or user.
    #[error("is another caller's")]
    Another,
    /// The call would do more than its run.
    #[error("is in mode {run}, which a call in mode {call} would widen")]
    Wider {
        /// The run's mode.
        run: Mode,
        /// The call's.
        call: Mode,
    },
    /// Too much of it failed.
    #[error("only reads: too many of its calls and effects failed")]
    Degraded,
}

impl RunError {
    /// What a caller is told who named the run `id`.
    #[must_use]
    pub fn refusal(self, id: &str) -> Refusal {
        let refusal = Refusal::new(Code::Run, format!("run {} {self}", printable(id)));
        refusal.advise(match self {
            Self::Unknown => "`ambit run list` prints the runs there are",
            Self::Ended | Self::Expired => "go on in another run: the operator starts one with `ambit run start`",
            Self::Another => "call as the agent, and for the user, that the run was started for",
            Self::Wider { .. } => "leave the mode to the run, or ask for a stricter one",
            Self::Degraded => "find out what fails; the operator starts another run with `ambit run start`",
        })
    }
}

/// Why a run cannot be started as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotARun {
    /// The id is none.
    #[error("the id of a run is `r_` and 26 letters and digits")]
    Id,
    /// The share of failures is no share.
    #[error("the error bound is {percent} percent over at least {least}: it takes 1 to 100 percent, over at least 1")]
    Bound {
        /// The share.
        percent: u32,
        /// Of at least so many.
        least: u32,
    },
    /// A limit of nothing, or of more than can be counted.
    #[error("the limit of {unit} is {cap}: it takes 1 to {MOST}")]
    Cap {
        /// What is counted.
        unit: Unit,
        /// The limit.
        cap: u64,
    },
    /// A unit twice, or not in the order of their names.
    #[error("a run has one limit for each unit, in the order of their names")]
    Units,
    /// A limit that approvals cannot pass.
    #[error(
        "the limit of {unit} cannot be passed by approvals: only an effect can wait for them, and for one person at least"
    )]
    Over {
        /// What is counted.
        unit: Unit,
    },
}

impl RunStarted {
    /// That it is what a run can be started with.
    ///
    /// # Errors
    /// What is not.
    pub fn check(&self) -> Result<(), NotARun> {
        if !is_run_id(&self.run) {
            return Err(NotARun::Id);
        }
        if let Some(bound) = self.errors
            && !guard!("run.bound", (1..=100).contains(&bound.percent) && bound.least >= 1)
        {
            return Err(NotARun::Bound {
                percent: bound.percent,
                least: bound.least,
            });
        }
        if let Some(cap) = self.caps.iter().find(|cap| !(1..=MOST).contains(&cap.cap)) {
            return Err(NotARun::Cap {
                unit: cap.unit,
                cap: cap.cap,
            });
        }
        let passed_wrongly = |cap: &&RunCap| {
            let waits = !matches!(cap.unit, Unit::Calls | Unit::Fuel);
            cap.over.as_ref().is_some_and(|over| !waits || over.count == 0)
        };
        if let Some(cap) = self.caps.iter().find(passed_wrongly)
            && !guard!("run.over", false)
        {
            return Err(NotARun::Over { unit: cap.unit });
        }
        let ascending = |pair: &[RunCap]| matches!(pair, [one, next] if one.unit.to_string() < next.unit.to_string());
        if self.caps.windows(2).all(ascending) {
            Ok(())
        } else {
            Err(NotARun::Units)
        }
    }
}

/// `r_` and 26 characters of base32 in lower case: 130 random bits.
pub(crate) fn is_run_id(text: &str) -> bool {
    text.strip_prefix("r_")
        .is_some_and(|id| id.len() == 26 && id.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b)))
}

impl RunCap {
    /// The name of the budget that it is.
    #[must_use]
    pub fn budget(&self) -> String {
        format!("{OWN}{}", self.unit)
    }
}

/// Whether a budget of this name came with a run.
#[must_use]
pub fn is_own(budget: &str) -> bool {
    budget.starts_with(OWN)
}

impl Run {
    /// A run that begins with the entry at `index`.
    #[must_use]
    pub const fn new(started: RunStarted, index: u64, time_ms: i64) -> Self {
        Self {
            started,
            index,
            time_ms,
            ended: false,
            degraded: false,
            finished: 0,
            failed: 0,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.started.run
    }

    /// Whether a call can begin in it: of that principal, in that mode, at that time.
    ///
    /// # Errors
    /// Why not.
    pub fn admits_call(&self, principal: &Principal, mode: Mode, time_ms: i64) -> Result<(), RunError> {
        self.is_open(time_ms)?;
        if !guard!("run.principal", *principal == self.started.principal) {
            return Err(RunError::Another);
        }
        if !guard!("run.mode", mode.is_within(self.started.mode)) {
            return Err(RunError::Wider {
                run: self.started.mode,
                call: mode,
            });
        }
        Ok(())
    }

    /// Whether an effect of that tier can begin in it at that time.
    ///
    /// # Errors
    /// Why not.
    pub fn admits_effect(&self, tier: Tier, time_ms: i64) -> Result<(), RunError> {
        self.is_open(time_ms)?;
        // Also before the entry is there that says so.
        let only_reads = self.degraded || self.degrades().is_some();
        if !guard!("run.degraded", tier == Tier::Read || !only_reads) {
            return Err(RunError::Degraded);
        }
        Ok(())
    }

    /// Whether it goes on at that time.
    ///
    /// # Errors
    /// [`RunError::Ended`], [`RunError::Expired`].
    pub fn is_open(&self, time_ms: i64) -> Result<(), RunError> {
        if !guard!("run.ended", !self.ended) {
            return Err(RunError::Ended);
        }
        let now = u64::try_from(time_ms).unwrap_or_default();
        if !guard!("run.expiry", now < self.started.expires) {
            return Err(RunError::Expired);
        }
        Ok(())
    }

    /// Counts something that came to an end.
    pub fn count(&mut self, failed: bool) {
        self.finished = self.finished.saturating_add(1);
        self.failed = self.failed.saturating_add(u64::from(failed));
    }

    /// Counts as failed what had come to an end as if it had not: its service said that it did it, and it is not seen.
    pub fn count_unverified(&mut self) {
        self.failed = self.failed.saturating_add(1).min(self.finished);
    }

    /// Whether more of it failed than its bound allows, and no entry says so yet: what that entry says.
    #[must_use]
    pub fn degrades(&self) -> Option<RunDegraded> {
        let bound = self.started.errors?;
        let much = u128::from(self.failed) * 100 > u128::from(self.finished) * u128::from(bound.percent);
        let above = much && self.finished >= u64::from(bound.least);
        (!self.degraded && above).then(|| RunDegraded {
            failed: self.failed,
            finished: self.finished,
            run: self.started.run.clone(),
        })
    }

    /// The budgets that came with it.
    #[must_use]
    pub fn budgets(&self) -> Vec<Budget> {
        let budgets = self.started.caps.iter().map(|cap| Budget {
            name: cap.budget(),
            covers: Match::default(),
            unit: cap.unit,
            window: Window::Run,
            cap: cap.cap,
            over: cap.over.clone(),
            warn: None,
        });
        budgets.collect()
    }

    /// Whether an entry of its calls reserves in each of its own budgets what it has to, under the cap that it was started with,
    /// and in no other that is a run's own.
    #[must_use]
    pub fn is_reserved(&self, body: &Body) -> bool {
        let reserved = match body {
            Body::CallAccepted(body) => &body.reserved,
            Body::EffectIntent(body) => &body.reserved,
            _ => return true,
        };
        let of = |cap: &RunCap| {
            let name = cap.budget();
            move |one: &&Reservation| one.budget == name
        };
        let whole = |cap: &RunCap| match reserved.iter().find(of(cap)) {
            Some(one) => {
                let passes = one.over.is_none() || cap.over.is_some();
                one.cap == cap.cap && one.amount >= least(cap.unit, body) && passes
            }
            None => least(cap.unit, body) == 0,
        };
        let known = |one: &Reservation| self.started.caps.iter().any(|cap| cap.budget() == one.budget);
        self.started.caps.iter().all(whole) && reserved.iter().all(|one| !is_own(&one.budget) || known(one))
    }
}

/// The least that an entry takes of a unit.
fn least(unit: Unit, body: &Body) -> u64 {
    match (unit, body) {
        (Unit::Calls, Body::CallAccepted(_)) | (Unit::Effects | Unit::Bytes, Body::EffectIntent(_)) => 1,
        (Unit::Fuel, Body::CallAccepted(body)) => {
            let fuel = body.asked.limits.iter().find(|(name, _)| *name == "fuel");
            fuel.map_or(1, |(_, fuel)| fuel.clamp(1, MOST))
        }
        (Unit::Money(currency), Body::EffectIntent(body)) => {
            let spend = body.spend.filter(|spend| spend.currency == currency);
            spend.map_or(0, |spend| spend.minor)
        }
        _ => 0,
    }
}

/// Whether an effect failed: nothing left, nobody knows, or the service did not do it.
#[must_use]
pub const fn effect_failed(outcome: &EffectOutcome) -> bool {
    match &outcome.outcome {
        Outcome::Answered(answered) => answered.status >= 400 && !outcome.absent,
        Outcome::NotSent(_) | Outcome::InDoubt(_) => true,
    }
}

/// Whether a call failed: it came to anything but a result.
#[must_use]
pub const fn call_failed(finished: &CallFinished) -> bool {
    !matches!(finished.outcome, End::Ok(_))
}

#[cfg(test)]
mod tests;
