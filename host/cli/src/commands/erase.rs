//! `ambit erase`: values of calls, for good.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use ambit_core::ledger::body::{Age, Reason, Subject};
use ambit_core::ledger::utc;
use ambit_runtime::config::Config;
use ambit_runtime::home::Erased;
use ambit_runtime::host;
use ambit_runtime::operators::{self, Answer, Request};
use ambit_runtime::store::{Erasure, Kept};
use serde_json::{Value, json};

use super::audit;
use super::desk::unexpected;
use crate::args::{Erase, Which};
use crate::output::{Exit, Failure, Output, count, note, untrusted, working};

/// Said where erased keys may still be in the ledger's files.
pub(super) const UNFINISHED: &str = "An erasure is on the ledger and not finished, because somebody reads the ledger: its keys may still be found in \
     ledger.db-wal. The process that holds the home finishes it with what it writes next, else the next that opens it for writing.";

pub(crate) fn run(args: &Erase, home: &Path, out: Output) -> Result<Exit, Failure> {
    let why = reason(&args.which, home)?;
    let reader = audit::open(home)?;
    let looking = working("looking for values");
    let looked_ms = host::now_ms();
    let erasure = reader.erasable(why.clone(), looked_ms)?;
    drop((looking, reader));
    if args.dry_run || erasure.calls() == 0 {
        out.result(&document(&erasure, &why, None), |w| {
            writeln!(w, "{}", told(&erasure, &why))
        })?;
        return Ok(Exit::Done);
    }
    note(told(&erasure, &why));
    if !args.yes {
        confirm()?;
    }
    let erasing = working("erasing");
    let request = Request::Erase {
        why: why.clone(),
        looked_ms,
        found: erasure.digest(),
    };
    let done = match operators::act(home, &request)? {
        Answer::Erased(done) => done,
        other => return Err(unexpected(&other)),
    };
    drop(erasing);
    out.result(&document(&erasure, &why, Some(done)), |w| {
        let values = count(erasure.values(), "value", "values");
        let calls = count(erasure.calls(), "call", "calls");
        writeln!(w, "erased {values} of {calls}: {}", entries(done))
    })?;
    if !done.finished {
        note(UNFINISHED);
    }
    Ok(Exit::Done)
}

fn reason(which: &Which, home: &Path) -> Result<Reason, Failure> {
    if let Some(days) = which.older_than {
        return Ok(Reason::Age(Age { days }));
    }
    if let Some(user) = &which.user {
        return Ok(Reason::Subject(Subject::User(user.clone())));
    }
    if let Some(agent) = &which.agent {
        return Ok(Reason::Subject(Subject::Agent(agent.clone())));
    }
    match Config::load(home)?.retention() {
        Some(days) => Ok(Reason::Age(Age { days })),
        None => Err(
            Failure::usage("ambit.toml does not say how long values are kept; nothing was erased")
                .advise("Write `values = \"90d\"` under [retention] there, or name an age: --older-than 90d"),
        ),
    }
}

/// What would go, and what would not.
fn told(erasure: &Erasure, why: &Reason) -> String {
    let mut text = match erasure.span_ms() {
        None => format!("nothing to erase ({why})"),
        Some((first, last)) => format!(
            "{} of {}, {} bytes ({why})\nthe first call began {}, the last began {}",
            count(erasure.values(), "value", "values"),
            count(erasure.calls(), "call", "calls"),
            erasure.bytes(),
            utc(first),
            utc(last)
        ),
    };
    match erasure.open() {
        0 => {}
        1 => text.push_str("\n1 call is not over: its values stay"),
        open => text.push_str(&format!("\n{open} calls are not over: their values stay")),
    }
    text.push_str(&named(erasure, Kept::NotOver));
    match erasure.kept(Kept::InDoubt).count() {
        0 => {}
        1 => text.push_str("\n1 call has an effect in doubt: its values stay until somebody says what became of it"),
        some => text.push_str(&format!(
            "\n{some} calls have effects in doubt: their values stay until somebody says what became of these"
        )),
    }
    text.push_str(&named(erasure, Kept::InDoubt));
    untrusted(&text)
}

/// The ids of calls whose values stay, as many as fit on a screen.
fn named(erasure: &Erasure, why: Kept) -> String {
    const MOST: usize = 10;
    let mut text: String = erasure.kept(why).take(MOST).map(|call| format!("\n  {call}")).collect();
    match erasure.kept(why).count().checked_sub(MOST) {
        None | Some(0) => {}
        Some(more) => text.push_str(&format!("\n  and {more} more: --format json names all")),
    }
    text
}

/// Asks whoever sits at the terminal.
fn confirm() -> Result<(), Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(
            Failure::refused("nothing was erased: standard input is no terminal, so nobody can be asked")
                .advise("To erase them without being asked, say so: --yes. To only see what would go: --dry-run."),
        );
    }
    // The question and its answer share a line.
    let asked = write!(anstream::stderr(), "Erase them? Nothing brings them back. [y/N] ");
    let mut answer = String::new();
    let read = asked.and_then(|()| stdin.read_line(&mut answer));
    match read {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::refused("nothing was erased")),
    }
}

fn entries(done: Erased) -> String {
    match done.entries {
        1 => format!("entry {} says so", done.entry),
        more => format!("entries {} to {} say so", done.entry, done.entry + more - 1),
    }
}

/// The calls whose values stay, each with why.
fn kept(erasure: &Erasure) -> Vec<Value> {
    let of = |why, word: &'static str| erasure.kept(why).map(move |call| json!({ "call": call, "why": word }));
    of(Kept::NotOver, "not-over")
        .chain(of(Kept::InDoubt, "in-doubt"))
        .collect()
}

fn document(erasure: &Erasure, why: &Reason, done: Option<Erased>) -> Value {
    json!({
        "why": why,
        "calls": erasure.calls(),
        "values": erasure.values(),
        "bytes": erasure.bytes(),
        "first": erasure.span_ms().map(|(first, _)| utc(first)),
        "last": erasure.span_ms().map(|(_, last)| utc(last)),
        "not_over": erasure.open(),
        "in_doubt": erasure.kept(Kept::InDoubt).count(),
        "kept": kept(erasure),
        "erased": done.is_some(),
        "entry": done.map(|done| done.entry),
        "entries": done.map(|done| done.entries),
        "finished": done.map(|done| done.finished),
    })
}
