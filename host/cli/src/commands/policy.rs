//! `ambit policy`: configuration and policy checked as a start would.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use ambit_core::policy::PolicySet;
use ambit_runtime::config::Config;
use ambit_runtime::store::{CallFilter, Reader};
use ambit_runtime::whatif::WhatIf;
use serde_json::{Value, json};

use super::{audit, what_if};
use crate::args::{Format, Policy, Since};
use crate::output::{self, Exit, Failure, Output, count, note, style, untrusted, working};
use crate::proposal;

pub(crate) fn run(command: &Policy, home: &Path, out: Output) -> Result<Exit, Failure> {
    if let Policy::Learn {
        from,
        since,
        run,
        output,
    } = command
    {
        return learn(home, (from, *since, run.as_deref()), output.as_deref(), out);
    }
    let config = Config::load(home)?;
    let policy = PolicySet::load(config.policies(), &config.group_sizes())?;
    match command {
        Policy::Check => check(&config, &policy, out),
        Policy::Init { force } => init(&config, &policy, *force, out),
        // Above: it reads the ledger too.
        Policy::Learn { .. } => Ok(Exit::Done),
        Policy::Schema => output::raw(policy.schema()).map(|()| Exit::Done),
    }
}

fn check(config: &Config, policy: &PolicySet, out: Output) -> Result<Exit, Failure> {
    let slips = policy.unknown_names(&config.names());
    for slip in &slips {
        output::warn(slip);
    }
    let rules: Vec<Value> = policy
        .rules()
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "effect": rule.effect.to_string(),
                "file": rule.file,
                "line": rule.line,
                "annotations": rule.annotations,
                "approvals": rule.approvals.iter().map(|t| json!({ "group": t.group, "at_least": t.at_least })).collect::<Vec<_>>(),
            })
        })
        .collect();
    let value = json!({
        "config": config.digest(),
        "policy": policy.digest(),
        "rules": rules,
        "warnings": slips.len(),
    });
    out.result(&value, |w| print(config, policy, slips.len(), w))?;
    Ok(Exit::Done)
}

/// Proposes what recorded calls asked for.
fn learn(
    home: &Path,
    (from, since, run): (&[String], Option<Since>, Option<&str>),
    output: Option<&Path>,
    out: Output,
) -> Result<Exit, Failure> {
    audit::open(home)?;
    let mut what_if = WhatIf::open(home)?;
    let (runs, from): (Vec<&String>, Vec<&String>) = from.iter().partition(|given| given.starts_with("r_"));
    let named = from.iter().map(|call| audit::resolve(what_if.reader(), call));
    let mut calls = named.collect::<Result<Vec<_>, _>>()?;
    for run in runs.into_iter().map(String::as_str).chain(run) {
        calls.extend(of_run(what_if.reader(), home, run)?);
    }
    if let Some(since) = since {
        let more = what_if.reader().begun_since(Some(what_if::ms(since)?))?;
        calls.extend(more);
    }
    // A call that is named in several ways asked once.
    let mut seen = BTreeSet::new();
    calls.retain(|call| seen.insert(call.clone()));
    let reading = working("learning");
    let learned = what_if.learn(&calls)?;
    drop(reading);
    for left in &learned.left_out {
        note(format!(
            "left out {}: {}",
            what_if::place(&left.place),
            untrusted(&left.why)
        ));
    }
    for still in &learned.still {
        let verdict = what_if::verdict(&still.verdict);
        note(format!(
            "{} would still be {verdict}, with the policies in force beside it",
            what_if::place(&still.place)
        ));
    }
    let Some(file) = output else {
        return match out.format {
            Format::Json => out.result(&learned, |_| Ok(())),
            Format::Human => output::raw(&learned.text),
        }
        .map(|()| Exit::Done);
    };
    write_new(file, &learned.text)?;
    let rules = count(learned.rules.len() as u64, "rule", "rules");
    let value = json!({ "file": file, "learned": learned });
    out.result(&value, |w| {
        writeln!(w, "wrote {}: {rules}, in force nowhere", file.display())?;
        writeln!(
            w,
            "Read each rule: that it was asked for does not mean that it should be permitted."
        )
    })?;
    Ok(Exit::Done)
}

/// The calls of a run, the oldest first.
fn of_run(reader: &Reader, home: &Path, run: &str) -> Result<Vec<String>, Failure> {
    let of_run = CallFilter {
        run: Some(super::run::find(home, run)?.id().to_owned()),
        ..CallFilter::default()
    };
    let stories = reader.calls(&of_run)?;
    Ok(stories.into_iter().rev().map(|story| story.call).collect())
}

/// Never over what is there.
fn write_new(file: &Path, text: &str) -> Result<(), Failure> {
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        Failure::usage(format!("{} cannot be written: {error}", file.display()))
            .advise("Name a file that is not there yet.")
    })
}

/// Writes a proposal beside the policies, under a name that is not loaded.
fn init(config: &Config, policy: &PolicySet, force: bool, out: Output) -> Result<Exit, Failure> {
    let file = config.policy_dir().join(proposal::FILE);
    if !force && file.exists() {
        return Err(
            Failure::refused(format!("{} is there already; nothing was changed", file.display()))
                .advise("Read it, rename it to put it in force, or write it anew with --force."),
        );
    }
    let proposed = proposal::propose(config, policy)?;
    write(&file, &proposed.text)
        .map_err(|e| Failure::internal(format!("{} cannot be written: {e}", file.display())))?;
    let active = file.with_file_name("main.cedar");
    let value = json!({ "file": file, "rules": proposed.rules, "in_force": false });
    out.result(&value, |w| {
        let shown = file.display();
        let rules = count(proposed.rules as u64, "rule", "rules");
        writeln!(w, "wrote {shown}: {rules}, not in force")?;
        writeln!(w)?;
        writeln!(
            w,
            "Read it from top to bottom and delete what agents should not do on their own."
        )?;
        writeln!(
            w,
            "Comments say \"decide\" where a rule moves money or changes something for good."
        )?;
        writeln!(w, "Then put it in force, and see that it loads:")?;
        writeln!(w)?;
        writeln!(w, "  mv {shown} {}", active.display())?;
        writeln!(w, "  ambit --home {} policy check", config.home().display())
    })?;
    Ok(Exit::Done)
}

/// Whole or not at all.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let beside = file.with_extension(format!("{}.new", std::process::id()));
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, file));
    if written.is_err() {
        // What is left of it is nobody's.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn print(config: &Config, policy: &PolicySet, warnings: usize, w: &mut dyn Write) -> std::io::Result<()> {
    let width = policy
        .rules()
        .iter()
        .map(|rule| rule.id.len())
        .max()
        .unwrap_or_default();
    for rule in policy.rules() {
        let place = format!("{}:{}", rule.file, rule.line);
        writeln!(w, "{:<7} {:<width$}  {place}", rule.effect, rule.id)?;
        if let Some(hint) = rule.hint() {
            writeln!(w, "        {}{hint}{}", style::DIM.render(), style::DIM.render_reset())?;
        }
    }
    writeln!(
        w,
        "{}in order{}: {}, {}, {}, {}",
        style::GOOD.render(),
        style::GOOD.render_reset(),
        count(policy.rules().len() as u64, "rule", "rules"),
        count(config.connections().count() as u64, "connection", "connections"),
        count(config.lock().iter().count() as u64, "tool", "tools"),
        count(warnings as u64, "warning", "warnings"),
    )
}
