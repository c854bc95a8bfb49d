//! Policies sorted at load by the action and the resource they can apply to.
//!
//! Cedar evaluates every policy of a set. Most policies name their action and resource in their head, so a request needs only the
//! few that could match it. A policy is left out of a slice only when its head cannot match; when in doubt it is in.

use std::collections::{BTreeSet, HashMap};

use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PolicySet as CedarSet, PolicySetError, ResourceConstraint,
};

use super::EntityKind;
use crate::scope::Tier;

/// What policies decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// A function is called.
    Call,
    /// An effect of this tier.
    Effect(Tier),
}

impl Action {
    pub(super) const ALL: [Action; 4] = [
        Action::Call,
        Action::Effect(Tier::Read),
        Action::Effect(Tier::Draft),
        Action::Effect(Tier::Commit),
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Action::Call => "call",
            Action::Effect(tier) => tier.as_str(),
        }
    }

    /// The type of what the action is on.
    pub(super) const fn resource(self) -> EntityKind {
        match self {
            Action::Call => EntityKind::Function,
            Action::Effect(_) => EntityKind::Route,
        }
    }

    /// The type of what that is in.
    pub(super) const fn parent(self) -> EntityKind {
        match self {
            Action::Call => EntityKind::Tool,
            Action::Effect(_) => EntityKind::Connection,
        }
    }
}

/// All slices of a policy set.
#[derive(Debug)]
pub(super) struct Slices(HashMap<Action, Sliced>);

/// The slices of one action.
#[derive(Debug, Default)]
struct Sliced {
    /// For the resources that a policy names, by id.
    named: HashMap<String, CedarSet>,
    /// For the other resources in a parent that a policy names, by the parent's id.
    within: HashMap<String, CedarSet>,
    /// For all others.
    rest: CedarSet,
}

/// Which resources of an action a policy can apply to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reach {
    All,
    Named(String),
    Within(String),
}

impl Slices {
    pub(super) fn new(policies: &[Policy]) -> Result<Slices, Box<PolicySetError>> {
        Action::ALL
            .into_iter()
            .map(|action| Ok((action, Sliced::new(policies, action)?)))
            .collect::<Result<_, _>>()
            .map(Slices)
    }

    /// The policies that can apply to `action` on the resource `id` in `parent`.
    pub(super) fn find(&self, action: Action, parent: &str, id: &str) -> Option<&CedarSet> {
        let sliced = self.0.get(&action)?;
        Some(
            sliced
                .named
                .get(id)
                .or_else(|| sliced.within.get(parent))
                .unwrap_or(&sliced.rest),
        )
    }
}

impl Sliced {
    fn new(policies: &[Policy], action: Action) -> Result<Sliced, Box<PolicySetError>> {
        let reaching: Vec<(Reach, &Policy)> = policies
            .iter()
            .filter(|policy| applies_to(policy, action))
            .map(|policy| (reach(policy, action), policy))
            .collect();
        let mut named = BTreeSet::new();
        let mut within = BTreeSet::new();
        for (reach, _) in &reaching {
            match reach {
                Reach::All => false,
                Reach::Named(id) => named.insert(id.as_str()),
                Reach::Within(parent) => within.insert(parent.as_str()),
            };
        }
        let slice = |parent: Option<&str>, id: Option<&str>| {
            let members = reaching.iter().filter(|(reach, _)| match reach {
                Reach::All => true,
                Reach::Named(name) => id == Some(name),
                Reach::Within(name) => parent == Some(name),
            });
            CedarSet::from_policies(members.map(|(_, policy)| (*policy).clone())).map_err(Box::new)
        };
        let mut sliced = Sliced {
            rest: slice(None, None)?,
            ..Sliced::default()
        };
        for id in named {
            sliced.named.insert(id.to_owned(), slice(parent_of(id), Some(id))?);
        }
        for parent in within {
            sliced.within.insert(parent.to_owned(), slice(Some(parent), None)?);
        }
        Ok(sliced)
    }
}

/// The parent in an id `parent/name`. Names of tools and connections have no slash.
fn parent_of(id: &str) -> Option<&str> {
    id.split_once('/').map(|(parent, _)| parent)
}

fn applies_to(policy: &Policy, action: Action) -> bool {
    let names = |uid: &EntityUid| uid.id().unescaped() == action.as_str();
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => names(&uid),
        ActionConstraint::In(uids) => uids.iter().any(names),
    }
}

fn reach(policy: &Policy, action: Action) -> Reach {
    let is = |kind: &EntityTypeName, name: EntityKind| {
        kind.namespace_components().next().is_none() && kind.basename() == name.as_str()
    };
    let id = |uid: &EntityUid| uid.id().unescaped().to_owned();
    match policy.resource_constraint() {
        ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid)
            if is(uid.type_name(), action.resource()) =>
        {
            Reach::Named(id(&uid))
        }
        ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) if is(uid.type_name(), action.parent()) => {
            Reach::Within(id(&uid))
        }
        _ => Reach::All,
    }
}
