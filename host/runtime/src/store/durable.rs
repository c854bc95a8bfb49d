//! The proof that an intent is on the ledger, without which the gate sends nothing.

use std::fmt;
use std::time::Instant;

use ambit_core::digest::Digest;
use ambit_core::effect::HttpRequest;
use ambit_core::guard;
use ambit_core::ledger::body::EffectIntent;
use ambit_core::scope::Tier;

use super::{Leave, Payload, StoreError};

/// What is to be sent once the batch it comes with is durable.
#[derive(Debug)]
pub struct Intent {
    /// The exact request. The batch has one `effect-intent` entry, with this request's digest.
    pub request: HttpRequest,
    /// From when on it must not be sent any more.
    pub deadline: Instant,
}

/// What may be asked leave for again: exactly the request of a [`Durable`], for the same effect. Sends nothing.
#[derive(Clone, Debug)]
pub struct Again {
    pub(super) request: HttpRequest,
    pub(super) of: Of,
    pub(super) deadline: Instant,
    /// What stops look at.
    pub(super) connection: String,
    pub(super) tier: Tier,
}

/// Which effect a leave is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Of {
    pub(super) call: Option<String>,
    pub(super) ordinal: u32,
    /// Commitment to the request.
    pub(super) request: Digest,
}

impl Again {
    /// Of an intent that another process wrote: `request` is what would be sent now, and `recorded` what the ledger keeps of what was sent
    /// then. Called once an operator has a call's effect in doubt sent again.
    ///
    /// # Errors
    /// [`StoreError::Batch`] unless the record is the one that the intent commits to, and the request the same to the byte.
    pub(crate) fn recorded(
        call: &str,
        intent: &EffectIntent,
        recorded: &Payload,
        request: HttpRequest,
        deadline: Instant,
    ) -> Result<Self, StoreError> {
        let committed = recorded.commitment() == intent.request;
        let same = request.wire().to_canonical().as_bytes() == recorded.bytes();
        if !guard!("ledger.retry-bytes", committed && same) {
            return Err(StoreError::batch(
                "what would be sent again is not the request that the intent on the ledger commits to",
            ));
        }
        Ok(Self {
            request,
            of: Of {
                call: Some(call.to_owned()),
                ordinal: intent.ordinal,
                request: intent.request,
            },
            deadline,
            connection: intent.connection.clone(),
            tier: intent.tier,
        })
    }

    /// The commitment that entries name the request by.
    #[must_use]
    pub const fn request(&self) -> Digest {
        self.of.request
    }

    /// With another deadline.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Self {
        Self {
            deadline,
            ..self.clone()
        }
    }
}

/// What a batch asks leave for: the position of the entry that stands for it, and the request.
pub(super) struct Asked {
    pub(super) position: usize,
    pub(super) again: Again,
}

/// Leave to send one request, once: its intent is durable.
///
/// Only [`Store::commit`](super::Store::commit) makes one, from a batch that is on the disk. It can't be copied, and is consumed by being sent.
#[must_use = "an intent that is not sent still needs an outcome on the ledger"]
pub struct Durable {
    again: Again,
    index: u64,
    leave: Leave,
}

impl Durable {
    pub(super) fn new(again: Again, index: u64, leave: Leave) -> Self {
        Self { again, index, leave }
    }

    /// What leave can be asked for again, with an entry of its own, once this one is used.
    #[must_use]
    pub fn again(&self) -> Again {
        self.again.clone()
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
        if !guard!("ledger.deadline", Instant::now() < self.again.deadline) {
            return Err(StoreError::Expired { index: self.index });
        }
        Ok((self.again.request, self.leave))
    }
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Durable(entry {})", self.index)
    }
}
