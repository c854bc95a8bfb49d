//! A store without a disk, for tests and for measuring what the rest costs.
//!
//! Entries are sealed, hashed and put into the tree, and budgets and order hold, as in a home. But nothing is durable, nothing is
//! encrypted, no checkpoint is signed, and all of it stays in memory until the store goes: of entries their bytes, one after another.

use std::sync::Arc;

use ambit_core::identity::key::ApiKey;
use ambit_core::ledger::{Checkpoint, Entry, EntryDraft};
use parking_lot::Mutex;

use super::batch::{Batch, TranscriptRow};
use super::board::{Board, Change};
use super::map_books::MapBooks;
use super::meter::Meter;
use super::tables::{Place, StoredPayload, Tables};
use super::vault::{Payload, Sealed};
use super::writer::{Tail, Written, last_of};
use super::{Keys, Reader, StoreError, books, schema};

pub(super) struct Memory {
    keys: Keys,
    board: Arc<Board>,
    meter: Arc<Meter>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tail: Tail,
    books: MapBooks,
    kept: Vec<Kept>,
    /// The bytes of all entries.
    entries: Vec<u8>,
}

/// A batch as it was written.
struct Kept {
    /// The lengths of its entries.
    entries: Vec<usize>,
    payloads: Vec<Payload>,
    transcript: Vec<TranscriptRow>,
}

impl Memory {
    pub(super) fn new(keys: Keys) -> Self {
        Self {
            keys,
            board: Board::new(Vec::new()),
            meter: Arc::default(),
            state: Mutex::default(),
        }
    }

    pub(super) const fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) const fn board(&self) -> &Arc<Board> {
        &self.board
    }

    pub(super) const fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    pub(super) fn commit(&self, batch: Batch, clock_ms: i64) -> Result<Written, StoreError> {
        if batch.erased_calls().next().is_some() {
            return Err(StoreError::batch("a store in memory keeps what it has until it goes"));
        }
        let mut state = self.state.lock();
        let State {
            tail,
            books,
            kept,
            entries: bytes,
        } = &mut *state;
        let mut next = tail.clone();
        let changes = Change::of(&batch.entries);
        let own = batch.entries.len();
        let entries = match posted(&mut next, books, batch.entries, clock_ms) {
            Ok(entries) => entries,
            Err(error) => {
                books.take_back();
                return Err(error);
            }
        };
        books.keep();
        self.board.apply(&changes);
        entries
            .iter()
            .for_each(|entry| next.frontier.append(entry.leaf(), |_, _| ()));
        let written = Written {
            first_index: tail.frontier.size(),
            entries: entries.len() as u64,
            time_ms: next.time_ms(),
            last: last_of(&entries, own),
            checkpoint: None,
        };
        *tail = next;
        entries.iter().for_each(|entry| bytes.extend_from_slice(entry.bytes()));
        // All that was ever written was written by this process.
        self.meter.note(&entries, |_, _| Vec::new());
        kept.push(Kept {
            entries: entries.iter().map(|entry| entry.bytes().len()).collect(),
            payloads: batch.payloads,
            transcript: batch.transcript,
        });
        Ok(written)
    }

    pub(super) fn time_ms(&self) -> u64 {
        u64::try_from(self.state.lock().tail.time_ms()).unwrap_or_default()
    }

    pub(super) fn api_key(&self, id: &str) -> Option<ApiKey> {
        self.state.lock().books.api_keys.get(id).cloned()
    }

    pub(super) fn payload(&self, call: &str, name: &str) -> Option<Payload> {
        let state = self.state.lock();
        let payloads = state.kept.iter().flat_map(|kept| &kept.payloads);
        payloads
            .into_iter()
            .find(|payload| payload.call == call && payload.name == name)
            .cloned()
    }

    /// What is there now, as a home would have it.
    pub(super) fn reader(&self) -> Result<Reader, StoreError> {
        let fail = |error: rusqlite::Error| StoreError::damaged(error.to_string());
        let connection = schema::open_memory().map_err(fail)?;
        let vault = Arc::new(self.keys.vault());
        let mut tables = Tables::new(&connection).map_err(fail)?;
        let mut tail = Tail::default();
        let state = self.state.lock();
        let mut bytes = state.entries.as_slice();
        for kept in &state.kept {
            let mut next = |length: &usize| {
                let (entry, rest) = bytes.split_at_checked(*length).unwrap_or_default();
                bytes = rest;
                Entry::parse(entry)
            };
            let entries = kept.entries.iter().map(&mut next).collect::<Result<Vec<_>, _>>()?;
            let payloads = kept
                .payloads
                .iter()
                .map(|payload| vault.seal(payload, || Ok(None)).map(in_row));
            let payloads = payloads.collect::<Result<Vec<_>, _>>()?;
            tables.write(&mut tail.frontier, &entries, &payloads, &kept.transcript)?;
        }
        let size = tail.frontier.size();
        let note = Checkpoint::sign(size, tail.frontier.root(), self.keys.ledger());
        tables.add_checkpoint(size, &note)?;
        drop(tables);
        Ok(Reader::over(connection, None, Some(vault)))
    }
}

/// Seals and posts entries, and those that have to follow them.
fn posted(
    tail: &mut Tail,
    books: &mut MapBooks,
    drafts: Vec<EntryDraft>,
    clock_ms: i64,
) -> Result<Vec<Entry>, StoreError> {
    let (mut drafts, mut written) = (drafts, Vec::new());
    while !drafts.is_empty() {
        let entries = tail.seal(std::mem::take(&mut drafts), clock_ms)?;
        for entry in &entries {
            drafts.extend(books::post(books, entry)?);
        }
        written.extend(entries);
    }
    Ok(written)
}

fn in_row(sealed: Sealed) -> StoredPayload {
    let Sealed {
        call,
        name,
        wrapped,
        bytes,
    } = sealed;
    StoredPayload {
        call,
        name,
        wrapped,
        place: Place::Row(bytes),
    }
}
