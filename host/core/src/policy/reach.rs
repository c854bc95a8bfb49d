//! Which rules can be about something, before anything is known of a request: what a contract says of policy.
//!
//! A rule's head names whom and what it is about; its conditions look at requests, and are not asked here. So what is said never stands
//! for a decision: it says what no request can be permitted, and what every request is.

use std::collections::BTreeSet;
use std::fmt::Display;

use cedar_policy::{
    Authorizer, Context, Entities, Entity, Policy, PolicyId, PolicySet as CedarSet, PrincipalConstraint, Request,
};
use serde_json::json;

use super::slice::Action;
use super::{Effect, EntityKind, PolicySet, Rule};
use crate::identity::Caller;
use crate::scope::Tier;

/// A rule whose head matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applies<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// Whether it has a condition, so that it applies to some requests and not to others.
    pub conditional: bool,
    /// Whether it is about every agent.
    pub everyone: bool,
    /// Whether it looks at the mode of the call.
    pub reads_mode: bool,
    /// The rule as its file has it, annotations included. No agent's to read.
    pub text: String,
}

/// What rules come to, whatever a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Denied.
    Never,
    /// Permitted or denied, by what the request says and when it is made.
    Sometimes,
    /// Permitted.
    Always,
}

/// What rules that apply to one agent, or to all where `of_one` is false, come to.
#[must_use]
pub fn verdict(rules: &[Applies<'_>], of_one: bool) -> Verdict {
    let certain = |applies: &&Applies<'_>| !applies.conditional && (of_one || applies.everyone);
    let of = |effect| rules.iter().filter(move |applies| applies.rule.effect == effect);
    if of(Effect::Permit).next().is_none() || of(Effect::Forbid).any(|forbid| certain(&forbid)) {
        Verdict::Never
    } else if of(Effect::Forbid).next().is_none() && of(Effect::Permit).any(|permit| certain(&permit)) {
        Verdict::Always
    } else {
        Verdict::Sometimes
    }
}

impl PolicySet {
    /// The rules that can be about a call of `tool/function`, by this caller or, where none is named, by anybody. In the order of the files.
    #[must_use]
    pub fn about_call(&self, tool: &str, function: &str, caller: Option<&Caller>) -> Vec<Applies<'_>> {
        self.about(Action::Call, tool, function, caller)
    }

    /// The rules that can be about an effect of this tier through `connection/route`, as [`PolicySet::about_call`].
    #[must_use]
    pub fn about_effect(&self, tier: Tier, connection: &str, route: &str, caller: Option<&Caller>) -> Vec<Applies<'_>> {
        self.about(Action::Effect(tier), connection, route, caller)
    }

    fn about(&self, action: Action, parent: &str, name: &str, caller: Option<&Caller>) -> Vec<Applies<'_>> {
        let id = format!("{parent}/{name}");
        let slice = self.slices.find(action, parent, &id);
        let policies: Vec<&Policy> = slice.into_iter().flat_map(CedarSet::policies).collect();
        // Whose head cannot be asked by itself, applies as far as anybody knows.
        let matching = self.matching(&policies, action, parent, &id, caller).ok();
        let mut found: Vec<(usize, Applies<'_>)> = policies
            .into_iter()
            .filter(|policy| matching.as_ref().is_none_or(|all| all.contains(policy.id())))
            .filter_map(|policy| {
                let index = *self.index.get(AsRef::<str>::as_ref(policy.id()))?;
                Some((index, applies(policy, self.rules.get(index)?)))
            })
            .collect();
        found.sort_by_key(|(index, _)| *index);
        found.into_iter().map(|(_, applies)| applies).collect()
    }

    /// The policies whose heads match: Cedar is asked, with every rule as a permit without conditions, and, where no caller is named,
    /// for everybody.
    fn matching(
        &self,
        policies: &[&Policy],
        action: Action,
        parent: &str,
        id: &str,
        caller: Option<&Caller>,
    ) -> Result<BTreeSet<PolicyId>, String> {
        let text = |error: &dyn Display| error.to_string();
        let heads: Result<Vec<Policy>, String> = policies.iter().map(|policy| head(policy, caller.is_none())).collect();
        let heads = CedarSet::from_policies(heads?).map_err(|error| text(&error))?;
        let words = &self.vocabulary;
        let groups = match caller {
            Some(caller) => vec![
                words.uid(EntityKind::Team, caller.team())?,
                words.uid(EntityKind::Tenant, caller.tenant())?,
            ],
            None => Vec::new(),
        };
        let principal = words.uid(EntityKind::Agent, caller.map_or("", Caller::agent))?;
        let resource = words.uid(action.resource(), id)?;
        let within = words.uid(action.parent(), parent)?;
        let agent = Entity::new_no_attrs(principal.clone(), groups.into_iter().collect());
        let on = Entity::new_no_attrs(resource.clone(), [within].into());
        let entities = Entities::from_entities([agent, on], None).map_err(|error| text(&error))?;
        let action = words.actions.get(&action).cloned().ok_or("no such action")?;
        let request =
            Request::new(principal, action, resource, Context::empty(), None).map_err(|error| text(&error))?;
        let response = Authorizer::new().is_authorized(&request, &heads, &entities);
        Ok(response.diagnostics().reason().cloned().collect())
    }
}

/// A rule's head alone, as one that permits; whomever it names, where it is asked for everybody.
fn head(policy: &Policy, everybody: bool) -> Result<Policy, String> {
    let mut tree = policy.to_json().map_err(|error| error.to_string())?;
    let parts = tree.as_object_mut().ok_or("no policy")?;
    parts.insert("effect".to_owned(), json!("permit"));
    parts.insert("conditions".to_owned(), json!([]));
    if everybody {
        parts.insert("principal".to_owned(), json!({ "op": "All" }));
    }
    Policy::from_json(Some(policy.id().clone()), tree).map_err(|error| error.to_string())
}

fn applies<'p>(policy: &Policy, rule: &'p Rule) -> Applies<'p> {
    // What has no syntax tree is taken for a condition that looks at everything.
    let conditions = policy.to_json().ok().and_then(|tree| tree.get("conditions").cloned());
    let text = conditions.as_ref().map(ToString::to_string);
    Applies {
        rule,
        conditional: conditions.is_none_or(|conditions| conditions.as_array().is_none_or(|all| !all.is_empty())),
        everyone: matches!(
            policy.principal_constraint(),
            PrincipalConstraint::Any | PrincipalConstraint::Is(_)
        ),
        reads_mode: text.is_none_or(|text| text.contains("\"mode\"")),
        text: policy.to_cedar().unwrap_or_default(),
    }
}
