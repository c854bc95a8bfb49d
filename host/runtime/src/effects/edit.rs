//! Edits of an effect that waits: decided as if it were asked for anew, and held in its place.
//!
//! The call is run again to its held effect, as when it goes on, and ends there in any case. Where the edited effect is permitted, now or
//! with approvals, one transaction has the edit and the new hold; where it is not, nothing of the run is kept.

use ambit_core::effect::GuestRequest;
use ambit_core::error::{Code, Refusal};
use ambit_core::guard;
use ambit_core::hold::{self, Changes, Edit, Hold, HoldError, Need};
use ambit_core::ledger::body::{Cause, HoldEdited};
use serde::{Deserialize, Serialize};

use crate::sandbox::Stop;
use crate::store::{Payload, StoreError};

use super::budget::Asks;
use super::hold::{Held, InPlace, WaitingEffect};
use super::{CallEffects, Known, Missed, Through};

/// An edit whose person may make it, of the effect that a call waits with.
pub(crate) struct Editing {
    /// What the person signed, as it was read.
    pub(crate) edit: Edit,
    /// The same, as it was signed.
    pub(crate) note: String,
    /// What would differ from what the guest asked for.
    pub(crate) changes: Changes,
    /// Why, in the person's words.
    pub(crate) reason: Option<String>,
}

/// What people changed about an effect, for whoever asked for it: who and which fields, and not to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edited {
    /// Which of the call's effects.
    pub ordinal: u32,
    /// The people.
    pub by: Vec<String>,
    /// The fields, by their paths in the request's body.
    pub fields: Vec<String>,
}

impl Edited {
    /// Of an effect that these people made differ so.
    pub(crate) fn new(ordinal: u32, by: &[String], changes: &Changes) -> Self {
        Self {
            ordinal,
            by: by.to_vec(),
            fields: changes.fields().map(|(path, _)| path.to_owned()).collect(),
        }
    }
}

impl CallEffects {
    /// Holds what a person made of the held effect, if it could be had at all; and ends the guest.
    pub(super) fn edit(
        &mut self,
        waiting: &WaitingEffect,
        editing: &Editing,
        import: Through<'_>,
        guest: &GuestRequest,
    ) -> Missed {
        let edited = match self.edit_held(waiting, editing, import, guest) {
            Ok(held) => Ok(held),
            Err(
                Missed::Refused(refusal) | Missed::NotSent(refusal) | Missed::Killed(refusal) | Missed::Paused(refusal),
            ) => Err(refusal),
            Err(other) => return other,
        };
        self.edited = Some(edited);
        Missed::Over(Refusal::new(Code::Held, "the effect was edited"))
    }

    /// What became of the edit; none where the guest did not come so far.
    pub(crate) fn take_edited(&mut self) -> Option<Result<Held, Refusal>> {
        self.edited.take()
    }

    /// Why the ledger took no more, if it did not.
    pub(crate) fn take_fault(&mut self) -> Option<StoreError> {
        self.fault.take()
    }

    fn edit_held(
        &mut self,
        waiting: &WaitingEffect,
        editing: &Editing,
        import: Through<'_>,
        guest: &GuestRequest,
    ) -> Result<Held, Missed> {
        let edited = editing.changes.apply(guest)?;
        self.bounded(&edited)?;
        let mut known = Known::new(waiting.asked.ordinal, Cause::Guest);
        known.import.clone_from(&waiting.asked.label);
        known.asked = waiting.commitment;
        let (admitted, spend) = self.going_on(|effects| effects.considered(&mut known, import, &edited))?;
        let changed = admitted.request().wire().to_canonical() != waiting.wire;
        if !guard!("hold.edit-differs", changed) {
            return Err(Refusal::from(HoldError::Unchanged).into());
        }
        let ways = match self.decide(&admitted, spend, &[], &mut known) {
            Ok(()) => {
                // What permits it does not deny it.
                known.rules.clear();
                vec![Need::new()]
            }
            Err(refusal) => match self.approvals_that_permit(&admitted, spend, &[], &known, &refusal) {
                ways if ways.is_empty() => return Err(refusal.into()),
                ways => ways,
            },
        };
        self.going_on(|effects| effects.read_before(&mut known, &admitted))?;
        let Asks { needs, over } = self.asks_too(&admitted, spend, &known, ways)?;
        let asks = Asks {
            needs: if guard!("hold.edit-asks", false) {
                needs
            } else {
                hold::combined_with_all(&needs, &waiting.hold.needs)
            },
            over,
        };
        let in_place = InPlace { waiting, editing };
        let made = Hold {
            authors: in_place.authors(),
            needs: asks.needs.clone(),
            ..waiting.hold.clone()
        };
        // A hold that nobody can approve would only wait for its end, and the approvals of the old one be lost.
        if !guard!(
            "hold.edit-approvable",
            made.can_be_approved(self.shared.config.groups())
        ) {
            return Err(Refusal::from(HoldError::NobodyLeft).into());
        }
        match self.hold_as(&known, &admitted, spend, asks, Some(in_place))? {
            Missed::Over(_) => self.held.take().ok_or_else(|| not_held().into()),
            missed => Err(missed),
        }
    }
}

fn not_held() -> Stop {
    Refusal::new(Code::Internal, "the edited effect is not held")
}

/// The edit's values beside the ledger, and what its entry says.
pub(super) struct Kept {
    pub(super) payloads: Vec<Payload>,
    pub(super) entry: HoldEdited,
}

impl InPlace<'_> {
    /// The people who edited the effect, this one among them.
    pub(super) fn authors(&self) -> Vec<String> {
        let mut authors = self.waiting.hold.authors.clone();
        authors.push(self.editing.edit.person.clone());
        authors.sort();
        authors.dedup();
        authors
    }

    /// What is written of the edit, with which `to` is held.
    ///
    /// # Errors
    /// Where the operating system gives no randomness.
    pub(super) fn kept(&self, call: &str, to: ambit_core::digest::Digest) -> Result<Kept, StoreError> {
        let Editing {
            note, changes, reason, ..
        } = self.editing;
        let mut entry = HoldEdited {
            changes: to,
            edit: note.clone(),
            hold: self.waiting.hold.id,
            ordinal: self.waiting.asked.ordinal,
            reason: None,
            to,
        };
        let values = Payload::new(call, entry.changes_name(), changes.to_text().into_bytes())?;
        entry.changes = values.commitment();
        let mut payloads = vec![values];
        if let Some(reason) = reason {
            let reason = Payload::new(call, entry.reason_name(), reason.as_bytes().to_vec())?;
            entry.reason = Some(reason.commitment());
            payloads.push(reason);
        }
        Ok(Kept { payloads, entry })
    }
}
