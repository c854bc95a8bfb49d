//! What an agent is told of how a call ended: a value, the tool's own error, a refusal that it can act on, or that people decide first.

use ambit_core::error::{Refusal, printable};
use ambit_core::ledger::utc;
use ambit_runtime::approvals;
use ambit_runtime::call::{Answer, Held, Outcome};
use rmcp::model::{CallToolResult, ContentBlock, MetaObject};
use serde_json::{Value, json};

use crate::offer::value;

/// Where the host's own words about a call are in a result.
pub(crate) const META: &str = "ambit.dev/call";

/// The answer to `tools/call`. A value is structured, and text for clients that read no structure. All else is an error that says
/// what happened, in words for a model and as data for a program.
pub(crate) fn result(answer: &Answer, wrapped: bool) -> CallToolResult {
    let mut result = match &answer.outcome {
        Outcome::Ok(json) => {
            let value = value(json);
            let structured = if wrapped { json!({ "value": value }) } else { value };
            let mut result = CallToolResult::success(vec![ContentBlock::text(structured.to_string())]);
            result.structured_content = Some(structured);
            result
        }
        Outcome::ToolError(json) => error(value(json).to_string()),
        Outcome::Stopped(refusal) => error(refused(refusal)),
        Outcome::Held(held) => error(waits(held, answer)),
        Outcome::Paused(paused) => error(refused(&paused.refusal)),
        Outcome::FirstWrite(first) => error(refused(&first.refusal)),
    };
    for refusal in &answer.refused_effects {
        result
            .content
            .push(ContentBlock::text(format!("An effect was {}", refused(refusal))));
    }
    result.meta = Some(meta(answer));
    result
}

/// An error that a model reads.
pub(crate) fn error(text: String) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

/// A refusal in words: which kind of rule, why, and what would be needed.
pub(crate) fn refused(refusal: &Refusal) -> String {
    let rule = refusal
        .rule
        .as_deref()
        .map(|rule| format!(", rule {}", printable(rule)));
    let advice = refusal
        .advice
        .as_deref()
        .map(|advice| format!(". To do: {}", printable(advice)));
    format!(
        "refused ({}{}): {}{}",
        refusal.code,
        rule.unwrap_or_default(),
        printable(&refusal.message),
        advice.unwrap_or_default()
    )
}

/// That people decide first, and how the agent learns what they said: it can do nothing to bring it about.
fn waits(held: &Held, answer: &Answer) -> String {
    let spend = held
        .spend
        .map(|spend| format!(", {} {} in minor units", spend.minor, spend.currency));
    let until = utc(i64::try_from(held.expires_ms).unwrap_or(i64::MAX));
    format!(
        "held: {} {}/{}{} waits for approvals: {}. Nothing of it was sent. People decide until {until}; do not call again for it. \
         `{}` with call {} says how it stands.",
        held.tier,
        printable(&held.connection),
        printable(&held.route),
        spend.unwrap_or_default(),
        printable(&approvals::told(&held.needs)),
        crate::mcp::STATUS,
        answer.call,
    )
}

fn meta(answer: &Answer) -> MetaObject {
    let (word, more) = match &answer.outcome {
        Outcome::Ok(_) => ("ok", Value::Null),
        Outcome::ToolError(_) => ("tool-error", Value::Null),
        Outcome::Stopped(refusal) => ("refused", json!(refusal)),
        Outcome::Held(held) => ("held", json!(held)),
        Outcome::Paused(paused) => ("paused", json!(paused)),
        Outcome::FirstWrite(first) => ("first-write", json!(first)),
    };
    let mut about = json!({
        "call": answer.call,
        "trace": answer.trace,
        "outcome": word,
        "cost": answer.cost,
    });
    if let (Value::Object(about), false) = (&mut about, more.is_null()) {
        about.insert(word.to_owned(), more);
    }
    let mut meta = MetaObject::new();
    meta.insert(META.to_owned(), about);
    meta
}
