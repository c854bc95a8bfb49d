//! What an effect changes: read before it waits or leaves, and read back once its service says that it did it.
//!
//! Both are requests of the host's own, with an intent, a number and a place in the budgets like any. What they say goes to those who
//! approve and audit: nothing of it reaches the guest, but for the time that it took.

use ambit_core::digest::Digest;
use ambit_core::effect::GuestResponse;
use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Admitted;
use ambit_core::ledger::body::{EffectChecked, before_name};
use ambit_core::object::{Check, Image};

use crate::clock::clock;
use crate::objects::Seen;
use crate::store::StoreError;

use super::{CallEffects, Known, Missed, Permitted, Through};

/// What an effect changes, as it was read before.
pub(super) struct Before {
    pub(super) image: Image,
    /// The commitment to it, where it was kept when the effect was held.
    pub(super) kept: Option<Digest>,
}

impl CallEffects {
    /// Reads what an effect would change, where its route says how. Policy has answered by then: nothing is read for what is denied.
    pub(super) fn read_before(&mut self, known: &mut Known, admitted: &Admitted) -> Result<(), Missed> {
        if admitted.changed_object().is_none() {
            return Ok(());
        }
        // Each may need a token first, which is asked for under a number of its own.
        let upstream = self.shared.upstreams.get(admitted.connection().name());
        let tokens = u32::from(upstream.is_some_and(|upstream| upstream.minter().is_some()));
        if known.sent {
            // What it changes was read before it was first sent, and goes with it again.
            return Ok(self.room_to_read(1 + tokens)?);
        }
        let question = admitted.object()?;
        // Room to read it back; and to read it now and be sent, unless that is apart from the call's effects.
        let first = u32::from(question.is_some()) * (1 + tokens) + tokens;
        self.room_to_read(1 + tokens + if self.goes_on { 0 } else { first })?;
        let Some(question) = question else {
            return Ok(());
        };
        let read = admitted.object_read(&question)?;
        let image = match self.ask(read.admitted(), true)? {
            Ok(answer) => read.image(&answer),
            Err(why) => {
                let route = read.admitted().route().name();
                Err(Refusal::new(Code::Object, format!("`{route}`: {why}")))
            }
        };
        let image = image.map_err(|refusal| Refusal {
            message: format!("what the effect would change cannot be read: {}", refusal.message),
            ..refusal
        })?;
        known.before = Some(Before { image, kept: None });
        Ok(())
    }

    /// A guest that uses up its call's effects does not get one past being read back.
    pub(super) fn room_to_read(&self, needed: u32) -> Result<(), Refusal> {
        let limit = self.grant.limits().effects;
        if !ambit_core::guard!("object.room", self.counted().saturating_add(needed) <= limit) {
            return Err(Refusal::new(
                Code::Effects,
                format!("the call has not enough of its {limit} effects left to read what this one changes"),
            )
            .advise("raise `effects` in the tool's limits, or let the tool do less in one call"));
        }
        Ok(())
    }

    /// Sends an effect, and reads back what it changed.
    pub(super) fn send_and_check(&mut self, known: &mut Known, permitted: Permitted) -> Result<GuestResponse, Missed> {
        let changes = permitted.admitted.changed_object().is_some();
        let admitted = changes.then(|| permitted.admitted.clone());
        let response = self.send(known, permitted)?;
        self.check(known, admitted, response)
    }

    /// Reads back what an effect changed that was answered, where its route says how.
    pub(super) fn check(
        &mut self,
        known: &Known,
        admitted: Option<Admitted>,
        response: GuestResponse,
    ) -> Result<GuestResponse, Missed> {
        if let Some(admitted) = admitted.filter(|_| (200..300).contains(&response.status)) {
            self.read_back(known, &admitted)?;
        }
        Ok(response)
    }

    /// Writes down whether what an effect changed shows it. That cannot refuse the effect any more: it has happened, by its service's word.
    fn read_back(&mut self, known: &Known, admitted: &Admitted) -> Result<(), Missed> {
        let (check, stop) = match self.seen(known, admitted) {
            Ok(check) => (check, None),
            Err(
                Missed::Refused(refusal) | Missed::NotSent(refusal) | Missed::Paused(refusal) | Missed::Ends(refusal),
            ) => (Check::unreadable(refusal.message), None),
            Err(Missed::Failed(why)) => (Check::unreadable(why), None),
            Err(Missed::Killed(stop) | Missed::Over(stop)) => (Check::unreadable(stop.message.clone()), Some(stop)),
            Err(fault @ Missed::Fault(_)) => return Err(fault),
        };
        self.write_check(known.ordinal, &check)?;
        stop.map_or(Ok(()), |stop| Err(Missed::Over(stop)))
    }

    /// What is there now of what was sent.
    fn seen(&mut self, known: &Known, admitted: &Admitted) -> Result<Check, Missed> {
        let question = match &known.created {
            Some(question) => Some(question.clone()),
            None => admitted.object()?,
        };
        let Some(mut question) = question else {
            return Ok(Check::unreadable("the service's answer does not name what it created"));
        };
        question.with_etag = false;
        let read = admitted.object_read(&question)?;
        let image = match self.ask(read.admitted(), true)? {
            Ok(answer) => read.image(&answer)?,
            Err(why) => return Ok(Check::unreadable(why)),
        };
        let before = known.before.as_ref().map(|before| &before.image);
        let gone = admitted.changed_object().is_some_and(ambit_core::route::Object::gone);
        Ok(Check::of(
            before,
            admitted.sent(),
            &image,
            read.admitted().reads(),
            gone,
        ))
    }

    fn write_check(&mut self, ordinal: u32, check: &Check) -> Result<(), StoreError> {
        let diff = self.keep(format!("effect/{ordinal}/diff"), &check.to_json())?;
        let checked = EffectChecked {
            diff,
            ordinal,
            shown: check.shown,
        };
        self.tally.checked(&checked);
        let entry = self.heading.entry(checked);
        self.pending.entries.push(entry);
        self.shared.store.commit(std::mem::take(&mut self.pending))?;
        Ok(())
    }

    /// The value and the commitment of what was there before: kept with the hold already, or to be kept with what is written now.
    pub(super) fn kept_before(
        &self,
        known: &Known,
        edited_from: Option<&Digest>,
    ) -> Result<(Option<Digest>, Option<crate::store::Payload>), StoreError> {
        match &known.before {
            None => Ok((None, None)),
            Some(Before { kept: Some(kept), .. }) => Ok((Some(*kept), None)),
            Some(Before { image, kept: None }) => {
                let payload = self.payload(before_name(known.ordinal, edited_from), &image.to_json())?;
                Ok((Some(payload.commitment()), Some(payload)))
            }
        }
    }
}

/// That what is written back is written over what the effect wrote, and not over what somebody else did since.
pub(super) fn not_changed_since(known: &Known, import: Through<'_>, admitted: &Admitted) -> Result<(), Refusal> {
    let Through::Inverse(_, inverse, undoes) = import else {
        return Ok(());
    };
    let Some(wrote) = &inverse.wrote else { return Ok(()) };
    let changed = match (&known.before, admitted.object()?) {
        (Some(before), Some(question)) => {
            let read = admitted.object_read(&question)?;
            wrote.changed(&before.image, read.admitted().reads())
        }
        // It is made of what was read before: its route says what is read.
        _ => Some("it was not read".to_owned()),
    };
    match changed {
        Some(why) if !ambit_core::guard!("undo.changed-since", false) => {
            let message = format!("the object changed since: {why}");
            let advice = format!(
                "look at it at the service; to write back over it: ambit rollback {} --over-changes",
                undoes.call
            );
            Err(Refusal::new(Code::Stale, message).advise(advice))
        }
        _ => Ok(()),
    }
}

/// That what a call had read is still young enough for its held effect.
pub(super) fn fresh_still(reads: &[Seen]) -> Result<(), Refusal> {
    let now_ms = clock();
    let old = reads.iter().find(|seen| seen.is_too_old(now_ms));
    if let Some(old) = old
        && !ambit_core::guard!("object.fresh", false)
    {
        let (connection, route) = (&old.connection, &old.route);
        return Err(Refusal::new(
            Code::Stale,
            format!("what the call had read through `{connection}/{route}` is older than the route allows: the approvals are void"),
        )
        .advise("call the tool again"));
    }
    Ok(())
}
