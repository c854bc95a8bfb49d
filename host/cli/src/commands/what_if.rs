//! `ambit what-if`: recorded calls under another policy, or in another build of their tool.

use std::path::{Path, PathBuf};

use ambit_core::ledger::utc;
use ambit_core::policy::PolicySet;
use ambit_runtime::approvals;
use ambit_runtime::config::{Config, read_policies};
use ambit_runtime::host::now_ms;
use ambit_runtime::store::Reader;
use ambit_runtime::whatif::{Changed, Place, Rebuilt, Rerun, Undecided, Verdict, Weighed, WhatIf, Word};
use indicatif::ProgressBar;
use serde_json::json;

use super::{audit, tools};
use crate::args::{self, Recorded, Since};
use crate::ids;
use crate::output::{self, Exit, Failure, Output, count, style, untrusted, working};

pub(crate) fn run(args: &args::WhatIf, home: &Path, out: Output) -> Result<Exit, Failure> {
    audit::open(home)?;
    match (&args.other.policy, &args.other.tool) {
        (Some(folder), _) => policy(home, folder, args, out),
        (None, Some(tool)) => other_build(home, tool, args, out),
        // Clap asks for one of them.
        (None, None) => Ok(Exit::Usage),
    }
}

fn policy(home: &Path, folder: &Path, args: &args::WhatIf, out: Output) -> Result<Exit, Failure> {
    let mut what_if = WhatIf::open(home)?;
    if !folder.is_dir() {
        return Err(Failure::usage(format!("{} is no folder", folder.display()))
            .advise("Name a folder of policies, such as a copy of the home's `policy` folder."));
    }
    let sources = read_policies(folder)?;
    if sources.is_empty() {
        return Err(Failure::usage(format!("{} has no *.cedar file", folder.display()))
            .advise("Name a folder of policies, such as a copy of the home's `policy` folder."));
    }
    let policy = PolicySet::load(&sources, &what_if.config().group_sizes())?;
    for slip in &policy.unknown_names(&what_if.config().names()) {
        output::warn(slip);
    }
    let calls = which(what_if.reader(), &args.calls)?;
    let bar = ProgressBar::new(calls.len() as u64);
    let weighed = what_if.policy(&policy, &calls, |behind| bar.set_position(behind));
    bar.finish_and_clear();
    let weighed = weighed?;
    out.result(&weighed, |w| print(&weighed, w))?;
    let looked = Looked {
        at: weighed.calls + weighed.effects,
        left: weighed.undecided.len() as u64,
        changed: !weighed.changed.is_empty(),
    };
    Ok(looked.exit("decided again", args.allow_none))
}

/// The calls that are meant, the oldest first.
fn which(reader: &Reader, calls: &Recorded) -> Result<Vec<String>, Failure> {
    if calls.call.is_empty() {
        return Ok(reader.begun_since(calls.since.map(ms).transpose()?)?);
    }
    named(reader, &calls.call)
}

/// The calls that these ids, or beginnings of ids, name.
fn named(reader: &Reader, given: &[String]) -> Result<Vec<String>, Failure> {
    given.iter().map(|call| audit::resolve(reader, call)).collect()
}

/// A time in milliseconds since 1970. One that is still to come has no calls, and a gate that asks about them would pass whatever changed.
pub(super) fn ms(since: Since) -> Result<i64, Failure> {
    match since {
        Since::At(at) if at > now_ms() => {
            let message = format!("--since {} is still to come: nothing was recorded since", utc(at));
            Err(Failure::usage(message).advise("times are in UTC; leave --since out for all calls"))
        }
        Since::At(at) => Ok(at),
        Since::Ago(ago) => Ok(now_ms().saturating_sub(ago)),
    }
}

/// How much was looked at, and what of it.
struct Looked {
    /// What there was to decide or run again.
    at: u64,
    /// What of that could not be.
    left: u64,
    /// Whether something would change.
    changed: bool,
}

impl Looked {
    /// A gate that looked at nothing has shown nothing, and says so: that is no pass, but where somebody said that there may be nothing yet.
    fn exit(&self, done: &str, allow_none: bool) -> Exit {
        if self.changed {
            return Exit::Refused;
        }
        match (self.at, self.at.saturating_sub(self.left)) {
            (0, _) if allow_none => Exit::Done,
            (0, _) => {
                output::note(format_args!(
                    "there was nothing to be {done}, which shows nothing: --allow-none where there may be none yet"
                ));
                Exit::Refused
            }
            (_, 0) => {
                output::note(format_args!("nothing was {done}, which shows nothing"));
                Exit::Refused
            }
            _ => Exit::Done,
        }
    }
}

fn print(weighed: &Weighed, w: &mut dyn std::io::Write) -> std::io::Result<()> {
    let (on, off) = (style::BAD.render(), style::BAD.render_reset());
    for Changed {
        place: at,
        approvals,
        then,
        now,
    } in &weighed.changed
    {
        let (then, now) = (verdict(then), verdict(now));
        let with = if approvals.is_empty() {
            String::new()
        } else {
            format!(" with {}", approvals::told(std::slice::from_ref(approvals)))
        };
        writeln!(
            w,
            "{on}changed{off} {}{}: {then} then, {now} now",
            place(at),
            untrusted(&with)
        )?;
    }
    let undecided = weighed.undecided.iter();
    let undecided = undecided.map(|Undecided { place: at, why }| (why.as_str(), place(at)));
    print_left("not decided", undecided, w)?;
    writeln!(
        w,
        "{} and {} decided again: {} would change, {} by other rules to the same end, {} not decided",
        count(weighed.calls, "call", "calls"),
        count(weighed.effects, "effect", "effects"),
        weighed.changed.len(),
        weighed.other_rules,
        weighed.undecided.len(),
    )?;
    if weighed.apart > 0 {
        let apart = count(weighed.apart, "more was", "more were");
        writeln!(
            w,
            "{apart} not for policy to decide: refused by a limit, a budget or people, or needed by the host itself"
        )?;
    }
    Ok(())
}

/// What was left out, a line for each reason, the commonest first: how many, and the first of them.
fn print_left<'a>(
    word: &str,
    left: impl Iterator<Item = (&'a str, String)>,
    w: &mut dyn std::io::Write,
) -> std::io::Result<()> {
    let mut reasons: Vec<(&str, String, usize)> = Vec::new();
    for (why, place) in left {
        match reasons.iter_mut().find(|(known, ..)| *known == why) {
            Some((_, _, count)) => *count += 1,
            None => reasons.push((why, place, 1)),
        }
    }
    reasons.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
    let (on, off) = (style::WARN.render(), style::WARN.render_reset());
    reasons.into_iter().try_for_each(|(why, first, count)| match count {
        1 => writeln!(w, "{on}{word}{off} {first}: {}", untrusted(why)),
        count => writeln!(w, "{on}{word}{off} {count}, {first} for one: {}", untrusted(why)),
    })
}

/// What is meant, on one line.
pub(super) fn place(place: &Place) -> String {
    let effect = place
        .effect
        .map(|effect| format!(" effect {effect}"))
        .unwrap_or_default();
    untrusted(&format!("{}{effect} ({})", place.call, place.what))
}

/// A verdict with its rules, on one line.
pub(super) fn verdict(verdict: &Verdict) -> String {
    let word = match verdict.word {
        Word::Permitted => "permitted",
        Word::Held => "held",
        Word::Denied => "denied",
    };
    let rules = match verdict.rules.as_slice() {
        [] => "no rule permits it".to_owned(),
        rules => rules.join(", "),
    };
    let needs = match verdict.needs.as_slice() {
        [] => String::new(),
        needs => format!(" for {}", approvals::told(needs)),
    };
    untrusted(&format!("{word}{needs} ({rules})"))
}

fn other_build(home: &Path, given: &str, args: &args::WhatIf, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let (name, file) = tool(&config, given);
    let (bytes, manifest) = tools::read_component(&file)?;
    let name = match name {
        Some(name) => name,
        None => only_tool(&config, &manifest.world, &file)?,
    };
    let compiling = working("compiling the component");
    let rerun = Rerun::open(home, &name, &bytes, None)
        .map_err(|error| ids::or_no_such(error.into(), "tool", &name, config.lock().iter().map(|(name, _)| name)))?;
    drop(compiling);
    let calls = which(rerun.reader(), &args.calls)?;
    let bar = ProgressBar::new(calls.len() as u64);
    let rebuilt = rerun.run(&calls, |behind| bar.set_position(behind));
    bar.finish_and_clear();
    let rebuilt = rebuilt?;
    let changes: Vec<_> = rerun
        .changes()
        .iter()
        .map(|change| json!({ "what": change.to_string(), "wider": change.widens() }))
        .collect();
    let value = json!({ "tool": name, "digest": manifest.digest, "declares": changes, "behaviour": rebuilt });
    out.result(&value, |w| {
        for change in rerun.changes() {
            let colour = if change.widens() { style::BAD } else { style::DIM };
            let (on, off) = (colour.render(), colour.render_reset());
            writeln!(w, "{on}declares{off} {}", untrusted(&change.to_string()))?;
        }
        print_rebuilt(&rebuilt, w)
    })?;
    let left = rebuilt.not_run.len() as u64;
    let looked = Looked {
        at: rebuilt.calls + left,
        left,
        changed: !rebuilt.changed.is_empty(),
    };
    Ok(looked.exit("run again", args.allow_none))
}

/// `NAME=FILE` where the home has a tool of that name; a file's name may have a `=` in it.
fn tool(config: &Config, given: &str) -> (Option<String>, PathBuf) {
    match given.split_once('=') {
        Some((name, file)) if config.lock().get(name).is_some() || !Path::new(given).exists() => {
            (Some(name.to_owned()), PathBuf::from(file))
        }
        _ => (None, PathBuf::from(given)),
    }
}

/// The tool that a component is a build of: the only one of the home, or the only one of its world.
fn only_tool(config: &Config, world: &str, file: &Path) -> Result<String, Failure> {
    let all: Vec<&str> = config.lock().iter().map(|(name, _)| name).collect();
    let same: Vec<&str> = config
        .lock()
        .iter()
        .filter(|(_, pin)| pin.world == world)
        .map(|(name, _)| name)
        .collect();
    match (all.as_slice(), same.as_slice()) {
        ([one], _) | (_, [one]) => Ok((*one).to_owned()),
        ([], _) => Err(Failure::usage("the home has no tool")),
        _ => Err(
            Failure::usage(format!("it is not clear which tool {} is a build of", file.display())).advise(format!(
                "Say it: --tool NAME={}. The tools here: {}",
                file.display(),
                all.join(", ")
            )),
        ),
    }
}

fn print_rebuilt(rebuilt: &Rebuilt, w: &mut dyn std::io::Write) -> std::io::Result<()> {
    let (on, off) = (style::BAD.render(), style::BAD.render_reset());
    for behaviour in &rebuilt.changed {
        let first = format!("{}: {}", behaviour.function, behaviour.first);
        writeln!(w, "{on}changed{off} {} {}", behaviour.call, untrusted(&first))?;
    }
    let not_run = rebuilt.not_run.iter();
    print_left("not run", not_run.map(|left| (left.why.as_str(), left.call.clone())), w)?;
    writeln!(
        w,
        "{} run again: {} would change, {} not run",
        count(rebuilt.calls, "call", "calls"),
        rebuilt.changed.len(),
        rebuilt.not_run.len()
    )?;
    if rebuilt.other_logs > 0 {
        let logs = count(rebuilt.other_logs, "call logs", "calls log");
        writeln!(w, "{logs} something else, and behave as they did")?;
    }
    if rebuilt.other_fuel > 0 {
        let (then, now) = rebuilt.fuel;
        writeln!(w, "calls that behave as they did use {now} fuel, {then} then")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_was_left_out_is_grouped_by_its_reason() {
        let left = [("gone", "c_a"), ("denied", "c_b"), ("denied", "c_c"), ("denied", "c_d")];
        let mut out = anstream::StripStream::new(Vec::new());
        let left = left.into_iter().map(|(why, place)| (why, place.to_owned()));
        print_left("not run", left, &mut out).unwrap();
        let text = String::from_utf8(out.into_inner()).unwrap();
        assert_eq!(text, "not run 3, c_b for one: denied\nnot run c_a: gone\n");
    }
}
