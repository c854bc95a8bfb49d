//! Policy: Cedar decides, on facts that the host computed.
//!
//! An operator's files become a [`PolicySet`] once, at start or reload: parsed, analysed, validated strictly with a schema generated
//! from the configured groups, and sliced. Whatever is wrong is a [`Problem`] with its place; there is no half-loaded set. Then each
//! call and each effect is one question to it. The answer, a [`Decision`], is made nowhere else, and a
//! [`Grant`](crate::grant::Grant) is made only from one.
//!
//! Two differences to Cedar alone, both towards denial:
//!
//! * Any evaluation error denies. Cedar skips a policy that errors, so a `forbid` that errors would permit.
//! * Some valid policies are refused at load: those with arithmetic (the one way left to err), and those that use approvals in a
//!   way that an additional one could permit less.

mod analysis;
mod decision;
mod facts;
mod load;
mod memo;
mod reach;
mod schema;
mod slice;
mod source;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{
    AuthorizationError, Authorizer, Entities, Entity, EntityId, EntityTypeName, EntityUid, ParseErrors, Policy, Request,
};

pub use decision::Decision;
pub use facts::{CallFacts, EffectFacts, FieldFacts, Mode};
pub use reach::{Applies, Verdict, verdict};

use self::decision::Subject;
use self::load::{Loader, Mention};
use self::memo::Memo;
use self::slice::{Action, Slices};
use crate::digest::Digest;
use crate::error::Problem;
use crate::guard;
use crate::hold::Need;
use crate::identity::Caller;

/// The policy file of a new home: denies by default, says so, keeps suggest-mode runs from committing, and has examples to
/// uncomment. It needs a group `reviewer`, which may be empty.
pub const SHIPPED: &str = include_str!("shipped.cedar");

/// How often at most policy is asked to find what would permit a held effect.
pub const MOST_EVALUATIONS: usize = 16;

/// One rule, as listings and explanations show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its `@id`, unique in the set.
    pub id: String,
    /// What it does when it matches.
    pub effect: Effect,
    /// The file it stands in.
    pub file: String,
    /// The line it begins at, from 1.
    pub line: usize,
    /// All its annotations, `id` among them. Agents are shown `hint`.
    pub annotations: BTreeMap<String, String>,
    /// The approvals it mentions.
    pub approvals: Vec<Threshold>,
}

impl Rule {
    /// Its `@hint`.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.annotations.get("hint").map(String::as_str)
    }
}

/// Whether a rule permits or forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Permits, unless a rule forbids.
    Permit,
    /// Forbids, whatever permits.
    Forbid,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Effect::Permit => "permit",
            Effect::Forbid => "forbid",
        })
    }
}

/// So many different people of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// The group.
    pub group: String,
    /// How many, at least 1.
    pub at_least: usize,
}

/// What policies can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the entity type of its name")]
pub enum EntityKind {
    Tenant,
    Team,
    Agent,
    Tool,
    Function,
    Connection,
    Route,
}

impl EntityKind {
    const ALL: [EntityKind; 7] = [
        EntityKind::Tenant,
        EntityKind::Team,
        EntityKind::Agent,
        EntityKind::Tool,
        EntityKind::Function,
        EntityKind::Connection,
        EntityKind::Route,
    ];

    /// The name of the entity type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            EntityKind::Tenant => "Tenant",
            EntityKind::Team => "Team",
            EntityKind::Agent => "Agent",
            EntityKind::Tool => "Tool",
            EntityKind::Function => "Function",
            EntityKind::Connection => "Connection",
            EntityKind::Route => "Route",
        }
    }

    fn of(name: &str) -> Option<EntityKind> {
        EntityKind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// The policies of a home, ready to decide.
///
/// Shared by all calls: deciding takes `&self`, and a reload makes a new set.
#[derive(Debug)]
pub struct PolicySet {
    sources: Vec<(String, String)>,
    rules: Vec<Rule>,
    index: HashMap<String, usize>,
    mentions: Vec<Mention>,
    groups: Vec<String>,
    /// How many people each group has.
    sizes: BTreeMap<String, usize>,
    schema: String,
    digest: Digest,
    epoch: u64,
    slices: Slices,
    reads_requests: bool,
    /// The heads alone of permits that have a condition and a hint: who might have been permitted, and is told how.
    heads: Slices,
    vocabulary: Vocabulary,
    calls: Memo<Digest, Arc<Decision>>,
    entities: Memo<(Caller, Action, String), Arc<Entities>>,
}

impl PolicySet {
    /// Loads policy files, each a name to show and its text, for a home with these groups and numbers of members.
    ///
    /// # Errors
    /// Everything that is wrong, each with file, place and advice: what does not parse or validate, a missing or repeated `@id`,
    /// arithmetic, a use of approvals that is not `>=` a positive constant in a permit's `when` or a forbid's `unless`, a threshold
    /// above the number of the group's members (a group without members is one that nobody is enrolled in yet; it is let pass, and
    /// its thresholds are never reached), and a rule that can never apply.
    pub fn load(sources: &[(String, String)], groups: &BTreeMap<String, usize>) -> Result<PolicySet, Vec<Problem>> {
        let schema = schema::text(groups);
        let loaded = Loader::load(sources, groups, &schema)?;
        let internal = |error: &dyn fmt::Display| vec![Problem::without_source(error.to_string(), None)];
        let slices = Slices::new(&loaded.policies).map_err(|error| internal(&error))?;
        let heads: Vec<Policy> = loaded.policies.iter().filter_map(hinted_head).collect();
        let heads = Slices::new(&heads).map_err(|error| internal(&error))?;
        let vocabulary = Vocabulary::new().map_err(|error| internal(&error))?;
        let parts: Vec<&[u8]> = sources
            .iter()
            .flat_map(|(name, text)| [name.as_bytes(), text.as_bytes()])
            .chain([schema.as_bytes()])
            .collect();
        Ok(PolicySet {
            index: loaded
                .rules
                .iter()
                .enumerate()
                .map(|(index, rule)| (rule.id.clone(), index))
                .collect(),
            rules: loaded.rules,
            mentions: loaded.mentions,
            groups: groups.keys().cloned().collect(),
            sizes: groups.clone(),
            digest: Digest::domain("ambit/policy/v1", &parts),
            sources: sources.to_vec(),
            schema,
            epoch: 0,
            slices,
            reads_requests: loaded.policies.iter().any(reads_requests),
            heads,
            vocabulary,
            calls: Memo::default(),
            entities: Memo::default(),
        })
    }

    /// The same set with a number that counts its home's policy changes; decisions carry it.
    #[must_use]
    pub fn at_epoch(mut self, epoch: u64) -> PolicySet {
        self.epoch = epoch;
        self.calls = Memo::default();
        self
    }

    /// The same set, deciding each call afresh. For measuring.
    #[must_use]
    pub fn without_memo(mut self) -> PolicySet {
        self.calls = Memo::disabled();
        self
    }

    /// Names the files' names and texts, and the schema.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The rules in the order they were loaded.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether any rule looks at what is in a request: its fields, their values, what its path names. Where none does, an effect is
    /// decided on what the ledger's entries say of it alone. In doubt it does.
    #[must_use]
    pub fn reads_requests(&self) -> bool {
        self.reads_requests
    }

    /// The Cedar schema that the rules were validated with, for editors and reviewers.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Rules that name an entity nobody has, most likely a slip: such a permit never permits, and such a forbid never forbids.
    /// Only the kinds that `known` has are looked at. Function and route ids are `tool/function` and `connection/route`.
    #[must_use]
    pub fn unknown_names(&self, known: &BTreeMap<EntityKind, BTreeSet<String>>) -> Vec<Problem> {
        self.mentions
            .iter()
            .filter_map(|mention| {
                let names = known.get(&mention.kind).filter(|names| !names.contains(&mention.id))?;
                let rule = self.rules.get(mention.rule)?;
                let (file, text) = self.sources.iter().find(|(name, _)| *name == rule.file)?;
                let kind = mention.kind.as_str();
                let message = format!("rule `{}` names a {} that is not there", rule.id, kind.to_lowercase());
                let span = Some((mention.span.start, mention.span.len()).into());
                let nearest = names
                    .iter()
                    .max_by(|a, b| closeness(&mention.id, a).total_cmp(&closeness(&mention.id, b)));
                let help = match nearest {
                    Some(name) => format!("did you mean {kind}::\"{name}\"?"),
                    None => format!("no {} is configured", kind.to_lowercase()),
                };
                Some(Problem::in_file(file, text, span, message, "no such name", Some(help)))
            })
            .collect()
    }

    /// Whether the caller may call the function. Answered from memory when the same was asked of this set before.
    #[must_use]
    pub fn decide_call(&self, facts: &CallFacts<'_>) -> Arc<Decision> {
        let digest = facts.digest();
        self.calls.get_or(digest, || {
            let subject = Subject::Call {
                caller: facts.caller.clone(),
                tool: facts.tool.to_owned(),
                digest: facts.tool_digest,
                function: facts.function.to_owned(),
            };
            let question = Question {
                action: Action::Call,
                parent: facts.tool,
                name: facts.function,
                call: facts,
                effect: None,
            };
            Arc::new(self.decide(&question, subject, digest))
        })
    }

    /// Whether the effect may be sent.
    #[must_use]
    pub fn decide_effect(&self, facts: &EffectFacts<'_>) -> Decision {
        let subject = Subject::Effect {
            tier: facts.tier,
            route: format!("{}/{}", facts.connection, facts.route),
        };
        let action = Action::Effect(facts.tier);
        let question = Question {
            action,
            parent: facts.connection,
            name: facts.route,
            call: &facts.call,
            effect: Some(facts),
        };
        self.decide(&question, subject, facts.digest())
    }

    /// The smallest sets of approvals that would permit an effect which is denied with those it has; none where no approval would,
    /// or where policy cannot be evaluated. At most [`MOST_EVALUATIONS`] questions are asked, so where there are very many ways not
    /// all of them are found. They are what people are told, and promise nothing: with the real approvals all is decided anew.
    #[must_use]
    pub fn approvals_that_permit(&self, facts: &EffectFacts<'_>) -> Vec<Need> {
        let all = self.thresholds(facts);
        let permits = |approvals: &Need| {
            let supposed = EffectFacts { approvals, ..*facts };
            self.decide_effect(&supposed).allowed()
        };
        let most: Need = all
            .iter()
            .map(|(group, levels)| (group.clone(), levels.iter().copied().max().unwrap_or_default()))
            .collect();
        if most.is_empty() || !permits(&most) {
            return Vec::new();
        }
        let mut found: Vec<Need> = Vec::new();
        let mut left = MOST_EVALUATIONS - 1;
        for supposed in combinations(&all) {
            if found.iter().any(|need| covers(&supposed, need)) {
                continue;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            if permits(&supposed) {
                found.push(supposed);
            }
        }
        if found.is_empty() {
            found.push(most);
        }
        found
    }

    /// How many approvals of which groups the rules mention that can be about the effect.
    fn thresholds(&self, facts: &EffectFacts<'_>) -> BTreeMap<String, BTreeSet<u32>> {
        let id = format!("{}/{}", facts.connection, facts.route);
        let slice = self.slices.find(Action::Effect(facts.tier), facts.connection, &id);
        let rules = slice
            .into_iter()
            .flat_map(cedar_policy::PolicySet::policies)
            .filter_map(|policy| self.rules.get(*self.index.get(AsRef::<str>::as_ref(policy.id()))?));
        let mut all: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        // What more people are asked for than there are, nobody can wait for.
        let met = |threshold: &&Threshold| {
            self.sizes
                .get(&threshold.group)
                .is_some_and(|size| threshold.at_least <= *size)
        };
        for threshold in rules.flat_map(|rule| &rule.approvals).filter(met) {
            let level = u32::try_from(threshold.at_least).unwrap_or(u32::MAX);
            all.entry(threshold.group.clone()).or_default().insert(level);
        }
        all
    }

    fn decide(&self, question: &Question<'_>, subject: Subject, facts: Digest) -> Decision {
        let answer = self.answer(question).unwrap_or_else(|error| Answer {
            errors: vec![error],
            ..Answer::default()
        });
        let hint = match answer.rules.first() {
            Some(rule) => rule.hint().map(str::to_owned),
            None => joined(answer.near.iter().filter_map(|rule| rule.hint())),
        };
        Decision {
            allowed: answer.allowed,
            hint: hint.filter(|_| !answer.allowed),
            rules: answer.rules.iter().map(|rule| rule.id.clone()).collect(),
            errors: answer.errors,
            subject,
            policy: self.digest,
            facts,
            epoch: self.epoch,
        }
    }

    fn answer(&self, question: &Question<'_>) -> Result<Answer<'_>, String> {
        if question.parent.contains('/') {
            return Err(format!(
                "`{}` cannot be the name of a tool or connection",
                question.parent
            ));
        }
        let id = format!("{}/{}", question.parent, question.name);
        let slice = self
            .slices
            .find(question.action, question.parent, &id)
            .ok_or("no slice for this action")?;
        if slice.is_empty() {
            return Ok(Answer::default());
        }
        let context = facts::context(question.call, question.effect, &self.groups)?;
        let caller = question.call.caller;
        let entities = self.entities(caller, question, &id)?;
        let request = self.vocabulary.request(caller, question.action, &id, context)?;
        let answer = self.evaluate(slice, &request, &entities);
        if answer.allowed || !answer.rules.is_empty() || !answer.errors.is_empty() {
            return Ok(answer);
        }
        let heads = self.heads.find(question.action, question.parent, &id);
        let near = heads.map(|heads| self.evaluate(heads, &request, &entities).rules);
        Ok(Answer {
            near: near.unwrap_or_default(),
            ..answer
        })
    }

    fn evaluate(&self, slice: &cedar_policy::PolicySet, request: &Request, entities: &Entities) -> Answer<'_> {
        let response = Authorizer::new().is_authorized(request, slice, entities);
        let diagnostics = response.diagnostics();
        let erred: Vec<_> = diagnostics.errors().collect();
        // Cedar has skipped the policies that erred. Its answer stands only if there were none.
        let sound = guard!("policy.error", erred.is_empty());
        let deciding: Vec<&str> = if sound {
            diagnostics.reason().map(AsRef::as_ref).collect()
        } else {
            erred
                .iter()
                .map(|AuthorizationError::PolicyEvaluationError(error)| error.policy_id().as_ref())
                .collect()
        };
        let indices: BTreeSet<usize> = deciding
            .into_iter()
            .filter_map(|id| self.index.get(id).copied())
            .collect();
        Answer {
            allowed: sound && response.decision() == cedar_policy::Decision::Allow,
            rules: indices.into_iter().filter_map(|index| self.rules.get(index)).collect(),
            errors: erred.iter().map(ToString::to_string).collect(),
            near: Vec::new(),
        }
    }

    /// The caller and the resource with what they are in; rules ask `in`, and nothing else of entities.
    fn entities(&self, caller: &Caller, question: &Question<'_>, id: &str) -> Result<Arc<Entities>, String> {
        let key = (caller.clone(), question.action, id.to_owned());
        self.entities.get_or_try(key, || {
            let words = &self.vocabulary;
            let uid = |kind, id: &str| words.uid(kind, id);
            let groups = [
                uid(EntityKind::Team, caller.team())?,
                uid(EntityKind::Tenant, caller.tenant())?,
            ];
            let agent = Entity::new_no_attrs(uid(EntityKind::Agent, caller.agent())?, groups.into());
            let parent = uid(question.action.parent(), question.parent)?;
            let resource = Entity::new_no_attrs(uid(question.action.resource(), id)?, [parent].into());
            Entities::from_entities([agent, resource], None)
                .map(Arc::new)
                .map_err(|error| error.to_string())
        })
    }
}

/// Every choice of one level or none for each group, those that ask for fewer people first. So many at most that trying them has an
/// end: what is beyond is beyond the number of evaluations too.
fn combinations(all: &BTreeMap<String, BTreeSet<u32>>) -> Vec<Need> {
    const MOST: usize = 4096;
    let mut choices = vec![Need::new()];
    for (group, levels) in all {
        let with = |level: &u32, choice: &Need| {
            let mut choice = choice.clone();
            choice.insert(group.clone(), *level);
            choice
        };
        let more: Vec<Need> = levels
            .iter()
            .flat_map(|level| choices.iter().map(move |choice| with(level, choice)))
            .collect();
        choices.extend(more);
        choices.truncate(MOST);
    }
    choices.retain(|choice| !choice.is_empty());
    let people = |choice: &Need| choice.values().map(|level| u64::from(*level)).sum::<u64>();
    choices.sort_by(|a, b| (people(a), a).cmp(&(people(b), b)));
    choices
}

/// Whether what is supposed has all that a need asks for.
fn covers(supposed: &Need, need: &Need) -> bool {
    need.iter()
        .all(|(group, level)| supposed.get(group).is_some_and(|given| given >= level))
}

/// A permit that has a hint and a condition, without the condition.
fn hinted_head(policy: &Policy) -> Option<Policy> {
    let hinted = policy.effect() == cedar_policy::Effect::Permit && policy.annotation("hint").is_some();
    let mut json = policy.to_json().ok().filter(|_| hinted)?;
    let conditions = json.get_mut("conditions")?.as_array_mut()?;
    if conditions.is_empty() {
        return None;
    }
    conditions.clear();
    Policy::from_json(Some(policy.id().clone()), json).ok()
}

/// Whether a policy names one of the facts that are read from a request. Its syntax tree spells an attribute's name as a JSON string, however
/// the text escapes it; a string of that name elsewhere only looks like more than it is.
fn reads_requests(policy: &Policy) -> bool {
    let tree = policy.to_json().map(|tree| tree.to_string());
    tree.map_or(true, |tree| {
        ["\"fields\"", "\"values\"", "\"captures\""]
            .iter()
            .any(|name| tree.contains(name))
    })
}

/// Hints as one advice: no more than three, each once.
fn joined<'a>(hints: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut all: Vec<&str> = Vec::new();
    for hint in hints {
        if all.len() < 3 && !all.contains(&hint) {
            all.push(hint);
        }
    }
    (!all.is_empty()).then(|| all.join(" "))
}

fn closeness(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, b)
}

/// A question to the set: may this caller do this to `parent/name`?
struct Question<'a> {
    action: Action,
    parent: &'a str,
    name: &'a str,
    call: &'a CallFacts<'a>,
    effect: Option<&'a EffectFacts<'a>>,
}

/// What the evaluation of a slice came to. The default denies.
#[derive(Default)]
struct Answer<'a> {
    allowed: bool,
    rules: Vec<&'a Rule>,
    errors: Vec<String>,
    /// Where no rule decided: permits with a hint whose head matches, and whose condition does not hold.
    near: Vec<&'a Rule>,
}

/// Cedar's names for our words, parsed once.
#[derive(Debug)]
struct Vocabulary {
    kinds: BTreeMap<EntityKind, EntityTypeName>,
    actions: HashMap<Action, EntityUid>,
}

impl Vocabulary {
    fn new() -> Result<Vocabulary, Box<ParseErrors>> {
        let kinds = EntityKind::ALL
            .into_iter()
            .map(|kind| Ok((kind, EntityTypeName::from_str(kind.as_str()).map_err(Box::new)?)));
        let action = EntityTypeName::from_str("Action").map_err(Box::new)?;
        let uid = |name: Action| EntityUid::from_type_name_and_id(action.clone(), EntityId::new(name.as_str()));
        Ok(Vocabulary {
            kinds: kinds.collect::<Result<_, Box<ParseErrors>>>()?,
            actions: Action::ALL.into_iter().map(|name| (name, uid(name))).collect(),
        })
    }

    fn uid(&self, kind: EntityKind, id: &str) -> Result<EntityUid, String> {
        let kind = self
            .kinds
            .get(&kind)
            .ok_or_else(|| format!("no entity type {}", kind.as_str()))?;
        Ok(EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id)))
    }

    /// The facts are made here, in the schema's types, so the request is not validated again each time; a test does.
    fn request(
        &self,
        caller: &Caller,
        action: Action,
        id: &str,
        context: cedar_policy::Context,
    ) -> Result<Request, String> {
        let principal = self.uid(EntityKind::Agent, caller.agent())?;
        let resource = self.uid(action.resource(), id)?;
        let action = self.actions.get(&action).cloned().ok_or("no such action")?;
        Request::new(principal, action, resource, context, None).map_err(|error| error.to_string())
    }
}

/// An id for a rule that is proposed: `wanted`, as far as an id can be that, with a number where it is taken. It is taken then.
#[must_use]
pub fn proposed_id(wanted: &str, taken: &mut BTreeSet<String>) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
            c
        } else {
            '-'
        }
    };
    let wanted: String = wanted.chars().map(plain).take(56).collect();
    let mut id = wanted.clone();
    let mut number = 1;
    while !taken.insert(id.clone()) {
        number += 1;
        id = format!("{wanted}-{number}");
    }
    id
}

#[cfg(test)]
mod tests;
