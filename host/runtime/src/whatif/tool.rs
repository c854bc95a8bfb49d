//! Another build of a tool, on the calls that its build of then made.

use std::path::Path;

use ambit_core::error::{Code, Refusal};
use ambit_core::ledger::story::Opening;
use ambit_core::manifest::{Change, Manifest};
use serde::Serialize;

use crate::host::OpenError;
use crate::replay::{ReplayError, Replayer};
use crate::sandbox::{Compiler, LoadedTool};
use crate::store::Reader;
use crate::transcript::Divergence;

/// A call that would go otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct Behaviour {
    /// The call.
    pub call: String,
    /// Its function.
    pub function: String,
    /// The first difference.
    pub first: Divergence,
}

/// A call that cannot be run again.
#[derive(Debug, Clone, Serialize)]
pub struct NotRun {
    /// The call.
    pub call: String,
    /// Why.
    pub why: String,
}

/// What another build would change.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Rebuilt {
    /// Calls that were run again.
    pub calls: u64,
    /// Those that would ask for another effect, end otherwise, or return something else.
    pub changed: Vec<Behaviour>,
    /// Calls that behave as they did, and log something else. No change of behaviour.
    pub other_logs: u64,
    /// Calls that behave as they did, with other fuel. No change of behaviour.
    pub other_fuel: u64,
    /// Fuel of all calls that behave as they did: then, and now.
    pub fuel: (u64, u64),
    /// Calls that cannot be run again.
    pub not_run: Vec<NotRun>,
}

/// Runs a tool's recorded calls in another build of it. It only reads.
pub struct Rerun {
    replayer: Replayer,
    name: String,
    tool: LoadedTool,
    /// What it declares otherwise than the accepted component.
    changes: Vec<Change>,
}

impl Rerun {
    /// Loads the new build of the tool `name`, checked and compiled as every component is.
    ///
    /// # Errors
    /// Where the home has no such tool, or the component is none that a home could accept.
    pub fn open(home: &Path, name: &str, component: &[u8], compiler: Option<Compiler>) -> Result<Self, OpenError> {
        let accepted = crate::home::pinned(home, name)?;
        let newer = Manifest::read(component)?;
        let replayer = Replayer::open(home, compiler)?;
        let tool = replayer.load_component(component)?;
        Ok(Self {
            changes: accepted.diff(&newer),
            replayer,
            name: name.to_owned(),
            tool,
        })
    }

    /// What the new build declares otherwise than the accepted component.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The ledger that is asked about.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        self.replayer.reader()
    }

    /// Runs those of the calls that are the tool's. `progress` is told how many calls are behind.
    ///
    /// # Errors
    /// Where the ledger cannot be read, or a recorded value was changed.
    pub fn run(&self, calls: &[String], mut progress: impl FnMut(u64)) -> Result<Rebuilt, ReplayError> {
        let mut rebuilt = Rebuilt::default();
        for (behind, call) in (1..).zip(calls) {
            self.one(call, &mut rebuilt)?;
            progress(behind);
        }
        Ok(rebuilt)
    }

    fn one(&self, call: &str, rebuilt: &mut Rebuilt) -> Result<(), ReplayError> {
        let story = self.replayer.reader().story(call)?;
        let Opening::Accepted(accepted) = &story.opening.what else {
            return Ok(());
        };
        if accepted.asked.tool != self.name {
            return Ok(());
        }
        let again = match self.replayer.rerun(&story, &self.tool) {
            Ok(again) => again,
            // A value that was changed says that nothing here can be believed.
            Err(ReplayError::Refused(Refusal { code, message, .. })) if code != Code::Ledger => {
                rebuilt.not_run.push(NotRun {
                    call: call.to_owned(),
                    why: message,
                });
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        rebuilt.calls += 1;
        rebuilt.other_logs += u64::from(again.logs_otherwise());
        match again.behaviour {
            Some(first) => rebuilt.changed.push(Behaviour {
                call: call.to_owned(),
                function: accepted.asked.function.clone(),
                first,
            }),
            None => {
                rebuilt.other_fuel += u64::from(again.fuel_recorded != again.fuel_used);
                rebuilt.fuel.0 = rebuilt.fuel.0.saturating_add(again.fuel_recorded);
                rebuilt.fuel.1 = rebuilt.fuel.1.saturating_add(again.fuel_used);
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Rerun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rerun")
            .field("tool", &self.name)
            .finish_non_exhaustive()
    }
}
