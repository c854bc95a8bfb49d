//! Runs, as operators start and end them. What a run allows is decided in [`ambit_core::run`].

use ambit_core::error::{Code, Refusal, printable};
use ambit_core::identity::Directory;
use ambit_core::ledger::body::{ErrorBound, Once, OperatorShown, RunCap, RunEnded, RunStarted};
use ambit_core::ledger::{EntryDraft, Principal};
use ambit_core::money::Unit;
use ambit_core::policy::Mode;
use ambit_core::run::{LONGEST_MS, Run, RunError};
use serde::{Deserialize, Serialize};

use crate::clock::clock;
use crate::config::Config;
use crate::host::{Host, OpenError};
use crate::ids;
use crate::store::{Batch, Store, StoreError};

/// What a run is started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// The agent whose calls they are.
    pub agent: String,
    /// The user it acts for.
    pub user: Option<String>,
    /// What its calls may do at most.
    pub mode: Mode,
    /// How long it is open, in milliseconds: at most 31 days.
    pub length_ms: u64,
    /// The most that it may use up, each unit once.
    pub caps: Vec<RunCap>,
    /// How much of it may fail before it only reads.
    pub errors: Option<ErrorBound>,
}

impl Host {
    /// Starts a run: what its principal may do in it, until when, and how much.
    ///
    /// # Errors
    /// Where it cannot be started as asked, or the ledger takes no more.
    pub fn start_run(&self, asked: &NewRun) -> Result<Run, OpenError> {
        start(&self.shared.store, &self.shared.config, asked, None, None)
    }

    /// Ends a run: what is under way in it finishes, and nothing more begins.
    ///
    /// # Errors
    /// Where there is no such run, it is over already, or the ledger takes no more.
    pub fn end_run(&self, id: &str) -> Result<Run, OpenError> {
        end(&self.shared.store, id, None)
    }
}

/// `by` is who starts it, where that is an operator over HTTP, and `once` the word that they have it started once for.
pub(crate) fn start(
    store: &Store,
    config: &Config,
    asked: &NewRun,
    once: Option<Once>,
    by: Option<&OperatorShown>,
) -> Result<Run, OpenError> {
    let directory = Directory::new(config.agents().clone())?;
    let caller = directory.caller(&asked.agent, asked.user.as_deref())?;
    if !ambit_core::guard!("run.length", (1..=LONGEST_MS).contains(&asked.length_ms)) {
        return Err(refused(
            "a run is open for some time, and for 31 days at most".to_owned(),
        ));
    }
    for cap in &asked.caps {
        check_currency(config, cap.unit)?;
        check_over(config, cap)?;
    }
    let mut caps = asked.caps.clone();
    caps.sort_by_key(|cap| cap.unit.to_string());
    let now = clock();
    let started = RunStarted {
        by: by.cloned(),
        caps,
        errors: asked.errors,
        expires: now.saturating_add(asked.length_ms),
        mode: asked.mode,
        once,
        principal: Principal::from(&caller),
        run: ids::random_run().map_err(|error| refused(error.to_string()))?,
    };
    started.check().map_err(|error| refused(error.to_string()))?;
    let id = started.run.clone();
    written(store, &id, EntryDraft::of_ledger(started))
}

/// A limit in a currency that nothing spends would limit nothing, silently.
fn check_currency(config: &Config, unit: Unit) -> Result<(), OpenError> {
    let known = match unit {
        Unit::Money(currency) => config.has_currency(currency),
        Unit::Calls | Unit::Effects | Unit::Bytes | Unit::Fuel => true,
    };
    if ambit_core::guard!("run.currency", known) {
        return Ok(());
    }
    let message = format!("the limit is in `{unit}`, which is no currency");
    Err(Refusal::new(Code::Config, message)
        .advise("it takes the code of a currency, such as usd, or one that a route of this home names")
        .into())
}

/// Approvals that nobody can give would let nothing pass, silently.
fn check_over(config: &Config, cap: &RunCap) -> Result<(), OpenError> {
    let Some(over) = &cap.over else { return Ok(()) };
    let group = printable(&over.ask);
    let Some(members) = config.groups().get(&over.ask).map(Vec::len) else {
        let groups: Vec<&str> = config.groups().keys().map(String::as_str).collect();
        let message = format!(
            "the limit of {} is passed by group `{group}`, and there is none",
            cap.unit
        );
        return Err(Refusal::new(Code::Config, message)
            .advise(match groups.as_slice() {
                [] => "ambit.toml has no groups".to_owned(),
                groups => format!("the groups here: {}", groups.join(", ")),
            })
            .into());
    };
    // A group that nobody is in yet bounds nothing, as in policies.
    let most = if members == 0 { usize::MAX } else { members };
    let reachable = usize::try_from(over.count).is_ok_and(|count| (1..=most).contains(&count));
    if ambit_core::guard!("run.over-count", reachable) {
        return Ok(());
    }
    let message = format!(
        "the limit of {} is passed by {} people of group `{group}`, which has {members}",
        cap.unit, over.count
    );
    Err(Refusal::new(Code::Config, message)
        .advise("at least 1, and no more than the group has")
        .into())
}

pub(crate) fn end(store: &Store, id: &str, by: Option<&OperatorShown>) -> Result<Run, OpenError> {
    if store.reader()?.run(id)?.is_none() {
        return Err(RunError::Unknown.refusal(id).into());
    }
    let ended = RunEnded {
        by: by.cloned(),
        run: id.to_owned(),
    };
    written(store, id, EntryDraft::of_ledger(ended))
}

/// The run as an entry about it leaves it.
fn written(store: &Store, id: &str, entry: EntryDraft) -> Result<Run, OpenError> {
    let batch = Batch {
        entries: vec![entry],
        ..Batch::default()
    };
    match store.commit(batch) {
        Ok(_) => {}
        Err(StoreError::Run { run, why }) => return Err(why.refusal(&run).into()),
        Err(error) => return Err(error.into()),
    }
    let run = store.reader()?.run(id)?;
    run.ok_or_else(|| RunError::Unknown.refusal(id).into())
}

fn refused(why: String) -> OpenError {
    Refusal::new(Code::Config, why).into()
}
