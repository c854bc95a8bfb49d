//! Kills a host under load again and again, and holds its ledger against what the service received.
//!
//! Three processes: the service, which writes down each request before it answers; a host that makes as many calls at once as it can;
//! and this one, which kills the host at random moments, looks what it left behind, and does what people would: has some of the effects
//! in doubt sent again under their key, says of the others what the service knows of them, approves what waits, retries what failed. At the
//! end everything must add up: nothing was received that has no durable intent, nothing was received more often than the ledger says it was
//! sent, every intent is known, and budgets have used what was done and nothing else.

mod judge;
mod load;

use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::programs::program;
use crate::service::Service;
use judge::{Known, Received};
pub use load::LookedAfter;

/// What a run fails with.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Effects that the service receives at least.
    pub effects: usize,
    /// Of the moments at which the host is killed, the calls that are made and what is done about what is left.
    pub seed: u64,
}

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How often a host was killed.
    pub kills: usize,
    /// Requests that the service received.
    pub received: usize,
    /// Intents on the ledger.
    pub intents: usize,
    /// Sendings after the first.
    pub retried: usize,
    /// What was done about what killed hosts left.
    pub looked_after: LookedAfter,
    /// Everything that does not add up.
    pub wrong: Vec<String>,
}

/// Kills hosts until the service has received as many effects as planned. `progress` is told of each: hosts killed, effects received.
///
/// # Errors
/// Where a process does not start, or a home does not open; what does not add up is in the [`Report`].
pub fn run(scratch: &Path, plan: Plan, mut progress: impl FnMut(usize, usize)) -> Result<Report, Failed> {
    let service = Service::start(&scratch.join("service"))?;
    let home = scratch.join("home");
    load::make(&home, &service, scratch)?;
    let mut received = Received::default();
    let mut report = Report::default();
    let mut moments = Moments(plan.seed);
    while received.effects() < plan.effects {
        let before = received.effects();
        let mut host = start(&home, moments.number())?;
        thread::sleep(moments.next());
        host.kill()?;
        host.wait()?;
        report.kills += 1;
        // What is on its way still arrives.
        thread::sleep(Duration::from_millis(100));
        received.read(&service)?;
        let mut known = Known {
            received: &mut received,
            service: &service,
        };
        load::look_after(&home, &mut known, &mut moments, &mut report.looked_after)?;
        progress(report.kills, received.effects());
        if report.kills > 20 && received.effects() == before {
            return Err("hosts do nothing any more".into());
        }
    }
    received.read(&service)?;
    judge::judge(&home, &received, &mut report)?;
    let LookedAfter { done, sent_again, .. } = report.looked_after;
    if done > 100 && sent_again == 0 {
        report.wrong.push("no effect in doubt could be sent again".to_owned());
    }
    Ok(report)
}

/// Makes calls until it is killed: the host under load.
///
/// # Errors
/// Where the home does not open.
pub fn work(home: &Path, seed: u64) -> Result<(), Failed> {
    load::work(home, seed)
}

fn start(home: &Path, seed: u64) -> io::Result<Child> {
    Command::new(program("ambit-crash"))
        .arg("--work")
        .arg(home)
        .arg(seed.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Numbers from a seed: moments to kill at, and what is done.
struct Moments(u64);

impl Moments {
    /// From the first call on to well into the load.
    fn next(&mut self) -> Duration {
        Duration::from_millis(60 + self.below(900))
    }

    /// splitmix64.
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.number() % most
    }
}

/// Reads the arguments of `ambit-crash`, runs it, and prints how far it is and what came of it; whether everything added up.
///
/// # Errors
/// As [`run`].
pub fn main(plan: Plan, scratch: &Path, out: &mut dyn Write) -> Result<bool, Failed> {
    /// Between two lines of progress.
    const PAUSE: Duration = Duration::from_secs(5);
    let started = Instant::now();
    writeln!(out, "{} effects to go, seed {}", plan.effects, plan.seed)?;
    let mut told = Instant::now();
    let report = run(scratch, plan, |kills, effects| {
        if told.elapsed() >= PAUSE {
            told = Instant::now();
            drop(writeln!(
                out,
                "{effects} of {} effects, {kills} hosts killed so far",
                plan.effects
            ));
        }
    })?;
    let Report {
        kills,
        received,
        intents,
        retried,
        looked_after,
        wrong,
    } = &report;
    let LookedAfter {
        went_on,
        done,
        not_done,
        sent_again,
        approved,
        letters,
    } = looked_after;
    writeln!(
        out,
        "{kills} hosts killed under load, {received} requests received, {intents} intents, {retried} sendings again, {went_on} calls \
         went on; {} effects were in doubt: {sent_again} were sent again, {done} were done and {not_done} not; {approved} approved after \
         the host's end, {letters} dead letters retried; seed {}, {:.0} s",
        done + not_done + sent_again,
        plan.seed,
        started.elapsed().as_secs_f64()
    )?;
    for line in wrong.iter().take(20) {
        writeln!(out, "wrong: {line}")?;
    }
    writeln!(out, "{} things do not add up", wrong.len())?;
    Ok(wrong.is_empty())
}
