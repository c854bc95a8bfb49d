//! `ambit audit`: reads the ledger, with or without a running host.

mod search;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use ambit_core::ledger::body::End;
use ambit_core::ledger::story::{EffectStory, Opening};
use ambit_core::ledger::{Body, CallStory, Entry, utc};
use ambit_core::undo::{self, State};
use ambit_runtime::config::FILE;
use ambit_runtime::documents;
use ambit_runtime::host::Known;
use ambit_runtime::store::{CallFilter, Keys, Reader, StoreError};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::erase::UNFINISHED;
use super::receipt::verifier_key;
use super::story;
use crate::args::Audit;
use crate::ids::{self, Kind};
use crate::output::{Exit, Failure, Output, count, note, style, untrusted, working};

pub(crate) fn run(command: &Audit, home: &Path, out: Output) -> Result<Exit, Failure> {
    match command {
        Audit::Show { call, payloads } => show(home, call, *payloads, out),
        Audit::List {
            limit,
            tool,
            agent,
            run,
            refused,
        } => {
            let run = run.as_deref().map(|run| super::run::find(home, run)).transpose()?;
            let filter = CallFilter {
                tool: tool.clone(),
                agent: agent.clone(),
                run: run.map(|run| run.id().to_owned()),
                ..CallFilter::default()
            };
            list(home, filter, *limit, *refused, out)
        }
        Audit::Search(args) => search::run(home, args, out),
        Audit::Verify {
            export: Some(export),
            key,
        } => verify_export(export, key.as_deref(), out),
        Audit::Verify { export: None, key } => verify(home, key.as_deref(), out),
        Audit::Prove { call, output } => prove(home, call, output.as_deref()),
        Audit::Export { output } => export(home, output),
    }
}

/// Opens the ledger for reading. A home that is none is told as by every other command.
pub(super) fn open(home: &Path) -> Result<Reader, Failure> {
    if !home.join(FILE).exists() {
        let message = format!("{} is no home: it has no {FILE}", home.display());
        return Err(
            Failure::usage(message).advise("`ambit init` makes a home; `--home DIR` or AMBIT_HOME name another one.")
        );
    }
    Ok(Reader::open(home)?)
}

/// Opens the ledger for reading; payloads too where the keys are readable.
fn reader(home: &Path) -> Result<Reader, Failure> {
    let reader = open(home)?;
    Ok(match Keys::load(home) {
        Ok(keys) => reader.with_keys(&keys),
        Err(_) => reader,
    })
}

/// The call that `given` names: whole, or by a beginning that only one call has.
pub(crate) fn resolve(reader: &Reader, given: &str) -> Result<String, Failure> {
    match reader.calls_like(given, 3)?.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(ids::unknown(Kind::Call, given)),
        several => Err(ids::several(Kind::Call, given, several)),
    }
}

fn show(home: &Path, call: &str, payloads: bool, out: Output) -> Result<Exit, Failure> {
    let reader = reader(home)?;
    let call = resolve(&reader, call)?;
    let story = reader.story(&call)?;
    let erased = reader.erased(&call)?;
    let names = reader.payload_names(&call)?;
    let value = |name: &str| -> Option<String> {
        if let Some(erased) = &erased {
            return names.iter().any(|stored| stored == name).then(|| erased.to_string());
        }
        let always = name.ends_with("refused") || name == "denied";
        if !payloads && !always {
            return None;
        }
        match reader.payload(&call, name) {
            Ok(payload) => payload.map(|p| readable(name, p.bytes())),
            Err(why) => Some(format!("[not readable: {why}]")),
        }
    };
    let entries = reader.entries_of(&call)?;
    let json_entries: Vec<Value> = entries
        .iter()
        .filter_map(|e| serde_json::from_str(&e.text()).ok())
        .collect();
    let rollbacks = reader.rollbacks_of(&call)?;
    let rollbacks: Vec<CallStory> = rollbacks.iter().map(|by| reader.story(by)).collect::<Result<_, _>>()?;
    let mut document = json!({ "call": call, "entries": json_entries });
    if let (false, Some(document)) = (rollbacks.is_empty(), document.as_object_mut()) {
        document.insert("rollbacks".to_owned(), json!(undone_by(&story, &rollbacks)));
    }
    if payloads {
        let all: BTreeMap<&String, Value> = names
            .iter()
            .filter(|_| erased.is_none())
            .filter_map(|name| value(name).map(|text| (name, Value::String(text))))
            .collect();
        if let Some(document) = document.as_object_mut() {
            document.insert("payloads".to_owned(), json!(all));
        }
    }
    if let (Some(erased), Some(document)) = (&erased, document.as_object_mut()) {
        let word = json!({ "entry": erased.index, "time": utc(erased.time_ms), "why": erased.why, "values": names });
        document.insert("erased".to_owned(), word);
    }
    let diverged = reader.divergences(&call)?;
    if let (false, Some(document)) = (diverged.is_empty(), document.as_object_mut()) {
        let entries: Vec<Value> = diverged
            .iter()
            .filter_map(|entry| serde_json::from_str(&entry.text()).ok())
            .collect();
        document.insert("diverged".to_owned(), json!(entries));
    }
    out.result(&document, |w| {
        story::print(&story, &value, w)?;
        diverged.iter().try_for_each(|entry| print_divergence(entry, w))?;
        for rollback in undone_by(&story, &rollbacks) {
            let text = |name: &str| {
                rollback
                    .get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            writeln!(w, "{} by {}", text("what"), text("call"))?;
        }
        if !payloads && erased.is_none() {
            writeln!(w, "\nAdd --payloads for arguments, requests and answers as recorded.")?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}

/// What the ledger says of a call that was run again.
fn print_divergence(entry: &Entry, w: &mut dyn Write) -> io::Result<()> {
    let Body::CallDiverged(diverged) = entry.body() else {
        return Ok(());
    };
    let what = match diverged.ordinal {
        Some(ordinal) => format!("effect {ordinal}"),
        None => diverged.part.as_str().to_owned(),
    };
    let (bad, reset) = (style::BAD.render(), style::BAD.render_reset());
    writeln!(
        w,
        "{bad}diverged{reset}   run again on {}, its {what} was not as recorded (entry {}, engine {})",
        utc(entry.time_ms()),
        entry.index(),
        untrusted(&diverged.engine),
    )
}

/// What the rollbacks of a call came to, each with the effects that it took back, and with those that it may have.
fn undone_by(story: &CallStory, rollbacks: &[CallStory]) -> Vec<Value> {
    let effects = undo::effects(story, rollbacks);
    let of = |of: &dyn Fn(&State) -> bool| -> Vec<u32> {
        let mut found: Vec<u32> = effects
            .iter()
            .filter(|(_, state)| of(state))
            .map(|(ordinal, _)| *ordinal)
            .collect();
        found.sort_unstable();
        found
    };
    let one = |rollback: &CallStory| {
        let undone = of(&|state| matches!(state, State::Undone(by, _) if *by == rollback.call));
        let maybe = of(&|state| matches!(state, State::MaybeUndone(by, _) if *by == rollback.call));
        let whole = undo::undid_all(rollback);
        let what = if whole {
            "undone".to_owned()
        } else {
            came_to(&undone, &maybe)
        };
        json!({ "call": rollback.call, "effects": undone, "maybe": maybe, "whole": whole, "what": what })
    };
    rollbacks.iter().map(one).collect()
}

/// What a rollback that did not undo all came to: the beginning of a sentence that ends with its id.
fn came_to(undone: &[u32], maybe: &[u32]) -> String {
    let named = |effects: &[u32]| {
        let numbers: Vec<String> = effects.iter().map(u32::to_string).collect();
        let word = if effects.len() == 1 { "effect" } else { "effects" };
        format!("{word} {}", numbers.join(", "))
    };
    let nobody_knows = |effects: &[u32]| format!("{} perhaps undone, which nobody knows,", named(effects));
    match (undone, maybe) {
        ([], []) => "to be undone, and nothing of it was:".to_owned(),
        (undone, []) => format!("{} undone", named(undone)),
        ([], maybe) => nobody_knows(maybe),
        (undone, maybe) => format!("{} undone, and {}", named(undone), nobody_knows(maybe)),
    }
}

/// A payload for people: a recorded refusal as its sentence, all else as it is.
fn readable(name: &str, bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    if name.ends_with("refused") || name == "denied" {
        let message = serde_json::from_str::<Value>(&text)
            .ok()
            .and_then(|v| v.get("message").and_then(Value::as_str).map(str::to_owned));
        return message.unwrap_or(text);
    }
    text
}

fn list(home: &Path, mut filter: CallFilter, limit: u32, refused: bool, out: Output) -> Result<Exit, Failure> {
    let reader = reader(home)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    filter.limit = (!refused).then_some(limit);
    let mut calls = reader.calls(&filter)?;
    if refused {
        calls.retain(was_refused);
        calls.truncate(limit);
    }
    let rows: Vec<Value> = calls.iter().map(documents::call).collect();
    out.result(&rows, |w| {
        if calls.is_empty() {
            return writeln!(w, "no calls");
        }
        for story in &calls {
            let row = documents::call(story);
            let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
            let undoes = story.undoes();
            let undoes = undoes.map_or_else(String::new, |undoes| format!(", to undo {}", undoes.call));
            let colour = match text("outcome").as_str() {
                "first-write" | "held" | "paused" | "suspended" => style::WARN,
                _ if was_refused(story) => style::BAD,
                _ => style::GOOD,
            };
            writeln!(
                w,
                "{} {} {}{:<11}{} {} {} by {}{}",
                text("time"),
                text("call"),
                colour.render(),
                text("outcome"),
                colour.render_reset(),
                untrusted(&text("tool")),
                untrusted(&text("function")),
                untrusted(&text("agent")),
                untrusted(&undoes),
            )?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}

/// Whether the call, or one of its effects, was refused.
fn was_refused(story: &CallStory) -> bool {
    matches!(story.opening.what, Opening::Denied(_))
        || story.effects.values().any(|e| matches!(e, EffectStory::Refused(_)))
        || story
            .finished
            .as_ref()
            .is_some_and(|f| matches!(f.what.outcome, End::Refused(_) | End::Trapped(_)))
}

/// One call on one line of a run: when, which, how it ended, what was asked, the money that it moved.
pub(super) fn briefly(story: &CallStory) -> String {
    let row = documents::call(story);
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let spent = documents::spent(story)
        .iter()
        .map(|amount| format!(", {}", story::money(amount)));
    let asked = [text("tool"), text("function")].join(" ");
    format!(
        "{} {} {:<11} {}{}",
        text("time"),
        text("call"),
        text("outcome"),
        asked.trim_end(),
        spent.collect::<String>()
    )
}

fn verify(home: &Path, key: Option<&Path>, out: Output) -> Result<Exit, Failure> {
    let reader = open(home)?;
    let keys = Keys::load(home).ok();
    let key = match key {
        Some(path) => verifier_key(path)?,
        None => ambit_runtime::store::verifier(home)?,
    };
    let known = ambit_runtime::host::known_checkpoints(home)?;
    let notes: &[String] = match &known {
        Known::Checkpoints(notes) => notes,
        Known::NotKept | Known::Missing(_) => &[],
    };
    let size = reader.size()?;
    let bar = ProgressBar::new(size);
    let checked = reader.verify(&key, notes, &mut |done| bar.set_position(done));
    bar.finish_and_clear();
    let verified = checked.map_err(bad)?;
    let bar = ProgressBar::new(size).with_message("opening values");
    let values = keys.map(|keys| reader.with_keys(&keys).check_values(|behind| bar.set_position(behind)));
    bar.finish_and_clear();
    let values = values.transpose().map_err(bad)?;
    if let Known::Missing(path) = &known {
        let message = format!(
            "the high-water checkpoint {} is missing, and ambit.toml says that it is kept: what is here is in order, but \
             entries cut off at the end would not show",
            path.display()
        );
        return Err(Failure::refused(message).advise(
            "Put the file back. Where its loss is understood, create it empty: the ledger as it is then becomes the \
             high-water mark.",
        ));
    }
    let value = json!({ "verified": true, "origin": key.name(), "entries": size, "values": values.map(|values| values.checked), "erased": values.map(|values| values.erased), "detail": format!("{verified:?}") });
    out.result(&value, |w| {
        writeln!(
            w,
            "{}verified{}: {} of ledger {}: each entry, the tree, the checkpoints and the books",
            style::GOOD.render(),
            style::GOOD.render_reset(),
            count(size, "entry", "entries"),
            key.name()
        )?;
        match values {
            Some(values) => {
                writeln!(
                    w,
                    "and {}, each against its entry",
                    count(values.checked, "value", "values")
                )?;
                match values.erased {
                    0 => Ok(()),
                    erased => writeln!(w, "{} erased, as the ledger says", count(erased, "more is", "more are")),
                }
            }
            None => writeln!(
                w,
                "the values of calls could not be checked: the home's keys are not readable here"
            ),
        }
    })?;
    if open(home)?.erasing()? {
        note(UNFINISHED);
    }
    if known == Known::NotKept {
        note(
            "No checkpoint is kept outside the home, so a ledger cut at its end would not show: set `[ledger] high_water` in ambit.toml.",
        );
    }
    Ok(Exit::Done)
}

/// A ledger that does not verify is a refusal of this command's question, not a failure of the command.
fn bad(error: StoreError) -> Failure {
    match Failure::from(error) {
        Failure::Message { message, .. } => Failure::refused(message)
            .advise("Keep the home as it is. Compare with an exported copy or a receipt to see what was changed."),
        other => other,
    }
}

fn verify_export(export: &Path, key: Option<&Path>, out: Output) -> Result<Exit, Failure> {
    let Some(key) = key else {
        return Err(Failure::usage(
            "an exported ledger is verified with a key that did not come with it: --key FILE",
        ));
    };
    let key = verifier_key(key)?;
    let reading = working("reading the export");
    let checkpoint = crate::export::verify(export, &key)?;
    drop(reading);
    let value = json!({ "verified": true, "origin": key.name(), "entries": checkpoint.size() });
    out.result(&value, |w| {
        writeln!(
            w,
            "{}verified{}: {} of ledger {}, as exported: each entry, the tree, its tiles, every call and every run",
            style::GOOD.render(),
            style::GOOD.render_reset(),
            count(checkpoint.size(), "entry", "entries"),
            key.name()
        )
    })?;
    note(
        "An export has no values, books or people's groups: that budgets of the configuration held, that values are those committed to, \
         and who could approve, is for `ambit audit verify` in the home.",
    );
    Ok(Exit::Done)
}

fn prove(home: &Path, call: &str, output: Option<&Path>) -> Result<Exit, Failure> {
    let reader = open(home)?;
    let call = resolve(&reader, call)?;
    let key = ambit_runtime::store::verifier(home)?;
    let text = reader
        .receipt(&call, &key)?
        .to_json()
        .map_err(|e| Failure::internal(e.to_string()))?;
    match output {
        Some(path) => {
            fs::write(path, text)
                .map_err(|e| Failure::internal(format!("{} cannot be written: {e}", path.display())))?;
            note(format!("wrote {}", path.display()));
        }
        None => crate::output::raw(&text)?,
    }
    Ok(Exit::Done)
}

fn export(home: &Path, output: &Path) -> Result<Exit, Failure> {
    let reader = open(home)?;
    let key = ambit_runtime::store::verifier(home)?;
    let writing = working("writing the export");
    let files = crate::export::write(&reader, &key, output)?;
    drop(writing);
    note(format!(
        "wrote {files} files to {}; verify them anywhere with `ambit audit verify --export {} --key LEDGER.pub`",
        output.display(),
        output.display()
    ));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_undone_is_told_as_that() {
        assert_eq!(came_to(&[], &[]), "to be undone, and nothing of it was:");
        assert_eq!(came_to(&[2], &[]), "effect 2 undone");
        assert_eq!(came_to(&[1, 2], &[]), "effects 1, 2 undone");
        assert_eq!(came_to(&[], &[1]), "effect 1 perhaps undone, which nobody knows,");
        assert_eq!(
            came_to(&[3], &[1, 2]),
            "effect 3 undone, and effects 1, 2 perhaps undone, which nobody knows,"
        );
    }
}
