//! `ambit contract`: what a tool can do and can never do, on one page that a reviewer can sign.

use std::path::Path;

use ambit_core::contract::{self, Contract, Party};
use ambit_core::identity::{Caller, Directory};
use ambit_core::policy::{PolicySet, Verdict};
use ambit_runtime::config::Config;
use ambit_runtime::contract::contract;
use ambit_runtime::home;
use serde_json::json;

use crate::args::ContractOf;
use crate::output::{Exit, Failure, Output};

pub(crate) fn run(args: &ContractOf, home: &Path, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let policy = PolicySet::load(config.policies(), &config.group_sizes())?;
    let caller = caller(args, &config)?;
    let tools: Vec<String> = match &args.tool {
        Some(tool) => vec![tool.clone()],
        None => config.lock().iter().map(|(tool, _)| tool.to_owned()).collect(),
    };
    let mut contracts = Vec::new();
    for tool in &tools {
        let manifest = home::pinned(home, tool)?;
        let one = contract(&config, &policy, tool, &manifest, caller.as_ref());
        if args.tool.is_some() || callable(&one) {
            contracts.push(if args.for_agents { one.for_agents() } else { one });
        }
    }
    let party = caller.as_ref().map(Party::of);
    if args.html {
        let page = contract::html(&contracts, party.as_ref());
        out.result(&json!({ "html": page }), |w| write!(w, "{page}"))?;
    } else {
        let document = json!({ "for": party, "tools": contracts });
        let page = contract::markdown(&contracts, party.as_ref());
        out.result(&document, |w| write!(w, "{page}"))?;
    }
    Ok(Exit::Done)
}

/// The agent that it is for, where one is named.
fn caller(args: &ContractOf, config: &Config) -> Result<Option<Caller>, Failure> {
    let Some(agent) = &args.agent else { return Ok(None) };
    let directory = Directory::new(config.agents().clone())?;
    Ok(Some(directory.caller(agent, None)?))
}

/// Whether policy lets anything of it be called.
fn callable(contract: &Contract) -> bool {
    contract
        .functions
        .iter()
        .any(|function| function.policy != Verdict::Never)
}
