//! The high-water checkpoint: how far the ledger is known to have come, kept where whoever restores or cuts the home does not
//! reach. A ledger that is shorter, or whose beginning is another, does not open.
//!
//! The file has two slots of fixed size, each a signed checkpoint padded with newlines. After each group the newer one is
//! written over the *other* slot than the last synced one, so that a power failure leaves at least that one whole. It only ever
//! says what is durable already.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ambit_core::guard;
use ambit_core::ledger::{Checkpoint, Hash, VerifierKey};

use super::{StoreError, home};

const SLOT: usize = 4096;

/// Where the high-water checkpoint is kept.
#[derive(Clone, Debug)]
pub struct HighWaterOptions {
    /// The file; its directory exists. It protects as far as it is out of reach for whoever might restore an older home.
    pub path: PathBuf,
    /// How long a newer checkpoint may go unsynced: what a power failure may lose of the protection, never of the ledger.
    pub sync_every: Duration,
}

/// What a high-water file says.
#[derive(Debug)]
pub(super) enum Mark {
    /// There is no file.
    Missing,
    /// An empty file: the operator's word that the ledger is to be taken as it is.
    Empty,
    /// The largest signed checkpoint in it, and the slot it is in.
    At(Checkpoint, u64),
}

pub(super) fn read(path: &Path, key: &VerifierKey) -> Result<Mark, StoreError> {
    let Some(slots) = read_slots(path)? else {
        return Ok(Mark::Missing);
    };
    if slots.is_empty() {
        return Ok(Mark::Empty);
    }
    let signed = slots.iter().zip(0..);
    let signed = signed.filter_map(|(note, slot)| Some((Checkpoint::parse_verified(note, key).ok()?, slot)));
    match signed.max_by_key(|(checkpoint, _)| checkpoint.size()) {
        Some((checkpoint, slot)) => Ok(Mark::At(checkpoint, slot)),
        None => Err(StoreError::HighWater {
            path: path.to_owned(),
            why: "has no checkpoint signed by this home's key".into(),
        }),
    }
}

/// The checkpoints in a high-water file that `key` signed: for an audit to hold the ledger against. None of an empty file, and `None`
/// where there is no file. At most one of its two slots may be half-written, and is left out.
///
/// # Errors
/// [`StoreError::HighWater`] where the file has something in it that `key` did not sign, [`StoreError::Io`] where it can't be read.
pub fn high_water_notes(path: &Path, key: &VerifierKey) -> Result<Option<Vec<String>>, StoreError> {
    match read(path, key)? {
        Mark::Missing => Ok(None),
        Mark::Empty => Ok(Some(Vec::new())),
        Mark::At(..) => {
            let slots = read_slots(path)?.unwrap_or_default();
            let signed = |note: &String| Checkpoint::parse_verified(note, key).is_ok();
            Ok(Some(slots.into_iter().filter(signed).collect()))
        }
    }
}

/// What stands in the slots, without the padding; none where there is no file.
fn read_slots(path: &Path) -> Result<Option<Vec<String>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io(path, &error)),
    };
    let mut bytes = Vec::new();
    // No more than there is to it, whatever the path names.
    let read = file.take(2 * SLOT as u64).read_to_end(&mut bytes);
    read.map_err(|error| StoreError::io(path, &error))?;
    let note = |slot: &[u8]| format!("{}\n", String::from_utf8_lossy(slot).trim_end_matches('\n'));
    Ok(Some(bytes.chunks(SLOT).map(note).collect()))
}

/// Refuses a ledger of `size` entries that does not continue the one which `known` signs; `root` gives the root of its first entries.
///
/// # Errors
/// [`StoreError::Shorter`], [`StoreError::Rewritten`], and what `root` fails with.
pub(super) fn check(
    path: &Path,
    known: &Checkpoint,
    size: u64,
    root: impl FnOnce(u64) -> Result<Hash, StoreError>,
) -> Result<(), StoreError> {
    if !guard!("ledger.high-water", size >= known.size()) {
        return Err(StoreError::Shorter {
            ledger: size,
            known: known.size(),
            path: path.to_owned(),
        });
    }
    // Beyond the guard above, which tests may switch off, a shorter ledger has no root to compare.
    if size >= known.size() && !guard!("ledger.high-water-root", root(known.size())? == known.root()) {
        return Err(StoreError::Rewritten {
            ledger: size,
            known: known.size(),
            path: path.to_owned(),
        });
    }
    Ok(())
}

/// The file, kept by the writer.
pub(super) struct HighWater {
    path: PathBuf,
    file: File,
    sync_every: Duration,
    /// The slot that may be overwritten: the other one is synced.
    slot: u64,
    synced: Instant,
    dirty: bool,
}

impl HighWater {
    /// Opens the file for writing, and makes it where it is missing. `taken` is the slot of the checkpoint that it has.
    pub(super) fn open(options: &HighWaterOptions, taken: Option<u64>) -> Result<Self, StoreError> {
        let path = options.path.clone();
        let fail = |error: io::Error| StoreError::io(&path, &error);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            home::sync_dir(dir).map_err(fail)?;
        }
        let slot = taken.map_or(0, other);
        Ok(Self {
            file,
            sync_every: options.sync_every,
            slot,
            synced: Instant::now(),
            dirty: false,
            path,
        })
    }

    /// Writes a checkpoint of what is durable now, and syncs where that is due.
    pub(super) fn advance(&mut self, note: &str) -> Result<(), String> {
        let mut bytes = note.as_bytes().to_vec();
        bytes.resize(SLOT.max(bytes.len()), b'\n');
        self.file
            .write_all_at(&bytes, self.slot * SLOT as u64)
            .map_err(|error| self.cause(&error))?;
        self.dirty = true;
        if self.due() == Some(Duration::ZERO) {
            self.sync()
        } else {
            Ok(())
        }
    }

    /// How long the last checkpoint may still go unsynced; none when it is synced.
    pub(super) fn due(&self) -> Option<Duration> {
        self.dirty
            .then(|| self.sync_every.saturating_sub(self.synced.elapsed()))
    }

    /// Waits until the last checkpoint is on the disk.
    pub(super) fn sync(&mut self) -> Result<(), String> {
        if self.dirty {
            self.file.sync_data().map_err(|error| self.cause(&error))?;
            (self.dirty, self.slot) = (false, other(self.slot));
        }
        self.synced = Instant::now();
        Ok(())
    }

    fn cause(&self, error: &io::Error) -> String {
        format!("the high-water checkpoint {}: {error}", self.path.display())
    }
}

const fn other(slot: u64) -> u64 {
    1 - slot % 2
}
