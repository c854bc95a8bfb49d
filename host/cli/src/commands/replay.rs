//! `ambit replay`: calls once more, from what was recorded, and compared.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use ambit_core::digest::Digest;
use ambit_core::error::{Code, Refusal};
use ambit_core::ledger::CallStory;
use ambit_core::ledger::body::{Act, ActRefused, CallsReplayed};
use ambit_core::ledger::bundle::{Bundle, MAX_BUNDLE};
use ambit_runtime::operators::{self, Request};
use ambit_runtime::replay::{Gone, ReplayError, Replayed, Replayer, replay_bundle};
use ambit_runtime::store::CallFilter;
use serde_json::{Value, json};

use super::desk::unexpected;
use super::receipt::verifier_key;
use super::{audit, run};
use crate::args::Replay;
use crate::output::{Exit, Failure, Output, count, note, style, untrusted};

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Failure {
        match error {
            ReplayError::Open(error) => error.into(),
            ReplayError::Refused(refusal) => refusal.into(),
            ReplayError::Erased(gone) => Failure::refused(gone.to_string()),
        }
    }
}

pub(crate) fn run(args: &Replay, home: &Path, out: Output) -> Result<Exit, Failure> {
    if let (Some(file), Some(key)) = (&args.from, &args.key) {
        return from_bundle(file, key, home, out);
    }
    let mut replayer = Replayer::open(home, None)?;
    if let Some(file) = &args.bundle {
        let [call] = args.which.as_slice() else {
            return Err(Failure::usage("a bundle is of one call, and several are named").advise("Name one call."));
        };
        return bundle(&replayer, call, file, out);
    }
    let wanted = Wanted::of(&replayer, home, &args.which)?;
    let seen = Seen::of(&mut replayer, &wanted)?;
    match seen.calls.as_slice() {
        [one] if wanted.runs.is_empty() && !args.which.is_empty() => only(one, out)?,
        _ => seen.tell(&wanted, out)?,
    }
    if args.record {
        record(&replayer, &seen, home)?;
    }
    Ok(exit(seen.is_bad()))
}

/// The calls that are meant.
struct Wanted {
    calls: Vec<String>,
    /// The runs that were named, whole.
    runs: Vec<String>,
    /// Whether each call has a line of its own: of all there are, only those that are not the same.
    each: bool,
}

impl Wanted {
    fn of(replayer: &Replayer, home: &Path, which: &[String]) -> Result<Self, Failure> {
        let reader = replayer.reader();
        let of_run = |run: Option<String>| -> Result<Vec<String>, Failure> {
            let filter = CallFilter {
                run,
                ..CallFilter::default()
            };
            let mut stories = reader.calls(&filter)?;
            stories.reverse();
            let ran = stories.into_iter().filter(CallStory::ran_a_guest);
            Ok(ran.map(|story| story.call).collect())
        };
        let mut wanted = Self {
            calls: Vec::new(),
            runs: Vec::new(),
            each: !which.is_empty(),
        };
        if which.is_empty() {
            // What was denied has nothing to replay.
            wanted.calls = of_run(None)?;
        }
        for given in which {
            if given.starts_with("r_") {
                let run = run::find(home, given)?.id().to_owned();
                wanted.calls.extend(of_run(Some(run.clone()))?);
                wanted.runs.push(run);
            } else {
                wanted.calls.push(audit::resolve(reader, given)?);
            }
        }
        Ok(wanted)
    }
}

/// What became of one call.
enum Verdict {
    Replayed(Replayed),
    Erased(Gone),
    Tampered(Refusal),
    LeftOut(Refusal),
}

impl Verdict {
    fn of(replayer: &mut Replayer, call: &str) -> Result<Self, Failure> {
        match replayer.replay(call) {
            Ok(replayed) => Ok(Self::Replayed(replayed)),
            Err(ReplayError::Erased(gone)) => Ok(Self::Erased(gone)),
            Err(ReplayError::Refused(why)) if why.code == Code::Ledger => Ok(Self::Tampered(why)),
            Err(ReplayError::Refused(why)) => Ok(Self::LeftOut(why)),
            Err(error) => Err(error.into()),
        }
    }

    const fn word(&self) -> (&'static str, anstyle::Style) {
        match self {
            Self::Replayed(Replayed { diverged: Some(_), .. }) => ("diverged", style::BAD),
            Self::Replayed(_) => ("same", style::GOOD),
            Self::Erased(_) => ("partial", style::WARN),
            Self::Tampered(_) => ("tampered", style::BAD),
            Self::LeftOut(_) => ("left out", style::DIM),
        }
    }

    const fn is_bad(&self) -> bool {
        matches!(
            self,
            Self::Tampered(_) | Self::Replayed(Replayed { diverged: Some(_), .. })
        )
    }

    /// One line for people.
    fn line(&self, call: &str, w: &mut dyn Write) -> io::Result<()> {
        let (word, colour) = self.word();
        write!(w, "{}{word}{} {call}: ", colour.render(), colour.render_reset())?;
        match self {
            Self::Replayed(replayed) => as_replayed(replayed, w),
            Self::Erased(gone) => writeln!(
                w,
                "its values were {}: nothing could be compared of {}",
                untrusted(&gone.erased),
                untrusted(&lost(gone)),
            ),
            Self::Tampered(why) | Self::LeftOut(why) => writeln!(w, "{}", untrusted(&why.message)),
        }
    }

    /// For programs, with the word.
    fn document(&self, call: &str) -> Value {
        let mut document = match self {
            Self::Replayed(replayed) => json!(replayed),
            Self::Erased(gone) => erased(gone),
            Self::Tampered(why) | Self::LeftOut(why) => json!({ "call": call, "why": why.message }),
        };
        if let Some(members) = document.as_object_mut() {
            members.insert("verdict".to_owned(), json!(self.word().0));
        }
        document
    }
}

fn as_replayed(replayed: &Replayed, w: &mut dyn Write) -> io::Result<()> {
    let effects = count(replayed.effects as u64, "effect", "effects");
    match (&replayed.diverged, replayed.stopped) {
        (Some(divergence), _) => writeln!(w, "{}", untrusted(&divergence.to_string())),
        (None, Some(stopped)) => writeln!(w, "as recorded {stopped}"),
        (None, None) if replayed.same_engine => writeln!(
            w,
            "{effects}, result and log as recorded, fuel {} both times",
            replayed.fuel_used
        ),
        (None, None) => writeln!(
            w,
            "{effects}, result and log as recorded; fuel {} then, {} now, on another engine",
            replayed.fuel_recorded, replayed.fuel_used
        ),
    }
}

fn erased(gone: &Gone) -> Value {
    json!({ "call": gone.call, "partial": true, "erased": gone.erased, "not_compared": gone.values })
}

/// What could not be compared: its effects by their numbers, and what it began and ended with.
fn lost(gone: &Gone) -> String {
    let ordinal = |name: &str| name.strip_prefix("effect/")?.split('/').next()?.parse::<u32>().ok();
    let effects: BTreeSet<u32> = gone.values.iter().filter_map(|name| ordinal(name)).collect();
    let numbers: Vec<String> = effects.iter().map(ToString::to_string).collect();
    let effects = match numbers.len() {
        0 => None,
        1 => Some(format!("effect {}", numbers.join(", "))),
        _ => Some(format!("effects {}", numbers.join(", "))),
    };
    let whole = [("args", "arguments"), ("log", "log"), ("result", "result")];
    let whole = whole
        .into_iter()
        .filter(|(name, _)| gone.values.iter().any(|value| value == name))
        .map(|(_, told)| told.to_owned());
    whole.chain(effects).collect::<Vec<_>>().join(", ")
}

/// What became of all that was meant, in order.
struct Seen {
    calls: Vec<(String, Verdict)>,
}

impl Seen {
    fn of(replayer: &mut Replayer, wanted: &Wanted) -> Result<Self, Failure> {
        let bar = indicatif::ProgressBar::new(wanted.calls.len() as u64);
        let mut calls = Vec::new();
        for call in &wanted.calls {
            calls.push((call.clone(), Verdict::of(replayer, call)?));
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(Self { calls })
    }

    fn is_bad(&self) -> bool {
        self.calls.iter().any(|(_, verdict)| verdict.is_bad())
    }

    fn with(&self, word: &str) -> impl Iterator<Item = &(String, Verdict)> {
        self.calls.iter().filter(move |(_, verdict)| verdict.word().0 == word)
    }

    fn stopped(&self) -> u64 {
        let stopped = |(_, verdict): &&(String, Verdict)| matches!(verdict, Verdict::Replayed(replayed) if replayed.stopped.is_some());
        self.with("same").filter(stopped).count() as u64
    }

    fn tell(&self, wanted: &Wanted, out: Output) -> Result<(), Failure> {
        let documents =
            |word: &str| -> Vec<Value> { self.with(word).map(|(call, verdict)| verdict.document(call)).collect() };
        let mut document = json!({
            "same": self.with("same").count(),
            "stopped": self.stopped(),
            "diverged": documents("diverged"),
            "partial": documents("partial"),
            "left_out": documents("left out"),
            "tampered": documents("tampered"),
        });
        if let (true, Some(members)) = (wanted.each, document.as_object_mut()) {
            let calls = self.calls.iter().map(|(call, verdict)| verdict.document(call));
            members.insert("calls".to_owned(), calls.collect());
            members.insert("runs".to_owned(), json!(wanted.runs));
        }
        out.result(&document, |w| {
            for (call, verdict) in &self.calls {
                if wanted.each || verdict.word().0 != "same" {
                    verdict.line(call, w)?;
                }
            }
            self.sum(w)
        })
    }

    fn sum(&self, w: &mut dyn Write) -> io::Result<()> {
        let number = |word: &str| self.with(word).count() as u64;
        let stopped = match self.stopped() {
            0 => String::new(),
            stopped => format!(" ({stopped} of them up to where something stopped them)"),
        };
        writeln!(
            w,
            "{} the same{stopped}, {} diverged, {} left out",
            count(number("same"), "call", "calls"),
            number("diverged"),
            number("left out"),
        )?;
        match number("partial") {
            0 => Ok(()),
            erased => writeln!(
                w,
                "{}partial{}: the values of {} were erased, and nothing of them could be compared",
                style::WARN.render(),
                style::WARN.render_reset(),
                count(erased, "call", "calls"),
            ),
        }
    }
}

/// The one call that was named.
fn only((call, verdict): &(String, Verdict), out: Output) -> Result<(), Failure> {
    match verdict {
        Verdict::Replayed(replayed) => out.result(replayed, |w| verdict.line(call, w)),
        Verdict::Erased(gone) => {
            out.result(&erased(gone), |w| verdict.line(call, w))?;
            note("PARTIAL: that nothing differs was not shown, as there was nothing left to run.");
            Ok(())
        }
        Verdict::Tampered(why) | Verdict::LeftOut(why) => Err(why.clone().into()),
    }
}

/// Divergences that are written down at once: as many as fit into a request to the process that holds the home.
const AT_ONCE: usize = 64;

/// Writes down what diverged, and what came of all.
fn record(replayer: &Replayer, seen: &Seen, home: &Path) -> Result<(), Failure> {
    let replayed = seen.calls.iter().filter_map(|(_, verdict)| match verdict {
        Verdict::Replayed(replayed) => Some(replayed),
        _ => None,
    });
    let entries = replayed.filter_map(|replayed| replayer.entry_of(replayed).transpose());
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    let counted = |word: &str| seen.with(word).count() as u64;
    let replayed = CallsReplayed {
        diverged: counted("diverged"),
        partial: counted("partial"),
        same: counted("same"),
    };
    if replayed == CallsReplayed::default() {
        note("No call was run again, so nothing was written.");
        return Ok(());
    }
    let divergences = count(entries.len() as u64, "divergence", "divergences");
    let mut first = None;
    for calls in entries.chunks(AT_ONCE) {
        let request = Request::Diverged { calls: calls.to_vec() };
        match operators::act(home, &request)? {
            operators::Answer::Written(index) => first = first.or(Some(index)),
            other => return Err(unexpected(&other)),
        }
    }
    let CallsReplayed {
        diverged,
        partial,
        same,
    } = replayed;
    let entry = match operators::act(home, &Request::Replayed { replayed })? {
        operators::Answer::Written(index) => index,
        other => return Err(unexpected(&other)),
    };
    let sum = format!("{same} same, {diverged} diverged, {partial} partial");
    match first {
        None => note(format!("wrote to the ledger, as entry {entry}: {sum}")),
        Some(first) => note(format!(
            "wrote {divergences} to the ledger, from entry {first} on, and as entry {entry}: {sum}"
        )),
    }
    Ok(())
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
fn from_bundle(file: &Path, key: &Path, home: &Path, out: Output) -> Result<Exit, Failure> {
    let key = verifier_key(key)?;
    let mut text = String::new();
    let read = fs::File::open(file).and_then(|file| file.take(MAX_BUNDLE as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| Failure::usage(format!("{} cannot be read: {error}", file.display())))?;
    let opened = Bundle::open(&text, &key).map_err(|why| {
        // Where there is a home at all: a bundle is replayed without one too.
        let refused = ActRefused {
            act: Act::ReplayBundle,
            code: Code::Ledger,
            of: Some(Digest::of(text.as_bytes())),
        };
        if let Err(error) = operators::note_refused(home, refused) {
            tracing::debug!(%error, "that the bundle was refused is on no ledger");
        }
        Failure::refused(format!("{} was not replayed: {why}", file.display())).advise(
            "Ask for the bundle again (`ambit replay --bundle FILE CALL`), and check that the key is the ledger's own.",
        )
    })?;
    let one = (
        opened.story.call.clone(),
        Verdict::Replayed(replay_bundle(&opened, None)?),
    );
    only(&one, out)?;
    note(format!(
        "{} and {} are those of ledger {} at {} entries; policy {}, configuration {}",
        count(opened.entries as u64, "entry", "entries"),
        count(opened.values.len() as u64, "value", "values"),
        opened.checkpoint.origin(),
        opened.checkpoint.size(),
        told(opened.story.policy),
        told(opened.story.config),
    ));
    Ok(exit(one.1.is_bad()))
}

fn told(digest: Option<Digest>) -> String {
    digest.map_or_else(|| "unknown".to_owned(), |digest| digest.to_string())
}

const fn exit(bad: bool) -> Exit {
    if bad { Exit::Refused } else { Exit::Done }
}
