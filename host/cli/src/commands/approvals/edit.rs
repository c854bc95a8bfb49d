//! `ambit approvals edit`: fields of a held effect changed, and what was changed shown.

use std::io::{self, Write};
use std::path::Path;

use ambit_core::effect::GuestRequest;
use ambit_core::hold::{Changes, Edit};
use ambit_core::json::{Json, Limits};
use ambit_core::ledger::story::HoldStory;
use ambit_runtime::approvals::{self, Pending, People, Waiting, told};
use ambit_runtime::clock::clock;
use ambit_runtime::config::Config;
use ambit_runtime::documents;
use ambit_runtime::edits;
use ambit_runtime::operators::{Answer, Request};
use ambit_runtime::store::Reader;
use serde_json::{Value, json};

use super::behind::Behind;
use super::{Desk, Meant, group, print, reader, short, unexpected, unusable};
use crate::args;
use crate::output::{Exit, Failure, Output, note, untrusted};

pub(super) fn run(home: &Path, args: &args::Edit, out: Output) -> Result<Exit, Failure> {
    let key = approvals::read_person_key(&args.key).map_err(unusable)?;
    let person = key.verifier().name().to_owned();
    let config = Config::load(home)?;
    let reader = reader(home)?;
    let people = People::of(&reader, &config)?;
    let meant = Meant::of(&reader, &people, &args.hold)?;
    let mut changes = asked_for(args)?;
    // What is signed is all that differs from what the tool asked for.
    if let Meant::Waits(pending) = &meant
        && let Some(hold) = reader.story(&pending.call)?.waiting()
        && let Some(earlier) = edits::changes_of(&reader, hold, &pending.call)?
    {
        changes.keep(&earlier);
    }
    let speaks = group(args.group.as_deref(), &meant, &people, &person, &person)?;
    let edit = Edit {
        person: person.clone(),
        hold: meant.hold(),
        changes: changes.digest(),
        group: speaks.group.clone(),
        expires_ms: meant.expires_ms().min(clock().saturating_add(3_600_000)),
    };
    let signed = edit.sign(&key).map_err(|e| Failure::usage(e.to_string()))?;
    drop((people, reader));
    let request = Request::Edit {
        note: signed,
        changes: changes.to_text(),
        reason: args.reason.clone(),
    };
    let call = match speaks.told(Desk::new(home, [meant.tool()]).act(&request))? {
        Answer::Edited { call } => call,
        other => return Err(unexpected(&other)),
    };
    let reader = super::reader(home)?;
    let Some(now) = Waiting::of(&reader, &config, &call)? else {
        // Somebody has decided about it already.
        return Err(Failure::refused(format!(
            "it was edited, and call {call} waits no more"
        )));
    };
    let shown = Shown::of(&reader, &now.pending)?;
    let request = super::request(&reader, &now.pending)?;
    let (old, new) = (short(&edit.hold), short(&now.pending.held.hold));
    note(format!(
        "edited by {} for {}: hold {old} is replaced by hold {new}, which needs all its approvals anew",
        untrusted(&person),
        untrusted(&edit.group)
    ));
    note(format!("  It waits for {}.", untrusted(&told(&now.pending.held.needs))));
    let behind = Behind::of(&reader, &now.pending, &config)?;
    let mut document = document(&now.pending, &shown, request.as_ref());
    if let Some(document) = document.as_object_mut() {
        document.extend(behind.members());
        document.insert("replaces".to_owned(), json!(edit.hold));
    }
    out.result(&document, |w| {
        print(&now.pending, (&shown, &behind), request.as_ref(), w)
    })?;
    Ok(Exit::Done)
}

/// What the arguments say.
fn asked_for(args: &args::Edit) -> Result<Changes, Failure> {
    let mut changes = edits::new_changes()?;
    let usage = |refusal: ambit_core::error::Refusal| Failure::usage(refusal.message);
    for given in &args.set {
        let (path, value) = given.split_once('=').ok_or_else(|| {
            Failure::usage(format!("`{}` is not FIELD=VALUE", untrusted(given))).advise("Write --set amount=4000.")
        })?;
        changes.set(path, scalar(value)?).map_err(usage)?;
    }
    for path in &args.unset {
        changes.unset(path).map_err(usage)?;
    }
    Ok(changes)
}

/// A scalar as JSON has it; a bare word that is no JSON is a text.
fn scalar(text: &str) -> Result<Json, Failure> {
    match Json::parse(text, Limits::default()) {
        Ok(value) => Ok(value),
        Err(error) if text.starts_with(['"', '[', '{']) => Err(Failure::usage(format!(
            "the value {} is no JSON: {error}",
            untrusted(text)
        ))
        .advise("A bare word is a text; a text that begins with a quote is written as JSON: '\"x\"'.")),
        Err(_) => Ok(Json::from(text)),
    }
}

/// What people changed of a held effect, for whoever decides.
pub(super) struct Shown {
    by: Vec<String>,
    /// The field, what the tool asked for, and what it is now.
    fields: Vec<(String, Option<Json>, Option<Json>)>,
}

impl Shown {
    /// Nothing where the effect is as it was asked for; the people alone where the values are not readable here.
    pub(super) fn of(reader: &Reader, pending: &Pending) -> Result<Shown, Failure> {
        let by = pending.held.authors.clone();
        let none = Shown { by, fields: Vec::new() };
        if none.by.is_empty() {
            return Ok(none);
        }
        let story = reader.story(&pending.call)?;
        let fields = match story.waiting().map(|hold| fields(reader, hold, &pending.call)) {
            Some(Ok(fields)) => fields,
            Some(Err(_)) | None => Vec::new(),
        };
        Ok(Shown { fields, ..none })
    }

    pub(super) fn json(&self) -> Value {
        if self.by.is_empty() {
            return Value::Null;
        }
        let fields = self
            .fields
            .iter()
            .map(|(field, from, to)| json!({ "field": field, "from": from, "to": to }));
        json!({ "by": self.by, "fields": fields.collect::<Vec<_>>() })
    }

    /// A line for each field, each given to `line`.
    pub(super) fn lines(&self, line: &mut dyn FnMut(&str, &str) -> io::Result<()>) -> io::Result<()> {
        if self.by.is_empty() {
            return Ok(());
        }
        line(
            "edited by",
            &format!("{}: no approval of theirs counts", self.by.join(", ")),
        )?;
        self.fields
            .iter()
            .try_for_each(|(field, from, to)| line("changes", &change(field, from.as_ref(), to.as_ref())))
    }
}

/// One field's change: `amount: "9000" → "4000"` in a form, `amount: 9000 → 4000` in JSON.
pub(crate) fn change(field: &str, from: Option<&Json>, to: Option<&Json>) -> String {
    let told = |value: Option<&Json>| value.map_or_else(|| "[none]".to_owned(), Json::to_canonical);
    format!("{field}: {} \u{2192} {}", told(from), told(to))
}

type Fields = Vec<(String, Option<Json>, Option<Json>)>;

fn fields(reader: &Reader, hold: &HoldStory, call: &str) -> Result<Fields, Failure> {
    let Some(changes) = edits::changes_of(reader, hold, call)? else {
        return Ok(Vec::new());
    };
    let asked = format!("effect/{}/asked", hold.held.what.ordinal);
    let asked = reader.payload(call, &asked)?;
    let asked = asked.and_then(|asked| serde_json::from_slice::<GuestRequest>(asked.bytes()).ok());
    Ok(compared(&changes, asked.as_ref()))
}

/// What changes come to, beside what was asked for: both as the request spells them.
pub(crate) fn compared(changes: &Changes, asked: Option<&GuestRequest>) -> Fields {
    let Some(asked) = asked else {
        let one = |(field, to): (&str, Option<&Json>)| (field.to_owned(), None, to.cloned());
        return changes.fields().map(one).collect();
    };
    let both = changes.before(asked).into_iter().zip(changes.after(asked));
    let one = |((field, _), (from, to)): ((&str, _), _)| (field.to_owned(), from, to);
    changes.fields().zip(both).map(one).collect()
}

/// A hold for programs, in full.
pub(super) fn document(pending: &Pending, shown: &Shown, request: Option<&Value>) -> Value {
    let mut document = documents::hold(pending);
    if let Some(document) = document.as_object_mut() {
        document.insert("edited".to_owned(), shown.json());
        document.insert("request".to_owned(), request.cloned().unwrap_or(Value::Null));
    }
    document
}

/// Who edited it, for a list.
pub(super) fn briefly(pending: &Pending, w: &mut dyn Write) -> io::Result<()> {
    match pending.held.authors.as_slice() {
        [] => Ok(()),
        by => write!(w, "  edited by {}", untrusted(&by.join(", "))),
    }
}
