//! `ambit dead-letters`: effects that failed for good, and what an operator makes of them.

use std::io::{self, Write};
use std::path::Path;

use ambit_core::ledger::body::{Doubt, Dropped, Outcome};
use ambit_core::ledger::utc;
use ambit_runtime::config::Config;
use ambit_runtime::dead_letters::{DeadLetter, LetterError};
use ambit_runtime::home;
use ambit_runtime::host::{Host, HostOptions};
use ambit_runtime::store::{Keys, Reader};
use serde_json::{Value, json};

use super::{audit, call};
use crate::args::{Because, DeadLetters, Format, Letter};
use crate::output::{Exit, Failure, Output, note, style, untrusted};

pub(crate) fn run(command: &DeadLetters, home: &Path, out: Output) -> Result<Exit, Failure> {
    match command {
        DeadLetters::List { limit, after } => list(home, *limit, *after, out),
        DeadLetters::Show(letter) => show(home, letter, out),
        DeadLetters::Retry { letter, new_key } => retry(home, letter, *new_key, out),
        DeadLetters::Drop { letter, because } => drop_one(home, letter, *because, out),
    }
}

impl From<LetterError> for Failure {
    fn from(error: LetterError) -> Failure {
        match error {
            LetterError::Refused(refusal) => refusal.into(),
            LetterError::Fault(fault) => fault.into(),
        }
    }
}

/// The letter that a person named.
fn resolve(reader: &Reader, given: &Letter) -> Result<(String, u32), Failure> {
    let mut found = reader.dead_letters_like(&given.call)?;
    found.retain(|(work, _)| given.effect.is_none_or(|effect| work.ordinal == Some(effect)));
    match found.as_slice() {
        [(work, _)] => Ok((work.call.clone(), work.ordinal.unwrap_or_default())),
        [] => Err(
            Failure::refused(format!("no dead letter under `{}`", untrusted(&given.call))).advise(
                "`ambit dead-letters list` prints them; one that was retried or dropped is not there any more.",
            ),
        ),
        _ => Err(
            Failure::usage(format!("`{}` names several dead letters", untrusted(&given.call)))
                .advise("Write more of the call's id, or say which effect: --effect NUMBER."),
        ),
    }
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
        "{} effect {}  {} {}/{}  {bad}{}{reset}  {}",
        letter.call,
        intent.ordinal,
        intent.tier,
        untrusted(&intent.connection),
        untrusted(&intent.route),
        how(&letter.outcome.what.outcome),
        utc(letter.outcome.stamp.time_ms()),
    )
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
    let request = payload.map(|payload| String::from_utf8_lossy(payload.bytes()).into_owned());
    let index = letter.outcome.stamp.index();
    let mut document = row(&letter, index, &config);
    if let Some(members) = document.as_object_mut() {
        members.insert("request".to_owned(), json!(request));
    }
    out.result(&document, |w| {
        line(&letter, w)?;
        let user = letter
            .principal
            .user
            .as_deref()
            .map(|user| format!(" for {user}"))
            .unwrap_or_default();
        let (tool, function) = (&letter.asked.tool, &letter.asked.function);
        writeln!(
            w,
            "  who      {}{}",
            untrusted(&letter.principal.agent),
            untrusted(&user)
        )?;
        writeln!(w, "  asked    {} {}", untrusted(tool), untrusted(function))?;
        writeln!(
            w,
            "  sent     {} times: {}",
            letter.outcome.what.attempts,
            request
                .as_deref()
                .map_or_else(|| "(its request is gone)".into(), |text| untrusted(text).to_string())
        )?;
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
    let host = Host::open(
        Config::load(home)?,
        HostOptions::for_tools([letter.asked.tool.as_str()]),
    )?;
    let answer = host.retry_dead_letter(&call, ordinal, new_key)?;
    call::tell(&host, &answer, &letter.asked.tool, None, out)
}

fn drop_one(home: &Path, given: &Letter, because: Because, out: Output) -> Result<Exit, Failure> {
    let (call, ordinal) = resolve(&audit::open(home)?, given)?;
    let why = match because {
        Because::Happened => Dropped::Happened,
        Because::DoneByHand => Dropped::DoneByHand,
        Because::Unneeded => Dropped::Unneeded,
        Because::Wrong => Dropped::Wrong,
    };
    home::drop_dead_letter(home, &call, ordinal, why)?;
    out.result(&json!({ "call": call, "ordinal": ordinal, "dropped": why }), |w| {
        writeln!(w, "dropped effect {ordinal} of {call}")
    })?;
    Ok(Exit::Done)
}
