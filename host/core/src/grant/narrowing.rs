//! What a caller gives up for one call.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::effect::HttpRequest;
use crate::error::{Code, Refusal};
use crate::guard;
use crate::scope::{HttpRule, HttpScope, Tier};

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
    /// Only these functions, as `tool/function`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub functions: Option<BTreeSet<String>>,
    /// Effects up to this tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tier: Option<Tier>,
    /// For an import's label: only requests that this covers too, and of the answers only what it lets read too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scopes: BTreeMap<String, HttpScope>,
}

impl Narrowing {
    pub(super) fn check_function(&self, tool: &str, function: &str) -> Result<(), Refusal> {
        let id = format!("{tool}/{function}");
        let kept = self.functions.as_ref().is_none_or(|functions| functions.contains(&id));
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

fn given_up(what: String) -> Refusal {
    Refusal::new(Code::Narrowing, format!("the caller gave up {what} for this call"))
        .advise("call again without that narrowing, if it is meant")
}
