//! `ambit metrics`: what the ledger comes to in numbers, with or without a running host.

use std::path::Path;

use ambit_core::metrics::names::{ALL, Kind};
use ambit_core::metrics::{Format, Metric, Samples, Value as Sample};
use serde_json::{Map, Value, json};

use super::what_if;
use crate::args::{Format as Shown, Metrics};
use crate::output::{self, Exit, Failure, Output, working};

pub(crate) fn run(args: &Metrics, home: &Path, out: Output) -> Result<Exit, Failure> {
    // Of a home that is none the ledger would say less.
    super::audit::open(home)?;
    let since = args.since.map(what_if::ms).transpose()?;
    let reading = working("reading the ledger");
    let samples = ambit_runtime::metrics::of_ledger(home, since)?;
    drop(reading);
    match (out.format, args.openmetrics) {
        (Shown::Json, _) => out.result(&document(&samples), |_| Ok(()))?,
        (Shown::Human, true) => output::raw(&samples.text(Format::OpenMetrics))?,
        (Shown::Human, false) => output::raw(&samples.text(Format::Prometheus))?,
    }
    Ok(Exit::Done)
}

/// The metrics that there is something to say of, by name.
fn document(samples: &Samples) -> Value {
    let told = |metric: &&&Metric| samples.of(metric).next().is_some();
    let metrics = ALL
        .iter()
        .filter(told)
        .map(|metric| (metric.name.to_owned(), family(samples, metric)));
    Value::Object(metrics.collect())
}

fn family(samples: &Samples, metric: &Metric) -> Value {
    let all: Vec<Value> = samples
        .of(metric)
        .map(|(labels, value)| sample(metric, &labels, value))
        .collect();
    json!({ "type": metric.kind.as_str(), "help": metric.help, "samples": all })
}

fn sample(metric: &Metric, labels: &[&str], value: &Sample) -> Value {
    let labels: Map<String, Value> = metric
        .labels
        .iter()
        .zip(labels)
        .map(|(name, label)| ((*name).to_owned(), json!(label)))
        .collect();
    match value {
        Sample::Count(count) => json!({ "labels": labels, "value": count }),
        Sample::Level(level) => json!({ "labels": labels, "value": level }),
        Sample::Spread { counts, sum } => {
            let ends = match metric.kind {
                Kind::Histogram(ends) => ends,
                Kind::Counter | Kind::Gauge => &[],
            };
            let bucket = |(end, count)| json!({ "within": end, "count": count });
            // Each with what is within its end and not within the one before; the last is beyond all of them.
            let ends = ends.iter().map(|end| json!(end)).chain([Value::Null]);
            let buckets: Vec<Value> = ends.zip(counts).map(bucket).collect();
            let count: u64 = counts.iter().sum();
            json!({ "labels": labels, "buckets": buckets, "sum": sum, "count": count })
        }
    }
}
