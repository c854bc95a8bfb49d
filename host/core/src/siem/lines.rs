//! Entries as they are, a line each, with what a reader would have to look up beside them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::Facts;
use crate::digest::Digest;
use crate::error::Code;
use crate::ledger::body::{Amount, Kind};
use crate::ledger::{Contexts, Entry, Principal, utc};
use crate::scope::Tier;

/// An entry's line. Members that do not apply are absent.
#[derive(Serialize)]
struct Line<'e> {
    index: u64,
    time: String,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<&'e Principal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effect: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<Tier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    money: Option<&'e Amount>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    values: &'e BTreeMap<String, String>,
    /// The bytes that are hashed, as they are.
    entry: Option<&'e RawValue>,
}

/// The line of an entry, without its end. `calls` knows what came before it; `values` are what it commits to, by name, where they are to be
/// shown.
#[must_use]
pub fn line(entry: &Entry, calls: &Contexts, values: &BTreeMap<String, String>) -> String {
    let facts = Facts::of(entry, calls);
    let text = entry.text();
    let line = Line {
        index: entry.index(),
        time: utc(entry.time_ms()),
        kind: entry.kind(),
        principal: entry.principal(),
        tool: facts.tool,
        function: facts.function,
        component: entry.tool(),
        run: facts.run,
        call: entry.call(),
        trace: entry.trace(),
        effect: entry.body().ordinal(),
        connection: facts.connection,
        route: facts.route,
        tier: facts.tier,
        decision: facts.decision,
        outcome: facts.outcome,
        status: facts.status,
        code: facts.code,
        rules: facts.rules,
        money: facts.money,
        values,
        // Canonical JSON is JSON on one line.
        entry: serde_json::from_str(&text).ok(),
    };
    serde_json::to_string(&line).unwrap_or_default()
}
