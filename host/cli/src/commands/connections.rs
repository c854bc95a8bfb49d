//! `ambit connections`: how services stand, with or without a running host.

use std::io::{self, Write};
use std::path::Path;

use ambit_core::error::{Code, Refusal};
use ambit_core::flow::{Rate, Standing};
use ambit_core::ledger::utc;
use ambit_runtime::config::Config;
use ambit_runtime::flow::{Connection, Flow};
use ambit_runtime::operators::{self, Answer, Request};
use ambit_runtime::secret::Process;
use serde_json::{Value, json};

use super::audit;
use super::desk::unexpected;
use crate::args::Connections;
use crate::ids;
use crate::output::{Exit, Failure, Output, style, untrusted};

pub(crate) fn run(command: &Connections, home: &Path, out: Output) -> Result<Exit, Failure> {
    match command {
        Connections::List => list(home, out),
        Connections::Jwks { connection } => jwks(home, connection, out),
        Connections::Reset { connection } => reset(home, connection, out),
    }
}

fn list(home: &Path, out: Output) -> Result<Exit, Failure> {
    let reader = audit::open(home)?;
    let config = Config::load(home)?;
    let standing = Flow::open(&config, &reader)?.standing();
    let all: Vec<(Connection, String)> = standing
        .into_iter()
        .map(|one| {
            let origin = config
                .connection(&one.name)
                .map(|connection| connection.origin().to_string());
            (one, origin.unwrap_or_default())
        })
        .collect();
    let rows: Vec<Value> = all.iter().map(|(one, origin)| row(one, origin)).collect();
    out.result(&rows, |w| {
        if all.is_empty() {
            return writeln!(w, "no connections");
        }
        all.iter().try_for_each(|(one, origin)| print(one, origin, w))
    })?;
    Ok(Exit::Done)
}

fn row(one: &Connection, origin: &str) -> Value {
    let breaker = |(route, standing): &(Option<String>, Standing)| {
        let (word, failures, until, in_a_row) = told(standing);
        json!({ "route": route, "state": word, "failures": failures, "until": until, "in_a_row": in_a_row })
    };
    let rate = |(route, rate, room): &(Option<String>, Rate, u64)| {
        json!({
            "route": route,
            "most": rate.most(),
            "per_ms": rate.per_ms(),
            "burst": rate.burst(),
            "room": room,
        })
    };
    json!({
        "name": one.name,
        "origin": origin,
        "paused_until": one.paused_until_ms.map(time),
        "breakers": one.breakers.iter().map(breaker).collect::<Vec<_>>(),
        "rates": one.rates.iter().map(rate).collect::<Vec<_>>(),
    })
}

/// A breaker's word, the failures that count, until when it is open, and how often in a row it opened.
fn told(standing: &Standing) -> (&'static str, Option<u32>, Option<String>, Option<u32>) {
    match standing {
        Standing::Closed(failures) => ("closed", Some(*failures), None, None),
        Standing::Open { until_ms, in_a_row } => ("open", None, Some(time(*until_ms)), Some(*in_a_row)),
        Standing::HalfOpen { in_a_row } => ("half-open", None, None, Some(*in_a_row)),
    }
}

fn time(ms: u64) -> String {
    utc(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn print(one: &Connection, origin: &str, w: &mut dyn Write) -> io::Result<()> {
    let (head, reset) = (style::HEAD.render(), style::HEAD.render_reset());
    writeln!(w, "{head}{}{reset} {}", untrusted(&one.name), untrusted(origin))?;
    if let Some(until) = one.paused_until_ms {
        let (warn, reset) = (style::WARN.render(), style::WARN.render_reset());
        writeln!(
            w,
            "  {warn}paused{reset}    the service asked to be left alone until {}",
            time(until)
        )?;
    }
    for (route, standing) in &one.breakers {
        let (style, what) = match standing {
            Standing::Closed(0) => (style::GOOD, "closed".to_owned()),
            Standing::Closed(1) => (style::GOOD, "closed, 1 failure counts".to_owned()),
            Standing::Closed(failures) => (style::GOOD, format!("closed, {failures} failures count")),
            Standing::Open { until_ms, .. } => (style::BAD, format!("open until {}", time(*until_ms))),
            Standing::HalfOpen { .. } => (style::WARN, "half-open: a read shows whether it works again".to_owned()),
        };
        let (colour, reset) = (style.render(), style.render_reset());
        writeln!(w, "  breaker   {colour}{what}{reset}{}", of(route.as_deref()))?;
    }
    for (route, rate, room) in &one.rates {
        let per = rate.per_ms() / 1_000;
        writeln!(
            w,
            "  rate      {} in {per} s, room for {room} now{}",
            rate.most(),
            of(route.as_deref())
        )?;
    }
    Ok(())
}

fn of(route: Option<&str>) -> String {
    route.map_or_else(String::new, |route| format!(" (route {})", untrusted(route)))
}

/// The document is the same for people and for programs: it is meant to be put where the service looks for it.
fn jwks(home: &Path, connection: &str, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    if config.connection(connection).is_none() {
        let known = config.connections().map(|(name, _)| name);
        return Err(ids::no_such("connection", connection, known));
    }
    let Some(document) = config.jwks(connection, &Process).map_err(|problem| vec![problem])? else {
        let message = format!("connection `{connection}` says nothing about its callers, so it has no key for that");
        let advice = "a connection with `credential = { exchange = … }` does";
        return Err(Refusal::new(Code::Config, message).advise(advice).into());
    };
    let document = document.to_serde();
    out.result(&document, |w| writeln!(w, "{document}"))?;
    Ok(Exit::Done)
}

fn reset(home: &Path, connection: &str, out: Output) -> Result<Exit, Failure> {
    let request = Request::ResetConnection {
        connection: connection.to_owned(),
    };
    let done = operators::act(home, &request).map_err(|error| match Config::load(home) {
        Ok(config) => {
            let known = config.connections().map(|(name, _)| name);
            ids::or_no_such(error.into(), "connection", connection, known)
        }
        Err(_) => error.into(),
    })?;
    let closed = match done {
        Answer::Closed(closed) => closed,
        other => return Err(unexpected(&other)),
    };
    out.result(&json!({ "connection": connection, "closed": closed }), |w| {
        let name = untrusted(connection);
        if closed.is_empty() {
            return writeln!(w, "no breaker of {name} was open");
        }
        closed.iter().try_for_each(|route| match route {
            None => writeln!(w, "closed the breaker of {name}"),
            Some(route) => writeln!(w, "closed the breaker of {name}, route {}", untrusted(route)),
        })
    })?;
    Ok(Exit::Done)
}
