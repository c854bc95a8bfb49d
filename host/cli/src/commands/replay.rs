//! `ambit replay`: calls once more, from what was recorded, and compared.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use ambit_core::digest::Digest;
use ambit_core::error::Code;
use ambit_core::ledger::CallStory;
use ambit_core::ledger::bundle::{Bundle, MAX_BUNDLE};
use ambit_runtime::replay::{ReplayError, Replayed, Replayer, replay_bundle};
use ambit_runtime::store::CallFilter;
use serde_json::json;

use super::audit;
use super::receipt::verifier_key;
use crate::args::Replay;
use crate::output::{Exit, Failure, Output, count, note, style, untrusted};

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Failure {
        match error {
            ReplayError::Open(error) => error.into(),
            ReplayError::Refused(refusal) => refusal.into(),
        }
    }
}

pub(crate) fn run(args: &Replay, home: &Path, out: Output) -> Result<Exit, Failure> {
    if let (Some(file), Some(key)) = (&args.from, &args.key) {
        return from_bundle(file, key, out);
    }
    let mut replayer = Replayer::open(home, None)?;
    match (&args.call, &args.bundle) {
        (Some(call), Some(file)) => bundle(&replayer, call, file, out),
        (Some(call), None) => one(&mut replayer, call, out),
        (None, _) => all(&mut replayer, out),
    }
}

fn one(replayer: &mut Replayer, given: &str, out: Output) -> Result<Exit, Failure> {
    let call = audit::resolve(replayer.reader(), given)?;
    let replayed = replayer.replay(&call)?;
    print(&replayed, out)?;
    Ok(exit(replayed.diverged.is_some()))
}

/// Writes a call as a bundle, for its owner alone: its values are plain text.
fn bundle(replayer: &Replayer, given: &str, file: &Path, out: Output) -> Result<Exit, Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let call = audit::resolve(replayer.reader(), given)?;
    let text = replayer.bundle(&call)?;
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        Failure::usage(format!("{} cannot be written: {error}", file.display()))
            .advise("Name a file that is not there yet.")
    })?;
    out.result(&json!({ "call": call, "file": file, "bytes": text.len() }), |w| {
        writeln!(w, "wrote {} bytes of {call} to {}", text.len(), file.display())
    })?;
    note(
        "It has the call's arguments, requests, answers and result in plain text: give it to those who may read them.",
    );
    Ok(Exit::Done)
}

/// Checks every part of a bundle against the ledger's public key, then replays its call.
fn from_bundle(file: &Path, key: &Path, out: Output) -> Result<Exit, Failure> {
    let key = verifier_key(key)?;
    let mut text = String::new();
    let read = fs::File::open(file).and_then(|file| file.take(MAX_BUNDLE as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| Failure::usage(format!("{} cannot be read: {error}", file.display())))?;
    let opened = Bundle::open(&text, &key).map_err(|why| {
        Failure::refused(format!("{} was not replayed: {why}", file.display())).advise(
            "Ask for the bundle again (`ambit replay --bundle FILE CALL`), and check that the key is the ledger's own.",
        )
    })?;
    let replayed = replay_bundle(&opened, None)?;
    print(&replayed, out)?;
    note(format!(
        "{} and {} are those of ledger {} at {} entries; policy {}, configuration {}",
        count(opened.entries as u64, "entry", "entries"),
        count(opened.values.len() as u64, "value", "values"),
        opened.checkpoint.origin(),
        opened.checkpoint.size(),
        told(opened.story.policy),
        told(opened.story.config),
    ));
    Ok(exit(replayed.diverged.is_some()))
}

fn told(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "unknown".to_owned(), |digest| digest.to_string())
}

fn print(replayed: &Replayed, out: Output) -> Result<(), Failure> {
    out.result(replayed, |w| {
        let (word, colour) = word(replayed);
        let effects = count(replayed.effects as u64, "effect", "effects");
        let call = &replayed.call;
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
    })
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
        .filter(CallStory::ran_a_guest)
        .map(|story| story.call)
        .collect();
    let bar = indicatif::ProgressBar::new(calls.len() as u64);
    let (mut same, mut diverged, mut left, mut tampered) = (0_u64, Vec::new(), Vec::new(), Vec::new());
    for call in calls.iter().rev() {
        match replayer.replay(call) {
            Ok(replayed) if replayed.diverged.is_some() => diverged.push(replayed),
            Ok(_) => same += 1,
            Err(ReplayError::Refused(why)) if why.code == Code::Ledger => tampered.push((call, why.message)),
            Err(ReplayError::Refused(why)) => left.push((call, why.message)),
            Err(error) => return Err(error.into()),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let told = |calls: &[(&String, String)]| -> Vec<_> {
        calls
            .iter()
            .map(|(call, why)| json!({ "call": call, "why": why }))
            .collect()
    };
    let document = json!({
        "same": same,
        "diverged": diverged,
        "left_out": told(&left),
        "tampered": told(&tampered),
    });
    out.result(&document, |w| {
        for replayed in &diverged {
            let what = replayed.diverged.as_ref().map(ToString::to_string).unwrap_or_default();
            let (word, colour) = word(replayed);
            let (on, off) = (colour.render(), colour.render_reset());
            writeln!(w, "{on}{word}{off} {}: {}", replayed.call, untrusted(&what))?;
        }
        for (call, why) in &tampered {
            let (on, off) = (style::BAD.render(), style::BAD.render_reset());
            writeln!(w, "{on}tampered{off} {call}: {}", untrusted(why))?;
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
    Ok(exit(!diverged.is_empty() || !tampered.is_empty()))
}
