//! Erasing the values of calls, and nothing else: entries, commitments and proofs stay as they are.
//!
//! A `values-erased` entry is the erasure. In its transaction the calls' wrapped data keys are overwritten and their sealed values
//! emptied, and a mark is set: the keys may still be found in the files. [`finish`] then rewrites what SQLite may keep copies in,
//! empties the write-ahead log, and takes the mark away. Whoever opens a home with the mark finishes first; files of large values that
//! no row names any more are removed at every opening.

use std::collections::HashMap;
use std::fmt;
use std::fs;

use ambit_core::digest::Digest;
use ambit_core::ledger::body::{Age, MOST_ERASED, Reason, Subject, ValuesErased};
use ambit_core::ledger::{Body, Entry, EntryDraft, Principal, utc};
use rusqlite::{Connection, OptionalExtension as _};

use super::fault::{Faults, Step};
use super::{Batch, Reader, StoreError, home, reader};

/// In `meta`: that an erasure is on the ledger, and its keys may still be found in the database's files.
pub(super) const ERASING: &str = "erasing";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What an erasure would take: found by [`Reader::erasable`], carried out by [`Store::erase`](super::Store::erase).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    why: Reason,
    /// Each with how many values it has, in the order in which they began.
    calls: Vec<(String, u64)>,
    bytes: u64,
    span_ms: Option<(i64, i64)>,
    kept: Vec<(String, Kept)>,
}

/// Why the values of a call that was meant too stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is not over.
    NotOver,
    /// Nobody has said what became of an effect of it: finding out takes what was sent.
    InDoubt,
}

impl Erasure {
    fn none(why: Reason) -> Self {
        Self {
            why,
            calls: Vec::new(),
            bytes: 0,
            span_ms: None,
            kept: Vec::new(),
        }
    }

    /// How many calls lose their values.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.len() as u64
    }

    /// How many values they have, all together.
    #[must_use]
    pub fn values(&self) -> u64 {
        self.calls.iter().map(|(_, values)| values).sum()
    }

    /// How many bytes the values have as they are stored.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the first and the last of the calls began, in milliseconds since 1970.
    #[must_use]
    pub const fn span_ms(&self) -> Option<(i64, i64)> {
        self.span_ms
    }

    /// The calls that were meant too, and whose values stay for this reason.
    pub fn kept(&self, why: Kept) -> impl Iterator<Item = &str> {
        self.kept
            .iter()
            .filter(move |(_, kept)| *kept == why)
            .map(|(call, _)| call.as_str())
    }

    /// How many calls were meant too and are not over: their values stay.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.kept(Kept::NotOver).count() as u64
    }

    /// What it is about, by a digest: why, the calls, and how many values each has.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut text = format!("{}\n", self.why);
        for (call, values) in &self.calls {
            text.push_str(&format!("{call} {values}\n"));
        }
        Digest::of(text.as_bytes())
    }

    fn add(&mut self, call: &str, began_ms: i64, (values, bytes): (u64, u64)) {
        self.calls.push((call.to_owned(), values));
        self.bytes += bytes;
        let first = self.span_ms.map_or(began_ms, |(first, _)| first);
        self.span_ms = Some((first, began_ms));
    }

    /// The entries that erase, each with as many calls as fit.
    pub(super) fn batch(&self) -> Batch {
        let mut calls = self.calls.clone();
        calls.sort_unstable();
        let entry = |calls: &[(String, u64)]| {
            EntryDraft::of_ledger(ValuesErased {
                calls: calls.iter().map(|(call, _)| call.clone()).collect(),
                values: calls.iter().map(|(_, values)| values).sum(),
                why: self.why.clone(),
            })
        };
        Batch {
            entries: calls.chunks(MOST_ERASED).map(entry).collect(),
            ..Batch::default()
        }
    }
}

/// The ledger's word that the values of a call were erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// The index of the entry that says so.
    pub index: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// Why.
    pub why: Reason,
}

impl fmt::Display for Erased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = utc(self.time_ms);
        let day = time.split('T').next().unwrap_or_default();
        write!(f, "erased on {day} (entry {}, {})", self.index, self.why)
    }
}

/// All that a ledger says was erased.
#[derive(Default)]
pub(super) struct Erasures {
    /// By call: the entry that erased its values.
    pub(super) calls: HashMap<String, u64>,
    /// By entry: how many values it says that it erased.
    pub(super) values: HashMap<u64, u64>,
}

/// What was found of the values of all calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// Opened, and the ones that entries commit to.
    pub checked: u64,
    /// Gone, as entries say.
    pub erased: u64,
}

impl Reader {
    /// The calls that are over and whose values there is `why` to erase, at a time in milliseconds since 1970. A call is as old as its end.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn erasable(&self, why: Reason, now_ms: i64) -> Result<Erasure, StoreError> {
        let before = match &why {
            Reason::Age(Age { days }) => now_ms.saturating_sub(i64::from(*days) * DAY_MS),
            Reason::Subject(_) => i64::MAX,
        };
        let mut found = Erasure::none(why);
        // The keys first would be in no order; erased calls are not read again.
        let sql = "SELECT bytes FROM entries CROSS JOIN data_keys USING (call)
                   WHERE kind IN ('call-accepted', 'call-denied') AND length(wrapped) > 0 ORDER BY idx";
        self.each_entry(sql, |first| {
            if first.time_ms() >= before {
                return Ok(false);
            }
            if is_meant(&found.why, first.principal()) {
                let call = first.call().unwrap_or_default();
                match self.end_ms(call)? {
                    None => found.kept.push((call.to_owned(), Kept::NotOver)),
                    Some(end) if end < before && self.is_doubtful(call)? => {
                        found.kept.push((call.to_owned(), Kept::InDoubt));
                    }
                    Some(end) if end < before => found.add(call, first.time_ms(), self.weight(call)?),
                    Some(_) => {}
                }
            }
            Ok(true)
        })?;
        Ok(found)
    }

    /// The ledger's word that a call's values were erased; none where it says nothing of the kind.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn erased(&self, call: &str) -> Result<Option<Erased>, StoreError> {
        let sql = "SELECT bytes FROM entries
                   WHERE call IS NULL AND kind = 'values-erased' AND instr(bytes, ?1) > 0 ORDER BY idx";
        let rows: Vec<Vec<u8>> = self.all(sql, [call.as_bytes()], |row| row.get(0))?;
        for bytes in rows {
            let entry = Entry::parse(&bytes)?;
            if let Body::ValuesErased(body) = entry.body()
                && body.calls.iter().any(|erased| erased == call)
            {
                return Ok(Some(Erased {
                    index: entry.index(),
                    time_ms: entry.time_ms(),
                    why: body.why.clone(),
                }));
            }
        }
        Ok(None)
    }

    /// Whether an erasure is on the ledger that is not finished: keys that are erased may still be found in the home's files.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn erasing(&self) -> Result<bool, StoreError> {
        Ok(self.meta(ERASING)?.is_some())
    }

    /// Why a value that has no key any more cannot be read.
    pub(super) fn gone(&self, call: &str, name: &str) -> Result<StoreError, StoreError> {
        Ok(match self.erased(call)? {
            Some(erased) => StoreError::Erased {
                call: call.into(),
                name: name.into(),
                erased,
            },
            None => StoreError::Payload {
                call: call.into(),
                name: name.into(),
                why: "is gone, and no entry of the ledger says that it was erased".into(),
            },
        })
    }

    /// All that the ledger says was erased.
    pub(super) fn erasures(&self) -> Result<Erasures, StoreError> {
        let mut said = Erasures::default();
        let sql = "SELECT bytes FROM entries WHERE call IS NULL AND kind = 'values-erased' ORDER BY idx";
        self.each_entry(sql, |entry| {
            if let Body::ValuesErased(body) = entry.body() {
                said.values.insert(entry.index(), body.values);
                said.calls
                    .extend(body.calls.iter().map(|call| (call.clone(), entry.index())));
            }
            Ok(true)
        })?;
        Ok(said)
    }

    /// Something that is left of a call whose values are erased: the name of a value, or `key`.
    pub(super) fn left_of(&self, call: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT coalesce(name, 'key') FROM data_keys LEFT JOIN payloads USING (call)
                   WHERE call = ?1 AND (length(wrapped) > 0 OR length(sealed) > 0 OR file IS NOT NULL)";
        self.one(sql, [call], |row| row.get(0))
    }

    /// The names of a call's payload files.
    pub(super) fn files_of(&self, call: &str) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT file FROM payloads WHERE call = ?1 AND file IS NOT NULL";
        self.all(sql, [call], |row| row.get(0))
    }

    /// When a call ended, in milliseconds since 1970; none where it has not.
    fn end_ms(&self, call: &str) -> Result<Option<i64>, StoreError> {
        // It need not be the last that is said of it: what became of an effect in doubt can be found out later.
        let sql = "SELECT bytes FROM entries WHERE call = ?1 AND kind IN ('call-finished', 'call-denied')";
        let bytes: Option<Vec<u8>> = self.one(sql, [call], |row| row.get(0))?;
        let end = bytes.map(|bytes| Entry::parse(&bytes)).transpose()?;
        Ok(end.map(|end| end.time_ms()))
    }

    /// Whether nobody has said what became of an effect of a call that is in doubt.
    fn is_doubtful(&self, call: &str) -> Result<bool, StoreError> {
        let one = self.one("SELECT 1 FROM doubts WHERE call = ?1 LIMIT 1", [call], |row| {
            row.get::<_, u64>(0)
        })?;
        Ok(one.is_some())
    }

    /// How many values a call has, and how many bytes they take.
    fn weight(&self, call: &str) -> Result<(u64, u64), StoreError> {
        let sql = "SELECT count(*), coalesce(sum(length(sealed)), 0) FROM payloads WHERE call = ?1";
        let rows = self.one(sql, [call], |row| Ok((row.get(0)?, row.get::<_, u64>(1)?)))?;
        let (values, in_rows) = rows.unwrap_or_default();
        let Some(home) = self.home() else {
            return Ok((values, in_rows));
        };
        let dir = home::payload_dir(home);
        let files = self.files_of(call)?.into_iter();
        // A file that is gone weighs nothing; what that means is for an audit.
        let in_files = files.map(|file| fs::metadata(dir.join(file)).map_or(0, |file| file.len()));
        Ok((values, in_rows + in_files.sum::<u64>()))
    }
}

/// Whether there is this reason to erase the values of a principal's call. A call that was denied before its caller was known is nobody's.
fn is_meant(why: &Reason, principal: Option<&Principal>) -> bool {
    match why {
        Reason::Age(_) => true,
        Reason::Subject(Subject::Agent(name)) => principal.is_some_and(|principal| principal.agent == *name),
        Reason::Subject(Subject::User(name)) => {
            principal.is_some_and(|principal| principal.user.as_ref() == Some(name))
        }
    }
}

/// Finishes an erasure that is on the ledger: afterwards the erased keys are in no file of the database. False where somebody reads the
/// ledger for so long that the log cannot be emptied: the mark stays, and the next opening finishes.
///
/// # Errors
/// What the disk or SQLite said.
pub(super) fn finish(connection: &Connection, faults: &Faults) -> Result<bool, String> {
    let marked = reader::meta(connection, ERASING).map_err(|error| error.to_string())?;
    if marked.is_none() {
        return Ok(true);
    }
    let text = |error: rusqlite::Error| error.to_string();
    faults.at(Step::RewriteKeys)?;
    rewrite_keys(connection).map_err(text)?;
    faults.at(Step::EmptyLog)?;
    if !empty_log(connection).map_err(text)? {
        return Ok(false);
    }
    let sql = "DELETE FROM meta WHERE name = ?1";
    connection.execute(sql, [ERASING]).map_err(text)?;
    Ok(true)
}

/// Writes the table of keys anew. A page of a table may hold copies of rows that have moved to other pages since, which `secure_delete`
/// knows nothing of; a page that is given up is overwritten as a whole.
fn rewrite_keys(connection: &Connection) -> rusqlite::Result<()> {
    const REWRITE: &str = "
        BEGIN IMMEDIATE;
        CREATE TEMP TABLE kept AS SELECT call, wrapped FROM data_keys;
        DELETE FROM data_keys;
        INSERT INTO data_keys(call, wrapped) SELECT call, wrapped FROM kept ORDER BY call;
        DROP TABLE temp.kept;
        COMMIT;";
    // Every key that a value refers to is there again at the end. With the check, each row would be deleted by itself.
    connection.execute_batch("PRAGMA foreign_keys = OFF")?;
    let done = connection.execute_batch(REWRITE);
    if done.is_err() {
        drop(connection.execute_batch("ROLLBACK"));
    }
    connection.execute_batch("PRAGMA foreign_keys = ON")?;
    done
}

/// Copies the whole log into the database and cuts it to nothing; false where a reader still needs it.
fn empty_log(connection: &Connection) -> rusqlite::Result<bool> {
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    Ok(!busy.optional()?.unwrap_or(true))
}
