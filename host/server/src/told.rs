//! What an agent is told of how a call ended: a value, the tool's own error, a refusal that it can act on, or that people decide first.

use ambit_core::error::{Refusal, printable};
use ambit_core::ledger::body::Shown;
use ambit_core::ledger::utc;
use ambit_runtime::approvals;
use ambit_runtime::call::{Held, Outcome};
use rmcp::model::{CallToolResult, ContentBlock, MetaObject};
use serde_json::{Value, json};

use crate::calls::Made;
use crate::status::{RESULT, STATUS};
use crate::trace::{self, Parent};

/// Where the host's own words about a call are in a result's `_meta`.
pub(crate) const META: &str = "ambit/call";

/// The answer to `tools/call`. A value is structured, and text for clients that read no structure. All else is an error that says
/// what happened, in words for a model and as data for a program.
pub(crate) fn result(made: &Made, wrapped: bool, parent: Option<&Parent>) -> CallToolResult {
    let answer = &made.answer;
    let mut result = match &answer.outcome {
        Outcome::Ok(json) => {
            let value = json.to_serde();
            let structured = if wrapped { json!({ "value": value }) } else { value };
            let mut result = CallToolResult::success(vec![ContentBlock::text(structured.to_string())]);
            result.structured_content = Some(structured);
            result
        }
        Outcome::ToolError(json) => error(json.to_canonical()),
        Outcome::Stopped(refusal) => error(refused(refusal)),
        Outcome::Held(held) => error(waits(held, answer.call.as_str())),
        Outcome::Paused(paused) => error(format!(
            "{}. The call goes on once that is over; `{STATUS}` with call {} says how it stands.",
            refused(&paused.refusal),
            answer.call
        )),
        Outcome::FirstWrite(first) => error(refused(&first.refusal)),
    };
    let effects = answer
        .refused_effects
        .iter()
        .map(|refusal| format!("An effect was {}", refused(refusal)));
    let unverified = answer
        .checked
        .iter()
        .filter(|checked| checked.shown.is_unverified())
        .map(|checked| {
            let why = match checked.shown {
                Shown::Unreadable => "what it changed could not be read back",
                _ => "what it changed does not show it",
            };
            format!(
                "Effect {}: its service says that it did it, and {why}.",
                checked.ordinal
            )
        });
    result.content.extend(effects.chain(unverified).map(ContentBlock::text));
    result.meta = Some(meta(made, parent));
    result
}

/// An error that a model reads.
pub(crate) fn error(text: impl Into<String>) -> CallToolResult {
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

/// That people decide first, where they do, and how the agent learns what they said: it can do nothing to bring it about.
fn waits(held: &Held, call: &str) -> String {
    let spend = held
        .spend
        .as_ref()
        .map(|spend| format!(", {} {} in minor units", spend.minor, spend.currency));
    let rules = match held.rules.as_slice() {
        [] => String::new(),
        rules => format!(" (rule {})", printable(&rules.join(", "))),
    };
    let until = utc(i64::try_from(held.expires_ms).unwrap_or(i64::MAX));
    format!(
        "held: {} {}/{}{} waits for approvals{rules}: {}. Nothing of it was sent. It is {}; people see and decide it with \
         `ambit approvals show {call}`, until {until}. Do not call again for it, and go on with something else: `{STATUS}` with call {call} \
         says how it stands, and `{RESULT}` what came of it.",
        held.tier,
        printable(&held.connection),
        printable(&held.route),
        spend.unwrap_or_default(),
        printable(&approvals::told(&held.needs)),
        held.hold,
    )
}

/// The same as data: the call's id, what proves its end, its cost and its trace.
fn meta(made: &Made, parent: Option<&Parent>) -> MetaObject {
    let answer = &made.answer;
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
        "refused_effects": answer.refused_effects,
        "checked": answer.checked,
        "cost": answer.cost,
    });
    if let Value::Object(about) = &mut about {
        if !more.is_null() {
            about.insert(word.to_owned(), more);
        }
        if let Some(end) = made.end {
            let receipt = json!({
                "entry": end.index,
                "digest": end.digest,
                "uri": crate::resources::receipt(answer.call.as_str()),
            });
            about.insert("receipt".to_owned(), receipt);
        }
    }
    let mut meta = MetaObject::new();
    meta.insert(META.to_owned(), about);
    meta.set_traceparent(trace::of_call(&answer.trace, answer.call.as_str(), parent));
    meta
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ambit_core::digest::Digest;
    use ambit_core::error::Code;
    use ambit_core::scope::Tier;

    use super::*;

    #[test]
    fn a_refusal_names_its_rule_and_what_to_do_and_hides_nothing() {
        let refusal = Refusal::new(Code::Policy, "no\u{1b}[2J")
            .rule("dual-control")
            .advise("ask finance");
        assert_eq!(
            refused(&refusal),
            "refused (policy, rule dual-control): no\\u{1b}[2J. To do: ask finance"
        );
    }

    #[test]
    fn who_waits_is_told_for_whom_and_where_and_that_calling_again_is_no_use() {
        let hold = Digest::of(b"hold");
        let held = Held {
            hold,
            ordinal: 2,
            connection: "stripe".to_owned(),
            route: "refunds.create".to_owned(),
            tier: Tier::Commit,
            spend: None,
            needs: vec![BTreeMap::from([("finance".to_owned(), 2)])],
            over: vec![],
            rules: vec!["dual-control".to_owned()],
            expires_ms: 0,
            request: None,
            missing: vec![],
            edited: None,
        };
        let told = waits(&held, "c_x");
        for part in [
            "held: commit stripe/refunds.create",
            "rule dual-control",
            "2 of finance",
            "ambit approvals show c_x",
            "ambit_call_status",
            &hold.to_string(),
            "1970-01-01",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
