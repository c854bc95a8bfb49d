//! Calls: what their entries say of them, which are under way, in doubt or failed for good.

use ambit_core::ledger::body::Rollback;
use ambit_core::ledger::{Body, CallStory, Entry, story};
use rusqlite::{Row, params};

use super::{Reader, parse, work};
use crate::store::StoreError;
use crate::store::books::Work;
use crate::store::tables::{self, CALL, index};

/// A rollback, with what it is of and the index of the entry that says so.
type Rolled = (String, (Rollback, u64));

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

/// A call that has not finished, or an intent without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// What is under way, or was when the process ended.
    pub work: Work,
    /// The ledger index of the entry that began it.
    pub index: u64,
}

impl Reader {
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
        let most = filter.limit.unwrap_or(usize::MAX);
        let mut calls = Vec::new();
        if most > 0 {
            self.each_call(filter, |story| {
                calls.push(story);
                calls.len() < most
            })?;
        }
        Ok(calls)
    }

    /// Calls, newest first, each put together when it is its turn, until `take` has enough and says false. How many, `filter` does not say
    /// here.
    ///
    /// # Errors
    /// As [`Reader::calls`].
    pub fn each_call(&self, filter: &CallFilter, mut take: impl FnMut(CallStory) -> bool) -> Result<(), StoreError> {
        let before = filter.before.map_or(Ok(i64::MAX), index)?;
        let sql =
            "SELECT bytes FROM entries WHERE kind IN ('call-accepted', 'call-denied') AND idx < ?1 ORDER BY idx DESC";
        let mut statement = self.connection.prepare(sql).map_err(|error| self.fail(&error))?;
        let mut rows = statement.query([before]).map_err(|error| self.fail(&error))?;
        while let Some(row) = rows.next().map_err(|error| self.fail(&error))? {
            let bytes: Vec<u8> = row.get(0).map_err(|error| self.fail(&error))?;
            let entry = Entry::parse(&bytes)?;
            if filter.since_ms.is_some_and(|since| entry.time_ms() < since) {
                break;
            }
            let story = self.story(entry.call().unwrap_or_default())?;
            if filter.takes(&story) && !take(story) {
                break;
            }
        }
        Ok(())
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

    /// The entries that say that a call diverged when it was run again, in order.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn divergences(&self, call: &str) -> Result<Vec<Entry>, StoreError> {
        let sql = "SELECT bytes FROM entries
                   WHERE call IS NULL AND kind = 'call-diverged' AND instr(bytes, ?1) > 0 ORDER BY idx";
        let rows: Vec<Vec<u8>> = self.all(sql, [call.as_bytes()], |row| row.get(0))?;
        let mut entries = parse(&rows)?;
        entries.retain(|entry| matches!(entry.body(), Body::CallDiverged(diverged) if diverged.call == call));
        Ok(entries)
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

    /// Effects in doubt of which nobody has said what became of them, the oldest first, each with the ledger index of its outcome.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn doubts(&self) -> Result<Vec<(Work, u64)>, StoreError> {
        self.all("SELECT call, ordinal, idx FROM doubts ORDER BY idx", [], |row| {
            Ok((work(row)?, row.get(2)?))
        })
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

    /// The calls that roll a call back, in order, whatever became of them.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn rollbacks_of(&self, call: &str) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT by FROM rollbacks WHERE call = ?1 ORDER BY idx";
        self.all(sql, [call], |row| row.get(0))
    }

    /// All rollbacks: each with the call that it is of, and the index of the entry that says so.
    pub(super) fn rollbacks(&self) -> Result<Vec<Rolled>, StoreError> {
        let sql = "SELECT by, call, how, idx FROM rollbacks";
        self.all(sql, [], |row| {
            Ok((row.get(0)?, (tables::rollback(row, 1)?, row.get(3)?)))
        })
    }

    /// What was taken back, each with what took it back.
    pub(super) fn undone(&self) -> Result<Vec<(Work, Work)>, StoreError> {
        let by = |row: &Row<'_>| -> rusqlite::Result<Work> {
            let ordinal: i64 = row.get(3)?;
            Ok(Work {
                call: row.get(2)?,
                ordinal: u32::try_from(ordinal).ok(),
            })
        };
        let sql = "SELECT call, ordinal, by, nth FROM undone";
        self.all(sql, [], |row| Ok((work(row)?, by(row)?)))
    }

    /// Those of calls whose id begins with `prefix`.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn dead_letters_like(&self, prefix: &str) -> Result<Vec<(Work, u64)>, StoreError> {
        let sql = "SELECT call, ordinal, idx FROM dead_letters WHERE call >= ?1 AND call < ?1 || '~' ORDER BY idx";
        self.all(sql, [prefix], |row| Ok((work(row)?, row.get(2)?)))
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
