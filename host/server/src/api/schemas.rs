//! What bodies and answers are, as schemas (2020-12). The tests hold each answer that they get to its schema.

use ambit_core::webhook::{EventType, Format};
use ambit_core::{money, run, stop};
use serde_json::{Value, json};

/// All of them, by name.
pub(super) fn all() -> Value {
    let mut all = json!({});
    for part in [shared(), of_agents(), of_operators(), of_webhooks(), of_the_ledger()] {
        if let (Value::Object(all), Value::Object(part)) = (&mut all, part) {
            all.extend(part);
        }
    }
    all
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn maybe_text() -> Value {
    json!({ "type": ["string", "null"] })
}

fn whole() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn maybe_whole() -> Value {
    json!({ "type": ["integer", "null"], "minimum": 0 })
}

fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

/// A time as requests have it: a day, or a time of it in UTC.
pub(super) fn utc() -> Value {
    json!({
        "anyOf": [
            { "type": "string", "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" },
            { "type": "string", "format": "date-time", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-5][0-9]([.][0-9]{3})?)?Z$" },
        ],
        "description": "In UTC: 2026-11-21T08:30:00Z, 2026-11-21.",
    })
}

/// Why an operator does something, for those who read the ledger.
fn reason() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": stop::LONGEST_REASON, "pattern": "[^\\s]" })
}

fn maybe_reason() -> Value {
    json!({ "anyOf": [{ "type": "null" }, reason()] })
}

/// An object with these members, all of them there but the `optional`, and no others.
fn object(properties: Value, optional: &[&str]) -> Value {
    let names = properties
        .as_object()
        .map(|members| members.keys().cloned().collect::<Vec<_>>());
    let required: Vec<String> = names
        .unwrap_or_default()
        .into_iter()
        .filter(|name| !optional.contains(&name.as_str()))
        .collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn list(schema: &str) -> Value {
    json!({ "type": "array", "items": { "$ref": format!("#/components/schemas/{schema}") } })
}

/// A page of a list.
fn page(name: &str, schema: &str) -> Value {
    object(json!({ name: list(schema), "next": maybe_whole() }), &[])
}

fn modes() -> Value {
    json!({ "type": "string", "enum": ["suggest", "execute", "dry-run"] })
}

fn shared() -> Value {
    let any = json!({ "type": ["object", "array", "null"] });
    let run = object(
        json!({
            "run": text(), "agent": text(), "user": maybe_text(), "mode": modes(), "started": time(), "expires": time(),
            "standing": { "type": "string", "enum": ["open", "degraded", "ended", "expired"] },
            "limits": { "type": "array" }, "errors": any, "finished": whole(), "failed": whole(),
        }),
        &[],
    );
    json!({
        "Problem": {
            "type": "object",
            "description": "RFC 9457. `code` and `advice` are there where a rule of the host refused.",
            "properties": {
                "type": text(), "title": text(), "status": { "type": "integer" }, "detail": text(), "code": text(), "advice": text(),
            },
            "required": ["type", "title", "status", "detail"],
        },
        "Receipt": {
            "type": "object",
            "description": "The last entry of a call, its proof of inclusion and a signed checkpoint: `ambit receipt verify` reads it.",
        },
        "Run": run,
        "Runs": page("runs", "Run"),
    })
}

/// What a tool can do on a page, with these members besides.
fn contract(more: &[&str], of_function: &[&str]) -> Value {
    let members = [
        "tool",
        "digest",
        "policy",
        "world",
        "docs",
        "for",
        "functions",
        "reaches",
        "harmless",
        "limits",
        "budgets",
        "escalation",
        "retention_days",
        "rules",
    ];
    let of_functions = ["id", "tier", "undo", "idempotent", "docs", "policy", "rules"];
    let (required, each) = ([&members[..], more].concat(), [&of_functions[..], of_function].concat());
    json!({
        "type": "object",
        "required": required,
        "properties": {
            "functions": {
                "type": "array",
                "items": { "type": "object", "required": each },
            },
        },
    })
}

fn of_agents() -> Value {
    let function = object(
        json!({ "function": text(), "tier": { "type": "string", "enum": ["read", "draft", "commit"] }, "docs": maybe_text() }),
        &[],
    );
    let tool = object(
        json!({ "tool": text(), "package": maybe_text(), "contract": text(), "functions": { "type": "array", "items": function } }),
        &[],
    );
    let call = json!({
        "call": text(), "trace": text(), "code": text(), "rule": text(), "hold": text(), "waits_for": text(), "until": time(),
        "people_see_it_with": text(), "people_see_it_at": text(), "receipt": text(), "erased": { "const": true },
        "status": {
            "type": "string",
            "enum": ["running", "held", "paused", "suspended", "interrupted", "ok", "tool-error", "refused", "failed"],
        },
        "value": { "description": "What the function returned." },
        "error": { "description": "What the function returned as its own error." },
        "refusal": { "type": "object", "description": "Which rule refused, why, and what would be needed." },
    });
    let optional = [
        "code",
        "rule",
        "hold",
        "waits_for",
        "until",
        "people_see_it_with",
        "people_see_it_at",
        "receipt",
        "erased",
        "value",
        "error",
        "refusal",
    ];
    let new_call = json!({
        "tool": text(),
        "function": { "type": "string", "description": "Its id, or the last part of that." },
        "arguments": { "type": "object", "description": "A member for each parameter, as the contract's schema has it." },
        "mode": modes(),
        "run": text(),
    });
    json!({
        "Tools": object(json!({ "tools": { "type": "array", "items": tool } }), &[]),
        "Contract": contract(&["imports"], &["input_schema", "output_schema", "error_schema"]),
        "NewCall": object(new_call, &["arguments", "mode", "run"]),
        "Call": object(call, &optional),
        "TakenBack": object(json!({ "call": text(), "taken_back": { "const": true }, "status": text() }), &[]),
        "OwnHold": { "type": "object", "required": ["hold", "call", "tool", "connection", "route", "needs", "missing", "expires", "status"] },
        "Holds": page("holds", "OwnHold"),
    })
}

fn of_operators() -> Value {
    let row = json!({
        "time": time(), "call": text(), "outcome": text(), "tool": maybe_text(), "function": maybe_text(), "agent": maybe_text(),
        "user": maybe_text(), "run": maybe_text(), "trace": text(), "undoes": maybe_text(), "spent": { "type": "array" },
    });
    let mut whole_call = row.clone();
    if let Value::Object(members) = &mut whole_call {
        members.insert(
            "entries".to_owned(),
            json!({ "type": "array", "items": { "type": "object" } }),
        );
        members.insert(
            "values".to_owned(),
            json!({ "type": ["object", "null"], "additionalProperties": text(), "description": "Null where they were erased." }),
        );
        members.insert(
            "truncated".to_owned(),
            json!({ "const": true, "description": "There are more values than are shown together." }),
        );
    }
    let kind = json!({ "type": "string", "enum": ["kill", "safe-mode"] });
    let scope = json!({
        "type": "string",
        "pattern": "^(everything|(tenant|agent|tool|connection|run):[^\\u0000-\\u001f\\u007f-\\u009f]{1,128})$",
        "description": "everything, tenant:NAME, agent:NAME, tool:NAME, connection:NAME or run:ID",
    });
    let stop = json!({ "kind": kind, "scope": scope, "id": text(), "entry": whole(), "since": time(), "reason": maybe_text() });
    let running = json!({
        "call": text(), "tool": text(), "agent": text(), "tenant": text(), "stopped": { "type": "boolean" }, "since": time(),
    });
    let stopped = json!({
        "kind": kind, "scope": scope, "id": text(), "entry": whole(), "already": { "type": "boolean" },
        "ended": { "type": "array", "items": text() },
    });
    let over = object(
        json!({ "ask": { "type": "string", "description": "A group." }, "count": { "type": "integer", "minimum": 1, "maximum": u32::MAX } }),
        &[],
    );
    let cap = object(
        json!({
            "unit": { "type": "string", "pattern": "^(calls|effects|bytes|fuel|[a-z]{3})$", "description": "A word, or the code of a currency." },
            "cap": { "type": "integer", "minimum": 1, "maximum": money::MOST, "description": "In minor units, where it is money." },
            "over": over,
        }),
        &["over"],
    );
    let errors = object(
        json!({ "least": { "type": "integer", "minimum": 1, "maximum": u32::MAX }, "percent": { "type": "integer", "minimum": 1, "maximum": 100 } }),
        &[],
    );
    let new_run = json!({
        "agent": text(), "user": maybe_text(), "mode": modes(),
        "length_ms": { "type": "integer", "minimum": 1, "maximum": run::LONGEST_MS, "description": "How long it is open." },
        "caps": { "type": "array", "items": cap, "description": "The most that it may use up, each unit once." },
        "errors": { "anyOf": [{ "type": "null" }, errors], "description": "How much of it may fail before it only reads." },
    });
    let voted =
        json!({ "call": text(), "decided": { "type": "boolean" }, "missing": { "type": "array" }, "resume": text() });
    let hold = json!({
        "type": "object",
        "required": [
            "hold", "index", "call", "tool", "ordinal", "agent", "connection", "route", "tier", "needs", "standing", "missing", "expires",
            "votes",
        ],
    });
    let budget = json!({
        "type": "object",
        "description": "A configured budget; `warn` is from how much on, used and reserved together, people are told.",
        "required": ["name", "covers", "unit", "window", "cap", "over", "warn", "current", "earlier"],
        "properties": { "cap": whole(), "warn": maybe_whole() },
    });
    json!({
        "Hold": hold,
        "Approvals": page("approvals", "Hold"),
        "SignedVote": object(json!({
            "note": { "type": "string", "description": "The vote, as a note that its person's own key signed." },
            "reason": maybe_reason(),
        }), &["reason"]),
        "Voted": object(voted, &[]),
        "WholeContract": contract(&[], &[]),
        "CallRow": object(row, &[]),
        "Calls": page("calls", "CallRow"),
        "CallWithEntries": object(whole_call, &["values", "truncated"]),
        "NewRun": object(new_run, &["user", "errors"]),
        "Budgets": {
            "type": "object",
            "required": ["time", "budgets", "not_configured"],
            "properties": { "time": time(), "budgets": { "type": "array", "items": budget }, "not_configured": { "type": "array" } },
        },
        "Stops": object(json!({
            "stops": { "type": "array", "items": object(stop, &[]) },
            "running": { "type": "array", "items": object(running, &[]) },
        }), &[]),
        "NewStop": object(json!({ "kind": kind, "scope": scope, "reason": reason() }), &[]),
        "Lift": object(json!({ "kind": kind, "scope": scope, "reason": maybe_reason() }), &["reason"]),
        "Stopped": object(stopped, &[]),
    })
}

fn of_webhooks() -> Value {
    let events = json!({ "type": "string", "enum": EventType::ALL });
    let name = |what: &str| json!({ "type": "string", "description": format!("It is told of this {what} alone.") });
    let message = json!({ "message": text(), "webhook": text(), "event": events, "index": whole() });
    let tried = json!({
        "message": text(), "event": events, "index": whole(), "attempts": whole(), "status": maybe_whole(), "code": maybe_text(),
        "last": time(), "next": time(),
    });
    let webhook = json!({
        "name": text(),
        "url": { "type": "string", "description": "Without its query; of an address that is a secret, where that is read." },
        "format": { "type": "string", "enum": Format::ALL.map(Format::as_str) },
        "signatures": { "type": "integer", "minimum": 0, "description": "How many secrets sign its messages." },
        "events": { "type": "array", "items": events },
        "only": object(
            json!({ "tenant": name("tenant"), "tool": name("tool"), "connection": name("connection") }),
            &["tenant", "tool", "connection"],
        ),
        "entry": { "type": ["integer", "null"], "minimum": 0,
            "description": "The first entry that it is not told of yet; null where no host has begun with it." },
        "entries_behind": maybe_whole(),
        "last_taken": { "type": ["string", "null"], "format": "date-time", "description": "When a message was taken last." },
        "tried": { "anyOf": [{ "type": "null" }, object(tried, &[])], "description": "The message that was not taken yet, and is tried again." },
        "waiting": { "type": "integer", "minimum": 0, "description": "Messages that wait, that which is sent included." },
        "truncated": { "const": true, "description": "More messages may wait: of the entries behind it the first were looked at." },
        "dead": { "type": "integer", "minimum": 0, "description": "Messages that nobody took." },
    });
    let mut dead = message.clone();
    if let (Value::Object(members), Value::Object(more)) = (
        &mut dead,
        json!({
            "attempts": whole(), "status": maybe_whole(), "given_up": time(),
            "code": { "type": ["string", "null"],
                "description": "Why it was not sent; `config` where its webhook was taken out of the configuration while it was to be sent again." },
            "entry": { "type": "integer", "minimum": 0, "description": "The entry that says that it was given up." },
        }),
    ) {
        members.extend(more);
    }
    json!({
        "Webhook": object(webhook, &["truncated"]),
        "Webhooks": object(json!({ "webhooks": list("Webhook") }), &[]),
        "Message": object(message, &[]),
        "DeadMessage": object(dead, &[]),
        "DeadMessages": page("dead", "DeadMessage"),
    })
}

fn of_the_ledger() -> Value {
    let proof = json!({ "type": "array", "items": { "type": "string", "description": "A hash in base64." } });
    json!({
        "Entry": { "type": "object", "required": ["body", "index", "kind", "time"] },
        "Entries": page("entries", "Entry"),
        "Found": {
            "type": "object",
            "description": "An entry with what a reader would have to look up beside it; `in_values` names the values that have the text.",
            "required": ["index", "time", "kind", "entry"],
        },
        "Searched": page("found", "Found"),
        "Inclusion": object(json!({ "index": whole(), "size": whole(), "leaf": text(), "proof": proof }), &[]),
        "Consistency": object(json!({ "old": whole(), "new": whole(), "proof": proof }), &[]),
    })
}
