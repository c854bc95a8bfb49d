//! `ambit kill`, `ambit unkill` and `ambit status`: what operators stop, while a host runs or not.

use std::io::{self, Write};
use std::path::Path;

use ambit_core::ledger::utc;
use ambit_core::stop::{self, Kind, Scope};
use ambit_runtime::clock::now_ms;
use ambit_runtime::config::{Config, nearest};
use ambit_runtime::operators::{self, Answer, Request, Status};
use ambit_runtime::stops::{self, Done, Runs, Standing};
use ambit_runtime::store::{BrokenGlass, Keys, Reader};
use serde_json::{Value, json};

use crate::args::{Kill, Unkill};
use crate::output::{Exit, Failure, Output, count, note, style, untrusted};

/// For so many days `ambit status` says that the glass was broken.
const GLASS_DAYS: i64 = 30;
const DAY_MS: i64 = 24 * 3600 * 1000;

const fn kind(safe_mode: bool) -> Kind {
    match safe_mode {
        true => Kind::SafeMode,
        false => Kind::Kill,
    }
}

/// Arguments that cannot be used.
fn scope(text: &str) -> Result<Scope, Failure> {
    text.parse::<Scope>().map_err(|refusal| {
        let failure = Failure::usage(refusal.message);
        match refusal.advice {
            Some(advice) => failure.advise(advice),
            None => failure,
        }
    })
}

fn done(answer: Answer) -> Result<Done, Failure> {
    match answer {
        Answer::Stop(done) => Ok(done),
        other => Err(Failure::internal(format!(
            "the host answered something else: {other:?}"
        ))),
    }
}

pub(crate) fn kill(args: &Kill, home: &Path, out: Output) -> Result<Exit, Failure> {
    let request = Request::Stop {
        kind: kind(args.safe_mode),
        scope: known_run(home, scope(&args.scope)?)?,
        reason: stop::reason(&args.reason)
            .map_err(|refusal| Failure::usage(refusal.message).advise("Say why: --reason TEXT"))?
            .to_owned(),
    };
    let done = done(operators::act(home, &request)?)?;
    out.result(&done, |w| {
        let (bad, reset) = (style::BAD.render(), style::BAD.render_reset());
        let scope = untrusted(&done.scope.to_string());
        let word = match done.kind {
            Kind::Kill => "stopped",
            Kind::SafeMode => "in safe mode",
        };
        let (already, by) = if done.already {
            ("already ", "since")
        } else {
            ("", "by")
        };
        writeln!(w, "{scope} is {already}{bad}{word}{reset}, {by} entry {}", done.entry)?;
        done.ended
            .iter()
            .try_for_each(|call| writeln!(w, "  ended {}", untrusted(call)))
    })?;
    if let Some(slip) = slip(home, &done.scope) {
        note(slip);
    }
    Ok(Exit::Done)
}

pub(crate) fn unkill(args: &Unkill, home: &Path, out: Output) -> Result<Exit, Failure> {
    let request = Request::Lift {
        kind: kind(args.safe_mode),
        scope: scope(&args.scope)?,
        reason: args.reason.clone(),
    };
    let done = done(operators::act(home, &request)?)?;
    out.result(&done, |w| {
        let (good, reset) = (style::GOOD.render(), style::GOOD.render_reset());
        let scope = untrusted(&done.scope.to_string());
        writeln!(
            w,
            "{good}lifted{reset} {} of {scope}, by entry {}",
            done.kind, done.entry
        )
    })?;
    Ok(Exit::Done)
}

pub(crate) fn status(home: &Path, out: Output) -> Result<Exit, Failure> {
    let reader = Reader::open(home)?;
    let reader = match Keys::load(home) {
        Ok(keys) => reader.with_keys(&keys),
        Err(_) => reader,
    };
    let stops = stops::standing(&reader)?;
    let broken = reader.broken_glass(now_ms().saturating_sub(GLASS_DAYS * DAY_MS))?;
    let running = match operators::ask(home, &Request::Status)? {
        Some(Answer::Status(status)) => Some(status),
        _ => None,
    };
    let undelivered = reader.undelivered()?.len();
    out.result(&document(&stops, &broken, undelivered, running.as_ref()), |w| {
        print_broken(&broken, w)?;
        print_undelivered(undelivered, w)?;
        print(&stops, running.as_ref(), w)
    })?;
    Ok(Exit::Done)
}

fn document(stops: &[Standing], broken: &[BrokenGlass], undelivered: usize, running: Option<&Status>) -> Value {
    let stop = |stop: &Standing| {
        json!({
            "kind": stop.kind,
            "scope": stop.scope,
            "id": stop.id,
            "entry": stop.entry,
            "since": utc(stop.since_ms),
            "reason": stop.reason,
        })
    };
    let call = |call: &Runs| {
        json!({
            "call": call.call,
            "tool": call.tool,
            "agent": call.agent,
            "tenant": call.tenant,
            "since": time(call.since_ms),
            "stopped": call.stopped,
        })
    };
    let glass = |last: &BrokenGlass| {
        json!({
            "days": GLASS_DAYS,
            "uses": broken.len(),
            "last": utc(last.time_ms),
            "entry": last.index,
            "call": last.call,
            "person": last.person,
            "group": last.group,
        })
    };
    json!({
        "break_glass": broken.first().map(glass),
        "stops": stops.iter().map(stop).collect::<Vec<_>>(),
        "webhooks": { "dead": undelivered },
        "host": running.map(|status| json!({
            "pid": status.pid,
            "calls": status.calls.iter().map(call).collect::<Vec<_>>(),
        })),
    })
}

/// Said first, and loudly: one person let an effect pass that others should have approved.
fn print_broken(broken: &[BrokenGlass], w: &mut dyn Write) -> io::Result<()> {
    let Some(last) = broken.first() else { return Ok(()) };
    let (bad, reset) = (style::BAD.render(), style::BAD.render_reset());
    let uses = count(broken.len() as u64, "time", "times");
    writeln!(
        w,
        "{bad}BREAK-GLASS{reset} {uses} in the last {GLASS_DAYS} days; last on {} by {} of {}, entry {}: ambit audit show {}",
        utc(last.time_ms),
        untrusted(&last.person),
        untrusted(&last.group),
        last.index,
        untrusted(&last.call),
    )
}

/// Who should have been told of something was not.
fn print_undelivered(undelivered: usize, w: &mut dyn Write) -> io::Result<()> {
    if undelivered == 0 {
        return Ok(());
    }
    let (bad, reset) = (style::BAD.render(), style::BAD.render_reset());
    let messages = count(undelivered as u64, "message", "messages");
    writeln!(
        w,
        "{bad}webhooks{reset}: {messages} that nobody took: ambit webhooks dead"
    )
}

fn time(ms: u64) -> String {
    utc(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn print(stops: &[Standing], running: Option<&Status>, w: &mut dyn Write) -> io::Result<()> {
    if stops.is_empty() {
        writeln!(w, "nothing is stopped")?;
    }
    for stop in stops {
        let colour = match stop.kind {
            Kind::Kill => style::BAD,
            Kind::SafeMode => style::WARN,
        };
        writeln!(
            w,
            "{}{}{} of {}, since {}, by entry {}: {}",
            colour.render(),
            stop.kind,
            colour.render_reset(),
            untrusted(&stop.scope.to_string()),
            utc(stop.since_ms),
            stop.entry,
            untrusted(
                stop.reason
                    .as_deref()
                    .unwrap_or("[not readable here: the home's keys are needed]")
            ),
        )?;
    }
    let Some(status) = running else {
        return writeln!(w, "no host runs on this home");
    };
    let calls = count(status.calls.len() as u64, "call", "calls");
    writeln!(w, "process {} holds this home, with {calls}", status.pid)?;
    status.calls.iter().try_for_each(|call| {
        let ends = if call.stopped { ", stopped" } else { "" };
        writeln!(
            w,
            "  {} {} by {} since {}{ends}",
            untrusted(&call.call),
            untrusted(&call.tool),
            untrusted(&call.agent),
            time(call.since_ms),
        )
    })
}

/// A run by its whole id, also where a beginning of it was given. Ids are random, so a run that there is none of now there never will be:
/// a stop of it would stop nothing, and whoever set it would think that something is stopped.
fn known_run(home: &Path, scope: Scope) -> Result<Scope, Failure> {
    match scope {
        Scope::Run(given) => {
            let advise = "Nothing was stopped. `ambit run list` prints the runs, `ambit status` what runs now.";
            let run = super::run::find(home, &given).map_err(|failure| failure.advise(advise))?;
            Ok(Scope::Run(run.id().to_owned()))
        }
        scope => Ok(scope),
    }
}

/// A scope of something that the configuration does not have is most likely a slip. It is in force all the same: what runs may know it.
fn slip(home: &Path, scope: &Scope) -> Option<String> {
    let config = Config::load(home).ok()?;
    let (kind, name) = scope.name()?;
    let known: Vec<&str> = match scope {
        Scope::Tenant(_) => config.agents().values().map(|agent| agent.tenant.as_str()).collect(),
        Scope::Agent(_) => config.agents().keys().map(String::as_str).collect(),
        Scope::Tool(_) => config.lock().iter().map(|(name, _)| name).collect(),
        Scope::Connection(_) => config.connections().map(|(name, _)| name).collect(),
        Scope::Everything | Scope::Run(_) => return None,
    };
    if known.contains(&name) {
        return None;
    }
    let known = match (nearest(name, known.iter().copied()), known.as_slice()) {
        (Some(near), _) => format!("did you mean {near}?"),
        (None, []) => "it has none.".to_owned(),
        (None, known) => format!("it has {}.", known.join(", ")),
    };
    let name = untrusted(name);
    Some(format!(
        "WARNING: the configuration has no {kind} `{name}`, so most likely nothing was stopped: {} The stop is in force all the same.",
        untrusted(&known)
    ))
}
