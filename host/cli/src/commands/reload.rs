//! `ambit reload`: has the process that serves this home take its files anew.

use std::io::{self, Write};
use std::path::Path;

use ambit_core::ledger::body::ToolChanged;
use ambit_core::policy::PolicySet;
use ambit_runtime::config::Config;
use ambit_runtime::operators::{self, Answer, Request};
use ambit_runtime::reload::Reloaded;

use super::desk::unexpected;
use crate::output::{self, Exit, Failure, Output, note, style, untrusted};

pub(crate) fn run(home: &Path, out: Output) -> Result<Exit, Failure> {
    let waits = output::working("the host takes its files anew");
    let answer = operators::ask(home, &Request::Reload)?;
    drop(waits);
    let reloaded = match answer {
        Some(Answer::Reloaded(reloaded)) => reloaded,
        Some(Answer::Refused(refusal)) => {
            note("The host goes on with the files that it had.");
            // What is wrong in them is shown in its place, where it is still there.
            return Err(problems(home).unwrap_or_else(|| refusal.into()));
        }
        Some(Answer::Failed(why)) => return Err(Failure::internal(why)),
        Some(Answer::Busy) => {
            return Err(Failure::refused(
                "the process that holds the home ends, or makes a call of its own: there is nothing to reload",
            )
            .advise("What starts next takes the files as they are."));
        }
        Some(other) => return Err(unexpected(&other)),
        None => {
            return Err(
                Failure::refused("no process serves this home: there is nothing to reload")
                    .advise("What starts next takes the files as they are: ambit serve"),
            );
        }
    };
    out.result(&reloaded, |w| print(&reloaded, w))?;
    reloaded
        .warnings
        .iter()
        .for_each(|warning| note(format!("warning: {}", untrusted(warning))));
    Ok(Exit::Done)
}

/// What is wrong with the files as they are now.
fn problems(home: &Path) -> Option<Failure> {
    match Config::load(home) {
        Err(problems) => Some(problems.into()),
        Ok(config) => {
            let policy = PolicySet::load(config.policies(), &config.group_sizes());
            policy.err().map(Failure::from)
        }
    }
}

fn print(reloaded: &Reloaded, w: &mut dyn Write) -> io::Result<()> {
    let (good, reset) = (style::GOOD.render(), style::GOOD.render_reset());
    writeln!(w, "{good}reloaded{reset}, by entry {}", reloaded.entry)?;
    if !reloaded.changes_anything() {
        writeln!(
            w,
            "  nothing is another than before; secrets, certificates and authorities were read again"
        )?;
    }
    for section in &reloaded.sections {
        writeln!(w, "  ambit.toml: [{}]", untrusted(section))?;
    }
    for file in &reloaded.policies {
        writeln!(w, "  policy: {} {}", untrusted(&file.file), file.how.as_str())?;
    }
    for tool in &reloaded.tools {
        tool_line(tool, w)?;
    }
    writeln!(
        w,
        "calls that begin now are decided by {} under {} rules; what runs goes on with what it began with",
        reloaded.policy, reloaded.rules
    )
}

fn tool_line(tool: &ToolChanged, w: &mut dyn Write) -> io::Result<()> {
    let name = untrusted(&tool.name);
    match (&tool.from, &tool.to) {
        (None, Some(to)) => writeln!(w, "  tool: {name} added, {to}"),
        (Some(from), None) => writeln!(w, "  tool: {name} removed, {from}"),
        (Some(from), Some(to)) => writeln!(w, "  tool: {name} is {to}, and was {from}"),
        (None, None) => Ok(()),
    }
}
