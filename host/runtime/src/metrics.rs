//! Metrics of a host while it runs, and of a home's ledger at any time.
//!
//! A host's counters count what it wrote since it opened its home: they begin anew with each process, as Prometheus expects of counters.
//! [`of_ledger`] counts a ledger's entries from any time on, without a host. Both say how things stand by the ledger's books.

use std::collections::BTreeMap;
use std::path::Path;

use ambit_core::metrics::{Metrics, Samples, names};
use ambit_core::money::Window;
use ambit_core::stop;

use crate::budgets::Budgets;
use crate::clock::now_ms;
use crate::config::{Config, TlsConfig};
use crate::host::{Host, OpenError};
use crate::store::{Reader, Since, StoreError};

impl Host {
    /// What this process counted since it opened its home, and how things stand now. Reads the books, and blocks for as long as that takes:
    /// a few queries, whatever the ledger's length.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub fn metrics(&self) -> Result<Samples, StoreError> {
        let store = &self.shared.store;
        let mut samples = store.meter().samples();
        standing(&mut samples, &self.reader()?, &self.shared.config)?;
        let set = |samples: &mut Samples, metric, to: u64| samples.set(metric, &[], number(to));
        set(
            &mut samples,
            &names::CALLS_RUNNING,
            store.board().running().len() as u64,
        );
        set(&mut samples, &names::CALLS_WAITING, self.shared.waiting() as u64);
        set(&mut samples, &names::QUEUE, store.meter().waiting());
        set(&mut samples, &names::LEDGER_FAILED, u64::from(store.failed().is_some()));
        samples.set(&names::STARTED, &[], seconds(store.meter().started_ms()));
        let tls = self.shared.config.server().and_then(|server| server.tls.as_ref());
        if let Some(good) = tls.and_then(TlsConfig::validity) {
            // One that was over before 1970 is over as well.
            let since_1970 = |ms: &i64| seconds(ms.max(&0).unsigned_abs());
            samples.set(&names::CERTIFICATE_BEGINS, &[], since_1970(good.start()));
            samples.set(&names::CERTIFICATE_EXPIRES, &[], since_1970(good.end()));
        }
        Ok(samples)
    }

    /// What is counted from the beginning at 0, so that its first increase is seen.
    pub(crate) fn begin_counting(&self) {
        let meter = self.shared.store.meter();
        meter.start(now_ms());
        if let Some(group) = self.shared.config.break_glass() {
            meter.expect(&names::BREAK_GLASS, &[group]);
        }
    }
}

/// What a home's ledger comes to: its entries at `since_ms` (milliseconds since 1970) and later, or all of them, and how things stand now.
/// Needs no secret and no host; called by `ambit metrics`.
///
/// # Errors
/// Where the configuration or the ledger cannot be read.
pub fn of_ledger(home: &Path, since_ms: Option<i64>) -> Result<Samples, OpenError> {
    let config = Config::load(home)?;
    let reader = Reader::open(home)?;
    let from = since_ms.map_or(Ok(0), |since| reader.first_since(since))?;
    let mut metrics = Metrics::default();
    if let Some(group) = config.break_glass() {
        metrics.expect(&names::BREAK_GLASS, &[group]);
    }
    reader.each_from(from, |entry| {
        if let Some(call) = metrics.unknown(entry) {
            let before = reader.entries_before(call, entry.index())?;
            before.iter().for_each(|entry| metrics.recall(entry));
        }
        metrics.note(entry);
        Ok::<_, StoreError>(true)
    })?;
    let mut samples = metrics.samples().clone();
    standing(&mut samples, &reader, &config)?;
    Ok(samples)
}

/// How things stand, by the books.
fn standing(samples: &mut Samples, reader: &Reader, config: &Config) -> Result<(), StoreError> {
    samples.set(&names::BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
    let size = reader.size()?;
    samples.set(&names::LEDGER_SIZE, &[], number(size));
    if let Some(last) = size.checked_sub(1) {
        let time_ms = reader.entry(last)?.time_ms();
        samples.set(&names::LAST_ENTRY, &[], seconds(time_ms.unsigned_abs()));
    }
    let holds = reader.holds(None, usize::MAX)?;
    samples.set(&names::HOLDS_PENDING, &[], number(holds.len() as u64));
    if let Some((_, oldest)) = holds.first() {
        let held_ms = reader.entry(oldest.index)?.time_ms();
        samples.set(&names::OLDEST_HOLD, &[], seconds(held_ms.unsigned_abs()));
    }
    samples.set(&names::DOUBTS, &[], number(reader.doubts()?.len() as u64));
    let letters = reader.dead_letters(None, usize::MAX)?.len() as u64;
    samples.set(&names::LETTERS_WAITING, &[], number(letters));
    let mut dead: BTreeMap<String, u64> = config.webhooks().keys().map(|name| (name.clone(), 0)).collect();
    for left in reader.undelivered()? {
        *dead.entry(left.failed.message.webhook).or_default() += 1;
    }
    for (webhook, count) in &dead {
        samples.set(&names::WEBHOOKS_DEAD, &[webhook], number(*count));
    }
    samples.set(&names::CALLS_UNENDED, &[], number(reader.unended()?.len() as u64));
    let stops = reader.stops()?;
    for kind in stop::Kind::ALL {
        let of_kind = stops.iter().filter(|stop| stop.stop.kind == kind).count() as u64;
        samples.set(&names::STOPS, &[kind.as_str()], number(of_kind));
    }
    let nothing_sent = Since {
        paused_ms: i64::MAX,
        sent_ms: None,
        failed_ms: None,
    };
    for (connection, route) in reader.past(nothing_sent)?.open() {
        let route = route.as_deref().unwrap_or_default();
        samples.set(&names::BREAKERS_OPEN, &[connection, route], 1.0);
    }
    budgets(samples, &Budgets::new(config.budgets(), &reader.accounts()?, now_ms()));
    Ok(())
}

/// Budgets with one window at a time: those of calls and runs have as many as there are calls and runs.
fn budgets(samples: &mut Samples, budgets: &Budgets) {
    let one = |window: Window| !matches!(window, Window::Call | Window::Run);
    for standing in budgets.configured.iter().filter(|standing| one(standing.budget.window)) {
        let budget = &standing.budget;
        let (name, unit) = (budget.name.as_str(), budget.unit.to_string());
        samples.set(&names::BUDGET_CAP, &[name, &unit], number(budget.cap));
        for counted in &standing.current {
            let account = counted.account;
            samples.set(&names::BUDGET_NOW, &[name, &unit, "used"], number(account.used));
            samples.set(&names::BUDGET_NOW, &[name, &unit, "reserved"], number(account.reserved));
        }
    }
}

/// A number as metrics have it: beyond 2^53 not to the last digit.
#[expect(clippy::cast_precision_loss, reason = "it is shown, not counted with")]
fn number(of: u64) -> f64 {
    of as f64
}

/// Milliseconds as seconds.
fn seconds(ms: u64) -> f64 {
    number(ms) / 1000.0
}
