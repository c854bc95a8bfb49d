//! `ambit rollback`: what a call did, taken back.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use ambit_core::effect::GuestRequest;
use ambit_core::error::Refusal;
use ambit_core::ledger::story::Opening;
use ambit_runtime::call::{Answer, Outcome};
use ambit_runtime::host::OpenError;
use ambit_runtime::operators::{self, Request};
use ambit_runtime::rollback::{Fate, Item, Plan, RollbackOptions};
use ambit_runtime::store::Reader;
use serde_json::{Value, json};

use super::desk::{Desk, unexpected};
use super::{audit, call};
use crate::args::{Format, Rollback};
use crate::output::{self, Exit, Failure, Output, note, style, untrusted};

pub(crate) fn run(args: &Rollback, home: &Path, out: Output) -> Result<Exit, Failure> {
    let reader = audit::open(home)?;
    let call = audit::resolve(&reader, &args.call)?;
    let tool = tool_of(&reader, &call)?;
    drop(reader);
    let mut desk = Desk::new(home, tool.as_deref());
    let tool = tool.unwrap_or_default();
    let options = RollbackOptions {
        over_changes: args.over_changes,
        skip: args.skip.iter().copied().collect(),
    };
    let roll_back = Request::RollBack {
        call: call.clone(),
        options: options.clone(),
    };
    let plan = match desk.act(&Request::PlanRollback { call, options }) {
        Ok(operators::Answer::Plan(plan)) => *plan,
        Ok(other) => return Err(unexpected(&other)),
        // What cannot be undone at all is written down, and nothing is asked.
        Err(OpenError::Refused(refusal)) if args.dry_run => return Err(unusable(refusal)),
        Err(OpenError::Refused(_)) => {
            let answer = desk.call(&roll_back, None)?;
            call::tell(home, &answer, &tool, None, out)?;
            return exit(home, &answer, None);
        }
        Err(error) => return Err(error.into()),
    };
    if args.dry_run {
        out.result(&document(&plan, args.over_changes), |w| {
            told(&plan, args.over_changes, w)
        })?;
        return Ok(Exit::Done);
    }
    if out.format == Format::Human {
        let mut text = Vec::new();
        told(&plan, args.over_changes, &mut text).map_err(|error| Failure::internal(error.to_string()))?;
        note(String::from_utf8_lossy(&text).trim_end());
    }
    if !args.yes && plan.refusal().is_none() {
        confirm()?;
    }
    let undoing = output::working("undoing");
    let answer = desk.call(&roll_back, Some(&undoing))?;
    drop(undoing);
    call::tell(home, &answer, &tool, None, out)?;
    exit(home, &answer, Some(&plan))
}

/// What cannot be undone as it is: the command was about the wrong call, or too early.
fn unusable(refusal: Refusal) -> Failure {
    let failure = Failure::usage(refusal.message);
    match refusal.advice {
        Some(advice) => failure.advise(advice),
        None => failure,
    }
}

/// The tool that the call was to.
fn tool_of(reader: &Reader, call: &str) -> Result<Option<String>, Failure> {
    Ok(match reader.story(call)?.opening.what {
        Opening::Accepted(accepted) => Some(accepted.asked.tool),
        Opening::Denied(denied) => denied.tool,
    })
}

/// All is undone, not all is, or it waits; what did not begin cannot be undone as things are, unless there just is no way to.
fn exit(home: &Path, answer: &Answer, plan: Option<&Plan>) -> Result<Exit, Failure> {
    let story = Reader::open(home)?.story(answer.call.as_str())?;
    let no_way = plan.is_some_and(|plan| plan.refusal().is_some());
    Ok(match (&answer.outcome, &story.opening.what) {
        (Outcome::Ok(_) | Outcome::Held(_) | Outcome::Paused(_), _) => call::exit_of(answer),
        (_, Opening::Denied(_)) if !no_way => Exit::Usage,
        _ => Exit::Refused,
    })
}

/// Asks whoever sits at the terminal.
fn confirm() -> Result<(), Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(
            Failure::refused("nothing was undone: standard input is no terminal, so nobody can be asked")
                .advise("To have it done without being asked, say so: --yes. To only see what would be: --dry-run."),
        );
    }
    // The question and its answer share a line.
    let asked = write!(anstream::stderr(), "Undo it? [y/N] ");
    let mut answer = String::new();
    let read = asked.and_then(|()| stdin.read_line(&mut answer));
    match read {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::refused("nothing was undone")),
    }
}

/// What would be done, for programs.
fn document(plan: &Plan, over_changes: bool) -> Value {
    let item = |item: &Item| {
        let place = format!("{}/{}", item.connection, item.route);
        let (state, how) = match &item.inverse {
            _ if plan.function.is_some() => ("function", None),
            Ok(inverse) => ("route", Some(words(item, &inverse.route, &inverse.words))),
            Err(Fate::Not(why)) => ("not", Some(why.clone())),
            Err(Fate::Undone) => ("undone", None),
            Err(Fate::Before(by)) => ("undone", Some(by.clone())),
        };
        json!({
            "effect": item.ordinal,
            "place": place,
            "tier": item.tier,
            "spend": item.spend,
            "by": state,
            "how": how,
            "only_unchanged": looks(plan, item) && !over_changes,
        })
    };
    json!({
        "call": plan.call,
        "by": plan.by(),
        "function": plan.function.as_ref().map(|(function, _)| function),
        "args": plan.function.as_ref().map(|(_, args)| args.to_serde()),
        "effects": plan.items.iter().map(item).collect::<Vec<_>>(),
    })
}

/// The request that takes an effect back, as people read it.
fn words(item: &Item, route: &str, words: &GuestRequest) -> String {
    format!("{} {} ({}/{route})", words.method, words.path, item.connection)
}

/// Whether it is looked at first whether somebody changed it since.
fn looks(plan: &Plan, item: &Item) -> bool {
    let wrote = item.inverse.as_ref().is_ok_and(|inverse| inverse.wrote.is_some());
    wrote && plan.function.is_none()
}

/// What would be done, for people.
fn told(plan: &Plan, over_changes: bool, w: &mut dyn Write) -> io::Result<()> {
    writeln!(w, "How {} would be undone, the last effect first:", plan.call)?;
    for item in &plan.items {
        let spend = item.spend.map_or_else(String::new, |spend| {
            format!(", {} {} (minor units)", spend.minor, spend.currency)
        });
        let place = format!("{} {}/{}{spend}", item.tier, item.connection, item.route);
        let (colour, how) = match &item.inverse {
            _ if plan.function.is_some() => (style::HEAD, "by the function below".to_owned()),
            Ok(inverse) => (style::GOOD, words(item, &inverse.route, &inverse.words)),
            Err(Fate::Not(why)) => (style::BAD, format!("not undone: {why}")),
            Err(Fate::Undone) => (style::DIM, "undone".to_owned()),
            Err(Fate::Before(by)) => (style::DIM, format!("undone before, by {by}")),
        };
        let (on, off) = (colour.render(), colour.render_reset());
        writeln!(w, "  effect {}: {}", item.ordinal, untrusted(&place))?;
        writeln!(w, "    {on}{}{off}", untrusted(&how))?;
        match (looks(plan, item), over_changes) {
            (true, false) => writeln!(w, "    if nobody changed it since: that is looked at first")?,
            (true, true) => writeln!(w, "    whatever somebody else changed since")?,
            (false, _) => {}
        }
    }
    if let Some((function, args)) = &plan.function {
        writeln!(w, "  {} {}", untrusted(function), untrusted(&args.to_canonical()))?;
    }
    Ok(())
}
