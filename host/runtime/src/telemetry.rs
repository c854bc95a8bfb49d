//! Telling a collector what happens, over OTLP: spans and log records of the ledger's entries, and what they come to as metrics.
//!
//! The ledger is the queue. A thread of its own reads on from where it was, a page at a time, and remembers in a file of the home how far a
//! collector has everything; what was written while nobody told is told later, also by the next process. So nothing of a call waits for a
//! collector, and one that is down costs neither memory nor calls. Who falls too far behind leaves the oldest out, and counts it. A page
//! that was told in part is told again: each record has its entry's index.

use std::collections::VecDeque;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use ambit_core::error::Problem;
use ambit_core::guard;
use ambit_core::ledger::{Body, Contexts, Entry};
use ambit_core::metrics::names;
use ambit_core::telemetry::{self, Signal, Source, Span, Spans};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::now_ms;
use crate::config::Config;
use crate::gate::{Bounds, Collector, SendError, Sent};
use crate::host::{Host, Live, OpenError, Shared};
use crate::secret::Process;
use crate::store::{Reader, StoreError};

/// How far a collector has everything, in the home.
const CURSOR: &str = "telemetry.json";
/// How often a host that tells nobody looks whether it is to.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How much longer it waits at most while a collector takes nothing.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How long a process that ends waits for the last of it.
const LAST: Duration = Duration::from_secs(3);
/// What one request may take, and how much of its answer is read.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(10),
    answer_bytes: 64 << 10,
};
/// Most entries of a page.
const PAGE: usize = 256;
/// Bytes of a page's items from which on it takes no more: a collector takes some megabytes usually.
const PAGE_BYTES: usize = 1 << 20;
/// Most entries that are still to be told.
const MOST_BEHIND: u64 = if cfg!(test) { 200 } else { 100_000 };

/// That a collector is told. With its end the last is told, as far as that goes quickly.
#[derive(Debug)]
pub struct Telling {
    /// Says to end by being gone.
    ends: Option<mpsc::Sender<()>>,
    over: mpsc::Receiver<()>,
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.ends.take();
        // Whatever is left then is told by the next process.
        let _ = self.over.recv_timeout(LAST);
    }
}

impl Host {
    /// Begins to tell the collector of the configuration what happens; whichever is configured later too. Called by whoever serves.
    ///
    /// # Errors
    /// Where the collector's secret cannot be had, the ledger not be read, or there is no thread for it.
    pub fn tell_collector(&self) -> Result<Telling, OpenError> {
        let mut teller = Teller::new(self)?;
        let (ends, ended) = mpsc::channel::<()>();
        let (says, over) = mpsc::channel::<()>();
        let tell = move || {
            let _over = says;
            let mut wait = teller.wait();
            loop {
                let last = !matches!(ended.recv_timeout(wait), Err(RecvTimeoutError::Timeout));
                let Some(host) = teller.host() else { return };
                teller.round(&host);
                wait = teller.wait();
                if last {
                    return;
                }
            }
        };
        // A thread of its own: what it drops last may be the runtime, which none of the runtime's own threads can.
        let begun = thread::Builder::new().name("ambit-telemetry".to_owned()).spawn(tell);
        begun.map_err(|error| OpenError::Home(format!("no thread for telemetry: {error}")))?;
        Ok(Telling { ends: Some(ends), over })
    }
}

/// How far a collector has everything.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    /// The ledger's name.
    ledger: String,
    /// The index of the first entry that it does not have.
    next: u64,
}

/// What tells a collector.
pub(crate) struct Teller {
    live: Weak<Live>,
    shared: Weak<Shared>,
    /// The reading that the collector is of.
    reading: Weak<Shared>,
    collector: Option<Collector>,
    source: Source,
    file: PathBuf,
    spans: Spans,
    calls: Contexts,
    /// The first entry that is in no page yet.
    next: u64,
    page: VecDeque<Request>,
    /// How often in a row nothing was taken.
    failures: u32,
    interval: Duration,
}

/// What is told at once.
struct Request {
    signal: Signal,
    items: u64,
    json: String,
}

/// What a collector made of it.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// It has all of it but so many.
    But(u64),
    /// It takes none of it, and never will.
    Refused(String),
    /// It may take it later.
    Later(String),
}

impl Teller {
    /// That tells of what is written from here on, or from where the last process ended.
    pub(crate) fn new(host: &Host) -> Result<Teller, OpenError> {
        let reader = host.reader()?;
        let origin = reader.origin()?;
        let file = host.config().home().join(CURSOR);
        let Begin { next, lost } = begin(&file, &origin, reader.size()?);
        let mut teller = Teller {
            live: Arc::downgrade(&host.live),
            shared: Arc::downgrade(&host.shared),
            reading: Weak::new(),
            collector: None,
            source: Source {
                origin,
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            file,
            spans: Spans::default(),
            calls: Contexts::default(),
            next,
            page: VecDeque::new(),
            failures: 0,
            interval: LOOK_AGAIN,
        };
        // A host that cannot tell as it is configured to says so before it serves.
        teller.follow(&host.current())?;
        if lost && teller.collector.is_some() {
            host.shared.store.meter().add(&names::TELEMETRY_LOST, &[], 1);
            // Or it is lost once more by the next process.
            teller.keep();
        }
        Ok(teller)
    }

    /// The host as it was read last; none once it is gone.
    fn host(&self) -> Option<Host> {
        let began = Host {
            operators: None,
            live: self.live.upgrade()?,
            shared: self.shared.upgrade()?,
        };
        Some(began.current())
    }

    /// How long to wait before the next round: longer while nothing is taken.
    pub(crate) fn wait(&self) -> Duration {
        let longer = self.interval.saturating_mul(1 << self.failures.min(5));
        longer.min(LONGEST_WAIT.max(self.interval))
    }

    /// Has the collector of this reading. Where it cannot be had, it is looked for again with the next round.
    fn follow(&mut self, host: &Host) -> Result<(), Problem> {
        if std::ptr::eq(self.reading.as_ptr(), Arc::as_ptr(&host.shared)) {
            return Ok(());
        }
        self.collector = None;
        let config = host.config();
        self.interval = config.telemetry().map_or(LOOK_AGAIN, |telemetry| telemetry.interval);
        self.collector = config.collector(&Process)?;
        self.reading = Arc::downgrade(&host.shared);
        // What was not told, or is told no more, was not taken in: calls that go on are read again.
        self.forget();
        self.page.retain(|request| tells(config, request.signal));
        if self.collector.is_some() && !self.file.exists() {
            // Also where nothing is ever taken: the next process begins where this one did.
            self.keep();
        }
        Ok(())
    }

    /// Tells all that there is, or as much as is taken.
    pub(crate) fn round(&mut self, host: &Host) {
        if let Err(problem) = self.follow(host) {
            self.not_taken(problem.message());
            return;
        }
        if self.collector.is_none() {
            // What happens meanwhile is nobody's, also not of who is told later.
            self.page.clear();
            self.next = host.reader().and_then(|reader| reader.size()).unwrap_or(self.next);
            if self.file.exists() {
                self.keep();
            }
            return;
        }
        match self.tell_all(host) {
            Ok(None) => {
                if self.failures > 0 {
                    tracing::info!("telemetry is taken again");
                }
                self.failures = 0;
            }
            Ok(Some(why)) => self.not_taken(&why),
            Err(error) => self.not_taken(&error.to_string()),
        }
    }

    /// Says so the first time in a row.
    fn not_taken(&mut self, why: &str) {
        if self.failures == 0 {
            tracing::warn!(%why, "telemetry is not taken: it is told later");
        }
        self.failures = self.failures.saturating_add(1);
    }

    /// Why it was not all taken, where it was not.
    fn tell_all(&mut self, host: &Host) -> Result<Option<String>, StoreError> {
        let reader = host.reader()?;
        loop {
            self.catch_up(host, reader.size()?);
            if self.page.is_empty() && !self.fill(host, &reader)? {
                break;
            }
            while let Some(request) = self.page.front() {
                if let Some(why) = self.tell(host, request) {
                    return Ok(Some(why));
                }
                self.page.pop_front();
            }
            self.keep();
        }
        if !host.config().telemetry().is_some_and(|telemetry| telemetry.metrics) {
            return Ok(None);
        }
        let since_ms = i64::try_from(host.shared.store.meter().started_ms()).unwrap_or_default();
        let metrics = telemetry::metrics(&host.metrics()?, since_ms, now_ms());
        let request = self.request(Signal::Metrics, metrics);
        // What is not taken now is in what is told next: they count from the beginning.
        Ok(self.tell(host, &request))
    }

    /// Forgets the calls that are open: their entries are read again with their next one.
    fn forget(&mut self) {
        (self.spans, self.calls) = (Spans::default(), Contexts::default());
    }

    /// Leaves out what is too far behind.
    fn catch_up(&mut self, host: &Host, size: u64) {
        let behind = size.saturating_sub(self.next);
        if guard!("telemetry.backlog", behind <= MOST_BEHIND) {
            return;
        }
        let left_out = behind - MOST_BEHIND;
        tracing::warn!(
            entries = left_out,
            "telemetry is too far behind: the oldest is left out"
        );
        for signal in [Signal::Traces, Signal::Logs] {
            if tells(host.config(), signal) {
                count(host, signal, "dropped", left_out);
            }
        }
        // Its entries are before those.
        for in_hand in self.page.drain(..) {
            count(host, in_hand.signal, "dropped", in_hand.items);
        }
        self.next = size - MOST_BEHIND;
        (self.spans, self.calls) = (Spans::default(), Contexts::default());
    }

    /// Makes a page of the entries that come next. False where there are none.
    fn fill(&mut self, host: &Host, reader: &Reader) -> Result<bool, StoreError> {
        let (traces, logs) = (tells(host.config(), Signal::Traces), tells(host.config(), Signal::Logs));
        let mut page = Page::default();
        let (spans, calls) = (&mut self.spans, &mut self.calls);
        let read = reader.each_from(self.next, |entry| {
            if page.entries == PAGE || page.bytes >= PAGE_BYTES {
                return Ok::<_, StoreError>(false);
            }
            if traces {
                recalling(reader, entry, spans.unknown(entry), |before| drop(spans.take(before)))?;
                page.add(Signal::Traces, spans.take(entry).iter().map(Span::to_otlp));
            }
            if logs {
                recalling(reader, entry, calls.unknown(entry), |before| calls.take(before))?;
                calls.take(entry);
                page.add(Signal::Logs, [telemetry::log(entry, calls)]);
                if let (Body::CallFinished(_), Some(call)) = (entry.body(), entry.call()) {
                    calls.forget(call);
                }
            }
            page.entries += 1;
            Ok(true)
        });
        if let Err(error) = read {
            // What was taken in is in no page, and comes again.
            self.forget();
            return Err(error);
        }
        self.next += page.entries as u64;
        for (signal, items) in [(Signal::Traces, page.spans), (Signal::Logs, page.logs)] {
            if !items.is_empty() {
                let request = self.request(signal, items);
                self.page.push_back(request);
            }
        }
        if page.entries > 0 && self.page.is_empty() {
            self.keep();
        }
        Ok(page.entries > 0)
    }

    fn request(&self, signal: Signal, items: Vec<Value>) -> Request {
        Request {
            signal,
            items: items.len() as u64,
            json: self.source.request(signal, items).to_string(),
        }
    }

    /// Tells it, once. Why it has to be told later, where it has.
    fn tell(&self, host: &Host, request: &Request) -> Option<String> {
        let collector = self.collector.as_ref()?;
        let Request { signal, items, json } = request;
        let telling = host.shared.wire.tell(collector, signal.path(), json.clone(), BOUNDS);
        match told(*signal, host.shared.io.block_on(telling)) {
            Told::But(rejected) => {
                let rejected = rejected.min(*items);
                count(host, *signal, "taken", items - rejected);
                count(host, *signal, "refused", rejected);
                None
            }
            Told::Refused(why) => {
                tracing::warn!(%why, signal = signal.as_str(), "telemetry is refused, and left out");
                count(host, *signal, "refused", *items);
                None
            }
            Told::Later(why) => Some(why),
        }
    }

    /// Remembers how far it is told, for the next process. What is not remembered is told twice.
    fn keep(&self) {
        let cursor = Cursor {
            ledger: self.source.origin.clone(),
            next: self.next,
        };
        if let Err(error) = write(&self.file, &cursor) {
            tracing::warn!(%error, "how far telemetry has come could not be kept");
        }
    }
}

/// The items of some entries.
#[derive(Default)]
struct Page {
    entries: usize,
    bytes: usize,
    spans: Vec<Value>,
    logs: Vec<Value>,
}

impl Page {
    fn add(&mut self, signal: Signal, items: impl IntoIterator<Item = Value>) {
        let all = match signal {
            Signal::Traces => &mut self.spans,
            Signal::Logs | Signal::Metrics => &mut self.logs,
        };
        for item in items {
            self.bytes = self.bytes.saturating_add(item.to_string().len());
            all.push(item);
        }
    }
}

/// Takes in what came before an entry of a call of which nothing is known.
fn recalling(
    reader: &Reader,
    entry: &Entry,
    unknown: Option<&str>,
    mut take: impl FnMut(&Entry),
) -> Result<(), StoreError> {
    if let Some(call) = unknown {
        let before = reader.entries_before(call, entry.index())?;
        before.iter().for_each(&mut take);
    }
    Ok(())
}

fn tells(config: &Config, signal: Signal) -> bool {
    config.telemetry().is_some_and(|telemetry| telemetry.tells(signal))
}

fn count(host: &Host, signal: Signal, outcome: &str, items: u64) {
    if items > 0 {
        let meter = host.shared.store.meter();
        meter.add(&names::TELEMETRY, &[signal.as_str(), outcome], items);
    }
}

/// What an answer says (OTLP specification, "OTLP/HTTP Response"): what can be told again, and what was taken in part.
fn told(signal: Signal, sent: Result<Sent, SendError>) -> Told {
    let (status, body) = match sent {
        Ok(sent) => (sent.status, sent.body),
        Err(SendError::Unusable { status, .. }) => (status, bytes::Bytes::new()),
        Err(other) => return Told::Later(other.to_string()),
    };
    match status {
        200..=299 => {
            let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
            let rejected = answer
                .get("partialSuccess")
                .and_then(|part| part.get(signal.rejected()));
            let text = rejected.and_then(Value::as_str).and_then(|text| text.parse().ok());
            Told::But(text.or(rejected.and_then(Value::as_u64)).unwrap_or_default())
        }
        // What is wrong with what was told stays so. All else, a credential that was renewed or a proxy in front, may be another time.
        400 | 413 | 415 | 422 => Told::Refused(format!("the collector answered with {status}")),
        _ => Told::Later(format!("the collector answered with {status}")),
    }
}

/// Where to begin: where the last process ended, and on a ledger of which nobody was told yet at its end. What came before anybody
/// asked for telemetry is exported by `ambit export --otlp`.
fn begin(file: &Path, ledger: &str, size: u64) -> Begin {
    let lost = |why: &dyn Display| {
        tracing::warn!(file = %file.display(), %why, "it is not known what a collector was told: telemetry goes on with the ledger's end, and what it has not is exported by `ambit export --otlp`");
        Begin { next: size, lost: true }
    };
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Begin {
                next: size,
                lost: false,
            };
        }
        Err(error) => return lost(&error),
    };
    match serde_json::from_str::<Cursor>(&text) {
        Ok(cursor) if cursor.ledger == ledger && cursor.next <= size => Begin {
            next: cursor.next,
            lost: false,
        },
        Ok(_) => lost(&"it is of another ledger, or of more of this one"),
        Err(error) => lost(&error),
    }
}

/// Where telemetry begins.
#[derive(Debug, PartialEq, Eq)]
struct Begin {
    next: u64,
    /// Whether it was known once how far a collector has everything, and is not any more.
    lost: bool,
}

fn write(file: &Path, cursor: &Cursor) -> io::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_vec(cursor)?)?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::gate::{Failed, Traffic};

    fn answered(status: u16, body: &str) -> Result<Sent, SendError> {
        Ok(Sent {
            status,
            headers: Vec::new(),
            body: body.to_owned().into(),
            later: None,
            traffic: Traffic::default(),
        })
    }

    #[test]
    fn an_answer_says_what_is_told_again() {
        let of = |sent| told(Signal::Logs, sent);
        assert_eq!(of(answered(200, "{}")), Told::But(0));
        assert_eq!(of(answered(200, "")), Told::But(0));
        let part = r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"old"}}"#;
        assert_eq!(of(answered(200, part)), Told::But(3));
        assert_eq!(told(Signal::Traces, answered(200, part)), Told::But(0));
        for status in [300, 401, 403, 404, 429, 500, 502, 503, 504] {
            assert!(matches!(of(answered(status, "")), Told::Later(_)), "{status}");
        }
        for status in [400, 413, 415, 422] {
            assert!(matches!(of(answered(status, "")), Told::Refused(_)), "{status}");
        }
        let lost = SendError::Unknown(Failed {
            why: "gone".to_owned(),
            traffic: Traffic::default(),
        });
        assert!(matches!(of(Err(lost)), Told::Later(_)));
    }

    #[test]
    fn it_goes_on_where_it_was_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(CURSOR);
        let at = |next| Begin { next, lost: false };
        let lost = Begin { next: 7, lost: true };
        assert_eq!(begin(&file, "a", 7), at(7));
        let cursor = Cursor {
            ledger: "a".to_owned(),
            next: 5,
        };
        write(&file, &cursor).unwrap();
        assert_eq!(begin(&file, "a", 7), at(5));
        // Another ledger, or one that was cut.
        assert_eq!(begin(&file, "b", 7), lost);
        assert_eq!(begin(&file, "a", 4), Begin { next: 4, lost: true });
        fs::write(&file, "{").unwrap();
        assert_eq!(begin(&file, "a", 7), lost);
    }
}
