//! Entries as log records.

use serde_json::{Value, json};

use super::names::{gen_ai, general, own};
use super::{nanoseconds, number, object, text, texts};
use crate::ledger::{Contexts, Entry};
use crate::siem::ocsf::{Severity, severity};
use crate::siem::{Facts, message};
use crate::trace::SpanId;

/// The log record of an entry. `calls` knows what came before it, as for [`crate::siem`]. It belongs to the span of its call.
#[must_use]
pub fn log(entry: &Entry, calls: &Contexts) -> Value {
    let facts = Facts::of(entry, calls);
    let severity = severity(entry.body());
    let time = nanoseconds(entry.time_ms());
    let mut record = object([
        ("timeUnixNano", json!(time)),
        ("observedTimeUnixNano", json!(time)),
        ("severityNumber", json!(severity_number(severity))),
        ("severityText", json!(severity.name())),
        ("eventName", json!(event_name(entry))),
        ("body", json!({ "stringValue": message(entry, &facts) })),
        ("attributes", Value::Array(attributes(entry, &facts))),
    ]);
    if let (Some(record), Some(trace), Some(call)) = (record.as_object_mut(), entry.trace(), entry.call()) {
        record.insert("traceId".to_owned(), json!(trace));
        record.insert("spanId".to_owned(), json!(SpanId::of_call(call).to_string()));
    }
    record
}

/// Of an entry, as an event.
pub(super) fn event_name(entry: &Entry) -> String {
    format!("{}{}", own::EVENT, entry.kind())
}

/// Numbers of the log data model: INFO, INFO2, WARN, ERROR.
const fn severity_number(severity: Severity) -> u32 {
    match severity {
        Severity::Informational => 9,
        Severity::Low => 10,
        Severity::Medium => 13,
        Severity::High => 17,
    }
}

fn attributes(entry: &Entry, facts: &Facts<'_>) -> Vec<Value> {
    let mut all = vec![
        number(own::ENTRY, entry.index()),
        text(own::ENTRY_KIND, entry.kind().as_str()),
        text(
            own::ENTRY_LEAF,
            &data_encoding::HEXLOWER.encode(entry.leaf().as_bytes()),
        ),
    ];
    all.extend(entry.call().map(|call| text(own::CALL, call)));
    all.extend(entry.tool().map(|tool| text(own::COMPONENT, &tool.to_string())));
    all.extend(of_principal(entry));
    all.extend(of_facts(entry, facts));
    all
}

/// Who asked.
pub(super) fn of_principal(entry: &Entry) -> Vec<Value> {
    let Some(principal) = entry.principal() else {
        return Vec::new();
    };
    let mut all = vec![
        text(gen_ai::AGENT, &principal.agent),
        text(own::TEAM, &principal.team),
        text(own::TENANT, &principal.tenant),
    ];
    all.extend(principal.user.as_ref().map(|user| text(general::END_USER, user)));
    all
}

/// What an entry says, by itself and by what came before it.
pub(super) fn of_facts(entry: &Entry, facts: &Facts<'_>) -> Vec<Value> {
    let named = [
        (own::TOOL, facts.tool),
        (own::FUNCTION, facts.function),
        (own::RUN, facts.run),
        (own::CONNECTION, facts.connection),
        (own::ROUTE, facts.route),
        (own::TIER, facts.tier.map(|tier| tier.as_str())),
        (own::DECISION, facts.decision),
        (own::OUTCOME, facts.outcome),
        (own::REFUSAL, facts.code.map(|code| code.as_str())),
    ];
    let mut all: Vec<Value> = named
        .into_iter()
        .filter_map(|(name, value)| Some(text(name, value?)))
        .collect();
    all.extend(
        entry
            .body()
            .ordinal()
            .map(|ordinal| number(own::EFFECT, ordinal.into())),
    );
    all.extend(facts.status.map(|status| number(general::HTTP_STATUS, status.into())));
    if !facts.rules.is_empty() {
        all.push(texts(own::RULES, facts.rules.iter().copied()));
    }
    if let Some(money) = facts.money {
        all.push(text(own::CURRENCY, money.currency.as_str()));
        all.push(number(own::MONEY, money.minor));
    }
    all
}
