//! Metrics: what the ledger's entries come to, counted.
//!
//! [`Metrics::note`] is total over entries and looks at no clock: the same entries give the same counts, in the process that writes them as
//! in a command that reads them years later. What is counted and by what is in [`names`]; nothing that a guest, an agent or a service says
//! is a label. How things stand now ([`names::Kind::Gauge`]) is not counted here: whoever serves metrics sets that beside it.

pub mod names;
mod samples;
#[cfg(test)]
mod tests;
mod text;

pub use names::Metric;
pub use samples::{MOST_SERIES, OTHER, Samples, Value};
pub use text::Format;

use names::*;

use crate::error::Code;
use crate::hold::{Edit, End as HoldEnd, Verdict, Vote};
use crate::ledger::body::{
    Amount, CallDenied, CallFinished, CallsReplayed, Cause, ClosedBy, Dropped, EffectIntent, EffectOutcome,
    EffectRefused, EffectResolved, End, HoldVoted, Outcome, Refused, Settlement, Stage,
};
use crate::ledger::{Body, Contexts, Entry};

/// Counts entries.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: Samples,
    calls: Contexts,
}

/// Where an effect went, as far as it is known.
#[derive(Clone, Copy)]
struct Way<'e> {
    connection: &'e str,
    route: &'e str,
    tool: &'e str,
    cause: Option<Cause>,
    undoes: bool,
}

impl Metrics {
    /// The call of an entry that cannot be counted by its names, as what came before it is not known: its entries before this one are to be
    /// [recalled](Self::recall) first. Without that they are counted under no name.
    #[must_use]
    pub fn unknown<'e>(&self, entry: &'e Entry) -> Option<&'e str> {
        self.calls.unknown(entry)
    }

    /// Takes in what an entry says of a call, and counts nothing.
    pub fn recall(&mut self, entry: &Entry) {
        self.calls.take(entry);
    }

    /// What was counted so far.
    #[must_use]
    pub const fn samples(&self) -> &Samples {
        &self.samples
    }

    /// Has a counter begin at 0 where it was not counted yet, so that its first increase is seen.
    pub fn expect(&mut self, metric: &'static Metric, labels: &[&str]) {
        self.samples.add(metric, labels, 0);
    }

    /// Counts an entry.
    pub fn note(&mut self, entry: &Entry) {
        let Self { samples, calls } = self;
        let way = way(calls, entry);
        samples.add(&ENTRIES, &[entry.kind().as_str()], 1);
        match entry.body() {
            Body::CallDenied(denied) => call_denied(samples, denied),
            Body::CallAccepted(_) => samples.add(&DECISIONS, &["call", "permitted"], 1),
            Body::CallFinished(finished) => call_finished(samples, finished),
            Body::CallPaused(_) => samples.add(&CALLS_PAUSED, &[], 1),
            Body::EffectRefused(refused) => effect_refused(samples, refused),
            Body::EffectHeld(held) if held.edited_from.is_none() => {
                samples.add(&HOLDS, &[&held.connection, &held.route], 1);
                samples.add(&DECISIONS, &["effect", "held"], 1);
            }
            Body::HoldVoted(voted) => voted_on(samples, voted),
            Body::HoldEdited(edited) => {
                let group = Edit::claimed(&edited.edit).map(|edit| edit.group).unwrap_or_default();
                samples.add(&HOLD_EDITS, &[&group], 1);
            }
            Body::EffectIntent(intent) => effect_intended(samples, intent),
            Body::EffectRetried(again) => samples.add(&RETRIES, &[&again.connection, &again.route], 1),
            Body::EffectOutcome(outcome) => effect_ended(samples, outcome, way),
            Body::EffectChecked(checked) => {
                samples.add(&CHECKS, &[way.connection, way.route, checked.shown.as_str()], 1);
            }
            Body::EffectResolved(resolved) => effect_resolved(samples, resolved, way),
            Body::VoteRefused(refused) => samples.add(&VOTES_REFUSED, &[&refused.why], 1),
            Body::ValuesErased(erased) => samples.add(&CALLS_ERASED, &[], erased.calls.len() as u64),
            Body::StopSet(set) => samples.add(&STOP_CHANGES, &[set.kind.as_str(), "set"], 1),
            Body::StopLifted(lifted) => samples.add(&STOP_CHANGES, &[lifted.kind.as_str(), "lifted"], 1),
            Body::RunStarted(_) => samples.add(&RUNS, &["started"], 1),
            Body::RunEnded(_) => samples.add(&RUNS, &["ended"], 1),
            Body::RunDegraded(_) => samples.add(&RUNS, &["degraded"], 1),
            Body::BreakerOpened(opened) => {
                let route = opened.route.as_deref().unwrap_or_default();
                samples.add(&BREAKER_CHANGES, &[&opened.connection, route, "open"], 1);
            }
            Body::BreakerClosed(closed) => {
                let route = closed.route.as_deref().unwrap_or_default();
                let to = match closed.why {
                    ClosedBy::Probe => "closed",
                    ClosedBy::Operator => "closed-by-operator",
                };
                samples.add(&BREAKER_CHANGES, &[&closed.connection, route, to], 1);
            }
            Body::ServicePaused(paused) => samples.add(&SERVICE_PAUSES, &[&paused.connection], 1),
            Body::DeadLetterDropped(dropped) => samples.add(&DEAD_LETTERS_DROPPED, &[why_dropped(dropped.why)], 1),
            Body::BudgetWarned(warned) => samples.add(&BUDGET_WARNINGS, &[&warned.budget], 1),
            Body::CallDiverged(diverged) => samples.add(&DIVERGENCES, &[diverged.part.as_str()], 1),
            Body::CallsReplayed(replayed) => {
                let CallsReplayed {
                    diverged,
                    partial,
                    same,
                } = *replayed;
                for (result, calls) in [("diverged", diverged), ("partial", partial), ("same", same)] {
                    if calls > 0 {
                        samples.add(&REPLAYS, &[result], calls);
                    }
                }
            }
            Body::GuestEnded(ended) => {
                if let Some(call) = calls.of(entry) {
                    samples.add(&FUEL, &[&call.tool, &call.function], ended.fuel);
                }
            }
            // What these say is that they were written, which is counted.
            Body::EffectHeld(_)
            | Body::CallResumed(_)
            | Body::CallSuspended(_)
            | Body::HostReloaded(_)
            | Body::ReloadRefused(_)
            | Body::ActRefused(_)
            | Body::LedgerOpened(_)
            | Body::ConfigChanged(_)
            | Body::PolicyChanged(_)
            | Body::ToolPinned(_)
            | Body::ToolRemoved(_)
            | Body::PersonEnrolled(_)
            | Body::PersonRevoked(_)
            | Body::PersonDelegated(_)
            | Body::KeyCreated(_)
            | Body::KeyRevoked(_)
            | Body::CallersRefused(_)
            | Body::WebhookFailed(_)
            | Body::WebhookRetried(_)
            | Body::WebhookDropped(_) => {}
        }
        if let Some(end) = hold_end(entry.body()) {
            samples.add(&HOLD_ENDS, &[end], 1);
            let held_ms = calls.effect(entry).and_then(|effect| effect.held_ms);
            if let Some(held_ms) = held_ms {
                // Time on the ledger never goes back.
                samples.observe(&HOLD_SECONDS, &[end], seconds(entry.time_ms().abs_diff(held_ms)));
            }
        }
        calls.take(entry);
        if let (Body::CallFinished(_), Some(call)) = (entry.body(), entry.call()) {
            calls.forget(call);
        }
    }
}

fn way<'c>(calls: &'c Contexts, entry: &Entry) -> Way<'c> {
    let tool = calls.of(entry).map_or("", |call| call.tool.as_str());
    match calls.effect(entry) {
        Some(effect) => Way {
            connection: &effect.connection,
            route: &effect.route,
            tool,
            cause: Some(effect.cause),
            undoes: effect.undoes,
        },
        None => Way {
            connection: "",
            route: "",
            tool,
            cause: None,
            undoes: false,
        },
    }
}

/// How the hold ends that an entry ends, in a word.
fn hold_end(body: &Body) -> Option<&'static str> {
    match body {
        Body::EffectIntent(intent) => intent.hold.map(|_| "passed"),
        Body::HoldEdited(_) => Some("edited"),
        Body::EffectRefused(refused) => refused.hold.map(|_| refused.end.map_or("unknown", HoldEnd::as_str)),
        _ => None,
    }
}

fn call_denied(samples: &mut Samples, denied: &CallDenied) {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    samples.add(&CALLS, &[&name(&denied.tool), &name(&denied.function), "denied"], 1);
    refused(samples, "call", &denied.refused);
    if denied.stage == Stage::Policy {
        samples.add(&DECISIONS, &["call", "denied"], 1);
    }
}

fn call_finished(samples: &mut Samples, finished: &CallFinished) {
    let asked = &finished.asked;
    let outcome = outcome_word(&finished.outcome);
    samples.add(&CALLS, &[&asked.tool, &asked.function, outcome], 1);
    samples.add(&FUEL, &[&asked.tool, &asked.function], finished.fuel);
    samples.observe(&CALL_SECONDS, &[&asked.tool], seconds(finished.ms));
    samples.observe(&CALL_WAITED, &[&asked.tool], seconds(finished.upstream));
    settle(samples, &finished.settled);
    if let End::Refused(why) | End::Trapped(why) = &finished.outcome {
        refused(samples, "end", why);
    }
    if let Some(undoes) = &finished.undoes {
        samples.add(&ROLLBACKS, &[undoes.by.as_str(), outcome], 1);
    }
}

/// How a call ended, in the words of `ambit audit list`.
const fn outcome_word(end: &End) -> &'static str {
    match end {
        End::Ok(_) => "ok",
        End::ToolError(_) => "tool-error",
        End::Refused(refused) if matches!(refused.code, Code::DryRun) => "first-write",
        End::Refused(_) => "refused",
        End::Trapped(_) => "trapped",
        End::Interrupted => "interrupted",
    }
}

fn effect_refused(samples: &mut Samples, effect: &EffectRefused) {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let (connection, route) = (name(&effect.connection), name(&effect.route));
    let cause = cause_word(Some(effect.cause));
    samples.add(&EFFECTS, &[&connection, &route, cause, "refused"], 1);
    refused(samples, "effect", &effect.refused);
    if matches!(effect.refused.code, Code::Policy | Code::PolicyError) {
        samples.add(&DECISIONS, &["effect", "denied"], 1);
    }
}

fn effect_intended(samples: &mut Samples, intent: &EffectIntent) {
    if intent.cause != Cause::Host {
        samples.add(&DECISIONS, &["effect", "permitted"], 1);
    }
    for reservation in intent.reserved.iter().filter(|reserved| reserved.over.is_some()) {
        samples.add(&OVERDRAFTS, &[&reservation.budget], 1);
    }
}

fn effect_ended(samples: &mut Samples, ended: &EffectOutcome, way: Way<'_>) {
    let outcome = match &ended.outcome {
        Outcome::Answered(_) if ended.is_done() => "done",
        Outcome::Answered(_) if ended.absent => "absent",
        Outcome::Answered(answered) if matches!(answered.status, 400..=499) => "declined",
        Outcome::Answered(_) => "failed",
        Outcome::NotSent(why) => {
            refused(samples, "sending", why);
            "not-sent"
        }
        Outcome::InDoubt(why) => {
            samples.add(&IN_DOUBT, &[way.connection, way.route, why.as_str()], 1);
            "in-doubt"
        }
    };
    let cause = cause_word(way.cause);
    samples.add(&EFFECTS, &[way.connection, way.route, cause, outcome], 1);
    samples.observe(&EFFECT_SECONDS, &[way.connection], seconds(ended.ms));
    samples.add(&EFFECT_BYTES, &[way.connection, "sent"], ended.sent);
    samples.add(&EFFECT_BYTES, &[way.connection, "received"], ended.received);
    settle(samples, &ended.settled);
    if !ended.is_in_doubt() {
        spend(samples, ended.spent.as_ref(), way);
    }
    if ended.dead {
        samples.add(&DEAD_LETTERS, &[way.connection, way.route], 1);
    }
    if way.undoes && ended.is_done() {
        samples.add(&UNDONE, &[way.connection, way.route], 1);
    }
}

fn effect_resolved(samples: &mut Samples, resolved: &EffectResolved, way: Way<'_>) {
    samples.add(&RESOLVED, &[resolved.found.as_str()], 1);
    settle(samples, &resolved.settled);
    spend(samples, resolved.spent.as_ref(), way);
    if resolved.dead {
        samples.add(&DEAD_LETTERS, &[way.connection, way.route], 1);
    }
}

fn voted_on(samples: &mut Samples, voted: &HoldVoted) {
    let Ok(vote) = Vote::claimed(&voted.vote) else { return };
    samples.add(&VOTES, &[&vote.group, vote.verdict.as_str()], 1);
    if vote.verdict == Verdict::BreakGlass {
        samples.add(&BREAK_GLASS, &[&vote.group], 1);
    }
}

fn refused(samples: &mut Samples, of: &str, why: &Refused) {
    let rule = why.rule.as_deref().unwrap_or_default();
    samples.add(&REFUSALS, &[of, why.code.as_str(), rule], 1);
}

fn spend(samples: &mut Samples, spent: Option<&Amount>, way: Way<'_>) {
    if let Some(Amount { currency, minor }) = spent {
        samples.add(
            &MONEY,
            &[currency.as_str(), way.tool, way.connection, way.route],
            *minor,
        );
    }
}

fn settle(samples: &mut Samples, settled: &[Settlement]) {
    for Settlement { amount, budget, window } in settled {
        // The first word of a window is what it counts.
        let unit = window.split(' ').next().unwrap_or_default();
        samples.add(&BUDGET_USED, &[budget, unit], *amount);
    }
}

fn cause_word(cause: Option<Cause>) -> &'static str {
    cause.map_or("", Cause::as_str)
}

const fn why_dropped(why: Dropped) -> &'static str {
    match why {
        Dropped::Happened => "happened",
        Dropped::DoneByHand => "done-by-hand",
        Dropped::Unneeded => "unneeded",
        Dropped::Wrong => "wrong",
    }
}

/// Milliseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "of 285,000 years a millisecond is lost")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
