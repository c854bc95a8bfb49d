//! One call told for people: who, what was asked, which rule decided each effect, what left, what came back, the cost.

use std::io::{self, Write};
use std::ops::RangeFrom;

use ambit_core::hold::{Changes, Edit, Vote};
use ambit_core::ledger::body::{
    Amount, By, CallFinished, Cause, Doubt, EffectChecked, EffectHeld, EffectIntent, EffectOutcome, End, Found,
    HoldEdited, HoldVoted, Outcome, Refused, Shown, Stage, Undoes,
};
use ambit_core::ledger::guests::Guests;
use ambit_core::ledger::story::{EditStory, EffectStory, HoldStory, Opening, Told};
use ambit_core::ledger::{CallStory, utc};
use ambit_runtime::approvals::told;
use ambit_runtime::objects::not_shown;
use anstyle::Style;

use super::approvals::edit::{change, compared};
use super::approvals::{verdict, voter};
use crate::output::{style, untrusted};

/// Looks up a payload of the call by name; none where it is not to be shown or is gone.
pub(crate) type Payloads<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Prints the whole story.
pub(crate) fn print(story: &CallStory, payload: &Payloads<'_>, w: &mut dyn Write) -> io::Result<()> {
    let teller = Teller { payload };
    teller.heading(story, w)?;
    match &story.opening.what {
        Opening::Denied(denied) => {
            let what = format!("denied before it ran ({})", stage(denied.stage));
            teller.line(w, style::BAD, story.opening.stamp.time_ms(), &what)?;
            teller.refused(&denied.refused, &denied.rules, "denied", w)?;
        }
        Opening::Accepted(accepted) => {
            teller.line(w, style::HEAD, story.opening.stamp.time_ms(), "accepted")?;
            rules("allowed by", &accepted.rules, w)?;
        }
    }
    for (ordinal, effect) in &story.effects {
        teller.effect(story, *ordinal, effect, w)?;
    }
    for pause in &story.pauses {
        let what = format!("paused before effect {} by {}", pause.what.ordinal, pause.what.stop);
        teller.line(w, style::WARN, pause.stamp.time_ms(), &what)?;
    }
    for suspension in &story.suspensions {
        teller.line(
            w,
            style::WARN,
            suspension.stamp.time_ms(),
            "suspended: its host was told to end",
        )?;
    }
    match &story.finished {
        Some(finished) => teller.finished(finished, &story.guests, w),
        None if story.is_over() || story.waiting().is_some() => Ok(()),
        None => teller.line(
            w,
            style::WARN,
            story.opening.stamp.time_ms(),
            "not finished: it runs, or the host ended",
        ),
    }
}

struct Teller<'a> {
    payload: &'a Payloads<'a>,
}

impl Teller<'_> {
    fn heading(&self, story: &CallStory, w: &mut dyn Write) -> io::Result<()> {
        let (tool, function, mode, tier) = match &story.opening.what {
            Opening::Accepted(a) => (
                Some(a.asked.tool.as_str()),
                Some(a.asked.function.as_str()),
                a.asked.mode.as_str(),
                a.asked.tier.to_string(),
            ),
            Opening::Denied(d) => (d.tool.as_deref(), d.function.as_deref(), "", String::new()),
        };
        writeln!(
            w,
            "{}call {}{}",
            style::HEAD.render(),
            story.call,
            style::HEAD.render_reset()
        )?;
        if let Some(p) = &story.principal {
            let user = p.user.as_deref().map(|user| format!(" for {user}")).unwrap_or_default();
            field(
                w,
                "who",
                &format!("{}{user} (team {}, tenant {})", p.agent, p.team, p.tenant),
            )?;
        }
        let asked = format!("{} {}", tool.unwrap_or("?"), function.unwrap_or("?"));
        let kind = [tier.as_str(), mode]
            .iter()
            .filter(|s| !s.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(", ");
        field(
            w,
            "asked",
            &if kind.is_empty() {
                asked
            } else {
                format!("{asked} ({kind})")
            },
        )?;
        self.value(w, "arguments", "args")?;
        field(w, "trace", &story.trace)?;
        if let Some(run) = story.run() {
            field(w, "run", run)?;
        }
        if let Some(undoes) = story.undoes() {
            let how = match undoes.by {
                By::Function => "by its tool's function",
                By::Routes => "by its routes",
            };
            let over = if undoes.over_changes {
                ", over what somebody else changed since"
            } else {
                ""
            };
            field(w, "undoes", &format!("{}, {how}{over}{}", undoes.call, undoes.left()))?;
        }
        for (name, digest) in [("tool", story.tool), ("policy", story.policy), ("config", story.config)] {
            if let Some(digest) = digest {
                field(w, name, &digest.to_string())?;
            }
        }
        writeln!(w)
    }

    fn effect(&self, story: &CallStory, ordinal: u32, effect: &EffectStory, w: &mut dyn Write) -> io::Result<()> {
        if let Some(hold) = story.holds.get(&ordinal) {
            self.hold(ordinal, hold, w)?;
        }
        match effect {
            EffectStory::Held(_) => field(w, "waits", "until it is approved, rejected or expired"),
            EffectStory::Refused(told) => {
                let refused = &told.what;
                let place = place(refused.connection.as_deref(), refused.route.as_deref());
                let tier = refused.tier.map(|t| format!("{t} ")).unwrap_or_default();
                let spend = refused
                    .spend
                    .as_ref()
                    .map(|a| format!(", {}", money(a)))
                    .unwrap_or_default();
                let what = format!("effect {ordinal}: {tier}{place}{spend}: refused");
                self.line(w, style::BAD, told.stamp.time_ms(), &what)?;
                undoes(refused.undoes.as_ref(), w)?;
                self.refused(
                    &refused.refused,
                    &refused.rules,
                    &format!("effect/{ordinal}/refused"),
                    w,
                )?;
                self.value(w, "asked", &format!("effect/{ordinal}/asked"))
            }
            EffectStory::Intended {
                intent,
                retries,
                outcome,
                checked,
                resolved,
            } => {
                self.intent(ordinal, intent, w)?;
                if story
                    .holds
                    .get(&ordinal)
                    .is_none_or(|hold| hold.held.what.before.is_none())
                {
                    self.value(w, "before", &format!("effect/{ordinal}/before"))?;
                }
                self.value(w, "left", &format!("effect/{ordinal}/request"))?;
                for again in retries {
                    let what = format!("{}, after {}", utc(again.stamp.time_ms()), briefly(&again.what.after));
                    field(w, "again", &what)?;
                }
                match outcome {
                    Some(outcome) => self.outcome(ordinal, &outcome.what, w)?,
                    None => field(w, "outcome", "none yet: in flight, or the host ended")?,
                }
                if let Some(checked) = checked {
                    self.checked(ordinal, &checked.what, w)?;
                }
                let Some(resolved) = resolved else { return Ok(()) };
                let found = match resolved.what.found {
                    Found::Done => "it was done",
                    Found::NotDone => "it was not done",
                };
                field(w, "found", &format!("{found}, {}", utc(resolved.stamp.time_ms())))?;
                self.value(w, "because", &format!("effect/{ordinal}/found"))
            }
        }
    }

    fn hold(&self, ordinal: u32, hold: &HoldStory, w: &mut dyn Write) -> io::Result<()> {
        let mut nth = 1..;
        for EditStory { held, votes, edit } in &hold.edits {
            self.held(held, w)?;
            self.votes(ordinal, votes, &mut nth, w)?;
            self.edit(ordinal, edit, w)?;
        }
        self.held(&hold.held, w)?;
        self.votes(ordinal, &hold.votes, &mut nth, w)
    }

    /// Who changed what: the fields from what the tool asked for to what they are.
    fn edit(&self, ordinal: u32, told: &Told<HoldEdited>, w: &mut dyn Write) -> io::Result<()> {
        let edited = &told.what;
        let Ok(said) = Edit::claimed(&edited.edit) else {
            return Ok(());
        };
        let who = format!("{} of {}, {}", said.person, said.group, utc(told.stamp.time_ms()));
        field(w, "edited by", &who)?;
        let Some(text) = (self.payload)(&edited.changes_name()) else {
            return Ok(());
        };
        let Ok(changes) = Changes::parse(&text) else {
            return field(w, "changes", &text);
        };
        let asked = (self.payload)(&format!("effect/{ordinal}/asked"));
        let asked = asked.and_then(|asked| serde_json::from_str(&asked).ok());
        for (name, from, to) in compared(&changes, asked.as_ref()) {
            field(w, "changes", &change(&name, from.as_ref(), to.as_ref()))?;
        }
        self.value(w, "because", &edited.reason_name())
    }

    fn held(&self, told_of: &Told<EffectHeld>, w: &mut dyn Write) -> io::Result<()> {
        let held = &told_of.what;
        let ordinal = held.ordinal;
        let place = place(Some(&held.connection), Some(&held.route));
        let spend = held
            .spend
            .as_ref()
            .map(|a| format!(", {}", money(a)))
            .unwrap_or_default();
        let what = format!("effect {ordinal}: {} {place}{spend}: held", held.tier);
        self.line(w, style::WARN, told_of.stamp.time_ms(), &what)?;
        if !held.rules.is_empty() {
            rules("denied by", &held.rules, w)?;
        }
        if !held.over.is_empty() {
            field(w, "passes", &format!("the cap of {}", held.over.join(", ")))?;
        }
        undoes(held.undoes.as_ref(), w)?;
        field(w, "needs", &told(&held.needs))?;
        if held.before.is_some() {
            self.value(w, "before", &held.before_name())?;
        }
        self.value(w, "would send", &held.request_name())
    }

    /// Votes, with their reasons, which are numbered over all that the effect was.
    fn votes(
        &self,
        ordinal: u32,
        votes: &[Told<HoldVoted>],
        nth: &mut RangeFrom<u32>,
        w: &mut dyn Write,
    ) -> io::Result<()> {
        for (vote, nth) in votes.iter().zip(nth) {
            let Ok(said) = Vote::claimed(&vote.what.vote) else {
                continue;
            };
            let when = utc(vote.stamp.time_ms());
            field(w, verdict(said.verdict), &format!("{}, {when}", voter(&said)))?;
            if let Some(instead) = &vote.what.instead {
                field(w, "alone for", &told(std::slice::from_ref(instead)))?;
            }
            if let Some(by) = &vote.what.by {
                field(w, "handed in", &format!("by {}, over HTTP", untrusted(&by.name)))?;
            }
            self.value(w, "because", &format!("effect/{ordinal}/reason/{nth}"))?;
        }
        Ok(())
    }

    fn intent(&self, ordinal: u32, told: &Told<EffectIntent>, w: &mut dyn Write) -> io::Result<()> {
        let intent = &told.what;
        let place = place(Some(&intent.connection), Some(&intent.route));
        let spend = intent
            .spend
            .as_ref()
            .map(|a| format!(", {}", money(a)))
            .unwrap_or_default();
        let cause = match intent.cause {
            Cause::Guest => "",
            Cause::Host => " (the host's own reading)",
            Cause::Operator if intent.undoes.is_some() => " (takes an effect back)",
            Cause::Operator => " (an operator's retry)",
        };
        let what = format!("effect {ordinal}: {} {place}{spend}{cause}", intent.tier);
        self.line(w, style::HEAD, told.stamp.time_ms(), &what)?;
        if let Some(letter) = &intent.letter {
            let key = if letter.new_key {
                "under another key"
            } else {
                "under the same key"
            };
            field(
                w,
                "retries",
                &format!("effect {} of {}, {key}", letter.ordinal, letter.call),
            )?;
        }
        undoes(intent.undoes.as_ref(), w)?;
        rules("allowed by", &intent.rules, w)?;
        for r in &intent.reserved {
            field(
                w,
                "reserved",
                &format!("{} of {} in budget {} ({})", r.amount, r.cap, r.budget, r.window),
            )?;
            if let Some(hold) = r.over {
                field(w, "passes", &format!("its cap, by the approvals of hold {hold}"))?;
            }
        }
        Ok(())
    }

    fn outcome(&self, ordinal: u32, ended: &EffectOutcome, w: &mut dyn Write) -> io::Result<()> {
        let traffic = format!("{} B sent, {} B received, {} ms", ended.sent, ended.received, ended.ms);
        match &ended.outcome {
            Outcome::Answered(answered) => field(w, "came back", &format!("{} ({traffic})", answered.status))?,
            Outcome::NotSent(refused) => {
                field(w, "not sent", refused.code.as_str())?;
                self.value(w, "why", &format!("effect/{ordinal}/refused"))?;
            }
            Outcome::InDoubt(doubt) => field(w, "in doubt", &format!("{} ({traffic})", why_in_doubt(*doubt)))?,
        }
        if ended.dead {
            field(w, "failed", "for good: ambit dead-letters list")?;
        }
        self.value(w, "answer", &format!("effect/{ordinal}/answer"))
    }

    fn checked(&self, ordinal: u32, checked: &EffectChecked, w: &mut dyn Write) -> io::Result<()> {
        let what = match checked.shown {
            Shown::Shown => "it is there as it was sent",
            Shown::NothingToCompare => "the object is there; nothing that was sent is read of it",
            Shown::Missing => "UNVERIFIED: it is not there as it was sent",
            Shown::Unreadable => "UNVERIFIED: it could not be read back",
        };
        field(w, "read back", what)?;
        for line in (self.payload)(&format!("effect/{ordinal}/diff"))
            .iter()
            .flat_map(|diff| not_shown(diff))
        {
            field(w, "missing", &line)?;
        }
        self.value(w, "difference", &format!("effect/{ordinal}/diff"))
    }

    fn finished(&self, told: &Told<CallFinished>, guests: &Guests, w: &mut dyn Write) -> io::Result<()> {
        let finished = &told.what;
        let (colour, what) = match &finished.outcome {
            End::Ok(_) => (style::GOOD, "finished"),
            End::ToolError(_) => (style::WARN, "finished with the tool's own error"),
            End::Refused(_) => (style::BAD, "ended by the host"),
            End::Trapped(_) => (style::BAD, "ended: the guest failed"),
            End::Interrupted => (style::WARN, "interrupted: the host ended first"),
        };
        self.line(w, colour, told.stamp.time_ms(), what)?;
        match &finished.outcome {
            End::Ok(_) | End::ToolError(_) => self.value(w, "result", "result")?,
            End::Refused(refused) | End::Trapped(refused) => self.refused(refused, &[], "refused", w)?,
            End::Interrupted => {}
        }
        self.value(w, "log", "log")?;
        for amount in &finished.spent {
            field(w, "money", &money(amount))?;
        }
        let e = finished.effects;
        field(
            w,
            "effects",
            &format!(
                "{} answered, {} refused, {} not sent, {} in doubt{}",
                e.answered,
                e.refused,
                e.not_sent,
                e.in_doubt,
                match e.unverified {
                    0 => String::new(),
                    unverified => format!(", {unverified} unverified"),
                }
            ),
        )?;
        field(
            w,
            "cost",
            &format!(
                "fuel {}, memory {} KiB, {} ms of its own, {} ms waiting for services",
                finished.fuel,
                finished.memory.div_ceil(1024),
                finished.ms,
                finished.upstream
            ),
        )?;
        match guests.together(finished.fuel) {
            None => Ok(()),
            Some((count, Some(fuel))) => field(w, "guests", &format!("{count}, with {fuel} fuel together")),
            Some((count, None)) => field(w, "guests", &format!("{count}; what one used nobody knows")),
        }
    }

    fn refused(&self, refused: &Refused, decided: &[String], detail: &str, w: &mut dyn Write) -> io::Result<()> {
        let rule = refused
            .rule
            .as_deref()
            .map(|rule| format!(", rule {rule}"))
            .unwrap_or_default();
        field(w, "code", &format!("{}{rule}", refused.code))?;
        rules("decided by", decided, w)?;
        self.value(w, "why", detail)
    }

    fn value(&self, w: &mut dyn Write, name: &str, payload: &str) -> io::Result<()> {
        match (self.payload)(payload) {
            Some(text) => field(w, name, &text),
            None => Ok(()),
        }
    }

    fn line(&self, w: &mut dyn Write, colour: Style, time_ms: i64, what: &str) -> io::Result<()> {
        let dim = style::DIM;
        let time = utc(time_ms);
        writeln!(
            w,
            "{}{time}{} {}{}{}",
            dim.render(),
            dim.render_reset(),
            colour.render(),
            untrusted(what),
            colour.render_reset()
        )
    }
}

fn field(w: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    let dim = style::DIM;
    writeln!(
        w,
        "  {}{name:<10}{} {}",
        dim.render(),
        dim.render_reset(),
        untrusted(value)
    )
}

fn undoes(undoes: Option<&Undoes>, w: &mut dyn Write) -> io::Result<()> {
    match undoes {
        Some(Undoes { call, ordinal }) => field(w, "undoes", &format!("effect {ordinal} of {call}")),
        None => Ok(()),
    }
}

fn rules(name: &str, ids: &[String], w: &mut dyn Write) -> io::Result<()> {
    if ids.is_empty() {
        Ok(())
    } else {
        field(w, name, &ids.join(", "))
    }
}

fn place(connection: Option<&str>, route: Option<&str>) -> String {
    match (connection, route) {
        (Some(connection), Some(route)) => format!("{connection}/{route}"),
        (Some(connection), None) => format!("{connection} (no route)"),
        _ => "no connection".to_owned(),
    }
}

pub(super) fn money(amount: &Amount) -> String {
    format!("{} {} (minor units)", amount.minor, amount.currency)
}

/// How one sending ended.
fn briefly(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered(answered) => format!("the answer {}", answered.status),
        Outcome::NotSent(refused) => format!("not being sent ({})", refused.code),
        Outcome::InDoubt(doubt) => why_in_doubt(*doubt).to_owned(),
    }
}

const fn why_in_doubt(doubt: Doubt) -> &'static str {
    match doubt {
        Doubt::Timeout => "no answer came in time",
        Doubt::Connection => "the connection broke after the request had begun",
        Doubt::Answer => "an answer came that could not be read",
        Doubt::Restart => "the host ended before it knew",
        Doubt::Stopped => "the call was stopped before its answer came",
    }
}

fn stage(stage: Stage) -> String {
    serde_json::to_value(stage)
        .ok()
        .and_then(|v| v.as_str().map(str::to_owned))
        .unwrap_or_default()
}
