//! Safe mode pauses a call before a change: reads go on, and what would change something is asked for again once it is lifted.

use ambit_core::error::Refusal;
use ambit_core::ledger::body::CallPaused;
use ambit_core::scope::Tier;
use ambit_core::stop::forbidding;
use serde::{Deserialize, Serialize};

use crate::store::StoreError;

use super::{CallEffects, Known, Missed};

/// A call that waits until a stop is lifted: what its caller is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// The stop's id.
    pub stop: String,
    /// What it keeps the call from.
    pub refusal: Refusal,
}

impl CallEffects {
    /// Ends the guest before a change, and keeps of the call what it goes on from. Where the stop is lifted already, or no guest runs that
    /// could go on, the effect is refused.
    pub(super) fn pause(&mut self, known: &Known, refusal: Refusal) -> Result<Missed, StoreError> {
        let stop = match (&self.letter, &known.undoes) {
            (None, None) => self.pausing(known)?,
            _ => None,
        };
        let Some(stop) = stop else {
            return Ok(Missed::Refused(refusal));
        };
        // The guest asks again, under the same number, or, where the host has looked something up for it, under another one.
        let asked = format!("effect/{}/asked", known.ordinal);
        let before = self.pending.payloads.len();
        self.pending.payloads.retain(|payload| payload.name() != asked);
        let pending = self.pending.payloads.len() < before;
        let entry = self.heading.entry(CallPaused {
            asked: known.asked.filter(|_| !pending),
            ordinal: known.ordinal,
            stop: stop.clone(),
        });
        self.pending.entries.push(entry);
        self.shared.store.commit(std::mem::take(&mut self.pending))?;
        self.paused = Some(Paused {
            stop,
            refusal: refusal.clone(),
        });
        Ok(Missed::Over(refusal))
    }

    /// The id of the stop that forbids the effect.
    fn pausing(&self, known: &Known) -> Result<Option<String>, StoreError> {
        let (Some(connection), tier) = (&known.connection, known.tier.unwrap_or(Tier::Commit)) else {
            return Ok(None);
        };
        let in_force = self.shared.store.reader()?.stops()?;
        let subject = self.entered.running().subject().through(connection);
        let stop = forbidding(in_force.iter().map(|stop| &stop.stop), &subject, tier);
        let found = in_force.iter().find(|one| Some(&one.stop) == stop);
        Ok(found.map(|found| found.id.clone()))
    }
}
