//! A caller that calls now and then, alone and beside guests that never stop by themselves.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ambit_runtime::call::Outcome;
use ambit_runtime::host::Host;

use super::report::{Amount, Figure};
use super::rounds::{micros, quantile};
use super::setting::{self, Setting, trivial};
use super::{Measured, Pace};

const SPINNING: usize = 8;
/// Between the end of one call and the next.
const PAUSE: Duration = Duration::from_millis(1);

pub(super) fn steady(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let (rounds, during) = pace.pick((5, Duration::from_millis(1500)), (1, Duration::from_millis(150)));
    let tools = ["echo", "spin"];
    let durable = Waits::of(&setting.open(setting::on_disk(&tools))?, pace, rounds, during)?;
    let in_memory = Waits::of(
        &setting.open(setting.in_memory(&tools))?,
        pace,
        rounds.div_ceil(2),
        during,
    )?;
    let (p99, alone) = (durable.beside(99), durable.alone(99));
    let most = (2 * alone).max(alone + Duration::from_millis(5));
    Ok(Figure::of(p99.into())
        .against("its p99 alone", alone.into(), micros(p99) / micros(alone))
        .target("≤ 2×, or 5 ms more", p99 <= most)
        .note(format!("durable calls: {durable}"))
        .note(format!(
            "the same with a ledger in memory, so without any other thread: {in_memory}"
        )))
}

/// How long calls took, in order of time.
struct Waits {
    alone: Vec<Duration>,
    beside: Vec<Duration>,
}

impl Waits {
    fn of(host: &Host, pace: Pace<'_>, rounds: usize, during: Duration) -> Measured<Waits> {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        call_now_and_then(host, during / 4)?;
        for _ in pace.rounds(rounds) {
            alone.extend(call_now_and_then(host, during)?);
            beside.extend(beside_spinning(host, during)?);
        }
        alone.sort_unstable();
        beside.sort_unstable();
        Ok(Waits { alone, beside })
    }

    fn alone(&self, percent: usize) -> Duration {
        quantile(&self.alone, percent)
    }

    fn beside(&self, percent: usize) -> Duration {
        quantile(&self.beside, percent)
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = |wait: Duration| Amount::from(wait);
        let [(beside, beside_most), (alone, alone_most)] =
            [(self.beside(50), self.beside(99)), (self.alone(50), self.alone(99))];
        write!(
            f,
            "{} p50, {} p99 beside them ({} calls), {} p50, {} p99 alone ({} calls)",
            amount(beside),
            amount(beside_most),
            self.beside.len(),
            amount(alone),
            amount(alone_most),
            self.alone.len()
        )
    }
}

fn beside_spinning(host: &Host, during: Duration) -> Measured<Vec<Duration>> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let spinning: Vec<_> = (0..SPINNING).map(|_| scope.spawn(|| spin(host, &over))).collect();
        thread::sleep(Duration::from_millis(20));
        let waits = call_now_and_then(host, during);
        over.store(true, Ordering::Relaxed);
        for guest in spinning {
            guest.join().map_err(|_| "a spinning guest's thread panicked")??;
        }
        waits
    })
}

/// One guest after another that runs until its time is over.
fn spin(host: &Host, over: &AtomicBool) -> Measured<()> {
    while !over.load(Ordering::Relaxed) {
        let answer = host.call(setting::request("spin", "try", r#"{"case":"spin"}"#))?;
        if !matches!(answer.outcome, Outcome::Stopped(_)) {
            return Err(format!("a spinning guest came to {:?}", answer.outcome).into());
        }
    }
    Ok(())
}

fn call_now_and_then(host: &Host, during: Duration) -> Measured<Vec<Duration>> {
    let begun = Instant::now();
    let mut waits = Vec::new();
    while begun.elapsed() < during {
        let request = trivial();
        // From when it is due: a caller that is woken late has waited too.
        let due = Instant::now() + PAUSE;
        thread::sleep(PAUSE);
        setting::call(host, request)?;
        waits.push(due.elapsed());
    }
    Ok(waits)
}
