//! The ledger's database: its tables, and how a connection to it is opened.
//!
//! `entries` is the ledger; `nodes` and `checkpoints` prove it. `unfinished` and the columns beside an entry's bytes are an
//! index, from which nothing is ever proved: what they say is read again from the entry. Payloads, transcripts and budgets
//! stand beside the ledger, written in the same transactions.

use std::path::Path;
use std::time::Duration;

use ambit_core::guard;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{StoreError, home};

/// `Ambt`, in the database's header.
const APPLICATION: i64 = 0x416d_6274;
/// The only format that this version reads and writes.
pub(super) const FORMAT: i64 = 6;
/// Bytes of a database page. Fixed, so that a quota in bytes is a number of pages.
pub(super) const PAGE: u64 = 4096;
/// How long to wait for a reader that recovers the write-ahead log.
const BUSY: Duration = Duration::from_secs(5);

const TABLES: &str = "
CREATE TABLE meta(
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The leaf hash comes before the bytes, so that reading a row of leaves does not read the entries.
CREATE TABLE entries(
  idx INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  call TEXT,
  leaf BLOB NOT NULL CHECK (length(leaf) = 32),
  bytes BLOB NOT NULL
) STRICT;
CREATE INDEX entries_by_call ON entries(call) WHERE call IS NOT NULL;
-- Few, and looked for at every start: what is in force.
CREATE INDEX entries_of_the_home ON entries(kind, idx) WHERE call IS NULL;
CREATE INDEX entries_that_begin_a_call ON entries(idx) WHERE kind IN ('call-accepted', 'call-denied');
-- Among the votes are those that broke the glass, which `ambit status` says first.
CREATE INDEX entries_that_vote ON entries(idx) WHERE kind = 'hold-voted';

-- Roots of complete subtrees, at every eighth level only: what lies between is computed from at most 256 of them.
CREATE TABLE nodes(
  level INTEGER NOT NULL,
  idx INTEGER NOT NULL,
  hash BLOB NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints(
  size INTEGER PRIMARY KEY,
  note TEXT NOT NULL
) STRICT;

-- Accepted calls without a finish (ordinal -1) and intents without an outcome; of these, whether they change something.
CREATE TABLE unfinished(
  call TEXT NOT NULL,
  ordinal INTEGER NOT NULL,
  idx INTEGER NOT NULL,
  changes INTEGER NOT NULL CHECK (changes IN (0, 1)),
  PRIMARY KEY (call, ordinal)
) STRICT, WITHOUT ROWID;

-- Empty where the values of the call are erased.
CREATE TABLE data_keys(
  call TEXT PRIMARY KEY,
  wrapped BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE payloads(
  id INTEGER PRIMARY KEY,
  call TEXT NOT NULL REFERENCES data_keys(call),
  name TEXT NOT NULL,
  sealed BLOB,
  file TEXT,
  UNIQUE (call, name),
  CHECK ((sealed IS NULL) <> (file IS NULL))
) STRICT;
CREATE INDEX payload_files ON payloads(file) WHERE file IS NOT NULL;

CREATE TABLE transcript(
  call TEXT NOT NULL,
  step INTEGER NOT NULL,
  kind TEXT NOT NULL,
  effect BLOB CHECK (length(effect) = 32),
  payload TEXT,
  PRIMARY KEY (call, step),
  FOREIGN KEY (call, payload) REFERENCES payloads(call, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE accounts(
  budget TEXT NOT NULL,
  window TEXT NOT NULL,
  cap INTEGER NOT NULL CHECK (cap >= 0),
  used INTEGER NOT NULL CHECK (used >= 0),
  reserved INTEGER NOT NULL CHECK (reserved >= 0),
  PRIMARY KEY (budget, window)
) STRICT, WITHOUT ROWID;

-- What rolling windows used, by when it was settled: together what their accounts say is used.
CREATE TABLE slices(
  budget TEXT NOT NULL,
  window TEXT NOT NULL,
  starts INTEGER NOT NULL,
  used INTEGER NOT NULL CHECK (used > 0),
  PRIMARY KEY (budget, window, starts)
) STRICT, WITHOUT ROWID;

-- Of the call itself (ordinal -1) and of its effects under way or in doubt.
CREATE TABLE reservations(
  call TEXT NOT NULL,
  ordinal INTEGER NOT NULL,
  budget TEXT NOT NULL,
  window TEXT NOT NULL,
  amount INTEGER NOT NULL CHECK (amount >= 0),
  PRIMARY KEY (call, ordinal, budget, window),
  FOREIGN KEY (budget, window) REFERENCES accounts(budget, window)
) STRICT, WITHOUT ROWID;

-- Effects that ended in doubt, and of which nobody has said what became of them.
CREATE TABLE doubts(
  call TEXT NOT NULL,
  ordinal INTEGER NOT NULL,
  idx INTEGER NOT NULL UNIQUE,
  PRIMARY KEY (call, ordinal)
) STRICT, WITHOUT ROWID;

-- Effects that wait for approvals.
CREATE TABLE holds(
  call TEXT NOT NULL,
  ordinal INTEGER NOT NULL,
  hold BLOB NOT NULL UNIQUE CHECK (length(hold) = 32),
  expires INTEGER NOT NULL,
  idx INTEGER NOT NULL UNIQUE,
  agent TEXT NOT NULL,
  PRIMARY KEY (call, ordinal)
) STRICT, WITHOUT ROWID;
-- How many of an agent's effects wait.
CREATE INDEX holds_by_agent ON holds(agent);
CREATE INDEX holds_by_expiry ON holds(expires);

-- What operators stopped and have not lifted.
CREATE TABLE stops(
  kind TEXT NOT NULL,
  scope TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  idx INTEGER NOT NULL UNIQUE,
  PRIMARY KEY (kind, scope)
) STRICT, WITHOUT ROWID;

-- Runs, over or not, as their entries made them: JSON.
CREATE TABLE runs(
  run TEXT PRIMARY KEY,
  idx INTEGER NOT NULL UNIQUE,
  state TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The runs of calls under way.
CREATE TABLE run_calls(
  call TEXT PRIMARY KEY,
  run TEXT NOT NULL REFERENCES runs(run)
) STRICT, WITHOUT ROWID;

-- Effects that failed for good, on routes that keep them: until they are retried or dropped.
CREATE TABLE dead_letters(
  call TEXT NOT NULL,
  ordinal INTEGER NOT NULL,
  idx INTEGER NOT NULL UNIQUE,
  PRIMARY KEY (call, ordinal)
) STRICT, WITHOUT ROWID;

-- Calls that undo others, for ever: what was undone of a call is found by these.
CREATE TABLE rollbacks(
  by TEXT PRIMARY KEY,
  call TEXT NOT NULL,
  how TEXT NOT NULL CHECK (how IN ('function', 'routes')),
  idx INTEGER NOT NULL UNIQUE
) STRICT, WITHOUT ROWID;
CREATE INDEX rollbacks_by_call ON rollbacks(call, idx);

-- Effects that were taken back, or may have been, each by which effect; and (ordinal -1) calls that a function of their tool undid whole.
CREATE TABLE undone(
  call TEXT NOT NULL,
  ordinal INTEGER NOT NULL,
  by TEXT NOT NULL,
  nth INTEGER NOT NULL,
  PRIMARY KEY (call, ordinal),
  UNIQUE (by, nth)
) STRICT, WITHOUT ROWID;

-- People who may approve, with the text of their public key.
CREATE TABLE persons(
  name TEXT PRIMARY KEY,
  key TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Keys that agents and operators are known by over HTTP, good or over, as their entries made them: JSON. No secret is in it.
CREATE TABLE api_keys(
  key TEXT PRIMARY KEY,
  idx INTEGER NOT NULL UNIQUE,
  state TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Words of callers that a call was made once for, and of operators that a run was started once for (`call` is its id then), for ever: each under a key of the home, with what was asked for under it.
CREATE TABLE once(
  key BLOB PRIMARY KEY CHECK (length(key) = 32),
  request BLOB NOT NULL CHECK (length(request) = 32),
  call TEXT NOT NULL UNIQUE
) STRICT, WITHOUT ROWID;

-- What each person last said about who votes in their stead. A row stays when it is over: what was said before does not count again.
CREATE TABLE delegations(
  person TEXT NOT NULL,
  delegate TEXT NOT NULL,
  grp TEXT NOT NULL,
  made INTEGER NOT NULL,
  until INTEGER NOT NULL,
  note TEXT NOT NULL,
  PRIMARY KEY (person, delegate, grp)
) STRICT, WITHOUT ROWID;
";

/// Opens the home's database for writing, and makes it where there is none. Its caller holds the home's lock.
///
/// # Errors
/// [`StoreError::NotALedger`], [`StoreError::Version`], [`StoreError::ReadOnly`], [`StoreError::Io`].
pub(super) fn open_writer(dir: &Path) -> Result<Connection, StoreError> {
    let path = dir.join(home::LEDGER);
    let fail = |error: rusqlite::Error| sqlite_error(dir, &path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&path, flags).map_err(fail)?;
    connection.busy_timeout(BUSY).map_err(fail)?;
    let new = header(&connection).map_err(fail)?
        == Header {
            application: 0,
            format: 0,
            tables: 0,
        };
    if new {
        connection
            .execute_batch(&format!("PRAGMA page_size = {PAGE};"))
            .map_err(fail)?;
    } else {
        check_version(&connection, &path)?;
    }
    connection.execute_batch(WRITER).map_err(fail)?;
    if new {
        create(&mut connection).map_err(fail)?;
    }
    Ok(connection)
}

/// `wal_autocheckpoint` is off because SQLite ignores the errors of its own checkpoints: the writer makes them, and heeds them.
/// `secure_delete` and `temp_store` are for data keys that are erased: they are left neither in the database nor in a file beside it.
const WRITER: &str = "
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA fullfsync = ON;
PRAGMA checkpoint_fullfsync = ON;
PRAGMA foreign_keys = ON;
PRAGMA wal_autocheckpoint = 0;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
PRAGMA cache_size = -2048;
PRAGMA secure_delete = ON;
PRAGMA temp_store = MEMORY;
";

/// A database of the same tables that is nowhere on a disk.
pub(super) fn open_memory() -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;")?;
    create(&mut connection)?;
    Ok(connection)
}

/// Opens the home's database for reading, beside a process that writes to it or on a read-only copy of the home.
///
/// # Errors
/// [`StoreError::Missing`], [`StoreError::NotALedger`], [`StoreError::Version`], [`StoreError::Io`].
pub(super) fn open_reader(dir: &Path) -> Result<Connection, StoreError> {
    let path = dir.join(home::LEDGER);
    if !path.exists() {
        return Err(StoreError::Missing { path });
    }
    let connection = open_shared(&path).or_else(|error| open_immutable(dir, &path).ok_or(error))?;
    check_version(&connection, &path)?;
    Ok(connection)
}

fn open_shared(path: &Path) -> Result<Connection, StoreError> {
    let fail = |error: rusqlite::Error| sqlite_error(path, path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
    connection.busy_timeout(BUSY).map_err(fail)?;
    connection
        .execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")
        .map_err(fail)?;
    header(&connection).map_err(fail)?;
    Ok(connection)
}

/// A home on a read-only medium: SQLite can't make its shared-memory file there, and needs to be told that nobody writes. Only where
/// no write-ahead log is left that it would have to read.
fn open_immutable(dir: &Path, path: &Path) -> Option<Connection> {
    let log = dir.join(format!("{}-wal", home::LEDGER));
    if log.metadata().is_ok_and(|log| log.len() > 0) {
        return None;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{}?immutable=1", percent_encode(path)?), flags).ok()?;
    header(&connection).ok().map(|_| connection)
}

fn percent_encode(path: &Path) -> Option<String> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte);
    let text = path.to_str()?.bytes();
    Some(
        text.map(|byte| {
            if plain(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect(),
    )
}

#[derive(PartialEq, Eq)]
struct Header {
    application: i64,
    format: i64,
    tables: i64,
}

fn header(connection: &Connection) -> rusqlite::Result<Header> {
    let ask = |sql: &str| connection.query_row(sql, [], |row| row.get(0));
    Ok(Header {
        application: ask("PRAGMA application_id")?,
        format: ask("PRAGMA user_version")?,
        tables: ask("SELECT count(*) FROM sqlite_schema")?,
    })
}

fn check_version(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let header = header(connection).map_err(|error| sqlite_error(path, path, &error))?;
    if header.application != APPLICATION {
        return Err(StoreError::NotALedger { path: path.to_owned() });
    }
    if !guard!("ledger.version", header.format == FORMAT) {
        return Err(StoreError::Version {
            path: path.to_owned(),
            found: header.format,
            expected: FORMAT,
        });
    }
    Ok(())
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute_batch(&format!(
        "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT};"
    ))?;
    transaction.commit()
}

/// What SQLite says, told as what it means for a home.
pub(super) fn sqlite_error(dir: &Path, path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::NotALedger { path: path.to_owned() },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => StoreError::ReadOnly {
            home: dir.to_owned(),
            why: error.to_string(),
        },
        Some(ErrorCode::DatabaseCorrupt) => StoreError::damaged(error.to_string()),
        _ => StoreError::Io {
            path: path.to_owned(),
            why: error.to_string(),
        },
    }
}
