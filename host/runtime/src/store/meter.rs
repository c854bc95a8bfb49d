//! What this process counts: the entries that it writes, and how long the disk takes.
//!
//! The writer notes a group's entries after whoever waits for them was answered: counting is on nobody's way. What cannot be counted, as
//! what came before cannot be read, is counted under no name: nothing is decided on a count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ambit_core::ledger::Entry;
use ambit_core::metrics::{Metric, Metrics, Samples, names};
use parking_lot::Mutex;
use tokio::sync::watch;

/// What a process counted since it opened its home.
#[derive(Default)]
pub(crate) struct Meter {
    counted: Mutex<Counted>,
    /// Batches that were queued, and those of them that the writer has taken.
    queued: AtomicU64,
    taken: AtomicU64,
    started_ms: AtomicU64,
    /// The index of the last entry that this process wrote: for whoever reads on.
    last: watch::Sender<u64>,
}

#[derive(Default)]
struct Counted {
    entries: Metrics,
    process: Samples,
}

impl Meter {
    /// Counts entries that are durable. `earlier` reads the entries of a call before an index.
    pub(super) fn note(&self, entries: &[Entry], mut earlier: impl FnMut(&str, u64) -> Vec<Entry>) {
        let mut counted = self.counted.lock();
        for entry in entries {
            if let Some(call) = counted.entries.unknown(entry) {
                let before = earlier(call, entry.index());
                before.iter().for_each(|entry| counted.entries.recall(entry));
            }
            counted.entries.note(entry);
        }
        if let Some(last) = entries.last() {
            self.last.send_replace(last.index());
        }
    }

    /// Says so whenever entries are written.
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Counts a sending of a webhook's message, or one that was given up.
    pub(crate) fn delivery(&self, webhook: &str, outcome: &str) {
        self.counted
            .lock()
            .process
            .add(&names::WEBHOOKS, &[webhook, outcome], 1);
    }

    /// Counts a transaction of the writer.
    pub(super) fn committed(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.counted
            .lock()
            .process
            .observe(&names::COMMIT_SECONDS, &[], seconds);
    }

    /// Counts what this process did beside the ledger.
    pub(crate) fn add(&self, metric: &'static Metric, labels: &[&str], more: u64) {
        self.counted.lock().process.add(metric, labels, more);
    }

    pub(super) fn queue(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn take(&self, batches: usize) {
        self.taken.fetch_add(batches as u64, Ordering::Relaxed);
    }

    /// Has a counter begin at 0 where nothing was counted yet.
    pub(crate) fn expect(&self, metric: &'static Metric, labels: &[&str]) {
        self.counted.lock().entries.expect(metric, labels);
    }

    /// Says when the process opened its home, in milliseconds since 1970.
    pub(crate) fn start(&self, now_ms: i64) {
        let now = u64::try_from(now_ms).unwrap_or_default();
        self.started_ms.store(now, Ordering::Relaxed);
    }

    /// When the process opened its home, in milliseconds since 1970.
    pub(crate) fn started_ms(&self) -> u64 {
        self.started_ms.load(Ordering::Relaxed)
    }

    /// Batches that wait for the writer.
    pub(crate) fn waiting(&self) -> u64 {
        let taken = self.taken.load(Ordering::Relaxed);
        self.queued.load(Ordering::Relaxed).saturating_sub(taken)
    }

    /// What was counted so far.
    pub(crate) fn samples(&self) -> Samples {
        let counted = self.counted.lock();
        let mut samples = counted.entries.samples().clone();
        samples.merge(&counted.process);
        samples
    }
}
