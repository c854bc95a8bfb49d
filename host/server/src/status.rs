//! The host's own tools: how the caller's own calls stand, and what came of them. They read, and nothing else.

use std::sync::Arc;

use ambit_core::error::printable;
use ambit_core::ledger::body::{End, Refused};
use ambit_core::ledger::story::{CallStory, Opening};
use ambit_core::ledger::utc;
use ambit_runtime::approvals;
use ambit_runtime::host::Host;
use ambit_runtime::offers::Owner;
use ambit_runtime::store::{Reader, StoreError};
use rmcp::model::{CallToolResult, JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use crate::told::{self, Approvers};

/// The tool that says how a call stands.
pub(crate) const STATUS: &str = "ambit_call_status";
/// The tool that says what came of a call.
pub(crate) const RESULT: &str = "ambit_call_result";

/// Answers one of the two about a call of `owner`. One of somebody else's is not there.
///
/// # Errors
/// Where the ledger cannot be read.
pub(crate) fn answer(
    host: &Host,
    owner: Owner<'_>,
    args: Option<&JsonObject>,
    with_result: bool,
) -> Result<CallToolResult, StoreError> {
    let call = match asked(args) {
        Ok(call) => call,
        Err(why) => return Ok(told::error(why)),
    };
    let Some((story, runs)) = host.own_call(call, owner)? else {
        return Ok(told::error(format!("there is no call {} of yours", printable(call))));
    };
    let mut status = standing(&story, runs, Approvers::of(host));
    if with_result {
        add_result(&host.reader()?, &story, &mut status)?;
    }
    let status = Value::Object(status);
    let mut result = CallToolResult::success(vec![told::text_of(&status.to_string())]);
    result.structured_content = Some(status);
    Ok(result)
}

/// The call that is asked about: the one argument there is.
fn asked(args: Option<&JsonObject>) -> Result<&str, String> {
    let known = |args: &JsonObject| args.keys().find(|name| *name != "call").cloned();
    if let Some(other) = args.and_then(known) {
        return Err(format!(
            "it takes `call` and nothing else: there is no `{}`",
            printable(&other)
        ));
    }
    let call = args.and_then(|args| args.get("call")).and_then(Value::as_str);
    call.ok_or_else(|| "it takes `call`: the id of a call, `c_` and 26 characters, as its result had it".to_owned())
}

/// How a call stands, without a word of what people or services said.
pub(crate) fn standing(story: &CallStory, runs: bool, by: Approvers) -> JsonObject {
    let mut status = JsonObject::new();
    let mut say = |name: &str, value: Value| drop(status.insert(name.to_owned(), value));
    say("call", json!(story.call));
    let word = match (&story.opening.what, &story.finished, story.waiting()) {
        (Opening::Denied(denied), ..) => {
            refusal(&denied.refused, &mut say);
            "refused"
        }
        (_, Some(finished), _) => match &finished.what.outcome {
            End::Ok(_) => "ok",
            End::ToolError(_) => "tool-error",
            End::Refused(refused) => {
                refusal(refused, &mut say);
                "refused"
            }
            End::Trapped(refused) => {
                refusal(refused, &mut say);
                "failed"
            }
            End::Interrupted => "interrupted",
        },
        _ if runs => "running",
        (.., Some(hold)) => {
            let held = &hold.held.what;
            say("hold", json!(held.hold));
            say("waits_for", json!(approvals::told(&held.needs)));
            say("until", json!(utc(i64::try_from(held.expires).unwrap_or(i64::MAX))));
            say(
                "people_see_it_with",
                json!(format!("ambit approvals show {}", story.call)),
            );
            if by == Approvers::Elsewhere {
                say("people_see_it_at", json!(told::approval_place(&held.hold)));
            }
            "held"
        }
        (.., None) if story.paused().is_some() => "paused",
        (.., None) if story.suspended().is_some() => "suspended",
        (.., None) => "interrupted",
    };
    say("status", json!(word));
    if story.finished.is_some() || matches!(story.opening.what, Opening::Denied(_)) {
        say("receipt", json!(crate::resources::receipt(&story.call)));
    }
    status
}

fn refusal(refused: &Refused, say: &mut impl FnMut(&str, Value)) {
    say("code", json!(refused.code));
    if let Some(rule) = &refused.rule {
        say("rule", json!(rule));
    }
}

/// What came of it: its value, the tool's error, or the whole refusal, where its values are still there.
pub(crate) fn add_result(reader: &Reader, story: &CallStory, status: &mut JsonObject) -> Result<(), StoreError> {
    let (name, value) = match (
        &story.opening.what,
        story.finished.as_ref().map(|finished| &finished.what.outcome),
    ) {
        (Opening::Denied(_), _) => ("refusal", "denied"),
        (_, Some(End::Ok(_))) => ("value", "result"),
        (_, Some(End::ToolError(_))) => ("error", "result"),
        (_, Some(End::Refused(_) | End::Trapped(_))) => ("refusal", "refused"),
        (_, Some(End::Interrupted) | None) => return Ok(()),
    };
    match reader.payload(&story.call, value) {
        Ok(Some(text)) => {
            if let Ok(value) = serde_json::from_slice(text.bytes()) {
                status.insert(name.to_owned(), value);
            }
        }
        Ok(None) => {}
        Err(StoreError::Erased { .. }) => drop(status.insert("erased".to_owned(), json!(true))),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// What clients are told of the two.
pub(crate) fn listed() -> [Tool; 2] {
    [
        tool(
            STATUS,
            "How a call stands",
            "Says how one of your calls stands: running, held for people, paused, suspended until its host is back, or how it ended.",
            false,
        ),
        tool(
            RESULT,
            "What came of a call",
            "Says how one of your calls stands, with its value, the tool's error or the refusal once it has ended.",
            true,
        ),
    ]
}

fn tool(name: &'static str, title: &str, description: &'static str, with_result: bool) -> Tool {
    let call = json!({ "call": { "type": "string", "description": "The call's id, as its result had it." } });
    let input = json!({
        "type": "object", "properties": call, "required": ["call"], "additionalProperties": false,
    });
    let text = json!({ "type": "string" });
    let mut properties = json!({
        "call": text, "code": text, "hold": text, "people_see_it_at": text, "people_see_it_with": text,
        "receipt": text, "rule": text, "until": text,
        "waits_for": text,
        "status": {
            "type": "string",
            "enum": ["running", "held", "paused", "suspended", "interrupted", "ok", "tool-error", "refused", "failed"],
        },
    });
    if let (true, Value::Object(properties)) = (with_result, &mut properties) {
        properties.insert(
            "value".to_owned(),
            json!({ "description": "What the function returned." }),
        );
        properties.insert(
            "error".to_owned(),
            json!({ "description": "What the function returned as its own error." }),
        );
        properties.insert("refusal".to_owned(), json!({ "type": "object" }));
        properties.insert("erased".to_owned(), json!({ "type": "boolean" }));
    }
    let output = json!({
        "type": "object", "properties": properties, "required": ["call", "status"], "additionalProperties": false,
    });
    let mut tool = Tool::new_with_raw(name, Some(description.into()), object(input));
    tool.title = Some(title.to_owned());
    tool.output_schema = Some(object(output));
    tool.annotations = Some(ToolAnnotations::new().read_only(true).open_world(false));
    tool
}

fn object(value: Value) -> Arc<JsonObject> {
    match value {
        Value::Object(object) => Arc::new(object),
        _ => Arc::default(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn they_take_a_call_and_nothing_else() {
        let args = |value: Value| value.as_object().cloned().unwrap();
        assert_eq!(asked(Some(&args(json!({ "call": "c_x" })))), Ok("c_x"));
        for wrong in [
            json!({}),
            json!({ "call": 7 }),
            json!({ "call": "c_x", "approve": true }),
        ] {
            assert!(asked(Some(&args(wrong))).is_err());
        }
        assert!(asked(None).is_err());
    }

    #[test]
    fn they_only_read() {
        for tool in listed() {
            assert_eq!(tool.annotations.unwrap().read_only_hint, Some(true));
            assert!(tool.name.starts_with(crate::names::OWN));
        }
    }
}
