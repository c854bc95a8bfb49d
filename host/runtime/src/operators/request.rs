//! What operators ask for and are answered: data alone. No key travels: what a person says is signed where their key is.

use ambit_core::digest::Digest;
use ambit_core::error::Refusal;
use ambit_core::hold::Need;
use ambit_core::identity::key::ApiKey;
use ambit_core::ledger::body::{ActRefused, CallDiverged, CallsReplayed, Dropped, Found, Message, Once, Reason};
use ambit_core::stop;
use serde::{Deserialize, Serialize};

use crate::api_keys;
use crate::call;
use crate::home::Erased;
use crate::reload::Reloaded;
use crate::rollback::{Plan, RollbackOptions};
use crate::runs::NewRun;
use crate::stops::{Done, Runs};
use crate::webhooks::Tested;

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Put a stop into force.
    Stop {
        /// How much is stopped.
        kind: stop::Kind,
        /// What.
        scope: stop::Scope,
        /// Why.
        reason: String,
    },
    /// Lift a stop.
    Lift {
        /// How much is stopped.
        kind: stop::Kind,
        /// What.
        scope: stop::Scope,
        /// Why, where the operator says so.
        reason: Option<String>,
    },
    /// Say what runs.
    Status,
    /// Take the home's files anew.
    Reload,
    /// Accept a component, which stands in the home already, under a tool's name. What runs is what was taken last.
    PinTool {
        /// The tool's name.
        name: String,
        /// The component.
        digest: Digest,
        /// Whether a tool of that name is there, and gets another component.
        again: bool,
    },
    /// Remove a tool. What runs is what was taken last.
    RemoveTool {
        /// The tool's name.
        name: String,
    },
    /// Enrol a person who may approve.
    Enrol {
        /// The text of their public key.
        key: String,
    },
    /// Revoke a person's key.
    Revoke {
        /// The person's name.
        name: String,
    },
    /// Do something about a key that an agent is known by over HTTP.
    Key {
        /// What.
        what: Box<api_keys::Act>,
    },
    /// Enter what a person signed about who votes in their stead.
    Delegate {
        /// The signed note.
        note: String,
    },
    /// Start a run.
    StartRun {
        /// What it is started with.
        run: NewRun,
        /// The word of an operator over HTTP that it is started once for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        once: Option<Once>,
    },
    /// End a run.
    EndRun {
        /// Its id.
        run: String,
    },
    /// Give up an effect that failed for good.
    DropLetter {
        /// Its call.
        call: String,
        /// Which of its effects.
        effect: u32,
        /// Why.
        why: Dropped,
    },
    /// Close the breakers of a connection.
    ResetConnection {
        /// The connection's name.
        connection: String,
    },
    /// Send a message that says nothing to a webhook, once.
    TestWebhook {
        /// The webhook's name.
        webhook: String,
    },
    /// Have a webhook's message that was given up sent again.
    RetryMessage {
        /// The message's id.
        message: String,
    },
    /// Give up a webhook's message that nobody took.
    DropMessage {
        /// The message's id.
        message: String,
    },
    /// Erase values of calls.
    Erase {
        /// Why.
        why: Reason,
        /// When it was looked what that would take, in milliseconds since 1970.
        looked_ms: i64,
        /// What was found then, and shown: [`crate::store::Erasure::digest`].
        found: Digest,
    },
    /// Write down that calls diverged when they were run again.
    Diverged {
        /// The entries.
        calls: Vec<CallDiverged>,
    },
    /// Write down what came of calls that were run again.
    Replayed {
        /// The entry.
        replayed: CallsReplayed,
    },
    /// Write down that an act was refused where no host saw it.
    Refused {
        /// The entry.
        refused: ActRefused,
    },
    /// Count a vote.
    Vote {
        /// What its person signed.
        note: String,
        /// Why, in their words.
        reason: Option<String>,
    },
    /// Put what a person made of a held effect in its place.
    Edit {
        /// What the person signed.
        note: String,
        /// All that is to differ from what the tool asked for.
        changes: String,
        /// Why, in their words.
        reason: Option<String>,
    },
    /// Go on with a call that is decided about, or was interrupted or paused.
    Resume {
        /// The call.
        call: String,
    },
    /// Say which calls go on with an operator's word alone.
    Unended,
    /// End a call where it was interrupted.
    EndCall {
        /// The call.
        call: String,
    },
    /// Write down what became of an effect in doubt.
    Resolve {
        /// Its call.
        call: String,
        /// Which of its effects; its only one, where no number is given.
        effect: Option<u32>,
        /// What was found out.
        found: Found,
        /// How, in the operator's words.
        reason: Option<String>,
    },
    /// Send an effect in doubt again, and go on with its call.
    RetryDoubt {
        /// Its call.
        call: String,
        /// Which of its effects; its only one, where no number is given.
        effect: Option<u32>,
    },
    /// Try a dead letter again.
    RetryLetter {
        /// Its call.
        call: String,
        /// Which of its effects.
        effect: u32,
        /// Under another key.
        new_key: bool,
    },
    /// Say what would undo a call.
    PlanRollback {
        /// The call.
        call: String,
        /// What of it is done.
        options: RollbackOptions,
    },
    /// Undo a call.
    RollBack {
        /// The call.
        call: String,
        /// What of it is done.
        options: RollbackOptions,
    },
}

impl Request {
    /// Whether it takes a whole host: configuration, policy and tools, and not the ledger alone.
    #[must_use]
    pub const fn takes_a_host(&self) -> bool {
        match self {
            Self::Stop { .. }
            | Self::Lift { .. }
            | Self::Status
            | Self::PinTool { .. }
            | Self::RemoveTool { .. }
            | Self::Enrol { .. }
            | Self::Revoke { .. }
            | Self::Key { .. }
            | Self::Delegate { .. }
            | Self::StartRun { .. }
            | Self::EndRun { .. }
            | Self::DropLetter { .. }
            | Self::ResetConnection { .. }
            | Self::TestWebhook { .. }
            | Self::RetryMessage { .. }
            | Self::DropMessage { .. }
            | Self::Erase { .. }
            | Self::Diverged { .. }
            | Self::Replayed { .. }
            | Self::Refused { .. } => false,
            Self::Reload
            | Self::Vote { .. }
            | Self::Edit { .. }
            | Self::Resume { .. }
            | Self::Unended
            | Self::EndCall { .. }
            | Self::Resolve { .. }
            | Self::RetryDoubt { .. }
            | Self::RetryLetter { .. }
            | Self::PlanRollback { .. }
            | Self::RollBack { .. } => true,
        }
    }

    /// Whether it can take as long as a call does, or as a whole ledger takes to be read: it has a thread of its own.
    pub(super) const fn takes_long(&self) -> bool {
        self.takes_tools()
            || matches!(
                self,
                // Of these some wait: for a reload, for what a call does just then, for the ledger to be read.
                Self::DropMessage { .. }
                    | Self::Erase { .. }
                    | Self::Unended
                    | Self::PinTool { .. }
                    | Self::RemoveTool { .. }
                    | Self::ResetConnection { .. }
                    | Self::RetryMessage { .. }
                    | Self::Vote { .. }
                    | Self::TestWebhook { .. }
            )
    }

    /// Whether a call may go on by it, with whatever tool it is of; or it is about all tools.
    pub(super) const fn takes_tools(&self) -> bool {
        matches!(
            self,
            Self::Reload
                | Self::Edit { .. }
                | Self::Resume { .. }
                | Self::RetryDoubt { .. }
                | Self::RetryLetter { .. }
                | Self::PlanRollback { .. }
                | Self::RollBack { .. }
        )
    }

    /// Whether it is heard also by a host that ends and waits for what runs: what stops that, and what says so.
    pub(super) const fn is_about_stops(&self) -> bool {
        matches!(self, Self::Stop { .. } | Self::Lift { .. } | Self::Status)
    }
}

/// What an operator is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is heard and begins now; what comes of it is said within so many milliseconds. What was not heard is not done.
    Begun {
        /// Milliseconds.
        within_ms: u64,
    },
    /// How far the tool says it is.
    Progress {
        /// Steps done.
        done: u64,
        /// Of so many.
        total: u64,
        /// The tool's words.
        message: String,
    },
    /// About a stop.
    Stop(Done),
    /// What runs.
    Status(Status),
    /// What the host took anew.
    Reloaded(Box<Reloaded>),
    /// A tool was accepted or removed.
    Tool {
        /// The component that is accepted now, or was removed.
        digest: Digest,
    },
    /// A person was enrolled or revoked.
    Person(String),
    /// What a key is now.
    Key(Box<ApiKey>),
    /// It is done, and there is nothing more to say.
    Done,
    /// A run was started or ended: its id.
    Run(String),
    /// The routes of a connection whose breakers are closed now: its own has none.
    Closed(Vec<Option<String>>),
    /// What a test of a webhook came to.
    Tested(Tested),
    /// A webhook's message is sent again, or was dropped.
    Message(Message),
    /// Values are erased.
    Erased(Erased),
    /// Written from this index of the ledger on.
    Written(u64),
    /// A vote counts.
    Voted {
        /// The call that waits with it.
        call: String,
        /// What is still missing, each way by itself; none where it is decided.
        missing: Option<Vec<Need>>,
    },
    /// Another effect waits in the place of the one that was edited.
    Edited {
        /// Its call.
        call: String,
    },
    /// A call went on, or was made: how it ended, or that it waits.
    Called(Box<call::Answer>),
    /// Calls that go on with an operator's word alone, the oldest first.
    Calls(Vec<String>),
    /// What is known of an effect in doubt now.
    Resolved {
        /// Which of the call's effects.
        effect: u32,
    },
    /// What would undo a call.
    Plan(Box<Plan>),
    /// It is not done, and why.
    Refused(Refusal),
    /// The host could not do it.
    Failed(String),
    /// Nothing is done: the host ends, or has some of the tools alone, as a command has that makes one call. Whoever opens the home next does
    /// it.
    Busy,
}

/// What runs in the process that holds a home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The process.
    pub pid: u32,
    /// Its calls, the oldest first.
    pub calls: Vec<Runs>,
}
