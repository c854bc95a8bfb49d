//! `ambit calls`: calls that have not ended, and effects of which nobody knows whether they happened.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use ambit_core::ledger::body::Found;
use ambit_core::ledger::story::{EffectStory, Opening};
use ambit_core::ledger::{CallStory, utc};
use ambit_runtime::config::Config;
use ambit_runtime::doubts::Retry;
use ambit_runtime::operators::{self, Answer, Request};
use ambit_runtime::recovery::Unended;
use ambit_runtime::store::Reader;
use serde_json::{Value, json};

use super::desk::{Desk, unexpected};
use super::{audit, call};
use crate::args::{Calls, CallsCommand, Resolve};
use crate::output::{self, Exit, Failure, Output, count, note, style, untrusted};

pub(crate) fn run(args: &Calls, home: &Path, out: Output) -> Result<Exit, Failure> {
    match &args.command {
        None => list(home, args.in_doubt, out),
        Some(CallsCommand::Resume { call, all }) => match call {
            Some(call) => resume(home, call, out),
            None if *all => resume_all(home, out),
            None => Err(Failure::usage("which call?").advise("Name one, or say --all.")),
        },
        Some(CallsCommand::Resolve(args)) if args.retry => retry(home, args, out),
        Some(CallsCommand::Resolve(args)) => resolve(home, args, out),
        Some(CallsCommand::End { call }) => end(home, call, out),
    }
}

/// A call with what is not known of it.
struct Row {
    story: CallStory,
    doubts: Vec<u32>,
    /// Until when each of these that can be sent again is recognised, in milliseconds since 1970.
    again: BTreeMap<u32, u64>,
}

impl Row {
    fn new(reader: &Reader, config: Option<&Config>, story: CallStory) -> Result<Row, Failure> {
        let doubts: Vec<u32> = story.doubts().collect();
        let mut again = BTreeMap::new();
        if let Some(config) = config {
            for ordinal in &doubts {
                let retry = Retry::of(reader, config, &story, *ordinal)?;
                again.extend(retry.ok().map(|retry| (*ordinal, retry.until_ms)));
            }
        }
        Ok(Row { story, doubts, again })
    }
}

/// What has not ended and waits for nobody, and what ended in doubt: the oldest first.
fn rows(reader: &Reader, config: Option<&Config>) -> Result<Vec<Row>, Failure> {
    let unended = Unended::all(reader)?.into_iter();
    let mut stories: BTreeMap<u64, CallStory> = unended
        .map(|Unended { story, .. }| (story.opening.stamp.index(), story))
        .collect();
    for (work, _) in reader.doubts()? {
        let story = reader.story(&work.call)?;
        stories.insert(story.opening.stamp.index(), story);
    }
    stories
        .into_values()
        .map(|story| Row::new(reader, config, story))
        .collect()
}

fn list(home: &Path, in_doubt: bool, out: Output) -> Result<Exit, Failure> {
    let reader = Reader::open(home)?;
    // What is in doubt is told also where the configuration cannot be read; what can be sent again is not known then.
    let config = Config::load(home).ok();
    let mut rows = rows(&reader, config.as_ref())?;
    rows.retain(|row| !in_doubt || !row.doubts.is_empty());
    // What runs right now has not ended either, and there is nothing to do about it.
    let running = running(home)?;
    rows.retain(|row| !row.doubts.is_empty() || !running.contains(&row.story.call));
    let documents: Vec<Value> = rows.iter().map(document).collect();
    out.result(&documents, |w| {
        if rows.is_empty() {
            let nothing = if in_doubt {
                "nothing is in doubt"
            } else {
                "every call has ended, or waits for approval"
            };
            return writeln!(w, "{nothing}");
        }
        rows.iter().try_for_each(|row| line(row, w))
    })?;
    Ok(Exit::Done)
}

/// The calls that run in the process that holds the home.
fn running(home: &Path) -> Result<Vec<String>, Failure> {
    Ok(match operators::ask(home, &Request::Status)? {
        Some(Answer::Status(status)) => status.calls.into_iter().map(|runs| runs.call).collect(),
        _ => Vec::new(),
    })
}

fn state(row: &Row) -> &'static str {
    match (row.story.is_over(), row.doubts.is_empty()) {
        (_, false) => "in doubt",
        (true, true) => "over",
        (false, true) if row.story.paused().is_some() => "paused",
        (false, true) if row.story.suspended().is_some() => "suspended",
        (false, true) => "interrupted",
    }
}

fn asked(story: &CallStory) -> (&str, &str) {
    match &story.opening.what {
        Opening::Accepted(accepted) => (&accepted.asked.tool, &accepted.asked.function),
        Opening::Denied(_) => ("", ""),
    }
}

fn document(row: &Row) -> Value {
    let (tool, function) = asked(&row.story);
    let principal = row.story.principal.as_ref();
    json!({
        "call": row.story.call,
        "state": state(row),
        "ended": row.story.is_over(),
        "paused_by": row.story.paused().map(|paused| &paused.what.stop),
        "tool": tool,
        "function": function,
        "agent": principal.map(|principal| &principal.agent),
        "user": principal.and_then(|principal| principal.user.as_ref()),
        "began": utc(row.story.opening.stamp.time_ms()),
        "in_doubt": row.doubts.iter().filter_map(|ordinal| doubt(row, *ordinal)).collect::<Vec<_>>(),
    })
}

fn doubt(row: &Row, ordinal: u32) -> Option<Value> {
    let EffectStory::Intended { intent, outcome, .. } = row.story.effects.get(&ordinal)? else {
        return None;
    };
    let intent = &intent.what;
    let again = row.again.get(&ordinal);
    let mut choices = vec!["done", "not-done"];
    choices.extend(again.map(|_| "retry"));
    Some(json!({
        "effect": ordinal,
        "connection": intent.connection,
        "route": intent.route,
        "tier": intent.tier,
        "spend": intent.spend,
        "since": outcome.as_ref().map(|outcome| utc(outcome.stamp.time_ms())),
        "choices": choices,
        "retry_until": again.map(|until| time(*until)),
    }))
}

fn time(ms: u64) -> String {
    utc(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn line(row: &Row, w: &mut dyn Write) -> io::Result<()> {
    let (tool, function) = asked(&row.story);
    let (on, off) = (style::WARN.render(), style::WARN.render_reset());
    let agent = row
        .story
        .principal
        .as_ref()
        .map_or("nobody", |principal| &principal.agent);
    let began = utc(row.story.opening.stamp.time_ms());
    let call = &row.story.call;
    writeln!(
        w,
        "{call}  {on}{}{off}  {tool} {function} for {agent}, begun {began}",
        state(row)
    )?;
    if let Some(paused) = row.story.paused() {
        writeln!(w, "  by the stop {}: it goes on once that is lifted", paused.what.stop)?;
    }
    if row.story.suspended().is_some() && row.doubts.is_empty() {
        writeln!(
            w,
            "  its host was told to end: it goes on by itself with the next `ambit serve`"
        )?;
    }
    for ordinal in &row.doubts {
        let Some(EffectStory::Intended { intent, .. }) = row.story.effects.get(ordinal) else {
            continue;
        };
        let intent = &intent.what;
        let spend = intent.spend.map_or_else(String::new, |spend| {
            format!(", {} {} (minor units)", spend.minor, spend.currency)
        });
        writeln!(
            w,
            "  effect {ordinal}: {} {} of {}{spend}: find out at the service, then",
            intent.tier, intent.route, intent.connection
        )?;
        writeln!(
            w,
            "    ambit calls resolve {call} --effect {ordinal} --done    (or --not-done)"
        )?;
        if let Some(until) = row.again.get(ordinal) {
            writeln!(
                w,
                "  or, until {}, have it sent again under the key by which the service does it once:",
                time(*until)
            )?;
            writeln!(w, "    ambit calls resolve {call} --effect {ordinal} --retry")?;
        }
    }
    if !row.story.is_over() && row.doubts.is_empty() {
        writeln!(w, "  ambit calls resume {call}    (or end)")?;
    }
    Ok(())
}

fn named(home: &Path, given: &str) -> Result<CallStory, Failure> {
    let reader = Reader::open(home)?;
    Ok(reader.story(&audit::resolve(&reader, given)?)?)
}

fn resume(home: &Path, given: &str, out: Output) -> Result<Exit, Failure> {
    let story = named(home, given)?;
    let going = output::working("the call goes on");
    let request = Request::Resume {
        call: story.call.clone(),
    };
    let answer = Desk::new(home, [asked(&story).0]).call(&request, Some(&going))?;
    drop(going);
    call::tell(home, &answer, asked(&story).0, None, out)
}

/// Every call that can go on without anybody's word: each ends on its own, and one that fails does not keep the others from it.
fn resume_all(home: &Path, out: Output) -> Result<Exit, Failure> {
    let mut desk = Desk::new(home, []);
    let calls = match desk.act(&Request::Unended)? {
        Answer::Calls(calls) => calls,
        other => return Err(unexpected(&other)),
    };
    let (mut done, mut left) = (Vec::new(), Vec::new());
    for call in calls {
        match desk.call(&Request::Resume { call: call.clone() }, None) {
            Ok(answer) => done.push((call, call::exit_of(&answer))),
            Err(why) => left.push((call, why.sentence())),
        }
    }
    let document = json!({
        "resumed": done.iter().map(|(call, exit)| json!({ "call": call, "exit": *exit as u8 })).collect::<Vec<_>>(),
        "left": left.iter().map(|(call, why)| json!({ "call": call, "why": why })).collect::<Vec<_>>(),
    });
    out.result(&document, |w| {
        for (call, exit) in &done {
            let word = match exit {
                Exit::Done => "done",
                Exit::Held => "waits for approval, or until a stop is lifted",
                _ => "ended without a result: see `ambit audit show`",
            };
            writeln!(w, "{call}  {word}")?;
        }
        for (call, why) in &left {
            writeln!(w, "{call}  left as it is: {}", untrusted(why))?;
        }
        writeln!(
            w,
            "{} went on, {} left",
            count(done.len() as u64, "call", "calls"),
            left.len()
        )
    })?;
    let ended = |exit: Exit| done.iter().any(|(_, one)| *one == exit);
    Ok(if !left.is_empty() || ended(Exit::Refused) {
        Exit::Refused
    } else if ended(Exit::Held) {
        Exit::Held
    } else {
        Exit::Done
    })
}

/// Sends the effect again, and goes on with its call: what is printed is what became of that.
fn retry(home: &Path, args: &Resolve, out: Output) -> Result<Exit, Failure> {
    let story = named(home, &args.call)?;
    let going = output::working("the effect is sent again, and its call goes on");
    let request = Request::RetryDoubt {
        call: story.call.clone(),
        effect: args.effect,
    };
    let answer = Desk::new(home, [asked(&story).0]).call(&request, Some(&going))?;
    drop(going);
    call::tell(home, &answer, asked(&story).0, None, out)
}

fn resolve(home: &Path, args: &Resolve, out: Output) -> Result<Exit, Failure> {
    let story = named(home, &args.call)?;
    let found = if args.done { Found::Done } else { Found::NotDone };
    let request = Request::Resolve {
        call: story.call.clone(),
        effect: args.effect,
        found,
        reason: args.reason.clone(),
    };
    let ordinal = match Desk::new(home, [asked(&story).0]).act(&request)? {
        Answer::Resolved { effect } => effect,
        other => return Err(unexpected(&other)),
    };
    let document = json!({ "outcome": "resolved", "call": story.call, "effect": ordinal, "found": found });
    out.result(&document, |w| {
        writeln!(
            w,
            "effect {ordinal} of {} was {}",
            story.call,
            found.as_str().replace('-', " ")
        )
    })?;
    if !story.is_over() {
        note(format!(
            "The call has not ended: `ambit calls resume {}` goes on with it.",
            story.call
        ));
    }
    Ok(Exit::Done)
}

fn end(home: &Path, given: &str, out: Output) -> Result<Exit, Failure> {
    let story = named(home, given)?;
    let request = Request::EndCall {
        call: story.call.clone(),
    };
    Desk::new(home, [asked(&story).0]).act(&request)?;
    out.result(&json!({ "call": story.call, "end": "interrupted" }), |w| {
        writeln!(w, "{} ended where it was", story.call)
    })?;
    Ok(Exit::Done)
}
