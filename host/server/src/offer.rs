//! What an agent is offered: functions as MCP tools.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_core::json::Json;
use ambit_core::manifest::Function;
use ambit_core::scope::Tier;
use ambit_runtime::offers::Offered;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use crate::names::names;

/// A function, and what it is called over MCP.
#[derive(Debug)]
pub(crate) struct Offer {
    /// The tool's name in the home.
    pub(crate) tool: String,
    /// The function's id.
    pub(crate) function: String,
    /// Whether its value is one member of what is answered: MCP has objects only.
    pub(crate) wrapped: bool,
    /// What a client is told of it.
    listed: Tool,
}

/// All functions of a home by their names over MCP: of those that a caller may call and those that it may not, so that what a name means
/// is the same for everybody and always.
#[derive(Debug)]
pub(crate) struct Offers {
    by_name: BTreeMap<String, Offer>,
    names: BTreeMap<(String, String), String>,
}

impl Offers {
    pub(crate) fn new(all: &[Offered<'_>]) -> Offers {
        let names = names(all.iter().map(|one| (one.tool, one.function.id.as_str())));
        let mut offers = Offers {
            by_name: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        for one in all {
            let Some(name) = names.get(&(one.tool, one.function.id.as_str())) else {
                tracing::warn!(tool = one.tool, function = %one.function.id, "has no name over MCP, as another function would have the same");
                continue;
            };
            let function = (one.tool.to_owned(), one.function.id.clone());
            offers.names.insert(function, name.clone());
            offers
                .by_name
                .insert(name.clone(), of(one.tool, one.function, name.clone()));
        }
        offers
    }

    /// The function of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Offer> {
        self.by_name.get(name)
    }

    /// What a client is told, in the order of `all`: of what the caller may call, and of nothing else.
    pub(crate) fn listed<'a>(&'a self, all: &'a [Offered<'_>]) -> impl Iterator<Item = Tool> + 'a {
        let permitted = all.iter().filter(|one| one.permitted);
        let name = |one: &Offered<'_>| self.names.get(&(one.tool.to_owned(), one.function.id.clone()));
        permitted.filter_map(move |one| Some(self.by_name.get(name(one)?)?.listed.clone()))
    }
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
    let tier = match function.declared.tier {
        Tier::Read => "It only reads.",
        Tier::Draft => "It drafts: nothing that it does is final.",
        Tier::Commit => "It can change things; policy decides each change, and some wait for people.",
    };
    match function.docs.as_deref() {
        None => format!("`{}` of the tool `{tool}`. {tier}", function.id),
        Some(docs) => format!("{docs}\n\n{tier}"),
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

/// Whether a value of this schema is one member of what is answered.
pub(crate) fn is_wrapped(schema: &Json) -> bool {
    schema.get("type").and_then(Json::as_str) != Some("object")
}

/// The schema of what is answered, which is an object: the value itself where it is one, else an object with the value in it.
fn output(schema: &Json) -> (JsonObject, bool) {
    let own = object(schema);
    if !is_wrapped(schema) {
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
    match schema.to_serde() {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use ambit_core::json::Limits;
    use ambit_core::manifest::ExportPath;
    use ambit_core::scope::FunctionScope;

    use super::*;

    fn schema(text: &str) -> Json {
        Json::parse(text, Limits::default()).unwrap()
    }

    fn function(tier: Tier, idempotent: bool) -> Function {
        Function {
            id: "refunds.create".to_owned(),
            export: ExportPath {
                interface: None,
                function: "create".to_owned(),
            },
            docs: None,
            declared: FunctionScope {
                tier,
                undo: None,
                idempotent,
            },
            undo: None,
            params: Vec::new(),
            input_schema: schema(r#"{"type":"object"}"#),
            output_schema: schema(r#"{"type":"object"}"#),
            error_schema: None,
        }
    }

    #[test]
    fn hints_are_what_the_component_declares() {
        let told = |tier, idempotent| {
            let tool = of("pay", &function(tier, idempotent), "pay_create".to_owned()).listed;
            serde_json::to_value(tool.annotations.unwrap()).unwrap()
        };
        // What only reads destroys nothing, however often: protocol has no more to say of it.
        for idempotent in [false, true] {
            assert_eq!(
                told(Tier::Read, idempotent),
                json!({ "readOnlyHint": true, "openWorldHint": true })
            );
            for (tier, destroys) in [(Tier::Draft, false), (Tier::Commit, true)] {
                let hints = json!({
                    "readOnlyHint": false, "destructiveHint": destroys, "idempotentHint": idempotent, "openWorldHint": true,
                });
                assert_eq!(told(tier, idempotent), hints, "{tier:?}");
            }
        }
    }

    #[test]
    fn an_object_is_answered_as_it_is_and_all_else_in_one() {
        let (own, wrapped) = output(&schema(r#"{"type":"object","properties":{"id":{"type":"string"}}}"#));
        assert!(!wrapped && own.contains_key("properties"));
        for other in [
            r#"{"type":"string"}"#,
            r#"{"type":"null"}"#,
            r#"{"type":["object","null"]}"#,
            r#"{"oneOf":[{"type":"object"}]}"#,
        ] {
            let (own, wrapped) = output(&schema(other));
            assert!(wrapped, "{other}");
            assert_eq!(own["properties"]["value"], schema(other).to_serde());
        }
    }
}
