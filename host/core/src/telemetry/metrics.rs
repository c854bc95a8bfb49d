//! What was counted, as metrics of OpenTelemetry. Names, labels and help are those of `/metrics`: there is one list.

use serde_json::{Value, json};

use super::{nanoseconds, object, text};
use crate::metrics::names::{ALL, Kind};
use crate::metrics::{Metric, Samples, Value as Sample};

/// Sums count from `since_ms` on, and not from the last time they were told (`AGGREGATION_TEMPORALITY_CUMULATIVE`).
const CUMULATIVE: u32 = 2;

/// All that there is to say at a time, of what was counted since another; both in milliseconds since 1970.
#[must_use]
pub fn metrics(samples: &Samples, since_ms: i64, time_ms: i64) -> Vec<Value> {
    let (since, time) = (nanoseconds(since_ms), nanoseconds(time_ms));
    let told = ALL.iter().filter_map(|metric| {
        let points: Vec<Value> = samples
            .of(metric)
            .filter_map(|(labels, value)| point(metric, &labels, value, (&since, &time)))
            .collect();
        (!points.is_empty()).then(|| one(metric, points))
    });
    told.collect()
}

fn one(metric: &Metric, points: Vec<Value>) -> Value {
    let (of_kind, data) = match metric.kind {
        Kind::Counter => {
            let sum = json!({ "aggregationTemporality": CUMULATIVE, "isMonotonic": true, "dataPoints": points });
            ("sum", sum)
        }
        Kind::Gauge => ("gauge", json!({ "dataPoints": points })),
        Kind::Histogram(_) => (
            "histogram",
            json!({ "aggregationTemporality": CUMULATIVE, "dataPoints": points }),
        ),
    };
    object([
        ("name", json!(metric.name)),
        ("description", json!(metric.help)),
        ("unit", json!(unit(metric))),
        (of_kind, data),
    ])
}

/// In the units of UCUM.
fn unit(metric: &Metric) -> &'static str {
    match metric.unit() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        _ => "1",
    }
}

/// None of a value that is not of its metric's kind.
fn point(metric: &Metric, labels: &[&str], value: &Sample, (since, time): (&str, &str)) -> Option<Value> {
    let labels: Vec<Value> = metric
        .labels
        .iter()
        .zip(labels)
        .map(|(name, label)| text(name, label))
        .collect();
    let mut point = json!({ "attributes": labels, "timeUnixNano": time });
    let members = point.as_object_mut()?;
    let mut put = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
    match (metric.kind, value) {
        (Kind::Counter, Sample::Count(count)) => {
            put("startTimeUnixNano", json!(since));
            put("asInt", json!(i64::try_from(*count).unwrap_or(i64::MAX).to_string()));
        }
        (Kind::Gauge, Sample::Level(level)) => put("asDouble", json!(level)),
        (Kind::Histogram(ends), Sample::Spread { counts, sum }) => {
            let all: u64 = counts.iter().sum();
            put("startTimeUnixNano", json!(since));
            put("count", json!(all.to_string()));
            put("sum", json!(sum));
            put("explicitBounds", json!(ends));
            put(
                "bucketCounts",
                counts.iter().map(|count| json!(count.to_string())).collect(),
            );
        }
        _ => return None,
    }
    Some(point)
}
