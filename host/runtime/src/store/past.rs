//! What the ledger says of how services were used of late: what a process that opens a home goes on from.

use std::collections::BTreeMap;

use ambit_core::flow::{Changed, Failure, How};
use ambit_core::ledger::body::Outcome;
use ambit_core::ledger::{Body, Entry};

use super::{Reader, StoreError};

/// A connection, or one route of it that has a breaker or a rate of its own.
pub type Circuit = (String, Option<String>);

/// How services were used of late.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// The last change of each breaker that ever changed, by the ledger's indices.
    pub changed: BTreeMap<Circuit, Changed>,
    /// Sendings that failed, oldest first: by the ledger's time and indices, and through which connection and route.
    pub failed: Vec<(Failure, String, String)>,
    /// Until when connections asked to be left alone, in milliseconds since 1970.
    pub paused: BTreeMap<String, u64>,
    /// What was sent, oldest first: when, by the ledger's time, and through which connection and route.
    pub sent: Vec<(u64, String, String)>,
}

/// From when on what is read, in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// Pauses.
    pub paused_ms: i64,
    /// What was sent; none where no rate asks for it.
    pub sent_ms: Option<i64>,
    /// What failed; none where no breaker asks for it.
    pub failed_ms: Option<i64>,
}

impl Past {
    /// The breakers that are open.
    pub fn open(&self) -> impl Iterator<Item = &Circuit> {
        let open = self.changed.iter().filter(|(_, changed)| changed.open.is_some());
        open.map(|(circuit, _)| circuit)
    }
}

impl Reader {
    /// How services were used: breakers whatever their age, and the rest from a time on. Where what was sent or failed is asked for, that
    /// reads every entry since.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn past(&self, since: Since) -> Result<Past, StoreError> {
        let mut past = Past {
            changed: self.changed_breakers()?,
            paused: self.pauses(since.paused_ms)?,
            ..Past::default()
        };
        if since.sent_ms.is_some() || since.failed_ms.is_some() {
            let mut back = Backwards::new(since);
            self.each_entry("SELECT bytes FROM entries ORDER BY idx DESC", |entry| {
                Ok(back.take(entry, &mut past))
            })?;
            past.sent.reverse();
            past.failed.sort_by_key(|(failure, ..)| failure.at_ms);
        }
        Ok(past)
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

    /// The last that was said of each.
    fn changed_breakers(&self) -> Result<BTreeMap<Circuit, Changed>, StoreError> {
        let mut last = BTreeMap::new();
        let sql = "SELECT bytes FROM entries WHERE call IS NULL AND kind IN ('breaker-opened', 'breaker-closed') ORDER BY idx";
        self.each_entry(sql, |entry| {
            let (circuit, open) = match entry.body() {
                Body::BreakerOpened(opened) => {
                    let circuit = (opened.connection.clone(), opened.route.clone());
                    (circuit, Some((opened.until, opened.in_a_row)))
                }
                Body::BreakerClosed(closed) => ((closed.connection.clone(), closed.route.clone()), None),
                _ => return Ok(true),
            };
            let index = entry.index();
            last.insert(circuit, Changed { index, open });
            Ok(true)
        })?;
        Ok(last)
    }
}

/// Reads entries from the last one back: how a sending ended comes before what says that it left.
struct Backwards {
    since: Since,
    /// When sendings failed, by call and effect, of which that is still to come.
    ended: BTreeMap<(String, u32), u64>,
}

impl Backwards {
    const fn new(since: Since) -> Self {
        Self {
            since,
            ended: BTreeMap::new(),
        }
    }

    /// Takes an entry; whether the one before it is of use.
    fn take(&mut self, entry: &Entry, past: &mut Past) -> bool {
        let call = entry.call().unwrap_or_default();
        match entry.body() {
            Body::EffectIntent(body) => {
                self.began(entry, body.ordinal, (&body.connection, &body.route), past);
            }
            Body::EffectRetried(body) => {
                self.began(entry, body.ordinal, (&body.connection, &body.route), past);
                self.ends((call, body.ordinal), entry, &body.after);
            }
            Body::EffectOutcome(body) => self.ends((call, body.ordinal), entry, body.last_sending()),
            _ => {}
        }
        let wanted = |since: Option<i64>| since.is_some_and(|since| entry.time_ms() >= since);
        wanted(self.since.sent_ms) || wanted(self.since.failed_ms) || !self.ended.is_empty()
    }

    /// Something is sent.
    fn began(&mut self, entry: &Entry, ordinal: u32, (connection, route): (&str, &str), past: &mut Past) {
        if self.since.sent_ms.is_some_and(|since| entry.time_ms() >= since) {
            past.sent.push((time(entry), connection.to_owned(), route.to_owned()));
        }
        let call = entry.call().unwrap_or_default().to_owned();
        if let Some(at_ms) = self.ended.remove(&(call, ordinal)) {
            let began = entry.index();
            let failure = Failure { began, at_ms };
            past.failed.push((failure, connection.to_owned(), route.to_owned()));
        }
    }

    /// A sending ended.
    fn ends(&mut self, (call, ordinal): (&str, u32), entry: &Entry, sending: &Outcome) {
        let recent = self.since.failed_ms.is_some_and(|since| entry.time_ms() >= since);
        if recent && How::of(sending) == How::Bad {
            self.ended.insert((call.to_owned(), ordinal), time(entry));
        }
    }
}

fn time(entry: &Entry) -> u64 {
    u64::try_from(entry.time_ms()).unwrap_or_default()
}
