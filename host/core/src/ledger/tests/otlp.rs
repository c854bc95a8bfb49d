//! Entries as OpenTelemetry has them. Peers read the same with the official definitions.

use serde_json::{Value, json};

use super::read_on::every_kind;
use super::*;
use crate::metrics::names::{CALL_SECONDS, CALLS, STOPS};
use crate::metrics::{Metrics, Samples};
use crate::telemetry::{self, Signal, Source, Span, Spans};
use crate::trace::SpanId;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The value of an attribute, whatever it is.
fn attribute<'v>(of: &'v Value, name: &str) -> &'v Value {
    let all = of["attributes"].as_array().unwrap();
    let mut found = all.iter().filter(|one| one["key"] == name);
    let value = found.next().map_or(&Value::Null, |one| &one["value"]);
    assert!(found.next().is_none(), "{name} is there twice: {of:#}");
    value.as_object().map_or(value, |one| one.values().next().unwrap())
}

/// All the spans of entries that are read from one on, each call of which nothing is known being taken in again.
fn spans_from(log: &[Entry], from: usize) -> Vec<Value> {
    let mut spans = Spans::default();
    let mut all = Vec::new();
    for entry in &log[from..] {
        if let Some(call) = spans.unknown(entry) {
            let before = log
                .iter()
                .filter(|e| e.call() == Some(call) && e.index() < entry.index());
            before.for_each(|entry| drop(spans.take(entry)));
        }
        all.extend(spans.take(entry).iter().map(Span::to_otlp));
    }
    all
}

#[test]
fn a_call_is_a_span_and_so_is_each_sending() {
    let mut log = Log::new();
    log.push(of_call('a', accepted()));
    log.push(of_call('a', held(1)));
    log.push(of_call('a', passed(1)));
    log.push(of_call('a', retried(1, 2)));
    log.push(of_call('a', after(1, 2)));
    log.push(of_call('a', finished(&[(1, 5000)])));
    let all = spans_from(&log.entries, 0);
    let [first, second, call] = &all[..] else {
        panic!("{all:#?}")
    };
    let (id, of_call) = (call_id('a'), SpanId::of_call(&call_id('a')).to_string());
    for (sending, attempt) in [(first, 1), (second, 2)] {
        assert_eq!(sending["traceId"], TRACE);
        assert_eq!(sending["spanId"], SpanId::of_sending(&id, 1, attempt).to_string());
        assert_eq!(sending["parentSpanId"], of_call);
        assert_eq!(sending["kind"], 3);
        assert_eq!(sending["name"], "stripe/refunds.create");
        assert_eq!(attribute(sending, "ambit.tier"), "commit");
    }
    // The first was answered with 503, the second with 200.
    assert_eq!(attribute(first, "http.response.status_code"), "503");
    assert_eq!(attribute(first, "error.type"), "503");
    assert_eq!(first["status"], json!({ "code": 2 }));
    assert_eq!(attribute(first, "http.request.resend_count"), &Value::Null);
    assert_eq!(first["endTimeUnixNano"], second["startTimeUnixNano"]);
    assert_eq!(attribute(second, "http.response.status_code"), "200");
    assert_eq!(attribute(second, "http.request.resend_count"), "1");
    assert_eq!(second["status"], json!({}));

    assert_eq!(call["spanId"], of_call);
    assert_eq!(call["parentSpanId"], SpanId::of_call("the caller's").to_string());
    assert_eq!(call["flags"], 0x301);
    assert_eq!(call["kind"], 2);
    assert_eq!(call["name"], "tools/call refunds/refunds.create");
    for (name, value) in [
        ("gen_ai.operation.name", "execute_tool"),
        ("gen_ai.tool.name", "refunds/refunds.create"),
        ("gen_ai.agent.name", "support-bot"),
        ("mcp.method.name", "tools/call"),
        ("enduser.id", "alice"),
        ("ambit.call.id", id.as_str()),
        ("ambit.outcome", "ok"),
    ] {
        assert_eq!(attribute(call, name), value, "{name}");
    }
    let (start, end) = (log.entries[1].time_ms(), log.entries[6].time_ms());
    assert_eq!(call["startTimeUnixNano"], format!("{start}000000"));
    assert_eq!(call["endTimeUnixNano"], format!("{end}000000"));
    assert_eq!(call["events"][0]["name"], "ambit.effect-held");
    assert_eq!(attribute(&call["events"][0], "ambit.decision"), "held");
}

#[test]
fn a_call_that_was_denied_is_over_at_once() {
    let mut log = Log::new();
    log.push(of_call('d', denied()));
    let all = spans_from(&log.entries, 0);
    assert_eq!(all.len(), 1);
    // It came over the HTTP API: no method of MCP's.
    assert_eq!(all[0]["name"], "execute_tool refunds/refunds.create");
    assert_eq!(attribute(&all[0], "mcp.method.name"), &Value::Null);
    assert_eq!(attribute(&all[0], "error.type"), "policy");
    assert_eq!(all[0]["startTimeUnixNano"], all[0]["endTimeUnixNano"]);
}

#[test]
fn reading_on_from_anywhere_tells_the_same_spans() {
    let entries: Vec<Entry> = Log::of_everything().entries;
    let whole = spans_from(&entries, 0);
    assert!(whole.len() >= 5, "{whole:#?}");
    for from in 0..entries.len() {
        let rest = spans_from(&entries, from);
        assert!(whole.ends_with(&rest), "from {from}");
    }
}

#[test]
fn a_call_tells_so_many_events_and_counts_the_others() {
    let mut log = Log::new();
    log.push(of_call('a', accepted()));
    (0..200).for_each(|ordinal| log.push(of_call('a', refused(ordinal))));
    log.push(of_call('a', finished(&[])));
    let all = spans_from(&log.entries, 0);
    assert_eq!(all[0]["events"].as_array().unwrap().len(), 128);
    assert_eq!(all[0]["droppedEventsCount"], 200 - 128);
}

#[test]
fn every_entry_is_a_log_record() {
    let mut calls = Contexts::default();
    for entry in every_kind() {
        calls.take(&entry);
        let record = telemetry::log(&entry, &calls);
        assert_eq!(record["eventName"], format!("ambit.{}", entry.kind()));
        assert_eq!(record["timeUnixNano"], format!("{}000000", entry.time_ms()));
        assert_eq!(
            attribute(&record, "ambit.entry.index"),
            &json!(entry.index().to_string())
        );
        assert_eq!(record.get("traceId").is_some(), entry.call().is_some());
        assert!(
            record["severityNumber"]
                .as_u64()
                .is_some_and(|number| (9..=17).contains(&number))
        );
        // Names and words of this host: no commitment, signature or text that an entry holds.
        let text = record.to_string();
        for never in [
            "\"vote\"",
            "signature",
            &digest("args").to_string(),
            &digest("request").to_string(),
        ] {
            assert!(!text.contains(never), "{never}: {record:#}");
        }
    }
}

#[test]
fn requests_are_of_one_home() {
    let source = Source {
        origin: NAME.to_owned(),
        version: "0.1.0".to_owned(),
    };
    for signal in Signal::ALL {
        let request = source.request(signal, vec![json!({ "one": 1 })]);
        let (of, resources) = request.as_object().unwrap().iter().next().unwrap();
        let word = match signal {
            Signal::Traces => ("resourceSpans", "scopeSpans", "spans"),
            Signal::Logs => ("resourceLogs", "scopeLogs", "logRecords"),
            Signal::Metrics => ("resourceMetrics", "scopeMetrics", "metrics"),
        };
        assert_eq!(of, word.0);
        assert_eq!(resources[0][word.1][0][word.2], json!([{ "one": 1 }]));
        assert_eq!(attribute(&resources[0]["resource"], "service.instance.id"), NAME);
    }
}

#[test]
fn metrics_are_what_was_counted() {
    let mut samples = Samples::default();
    samples.add(&CALLS, &["refunds", "create", "ok"], 3);
    samples.set(&STOPS, &["kill"], 2.0);
    samples.observe(&CALL_SECONDS, &["refunds"], 0.02);
    samples.observe(&CALL_SECONDS, &["refunds"], 99.0);
    let told = telemetry::metrics(&samples, 1_000, 2_000);
    let of = |name: &str| told.iter().find(|metric| metric["name"] == name).unwrap();

    let calls = of("ambit_calls_total");
    assert_eq!(calls["sum"]["isMonotonic"], true);
    assert_eq!(calls["sum"]["aggregationTemporality"], 2);
    let point = &calls["sum"]["dataPoints"][0];
    assert_eq!(point["asInt"], "3");
    assert_eq!(point["startTimeUnixNano"], "1000000000");
    assert_eq!(point["timeUnixNano"], "2000000000");
    assert_eq!(attribute(point, "tool"), "refunds");

    assert_eq!(of("ambit_stops_in_force")["gauge"]["dataPoints"][0]["asDouble"], 2.0);

    let spread = &of("ambit_call_duration_seconds")["histogram"]["dataPoints"][0];
    assert_eq!(of("ambit_call_duration_seconds")["unit"], "s");
    let (bounds, counts) = (&spread["explicitBounds"], spread["bucketCounts"].as_array().unwrap());
    assert_eq!(counts.len(), bounds.as_array().unwrap().len() + 1);
    assert_eq!((&counts[2], counts.last().unwrap()), (&json!("1"), &json!("1")));
    assert_eq!((&spread["count"], &spread["sum"]), (&json!("2"), &json!(99.02)));

    // Whatever is counted of a whole ledger is told, and nothing else.
    let mut metrics = Metrics::default();
    every_kind().iter().for_each(|entry| metrics.note(entry));
    let told = telemetry::metrics(metrics.samples(), 0, 1);
    assert!(
        told.len() > 20
            && told
                .iter()
                .all(|metric| metric["name"].as_str().unwrap().starts_with("ambit_"))
    );
}
