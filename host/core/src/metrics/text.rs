//! Metrics as text: the two formats that Prometheus reads.

use std::fmt::Write as _;

use super::names::{ALL, Kind, Metric};
use super::samples::{Samples, Value};

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own (version 0.0.4): what a textfile collector reads.
    Prometheus,
    /// OpenMetrics 1.0: what a server is asked for by `Accept: application/openmetrics-text`.
    OpenMetrics,
}

impl Format {
    /// The media type of an answer in this format.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Samples {
    /// All of it as text. A counter without labels is printed also where nothing was counted, so that its first increase is seen.
    #[must_use]
    pub fn text(&self, format: Format) -> String {
        let mut text = String::new();
        for metric in ALL {
            family(self, metric, format, &mut text);
        }
        if format == Format::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }
}

fn family(samples: &Samples, metric: &Metric, format: Format, text: &mut String) {
    let zero = Value::Count(0);
    let mut all: Vec<_> = samples.of(metric).collect();
    if all.is_empty() && metric.kind == Kind::Counter && metric.labels.is_empty() {
        all.push((Vec::new(), &zero));
    }
    if all.is_empty() {
        return;
    }
    // In OpenMetrics a counter's name is without the suffix that its samples have.
    let name = match format {
        Format::Prometheus => metric.name,
        Format::OpenMetrics => metric.name.strip_suffix("_total").unwrap_or(metric.name),
    };
    line(
        text,
        format_args!("# HELP {name} {}", escaped(metric.help, format == Format::OpenMetrics)),
    );
    line(text, format_args!("# TYPE {name} {}", metric.kind.as_str()));
    if let (Format::OpenMetrics, Some(unit)) = (format, metric.unit()) {
        line(text, format_args!("# UNIT {name} {unit}"));
    }
    for (labels, value) in all {
        let named = || metric.labels.iter().copied().zip(labels.iter().copied());
        match value {
            Value::Count(count) => sample(text, metric.name, "", named(), format_args!("{count}")),
            Value::Level(level) => sample(text, metric.name, "", named(), format_args!("{level}")),
            Value::Spread { counts, sum } => {
                let Kind::Histogram(ends) = metric.kind else { continue };
                let mut so_far = 0_u64;
                let ends = ends.iter().map(|end| format!("{end:?}")).chain(["+Inf".to_owned()]);
                for (end, count) in ends.zip(counts) {
                    so_far = so_far.saturating_add(*count);
                    let with_end = named().chain([("le", end.as_str())]);
                    sample(text, metric.name, "_bucket", with_end, format_args!("{so_far}"));
                }
                sample(text, metric.name, "_sum", named(), format_args!("{sum}"));
                sample(text, metric.name, "_count", named(), format_args!("{so_far}"));
            }
        }
    }
}

fn sample<'l>(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: impl Iterator<Item = (&'l str, &'l str)>,
    value: std::fmt::Arguments<'_>,
) {
    text.push_str(name);
    text.push_str(suffix);
    let mut open = '{';
    for (label, value) in labels {
        text.push(open);
        open = ',';
        text.push_str(label);
        text.push_str("=\"");
        text.push_str(&escaped(value, true));
        text.push('"');
    }
    if open == ',' {
        text.push('}');
    }
    line(text, format_args!(" {value}"));
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{content}");
}

/// A text of a comment or, with its quotes escaped too, of a label.
fn escaped(text: &str, quotes: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if quotes => escaped.push_str("\\\""),
            c => escaped.push(c),
        }
    }
    escaped
}
