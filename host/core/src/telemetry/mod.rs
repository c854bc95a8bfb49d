//! Telemetry in OpenTelemetry's form: traces, logs and metrics, made of the ledger's entries and of what they come to.
//!
//! Nothing here is measured or sampled beside the ledger. [`Spans`] makes spans of entries, [`log`] makes a record of one entry, and
//! [`metrics`](metrics()) says what [`crate::metrics`] counted, so the same entries tell the same, in the process that writes them as in
//! one that reads them years later. No value is in any of it: only what entries say. Names are in [`names`].
//!
//! The form is OTLP's JSON (opentelemetry-proto 1.x, "JSON Protobuf Encoding" of the OTLP specification): ids in hexadecimal, enumerations
//! as numbers, 64-bit integers as texts. A request has one resource, this home, and one scope.

mod logs;
mod metrics;
pub mod names;
mod spans;

pub use logs::log;
pub use metrics::metrics;
pub use spans::{Span, Spans};

use serde_json::{Map, Value, json};

use names::resource;

/// What is told, and where: each is a request of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Metrics.
    Metrics,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Traces, Self::Logs, Self::Metrics];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }

    /// The path of its requests, below the endpoint (OTLP specification, "OTLP/HTTP Request").
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Logs => "/v1/logs",
            Self::Metrics => "/v1/metrics",
        }
    }

    /// The member of `partialSuccess` that says how many a collector did not take.
    #[must_use]
    pub const fn rejected(self) -> &'static str {
        match self {
            Self::Traces => "rejectedSpans",
            Self::Logs => "rejectedLogRecords",
            Self::Metrics => "rejectedDataPoints",
        }
    }
}

/// Whose telemetry it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The ledger's name.
    pub origin: String,
    /// The host's version.
    pub version: String,
}

impl Source {
    /// A request of a signal with these items, each as that signal's function here makes it.
    #[must_use]
    pub fn request(&self, signal: Signal, items: Vec<Value>) -> Value {
        let resource = json!({ "attributes": [
            text(resource::SERVICE_NAME, "ambit"),
            text(resource::SERVICE_VERSION, &self.version),
            text(resource::SERVICE_INSTANCE, &self.origin),
        ] });
        let scope = json!({ "name": "ambit.ledger", "version": self.version });
        let (of_resources, of_scopes, of_items) = match signal {
            Signal::Traces => ("resourceSpans", "scopeSpans", "spans"),
            Signal::Logs => ("resourceLogs", "scopeLogs", "logRecords"),
            Signal::Metrics => ("resourceMetrics", "scopeMetrics", "metrics"),
        };
        let of_scope = object([("scope", scope), (of_items, Value::Array(items))]);
        let of_resource = object([("resource", resource), (of_scopes, json!([of_scope]))]);
        object([(of_resources, json!([of_resource]))])
    }
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.into_iter().map(|(name, value)| (name.to_owned(), value));
    Value::Object(members.collect::<Map<_, _>>())
}

/// An attribute that is a text.
fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// An attribute that is a number. Beyond what the form can hold it stays at that.
fn number(key: &str, value: u64) -> Value {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

/// An attribute that is a list of texts.
fn texts<'t>(key: &str, values: impl IntoIterator<Item = &'t str>) -> Value {
    let values: Vec<Value> = values
        .into_iter()
        .map(|value| json!({ "stringValue": value }))
        .collect();
    json!({ "key": key, "value": { "arrayValue": { "values": values } } })
}

/// A time in milliseconds since 1970 as the form has it: a text of nanoseconds.
fn nanoseconds(ms: i64) -> String {
    match ms {
        0 => "0".to_owned(),
        ms => format!("{}000000", ms.max(0)),
    }
}
