//! Grants: what one call may do, and the one way to do it.
//!
//! A [`Grant`] is minted in one place, from a [`Decision`] that permits exactly this call. It holds what the tool declared
//! and what the operator bound, and it gives nothing by itself: whatever the guest asks for goes through [`Grant::admit`].
//! What passes there is [`Admitted`], which cannot be made elsewhere; money and policy are decided on it, and the intent is
//! written from it.

mod admitted;
mod limits;
mod narrowing;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use admitted::{Admitted, CurrencyLookup, ObjectRead};
pub use limits::{LARGEST_BODY, Limits};
pub use narrowing::{MoneyCap, Narrowing, is_of_token, token_budget};

use crate::digest::Digest;
use crate::effect::{GuestRequest, HeaderSet, HttpRequest};
use crate::error::{Code, Refusal};
use crate::guard;
use crate::identity::Caller;
use crate::manifest::Function;
use crate::money::{Budget, Spend, Use};
use crate::policy::Decision;
use crate::route::Connection;
use crate::scope::{Scope, Tier};
use crate::undo::Inverse;

/// A tool of this home: its name in the configuration, and the component that the operator accepted under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolIdentity {
    name: String,
    digest: Digest,
}

impl ToolIdentity {
    /// The tool `name`, whose component has this digest.
    #[must_use]
    pub fn new(name: &str, digest: Digest) -> ToolIdentity {
        ToolIdentity {
            name: name.to_owned(),
            digest,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest of its component.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

/// An import with what it declares and what the operator bound it to.
#[derive(Clone, Debug)]
pub struct BoundImport {
    /// Its label in the component.
    pub label: String,
    /// Its place among the component's imports; the sandbox names it so.
    pub index: u32,
    /// What the component says that it needs of it.
    pub scope: Scope,
    /// The connection that its label is bound to. An import without one reaches nothing.
    pub connection: Option<Arc<Connection>>,
}

/// What one call may do.
///
/// Not `Clone`: a call has one.
#[derive(Debug)]
pub struct Grant {
    caller: Caller,
    tool: ToolIdentity,
    function: String,
    /// The most that the function does, by its own declaration.
    tier: Tier,
    imports: BTreeMap<u32, BoundImport>,
    narrowing: Narrowing,
    limits: Limits,
}

impl Grant {
    /// Makes the grant of a call that policy permits.
    ///
    /// # Errors
    /// [`Code::Policy`] if the decision is about another call, or denies; [`Code::Narrowing`] if the caller has given up this
    /// function; [`Code::Config`] if the limits are beyond what the host enforces; [`Code::Internal`] if two imports have the
    /// same place.
    pub fn mint(
        decision: &Decision,
        caller: Caller,
        tool: ToolIdentity,
        function: &Function,
        imports: Vec<BoundImport>,
        narrowing: Narrowing,
        limits: Limits,
    ) -> Result<Grant, Refusal> {
        let permitted = decision.permits_call(&caller, &tool.name, tool.digest, &function.id);
        if !guard!("policy.grant", permitted) {
            let message = format!("no decision permits calling `{}` of tool `{}`", function.id, tool.name);
            return Err(Refusal::new(Code::Policy, message));
        }
        narrowing.check_function(&tool.name, &function.id)?;
        limits.check()?;
        Ok(Grant {
            caller,
            tool,
            function: function.id.clone(),
            tier: function.declared.tier,
            imports: by_index(imports)?,
            narrowing,
            limits,
        })
    }

    /// Whether the guest may do this, and as what. Pure: the same grant and the same request, the same answer.
    ///
    /// The request is written and read back; the import's scope must cover all of it; the connection must have a route for
    /// it; the route's tier must not pass the function's; and the caller must not have given it up. The first of these that
    /// fails is the refusal. What is admitted is not yet permitted: money and policy come next.
    ///
    /// # Errors
    /// [`Code::Binding`] for an import that is not bound (a request is always one to an origin, so this comes first), then
    /// what [`HttpRequest::parse`], the scope and the connection say, [`Code::Tier`], [`Code::Narrowing`].
    pub fn admit(&self, import: u32, guest: &GuestRequest) -> Result<Admitted, Refusal> {
        let import = self.import(import)?;
        let connection = import.connection.as_ref().ok_or_else(|| unbound(&import.label))?;
        let request = HttpRequest::parse(connection.origin(), guest, &self.limits.wire())?;

        let Scope::Http(scope) = &import.scope;
        let covering = scope.covers(&request)?;
        let rule = scope.rules().get(covering).ok_or_else(|| no_such_rule(&import.label))?;
        let matched = connection.find(&request)?;
        self.check_tier(connection.name(), matched.route.name(), matched.tier)?;
        let narrowed = self
            .narrowing
            .check_effect(&import.label, connection.name(), matched.tier, &request)?;

        let mut reads = rule.reads().intersect(matched.route.reads());
        let mut headers = rule.headers().intersect(matched.route.headers());
        if let Some(narrowed) = narrowed {
            reads = reads.intersect(narrowed.reads());
            headers = headers.intersect(narrowed.headers());
        }
        Ok(Admitted {
            connection: Arc::clone(connection),
            route: matched.route.clone(),
            tier: matched.tier,
            captures: matched.captures,
            request,
            reads,
            headers,
            limits: self.limits.answer(),
        })
    }

    /// What takes an effect of an earlier call back, as an effect. The operator's route asks for it and makes the request, so the tool's
    /// scope, its function's tier and the caller's narrowing do not apply; policy, money and budgets come next, as for any effect.
    ///
    /// # Errors
    /// [`Code::Binding`] where the tool is not bound to the connection, what the connection says of the request, and [`Code::Undo`]
    /// where that would take another route.
    pub fn admit_inverse(&self, connection: &str, inverse: &Inverse) -> Result<Admitted, Refusal> {
        let bound = self.imports.values().filter_map(|import| import.connection.as_ref());
        let connection = bound
            .into_iter()
            .find(|bound| bound.name() == connection)
            .ok_or_else(|| not_bound(connection))?;
        let request = HttpRequest::parse(connection.origin(), &inverse.words, &self.limits.wire())?;
        let matched = connection.find(&request)?;
        // The object's name is the service's or the guest's: it must not make the path one of another route.
        if !guard!("undo.route", matched.route.name() == inverse.route) {
            let (name, route) = (connection.name(), &inverse.route);
            let message = format!("what would take the effect back is no request of route `{name}/{route}`");
            return Err(Refusal::new(Code::Undo, message));
        }
        Ok(Admitted {
            connection: Arc::clone(connection),
            route: matched.route.clone(),
            tier: matched.tier,
            captures: matched.captures,
            request,
            reads: matched.route.reads().clone(),
            headers: HeaderSet::new(),
            limits: self.limits.answer(),
        })
    }

    fn import(&self, index: u32) -> Result<&BoundImport, Refusal> {
        let granted = self.imports.get(&index);
        granted.ok_or_else(|| {
            Refusal::new(
                Code::Binding,
                format!("the component's import {index} is no capability of this call"),
            )
        })
    }

    fn check_tier(&self, connection: &str, route: &str, tier: Tier) -> Result<(), Refusal> {
        if !guard!("scope.tier", tier <= self.tier) {
            let (function, declared) = (&self.function, self.tier);
            let message =
                format!("function `{function}` is declared `{declared}`, and route `{connection}/{route}` is `{tier}`");
            let advice = "call a function that is declared for it, or ask the tool's author to declare this one so";
            return Err(Refusal::new(Code::Tier, message).advise(advice));
        }
        Ok(())
    }

    /// Whether an effect of the guest may spend this: the caller may have given up money.
    ///
    /// # Errors
    /// [`Code::Narrowing`].
    pub fn check_spend(&self, spend: &Spend) -> Result<(), Refusal> {
        self.narrowing.check_spend(spend)
    }

    /// The budgets that come with what the caller gave up.
    #[must_use]
    pub fn budgets(&self) -> Vec<Budget> {
        self.narrowing.budgets()
    }

    /// Who calls.
    #[must_use]
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The tool that is called.
    #[must_use]
    pub const fn tool(&self) -> &ToolIdentity {
        &self.tool
    }

    /// The id of the function that is called.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The most that the function does, by its own declaration.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        self.tier
    }

    /// What the call may use.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The label of an import of this call.
    #[must_use]
    pub fn label(&self, import: u32) -> Option<&str> {
        self.imports.get(&import).map(|import| import.label.as_str())
    }

    /// What budgets look at: the call of this id, in this run, or an effect of it through a route of a connection.
    #[must_use]
    pub fn used<'a>(&'a self, call: &'a str, run: Option<&'a str>, route: Option<(&'a str, &'a str)>) -> Use<'a> {
        Use {
            call,
            run,
            tenant: self.caller.tenant(),
            team: self.caller.team(),
            agent: self.caller.agent(),
            user: self.caller.user(),
            tool: &self.tool.name,
            function: &self.function,
            route,
        }
    }
}

fn by_index(imports: Vec<BoundImport>) -> Result<BTreeMap<u32, BoundImport>, Refusal> {
    let mut granted = BTreeMap::new();
    for import in imports {
        let index = import.index;
        if granted.insert(index, import).is_some() {
            return Err(Refusal::new(
                Code::Internal,
                format!("two imports have the place {index}"),
            ));
        }
    }
    Ok(granted)
}

fn unbound(label: &str) -> Refusal {
    Refusal::new(
        Code::Binding,
        format!("the import `{label}` is not bound to a connection"),
    )
    .advise(format!(
        "the operator binds `{label}` in the tool's `bind` table of ambit.toml"
    ))
}

fn not_bound(connection: &str) -> Refusal {
    Refusal::new(
        Code::Binding,
        format!("the tool is not bound to connection `{connection}` any more"),
    )
}

fn no_such_rule(label: &str) -> Refusal {
    Refusal::new(Code::Internal, format!("the scope of `{label}` has no such rule"))
}

#[cfg(test)]
mod tests;
