//! A host that ends in the middle of a call: what the guest asked for and did not get, it asks for again.

use std::time::Instant;

use ambit_core::error::{Code, Refusal};
use ambit_core::ledger::body::BeforeEffect;

use super::{CallEffects, Entered, Known, Missed};
use crate::call::Answer;
use crate::store::Batch;

impl CallEffects {
    /// Whether this is the host's end, in a call that another host can go on with: a guest's, and no operator's retry or rollback.
    pub(super) fn suspends(&self, known: &Known, refusal: &Refusal) -> bool {
        refusal.code == Code::Suspended && self.letter.is_none() && known.undoes.is_none()
    }

    /// The host's end, where one ends this call so.
    pub(super) fn suspended(&self, known: &Known) -> Option<Refusal> {
        let stopped = self.entered.running().check().err();
        stopped.filter(|refusal| self.suspends(known, refusal))
    }

    /// Ends the guest before an effect that has no intent. It asks again, under the same number, or, where the host has asked something for
    /// it, under another one.
    pub(super) fn not_asked_yet(&mut self, known: &Known, refusal: Refusal) -> Missed {
        let asked = format!("effect/{}/asked", known.ordinal);
        let before = self.pending.payloads.len();
        self.pending.payloads.retain(|payload| payload.name() != asked);
        let durable = self.pending.payloads.len() == before;
        self.not_asked = known.asked.filter(|_| durable).map(|asked| BeforeEffect {
            asked,
            ordinal: known.ordinal,
        });
        Missed::Over(refusal)
    }

    /// A call that another host goes on with.
    pub(crate) fn into_suspended(self, refusal: Refusal, started: Instant) -> SuspendedEffects {
        let mut this = self;
        let pending = std::mem::take(&mut this.pending);
        let before = this.not_asked.take();
        let (answer, entered) = this.into_left(refusal, started);
        SuspendedEffects {
            pending,
            before,
            answer,
            _entered: entered,
        }
    }
}

/// What there is of a call that another host goes on with.
pub(crate) struct SuspendedEffects {
    /// What is still to be written.
    pub(crate) pending: Batch,
    pub(crate) before: Option<BeforeEffect>,
    /// What its caller is told.
    pub(crate) answer: Answer,
    /// It is among the calls that run until that is written: the host's process ends when none does.
    pub(crate) _entered: Entered,
}
