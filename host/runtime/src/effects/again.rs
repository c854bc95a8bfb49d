//! An effect in doubt that an operator has sent again, under the key that it had: of which the host saw no end.
//!
//! Everything about it is decided anew, and nothing about it may be another: the guest asks for the same, it comes out as the same effect,
//! and the request is the recorded one to the byte. What refuses it leaves it in doubt, and its call as it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ambit_core::digest::Digest;
use ambit_core::effect::{GuestRequest, GuestResponse};
use ambit_core::error::{Code, Refusal};
use ambit_core::hold::Changes;
use ambit_core::ledger::body::{Doubt, EffectIntent, EffectOutcome, Outcome, Reservation};
use ambit_core::object::Image;

use crate::approvals::{ApprovalError, approvals_of_intent};
use crate::call::Fault;
use crate::sandbox::{GuestHttpError, Stop};
use crate::store::{Again, Payload, StoreError};
use crate::transcript::{AskedFor, Divergence};

use super::key::{Repeated, forgotten, is_known};
use super::object::Before;
use super::send::{Delivered, Way, borrowed, open_upstream};
use super::shown::changed;
use super::{CallEffects, Known, Missed, Permitted, Redelivery, Through, effect_digest, stopped};

/// An effect in doubt, when it is sent again.
pub(crate) struct UnseenEffect {
    pub(crate) asked: AskedFor,
    pub(crate) intent: EffectIntent,
    /// The outcome that nobody saw more of.
    pub(crate) outcome: EffectOutcome,
    /// The request that was sent, word for word.
    pub(crate) recorded: Payload,
    /// What is still set aside for it.
    pub(crate) reserved: Vec<Reservation>,
    /// The approvals that its intent had, by the people of today.
    pub(crate) approvals: BTreeMap<String, u32>,
    /// When its intent was written, in milliseconds since 1970: as votes stood then.
    pub(crate) began_ms: u64,
    /// What people changed of what the guest asked for, before they approved it.
    pub(crate) changes: Option<Changes>,
    /// When it was first sent under its key, in milliseconds since 1970.
    pub(crate) first_ms: u64,
    /// What it changes, as it was before it was first sent, and the commitment to that.
    pub(crate) before: Option<(Digest, Image)>,
}

impl UnseenEffect {
    /// What is known of it before anything is decided anew.
    fn known(&self) -> Known {
        let mut known = Known::new(self.intent.ordinal, self.intent.cause);
        known.import.clone_from(&self.intent.import);
        known.asked = self.intent.asked;
        known.hold = self.intent.hold;
        known.approvals.clone_from(&self.approvals);
        known.sent = true;
        known.before = self.before.as_ref().map(|(kept, image)| Before {
            image: image.clone(),
            kept: Some(*kept),
        });
        known
    }

    /// That the guest ended without asking for it again.
    pub(super) fn missing(&self) -> Divergence {
        self.asked.missing()
    }

    /// That what is permitted now is what was sent, to the byte.
    fn still(&self, permitted: Permitted) -> Result<Permitted, Missed> {
        let effect = effect_digest(&permitted.admitted, permitted.spend, &self.intent.request);
        let wire = permitted.admitted.request().wire().to_canonical();
        let same = effect == self.intent.effect && wire.as_bytes() == self.recorded.bytes();
        if !ambit_core::guard!("flow.doubt-same", same) {
            let why = "the effect is another one than was sent: its route, money or request changed meanwhile";
            return Err(Refusal::new(Code::Stale, why).into());
        }
        Ok(permitted)
    }
}

impl CallEffects {
    /// The effect in doubt, which the guest asks for again.
    pub(super) fn send_unseen(
        &mut self,
        unseen: UnseenEffect,
        import: Through<'_>,
        guest: &GuestRequest,
    ) -> Result<GuestResponse, Missed> {
        let same = unseen.asked.check(self.label(import), guest, self.grant.limits());
        if let Err(divergence) = same {
            return Err(self.stays(divergence.stop()));
        }
        let guest = match changed(guest, unseen.changes.as_ref()) {
            Ok(guest) => guest,
            Err(refusal) => return Err(self.stays(refusal)),
        };
        let mut known = unseen.known();
        let outcome = self
            .permitted_again(&mut known, import, &guest)
            .and_then(|permitted| unseen.still(permitted))
            .and_then(|permitted| self.send_again(&mut known, permitted, unseen));
        match outcome {
            Err(
                Missed::Refused(refusal) | Missed::Killed(refusal) | Missed::Paused(refusal) | Missed::Ends(refusal),
            ) => Err(self.stays(refusal)),
            outcome => outcome,
        }
    }

    /// The same for an operator's retry of a dead letter, which no guest asks for.
    ///
    /// # Errors
    /// A [`Stop`] where the call ends here, or stays as it was.
    pub(crate) fn redeliver_unseen(
        &mut self,
        letter: Redelivery,
        import: u32,
        guest: &GuestRequest,
    ) -> Result<Result<GuestResponse, GuestHttpError>, Stop> {
        self.letter = Some(letter);
        let outcome = match self.unseen.take() {
            Some(unseen) => self.send_unseen(unseen, Through::Import(import), guest),
            None => Err(Missed::Over(Refusal::new(
                Code::Internal,
                "there is nothing to send again",
            ))),
        };
        self.told(outcome)
    }

    /// Ends the guest: the effect stays in doubt, and nothing of its call's going on is kept.
    pub(super) fn stays(&mut self, refusal: Refusal) -> Missed {
        self.still_held = Some(refusal.clone());
        Missed::Over(refusal)
    }

    /// That the people who approved it still may: a look-up and a wait for its turn have passed since that was asked.
    fn approved_then(&self, unseen: &UnseenEffect) -> Result<(), Missed> {
        if ambit_core::guard!("flow.doubt-turn", unseen.intent.hold.is_none()) {
            return Ok(());
        }
        let reader = self.shared.store.reader()?;
        let story = reader.story(self.heading.call.as_str())?;
        let ordinal = unseen.intent.ordinal;
        match approvals_of_intent(&reader, &self.shared.config, &story, ordinal, unseen.began_ms) {
            Ok(_) => Ok(()),
            Err(ApprovalError::Refused(refusal)) => Err(refusal.into()),
            Err(ApprovalError::Fault(Fault::Store(error))) => Err(error.into()),
            Err(ApprovalError::Fault(fault)) => Err(Refusal::new(Code::Internal, fault.to_string()).into()),
        }
    }

    /// The entry that it is sent again, sending, outcome. What was set aside for it by its intent is what it may use.
    fn send_again(
        &mut self,
        known: &mut Known,
        permitted: Permitted,
        unseen: UnseenEffect,
    ) -> Result<GuestResponse, Missed> {
        let Permitted { admitted, spend } = permitted;
        let (connection, route) = (admitted.connection().name(), admitted.route());
        let shared = Arc::clone(&self.shared);
        let upstream = open_upstream(&shared, connection)?;
        upstream.ready()?;
        let waited = self.turn(&admitted).map_err(stopped)?;
        let mut bounds = self.bounds();
        bounds.time = bounds.time.saturating_sub(waited);
        let own = self.own_headers(known, &admitted);
        let known_there = admitted.idempotency_header().is_some() && is_known(route, unseen.first_ms, 0);
        if !ambit_core::guard!("flow.doubt-key", known_there) {
            return Err(forgotten(connection, route.name(), Repeated::Doubt).into());
        }
        let pass = self.token_for(known, &admitted, upstream)?;
        self.approved_then(&unseen)?;
        let leave = shared.flow.enter(connection, route.name(), admitted.tier())?;
        let way = Way {
            ordinal: known.ordinal,
            admitted: &admitted,
            upstream,
            pass,
            own: &borrowed(&own),
            traced: self.traced(upstream),
            answer_bytes: bounds.answer_bytes,
            deadline: Instant::now() + bounds.time,
            first_ms: unseen.first_ms,
        };
        let request = admitted.request().clone();
        let call = self.heading.call.to_string();
        let again = Again::recorded(&call, &unseen.intent, &unseen.recorded, request, way.deadline)?;
        let attempts = unseen.outcome.attempts;
        let durable = match self.commit_again(&way, again, attempts, Outcome::InDoubt(Doubt::Restart)) {
            Ok(durable) => durable,
            // A stop came since it was looked at.
            Err(StoreError::Stopped(stop)) => return Err(stopped(stop.refusal())),
            // Nothing is written, and the ledger goes on.
            Err(StoreError::Run { run, why }) => return Err(why.refusal(&run).into()),
            Err(StoreError::NoRoom { .. }) => {
                let full = Refusal::new(Code::Ledger, "the ledger has no room for another effect");
                return Err(full.advise("free disk space, or raise the ledger's quota").into());
            }
            Err(error) => return Err(error.into()),
        };
        self.tally.again(&unseen.outcome);
        let delivered = self.deliver_from(Delivered::unseen(attempts), &shared, &way, durable, leave)?;
        let response = self.settle(known, &admitted, unseen.reserved, spend, delivered)?;
        self.check(known, admitted.changed_object().map(|_| admitted.clone()), response)
    }
}
