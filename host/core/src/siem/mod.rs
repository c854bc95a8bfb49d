//! The ledger for other systems: entries as lines of JSON, as they are ([`lines`]) or in the words of OCSF ([`ocsf`]).
//!
//! One entry is one line. What an entry leaves to earlier ones of its call, the name of a tool or of a route, is told from
//! [`Contexts`]. Neither form is a proof: an export that anybody can verify has tiles and a signed checkpoint.

pub mod lines;
pub mod ocsf;

use crate::error::Code;
use crate::ledger::body::{Amount, End, Outcome, Refused};
use crate::ledger::{Body, Contexts, Entry};
use crate::scope::Tier;

/// What an entry says, in the words that both forms share.
#[derive(Debug, Default)]
pub(crate) struct Facts<'e> {
    /// What was decided: `permitted`, `denied` or `held`.
    pub(crate) decision: Option<&'static str>,
    /// What came of it, in a word.
    pub(crate) outcome: Option<&'static str>,
    /// The status of a service's answer.
    pub(crate) status: Option<u16>,
    /// Why it was refused.
    pub(crate) code: Option<Code>,
    /// The `@id`s of the policies that decided.
    pub(crate) rules: Vec<&'e str>,
    /// The money that it would move, moves or moved.
    pub(crate) money: Option<&'e Amount>,
    pub(crate) tool: Option<&'e str>,
    pub(crate) function: Option<&'e str>,
    pub(crate) run: Option<&'e str>,
    pub(crate) connection: Option<&'e str>,
    pub(crate) route: Option<&'e str>,
    pub(crate) tier: Option<Tier>,
    /// What the operator's act was about.
    about: Option<(&'static str, &'e str)>,
}

impl<'e> Facts<'e> {
    /// What an entry says by itself and by what came before it.
    pub(crate) fn of(entry: &'e Entry, calls: &'e Contexts) -> Self {
        let mut facts = Self::default();
        if let Some(call) = calls.of(entry) {
            facts.tool = Some(&call.tool);
            facts.function = Some(&call.function);
            facts.run = call.run.as_deref();
            facts.tier = call.tier;
        }
        if let Some(effect) = calls.effect(entry) {
            facts.connection = Some(&effect.connection);
            facts.route = Some(&effect.route);
            facts.tier = Some(effect.tier);
        }
        facts.read(entry.body());
        facts
    }

    fn read(&mut self, body: &'e Body) {
        match body {
            Body::CallDenied(denied) => {
                self.decided("denied", &denied.rules);
                self.refused(&denied.refused);
                self.tool = denied.tool.as_deref();
                self.function = denied.function.as_deref();
                self.run = denied.run.as_deref();
            }
            Body::CallAccepted(accepted) => {
                self.decided("permitted", &accepted.rules);
                self.tool = Some(&accepted.asked.tool);
                self.function = Some(&accepted.asked.function);
                self.run = accepted.run.as_deref();
                self.tier = Some(accepted.asked.tier);
            }
            Body::CallFinished(finished) => {
                self.tool = Some(&finished.asked.tool);
                self.function = Some(&finished.asked.function);
                self.tier = Some(finished.asked.tier);
                self.outcome = Some(match &finished.outcome {
                    End::Ok(_) => "ok",
                    End::ToolError(_) => "tool-error",
                    End::Refused(_) => "refused",
                    End::Trapped(_) => "trapped",
                    End::Interrupted => "interrupted",
                });
                if let End::Refused(refused) | End::Trapped(refused) = &finished.outcome {
                    self.refused(refused);
                }
            }
            Body::CallPaused(_) => self.outcome = Some("paused"),
            Body::CallSuspended(_) => self.outcome = Some("suspended"),
            Body::ReloadRefused(refused) => self.code = Some(refused.code),
            Body::ActRefused(refused) => self.code = Some(refused.code),
            Body::EffectRefused(refused) => {
                self.decided("denied", &refused.rules);
                self.refused(&refused.refused);
                self.connection = refused.connection.as_deref();
                self.route = refused.route.as_deref();
                self.tier = refused.tier;
                self.money = refused.spend.as_ref();
            }
            Body::EffectHeld(held) => {
                self.decided("held", &held.rules);
                self.through(&held.connection, &held.route);
                self.tier = Some(held.tier);
                self.money = held.spend.as_ref();
            }
            Body::EffectIntent(intent) => {
                self.decided("permitted", &intent.rules);
                self.through(&intent.connection, &intent.route);
                self.tier = Some(intent.tier);
                self.money = intent.spend.as_ref();
            }
            Body::EffectRetried(again) => self.through(&again.connection, &again.route),
            Body::EffectOutcome(ended) => {
                self.money = ended.spent.as_ref();
                match &ended.outcome {
                    Outcome::Answered(answered) => {
                        self.outcome = Some("answered");
                        self.status = Some(answered.status);
                    }
                    Outcome::NotSent(refused) => {
                        self.outcome = Some("not-sent");
                        self.refused(refused);
                    }
                    Outcome::InDoubt(_) => self.outcome = Some("in-doubt"),
                }
            }
            Body::EffectChecked(checked) => self.outcome = Some(checked.shown.as_str()),
            Body::EffectResolved(resolved) => {
                self.outcome = Some(resolved.found.as_str());
                self.money = resolved.spent.as_ref();
            }
            Body::ToolPinned(pinned) => self.about = Some(("tool", &pinned.name)),
            Body::ToolRemoved(removed) => self.about = Some(("tool", &removed.name)),
            Body::PersonEnrolled(person) => self.about = Some(("person", &person.name)),
            Body::PersonRevoked(person) => self.about = Some(("person", &person.name)),
            Body::KeyCreated(key) => self.about = Some(("key", &key.key)),
            Body::KeyRevoked(key) => self.about = Some(("key", &key.key)),
            Body::StopSet(set) => self.about = Some(("stop", &set.id)),
            Body::StopLifted(lifted) => self.about = Some(("stop", &lifted.id)),
            Body::RunStarted(run) => self.run = Some(&run.run),
            Body::RunEnded(run) => self.run = Some(&run.run),
            Body::RunDegraded(run) => self.run = Some(&run.run),
            Body::BreakerOpened(opened) => self.breaker(&opened.connection, opened.route.as_deref()),
            Body::BreakerClosed(closed) => self.breaker(&closed.connection, closed.route.as_deref()),
            Body::ServicePaused(paused) => self.connection = Some(&paused.connection),
            Body::DeadLetterDropped(dropped) => self.about = Some(("call", &dropped.call)),
            Body::BudgetWarned(warned) => self.about = Some(("budget", &warned.budget)),
            Body::WebhookFailed(failed) => {
                self.about = Some(("webhook", &failed.message.webhook));
                self.code = failed.code;
                self.status = failed.status;
            }
            Body::WebhookRetried(retried) => self.about = Some(("webhook", &retried.message.webhook)),
            Body::WebhookDropped(dropped) => self.about = Some(("webhook", &dropped.message.webhook)),
            Body::CallDiverged(diverged) => self.about = Some(("call", &diverged.call)),
            Body::LedgerOpened(_)
            | Body::ConfigChanged(_)
            | Body::PolicyChanged(_)
            | Body::HostReloaded(_)
            | Body::PersonDelegated(_)
            | Body::CallersRefused(_)
            | Body::CallsReplayed(_)
            | Body::VoteRefused(_)
            | Body::ValuesErased(_)
            | Body::HoldVoted(_)
            | Body::HoldEdited(_)
            | Body::CallResumed(_)
            | Body::GuestEnded(_) => {}
        }
    }

    fn decided(&mut self, decision: &'static str, rules: &'e [String]) {
        self.decision = Some(decision);
        self.rules = rules.iter().map(String::as_str).collect();
    }

    fn refused(&mut self, refused: &'e Refused) {
        self.code = Some(refused.code);
        let rule = refused.rule.as_deref();
        self.rules.extend(rule.filter(|rule| !self.rules.contains(rule)));
    }

    const fn through(&mut self, connection: &'e str, route: &'e str) {
        self.connection = Some(connection);
        self.route = Some(route);
    }

    const fn breaker(&mut self, connection: &'e str, route: Option<&'e str>) {
        self.connection = Some(connection);
        self.route = route;
    }
}

fn detail(code: Code, rules: &[&str]) -> String {
    match rules {
        [] => code.as_str().to_owned(),
        rules => format!("{code}, by {}", rules.join(", ")),
    }
}

/// One sentence of names and words of this host.
pub(crate) fn message(entry: &Entry, facts: &Facts<'_>) -> String {
    let mut parts = vec![entry.kind().as_str().to_owned()];
    parts.extend(
        facts
            .tool
            .zip(facts.function)
            .map(|(tool, function)| format!("{tool} {function}")),
    );
    let way = facts.connection.map(|connection| match facts.route {
        Some(route) => format!("{connection}/{route}"),
        None => connection.to_owned(),
    });
    parts.extend(way);
    parts.extend(facts.about.map(|(kind, name)| format!("{kind} {name}")));
    parts.extend(facts.decision.map(str::to_owned));
    parts.extend(facts.outcome.map(str::to_owned));
    parts.extend(facts.status.map(|status| status.to_string()));
    parts.extend(facts.code.map(|code| detail(code, &facts.rules)));
    parts.join(": ")
}
