//! A kill: how long what it covers goes on. Of a guest that computes, and of one that waits for its service.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ambit_core::error::Code;
use ambit_core::stop::{Kind, Scope, Stop};
use ambit_runtime::call::{CallRequest, Outcome};
use ambit_runtime::gate::Wire;
use ambit_runtime::gate::resolve::Resolve;
use ambit_runtime::host::{Host, HostOptions, OpenError};

use super::live::Nowhere;
use super::report::{Amount, Figure};
use super::rounds::quantile;
use super::setting::{self, Setting};
use super::{Measured, Pace};

/// What a kill has.
const AT_ONCE: Duration = Duration::from_millis(100);
/// How long a call runs before it is killed, at the first try.
const UNDER_WAY: Duration = Duration::from_millis(10);
/// How often one is made that had not begun by then.
const TRIES: u32 = 10;

pub(super) fn ends(_: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let times = pace.pick(50, 3);
    let folder = tempfile::tempdir()?;
    let setting = Setting::make(folder.path())?;
    let nowhere = Arc::new(Nowhere::default());
    let host = setting.open(HostOptions {
        wire: Some(Wire::with_resolver(Arc::clone(&nowhere) as Arc<dyn Resolve>)),
        ..setting::on_disk(&["effects", "endless"])
    })?;
    let computing = || setting::request("endless", "try", r#"{"case":"spin"}"#);
    let waiting = || setting::request("effects", "look", r#"{"charge":"ch_shoes","count":1}"#);
    let (mut computed, mut waited) = (Vec::new(), Vec::new());
    for nth in pace.rounds(times) {
        computed.push(killed(&host, computing, || Ok(()))?);
        waited.push(killed(&host, waiting, || nowhere.wait_for(nth + 1))?);
    }
    let [computing, waiting] = [computed, waited].map(in_order);
    let all = in_order([computing.as_slice(), &waiting].concat());
    let most = quantile(&all, 90);
    let told = |waits: &[Duration]| {
        let of = |percent| Amount::from(quantile(waits, percent));
        format!("{} p50, {} p99", of(50), of(99))
    };
    Ok(Figure::of(most.into())
        .target("≤ 100 ms", most <= AT_ONCE)
        .note(format!(
            "until its end is durable too: {} of guests that compute, {} of those that wait for a service, {} of each",
            told(&computing),
            told(&waiting),
            times
        )))
}

/// How long after the stop was durable the call had its end on the ledger. One that had not begun when it was to be killed is made again.
fn killed(host: &Host, request: impl Fn() -> CallRequest, under_way: impl Fn() -> Measured<()>) -> Measured<Duration> {
    for attempt in 1..=TRIES {
        if let Some(took) = kill_once(host, request(), UNDER_WAY * attempt, &under_way)? {
            return Ok(took.max(Duration::from_nanos(1)));
        }
    }
    Err("no call begins in time to be killed".into())
}

fn kill_once(
    host: &Host,
    request: CallRequest,
    after: Duration,
    under_way: impl Fn() -> Measured<()>,
) -> Measured<Option<Duration>> {
    let kill = Stop {
        kind: Kind::Kill,
        scope: Scope::Everything,
    };
    let refused = |error: OpenError| error.to_string();
    thread::scope(|scope| {
        let call = scope.spawn(|| (host.call(request), Instant::now()));
        thread::sleep(after);
        let waited = under_way();
        // Whatever was found, the call has to end.
        let done = host.stop(&kill, "it is measured").map_err(refused)?;
        let durable = Instant::now();
        let (answer, ended) = call.join().map_err(|_| "a call panicked")?;
        host.lift(&kill, None).map_err(refused)?;
        waited?;
        match answer?.outcome {
            Outcome::Stopped(refusal) if refusal.code == Code::Killed => {
                Ok((!done.ended.is_empty()).then(|| ended.saturating_duration_since(durable)))
            }
            other => Err(format!("a call that was killed came to {other:?}").into()),
        }
    })
}

fn in_order(mut waits: Vec<Duration>) -> Vec<Duration> {
    waits.sort_unstable();
    waits
}
