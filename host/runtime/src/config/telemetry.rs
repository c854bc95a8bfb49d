//! `[telemetry]`: a collector that is told what happens, over OTLP.

use std::path::Path;
use std::time::Duration;

use ambit_core::digest::Digest;
use ambit_core::effect::{Origin, Scheme};
use ambit_core::error::printable;
use ambit_core::guard;
use ambit_core::route::duration;
use ambit_core::telemetry::Signal;
use http::{HeaderName, HeaderValue};

use super::connection::{BaseText, To, Way, way_to};
use super::reader::Table;
use crate::gate::{Collector, check_base, is_framing, is_hosts_own, split_url};
use crate::secret::Ambient;

/// How often a collector is told, in seconds.
const INTERVAL_S: u64 = 10;
/// The longest time between.
const MOST_INTERVAL_S: u64 = 3_600;

/// Where telemetry goes, and what of it.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// Whether spans are told.
    pub traces: bool,
    /// Whether metrics are told.
    pub metrics: bool,
    /// Whether entries are told as log records.
    pub logs: bool,
    /// How often: every ten seconds, unless named.
    pub interval: Duration,
    /// Headers without a secret.
    headers: Vec<(String, String)>,
    way: Way,
}

impl TelemetryConfig {
    /// Whether a signal is told.
    #[must_use]
    pub const fn tells(&self, signal: Signal) -> bool {
        match signal {
            Signal::Traces => self.traces,
            Signal::Logs => self.logs,
            Signal::Metrics => self.metrics,
        }
    }

    /// Of the file with the authorities, where it names one.
    pub(super) const fn file(&self) -> Option<Digest> {
        self.way.ca_digest
    }

    /// Reads the secrets and makes the way usable.
    ///
    /// # Errors
    /// What is wrong and where the configuration speaks of it; never a secret.
    pub(super) fn open(&self, ambient: &dyn Ambient) -> Result<Collector, (std::ops::Range<usize>, String)> {
        let up = self.way.open(ambient)?;
        Collector::new(up, self.headers.clone()).map_err(|why| (0..0, format!("the collector cannot be told: {why}")))
    }
}

/// Reads the section; none where nothing is told.
pub(super) fn telemetry(root: &Table<'_>, home: &Path, ambient: &dyn Ambient) -> Option<TelemetryConfig> {
    let table = root.table("telemetry", "the telemetry")?;
    let help = "say where a collector takes OTLP over HTTP: endpoint = \"http://127.0.0.1:4318\"";
    table.missing("endpoint", help);
    let endpoint = endpoint(&table);
    let near = endpoint.as_ref().is_some_and(|(origin, _)| is_this_machine(origin));
    let (origin, base) = endpoint.unzip();
    let to = To {
        origin,
        base: BaseText::Plain(base.unwrap_or_default()),
        // The operator named this machine itself, and nobody else has a say in where it goes.
        allow_private: table.bool("allow_private").unwrap_or(near),
        key: "endpoint",
    };
    let way = way_to("telemetry", to, &table, home, ambient);
    if let Some(way) = &way
        && !guard!("telemetry.credential", !way.takes_scopes())
    {
        let message = "the credential of the telemetry is a token that is asked for on behalf of a caller";
        let help =
            "a collector is told by the host itself: name a secret that stays the same, or a signature".to_owned();
        table
            .source()
            .problem(table.key_span("credential"), message, "for no caller", Some(help));
    }
    let on = |key: &str| table.bool(key).unwrap_or(true);
    let (traces, metrics, logs) = (on("traces"), on("metrics"), on("logs"));
    let interval = interval(&table);
    let headers = headers(&table, way.as_ref());
    table.done();
    Some(TelemetryConfig {
        traces,
        metrics,
        logs,
        interval,
        headers,
        way: way?,
    })
}

/// Whom a collector is, and the path before those of the signals.
fn endpoint(table: &Table<'_>) -> Option<(Origin, String)> {
    let text = table.string("endpoint")?;
    let read = split_url(&text.value).and_then(|(origin, path)| {
        let base = path.trim_end_matches('/').to_owned();
        match check_base(&base) {
            _ if path.contains('?') => Err("has a query".to_owned()),
            Ok(()) => Ok((origin, base)),
            Err(why) => Err(format!("has a path that {why}")),
        }
    });
    read.map_err(|why| {
        let message = format!("`endpoint` of {} is no address of a collector", table.what());
        let help = "as in \"https://otlp.example.com\"; /v1/traces, /v1/metrics and /v1/logs are below it".to_owned();
        table.source().problem(text.span, message, &why, Some(help));
    })
    .ok()
}

/// Whether an address is this machine by what is written there: no name has to be looked up for that.
fn is_this_machine(origin: &Origin) -> bool {
    let host = origin.host();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<std::net::IpAddr>();
    origin.scheme() == Scheme::Http && (host == "localhost" || address.is_ok_and(|address| address.is_loopback()))
}

fn interval(table: &Table<'_>) -> Duration {
    let usual = Duration::from_secs(INTERVAL_S);
    let Some(text) = table.string("interval") else {
        return usual;
    };
    let why = match duration(&text.value) {
        Ok(seconds) if seconds <= MOST_INTERVAL_S => return Duration::from_secs(seconds),
        Ok(_) => "at most an hour".to_owned(),
        Err(why) => why,
    };
    let message = format!("`interval` of {} is not a time that it can have", table.what());
    table.source().problem(text.span, message, &why, None);
    usual
}

/// Headers that a collector wants and that are no secret: what it calls whose telemetry this is.
fn headers(table: &Table<'_>, way: Option<&Way>) -> Vec<(String, String)> {
    let Some(said) = table.value("headers") else {
        return Vec::new();
    };
    let Some(inner) = table.table("headers", format!("the headers of {}", table.what())) else {
        table.source().cover(said.span());
        return Vec::new();
    };
    let mut headers = Vec::new();
    for (name, (place, value)) in inner.all_strings() {
        let hosts = is_framing(&name) || is_hosts_own(&name) || way.is_some_and(|way| way.sets_header(&name));
        let why = if HeaderName::from_bytes(name.as_bytes()).is_err() {
            "is no name of a header"
        } else if hosts {
            "is the host's to set; a secret is a `credential`"
        } else if HeaderValue::from_str(&value.value).is_err() || !value.value.is_ascii() {
            "has a value that cannot stand in a header"
        } else {
            headers.push((name.to_ascii_lowercase(), value.value));
            continue;
        };
        // What is refused here is a secret mostly.
        inner.source().cover(value.span);
        let message = format!("`{}` of {} {why}", printable(&name), inner.what());
        inner.source().problem(place, message, "this header", None);
    }
    headers
}
