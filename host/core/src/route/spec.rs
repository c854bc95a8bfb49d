//! A route as the operator writes it, and its check.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::condition::Condition;
use super::money::Money;
use super::object::{Object, ObjectSpec};
use super::undo::{Undo, UndoSpec};
use super::{Idempotency, Route, RouteTier};
use crate::credential::ScopeWord;
use crate::effect::{BodyKind, HeaderSet, Method, Methods, PathPattern};
use crate::error::printable;
use crate::field::{FieldPath, FieldSet};
use crate::flow::{BreakerSpec, RateSpec, Retries, RetrySpec};
use crate::guard;
use crate::scope::Tier;

/// `[connection.NAME.route.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// Methods, a space, and a path: `POST /v1/refunds`, `GET,HEAD /v1/refunds/{id}`.
    #[serde(rename = "match")]
    pub matches: String,
    /// What it does at most: `read` where all its methods are GET and HEAD, else `commit`, unless it says otherwise.
    pub tier: Option<TierSpec>,
    /// How the service reads a body; any other is refused. Needed where something is decided on a field of it.
    pub body: Option<BodySpec>,
    /// Fields that a body may have.
    #[serde(default)]
    pub fields: Vec<String>,
    /// Fields that a body must have; each is also one it may have.
    #[serde(default)]
    pub required: Vec<String>,
    /// Query parameters that may be sent.
    #[serde(default)]
    pub query: Vec<String>,
    /// Headers that a guest may set.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Members of an answer that may be read.
    #[serde(default)]
    pub reads: Vec<String>,
    /// How to read the money it moves.
    pub money: Option<MoneySpec>,
    /// How the service recognises a repeated request.
    pub idempotency: Option<IdempotencySpec>,
    /// How often it is used at most, beside what its connection says.
    pub rate: Option<RateSpec>,
    /// When it is left alone, by failures of its own, in place of what its connection says.
    pub breaker: Option<BreakerSpec>,
    /// What is sent again. Needs `idempotency`, unless it only reads.
    pub retries: Option<RetrySpec>,
    /// Whether what failed for good is kept in a list, for a person to retry or drop. Where it does not say, its connection does; where
    /// neither does, what changes something is kept, and what reads is not.
    pub dead_letter: Option<bool>,
    /// How to read what it changes, before and after.
    pub object: Option<ObjectSpec>,
    /// How old what was read through it may be when an effect that waited goes on: a number and `s`, `m`, `h` or `d`.
    pub fresh: Option<String>,
    /// How what it did is taken back, when an operator undoes a call.
    pub undo: Option<UndoSpec>,
    /// Scopes that the token of a request through it needs, where its connection has tokens asked for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// What its connection says of all its routes.
    #[serde(skip)]
    pub of_connection: OfAllRoutes,
}

/// What a connection says of its routes, where they say nothing themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfAllRoutes {
    /// What is sent again, through each route where that can be: it only reads, or its service knows a key again.
    pub retries: Option<Retries>,
    /// Whether what failed for good is kept in a list.
    pub dead_letter: Option<bool>,
}

/// A form of bodies.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodySpec {
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `application/json`.
    Json,
}

/// A tier, or one that depends on the body.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum TierSpec {
    /// Always this one.
    Fixed(Tier),
    /// `{ if = "draft == true", then = "draft", else = "commit" }`.
    Conditional(ConditionalTier),
}

/// A tier that depends on one field of the body.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionalTier {
    /// `FIELD == VALUE`, with a JSON scalar. A missing field is unequal to everything.
    #[serde(rename = "if")]
    pub condition: String,
    /// Where it holds.
    pub then: Tier,
    /// Where it does not.
    #[serde(rename = "else")]
    pub otherwise: Tier,
}

/// Where a request says what it spends.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoneySpec {
    /// The body's field that holds the amount, an integer in minor units.
    pub amount: String,
    /// How the currency is known.
    pub currency: CurrencySpec,
    /// The most that one effect may move, in minor units by currency. Where there is a cap, other currencies are refused.
    pub cap: Option<BTreeMap<String, u64>>,
}

/// How a currency is known: exactly one of the ways.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurrencySpec {
    /// It is always this one.
    pub constant: Option<String>,
    /// The body's field that holds it.
    pub field: Option<String>,
    /// The route that the host reads it through.
    pub lookup: Option<String>,
    /// With `lookup`: the body's field that names the object to read.
    pub from: Option<String>,
    /// With `lookup`: the member of the answer that holds it.
    pub read: Option<String>,
}

/// How the service recognises a repeated request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdempotencySpec {
    /// The header for the key.
    pub header: String,
    /// For how long it remembers: a number and `s`, `m`, `h` or `d`.
    pub lifetime: String,
}

impl RouteSpec {
    /// Makes a route of it, or says what is wrong in one sentence.
    pub(super) fn check(self, name: &str) -> Result<Route, String> {
        let (methods, pattern) = matches(&self.matches)?;
        let mut fields = field_set("fields", &self.fields)?;
        let required = self
            .required
            .iter()
            .map(|text| one_field("required", text))
            .collect::<Result<Vec<_>, _>>()?;
        if self.fields.is_empty() {
            required.iter().for_each(|field| fields.insert(field));
        }
        if let Some(field) = required.iter().find(|field| !fields.covers(field)) {
            return Err(format!("`required` has `{field}`, which `fields` does not allow"));
        }
        let body = self.body.map(BodySpec::kind);
        let object = self
            .object
            .map(|spec| Object::check(spec, methods, &pattern, &fields))
            .transpose()?;
        let decided = match (&self.money, &self.tier, &object) {
            (Some(_), ..) => Some("money"),
            (_, Some(TierSpec::Conditional(_)), _) => Some("tier"),
            (.., Some(object)) if object.is_in_body() => Some("object"),
            _ => None,
        };
        // A service that takes forms may read a JSON body as one without fields, and an amount that is missing as all of it.
        if let (Some(key), None) = (decided, body) {
            return Err(format!(
                "`{key}` depends on the body, so the route must say how its service reads one: `body = \"form\"` or `body = \"json\"`"
            ));
        }
        let money = self.money.map(|spec| Money::check(spec, &fields)).transpose()?;
        let headers = headers(&self.headers)?;
        let idempotency = self.idempotency.map(idempotency).transpose()?;
        if let Some(key) = &idempotency
            && !guard!("route.idempotency-header", !headers.contains(&key.header))
        {
            return Err(format!(
                "`headers` has `{}`, which is the host's for the idempotency key",
                key.header
            ));
        }
        let tier = tier(self.tier, methods, &fields)?;
        let only_reads = methods.iter().all(Method::is_safe) && matches!(tier, RouteTier::Fixed(Tier::Read));
        let own = self.retries.as_ref().map(RetrySpec::check).transpose()?;
        let can_repeat = idempotency.is_some() || only_reads;
        let retries = own.or(self.of_connection.retries.filter(|_| can_repeat));
        if !guard!("route.retries-key", own.is_none() || can_repeat) {
            return Err(
                "`retries` needs `idempotency`: without a key the service would do twice what was sent twice"
                    .to_owned(),
            );
        }
        let changes = !matches!(tier, RouteTier::Fixed(Tier::Read));
        if object.is_some() && !changes {
            return Err("`object` says how to read what the route changes, and its tier is `read`".to_owned());
        }
        if self.fresh.is_some() && changes {
            return Err("`fresh` is about what is read, and the route's tier is not `read`".to_owned());
        }
        let with_etag = object.as_ref().is_some_and(Object::if_match);
        let key_is_if_match = idempotency.as_ref().is_some_and(|key| key.header == IF_MATCH);
        if with_etag && !guard!("route.if-match-header", !headers.contains(IF_MATCH) && !key_is_if_match) {
            return Err(
                "`object.if_match` makes the header `if-match` the host's: no other key of the route can name it"
                    .to_owned(),
            );
        }
        Ok(Route {
            name: name.to_owned(),
            methods,
            pattern,
            tier,
            object,
            fresh_ms: self.fresh.as_deref().map(fresh_ms).transpose()?,
            rate: self.rate.as_ref().map(RateSpec::check).transpose()?,
            breaker: self.breaker.as_ref().map(BreakerSpec::check).transpose()?,
            retries,
            dead_letter: self.dead_letter.or(self.of_connection.dead_letter),
            undo: self.undo.map(Undo::from),
            scopes: scopes(&self.scopes)?,
            body,
            required,
            query: field_set("query", &self.query)?,
            headers,
            reads: field_set("reads", &self.reads)?,
            money,
            idempotency,
            fields,
        })
    }
}

impl BodySpec {
    const fn kind(self) -> BodyKind {
        match self {
            BodySpec::Form => BodyKind::Form,
            BodySpec::Json => BodyKind::Json,
        }
    }
}

fn matches(text: &str) -> Result<(Methods, PathPattern), String> {
    let help = "`match` takes methods, a space and a path, such as `POST /v1/refunds` or `GET,HEAD /v1/refunds/{id}`";
    let (methods, path) = text
        .split_once(' ')
        .ok_or_else(|| format!("`{text}` has no path: {help}"))?;
    let methods = methods.parse::<Methods>().map_err(|e| format!("{e}: {help}"))?;
    let pattern = path
        .trim()
        .parse::<PathPattern>()
        .map_err(|e| format!("`{path}` is no path: {e}"))?;
    // Policy reads captures by name: of two with one name it would see one.
    let mut names = BTreeSet::new();
    if let Some(twice) = pattern.names().find(|name| !names.insert(*name))
        && !guard!("route.capture-names", false)
    {
        return Err(format!("`{path}` has `{{{twice}}}` twice"));
    }
    Ok((methods, pattern))
}

fn tier(spec: Option<TierSpec>, methods: Methods, fields: &FieldSet) -> Result<RouteTier, String> {
    match spec {
        None if methods.iter().all(Method::is_safe) => Ok(RouteTier::Fixed(Tier::Read)),
        None => Ok(RouteTier::Fixed(Tier::Commit)),
        Some(TierSpec::Fixed(tier)) => Ok(RouteTier::Fixed(tier)),
        Some(TierSpec::Conditional(ConditionalTier {
            condition,
            then,
            otherwise,
        })) => {
            let condition = Condition::parse(&condition)?;
            if !fields.covers(condition.field()) {
                return Err(format!(
                    "`tier` depends on `{}`, which `fields` does not allow",
                    condition.field()
                ));
            }
            Ok(RouteTier::If {
                condition,
                then,
                otherwise,
            })
        }
    }
}

fn field_set(key: &str, texts: &[String]) -> Result<FieldSet, String> {
    let mut set = FieldSet::new();
    for text in texts {
        set.insert(&field(key, text)?);
    }
    Ok(set)
}

fn field(key: &str, text: &str) -> Result<FieldPath, String> {
    text.parse()
        .map_err(|e| format!("`{key}` has `{text}`, which is no field: {e}"))
}

/// A field that stands for one scalar, never for a list's elements or a subtree.
pub(super) fn one_field(key: &str, text: &str) -> Result<FieldPath, String> {
    let path = field(key, text)?;
    if path.is_single() {
        Ok(path)
    } else {
        Err(format!("`{key}` has `{text}`, which is not one field"))
    }
}

fn headers(texts: &[String]) -> Result<HeaderSet, String> {
    let mut set = HeaderSet::new();
    for text in texts {
        set.insert(text).map_err(|e| format!("`headers`: {e}"))?;
    }
    Ok(set)
}

fn scopes(texts: &[String]) -> Result<BTreeSet<ScopeWord>, String> {
    let scope = |text: &String| {
        let parsed = text.parse::<ScopeWord>();
        parsed.map_err(|why| format!("`scopes` has `{}`: {why}", printable(text)))
    };
    texts.iter().map(scope).collect()
}

/// The key's header is the host's own: no guest may set it.
fn idempotency(spec: IdempotencySpec) -> Result<Idempotency, String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if spec.header.is_empty() || !spec.header.bytes().all(token) {
        return Err(format!(
            "`idempotency.header` is `{}`, which is no header's name",
            spec.header
        ));
    }
    Ok(Idempotency {
        header: spec.header.to_ascii_lowercase(),
        lifetime_s: duration(&spec.lifetime)?,
    })
}

/// The header that says which version of an object a request is about.
pub(crate) const IF_MATCH: &str = "if-match";

fn fresh_ms(text: &str) -> Result<u64, String> {
    let seconds = duration(text).map_err(|why| format!("`fresh`: {why}"))?;
    Ok(seconds.saturating_mul(1_000))
}

/// A number and a unit as operators write it, such as `24h`, in seconds: at least one.
///
/// # Errors
/// What a duration is.
pub fn duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no duration: write a number and `s`, `m`, `h` or `d`, such as `24h`");
    let unit = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3_600,
        Some(b'd') => 86_400,
        _ => return Err(wrong()),
    };
    let number = text
        .get(..text.len() - 1)
        .and_then(|number| number.parse::<u64>().ok())
        .ok_or_else(wrong)?;
    number
        .checked_mul(unit)
        .filter(|seconds| *seconds > 0)
        .ok_or_else(wrong)
}
