//! A proposal of a policy, from what tools declare and what their connections have routes for.
//!
//! It is written for a person to cut down. Nothing is proposed that a tool could not use: a route is in it where a rule of
//! the tool's scope and the route can be about the same request, and a function of the tool may do as much.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ambit_core::manifest::{ImportKind, Manifest};
use ambit_core::policy::{PolicySet, proposed_id};
use ambit_core::route::{Connection, Route};
use ambit_core::scope::{Scope, Tier};
use ambit_runtime::config::Config;
use ambit_runtime::home;

use crate::output::{Failure, untrusted};

/// The proposal's name in the folder of policies. Only `*.cedar` is in force.
pub(crate) const FILE: &str = "proposed.cedar.txt";

/// A text that validates beside the policies in force, and how many rules it has.
pub(crate) struct Proposal {
    pub(crate) text: String,
    pub(crate) rules: usize,
}

/// Proposes what the accepted tools need.
///
/// # Errors
/// There is nothing to propose for; a component is not the accepted one.
pub(crate) fn propose(config: &Config, policy: &PolicySet) -> Result<Proposal, Failure> {
    let names: Vec<&str> = config.lock().iter().map(|(name, _)| name).collect();
    if names.is_empty() {
        return Err(Failure::usage("the home has no tool to propose a policy for")
            .advise("Add one first: ambit tools add NAME COMPONENT.wasm"));
    }
    let teams: BTreeSet<&str> = config.agents().values().map(|agent| agent.team.as_str()).collect();
    if teams.is_empty() {
        return Err(Failure::usage("the home has no agent to propose a policy for")
            .advise("Add one to ambit.toml: [agent.NAME] with team and tenant."));
    }
    let mut writer = Writer::new(policy);
    for team in teams {
        for name in &names {
            let manifest = home::pinned(config.home(), name)?;
            writer.tool(config, team, name, &manifest);
        }
    }
    check(config, &writer)?;
    Ok(Proposal {
        text: writer.text,
        rules: writer.rules,
    })
}

/// A proposal that would not load when it is renamed would help nobody.
fn check(config: &Config, writer: &Writer) -> Result<(), Failure> {
    let mut sources = config.policies().to_vec();
    sources.push((FILE.to_owned(), writer.text.clone()));
    PolicySet::load(&sources, &config.group_sizes())
        .map(|_| ())
        .map_err(|problems| {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            Failure::internal(format!("the proposal does not validate, and was not written: {first}"))
        })
}

const HEAD: &str = "\
// A proposal, made by `ambit policy init`. Nothing in it is in force: only files named *.cedar are.
//
// It permits everything that the accepted tools declare and their connections have routes for, team by team. That is the
// most they could use, not what they should. Read each rule and ask: may agents of this team do this on their own?
// Delete what they may not. Where a comment says \"decide\", do: to choose a limit, take away the slashes before `when`.
// To put it in force, rename it to main.cedar and run `ambit policy check`.
";

const CAP: &str =
    "when { context.spend.kind == \"known\" && context.spend.currency == \"usd\" && context.spend.minor <= 50000 }";

/// What a person has to decide about a rule, and a condition to choose.
type Decide = (&'static str, Option<&'static str>);

struct Writer {
    text: String,
    rules: usize,
    /// Ids that are taken: of the policies in force, and of this one.
    ids: BTreeSet<String>,
}

impl Writer {
    fn new(policy: &PolicySet) -> Self {
        Self {
            text: HEAD.to_owned(),
            rules: 0,
            ids: policy.rules().iter().map(|rule| rule.id.clone()).collect(),
        }
    }

    /// What a team needs to use a tool.
    fn tool(&mut self, config: &Config, team: &str, name: &str, manifest: &Manifest) {
        self.line("");
        self.line(&format!("// ── Team {}, tool {name} ──", team.escape_debug()));
        for function in &manifest.functions {
            self.line(&format!("//   {} ({})", function.id, function.declared));
        }
        self.rule(
            &[team, name, "call"],
            team,
            "call",
            &format!("resource in Tool::{}", quoted(name)),
            None,
        );
        let most = manifest.functions.iter().map(|function| function.declared.tier).max();
        for (label, connection) in bindings(config, name, manifest) {
            let Some(connection) = connection else {
                self.line("");
                self.line(&format!(
                    "// Its import `{label}` is bound to no connection: [tool.{name}.bind] in ambit.toml."
                ));
                continue;
            };
            let scope = scope(manifest, &label);
            for route in connection.routes() {
                let overlaps = |rule| route.overlaps(connection.origin(), rule);
                if matches!(scope, Some(Scope::Http(scope)) if scope.rules().iter().any(overlaps)) {
                    self.route(team, connection, route, most.unwrap_or_default());
                }
            }
        }
    }

    /// One permit for each tier that the route can have and the tool can use.
    fn route(&mut self, team: &str, connection: &Connection, route: &Route, most: Tier) {
        let id = format!("{}/{}", connection.name(), route.name());
        let resource = format!("resource == Route::{}", quoted(&id));
        for tier in route.tiers().into_iter().filter(|tier| *tier <= most) {
            let decide = match (tier, route.moves_money()) {
                (Tier::Read, _) | (Tier::Draft, false) => None,
                (_, true) => Some((
                    "moves money: decide the most at a time, in minor units (50000 is 500.00 of a currency with cents)",
                    Some(CAP),
                )),
                (Tier::Commit, false) => Some((
                    "changes something for good: decide whether agents may, on their own",
                    None,
                )),
            };
            self.rule(
                &[team, connection.name(), route.name(), tier.as_str()],
                team,
                tier.as_str(),
                &resource,
                decide,
            );
        }
    }

    fn rule(&mut self, id: &[&str], team: &str, action: &str, resource: &str, decide: Option<Decide>) {
        let id = proposed_id(&id.join("."), &mut self.ids);
        self.line("");
        if let Some((about, _)) = decide {
            self.line(&format!("// This {about}."));
        }
        self.line(&format!("@id(\"{id}\")"));
        let head = permit(team, action, resource);
        match decide {
            Some((_, Some(when))) => self.line(&format!("{head}\n// {when}\n;")),
            _ => self.line(&format!("{head};")),
        }
        self.rules += 1;
    }

    /// Names in it have no line breaks: they could leave a comment.
    fn line(&mut self, text: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{}", untrusted(text));
    }
}

/// The tool's capabilities by label, with the connections they are bound to.
fn bindings<'c>(config: &'c Config, name: &str, manifest: &Manifest) -> BTreeMap<String, Option<&'c Connection>> {
    let bound = |label: &str| -> Option<&Connection> {
        let connection = config.tool(name)?.bind.get(label)?;
        config.connection(connection).map(AsRef::as_ref)
    };
    manifest
        .capabilities()
        .filter(|import| matches!(import.kind, ImportKind::Capability(_)))
        .map(|import| (import.label.clone(), bound(&import.label)))
        .collect()
}

fn scope<'m>(manifest: &'m Manifest, label: &str) -> Option<&'m Scope> {
    manifest
        .capabilities()
        .find(|import| import.label == label)?
        .scope
        .as_ref()
}

/// The head of a rule that lets a team do something, without its condition and `;`.
pub(crate) fn permit(team: &str, action: &str, resource: &str) -> String {
    format!(
        "permit (principal in Team::{}, action == Action::\"{action}\", {resource})",
        quoted(team)
    )
}

/// A string of Cedar's: its escapes are Rust's.
pub(crate) fn quoted(text: &str) -> String {
    format!("{text:?}")
}
