//! The description of the API for clients' programs, OpenAPI 3.1: printed from the table of [`routes`](super::routes) that requests are
//! served by and held against, and from the schemas of what is answered, which the tests hold real answers to.
//!
//! A library that derives a description from annotations would be a second declaration, which nothing enforces.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::give::{Given, HTML, JSON, Keep, MARKDOWN};
use super::routes::{Act, Gives, Param, ROUTES, Route, What};
use super::schemas;

/// The description, as it is served.
pub(super) fn given() -> Given {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| format!("{:#}\n", document()));
    Given::bytes(JSON, text.clone().into_bytes(), Keep::Tagged)
}

/// The description.
pub(super) fn document() -> Value {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for route in ROUTES {
        let path = route.path.replace("{*", "{");
        let methods = paths.entry(path).or_default();
        methods.insert(route.verb.as_str().to_ascii_lowercase(), operation(route));
    }
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Ambit",
            "version": "1",
            "summary": "Call governed tools, and, apart from that, operate the host.",
            "description": "Agents show a key of the home or a token for it, and see what is theirs alone. Operators show another: nothing that \
                is good for the one part is good for the other. Parameters and members that there are not are errors. Times are in UTC, spans \
                end in `_ms`, and what is not served is a problem (RFC 9457).",
        },
        "tags": [
            { "name": "agents", "description": "For programs of agents." },
            { "name": "operators", "description": "For operators: where the configuration has [server.operators]." },
        ],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {
                "agent": { "type": "http", "scheme": "bearer", "description": "A key of the home, a token of a run, or a token of an issuer for `resource`." },
                "operator": { "type": "http", "scheme": "bearer",
                    "description": "An operator's key, or a token for the operators' audience, with the scopes that are named." },
            },
            "responses": {
                "Problem": {
                    "description": "Why it is not served.",
                    "content": { "application/problem+json": { "schema": reference("Problem") } },
                },
                "NotModified": { "description": "You have it: its tag is the one that you named." },
            },
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn operation(route: &Route) -> Value {
    let (tag, security) = match &route.act {
        Act::Open(_) => (None, json!([])),
        Act::Agents(_) | Act::Call => (Some("agents"), json!([{ "agent": [] }])),
        Act::Operators(scope, _) => (Some("operators"), json!([{ "operator": [scope.as_str()] }])),
    };
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.about,
        "security": security,
        "responses": responses(route),
    });
    let Value::Object(members) = &mut operation else {
        return operation;
    };
    if let Some(tag) = tag {
        members.insert("tags".to_owned(), json!([tag]));
    }
    let parameters = parameters(route);
    if !parameters.is_empty() {
        members.insert("parameters".to_owned(), Value::Array(parameters));
    }
    if let Some(takes) = route.takes {
        let body = json!({ "required": true, "content": { JSON: { "schema": reference(takes) } } });
        members.insert("requestBody".to_owned(), body);
    }
    operation
}

fn parameters(route: &Route) -> Vec<Value> {
    let in_path = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path.map(|name| {
        json!({ "name": name.trim_start_matches('*'), "in": "path", "required": true, "schema": { "type": "string" } })
    });
    let in_query = route.query.iter().map(|param| {
        json!({
            "name": param.name, "in": "query", "required": param.needed, "description": param.about, "schema": schema(param),
        })
    });
    let mut all: Vec<Value> = in_path.chain(in_query).collect();
    if route.keeps_word() {
        all.push(json!({
            "name": "Idempotency-Key", "in": "header", "schema": { "type": "string", "pattern": "^[!-~]{1,200}$" },
            "description": "One call is made, or one run started, for it, for as long as the ledger is there: the same again is answered with \
                that, and another request with 422. It is its caller's: with a token of a run, of that run and of what the token leaves. A \
                refusal that passes (a stop, a budget, no place, a key, what it leaves out) does not use it up. No other request takes one.",
        }));
    }
    if matches!(route.act, Act::Call) {
        all.push(json!({
            "name": "traceparent", "in": "header", "schema": { "type": "string" },
            "description": "The trace that the call is part of (W3C Trace Context).",
        }));
    }
    if !matches!(route.gives, Gives::Json(_)) {
        all.push(json!({ "name": "If-None-Match", "in": "header", "schema": { "type": "string" } }));
    }
    all
}

fn schema(param: &Param) -> Value {
    match param.what {
        What::Text => json!({ "type": "string", "minLength": 1, "maxLength": 256 }),
        What::Word(words) => json!({ "type": "string", "enum": words }),
        What::Number(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        What::Time => schemas::utc(),
        What::Flag => json!({ "type": "boolean" }),
    }
}

fn responses(route: &Route) -> Value {
    let mut all = Map::new();
    let content =
        |kind: &str, schema: Value| json!({ "description": route.about, "content": { kind: { "schema": schema } } });
    let given = match route.gives {
        Gives::Json(schema) | Gives::Tagged(schema) => content(JSON, reference(schema)),
        Gives::Raw(JSON) => content(JSON, json!({ "type": "object" })),
        Gives::Raw(kind) => content(kind, json!({})),
        Gives::Page => json!({
            "description": route.about,
            "content": { MARKDOWN: { "schema": {} }, HTML: { "schema": {} } },
        }),
    };
    match route.name {
        "startRun" => drop(all.insert("201".to_owned(), given)),
        "cancelCall" => drop(all.insert("202".to_owned(), given)),
        "startCall" | "getResult" => {
            all.insert("200".to_owned(), given.clone());
            all.insert("202".to_owned(), given);
        }
        _ => drop(all.insert("200".to_owned(), given)),
    }
    if !matches!(route.gives, Gives::Json(_)) {
        all.insert(
            "304".to_owned(),
            json!({ "$ref": "#/components/responses/NotModified" }),
        );
    }
    all.insert(
        "default".to_owned(),
        json!({ "$ref": "#/components/responses/Problem" }),
    );
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use std::path::Path;

    use super::*;

    /// `UPDATE_EXPECT=1` writes it anew.
    #[test]
    fn the_description_is_the_one_that_is_kept() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        let now = format!("{:#}\n", document());
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == now,
            "openapi.json is not what the code says: run the test with UPDATE_EXPECT=1, and read the difference"
        );
    }

    #[test]
    fn every_schema_that_is_named_is_there_and_every_one_is_named() {
        let document = document();
        let mut named = std::collections::BTreeSet::new();
        references(&document, &mut named);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for (name, schema) in schemas {
            assert!(
                named.contains(&format!("#/components/schemas/{name}")),
                "{name} is not used"
            );
            jsonschema::meta::validate(schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        for reference in &named {
            let there = document.pointer(reference.trim_start_matches('#'));
            assert!(there.is_some(), "{reference}");
        }
    }

    fn references(value: &Value, found: &mut std::collections::BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                    found.insert(reference.to_owned());
                }
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
}
