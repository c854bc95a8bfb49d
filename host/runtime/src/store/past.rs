//! What the ledger says of how services were used of late: what a process that opens a home goes on from.

use std::collections::BTreeMap;

use ambit_core::ledger::Body;

use super::{Reader, StoreError};

/// A connection, or one route of it that has a breaker or a rate of its own.
pub type Circuit = (String, Option<String>);

/// How services were used of late.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Breakers that are open: until when, in milliseconds since 1970, and how many times in a row they opened.
    pub open: BTreeMap<Circuit, (u64, u32)>,
    /// Until when connections asked to be left alone, in milliseconds since 1970.
    pub paused: BTreeMap<String, u64>,
    /// What was sent, oldest first: when, by the ledger's time, and through which connection and route.
    pub sent: Vec<(u64, String, String)>,
}

impl Reader {
    /// How services were used: breakers whatever their age, pauses from `since_ms` on, and where `sent_since_ms` says so what was sent
    /// from then on. That reads every entry since.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn past(&self, since_ms: i64, sent_since_ms: Option<i64>) -> Result<Past, StoreError> {
        Ok(Past {
            open: self.open_breakers()?,
            paused: self.pauses(since_ms)?,
            sent: sent_since_ms.map_or(Ok(Vec::new()), |since| self.sent(since))?,
        })
    }

    fn pauses(&self, since_ms: i64) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut pauses: BTreeMap<String, u64> = BTreeMap::new();
        let sql = "SELECT bytes FROM entries WHERE call IS NULL AND kind = 'service-paused' ORDER BY idx DESC";
        self.each_entry(sql, |entry| {
            if let Body::ServicePaused(paused) = entry.body() {
                let until = pauses.entry(paused.connection.clone()).or_default();
                *until = (*until).max(paused.until);
            }
            Ok(entry.time_ms() >= since_ms)
        })?;
        Ok(pauses)
    }

    fn sent(&self, since_ms: i64) -> Result<Vec<(u64, String, String)>, StoreError> {
        let mut sent = Vec::new();
        self.each_entry("SELECT bytes FROM entries ORDER BY idx DESC", |entry| {
            let at = u64::try_from(entry.time_ms()).unwrap_or_default();
            match entry.body() {
                Body::EffectIntent(intent) => sent.push((at, intent.connection.clone(), intent.route.clone())),
                Body::EffectRetried(again) => sent.push((at, again.connection.clone(), again.route.clone())),
                _ => {}
            }
            Ok(entry.time_ms() >= since_ms)
        })?;
        sent.reverse();
        Ok(sent)
    }

    /// The last that was said of each.
    fn open_breakers(&self) -> Result<BTreeMap<Circuit, (u64, u32)>, StoreError> {
        let mut last = BTreeMap::new();
        let sql = "SELECT bytes FROM entries WHERE call IS NULL AND kind IN ('breaker-opened', 'breaker-closed') ORDER BY idx";
        self.each_entry(sql, |entry| {
            match entry.body() {
                Body::BreakerOpened(opened) => {
                    let circuit = (opened.connection.clone(), opened.route.clone());
                    last.insert(circuit, (opened.until, opened.in_a_row));
                }
                Body::BreakerClosed(closed) => {
                    last.remove(&(closed.connection.clone(), closed.route.clone()));
                }
                _ => {}
            }
            Ok(true)
        })?;
        Ok(last)
    }
}
