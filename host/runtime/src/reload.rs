//! Taking a home's files anew while a host runs: configuration, policies and tools.
//!
//! Everything is read, checked and compiled beside what is in use, and then takes its place at once. A call has what it began with to its
//! end; what waits is decided by what there is when it goes on. Files that cannot be used change nothing. Either is on the ledger, and
//! what is taken is there before anything begins under it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::thread;

use ambit_core::digest::Digest;
use ambit_core::error::{Code, Problem, Refusal};
use ambit_core::grant::Limits;
use ambit_core::ledger::EntryDraft;
use ambit_core::ledger::body::{HostReloaded, ReloadRefused, ReloadedBy, ToolChanged};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::host::{Host, OpenError, Readied, Tool};
use crate::store::Batch;

/// What a host took anew, and what is another than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reloaded {
    /// The ledger index of the entry that says so.
    pub entry: u64,
    /// The configuration in force.
    pub config: Digest,
    /// The parts of ambit.toml that say something else, as they stand in it.
    pub sections: Vec<String>,
    /// The policies in force.
    pub policy: Digest,
    /// How many rules they have.
    pub rules: u32,
    /// The policies' files that are others, by name.
    pub policies: Vec<FileChanged>,
    /// The tools that run as another component, by name.
    pub tools: Vec<ToolChanged>,
    /// Most likely slips, as a start of the host would tell them.
    pub warnings: Vec<String>,
}

/// A file that is another one, begins to be there, or is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileChanged {
    /// Its name.
    pub file: String,
    /// What became of it.
    pub how: How,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It says something else.
    Changed,
}

impl How {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            How::Added => "added",
            How::Removed => "removed",
            How::Changed => "changed",
        }
    }
}

impl Reloaded {
    /// Whether anything is another than before.
    #[must_use]
    pub fn changes_anything(&self) -> bool {
        !(self.sections.is_empty() && self.policies.is_empty() && self.tools.is_empty())
    }
}

impl Host {
    /// Takes the home's files as they are now, all of them or none. Blocks for as long as it takes to compile tools that are new.
    ///
    /// # Errors
    /// [`OpenError::Refused`] with every problem of the files in a sentence: the host goes on with what it had, and the ledger says that it
    /// was asked. [`OpenError::Store`] where the ledger takes no entry: then nothing was changed either.
    pub fn reload(&self, by: ReloadedBy) -> Result<Reloaded, OpenError> {
        let _alone = self.live.changing.lock();
        // What is asked for from here on is for files that may be newer than those read now.
        self.live.asked.store(false, Ordering::SeqCst);
        let host = self.current();
        match host.found() {
            Ok(readied) => host.switch(by, readied),
            Err(why @ OpenError::Store(_)) => Err(why),
            Err(why) => {
                let refusal = refusal(why);
                let code = refusal.code;
                host.shared.store.commit(Batch {
                    entries: vec![EntryDraft::of_ledger(ReloadRefused { by, code })],
                    ..Batch::default()
                })?;
                tracing::error!(why = %refusal, "the files cannot be used: the host goes on with those that it had");
                Err(refusal.into())
            }
        }
    }

    /// The same on a thread of its own: what came of it is on the ledger and in the log.
    pub fn reload_soon(&self, by: ReloadedBy) {
        if self.live.asked.swap(true, Ordering::SeqCst) {
            return;
        }
        // What it is done for ends with whoever has the host.
        let host = Host {
            operators: None,
            ..self.clone()
        };
        let spawned = thread::Builder::new().name("ambit-reload".to_owned()).spawn(move || {
            if let Err(error @ OpenError::Store(_)) = host.reload(by) {
                tracing::error!(%error, "the files were not taken anew");
            }
        });
        if let Err(error) = spawned {
            self.live.asked.store(false, Ordering::SeqCst);
            tracing::error!(%error, "the files were not taken anew: there is no thread for it");
        }
    }

    /// What the files say now, ready to be used.
    fn found(&self) -> Result<Readied, OpenError> {
        let config = Config::load(self.shared.config.home())?;
        stays(&self.shared.config, &config)?;
        self.readied(config)
    }

    /// Ledger first: under what calls begin from here on is an entry before one does.
    fn switch(&self, by: ReloadedBy, readied: Readied) -> Result<Reloaded, OpenError> {
        let store = &self.shared.store;
        let tools = tools_changed(&self.shared.tools, readied.tools());
        let mut entries = readied.changes(store)?;
        let at = entries.len() as u64;
        entries.push(EntryDraft::of_ledger(HostReloaded {
            by,
            config: readied.config().digest(),
            policy: readied.policy().digest(),
            tools: tools.clone(),
        }));
        let committed = store.commit(Batch {
            entries,
            ..Batch::default()
        })?;
        // It is on the ledger, so it happens: nothing from here on may fail it.
        let taken = store
            .reader()
            .and_then(|reader| self.shared.flow.take(readied.config(), &reader));
        if let Err(error) = taken {
            tracing::error!(%error, "rates and breakers stay as they were until the next start");
        }
        let older = &self.shared.config;
        let sections = readied.config().changed_since(older);
        let policies = files_changed(older.policies(), readied.config().policies());
        let now = self.take(readied);
        // Whoever asked by a signal is told nowhere else.
        for warning in now.warnings() {
            tracing::warn!(%warning, "the files that are taken want a look");
        }
        tracing::info!(
            entry = committed.first_index + at,
            ?sections,
            "the home's files are taken anew"
        );
        Ok(Reloaded {
            entry: committed.first_index + at,
            config: now.shared.config.digest(),
            sections,
            policy: now.shared.policy.digest(),
            rules: u32::try_from(now.shared.policy.rules().len()).unwrap_or(u32::MAX),
            policies,
            tools,
            warnings: now.warnings().iter().map(Problem::to_string).collect(),
        })
    }
}

/// What a process has from its start to its end is not changed under it: what it listens on and is known by, its ledger, its places.
///
/// # Errors
/// [`Code::Config`], with the name of what would change.
fn stays(older: &Config, newer: &Config) -> Result<(), Refusal> {
    let limit = |of: fn(&Limits) -> u64| of(older.limits()) != of(newer.limits());
    let (was, is) = (older.server(), newer.server());
    let fixed = [
        ("[ledger]", older.ledger() != newer.ledger()),
        ("`stack_bytes` in [limits]", limit(|limits| limits.stack_bytes)),
        (
            "`concurrent_calls` in [limits]",
            limit(|limits| limits.concurrent_calls.into()),
        ),
        ("[server]", was.is_some() != is.is_some()),
        (
            "`listen` in [server]",
            was.zip(is).is_some_and(|(was, is)| was.listen != is.listen),
        ),
        (
            "`resource` in [server]",
            was.zip(is).is_some_and(|(was, is)| was.resource != is.resource),
        ),
        (
            "[server.tls]",
            was.zip(is)
                .is_some_and(|(was, is)| was.tls.is_some() != is.tls.is_some()),
        ),
        (
            "`metrics` in [server]",
            was.zip(is).is_some_and(|(was, is)| was.metrics != is.metrics),
        ),
        (
            "`connections` in [server]",
            was.zip(is).is_some_and(|(was, is)| was.connections != is.connections),
        ),
        (
            "`requests_per_agent` in [server]",
            was.zip(is)
                .is_some_and(|(was, is)| was.requests_per_agent != is.requests_per_agent),
        ),
        (
            "`calls_per_agent` in [server]",
            was.zip(is)
                .is_some_and(|(was, is)| was.calls_per_agent != is.calls_per_agent),
        ),
    ];
    match fixed.iter().find(|(_, changed)| *changed) {
        Some((name, _)) if !ambit_core::guard!("reload.fixed", false) => Err(Refusal::new(
            Code::Config,
            format!("{name} is another one, and does not change while the host runs"),
        )
        .advise("restart the host for that, or leave it as it was and reload again")),
        _ => Ok(()),
    }
}

/// All that is wrong, in one refusal: whoever asked may be elsewhere, and the log is of lines.
fn refusal(why: OpenError) -> Refusal {
    const MOST: usize = 8;
    match why {
        OpenError::Refused(refusal) => refusal,
        OpenError::Problems(problems) => {
            let told = |problem: &Problem| {
                let file = problem.file().map_or_else(String::new, |file| format!("{file}: "));
                let label = Some(problem.label()).filter(|label| !label.is_empty());
                let label = label.map_or_else(String::new, |label| format!(" ({label})"));
                format!("{file}{}{label}", problem.message())
            };
            let more = problems.len().saturating_sub(MOST);
            let mut told: Vec<String> = problems.iter().take(MOST).map(told).collect();
            if more > 0 {
                told.push(format!("and {more} more"));
            }
            let refusal = Refusal::new(Code::Config, told.join("; "));
            match problems.iter().find_map(Problem::advice) {
                Some(advice) if problems.len() == 1 => refusal.advise(advice),
                _ => refusal,
            }
        }
        OpenError::Home(why) => Refusal::new(Code::Config, why),
        OpenError::Store(error) => Refusal::new(Code::Ledger, error.to_string()),
    }
}

fn tools_changed(older: &BTreeMap<String, Tool>, newer: &BTreeMap<String, Tool>) -> Vec<ToolChanged> {
    let names: BTreeSet<&String> = older.keys().chain(newer.keys()).collect();
    let changed = |name: &String| {
        let (from, to) = (older.get(name), newer.get(name));
        let (from, to) = (from.map(|tool| tool.digest), to.map(|tool| tool.digest));
        (from != to).then(|| ToolChanged {
            from,
            name: name.clone(),
            to,
        })
    };
    names.into_iter().filter_map(changed).collect()
}

fn files_changed(older: &[(String, String)], newer: &[(String, String)]) -> Vec<FileChanged> {
    let by_name = |files: &'_ [(String, String)]| -> BTreeMap<String, String> { files.iter().cloned().collect() };
    let (older, newer) = (by_name(older), by_name(newer));
    let names: BTreeSet<&String> = older.keys().chain(newer.keys()).collect();
    let changed = |name: &String| {
        let how = match (older.get(name), newer.get(name)) {
            (None, Some(_)) => How::Added,
            (Some(_), None) => How::Removed,
            (was, is) if was != is => How::Changed,
            _ => return None,
        };
        Some(FileChanged {
            file: name.clone(),
            how,
        })
    };
    names.into_iter().filter_map(changed).collect()
}
