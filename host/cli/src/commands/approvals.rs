//! `ambit approvals`: effects that wait for people, and what people say to them.

use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ambit_core::error::Refusal;
use ambit_core::hold::{Standing, Verdict, Vote};
use ambit_core::ledger::body::Amount;
use ambit_core::ledger::story::Opening;
use ambit_core::ledger::utc;
use ambit_runtime::approvals::{self, ApprovalError, Waiting, told};
use ambit_runtime::config::Config;
use ambit_runtime::host::{Host, HostOptions};
use ambit_runtime::store::{Held, Keys, Reader, Work};
use serde_json::{Value, json};

use super::call;
use crate::args::{Approvals, Cast, Format};
use crate::output::{self, Exit, Failure, Output, note, style, untrusted};

pub(crate) fn run(command: &Approvals, home: &Path, out: Output) -> Result<Exit, Failure> {
    match command {
        Approvals::List { limit, after } => list(home, *limit, *after, out),
        Approvals::Show { hold } => show(home, hold, out),
        Approvals::Approve(cast) => vote(home, cast, Verdict::Approve, out),
        Approvals::Reject(cast) => vote(home, cast, Verdict::Reject, out),
        Approvals::Resume { hold } => resume(home, hold, out),
    }
}

impl From<ApprovalError> for Failure {
    fn from(error: ApprovalError) -> Failure {
        match error {
            ApprovalError::Refused(refusal) => refusal.into(),
            ApprovalError::Fault(fault) => fault.into(),
        }
    }
}

/// The ledger, with the values of calls where the keys are readable.
fn reader(home: &Path) -> Result<Reader, Failure> {
    let reader = Reader::open(home)?;
    Ok(match Keys::load(home) {
        Ok(keys) => reader.with_keys(&keys),
        Err(_) => reader,
    })
}

/// The hold that `given` names: its digest or a beginning of that, or its call's id or a beginning of that.
fn resolve(reader: &Reader, given: &str) -> Result<(Work, Held), Failure> {
    let hex = given.strip_prefix("sha256:").unwrap_or(given);
    let plain = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let mut found = if plain { reader.holds_like(hex)? } else { Vec::new() };
    if found.is_empty() && given.starts_with("c_") {
        found = reader.holds_of_calls_like(given)?;
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::refused(format!("nothing waits under `{}`", untrusted(given)))
            .advise("`ambit approvals list` prints what waits. What has been decided is not there any more.")),
        _ => Err(Failure::usage(format!("`{}` begins several holds", untrusted(given)))
            .advise("Write more of it: `ambit approvals list` prints them whole.")),
    }
}

fn waiting(reader: &Reader, config: &Config, call: &str) -> Result<Waiting, Failure> {
    Waiting::of(reader, config, call)?.ok_or_else(|| Failure::refused(format!("call {call} waits for nothing")))
}

fn list(home: &Path, limit: u32, after: Option<u64>, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let reader = reader(home)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let holds = reader.holds(after, limit)?;
    let mut all = Vec::with_capacity(holds.len());
    for (work, held) in &holds {
        all.push((waiting(&reader, &config, &work.call)?, held.index));
    }
    let rows: Vec<Value> = all.iter().map(|(waiting, index)| row(waiting, *index)).collect();
    out.result(&rows, |w| {
        if all.is_empty() {
            return writeln!(w, "nothing waits for approval");
        }
        all.iter().try_for_each(|(waiting, _)| line(waiting, w))
    })?;
    if let Some((_, last)) = all.last().filter(|_| all.len() == limit && out.format == Format::Human) {
        note(format!("There may be more: --after {last}"));
    }
    Ok(Exit::Done)
}

/// One hold for programs.
fn row(waiting: &Waiting, index: u64) -> Value {
    let held = &waiting.held;
    json!({
        "hold": held.hold,
        "index": index,
        "call": waiting.story.call,
        "ordinal": held.ordinal,
        "agent": waiting.hold.principal.agent,
        "user": waiting.hold.principal.user,
        "run": waiting.story.run(),
        "connection": held.connection,
        "route": held.route,
        "tier": held.tier,
        "spend": held.spend,
        "rules": held.rules,
        "needs": held.needs,
        "over": held.over,
        "standing": standing(&waiting.standing()).0,
        "missing": missing(waiting),
        "expires": utc(i64::try_from(held.expires).unwrap_or(i64::MAX)),
        "votes": waiting.votes.votes().iter().map(|vote| json!({
            "person": vote.person, "group": vote.group, "verdict": vote.verdict,
        })).collect::<Vec<_>>(),
    })
}

fn missing(waiting: &Waiting) -> Value {
    match waiting.standing() {
        Standing::Waiting(missing) => json!(missing),
        _ => json!([]),
    }
}

/// A word for where a hold stands, and how to colour it.
fn standing(standing: &Standing) -> (&'static str, anstyle::Style) {
    match standing {
        Standing::Waiting(_) => ("waiting", style::WARN),
        Standing::Approved => ("approved", style::GOOD),
        Standing::Rejected { .. } => ("rejected", style::BAD),
        Standing::Expired => ("expired", style::BAD),
        Standing::Ended(_) => ("over", style::DIM),
    }
}

fn money(spend: Option<&Amount>) -> String {
    spend.map_or_else(String::new, |spend| {
        format!(", {} {} (minor units)", spend.minor, spend.currency)
    })
}

fn effect(waiting: &Waiting) -> String {
    let held = &waiting.held;
    let spend = money(held.spend.as_ref());
    format!("{} {}/{}{spend}", held.tier, held.connection, held.route)
}

fn who(waiting: &Waiting) -> String {
    let principal = &waiting.hold.principal;
    let user = principal
        .user
        .as_deref()
        .map(|user| format!(" for {user}"))
        .unwrap_or_default();
    format!("{}{user}", principal.agent)
}

fn line(waiting: &Waiting, w: &mut dyn Write) -> io::Result<()> {
    let (word, colour) = standing(&waiting.standing());
    let needs = match waiting.standing() {
        Standing::Waiting(missing) => format!(": {}", told(&missing)),
        _ => String::new(),
    };
    let id: String = waiting.held.hold.to_hex().chars().take(12).collect();
    writeln!(
        w,
        "{id} {} by {}  {}{word}{}{}  until {}",
        untrusted(&effect(waiting)),
        untrusted(&who(waiting)),
        colour.render(),
        colour.render_reset(),
        untrusted(&needs),
        utc(i64::try_from(waiting.held.expires).unwrap_or(i64::MAX)),
    )
}

fn show(home: &Path, given: &str, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let reader = reader(home)?;
    let (work, held) = resolve(&reader, given)?;
    let waiting = waiting(&reader, &config, &work.call)?;
    let name = format!("effect/{}/held", waiting.held.ordinal);
    let request = reader
        .payload(&work.call, &name)?
        .and_then(|payload| serde_json::from_slice::<Value>(payload.bytes()).ok());
    let mut document = row(&waiting, held.index);
    if let Some(document) = document.as_object_mut() {
        document.insert("request".to_owned(), request.clone().unwrap_or(Value::Null));
    }
    out.result(&document, |w| print(&waiting, request.as_ref(), w))?;
    Ok(Exit::Done)
}

/// A hold for whoever has to decide: what exactly would be sent, for whom, and what is missing.
fn print(waiting: &Waiting, request: Option<&Value>, w: &mut dyn Write) -> io::Result<()> {
    let held = &waiting.held;
    let mut field = |name: &str, value: &str| {
        let dim = style::DIM;
        writeln!(
            w,
            "{}{name:<10}{} {}",
            dim.render(),
            dim.render_reset(),
            untrusted(value)
        )
    };
    field("hold", &held.hold.to_string())?;
    field("call", &format!("{}, effect {}", waiting.story.call, held.ordinal))?;
    field("who", &who(waiting))?;
    if let Some(run) = waiting.story.run() {
        field("run", run)?;
    }
    if let Opening::Accepted(accepted) = &waiting.story.opening.what {
        field("tool", &format!("{} {}", accepted.asked.tool, accepted.asked.function))?;
    }
    field("effect", &effect(waiting))?;
    let text = |name: &str| request.and_then(|request| request.get(name)?.as_str());
    match (text("method"), text("origin"), text("target")) {
        (Some(method), Some(origin), Some(target)) => field("sends", &format!("{method} {origin}{target}"))?,
        _ => field("sends", "[not readable here: the home's keys are needed]")?,
    }
    for (name, value) in headers(request) {
        field("header", &format!("{name}: {value}"))?;
    }
    if let Some(body) = text("body") {
        field("body", body)?;
    }
    if !held.rules.is_empty() {
        field("denied by", &held.rules.join(", "))?;
    }
    if !held.over.is_empty() {
        field("passes", &format!("the cap of {}", held.over.join(", ")))?;
    }
    field("needs", &told(&held.needs))?;
    for vote in waiting.votes.votes() {
        field(vote.verdict.as_str(), &format!("{} of {}", vote.person, vote.group))?;
    }
    let missing = match waiting.standing() {
        Standing::Waiting(missing) => format!("waits for {}", told(&missing)),
        Standing::Approved => "approved; the call has not gone on yet: ambit approvals resume".to_owned(),
        Standing::Rejected { by } => format!("rejected by {by}; the call has not ended yet: ambit approvals resume"),
        Standing::Expired => "expired; the call has not ended yet: ambit approvals resume".to_owned(),
        Standing::Ended(_) => "over".to_owned(),
    };
    field("stands", &missing)?;
    field("until", &utc(i64::try_from(held.expires).unwrap_or(i64::MAX)))
}

/// A request's headers: those that the tool sets, and what its body is.
fn headers(request: Option<&Value>) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let Some(request) = request else { return Vec::new() };
    let listed = request.get("headers").and_then(Value::as_array).into_iter().flatten();
    let mut headers: Vec<(String, String)> = listed
        .filter_map(|pair| Some((text(pair.get(0)?), text(pair.get(1)?))))
        .collect();
    if let Some(kind) = request.get("content-type").and_then(Value::as_str) {
        headers.push(("content-type".to_owned(), kind.to_owned()));
    }
    headers
}

/// A file that cannot be used is a slip in the arguments.
fn unusable(refusal: Refusal) -> Failure {
    let failure = Failure::usage(refusal.message);
    match refusal.advice {
        Some(advice) => failure.advise(advice),
        None => failure,
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The group to speak for: the one that is named, or the only one of the person's that the hold asks for.
fn group(given: Option<&str>, waiting: &Waiting, config: &Config, person: &str) -> Result<String, Failure> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let is_member = |group: &&String| {
        config
            .groups()
            .get(*group)
            .is_some_and(|all| all.iter().any(|one| one == person))
    };
    let mut groups: Vec<&String> = waiting
        .held
        .needs
        .iter()
        .flat_map(|need| need.keys())
        .filter(is_member)
        .collect();
    groups.sort();
    groups.dedup();
    match groups.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(Failure::refused(format!(
            "{} is in none of the groups that this waits for: {}",
            untrusted(person),
            told(&waiting.held.needs)
        ))
        .advise("Groups are in ambit.toml: [group.NAME] members = […].")),
        several => Err(Failure::usage(format!(
            "{} is in several of the groups that this waits for",
            untrusted(person)
        ))
        .advise(format!(
            "Say for which: --group {}",
            several.iter().map(|group| group.as_str()).collect::<Vec<_>>().join("|")
        ))),
    }
}

fn vote(home: &Path, cast: &Cast, verdict: Verdict, out: Output) -> Result<Exit, Failure> {
    let key = approvals::read_person_key(&cast.key).map_err(unusable)?;
    let person = key.verifier().name().to_owned();
    let config = Config::load(home)?;
    let reader = reader(home)?;
    let (work, _) = resolve(&reader, &cast.hold)?;
    let hold = waiting(&reader, &config, &work.call)?;
    drop(reader);
    let vote = Vote {
        group: group(cast.group.as_deref(), &hold, &config, &person)?,
        hold: hold.held.hold,
        verdict,
        // A vote counts no longer than its hold.
        expires_ms: match cast.minutes {
            Some(minutes) => now_ms()
                .saturating_add(u64::from(minutes) * 60_000)
                .min(hold.held.expires),
            None => hold.held.expires,
        },
        person,
    };
    let note = vote.sign(&key).map_err(|e| Failure::usage(e.to_string()))?;
    let host = open(config, &hold)?;
    let (hold, standing) = host.vote(&note, cast.reason.as_deref())?;
    let said = match verdict {
        Verdict::Approve => "approved",
        Verdict::Reject => "rejected",
    };
    output::note(format!(
        "{said} by {} for {}",
        untrusted(&vote.person),
        untrusted(&vote.group)
    ));
    match standing {
        Standing::Waiting(missing) => {
            out.result(&row(&hold, 0), |w| writeln!(w, "still waits for {}", told(&missing)))?;
            Ok(Exit::Done)
        }
        _ => go_on(&host, &hold, out),
    }
}

fn open(config: Config, waiting: &Waiting) -> Result<Host, Failure> {
    let tool = match &waiting.story.opening.what {
        Opening::Accepted(accepted) => accepted.asked.tool.as_str(),
        Opening::Denied(_) => "",
    };
    let opening = output::working("opening the home");
    let host = Host::open(config, HostOptions::for_tools([tool]))?;
    drop(opening);
    host.warnings().iter().for_each(output::warn);
    Ok(host)
}

fn resume(home: &Path, given: &str, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let reader = reader(home)?;
    let (work, _) = resolve(&reader, given)?;
    let hold = waiting(&reader, &config, &work.call)?;
    drop(reader);
    let host = open(config, &hold)?;
    go_on(&host, &hold, out)
}

/// Runs the call on, and tells its end as `ambit call` does.
fn go_on(host: &Host, waiting: &Waiting, out: Output) -> Result<Exit, Failure> {
    let going = output::working("the call goes on");
    let answer = host.resume(&waiting.story.call, Some(going.listener()))?;
    drop(going);
    let tool = match &waiting.story.opening.what {
        Opening::Accepted(accepted) => accepted.asked.tool.as_str(),
        Opening::Denied(_) => "",
    };
    call::tell(host, &answer, tool, None, out)
}
