//! What an agent is offered: a function as an MCP tool.

use std::sync::Arc;

use ambit_core::error::printable;
use ambit_core::json::Json;
use ambit_core::manifest::Function;
use ambit_core::scope::Tier;
use ambit_runtime::offers::Offered;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use crate::names::names;

/// A function, and what it is called over MCP.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    /// The tool's name in the home.
    pub(crate) tool: String,
    /// The function's id.
    pub(crate) function: String,
    /// Whether its value is one member of what is answered: MCP has objects only.
    pub(crate) wrapped: bool,
    /// What a client is told of it.
    pub(crate) listed: Tool,
}

/// The functions that the caller may call, as MCP tools, in their order. Names are those that they have among all functions: what a
/// caller may call changes, and what a name means does not.
pub(crate) fn offers(all: &[Offered<'_>]) -> Vec<Offer> {
    let names = names(all.iter().map(|one| (one.tool, one.function.id.as_str())));
    let offer = |one: &Offered<'_>| {
        let name = names.get(&(one.tool, one.function.id.as_str()))?.clone();
        Some(of(one.tool, one.function, name))
    };
    all.iter().filter(|one| one.permitted).filter_map(offer).collect()
}

fn of(tool: &str, function: &Function, name: String) -> Offer {
    let (output, wrapped) = output(&function.output_schema);
    let mut listed = Tool::new_with_raw(
        name,
        Some(description(tool, function).into()),
        Arc::new(object(&function.input_schema)),
    );
    listed.title = Some(format!("{tool}: {}", function.id));
    listed.output_schema = Some(Arc::new(output));
    listed.annotations = Some(annotations(function));
    Offer {
        tool: tool.to_owned(),
        function: function.id.clone(),
        wrapped,
        listed,
    }
}

/// The tool author's words, which nobody has to believe, and what the host knows.
fn description(tool: &str, function: &Function) -> String {
    let docs = function.docs.as_deref().map(str::trim).unwrap_or_default();
    let tier = match function.declared.tier {
        Tier::Read => "It only reads.",
        Tier::Draft => "It drafts: nothing that it does is final.",
        Tier::Commit => "It can change things; policy decides each change, and some wait for people.",
    };
    let docs: String = docs.lines().map(printable).collect::<Vec<_>>().join("\n");
    if docs.is_empty() {
        format!("`{}` of the tool `{tool}`. {tier}", function.id)
    } else {
        format!("{docs}\n\n{tier}")
    }
}

/// Hints, from the tier that the component declares and the host enforces.
fn annotations(function: &Function) -> ToolAnnotations {
    let tier = function.declared.tier;
    let mut hints = ToolAnnotations::new().read_only(tier == Tier::Read).open_world(true);
    if tier != Tier::Read {
        hints = hints
            .destructive(tier == Tier::Commit)
            .idempotent(function.declared.idempotent);
    }
    hints
}

/// The schema of what is answered, which is an object: the value itself where it is one, else an object with the value in it.
fn output(schema: &Json) -> (JsonObject, bool) {
    let own = object(schema);
    if own.get("type").and_then(Value::as_str) == Some("object") {
        return (own, false);
    }
    let wrapped = json!({
        "type": "object",
        "properties": { "value": own },
        "required": ["value"],
        "additionalProperties": false,
    });
    match wrapped {
        Value::Object(wrapped) => (wrapped, true),
        _ => (JsonObject::new(), true),
    }
}

fn object(schema: &Json) -> JsonObject {
    match value(schema) {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}

/// A value as the protocol's library has it. Values of WIT are integers of 64 bits at most, and floats: nothing is lost.
pub(crate) fn value(json: &Json) -> Value {
    serde_json::from_str(&json.to_canonical()).unwrap_or_default()
}
