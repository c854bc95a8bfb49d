//! A caller that calls now and then, alone and beside guests that never stop by themselves: in one process, and over HTTP beside another
//! agent that has them.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ambit_runtime::call::Outcome;
use ambit_runtime::host::Host;

use super::doors::{self, ambit};
use super::report::{Amount, Figure};
use super::rounds::{micros, quantile};
use super::setting::{self, OTHER, Setting, trivial};
use super::{Measured, Pace};
use crate::load::Http;

const SPINNING: usize = 8;
/// What a guest is asked for that never stops by itself.
const SPIN: &str = r#"{"case":"spin"}"#;
/// Between the end of one call and the next.
const PAUSE: Duration = Duration::from_millis(1);

pub(super) fn steady(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let (rounds, during) = lasts(pace);
    let tools = ["echo", "spin"];
    let durable = in_process(&setting.open(setting::on_disk(&tools))?, pace, rounds, during)?;
    let in_memory = in_process(
        &setting.open(setting.in_memory(&tools))?,
        pace,
        rounds.div_ceil(2),
        during,
    )?;
    Ok(figure(&durable).note(format!("durable calls: {durable}")).note(format!(
        "the same with a ledger in memory, so without any other thread: {in_memory}"
    )))
}

/// The same over HTTP: the guests that never stop are another agent's, each asked for over a connection of its own.
pub(super) fn steady_over_http(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let (rounds, during) = lasts(pace);
    let (home, (tool, arguments)) = (setting.home(), doors::tool());
    let other = doors::printed(ambit(&home, &["keys", "create", "--as", OTHER]))?;
    let (server, key) = doors::serve(&home)?;
    let mut steady = Http::connect(server.address(), &key)?;
    let waits = Waits::of(
        pace,
        rounds,
        during,
        &mut || Ok(steady.call(tool, &arguments).map(drop)?),
        &|over| spin_over_http(server.address(), &other, over),
    )?;
    Ok(figure(&waits).note(format!("durable calls over one connection: {waits}")))
}

/// How many rounds, and how long each half of one takes.
fn lasts(pace: Pace<'_>) -> (usize, Duration) {
    pace.pick((5, Duration::from_millis(1500)), (1, Duration::from_millis(150)))
}

fn figure(waits: &Waits) -> Figure {
    let (p99, alone) = (waits.beside(99), waits.alone(99));
    let most = (2 * alone).max(alone + Duration::from_millis(5));
    Figure::of(p99.into())
        .against("its p99 alone", alone.into(), micros(p99) / micros(alone))
        .target("≤ 2×, or 5 ms more", p99 <= most)
}

fn in_process(host: &Host, pace: Pace<'_>, rounds: usize, during: Duration) -> Measured<Waits> {
    Waits::of(
        pace,
        rounds,
        during,
        &mut || setting::call(host, trivial()).map(drop),
        &|over| spin(host, over),
    )
}

/// A call that is waited for.
type Call<'c> = &'c mut dyn FnMut() -> Measured<()>;
/// One guest after another that never stops by itself, until it is over.
type Spin<'s> = &'s (dyn Fn(&AtomicBool) -> Measured<()> + Sync);

/// How long calls took, in order of time.
struct Waits {
    alone: Vec<Duration>,
    beside: Vec<Duration>,
}

impl Waits {
    fn of(pace: Pace<'_>, rounds: usize, during: Duration, call: Call<'_>, spin: Spin<'_>) -> Measured<Waits> {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        call_now_and_then(call, during / 4)?;
        for _ in pace.rounds(rounds) {
            alone.extend(call_now_and_then(call, during)?);
            beside.extend(beside_spinning(call, spin, during)?);
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

fn beside_spinning(call: Call<'_>, spin: Spin<'_>, during: Duration) -> Measured<Vec<Duration>> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let spinning: Vec<_> = (0..SPINNING).map(|_| scope.spawn(|| spin(&over))).collect();
        thread::sleep(Duration::from_millis(20));
        let waits = call_now_and_then(call, during);
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
        let answer = host.call(setting::request("spin", "try", SPIN))?;
        if !matches!(answer.outcome, Outcome::Stopped(_)) {
            return Err(format!("a spinning guest came to {:?}", answer.outcome).into());
        }
    }
    Ok(())
}

/// The same by way of a server.
fn spin_over_http(address: &str, key: &str, over: &AtomicBool) -> Measured<()> {
    let mut client = Http::connect(address, key)?;
    while !over.load(Ordering::Relaxed) {
        match client.call("spin_try", SPIN) {
            Err(error) if error.to_string().contains("refused (time)") => {}
            other => return Err(format!("a spinning guest came to {other:?}").into()),
        }
    }
    Ok(())
}

fn call_now_and_then(call: Call<'_>, during: Duration) -> Measured<Vec<Duration>> {
    let begun = Instant::now();
    let mut waits = Vec::new();
    while begun.elapsed() < during {
        // From when it is due: a caller that is woken late has waited too.
        let due = Instant::now() + PAUSE;
        thread::sleep(PAUSE);
        call()?;
        waits.push(due.elapsed());
    }
    Ok(waits)
}
