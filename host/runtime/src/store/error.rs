//! What can go wrong at the store, each with the thing it is about and the way out.

use std::io;
use std::path::{Path, PathBuf};

use ambit_core::error::{Code, Refusal};
use ambit_core::ledger::{Bad, LedgerError};
use ambit_core::run::RunError;
use ambit_core::stop::Stop;

use super::Erased;

/// Why the store did not do something. Whatever it says, nothing of the batch was written, except for
/// [`StoreError::Failed`], after which nobody knows before the ledger is opened again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process holds the home.
    #[error("{home} is in use by {}", holder(*.pid))]
    InUse {
        /// The home directory.
        home: PathBuf,
        /// Who holds it, where its lock file says so.
        pid: Option<u32>,
    },
    /// The home can't be written to.
    #[error("{home} cannot be written to ({why})")]
    ReadOnly {
        /// The home directory.
        home: PathBuf,
        /// What the operating system said.
        why: String,
    },
    /// There is no ledger where one was to be read.
    #[error("there is no ledger at {path}")]
    Missing {
        /// Where the ledger would be.
        path: PathBuf,
    },
    /// A file that is not an Ambit ledger stands in the ledger's place.
    #[error("{path} is not an Ambit ledger")]
    NotALedger {
        /// The file.
        path: PathBuf,
    },
    /// The ledger was written by another version of Ambit.
    #[error("{path} is a ledger of another version: it has format {found}, this Ambit reads format {expected}")]
    Version {
        /// The file.
        path: PathBuf,
        /// The format it says it has.
        found: i64,
        /// The only format that this version reads and writes.
        expected: i64,
    },
    /// The ledger was begun with another key.
    #[error("{path} was begun with the key `{ledger}`, but the home's key is `{key}`")]
    OtherKey {
        /// The ledger.
        path: PathBuf,
        /// The verifier key that the ledger was begun with.
        ledger: String,
        /// The verifier key of the home.
        key: String,
    },
    /// A key file that others may read.
    #[error("{path} may be read or written by others than its owner (mode {mode:04o})")]
    TooOpen {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key file that is missing or is not one.
    #[error("{path}: {why}")]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The ledger has fewer entries than it is known to have had.
    #[error(
        "the ledger has {ledger} entries, but {path} proves that it had {known}: it was cut off, or restored from an older copy"
    )]
    Shorter {
        /// Entries that the ledger has.
        ledger: u64,
        /// Entries that the high-water checkpoint signs.
        known: u64,
        /// The high-water checkpoint.
        path: PathBuf,
    },
    /// The ledger is not the continuation of one that its key signed before.
    #[error("the ledger's first {known} of {ledger} entries are not those that {path} proves: it was rewritten")]
    Rewritten {
        /// Entries that the ledger has.
        ledger: u64,
        /// Entries that the high-water checkpoint signs.
        known: u64,
        /// The high-water checkpoint.
        path: PathBuf,
    },
    /// The high-water checkpoint is missing or can't be read.
    #[error("the high-water checkpoint {path} {why}")]
    HighWater {
        /// Where it is kept.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The ledger contradicts itself.
    #[error("the ledger is damaged: {what}")]
    Damaged {
        /// The first contradiction.
        what: String,
    },
    /// The ledger, a proof or a checkpoint is not what it should be, or does not have what was asked for.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What a check of the whole ledger found first.
    #[error(transparent)]
    Bad(#[from] Bad),
    /// A reservation would take a budget over its cap.
    #[error("budget `{name}` has {} of {cap} left, and {asked} is asked for", .cap.saturating_sub(.used.saturating_add(*.reserved)))]
    Budget {
        /// The budget's name.
        name: String,
        /// Its cap in this window.
        cap: u64,
        /// What is spent in this window.
        used: u64,
        /// What is reserved by effects under way or in doubt.
        reserved: u64,
        /// What this effect asked for.
        asked: u64,
    },
    /// A call or an effect is not part of the run that it would be of.
    #[error("run {run} {why}")]
    Run {
        /// The run.
        run: String,
        /// Why not.
        why: RunError,
    },
    /// As many effects of an agent wait for approvals as may.
    #[error("{most} effects of agent {agent} wait for approvals, and no more may")]
    Holds {
        /// The agent.
        agent: String,
        /// How many may wait.
        most: u32,
    },
    /// An intent, or an edit, would end a hold that has expired by the entry's time.
    #[error("not written to the ledger: the hold has expired")]
    HoldExpired,
    /// A call was made already, or a run started, for the word of whoever asked.
    #[error("{call} was made for the same word of its caller")]
    Repeated {
        /// That call, or run.
        call: String,
    },
    /// What is left of the disk is kept for the outcomes of effects that are under way.
    #[error("only {free} bytes are left for the ledger, and {reserve} are kept for the outcomes of what is under way")]
    NoRoom {
        /// Bytes left, less what this batch needs.
        free: u64,
        /// Bytes kept.
        reserve: u64,
    },
    /// An operator's stop forbids the intent.
    #[error("not written to the ledger: the effect is under a {0}")]
    Stopped(Stop),
    /// A batch that contradicts itself or what is on the ledger: a fault of the host.
    #[error("not written to the ledger: {why}")]
    Batch {
        /// The contradiction.
        why: String,
    },
    /// A committed intent gave no leave to send: a fault of the host.
    #[error("the committed intent gave no leave to send")]
    Unintended,
    /// An intent's time to be sent is over.
    #[error("the intent at ledger index {index} was not sent in time")]
    Expired {
        /// The ledger index of the intent.
        index: u64,
    },
    /// Payloads that were not found, or can't be decrypted.
    #[error("payload `{name}` of call {call} {why}")]
    Payload {
        /// The call.
        call: String,
        /// The payload's name within the call.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A value that was erased, as an entry says.
    #[error("payload `{name}` of call {call} was {erased}")]
    Erased {
        /// The call.
        call: String,
        /// The payload's name within the call.
        name: String,
        /// When, by which entry, and why.
        erased: Erased,
    },
    /// Reading failed.
    #[error("{path}: {why}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system or SQLite said.
        why: String,
    },
    /// Writing failed, now or earlier: the store writes nothing any more.
    #[error("the ledger can no longer be written: {cause}")]
    Failed {
        /// The first failure.
        cause: String,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

impl StoreError {
    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            why: error.to_string(),
        }
    }

    pub(crate) fn batch(why: impl Into<String>) -> Self {
        Self::Batch { why: why.into() }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }

    /// What the operator can do, where there is something.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        Some(match self {
            Self::InUse { .. } => "One process holds a home. Wait for it, stop it, or use another home.".into(),
            Self::ReadOnly { home, .. } => format!("Make {} writable for this user, or use another home.", home.display()),
            Self::Missing { .. } => "`ambit init` makes a home; `--home DIR` or AMBIT_HOME name another one. A home that had a ledger needs its file back.".into(),
            Self::NotALedger { .. } => "Move the file away, or use another home.".into(),
            Self::Version { .. } => "Use the version of Ambit that wrote it, or begin a new home and keep this one for audits.".into(),
            Self::OtherKey { .. } => "Put back the home's own `keys` directory.".into(),
            Self::TooOpen { path, .. } => format!("Assume that the keys are known to others, or run `chmod go-rwx {}`.", path.display()),
            Self::Shorter { .. } | Self::Rewritten { .. } => {
                "Put back the ledger's latest copy. Find out who replaced it: effects that it does not show may have happened.".into()
            }
            Self::HighWater { .. } => {
                "Put the file back. Where its loss is understood, create it empty: the ledger as it is then becomes the high-water mark.".into()
            }
            Self::Damaged { .. } => "`ambit audit verify` names the first bad entry. Put back a good copy.".into(),
            Self::Budget { .. } => "Ask for less, wait for the budget's next window, or have its cap raised.".into(),
            Self::Holds { .. } => "Decide what waits (`ambit approvals list`), end what has expired (`ambit approvals resume --all`), or raise `open_holds` in [limits].".into(),
            Self::NoRoom { .. } => "Free disk space, or raise the ledger's quota.".into(),
            Self::Erased { .. } => "Nobody can bring it back. The entries of the call, and proofs of them, stand as before.".into(),
            Self::Failed { .. } => "Nothing leaves this host any more. Look after the disk, then start Ambit again.".into(),
            Self::Run { run, why } => return why.refusal(run).advice,
            Self::HoldExpired | Self::Stopped(_) | Self::Repeated { .. } | Self::Ledger(_) | Self::Bad(_) | Self::Keys { .. } | Self::Batch { .. } | Self::Unintended | Self::Expired { .. } | Self::Payload { .. } | Self::Io { .. } => return None,
        })
    }
}

/// That the ledger cannot be read, for whoever calls: where it is and what is wrong with it is for the operator's log.
pub(crate) fn unread(error: StoreError) -> Refusal {
    tracing::error!(%error, "the ledger cannot be read");
    Refusal::new(Code::Ledger, "the ledger cannot be read now").advise("its operator's log says why")
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        if let StoreError::Stopped(stop) = &error {
            return stop.refusal();
        }
        let code = match error {
            StoreError::Budget { .. } => Code::Budget,
            StoreError::Run { .. } => Code::Run,
            StoreError::Holds { .. } => Code::Limit,
            StoreError::HoldExpired => Code::Approval,
            StoreError::Expired { .. } => Code::Time,
            _ => Code::Ledger,
        };
        let refusal = Self::new(code, error.to_string());
        match error.advice() {
            Some(advice) => refusal.advise(advice),
            None => refusal,
        }
    }
}
