//! Runs, as whoever audits a whole ledger follows them: what is part of a run is within it, by its entries alone.
//!
//! The books of a home hold each entry to the same before it is written. Here that is found again without them, so that also an export
//! shows it. What budgets of the configuration allow is not on the ledger; the limits that came with a run are, and so is the money that
//! goes with the token that a call was made with.

use std::collections::HashMap;

use crate::grant::is_of_token;
use crate::guard;
use crate::ledger::body::{
    Body, CallAccepted, Doubt, EffectIntent, EffectRetried, Outcome, Reservation, RunCap, RunDegraded, RunEnded,
    RunStarted, Settlement, ShownBy, TokenMoney,
};
use crate::ledger::story::CallStory;
use crate::ledger::{Entry, LedgerError};
use crate::money::{Account, Period};
use crate::run::{self, Run};
use crate::scope::Tier;

/// A run's own budget, in the window that is the run.
type Limit = (String, String);

/// The runs so far, the calls under way that are part of one, and what their own limits have used and reserved.
#[derive(Default)]
pub(super) struct Runs {
    runs: HashMap<String, Run>,
    /// The run of each call under way.
    calls: HashMap<String, String>,
    /// The money that goes with the token that a call under way was made with.
    money: HashMap<String, Vec<TokenMoney>>,
    accounts: HashMap<Limit, Account>,
    /// What is set aside, by call, effect and limit.
    reserved: HashMap<(String, Option<u32>, Limit), u64>,
}

impl Runs {
    /// Takes in an entry. `story` is what its call's entries say so far, this one among them.
    pub(super) fn entry(&mut self, entry: &Entry, story: Option<&CallStory>) -> Result<(), LedgerError> {
        match entry.body() {
            Body::RunStarted(started) => self.start(entry, started),
            Body::RunEnded(ended) => self.end(entry, ended),
            Body::RunDegraded(degraded) => self.degrade(degraded),
            Body::CallAccepted(accepted) => self.begin_call(entry, accepted),
            Body::EffectIntent(intent) => self.begin_effect(entry, intent, story),
            Body::EffectRetried(again) => self.resend(entry, again),
            Body::EffectOutcome(outcome) => {
                self.settle(entry, &outcome.settled)?;
                self.count(entry, run::effect_failed(outcome));
                Ok(())
            }
            Body::EffectChecked(seen) => {
                let run = self.calls.get(entry.call().unwrap_or_default());
                let run = run.and_then(|id| self.runs.get_mut(id));
                if let Some(run) = run.filter(|_| seen.shown.is_unverified()) {
                    run.count_unverified();
                }
                Ok(())
            }
            Body::EffectResolved(found) => self.settle(entry, &found.settled),
            Body::CallFinished(finished) => {
                self.settle(entry, &finished.settled)?;
                self.count(entry, run::call_failed(finished));
                self.calls.remove(entry.call().unwrap_or_default());
                self.money.remove(entry.call().unwrap_or_default());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, entry: &Entry, started: &RunStarted) -> Result<(), LedgerError> {
        let new = Run::new(started.clone(), entry.index(), entry.time_ms());
        let first = self.runs.insert(started.run.clone(), new).is_none();
        if !guard!("ledger.run-once", first) {
            return Err(wrong(&started.run, "was started already"));
        }
        Ok(())
    }

    fn end(&mut self, entry: &Entry, ended: &RunEnded) -> Result<(), LedgerError> {
        let run = self.known(&ended.run)?;
        run.is_open(entry.time_ms())
            .map_err(|why| wrong(&ended.run, &format!("is ended, and {why}")))?;
        run.ended = true;
        Ok(())
    }

    fn degrade(&mut self, degraded: &RunDegraded) -> Result<(), LedgerError> {
        let run = self.known(&degraded.run)?;
        if !guard!("ledger.run-degrades", run.degrades().as_ref() == Some(degraded)) {
            return Err(wrong(&degraded.run, "is said to have degraded, and has not"));
        }
        run.degraded = true;
        Ok(())
    }

    /// A call is part of its run: of its principal, in its mode, at its time, and with all that its limits say set aside.
    fn begin_call(&mut self, entry: &Entry, accepted: &CallAccepted) -> Result<(), LedgerError> {
        let token = match &accepted.by {
            Some(ShownBy::RunToken(token)) => Some(token),
            _ => None,
        };
        let Some(id) = &accepted.run else {
            if !guard!("ledger.token-run", token.is_none()) {
                return Err(LedgerError::Story(format!(
                    "{} of call {}: it was made with a token of a run, and is part of none",
                    entry.kind(),
                    entry.call().unwrap_or_default()
                )));
            }
            return outside_of_runs(entry, &accepted.reserved);
        };
        if let Some(token) = token.filter(|token| !token.money.is_empty()) {
            let call = entry.call().unwrap_or_default().to_owned();
            self.money.insert(call, token.money.clone());
        }
        let run = self.known(id)?;
        let of = entry.principal();
        let of = of.ok_or_else(|| wrong(id, "has a call of nobody"))?;
        let admitted = run.admits_call(of, accepted.asked.mode, entry.time_ms());
        admitted.map_err(|why| not_within(entry, id, &why.to_string()))?;
        self.calls
            .insert(entry.call().unwrap_or_default().to_owned(), id.clone());
        self.reserve(entry, id, &accepted.reserved, None)
    }

    /// So is an effect of it: at its time, a read where the run only reads.
    fn begin_effect(
        &mut self,
        entry: &Entry,
        intent: &EffectIntent,
        story: Option<&CallStory>,
    ) -> Result<(), LedgerError> {
        let Some(id) = self.calls.get(entry.call().unwrap_or_default()).cloned() else {
            return outside_of_runs(entry, &intent.reserved);
        };
        let admitted = self.known(&id)?.admits_effect(intent.tier, entry.time_ms());
        admitted.map_err(|why| not_within(entry, &id, &why.to_string()))?;
        self.within_money(entry, &id, intent)?;
        let hold = story.and_then(|story| story.holds.get(&intent.ordinal));
        let needs = hold.map(|hold| hold.held.what.needs.as_slice());
        let asked = |cap: &RunCap| match (&cap.over, needs) {
            (Some(over), Some(needs)) => needs
                .iter()
                .all(|need| need.get(&over.ask).is_some_and(|count| *count >= over.count)),
            _ => false,
        };
        self.reserve(entry, &id, &intent.reserved, Some(&asked))
    }

    /// What an effect spends is counted in all the money that goes with its call's token.
    fn within_money(&self, entry: &Entry, id: &str, intent: &EffectIntent) -> Result<(), LedgerError> {
        let Some(spent) = intent.spend.filter(|spent| spent.minor > 0) else {
            return Ok(());
        };
        let money = self.money.get(entry.call().unwrap_or_default());
        let counted = |one: &TokenMoney| one.is_reserved(spent, &intent.reserved);
        if !guard!(
            "ledger.token-money",
            money.is_none_or(|money| money.iter().all(counted))
        ) {
            return Err(not_within(
                entry,
                id,
                "has tokens, and it spends what its own does not count",
            ));
        }
        Ok(())
    }

    /// What is sent again after its host ended is an effect once more, and only what changes something is ever in doubt.
    fn resend(&mut self, entry: &Entry, again: &EffectRetried) -> Result<(), LedgerError> {
        let Some(id) = self.calls.get(entry.call().unwrap_or_default()).cloned() else {
            return Ok(());
        };
        if again.after != Outcome::InDoubt(Doubt::Restart) {
            return Ok(());
        }
        match self.known(&id)?.admits_effect(Tier::Commit, entry.time_ms()) {
            Err(why) if !guard!("ledger.run-resent", false) => Err(not_within(entry, &id, &why.to_string())),
            _ => Ok(()),
        }
    }

    /// Sets aside what an entry says, in the run's own limits. `asked` says whether an effect's approvals were for passing one.
    fn reserve(
        &mut self,
        entry: &Entry,
        id: &str,
        reserved: &[Reservation],
        asked: Option<&dyn Fn(&RunCap) -> bool>,
    ) -> Result<(), LedgerError> {
        let run = self.known(id)?;
        if !guard!("ledger.run-reserved", run.is_reserved(entry.body())) {
            return Err(not_within(entry, id, "has limits that it does not reserve"));
        }
        let caps = run.started.caps.clone();
        for one in reserved.iter().filter(|one| is_of_run(&one.budget)) {
            let call = entry.call().unwrap_or_default();
            let period = one.window.parse::<Period>().ok();
            let there = period.is_some_and(|period| period.is_of(call, Some(id), entry.time_ms()));
            if !guard!("ledger.run-window", there) {
                return Err(not_within(entry, id, "has limits, and it counts in another window"));
            }
            let passes = caps.iter().filter(|cap| cap.budget() == one.budget);
            let passes = one.over.is_some() && passes.into_iter().any(|cap| asked.is_some_and(|asked| asked(cap)));
            if !guard!("ledger.run-over", one.over.is_none() || passes) {
                return Err(not_within(entry, id, "has a limit that its approvals were not for"));
            }
            let limit = (one.budget.clone(), one.window.clone());
            let account = self.accounts.entry(limit.clone()).or_default();
            let after = match passes {
                true => account.reserve_over(one.amount),
                false => account.reserve(one.amount, one.cap),
            };
            *account = match after {
                Ok(after) => after,
                Err(_) if guard!("ledger.run-cap", false) => *account,
                Err(_) => return Err(not_within(entry, id, "has a limit that it passes")),
            };
            let key = (call.to_owned(), entry.body().ordinal(), limit);
            self.reserved.insert(key, one.amount);
        }
        Ok(())
    }

    /// Settles what was set aside in a run's own limits.
    fn settle(&mut self, entry: &Entry, settled: &[Settlement]) -> Result<(), LedgerError> {
        let call = entry.call().unwrap_or_default();
        for one in settled.iter().filter(|one| is_of_run(&one.budget)) {
            let limit = (one.budget.clone(), one.window.clone());
            let key = (call.to_owned(), entry.body().ordinal(), limit.clone());
            let reserved = self.reserved.remove(&key);
            let account = self.accounts.entry(limit).or_default();
            let after = reserved.and_then(|reserved| account.settle(reserved, one.amount).ok());
            *account = after.ok_or_else(|| {
                LedgerError::Story(format!(
                    "{} of call {call}: it settles more of `{}` than it reserved",
                    entry.kind(),
                    one.budget
                ))
            })?;
        }
        Ok(())
    }

    fn count(&mut self, entry: &Entry, failed: bool) {
        let run = self.calls.get(entry.call().unwrap_or_default());
        if let Some(run) = run.and_then(|id| self.runs.get_mut(id)) {
            run.count(failed);
        }
    }

    fn known(&mut self, id: &str) -> Result<&mut Run, LedgerError> {
        self.runs
            .get_mut(id)
            .ok_or_else(|| wrong(id, "was not started before anything of it"))
    }
}

/// Whether a budget came with a run, or with a token of one.
fn is_of_run(budget: &str) -> bool {
    run::is_own(budget) || is_of_token(budget)
}

/// What is part of no run uses up no run's limits.
fn outside_of_runs(entry: &Entry, reserved: &[Reservation]) -> Result<(), LedgerError> {
    let own = reserved.iter().any(|one| is_of_run(&one.budget));
    if !guard!("ledger.run-none", !own) {
        return Err(LedgerError::Story(format!(
            "{} of call {}: it is part of no run, and reserves in the limits of one",
            entry.kind(),
            entry.call().unwrap_or_default()
        )));
    }
    Ok(())
}

fn wrong(run: &str, why: &str) -> LedgerError {
    LedgerError::Story(format!("run {run} {why}"))
}

fn not_within(entry: &Entry, run: &str, why: &str) -> LedgerError {
    LedgerError::Story(format!(
        "{} of call {}: its run {run} {why}",
        entry.kind(),
        entry.call().unwrap_or_default()
    ))
}
