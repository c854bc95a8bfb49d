//! How many appends a store takes: what durable calls are compared with.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ambit_core::digest::Digest;
use ambit_core::ledger::{EntryDraft, body::ConfigChanged};

use super::disk::GROUP;
use super::{Batch, Store, StoreError, home};

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

/// Lets `callers` threads do `work` over and over (given the thread's number and how often it did it), for as long as `during`.
///
/// # Errors
/// The first error of `work`, which ends the measurement.
pub fn callers<E: Send>(
    callers: usize,
    during: Duration,
    work: impl Fn(usize, usize) -> Result<(), E> + Sync,
) -> Result<Rate, E> {
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    let waits = thread::scope(|scope| {
        let caller = |number| {
            let (over, work) = (&over, &work);
            scope.spawn(move || caller(over, |turn| work(number, turn)))
        };
        let callers: Vec<_> = (0..callers).map(caller).collect();
        thread::sleep(during);
        over.store(true, Ordering::Relaxed);
        // A thread that panicked did nothing that counts.
        let waits = callers
            .into_iter()
            .map(|caller| caller.join().unwrap_or_else(|_| Ok(Vec::new())));
        waits.collect::<Result<Vec<_>, _>>()
    })?;
    Ok(rate(waits.concat(), begun.elapsed()))
}

fn caller<E>(over: &AtomicBool, work: impl Fn(usize) -> Result<(), E>) -> Result<Vec<Duration>, E> {
    let mut waits = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        work(waits.len())?;
        waits.push(asked.elapsed());
    }
    Ok(waits)
}

/// Entries of the smallest kind and nothing else, one a commit: the least that something durable costs.
///
/// # Errors
/// As [`Store::commit`].
pub fn appends(store: &Store, callers: usize, during: Duration) -> Result<Rate, StoreError> {
    let number = AtomicUsize::new(0);
    self::callers(callers, during, |_, _| {
        let to = Digest::of(&number.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let entries = vec![EntryDraft::of_ledger(ConfigChanged { from: None, to })];
        store
            .commit(Batch {
                entries,
                ..Batch::default()
            })
            .map(drop)
    })
}

/// Records of 1 KiB appended to a file and synced, without any database, as many at a time as a store takes into a group: what the disk can
/// do. The file is made in `dir`, and removed.
///
/// # Errors
/// Where the file can't be written.
pub fn file_appends(dir: &Path, callers: usize, during: Duration) -> Result<Rate, StoreError> {
    let path = dir.join(home::random_name()?);
    let fail = |error: io::Error| StoreError::io(&path, &error);
    let mut file = File::create_new(&path).map_err(fail)?;
    let (queue, jobs) = channel::<SyncSender<io::Result<()>>>();
    let rate = thread::scope(|scope| {
        scope.spawn(move || {
            while let Ok(first) = jobs.recv() {
                let group: Vec<_> = std::iter::once(first).chain(jobs.try_iter().take(GROUP - 1)).collect();
                let records = vec![b'x'; group.len() << 10];
                let done = file
                    .write_all(&records)
                    .and_then(|()| file.sync_data())
                    .map_err(|error| error.kind());
                group
                    .iter()
                    .for_each(|reply| drop(reply.send(done.map_err(Into::into))));
            }
        });
        let queue = queue;
        self::callers(callers, during, |_, _| {
            let (reply, done) = sync_channel(1);
            let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
            queue.send(reply).map_err(|_| gone())?;
            done.recv().map_err(|_| gone())?
        })
    });
    drop(fs::remove_file(&path));
    rate.map_err(fail)
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
