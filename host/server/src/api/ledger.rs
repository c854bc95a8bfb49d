//! The ledger itself, for operators: entries, what proves them, its layout as C2SP tiles, and what is looked for on it.

use ambit_core::error::Code;
use ambit_core::ledger::tiles::{Tile, WIDTH};
use ambit_core::ledger::{Checkpoint, Kind};
use ambit_core::search::Query;
use ambit_runtime::documents;
use ambit_runtime::search::{Page, SearchError, search as look_for};
use ambit_runtime::store::verifier;
use http::StatusCode;
use serde_json::{Value, json};

use super::ask::Asked;
use super::give::{Given, JSON, Keep, Problem};
use super::operators::Desk;

/// What checkpoints and keys are.
const TEXT: &str = "text/plain; charset=utf-8";
/// What tiles are.
const BYTES: &str = "application/octet-stream";

fn beyond(what: &str, size: u64) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("the ledger has {size} entries, and not that {what}"),
    )
}

pub(super) fn entries(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let (reader, from) = (desk.reader()?, asked.number("from").unwrap_or_default());
    let entries = reader.entries(from, asked.limit())?;
    let next = entries
        .last()
        .filter(|_| entries.len() == asked.limit())
        .map(|last| last.index() + 1);
    let rows: Vec<Value> = entries
        .iter()
        .filter_map(|entry| serde_json::from_str(&entry.text()).ok())
        .collect();
    Ok(Given::json(&json!({ "entries": rows, "next": next })))
}

/// The bytes that are hashed.
pub(super) fn entry(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let reader = desk.reader()?;
    let size = reader.size()?;
    let index: Option<u64> = asked.named("index").parse().ok();
    let index = index.filter(|index| *index < size).ok_or_else(|| beyond("one", size))?;
    Ok(Given::bytes(JSON, reader.entry(index)?.bytes().to_vec(), Keep::Forever))
}

pub(super) fn inclusion(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let reader = desk.reader()?;
    let now = reader.size()?;
    let size = asked.number("size").unwrap_or(now);
    let index = asked.number("index").unwrap_or(size);
    if index >= size || size > now {
        return Err(beyond("one, or not that many", now));
    }
    let proof: Vec<String> = reader.inclusion(index, size)?.iter().map(ToString::to_string).collect();
    let leaf = reader.entry(index)?.leaf().to_string();
    let document = json!({ "index": index, "size": size, "leaf": leaf, "proof": proof });
    Ok(Given::bytes(JSON, document.to_string().into_bytes(), Keep::Tagged))
}

pub(super) fn consistency(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let reader = desk.reader()?;
    let now = reader.size()?;
    let new = asked.number("new").unwrap_or(now);
    let old = asked.number("old").unwrap_or(u64::MAX);
    if old > new || new > now {
        return Err(beyond("many", now));
    }
    let proof: Vec<String> = reader.consistency(old, new)?.iter().map(ToString::to_string).collect();
    let document = json!({ "old": old, "new": new, "proof": proof });
    Ok(Given::bytes(JSON, document.to_string().into_bytes(), Keep::Tagged))
}

pub(super) fn checkpoint(desk: &Desk<'_>, _: &Asked) -> Result<Given, Problem> {
    Ok(Given::bytes(
        TEXT,
        desk.reader()?.checkpoint()?.into_bytes(),
        Keep::Tagged,
    ))
}

pub(super) fn key(desk: &Desk<'_>, _: &Asked) -> Result<Given, Problem> {
    let key = verifier(desk.host().config().home())?;
    Ok(Given::bytes(TEXT, format!("{key}\n").into_bytes(), Keep::Tagged))
}

/// A tile, as far as the last checkpoint goes.
pub(super) fn tile(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let reader = desk.reader()?;
    let path = format!("tile/{}", asked.named("tile"));
    let none = || Problem::none("tile", &path);
    let tile = Tile::parse(&path).ok_or_else(none)?;
    let key = verifier(desk.host().config().home())?;
    let size = Checkpoint::parse_verified(&reader.checkpoint()?, &key)
        .map_err(|error| Problem::could_not(&error))?
        .size();
    if !tile.is_within(size) {
        return Err(none());
    }
    let bytes = reader.tile(tile)?.ok_or_else(none)?;
    let keep = if tile.width == WIDTH {
        Keep::Forever
    } else {
        Keep::Tagged
    };
    Ok(Given::bytes(BYTES, bytes, keep))
}

pub(super) fn search(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let values = asked.flag("values");
    if !ambit_core::guard!("api.search-values", !values || desk.reads_values()) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "looking for a text in the values of calls takes the scope ambit:values",
        ));
    }
    let text = |name: &str| asked.text(name).map(str::to_owned);
    let query = Query {
        trace: text("trace"),
        call: text("call"),
        agent: text("agent"),
        user: text("user"),
        team: text("team"),
        tenant: text("tenant"),
        tool: text("tool"),
        function: text("function"),
        connection: text("connection"),
        route: text("route"),
        run: text("run"),
        decision: text("decision"),
        rule: text("rule"),
        code: asked.text("code").and_then(Code::of),
        kind: asked.text("kind").and_then(Kind::of),
        since_ms: asked.time("since"),
        until_ms: asked.time("until"),
        text: text("text"),
    };
    let page = Page {
        before: asked.number("before"),
        limit: asked.limit(),
        values,
    };
    let searched = look_for(&desk.reader()?, &query, page).map_err(|error| match error {
        SearchError::Refused(refusal) => refusal.into(),
        SearchError::Store(error) => Problem::from(error),
    })?;
    let rows: Vec<Value> = searched.found.iter().map(documents::found).collect();
    Ok(Given::json(&json!({ "found": rows, "next": searched.next })))
}
