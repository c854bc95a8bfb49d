//! `ambit replay`: calls once more, from what was recorded, and compared.

use std::path::Path;

use ambit_core::ledger::story::Opening;
use ambit_runtime::replay::{ReplayError, Replayed, Replayer};
use ambit_runtime::store::CallFilter;
use serde_json::json;

use super::audit;
use crate::args::Replay;
use crate::output::{Exit, Failure, Output, count, style, untrusted};

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Failure {
        match error {
            ReplayError::Open(error) => error.into(),
            ReplayError::Refused(refusal) => refusal.into(),
        }
    }
}

pub(crate) fn run(args: &Replay, home: &Path, out: Output) -> Result<Exit, Failure> {
    let mut replayer = Replayer::open(home, None)?;
    match &args.call {
        Some(call) => one(&mut replayer, call, out),
        None => all(&mut replayer, out),
    }
}

fn one(replayer: &mut Replayer, given: &str, out: Output) -> Result<Exit, Failure> {
    let call = audit::resolve(replayer.reader(), given)?;
    let replayed = replayer.replay(&call)?;
    out.result(&replayed, |w| {
        let (word, colour) = word(&replayed);
        let effects = count(replayed.effects as u64, "effect", "effects");
        write!(w, "{}{word}{} {call}: ", colour.render(), colour.render_reset())?;
        match &replayed.diverged {
            Some(divergence) => writeln!(w, "{}", untrusted(&divergence.to_string())),
            None if replayed.same_engine => {
                writeln!(
                    w,
                    "{effects}, result and log as recorded, fuel {} both times",
                    replayed.fuel_used
                )
            }
            None => writeln!(
                w,
                "{effects}, result and log as recorded; fuel {} then, {} now, on another engine",
                replayed.fuel_recorded, replayed.fuel_used
            ),
        }
    })?;
    Ok(exit(replayed.diverged.is_some()))
}

fn word(replayed: &Replayed) -> (&'static str, anstyle::Style) {
    match replayed.diverged {
        Some(_) => ("diverged", style::BAD),
        None => ("same", style::GOOD),
    }
}

const fn exit(diverged: bool) -> Exit {
    if diverged { Exit::Refused } else { Exit::Done }
}

/// Every call that ran: what was denied has nothing to replay, and what cannot be replayed is told.
fn all(replayer: &mut Replayer, out: Output) -> Result<Exit, Failure> {
    let calls: Vec<String> = replayer
        .reader()
        .calls(&CallFilter::default())?
        .into_iter()
        .filter(|story| matches!(story.opening.what, Opening::Accepted(_)))
        .map(|story| story.call)
        .collect();
    let bar = indicatif::ProgressBar::new(calls.len() as u64);
    let (mut same, mut diverged, mut left) = (0_u64, Vec::new(), Vec::new());
    for call in calls.iter().rev() {
        match replayer.replay(call) {
            Ok(replayed) if replayed.diverged.is_some() => diverged.push(replayed),
            Ok(_) => same += 1,
            Err(ReplayError::Refused(why)) => left.push((call, why.message)),
            Err(error) => return Err(error.into()),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let document = json!({
        "same": same,
        "diverged": diverged,
        "left_out": left.iter().map(|(call, why)| json!({ "call": call, "why": why })).collect::<Vec<_>>(),
    });
    out.result(&document, |w| {
        for replayed in &diverged {
            let what = replayed.diverged.as_ref().map(ToString::to_string).unwrap_or_default();
            let (word, colour) = word(replayed);
            let (on, off) = (colour.render(), colour.render_reset());
            writeln!(w, "{on}{word}{off} {}: {}", replayed.call, untrusted(&what))?;
        }
        for (call, why) in &left {
            writeln!(w, "left out {call}: {}", untrusted(why))?;
        }
        writeln!(
            w,
            "{} the same, {} diverged, {} left out",
            count(same, "call", "calls"),
            diverged.len(),
            left.len()
        )
    })?;
    Ok(exit(!diverged.is_empty()))
}
