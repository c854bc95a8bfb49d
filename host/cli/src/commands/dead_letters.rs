//! `ambit dead-letters`: effects that failed for good, and what an operator makes of them.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use ambit_core::ledger::body::{Amount, Doubt, Dropped, Outcome};
use ambit_core::ledger::utc;
use ambit_runtime::config::Config;
use ambit_runtime::dead_letters::DeadLetter;
use ambit_runtime::operators::{self, Request};
use ambit_runtime::store::{Keys, Reader, Work};
use serde_json::{Map, Value, json};

use super::call::{self, Also};
use super::desk::Desk;
use super::{audit, request};
use crate::args::{Because, DeadLetters, Format, Letter};
use crate::ids::{self, Kind};
use crate::output::{Exit, Failure, Output, note, style, untrusted};

pub(crate) fn run(command: &DeadLetters, home: &Path, out: Output) -> Result<Exit, Failure> {
    match command {
        DeadLetters::List { limit, after } => list(home, *limit, *after, out),
        DeadLetters::Show(letter) => show(home, letter, out),
        DeadLetters::Retry { letter, new_key } => retry(home, letter, *new_key, out),
        DeadLetters::Drop { letter, because } => drop_one(home, letter, *because, out),
    }
}

/// The letter that a person named.
fn resolve(reader: &Reader, given: &Letter) -> Result<(String, u32), Failure> {
    let found = reader.dead_letters_like(&given.call)?;
    let of_effect = |(work, _): &&(Work, u64)| given.effect.is_none_or(|effect| work.ordinal == Some(effect));
    let meant: Vec<&(Work, u64)> = found.iter().filter(of_effect).collect();
    match (meant.as_slice(), found.as_slice()) {
        ([(work, _)], _) => Ok((work.call.clone(), work.ordinal.unwrap_or_default())),
        ([], []) => Err(none(reader, &given.call)?),
        ([], found) => Err(Failure::refused(format!(
            "effect {} of it is no dead letter",
            given.effect.unwrap_or_default()
        ))
        .advise(format!("Dead letters there: {}.", named(found)))),
        (several, found) => {
            let calls: BTreeSet<&String> = several.iter().map(|(work, _)| &work.call).collect();
            let calls: Vec<String> = calls.into_iter().cloned().collect();
            Err(match calls.as_slice() {
                [call] => Failure::usage(format!("several effects of call {call} are dead letters"))
                    .advise(format!("Say which, with --effect NUMBER: {}.", named(found))),
                calls => ids::several(Kind::Letter, &given.call, calls),
            })
        }
    }
}

/// Letters as `effect 1 of c_…`.
fn named(letters: &[(Work, u64)]) -> String {
    let one = |(work, _): &(Work, u64)| format!("effect {} of {}", work.ordinal.unwrap_or_default(), work.call);
    letters.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Why there is no letter of that id: there is no such call, or nothing of it is in the list.
fn none(reader: &Reader, given: &str) -> Result<Failure, Failure> {
    Ok(match reader.calls_like(given, 2)?.as_slice() {
        [call] if !given.is_empty() => Failure::refused(format!("no effect of call {call} is a dead letter"))
            .advise("`ambit dead-letters list` prints them. What was retried or dropped is not there any more."),
        _ => ids::unknown(Kind::Letter, given),
    })
}

fn list(home: &Path, limit: u32, after: Option<u64>, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let reader = audit::open(home)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let works = reader.dead_letters(after, limit)?;
    let mut letters = Vec::with_capacity(works.len());
    for (work, index) in &works {
        letters.push((
            DeadLetter::read(&reader, &work.call, work.ordinal.unwrap_or_default())?,
            *index,
        ));
    }
    let rows: Vec<Value> = letters
        .iter()
        .map(|(letter, index)| row(letter, *index, &config))
        .collect();
    out.result(&rows, |w| {
        if letters.is_empty() {
            return writeln!(w, "no dead letters");
        }
        letters.iter().try_for_each(|(letter, _)| line(letter, w))
    })?;
    if let Some((_, last)) = letters
        .last()
        .filter(|_| letters.len() == limit && out.format == Format::Human)
    {
        note(format!("There may be more: --after {last}"));
    }
    Ok(Exit::Done)
}

/// One letter for programs.
fn row(letter: &DeadLetter, index: u64, config: &Config) -> Value {
    let intent = &letter.intent.what;
    json!({
        "call": letter.call,
        "ordinal": intent.ordinal,
        "index": index,
        "agent": letter.principal.agent,
        "user": letter.principal.user,
        "tool": letter.asked.tool,
        "function": letter.asked.function,
        "connection": intent.connection,
        "route": intent.route,
        "tier": intent.tier,
        "spend": intent.spend,
        "outcome": letter.outcome.what.outcome,
        "attempts": letter.outcome.what.attempts,
        "failed": utc(letter.outcome.stamp.time_ms()),
        "key_until": letter.key_until_ms(config).map(time),
    })
}

fn time(ms: u64) -> String {
    utc(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn line(letter: &DeadLetter, w: &mut dyn Write) -> io::Result<()> {
    let intent = &letter.intent.what;
    let (bad, reset) = (style::BAD.render(), style::BAD.render_reset());
    writeln!(
        w,
        "{} effect {}  {} {}/{}{} by {}  {bad}{}{reset}  {}",
        letter.call,
        intent.ordinal,
        intent.tier,
        untrusted(&intent.connection),
        untrusted(&intent.route),
        money(intent.spend.as_ref()),
        untrusted(&who(letter)),
        how(&letter.outcome.what.outcome),
        utc(letter.outcome.stamp.time_ms()),
    )
}

fn money(spend: Option<&Amount>) -> String {
    spend.map_or_else(String::new, |spend| {
        format!(", {} {} (minor units)", spend.minor, spend.currency)
    })
}

fn who(letter: &DeadLetter) -> String {
    let user = letter.principal.user.as_deref().map(|user| format!(" for {user}"));
    format!("{}{}", letter.principal.agent, user.unwrap_or_default())
}

/// How often, in words.
fn times(attempts: u32) -> String {
    match attempts {
        0 => "never; it would have been".to_owned(),
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    }
}

fn how(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered(answered) => format!("answered {}", answered.status),
        Outcome::NotSent(refused) => format!("not sent ({})", refused.code),
        Outcome::InDoubt(Doubt::Timeout) => "in doubt (no answer in time)".to_owned(),
        Outcome::InDoubt(Doubt::Connection) => "in doubt (the connection broke)".to_owned(),
        Outcome::InDoubt(Doubt::Answer) => "in doubt (the answer could not be read)".to_owned(),
        Outcome::InDoubt(Doubt::Restart) => "in doubt (the host ended)".to_owned(),
        Outcome::InDoubt(Doubt::Stopped) => "in doubt (stopped)".to_owned(),
    }
}

fn show(home: &Path, given: &Letter, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let reader = audit::open(home)?;
    let (call, ordinal) = resolve(&reader, given)?;
    let letter = DeadLetter::read(&reader, &call, ordinal)?;
    let reader = match Keys::load(home) {
        Ok(keys) => reader.with_keys(&keys),
        Err(_) => reader,
    };
    let payload = reader
        .payload(&call, &format!("effect/{ordinal}/request"))
        .ok()
        .flatten();
    let request: Option<Value> = payload.and_then(|payload| serde_json::from_slice(payload.bytes()).ok());
    let index = letter.outcome.stamp.index();
    let mut document = row(&letter, index, &config);
    if let Some(members) = document.as_object_mut() {
        members.insert("request".to_owned(), json!(request));
    }
    out.result(&document, |w| {
        line(&letter, w)?;
        let (tool, function) = (&letter.asked.tool, &letter.asked.function);
        writeln!(w, "  who      {}", untrusted(&who(&letter)))?;
        writeln!(w, "  asked    {} {}", untrusted(tool), untrusted(function))?;
        writeln!(w, "  sent     {}", times(letter.outcome.what.attempts))?;
        match &request {
            Some(request) => request::lines(request, &mut |_, line| writeln!(w, "    {}", untrusted(line)))?,
            None => writeln!(
                w,
                "    [not readable here: it was erased, or the home's keys are needed]"
            )?,
        }
        match letter.key_until_ms(&config) {
            Some(until) => writeln!(w, "  key      the service knows it until {}", time(until)),
            None => writeln!(w, "  key      none: the service does not know a repeated request"),
        }
    })?;
    Ok(Exit::Done)
}

fn retry(home: &Path, given: &Letter, new_key: bool, out: Output) -> Result<Exit, Failure> {
    let reader = audit::open(home)?;
    let (call, ordinal) = resolve(&reader, given)?;
    let letter = DeadLetter::read(&reader, &call, ordinal)?;
    drop(reader);
    if new_key {
        note(
            "Under another key the service cannot tell that it has seen this before: if it had done it, it will do it twice.",
        );
    }
    let request = Request::RetryLetter {
        call: call.clone(),
        effect: ordinal,
        new_key,
    };
    let answer = Desk::new(home, [letter.asked.tool.as_str()]).call(&request, None)?;
    let again = Again::of(&audit::open(home)?, (&call, ordinal), answer.call.as_str())?;
    let also = Also {
        members: Map::from_iter([("letter".to_owned(), again.document())]),
        ..Also::default()
    };
    let exit = call::tell_also(home, &answer, (&letter.asked.tool, None), &also, out)?;
    if let (Some(line), Format::Human) = (again.line(), out.format) {
        note(line);
    }
    Ok(exit)
}

/// What is in the list after a retry.
enum Again {
    /// Nothing of it: it was done.
    Done,
    /// The letter as it was, as nothing was sent.
    Stays(String, u32),
    /// A new one, as it failed again.
    Failed(String, u32),
}

impl Again {
    fn of(reader: &Reader, (call, ordinal): (&str, u32), by: &str) -> Result<Again, Failure> {
        let new = reader.dead_letters_like(by)?;
        if let Some((work, _)) = new.first() {
            return Ok(Again::Failed(work.call.clone(), work.ordinal.unwrap_or_default()));
        }
        let old = reader.dead_letters_like(call)?;
        let stays = old
            .iter()
            .any(|(work, _)| work.call == call && work.ordinal == Some(ordinal));
        Ok(if stays {
            Again::Stays(call.to_owned(), ordinal)
        } else {
            Again::Done
        })
    }

    fn document(&self) -> Value {
        match self {
            Again::Done => Value::Null,
            Again::Stays(call, ordinal) => json!({ "call": call, "ordinal": ordinal, "new": false }),
            Again::Failed(call, ordinal) => json!({ "call": call, "ordinal": ordinal, "new": true }),
        }
    }

    fn line(&self) -> Option<String> {
        match self {
            Again::Done => None,
            Again::Stays(call, ordinal) => Some(format!(
                "Nothing was sent: it stays in the list as effect {ordinal} of {call}."
            )),
            Again::Failed(call, ordinal) => Some(format!(
                "It failed again, and is another dead letter now: `ambit dead-letters show {call} --effect {ordinal}`."
            )),
        }
    }
}

fn drop_one(home: &Path, given: &Letter, because: Because, out: Output) -> Result<Exit, Failure> {
    let (call, ordinal) = resolve(&audit::open(home)?, given)?;
    let why = match because {
        Because::Happened => Dropped::Happened,
        Because::DoneByHand => Dropped::DoneByHand,
        Because::Unneeded => Dropped::Unneeded,
        Because::Wrong => Dropped::Wrong,
    };
    let request = Request::DropLetter {
        call: call.clone(),
        effect: ordinal,
        why,
    };
    operators::act(home, &request)?;
    out.result(&json!({ "call": call, "ordinal": ordinal, "dropped": why }), |w| {
        writeln!(w, "dropped effect {ordinal} of {call}")
    })?;
    Ok(Exit::Done)
}
