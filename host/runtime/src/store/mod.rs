//! The store: what makes the ledger durable.
//!
//! [`Store::commit`] is the one way to write. A [`Batch`] of entries, payloads and transcript rows becomes durable as a whole or not at
//! all; when `commit` returns, it is. A batch with an intent gives back a [`Durable`], without which the gate sends nothing: the
//! compiler keeps "no record, no effect".
//!
//! What is where:
//!
//! - One thread writes (`writer`); callers share its transactions and syncs.
//! - Budgets, and what is under way, follow from the entries (`books`) and are kept in the same transaction; their time is the ledger's.
//! - Payloads are encrypted by the thread that has them (`vault`).
//! - Values are erased by the entry that says so (`erasure`).
//! - What is written is counted (`meter`), once whoever waits for it was answered.
//! - What operators stopped is in memory too, with the calls that run (`board`), and so are the keys of agents (`keyring`).
//! - After the first failure of the disk nothing is written any more: [`Store::failed`].
//!
//! Reading is apart: a [`Reader`] needs no lock and, but for payloads, no secret.

mod batch;
mod board;
mod books;
mod disk;
mod durable;
mod erasure;
mod error;
mod fault;
mod high_water;
mod home;
mod keyring;
mod keys;
mod map_books;
mod measure;
mod memory;
mod meter;
mod options;
mod past;
mod progress;
mod reader;
mod schema;
mod tables;
#[cfg(test)]
mod tests;
mod undoing;
mod vault;
mod writer;

use std::path::Path;
use std::sync::Arc;

use ambit_core::digest::Digest;
use ambit_core::identity::key::ApiKey;
use ambit_core::ledger::VerifierKey;

pub use batch::{Batch, TranscriptRow};
pub(crate) use board::{Board, Entered, Leave, Running};
pub(crate) use books::place_one;
pub use books::{Delegated, Held, InForce, Window, Work};
pub use durable::{Again, Durable, Intent};
pub use erasure::{Erased, Erasure, Kept, Values};
pub use error::StoreError;
pub(crate) use error::unread;
pub use fault::{Fault, Faults, Step};
pub use high_water::{HighWaterOptions, high_water_notes};
pub(crate) use keys::WordKey;
pub use keys::{Keys, verifier};
pub(crate) use keys::{made_run_token_key, run_token_key};
pub use measure::{Rate, appends, callers, file_appends};
pub(crate) use meter::Meter;
pub use options::{Clock, StoreOptions};
pub use past::{Circuit, Past, Since};
pub use progress::{Progress, Tried};
pub use reader::{Accounts, BrokenGlass, BudgetState, CallFilter, Person, Reader, Slice, Undelivered, Unfinished};
pub use vault::Payload;

#[cfg(test)]
pub(crate) use reader::counted::rows as rows_read;

use disk::Disk;
use memory::Memory;
use writer::Written;

/// A home's ledger and what stands beside it, held by this process alone.
pub struct Store(Place);

enum Place {
    Disk(Box<Disk>),
    Memory(Box<Memory>, Clock),
}

/// A batch that is durable.
#[derive(Debug)]
#[non_exhaustive]
pub struct Committed {
    /// The ledger index of its first entry.
    pub first_index: u64,
    /// How many entries it has; they stand next to each other.
    pub entries: u64,
    /// The time of its last entry, in milliseconds since 1970.
    pub time_ms: i64,
    /// The ledger index of the last entry that it was made with, and the digest of that one's bytes; none of a batch without entries.
    pub last: Option<(u64, Digest)>,
    /// The signed checkpoint that covers it, which it shares with the other batches of its group. None from a store in memory.
    pub checkpoint: Option<Arc<str>>,
    /// Leave to send what the batch intended, where it did.
    pub durable: Option<Durable>,
}

impl Store {
    /// Opens the ledger of a home, and begins it where there is none.
    ///
    /// What a crash left is found by [`Reader::unfinished`]; ending it on the ledger is the caller's.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where another process holds the home; where the ledger is of another version, key or shorter than it was; where
    /// the home can't be written. Nothing is changed then.
    pub fn open(home: &Path, keys: Keys, options: StoreOptions, faults: Faults) -> Result<Self, StoreError> {
        Disk::open(home, keys, options, faults)
            .map(Box::new)
            .map(Place::Disk)
            .map(Self)
    }

    /// A store that only looks like one: entries are sealed and hashed, budgets and order hold, but nothing is durable, encrypted or signed.
    /// For tests, and to measure what the rest of a call costs.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn memory(keys: Keys, options: StoreOptions) -> Result<Self, StoreError> {
        let store = Self(Place::Memory(Box::new(Memory::new(keys)), options.clock));
        store.commit(disk::opening(store.verifier()))?;
        Ok(store)
    }

    /// Writes a batch, and returns when it is durable. Blocks; many threads may call it, and share syncs when they do.
    ///
    /// # Errors
    /// [`StoreError::Budget`] where a reservation passes its cap, [`StoreError::NoRoom`] where what is left of the disk is kept for what is
    /// under way, [`StoreError::Stopped`] for an intent that an operator's stop forbids, [`StoreError::Batch`] where the batch contradicts itself or the ledger: nothing of it is written, and the store goes on.
    /// [`StoreError::Failed`] once the disk has failed: whether this batch is durable is not known, no later one is, and the process should
    /// end.
    pub fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        self.commit_while(batch, || ())
    }

    /// The same, and does something else meanwhile that has nothing to do with the batch. Where the batch is not taken, that may not be
    /// done.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub(crate) fn commit_while(&self, mut batch: Batch, meanwhile: impl FnOnce()) -> Result<Committed, StoreError> {
        let asked = batch.leave()?;
        let written = match &self.0 {
            Place::Disk(disk) => disk.commit(batch, meanwhile),
            Place::Memory(memory, clock) => {
                meanwhile();
                memory.commit(batch, clock())
            }
        }?;
        let Written {
            first_index,
            entries,
            time_ms,
            last,
            checkpoint,
        } = written;
        let durable = asked.map(|asked| {
            let leave = Leave::of(self.board(), &asked.again);
            Durable::new(asked.again, first_index + asked.position as u64, leave)
        });
        Ok(Committed {
            first_index,
            entries,
            time_ms,
            last,
            checkpoint,
            durable,
        })
    }

    /// Erases the values of calls that are over, for good: their keys are overwritten and found in no file of the home any more, unless
    /// somebody reads the ledger meanwhile ([`Reader::erasing`] tells). Entries say which, how many and why; all else stays.
    ///
    /// # Errors
    /// As [`Store::commit`]: [`StoreError::Batch`] where there is nothing to erase, a call is not over, or its values are not those that
    /// were found. [`StoreError::Io`] where the erasure is done, and a file that nobody can decrypt any more could not be removed: whoever
    /// opens the home next removes it.
    pub fn erase(&self, erasure: &Erasure) -> Result<Committed, StoreError> {
        let batch = erasure.batch();
        if batch.entries.is_empty() {
            return Err(StoreError::batch("there is nothing to erase"));
        }
        self.commit(batch)
    }

    /// What is stopped, and the calls that run.
    pub(crate) const fn board(&self) -> &Arc<Board> {
        match &self.0 {
            Place::Disk(disk) => disk.board(),
            Place::Memory(memory, _) => memory.board(),
        }
    }

    /// What this process counts.
    pub(crate) const fn meter(&self) -> &Arc<Meter> {
        match &self.0 {
            Place::Disk(disk) => disk.meter(),
            Place::Memory(memory, _) => memory.meter(),
        }
    }

    /// A key that an agent is known by over HTTP, good or over; none where there is none of that id. As it is on the ledger now, from memory.
    pub(crate) fn api_key(&self, id: &str) -> Option<ApiKey> {
        match &self.0 {
            Place::Disk(disk) => disk.api_key(id),
            Place::Memory(memory, _) => memory.api_key(id),
        }
    }

    /// A view of the ledger, payloads included, on a connection of its own. Of a store in memory, a copy as it is now.
    ///
    /// # Errors
    /// Where the ledger can't be read.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        match &self.0 {
            Place::Disk(disk) => disk.reader(),
            Place::Memory(memory, _) => memory.reader(),
        }
    }

    /// The time of the ledger's last entry, in milliseconds since 1970: it never goes back, as the machine's clock may.
    ///
    /// # Errors
    /// Where the ledger can't be read.
    pub fn time_ms(&self) -> Result<u64, StoreError> {
        match &self.0 {
            Place::Disk(disk) => disk.time_ms(),
            Place::Memory(memory, _) => Ok(memory.time_ms()),
        }
    }

    /// A payload of a call; none where there is none of that name.
    ///
    /// # Errors
    /// [`StoreError::Payload`] where it was changed.
    pub fn payload(&self, call: &str, name: &str) -> Result<Option<Payload>, StoreError> {
        match &self.0 {
            Place::Disk(disk) => disk.payload(call, name),
            Place::Memory(memory, _) => Ok(memory.payload(call, name)),
        }
    }

    /// What verifies this ledger's checkpoints.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierKey {
        match &self.0 {
            Place::Disk(disk) => disk.verifier(),
            Place::Memory(memory, _) => memory.keys().verifier(),
        }
    }

    /// The first failure of the disk, after which nothing is written any more: the process should end.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        match &self.0 {
            Place::Disk(disk) => disk.failed(),
            Place::Memory(..) => None,
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = if matches!(self.0, Place::Disk(_)) {
            "disk"
        } else {
            "memory"
        };
        write!(f, "Store({place}, {})", self.verifier())
    }
}
