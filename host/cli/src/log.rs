//! Diagnostics on standard error: for people, or a JSON document a line.
//!
//! What is logged is this host's own: where it stands, what failed and why. Secrets are in types that cannot print; nothing here has one.

use std::fmt;

use ambit_core::ledger::utc;
use ambit_runtime::clock::now_ms;
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

/// What the protocol's library says below errors: whole requests and results, an agent's arguments and all. Of what an agent's program
/// gets wrong that program is told. Only an operator who names the library has it.
const QUIET: &str = "rmcp";

fn filter(verbose: u8) -> Result<EnvFilter, Failure> {
    let asked = std::env::var_os(FILTER).filter(|asked| !asked.is_empty());
    filter_of(
        verbose,
        asked.as_deref().map(std::ffi::OsStr::to_string_lossy).as_deref(),
    )
}

fn filter_of(verbose: u8, asked: Option<&str>) -> Result<EnvFilter, Failure> {
    let text = asked.unwrap_or(match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    });
    let quiet = if text.contains(QUIET) {
        String::new()
    } else {
        format!(",{QUIET}=error")
    };
    let read = EnvFilter::try_new(text).and_then(|_| EnvFilter::try_new(format!("{text}{quiet}")));
    read.map_err(|error| {
        let message = format!("{FILTER} is `{}`, which is no filter: {error}", untrusted(text));
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing::{Level, event_enabled};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn the_protocol_s_library_says_nothing_of_what_passes_through_it() {
        let said = |verbose: u8, asked: Option<&str>| {
            let log = tracing_subscriber::registry().with(filter_of(verbose, asked).unwrap());
            tracing::subscriber::with_default(log, || {
                let library = [
                    event_enabled!(target: "rmcp::service", Level::ERROR),
                    event_enabled!(target: "rmcp::service", Level::WARN),
                    event_enabled!(target: "rmcp::service", Level::INFO),
                    event_enabled!(target: "rmcp::service", Level::DEBUG),
                ];
                (library, event_enabled!(target: "ambit_server", Level::DEBUG))
            })
        };
        let errors = [true, false, false, false];
        for verbose in 0..5 {
            assert_eq!(said(verbose, None), (errors, verbose > 1), "{verbose}");
            assert_eq!(said(verbose, Some("debug")), (errors, true), "{verbose}");
        }
        assert_eq!(said(0, Some("trace,")), (errors, true));
        assert_eq!(said(0, Some("info,rmcp=debug")), ([true; 4], false));
        assert!(filter_of(0, Some("ambit=loud")).is_err());
    }

    /// Where log lines of a test go.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged meanwhile, as it is written.
    fn logged(says: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .event_format(JsonLines)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(log, says);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn an_event_is_one_line_of_json_whatever_a_guest_had_it_say() {
        let forged = "fine\n{\"time\":\"now\",\"level\":\"error\"}\r\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\0\"}\u{1f600}";
        let text = logged(|| {
            tracing::info!(target: "ambit_runtime", line = forged, shown = ?forged, count = 3_u64, less = -3_i64, part = 0.5, whole = true, "a guest said: {forged}");
            tracing::warn!(target: "ambit_runtime", said = %forged);
        });
        let lines: Vec<&str> = text.strip_suffix('\n').unwrap().split('\n').collect();
        let [first, second] = lines.as_slice() else {
            unreachable!("{} lines: {text:?}", lines.len())
        };
        let obeyed = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!first.contains(obeyed) && !second.contains(obeyed), "{text:?}");
        let said = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        let mut first = said(first);
        let time = first.as_object_mut().unwrap().remove("time").unwrap();
        assert!(time.as_str().is_some_and(|time| time.ends_with('Z')), "{time}");
        let expected = json!({
            "level": "info",
            "target": "ambit_runtime",
            "message": format!("a guest said: {forged}"),
            "fields": {
                "line": forged, "shown": format!("{forged:?}"), "count": 3, "less": -3, "part": 0.5, "whole": true,
            },
        });
        assert_eq!(first, expected);
        let second = said(second);
        assert_eq!((&second["level"], &second["message"]), (&json!("warn"), &Value::Null));
        assert_eq!(second["fields"], json!({ "said": forged }));
    }
}
