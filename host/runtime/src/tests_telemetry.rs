//! Traces to services, and what a collector is told, in whole calls.

use std::collections::{BTreeSet, VecDeque};

use ambit_core::metrics::names;
use ambit_core::telemetry::Signal;
use ambit_core::trace::{Arrival, Parent, ParentSpan, Protocol, SpanId};
use serde_json::Value;

use super::credentials::{Asked, http, take};
use super::holds::{TWO, approve, held, reviewed};
use super::recovery::replays;
use super::*;
use crate::call::Coming;
use crate::telemetry::Teller;

/// A service that keeps what it is asked, and answers as it was told to, or well.
struct Book {
    service: Service,
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Arc<Mutex<VecDeque<String>>>,
}

impl Book {
    fn start() -> Self {
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let script = Arc::<Mutex<VecDeque<String>>>::default();
        let (seen, says) = (Arc::clone(&asked), Arc::clone(&script));
        let service = Service::that(move |mut stream, count| {
            let Some(asked) = take(&mut stream) else { return };
            count.fetch_add(1, Ordering::SeqCst);
            seen.lock().push(asked);
            let answer = says.lock().pop_front();
            let answer = answer.unwrap_or_else(|| http("200 OK", "", r#"{"id":"x"}"#));
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
        });
        Self { service, asked, script }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    fn will(&self, times: usize, status: &str) {
        let mut script = self.script.lock();
        (0..times).for_each(|_| script.push_back(http(status, "", "{}")));
    }

    /// What was told of a signal, in order, each as the request's own items.
    fn told(&self, signal: Signal) -> Vec<Value> {
        let (of, scopes, items) = match signal {
            Signal::Traces => ("resourceSpans", "scopeSpans", "spans"),
            Signal::Logs => ("resourceLogs", "scopeLogs", "logRecords"),
            Signal::Metrics => ("resourceMetrics", "scopeMetrics", "metrics"),
        };
        let line = format!("POST /collect{} HTTP/1.1", signal.path());
        let told = self.asked().into_iter().filter(|asked| asked.line() == line);
        told.flat_map(|asked| {
            let request: Value = serde_json::from_str(&asked.body).unwrap();
            request[of][0][scopes][0][items].as_array().unwrap().clone()
        })
        .collect()
    }

    /// The indices of the entries that log records were told of, in order.
    fn entries(&self) -> Vec<u64> {
        let told = self.told(Signal::Logs);
        let index = |record: &Value| attribute(record, "ambit.entry.index").unwrap().parse().unwrap();
        told.iter().map(index).collect()
    }
}

fn attribute(of: &Value, name: &str) -> Option<String> {
    let all = of["attributes"].as_array()?;
    let found = all.iter().find(|one| one["key"] == name)?;
    let value = found["value"].as_object()?.values().next()?;
    value.as_str().map(str::to_owned)
}

fn collected(book: &Book, more: &str) -> String {
    let port = book.service.port;
    format!("[telemetry]\nendpoint = \"http://127.0.0.1:{port}/collect\"\ninterval = \"1h\"\n{more}")
}

/// The service of things learns of traces, and is asked again where it is not there.
fn traced(folder: &Path) {
    let file = folder.join("ambit.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("allow_private = true\n", "allow_private = true\ntrace = true\n");
    let get = "match = \"GET /things/{id}\"\n";
    let again = format!("{get}retries = {{ most = 2, backoff = \"1ms\" }}\n");
    std::fs::write(&file, text.replace(get, &again)).unwrap();
}

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

fn from_a_caller(function: &str) -> (CallRequest, Coming) {
    let parent = Parent::parse(CALLER).unwrap();
    let request = CallRequest {
        trace: Some(parent.trace.parse().unwrap()),
        ..request(function)
    };
    let arrival = Arrival {
        parent: Some(parent.span),
        protocol: Some(Protocol::Mcp),
    };
    let coming = Coming {
        arrival: Some(arrival),
        ..Coming::default()
    };
    (request, coming)
}

#[test]
fn a_service_learns_of_a_trace_where_its_connection_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::start();
    home(folder.path(), &book.service, "");
    let host = open(folder.path()).unwrap();
    let (asked, coming) = from_a_caller("twice");
    host.call_coming(asked, coming).unwrap();
    assert_eq!(book.asked().len(), 2);
    for asked in book.asked() {
        assert_eq!(asked.header("traceparent"), None, "{asked:?}");
    }
    drop(host);

    traced(folder.path());
    let host = open(folder.path()).unwrap();
    book.will(1, "503 Service Unavailable");
    let (asked, coming) = from_a_caller("twice");
    let answer = host.call_coming(asked, coming).unwrap();
    let call = answer.call.as_str();
    let first = SpanId::of_sending(call, 1, 1);
    let spans = [first, SpanId::of_sending(call, 1, 2), SpanId::of_sending(call, 2, 1)];
    let told: Vec<Parent> = book.asked()[2..]
        .iter()
        .map(|asked| Parent::parse(asked.header("traceparent").unwrap()).unwrap())
        .collect();
    let trace = Parent::parse(CALLER).unwrap().trace;
    let expected = spans.map(|span| Parent {
        trace: trace.clone(),
        span: ParentSpan { sampled: true, span },
    });
    assert_eq!(told, expected);
    for asked in book.asked() {
        assert_eq!(asked.header("tracestate"), None);
    }
    // It is no part of what was checked and is recorded, and a replay needs none.
    let story = host.reader().unwrap().story(call).unwrap();
    assert_eq!(
        story.arrival().unwrap().parent,
        Some(Parent::parse(CALLER).unwrap().span)
    );
    replays(folder.path(), call);
    // Who does not record a trace is not recorded for.
    let answer = host.call(request("get")).unwrap();
    let asked = book.asked();
    let last = Parent::parse(asked.last().unwrap().header("traceparent").unwrap()).unwrap();
    assert_eq!((last.trace.as_str(), last.span.sampled), (answer.trace.as_str(), false));
}

#[test]
fn a_collector_is_told_of_calls_once_and_of_no_value() {
    let folder = tempfile::tempdir().unwrap();
    let (book, collector) = (Book::start(), Book::start());
    let more = "headers = { \"X-Scope\" = \"acme\" }\ncredential = { file = \"token\", as = \"bearer\" }\n";
    home(folder.path(), &book.service, &collected(&collector, more));
    let token = folder.path().join("token");
    std::fs::write(&token, "the-collectors-own-token").unwrap();
    private(&token);
    traced(folder.path());
    let host = open(folder.path()).unwrap();
    let began = host.reader().unwrap().size().unwrap();
    let telling = host.tell_collector().unwrap();
    book.will(1, "503 Service Unavailable");
    let (asked, coming) = from_a_caller("get");
    let answer = host.call_coming(asked, coming).unwrap();
    // The end of a process tells the rest.
    drop(telling);
    let size = host.reader().unwrap().size().unwrap();
    assert_eq!(collector.entries(), (began..size).collect::<Vec<_>>());
    for asked in collector.asked() {
        assert_eq!(asked.header("authorization"), Some("Bearer the-collectors-own-token"));
        assert_eq!(asked.header("x-scope"), Some("acme"));
        assert_eq!(asked.header("content-type"), Some("application/json"));
        assert!(!asked.body.contains("/things/1") && !asked.body.contains("the-collectors-own-token"));
    }

    // Spans are those that the service was told of, within the call's, within the caller's.
    let call = answer.call.as_str();
    let spans = collector.told(Signal::Traces);
    let told: Vec<String> = book
        .asked()
        .iter()
        .map(|asked| asked.header("traceparent").unwrap().to_owned())
        .collect();
    let ids: Vec<&str> = spans.iter().map(|span| span["spanId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    for (id, told) in ids.iter().zip(&told) {
        assert_eq!(Parent::parse(told).unwrap().span.span.to_string(), **id);
    }
    assert_eq!(ids[2], SpanId::of_call(call).to_string());
    assert_eq!(spans[0]["parentSpanId"], ids[2]);
    assert_eq!(
        spans[2]["parentSpanId"],
        Parent::parse(CALLER).unwrap().span.span.to_string()
    );
    assert_eq!(spans[2]["name"], "tools/call things/get");
    assert!(spans.iter().all(|span| span["traceId"] == answer.trace.as_str()));

    let metrics = collector.told(Signal::Metrics);
    let calls = metrics
        .iter()
        .find(|metric| metric["name"] == "ambit_calls_total")
        .unwrap();
    assert_eq!(calls["sum"]["dataPoints"][0]["asInt"], "1");
    drop(host);

    // What happens while nobody tells is told by the next process, and nothing twice.
    let host = open(folder.path()).unwrap();
    host.call(request("get")).unwrap();
    drop(host.tell_collector().unwrap());
    let size = host.reader().unwrap().size().unwrap();
    assert_eq!(collector.entries(), (began..size).collect::<Vec<_>>());
    assert_eq!(collector.told(Signal::Traces).len(), 5);
}

/// A file that its owner alone reads.
fn private(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A collector that is told of calls and entries and of no metrics, and the host that tells it.
fn without_metrics(folder: &Path) -> (Book, Host) {
    let (book, collector) = (Book::start(), Book::start());
    home(folder, &book.service, &collected(&collector, "metrics = false\n"));
    (collector, open(folder).unwrap())
}

#[test]
fn a_collector_that_takes_nothing_costs_no_call_and_gets_it_later() {
    let folder = tempfile::tempdir().unwrap();
    let (book, collector) = (Book::start(), Book::start());
    let often = collected(&collector, "metrics = false\n").replace("1h", "10s");
    home(folder.path(), &book.service, &often);
    let host = open(folder.path()).unwrap();
    let began = host.reader().unwrap().size().unwrap();
    let mut teller = Teller::new(&host).unwrap();
    host.call(request("get")).unwrap();
    assert_eq!(teller.wait().as_secs(), 10);
    collector.will(1, "503 Service Unavailable");
    teller.round(&host);
    assert_eq!(collector.asked().len(), 1);
    assert_eq!(teller.wait().as_secs(), 20);
    host.call(request("get")).unwrap();
    // The same once more, and then what came since.
    teller.round(&host);
    let size = host.reader().unwrap().size().unwrap();
    assert_eq!(collector.entries(), (began..size).collect::<Vec<_>>());
    let items = |signal: Signal, outcome| {
        host.metrics()
            .unwrap()
            .count(&names::TELEMETRY, &[signal.as_str(), outcome])
    };
    assert_eq!(items(Signal::Logs, "taken"), size - began);
    assert!(collector.told(Signal::Metrics).is_empty());

    // What it will never take is left out, and counted.
    host.call(request("get")).unwrap();
    collector.will(2, "400 Bad Request");
    teller.round(&host);
    let now = host.reader().unwrap().size().unwrap();
    assert_eq!(items(Signal::Logs, "refused"), now - size);
    teller.round(&host);
    assert_eq!(items(Signal::Logs, "taken"), size - began);

    // It is asked ever more seldom, and every five minutes at least.
    host.call(request("get")).unwrap();
    let waits = |teller: &mut Teller| {
        collector.will(1, "503 Service Unavailable");
        teller.round(&host);
        teller.wait().as_secs()
    };
    let waits: Vec<u64> = (0..7).map(|_| waits(&mut teller)).collect();
    assert_eq!(waits, [20, 40, 80, 160, 300, 300, 300]);
    teller.round(&host);
    assert_eq!(teller.wait().as_secs(), 10);
}

/// Of a call's span, how often an event of this name is in it.
fn events(collector: &Book, call: &Answer, name: &str) -> usize {
    let spans = collector.told(Signal::Traces);
    let mut of_call = spans
        .iter()
        .filter(|span| span["spanId"] == SpanId::of_call(call.call.as_str()).to_string());
    let (span, more) = (of_call.next().unwrap(), of_call.next());
    assert_eq!(more, None, "it is told once");
    let all = span["events"].as_array().unwrap();
    all.iter().filter(|event| event["name"] == name).count()
}

/// An event of a person's word.
const VOTED: &str = "ambit.hold-voted";

#[test]
fn what_could_not_be_read_is_in_no_span_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (book, collector) = (Book::start(), Book::start());
    let host = reviewed(
        folder.path(),
        &book.service,
        TWO,
        &collected(&collector, "metrics = false\n"),
    );
    // Of this one the beginning is read when it goes on.
    let before = host.call(request("post")).unwrap();
    let mut teller = Teller::new(&host).unwrap();
    let answer = host.call(request("post")).unwrap();
    teller.round(&host);
    approve(&host, &held(&answer), "rita").unwrap();
    approve(&host, &held(&before), "rita").unwrap();
    let database = rusqlite::Connection::open(folder.path().join("ledger.db")).unwrap();
    let first = "SELECT min(idx) FROM entries WHERE call = ?1";
    let first: i64 = database
        .query_row(first, [before.call.as_str()], |row| row.get(0))
        .unwrap();
    let bytes = "SELECT bytes FROM entries WHERE idx = ?1";
    let bytes: Vec<u8> = database.query_row(bytes, [first], |row| row.get(0)).unwrap();
    let put = |bytes: &[u8]| {
        let sql = "UPDATE entries SET bytes = ?1 WHERE idx = ?2";
        assert_eq!(database.execute(sql, (bytes, first)).unwrap(), 1);
    };
    put(b"{");
    teller.round(&host);
    put(&bytes);
    teller.round(&host);
    approve(&host, &held(&answer), "sam").unwrap();
    host.resume(answer.call.as_str(), None).unwrap();
    teller.round(&host);
    assert_eq!(events(&collector, &answer, VOTED), 2);
}

#[test]
fn what_happened_while_nobody_was_told_is_in_the_span_that_is_told_later() {
    for (without, with) in [("traces = false", "traces = true"), ("[telemtry]", "[telemetry]")] {
        let folder = tempfile::tempdir().unwrap();
        let (book, collector) = (Book::start(), Book::start());
        let telemetry = collected(&collector, "metrics = false\ntraces = true\n");
        let host = reviewed(folder.path(), &book.service, TWO, &telemetry);
        let file = folder.path().join("ambit.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let taken_anew = |text: &str| {
            std::fs::write(&file, text).unwrap();
            host.reload(ambit_core::ledger::body::ReloadedBy::Signal).unwrap();
            host.current()
        };
        let mut teller = Teller::new(&host).unwrap();
        let answer = host.call(request("post")).unwrap();
        teller.round(&host);
        let without = match without {
            "[telemtry]" => text.split(with).next().unwrap().to_owned(),
            other => text.replace(with, other),
        };
        let now = taken_anew(&without);
        approve(&now, &held(&answer), "rita").unwrap();
        teller.round(&now);
        let now = taken_anew(&text);
        approve(&now, &held(&answer), "sam").unwrap();
        now.resume(answer.call.as_str(), None).unwrap();
        teller.round(&now);
        assert_eq!(events(&collector, &answer, VOTED), 2, "{with}");
    }
}

#[test]
fn who_is_too_far_behind_leaves_the_oldest_out() {
    let folder = tempfile::tempdir().unwrap();
    let (collector, host) = without_metrics(folder.path());
    let mut teller = Teller::new(&host).unwrap();
    let began = host.reader().unwrap().size().unwrap();
    while host.reader().unwrap().size().unwrap() < began + 260 {
        host.call(request("get")).unwrap();
    }
    teller.round(&host);
    let size = host.reader().unwrap().size().unwrap();
    assert_eq!(collector.entries(), (size - 200..size).collect::<Vec<_>>());
    let dropped = host.metrics().unwrap().count(&names::TELEMETRY, &["logs", "dropped"]);
    assert_eq!(dropped, size - 200 - began);
    // Calls of which the beginning is left out have their spans all the same: it is read again.
    let calls: BTreeSet<String> = collector
        .told(Signal::Traces)
        .iter()
        .filter(|span| span["name"] == "execute_tool things/get")
        .filter_map(|span| attribute(span, "ambit.call.id"))
        .collect();
    assert!(calls.len() >= 40, "{}", calls.len());
}

#[test]
fn a_collector_is_another_one_once_the_files_are_taken_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (book, first, second) = (Book::start(), Book::start(), Book::start());
    home(folder.path(), &book.service, &collected(&first, ""));
    let host = open(folder.path()).unwrap();
    let mut teller = Teller::new(&host).unwrap();
    let file = folder.path().join("ambit.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (from, to) = (first.service.port.to_string(), second.service.port.to_string());
    std::fs::write(&file, text.replace(&from, &to)).unwrap();
    host.reload(ambit_core::ledger::body::ReloadedBy::Signal).unwrap();
    teller.round(&host.current());
    assert!(first.asked().is_empty());
    assert!(!second.told(Signal::Logs).is_empty());
}

#[test]
fn a_collector_without_its_secret_is_told_before_anybody_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let (book, collector) = (Book::start(), Book::start());
    let more = "credential = { file = \"no-such-token\", as = \"bearer\" }\n";
    home(folder.path(), &book.service, &collected(&collector, more));
    let host = open(folder.path()).unwrap();
    // What is not served calls as ever.
    host.call(request("get")).unwrap();
    let Err(OpenError::Problems(problems)) = host.tell_collector().map(drop) else {
        panic!("it has no token")
    };
    assert!(problems[0].message().contains("telemetry"), "{problems:?}");
}
