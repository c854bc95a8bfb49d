//! What is kept for webhooks: how far each has come, and which messages were given up.

use std::collections::BTreeMap;

use ambit_core::ledger::body::{Message, WebhookFailed};
use ambit_core::ledger::{Body, Entry};

use super::Reader;
use crate::store::books::Window;
use crate::store::tables::{WARNED, WEBHOOK};
use crate::store::{Progress, StoreError};

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
    /// How far webhooks have come, by name.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn webhooks(&self) -> Result<BTreeMap<String, Progress>, StoreError> {
        let rows = self.meta_like(WEBHOOK)?.into_iter();
        let read = |(name, text): (String, String)| Some((name, Progress::parse(&text)?));
        Ok(rows.filter_map(read).collect())
    }

    /// The messages that were given up and are left, the oldest first.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where a row is not an entry.
    pub fn undelivered(&self) -> Result<Vec<Undelivered>, StoreError> {
        let mut left: Vec<Undelivered> = Vec::new();
        for entry in self.last_words()? {
            if let Body::WebhookFailed(failed) = entry.body() {
                left.push(Undelivered {
                    index: entry.index(),
                    time_ms: entry.time_ms(),
                    failed: failed.clone(),
                });
            }
        }
        Ok(left)
    }

    /// The messages that an operator had sent again, each with the index of the entry that says so, but for those that were given up since.
    ///
    /// # Errors
    /// As [`Reader::undelivered`].
    pub(crate) fn sent_again(&self) -> Result<Vec<(u64, Message)>, StoreError> {
        let all = self.last_words()?;
        let again = all.iter().filter_map(|entry| match entry.body() {
            Body::WebhookRetried(retried) => Some((entry.index(), retried.message.clone())),
            _ => None,
        });
        Ok(again.collect())
    }

    /// Of each message that was ever given up the last entry about it, in the ledger's order.
    fn last_words(&self) -> Result<Vec<Entry>, StoreError> {
        let mut last: BTreeMap<String, Entry> = BTreeMap::new();
        let sql = "SELECT bytes FROM entries WHERE call IS NULL
            AND kind IN ('webhook-failed', 'webhook-retried', 'webhook-dropped') ORDER BY idx";
        self.each_entry(sql, |entry| {
            let about: &Message = match entry.body() {
                Body::WebhookFailed(failed) => &failed.message,
                Body::WebhookRetried(retried) => &retried.message,
                Body::WebhookDropped(dropped) => {
                    // There is nothing more to say of it.
                    last.remove(&dropped.message.id);
                    return Ok(true);
                }
                _ => return Ok(true),
            };
            last.insert(about.id.clone(), entry.clone());
            Ok(true)
        })?;
        let mut last: Vec<Entry> = last.into_values().collect();
        last.sort_by_key(Entry::index);
        Ok(last)
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
