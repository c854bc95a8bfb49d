//! How many appends a store takes: what durable calls are compared with.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ambit_core::digest::Digest;
use ambit_core::ledger::{EntryDraft, body::ConfigChanged};

use super::{Batch, Store, StoreError};

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Commits that became durable in a second, all callers together.
    pub per_second: f64,
    /// The middle of how long a caller waited for one.
    pub p50: Duration,
    /// What one in a hundred took longer than.
    pub p99: Duration,
}

/// Lets `callers` threads commit what `batch` makes (given the caller's and the commit's number), each waiting for its own, for as long as
/// `during`.
///
/// # Errors
/// The first error of a commit, which ends the measurement.
pub fn commits(
    store: &Store,
    callers: usize,
    during: Duration,
    batch: impl Fn(usize, usize) -> Batch + Sync,
) -> Result<Rate, StoreError> {
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    let waits = thread::scope(|scope| {
        let caller = |number| {
            let (over, batch) = (&over, &batch);
            scope.spawn(move || caller(store, over, |commit| batch(number, commit)))
        };
        let callers: Vec<_> = (0..callers).map(caller).collect();
        thread::sleep(during);
        over.store(true, Ordering::Relaxed);
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap_or_else(|_| Ok(Vec::new())))
            .collect::<Result<Vec<_>, _>>()
    })?;
    Ok(rate(waits.concat(), begun.elapsed()))
}

/// Entries of the smallest kind and nothing else, one a commit.
///
/// # Errors
/// As [`commits`].
pub fn appends(store: &Store, callers: usize, during: Duration) -> Result<Rate, StoreError> {
    let number = AtomicUsize::new(0);
    commits(store, callers, during, |_, _| {
        let to = Digest::of(&number.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        Batch {
            entries: vec![EntryDraft::of_ledger(ConfigChanged { from: None, to })],
            ..Batch::default()
        }
    })
}

fn caller(store: &Store, over: &AtomicBool, batch: impl Fn(usize) -> Batch) -> Result<Vec<Duration>, StoreError> {
    let mut waits = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let batch = batch(waits.len());
        let asked = Instant::now();
        store.commit(batch)?;
        waits.push(asked.elapsed());
    }
    Ok(waits)
}

fn rate(mut waits: Vec<Duration>, took: Duration) -> Rate {
    waits.sort_unstable();
    let quantile = |percent: usize| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
    Rate {
        per_second: waits.len() as f64 / took.as_secs_f64(),
        p50: quantile(50),
        p99: quantile(99),
    }
}
