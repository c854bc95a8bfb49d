//! The facts a decision is made on, and their form for Cedar.
//!
//! Every fact is computed by the host from what will be sent, or is the operator's configuration. None is a word of the tool's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cedar_policy::{Context, RestrictedExpression};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::effect::HttpRequest;
use crate::field::{ConcretePath, ConcreteStep, leaves};
use crate::identity::Caller;
use crate::json::Json;
use crate::money::Spend;
use crate::scope::Tier;

/// What a run may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Prepares, and commits nothing that no person has approved.
    Suggest,
    /// Does what policy permits.
    #[default]
    Execute,
    /// Decides everything and sends nothing.
    DryRun,
}

impl Mode {
    /// The word for it in policies, configuration and ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Suggest => "suggest",
            Mode::Execute => "execute",
            Mode::DryRun => "dry-run",
        }
    }

    /// Whether what is done in this mode is no more than the other allows: it is the other, or a stricter one.
    #[must_use]
    pub const fn is_within(self, other: Mode) -> bool {
        const fn strictness(mode: Mode) -> u8 {
            match mode {
                Mode::Execute => 0,
                Mode::Suggest => 1,
                Mode::DryRun => 2,
            }
        }
        strictness(self) >= strictness(other)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known when an agent asks for a function. The same facts give the same decision as long as the policy set is the same.
#[derive(Clone, Copy, Debug)]
pub struct CallFacts<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// The run the call belongs to.
    pub run: Option<&'a str>,
    /// The run's mode.
    pub mode: Mode,
    /// The tool's name in the configuration.
    pub tool: &'a str,
    /// The digest of the tool's component.
    pub tool_digest: Digest,
    /// The function's id, `interface.function`.
    pub function: &'a str,
}

/// What is known of one effect before it is sent.
#[derive(Clone, Copy, Debug)]
pub struct EffectFacts<'a> {
    /// The call that asks for it.
    pub call: CallFacts<'a>,
    /// The connection's name.
    pub connection: &'a str,
    /// The route's name within its connection.
    pub route: &'a str,
    /// The matched route's tier: the action that policy decides on.
    pub tier: Tier,
    /// The request's fields.
    pub fields: &'a FieldFacts,
    /// What the route's path captured, decoded.
    pub captures: &'a BTreeMap<String, String>,
    /// Whom a message goes to.
    pub recipients: &'a [String],
    /// Names of the budgets that had no room for it.
    pub exhausted: &'a [String],
    /// Money it moves.
    pub spend: Spend,
    /// People who approved it, by group. Groups that are not configured count for nothing.
    pub approvals: &'a BTreeMap<String, u32>,
}

/// A request's fields as policies see them: `context.fields` and `context.values`.
///
/// Cedar has no loops and no dynamic keys, so a body of any shape is shown as two sets of strings. `fields` has the name
/// of every scalar of the body and of every parameter of the query (no name is in both), spelled as in scopes with `[]`
/// for any element of a list: `items[].sku`. `values` has `name=value` for each, the value as plain text. A name with
/// an `=` in it is quoted, so the name ends at the first `=` outside quotes. A number and the string of the same digits
/// look alike, as they do in a form. Of an empty list or object there is the name, and no value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldFacts {
    names: BTreeSet<String>,
    values: BTreeSet<String>,
}

impl FieldFacts {
    /// The facts of a request, as the host read it back from what it will send.
    #[must_use]
    pub fn of(request: &HttpRequest) -> FieldFacts {
        FieldFacts::read([request.fields(), request.parameters()])
    }

    pub(super) fn read<'a>(roots: impl IntoIterator<Item = &'a Json>) -> FieldFacts {
        let mut facts = FieldFacts::default();
        for (path, value) in roots.into_iter().flat_map(leaves) {
            let any_element = path.0.into_iter().map(|step| match step {
                ConcreteStep::Index(_) => ConcreteStep::None,
                step => step,
            });
            let name = ConcretePath(any_element.collect()).to_string();
            match value {
                Json::Null => facts.insert_value(&name, "null"),
                Json::Bool(value) => facts.insert_value(&name, if *value { "true" } else { "false" }),
                Json::Number(number) => facts.insert_value(&name, &number.to_string()),
                Json::String(text) => facts.insert_value(&name, text),
                Json::Array(_) | Json::Object(_) => {}
            }
            facts.names.insert(name);
        }
        facts
    }

    fn insert_value(&mut self, name: &str, value: &str) {
        self.values.insert(pair(name, value));
    }
}

fn pair(name: &str, value: &str) -> String {
    format!("{name}={value}")
}

impl CallFacts<'_> {
    /// Names these facts: the same digest, the same decision.
    pub(super) fn digest(&self) -> Digest {
        let mut parts = Parts::default();
        self.write(&mut parts);
        Digest::domain("ambit/facts/call/v1", &[&parts.0])
    }

    fn write(&self, parts: &mut Parts) {
        parts
            .text(self.caller.tenant())
            .text(self.caller.team())
            .text(self.caller.agent());
        parts.texts(self.caller.user()).texts(self.run);
        parts.text(self.mode.as_str()).text(self.tool).text(self.function);
        parts.bytes(self.tool_digest.as_bytes());
    }
}

impl EffectFacts<'_> {
    /// Names these facts: the same digest, the same decision of the same set.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut parts = Parts::default();
        self.call.write(&mut parts);
        parts.text(self.connection).text(self.route).text(self.tier.as_str());
        parts.texts(&self.fields.names).texts(&self.fields.values);
        parts.texts(self.captures.keys()).texts(self.captures.values());
        parts.texts(self.recipients).texts(self.exhausted);
        let (kind, currency, minor) = spend_parts(&self.spend);
        parts.text(kind).text(currency).bytes(&minor.to_be_bytes());
        for (group, given) in self.approvals {
            parts.text(group).bytes(&given.to_be_bytes());
        }
        Digest::domain("ambit/facts/effect/v1", &[&parts.0])
    }
}

/// Facts as bytes: every part behind its length, every list behind its number of parts.
#[derive(Default)]
struct Parts(Vec<u8>);

impl Parts {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn texts<T: AsRef<str>>(&mut self, texts: impl IntoIterator<Item = T>) -> &mut Self {
        let mut list = Parts::default();
        let mut count = 0_u64;
        for text in texts {
            list.text(text.as_ref());
            count += 1;
        }
        self.0.extend_from_slice(&count.to_be_bytes());
        self.0.extend_from_slice(&list.0);
        self
    }
}

fn spend_parts(spend: &Spend) -> (&'static str, &str, i64) {
    match spend {
        Spend::None => ("none", "", 0),
        Spend::Known { currency, minor } => ("known", currency.as_str(), *minor),
    }
}

/// Cedar's context for a call, or for an effect of it. Every fact of the schema is there; `groups` are the schema's.
pub(super) fn context(
    call: &CallFacts<'_>,
    effect: Option<&EffectFacts<'_>>,
    groups: &[String],
) -> Result<Context, String> {
    let given = |group: &String| i64::from(effect.and_then(|e| e.approvals.get(group)).copied().unwrap_or(0));
    let approvals = record(
        groups
            .iter()
            .map(|group| (group.as_str(), RestrictedExpression::new_long(given(group)))),
    )?;
    let (kind, currency, minor) = spend_parts(effect.map_or(&Spend::None, |e| &e.spend));
    let spend = record([
        ("kind", text(kind)),
        ("currency", text(currency)),
        ("minor", RestrictedExpression::new_long(minor)),
    ])?;

    let mut facts = vec![
        ("mode", text(call.mode.as_str())),
        ("tool", text(call.tool)),
        ("function", text(call.function)),
        ("fields", set(effect.iter().flat_map(|e| &e.fields.names))),
        ("values", set(effect.iter().flat_map(|e| &e.fields.values))),
        (
            "captures",
            set(effect
                .iter()
                .flat_map(|e| e.captures)
                .map(|(name, value)| pair(name, value))),
        ),
        ("recipients", set(effect.iter().flat_map(|e| e.recipients))),
        ("exhausted", set(effect.iter().flat_map(|e| e.exhausted))),
        ("spend", spend),
        ("approvals", approvals),
    ];
    facts.extend(call.caller.user().map(|user| ("user", text(user))));
    facts.extend(call.run.map(|run| ("run", text(run))));
    Context::from_pairs(facts.into_iter().map(|(name, value)| (name.to_owned(), value)))
        .map_err(|error| error.to_string())
}

fn text(text: impl Into<String>) -> RestrictedExpression {
    RestrictedExpression::new_string(text.into())
}

fn set(texts: impl Iterator<Item: Into<String> + Clone>) -> RestrictedExpression {
    RestrictedExpression::new_set(texts.map(text))
}

fn record<'a>(
    members: impl IntoIterator<Item = (&'a str, RestrictedExpression)>,
) -> Result<RestrictedExpression, String> {
    let members = members.into_iter().map(|(name, value)| (name.to_owned(), value));
    RestrictedExpression::new_record(members).map_err(|error| error.to_string())
}
