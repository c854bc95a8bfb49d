//! What an agent is told of how a call ended: a value, the tool's own error, a refusal that it can act on, or that people decide first.

use ambit_core::digest::Digest;
use ambit_core::error::{Code, Refusal, printable, visible_json};
use ambit_core::json::Json;
use ambit_core::ledger::body::Shown;
use ambit_core::ledger::{CallStory, utc};
use ambit_core::trace::{Parent, SpanId, traceparent};
use ambit_runtime::approvals;
use ambit_runtime::call::{Answer, Held, Outcome};
use ambit_runtime::host::Host;
use rmcp::model::{CallToolResult, ContentBlock, MetaObject};
use serde_json::{Value, json};

use crate::status::{RESULT, STATUS};

/// The largest value that is written out by a thread that serves others too, in bytes.
const LARGE: usize = 64 << 10;
/// Where the host's own words about a call are in a result's `_meta`.
pub(crate) const META: &str = "ambit/call";

/// How people see what waits for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Approvers {
    /// With the command, where the home is.
    AtTheHome,
    /// Over the API too: operators are served.
    Elsewhere,
}

impl Approvers {
    /// As the home is configured.
    pub(crate) fn of(host: &Host) -> Approvers {
        let server = host.config().server();
        match server.and_then(|server| server.operators.as_ref()) {
            Some(_) => Approvers::Elsewhere,
            None => Approvers::AtTheHome,
        }
    }
}

/// Where people see an effect that waits, over the API.
pub(crate) fn approval_place(hold: &Digest) -> String {
    format!("/v1/operators/approvals/{}", hold.to_hex())
}

/// The answer to `tools/call`. A value is structured, and text for clients that read no structure. All else is an error that says
/// what happened, in words for a model and as data for a program.
///
/// `by` is how people see what waits for them.
pub(crate) fn result(answer: &Answer, wrapped: bool, parent: Option<&Parent>, by: Approvers) -> CallToolResult {
    let mut result = match &answer.outcome {
        Outcome::Ok(json) => {
            let value = json.to_serde();
            let structured = if wrapped { json!({ "value": value }) } else { value };
            let mut result = CallToolResult::success(vec![text_of(&structured.to_string())]);
            result.structured_content = Some(structured);
            result
        }
        Outcome::ToolError(json) => CallToolResult::error(vec![text_of(&json.to_canonical())]),
        Outcome::Stopped(refusal) if refusal.code == Code::Suspended && answer.end.is_none() => error(format!(
            "suspended: {}. Do not call again for it: `{RESULT}` with call {} says what came of it, once the host is back.",
            printable(&refusal.message),
            answer.call
        )),
        Outcome::Stopped(refusal) => error(refused(refusal)),
        Outcome::Held(held) => error(waits(held, answer.call.as_str(), by)),
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
    result.meta = Some(meta(answer, parent));
    result
}

/// Whether it takes long to write out what a call gave, for a thread that serves others: looked at as far as it takes to know.
pub(crate) fn is_large(answer: &Answer) -> bool {
    match &answer.outcome {
        Outcome::Ok(json) | Outcome::ToolError(json) => !fits(json, &mut { LARGE }),
        _ => false,
    }
}

/// Whether a value has no more than so many bytes, about, of which it takes its own.
fn fits(json: &Json, left: &mut usize) -> bool {
    match json {
        Json::String(text) => take(left, text.len() + 3),
        Json::Array(all) => take(left, 2) && all.iter().all(|one| fits(one, left)),
        Json::Object(members) => {
            take(left, 2)
                && members
                    .iter()
                    .all(|(name, one)| take(left, name.len() + 4) && fits(one, left))
        }
        _ => take(left, 8),
    }
}

fn take(left: &mut usize, bytes: usize) -> bool {
    let rest = left.checked_sub(bytes);
    *left = rest.unwrap_or_default();
    rest.is_some()
}

/// How a call stands that is not over and waits for nobody's word, where its request is answered before it is over.
pub(crate) fn goes_on(story: &CallStory, runs: bool) -> CallToolResult {
    let (word, why) = match runs {
        true => ("running", "the call is under way"),
        false => (
            "interrupted",
            "the host ended while the call ran, and its operator says how it goes on",
        ),
    };
    let call = &story.call;
    let mut result = error(format!(
        "{word}: {why}. Do not call again for it: `{RESULT}` with call {call} says what came of it, once it is over."
    ));
    let mut meta = MetaObject::new();
    let about = json!({ "call": call, "trace": story.trace, "outcome": word });
    meta.insert(META.to_owned(), about);
    result.meta = Some(meta);
    result
}

/// JSON as a model and its people read it: the same value, in which nothing that a tool or a service said hides. What is structured
/// is for programs, and exact.
pub(crate) fn text_of(json: &str) -> ContentBlock {
    ContentBlock::text(visible_json(json))
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
fn waits(held: &Held, call: &str, by: Approvers) -> String {
    format!(
        "held: {} Do not call again for it, and go on with something else: `{STATUS}` with call {call} says how it stands, and `{RESULT}` \
         what came of it.",
        who_decides(held, call, by),
    )
}

/// The same for whoever sits at the client. They may be one of those who decide, but not here.
pub(crate) fn notice(held: &Held, call: &str, by: Approvers) -> String {
    format!(
        "{} This only says so. Whatever you answer here approves nothing and rejects nothing, and the call waits on: the agent is told how it \
         stands.",
        who_decides(held, call, by),
    )
}

fn who_decides(held: &Held, call: &str, by: Approvers) -> String {
    let spend = held
        .spend
        .as_ref()
        .map(|spend| format!(", {} {} in minor units", spend.minor, spend.currency));
    let rules = match held.rules.as_slice() {
        [] => String::new(),
        rules => format!(" (rule {})", printable(&rules.join(", "))),
    };
    let until = utc(i64::try_from(held.expires_ms).unwrap_or(i64::MAX));
    let elsewhere = match by {
        Approvers::AtTheHome => String::new(),
        Approvers::Elsewhere => format!(" or, over the API, `GET {}`", approval_place(&held.hold)),
    };
    format!(
        "{} {}/{}{} waits for approvals{rules}: {}. Nothing of it was sent. It is {}; people see and decide it with \
         `ambit approvals show {call}`{elsewhere}, until {until}.",
        held.tier,
        printable(&held.connection),
        printable(&held.route),
        spend.unwrap_or_default(),
        printable(&approvals::told(&held.needs)),
        held.hold,
    )
}

/// The same as data: the call's id, what proves its end, its cost and its trace.
fn meta(answer: &Answer, parent: Option<&Parent>) -> MetaObject {
    let (word, more) = match &answer.outcome {
        Outcome::Ok(_) => ("ok", Value::Null),
        Outcome::ToolError(_) => ("tool-error", Value::Null),
        Outcome::Stopped(refusal) if refusal.code == Code::Suspended && answer.end.is_none() => {
            ("suspended", json!(refusal))
        }
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
        if let Some(end) = answer.end {
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
    let sampled = parent.is_some_and(|parent| parent.span.sampled);
    let span = SpanId::of_call(answer.call.as_str());
    meta.set_traceparent(traceparent(answer.trace.as_str(), span, sampled));
    meta
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use std::collections::BTreeMap;

    use ambit_core::error::Code;
    use ambit_core::json::Object;
    use ambit_core::scope::Tier;

    use super::*;

    #[test]
    fn what_is_large_is_told_without_looking_at_all_of_it() {
        let fits = |json: Json| fits(&json, &mut { LARGE });
        let text = |length: usize| Json::String("x".repeat(length));
        assert!(fits(Json::Null) && fits(text(LARGE - 3)));
        assert!(!fits(text(LARGE)));
        assert!(fits(Json::Array(vec![Json::Null; LARGE / 8 - 1])));
        assert!(!fits(Json::Array(vec![Json::Null; LARGE / 8])));
        let mut members = Object::default();
        members.insert("x".repeat(LARGE), Json::Null);
        assert!(!fits(Json::Object(members)));
    }

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
    fn what_a_tool_returns_hides_nothing_from_whoever_reads_it() {
        let value = json!({ "memo": "ok\u{e0041}\u{202e}\u{200b}", "n": 1.5 });
        let call: ambit_runtime::ids::CallId = "c_aaaaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap();
        let made = |outcome| Answer {
            call: call.clone(),
            trace: "0af7651916cd43dd8448eb211c80319c".parse().unwrap(),
            outcome,
            refused_effects: vec![],
            checked: vec![],
            edited: vec![],
            cost: ambit_runtime::call::Cost::default(),
            end: None,
        };
        let text = |result: &CallToolResult| result.content[0].as_text().unwrap().text.clone();
        let json = Json::from(value.clone());
        let result = result(&made(Outcome::Ok(json.clone())), false, None, Approvers::AtTheHome);
        assert!(text(&result).is_ascii(), "{}", text(&result));
        assert_eq!(serde_json::from_str::<Value>(&text(&result)).unwrap(), value);
        assert_eq!(result.structured_content, Some(value));
        let error = super::result(&made(Outcome::ToolError(json)), false, None, Approvers::AtTheHome);
        assert!(text(&error).is_ascii(), "{}", text(&error));
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
        let told = waits(&held, "c_x", Approvers::AtTheHome);
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
        let shown = notice(&held, "c_x", Approvers::AtTheHome);
        for part in ["2 of finance", "ambit approvals show c_x", "approves nothing"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        // Whoever sits elsewhere sees it there, and nobody is sent to what is not served.
        let there = format!("GET /v1/operators/approvals/{}`", hold.to_hex());
        assert!(!told.contains("/v1/") && !shown.contains("/v1/"));
        for told in [waits, notice].map(|tells| tells(&held, "c_x", Approvers::Elsewhere)) {
            assert!(
                told.contains(&there) && told.contains("ambit approvals show c_x"),
                "{told}"
            );
        }
    }
}
