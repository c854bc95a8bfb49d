//! Reading a ledger: for audits, beside the process that holds the home or without one, and for the store itself.

mod audit;
mod budgets;
mod calls;
mod people;
mod proofs;
mod webhooks;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ambit_core::digest::Digest;
use ambit_core::ledger::{Body, Entry, Hash, Kind, LedgerError, Node, tiles};
use rusqlite::{Connection, OptionalExtension as _, Params, Row, ToSql, params};

pub use budgets::{Accounts, BudgetState, Slice};
pub use calls::{CallFilter, Unfinished};
pub use people::{BrokenGlass, Person};
pub use webhooks::Undelivered;

use super::batch::TranscriptRow;
use super::books::{InForce, Work};
use super::tables::{self, CALL, index};
use super::vault::{Payload, Vault};
use super::{Keys, StoreError, home, schema};

/// A read-only view of a ledger: each method sees all that was durable when it was called, entries whole batches at a time.
pub struct Reader {
    connection: Connection,
    /// Where large payloads are.
    home: Option<PathBuf>,
    vault: Option<Arc<Vault>>,
}

impl Reader {
    /// Opens a home's ledger for reading. Needs neither the home's lock nor its secret keys.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::NotALedger`], [`StoreError::Version`], [`StoreError::Io`].
    pub fn open(home: &Path) -> Result<Self, StoreError> {
        Ok(Self::over(schema::open_reader(home)?, Some(home), None))
    }

    /// With the keys that decrypt payloads.
    #[must_use]
    pub fn with_keys(self, keys: &Keys) -> Self {
        Self {
            vault: Some(Arc::new(keys.vault())),
            ..self
        }
    }

    pub(super) fn over(connection: Connection, home: Option<&Path>, vault: Option<Arc<Vault>>) -> Self {
        Self {
            connection,
            home: home.map(Path::to_owned),
            vault,
        }
    }

    /// How many entries the ledger has.
    ///
    /// # Errors
    /// Where reading fails; this goes for every method.
    pub fn size(&self) -> Result<u64, StoreError> {
        size(&self.connection)
    }

    /// The time of the last entry, in milliseconds since 1970: it never goes back. 0 where there is none.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where the last row is not an entry.
    pub fn time_ms(&self) -> Result<u64, StoreError> {
        let last = self.size()?.checked_sub(1);
        let last = last.map(|last| self.entry(last)).transpose()?;
        Ok(last.map_or(0, |last| u64::try_from(last.time_ms()).unwrap_or_default()))
    }

    /// The entry at an index.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] beyond the end, and where the row is not an entry.
    pub fn entry(&self, index: u64) -> Result<Entry, StoreError> {
        entry(&self.connection, index)
    }

    /// Up to `limit` entries from an index on.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn entries(&self, from: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<Vec<u8>> = self.all(
            "SELECT bytes FROM entries WHERE idx >= ?1 ORDER BY idx LIMIT ?2",
            params![index(from)?, limit],
            |row| row.get(0),
        )?;
        parse(&rows)
    }

    /// The entries of a call, in order; none where there is no such call.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn entries_of(&self, call: &str) -> Result<Vec<Entry>, StoreError> {
        let rows: Vec<Vec<u8>> = self.all(
            "SELECT bytes FROM entries WHERE call = ?1 ORDER BY idx",
            [call],
            |row| row.get(0),
        )?;
        parse(&rows)
    }

    /// The entries of a call before an index, in order: what an entry leaves to earlier ones is in these.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn entries_before(&self, call: &str, before: u64) -> Result<Vec<Entry>, StoreError> {
        entries_before(&self.connection, call, before)
    }

    /// The index of the first entry at this time or later, in milliseconds since 1970; how many there are, where there is none.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn first_since(&self, since_ms: i64) -> Result<u64, StoreError> {
        // The ledger's time never goes back.
        let (mut from, mut to) = (0, self.size()?);
        while from < to {
            let middle = from + (to - from) / 2;
            match self.entry(middle)?.time_ms() < since_ms {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        Ok(from)
    }

    /// Gives entries from an index on to `take`, in order, until it wants no more or there are none. Reads a page at a time, however many
    /// there are.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry; and what `take` fails of.
    pub fn each_from<E: From<StoreError>>(
        &self,
        mut from: u64,
        mut take: impl FnMut(&Entry) -> Result<bool, E>,
    ) -> Result<(), E> {
        /// An entry has 64 KiB at most, and a kilobyte mostly.
        const PAGE: usize = 256;
        loop {
            let page = self.entries(from, PAGE)?;
            for entry in &page {
                if !take(entry)? {
                    return Ok(());
                }
            }
            from = match page.last() {
                Some(last) => last.index() + 1,
                None => return Ok(()),
            };
        }
    }

    /// The digests of the configuration and of the policies that the ledger last said are in force.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn in_force(&self) -> Result<(Option<Digest>, Option<Digest>), StoreError> {
        let config = self.last_of(Kind::ConfigChanged)?.and_then(|entry| match entry.body() {
            Body::ConfigChanged(changed) => Some(changed.to),
            _ => None,
        });
        let policy = self.last_of(Kind::PolicyChanged)?.and_then(|entry| match entry.body() {
            Body::PolicyChanged(changed) => Some(changed.to),
            _ => None,
        });
        Ok((config, policy))
    }

    fn last_of(&self, kind: Kind) -> Result<Option<Entry>, StoreError> {
        let rows: Vec<Vec<u8>> = self.all(
            "SELECT bytes FROM entries WHERE call IS NULL AND kind = ?1 ORDER BY idx DESC LIMIT 1",
            [kind.as_str()],
            |row| row.get(0),
        )?;
        Ok(parse(&rows)?.pop())
    }

    /// A payload of a call; none where there is none of that name.
    ///
    /// # Errors
    /// [`StoreError::Erased`] where it was erased, [`StoreError::Payload`] where the reader has no keys, other keys, or the payload was
    /// changed.
    pub fn payload(&self, call: &str, name: &str) -> Result<Option<Payload>, StoreError> {
        type Sealed = (Vec<u8>, Option<Vec<u8>>, Option<String>);
        let sql =
            "SELECT wrapped, sealed, file FROM payloads JOIN data_keys USING (call) WHERE call = ?1 AND name = ?2";
        let row: Option<Sealed> = self.one(sql, [call, name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let Some((wrapped, sealed, file)) = row else {
            return Ok(None);
        };
        if wrapped.is_empty() {
            return Err(self.gone(call, name)?);
        }
        let vault = self.vault.as_ref().ok_or_else(|| StoreError::Payload {
            call: call.into(),
            name: name.into(),
            why: "can't be read without the home's keys".into(),
        })?;
        let sealed = match (sealed, file, &self.home) {
            (Some(sealed), _, _) => sealed,
            (None, Some(file), Some(home)) => {
                let path = home::payload_dir(home).join(file);
                fs::read(&path).map_err(|error| StoreError::io(&path, &error))?
            }
            _ => return Ok(None),
        };
        vault.open(call, name, &wrapped, &sealed).map(Some)
    }

    /// The names of a call's payloads, in the order in which they were stored.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn payload_names(&self, call: &str) -> Result<Vec<String>, StoreError> {
        self.all("SELECT name FROM payloads WHERE call = ?1 ORDER BY id", [call], |row| {
            row.get(0)
        })
    }

    /// A call's transcript.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn transcript(&self, call: &str) -> Result<Vec<TranscriptRow>, StoreError> {
        let sql = "SELECT step, kind, effect, payload FROM transcript WHERE call = ?1 ORDER BY step";
        self.all(sql, [call], |row| {
            let effect: Option<[u8; 32]> = row.get(2)?;
            Ok(TranscriptRow {
                call: call.to_owned(),
                step: row.get(0)?,
                kind: row.get(1)?,
                effect: effect.map(Digest::from_bytes),
                payload: row.get(3)?,
            })
        })
    }

    /// The stops in force, in the order in which they began.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where a row is none.
    pub fn stops(&self) -> Result<Vec<InForce>, StoreError> {
        type Stored = (String, String, String, u64);
        let sql = "SELECT kind, scope, id, idx FROM stops ORDER BY idx";
        let rows: Vec<Stored> = self.all(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let in_force = |(kind, scope, id, index): Stored| {
            Ok(InForce {
                stop: tables::stop(&kind, &scope)?,
                id,
                index,
            })
        };
        rows.into_iter().map(in_force).collect()
    }

    /// The ledger's name.
    ///
    /// # Errors
    /// Where its first entry cannot be read, or does not open it.
    pub fn origin(&self) -> Result<String, StoreError> {
        match self.entry(0)?.body() {
            Body::LedgerOpened(opened) => Ok(opened.origin.clone()),
            _ => Err(StoreError::damaged("its first entry does not open it")),
        }
    }

    /// The wrapped data key of a call that has one.
    ///
    /// # Errors
    /// [`StoreError::Erased`] where it was erased: nothing can be stored for that call any more.
    pub(super) fn data_key(&self, call: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT wrapped FROM data_keys WHERE call = ?1";
        let wrapped: Option<Vec<u8>> = self.one(sql, [call], |row| row.get(0))?;
        match wrapped {
            Some(wrapped) if wrapped.is_empty() => Err(self.gone(call, "key")?),
            other => Ok(other),
        }
    }

    pub(super) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    pub(super) fn meta(&self, name: &str) -> Result<Option<String>, StoreError> {
        meta(&self.connection, name)
    }

    /// Gives the entries that a query finds to `take`, until that wants no more.
    pub(super) fn each_entry(
        &self,
        sql: &str,
        mut take: impl FnMut(&Entry) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare(sql).map_err(|error| self.fail(&error))?;
        let mut rows = statement.query([]).map_err(|error| self.fail(&error))?;
        while let Some(row) = rows.next().map_err(|error| self.fail(&error))? {
            let bytes: Vec<u8> = row.get(0).map_err(|error| self.fail(&error))?;
            if !take(&Entry::parse(&bytes)?)? {
                break;
            }
        }
        Ok(())
    }

    /// The names of all payload files.
    pub(super) fn payload_files(&self) -> Result<Vec<String>, StoreError> {
        self.all("SELECT file FROM payloads WHERE file IS NOT NULL", [], |row| row.get(0))
    }

    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        self.connection
            .query_row(sql, params, row)
            .optional()
            .map_err(|error| self.fail(&error))
    }

    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let read = || {
            self.connection
                .prepare(sql)?
                .query_map(params, row)?
                .collect::<rusqlite::Result<Vec<T>>>()
        };
        let read = read().map_err(|error| self.fail(&error))?;
        #[cfg(test)]
        counted::add(read.len());
        Ok(read)
    }

    fn fail(&self, error: &rusqlite::Error) -> StoreError {
        fail(&self.connection, error)
    }
}

fn work(row: &Row<'_>) -> rusqlite::Result<Work> {
    let ordinal: i64 = row.get(1)?;
    Ok(Work {
        call: row.get(0)?,
        ordinal: if ordinal == CALL { None } else { Some(row.get(1)?) },
    })
}

fn parse(rows: &[Vec<u8>]) -> Result<Vec<Entry>, StoreError> {
    Ok(rows.iter().map(|bytes| Entry::parse(bytes)).collect::<Result<_, _>>()?)
}

fn fail(connection: &Connection, error: &rusqlite::Error) -> StoreError {
    let path = Path::new(connection.path().unwrap_or_default());
    schema::sqlite_error(path, path, error)
}

fn one<T: rusqlite::types::FromSql>(
    connection: &Connection,
    sql: &str,
    params: &[&dyn ToSql],
) -> Result<Option<T>, StoreError> {
    connection
        .query_row(sql, params, |row| row.get(0))
        .optional()
        .map_err(|error| fail(connection, &error))
}

pub(super) fn size(connection: &Connection) -> Result<u64, StoreError> {
    let size = one(connection, "SELECT coalesce(max(idx) + 1, 0) FROM entries", &[])?;
    Ok(size.unwrap_or_default())
}

pub(super) fn entry(connection: &Connection, at: u64) -> Result<Entry, StoreError> {
    let bytes: Option<Vec<u8>> = one(connection, "SELECT bytes FROM entries WHERE idx = ?1", &[&index(at)?])?;
    match bytes {
        Some(bytes) => Ok(Entry::parse(&bytes)?),
        None => Err(LedgerError::OutOfRange {
            what: "entry",
            asked: at,
            size: size(connection)?,
        }
        .into()),
    }
}

pub(super) fn last_checkpoint(connection: &Connection) -> Result<Option<String>, StoreError> {
    one(
        connection,
        "SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1",
        &[],
    )
}

pub(super) fn meta(connection: &Connection, name: &str) -> Result<Option<String>, StoreError> {
    one(connection, "SELECT value FROM meta WHERE name = ?1", &[&name])
}

/// The entries of a call before an index.
pub(super) fn entries_before(connection: &Connection, call: &str, before: u64) -> Result<Vec<Entry>, StoreError> {
    let sql = "SELECT bytes FROM entries WHERE call = ?1 AND idx < ?2 ORDER BY idx";
    let read = || -> rusqlite::Result<Vec<Vec<u8>>> {
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map(params![call, before], |row| row.get(0))?;
        rows.collect()
    };
    parse(&read().map_err(|error| fail(connection, &error))?)
}

/// A complete node of the tree: stored, or computed from the nearest stored ones below it.
pub(super) fn node(connection: &Connection, at: Node) -> Result<Hash, StoreError> {
    tiles::node_of(at, |level, range| stored_nodes(connection, level, range))
}

/// Nodes of a level that is stored, as many as there are. Those of level 0 are the leaves, beside their entries.
fn stored_nodes(connection: &Connection, level: u8, range: Range<u64>) -> Result<Vec<Hash>, StoreError> {
    let (first, end) = (index(range.start)?, index(range.end)?);
    let read = |sql: &str, params: &[&dyn ToSql]| -> rusqlite::Result<Vec<Hash>> {
        connection
            .prepare(sql)?
            .query_map(params, |row| row.get(0).map(Hash::from_bytes))?
            .collect()
    };
    let hashes = match level {
        0 => read(
            "SELECT leaf FROM entries WHERE idx >= ?1 AND idx < ?2 ORDER BY idx",
            &[&first, &end],
        ),
        level => {
            let sql = "SELECT hash FROM nodes WHERE level = ?1 AND idx >= ?2 AND idx < ?3 ORDER BY idx";
            read(sql, &[&level, &first, &end])
        }
    };
    hashes.map_err(|error| fail(connection, &error))
}

#[cfg(test)]
impl Reader {
    /// What somebody with the home's keys could put in a value's place.
    pub(crate) fn sealed(&self, payload: &Payload, call: &str) -> Vec<u8> {
        let vault = self.vault.as_ref().unwrap();
        vault.seal(payload, || self.data_key(call)).unwrap().bytes
    }
}

/// How many rows lists had that this thread read: what a test holds against the size of a ledger.
#[cfg(test)]
pub(crate) mod counted {
    use std::cell::Cell;

    thread_local!(static ROWS: Cell<usize> = const { Cell::new(0) });

    pub(super) fn add(rows: usize) {
        ROWS.set(ROWS.get() + rows);
    }

    pub(crate) fn rows() -> usize {
        ROWS.get()
    }
}
