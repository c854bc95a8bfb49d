//! What each kind of entry says.
//!
//! Members are declared in the order in which canonical JSON prints them, so that an entry is printed in one pass. No URL, capture, body
//! or other text of a guest, a service or a user is in an entry: such values are payloads beside the ledger, and an entry has their
//! commitments. A commitment covers a random salt, so nobody can guess a short value from it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::entry::Principal;
use super::number::{self, Number};
use crate::digest::Digest;
use crate::error::{Code, Refusal};
use crate::grant::{Limits, Narrowing};
use crate::hold::{self, Hold, Need};
use crate::identity::operator;
use crate::identity::spiffe::SpiffeId;
use crate::identity::why::Why;
use crate::money::{Currency, Over, Spend, Unit};
use crate::policy::Mode;
use crate::scope::Tier;
use crate::stop::{self, Stop};
use crate::trace::Arrival;
use crate::webhook::EventType;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// What an entry records. The words are part of the format.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Kind {
            $($(#[$doc])* #[serde(rename = $text)] $name,)+
        }

        impl Kind {
            /// Every kind of this format.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The words of all of them.
            pub const WORDS: &[&'static str] = &[$($text,)+];

            /// The one of this word.
            #[must_use]
            pub fn of(word: &str) -> Option<Self> {
                Self::ALL.iter().find(|kind| kind.as_str() == word).copied()
            }

            /// The word, such as `effect-intent`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }

        /// What an entry says, by its kind.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        pub enum Body {
            $($(#[$doc])* $name($name),)+
        }

        impl Body {
            /// The kind of entry that this is the body of.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$name(_) => Kind::$name,)+ }
            }

            /// Reads a body of a kind.
            pub(super) fn parse(kind: Kind, text: &str) -> serde_json::Result<Self> {
                match kind { $(Kind::$name => serde_json::from_str(text).map(Self::$name),)+ }
            }
        }

        $(impl From<$name> for Body {
            fn from(body: $name) -> Self {
                Self::$name(body)
            }
        })+
    };
}

kinds! {
    /// The ledger's first entry, and no other: its format, name and key.
    LedgerOpened = "ledger-opened",
    /// Another configuration is in force.
    ConfigChanged = "config-changed",
    /// Another set of policies is in force.
    PolicyChanged = "policy-changed",
    /// The process that holds the home took its files as they are: configuration, policies and tools.
    HostReloaded = "host-reloaded",
    /// It was told to, and they cannot be used: it goes on with those that it had.
    ReloadRefused = "reload-refused",
    /// Something that an operator asked for was refused before it could be a call.
    ActRefused = "act-refused",
    /// The operator accepted a component under a tool's name.
    ToolPinned = "tool-pinned",
    /// The operator removed a tool.
    ToolRemoved = "tool-removed",
    /// The operator enrolled a person who may approve.
    PersonEnrolled = "person-enrolled",
    /// The operator revoked a person's key.
    PersonRevoked = "person-revoked",
    /// A person gave their vote for a group to another, for a time, or took it back.
    PersonDelegated = "person-delegated",
    /// The operator gave out a key, by which an agent is known over HTTP.
    KeyCreated = "key-created",
    /// The operator revoked a key.
    KeyRevoked = "key-revoked",
    /// Credentials that were refused over HTTP, counted for a time.
    CallersRefused = "callers-refused",
    /// A vote on a hold did not count.
    VoteRefused = "vote-refused",
    /// The operator had the values of calls erased.
    ValuesErased = "values-erased",
    /// An operator stopped something.
    StopSet = "stop-set",
    /// An operator lifted a stop.
    StopLifted = "stop-lifted",
    /// The operator started a run.
    RunStarted = "run-started",
    /// The operator ended a run.
    RunEnded = "run-ended",
    /// Too much of a run failed: it only reads from here on.
    RunDegraded = "run-degraded",
    /// A service failed too often, and is left alone for a while.
    BreakerOpened = "breaker-opened",
    /// A service that was left alone is used again.
    BreakerClosed = "breaker-closed",
    /// A service asked to be left alone for a while.
    ServicePaused = "service-paused",
    /// The operator gave up an effect that failed for good.
    DeadLetterDropped = "dead-letter-dropped",
    /// So much of a budget is taken that people are to be told.
    BudgetWarned = "budget-warned",
    /// A webhook's message was given up: nobody took it in time.
    WebhookFailed = "webhook-failed",
    /// The operator has a message that was given up sent again.
    WebhookRetried = "webhook-retried",
    /// The operator gave up a message that nobody took.
    WebhookDropped = "webhook-dropped",
    /// A call that was run again did not do what it had done.
    CallDiverged = "call-diverged",
    /// Calls were run again, and what came of it was to be on the ledger.
    CallsReplayed = "calls-replayed",
    /// A call was refused before its guest ran.
    CallDenied = "call-denied",
    /// A call was permitted; its guest may run.
    CallAccepted = "call-accepted",
    /// An effect was refused before its intent.
    EffectRefused = "effect-refused",
    /// An effect waits for approvals.
    EffectHeld = "effect-held",
    /// A person said yes or no to a held effect.
    HoldVoted = "hold-voted",
    /// A person edited a held effect: what waits from here on is in the entry that follows.
    HoldEdited = "hold-edited",
    /// An effect was permitted; it may leave once this entry is durable.
    EffectIntent = "effect-intent",
    /// An effect is sent again; it may leave once this entry is durable.
    EffectRetried = "effect-retried",
    /// What became of an intent.
    EffectOutcome = "effect-outcome",
    /// What the host saw of an effect when it read back what that changed.
    EffectChecked = "effect-checked",
    /// An operator said what became of an effect that was in doubt.
    EffectResolved = "effect-resolved",
    /// Safe mode keeps a call from a change: it goes on once that is lifted.
    CallPaused = "call-paused",
    /// The host ends while the call runs: the next one goes on with it.
    CallSuspended = "call-suspended",
    /// A call goes on with another guest, whose fuel counts.
    CallResumed = "call-resumed",
    /// A guest of a call ended, and its call has not.
    GuestEnded = "guest-ended",
    /// A call's end. A receipt proves this entry.
    CallFinished = "call-finished",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Kind {
    /// Whether entries of this kind belong to a call, and name it.
    #[must_use]
    pub const fn of_a_call(self) -> bool {
        match self {
            Self::CallDenied
            | Self::CallAccepted
            | Self::EffectRefused
            | Self::EffectHeld
            | Self::HoldVoted
            | Self::HoldEdited
            | Self::EffectIntent
            | Self::EffectRetried
            | Self::EffectOutcome
            | Self::EffectChecked
            | Self::EffectResolved
            | Self::CallPaused
            | Self::CallSuspended
            | Self::CallResumed
            | Self::GuestEnded
            | Self::CallFinished => true,
            Self::LedgerOpened
            | Self::ConfigChanged
            | Self::PolicyChanged
            | Self::HostReloaded
            | Self::ReloadRefused
            | Self::ActRefused
            | Self::ToolPinned
            | Self::ToolRemoved
            | Self::PersonEnrolled
            | Self::PersonRevoked
            | Self::PersonDelegated
            | Self::KeyCreated
            | Self::KeyRevoked
            | Self::CallersRefused
            | Self::VoteRefused
            | Self::ValuesErased
            | Self::StopSet
            | Self::StopLifted
            | Self::RunStarted
            | Self::RunEnded
            | Self::RunDegraded
            | Self::BreakerOpened
            | Self::BreakerClosed
            | Self::ServicePaused
            | Self::DeadLetterDropped
            | Self::BudgetWarned
            | Self::WebhookFailed
            | Self::WebhookRetried
            | Self::WebhookDropped
            | Self::CallDiverged
            | Self::CallsReplayed => false,
        }
    }
}

impl Body {
    /// The effect that the entry is about, where it is about one.
    #[must_use]
    pub const fn ordinal(&self) -> Option<u32> {
        match self {
            Self::EffectRefused(body) => Some(body.ordinal),
            Self::EffectHeld(body) => Some(body.ordinal),
            Self::HoldVoted(body) => Some(body.ordinal),
            Self::HoldEdited(body) => Some(body.ordinal),
            Self::EffectIntent(body) => Some(body.ordinal),
            Self::EffectRetried(body) => Some(body.ordinal),
            Self::EffectOutcome(body) => Some(body.ordinal),
            Self::EffectChecked(body) => Some(body.ordinal),
            Self::EffectResolved(body) => Some(body.ordinal),
            _ => None,
        }
    }
}

/// The ledger's first entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerOpened {
    /// The format of everything that follows.
    pub format: u64,
    /// The text of the key that signs it.
    pub key: String,
    /// The ledger's name: the key's, and the origin of its checkpoints.
    pub origin: String,
}

/// Another configuration is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigChanged {
    /// The one before, where this ledger has seen one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Digest>,
    /// The one from now on.
    pub to: Digest,
}

/// Another set of policies is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyChanged {
    /// The one before, where this ledger has seen one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Digest>,
    /// How many policies the new set has.
    pub rules: u32,
    /// The one from now on.
    pub to: Digest,
}

/// Who had a host take its files anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReloadedBy {
    /// An operator, over the operators' socket.
    Operator,
    /// A signal to the process.
    Signal,
}

impl ReloadedBy {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Signal => "signal",
        }
    }
}

/// From this entry on calls begin under these files. Where configuration or policies are other ones than before, entries of their own say
/// so in front of this one, in the same transaction. What began before goes on with what it began with, as its entries say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostReloaded {
    /// Who asked for it.
    pub by: ReloadedBy,
    /// The configuration from now on.
    pub config: Digest,
    /// The policies from now on.
    pub policy: Digest,
    /// The tools that run as another component from now on, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolChanged>,
}

/// A tool that runs as another component, begins to be there, or is no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolChanged {
    /// The component before; none where there was none of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Digest>,
    /// The tool's name in the home.
    pub name: String,
    /// The component from now on; none where there is none of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Digest>,
}

/// A host was told to take its files anew, and goes on with those that it had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadRefused {
    /// Who asked for it.
    pub by: ReloadedBy,
    /// The kind of rule that refused. Its sentence quotes files, and went to who asked and to the host's log.
    pub code: Code,
}

/// What an operator asked for, where an entry says that it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// To open the home for calls: its files cannot be used.
    Open,
    /// To replay a bundle: it is not what its ledger has, or is none.
    ReplayBundle,
}

impl Act {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::ReplayBundle => "replay-bundle",
        }
    }
}

/// Something that an operator asked for was refused, and changed nothing. Of the same refusal again and again there is one entry, as
/// long as none of another kind came after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActRefused {
    /// What was asked for.
    pub act: Act,
    /// The kind of rule that refused. Its sentence quotes files, and went to who asked.
    pub code: Code,
    /// What it was about: of a bundle, its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Digest>,
}

/// The operator accepted a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolPinned {
    /// The component.
    pub digest: Digest,
    /// The tool's name in the configuration.
    pub name: String,
    /// The component it replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// The component's world.
    pub world: String,
}

/// The operator removed a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolRemoved {
    /// The component that was accepted under the name.
    pub digest: Digest,
    /// The tool's name in the configuration.
    pub name: String,
}

/// The operator enrolled a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonEnrolled {
    /// The text of the person's public key. Its name is the person's.
    pub key: String,
    /// The person.
    pub name: String,
}

/// The operator revoked a person's key: it signs no more votes that count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonRevoked {
    /// The text of the public key.
    pub key: String,
    /// The person.
    pub name: String,
}

/// A person gave their vote for a group to another, for a time, or took it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonDelegated {
    /// What the person signed: who votes in their stead, for which group and until when are in it.
    pub delegation: String,
}

/// The operator gave out a key. Its secret is in no file of the home: whoever has it shows it, and it is held against `hash`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyCreated {
    /// The agent that is known by it. Absent, and empty, where it is an operator's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    /// From then on it is over, in milliseconds since 1970.
    #[serde(with = "number")]
    pub expires: u64,
    /// The digest of its secret.
    pub hash: Digest,
    /// Its id: `k_` and 26 characters of base32.
    pub key: String,
    /// What the operator calls it. Absent where it has no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its holder can do less than the agent. Absent where it is nothing.
    #[serde(default, skip_serializing_if = "is_whole")]
    pub narrowing: Narrowing,
    /// The operator who is known by it, and for what. Absent where it is an agent's: it is good for one of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<OperatorKey>,
    /// The key in whose place it is. Absent where it is in none's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Replaced>,
    /// The user that the agent acts for with it. Absent where it acts for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

fn is_whole(narrowing: &Narrowing) -> bool {
    *narrowing == Narrowing::default()
}

/// What an operator's key is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorKey {
    /// The operator's name.
    pub name: String,
    /// What its holder may do: at least one.
    pub scopes: BTreeSet<operator::Scope>,
}

/// A key in whose place another is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    /// Its id.
    pub key: String,
    /// Until when it is good beside the other, in milliseconds since 1970, if it was to be good for that long.
    #[serde(with = "number")]
    pub until: u64,
}

/// The operator revoked a key: it is good for nothing from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRevoked {
    /// Its id.
    pub key: String,
}

/// Credentials that were refused over HTTP. One entry is for as many as came in its time, so that whoever sends many fills no ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallersRefused {
    /// When the first of them came, in milliseconds since 1970. The last came before the entry's time.
    #[serde(with = "number")]
    pub from: u64,
    /// How many, by why: at least one, each at least 1.
    pub refused: BTreeMap<Why, u32>,
}

/// How a caller showed over HTTP who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShownBy {
    /// By a client's certificate.
    Certificate(CertificateShown),
    /// By a key of this home: its id.
    Key(String),
    /// By a token of the call's run.
    RunToken(RunTokenShown),
    /// By a token.
    Token(TokenShown),
}

/// A certificate that a caller showed in the handshake of its connection (TLS).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateShown {
    /// Which certificate: the SHA-256 digest of its DER. A workload has another every few hours, and is the same caller with each.
    pub certificate: Digest,
    /// The SPIFFE id that it is of, which is what the caller is known by.
    pub id: SpiffeId,
}

/// A token of a run that a caller showed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunTokenShown {
    /// From then on it is over, in milliseconds since 1970.
    #[serde(with = "number")]
    pub expires: u64,
    /// The money that goes with it. Its call's effects are counted in each of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub money: Vec<TokenMoney>,
    /// Which token: the digest of the revocation ids of all its blocks. What else it was narrowed to is recorded with the call.
    pub token: Digest,
}

/// The money that goes with a token of a run, by one of its blocks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenMoney {
    /// The most of each currency; of any other, none.
    pub most: Vec<Amount>,
    /// The digest of the block's revocation id.
    pub token: Digest,
}

impl TokenMoney {
    /// Whether what is spent is reserved as it says, in its own budget and under its own cap.
    #[must_use]
    pub fn is_reserved(&self, spent: Amount, reserved: &[Reservation]) -> bool {
        let budget = crate::grant::token_budget(&self.token, spent.currency);
        let most = self.most.iter().find(|most| most.currency == spent.currency);
        most.is_some_and(|most| {
            reserved.iter().any(|one| {
                one.budget == budget && one.cap == most.minor && one.amount >= spent.minor && one.over.is_none()
            })
        })
    }
}

/// A token that a caller showed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenShown {
    /// Its issuer's name in the configuration.
    pub issuer: String,
    /// Digest of its id with its issuer (`jti`), for whoever has the issuer's records. Absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<Digest>,
}

impl TokenShown {
    /// A token of the issuer of this name in the configuration, with this id.
    #[must_use]
    pub fn new(issuer: &str, jti: Option<&str>) -> Self {
        Self {
            issuer: issuer.to_owned(),
            jti: jti.map(|jti| Digest::domain("ambit/jti/v1", &[issuer.as_bytes(), jti.as_bytes()])),
        }
    }
}

/// An operator elsewhere, who was heard over HTTP. An entry of what an operator did in the home itself has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorShown {
    /// The operator's name, as the configuration or the key has it.
    pub name: String,
    /// How they showed who they are.
    pub shown: ShownBy,
}

/// That a call is made, or a run started, once for a word of whoever asks (`Idempotency-Key`): both digests are under a key of the home, so that nobody who reads
/// the ledger can guess the word, or what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Once {
    /// Of the caller and the word.
    pub key: Digest,
    /// Of what was asked for under it.
    pub request: Digest,
}

/// What somebody wanted of a hold did not count: a vote, an edit, or that its call go on. It changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoteRefused {
    /// The hold that it was about.
    pub hold: Digest,
    /// Who signed it, where the signature is of somebody who is enrolled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// Why, in a word of [`HoldError`](crate::hold::HoldError).
    pub why: String,
}

/// An operator stopped something. It is in force from this entry on until one lifts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopSet {
    /// Who, where that was an operator over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<OperatorShown>,
    /// The stop's id: `s_` and 26 characters of base32.
    pub id: String,
    /// How much is stopped.
    pub kind: stop::Kind,
    /// Commitment to the operator's reason.
    pub reason: Digest,
    /// What is stopped.
    pub scope: stop::Scope,
}

impl StopSet {
    /// What is stopped, and how much.
    #[must_use]
    pub fn stop(&self) -> Stop {
        Stop {
            kind: self.kind,
            scope: self.scope.clone(),
        }
    }
}

/// An operator lifted a stop that was in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopLifted {
    /// Who, where that was an operator over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<OperatorShown>,
    /// The stop's id.
    pub id: String,
    /// How much was stopped.
    pub kind: stop::Kind,
    /// Commitment to the operator's reason for lifting it, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Digest>,
    /// What was stopped.
    pub scope: stop::Scope,
}

impl StopLifted {
    /// What was stopped, and how much.
    #[must_use]
    pub fn stop(&self) -> Stop {
        Stop {
            kind: self.kind,
            scope: self.scope.clone(),
        }
    }
}

/// Most calls that one entry names: with the longest of names beside them it still fits. More calls are more entries.
pub const MOST_ERASED: usize = 2_000;

/// The operator had the values of calls erased: arguments, requests, answers, results, logs. What entries say of the calls stays,
/// and so does every commitment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValuesErased {
    /// The calls, in the order of their ids: at least one, at most [`MOST_ERASED`].
    pub calls: Vec<String>,
    /// How many values they had, all calls together.
    #[serde(with = "number")]
    pub values: u64,
    /// Why.
    pub why: Reason,
}

impl ValuesErased {
    /// Whether the list is one that an entry can have: of a bounded length, in order, each call once.
    pub(super) fn is_in_order(&self) -> bool {
        let ascending = self
            .calls
            .windows(2)
            .all(|pair| matches!(pair, [one, next] if one < next));
        ascending && (1..=MOST_ERASED).contains(&self.calls.len())
    }
}

/// Why values were erased, as the operator said it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The calls ended longer ago than this.
    Age(Age),
    /// The calls were somebody's.
    Subject(Subject),
}

/// How long ago a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Age {
    /// In days of 24 hours.
    pub days: u32,
}

/// Whose calls: a name as entries have it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// Calls by this agent.
    Agent(String),
    /// Calls for this user.
    User(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Age(Age { days: 1 }) => f.write_str("older than 1 day"),
            Self::Age(Age { days }) => write!(f, "older than {days} days"),
            Self::Subject(Subject::Agent(name)) => write!(f, "all by agent {name}"),
            Self::Subject(Subject::User(name)) => write!(f, "all for user {name}"),
        }
    }
}

/// The operator started a run. Calls that name it are its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunStarted {
    /// Who, where that was an operator over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<OperatorShown>,
    /// The most that the run may use up, in the order of the units' names, each once.
    pub caps: Vec<RunCap>,
    /// How much of it may fail before it only reads. Absent where that is not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<ErrorBound>,
    /// From then on it is over, in milliseconds since 1970.
    #[serde(with = "number")]
    pub expires: u64,
    /// What its calls may do at most.
    pub mode: Mode,
    /// The word of the operator that it was started once for, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
    /// Whose calls they are.
    pub principal: Principal,
    /// Its id.
    pub run: String,
}

/// The most that a run may use up of something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunCap {
    /// How much.
    #[serde(with = "number")]
    pub cap: u64,
    /// Whose approvals let one effect pass it. Absent where nobody's do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Over>,
    /// Of what.
    pub unit: Unit,
}

/// How much of a run may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorBound {
    /// It is not looked at before so many calls and effects came to an end: at least 1.
    pub least: u32,
    /// The most of them that may fail, in percent: 1 to 100.
    pub percent: u32,
}

/// The operator ended a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunEnded {
    /// Who, where that was an operator over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<OperatorShown>,
    /// Its id.
    pub run: String,
}

/// Too much of a run failed. It follows the entry that says so of the last one, in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunDegraded {
    /// How many of its calls and effects failed.
    #[serde(with = "number")]
    pub failed: u64,
    /// How many came to an end.
    #[serde(with = "number")]
    pub finished: u64,
    /// Its id.
    pub run: String,
}

/// A service failed too often. Until then nothing of it is used; after that one read at a time shows whether it works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerOpened {
    /// The connection's name.
    pub connection: String,
    /// The failures that did it: one, where a read that was to show that it works failed.
    pub failures: u32,
    /// How many times in a row: 1 where it was closed before.
    pub in_a_row: u32,
    /// The route, where that has a breaker of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// In milliseconds since 1970, by the clock of the host.
    #[serde(with = "number")]
    pub until: u64,
}

/// A service that was left alone is used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerClosed {
    /// The connection's name.
    pub connection: String,
    /// The route, where that has a breaker of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Why.
    pub why: ClosedBy,
}

/// What closed a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClosedBy {
    /// A read went well.
    Probe,
    /// The operator.
    Operator,
}

/// A service asked to be left alone, in an answer: `Retry-After`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePaused {
    /// The connection's name.
    pub connection: String,
    /// In milliseconds since 1970, by the clock of the host. An hour at most after the entry.
    #[serde(with = "number")]
    pub until: u64,
}

/// The operator gave up an effect that failed for good: it is in the list of dead letters no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterDropped {
    /// Its call.
    pub call: String,
    /// Which of the call's effects.
    pub ordinal: u32,
    /// Why.
    pub why: Dropped,
}

/// Why an operator gave an effect up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dropped {
    /// It had happened after all.
    Happened,
    /// Somebody did it in another way.
    DoneByHand,
    /// Nobody needs it any more.
    Unneeded,
    /// It should never have been asked for.
    Wrong,
}

/// So much of a budget is taken, in one of its windows, that people are to be told: once for each window. The entry is written by the ledger
/// itself, in the transaction of what was set aside last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetWarned {
    /// The budget's name.
    pub budget: String,
    /// Its cap at that time.
    #[serde(with = "number")]
    pub cap: u64,
    /// What was used and reserved of it by then.
    #[serde(with = "number")]
    pub taken: u64,
    /// From how much on people are told.
    #[serde(with = "number")]
    pub warn: u64,
    /// The window that it counts in.
    pub window: String,
}

/// A message of a webhook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// What it says, in the word that the configuration has for it.
    pub event: EventType,
    /// Its id, by which its receiver knows it again: `msg_` and 26 characters of base32.
    pub id: String,
    /// The index of the entry that it is about.
    #[serde(with = "number")]
    pub index: u64,
    /// The webhook's name in the configuration.
    pub webhook: String,
}

/// A webhook's message was given up. It is kept for an operator to have it sent again, or to drop it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookFailed {
    /// How many times it was tried.
    pub attempts: u32,
    /// Why the last of these came to nothing, where there was no answer; `config` where its webhook was taken out of the configuration
    /// while it was to be sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Which.
    pub message: Message,
    /// The status of the last answer, where there was one: 410 ends the webhook until the files are taken anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// The operator has a message that was given up sent again, under its own id. It is under way from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookRetried {
    /// Who, where that was an operator over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<OperatorShown>,
    /// Which.
    pub message: Message,
}

/// The operator gave up a message that nobody took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookDropped {
    /// Who, where that was an operator over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<OperatorShown>,
    /// Which.
    pub message: Message,
}

/// A call that was run again, offline, did not do what it had done. Its own entries stay as they are, whether it is over or not.
///
/// What was expected and what came are told apart by digests that cover the salt of the call's seed: nobody can guess a request
/// from them, and nobody can any more once the call's values are erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallDiverged {
    /// The call.
    pub call: String,
    /// What ran it again: version and settings of the engine.
    pub engine: String,
    /// Digest of what is recorded.
    pub expected: Digest,
    /// Which of the call's effects. Absent where the difference is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<u32>,
    /// What differs.
    pub part: Part,
    /// Digest of what came.
    pub seen: Digest,
}

/// How many calls were run again at a time, offline, by what came of it. What differed of one that diverged is an entry of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallsReplayed {
    /// Those that did not do what they had done.
    pub diverged: u64,
    /// Those of which nothing could be compared, as their values were erased.
    pub partial: u64,
    /// Those that did what they had done.
    pub same: u64,
}

/// What differs of a call that was run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// An effect that was asked for, otherwise or not at all.
    Effect,
    /// How it ended.
    End,
    /// The fuel that it used.
    Fuel,
    /// The function that was called is not there.
    Function,
    /// What it logged.
    Log,
    /// What it returned.
    Result,
}

impl Part {
    /// The word, as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Effect => "effect",
            Self::End => "end",
            Self::Fuel => "fuel",
            Self::Function => "function",
            Self::Log => "log",
            Self::Result => "result",
        }
    }
}

/// What was asked for: the same in a call's first and last entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Commitment to the arguments.
    pub args: Digest,
    /// The function's id, `interface.function`.
    pub function: String,
    /// Every limit the call ran under.
    pub limits: LimitList,
    /// The mode of the run.
    pub mode: Mode,
    /// The most that the function may do.
    pub tier: Tier,
    /// The tool's name in the configuration. Its component is the entry's `tool`.
    pub tool: String,
}

/// Limits by name, sorted, each in the unit that its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitList(Vec<(Cow<'static, str>, u64)>);

impl LimitList {
    /// The limits, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, limit)| (name.as_ref(), *limit))
    }
}

impl From<&Limits> for LimitList {
    fn from(limits: &Limits) -> Self {
        // Taken apart, so that a new limit cannot be forgotten here.
        let Limits {
            fuel,
            memory_bytes,
            wall_ms,
            upstream_ms,
            stack_bytes,
            args_bytes,
            result_bytes,
            log_bytes,
            request_body_bytes,
            response_body_bytes,
            effects,
            json_depth,
            concurrent_calls,
            hold_ms,
            open_holds,
        } = *limits;
        let sorted = [
            ("args_bytes", args_bytes),
            ("concurrent_calls", concurrent_calls.into()),
            ("effects", effects.into()),
            ("fuel", fuel),
            ("hold_ms", hold_ms),
            ("json_depth", json_depth.into()),
            ("log_bytes", log_bytes),
            ("memory_bytes", memory_bytes),
            ("open_holds", open_holds.into()),
            ("request_body_bytes", request_body_bytes),
            ("response_body_bytes", response_body_bytes),
            ("result_bytes", result_bytes),
            ("stack_bytes", stack_bytes),
            ("upstream_ms", upstream_ms),
            ("wall_ms", wall_ms),
        ];
        Self(sorted.map(|(name, limit)| (Cow::Borrowed(name), limit)).into())
    }
}

impl Serialize for LimitList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, limit)| (name, Number(*limit))))
    }
}

impl<'de> Deserialize<'de> for LimitList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = LimitList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("limits by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<LimitList, A::Error> {
                let mut limits: Vec<(Cow<'static, str>, u64)> = Vec::new();
                while let Some((name, Number(limit))) = members.next_entry::<String, Number>()? {
                    // Printing again would show neither: a list can hold a name twice, and in any order.
                    if limits.last().is_some_and(|(last, _)| **last >= *name) {
                        return Err(de::Error::custom("a limit twice, or not in the order of names"));
                    }
                    limits.push((Cow::Owned(name), limit));
                }
                Ok(LimitList(limits))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Why something was refused, as far as the ledger says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Which kind of rule refused.
    pub code: Code,
    /// Commitment to the whole refusal, whose sentence may quote what the guest asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Digest>,
    /// The `@id` of the policy that decided, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

impl Refused {
    /// What the ledger says of a refusal. `detail` is the commitment to the whole of it.
    #[must_use]
    pub fn of(refusal: &Refusal, detail: Option<Digest>) -> Self {
        Self {
            code: refusal.code,
            detail,
            rule: refusal.rule.clone(),
        }
    }
}

/// How far a denied call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Its caller was not verified.
    Caller,
    /// It may not be part of the run that it names.
    Run,
    /// Its tool was not found, or is not the accepted one.
    Tool,
    /// An operator has stopped its agent, tool, connection or all, or its caller has taken it back.
    Stopped,
    /// Its function was not found.
    Function,
    /// Its arguments did not fit.
    Arguments,
    /// Policy did not permit it.
    Policy,
    /// A budget had no room for it.
    Budget,
    /// No grant could be made of what was permitted: a binding, a narrowing.
    Grant,
    /// It was to undo another call, of which there is nothing to undo, or not now.
    Undo,
}

/// A call was refused before its guest ran. Names are there as far as they were found in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallDenied {
    /// Commitment to the arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Digest>,
    /// How it came, where an agent asked for it over a protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival: Option<Arrival>,
    /// The budget that had no room for it. Entries of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// How its caller showed who it is, where that was over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<ShownBy>,
    /// The function's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The mode it was asked in: a fact that policy decided on. Entries of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The word of its caller that it is made once for, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
    /// Why.
    pub refused: Refused,
    /// The `@id`s of all policies that decided.
    pub rules: Vec<String>,
    /// The run that it named, where there is one of that id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// How far it came.
    pub stage: Stage,
    /// The tool's name in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The call that the operator wanted undone by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<Rollback>,
}

/// A call was permitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallAccepted {
    /// How it came, where an agent asked for it over a protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival: Option<Arrival>,
    /// What was asked for.
    pub asked: Asked,
    /// How its caller showed who it is, where that was over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<ShownBy>,
    /// The dead letter that the operator tries again by it: no guest runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub letter: Option<Letter>,
    /// The word of its caller that it is made once for, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
    /// What was reserved for the call as a whole.
    pub reserved: Vec<Reservation>,
    /// The `@id`s of the policies that permitted it.
    pub rules: Vec<String>,
    /// The run that it belongs to. Absent where it belongs to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Commitment to the seed of the guest's randomness.
    pub seed: Digest,
    /// The call that the operator has undone by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<Rollback>,
}

impl CallAccepted {
    /// Whether a guest runs in it: in an operator's retry of a dead letter and in a rollback by routes none does.
    #[must_use]
    pub fn runs_a_guest(&self) -> bool {
        let by_routes = self.undoes.as_ref().is_some_and(|undoes| undoes.by == By::Routes);
        self.letter.is_none() && !by_routes
    }
}

/// What a call is there to undo.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// In which of the two ways.
    pub by: By,
    /// The call that is undone.
    pub call: String,
    /// Whether what somebody else changed since is written over too: the operator said so.
    #[serde(default, skip_serializing_if = "is_not")]
    pub over_changes: bool,
    /// The effects that are left as they are: the operator said so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip: Vec<u32>,
}

impl Rollback {
    /// Which effects are left as they are, at the end of a sentence.
    #[must_use]
    pub fn left(&self) -> String {
        let skip: Vec<String> = self.skip.iter().map(ToString::to_string).collect();
        match skip.as_slice() {
            [] => String::new(),
            [one] => format!(", without effect {one}"),
            many => format!(", without effects {}", many.join(", ")),
        }
    }
}

/// How a call is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// The tool's own function, the one that the undone function declares: its guest runs.
    Function,
    /// Effect by effect, the last first, as each one's route says: no guest runs.
    Routes,
}

impl By {
    /// The word, as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Routes => "routes",
        }
    }
}

/// The effect of another call that an effect takes back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undoes {
    /// Its call.
    pub call: String,
    /// Which of the call's effects.
    pub ordinal: u32,
}

/// Who wants an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The guest: it asked for it.
    Guest,
    /// The host, for a decision it has to make: a look-up, a token.
    Host,
    /// The operator: what a guest asked for in another call failed for good and is tried again, or happened and is taken back. No guest runs.
    Operator,
}

impl Cause {
    /// The word, as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Host => "host",
            Self::Operator => "operator",
        }
    }
}

/// Money, in minor units of a currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amount {
    /// Of which currency.
    pub currency: Currency,
    /// Minor units: cents, where there are cents.
    #[serde(with = "number")]
    pub minor: u64,
}

impl Amount {
    /// What an effect spends; none where its route moves no money. A negative amount, which no check lets through, would stand as the
    /// highest there is.
    #[must_use]
    pub fn of(spend: &Spend) -> Option<Self> {
        match spend {
            Spend::None => None,
            Spend::Known { currency, minor } => Some(Self {
                currency: *currency,
                minor: u64::try_from(*minor).unwrap_or(u64::MAX),
            }),
        }
    }
}

/// What a budget set aside.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// How much, in the budget's unit.
    #[serde(with = "number")]
    pub amount: u64,
    /// The budget's name.
    pub budget: String,
    /// Its cap at that time.
    #[serde(with = "number")]
    pub cap: u64,
    /// The hold by whose approvals it may pass the cap. Absent where it may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over: Option<Digest>,
    /// From how much on, used and reserved together, people are told. Absent where nobody is.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "number::optional")]
    pub warn: Option<u64>,
    /// The window that it counts in.
    pub window: String,
}

/// What became of a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settlement {
    /// How much of it is used for good; the rest is free again.
    #[serde(with = "number")]
    pub amount: u64,
    /// The budget's name.
    pub budget: String,
    /// The window that it counts in.
    pub window: String,
}

/// An effect was refused before its intent: nothing left. Names are there as far as the request got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectRefused {
    /// Commitment to what the guest asked for, in its own words; a request of the host's own has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Digest>,
    /// Who wanted it.
    pub cause: Cause,
    /// The connection's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The effect's digest, where it was well-formed enough to have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<Digest>,
    /// How the hold that ends with this ends: what [`Progress::end`](crate::hold::Progress::end) came to. Entries of earlier versions
    /// do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<hold::End>,
    /// The budgets that had no room for it, where policy was told so: a fact that it decided on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exhausted: Vec<String>,
    /// The hold that ends with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Digest>,
    /// The label of the guest's import.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<String>,
    /// Which of the call's effects, refused and intended ones counted together. No two have the same number.
    pub ordinal: u32,
    /// Why.
    pub refused: Refused,
    /// The route's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The `@id`s of all policies that decided.
    pub rules: Vec<String>,
    /// The money it would have moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spend: Option<Amount>,
    /// The route's tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// The effect of another call that it would have taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<Undoes>,
}

/// An effect waits for approvals: policy denies it, or a budget has no room for it, and some would permit it. The guest that asked for it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectHeld {
    /// Commitment to what the guest asked for, in its own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Digest>,
    /// The people who edited it, in the order of their names, each once: their approvals do not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authors: Vec<String>,
    /// Commitment to what the object was that it would change, where its route says how to read it. The hold's id binds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Digest>,
    /// The connection's name.
    pub connection: String,
    /// The hold in whose place this is, by the edit in the entry before it. Absent where it is what the guest asked for.
    #[serde(default, rename = "edited-from", skip_serializing_if = "Option::is_none")]
    pub edited_from: Option<Digest>,
    /// The effect's digest.
    pub effect: Digest,
    /// From then on it is over, in milliseconds since 1970.
    #[serde(with = "number")]
    pub expires: u64,
    /// The hold's id, which approvals are for.
    pub hold: Digest,
    /// The label of the guest's import.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<String>,
    /// How many effects of the agent may wait at a time, this one among them.
    pub most: u32,
    /// The smallest sets of approvals that would permit it, each by group: any of them.
    pub needs: Vec<Need>,
    /// Which of the call's effects.
    pub ordinal: u32,
    /// The budgets whose caps the approvals let it pass: those that had no room for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over: Vec<String>,
    /// Commitment to the request as it would be sent.
    pub request: Digest,
    /// The route's name.
    pub route: String,
    /// The `@id`s of the policies that deny it for now.
    pub rules: Vec<String>,
    /// The most money it can move. Absent where it moves none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spend: Option<Amount>,
    /// The route's tier.
    pub tier: Tier,
    /// Digest of the connection's settings that decide where the request goes and under which credential. Holds of earlier versions
    /// have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<Digest>,
    /// The effect of another call that it takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<Undoes>,
}

impl EffectHeld {
    /// The hold, as votes and edits are about it.
    #[must_use]
    pub fn hold(&self, principal: Principal) -> Hold {
        Hold {
            id: self.hold,
            principal,
            authors: self.authors.clone(),
            needs: self.needs.clone(),
            expires_ms: self.expires,
        }
    }

    /// The name of the value that `request` commits to.
    #[must_use]
    pub fn request_name(&self) -> String {
        held_name(self.ordinal, self.edited_from.as_ref())
    }

    /// The name of the value that `before` commits to.
    #[must_use]
    pub fn before_name(&self) -> String {
        before_name(self.ordinal, self.edited_from.as_ref())
    }
}

/// The name of the value that has what an effect changes, as it was read before. That of an edited one names the hold in whose place it is.
#[must_use]
pub fn before_name(ordinal: u32, edited_from: Option<&Digest>) -> String {
    match edited_from {
        None => format!("effect/{ordinal}/before"),
        Some(from) => format!("effect/{ordinal}/before/{}", from.to_hex()),
    }
}

/// The name of the value that has a held request. An edited one names the hold in whose place it is.
#[must_use]
pub fn held_name(ordinal: u32, edited_from: Option<&Digest>) -> String {
    match edited_from {
        None => format!("effect/{ordinal}/held"),
        Some(from) => format!("effect/{ordinal}/held/{}", from.to_hex()),
    }
}

/// A person edited a held effect. The entry after it, of the same transaction, holds what it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldEdited {
    /// Commitment to the [`Changes`](hold::Changes): all that differs from what the guest asked for.
    pub changes: Digest,
    /// What the person signed: person, group, the changes' digest and expiry are in it.
    pub edit: String,
    /// The hold that ends with this.
    pub hold: Digest,
    /// Which of the call's effects is held.
    pub ordinal: u32,
    /// Commitment to the person's reason, where they gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Digest>,
    /// The hold that waits in its place.
    pub to: Digest,
}

impl HoldEdited {
    /// The name of the value that `changes` commits to.
    #[must_use]
    pub fn changes_name(&self) -> String {
        format!("effect/{}/edit/{}", self.ordinal, self.hold.to_hex())
    }

    /// The name of the value that `reason` commits to.
    #[must_use]
    pub fn reason_name(&self) -> String {
        format!("effect/{}/edit-reason/{}", self.ordinal, self.hold.to_hex())
    }
}

/// A person said yes or no to a held effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldVoted {
    /// Who handed it in, where that was an operator over HTTP: the reason is as they gave it, and signed by nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<OperatorShown>,
    /// The hold.
    pub hold: Digest,
    /// BREAK-GLASS: the approvals that this vote alone stands for. Absent where it is a vote like others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<Need>,
    /// Which of the call's effects is held.
    pub ordinal: u32,
    /// Commitment to the person's reason, where they gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Digest>,
    /// What the person signed: person, group, verdict and expiry are in it.
    pub vote: String,
}

/// An effect was permitted. Durable before a byte of it leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectIntent {
    /// Commitment to what the guest asked for, in its own words; a request of the host's own has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Digest>,
    /// Commitment to what the object was that it changes, where its route says how to read it: of one that was held, the hold's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Digest>,
    /// Who wants it.
    pub cause: Cause,
    /// The connection's name.
    pub connection: String,
    /// The effect's digest: what policy decided on, and what is sent.
    pub effect: Digest,
    /// The hold that ends with this: its approvals are used up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Digest>,
    /// The label of the guest's import; a request of the host's own may have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<String>,
    /// The dead letter that this takes from the list, where the operator wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub letter: Option<Letter>,
    /// Which of the call's effects.
    pub ordinal: u32,
    /// Commitment to the request as it is sent.
    pub request: Digest,
    /// What was reserved for it.
    pub reserved: Vec<Reservation>,
    /// The route's name.
    pub route: String,
    /// The `@id`s of the policies that permitted it.
    pub rules: Vec<String>,
    /// The most money it can move. Absent where it moves none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spend: Option<Amount>,
    /// The route's tier.
    pub tier: Tier,
    /// The effect of another call that it takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<Undoes>,
}

/// An effect is sent again, the same request under the same key. Durable before a byte of it leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectRetried {
    /// How the sending before ended.
    pub after: Outcome,
    /// Which sending it is: 2 for the first that is sent again.
    pub attempt: u32,
    /// The connection's name.
    pub connection: String,
    /// The intent's number.
    pub ordinal: u32,
    /// Commitment to the request, which is the intent's.
    pub request: Digest,
    /// The route's name.
    pub route: String,
}

/// An effect that failed for good and is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Letter {
    /// Its call.
    pub call: String,
    /// Whether the service is given another idempotency key than that effect had: it may then do it twice.
    pub new_key: bool,
    /// Which of the call's effects.
    pub ordinal: u32,
}

impl EffectIntent {
    /// Whether it matters that nobody knows if it happened: it is no read, and not the host's own.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.cause != Cause::Host && self.tier != Tier::Read
    }
}

/// What became of an intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The service answered.
    Answered(Answered),
    /// Nothing of it left the host.
    NotSent(Refused),
    /// It may or may not have happened.
    InDoubt(Doubt),
}

/// The service answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The status of the answer.
    pub status: u16,
}

/// Why nobody knows whether an effect happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doubt {
    /// No answer came in time.
    Timeout,
    /// The connection broke after the request had begun.
    Connection,
    /// An answer came that could not be read: too large, or malformed.
    Answer,
    /// The host ended before it could record an outcome.
    Restart,
    /// An operator stopped the call, or its caller took it back, before its answer came.
    Stopped,
}

impl Doubt {
    /// The word, as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Answer => "answer",
            Self::Restart => "restart",
            Self::Stopped => "stopped",
        }
    }
}

/// What became of an intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectOutcome {
    /// Whether it is the host's own reading of an object, and the service said that there is none: that is an answer, and no failure.
    #[serde(default, skip_serializing_if = "is_not")]
    pub absent: bool,
    /// Commitment to what the guest, or for its own request the host, was told; none where the host ended before it told anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Digest>,
    /// How many times it was sent, or tried to be: 1 where nothing is said.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub attempts: u32,
    /// Whether it failed for good, on a route that keeps such effects for a person to retry or drop.
    #[serde(default, skip_serializing_if = "is_not")]
    pub dead: bool,
    /// How its last sending ended, where that is not what became of the effect: it did not leave, after one that did; or the answer could
    /// not be read, and had this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Outcome>,
    /// Milliseconds from the first byte sent to the last received, or to giving up.
    #[serde(with = "number")]
    pub ms: u64,
    /// The intent's number.
    pub ordinal: u32,
    /// What became of it.
    pub outcome: Outcome,
    /// Bytes that came back.
    #[serde(with = "number")]
    pub received: u64,
    /// Bytes that left.
    #[serde(with = "number")]
    pub sent: u64,
    /// What became of its reservations. Those not named stay reserved.
    pub settled: Vec<Settlement>,
    /// The money that counts as spent: the intent's where the effect happened or may have, none where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spent: Option<Amount>,
}

const fn once() -> u32 {
    1
}

const fn is_once(attempts: &u32) -> bool {
    *attempts == 1
}

const fn is_not(flag: &bool) -> bool {
    !*flag
}

const fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl EffectOutcome {
    /// Whether nobody knows if the effect happened.
    #[must_use]
    pub const fn is_in_doubt(&self) -> bool {
        matches!(self.outcome, Outcome::InDoubt(_))
    }

    /// How its last sending ended.
    #[must_use]
    pub fn last_sending(&self) -> &Outcome {
        self.last.as_ref().unwrap_or(&self.outcome)
    }

    /// Whether the service says that it did what was asked for.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.outcome, Outcome::Answered(Answered { status: 200..=299 }))
    }

    /// Whether the host ended while it was under way, so that nobody was told anything of it: it may be sent again.
    #[must_use]
    pub const fn is_unseen(&self) -> bool {
        matches!(self.outcome, Outcome::InDoubt(Doubt::Restart)) && self.answer.is_none()
    }
}

/// What was seen of an effect when what it changed was read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// Each field that was sent, and that can be read, is there as it was sent; or the object is gone, which was wanted.
    Shown,
    /// The object is there, and no field that was sent is one that can be read.
    NothingToCompare,
    /// A field is not as it was sent, the object is not there, or it is there and should be gone.
    Missing,
    /// The object could not be read back.
    Unreadable,
}

impl Shown {
    /// Whether nothing shows that the effect happened as its service said: it counts as an error.
    #[must_use]
    pub const fn is_unverified(self) -> bool {
        matches!(self, Self::Missing | Self::Unreadable)
    }

    /// The word, as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::NothingToCompare => "nothing-to-compare",
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What the host saw of an effect that was answered with success, when it read back what that changed. One that a crash came before has
/// none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectChecked {
    /// Commitment to the difference, field by field.
    pub diff: Digest,
    /// The intent's number.
    pub ordinal: u32,
    /// What was seen.
    pub shown: Shown,
}

/// What an operator found out about an effect that was in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// It happened, and its answer was not seen.
    Done,
    /// It did not happen.
    NotDone,
}

impl Found {
    /// The word, as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NotDone => "not-done",
        }
    }
}

/// An operator said what became of an effect whose outcome is that it is in doubt. It may come after the call's end: what its budgets
/// set aside for it waits for this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectResolved {
    /// Commitment to what the guest is told when its call goes on; none where it was told something at that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Digest>,
    /// Whether it goes back to the list of effects that failed for good: it was an operator's retry of one, and did not happen.
    #[serde(default, skip_serializing_if = "is_not")]
    pub dead: bool,
    /// What was found out.
    pub found: Found,
    /// The intent's number.
    pub ordinal: u32,
    /// Commitment to the operator's reason, where they gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Digest>,
    /// What became of its reservations: of all that were still set aside.
    pub settled: Vec<Settlement>,
    /// The money that counts as spent: the outcome's, where it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spent: Option<Amount>,
}

/// A change came under safe mode: its guest has ended, and the call goes on once that is lifted. Nothing of the effect is decided or
/// recorded; its guest asks for it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallPaused {
    /// Commitment to what the guest asked for, where that was on the ledger before the stop came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Digest>,
    /// The number that the effect would have had.
    pub ordinal: u32,
    /// The stop's id.
    pub stop: String,
}

/// The host ends, and the call with it for now: its guest was stopped, and the next host that serves goes on with it by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallSuspended {
    /// Where the guest had asked for something that was decided about and has no entry of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<BeforeEffect>,
    /// Fuel that the guest had used by then.
    #[serde(with = "number")]
    pub fuel: u64,
}

/// An effect that a guest asked for, and that nothing is recorded of but the words: its guest asks for it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeforeEffect {
    /// Commitment to what the guest asked for.
    pub asked: Digest,
    /// The number that the effect would have had.
    pub ordinal: u32,
}

/// A call goes on, and another guest of it runs from its beginning: durable before that, where fuel is set aside for the call or it was
/// suspended. One that has no end on the ledger ended with its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallResumed {
    /// Which guest of the call: 2 for the first that goes on.
    pub guest: u32,
}

/// A guest of a call ended, and its call has not: it waits, or stays as it was. What its fuel comes to is settled with the call's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestEnded {
    /// Fuel used.
    #[serde(with = "number")]
    pub fuel: u64,
    /// Which guest of the call.
    pub guest: u32,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// With a result.
    Ok(Returned),
    /// With the tool's own error.
    ToolError(Returned),
    /// A rule of the host ended it.
    Refused(Refused),
    /// The guest failed: a trap, or a limit of its own.
    Trapped(Refused),
    /// The host ended before the call did.
    Interrupted,
}

/// What a function returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Returned {
    /// Commitment to the value.
    pub result: Digest,
}

/// How many effects of a call, the host's own included, came to which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EffectCounts {
    /// The service answered.
    pub answered: u32,
    /// Nobody knows.
    pub in_doubt: u32,
    /// Nothing left, though it was intended.
    pub not_sent: u32,
    /// Refused before an intent.
    pub refused: u32,
    /// Answered with success, and not seen when what they changed was read back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unverified: u32,
}

/// A call's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallFinished {
    /// What was asked for.
    pub asked: Asked,
    /// What was read back of its effects, in the order of their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checked: Vec<EffectChecked>,
    /// The numbers of its effects that people edited, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edited: Vec<u32>,
    /// What its effects came to. [`Tally`] counts them.
    pub effects: EffectCounts,
    /// The engine of the guest that ended it, where that was another one than the call began on: fuel is that engine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Fuel used.
    #[serde(with = "number")]
    pub fuel: u64,
    /// Commitment to what the guest logged and printed, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Digest>,
    /// Most memory the guest had, in bytes.
    #[serde(with = "number")]
    pub memory: u64,
    /// Milliseconds from acceptance, time waiting for services not counted.
    #[serde(with = "number")]
    pub ms: u64,
    /// How it ended.
    pub outcome: End,
    /// What became of the reservations for the call as a whole.
    pub settled: Vec<Settlement>,
    /// Money that its effects spent, or may have: one sum a currency, in the order of their names.
    pub spent: Vec<Amount>,
    /// The call that it was there to undo, as its first entry says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<Rollback>,
    /// Milliseconds waiting for services.
    #[serde(with = "number")]
    pub upstream: u64,
}

/// Adds up what a call's effects came to: for whoever writes its last entry, and for whoever checks that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    checked: Vec<EffectChecked>,
    counts: EffectCounts,
    edited: BTreeSet<u32>,
    spent: BTreeMap<Currency, u64>,
}

impl Tally {
    /// Counts a refusal.
    pub fn refused(&mut self) {
        self.counts.refused = self.counts.refused.saturating_add(1);
    }

    /// Counts an outcome and the money it spent. A sum that passes `u64::MAX` stays there: more than every cap.
    pub fn outcome(&mut self, outcome: &EffectOutcome) {
        let count = match outcome.outcome {
            Outcome::Answered(_) => &mut self.counts.answered,
            Outcome::NotSent(_) => &mut self.counts.not_sent,
            Outcome::InDoubt(_) => &mut self.counts.in_doubt,
        };
        *count = count.saturating_add(1);
        if let Some(Amount { currency, minor }) = &outcome.spent {
            let sum = self.spent.entry(*currency).or_default();
            *sum = sum.saturating_add(*minor);
        }
    }

    /// Notes that a person edited an effect.
    pub fn edit(&mut self, ordinal: u32) {
        self.edited.insert(ordinal);
    }

    /// The numbers of the effects that people edited, ascending.
    #[must_use]
    pub fn edited(&self) -> Vec<u32> {
        self.edited.iter().copied().collect()
    }

    /// Takes back the money of an outcome that was in doubt and turned out not to have happened. Its count stays: it ended in doubt.
    pub fn not_done(&mut self, outcome: &EffectOutcome) {
        if let Some(Amount { currency, minor }) = &outcome.spent {
            let sum = self.spent.entry(*currency).or_default();
            *sum = sum.saturating_sub(*minor);
        }
        self.spent.retain(|_, sum| *sum > 0);
    }

    /// Takes back an outcome that was in doubt, of an effect that is sent again: it is under way once more, and ends anew.
    pub fn again(&mut self, outcome: &EffectOutcome) {
        self.counts.in_doubt = self.counts.in_doubt.saturating_sub(1);
        self.not_done(outcome);
    }

    /// Counts what was read back of an effect.
    pub fn checked(&mut self, checked: &EffectChecked) {
        let unverified = u32::from(checked.shown.is_unverified());
        self.counts.unverified = self.counts.unverified.saturating_add(unverified);
        self.checked.push(checked.clone());
        self.checked.sort_by_key(|checked| checked.ordinal);
    }

    /// What was read back so far, in the order of the effects' numbers.
    #[must_use]
    pub fn checks(&self) -> &[EffectChecked] {
        &self.checked
    }

    /// The counts so far.
    #[must_use]
    pub const fn counts(&self) -> EffectCounts {
        self.counts
    }

    /// The sums so far.
    #[must_use]
    pub fn spent(&self) -> Vec<Amount> {
        self.spent
            .iter()
            .map(|(currency, minor)| Amount {
                currency: *currency,
                minor: *minor,
            })
            .collect()
    }
}
