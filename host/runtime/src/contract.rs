//! A tool's contract, from a home's files alone: no ledger is opened and nothing is run.

use std::collections::BTreeMap;

use ambit_core::contract::{Contract, Sources};
use ambit_core::identity::Caller;
use ambit_core::manifest::Manifest;
use ambit_core::policy::PolicySet;
use ambit_core::route::Connection;

use crate::config::Config;

/// The contract of a tool of this configuration, for a caller or, where none is named, for any.
#[must_use]
pub fn contract(
    config: &Config,
    policy: &PolicySet,
    tool: &str,
    manifest: &Manifest,
    caller: Option<&Caller>,
) -> Contract {
    let of_tool = config.tool(tool);
    let bindings = of_tool.into_iter().flat_map(|of_tool| &of_tool.bind);
    let bound: BTreeMap<String, &Connection> = bindings
        .filter_map(|(label, connection)| Some((label.clone(), config.connection(connection)?.as_ref())))
        .collect();
    Contract::of(&Sources {
        tool,
        manifest,
        bound: &bound,
        policy,
        caller,
        limits: of_tool.map_or(config.limits(), |of_tool| &of_tool.limits),
        budgets: config.budgets(),
        groups: &config.group_sizes(),
        break_glass: config.break_glass(),
        retention_days: config.retention(),
    })
}
