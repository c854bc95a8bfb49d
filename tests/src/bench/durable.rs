//! Durable calls, on a disk, against what they write, written to the store alone.

use std::time::Duration;

use ambit_core::ledger::{Body, EntryDraft};
use ambit_runtime::host::Host;
use ambit_runtime::ids::{CallId, TraceId};
use ambit_runtime::store::{Batch, Faults, Keys, Payload, Rate, Store, StoreOptions, callers};

use super::report::{Amount, Figure};
use super::rounds::{micros, middle};
use super::setting::{self, Setting, trivial};
use super::{Failed, Measured, Pace};

/// Calls by so many callers at a time, each of which calls again as soon as it has its answer.
pub(super) fn calls(setting: &Setting, pace: Pace<'_>, callers_at_once: usize) -> Measured<Figure> {
    let (rounds, during) = pace.pick((7, Duration::from_millis(700)), (1, Duration::from_millis(60)));
    let host = setting.open(setting::on_disk(&["echo"]))?;
    let appends = Appends::of(&host)?;
    let home = setting.folder().join(format!("store-alone-{callers_at_once}"));
    ambit_runtime::home::init(&home)?;
    let store = Store::open(&home, Keys::load(&home)?, StoreOptions::default(), Faults::default())?;
    let append = |_, _| append(&store, &appends);
    let call = |_, _| setting::call(&host, trivial()).map(drop);
    let (mut alone, mut called) = (Vec::new(), Vec::new());
    callers(callers_at_once, during / 4, append)?;
    callers(callers_at_once, during / 4, call)?;
    for _ in pace.rounds(rounds) {
        alone.push(callers(callers_at_once, during, append)?);
        called.push(callers(callers_at_once, during, call)?);
    }
    let each = |rates: &[Rate], of: fn(&Rate) -> f64| middle(rates.iter().map(of).collect());
    let rate = |rates: &[Rate]| Amount::PerSecond(each(rates, |rate| rate.per_second));
    let ratios = alone
        .iter()
        .zip(&called)
        .map(|(alone, called)| alone.per_second / called.per_second);
    let ratio = middle(ratios.collect());
    let waits = |rates: &[Rate]| {
        let (p50, p99) = (
            each(rates, |rate| micros(rate.p50)),
            each(rates, |rate| micros(rate.p99)),
        );
        format!("{} p50, {} p99", Amount::Micros(p50), Amount::Micros(p99))
    };
    let figure = Figure::of(rate(&called))
        .against("the same appends to the store alone", rate(&alone), ratio)
        .target("≤ 2×", ratio <= 2.0)
        .note(format!(
            "a call waits {}; an append alone {}",
            waits(&called),
            waits(&alone)
        ));
    Ok(figure)
}

/// Calls in a second by so many callers at a time.
pub(super) fn rate(setting: &Setting, pace: Pace<'_>, callers_at_once: usize) -> Measured<f64> {
    let during = pace.pick(Duration::from_millis(700), Duration::from_millis(60));
    let host = setting.open(setting::on_disk(&["echo"]))?;
    let rate = callers(callers_at_once, during, |_, _| {
        setting::call(&host, trivial()).map(drop)
    })?;
    Ok(rate.per_second)
}

pub(super) fn append(store: &Store, appends: &Appends) -> Result<(), Failed> {
    store.commit(appends.batch()?)?;
    Ok(())
}

/// What one trivial call writes, to be written again under other ids.
pub(super) struct Appends {
    entries: Vec<EntryDraft>,
    payloads: Vec<(String, Vec<u8>)>,
}

impl Appends {
    /// Of one call, made for it.
    pub(super) fn of(host: &Host) -> Measured<Appends> {
        let answer = setting::call(host, trivial())?;
        let (call, reader) = (answer.call.as_str(), host.reader()?);
        let entries: Vec<EntryDraft> = reader.entries_of(call)?.iter().map(setting::template).collect();
        let payloads = reader.payload_names(call)?.into_iter().map(|name| {
            let payload = reader.payload(call, &name)?.ok_or("a payload is missing")?;
            Ok((name, payload.into_bytes()))
        });
        let payloads = payloads.collect::<Measured<Vec<_>>>()?;
        let begins_and_ends = matches!(
            entries.as_slice(),
            [
                EntryDraft {
                    body: Body::CallAccepted(_),
                    ..
                },
                EntryDraft {
                    body: Body::CallFinished(_),
                    ..
                }
            ]
        );
        match (begins_and_ends, payloads.len()) {
            (true, 3) => Ok(Appends { entries, payloads }),
            (_, payloads) => Err(format!("a call writes {} entries and {payloads} payloads", entries.len()).into()),
        }
    }

    /// Payloads of a call that was not there yet.
    pub(super) fn payloads(&self) -> Measured<Vec<Payload>> {
        self.payloads_of(&CallId::new()?)
    }

    fn payloads_of(&self, call: &CallId) -> Measured<Vec<Payload>> {
        let payloads = self.payloads.iter();
        let payloads = payloads.map(|(name, bytes)| Payload::new(call.as_str(), name.as_str(), bytes.clone()));
        Ok(payloads.collect::<Result<_, _>>()?)
    }

    /// All that a call which was not there yet writes, in one transaction as a call without effects does.
    pub(super) fn batch(&self) -> Measured<Batch> {
        let (call, trace) = (CallId::new()?, TraceId::random()?);
        let entry = |entry: &EntryDraft| EntryDraft {
            call: Some(call.to_string()),
            trace: Some(trace.to_string()),
            ..entry.clone()
        };
        Ok(Batch {
            entries: self.entries.iter().map(entry).collect(),
            payloads: self.payloads_of(&call)?,
            ..Batch::default()
        })
    }
}
