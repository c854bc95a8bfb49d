//! What operators ask for: what waits, calls, runs, budgets, stops. What changes something is asked of the one home of what operators
//! do ([`Host::operate`]), and stands on the ledger with who it was.

use ambit_core::contract::Contract;
use ambit_core::digest::Digest;
use ambit_core::error::{Code, Refusal};
use ambit_core::hold::Vote;
use ambit_core::identity::operator::Scope;
use ambit_core::json::Json;
use ambit_core::ledger::body::Once;
use ambit_core::ledger::utc;
use ambit_core::stop;
use ambit_runtime::approvals::{Pending, People};
use ambit_runtime::budgets::Budgets;
use ambit_runtime::call::Known;
use ambit_runtime::clock::now_ms;
use ambit_runtime::documents;
use ambit_runtime::host::{Host, OpenError};
use ambit_runtime::ids::CallId;
use ambit_runtime::operators::{Answer, Request};
use ambit_runtime::runs::NewRun;
use ambit_runtime::stops;
use ambit_runtime::store::{CallFilter, Reader, StoreError};
use ambit_runtime::webhooks as hooks;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::identity::Operator;

use super::ask::Asked;
use super::give::{Given, JSON, Keep, Problem, REPLAYED};

/// Calls that are looked at for one page.
const MOST_LOOKED: usize = 500;
/// Values of a call that are shown together, in bytes, but in tests.
const MOST_VALUES: usize = if cfg!(test) { 4 << 10 } else { 32 << 20 };

/// An operator, before the host.
#[derive(Debug)]
pub(super) struct Desk<'d> {
    host: &'d Host,
    operator: &'d Operator,
}

impl<'d> Desk<'d> {
    pub(super) const fn new(host: &'d Host, operator: &'d Operator) -> Desk<'d> {
        Desk { host, operator }
    }

    pub(super) const fn host(&self) -> &Host {
        self.host
    }

    /// Whether they may read the values of calls.
    pub(super) fn reads_values(&self) -> bool {
        self.operator.may(Scope::Values)
    }

    pub(super) fn reader(&self) -> Result<Reader, Problem> {
        Ok(self.host.reader()?)
    }

    /// Has something done, and says what came of it.
    fn act(&self, request: Request) -> Result<Answer, Problem> {
        answered(self.operate(request))
    }

    fn operate(&self, request: Request) -> Result<Answer, OpenError> {
        self.host.operate(request, &self.operator.shown)
    }
}

fn answered(answer: Result<Answer, OpenError>) -> Result<Answer, Problem> {
    match answer? {
        Answer::Refused(refusal) => Err(refusal.into()),
        Answer::Failed(why) => Err(Problem::could_not(&why)),
        Answer::Busy => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the host ends, and takes no such act: nothing was done",
        )),
        answer => Ok(answer),
    }
}

fn unexpected(answer: &Answer) -> Problem {
    Problem::could_not(&format!("the host answered something else: {answer:?}"))
}

pub(super) fn approvals(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let reader = desk.reader()?;
    let people = People::of(&reader, desk.host.config())?;
    let holds = reader.holds(asked.number("after"), asked.limit())?;
    let mut rows = Vec::with_capacity(holds.len());
    for (work, held) in &holds {
        // What was decided since the page was read is no more on it.
        rows.extend(Pending::of(&reader, &people, work, held)?.map(|pending| documents::hold(&pending)));
    }
    let next = holds
        .last()
        .filter(|_| holds.len() == asked.limit())
        .map(|(_, held)| held.index);
    Ok(Given::json(&json!({ "approvals": rows, "next": next })))
}

/// The hold that a path names: its digest, with or without `sha256:`.
fn pending(desk: &Desk<'_>, reader: &Reader, name: &str) -> Result<Pending, Problem> {
    let none = || Problem::none("hold that waits of the id", name);
    let whole = match name.strip_prefix("sha256:") {
        Some(_) => name.to_owned(),
        None => format!("sha256:{name}"),
    };
    let id: Digest = whole.parse().map_err(|_| none())?;
    let (work, held) = reader.hold(&id)?.ok_or_else(none)?;
    let people = People::of(reader, desk.host.config())?;
    Pending::of(reader, &people, &work, &held)?.ok_or_else(none)
}

pub(super) fn approval(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let reader = desk.reader()?;
    let pending = pending(desk, &reader, asked.named("hold"))?;
    let mut document = documents::hold(&pending);
    if let (true, Value::Object(members)) = (desk.reads_values(), &mut document) {
        let sent = match reader.payload(&pending.call, &pending.held.request_name()) {
            Ok(sent) => sent.and_then(|sent| serde_json::from_slice::<Value>(sent.bytes()).ok()),
            Err(StoreError::Erased { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        members.insert("sends".to_owned(), sent.unwrap_or_default());
    }
    Ok(Given::json(&document))
}

/// A vote as its person's own program signed it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    note: String,
    reason: Option<String>,
}

pub(super) fn vote(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let Signed { note, reason } = asked.body()?;
    // It is the word of whoever hands the vote in: the person signed the note alone.
    let reason = reason.as_deref().map(stop::reason).transpose()?.map(str::to_owned);
    let claimed = Vote::claimed(&note).map_err(|error| Problem::wrong(format!("`note` is no signed vote: {error}")))?;
    let name = asked.named("hold");
    let about = claimed.hold.to_string();
    if !ambit_core::guard!(
        "api.vote-hold",
        about == name || about.strip_prefix("sha256:") == Some(name)
    ) {
        return Err(Problem::wrong("the vote is about another hold than the path names"));
    }
    match desk.act(Request::Vote { note, reason })? {
        Answer::Voted { call, missing } => Ok(Given::json(&json!({
            "call": call,
            "decided": missing.is_none(),
            "missing": missing.unwrap_or_default(),
            "resume": format!("/v1/operators/calls/{call}/resume"),
        }))),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn calls(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let reader = desk.reader()?;
    let filter = CallFilter {
        before: asked.number("before"),
        since_ms: asked.time("since"),
        ..CallFilter::default()
    };
    let (mut rows, mut looked, mut last, mut next) = (Vec::new(), 0, None, None);
    reader.each_call(&filter, |story| {
        if rows.len() >= asked.limit() || looked >= MOST_LOOKED {
            next = last;
            return false;
        }
        looked += 1;
        last = Some(story.opening.stamp.index());
        let row = documents::call(&story);
        let is = |name: &str| {
            let wanted = asked.text(name);
            wanted.is_none() || wanted == row.get(name).and_then(Value::as_str)
        };
        if ["agent", "user", "run", "tool", "function", "outcome"]
            .into_iter()
            .all(is)
        {
            rows.push(row);
        }
        true
    })?;
    Ok(Given::json(&json!({ "calls": rows, "next": next })))
}

/// The id of a call that there is.
fn known(reader: &Reader, call: &str) -> Result<CallId, Problem> {
    let none = || Problem::none("call", call);
    let id: CallId = call.parse().map_err(|_| none())?;
    let known = reader.calls_like(call, 1)?;
    known.iter().any(|known| known == call).then_some(id).ok_or_else(none)
}

pub(super) fn call(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let reader = desk.reader()?;
    let call = known(&reader, asked.named("call"))?;
    let story = reader.story(call.as_str())?;
    let mut document = documents::call(&story);
    let entries = reader.entries_of(call.as_str())?;
    let entries = entries
        .iter()
        .filter_map(|entry| serde_json::from_str(&entry.text()).ok());
    if let Value::Object(members) = &mut document {
        members.insert("entries".to_owned(), Value::Array(entries.collect()));
        if desk.reads_values() {
            let (values, whole) = values(&reader, call.as_str())?;
            members.insert("values".to_owned(), values);
            if !whole {
                members.insert("truncated".to_owned(), json!(true));
            }
        }
    }
    Ok(Given::json(&document))
}

/// The recorded values of a call, as texts, and whether these are all; null where they were erased.
fn values(reader: &Reader, call: &str) -> Result<(Value, bool), Problem> {
    let (mut all, mut bytes) = (serde_json::Map::new(), 0);
    // Where its guest's randomness came from is nobody's to read.
    for name in reader.payload_names(call)?.into_iter().filter(|name| name != "start") {
        match reader.payload(call, &name) {
            Ok(Some(value)) => {
                bytes += value.bytes().len();
                if !ambit_core::guard!("api.values-bound", bytes <= MOST_VALUES) {
                    return Ok((Value::Object(all), false));
                }
                all.insert(name, json!(String::from_utf8_lossy(value.bytes())));
            }
            Ok(None) => {}
            Err(StoreError::Erased { .. }) => return Ok((Value::Null, true)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((Value::Object(all), true))
}

pub(super) fn call_receipt(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let reader = desk.reader()?;
    let call = known(&reader, asked.named("call"))?;
    if !reader.story(call.as_str())?.is_over() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "the call has not ended: there is a receipt once it has",
        ));
    }
    let receipt = desk.host.receipt(&call)?;
    Ok(Given::bytes(JSON, receipt.into_bytes(), Keep::Tagged))
}

pub(super) fn resume(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let reader = desk.reader()?;
    let call = known(&reader, asked.named("call"))?;
    let request = Request::Resume {
        call: call.as_str().to_owned(),
    };
    match desk.act(request)? {
        Answer::Called(answer) => {
            let story = desk.reader()?.story(answer.call.as_str())?;
            Ok(Given::json(&documents::call(&story)))
        }
        other => Err(unexpected(&other)),
    }
}

pub(super) fn runs(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let runs = desk.reader()?.runs("", asked.number("before"), asked.limit())?;
    let rows: Vec<Value> = runs.iter().map(|run| documents::run(run, now_ms())).collect();
    let next = runs.last().filter(|_| runs.len() == asked.limit()).map(|run| run.index);
    Ok(Given::json(&json!({ "runs": rows, "next": next })))
}

pub(super) fn run(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    shown(desk, asked.named("run"))
}

fn shown(desk: &Desk<'_>, id: &str) -> Result<Given, Problem> {
    let run = desk.host.known_run(id)?.ok_or_else(|| Problem::none("run", id))?;
    Ok(Given::json(&documents::run(&run, now_ms())))
}

pub(super) fn start_run(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let run: NewRun = asked.body()?;
    let whole = asked.json().map(Json::to_canonical).unwrap_or_default();
    let name = &desk.operator.shown.name;
    let once = asked
        .word
        .as_ref()
        .map(|word| desk.host.once_of_operator(name, word, whole.as_bytes()));
    if let Some(given) = started_before(desk, once.as_ref())? {
        return Ok(given);
    }
    match desk.act(Request::StartRun { run, once }) {
        Ok(Answer::Run(id)) => Ok(shown(desk, &id)?.status(StatusCode::CREATED)),
        Ok(other) => Err(unexpected(&other)),
        // The same at once: one of them was the first.
        Err(problem) => started_before(desk, once.as_ref())?.ok_or(problem),
    }
}

/// The run that was started before for the same word; none where there is none.
fn started_before(desk: &Desk<'_>, once: Option<&Once>) -> Result<Option<Given>, Problem> {
    let Some(once) = once else { return Ok(None) };
    match desk.host.known(once)? {
        Known::No => Ok(None),
        Known::Same(id) => {
            let given = shown(desk, &id)?.status(StatusCode::CREATED);
            Ok(Some(given.with(REPLAYED, "true")))
        }
        Known::Other(_) => Err(Problem::other_request()),
    }
}

pub(super) fn end_run(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let id = asked.named("run");
    desk.host.known_run(id)?.ok_or_else(|| Problem::none("run", id))?;
    let request = Request::EndRun { run: id.to_owned() };
    match desk.act(request)? {
        Answer::Run(id) => shown(desk, &id),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn contract(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let text = format!("{:#}", json!(whole_contract(desk, asked)?));
    let text = ambit_core::error::visible_json(&text);
    Ok(Given::bytes(JSON, text.into_bytes(), Keep::Tagged))
}

pub(super) fn contract_page(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    Ok(Given::page(&whole_contract(desk, asked)?, asked.html))
}

/// The contract with all that reviewers read.
fn whole_contract(desk: &Desk<'_>, asked: &Asked) -> Result<Contract, Problem> {
    let (tool, agent) = (asked.named("tool"), asked.text("for"));
    if let Some(agent) = agent
        && !desk.host.config().agents().contains_key(agent)
    {
        return Err(Problem::none("agent", agent));
    }
    let contract = desk.host.contract(tool, agent)?;
    contract.ok_or_else(|| Problem::none("tool", tool))
}

pub(super) fn budgets(desk: &Desk<'_>, _: &Asked) -> Result<Given, Problem> {
    let accounts = desk.reader()?.accounts()?;
    let budgets = Budgets::new(desk.host.config().budgets(), &accounts, now_ms());
    Ok(Given::json(&documents::budgets(&budgets)))
}

pub(super) fn webhooks(desk: &Desk<'_>, _: &Asked) -> Result<Given, Problem> {
    let config = desk.host.config();
    let all = hooks::standing(&desk.reader()?, config)?;
    let rows: Vec<Value> = all.iter().map(|one| documents::webhook(one, config.home())).collect();
    Ok(Given::json(&json!({ "webhooks": rows })))
}

pub(super) fn dead_messages(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let (mut left, after) = (desk.reader()?.undelivered()?, asked.number("after"));
    left.retain(|one| after.is_none_or(|after| one.index > after));
    let page = left.get(..asked.limit()).unwrap_or(&left);
    let next = page.last().filter(|_| page.len() < left.len()).map(|last| last.index);
    let rows: Vec<Value> = page.iter().map(documents::undelivered).collect();
    Ok(Given::json(&json!({ "dead": rows, "next": next })))
}

pub(super) fn retry_message(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    moved(desk, asked, |message| Request::RetryMessage { message })
}

pub(super) fn drop_message(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    moved(desk, asked, |message| Request::DropMessage { message })
}

/// Does something with a message that nobody took. Whether it is left is for whoever does that to say, one after another: of two who ask at
/// once, the second finds none.
fn moved(desk: &Desk<'_>, asked: &Asked, request: impl FnOnce(String) -> Request) -> Result<Given, Problem> {
    let id = asked.named("message");
    let answer = desk.operate(request(id.to_owned()));
    if let Err(OpenError::Refused(refusal)) = &answer
        && refusal.code == Code::Arguments
    {
        return Err(Problem::none("message that nobody took", id));
    }
    match answered(answer)? {
        Answer::Message(moved) => Ok(Given::json(&json!({
            "message": moved.id, "webhook": moved.webhook, "event": moved.event, "index": moved.index,
        }))),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn stops(desk: &Desk<'_>, _: &Asked) -> Result<Given, Problem> {
    let standing = stops::standing(&desk.reader()?)?;
    let rows: Vec<Value> = standing
        .iter()
        .map(|one| {
            json!({
                "kind": one.kind, "scope": one.scope.to_string(), "id": one.id, "entry": one.entry, "since": utc(one.since_ms),
                "reason": one.reason,
            })
        })
        .collect();
    let running = match desk.act(Request::Status)? {
        Answer::Status(status) => status.calls,
        other => return Err(unexpected(&other)),
    };
    let running: Vec<Value> = running
        .iter()
        .map(|one| {
            json!({
                "call": one.call, "tool": one.tool, "agent": one.agent, "tenant": one.tenant, "stopped": one.stopped,
                "since": documents::until(one.since_ms),
            })
        })
        .collect();
    Ok(Given::json(&json!({ "stops": rows, "running": running })))
}

/// What is stopped, or is no more.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stopping {
    kind: stop::Kind,
    scope: String,
    reason: Option<String>,
}

impl Stopping {
    fn scope(&self) -> Result<stop::Scope, Problem> {
        let scope: Result<stop::Scope, Refusal> = self.scope.parse();
        Ok(scope?)
    }
}

pub(super) fn stop(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let stopping: Stopping = asked.body()?;
    let scope = stopping.scope()?;
    let request = Request::Stop {
        kind: stopping.kind,
        scope,
        reason: stopping.reason.unwrap_or_default(),
    };
    done(&desk.act(request)?)
}

pub(super) fn lift(desk: &Desk<'_>, asked: &Asked) -> Result<Given, Problem> {
    let stopping: Stopping = asked.body()?;
    let scope = stopping.scope()?;
    let request = Request::Lift {
        kind: stopping.kind,
        scope,
        reason: stopping.reason,
    };
    done(&desk.act(request)?)
}

fn done(answer: &Answer) -> Result<Given, Problem> {
    match answer {
        Answer::Stop(done) => Ok(Given::json(&json!({
            "kind": done.kind, "scope": done.scope.to_string(), "id": done.id, "entry": done.entry, "already": done.already,
            "ended": done.ended,
        }))),
        other => Err(unexpected(other)),
    }
}
