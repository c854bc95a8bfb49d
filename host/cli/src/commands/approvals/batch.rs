//! Many holds at once: each found, shown, voted on and gone on with by itself, one failing without the others.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use ambit_core::hold::{Standing, Verdict};
use ambit_runtime::approvals::{Pending, People};
use ambit_runtime::call::{Answer, Outcome};
use ambit_runtime::config::Config;
use ambit_runtime::host::OpenError;
use ambit_runtime::operators::Request;
use ambit_runtime::store::{Held, Reader, Work};
use serde_json::{Value, json};

use super::super::call;
use super::super::desk::called;
use super::{Desk, Meant, Voter, effect, reader, short, who};
use crate::args::Many;
use crate::output::{Exit, Failure, Output, count, note, untrusted};

/// Holds that are read at a time.
const PAGE: usize = 256;

/// Says the same to every hold that is meant.
pub(super) fn vote(home: &Path, many: &Many, voter: &Voter<'_>, out: Output) -> Result<Exit, Failure> {
    let undecided = |standing: &Standing| match voter.verdict {
        Verdict::Reject => matches!(standing, Standing::Waiting(_) | Standing::Approved),
        _ => matches!(standing, Standing::Waiting(_)),
    };
    let verb = match voter.verdict {
        Verdict::Reject => "reject",
        _ => "approve",
    };
    each(home, many, verb, undecided, out, |desk, people, pending| {
        let pending = pending.ok_or_else(|| Failure::refused("it was decided meanwhile"))?;
        let signed = voter.sign(&Meant::Waits(Box::new(pending.clone())), people)?;
        let (call, missing) = signed.cast(desk, voter.reason)?;
        let went_on = match missing {
            Some(_) => None,
            None => match desk.act(&Request::Resume { call }) {
                Err(OpenError::Refused(_)) if voter.verdict == Verdict::Reject => {
                    return Ok(Done {
                        said: voter.said(),
                        came_to: "its call has not gone on yet",
                        went_on: None,
                        exit: Exit::Done,
                    });
                }
                gone_on => Some(called(gone_on?)?),
            },
        };
        let exit = match (voter.verdict, &went_on) {
            // A no is done, whatever its call comes to.
            (Verdict::Reject, _) | (_, None) => Exit::Done,
            (_, Some(answer)) => call::exit_of(answer),
        };
        Ok(Done {
            said: voter.said(),
            came_to: "waits for more",
            went_on,
            exit,
        })
    })
}

/// Goes on with every call that is decided: approved, rejected or expired.
pub(super) fn resume(home: &Path, many: &Many, out: Output) -> Result<Exit, Failure> {
    let decided = |standing: &Standing| !matches!(standing, Standing::Waiting(_));
    each(home, many, "go on with", decided, out, |desk, _, pending| {
        // A host that opens ends what has expired.
        let Some(pending) = pending else {
            return Ok(Done {
                said: "ended",
                came_to: "expired",
                went_on: None,
                exit: Exit::Done,
            });
        };
        let approved = matches!(pending.standing(), Standing::Approved);
        let call = pending.call.clone();
        let answer = desk.call(&Request::Resume { call }, None)?;
        let exit = match call::exit_of(&answer) {
            // That a tool ends with an error is what a no, or nobody's yes, comes to.
            Exit::Refused if !approved => Exit::Done,
            exit => exit,
        };
        Ok(Done {
            said: "gone on",
            came_to: "",
            went_on: Some(answer),
            exit,
        })
    })
}

/// What was done about one hold.
struct Done {
    said: &'static str,
    /// Where its call stands, if it did not go on.
    came_to: &'static str,
    went_on: Option<Answer>,
    /// What it comes to by itself.
    exit: Exit,
}

/// Finds what is meant, shows it, asks, and does `act` to each.
fn each(
    home: &Path,
    many: &Many,
    verb: &str,
    meant: impl Fn(&Standing) -> bool,
    out: Output,
    act: impl Fn(&mut Desk<'_>, &People<'_>, Option<&Pending>) -> Result<Done, Failure>,
) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let reader = reader(home)?;
    let people = People::of(&reader, &config)?;
    let found = find(&reader, &people, many, verb, &meant)?;
    if found.holds.is_empty() {
        out.result(&Vec::<Value>::new(), |w| writeln!(w, "nothing of that kind waits"))?;
        return Ok(Exit::Done);
    }
    if found.holds.len() > 1 && !many.yes {
        confirm(verb, found.holds.len())?;
    }
    let mut desk = Desk::new(home, found.tools.iter().map(String::as_str));
    let mut rows = Vec::with_capacity(found.holds.len());
    let (mut failed, mut held) = (0_usize, false);
    for (work, row) in &found.holds {
        let done = match Pending::of(&reader, &people, work, row) {
            Ok(pending) => act(&mut desk, &people, pending.as_ref()),
            Err(error) => Err(error.into()),
        };
        match done.as_ref().map_or(Exit::Refused, |done| done.exit) {
            Exit::Done => {}
            Exit::Held => held = true,
            _ => failed += 1,
        }
        rows.push(told(work, row, done));
    }
    out.result(&rows, |w| rows.iter().try_for_each(|row| line(row, w)))?;
    if failed > 0 {
        note(format!(
            "{failed} of {} did not come out as meant",
            count(found.holds.len() as u64, "hold", "holds")
        ));
        return Ok(Exit::Refused);
    }
    Ok(if held { Exit::Held } else { Exit::Done })
}

/// What is meant, and the tools that its calls are of.
#[derive(Default)]
struct Found {
    holds: Vec<(Work, Held)>,
    tools: BTreeSet<String>,
}

/// Reads page after page, and says of each hold that is meant what will be done.
fn find(
    reader: &Reader,
    people: &People<'_>,
    many: &Many,
    verb: &str,
    meant: impl Fn(&Standing) -> bool,
) -> Result<Found, Failure> {
    let mut found = Found::default();
    let mut after = None;
    loop {
        let page = reader.holds(after, PAGE)?;
        let Some((_, last)) = page.last() else {
            return Ok(found);
        };
        after = Some(last.index);
        for (work, row) in page {
            let Some(pending) = Pending::of(reader, people, &work, &row)? else {
                continue;
            };
            if is_meant(&pending, many) && meant(&pending.standing()) {
                note(format!(
                    "{verb} {} {} by {}",
                    short(&row.hold),
                    untrusted(&effect(&pending)),
                    untrusted(&who(&pending))
                ));
                found.tools.insert(pending.accepted.asked.tool.clone());
                found.holds.push((work, row));
            }
        }
    }
}

fn is_meant(pending: &Pending, many: &Many) -> bool {
    let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
    let held = &pending.held;
    let route = many.route.as_deref().is_none_or(|route| {
        let whole = format!("{}/{}", held.connection, held.route);
        route == held.route || route == whole
    });
    let money = many.currency.as_deref().is_none_or(|currency| {
        let most = many.max_minor.unwrap_or(u64::MAX);
        held.spend
            .as_ref()
            .is_some_and(|spend| spend.currency.to_string() == currency && spend.minor <= most)
    });
    is(&many.tool, &pending.accepted.asked.tool)
        && is(&many.agent, &pending.hold.principal.agent)
        && is(&many.connection, &held.connection)
        && route
        && money
}

/// Asks whoever sits at the terminal.
fn confirm(verb: &str, holds: usize) -> Result<(), Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(
            Failure::refused("nothing was decided: standard input is no terminal, so nobody can be asked")
                .advise("To decide about all of these without being asked, say so: --yes."),
        );
    }
    // The question and its answer share a line.
    let asked = write!(anstream::stderr(), "{verb} these {holds}? [y/N] ");
    let mut answer = String::new();
    let read = asked.and_then(|()| stdin.read_line(&mut answer));
    match read {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::refused("nothing was decided")),
    }
}

/// What became of one hold, for programs.
fn told(work: &Work, row: &Held, done: Result<Done, Failure>) -> Value {
    let (said, call, why) = match done {
        Ok(done) => {
            let (call, why) = match done.went_on.map(|answer| answer.outcome) {
                None => (done.came_to, None),
                Some(Outcome::Ok(_)) => ("ok", None),
                Some(Outcome::ToolError(_)) => ("tool-error", None),
                Some(Outcome::Stopped(refusal)) => ("refused", Some(refusal.message)),
                Some(Outcome::Held(_)) => ("held", None),
                Some(Outcome::Paused(paused)) => ("paused", Some(paused.refusal.message)),
                Some(Outcome::FirstWrite(_)) => ("first-write", None),
            };
            (done.said, Some(call), why)
        }
        Err(failure) => ("failed", None, Some(failure.sentence())),
    };
    json!({ "hold": row.hold, "call": work.call, "said": said, "came_to": call, "why": why })
}

fn line(row: &Value, w: &mut dyn Write) -> io::Result<()> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let id: String = text("hold").trim_start_matches("sha256:").chars().take(12).collect();
    let rest: Vec<&str> = [text("said"), text("came_to"), text("why")]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    writeln!(w, "{id} {} {}", text("call"), untrusted(&rest.join(": ")))
}
