//! The doors of agents, whole: `ambit serve` as a process, over a pipe and over HTTP, against a server that is the protocol's library and
//! nothing else (`ambit-echo`), both asked for a trivial tool by the same client.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use ambit_runtime::store::{Faults, Keys, Store, StoreOptions};

use super::durable::{Appends, append};
use super::report::{Amount, Figure};
use super::rounds::{micros, middle, middle_of};
use super::setting::{self, Setting, TEXT, trivial};
use super::{Measured, Pace};
use crate::load::{Listening, Stdio, over_http, resident};
use crate::programs::program;

/// Of the best that the library alone does, this much is left with policy, sandbox and record.
const LEFT: f64 = 0.7;
/// Calls under way at a time, where there are several.
const AT_ONCE: usize = 16;
/// How much more than its parts a call may take.
const MORE: f64 = 1.5;

/// The smallest call's tool and arguments, as an agent names them.
pub(super) fn tool() -> (&'static str, String) {
    ("echo_hash", format!(r#"{{"json":"{TEXT}"}}"#))
}

/// A command on a home.
pub(super) fn ambit(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("ambit"));
    command.env_clear().arg("--home").arg(home).args(arguments);
    command
}

fn echo(over: &str) -> Command {
    let mut command = Command::new(program("ambit-echo"));
    command.arg(over);
    command
}

fn over_stdio(setting: &Setting) -> Measured<Stdio> {
    let agent = ["serve", "--stdio", "--as", "assistant", "--for", "ada"];
    Ok(Stdio::start(ambit(&setting.home(), &agent))?)
}

/// What a command prints that must succeed.
pub(super) fn printed(mut command: Command) -> Measured<String> {
    let made = command.output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into_owned().into());
    }
    Ok(String::from_utf8(made.stdout)?.trim().to_owned())
}

/// `ambit serve`, and a key for it.
pub(super) fn serve(home: &Path) -> Measured<(Listening, String)> {
    let key = printed(ambit(home, &["keys", "create", "--as", "assistant", "--for", "ada"]))?;
    Ok((
        Listening::start(ambit(home, &["serve", "--listen", "127.0.0.1:0"]))?,
        key,
    ))
}

/// One call after another over a pipe: against the call without the protocol, its commit, and the protocol without the call.
pub(super) fn stdio_one(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let (tool, arguments) = tool();
    let times = pace.pick(400, 10);
    let mut ours = over_stdio(setting)?;
    let mut echo = Stdio::start(echo("--stdio"))?;
    one(
        setting,
        pace,
        times,
        [
            &mut || Ok(micros(middle_of(ours.calls(tool, &arguments, times, 1)?))),
            &mut || Ok(micros(middle_of(echo.calls(tool, &arguments, times, 1)?))),
        ],
    )
}

/// The same over HTTP.
pub(super) fn http_one(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let (tool, arguments) = tool();
    let times = pace.pick(400, 10);
    let (ours, key) = serve(&setting.home())?;
    let echo = Listening::start(echo("--http"))?;
    let ask = |address: &str, key: &str| -> Measured<f64> {
        Ok(micros(
            over_http(address, key, (tool, &arguments), times, 1)?.quantile(50),
        ))
    };
    one(
        setting,
        pace,
        times,
        [&mut || ask(ours.address(), &key), &mut || ask(echo.address(), "")],
    )
}

type Ask<'a> = &'a mut dyn FnMut() -> Measured<f64>;

/// Medians of ours and of the echo's, in turn with what a call is made of.
fn one(setting: &Setting, pace: Pace<'_>, times: usize, [ours, echo]: [Ask<'_>; 2]) -> Measured<Figure> {
    let rounds = pace.pick(7, 1);
    let host = setting.open(setting.in_memory(&["echo"]))?;
    let folder = tempfile::tempdir_in(setting.folder())?;
    let home = folder.path().join("store-alone");
    ambit_runtime::home::init(&home)?;
    let store = Store::open(&home, Keys::load(&home)?, StoreOptions::default(), Faults::default())?;
    let appends = Appends::of(&host)?;
    let each = |mut work: Box<dyn FnMut() -> Measured<()> + '_>| -> Measured<f64> {
        let took = (0..times).map(|_| {
            let begun = Instant::now();
            work()?;
            Ok(begun.elapsed())
        });
        Ok(micros(middle_of(took.collect::<Measured<Vec<_>>>()?)))
    };
    ours()?;
    echo()?;
    let mut found: [Vec<f64>; 5] = Default::default();
    for _ in pace.rounds(rounds) {
        let call = each(Box::new(|| setting::call(&host, trivial()).map(drop)))?;
        let commit = each(Box::new(|| append(&store, &appends)))?;
        let (echoed, own) = (echo()?, ours()?);
        let ratio = own / (call + commit + echoed);
        for (kept, figure) in found.iter_mut().zip([own, call, commit, echoed, ratio]) {
            kept.push(figure);
        }
    }
    let [own, call, commit, echoed, ratio] = found.map(middle);
    Ok(Figure::of(Amount::Micros(own))
        .against(
            "a governed call, a durable commit and an echo of the protocol's library",
            Amount::Micros(call + commit + echoed),
            ratio,
        )
        .target("≤ 1.5×", ratio <= MORE)
        .parts([
            ("a governed call, ledger in memory", call),
            ("a durable commit of what it writes", commit),
            ("an echo of the protocol's library", echoed),
        ]))
}

/// Sixteen calls under way over a pipe, against as many echoes.
pub(super) fn stdio_many(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let (tool, arguments) = tool();
    let times = pace.pick(4_000, 60);
    let durable = super::durable::rate(setting, pace, AT_ONCE)?;
    let mut ours = over_stdio(setting)?;
    let mut echo = Stdio::start(echo("--stdio"))?;
    let rate = |server: &mut Stdio| -> Measured<f64> {
        let begun = Instant::now();
        server.calls(tool, &arguments, times, AT_ONCE)?;
        Ok(times as f64 / begun.elapsed().as_secs_f64())
    };
    many(durable, pace, [&mut || rate(&mut ours), &mut || rate(&mut echo)])
}

/// The same over as many connections.
pub(super) fn http_many(setting: &Setting, pace: Pace<'_>, connections: usize) -> Measured<Figure> {
    let (tool, arguments) = tool();
    let times = pace.pick(4_000, 60).max(connections);
    let durable = super::durable::rate(setting, pace, AT_ONCE)?;
    let (ours, key) = serve(&setting.home())?;
    let echo = Listening::start(echo("--http"))?;
    let rate = |address: &str, key: &str| -> Measured<f64> {
        Ok(over_http(address, key, (tool, &arguments), times, connections)?.per_second())
    };
    many(
        durable,
        pace,
        [&mut || rate(ours.address(), &key), &mut || rate(echo.address(), "")],
    )
}

/// `durable` is how many durable calls a second there are without the protocol: measured before, as one process holds a home.
fn many(durable: f64, pace: Pace<'_>, [ours, echo]: [Ask<'_>; 2]) -> Measured<Figure> {
    let rounds = pace.pick(5, 1);
    ours()?;
    echo()?;
    let mut found: [Vec<f64>; 3] = Default::default();
    for _ in pace.rounds(rounds) {
        let (echoed, own) = (echo()?, ours()?);
        for (kept, figure) in found.iter_mut().zip([own, echoed, own / echoed]) {
            kept.push(figure);
        }
    }
    let [own, echoed, ratio] = found.map(middle);
    Ok(Figure::of(Amount::PerSecond(own))
        .against("an echo of the protocol's library", Amount::PerSecond(echoed), ratio)
        .target("≥ 0.7×", ratio >= LEFT)
        .note(format!(
            "durable calls without the protocol, {AT_ONCE} at a time: {}",
            Amount::PerSecond(durable)
        )))
}

/// From the start of the process to the answer that lists its tools.
pub(super) fn start(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    const MOST: f64 = 100_000.0;
    let rounds = pace.pick(15, 2);
    let mut found = Vec::new();
    for _ in pace.rounds(rounds) {
        let begun = Instant::now();
        let mut server = over_stdio(setting)?;
        let listed = server.ask("tools/list")?;
        found.push(micros(begun.elapsed()));
        if !listed.contains("echo_hash") {
            return Err(format!("no tools were listed: {listed}").into());
        }
    }
    let found = middle(found);
    Ok(Figure::of(Amount::Micros(found)).target("≤ 100 ms", found <= MOST))
}

/// What a server has resident that was asked nothing yet.
pub(super) fn idle(setting: &Setting, _: Pace<'_>) -> Measured<Figure> {
    // In KiB, as it is measured.
    const MOST: f64 = 60e6 / 1024.0;
    let (server, _) = serve(&setting.home())?;
    let found = resident(server.id())?;
    let kept = ambit_runtime::sandbox::MOST_KEPT_RESIDENT as f64 / 1024.0;
    Ok(Figure::of(Amount::Kibibytes(found))
        .target("≤ 60 MB", found <= MOST)
        .note(format!(
            "slots of calls that are over keep at most {} resident",
            Amount::Kibibytes(kept)
        )))
}

/// What it has resident after many calls, against what it had once it was warm.
pub(super) fn endures(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    const GROWN: f64 = 1.05;
    let (tool, arguments) = tool();
    let (part, times) = (pace.pick(5_000, 300), pace.pick(50_000, 600));
    let (server, key) = serve(&setting.home())?;
    let load = |part: usize, calls: usize| {
        let connections = if part.is_multiple_of(2) { 256 } else { AT_ONCE };
        over_http(server.address(), &key, (tool, &arguments), calls, connections)
    };
    // What was freed goes back to the system a while later, as calls are made: what only grows has no low.
    let low = || -> Measured<f64> {
        let mut lowest = f64::INFINITY;
        for _ in 0..6 {
            load(1, part / 2)?;
            lowest = lowest.min(resident(server.id())?);
        }
        Ok(lowest)
    };
    // As it goes on, until the allocator has all that it keeps of many that call at once.
    for warming in 0..8 {
        load(warming, part)?;
    }
    let before = low()?;
    let mut slowest = Vec::new();
    for number in pace.rounds(times / part) {
        slowest.push(load(number, part)?.quantile(99));
    }
    let after = low()?;
    let ratio = after / before;
    let note = format!(
        "{times} calls over 256 and 16 connections in turn, of which 99 in 100 took {} at most",
        Amount::from(slowest.into_iter().max().unwrap_or_default())
    );
    Ok(Figure::of(Amount::Kibibytes(after))
        .against("the same once it was warm", Amount::Kibibytes(before), ratio)
        .target("≤ 1.05×", ratio <= GROWN)
        .note(note))
}
