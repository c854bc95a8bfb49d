//! The proof that an intent is on the ledger, without which the gate sends nothing.

use std::fmt;
use std::time::Instant;

use ambit_core::effect::HttpRequest;
use ambit_core::guard;

use super::{Leave, StoreError};

/// What is to be sent once the batch it comes with is durable.
#[derive(Debug)]
pub struct Intent {
    /// The exact request. The batch has one `effect-intent` entry, with this request's digest.
    pub request: HttpRequest,
    /// From when on it must not be sent any more.
    pub deadline: Instant,
}

/// Leave to send one request, once: its intent is durable.
///
/// Only [`Store::commit`](super::Store::commit) makes one, from a batch that is on the disk. It can't be copied, and is consumed by being sent.
#[must_use = "an intent that is not sent still needs an outcome on the ledger"]
pub struct Durable {
    request: HttpRequest,
    deadline: Instant,
    index: u64,
    leave: Leave,
}

impl Durable {
    pub(super) fn new(intent: Intent, index: u64, leave: Leave) -> Self {
        Self {
            request: intent.request,
            deadline: intent.deadline,
            index,
            leave,
        }
    }

    /// The ledger index of the intent.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The exact request, for the gate alone to send, and what may still forbid that.
    ///
    /// # Errors
    /// [`StoreError::Expired`] once the deadline has passed: the request must not be sent, and its outcome is that it was not.
    pub(crate) fn take(self) -> Result<(HttpRequest, Leave), StoreError> {
        if !guard!("ledger.deadline", Instant::now() < self.deadline) {
            return Err(StoreError::Expired { index: self.index });
        }
        Ok((self.request, self.leave))
    }
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Durable(entry {})", self.index)
    }
}
