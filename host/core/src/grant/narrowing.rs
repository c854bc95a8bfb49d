//! What a caller gives up for one call.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::effect::HttpRequest;
use crate::error::{Code, Refusal};
use crate::guard;
use crate::money::{Budget, Currency, Match, Spend, Unit, Window};
use crate::scope::{HttpRule, HttpScope, Tier};

/// How the names of budgets begin that come with a token. No configured budget can have such a name.
const OF_TOKEN: &str = "token/";

/// What a caller gives up for one call. Each part only takes away; the default takes nothing.
///
/// A caller that hands an untrusted text to a tool may know that this call has no business with, say, anything but reads.
///
/// It is recorded with the call, as JSON: when the call goes on later, it goes on without what was given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Narrowing {
    /// Only these connections, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<BTreeSet<String>>,
    /// Only these functions, as `tool/function`, or `tool/*` for all of a tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub functions: Option<BTreeSet<String>>,
    /// Effects up to this tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tier: Option<Tier>,
    /// No more money than each of these says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub money: Vec<MoneyCap>,
    /// For an import's label: only requests that this covers too, and of the answers only what it lets read too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scopes: BTreeMap<String, HttpScope>,
}

/// How much money goes with what a token was narrowed to: of all calls together that are made with that token, or with one that came of
/// it, within their run. It is counted as a budget is, in the transaction of each intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoneyCap {
    /// The most of each currency, in minor units. Of a currency that is not here, none.
    pub most: BTreeMap<Currency, u64>,
    /// What it is counted under: the digest of the revocation id of the token's block that says it.
    pub token: Digest,
}

impl MoneyCap {
    /// The budgets that it is, one for each currency. They count in the run's window, so that they end with it.
    #[must_use]
    pub fn budgets(&self) -> Vec<Budget> {
        let of = |(currency, cap): (&Currency, &u64)| Budget {
            warn: None,
            name: token_budget(&self.token, *currency),
            covers: Match::default(),
            unit: Unit::Money(*currency),
            window: Window::Run,
            cap: *cap,
            over: None,
        };
        self.most.iter().map(of).collect()
    }
}

/// The name of the budget that a token's money of a currency is, by the digest of the revocation id of the block that says so.
#[must_use]
pub fn token_budget(token: &Digest, currency: Currency) -> String {
    format!("{OF_TOKEN}{}/{currency}", token.to_hex())
}

/// Whether a budget of this name came with a token.
#[must_use]
pub fn is_of_token(budget: &str) -> bool {
    budget.starts_with(OF_TOKEN)
}

impl Narrowing {
    /// What both leave. Never more than either: a key's scope and what its holder gives up for a call are put together so.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut scopes = self.scopes.clone();
        for (label, scope) in &other.scopes {
            let both = match scopes.get(label) {
                Some(own) => own.intersect(scope),
                None => scope.clone(),
            };
            scopes.insert(label.clone(), both);
        }
        let mut money = self.money.clone();
        money.extend(other.money.iter().filter(|cap| !self.money.contains(cap)).cloned());
        Self {
            connections: both(self.connections.as_ref(), other.connections.as_ref(), |one, all| {
                all.contains(one)
            }),
            functions: both(self.functions.as_ref(), other.functions.as_ref(), names_function),
            max_tier: self.max_tier.into_iter().chain(other.max_tier).min(),
            scopes,
            money,
        }
    }

    /// Whether this function of this tool may be called. What it then does is looked at effect by effect.
    #[must_use]
    pub fn keeps_function(&self, tool: &str, function: &str) -> bool {
        let id = format!("{tool}/{function}");
        self.functions
            .as_ref()
            .is_none_or(|functions| names_function(&id, functions))
    }

    /// Whether a call of a function of this tier that was narrowed to this could reach nothing that `other` leaves out: so that whoever
    /// is narrowed to `other` may be told what came of it. Which functions either keeps is not looked at, as a call is of one.
    #[must_use]
    pub fn reaches_within(&self, tier: Tier, other: &Self) -> bool {
        let connections = match (&self.connections, &other.connections) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(kept)) => own.is_subset(kept),
        };
        let most = self.max_tier.map_or(tier, |most| most.min(tier));
        let scoped = |(label, scope): (&String, &HttpScope)| {
            let own = self.scopes.get(label);
            own.is_some_and(|own| own == scope || own.intersect(scope) == *own)
        };
        let counted = other.money.iter().all(|cap| self.money.contains(cap));
        connections && counted && other.max_tier.is_none_or(|kept| most <= kept) && other.scopes.iter().all(scoped)
    }

    /// The budgets that come with it.
    #[must_use]
    pub fn budgets(&self) -> Vec<Budget> {
        self.money.iter().flat_map(MoneyCap::budgets).collect()
    }

    /// Whether an effect may spend this by itself. What several spend together is for [`Narrowing::budgets`].
    pub(crate) fn check_spend(&self, spend: &Spend) -> Result<(), Refusal> {
        let Spend::Known { currency, minor } = spend else {
            return Ok(());
        };
        let fits = |cap: &MoneyCap| {
            let most = cap.most.get(currency).copied().unwrap_or_default();
            u64::try_from(*minor).is_ok_and(|minor| minor <= most)
        };
        if !guard!("scope.narrowed-money", self.money.iter().all(fits)) {
            return Err(given_up(format!("spending {minor} of {currency}")));
        }
        Ok(())
    }

    pub(super) fn check_function(&self, tool: &str, function: &str) -> Result<(), Refusal> {
        let kept = self.keeps_function(tool, function);
        if !guard!("scope.narrowed-function", kept) {
            return Err(given_up(format!("calling `{function}` of tool `{tool}`")));
        }
        Ok(())
    }

    /// The rule that covers the request, where the import is narrowed.
    pub(super) fn check_effect(
        &self,
        label: &str,
        connection: &str,
        tier: Tier,
        request: &HttpRequest,
    ) -> Result<Option<&HttpRule>, Refusal> {
        let kept = self.connections.as_ref().is_none_or(|kept| kept.contains(connection));
        if !guard!("scope.narrowed-connection", kept) {
            return Err(given_up(format!("connection `{connection}`")));
        }
        if !guard!("scope.narrowed-tier", self.max_tier.is_none_or(|most| tier <= most)) {
            return Err(given_up(format!("effects of tier `{tier}`")));
        }
        let Some(scope) = self.scopes.get(label) else {
            return Ok(None);
        };
        match scope.covers(request) {
            Ok(index) => Ok(scope.rules().get(index)),
            Err(_) if guard!("scope.narrowed-scope", false) => Ok(None),
            Err(missed) => Err(Refusal {
                advice: missed.advice,
                ..given_up(format!("this request of import `{label}`"))
            }),
        }
    }
}

/// Whether a set of functions has this one, by its name or by its tool's `tool/*`. A `tool/*` itself is only in a set that has it.
fn names_function(id: &str, functions: &BTreeSet<String>) -> bool {
    let whole = id.split_once('/').map(|(tool, _)| format!("{tool}/*"));
    functions.contains(id) || whole.is_some_and(|whole| functions.contains(&whole))
}

/// The names of either set that the other has too; where one side says nothing, the other's.
fn both(
    one: Option<&BTreeSet<String>>,
    other: Option<&BTreeSet<String>>,
    has: impl Fn(&str, &BTreeSet<String>) -> bool,
) -> Option<BTreeSet<String>> {
    let (one, other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (only, None) | (None, only) => return only.cloned(),
    };
    let kept = |names: &BTreeSet<String>, all: &BTreeSet<String>| -> Vec<String> {
        names.iter().filter(|name| has(name, all)).cloned().collect()
    };
    let mut names: BTreeSet<String> = kept(one, other).into_iter().collect();
    names.extend(kept(other, one));
    Some(names)
}

fn given_up(what: String) -> Refusal {
    Refusal::new(Code::Narrowing, format!("the caller gave up {what} for this call"))
        .advise("call again without that narrowing, if it is meant")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(of: &'static [&'static str]) -> impl Strategy<Value = Option<BTreeSet<String>>> {
        proptest::option::of(proptest::sample::subsequence(of, 0..=of.len()))
            .prop_map(|names| names.map(|names| names.into_iter().map(str::to_owned).collect()))
    }

    fn narrowing() -> impl Strategy<Value = Narrowing> {
        let functions = names(&["a/x.f", "a/x.g", "a/*", "b/x.f", "b/*"]);
        let tier = proptest::option::of(proptest::sample::select(Tier::ALL.to_vec()));
        let scopes = proptest::option::of(proptest::sample::select(vec![
            "GET https://s.example/**",
            "GET https://s.example/a/{id}; POST https://s.example/a",
            "POST https://s.example/**",
        ]));
        (names(&["s", "t"]), functions, tier, scopes).prop_map(|(connections, functions, max_tier, scope)| Narrowing {
            connections,
            functions,
            max_tier,
            scopes: scope
                .into_iter()
                .map(|scope| ("up".to_owned(), HttpScope::parse(scope).unwrap()))
                .collect(),
            money: Vec::new(),
        })
    }

    proptest! {
        #[test]
        fn what_reaches_no_further_does_nothing_that_is_left_out(one in narrowing(), other in narrowing(), tier in proptest::sample::select(Tier::ALL.to_vec())) {
            prop_assert!(one.reaches_within(tier, &one) && one.reaches_within(tier, &Narrowing::default()));
            let unscoped = Narrowing { scopes: BTreeMap::new(), ..other.clone() };
            prop_assert!(one.and(&unscoped).reaches_within(tier, &unscoped));
            if one.reaches_within(tier, &other) {
                for request in requests() {
                    for connection in ["s", "t", "u"] {
                        for effect in Tier::ALL.into_iter().filter(|effect| *effect <= tier) {
                            let passes = |narrowing: &Narrowing| narrowing.check_effect("up", connection, effect, &request).is_ok();
                            prop_assert!(!passes(&one) || passes(&other));
                        }
                    }
                }
            }
        }

        #[test]
        fn both_together_let_through_what_each_does(one in narrowing(), other in narrowing()) {
            let both = one.and(&other);
            for (tool, function) in [("a", "x.f"), ("a", "x.g"), ("b", "x.f"), ("b", "y.h"), ("c", "x.f")] {
                let each = one.keeps_function(tool, function) && other.keeps_function(tool, function);
                prop_assert_eq!(both.keeps_function(tool, function), each);
            }
            for request in requests() {
                for connection in ["s", "t", "u"] {
                    for tier in Tier::ALL {
                        let passes = |narrowing: &Narrowing| narrowing.check_effect("up", connection, tier, &request).is_ok();
                        prop_assert_eq!(passes(&both), passes(&one) && passes(&other));
                    }
                }
            }
            prop_assert_eq!(one.and(&Narrowing::default()), one);
        }
    }

    fn requests() -> Vec<HttpRequest> {
        use crate::effect::{GuestBody, GuestRequest, Method, WireLimits};
        let origin = "https://s.example".parse().unwrap();
        let of = |method, path: &str| {
            let guest = GuestRequest {
                method,
                path: path.into(),
                query: vec![],
                headers: vec![],
                body: GuestBody::None,
            };
            HttpRequest::parse(&origin, &guest, &WireLimits::default()).unwrap()
        };
        vec![
            of(Method::Get, "/a/1"),
            of(Method::Get, "/b"),
            of(Method::Post, "/a"),
            of(Method::Post, "/b"),
        ]
    }
}
