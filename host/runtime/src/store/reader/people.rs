//! What waits for people, and the people.

use std::collections::HashMap;

use ambit_core::digest::Digest;
use ambit_core::hold::{Spoken, Vote};
use ambit_core::identity::key::ApiKey;
use ambit_core::ledger::Body;
use ambit_core::ledger::body::HoldEdited;
use rusqlite::params;

use super::{Reader, work};
use crate::store::StoreError;
use crate::store::books::{Delegated, Held, Work};
use crate::store::tables::{api_key_of_row, delegated, held, index};

/// A person who may approve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The name.
    pub name: String,
    /// The text of the public key.
    pub key: String,
}

/// A use of break-glass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenGlass {
    /// The ledger index of the vote.
    pub index: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// The call whose effect passed by it.
    pub call: String,
    /// Who.
    pub person: String,
    /// For which group.
    pub group: String,
}

impl Reader {
    /// Where the glass was broken at this time or later, in milliseconds since 1970, the newest first.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn broken_glass(&self, since_ms: i64) -> Result<Vec<BrokenGlass>, StoreError> {
        let mut broken = Vec::new();
        let sql = "SELECT bytes FROM entries WHERE kind = 'hold-voted' ORDER BY idx DESC";
        self.each_entry(sql, |entry| {
            if entry.time_ms() < since_ms {
                return Ok(false);
            }
            if let Body::HoldVoted(voted) = entry.body()
                && voted.instead.is_some()
                && let Ok(vote) = Vote::claimed(&voted.vote)
            {
                broken.push(BrokenGlass {
                    index: entry.index(),
                    time_ms: entry.time_ms(),
                    call: entry.call().unwrap_or_default().to_owned(),
                    person: vote.person,
                    group: vote.group,
                });
            }
            Ok(true)
        })?;
        Ok(broken)
    }

    /// A key that an agent is known by over HTTP, good or over; none where there is none of that id.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn api_key(&self, id: &str) -> Result<Option<ApiKey>, StoreError> {
        let sql = "SELECT state FROM api_keys WHERE key = ?1";
        let state = self.all(sql, [id], |row| row.get::<_, String>(0))?;
        state.first().map(|state| api_key_of_row(state)).transpose()
    }

    /// All keys that agents were given, good or over, in the order in which they were.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let sql = "SELECT state FROM api_keys ORDER BY idx";
        let states = self.all(sql, [], |row| row.get::<_, String>(0))?;
        states.iter().map(|state| api_key_of_row(state)).collect()
    }

    /// The call that was made once, or the run that was started once, for a word of whoever asked, and what was asked for under it; none
    /// where there is none.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn once(&self, key: &Digest) -> Result<Option<(Digest, String)>, StoreError> {
        let sql = "SELECT request, call FROM once WHERE key = ?1";
        self.one(sql, [key.as_bytes()], |row| {
            let request: [u8; 32] = row.get(0)?;
            Ok((Digest::from_bytes(request), row.get(1)?))
        })
    }

    /// All words that calls were made, or runs started, once for.
    pub(super) fn all_once(&self) -> Result<HashMap<Digest, (Digest, String)>, StoreError> {
        let rows = self.all("SELECT key, request, call FROM once", [], |row| {
            let (key, request): ([u8; 32], [u8; 32]) = (row.get(0)?, row.get(1)?);
            Ok((Digest::from_bytes(key), (Digest::from_bytes(request), row.get(2)?)))
        })?;
        Ok(rows.into_iter().collect())
    }

    /// What people said of who votes in their stead, and where they lost their keys.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn spoken(&self) -> Result<Spoken, StoreError> {
        let mut people = Spoken::of(&self.origin()?);
        let sql = "SELECT bytes FROM entries WHERE call IS NULL AND kind IN ('person-delegated', 'person-revoked') ORDER BY idx";
        self.each_entry(sql, |entry| {
            match entry.body() {
                Body::PersonDelegated(said) => people.delegate(&said.delegation, entry.index()),
                Body::PersonRevoked(person) => people.revoke(&person.name, entry.index()),
                _ => {}
            }
            Ok(true)
        })?;
        Ok(people)
    }

    /// Calls whose hold has expired at that time, in milliseconds since 1970: at most `limit`, the longest expired first.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn expired(&self, now_ms: u64, limit: u32) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT call FROM holds WHERE expires <= ?1 ORDER BY expires LIMIT ?2";
        self.all(sql, params![index(now_ms)?, limit], |row| row.get(0))
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

    /// The edits of holds, in order: each names the hold that it ended, and the one in its place. Reads the ledger from one end to the
    /// other, so it is for what nothing else says.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn edits(&self) -> Result<Vec<HoldEdited>, StoreError> {
        let sql = "SELECT bytes FROM entries WHERE kind = 'hold-edited' ORDER BY idx";
        let rows: Vec<Vec<u8>> = self.all(sql, [], |row| row.get(0))?;
        let edits = super::parse(&rows)?.into_iter().filter_map(|entry| match entry.body() {
            Body::HoldEdited(edited) => Some(edited.clone()),
            _ => None,
        });
        Ok(edits.collect())
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

    /// What people last said about who votes in their stead, by name; what is over too.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn delegations(&self) -> Result<Vec<Delegated>, StoreError> {
        let sql = "SELECT person, delegate, grp, made, until, note FROM delegations ORDER BY person, delegate, grp";
        self.all(sql, [], delegated)
    }
}
