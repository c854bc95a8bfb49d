//! What agents ask for: their tools, and their own calls, holds and runs. They read here, and take back what runs; nothing here grants,
//! votes, stops, or shows what is another's.

use std::collections::BTreeMap;

use ambit_core::guard;
use ambit_core::ledger::CallStory;
use ambit_runtime::approvals::{Pending, People};
use ambit_runtime::clock::now_ms;
use ambit_runtime::contract::OwnContract;
use ambit_runtime::documents;
use ambit_runtime::ids::CallId;
use ambit_runtime::offers::Offered;
use http::StatusCode;
use serde_json::{Value, json};

use crate::mcp::Door;
use crate::told::Approvers;
use crate::{resources, status};

use super::ask::Asked;
use super::give::{Given, JSON, Keep, Problem};

/// Holds, and runs, that are looked at for one page.
const MOST_LOOKED: usize = 500;

/// Where a call is looked at.
pub(super) fn place(call: &str) -> String {
    format!("/v1/calls/{call}")
}

pub(super) fn tools(door: &Door, _: &Asked) -> Result<Given, Problem> {
    let all = door.offered()?;
    let mut tools: BTreeMap<&str, Vec<&Offered<'_>>> = BTreeMap::new();
    for one in all.iter().filter(|one| one.permitted) {
        tools.entry(one.tool).or_default().push(one);
    }
    let tools = tools.into_iter().map(|(name, functions)| {
        let manifest = functions.first().map(|one| one.manifest);
        json!({
            "tool": name,
            "package": manifest.and_then(|manifest| manifest.package.as_deref()),
            "contract": format!("/v1/tools/{name}"),
            "functions": functions.iter().map(|one| json!({
                "function": one.function.id,
                "tier": one.function.declared.tier,
                "docs": one.function.docs,
            })).collect::<Vec<_>>(),
        })
    });
    Ok(Given::json(&json!({ "tools": tools.collect::<Vec<_>>() })))
}

pub(super) fn contract(door: &Door, asked: &Asked) -> Result<Given, Problem> {
    let tool = asked.named("tool");
    let contract = own_contract(door, tool)?;
    Ok(Given::bytes(
        JSON,
        resources::document(&contract).into_bytes(),
        Keep::Tagged,
    ))
}

pub(super) fn contract_page(door: &Door, asked: &Asked) -> Result<Given, Problem> {
    let contract = own_contract(door, asked.named("tool"))?;
    Ok(Given::page(contract.facts(), asked.html))
}

fn own_contract(door: &Door, tool: &str) -> Result<OwnContract, Problem> {
    door.contract(tool)?.ok_or_else(|| Problem::none("tool", tool))
}

/// One of the caller's own calls, and whether it runs.
fn own(door: &Door, call: &str) -> Result<(CallStory, bool), Problem> {
    let own = door.host().own_call(call, door.owner())?;
    own.ok_or_else(|| Problem::none("call", call))
}

/// How a call of the caller's own stands, and, where it has ended, what came of it.
pub(super) fn told(door: &Door, call: &str, with_result: bool) -> Result<(Value, bool), Problem> {
    let (story, runs) = own(door, call)?;
    let mut standing = status::standing(&story, runs, Approvers::of(door.host()));
    if with_result {
        status::add_result(&door.host().reader()?, &story, &mut standing)?;
    }
    let over = standing.contains_key("receipt");
    if over {
        standing.insert("receipt".to_owned(), json!(format!("{}/receipt", place(call))));
    }
    standing.insert("trace".to_owned(), json!(story.trace));
    Ok((Value::Object(standing), over))
}

pub(super) fn call_status(door: &Door, asked: &Asked) -> Result<Given, Problem> {
    Ok(Given::json(&told(door, asked.named("call"), false)?.0))
}

pub(super) fn call_result(door: &Door, asked: &Asked) -> Result<Given, Problem> {
    let (document, over) = told(door, asked.named("call"), true)?;
    Ok(Given::json(&document).status(match over {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    }))
}

pub(super) fn receipt(door: &Door, asked: &Asked) -> Result<Given, Problem> {
    let call = asked.named("call");
    own(door, call)?;
    let id: CallId = call.parse().map_err(|_| Problem::none("call", call))?;
    match resources::receipt_of(door.host(), door.owner(), &id)? {
        Some(receipt) => Ok(Given::bytes(JSON, receipt.into_bytes(), Keep::Tagged)),
        None => Err(Problem::new(
            StatusCode::CONFLICT,
            "the call has not ended: there is a receipt once it has",
        )),
    }
}

pub(super) fn cancel(door: &Door, asked: &Asked) -> Result<Given, Problem> {
    let call = asked.named("call");
    own(door, call)?;
    if door.take_back(call) {
        let document = json!({ "call": call, "taken_back": true, "status": place(call) });
        return Ok(Given::json(&document).status(StatusCode::ACCEPTED));
    }
    Err(Problem::new(
        StatusCode::CONFLICT,
        "the call does not run by a request of yours, shown by the same key or issuer: it is over, or waits for people, or an operator has it \
         go on, and ends it",
    ))
}

/// The caller's own effects that wait, the oldest first.
pub(super) fn holds(door: &Door, asked: &Asked) -> Result<Given, Problem> {
    let (reader, config) = (door.host().reader()?, door.host().config());
    let people = People::of(&reader, config)?;
    let page = reader.holds(asked.number("after"), MOST_LOOKED)?;
    let mut next = (page.len() == MOST_LOOKED)
        .then(|| page.last().map(|(_, held)| held.index))
        .flatten();
    let mut own = Vec::new();
    for (work, held) in &page {
        // What another agent waits for is not looked up.
        let own_agent = held.agent == door.principal().agent;
        if !guard!(
            "api.own-hold",
            own_agent && door.host().own_call(&work.call, door.owner())?.is_some()
        ) {
            continue;
        }
        if let Some(pending) = Pending::of(&reader, &people, work, held)? {
            own.push(own_hold(&pending));
        }
        if own.len() >= asked.limit() {
            next = Some(held.index);
            break;
        }
    }
    Ok(Given::json(&json!({ "holds": own, "next": next })))
}

/// What waits, for whoever asked for it: who said what is not for them.
fn own_hold(pending: &Pending) -> Value {
    let mut document = documents::hold(pending);
    if let Value::Object(members) = &mut document {
        for theirs in ["votes", "break_glass", "edited_by"] {
            members.remove(theirs);
        }
        members.insert("status".to_owned(), json!(place(&pending.call)));
    }
    document
}

/// The caller's own runs, the newest first.
pub(super) fn runs(door: &Door, asked: &Asked) -> Result<Given, Problem> {
    let page = door.host().reader()?.runs("", asked.number("before"), MOST_LOOKED)?;
    let mut next = page.last().filter(|_| page.len() == MOST_LOOKED).map(|run| run.index);
    let (now, mut own) = (now_ms(), Vec::new());
    for run in page.iter().filter(|run| is_own(door, run)) {
        own.push(documents::run(run, now));
        if own.len() >= asked.limit() {
            next = Some(run.index);
            break;
        }
    }
    Ok(Given::json(&json!({ "runs": own, "next": next })))
}

pub(super) fn run(door: &Door, asked: &Asked) -> Result<Given, Problem> {
    let id = asked.named("run");
    let run = door.host().known_run(id)?.filter(|run| is_own(door, run));
    let run = run.ok_or_else(|| Problem::none("run", id))?;
    Ok(Given::json(&documents::run(&run, now_ms())))
}

fn is_own(door: &Door, run: &ambit_core::run::Run) -> bool {
    let shown = door.own_run().is_none_or(|own| own == run.id());
    guard!("api.own-run", run.started.principal == *door.principal()) && guard!("api.token-run", shown)
}
