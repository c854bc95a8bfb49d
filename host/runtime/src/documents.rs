//! Calls, runs, budgets and what waits, as programs are told of them: one form, whether the command line prints it or the HTTP API answers
//! with it. Times are in UTC.

use std::path::Path;

use ambit_core::error::Code;
use ambit_core::hold::Standing;
use ambit_core::ledger::body::{Amount, End};
use ambit_core::ledger::story::Opening;
use ambit_core::ledger::{CallStory, utc};
use ambit_core::money::Match;
use ambit_core::run::{Run, RunError};
use serde_json::{Map, Value, json};

use crate::approvals::Pending;
use crate::budgets::{self, Budgets, Counted, Next};
use crate::search::Found;
use crate::store::{BudgetState, Tried, Undelivered};
use crate::webhooks;

/// A time of the ledger that may be later than it can print.
#[must_use]
pub fn until(ms: u64) -> String {
    utc(i64::try_from(ms).unwrap_or(i64::MAX))
}

macro_rules! outcomes {
    ($($name:ident = $word:literal,)+) => {
        /// How a call ended, or how it stands.
        enum Stands { $($name,)+ }

        /// The words that [`outcome`] has for calls.
        pub const OUTCOMES: &[&str] = &[$($word,)+];

        impl Stands {
            const fn as_str(&self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }
        }
    };
}

outcomes! {
    Ok = "ok",
    ToolError = "tool-error",
    Refused = "refused",
    Trapped = "trapped",
    Denied = "denied",
    Held = "held",
    Paused = "paused",
    Suspended = "suspended",
    FirstWrite = "first-write",
    Interrupted = "interrupted",
    Unfinished = "unfinished",
}

/// A call in one word: how it ended, or how it stands. It is one of [`OUTCOMES`].
#[must_use]
pub fn outcome(story: &CallStory) -> &'static str {
    let stands = match (&story.opening.what, &story.finished) {
        (Opening::Denied(_), _) => Stands::Denied,
        (_, None) if story.waiting().is_some() => Stands::Held,
        (_, None) if story.paused().is_some() => Stands::Paused,
        (_, None) if story.suspended().is_some() => Stands::Suspended,
        (_, None) => Stands::Unfinished,
        (_, Some(finished)) => match finished.what.outcome {
            End::Ok(_) => Stands::Ok,
            End::ToolError(_) => Stands::ToolError,
            End::Refused(ref refused) if refused.code == Code::DryRun => Stands::FirstWrite,
            End::Refused(_) => Stands::Refused,
            End::Trapped(_) => Stands::Trapped,
            End::Interrupted => Stands::Interrupted,
        },
    };
    stands.as_str()
}

/// The money that a call moved, as its last entry has it.
#[must_use]
pub fn spent(story: &CallStory) -> &[Amount] {
    story.finished.as_ref().map_or(&[], |finished| &finished.what.spent)
}

/// A call.
#[must_use]
pub fn call(story: &CallStory) -> Value {
    let (tool, function) = match &story.opening.what {
        Opening::Accepted(a) => (Some(&a.asked.tool), Some(&a.asked.function)),
        Opening::Denied(d) => (d.tool.as_ref(), d.function.as_ref()),
    };
    json!({
        "time": utc(story.opening.stamp.time_ms()),
        "call": story.call,
        "outcome": outcome(story),
        "tool": tool,
        "function": function,
        "agent": story.principal.as_ref().map(|p| &p.agent),
        "user": story.principal.as_ref().and_then(|p| p.user.as_ref()),
        "run": story.run(),
        "trace": story.trace,
        "undoes": story.undoes().map(|undoes| &undoes.call),
        "spent": spent(story),
    })
}

/// An entry that was looked for, with the names of the values of its call that have the text.
#[must_use]
pub fn found(found: &Found) -> Value {
    let mut entry = found.entry.clone();
    if let (Value::Object(members), false) = (&mut entry, found.values.is_empty()) {
        members.insert("in_values".to_owned(), json!(found.values));
    }
    entry
}

/// A word for where a run stands at a time, in milliseconds since 1970.
#[must_use]
pub fn run_standing(run: &Run, now_ms: i64) -> &'static str {
    match run.is_open(now_ms) {
        Err(RunError::Expired) => "expired",
        Err(_) => "ended",
        Ok(()) if run.degraded => "degraded",
        Ok(()) => "open",
    }
}

/// A run, at a time in milliseconds since 1970.
#[must_use]
pub fn run(run: &Run, now_ms: i64) -> Value {
    let principal = &run.started.principal;
    json!({
        "run": run.id(),
        "standing": run_standing(run, now_ms),
        "agent": principal.agent,
        "user": principal.user,
        "mode": run.started.mode,
        "started": utc(run.time_ms),
        "expires": until(run.started.expires),
        "limits": run.started.caps,
        "errors": run.started.errors,
        "finished": run.finished,
        "failed": run.failed,
    })
}

/// A word for where a hold stands.
#[must_use]
pub const fn hold_standing(standing: &Standing) -> &'static str {
    match standing {
        Standing::Waiting(_) => "waiting",
        Standing::Approved => "approved",
        Standing::Rejected { .. } => "rejected",
        Standing::Expired => "expired",
        Standing::Ended(_) => "over",
    }
}

/// What waits, for whoever has to decide. Nothing that would be sent is in it.
#[must_use]
pub fn hold(waiting: &Pending) -> Value {
    let held = &waiting.held;
    let missing = match waiting.standing() {
        Standing::Waiting(missing) => json!(missing),
        _ => json!([]),
    };
    json!({
        "hold": held.hold,
        "index": waiting.index,
        "call": waiting.call,
        "tool": waiting.accepted.asked.tool,
        "ordinal": held.ordinal,
        "edited_by": held.authors,
        "agent": waiting.hold.principal.agent,
        "user": waiting.hold.principal.user,
        "run": waiting.accepted.run,
        "connection": held.connection,
        "route": held.route,
        "tier": held.tier,
        "spend": held.spend,
        "rules": held.rules,
        "needs": held.needs,
        "over": held.over,
        "undoes": held.undoes,
        "standing": hold_standing(&waiting.standing()),
        "missing": missing,
        "break_glass": waiting.broken_by().map(|vote| &vote.person),
        "expires": until(held.expires),
        "votes": waiting.votes.votes().iter().map(|vote| json!({
            "person": vote.person, "group": vote.group, "verdict": vote.verdict, "in_stead_of": vote.in_stead_of,
        })).collect::<Vec<_>>(),
    })
}

/// How all budgets stand.
#[must_use]
pub fn budgets(budgets: &Budgets) -> Value {
    json!({
        "time": utc(budgets.time_ms),
        "budgets": budgets.configured.iter().map(budget).collect::<Vec<_>>(),
        "not_configured": budgets.others.iter().map(other).collect::<Vec<_>>(),
    })
}

fn budget(standing: &budgets::Standing) -> Value {
    let budget = &standing.budget;
    let counted = |one: &Counted| counted(one, budget.cap);
    json!({
        "name": budget.name,
        "covers": covers(&budget.covers).map(|(key, name)| (key.to_owned(), json!(name))).collect::<Map<_, _>>(),
        "unit": budget.unit.to_string(),
        "window": budget.window.to_string(),
        "cap": budget.cap,
        "over": budget.over.as_ref().map(|over| json!({ "ask": over.ask, "count": over.count })),
        "warn": budget.warn,
        "current": standing.current.iter().map(counted).collect::<Vec<_>>(),
        "earlier": standing.earlier.iter().map(|one| json!({
            "window": one.window,
            "used": one.account.used,
            "reserved": one.account.reserved,
        })).collect::<Vec<_>>(),
    })
}

fn counted(one: &Counted, cap: u64) -> Value {
    let (turns, frees) = match one.next {
        Some(Next::Turns(at)) => (Some(utc(at)), None),
        Some(Next::Frees { at, amount }) => (None, Some(json!({ "at": utc(at), "amount": amount }))),
        None => (None, None),
    };
    json!({
        "window": one.window,
        "used": one.account.used,
        "reserved": one.account.reserved,
        "left": one.account.left(cap),
        "turns": turns,
        "frees": frees,
    })
}

fn other(state: &BudgetState) -> Value {
    json!({
        "name": state.window.budget,
        "window": state.window.window,
        "cap": state.cap,
        "used": state.account.used,
        "reserved": state.account.reserved,
    })
}

/// A webhook, and how it stands. `home` is where the configuration is: of a secret address it is said where that is read.
#[must_use]
pub fn webhook(standing: &webhooks::Standing<'_>, home: &Path) -> Value {
    let (webhook, progress) = (standing.webhook, standing.progress.as_ref());
    let only: Map<String, Value> = webhook
        .only()
        .map(|(key, name)| (key.to_owned(), json!(name)))
        .collect();
    let mut document = json!({
        "name": standing.name,
        "url": webhook.told(home),
        "format": webhook.format.as_str(),
        "signatures": webhook.signatures(),
        "events": webhook.events(),
        "only": only,
        "entry": progress.map(|progress| progress.cursor),
        "entries_behind": progress.map(|progress| standing.size.saturating_sub(progress.cursor)),
        "last_taken": progress.and_then(|progress| progress.taken_ms).map(utc),
        "tried": progress.and_then(|progress| progress.tried.as_ref()).map(tried),
        "waiting": standing.waiting.messages,
        "dead": standing.dead,
    });
    if let (true, Value::Object(members)) = (standing.waiting.more, &mut document) {
        members.insert("truncated".to_owned(), json!(true));
    }
    document
}

/// A webhook's message that was not taken yet, and is tried again.
fn tried(tried: &Tried) -> Value {
    json!({
        "message": tried.message.id,
        "event": tried.message.event,
        "index": tried.message.index,
        "attempts": tried.attempts,
        "status": tried.status,
        "code": tried.code,
        "last": utc(tried.last_ms),
        "next": utc(tried.next_ms),
    })
}

/// A webhook's message that nobody took.
#[must_use]
pub fn undelivered(one: &Undelivered) -> Value {
    let failed = &one.failed;
    json!({
        "message": failed.message.id,
        "webhook": failed.message.webhook,
        "event": failed.message.event,
        "index": failed.message.index,
        "attempts": failed.attempts,
        "status": failed.status,
        "code": failed.code,
        "given_up": utc(one.time_ms),
        "entry": one.index,
    })
}

/// Whose use counts, by the key that says so in the configuration.
pub fn covers(covers: &Match) -> impl Iterator<Item = (&'static str, &str)> {
    let Match {
        tenant,
        team,
        agent,
        user,
        tool,
        function,
        connection,
        route,
    } = covers;
    let all = [
        ("tenant", tenant),
        ("team", team),
        ("agent", agent),
        ("user", user),
        ("tool", tool),
        ("function", function),
        ("connection", connection),
        ("route", route),
    ];
    all.into_iter()
        .filter_map(|(key, name)| name.as_deref().map(|name| (key, name)))
}
