//! What is kept for webhooks: how far each has come, and which messages were given up.

use std::collections::BTreeMap;

use ambit_core::ledger::Body;
use ambit_core::ledger::body::{Message, WebhookFailed};

use super::Reader;
use crate::store::StoreError;
use crate::store::books::Window;
use crate::store::tables::{CURSOR, WARNED};

/// A message that was given up, and neither sent again since nor dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// The ledger index of the entry that says so.
    pub index: u64,
    /// The time of that, in milliseconds since 1970.
    pub time_ms: i64,
    /// What was given up, and why.
    pub failed: WebhookFailed,
}

impl Reader {
    /// How far webhooks have come, by name: each the index of the first entry that it has not dealt with.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn webhook_cursors(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let rows = self.meta_like(CURSOR)?.into_iter();
        let read = |(name, cursor): (String, String)| Some((name, cursor.parse().ok()?));
        Ok(rows.filter_map(read).collect())
    }

    /// The messages that were given up and are left, the oldest first.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn undelivered(&self) -> Result<Vec<Undelivered>, StoreError> {
        let mut left: BTreeMap<String, Undelivered> = BTreeMap::new();
        let sql = "SELECT bytes FROM entries WHERE call IS NULL
            AND kind IN ('webhook-failed', 'webhook-retried', 'webhook-dropped') ORDER BY idx";
        self.each_entry(sql, |entry| {
            let about: &Message = match entry.body() {
                Body::WebhookFailed(failed) => &failed.message,
                Body::WebhookRetried(retried) => &retried.message,
                Body::WebhookDropped(dropped) => &dropped.message,
                _ => return Ok(true),
            };
            // Of a message that was sent again and given up again the last counts.
            left.remove(&about.id);
            if let Body::WebhookFailed(failed) = entry.body() {
                let undelivered = Undelivered {
                    index: entry.index(),
                    time_ms: entry.time_ms(),
                    failed: failed.clone(),
                };
                left.insert(about.id.clone(), undelivered);
            }
            Ok(true)
        })?;
        let mut left: Vec<Undelivered> = left.into_values().collect();
        left.sort_by_key(|one| one.index);
        Ok(left)
    }

    /// When people were told that so much of a budget is taken, by window.
    pub(in crate::store) fn warned(&self) -> Result<Vec<(Window, i64)>, StoreError> {
        let read = |(name, told): (String, String)| {
            let (budget, window) = name.split_once('\n')?;
            let window = Window {
                budget: budget.to_owned(),
                window: window.to_owned(),
            };
            Some((window, told.parse().ok()?))
        };
        Ok(self.meta_like(WARNED)?.into_iter().filter_map(read).collect())
    }

    /// What is noted under names that begin so, by what follows in the name.
    fn meta_like(&self, beginning: &str) -> Result<Vec<(String, String)>, StoreError> {
        let sql =
            "SELECT substr(name, length(?1) + 1), value FROM meta WHERE substr(name, 1, length(?1)) = ?1 ORDER BY name";
        self.all(sql, [beginning], |row| Ok((row.get(0)?, row.get(1)?)))
    }
}
