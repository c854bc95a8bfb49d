//! What was decided, why, and what an agent is told of it.

use crate::digest::Digest;
use crate::error::{Code, Refusal};
use crate::identity::Caller;
use crate::scope::Tier;

/// The answer of a policy set to one question. Only [`PolicySet`](super::PolicySet) makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub(super) allowed: bool,
    pub(super) rules: Vec<String>,
    pub(super) hint: Option<String>,
    pub(super) errors: Vec<String>,
    pub(super) subject: Subject,
    pub(super) policy: Digest,
    pub(super) facts: Digest,
    pub(super) epoch: u64,
}

/// What a decision is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A call of a function.
    Call {
        /// Who calls.
        caller: Caller,
        /// The tool's name.
        tool: String,
        /// The digest of its component.
        digest: Digest,
        /// The function's id.
        function: String,
    },
    /// An effect.
    Effect {
        /// Its tier.
        tier: Tier,
        /// `connection/route`.
        route: String,
    },
}

impl Decision {
    /// Whether it may happen.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.allowed
    }

    /// The `@id`s of the rules that decided, in the order they were loaded: the permits of what is allowed, the forbids of what is
    /// denied, the rules that failed to evaluate. Empty where nothing permits.
    #[must_use]
    pub fn rules(&self) -> &[String] {
        &self.rules
    }

    /// The `@hint` of the rule that denied.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// What went wrong in evaluation. For operators and the ledger: may quote policy text. Never empty in a decision that was denied
    /// for an error.
    #[must_use]
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// The digest of the policy set that decided.
    #[must_use]
    pub fn policy(&self) -> Digest {
        self.policy
    }

    /// The digest of the facts it was decided on.
    #[must_use]
    pub fn facts(&self) -> Digest {
        self.facts
    }

    /// The epoch of the policy set that decided.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether it permits this call: this caller, this function of this very component.
    pub(crate) fn permits_call(&self, caller: &Caller, tool: &str, digest: Digest, function: &str) -> bool {
        let asked = Subject::Call {
            caller: caller.clone(),
            tool: tool.to_owned(),
            digest,
            function: function.to_owned(),
        };
        self.allowed && self.subject == asked
    }

    /// What an agent is told: the deciding rule's id and hint, never policy text. `None` if it is allowed.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        if self.allowed {
            return None;
        }
        let about = self.subject.describe();
        let refusal = match self.rules.first() {
            Some(rule) if !self.errors.is_empty() => Refusal::new(
                Code::PolicyError,
                format!("rule `{rule}` could not be evaluated, which denies {about}"),
            )
            .rule(rule),
            _ if !self.errors.is_empty() => Refusal::new(
                Code::PolicyError,
                format!("policy could not be evaluated, which denies {about}"),
            ),
            Some(rule) => Refusal::new(Code::Policy, format!("rule `{rule}` forbids {about}")).rule(rule),
            None => Refusal::new(Code::Policy, format!("no rule permits {about}")),
        };
        Some(match &self.hint {
            Some(hint) => refusal.advise(hint),
            None => refusal,
        })
    }
}

impl Subject {
    fn describe(&self) -> String {
        match self {
            Subject::Call { tool, function, .. } => format!("calling `{function}` of tool `{tool}`"),
            Subject::Effect { tier, route } => format!("a {tier} through route `{route}`"),
        }
    }
}
