//! `ambit run`: an agent's sessions, started and ended by the operator.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use ambit_core::ledger::body::{ErrorBound, RunCap};
use ambit_core::ledger::{CallStory, utc};
use ambit_core::money::{Account, Over, Unit};
use ambit_core::run::{Run, is_own};
use ambit_runtime::clock::now_ms;
use ambit_runtime::config::Config;
use ambit_runtime::documents;
use ambit_runtime::operators::{self, Answer, Request};
use ambit_runtime::run_tokens;
use ambit_runtime::runs::NewRun;
use ambit_runtime::store::{BudgetState, CallFilter, Reader};
use serde_json::{Value, json};

use super::desk::unexpected;
use super::{audit, call, keys, token};
use crate::args::{self, Format, RunStart};
use crate::ids::{self, Kind};
use crate::output::{Exit, Failure, Output, note, style, untrusted};

pub(crate) fn run(command: &args::Run, home: &Path, out: Output) -> Result<Exit, Failure> {
    match command {
        args::Run::Start(asked) => start(home, asked, out),
        args::Run::Show { run, limit } => show(home, run, *limit, out),
        args::Run::List { limit, open } => list(home, *limit, *open, out),
        args::Run::Token { run, expires } => token(home, run, expires, out),
        args::Run::End { run } => end(home, run, out),
    }
}

/// The run that `given` names: its id, or a beginning of it.
pub(crate) fn find(home: &Path, given: &str) -> Result<Run, Failure> {
    named(&audit::open(home)?, given)
}

fn named(reader: &Reader, given: &str) -> Result<Run, Failure> {
    match reader.runs(given, None, 3)?.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(ids::unknown(Kind::Run, given)),
        several => {
            let ids: Vec<String> = several.iter().map(|run| run.id().to_owned()).collect();
            Err(ids::several(Kind::Run, given, &ids))
        }
    }
}

fn start(home: &Path, asked: &RunStart, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let request = Request::StartRun {
        run: NewRun {
            agent: call::known_agent(asked.agent.as_deref(), &config)?,
            user: asked.user.clone(),
            mode: asked.mode.into(),
            length_ms: asked.expires,
            caps: caps(asked)?,
            errors: Some(ErrorBound {
                least: asked.errors_of,
                percent: asked.errors,
            }),
        },
        once: None,
    };
    let run = changed(home, &request)?;
    out.result(&document(&run), |w| writeln!(w, "{}", run.id()))?;
    note(format!(
        "Open until {}. Calls are part of it with `ambit call --run {}`; `ambit run end` ends it.",
        utc(i64::try_from(run.started.expires).unwrap_or(i64::MAX)),
        run.id()
    ));
    Ok(Exit::Done)
}

/// Has a run started or ended, and reads how that left it.
fn changed(home: &Path, request: &Request) -> Result<Run, Failure> {
    match operators::act(home, request)? {
        Answer::Run(id) => find(home, &id),
        other => Err(unexpected(&other)),
    }
}

/// The limits as they were asked for.
fn caps(asked: &RunStart) -> Result<Vec<RunCap>, Failure> {
    let counted = [
        (Unit::Calls, asked.calls),
        (Unit::Effects, asked.effects),
        (Unit::Fuel, asked.fuel),
    ];
    let over = asked.over.as_deref().map(over).transpose()?;
    if over.is_some() && asked.effects.is_none() && asked.money.is_empty() {
        return Err(Failure::usage(
            "--over is for the limits of effects and money, and the run would have none of these",
        )
        .advise("Add --effects or --money, or leave --over out: a call cannot wait, only an effect can."));
    }
    let counted = counted.into_iter().filter_map(|(unit, cap)| {
        Some(RunCap {
            cap: cap?,
            over: over.clone().filter(|_| unit == Unit::Effects),
            unit,
        })
    });
    let money = asked.money.iter().map(|text| {
        Ok(RunCap {
            over: over.clone(),
            ..money(text)?
        })
    });
    let caps: Vec<RunCap> = counted.map(Ok).chain(money).collect::<Result<_, Failure>>()?;
    let mut seen = BTreeSet::new();
    match caps.iter().find(|cap| !seen.insert(cap.unit.to_string())) {
        None => Ok(caps),
        Some(twice) => Err(Failure::usage(format!("--money names {} twice", twice.unit))
            .advise("A run has one limit for each currency: leave one of them out.")),
    }
}

/// Whose approvals pass a limit: a group, and how many of it.
fn over(text: &str) -> Result<Over, Failure> {
    let (ask, count) = text.split_once(':').unwrap_or((text, "1"));
    match count.parse::<u32>() {
        Ok(count) if !ask.is_empty() && count >= 1 => Ok(Over {
            ask: ask.to_owned(),
            count,
        }),
        _ => Err(
            Failure::usage(format!("--over {} names no group and number", untrusted(text)))
                .advise("It takes a group, or a group and how many of its people: --over finance, --over finance:2."),
        ),
    }
}

pub(super) fn money(text: &str) -> Result<RunCap, Failure> {
    let read = || {
        let (currency, amount) = text.split_once('=')?;
        Some(RunCap {
            cap: amount.parse().ok()?,
            over: None,
            unit: Unit::Money(currency.parse().ok()?),
        })
    };
    read().ok_or_else(|| {
        Failure::usage(format!("--money {} is no amount of a currency", untrusted(text)))
            .advise("It takes a currency and a whole number of minor units: --money usd=50000 is 500.00 usd.")
    })
}

/// A token, on standard output alone, and what there is to know about it beside.
fn token(home: &Path, given: &str, expires: &str, out: Output) -> Result<Exit, Failure> {
    let run = find(home, given)?;
    let good_for_ms = keys::time("--expires", expires)?;
    let (token, authority) = run_tokens::mint(home, &run, good_for_ms)?;
    let until = token::until(authority.expires_s);
    let document = json!({
        "token": token.word(),
        "run": authority.run,
        "agent": authority.agent,
        "user": authority.user,
        "expires": until,
    });
    out.result(&document, |w| writeln!(w, "{}", token.word()))?;
    note(format!(
        "The line above is a token of run {}, and is shown this once: the home keeps nothing of it. It is good until {until}, for {}; \
         `ambit run end` ends it earlier.",
        run.id(),
        untrusted(&who(&run)),
    ));
    Ok(Exit::Done)
}

fn end(home: &Path, given: &str, out: Output) -> Result<Exit, Failure> {
    let run = find(home, given)?.id().to_owned();
    let run = changed(home, &Request::EndRun { run })?;
    out.result(&document(&run), |w| {
        writeln!(
            w,
            "ended {}: what is under way finishes, and nothing more begins",
            run.id()
        )
    })?;
    Ok(Exit::Done)
}

/// A word for where a run stands, and how to colour it.
fn standing(run: &Run) -> (&'static str, anstyle::Style) {
    let word = documents::run_standing(run, now_ms());
    let style = match word {
        "degraded" => style::WARN,
        "open" => style::GOOD,
        _ => style::DIM,
    };
    (word, style)
}

fn who(run: &Run) -> String {
    let principal = &run.started.principal;
    let user = principal.user.as_deref().map(|user| format!(" for {user}"));
    format!("{}{}", principal.agent, user.unwrap_or_default())
}

/// What a budget counted in a run: its own limits first, used or not.
struct Used {
    budget: String,
    unit: String,
    cap: u64,
    /// Whose approvals pass it, where it is the run's own.
    over: Option<Over>,
    account: Account,
}

fn used(reader: &Reader, run: &Run) -> Result<Vec<Used>, Failure> {
    let of_run = |state: &BudgetState| {
        let period = state.window.period();
        period.is_some_and(|period| period.run() == Some(run.id()))
    };
    let mut states = reader.budgets()?;
    states.retain(of_run);
    let own = run.started.caps.iter().map(|cap| Used {
        budget: cap.budget(),
        unit: cap.unit.to_string(),
        cap: cap.cap,
        over: cap.over.clone(),
        account: states
            .iter()
            .find(|state| state.window.budget == cap.budget())
            .map_or_else(Account::default, |state| state.account),
    });
    let others = states
        .iter()
        .filter(|state| !is_own(&state.window.budget))
        .map(|state| Used {
            budget: state.window.budget.clone(),
            unit: state
                .window
                .period()
                .map(|period| period.unit().to_string())
                .unwrap_or_default(),
            cap: state.cap,
            over: None,
            account: state.account,
        });
    Ok(own.chain(others).collect())
}

fn document(run: &Run) -> Value {
    documents::run(run, now_ms())
}

fn counted(one: &Used) -> Value {
    json!({
        "budget": one.budget,
        "unit": one.unit,
        "cap": one.cap,
        "used": one.account.used,
        "reserved": one.account.reserved,
        "left": one.account.left(one.cap),
    })
}

fn list(home: &Path, limit: u32, open: bool, out: Output) -> Result<Exit, Failure> {
    let reader = audit::open(home)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let now = now_ms();
    let all = reader.runs("", None, if open { usize::MAX } else { limit })?;
    let wanted = all.into_iter().filter(|run| !open || run.is_open(now).is_ok());
    let runs: Vec<Run> = wanted.take(limit).collect();
    let rows: Vec<Value> = runs.iter().map(document).collect();
    out.result(&rows, |w| {
        if runs.is_empty() {
            return writeln!(w, "no runs");
        }
        runs.iter().try_for_each(|run| {
            let (word, colour) = standing(run);
            writeln!(
                w,
                "{} {} {}{word:<8}{} {:<8} until {}",
                run.id(),
                untrusted(&who(run)),
                colour.render(),
                colour.render_reset(),
                run.started.mode.as_str(),
                utc(i64::try_from(run.started.expires).unwrap_or(i64::MAX)),
            )
        })
    })?;
    Ok(Exit::Done)
}

fn show(home: &Path, given: &str, limit: u32, out: Output) -> Result<Exit, Failure> {
    let reader = audit::open(home)?;
    let run = named(&reader, given)?;
    let used = used(&reader, &run)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut calls = reader.calls(&CallFilter {
        run: Some(run.id().to_owned()),
        since_ms: Some(run.time_ms),
        limit: Some(limit.saturating_add(1)),
        ..CallFilter::default()
    })?;
    let more = calls.len() > limit;
    calls.truncate(limit);
    let mut document = document(&run);
    if let Some(document) = document.as_object_mut() {
        document.insert("budgets".to_owned(), used.iter().map(counted).collect());
        document.insert("calls".to_owned(), calls.iter().map(documents::call).collect());
        document.insert("more_calls".to_owned(), json!(more));
    }
    out.result(&document, |w| print(&run, &used, &calls, w))?;
    if more && out.format == Format::Human {
        note(format!(
            "There are more calls: --limit NUMBER shows so many, `ambit audit list --run {}` lists them.",
            run.id()
        ));
    }
    Ok(Exit::Done)
}

fn print(run: &Run, used: &[Used], calls: &[CallStory], w: &mut dyn Write) -> io::Result<()> {
    let (word, colour) = standing(run);
    let (dim, reset) = (style::DIM.render(), style::DIM.render_reset());
    writeln!(
        w,
        "{}run {}{} {}{word}{}",
        style::HEAD.render(),
        run.id(),
        style::HEAD.render_reset(),
        colour.render(),
        colour.render_reset()
    )?;
    let mut field = |name: &str, value: &str| writeln!(w, "{dim}{name:<10}{reset} {}", untrusted(value));
    let principal = &run.started.principal;
    field(
        "who",
        &format!("{} (team {}, tenant {})", who(run), principal.team, principal.tenant),
    )?;
    field("mode", run.started.mode.as_str())?;
    field("started", &utc(run.time_ms))?;
    field("expires", &utc(i64::try_from(run.started.expires).unwrap_or(i64::MAX)))?;
    let bound = run.started.errors.map(|bound| {
        let ErrorBound { least, percent } = bound;
        format!("; above {percent} percent of at least {least} it only reads")
    });
    field(
        "failed",
        &format!("{} of {}{}", run.failed, run.finished, bound.unwrap_or_default()),
    )?;
    for one in used {
        let Account { used, reserved } = one.account;
        let left = one.account.left(one.cap);
        let over = one
            .over
            .as_ref()
            .map(|over| format!("; past it with {} of {}", over.count, over.ask));
        field(
            "budget",
            &format!(
                "{}: {used} used, {reserved} reserved, {left} left of {}{}",
                one.budget,
                one.cap,
                over.unwrap_or_default()
            ),
        )?;
    }
    calls.iter().try_for_each(|story| field("call", &audit::briefly(story)))
}
