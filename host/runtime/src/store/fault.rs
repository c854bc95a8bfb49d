//! Failures on order, so that tests can see what happens around each durable step.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A step of the writer at which a failure changes what is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A large payload's file is about to be written.
    WritePayload,
    /// The group is in the transaction, which is about to be committed.
    BeforeCommit,
    /// The commit writes and syncs.
    Sync,
    /// The group is durable; nobody has been told.
    AfterCommit,
    /// Values are erased on the ledger; the table of their keys is about to be rewritten.
    RewriteKeys,
    /// The table of keys is rewritten; the write-ahead log is about to be emptied.
    EmptyLog,
    /// Keys are erased in the database; a file of a value is about to be removed.
    RemovePayload,
    /// Callers have been told; the high-water checkpoint is about to be written.
    HighWater,
}

/// What happens at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The disk reports an error.
    Io,
    /// The disk is full.
    Full,
    /// The process ends at once, as by `kill -9`.
    Abort,
}

impl Fault {
    /// The error as the operating system would word it; does not return for [`Fault::Abort`].
    fn strike(self, step: Step) -> String {
        match self {
            Self::Io => format!("input/output error ({step:?}, ordered by a test)"),
            Self::Full => format!("no space left on device ({step:?}, ordered by a test)"),
            Self::Abort => std::process::abort(),
        }
    }
}

/// Which failures are ordered. The default orders none, and costs one comparison a step.
#[derive(Clone, Default)]
pub struct Faults(Option<Arc<Order>>);

struct Order {
    step: Step,
    fault: Fault,
    /// How many times the step still goes well.
    good: AtomicU64,
}

impl Faults {
    /// No failures.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// `fault` at `step`, each time after it went well `good` times.
    #[must_use]
    pub fn after(good: u64, step: Step, fault: Fault) -> Self {
        Self(Some(Arc::new(Order {
            step,
            fault,
            good: AtomicU64::new(good),
        })))
    }

    /// Called by the writer at each step.
    ///
    /// # Errors
    /// The text of the ordered failure.
    pub(super) fn at(&self, step: Step) -> Result<(), String> {
        let Some(order) = self.0.as_deref().filter(|order| order.step == step) else {
            return Ok(());
        };
        let good = order
            .good
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |good| good.checked_sub(1));
        good.map(drop).map_err(|_| order.fault.strike(step))
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("none"),
            Some(order) => write!(f, "{:?} at {:?}", order.fault, order.step),
        }
    }
}
