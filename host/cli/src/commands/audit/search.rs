//! `ambit audit search`: entries by what they are about, newest first.

use std::path::Path;

use ambit_core::error::Code;
use ambit_core::ledger::Kind;
use ambit_core::search::Query;
use ambit_runtime::clock::now_ms;
use ambit_runtime::config::nearest;
use ambit_runtime::documents;
use ambit_runtime::search::{Found, Page, SearchError, search};
use ambit_runtime::store::{Keys, Reader};
use serde_json::{Value, json};

use super::super::run as runs;
use super::{open, resolve};
use crate::args::{Format, Search, Since};
use crate::output::{Exit, Failure, Output, note, style, untrusted};

pub(super) fn run(home: &Path, args: &Search, out: Output) -> Result<Exit, Failure> {
    let reader = open(home)?;
    let reader = match args.values {
        // Whoever asks for values and cannot read them is told at once.
        true => reader.with_keys(&Keys::load(home)?),
        false => reader,
    };
    let query = query(home, &reader, args)?;
    let page = Page {
        before: args.before,
        limit: usize::try_from(args.limit).unwrap_or(usize::MAX),
        values: args.values,
    };
    let searched = search(&reader, &query, page).map_err(|error| match error {
        SearchError::Refused(refusal) => Failure::usage(refusal.message).advise(refusal.advice.unwrap_or_default()),
        SearchError::Store(error) => error.into(),
    })?;
    let rows: Vec<Value> = searched.found.iter().map(documents::found).collect();
    out.result(&json!({ "found": rows, "next": searched.next }), |w| {
        if searched.found.is_empty() {
            writeln!(w, "nothing was found")?;
        }
        searched.found.iter().try_for_each(|found| {
            let (dim, reset) = (style::DIM.render(), style::DIM.render_reset());
            writeln!(w, "{dim}{}{reset} {}", found.index, untrusted(&line(found)))
        })
    })?;
    if let (Some(next), Format::Human) = (searched.next, out.format) {
        note(format!("Older entries were not looked at: --before {next}"));
    }
    Ok(Exit::Done)
}

fn query(home: &Path, reader: &Reader, args: &Search) -> Result<Query, Failure> {
    let kind = args.kind.as_deref().map(kind).transpose()?;
    let call = args.call.as_deref().map(|call| resolve(reader, call)).transpose()?;
    let run = args.run.as_deref().map(|run| runs::find(home, run)).transpose()?;
    let ms = |time: Since| match time {
        Since::At(at) => at,
        Since::Ago(ago) => now_ms().saturating_sub(ago),
    };
    Ok(Query {
        trace: args.trace.clone(),
        call,
        agent: args.agent.clone(),
        user: args.user.clone(),
        team: args.team.clone(),
        tenant: args.tenant.clone(),
        tool: args.tool.clone(),
        function: args.function.clone(),
        connection: args.connection.clone(),
        route: args.route.clone(),
        run: run.map(|run| run.id().to_owned()),
        decision: args.decision.clone(),
        rule: args.rule.clone(),
        code: args.code.as_deref().map(code).transpose()?,
        kind,
        since_ms: args.since.map(ms),
        until_ms: args.until.map(ms),
        text: args.text.clone(),
    })
}

fn kind(word: &str) -> Result<Kind, Failure> {
    Kind::of(word).ok_or_else(|| unknown("kind of entry", word, Kind::WORDS))
}

fn code(word: &str) -> Result<Code, Failure> {
    Code::of(word).ok_or_else(|| unknown("refusal code", word, Code::WORDS))
}

fn unknown(what: &str, word: &str, words: &[&'static str]) -> Failure {
    let failure = Failure::usage(format!("there is no {what} `{}`", untrusted(word)));
    match nearest(word, words.iter().copied()) {
        Some(near) => failure.advise(format!("Did you mean `{near}`?")),
        None => failure,
    }
}

/// One entry for people: when, what, by whom, through what, and what was decided.
fn line(found: &Found) -> String {
    let text = |name: &str| found.entry.get(name).and_then(Value::as_str);
    let who = found.entry.get("principal").and_then(|who| who.get("agent"));
    let way = match (text("connection"), text("route")) {
        (Some(connection), Some(route)) => Some(format!("{connection}/{route}")),
        (connection, _) => connection.map(str::to_owned),
    };
    let asked = match (text("tool"), text("function")) {
        (Some(tool), Some(function)) => Some(format!("{tool} {function}")),
        (tool, _) => tool.map(str::to_owned),
    };
    let parts = [
        text("time").map(str::to_owned),
        text("kind").map(str::to_owned),
        found
            .entry
            .pointer("/entry/body/act")
            .and_then(Value::as_str)
            .map(str::to_owned),
        text("code").map(str::to_owned),
        text("decision").or_else(|| text("outcome")).map(str::to_owned),
        asked,
        way,
        who.and_then(Value::as_str).map(|agent| format!("by {agent}")),
        text("call").map(str::to_owned),
        (!found.values.is_empty()).then(|| format!("in {}", found.values.join(", "))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(" ")
}
