//! The store of a home: what its callers do themselves before the writer thread takes over, and how it is opened.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use ambit_core::guard;
use ambit_core::identity::key::ApiKey;
use ambit_core::ledger::{Body, Checkpoint, EntryDraft, FORMAT, Frontier, VerifierKey, body, merkle};
use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::batch::Batch;
use super::board::Board;
use super::fault::{Faults, Step};
use super::high_water::{self, HighWater, Mark};
use super::home::{self, HomeLock};
use super::keyring::Keyring;
use super::meter::Meter;
use super::tables::{Place, StoredPayload};
use super::vault::{Payload, Vault};
use super::writer::{Health, Job, Prepared, Room, Tail, Writer, Written};
use super::{HighWaterOptions, Keys, Reader, StoreError, StoreOptions, erasure, reader, schema};

/// Most batches that share a transaction.
pub(super) const GROUP: usize = 256;
/// Payloads above this are files: they are written by the thread that has them, so that nobody's commit waits behind them, and once, where
/// the database would write them twice.
const IN_ROW: usize = 64 << 10;
/// What a row costs beside its bytes: keys, index, the rest of its page.
const ROW: u64 = 512;
/// What the name of a call costs in the entry that erases its values.
const ERASED: u64 = 32;

pub(super) struct Disk {
    home: PathBuf,
    verifier: VerifierKey,
    vault: Arc<Vault>,
    /// Reads while the writer writes: for data keys of calls that began before this process did, and for payloads.
    reader: Mutex<Reader>,
    reserve: u64,
    faults: Faults,
    health: Arc<Health>,
    board: Arc<Board>,
    meter: Arc<Meter>,
    keyring: Arc<Keyring>,
    /// Taken when the store is dropped, which ends the writer.
    queue: Option<Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    _lock: HomeLock,
}

impl Disk {
    pub(super) fn open(home: &Path, keys: Keys, options: StoreOptions, faults: Faults) -> Result<Self, StoreError> {
        let lock = HomeLock::take(home)?;
        let connection = open_database(home, &options)?;
        let tail = recover(&connection, keys.verifier(), home)?;
        let high_water = open_high_water(&connection, &options, keys.verifier(), tail.frontier.size(), home)?;
        let finished = erasure::finish(&connection, &faults);
        finished.map_err(|why| StoreError::Io {
            path: home.join(home::LEDGER),
            why,
        })?;
        let vault = Arc::new(keys.vault());
        let reader = Reader::over(schema::open_reader(home)?, Some(home), Some(Arc::clone(&vault)));
        sweep(home, &reader)?;
        let new = tail.frontier.size() == 0;
        let stops = reader.stops()?.into_iter().map(|in_force| in_force.stop);
        let board = Board::new(stops.collect());
        let meter = Arc::new(Meter::default());
        let keyring = Arc::new(Keyring::new(reader.api_keys()?));
        let (verifier, health) = (keys.verifier().clone(), Arc::new(Health::default()));
        let writer = Writer {
            connection,
            tail,
            keys,
            clock: options.clock,
            room: Room {
                home: home.to_owned(),
                quota: options.quota.is_some(),
                reserve: options.reserve,
            },
            group: GROUP,
            high_water,
            faults: faults.clone(),
            health: Arc::clone(&health),
            board: Arc::clone(&board),
            meter: Arc::clone(&meter),
            keyring: Arc::clone(&keyring),
        };
        let (queue, jobs) = channel();
        let thread = Builder::new().name("ledger".into()).spawn(move || writer.run(&jobs));
        let writer = thread.map_err(|error| StoreError::io(home, &error))?;
        let store = Self {
            home: home.to_owned(),
            verifier,
            vault,
            reader: Mutex::new(reader),
            reserve: options.reserve,
            faults,
            health,
            board,
            meter,
            keyring,
            queue: Some(queue),
            writer: Some(writer),
            _lock: lock,
        };
        if new {
            store.commit(opening(&store.verifier), || ())?;
        }
        Ok(store)
    }

    pub(super) const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    pub(super) const fn board(&self) -> &Arc<Board> {
        &self.board
    }

    pub(super) const fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    pub(super) fn api_key(&self, id: &str) -> Option<ApiKey> {
        self.keyring.get(id)
    }

    pub(super) fn failed(&self) -> Option<&str> {
        self.health.failed()
    }

    pub(super) fn reader(&self) -> Result<Reader, StoreError> {
        Ok(Reader::over(
            schema::open_reader(&self.home)?,
            Some(&self.home),
            Some(Arc::clone(&self.vault)),
        ))
    }

    pub(super) fn time_ms(&self) -> Result<u64, StoreError> {
        self.reader.lock().time_ms()
    }

    pub(super) fn payload(&self, call: &str, name: &str) -> Result<Option<Payload>, StoreError> {
        self.reader.lock().payload(call, name)
    }

    /// `meanwhile` is done while the writer has the batch.
    pub(super) fn commit(&self, batch: Batch, meanwhile: impl FnOnce()) -> Result<Written, StoreError> {
        self.health.check()?;
        let mut over = batch.finished_calls();
        over.extend(batch.erased_calls().map(str::to_owned));
        let erased = self.erased_files(&batch)?;
        let (prepared, files) = self.prepare(batch)?;
        let result = self.queue(prepared, meanwhile);
        match &result {
            Ok(_) => {
                over.iter().for_each(|call| self.vault.forget(call));
                self.remove_files(&erased)?;
            }
            // After a failure nobody knows whether the ledger refers to them: whoever opens it next finds out.
            Err(StoreError::Failed { .. }) => {}
            Err(_) => files.iter().for_each(|file| drop(fs::remove_file(file))),
        }
        result
    }

    /// The files of the values that a batch erases.
    fn erased_files(&self, batch: &Batch) -> Result<Vec<PathBuf>, StoreError> {
        let (dir, reader) = (home::payload_dir(&self.home), self.reader.lock());
        let mut files = Vec::new();
        for call in batch.erased_calls() {
            files.extend(reader.files_of(call)?.into_iter().map(|file| dir.join(file)));
        }
        Ok(files)
    }

    /// Removes files that no row names any more. What is left of them is swept when the home is opened next.
    fn remove_files(&self, files: &[PathBuf]) -> Result<(), StoreError> {
        if files.is_empty() {
            return Ok(());
        }
        for file in files {
            let ordered = self.faults.at(Step::RemovePayload).map_err(io::Error::other);
            let removed = ordered.and_then(|()| fs::remove_file(file));
            removed.map_err(|error| StoreError::io(file, &error))?;
        }
        let dir = home::payload_dir(&self.home);
        home::sync_dir(&dir).map_err(|error| StoreError::io(&dir, &error))
    }

    fn queue(&self, batch: Prepared, meanwhile: impl FnOnce()) -> Result<Written, StoreError> {
        let ended = || self.health.fail("the writer thread has ended".into());
        let (reply, result) = sync_channel(1);
        self.meter.queue();
        self.queue
            .as_ref()
            .ok_or_else(ended)?
            .send(Job { batch, reply })
            .map_err(|_| ended())?;
        meanwhile();
        result.recv().map_err(|_| ended())?
    }

    /// Does all that can be done without a place in the ledger: encryption above all. Gives back the files that are of no use should the
    /// batch not be written.
    fn prepare(&self, batch: Batch) -> Result<(Prepared, Vec<PathBuf>), StoreError> {
        let only_ends = batch.only_ends();
        let erases = batch.erased_calls().next().is_some();
        let mut files = Vec::new();
        let payloads = batch
            .payloads
            .iter()
            .map(|payload| self.store_payload(payload, &batch, only_ends, &mut files));
        let payloads = match payloads.collect::<Result<Vec<_>, _>>() {
            Ok(payloads) => payloads,
            Err(error) => {
                files.iter().for_each(|file| drop(fs::remove_file(file)));
                return Err(error);
            }
        };
        let size = size(&batch, &payloads);
        let Batch {
            entries,
            transcript,
            webhooks,
            ..
        } = batch;
        Ok((
            Prepared {
                entries,
                payloads,
                transcript,
                webhooks,
                size,
                only_ends,
                erases,
            },
            files,
        ))
    }

    fn store_payload(
        &self,
        payload: &Payload,
        batch: &Batch,
        only_ends: bool,
        files: &mut Vec<PathBuf>,
    ) -> Result<StoredPayload, StoreError> {
        let call = &payload.call;
        let stored = || {
            if batch.begins(call) {
                Ok(None)
            } else {
                self.reader.lock().data_key(call)
            }
        };
        let sealed = self.vault.seal(payload, stored)?;
        let place = if sealed.bytes.len() > IN_ROW {
            let path = self.write_file(&sealed.bytes, only_ends)?;
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default()
                .to_owned();
            files.push(path);
            Place::File(name)
        } else {
            Place::Row(sealed.bytes)
        };
        Ok(StoredPayload {
            call: sealed.call,
            name: sealed.name,
            wrapped: sealed.wrapped,
            place,
        })
    }

    /// A file that is on the disk, with its name, before anything refers to it.
    fn write_file(&self, bytes: &[u8], only_ends: bool) -> Result<PathBuf, StoreError> {
        let free = home::free_bytes(&self.home)?.saturating_sub(bytes.len() as u64);
        if !guard!("ledger.room", only_ends || free >= self.reserve) {
            return Err(StoreError::NoRoom {
                free,
                reserve: self.reserve,
            });
        }
        let dir = home::payload_dir(&self.home);
        let path = dir.join(home::random_name()?);
        self.faults
            .at(Step::WritePayload)
            .map_err(|cause| self.health.fail(cause))?;
        let written = home::create_private(&path, bytes).and_then(|()| home::sync_dir(&dir));
        written.map_err(|error| self.health.fail(format!("{}: {error}", path.display())))?;
        Ok(path)
    }
}

impl Drop for Disk {
    /// Waits until the writer has written what is queued and closed the database, before the home's lock goes.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has told its callers by going away.
            drop(writer.join());
        }
    }
}

/// About how many bytes of the database a batch needs.
fn size(batch: &Batch, payloads: &[StoredPayload]) -> u64 {
    let in_rows = payloads.iter().map(|payload| match &payload.place {
        Place::Row(bytes) => bytes.len() as u64,
        Place::File(_) => 0,
    });
    let rows = batch.entries.len() + payloads.len() + batch.transcript.len() + batch.webhooks.len();
    // An entry's own size is known once it is sealed. Few are over a kilobyte, and the reserve has room for those.
    let erased = ERASED * batch.erased_calls().count() as u64;
    in_rows.sum::<u64>() + ROW * rows as u64 + 1024 * batch.entries.len() as u64 + erased
}

pub(super) fn opening(key: &VerifierKey) -> Batch {
    let opened = body::LedgerOpened {
        format: FORMAT,
        key: key.to_string(),
        origin: key.name().to_owned(),
    };
    Batch {
        entries: vec![EntryDraft::of_ledger(opened)],
        ..Batch::default()
    }
}

fn open_database(home: &Path, options: &StoreOptions) -> Result<Connection, StoreError> {
    let connection = schema::open_writer(home)?;
    let fail = |error: rusqlite::Error| schema::sqlite_error(home, &home.join(home::LEDGER), &error);
    // What is left in the log is copied by the writer, which heeds errors, or by whoever opens the ledger next.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(fail)?;
    if let Some(quota) = options.quota {
        let pages = quota / schema::PAGE;
        connection
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
            .map_err(fail)?;
    }
    let payloads = home::payload_dir(home);
    if !payloads.exists() {
        let made = home::create_private_dir(&payloads).and_then(|()| home::sync_dir(home));
        made.map_err(|error| home::unwritable(home, &payloads, &error))?;
    }
    Ok(connection)
}

/// The end of the ledger as it is, once its last checkpoint has been found to sign exactly that.
///
/// This reads the tree's edge, not every entry: `audit verify` does.
fn recover(connection: &Connection, key: &VerifierKey, home: &Path) -> Result<Tail, StoreError> {
    let size = reader::size(connection)?;
    let Some(last) = size.checked_sub(1) else {
        return Ok(Tail::default());
    };
    if let Body::LedgerOpened(opened) = reader::entry(connection, 0)?.body()
        && !guard!("ledger.same-key", opened.key == key.to_string())
    {
        return Err(StoreError::OtherKey {
            path: home.join(home::LEDGER),
            ledger: opened.key.clone(),
            key: key.to_string(),
        });
    }
    let entry = reader::entry(connection, last)?;
    let frontier = Frontier::restore(size, |node| reader::node(connection, node))?;
    let note = reader::last_checkpoint(connection)?.ok_or_else(|| StoreError::damaged("it has no checkpoint"))?;
    let signed = Checkpoint::parse_verified(&note, key)?;
    let leaf = reader::node(connection, merkle::Node { level: 0, index: last })?;
    let agrees = signed.size() == size && signed.root() == frontier.root() && leaf == entry.leaf();
    if !guard!("ledger.tree", agrees) {
        return Err(StoreError::damaged(format!(
            "its last checkpoint signs {} entries, and these are not the {size} that are there",
            signed.size()
        )));
    }
    Ok(Tail {
        frontier,
        stamp: Some(entry.stamp()),
    })
}

/// In `meta`: that a high-water checkpoint was kept once, so that its absence means something.
const KEPT: &str = "high-water-kept";

fn open_high_water(
    connection: &Connection,
    options: &StoreOptions,
    key: &VerifierKey,
    size: u64,
    home: &Path,
) -> Result<Option<HighWater>, StoreError> {
    let Some(options) = &options.high_water else {
        return Ok(None);
    };
    let taken = check_high_water(connection, options, key, size)?;
    let file = HighWater::open(options, taken)?;
    let note = connection.execute(
        "INSERT INTO meta(name, value) VALUES (?1, '1') ON CONFLICT DO NOTHING",
        [KEPT],
    );
    note.map_err(|error| schema::sqlite_error(home, &home.join(home::LEDGER), &error))?;
    Ok(Some(file))
}

/// The slot that the last checkpoint is in, where there is one.
fn check_high_water(
    connection: &Connection,
    options: &HighWaterOptions,
    key: &VerifierKey,
    size: u64,
) -> Result<Option<u64>, StoreError> {
    match high_water::read(&options.path, key)? {
        Mark::At(known, slot) => {
            let root = |size| merkle::root(size, |node| reader::node(connection, node));
            high_water::check(&options.path, &known, size, root)?;
            Ok(Some(slot))
        }
        Mark::Empty => Ok(None),
        Mark::Missing => {
            let kept = reader::meta(connection, KEPT)?.is_some();
            if !guard!("ledger.high-water-missing", !kept) {
                let why = "is missing, although this ledger had one".into();
                return Err(StoreError::HighWater {
                    path: options.path.clone(),
                    why,
                });
            }
            Ok(None)
        }
    }
}

/// Removes payload files that nothing refers to: of batches that a crash or a failure kept from the ledger, and of erased values.
fn sweep(home: &Path, reader: &Reader) -> Result<(), StoreError> {
    let dir = home::payload_dir(home);
    let known: HashSet<String> = reader.payload_files()?.into_iter().collect();
    let files = fs::read_dir(&dir).map_err(|error| StoreError::io(&dir, &error))?;
    for file in files {
        let file = file.map_err(|error| StoreError::io(&dir, &error))?;
        if !file.file_name().to_str().is_some_and(|name| known.contains(name)) {
            fs::remove_file(file.path()).map_err(|error| StoreError::io(&file.path(), &error))?;
        }
    }
    Ok(())
}
