//! Entries as spans: one of each call, one of each sending of an effect, and what happened between as events.
//!
//! A call's span is from its first entry to its last, so of a call that waited for people it is as long as they took, and is there when
//! it is over; a sending's is there as soon as that is. Ids are [`SpanId`]'s: what a service was told of a sending's span is its id here.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde_json::{Value, json};

use super::logs::{event_name, of_facts, of_principal};
use super::names::{gen_ai, general, mcp, own};
use super::{nanoseconds, number, object, text};
use crate::ledger::body::{CallAccepted, CallDenied, CallFinished, Cause, EffectIntent, End, Outcome};
use crate::ledger::{Body, Contexts, Entry};
use crate::scope::Tier;
use crate::siem::Facts;
use crate::trace::{Arrival, Protocol, SpanId};

/// Most calls that are known at a time.
const MOST_CALLS: usize = 4_096;
/// Most events of a call that are told: what is beyond them is counted. The usual limit of OpenTelemetry's own.
const MOST_EVENTS: usize = 128;
/// Most events of all calls that are open: beyond them the oldest call is forgotten, and read again from the ledger at its end.
const MOST_OPEN_EVENTS: usize = 8_192;

/// What a span is, by OpenTelemetry's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpanKind {
    /// A call that nobody asked for over a protocol.
    Internal = 1,
    /// A call that somebody asked for.
    Server = 2,
    /// A sending.
    Client = 3,
}

/// A span that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    trace: String,
    id: SpanId,
    parent: Option<SpanId>,
    /// Whether its parent is somebody else's.
    of_others: bool,
    name: String,
    kind: SpanKind,
    start_ms: i64,
    end_ms: i64,
    attributes: Vec<Value>,
    events: Vec<Value>,
    dropped: u32,
    /// The class of error, where it is one.
    error: Option<String>,
}

/// `flags` of a span: it is recorded, as all are.
const SAMPLED: u32 = 0x01;
/// Whether its parent is remote is known …
const HAS_IS_REMOTE: u32 = 0x100;
/// … and it is.
const IS_REMOTE: u32 = 0x200;
/// `STATUS_CODE_ERROR`.
const ERROR: u32 = 2;

impl Span {
    /// As OTLP has it.
    #[must_use]
    pub fn to_otlp(&self) -> Value {
        let remote = if self.of_others { IS_REMOTE } else { 0 };
        let mut attributes = self.attributes.clone();
        attributes.extend(self.error.as_ref().map(|error| text(general::ERROR_TYPE, error)));
        let mut span = object([
            ("traceId", json!(self.trace)),
            ("spanId", json!(self.id.to_string())),
            ("flags", json!(SAMPLED | HAS_IS_REMOTE | remote)),
            ("name", json!(self.name)),
            ("kind", json!(self.kind as u32)),
            ("startTimeUnixNano", json!(nanoseconds(self.start_ms))),
            ("endTimeUnixNano", json!(nanoseconds(self.end_ms))),
            ("attributes", Value::Array(attributes)),
            ("events", Value::Array(self.events.clone())),
            ("droppedEventsCount", json!(self.dropped)),
            ("status", json!({})),
        ]);
        if let Some(span) = span.as_object_mut() {
            span.extend(
                self.parent
                    .map(|parent| ("parentSpanId".to_owned(), json!(parent.to_string()))),
            );
            if self.error.is_some() {
                span.insert("status".to_owned(), json!({ "code": ERROR }));
            }
        }
        span
    }
}

/// Makes spans of entries.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    calls: HashMap<String, Open>,
    /// In the order in which they began.
    order: VecDeque<String>,
    contexts: Contexts,
    /// How many events they have together.
    events: usize,
}

/// A call that is not over.
#[derive(Clone, Debug)]
struct Open {
    start_ms: i64,
    arrival: Option<Arrival>,
    /// What its effects are part of.
    trace: String,
    events: Vec<Value>,
    dropped: u32,
    /// By the effect's number.
    sendings: BTreeMap<u32, Sending>,
}

/// A sending that is under way.
#[derive(Clone, Debug)]
struct Sending {
    attempt: u32,
    start_ms: i64,
    connection: String,
    route: String,
    tier: Option<Tier>,
    cause: Option<Cause>,
}

impl Spans {
    /// The call of an entry of which nothing is known: its entries before this one are to be [taken](Self::take) first, and what they end
    /// was told by whoever took them then.
    #[must_use]
    pub fn unknown<'e>(&self, entry: &'e Entry) -> Option<&'e str> {
        let begins = matches!(entry.body(), Body::CallAccepted(_) | Body::CallDenied(_));
        entry.call().filter(|call| !begins && !self.calls.contains_key(*call))
    }

    /// Takes in an entry; what it ends.
    pub fn take(&mut self, entry: &Entry) -> Vec<Span> {
        let (Some(call), Some(trace)) = (entry.call(), entry.trace()) else {
            return Vec::new();
        };
        self.contexts.take(entry);
        match entry.body() {
            Body::CallDenied(denied) => return vec![of_denied(entry, call, trace, denied)],
            Body::CallAccepted(accepted) => self.begin(entry, call, trace, accepted),
            _ => {}
        }
        let Some(open) = self.calls.get_mut(call) else {
            return Vec::new();
        };
        match entry.body() {
            Body::CallAccepted(_) => Vec::new(),
            Body::EffectIntent(intent) => {
                open.sendings.insert(intent.ordinal, Sending::first(entry, intent));
                Vec::new()
            }
            Body::EffectRetried(again) => {
                let before = open.sendings.remove(&again.ordinal);
                let next = Sending {
                    attempt: again.attempt,
                    start_ms: entry.time_ms(),
                    connection: again.connection.clone(),
                    route: again.route.clone(),
                    tier: before.as_ref().and_then(|before| before.tier),
                    cause: before.as_ref().and_then(|before| before.cause),
                };
                open.sendings.insert(again.ordinal, next);
                let over = before.map(|before| before.over(entry, call, again.ordinal, &open.trace, &again.after));
                over.into_iter().collect()
            }
            Body::EffectOutcome(ended) => {
                let last = ended.last.as_ref().unwrap_or(&ended.outcome);
                let over = open.sendings.remove(&ended.ordinal);
                let over = over.map(|sending| sending.over(entry, call, ended.ordinal, &open.trace, last));
                over.into_iter().collect()
            }
            Body::CallFinished(finished) => {
                let facts = Facts::of(entry, &self.contexts);
                let over = self.calls.remove(call).map(|open| {
                    self.events = self.events.saturating_sub(open.events.len());
                    open.over(entry, call, finished, &facts)
                });
                self.order.retain(|known| known != call);
                self.contexts.forget(call);
                over.into_iter().collect()
            }
            _ => {
                self.events += usize::from(open.note(entry, &Facts::of(entry, &self.contexts)));
                while self.events > MOST_OPEN_EVENTS
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.forget(&oldest);
                }
                Vec::new()
            }
        }
    }

    fn forget(&mut self, call: &str) -> Option<Open> {
        let open = self.calls.remove(call)?;
        self.events = self.events.saturating_sub(open.events.len());
        Some(open)
    }

    fn begin(&mut self, entry: &Entry, call: &str, trace: &str, accepted: &CallAccepted) {
        let open = Open {
            start_ms: entry.time_ms(),
            arrival: accepted.arrival,
            trace: trace.to_owned(),
            events: Vec::new(),
            dropped: 0,
            sendings: BTreeMap::new(),
        };
        if self.calls.insert(call.to_owned(), open).is_some() {
            return;
        }
        self.order.push_back(call.to_owned());
        if self.order.len() > MOST_CALLS
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(&oldest);
        }
    }
}

impl Open {
    /// An event of the call: what was refused, what waits, who said what, what was seen.
    fn note(&mut self, entry: &Entry, facts: &Facts<'_>) -> bool {
        if self.events.len() >= MOST_EVENTS {
            self.dropped = self.dropped.saturating_add(1);
            return false;
        }
        self.events.push(object([
            ("timeUnixNano", json!(nanoseconds(entry.time_ms()))),
            ("name", json!(event_name(entry))),
            ("attributes", Value::Array(of_facts(entry, facts))),
        ]));
        true
    }

    fn over(self, entry: &Entry, call: &str, finished: &CallFinished, facts: &Facts<'_>) -> Span {
        let asked = &finished.asked;
        let outcome = facts.outcome.unwrap_or_default();
        let error = match &finished.outcome {
            End::Ok(_) => None,
            End::ToolError(_) => Some(mcp::TOOL_ERROR),
            End::Refused(_) | End::Trapped(_) | End::Interrupted => {
                Some(facts.code.map_or(outcome, |code| code.as_str()))
            }
        };
        let mut span = of_call(
            entry,
            call,
            &self.trace,
            self.arrival,
            (Some(&asked.tool), Some(&asked.function)),
        );
        span.start_ms = self.start_ms;
        span.events = self.events;
        span.dropped = self.dropped;
        span.error = error.map(str::to_owned);
        span.attributes.extend([
            text(own::TIER, asked.tier.as_str()),
            text(own::OUTCOME, outcome),
            number(own::FUEL, finished.fuel),
            number(own::WAITED, finished.upstream),
            number(own::EFFECTS_ANSWERED, finished.effects.answered.into()),
            number(own::EFFECTS_REFUSED, finished.effects.refused.into()),
            number(own::EFFECTS_IN_DOUBT, finished.effects.in_doubt.into()),
        ]);
        span
    }
}

/// A call that began and ended at once.
fn of_denied(entry: &Entry, call: &str, trace: &str, denied: &CallDenied) -> Span {
    let names = (denied.tool.as_deref(), denied.function.as_deref());
    let mut span = of_call(entry, call, trace, denied.arrival, names);
    span.error = Some(denied.refused.code.as_str().to_owned());
    span.attributes.push(text(own::OUTCOME, "denied"));
    span
}

/// What spans of all calls have.
fn of_call(
    entry: &Entry,
    call: &str,
    trace: &str,
    arrival: Option<Arrival>,
    (tool, function): (Option<&str>, Option<&str>),
) -> Span {
    let protocol = arrival.and_then(|arrival| arrival.protocol);
    let parent = arrival.and_then(|arrival| arrival.parent).map(|parent| parent.span);
    let what = match protocol {
        Some(Protocol::Mcp) => mcp::TOOLS_CALL,
        Some(Protocol::Api) | None => gen_ai::EXECUTE_TOOL,
    };
    // As policies name it; a name that there is not is nobody's.
    let target = tool.map(|tool| match function {
        Some(function) => format!("{tool}/{function}"),
        None => tool.to_owned(),
    });
    let mut attributes = vec![text(gen_ai::OPERATION, gen_ai::EXECUTE_TOOL), text(own::CALL, call)];
    if protocol == Some(Protocol::Mcp) {
        attributes.push(text(mcp::METHOD, mcp::TOOLS_CALL));
    }
    attributes.extend(target.as_ref().map(|target| text(gen_ai::TOOL, target)));
    attributes.extend(tool.map(|tool| text(own::TOOL, tool)));
    attributes.extend(function.map(|function| text(own::FUNCTION, function)));
    attributes.extend(entry.tool().map(|tool| text(own::COMPONENT, &tool.to_string())));
    attributes.extend(of_principal(entry));
    Span {
        trace: trace.to_owned(),
        id: SpanId::of_call(call),
        parent,
        of_others: parent.is_some(),
        name: target.map_or_else(|| what.to_owned(), |target| format!("{what} {target}")),
        kind: match protocol {
            Some(_) => SpanKind::Server,
            None => SpanKind::Internal,
        },
        start_ms: entry.time_ms(),
        end_ms: entry.time_ms(),
        attributes,
        events: Vec::new(),
        dropped: 0,
        error: None,
    }
}

impl Sending {
    fn first(entry: &Entry, intent: &EffectIntent) -> Self {
        Self {
            attempt: 1,
            start_ms: entry.time_ms(),
            connection: intent.connection.clone(),
            route: intent.route.clone(),
            tier: Some(intent.tier),
            cause: Some(intent.cause),
        }
    }

    /// Its span, as it ended so.
    fn over(self, entry: &Entry, call: &str, ordinal: u32, trace: &str, outcome: &Outcome) -> Span {
        let (status, word, error) = match outcome {
            Outcome::Answered(answered) => {
                let failed = answered.status >= 400;
                let error = failed.then(|| answered.status.to_string());
                (Some(answered.status), "answered", error)
            }
            Outcome::NotSent(why) => (None, "not-sent", Some(why.code.as_str().to_owned())),
            Outcome::InDoubt(why) => (None, "in-doubt", Some(why.as_str().to_owned())),
        };
        let mut attributes = vec![
            text(own::CALL, call),
            number(own::EFFECT, ordinal.into()),
            text(own::CONNECTION, &self.connection),
            text(own::ROUTE, &self.route),
            text(own::OUTCOME, word),
        ];
        attributes.extend(self.tier.map(|tier| text(own::TIER, tier.as_str())));
        attributes.extend(self.cause.map(|cause| text(own::CAUSE, cause.as_str())));
        attributes.extend(status.map(|status| number(general::HTTP_STATUS, status.into())));
        if self.attempt > 1 {
            attributes.push(number(general::HTTP_RESENDS, u64::from(self.attempt) - 1));
        }
        Span {
            trace: trace.to_owned(),
            id: SpanId::of_sending(call, ordinal, self.attempt),
            parent: Some(SpanId::of_call(call)),
            of_others: false,
            name: format!("{}/{}", self.connection, self.route),
            kind: SpanKind::Client,
            start_ms: self.start_ms,
            end_ms: entry.time_ms(),
            attributes,
            events: Vec::new(),
            dropped: 0,
            error,
        }
    }
}
