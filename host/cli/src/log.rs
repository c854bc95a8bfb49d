//! Diagnostics on standard error: for people, or a JSON document a line.
//!
//! What is logged is this host's own: where it stands, what failed and why. Secrets are in types that cannot print; nothing here has one.

use std::fmt;

use ambit_core::ledger::utc;
use ambit_runtime::host::now_ms;
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::args::{Global, LogFormat};
use crate::output::{Failure, escaped, untrusted};

/// What diagnostics are shown, in the tracing syntax: `info`, or `warn,ambit_runtime=debug`.
const FILTER: &str = "AMBIT_LOG";

/// Begins to log. `AMBIT_LOG` says what, where it is set, and else how often `--verbose` was said.
///
/// # Errors
/// Where `AMBIT_LOG` is no filter.
pub(crate) fn start(global: &Global) -> Result<(), Failure> {
    let ansi = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(global.verbose)?)
        .with_writer(std::io::stderr);
    match global.log_format {
        LogFormat::Human => log.with_ansi(ansi).with_target(false).init(),
        LogFormat::Json => log.with_ansi(false).event_format(JsonLines).init(),
    }
    Ok(())
}

fn filter(verbose: u8) -> Result<EnvFilter, Failure> {
    let default = match verbose {
        // Of what an agent's program gets wrong that program is told.
        0 => "warn,rmcp=error",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let Some(asked) = std::env::var_os(FILTER).filter(|asked| !asked.is_empty()) else {
        return Ok(default.into());
    };
    let text = asked.to_string_lossy();
    EnvFilter::try_new(&text).map_err(|error| {
        let message = format!("{FILTER} is `{}`, which is no filter: {error}", untrusted(&text));
        Failure::usage(message).advise("Write a level, such as info, or levels by module: warn,ambit_runtime=debug.")
    })
}

/// An event as one line of JSON: time, level, where it comes from, message, and its other fields.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (about, Fields(mut fields)) = (event.metadata(), fields);
        let message = fields.remove("message");
        let line = json!({
            "time": utc(now_ms()),
            "level": about.level().as_str().to_lowercase(),
            "target": about.target(),
            "message": message,
            "fields": fields,
        });
        writeln!(writer, "{}", escaped(&line.to_string()))
    }
}

/// The fields of an event, each as what it is.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, json!(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, json!(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, json!(value));
    }
}
