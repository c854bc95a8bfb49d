//! Reading a ledger: for audits, beside the process that holds the home or without one, and for the store itself.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ambit_core::digest::Digest;
use ambit_core::guard;
use ambit_core::ledger::body::{Cause, End};
use ambit_core::ledger::story::EffectStory;
use ambit_core::ledger::verify::{Stored, Verified};
use ambit_core::ledger::{
    Body, CallStory, Checkpoint, Entry, Hash, Kind, LedgerError, Node, Receipt, VerifierKey, merkle, story, tiles,
    verify,
};
use ambit_core::money::Account;
use ambit_core::run::Run;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, ToSql, params};

use super::batch::TranscriptRow;
use super::books::{self, Delegated, Held, InForce, Window, Work};
use super::erasure::Values;
use super::map_books::MapBooks;
use super::tables::{self, CALL, begun, delegated, held, index, run_of_row};
use super::vault::{Payload, Vault};
use super::{Keys, StoreError, home, schema};

/// A read-only view of a ledger: each method sees all that was durable when it was called, entries whole batches at a time.
pub struct Reader {
    connection: Connection,
    /// Where large payloads are.
    home: Option<PathBuf>,
    vault: Option<Arc<Vault>>,
}

/// Which calls to list, newest first. What is none doesn't matter.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// By this agent.
    pub agent: Option<String>,
    /// For this user.
    pub user: Option<String>,
    /// Of this run.
    pub run: Option<String>,
    /// To the tool of this name.
    pub tool: Option<String>,
    /// To this function.
    pub function: Option<String>,
    /// Begun at this time or later, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Begun before this time, in milliseconds since 1970.
    pub until_ms: Option<i64>,
    /// Begun before this ledger index: the last one listed, to list on.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// A budget in one window, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetState {
    /// The budget and its window.
    pub window: Window,
    /// The cap that it was last held against.
    pub cap: u64,
    /// What is spent and what is reserved.
    pub account: Account,
}

/// What a rolling window used in one slice of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The budget and its window.
    pub window: Window,
    /// When the slice begins, in milliseconds since 1970. Its length, and when it is free, are the window's to say.
    pub starts: i64,
    /// What was settled in it.
    pub used: u64,
}

/// Budgets as the last entry about each left them, all of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// The time of the ledger's last entry, in milliseconds since 1970: its own, which never goes back.
    pub time_ms: i64,
    /// By name and window. One of a rolling window has all that its slices have, free since or not.
    pub states: Vec<BudgetState>,
    /// By budget, window and time.
    pub slices: Vec<Slice>,
    /// Calls that are under way.
    pub calls: BTreeSet<String>,
    /// Runs that are open.
    pub runs: BTreeSet<String>,
}

/// A call that has not finished, or an intent without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// What is under way, or was when the process ended.
    pub work: Work,
    /// The ledger index of the entry that began it.
    pub index: u64,
}

/// A person who may approve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The name.
    pub name: String,
    /// The text of the public key.
    pub key: String,
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

    /// What a call's entries say, put together.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where there is no such call, or its entries contradict each other.
    pub fn story(&self, call: &str) -> Result<CallStory, StoreError> {
        Ok(story(&self.entries_of(call)?)?)
    }

    /// The ids of calls that begin with `prefix`, at most `limit`: what a person may have abbreviated.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn calls_like(&self, prefix: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        // Ids are ASCII, so `~` comes after all of them.
        self.all(
            "SELECT DISTINCT call FROM entries WHERE call >= ?1 AND call < ?1 || '~' ORDER BY call LIMIT ?2",
            params![prefix, limit],
            |row| row.get(0),
        )
    }

    /// Calls, newest first.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn calls(&self, filter: &CallFilter) -> Result<Vec<CallStory>, StoreError> {
        let before = filter.before.map_or(Ok(i64::MAX), index)?;
        let sql =
            "SELECT bytes FROM entries WHERE kind IN ('call-accepted', 'call-denied') AND idx < ?1 ORDER BY idx DESC";
        let mut statement = self.connection.prepare(sql).map_err(|error| self.fail(&error))?;
        let mut rows = statement.query([before]).map_err(|error| self.fail(&error))?;
        let mut calls = Vec::new();
        while calls.len() < filter.limit.unwrap_or(usize::MAX)
            && let Some(row) = rows.next().map_err(|error| self.fail(&error))?
        {
            let bytes: Vec<u8> = row.get(0).map_err(|error| self.fail(&error))?;
            let entry = Entry::parse(&bytes)?;
            if filter.since_ms.is_some_and(|since| entry.time_ms() < since) {
                break;
            }
            let story = self.story(entry.call().unwrap_or_default())?;
            if filter.takes(&story) {
                calls.push(story);
            }
        }
        Ok(calls)
    }

    /// The ids of the calls that began at this time or later, in milliseconds since 1970, the oldest first; all, where there is none.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn begun_since(&self, since_ms: Option<i64>) -> Result<Vec<String>, StoreError> {
        let Some(since_ms) = since_ms else {
            let sql = "SELECT call FROM entries WHERE kind IN ('call-accepted', 'call-denied') ORDER BY idx";
            return self.all(sql, [], |row| row.get(0));
        };
        // The ledger's time never goes back, so the newest are read until one is too old.
        let sql = "SELECT bytes FROM entries WHERE kind IN ('call-accepted', 'call-denied') ORDER BY idx DESC";
        let mut calls = Vec::new();
        self.each_entry(sql, |entry| {
            let wanted = entry.time_ms() >= since_ms;
            calls.extend(entry.call().filter(|_| wanted).map(str::to_owned));
            Ok(wanted)
        })?;
        calls.reverse();
        Ok(calls)
    }

    /// Who lost their key, each with the index of the entry that says so, in order.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn revocations(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let sql = "SELECT bytes FROM entries WHERE call IS NULL AND kind = 'person-revoked' ORDER BY idx";
        let mut revoked = Vec::new();
        self.each_entry(sql, |entry| {
            if let Body::PersonRevoked(person) = entry.body() {
                revoked.push((person.name.clone(), entry.index()));
            }
            Ok(true)
        })?;
        Ok(revoked)
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

    /// All that is known of budgets, of one moment: [`crate::budgets`] makes of it how they stand.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where the last row is not an entry.
    pub fn accounts(&self) -> Result<Accounts, StoreError> {
        let moment = self
            .connection
            .unchecked_transaction()
            .map_err(|error| self.fail(&error))?;
        let last = size(&moment)?
            .checked_sub(1)
            .map(|last| entry(&moment, last))
            .transpose()?;
        let calls = self.unfinished()?.into_iter().map(|unfinished| unfinished.work);
        let time_ms = last.map_or(0, |last| last.time_ms());
        let open = self.runs("", usize::MAX)?.into_iter();
        Ok(Accounts {
            time_ms,
            runs: open
                .filter(|run| run.is_open(time_ms).is_ok())
                .map(|run| run.id().to_owned())
                .collect(),
            states: self.budgets()?,
            slices: self.slices()?,
            calls: calls
                .filter(|work| work.ordinal.is_none())
                .map(|work| work.call)
                .collect(),
        })
    }

    /// Budgets as the last entry about each left them, by name and window. A rolling window may have use that has become free since: see
    /// [`Reader::slices`].
    ///
    /// # Errors
    /// Where reading fails.
    pub fn budgets(&self) -> Result<Vec<BudgetState>, StoreError> {
        self.all(
            "SELECT budget, window, cap, used, reserved FROM accounts ORDER BY budget, window",
            [],
            |row| {
                Ok(BudgetState {
                    window: Window {
                        budget: row.get(0)?,
                        window: row.get(1)?,
                    },
                    cap: row.get(2)?,
                    account: Account {
                        used: row.get(3)?,
                        reserved: row.get(4)?,
                    },
                })
            },
        )
    }

    /// What rolling windows used, by budget, window and time.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn slices(&self) -> Result<Vec<Slice>, StoreError> {
        self.all(
            "SELECT budget, window, starts, used FROM slices ORDER BY budget, window, starts",
            [],
            |row| {
                Ok(Slice {
                    window: Window {
                        budget: row.get(0)?,
                        window: row.get(1)?,
                    },
                    starts: row.get(2)?,
                    used: row.get(3)?,
                })
            },
        )
    }

    /// Calls without a finish and intents without an outcome: what is under way, or, when no process holds the home, what was when the last
    /// one ended. A call comes before its effects.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        self.all(
            "SELECT call, ordinal, idx FROM unfinished ORDER BY call, ordinal",
            [],
            |row| {
                Ok(Unfinished {
                    work: work(row)?,
                    index: row.get(2)?,
                })
            },
        )
    }

    /// Calls that have not ended and that no effect holds, the oldest first: under way, or left by a process that ended.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn unended(&self) -> Result<Vec<String>, StoreError> {
        let sql =
            "SELECT call FROM unfinished WHERE ordinal = ?1 AND call NOT IN (SELECT call FROM holds) ORDER BY idx";
        self.all(sql, [CALL], |row| row.get(0))
    }

    /// Calls with an intent that has no outcome: what [`Reader::unended`] has of them is under way, or in doubt.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn under_way(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT DISTINCT call FROM unfinished WHERE ordinal <> ?1 ORDER BY call";
        self.all(sql, [CALL], |row| row.get(0))
    }

    /// Calls whose hold has expired at that time, in milliseconds since 1970: at most `limit`, the longest expired first.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn expired(&self, now_ms: u64, limit: u32) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT call FROM holds WHERE expires <= ?1 ORDER BY expires LIMIT ?2";
        self.all(sql, params![index(now_ms)?, limit], |row| row.get(0))
    }

    /// Effects in doubt of which nobody has said what became of them, the oldest first, each with the ledger index of its outcome.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn doubts(&self) -> Result<Vec<(Work, u64)>, StoreError> {
        self.all("SELECT call, ordinal, idx FROM doubts ORDER BY idx", [], |row| {
            Ok((work(row)?, row.get(2)?))
        })
    }

    /// What is still set aside for an effect, by budget and window.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn reserved(&self, work: &Work) -> Result<Vec<(Window, u64)>, StoreError> {
        let ordinal = work.ordinal.map_or(CALL, i64::from);
        let sql =
            "SELECT budget, window, amount FROM reservations WHERE call = ?1 AND ordinal = ?2 ORDER BY budget, window";
        self.all(sql, params![work.call, ordinal], |row| {
            let window = Window {
                budget: row.get(0)?,
                window: row.get(1)?,
            };
            Ok((window, row.get(2)?))
        })
    }

    /// Effects that wait for approvals, the oldest first: at most `limit`, from those that began after the ledger index `after`.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn holds(&self, after: Option<u64>, limit: usize) -> Result<Vec<(Work, Held)>, StoreError> {
        let after = after.map_or(Ok(-1), index)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = "SELECT call, ordinal, hold, expires, idx, agent FROM holds WHERE idx > ?1 ORDER BY idx LIMIT ?2";
        self.all(sql, [after, limit], |row| Ok((work(row)?, held(row, 2)?)))
    }

    /// The hold of this id, if it waits.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn hold(&self, id: &Digest) -> Result<Option<(Work, Held)>, StoreError> {
        let sql = "SELECT call, ordinal, hold, expires, idx, agent FROM holds WHERE hold = ?1";
        self.one(sql, [id.as_bytes()], |row| Ok((work(row)?, held(row, 2)?)))
    }

    /// The holds that wait whose id, in hexadecimal, begins with `prefix`, at most three: what a person may have abbreviated.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn holds_like(&self, prefix: &str) -> Result<Vec<(Work, Held)>, StoreError> {
        // The first and the last id that begin so: looked up, where a comparison of text would read every hold.
        let ends = (
            data_encoding::HEXLOWER.decode(format!("{prefix:0<64}").as_bytes()),
            data_encoding::HEXLOWER.decode(format!("{prefix:f<64}").as_bytes()),
        );
        let (Ok(first), Ok(last)) = ends else {
            return Ok(Vec::new());
        };
        let sql = "SELECT call, ordinal, hold, expires, idx, agent FROM holds WHERE hold BETWEEN ?1 AND ?2 LIMIT 3";
        self.all(sql, [first, last], |row| Ok((work(row)?, held(row, 2)?)))
    }

    /// The holds that wait in calls whose id begins with `prefix`, at most three.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn holds_of_calls_like(&self, prefix: &str) -> Result<Vec<(Work, Held)>, StoreError> {
        let sql =
            "SELECT call, ordinal, hold, expires, idx, agent FROM holds WHERE call >= ?1 AND call < ?1 || '~' LIMIT 3";
        self.all(sql, [prefix], |row| Ok((work(row)?, held(row, 2)?)))
    }

    /// Effects that failed for good and were neither retried nor dropped, the oldest first: at most `limit`, from those that failed after
    /// the ledger index `after`. Each with the index of the entry that says so.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn dead_letters(&self, after: Option<u64>, limit: usize) -> Result<Vec<(Work, u64)>, StoreError> {
        let after = after.map_or(Ok(-1), index)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = "SELECT call, ordinal, idx FROM dead_letters WHERE idx > ?1 ORDER BY idx LIMIT ?2";
        self.all(sql, [after, limit], |row| Ok((work(row)?, row.get(2)?)))
    }

    /// Those of calls whose id begins with `prefix`.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn dead_letters_like(&self, prefix: &str) -> Result<Vec<(Work, u64)>, StoreError> {
        let sql = "SELECT call, ordinal, idx FROM dead_letters WHERE call >= ?1 AND call < ?1 || '~' ORDER BY idx";
        self.all(sql, [prefix], |row| Ok((work(row)?, row.get(2)?)))
    }

    /// The people who may approve, by name.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn persons(&self) -> Result<Vec<Person>, StoreError> {
        self.all("SELECT name, key FROM persons ORDER BY name", [], |row| {
            Ok(Person {
                name: row.get(0)?,
                key: row.get(1)?,
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

    /// The run of this id.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn run(&self, id: &str) -> Result<Option<Run>, StoreError> {
        let state: Option<String> = self.one("SELECT state FROM runs WHERE run = ?1", [id], |row| row.get(0))?;
        state.map(|state| run_of_row(&state)).transpose()
    }

    /// The runs whose id begins with `prefix`, the newest first: at most `limit`.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn runs(&self, prefix: &str, limit: usize) -> Result<Vec<Run>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        // Ids are ASCII, so `~` comes after all of them.
        let sql = "SELECT state FROM runs WHERE run >= ?1 AND run < ?1 || '~' ORDER BY idx DESC LIMIT ?2";
        let states: Vec<String> = self.all(sql, params![prefix, limit], |row| row.get(0))?;
        states.iter().map(|state| run_of_row(state)).collect()
    }

    /// The runs of calls under way, by call.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn run_calls(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.all("SELECT call, run FROM run_calls ORDER BY call", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    }

    /// What people last said about who votes in their stead, by name; what is over too.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn delegations(&self) -> Result<Vec<Delegated>, StoreError> {
        let sql = "SELECT person, delegate, grp, made, until, note FROM delegations ORDER BY person, delegate, grp";
        self.all(sql, [], delegated)
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

    /// The entries of a call that waits from that on which holds it, in order; the entry that began it comes first. What came between is
    /// not read.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub(crate) fn entries_of_hold(&self, call: &str, held: u64) -> Result<Vec<Entry>, StoreError> {
        let sql = "SELECT bytes FROM (SELECT idx, bytes FROM entries WHERE call = ?1 ORDER BY idx LIMIT 1)
                   UNION ALL SELECT bytes FROM entries WHERE call = ?1 AND idx >= ?2";
        let rows: Vec<Vec<u8>> = self.all(sql, params![call, index(held)?], |row| row.get(0))?;
        let mut entries = parse(&rows)?;
        entries.sort_by_key(Entry::index);
        Ok(entries)
    }

    /// The last signed checkpoint.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where there is none: a ledger has one from its first entry on.
    pub fn checkpoint(&self) -> Result<String, StoreError> {
        last_checkpoint(&self.connection)?.ok_or_else(|| StoreError::damaged("it has no checkpoint"))
    }

    /// The audit path of an entry in the tree of the first `size` entries.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] for an entry that is not in it.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        merkle::inclusion(index, size, |at| node(&self.connection, at))
    }

    /// The proof that the first `new` entries begin with the first `old`.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where `old` is larger than `new`, or `new` than the ledger.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
        merkle::consistency(old, new, |at| node(&self.connection, at))
    }

    /// The proof of a call's end, in the ledger as it is now.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] for a call that has not ended, or is not there.
    pub fn receipt(&self, call: &str, key: &VerifierKey) -> Result<Receipt, StoreError> {
        let note = self.checkpoint()?;
        let size = Checkpoint::parse_verified(&note, key)?.size();
        let none = || StoreError::Ledger(LedgerError::Receipt(format!("there is no call {call}")));
        let last = self.entries_of(call)?.pop().ok_or_else(none)?;
        let proof = self.inclusion(last.index(), size)?;
        Ok(Receipt::new(last, proof, note)?)
    }

    /// Gives the ledger up to its last checkpoint to `file` as C2SP tiles: paths below the export's folder and their bytes, one by one, the
    /// checkpoint last.
    ///
    /// # Errors
    /// What `file` fails with, and where reading fails.
    pub fn export<E: From<StoreError>>(
        &self,
        key: &VerifierKey,
        mut file: impl FnMut(String, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let note = self.checkpoint()?;
        let size = Checkpoint::parse_verified(&note, key).map_err(StoreError::from)?.size();
        let bytes = |at| self.entry(at).map(|entry| entry.bytes().to_vec());
        tiles::export(size, &note, |at| node(&self.connection, at), bytes).try_for_each(|item| {
            let (path, bytes) = item?;
            file(path, bytes)
        })
    }

    /// Checks everything: each entry, the tree, every checkpoint (and `known` ones from elsewhere, such as the high-water mark), the order
    /// of every call, and that budgets and indexes say what follows from the entries. `progress` is told how many entries are checked.
    ///
    /// # Errors
    /// [`StoreError::Bad`] names the first bad entry; [`StoreError::Damaged`] what beside the entries contradicts them.
    pub fn verify(
        &self,
        key: &VerifierKey,
        known: &[String],
        mut progress: impl FnMut(u64),
    ) -> Result<Verified, StoreError> {
        // One transaction, so that entries, checkpoints and the rest are of the same moment.
        let moment = self
            .connection
            .unchecked_transaction()
            .map_err(|error| self.fail(&error))?;
        let mut notes = self.checkpoints()?;
        notes.extend_from_slice(known);
        let audit = RefCell::new(Audit::default());
        let sql = "SELECT bytes, leaf, kind, call FROM entries ORDER BY idx";
        let mut statement = moment.prepare(sql).map_err(|error| self.fail(&error))?;
        let rows = statement.query_map([], |row| {
            let (bytes, leaf): (Vec<u8>, [u8; 32]) = (row.get(0)?, row.get(1)?);
            let mut audit = audit.borrow_mut();
            audit.entry(&bytes, row.get(2)?, row.get(3)?);
            progress(audit.seen);
            Ok(Stored {
                bytes,
                leaf: Some(Hash::from_bytes(leaf)),
            })
        });
        let rows = rows.map_err(|error| self.fail(&error))?;
        let rows = rows.map(|row| row.map_err(|error| self.fail(&error)));
        let verified = verify(rows, notes.iter().map(String::as_str), key)?;
        audit.into_inner().finish(self)?;
        self.check_nodes(verified.size, verified.root)?;
        Ok(verified)
    }

    /// Opens every value of every call and holds it against the entry that commits to it; what an entry says is erased has to be
    /// gone. Returns how many there are. Needs the keys. `progress` is told how many of the ledger's entries are behind.
    ///
    /// # Errors
    /// [`StoreError::Payload`] names the first value that is gone without an entry that says so, is still there with one, cannot be
    /// opened, is another one, or that no entry commits to.
    pub fn check_values(&self, mut progress: impl FnMut(u64)) -> Result<Values, StoreError> {
        let sql = "SELECT call, count(*) FROM entries WHERE call IS NOT NULL GROUP BY call ORDER BY min(idx)";
        let said = self.erasures()?;
        let mut found = HashMap::new();
        let (mut values, mut behind) = (Values::default(), 0);
        for (call, entries) in self.all(sql, [], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?)))? {
            if let Some(index) = said.calls.get(&call) {
                let gone = self.check_erased(&call, *index)?;
                values.erased += gone;
                *found.entry(*index).or_default() += gone;
            } else {
                values.checked += self.check_call(&call)?;
            }
            behind += entries;
            progress(behind);
        }
        values.checked += self.check_reasons()?;
        if !guard!("ledger.erased-count", said.values == found) {
            return Err(StoreError::damaged(
                "the values that were erased are not as many as its entries say",
            ));
        }
        Ok(values)
    }

    /// The reasons that operators gave for stops and for lifting them; returns how many there are.
    fn check_reasons(&self) -> Result<u64, StoreError> {
        let mut said = Vec::new();
        let sql = "SELECT bytes FROM entries WHERE call IS NULL AND kind IN ('stop-set', 'stop-lifted') ORDER BY idx";
        self.each_entry(sql, |entry| {
            match entry.body() {
                Body::StopSet(set) => said.push((set.id.clone(), "reason", set.reason)),
                Body::StopLifted(lifted) => {
                    said.extend(lifted.reason.map(|reason| (lifted.id.clone(), "lifted", reason)))
                }
                _ => {}
            }
            Ok(true)
        })?;
        for (id, name, commitment) in &said {
            let same = self
                .payload(id, name)?
                .is_some_and(|value| value.commitment() == *commitment);
            if !guard!("ledger.reason", same) {
                return Err(StoreError::Payload {
                    call: id.clone(),
                    name: (*name).to_owned(),
                    why: "is not the value that the ledger commits to".into(),
                });
            }
        }
        Ok(said.len() as u64)
    }

    /// The values of one call; returns how many entries commit to.
    fn check_call(&self, call: &str) -> Result<u64, StoreError> {
        let wrong = |name: &str, why: &str| StoreError::Payload {
            call: call.to_owned(),
            name: name.to_owned(),
            why: why.into(),
        };
        let story = self.story(call)?;
        let mut stored: BTreeSet<String> = self.payload_names(call)?.into_iter().collect();
        let mut checked = 0;
        for (name, commitment) in story.commitments() {
            stored.remove(&name);
            let found = self.payload(call, &name)?;
            let value = found.ok_or_else(|| wrong(&name, "is gone, and the ledger commits to it"))?;
            if !guard!("ledger.value", value.commitment() == commitment) {
                return Err(wrong(&name, "is not the value that the ledger commits to"));
            }
            checked += 1;
        }
        // What a guest asked for can be durable before the entry that commits to it: with a look-up of the host's. So a call
        // has all its commitments when it came to its own end.
        let added = stored.iter().find(|name| !is_of_a_broken_look_up(&story, name));
        let added = added.filter(|_| story.is_over() && !interrupted(&story));
        if let Some(name) = added
            && !guard!("ledger.value-added", false)
        {
            return Err(wrong(name, "is stored, and no entry of the ledger commits to it"));
        }
        Ok(checked)
    }

    /// Nothing is left of a call that the entry at `index` says was erased; returns how many values it had.
    fn check_erased(&self, call: &str, index: u64) -> Result<u64, StoreError> {
        let left = self.left_of(call)?;
        if let Some(name) = left
            && !guard!("ledger.erased-gone", false)
        {
            return Err(StoreError::Payload {
                call: call.to_owned(),
                name,
                why: format!("is still there, and entry {index} says that it was erased"),
            });
        }
        Ok(self.payload_names(call)?.len() as u64)
    }

    /// The stored nodes are those of the tree, as far as proofs of this size are made from them.
    fn check_nodes(&self, size: u64, root: Hash) -> Result<(), StoreError> {
        let stored = merkle::root(size, |at| node(&self.connection, at))?;
        if stored == root {
            Ok(())
        } else {
            Err(StoreError::damaged(
                "the stored nodes of the tree are not those of its entries",
            ))
        }
    }

    /// Every checkpoint: one for each group of commits.
    pub(crate) fn checkpoints(&self) -> Result<Vec<String>, StoreError> {
        self.all("SELECT note FROM checkpoints ORDER BY size", [], |row| row.get(0))
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

    fn reservations(&self) -> Result<Vec<Reserved>, StoreError> {
        self.all(
            "SELECT call, ordinal, budget, window, amount FROM reservations",
            [],
            |row| {
                Ok((
                    (
                        work(row)?,
                        Window {
                            budget: row.get(2)?,
                            window: row.get(3)?,
                        },
                    ),
                    row.get(4)?,
                ))
            },
        )
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
                .collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.fail(&error))
    }

    fn fail(&self, error: &rusqlite::Error) -> StoreError {
        fail(&self.connection, error)
    }
}

impl CallFilter {
    fn takes(&self, story: &CallStory) -> bool {
        use ambit_core::ledger::story::Opening;
        let (tool, function) = match &story.opening.what {
            Opening::Accepted(accepted) => (Some(&accepted.asked.tool), Some(&accepted.asked.function)),
            Opening::Denied(denied) => (denied.tool.as_ref(), denied.function.as_ref()),
        };
        let agent = story.principal.as_ref().map(|principal| &principal.agent);
        let user = story.principal.as_ref().and_then(|principal| principal.user.as_ref());
        let is = |wanted: &Option<String>, found: Option<&String>| wanted.is_none() || wanted.as_ref() == found;
        is(&self.agent, agent)
            && is(&self.user, user)
            && (self.run.is_none() || self.run.as_deref() == story.run())
            && is(&self.tool, tool)
            && is(&self.function, function)
            && self.until_ms.is_none_or(|until| story.opening.stamp.time_ms() < until)
    }
}

/// What is set aside for work, in a window.
type Reserved = ((Work, Window), u64);

/// What stands beside the entries, made again from them.
#[derive(Default)]
struct Audit {
    books: MapBooks,
    seen: u64,
    /// The first thing found wrong.
    wrong: Option<String>,
}

impl Audit {
    /// Takes in an entry with the columns beside it. What is no entry is [`verify`]'s to name.
    fn entry(&mut self, bytes: &[u8], kind: String, call: Option<String>) {
        self.seen += 1;
        let Ok(entry) = Entry::parse(bytes) else { return };
        if kind != entry.kind().as_str() || call.as_deref() != entry.call() {
            self.note(format!(
                "the index beside entry {} does not say what the entry says",
                entry.index()
            ));
        }
        if let Err(error) = books::post(&mut self.books, &entry) {
            self.note(format!("entry {}: {error}", entry.index()));
        }
        self.books.keep();
    }

    fn note(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    fn finish(mut self, reader: &Reader) -> Result<(), StoreError> {
        let sql = "SELECT call, ordinal, idx, changes FROM unfinished";
        let unfinished = reader.all(sql, [], |row| Ok((work(row)?, begun(row, 2)?)))?;
        let unfinished = unfinished.into_iter().collect();
        self.same("what is under way", |books| books.unfinished == unfinished);
        let accounts = reader
            .budgets()?
            .into_iter()
            .map(|row| (row.window, (row.account, row.cap)))
            .collect();
        self.same("the budgets", |books| books.accounts == accounts);
        let slices = reader
            .slices()?
            .into_iter()
            .map(|row| ((row.window, row.starts), row.used))
            .collect();
        self.same("the slices of rolling windows", |books| books.slices == slices);
        let reservations = reader.reservations()?.into_iter().collect();
        self.same("the reservations", |books| books.reservations == reservations);
        let holds = reader.holds(None, usize::MAX)?.into_iter().collect();
        self.same("the holds", |books| books.holds == holds);
        let letters = reader.dead_letters(None, usize::MAX)?.into_iter().collect();
        self.same("the dead letters", |books| books.letters == letters);
        let doubts = reader.doubts()?.into_iter().collect();
        self.same("the effects in doubt", |books| books.doubts == doubts);
        let stops = reader.stops()?.into_iter();
        let stops = stops.map(|row| (row.stop.clone(), row)).collect();
        self.same("the stops", |books| books.stops == stops);
        let persons = reader.persons()?.into_iter().map(|row| (row.name, row.key)).collect();
        let runs = reader
            .runs("", usize::MAX)?
            .into_iter()
            .map(|run| (run.id().to_owned(), run))
            .collect();
        self.same("the runs", |books| books.runs == runs);
        let run_calls = reader.run_calls()?.into_iter().collect();
        self.same("the runs of calls under way", |books| books.run_calls == run_calls);
        self.same("the people who may approve", |books| books.persons == persons);
        let delegations = reader.delegations()?.into_iter();
        let delegations = delegations.map(|said| (said.about.clone(), said)).collect();
        self.same("the delegations", |books| books.delegations == delegations);
        self.wrong.map_or(Ok(()), |what| Err(StoreError::damaged(what)))
    }

    fn same(&mut self, what: &str, same: impl FnOnce(&MapBooks) -> bool) {
        if !same(&self.books) {
            self.note(format!(
                "{what} stored beside the ledger are not what follows from its entries"
            ));
        }
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

/// Whether the host ended before the call did.
fn interrupted(story: &CallStory) -> bool {
    let end = story.finished.as_ref().map(|finished| &finished.what.outcome);
    matches!(end, Some(End::Interrupted))
}

/// Whether a value is what a guest asked for when the host ended after its own look-up for it had begun: nothing of that effect is on the
/// ledger, and when the call went on it had another number.
fn is_of_a_broken_look_up(story: &CallStory, name: &str) -> bool {
    let ordinal = name
        .strip_prefix("effect/")
        .and_then(|rest| rest.strip_suffix("/asked"));
    let Some(ordinal) = ordinal.and_then(|ordinal| ordinal.parse::<u32>().ok()) else {
        return false;
    };
    let look_up = ordinal.checked_add(1).and_then(|next| story.effects.get(&next));
    let of_the_host = matches!(look_up, Some(EffectStory::Intended { intent, .. }) if intent.what.cause == Cause::Host);
    of_the_host && !story.effects.contains_key(&ordinal)
}

#[cfg(test)]
impl Reader {
    /// What somebody with the home's keys could put in a value's place.
    pub(crate) fn sealed(&self, payload: &Payload, call: &str) -> Vec<u8> {
        let vault = self.vault.as_ref().unwrap();
        vault.seal(payload, || self.data_key(call)).unwrap().bytes
    }
}
