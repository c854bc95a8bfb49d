//! Effects that wait for people: how a call stops at one, and how it goes on.

use ambit_core::digest::Digest;
use ambit_core::effect::{GuestRequest, GuestResponse};
use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Admitted;
use ambit_core::hold::{Bound, Changes, End, Found, Hold, HoldError, Need, Progress as Votes, Standing};
use ambit_core::ledger::Principal;
use ambit_core::ledger::body::{Amount, Cause, EffectHeld, Undoes, held_name};
use ambit_core::money::Spend;
use ambit_core::object::Image;
use ambit_core::policy::Mode;
use ambit_core::scope::Tier;
use serde::{Deserialize, Serialize};

use crate::approvals::Waiting;
use crate::clock::at_least;
use crate::config::Config;

use crate::objects::Seen;
use crate::sandbox::Stop;
use crate::store::{Batch, StoreError};
use crate::transcript::AskedFor;

use super::budget::Asks;
use super::edit::{Edited, Editing};
use super::object::{Before, fresh_still};
use super::shown::{Shown, changed};
use super::{CallEffects, Known, Missed, Permitted, Through, amount, effect_digest, is_a_stop};

impl CallEffects {
    /// The held effect, which the guest asks for again: by what people said, and decided anew.
    pub(super) fn go_on(
        &mut self,
        waiting: WaitingEffect,
        import: Through<'_>,
        guest: &GuestRequest,
    ) -> Result<GuestResponse, Missed> {
        let label = self.label(import);
        let same = waiting.asked.check(label, guest, self.grant.limits());
        let same = same.map_err(|divergence| import.stop(&divergence));
        if let Err(stop) = same.and_then(|()| waiting.undoes_the_same(import)) {
            self.refuse(waiting.refused(&stop), &stop)?;
            return Err(Missed::Over(stop));
        }
        self.clock_ms = self.clock_ms.max(waiting.clock_ms);
        if let Some(editing) = &waiting.editing {
            return Err(self.edit(&waiting, editing, import, guest));
        }
        let mut known = waiting.known();
        let guest = match changed(guest, waiting.changes.as_ref()) {
            Ok(guest) => guest,
            Err(refusal) => return self.recorded(waiting.refused(&refusal), Err(refusal.into())),
        };
        let now_ms = at_least(waiting.ledger_ms);
        let outcome = match waiting.votes.standing(&waiting.hold, now_ms) {
            Standing::Approved => {
                known.approvals = waiting.votes.approvals(&waiting.hold, now_ms);
                known.given = waiting.votes.given(now_ms);
                if let Some(vote) = waiting.votes.broken_by(now_ms) {
                    tracing::warn!(
                        call = %self.heading.call,
                        hold = %waiting.hold.id,
                        person = %vote.person,
                        group = %vote.group,
                        "BREAK-GLASS: an effect goes on without the approvals that policy asks for"
                    );
                }
                self.same_way(&waiting)
                    .and_then(|()| fresh_still(&waiting.reads).map_err(Missed::from))
                    .and_then(|()| self.permitted_again(&mut known, import, &guest))
                    .and_then(|permitted| waiting.still(&mut known, permitted))
                    .and_then(|permitted| self.send_and_check(&mut known, permitted))
            }
            standing => Err(not_approved(&standing).into()),
        };
        match outcome {
            // A stop uses no approvals up: the hold stays, and the call can go on once it is lifted.
            Err(Missed::Refused(refusal) | Missed::Killed(refusal) | Missed::Paused(refusal))
                if is_a_stop(&refusal) =>
            {
                self.still_held = Some(refusal.clone());
                Err(Missed::Over(refusal))
            }
            Err(Missed::Refused(refusal)) if !ambit_core::guard!("hold.kept", !passes(&refusal)) => {
                let held = Held {
                    request: self.shown(import, &guest),
                    ..waiting.held
                };
                Err(Missed::Over(self.wait_on(held, refusal)))
            }
            outcome => {
                if let Err(Missed::Refused(refusal) | Missed::Killed(refusal) | Missed::Ends(refusal)) = &outcome {
                    known.end = waiting.end(refusal);
                }
                self.recorded(known, outcome)
            }
        }
    }

    /// That the request would still go where it would have gone when people were asked, and under the same credential: before anything is
    /// looked up there.
    fn same_way(&self, waiting: &WaitingEffect) -> Result<(), Missed> {
        Ok(same_way(
            &self.shared.config,
            &waiting.held.connection,
            &waiting.held.route,
            waiting.way.as_ref(),
        )?)
    }

    /// Ends the guest before an approved effect that cannot be had right now: its hold goes on, with its approvals.
    pub(super) fn wait_on(&mut self, held: Held, refusal: Refusal) -> Stop {
        self.held = Some(held);
        let stop = Refusal::new(Code::Held, format!("it is approved and waits on: {}", refusal.message));
        self.refusals.push(refusal);
        stop
    }

    /// Notes that the effect waits for approvals, and ends the guest: nothing of the call is kept but rows. Where as many of the agent's
    /// effects wait as may, it is refused, and the guest goes on.
    pub(super) fn hold(
        &mut self,
        known: &Known,
        admitted: &Admitted,
        spend: Spend,
        asks: Asks,
    ) -> Result<Missed, StoreError> {
        self.hold_as(known, admitted, spend, asks, None)
    }

    /// The same for an effect that a person edited: it is held in the place of what it was, for as long as that was, in one transaction.
    pub(super) fn hold_as(
        &mut self,
        known: &Known,
        admitted: &Admitted,
        spend: Spend,
        asks: Asks,
        in_place: Option<InPlace<'_>>,
    ) -> Result<Missed, StoreError> {
        let ordinal = known.ordinal;
        let edited_from = in_place.as_ref().map(|in_place| in_place.waiting.hold.id);
        let authors = in_place.as_ref().map(InPlace::authors).unwrap_or_default();
        let (principal, tool) = (Principal::from(self.grant.caller()), self.grant.tool().digest());
        let kept = self.payload(held_name(ordinal, edited_from.as_ref()), &admitted.request().wire())?;
        let request = kept.commitment();
        let effect = effect_digest(admitted, spend, &request);
        let (before, kept_before) = self.kept_before(known, edited_from.as_ref())?;
        let connection = admitted.connection().name().to_owned();
        let way = self.shared.config.way(&connection, admitted.route().name());
        let bound = Bound {
            call: self.heading.call.as_str(),
            ordinal,
            effect: &effect,
            tool: &tool,
            connection: &connection,
            principal: &principal,
            run: self.heading.run.as_deref(),
            way: way.as_ref(),
            before: before.as_ref(),
        };
        // What waits is over by the entries' time.
        let now_ms = at_least(self.shared.store.time_ms()?);
        let held = Held {
            hold: bound.id(),
            ordinal,
            connection,
            route: admitted.route().name().to_owned(),
            tier: admitted.tier(),
            spend: amount(spend),
            needs: asks.needs,
            over: asks.over,
            rules: known.rules.clone(),
            expires_ms: match &in_place {
                None => now_ms.saturating_add(self.grant.limits().hold_ms),
                // Nobody makes an effect wait for longer by editing it.
                Some(in_place) => in_place.waiting.hold.expires_ms,
            },
            request: Some(Shown::of(admitted.request())),
            missing: Vec::new(),
            edited: in_place
                .as_ref()
                .map(|in_place| Edited::new(ordinal, &authors, &in_place.editing.changes)),
        };
        let held = Held {
            missing: held.needs.clone(),
            ..held
        };
        let entry = self.heading.entry(EffectHeld {
            asked: known.asked,
            authors,
            before,
            connection: held.connection.clone(),
            edited_from,
            effect,
            expires: held.expires_ms,
            hold: held.hold,
            import: known.import.clone(),
            most: self.grant.limits().open_holds,
            needs: held.needs.clone(),
            ordinal,
            over: held.over.clone(),
            request,
            route: held.route.clone(),
            rules: held.rules.clone(),
            spend: held.spend,
            tier: held.tier,
            way,
            undoes: known.undoes.clone(),
        });
        // A copy: a batch that is refused, as there is no room for one more, leaves what is pending to the next one.
        let mut batch = Batch {
            entries: self.pending.entries.clone(),
            payloads: self.pending.payloads.clone(),
            transcript: self.pending.transcript.clone(),
            ..Batch::default()
        };
        batch
            .transcript
            .push(self.row("held", Some(effect), kept.name().to_owned()));
        if let Some(in_place) = &in_place {
            let edit = in_place.kept(self.heading.call.as_str(), held.hold)?;
            batch.entries.push(self.heading.entry(edit.entry));
            batch.payloads.extend(edit.payloads);
        }
        batch.entries.push(entry);
        batch.payloads.push(kept);
        batch.payloads.extend(kept_before);
        match self.shared.store.commit(batch) {
            Ok(_) => {}
            Err(full @ StoreError::Holds { .. }) => return Ok(Missed::Refused(full.into())),
            // What was edited is over by the entry's time.
            Err(StoreError::HoldExpired) => return Ok(Missed::Refused(HoldError::Expired.into())),
            Err(error) => return Err(error),
        }
        self.pending = Batch::default();
        self.steps += 1;
        let message = format!("effect {ordinal} waits for approvals");
        self.held = Some(held);
        Ok(Missed::Over(Refusal::new(Code::Held, message)))
    }

    /// Whether an effect is one that can wait: asked for the first time, by the guest or to take one back, and not in a dry run, of which
    /// nothing is left.
    pub(super) fn can_wait(&self, known: &Known) -> bool {
        let dry = self.mode == Mode::DryRun;
        let asked = known.cause == Cause::Guest || known.undoes.is_some();
        known.hold.is_none() && !known.sent && asked && ambit_core::guard!("hold.dry-run", !dry)
    }

    /// The approvals that an effect waits for, where it is one that can wait, and is denied by policy.
    pub(super) fn approvals_that_permit(
        &self,
        admitted: &Admitted,
        spend: Spend,
        exhausted: &[String],
        known: &Known,
        refusal: &Refusal,
    ) -> Vec<Need> {
        if refusal.code != Code::Policy || !self.can_wait(known) {
            return Vec::new();
        }
        self.asking(admitted, spend, exhausted, known, |facts| {
            self.shared.policy.approvals_that_permit(facts)
        })
    }

    /// That what was approved still is, by the people of now: a look-up and a wait for the effect's turn have passed since that was asked.
    pub(super) fn approved_still(&self, known: &Known) -> Result<(), Missed> {
        let Some(id) = known.hold else {
            return Ok(());
        };
        if !ambit_core::guard!("hold.objected", !self.shared.running.is_objected(&id)) {
            return Err(Refusal::new(Code::Held, "a person is saying no to it").into());
        }
        let reader = self.shared.store.reader()?;
        let Some(waiting) = Waiting::of(&reader, &self.shared.config, self.heading.call.as_str())? else {
            return Err(not_approved(&Standing::Ended(End::Stale)).into());
        };
        let now_ms = waiting.pending.now_ms();
        let (hold, votes) = (&waiting.pending.hold, &waiting.pending.votes);
        let passes = matches!(votes.end(hold, now_ms, Found::Permitted), Ok((_, End::Passed)));
        // Policy of today may need others of them than the hold did: those that it decided with stand.
        let now = votes.approvals(hold, now_ms);
        let as_decided = known
            .approvals
            .iter()
            .all(|(group, count)| now.get(group) >= Some(count));
        if !ambit_core::guard!("hold.approved-still", passes && as_decided) {
            return Err(not_approved(&votes.standing(hold, now_ms)).into());
        }
        Ok(fresh_still(&known.reads)?)
    }
}

/// What an edit puts in the place of what waits.
pub(super) struct InPlace<'a> {
    pub(super) waiting: &'a WaitingEffect,
    pub(super) editing: &'a Editing,
}

/// A held effect, when its call goes on.
pub(crate) struct WaitingEffect {
    pub(crate) asked: AskedFor,
    pub(crate) hold: Hold,
    pub(crate) votes: Votes,
    /// The ledger's time when it was read, in milliseconds since 1970: no time before that counts for it any more.
    pub(crate) ledger_ms: u64,
    /// The call's clock when it was held: after the host's own look-up for it.
    pub(crate) clock_ms: u64,
    /// The request as it was approved, word for word.
    pub(crate) wire: String,
    /// The effect's digest, as it was held.
    pub(crate) effect: Digest,
    /// The commitment that the digest covers.
    pub(crate) request: Digest,
    /// Commitment to what the guest asked for.
    pub(crate) commitment: Option<Digest>,
    /// Where it would have gone, by the digest of its connection's settings.
    pub(crate) way: Option<Digest>,
    /// What it would change, as it was when it was held, and the commitment to that.
    pub(crate) before: Option<(Digest, Image)>,
    /// What its call had read by then.
    pub(crate) reads: Vec<Seen>,
    /// What a caller is told of it.
    pub(crate) held: Held,
    /// The effect of another call that it takes back.
    pub(crate) undoes: Option<Undoes>,
    /// What people changed of what the guest asks for, if they did.
    pub(crate) changes: Option<Changes>,
    /// The edit that the call is run again for, where it does not go on.
    pub(crate) editing: Option<Editing>,
}

/// A moment in milliseconds since 1970, as the text in UTC that programs are told.
mod as_utc {
    use ambit_core::ledger::{parse_utc, utc};
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&utc(i64::try_from(*ms).unwrap_or(i64::MAX)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        let ms = parse_utc(&text).and_then(|ms| u64::try_from(ms).ok());
        ms.ok_or_else(|| D::Error::custom("that is no moment in UTC"))
    }
}

/// An effect that waits for approvals: what a caller is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The hold's id, which approvals are for.
    pub hold: Digest,
    /// Which of the call's effects.
    pub ordinal: u32,
    /// The connection's name.
    pub connection: String,
    /// The route's name.
    pub route: String,
    /// The route's tier.
    pub tier: Tier,
    /// The money it would move.
    pub spend: Option<Amount>,
    /// The smallest sets of approvals that would permit it, each by group: any of them.
    pub needs: Vec<Need>,
    /// The budgets that have no room for it, whose caps the approvals let it pass.
    pub over: Vec<String>,
    /// The `@id`s of the policies that deny it for now.
    pub rules: Vec<String>,
    /// From then on it is over, in milliseconds since 1970; for programs the time in UTC, as every moment that commands print.
    #[serde(rename = "expires", with = "as_utc")]
    pub expires_ms: u64,
    /// What would be sent. Absent where it cannot be made any more.
    pub request: Option<Shown>,
    /// The approvals that it lacks, each way by itself; none where it is approved and waits on something else.
    pub missing: Vec<Need>,
    /// What people changed about it. Absent where it is as it was asked for.
    pub edited: Option<Edited>,
}

impl WaitingEffect {
    /// What is known of it before anything is decided anew.
    pub(super) fn known(&self) -> Known {
        let cause = match self.undoes {
            None => Cause::Guest,
            Some(_) => Cause::Operator,
        };
        let mut known = Known::new(self.asked.ordinal, cause);
        known.undoes.clone_from(&self.undoes);
        known.import = self.asked.label.clone();
        known.asked = self.commitment;
        known.hold = Some(self.hold.id);
        known.over.clone_from(&self.held.over);
        known.reads.clone_from(&self.reads);
        known
    }

    /// That it takes back the effect which people were told that it would.
    fn undoes_the_same(&self, import: Through<'_>) -> Result<(), Stop> {
        if !ambit_core::guard!("undo.same-effect", self.undoes.as_ref() == import.undoes()) {
            let why = "the effect is another one than was approved: it takes something else back";
            return Err(Refusal::new(Code::Stale, why));
        }
        Ok(())
    }

    /// The same where the effect is refused: its hold ends.
    pub(super) fn refused(&self, refusal: &Refusal) -> Known {
        let mut known = self.known();
        known.end = self.end(refusal);
        known
    }

    /// How the hold ends where its effect is refused like this.
    fn end(&self, refusal: &Refusal) -> Option<End> {
        ended(&self.votes, &self.hold, refusal, at_least(self.ledger_ms))
    }

    /// That what is permitted now is what was approved, to the byte, and would change what was shown to whoever approved it.
    fn still(&self, known: &mut Known, permitted: Permitted) -> Result<Permitted, Missed> {
        let effect = effect_digest(&permitted.admitted, permitted.spend, &self.request);
        let wire = permitted.admitted.request().wire().to_canonical();
        if !ambit_core::guard!("hold.same-effect", effect == self.effect && wire == self.wire) {
            let why = "the effect is another one than was approved: its route, money or request changed meanwhile";
            return Err(Refusal::new(Code::Stale, why).into());
        }
        let was = self.before.as_ref().map(|(_, image)| image);
        let is = known.before.as_ref().map(|before| &before.image);
        if !ambit_core::guard!("object.stale", was == is) {
            let why = "what the effect would change is not what it was when it was held: the approvals are void";
            return Err(Refusal::new(Code::Stale, why).advise("call the tool again").into());
        }
        // What is kept is what was approved.
        known.before = self.before.as_ref().map(|(kept, image)| Before {
            image: image.clone(),
            kept: Some(*kept),
        });
        Ok(permitted)
    }
}

/// How a hold ends where its effect is refused at a time: denied anew, or because something that it stood on is no longer so. Where votes
/// have expired since, it is that.
pub(crate) fn ended(votes: &Votes, hold: &Hold, refusal: &Refusal, now_ms: u64) -> Option<End> {
    let ended = match votes.end(hold, now_ms, found(refusal)) {
        Err(HoldError::Waiting) => votes.end(hold, now_ms, Found::Changed),
        ended => ended,
    };
    ended.ok().map(|(_, end)| end)
}

/// That a connection leads where it led when people were asked.
pub(crate) fn same_way(config: &Config, connection: &str, route: &str, then: Option<&Digest>) -> Result<(), Refusal> {
    let today = config.way(connection, route);
    if !ambit_core::guard!("hold.same-way", then.is_none() || then == today.as_ref()) {
        let why = "the connection is another one than when people were asked: its address, authorities, base, \
                   credential or scopes changed meanwhile";
        return Err(Refusal::new(Code::Stale, why));
    }
    Ok(())
}

/// What a refusal of a held effect is to its hold.
const fn found(refusal: &Refusal) -> Found {
    if is_a_stop(refusal) || passes(refusal) {
        return Found::Stopped;
    }
    match refusal.code {
        Code::Policy | Code::PolicyError => Found::Denied,
        _ => Found::Changed,
    }
}

/// Whether an effect that is refused so before its intent may be had later, without anybody deciding anything: people's approvals are
/// not used up by it.
const fn passes(refusal: &Refusal) -> bool {
    matches!(
        refusal.code,
        Code::Rate
            | Code::Breaker
            | Code::Budget
            | Code::Ledger
            | Code::Address
            | Code::Credential
            | Code::Limit
            | Code::Money
            | Code::Object
            | Code::Effects
            | Code::Held
    )
}

/// What the guest is told where people did not say yes.
pub(crate) fn not_approved(standing: &Standing) -> Refusal {
    let why = match standing {
        Standing::Rejected { .. } => "it was rejected",
        Standing::Expired => "nobody decided it in time",
        Standing::Waiting(_) | Standing::Approved | Standing::Ended(_) => "its approvals no longer count",
    };
    Refusal::new(Code::Approval, format!("the effect was not approved: {why}"))
}
