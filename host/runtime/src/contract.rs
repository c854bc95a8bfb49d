//! A tool's contract: from a home's files alone, without a ledger, or from what a host has read of them.

use std::collections::{BTreeMap, BTreeSet};

use ambit_core::contract::{self, Contract, Sources};
use ambit_core::error::Refusal;
use ambit_core::grant::Narrowing;
use ambit_core::identity::Caller;
use ambit_core::manifest::Manifest;
use ambit_core::money::Budget;
use ambit_core::policy::PolicySet;
use ambit_core::route::Connection;
use ambit_core::scope::Scope;
use serde_json::{Value, json};

use crate::config::Config;
use crate::host::Host;
use crate::offers::Offered;

/// What an agent is shown of a tool: the page of what it can do for this caller, with the schemas that calling it takes.
#[derive(Debug, Clone)]
pub struct OwnContract {
    contract: Contract,
    manifest: Manifest,
}

impl OwnContract {
    /// As data: the page's facts, and what the component itself declares beside them.
    #[must_use]
    pub fn document(&self) -> Value {
        let mut document = json!(self.contract);
        let declared = self.manifest.contract(|_| true);
        add(&mut document, &declared, &["docs"]);
        let functions = document.get_mut("functions").and_then(Value::as_array_mut);
        for (shown, function) in functions.into_iter().flatten().zip(&self.manifest.functions) {
            add(shown, &function.contract(), &["docs"]);
        }
        document
    }

    /// The page's facts.
    #[must_use]
    pub const fn facts(&self) -> &Contract {
        &self.contract
    }

    /// As a page of Markdown.
    #[must_use]
    pub fn page(&self) -> String {
        contract::markdown(std::slice::from_ref(&self.contract), self.contract.caller.as_ref())
    }
}

/// Adds members that are not there; `whole` are shortened there, and taken as they are here.
fn add(to: &mut Value, from: &Value, whole: &[&str]) {
    let (Value::Object(to), Value::Object(from)) = (to, from) else {
        return;
    };
    for (name, value) in from {
        if whole.contains(&name.as_str()) || !to.contains_key(name) {
            to.insert(name.clone(), value.clone());
        }
    }
}

impl Host {
    /// The contract of a loaded tool, for an agent or, where none is named, for any, by what this host has read; none where there is no
    /// such tool.
    ///
    /// # Errors
    /// [`Code::Caller`](ambit_core::error::Code::Caller): no such agent.
    pub fn contract(&self, tool: &str, agent: Option<&str>) -> Result<Option<Contract>, Refusal> {
        let shared = &self.shared;
        let Some(loaded) = shared.tools.get(tool) else {
            return Ok(None);
        };
        let caller = agent.map(|agent| shared.directory.caller(agent, None)).transpose()?;
        let page = contract(&shared.config, &shared.policy, tool, loaded.manifest(), caller.as_ref());
        Ok(Some(page))
    }

    /// The contract of a tool as its caller may read it: of the functions that are `offered`, what `narrowing` leaves of what they do, and
    /// nothing that is the operator's alone. None where nothing of it is permitted, whatever there is for others.
    ///
    /// # Errors
    /// As [`Host::offers`].
    pub fn own_contract(
        &self,
        tool: &str,
        (agent, user): (&str, Option<&str>),
        offered: &[Offered<'_>],
        narrowing: &Narrowing,
    ) -> Result<Option<OwnContract>, Refusal> {
        let own = || offered.iter().filter(|one| one.permitted && one.tool == tool);
        let Some(first) = own().next() else { return Ok(None) };
        let caller = self.shared.directory.caller(agent, user)?;
        let mut manifest = first.manifest.clone();
        manifest.functions.retain(|function| {
            let is_own = own().any(|one| one.function.id == function.id);
            ambit_core::guard!("contract.own-functions", is_own)
        });
        narrow(&mut manifest, narrowing);
        let (config, policy) = (&self.shared.config, &self.shared.policy);
        // What another user has left is nobody else's to know.
        let of_caller = |budget: &&Budget| {
            let of = budget.covers.user.as_deref();
            ambit_core::guard!("contract.own-budgets", of.is_none() || of == caller.user())
        };
        let mut budgets: Vec<Budget> = config.budgets().iter().filter(of_caller).cloned().collect();
        budgets.extend(narrowing.budgets());
        let kept = narrowing.connections.as_ref();
        let contract = bound_to(config, policy, tool, &manifest, Some(&caller), kept, &budgets).for_agents();
        Ok(Some(OwnContract { contract, manifest }))
    }
}

/// What is left of what a component declares.
fn narrow(manifest: &mut Manifest, narrowing: &Narrowing) {
    for import in &mut manifest.imports {
        if let (Some(Scope::Http(declared)), Some(kept)) = (&mut import.scope, narrowing.scopes.get(&import.label)) {
            *declared = declared.intersect(kept);
        }
    }
}

/// The contract of a tool of this configuration, for a caller or, where none is named, for any.
#[must_use]
pub fn contract(
    config: &Config,
    policy: &PolicySet,
    tool: &str,
    manifest: &Manifest,
    caller: Option<&Caller>,
) -> Contract {
    bound_to(config, policy, tool, manifest, caller, None, config.budgets())
}

/// The same for whoever reaches no other connections than the `kept`, under these budgets.
fn bound_to(
    config: &Config,
    policy: &PolicySet,
    tool: &str,
    manifest: &Manifest,
    caller: Option<&Caller>,
    kept: Option<&BTreeSet<String>>,
    budgets: &[Budget],
) -> Contract {
    let of_tool = config.tool(tool);
    let bindings = of_tool.into_iter().flat_map(|of_tool| &of_tool.bind);
    let kept = |name: &String| kept.is_none_or(|kept| kept.contains(name));
    let bound: BTreeMap<String, &Connection> = bindings
        .filter(|(_, connection)| kept(connection))
        .filter_map(|(label, connection)| Some((label.clone(), config.connection(connection)?.as_ref())))
        .collect();
    Contract::of(&Sources {
        tool,
        manifest,
        bound: &bound,
        policy,
        caller,
        limits: of_tool.map_or(config.limits(), |of_tool| &of_tool.limits),
        budgets,
        groups: &config.group_sizes(),
        break_glass: config.break_glass(),
        retention_days: config.retention(),
    })
}
