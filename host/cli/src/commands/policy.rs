//! `ambit policy`: configuration and policy checked as a start would.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use ambit_core::policy::{EntityKind, PolicySet};
use ambit_runtime::config::Config;
use serde_json::{Value, json};

use crate::args::Policy;
use crate::output::{self, Exit, Failure, Output, style};

pub(crate) fn run(command: &Policy, home: &Path, out: Output) -> Result<Exit, Failure> {
    let config = Config::load(home)?;
    let policy = PolicySet::load(config.policies(), &config.group_sizes())?;
    match command {
        Policy::Check => check(&config, &policy, out),
        Policy::Schema => output::raw(policy.schema()).map(|()| Exit::Done),
    }
}

fn check(config: &Config, policy: &PolicySet, out: Output) -> Result<Exit, Failure> {
    let slips = policy.unknown_names(&known_names(config));
    for slip in &slips {
        output::warn(slip);
    }
    let rules: Vec<Value> = policy
        .rules()
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "effect": rule.effect.to_string(),
                "file": rule.file,
                "line": rule.line,
                "annotations": rule.annotations,
                "approvals": rule.approvals.iter().map(|t| json!({ "group": t.group, "at_least": t.at_least })).collect::<Vec<_>>(),
            })
        })
        .collect();
    let value = json!({
        "config": config.digest(),
        "policy": policy.digest(),
        "rules": rules,
        "warnings": slips.len(),
    });
    out.result(&value, |w| print(config, policy, slips.len(), w))?;
    Ok(Exit::Done)
}

fn print(config: &Config, policy: &PolicySet, warnings: usize, w: &mut dyn Write) -> std::io::Result<()> {
    for rule in policy.rules() {
        let place = format!("{}:{}", rule.file, rule.line);
        writeln!(w, "{:<7} {:<28} {place}", rule.effect, rule.id)?;
        if let Some(hint) = rule.hint() {
            writeln!(w, "        {}{hint}{}", style::DIM.render(), style::DIM.render_reset())?;
        }
    }
    writeln!(
        w,
        "{}in order{}: {} rules, {} connections, {} tools, {warnings} warnings",
        style::GOOD.render(),
        style::GOOD.render_reset(),
        policy.rules().len(),
        config.connections().count(),
        config.lock().iter().count(),
    )
}

/// The names that rules can mean, as far as the configuration says them. Functions are left out: they are the components'.
fn known_names(config: &Config) -> BTreeMap<EntityKind, BTreeSet<String>> {
    let agents = config.agents();
    let connections = config.connections();
    let mut names = BTreeMap::from([
        (EntityKind::Agent, agents.keys().cloned().collect::<BTreeSet<_>>()),
        (EntityKind::Team, agents.values().map(|a| a.team.clone()).collect()),
        (EntityKind::Tenant, agents.values().map(|a| a.tenant.clone()).collect()),
        (
            EntityKind::Tool,
            config.lock().iter().map(|(name, _)| name.to_owned()).collect(),
        ),
    ]);
    let mut routes = BTreeSet::new();
    let mut named = BTreeSet::new();
    for (name, connection) in connections {
        named.insert(name.to_owned());
        routes.extend(connection.routes().map(|route| format!("{name}/{}", route.name())));
    }
    names.insert(EntityKind::Connection, named);
    names.insert(EntityKind::Route, routes);
    names
}
