//! Routes: what of a service an operator lets be used, and the nouns that policy speaks of.
//!
//! A [`Connection`] has a table of routes. A request matches one of them, the most specific, or it does not leave; two
//! that could both be the most specific fail the load. What a route says of fields, query and headers is checked here; the
//! tool's own declaration is checked before, by [`scope`](crate::scope), and never decides what a route is called.
//!
//! ```toml
//! [connection.stripe.route."refunds.create"]
//! match = "POST /v1/refunds"          # method or methods, and a path as in scopes
//! tier = "commit"                     # or { if = "draft == true", then = "draft", else = "commit" }
//! body = "form"                       # or "json": how the service reads a body; needed for `money` and a tier with `if`
//! fields = ["charge", "amount"]       # of the body; absent lists mean none
//! required = ["charge", "amount"]
//! query = ["expand"]
//! headers = ["prefer"]
//! reads = ["id", "status"]
//! money = { amount = "amount", currency = { constant = "usd" }, cap = { usd = 50000 } }
//! idempotency = { header = "Idempotency-Key", lifetime = "24h" }
//! rate = { per = "minute", most = 60 }
//! breaker = { failures = 5, within = "60s", open = "30s" }
//! retries = { most = 3, backoff = "200ms" }
//! dead_letter = false                 # what changes something and fails for good is kept for a person, unless this says no
//! scopes = ["refunds:write"]          # of its token, where the connection has tokens asked for
//! undo = { route = "refunds.cancel" } # or "write-back": how what it did is taken back
//! object = { read = "refunds.get", answer = "id" }    # how to read what it changes; `id` names what is there before
//!
//! [connection.stripe.route."refunds.get"]
//! match = "GET /v1/refunds/{id}"
//! reads = ["id", "amount", "reason"]
//! fresh = "10m"                       # how old what it read may be when an effect that waited goes on
//! ```

mod condition;
mod money;
mod object;
mod spec;
mod undo;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::credential::ScopeWord;
use crate::effect::{
    BodyKind, GuestBody, GuestRequest, HeaderSet, HttpRequest, Method, Methods, Origin, PathPattern, WireLimits,
    is_free,
};
use crate::error::{Code, Refusal, printable};
use crate::field::{FieldPath, FieldSet};
use crate::flow::{BreakerRule, Rate, Retries};
use crate::guard;
use crate::money::{Currency, Spend};
use crate::scope::{HttpRule, Tier};

use condition::Condition;
pub use money::Lookup;
use money::Money;
pub use object::{Object, ObjectQuestion, ObjectSpec};
pub use spec::{
    BodySpec, ConditionalTier, CurrencySpec, IdempotencySpec, MoneySpec, OfAllRoutes, RouteSpec, TierSpec, duration,
};
pub use undo::{Undo, UndoRoute, UndoSpec, UndoWord};

/// An operator's way to one service, as far as decisions need it. The rest of it (address, credential) is the gate's.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    name: String,
    origin: Origin,
    /// The more specific of two that can match the same request comes first.
    routes: Vec<Route>,
}

/// One thing that can be done with a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    name: String,
    methods: Methods,
    pattern: PathPattern,
    tier: RouteTier,
    body: Option<BodyKind>,
    fields: FieldSet,
    required: Vec<FieldPath>,
    query: FieldSet,
    headers: HeaderSet,
    reads: FieldSet,
    money: Option<Money>,
    idempotency: Option<Idempotency>,
    rate: Option<Rate>,
    breaker: Option<BreakerRule>,
    retries: Option<Retries>,
    dead_letter: Option<bool>,
    object: Option<Object>,
    fresh_ms: Option<u64>,
    undo: Option<Undo>,
    scopes: BTreeSet<ScopeWord>,
}

/// How the service recognises a request that it has seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The header that the key goes in, in lower case.
    pub header: String,
    /// For how long the service remembers a key, in seconds.
    pub lifetime_s: u64,
}

impl Idempotency {
    /// Until when the service knows what it was first sent at `first_ms`; both in milliseconds since 1970.
    #[must_use]
    pub const fn known_until_ms(&self, first_ms: u64) -> u64 {
        first_ms.saturating_add(self.lifetime_s.saturating_mul(1_000))
    }

    /// Whether it does at a time, in milliseconds since 1970.
    #[must_use]
    pub const fn knows(&self, first_ms: u64, at_ms: u64) -> bool {
        at_ms < self.known_until_ms(first_ms)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum RouteTier {
    Fixed(Tier),
    If {
        condition: Condition,
        then: Tier,
        otherwise: Tier,
    },
}

/// Why a table of routes is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RouteError {
    /// The routes that it is about: one, or the two that tie.
    pub names: Vec<String>,
    /// What is wrong, and the way out.
    pub message: String,
}

/// A request and the route that it takes.
#[derive(Clone, Debug)]
pub struct Matched<'c> {
    /// The most specific route that matches.
    pub route: &'c Route,
    /// What the effect does at most: the route's tier for this request.
    pub tier: Tier,
    /// The path's segments by the names that the route's pattern gives them, decoded.
    pub captures: BTreeMap<String, String>,
}

impl Connection {
    /// Checks a table of routes.
    ///
    /// # Errors
    /// The first route that cannot be understood, or two that tie: each names the routes it is about.
    pub fn new(name: &str, origin: Origin, specs: BTreeMap<String, RouteSpec>) -> Result<Connection, RouteError> {
        let mut routes = specs
            .into_iter()
            .map(|(name, spec)| {
                Route::new(&name, spec).map_err(|message| RouteError {
                    names: vec![name],
                    message,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        routes.sort_by(Route::by_specificity);
        no_ties(&routes)?;
        let connection = Connection {
            name: name.to_owned(),
            origin,
            routes,
        };
        connection.check_lookups()?;
        connection.check_objects()?;
        connection.check_undos()?;
        Ok(connection)
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whom its requests are for.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its routes, the more specific first.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// A route by its name.
    #[must_use]
    pub fn route(&self, name: &str) -> Option<&Route> {
        self.routes.iter().find(|route| route.name == name)
    }

    /// The route that `request` takes, with everything that the route says of requests checked.
    ///
    /// # Errors
    /// [`Code::Route`] where none matches; [`Code::Field`], [`Code::Query`], [`Code::Header`] where the one that matches
    /// does not allow a part of the request, or a required field is missing.
    pub fn find<'c>(&'c self, request: &HttpRequest) -> Result<Matched<'c>, Refusal> {
        let matches =
            |route: &&Route| route.methods.contains(request.method()) && route.pattern.matches(request.segments());
        let Some(route) = self.routes.iter().find(matches) else {
            return Err(self.no_route(request));
        };
        route.check(request).map_err(|refusal| Refusal {
            message: format!("route `{}/{}`: {}", self.name, route.name, refusal.message),
            ..refusal
        })?;
        Ok(Matched {
            route,
            tier: route.tier(request),
            captures: route.pattern.captures(request.segments()),
        })
    }

    fn no_route(&self, request: &HttpRequest) -> Refusal {
        let path = printable(request.path_and_query());
        Refusal::new(
            Code::Route,
            format!(
                "connection `{}` has no route for {} {path}",
                self.name,
                request.method()
            ),
        )
        .advise("the operator adds routes to the connection in ambit.toml")
    }

    /// A look-up goes through a route of the same connection that reads one object.
    fn check_lookups(&self) -> Result<(), RouteError> {
        for route in &self.routes {
            let Some(lookup) = route.money.as_ref().and_then(Money::lookup_route) else {
                continue;
            };
            let usable = self.route(lookup).is_some_and(Route::reads_one_object);
            if !usable {
                let message = format!(
                    "route `{}` looks its currency up through `{lookup}`, which is no GET route of this connection with exactly one `{{name}}` in its path",
                    route.name
                );
                return Err(RouteError {
                    names: vec![route.name.clone()],
                    message,
                });
            }
        }
        Ok(())
    }
}

impl Route {
    fn new(name: &str, spec: RouteSpec) -> Result<Route, String> {
        spec.check(name)
    }

    /// Its name within its connection.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it matches, as the configuration writes it: methods and path.
    #[must_use]
    pub fn shape(&self) -> String {
        format!("{} {}", self.methods, self.pattern)
    }

    /// Fields of a body that may be sent.
    #[must_use]
    pub const fn fields(&self) -> &FieldSet {
        &self.fields
    }

    /// Members of an answer that may be read.
    #[must_use]
    pub const fn reads(&self) -> &FieldSet {
        &self.reads
    }

    /// Headers that a guest may set, in lower case.
    #[must_use]
    pub const fn headers(&self) -> &HeaderSet {
        &self.headers
    }

    /// Query parameters that a guest may set.
    #[must_use]
    pub const fn query(&self) -> &FieldSet {
        &self.query
    }

    /// How the service recognises a repeated request.
    #[must_use]
    pub const fn idempotency(&self) -> Option<&Idempotency> {
        self.idempotency.as_ref()
    }

    /// How often it is used at most.
    #[must_use]
    pub const fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// When it is left alone, where it says so itself.
    #[must_use]
    pub const fn breaker(&self) -> Option<BreakerRule> {
        self.breaker
    }

    /// What is sent again.
    #[must_use]
    pub const fn retries(&self) -> Option<Retries> {
        self.retries
    }

    /// Whether an effect of that tier that failed for good is kept for a person to retry or drop. Unless it is configured, a read is not:
    /// whoever still wants the answer asks again.
    #[must_use]
    pub fn dead_letter(&self, tier: Tier) -> bool {
        self.dead_letter.unwrap_or(tier != Tier::Read)
    }

    /// How to read what it changes.
    #[must_use]
    pub const fn object(&self) -> Option<&Object> {
        self.object.as_ref()
    }

    /// The scopes that the token of a request through it needs.
    #[must_use]
    pub const fn scopes(&self) -> &BTreeSet<ScopeWord> {
        &self.scopes
    }

    /// How old what was read through it may be when an effect that waited goes on, in milliseconds.
    #[must_use]
    pub const fn fresh_ms(&self) -> Option<u64> {
        self.fresh_ms
    }

    /// The request that reads one object through it; none where the name cannot stand in its path.
    fn one_object(&self, connection: &Connection, object: &str) -> Option<HttpRequest> {
        let words = GuestRequest {
            method: Method::Get,
            path: self.pattern.fill(&[object])?,
            query: Vec::new(),
            headers: Vec::new(),
            body: GuestBody::None,
        };
        HttpRequest::parse(connection.origin(), &words, &WireLimits::default()).ok()
    }

    /// Whether it moves money.
    #[must_use]
    pub const fn moves_money(&self) -> bool {
        self.money.is_some()
    }

    /// The segments of the request's path by the names that its pattern gives them, decoded; none where the path is not one of its own.
    #[must_use]
    pub fn captures(&self, request: &HttpRequest) -> Option<BTreeMap<String, String>> {
        let matches = self.pattern.matches(request.segments());
        matches.then(|| self.pattern.captures(request.segments()))
    }

    /// The currencies that its own description names: the one that it always is, and those that it has caps for.
    pub fn currencies(&self) -> impl Iterator<Item = Currency> {
        self.money.iter().flat_map(Money::named)
    }

    /// What the host must ask the service before the money of `request` is known: its currency, where only the service
    /// knows it.
    ///
    /// # Errors
    /// [`Code::Money`] where the request does not say what to ask for.
    pub fn lookup(&self, request: &HttpRequest) -> Result<Option<Lookup>, Refusal> {
        self.money.as_ref().map_or(Ok(None), |money| money.lookup(request))
    }

    /// What `request` spends: nothing on a route without money, else exactly one amount in one currency, within the
    /// route's cap. `looked_up` is the currency that [`lookup`](Self::lookup) asked for.
    ///
    /// # Errors
    /// [`Code::Money`] where amount or currency cannot be told, or the amount passes the cap.
    pub fn spend(&self, request: &HttpRequest, looked_up: Option<&str>) -> Result<Spend, Refusal> {
        self.money
            .as_ref()
            .map_or(Ok(Spend::None), |money| money.spend(request, looked_up))
    }

    /// Whether a rule of a scope and this route, at `origin`, can be about the same request.
    #[must_use]
    pub fn overlaps(&self, origin: &Origin, rule: &HttpRule) -> bool {
        rule.origin() == origin
            && !self.methods.intersect(rule.methods()).is_empty()
            && self.pattern.intersect(rule.path()).is_some()
    }

    /// The tiers that requests through it can have, the lower first.
    #[must_use]
    pub fn tiers(&self) -> Vec<Tier> {
        let mut tiers = match &self.tier {
            RouteTier::Fixed(tier) => vec![*tier],
            RouteTier::If { then, otherwise, .. } => vec![*then, *otherwise],
        };
        tiers.sort();
        tiers.dedup();
        tiers
    }

    fn tier(&self, request: &HttpRequest) -> Tier {
        match &self.tier {
            RouteTier::Fixed(tier) => *tier,
            RouteTier::If {
                condition,
                then,
                otherwise,
            } => {
                if condition.holds(request) {
                    *then
                } else {
                    *otherwise
                }
            }
        }
    }

    fn check(&self, request: &HttpRequest) -> Result<(), Refusal> {
        if let (Some(read), Some(sent)) = (self.body, request.body_kind())
            && !guard!("route.body", sent == read)
        {
            let message = format!(
                "the body is {}, and the service reads {}",
                sent.media_type(),
                read.media_type()
            );
            return Err(Refusal::new(Code::Body, message));
        }
        if let Some(field) = self.fields.uncovered(request.fields())
            && !guard!("route.fields", false)
        {
            let message = format!("the field `{}` may not be sent", printable(&field.to_string()));
            return Err(Refusal::new(Code::Field, message).advise(format!("its fields: {}", self.fields)));
        }
        for required in &self.required {
            let given = required.select(request.fields()).iter().any(|value| !value.is_null());
            if !guard!("route.required", given) {
                return Err(Refusal::new(Code::Field, format!("the field `{required}` is missing")));
            }
        }
        if let Some(parameter) = self.query.uncovered(request.parameters())
            && !guard!("route.query", false)
        {
            let message = format!(
                "the query parameter `{}` may not be sent",
                printable(&parameter.to_string())
            );
            return Err(Refusal::new(Code::Query, message).advise(format!("its query: {}", self.query)));
        }
        for (name, value) in request.headers() {
            if !guard!("route.headers", is_free(name, value) || self.headers.contains(name)) {
                let message = format!("the header `{}` may not be set", printable(name));
                return Err(Refusal::new(Code::Header, message));
            }
        }
        Ok(())
    }

    fn reads_one_object(&self) -> bool {
        self.methods.contains(Method::Get) && self.pattern.names().count() == 1 && !self.pattern.has_rest()
    }

    /// Of two routes that match the same path the more specific comes first. Names only make the order one of its own.
    fn by_specificity(one: &Route, other: &Route) -> Ordering {
        one.pattern
            .specificity(&other.pattern)
            .then_with(|| one.name.cmp(&other.name))
    }

    /// Whether some request takes both and neither is more specific.
    fn ties(&self, other: &Route) -> bool {
        !self.methods.intersect(other.methods).is_empty()
            && self.pattern.intersect(&other.pattern).is_some()
            && self.pattern.specificity(&other.pattern) == Ordering::Equal
    }
}

fn no_ties(routes: &[Route]) -> Result<(), RouteError> {
    for (index, one) in routes.iter().enumerate() {
        if let Some(other) = routes.iter().skip(index + 1).find(|other| one.ties(other))
            && !guard!("route.tie", false)
        {
            let message = format!(
                "routes `{}` and `{}` match the same requests and neither is more specific; leave one out, or give them different methods or paths",
                one.name, other.name
            );
            return Err(RouteError {
                names: vec![other.name.clone(), one.name.clone()],
                message,
            });
        }
    }
    Ok(())
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        write!(f, "{} {}", methods.join(","), self.pattern)
    }
}

#[cfg(test)]
mod tests;
