//! The one thread that writes.
//!
//! Callers queue what they prepared and wait. The writer takes all that has queued up, at most a group's worth, into one
//! transaction, signs one checkpoint over it, commits, and only then wakes them: many callers share one sync. Each batch has
//! a savepoint of its own, so that one that fails takes nothing with it.
//!
//! After the first failure of the disk nothing is written any more. What a failed sync did to the file nobody knows (the
//! kernel may have dropped the pages that it could not write, and report success for the next sync), so there is no trying again.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ambit_core::digest::Digest;
use ambit_core::guard;
use ambit_core::ledger::{Checkpoint, Entry, EntryDraft, Frontier, Stamp};
use rusqlite::{Connection, Statement};

use super::batch::TranscriptRow;
use super::board::{Board, Change};
use super::fault::{Faults, Step};
use super::high_water::HighWater;
use super::keyring::Keyring;
use super::meter::Meter;
use super::options::Clock;
use super::progress::Progress;
use super::tables::{Fail, StoredPayload, Tables};
use super::{Keys, StoreError, books, erasure, home, reader, schema};

/// Bytes of the write-ahead log after which it is copied into the database: enough to make that rare, little enough to make it short.
const CHECKPOINT_AFTER: u64 = 16 << 20;
/// How long after an erasure could not be finished it is tried again, with what is written next: it writes the table of keys anew.
const FINISH_AGAIN: Duration = Duration::from_secs(1);
/// What a commit writes to the log beside its batches' own bytes: the pages of the tables it touches.
const COMMIT_OVERHEAD: u64 = 8 * schema::PAGE;

/// A batch with everything done to it that can be done before it has a place in the ledger.
pub(super) struct Prepared {
    pub(super) entries: Vec<EntryDraft>,
    pub(super) payloads: Vec<StoredPayload>,
    pub(super) transcript: Vec<TranscriptRow>,
    /// How far webhooks have come.
    pub(super) webhooks: Vec<(String, Option<Progress>)>,
    /// About how many bytes of the database it needs.
    pub(super) size: u64,
    /// Whether it may use the space that is kept for the ends of what is under way.
    pub(super) only_ends: bool,
    /// Whether it erases values.
    pub(super) erases: bool,
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// Where its first entry would be, had it one.
    pub(super) first_index: u64,
    pub(super) entries: u64,
    pub(super) time_ms: i64,
    /// Where the last entry is that was asked for, and the digest of its bytes: what has to follow it comes after.
    pub(super) last: Option<(u64, Digest)>,
    /// The signed checkpoint that covers it; none from a store in memory.
    pub(super) checkpoint: Option<Arc<str>>,
}

/// A batch in the queue, and who waits for it.
pub(super) struct Job {
    pub(super) batch: Prepared,
    pub(super) reply: SyncSender<Result<Written, StoreError>>,
}

/// The first failure, if there was one: set once, seen by every caller.
#[derive(Default)]
pub(super) struct Health(OnceLock<String>);

impl Health {
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let failed = self.0.get();
        if !guard!("ledger.stop-after-failure", failed.is_none()) {
            return Err(StoreError::Failed {
                cause: failed.cloned().unwrap_or_default(),
            });
        }
        Ok(())
    }

    pub(super) fn failed(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    /// Notes a failure, and gives back the first one as everybody's error.
    pub(super) fn fail(&self, cause: String) -> StoreError {
        StoreError::Failed {
            cause: self.0.get_or_init(|| cause).clone(),
        }
    }
}

/// The end of the ledger, to which entries are added.
#[derive(Clone, Default)]
pub(super) struct Tail {
    pub(super) frontier: Frontier,
    pub(super) stamp: Option<Stamp>,
}

impl Tail {
    /// Gives drafts their places, one after another, and what they reserve the windows of their time.
    pub(super) fn seal(&mut self, drafts: Vec<EntryDraft>, clock_ms: i64) -> Result<Vec<Entry>, StoreError> {
        let seal = |mut draft: EntryDraft| {
            let stamp = self
                .stamp
                .map_or_else(|| Stamp::first(clock_ms), |last| last.next(clock_ms));
            books::place(&mut draft.body, stamp.time_ms());
            self.stamp = Some(stamp);
            draft.seal(stamp).map_err(|error| StoreError::batch(error.to_string()))
        };
        drafts.into_iter().map(seal).collect()
    }

    pub(super) fn time_ms(&self) -> i64 {
        self.stamp.map_or(0, |stamp| stamp.time_ms())
    }
}

/// How much may be written.
pub(super) struct Room {
    pub(super) home: PathBuf,
    /// Whether the database has a limit of its own.
    pub(super) quota: bool,
    /// Bytes kept for the ends of what is under way.
    pub(super) reserve: u64,
}

impl Room {
    /// Bytes that the database can still grow by.
    fn left(&self, connection: &Connection) -> Result<u64, Fail> {
        let free = home::free_bytes(&self.home).map_err(|error| Fail::Store(error.to_string()))?;
        if !self.quota {
            return Ok(free);
        }
        let ask = |pragma: &str| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, u64>(0));
        let (most, used, unused) = (ask("max_page_count")?, ask("page_count")?, ask("freelist_count")?);
        Ok(free.min(
            most.saturating_sub(used)
                .saturating_add(unused)
                .saturating_mul(schema::PAGE),
        ))
    }

    /// Takes what a batch needs from what is left.
    fn take(&self, left: &mut u64, batch: &Prepared) -> Result<(), StoreError> {
        let after = left.saturating_sub(batch.size);
        if !guard!("ledger.room", batch.only_ends || after >= self.reserve) {
            return Err(StoreError::NoRoom {
                free: after,
                reserve: self.reserve,
            });
        }
        *left = after;
        Ok(())
    }
}

/// What the writer thread works with.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) tail: Tail,
    pub(super) keys: Keys,
    pub(super) clock: Clock,
    pub(super) room: Room,
    pub(super) group: usize,
    pub(super) high_water: Option<HighWater>,
    pub(super) faults: Faults,
    pub(super) health: Arc<Health>,
    pub(super) board: Arc<Board>,
    pub(super) meter: Arc<Meter>,
    pub(super) keyring: Arc<Keyring>,
}

/// Where a batch stands: its first index, how many entries it has, their time, and the last one that was asked for.
type Applied = (u64, u64, i64, Option<(u64, Digest)>);
type Results = Vec<Result<Written, StoreError>>;

impl Writer {
    /// Writes what comes through the queue until nobody can send any more.
    pub(super) fn run(self, queue: &Receiver<Job>) {
        let Self {
            connection,
            tail,
            keys,
            clock,
            room,
            group,
            high_water,
            faults,
            health,
            board,
            meter,
            keyring,
        } = self;
        let (steps, tables) = match (Steps::new(&connection), Tables::new(&connection)) {
            (Ok(steps), Ok(tables)) => (steps, tables),
            (Err(error), _) | (_, Err(error)) => return refuse(queue, &health, error.to_string()),
        };
        let mut scribe = Scribe {
            connection: &connection,
            steps,
            tables,
            tail,
            keys,
            clock,
            room,
            high_water,
            faults,
            logged: 0,
            unfinished: None,
            board,
            changes: Vec::new(),
            meter,
            keyring,
            sealed: Vec::new(),
        };
        while let Some(jobs) = scribe.next_group(queue, group, &health) {
            let (batches, replies): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.batch, job.reply)).unzip();
            if let Err(cause) = scribe.write(batches, |results| answer(&replies, results)) {
                let error = health.fail(cause);
                answer(&replies, replies.iter().map(|_| Err(error.clone())).collect());
            }
            if health.failed().is_some() {
                return refuse(queue, &health, String::new());
            }
        }
        if let Err(cause) = scribe.close() {
            health.fail(cause);
        }
    }
}

/// Answers everyone who still asks that nothing is written any more.
fn refuse(queue: &Receiver<Job>, health: &Health, cause: String) {
    let error = health.fail(cause);
    for job in queue {
        answer(&[job.reply], vec![Err(error.clone())]);
    }
}

fn answer(replies: &[SyncSender<Result<Written, StoreError>>], results: Results) {
    for (reply, result) in replies.iter().zip(results) {
        // Whoever no longer waits, or was answered before, needs no answer.
        drop(reply.try_send(result));
    }
}

/// The statements around what is written, prepared once.
struct Steps<'c> {
    begin: Statement<'c>,
    savepoint: Statement<'c>,
    rollback: Statement<'c>,
    release: Statement<'c>,
    commit: Statement<'c>,
}

impl<'c> Steps<'c> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            savepoint: connection.prepare("SAVEPOINT batch")?,
            rollback: connection.prepare("ROLLBACK TO batch")?,
            release: connection.prepare("RELEASE batch")?,
            commit: connection.prepare("COMMIT")?,
        })
    }
}

/// The writer, at work on its own connection.
struct Scribe<'c> {
    connection: &'c Connection,
    steps: Steps<'c>,
    tables: Tables<'c>,
    tail: Tail,
    keys: Keys,
    clock: Clock,
    room: Room,
    high_water: Option<HighWater>,
    faults: Faults,
    /// About how many bytes the write-ahead log has.
    logged: u64,
    /// Since when an erasure is unfinished that this process began or tried to finish.
    unfinished: Option<Instant>,
    board: Arc<Board>,
    /// What the transaction changes about what is stopped.
    changes: Vec<Change>,
    meter: Arc<Meter>,
    keyring: Arc<Keyring>,
    /// The entries of the transaction, to be counted.
    sealed: Vec<Entry>,
}

impl Scribe<'_> {
    /// Waits for work, and takes all there is of it up to a group. Syncs the high-water checkpoint where that comes due meanwhile.
    fn next_group(&mut self, queue: &Receiver<Job>, most: usize, health: &Health) -> Option<Vec<Job>> {
        let first = loop {
            let Some(due) = self.high_water.as_ref().and_then(HighWater::due) else {
                break queue.recv().ok()?;
            };
            match queue.recv_timeout(due) {
                Ok(job) => break job,
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(cause) = self.high_water.as_mut().map_or(Ok(()), HighWater::sync) {
                        refuse(queue, health, cause);
                        return None;
                    }
                }
            }
        };
        let mut jobs = vec![first];
        jobs.extend(queue.try_iter().take(most.saturating_sub(1)));
        self.meter.take(jobs.len());
        Some(jobs)
    }

    /// Writes a group, and tells the result of each batch once it is durable.
    ///
    /// # Errors
    /// The cause that ends the store; where `done` was not called, nobody knows what is durable.
    fn write(&mut self, batches: Vec<Prepared>, done: impl FnOnce(Results)) -> Result<(), String> {
        let size: u64 = batches.iter().map(|batch| batch.size).sum();
        let erases = batches.iter().any(|batch| batch.erases);
        self.changes.clear();
        self.sealed.clear();
        self.tables.keys_changed.clear();
        let began = Instant::now();
        let (results, note) = self.transaction(batches).map_err(cause)?;
        let took = began.elapsed();
        // Before anyone is told: an intent of this group is sent only where no kill of this group covers it.
        self.board.apply(&self.changes);
        self.keyring.apply(std::mem::take(&mut self.tables.keys_changed));
        if erases {
            // Whoever is told that values are erased finds their keys nowhere. A reader may hold the log: the mark stays then.
            self.finish_erasing()?;
        }
        done(results);
        if self.unfinished.is_some_and(|since| since.elapsed() >= FINISH_AGAIN) {
            self.finish_erasing()?;
        }
        self.meter.committed(took);
        self.count();
        if let (Some(high_water), Some(note)) = (&mut self.high_water, &note) {
            self.faults.at(Step::HighWater)?;
            high_water.advance(note)?;
        }
        self.logged += size + COMMIT_OVERHEAD;
        if self.logged >= CHECKPOINT_AFTER {
            self.copy_log("PASSIVE")
        } else {
            Ok(())
        }
    }

    /// Finishes an erasure, or notes that it cannot be finished now.
    fn finish_erasing(&mut self) -> Result<(), String> {
        let finished = erasure::finish(self.connection, &self.faults)?;
        self.unfinished = (!finished).then(Instant::now);
        Ok(())
    }

    /// Counts what was written, once nobody waits for it.
    fn count(&self) {
        self.meter.note(&self.sealed, |call, before| {
            // Of calls that an earlier process began. What cannot be read stands in nobody's way here.
            reader::entries_before(self.connection, call, before).unwrap_or_default()
        });
    }

    fn transaction(&mut self, batches: Vec<Prepared>) -> Result<(Results, Option<Arc<str>>), Fail> {
        self.steps.begin.execute([])?;
        let mut left = self.room.left(self.connection)?;
        let before = self.tail.frontier.size();
        let mut results = Vec::with_capacity(batches.len());
        for batch in batches {
            results.push(self.savepoint(batch, &mut left)?);
        }
        let size = self.tail.frontier.size();
        let note: Arc<str> = Checkpoint::sign(size, self.tail.frontier.root(), self.keys.ledger()).into();
        if size > before {
            self.tables.add_checkpoint(size, &note)?;
        }
        self.commit()?;
        let written = |(first_index, entries, time_ms, last)| Written {
            first_index,
            entries,
            time_ms,
            last,
            checkpoint: Some(Arc::clone(&note)),
        };
        let results = results.into_iter().map(|result| result.map(written)).collect();
        Ok((results, (size > before).then_some(note)))
    }

    fn commit(&mut self) -> Result<(), Fail> {
        self.faults.at(Step::BeforeCommit).map_err(Fail::Store)?;
        self.faults.at(Step::Sync).map_err(Fail::Store)?;
        self.steps.commit.execute([])?;
        self.faults.at(Step::AfterCommit).map_err(Fail::Store)
    }

    /// One batch: wholly in the transaction, or not at all.
    fn savepoint(&mut self, batch: Prepared, left: &mut u64) -> Result<Result<Applied, StoreError>, Fail> {
        let tail = self.tail.clone();
        let (sealed, keys) = (self.sealed.len(), self.tables.keys_changed.len());
        self.steps.savepoint.execute([])?;
        let changes = Change::of(&batch.entries);
        let result = match self.room.take(left, &batch) {
            Ok(()) => self.apply(batch),
            Err(error) => Err(error.into()),
        };
        match result {
            Ok(written) => {
                self.steps.release.execute([])?;
                self.changes.extend(changes);
                Ok(Ok(written))
            }
            Err(Fail::Batch(error)) => {
                self.steps.rollback.execute([])?;
                self.steps.release.execute([])?;
                self.tail = tail;
                self.sealed.truncate(sealed);
                self.tables.keys_changed.truncate(keys);
                Ok(Err(error))
            }
            Err(Fail::Store(cause)) => Err(Fail::Store(cause)),
        }
    }

    fn apply(&mut self, batch: Prepared) -> Result<Applied, Fail> {
        let first_index = self.tail.frontier.size();
        let (mut written, mut last) = (0, None);
        self.tables.set_webhooks(&batch.webhooks)?;
        let (mut drafts, mut payloads, mut transcript) = (batch.entries, batch.payloads, batch.transcript);
        // What has to follow an entry is an entry of the same transaction.
        loop {
            let entries = self.tail.seal(drafts, (self.clock)())?;
            if written == 0 {
                last = last_of(&entries, entries.len());
            }
            written += entries.len() as u64;
            drafts = self
                .tables
                .write(&mut self.tail.frontier, &entries, &payloads, &transcript)?;
            self.sealed.extend(entries);
            if drafts.is_empty() {
                return Ok((first_index, written, self.tail.time_ms(), last));
            }
            payloads.clear();
            transcript.clear();
        }
    }

    /// Copies the write-ahead log into the database. SQLite would do so by itself, and ignore a failed sync of the database.
    fn copy_log(&mut self, mode: &str) -> Result<(), String> {
        self.logged = 0;
        let copy = self
            .connection
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
        copy.map_err(|error| error.to_string())
    }

    fn close(&mut self) -> Result<(), String> {
        self.high_water.as_mut().map_or(Ok(()), HighWater::sync)?;
        self.copy_log("TRUNCATE")
    }
}

/// Where the last of so many entries is that were asked for, and the digest of its bytes.
pub(super) fn last_of(entries: &[Entry], own: usize) -> Option<(u64, Digest)> {
    let last = entries.get(own.checked_sub(1)?)?;
    Some((last.index(), Digest::of(last.bytes())))
}

/// What a group fails of: nothing in it is one batch's fault any more.
fn cause(fail: Fail) -> String {
    match fail {
        Fail::Batch(error) => error.to_string(),
        Fail::Store(cause) => cause,
    }
}
