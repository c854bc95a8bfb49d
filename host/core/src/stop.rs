//! What an operator has stopped: a kill ends what runs and lets nothing begin, safe mode lets nothing be changed.
//!
//! A [`Stop`] is of one [`Scope`]. It is in force from its entry on the ledger until another entry lifts it, across
//! restarts. Whether it forbids something is decided here, from names alone: by the host before a call and before an
//! effect, by the store in the transaction of an intent, and by whoever audits the ledger afterwards.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Code, Refusal, printable};
use crate::guard;
use crate::scope::Tier;

/// The longest name in a scope, in bytes.
const LONGEST_NAME: usize = 128;
/// The longest reason, in bytes.
pub const LONGEST_REASON: usize = 4096;

/// How much a stop stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Calls end and none begins; no effect leaves.
    Kill,
    /// Reads go on; calls pause before drafts and commits.
    SafeMode,
}

impl Kind {
    /// Both, in the order in which they are told.
    pub const ALL: [Self; 2] = [Self::Kill, Self::SafeMode];

    /// The word, such as `safe-mode`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::SafeMode => "safe-mode",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| {
            let message = format!("`{}` is no kind of stop", printable(text));
            Refusal::new(Code::Arguments, message).advise("write `kill` or `safe-mode`")
        })
    }
}

/// What is stopped. Written `everything`, or a kind and a name: `agent:support-bot`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Whatever runs in this home.
    Everything,
    /// All agents of a tenant.
    Tenant(String),
    /// An agent.
    Agent(String),
    /// A tool, by its name in the configuration.
    Tool(String),
    /// What goes through a connection, and calls of tools that are bound to it.
    Connection(String),
    /// A run.
    Run(String),
}

impl Scope {
    /// What a scope may be of, for messages.
    pub const WORDS: &str = "everything, tenant:NAME, agent:NAME, tool:NAME, connection:NAME or run:ID";

    fn named(kind: &str, name: String) -> Option<Self> {
        Some(match kind {
            "tenant" => Self::Tenant(name),
            "agent" => Self::Agent(name),
            "tool" => Self::Tool(name),
            "connection" => Self::Connection(name),
            "run" => Self::Run(name),
            _ => return None,
        })
    }

    /// The kind of thing and its name; none for everything.
    #[must_use]
    pub fn name(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Everything => None,
            Self::Tenant(name) => Some(("tenant", name)),
            Self::Agent(name) => Some(("agent", name)),
            Self::Tool(name) => Some(("tool", name)),
            Self::Connection(name) => Some(("connection", name)),
            Self::Run(name) => Some(("run", name)),
        }
    }

    /// Whether the subject is in this scope.
    #[must_use]
    pub fn covers(&self, subject: &Subject) -> bool {
        match self {
            Self::Everything => true,
            Self::Tenant(name) => *name == subject.tenant,
            Self::Agent(name) => *name == subject.agent,
            Self::Tool(name) => *name == subject.tool,
            Self::Connection(name) => subject.connections.contains(name),
            Self::Run(name) => subject.run.as_ref() == Some(name),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            None => f.write_str("everything"),
            Some((kind, name)) => write!(f, "{kind}:{name}"),
        }
    }
}

impl FromStr for Scope {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        if text == "everything" {
            return Ok(Self::Everything);
        }
        let wrong = |why: &str| {
            let message = format!("`{}` is nothing that can be stopped: {why}", printable(text));
            Refusal::new(Code::Arguments, message).advise(format!("write {}", Self::WORDS))
        };
        let (kind, name) = text.split_once(':').ok_or_else(|| wrong("it names no kind of thing"))?;
        if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            return Err(wrong(
                "its name is empty, longer than 128 bytes, or has control characters",
            ));
        }
        Self::named(kind, name.to_owned()).ok_or_else(|| wrong("there is no such kind of thing"))
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Who and what a call or an effect is of: what scopes are matched with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The agent's tenant.
    pub tenant: String,
    /// The agent.
    pub agent: String,
    /// The tool's name in the configuration.
    pub tool: String,
    /// Of a call, every connection that its tool is bound to; of an effect, the one that it goes through.
    pub connections: BTreeSet<String>,
    /// The run that the call belongs to.
    pub run: Option<String>,
}

impl Subject {
    /// One effect of a call: through this connection alone.
    #[must_use]
    pub fn through(&self, connection: &str) -> Self {
        Self {
            connections: BTreeSet::from([connection.to_owned()]),
            ..self.clone()
        }
    }
}

/// Something an operator stopped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stop {
    /// How much.
    pub kind: Kind,
    /// What.
    pub scope: Scope,
}

impl Stop {
    /// Whether it forbids calls of this subject: a kill does.
    #[must_use]
    pub fn forbids_call(&self, subject: &Subject) -> bool {
        self.kind == Kind::Kill && self.scope.covers(subject)
    }

    /// Whether it forbids an effect of this tier: a kill forbids all, safe mode whatever is no read.
    #[must_use]
    pub fn forbids_effect(&self, subject: &Subject, tier: Tier) -> bool {
        let forbidden = match self.kind {
            Kind::Kill => true,
            Kind::SafeMode => tier > Tier::Read,
        };
        forbidden && self.scope.covers(subject)
    }

    /// What a caller is told of it. The operator's reason is not for callers.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let scope = printable(&self.scope.to_string());
        match self.kind {
            Kind::Kill => Refusal::new(Code::Killed, format!("an operator has stopped {scope}"))
                .advise("it stays so until an operator lifts the stop"),
            Kind::SafeMode => Refusal::new(
                Code::SafeMode,
                format!("an operator has put {scope} into safe mode: nothing is changed"),
            )
            .advise("reads go on; what changes something can be asked for again once an operator has lifted it"),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.kind, self.scope)
    }
}

/// The first of these stops that forbids an effect of this tier.
pub fn forbidding<'s>(stops: impl IntoIterator<Item = &'s Stop>, subject: &Subject, tier: Tier) -> Option<&'s Stop> {
    stops.into_iter().find(|stop| stop.forbids_effect(subject, tier))
}

/// An operator's reason, without white space around it.
///
/// # Errors
/// [`Code::Arguments`] where there is none, or more than [`LONGEST_REASON`] bytes.
pub fn reason(text: &str) -> Result<&str, Refusal> {
    let reason = text.trim();
    if !guard!("stop.reason", !reason.is_empty() && reason.len() <= LONGEST_REASON) {
        let message = format!(
            "a reason has 1 to {LONGEST_REASON} bytes; this one has {}",
            reason.len()
        );
        return Err(Refusal::new(Code::Arguments, message).advise("say why, for those who read the ledger"));
    }
    Ok(reason)
}

/// Whether `text` is the id of a stop: `s_` and 26 characters of base32 in lower case.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.strip_prefix("s_")
        .is_some_and(|id| id.len() == 26 && id.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn subject() -> Subject {
        Subject {
            tenant: "acme".into(),
            agent: "support-bot".into(),
            tool: "refunds".into(),
            connections: ["stripe", "slack"].map(str::to_owned).into(),
            run: None,
        }
    }

    #[test]
    fn each_scope_covers_its_own_and_nothing_else() {
        let covers = |scope: &str| scope.parse::<Scope>().unwrap().covers(&subject());
        for scope in [
            "everything",
            "tenant:acme",
            "agent:support-bot",
            "tool:refunds",
            "connection:stripe",
            "connection:slack",
        ] {
            assert!(covers(scope), "{scope}");
        }
        for scope in [
            "tenant:support-bot",
            "agent:acme",
            "agent:support-bo",
            "tool:refund",
            "connection:mail",
            "run:acme",
        ] {
            assert!(!covers(scope), "{scope}");
        }
        let run = Subject {
            run: Some("r1".into()),
            ..subject()
        };
        assert!("run:r1".parse::<Scope>().unwrap().covers(&run));
        assert!(
            !"connection:slack"
                .parse::<Scope>()
                .unwrap()
                .covers(&subject().through("stripe"))
        );
    }

    #[test]
    fn a_scope_is_read_in_one_form() {
        for wrong in [
            "",
            "all",
            "agent",
            "agent:",
            "Agent:x",
            "team:x",
            "agent:a\nb",
            "everything:x",
            " everything",
        ] {
            let refusal = wrong.parse::<Scope>().unwrap_err();
            assert!(refusal.advice.unwrap().contains("tenant:NAME"), "{wrong}");
        }
        assert!(format!("agent:{}", "x".repeat(129)).parse::<Scope>().is_err());
        assert_eq!("agent:a:b".parse::<Scope>().unwrap(), Scope::Agent("a:b".into()));
    }

    #[test]
    fn a_kill_forbids_all_and_safe_mode_what_is_no_read() {
        let stop = |kind| Stop {
            kind,
            scope: Scope::Tool("refunds".into()),
        };
        for tier in [Tier::Read, Tier::Draft, Tier::Commit] {
            assert!(stop(Kind::Kill).forbids_effect(&subject(), tier));
            assert_eq!(
                stop(Kind::SafeMode).forbids_effect(&subject(), tier),
                tier != Tier::Read
            );
        }
        assert!(stop(Kind::Kill).forbids_call(&subject()));
        assert!(!stop(Kind::SafeMode).forbids_call(&subject()));
        let other = Subject {
            tool: "other".into(),
            ..subject()
        };
        assert!(!stop(Kind::Kill).forbids_effect(&other, Tier::Commit));
        assert!(!stop(Kind::Kill).forbids_call(&other));
    }

    #[test]
    fn a_reason_is_needed() {
        for none in ["", "  \n", &"x".repeat(LONGEST_REASON + 1)] {
            assert_eq!(reason(none).unwrap_err().code, Code::Arguments);
        }
        assert_eq!(reason(" it refunds everyone ").unwrap(), "it refunds everyone");
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_was_meant(kind in 0_usize..6, name in "[^\\p{Cc}]{1,32}") {
            let scope = match ["", "tenant", "agent", "tool", "connection", "run"].get(kind) {
                Some(&"") | None => Scope::Everything,
                Some(word) => Scope::named(word, name).unwrap(),
            };
            prop_assert_eq!(&scope.to_string().parse::<Scope>().unwrap(), &scope);
            let json = serde_json::to_string(&scope).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Scope>(&json).unwrap(), &scope);
        }

        #[test]
        fn any_text_is_a_scope_or_an_error(text in "\\PC{0,80}") {
            if let Ok(scope) = text.parse::<Scope>() {
                prop_assert_eq!(scope.to_string(), text);
            }
        }
    }
}
