//! `ambit webhooks`: who is told of what, whether messages arrive, and what nobody took.

use std::io::{self, Write};
use std::path::Path;

use ambit_core::error::Code;
use ambit_core::ledger::body::Message;
use ambit_core::ledger::utc;
use ambit_runtime::config::Config;
use ambit_runtime::documents;
use ambit_runtime::host::OpenError;
use ambit_runtime::operators::{self, Answer, Request};
use ambit_runtime::store::{Reader, Undelivered};
use ambit_runtime::webhooks::{self, Standing};
use serde_json::Value;

use super::audit;
use super::desk::unexpected;
use crate::args::Webhooks;
use crate::ids::{self, Kind};
use crate::output::{Exit, Failure, Output, count, note, style, untrusted};

pub(crate) fn run(command: &Webhooks, home: &Path, out: Output) -> Result<Exit, Failure> {
    match command {
        Webhooks::List => list(home, out),
        Webhooks::Test { webhook } => test(home, webhook, out),
        Webhooks::Dead => dead(home, out),
        Webhooks::Retry { message, all } => retry(home, message.as_deref(), *all, out),
        Webhooks::Drop { message } => drop_one(home, message, out),
    }
}

fn list(home: &Path, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let rows = webhooks::standing(&audit::open(home)?, &config)?;
    let document = |row: &Standing<'_>| documents::webhook(row, home);
    let all: Vec<Value> = rows.iter().map(document).collect();
    out.result(&all, |w| {
        if rows.is_empty() {
            return writeln!(w, "no webhooks");
        }
        rows.iter().try_for_each(|row| print(row, home, w))
    })?;
    Ok(Exit::Done)
}

fn print(row: &Standing<'_>, home: &Path, w: &mut dyn Write) -> io::Result<()> {
    let (head, reset) = (style::HEAD.render(), style::HEAD.render_reset());
    let told = row.webhook.told(home);
    writeln!(w, "{head}{}{reset} {}", untrusted(row.name), untrusted(&told))?;
    let events: Vec<&str> = row.webhook.events().iter().map(|kind| kind.as_str()).collect();
    writeln!(w, "  events    {}", events.join(", "))?;
    for (key, name) in row.webhook.only() {
        writeln!(w, "  {key:<9} {} alone", untrusted(name))?;
    }
    match &row.progress {
        Some(progress) => writeln!(
            w,
            "  told      of what is before entry {}, of {}",
            progress.cursor, row.size
        )?,
        None => writeln!(w, "  told      of nothing yet: a host that serves has not begun")?,
    }
    if let Some(taken_ms) = row.progress.as_ref().and_then(|progress| progress.taken_ms) {
        writeln!(w, "  taken     a message at {}, the last", utc(taken_ms))?;
    }
    if let Some(tried) = row.progress.as_ref().and_then(|progress| progress.tried.as_ref()) {
        let (bad, reset) = (style::BAD.render(), style::BAD.render_reset());
        writeln!(
            w,
            "  tried     {} of entry {}  {bad}{}{reset} after {}, again at {}",
            tried.message.event,
            tried.message.index,
            how(tried.status, tried.code),
            count(tried.attempts.into(), "attempt", "attempts"),
            utc(tried.next_ms),
        )?;
    }
    if row.waiting.messages > 0 || row.waiting.more {
        let waiting = count(row.waiting.messages, "message", "messages");
        let least = if row.waiting.more { ", and maybe more" } else { "" };
        writeln!(w, "  waiting   {waiting}{least}")?;
    }
    if row.dead > 0 {
        let (bad, reset) = (style::BAD.render(), style::BAD.render_reset());
        let dead = count(row.dead as u64, "message", "messages");
        writeln!(
            w,
            "  {bad}dead{reset}      {dead} that nobody took: ambit webhooks dead"
        )?;
    }
    Ok(())
}

fn test(home: &Path, webhook: &str, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    if !config.webhooks().contains_key(webhook) {
        return Err(ids::no_such(
            "webhook",
            webhook,
            config.webhooks().keys().map(String::as_str),
        ));
    }
    let request = Request::TestWebhook {
        webhook: webhook.to_owned(),
    };
    let tested = match operators::act(home, &request)? {
        Answer::Tested(tested) => tested,
        other => return Err(unexpected(&other)),
    };
    out.result(&tested, |w| {
        let name = untrusted(webhook);
        let why = || {
            tested
                .why
                .as_deref()
                .map(|why| format!(": {}", untrusted(why)))
                .unwrap_or_default()
        };
        match (tested.taken, tested.status) {
            (true, Some(status)) => {
                let (good, reset) = (style::GOOD.render(), style::GOOD.render_reset());
                writeln!(w, "{good}taken{reset} by {name}, with {status}: {}", tested.id)
            }
            (_, Some(status)) => {
                let (bad, reset) = (style::BAD.render(), style::BAD.render_reset());
                writeln!(w, "{bad}not taken{reset} by {name}: it answered {status}{}", why())
            }
            (_, None) => {
                let (bad, reset) = (style::BAD.render(), style::BAD.render_reset());
                writeln!(w, "{bad}not taken{reset} by {name}{}", why())
            }
        }
    })?;
    Ok(if tested.taken { Exit::Done } else { Exit::Refused })
}

fn dead(home: &Path, out: Output) -> Result<Exit, Failure> {
    let left = audit::open(home)?.undelivered()?;
    let rows: Vec<Value> = left.iter().map(documents::undelivered).collect();
    out.result(&rows, |w| {
        if left.is_empty() {
            return writeln!(w, "no messages that nobody took");
        }
        left.iter().try_for_each(|one| dead_line(one, w))
    })?;
    Ok(Exit::Done)
}

fn dead_line(one: &Undelivered, w: &mut dyn Write) -> io::Result<()> {
    let failed = &one.failed;
    let (bad, reset) = (style::BAD.render(), style::BAD.render_reset());
    let how = how(failed.status, failed.code);
    writeln!(
        w,
        "{} {} to {}, of entry {}  {bad}{how}{reset} after {}  {}",
        failed.message.id,
        failed.message.event,
        untrusted(&failed.message.webhook),
        failed.message.index,
        count(failed.attempts.into(), "attempt", "attempts"),
        utc(one.time_ms),
    )
}

/// What a sending came to, or why there is none any more.
fn how(status: Option<u16>, code: Option<Code>) -> String {
    match (status, code) {
        (Some(status), _) => format!("answered {status}"),
        (None, Some(Code::Config)) => "its webhook is out of the configuration".to_owned(),
        (None, Some(code)) => format!("not sent ({code})"),
        (None, None) => "no answer".to_owned(),
    }
}

/// The message that a person named, by a beginning of its id.
fn find(reader: &Reader, given: &str) -> Result<Message, Failure> {
    let left = reader.undelivered()?;
    let like = left
        .iter()
        .filter(|one| !given.is_empty() && one.failed.message.id.starts_with(given));
    let like: Vec<&Message> = like.map(|one| &one.failed.message).collect();
    match like.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(ids::unknown(Kind::Message, given)),
        several => {
            let several: Vec<String> = several.iter().map(|one| one.id.clone()).collect();
            Err(ids::several(Kind::Message, given, &several))
        }
    }
}

fn retry(home: &Path, given: Option<&str>, all: bool, out: Output) -> Result<Exit, Failure> {
    let reader = audit::open(home)?;
    let messages = match given {
        Some(given) => vec![find(&reader, given)?],
        None if all => reader
            .undelivered()?
            .into_iter()
            .map(|one| one.failed.message)
            .collect(),
        None => return Err(Failure::usage("no message is named").advise("Give a message's id, or --all.")),
    };
    drop(reader);
    let mut again = Vec::with_capacity(messages.len());
    for message in messages {
        let request = Request::RetryMessage { message: message.id };
        match operators::act(home, &request) {
            Ok(Answer::Message(message)) => again.push(message),
            Ok(other) => return Err(unexpected(&other)),
            // Of all that were left, somebody else had this one sent again or dropped it meanwhile.
            Err(OpenError::Refused(refusal)) if given.is_none() && refusal.code == Code::Arguments => {}
            Err(error) => return Err(error.into()),
        }
    }
    out.result(&again, |w| {
        again.iter().try_for_each(|message| {
            let webhook = untrusted(&message.webhook);
            writeln!(w, "sent again {} to {webhook}", message.id)
        })
    })?;
    if !matches!(operators::ask(home, &Request::Status), Ok(Some(_))) && !again.is_empty() {
        note("No host runs on this home: the next that serves sends it.");
    }
    Ok(Exit::Done)
}

fn drop_one(home: &Path, given: &str, out: Output) -> Result<Exit, Failure> {
    let message = find(&audit::open(home)?, given)?;
    let request = Request::DropMessage { message: message.id };
    let dropped = match operators::act(home, &request)? {
        Answer::Message(dropped) => dropped,
        other => return Err(unexpected(&other)),
    };
    out.result(&dropped, |w| {
        writeln!(w, "dropped {} to {}", dropped.id, untrusted(&dropped.webhook))
    })?;
    Ok(Exit::Done)
}
