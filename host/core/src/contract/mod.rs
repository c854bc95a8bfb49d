//! A tool's contract: one page of what it can do, what it can never do, and what happens when it fails, from its component, the operator's
//! connections and policy alone. Nothing of it was observed, and nothing of it is a promise of the tool's.
//!
//! A reviewer signs it, an agent may read it: [`Contract::for_agents`] leaves out what is the operator's alone, the texts of rules.
//! It is made whenever it is asked for and kept nowhere, so it is never older than what is in force.

mod markup;
mod page;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::digest::Digest;
use crate::field::FieldSet;
use crate::grant::Limits;
use crate::identity::Caller;
use crate::manifest::{CapabilityImport, Manifest};
use crate::money::Budget;
use crate::policy::{Applies, Effect, PolicySet, Verdict, verdict};
use crate::route::{Connection, Route, Undo};
use crate::scope::{HttpRule, Scope, Tier};

pub use page::{html, html_policy, markdown};

/// What a contract is made from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The tool's name in the configuration.
    pub tool: &'a str,
    /// What its component declares.
    pub manifest: &'a Manifest,
    /// The connection of each import that is bound, by its label.
    pub bound: &'a BTreeMap<String, &'a Connection>,
    /// What decides.
    pub policy: &'a PolicySet,
    /// For whom; any agent, where nobody is named.
    pub caller: Option<&'a Caller>,
    /// What a call may use.
    pub limits: &'a Limits,
    /// All budgets.
    pub budgets: &'a [Budget],
    /// How many people each group has.
    pub groups: &'a BTreeMap<String, usize>,
    /// The group whose members may let an effect pass alone.
    pub break_glass: Option<&'a str>,
    /// After how many days values of calls may be erased.
    pub retention_days: Option<u32>,
}

/// A tool's contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contract {
    /// The tool's name in the configuration.
    pub tool: String,
    /// Digest of the component that was accepted under it.
    pub digest: Digest,
    /// Digest of the policy in force.
    pub policy: Digest,
    /// Package and world of the component, by its own word.
    pub world: String,
    /// The first paragraph of its documentation, by its own word.
    pub docs: Option<String>,
    /// For which agent; none where it is for any.
    #[serde(rename = "for")]
    pub caller: Option<Party>,
    /// What can be called.
    pub functions: Vec<Offer>,
    /// What it can reach.
    pub reaches: Vec<Reach>,
    /// Services of the host that reach nothing, and interfaces of WASI with nothing in them.
    pub harmless: Vec<String>,
    /// What a call may use, in the units that the names say.
    pub limits: Limits,
    /// Budgets that can count what it does.
    pub budgets: Vec<Cap>,
    /// Whose approvals rules about it mention.
    pub escalation: Escalation,
    /// After how many days values of calls may be erased; none where they are kept.
    pub retention_days: Option<u32>,
    /// The rules that can be about it, in the order of their files.
    pub rules: Vec<RuleText>,
}

/// For whom a contract is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Party {
    /// The agent.
    pub agent: String,
    /// Its team.
    pub team: String,
    /// Its tenant.
    pub tenant: String,
}

/// A function and who may call it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// Its id.
    pub id: String,
    /// The most that it does: an effect above that is refused.
    pub tier: Tier,
    /// The function that takes it back, where it declares one.
    pub undo: Option<String>,
    /// Whether it says that calling it twice is calling it once.
    pub idempotent: bool,
    /// The first line of its documentation, by the component's word.
    pub docs: Option<String>,
    /// What policy says to a call of it.
    pub policy: Verdict,
    /// The rules that it goes by; none where no rule permits it.
    pub rules: Vec<String>,
}

/// A capability import, and what is behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// The import's label.
    pub label: String,
    /// What the component says that it needs of it, rule by rule.
    pub declared: Vec<String>,
    /// The connection that it is bound to; none where it reaches nothing.
    pub connection: Option<String>,
    /// The service's origin; none in what agents read, where the tool has no route there.
    pub origin: Option<String>,
    /// What can be asked of the service through it.
    pub routes: Vec<Way>,
    /// Rules of the declaration that no route is for: they reach nothing.
    pub unserved: Vec<String>,
    /// Routes of the connection that it did not declare: it cannot use them.
    pub undeclared: Vec<String>,
}

/// A route that an import can use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Way {
    /// Its name within the connection.
    pub route: String,
    /// Methods and path.
    pub shape: String,
    /// What it can do, with what policy says to that.
    pub tiers: Vec<Decided>,
    /// Fields that can be sent.
    pub fields: Vec<String>,
    /// Members of the answer that the tool can read.
    pub reads: Vec<String>,
    /// Whether it moves money.
    pub money: bool,
    /// Whether the service recognises a request that it has seen before.
    pub idempotent: bool,
    /// How often it is sent again at most.
    pub retries: u32,
    /// Whether the service is left alone while it fails.
    pub breaker: bool,
    /// Whether what failed for good is kept for people.
    pub dead_letter: bool,
    /// Whether the host looks what is there before, and whether the change is there after.
    pub checked: bool,
    /// How the host takes it back: `write-back`, or the name of a route.
    pub undo: Option<String>,
}

/// What policy says to effects of one tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// The tier.
    pub tier: Tier,
    /// What rules come to.
    pub policy: Verdict,
    /// The rules that it goes by; none where no rule permits it.
    pub rules: Vec<String>,
    /// Whether no function of the tool does as much.
    pub above_every_function: bool,
}

/// A budget that can count what the tool does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cap {
    /// Its name.
    pub name: String,
    /// What it counts.
    pub unit: String,
    /// For how long.
    pub window: String,
    /// The most.
    pub cap: u64,
    /// The group that may let an effect pass it.
    pub ask: Option<String>,
}

/// Who is asked, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Escalation {
    /// The groups that rules and budgets mention, with how many of them are asked at most, and how many there are.
    pub groups: Vec<Asked>,
    /// The group whose members may let an effect pass alone, with a reason.
    pub break_glass: Option<String>,
    /// How long an effect waits, in milliseconds.
    pub hold_ms: u64,
    /// How many effects of an agent wait at a time.
    pub open_holds: u32,
}

/// A group that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Its name.
    pub group: String,
    /// How many of its people at most.
    pub at_most: usize,
    /// How many people are in it.
    pub members: usize,
}

/// A rule that can be about the tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleText {
    /// Its `@id`.
    pub id: String,
    /// `permit` or `forbid`.
    pub effect: String,
    /// What it tells agents.
    pub hint: Option<String>,
    /// Whether it looks at the mode of the call.
    pub reads_mode: bool,
    /// Its text; none in what agents read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Contract {
    /// The contract of one tool.
    #[must_use]
    pub fn of(sources: &Sources<'_>) -> Contract {
        let Sources { manifest, limits, .. } = *sources;
        let mut rules = Rules::default();
        let functions = manifest.functions.iter().map(|function| {
            let about = sources.policy.about_call(sources.tool, &function.id, sources.caller);
            Offer {
                id: function.id.clone(),
                tier: function.declared.tier,
                undo: function.declared.undo.clone(),
                idempotent: function.declared.idempotent,
                docs: first_line(function.docs.as_deref()),
                policy: verdict(&about, sources.caller.is_some()),
                rules: rules.add(&about),
            }
        });
        let functions: Vec<Offer> = functions.collect();
        let reaches: Vec<Reach> = manifest
            .capabilities()
            .map(|import| reach(sources, import, &mut rules))
            .collect();
        let budgets = budgets(sources, &reaches);
        let package = manifest.package.as_deref().unwrap_or("(no package)");
        let version = manifest.version.as_deref().map(|version| format!("@{version}"));
        Contract {
            tool: sources.tool.to_owned(),
            digest: manifest.digest,
            policy: sources.policy.digest(),
            world: format!("{package}/{}{}", manifest.world, version.unwrap_or_default()),
            docs: first_line(manifest.docs.as_deref()),
            caller: sources.caller.map(Party::of),
            harmless: harmless(manifest),
            escalation: escalation(sources, &rules, &budgets),
            limits: limits.clone(),
            retention_days: sources.retention_days,
            rules: rules.texts(),
            functions,
            reaches,
            budgets,
        }
    }

    /// The same, without what is the operator's alone: agents see a rule's name and its hint, never its text, and of a connection
    /// the routes that the tool can use, and its origin only where the tool itself declares that.
    #[must_use]
    pub fn for_agents(mut self) -> Contract {
        for rule in &mut self.rules {
            rule.text = None;
        }
        for reach in &mut self.reaches {
            reach.undeclared.clear();
            if reach.routes.is_empty() {
                reach.origin = None;
            }
        }
        self
    }
}

impl Party {
    /// Of a verified caller.
    #[must_use]
    pub fn of(caller: &Caller) -> Party {
        Party {
            agent: caller.agent().to_owned(),
            team: caller.team().to_owned(),
            tenant: caller.tenant().to_owned(),
        }
    }
}

/// The rules that were met, each once.
#[derive(Default)]
struct Rules<'p> {
    /// By where they stand.
    met: BTreeMap<(String, usize), Applies<'p>>,
}

impl<'p> Rules<'p> {
    /// Takes rules in, and names them. Where none permits, none of the others matters.
    fn add(&mut self, about: &[Applies<'p>]) -> Vec<String> {
        if about.iter().all(|applies| applies.rule.effect != Effect::Permit) {
            return Vec::new();
        }
        for applies in about {
            let place = (applies.rule.file.clone(), applies.rule.line);
            self.met.entry(place).or_insert_with(|| applies.clone());
        }
        about.iter().map(|applies| applies.rule.id.clone()).collect()
    }

    fn texts(&self) -> Vec<RuleText> {
        let text = |applies: &Applies<'_>| RuleText {
            id: applies.rule.id.clone(),
            effect: applies.rule.effect.to_string(),
            hint: applies.rule.hint().map(str::to_owned),
            reads_mode: applies.reads_mode,
            text: Some(applies.text.clone()),
        };
        self.met.values().map(text).collect()
    }
}

fn reach<'p>(sources: &Sources<'p>, import: &CapabilityImport, rules: &mut Rules<'p>) -> Reach {
    let declared: &[HttpRule] = match &import.scope {
        Some(Scope::Http(scope)) => scope.rules(),
        None => &[],
    };
    let connection = sources.bound.get(&import.label).copied();
    let routes = connection.into_iter().flat_map(Connection::routes);
    let overlapping = |route: &Route| -> Vec<&HttpRule> {
        let overlaps = |rule: &&HttpRule| connection.is_some_and(|it| route.overlaps(it.origin(), rule));
        declared.iter().filter(overlaps).collect()
    };
    let (mut ways, mut undeclared, mut served) = (Vec::new(), Vec::new(), BTreeSet::new());
    for route in routes {
        let covering = overlapping(route);
        if covering.is_empty() {
            undeclared.push(route.name().to_owned());
            continue;
        }
        served.extend(covering.iter().map(ToString::to_string));
        let connection = connection.map(Connection::name).unwrap_or_default();
        ways.push(way(sources, connection, route, &covering, rules));
    }
    let unserved = declared.iter().map(ToString::to_string);
    Reach {
        label: import.label.clone(),
        declared: declared.iter().map(ToString::to_string).collect(),
        connection: connection.map(|connection| connection.name().to_owned()),
        origin: connection.map(|connection| connection.origin().to_string()),
        routes: ways,
        unserved: unserved.filter(|rule| !served.contains(rule)).collect(),
        undeclared,
    }
}

fn way<'p>(
    sources: &Sources<'p>,
    connection: &str,
    route: &Route,
    covering: &[&HttpRule],
    rules: &mut Rules<'p>,
) -> Way {
    let both = |of_route: &FieldSet, of_rule: fn(&HttpRule) -> &FieldSet| -> Vec<String> {
        let sets = covering.iter().map(|rule| of_rule(rule).intersect(of_route));
        let mut all = FieldSet::new();
        for path in sets.flat_map(|set| set.paths()) {
            all.insert(&path);
        }
        all.paths().iter().map(ToString::to_string).collect()
    };
    let most = sources
        .manifest
        .functions
        .iter()
        .map(|function| function.declared.tier)
        .max();
    let tiers = route.tiers().into_iter().map(|tier| {
        let about = sources
            .policy
            .about_effect(tier, connection, route.name(), sources.caller);
        Decided {
            tier,
            policy: verdict(&about, sources.caller.is_some()),
            rules: rules.add(&about),
            above_every_function: most.is_none_or(|most| most < tier),
        }
    });
    Way {
        route: route.name().to_owned(),
        shape: route.shape(),
        tiers: tiers.collect(),
        fields: both(route.fields(), HttpRule::fields),
        reads: both(route.reads(), HttpRule::reads),
        money: route.moves_money(),
        idempotent: route.idempotency().is_some(),
        retries: route.retries().map_or(0, |retries| retries.most),
        breaker: route.breaker().is_some(),
        dead_letter: route.tiers().into_iter().any(|tier| route.dead_letter(tier)),
        checked: route.object().is_some(),
        undo: route.undo().map(|undo| match undo {
            Undo::WriteBack => "write-back".to_owned(),
            Undo::Route(route) => route.clone(),
        }),
    }
}

/// What it imports that reaches nothing.
fn harmless(manifest: &Manifest) -> Vec<String> {
    let reaches: BTreeSet<u32> = manifest.capabilities().map(|import| import.index).collect();
    let others = manifest
        .imports
        .iter()
        .filter(|import| !reaches.contains(&import.index));
    others.map(|import| import.interface.clone()).collect()
}

/// The budgets that can count something that the tool does for this caller.
fn budgets(sources: &Sources<'_>, reaches: &[Reach]) -> Vec<Cap> {
    let routes: BTreeSet<String> = reaches
        .iter()
        .flat_map(|reach| {
            let of = move |way: &Way| format!("{}/{}", reach.connection.as_deref().unwrap_or_default(), way.route);
            reach.routes.iter().map(of)
        })
        .collect();
    let connections: BTreeSet<&str> = reaches.iter().filter_map(|reach| reach.connection.as_deref()).collect();
    let all = sources.budgets.iter().filter(|budget| {
        let covers = &budget.covers;
        let caller = |named: &Option<String>, of: fn(&Caller) -> &str| {
            let named = named.as_deref();
            named.is_none_or(|name| sources.caller.is_none_or(|caller| of(caller) == name))
        };
        let function = |id: &str| sources.manifest.functions.iter().any(|function| function.id == id);
        caller(&covers.tenant, Caller::tenant)
            && caller(&covers.team, Caller::team)
            && caller(&covers.agent, Caller::agent)
            && covers.tool.as_deref().is_none_or(|tool| tool == sources.tool)
            && covers.function.as_deref().is_none_or(function)
            && covers
                .connection
                .as_deref()
                .is_none_or(|name| connections.contains(name))
            && covers.route.as_ref().is_none_or(|route| routes.contains(route))
    });
    let cap = |budget: &Budget| Cap {
        name: budget.name.clone(),
        unit: budget.unit.to_string(),
        window: budget.window.to_string(),
        cap: budget.cap,
        ask: budget.over.as_ref().map(|over| over.ask.clone()),
    };
    all.map(cap).collect()
}

/// Whose approvals rules about the tool, and budgets that count it, ask for.
fn escalation(sources: &Sources<'_>, rules: &Rules<'_>, budgets: &[Cap]) -> Escalation {
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    for threshold in rules.met.values().flat_map(|applies| &applies.rule.approvals) {
        let most = asked.entry(&threshold.group).or_default();
        *most = (*most).max(threshold.at_least);
    }
    let over = sources
        .budgets
        .iter()
        .filter(|budget| budgets.iter().any(|cap| cap.name == budget.name));
    for over in over.filter_map(|budget| budget.over.as_ref()) {
        let most = asked.entry(&over.ask).or_default();
        *most = (*most).max(usize::try_from(over.count).unwrap_or(usize::MAX));
    }
    let groups = asked.into_iter().map(|(group, at_most)| Asked {
        group: group.to_owned(),
        at_most,
        members: sources.groups.get(group).copied().unwrap_or_default(),
    });
    Escalation {
        groups: groups.collect(),
        break_glass: sources.break_glass.map(str::to_owned),
        hold_ms: sources.limits.hold_ms,
        open_holds: sources.limits.open_holds,
    }
}

fn first_line(docs: Option<&str>) -> Option<String> {
    let line = docs?.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.to_owned())
}
