//! What one call's guest may make happen, and the record of it: admission, decision, intent, sending, outcome, answer.
//!
//! One effect at a time. The order is the promise: an intent is durable before a byte leaves, and an outcome is durable
//! before the guest sees the answer. What the guest was given is part of the same transactions, so that a call can be
//! replayed from its transcript.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_core::digest::Digest;
use ambit_core::effect::{GuestRequest, GuestResponse, HttpEffect};
use ambit_core::error::{Code, Refusal};
use ambit_core::flow::Attempt;
use ambit_core::grant::{Admitted, CurrencyLookup, Grant};
use ambit_core::hold::{self, Bound, End, Found, Hold, Need, Progress as Votes, Standing};
use ambit_core::json::Json;
use ambit_core::ledger::body::{
    Amount, Answered, Cause, Doubt, EffectHeld, EffectIntent, EffectOutcome, EffectRefused, EffectRetried, Letter,
    Outcome, Refused, Reservation, ServicePaused, Settlement,
};
use ambit_core::ledger::{Body, EntryDraft, Principal, Tally};
use ambit_core::money::{Became, Budget, Over, Period, Spend, Unit};
use ambit_core::policy::{CallFacts, EffectFacts, Mode};
use ambit_core::scope::Tier;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;
use serde::Serialize;

use crate::approvals::Waiting;
use crate::budgets::Budgets;
use crate::call::{Answer, Cost, Listener, Outcome as CallOutcome, Progress};
use crate::flow;
use crate::gate::{Bounds, Failed, SendError, Sent, Traffic, Upstream};
use crate::host::{Shared, now_ms};
use crate::ids::{CallId, TraceId};
use crate::sandbox::{Effects, GuestHttpError, LogLevel, Stop};
use crate::store::{Again, Batch, Durable, Entered, Intent, Payload, StoreError, TranscriptRow, place_one};
use crate::transcript::{self, AskedFor, Divergence, Recalled};

/// What every entry of one call says about it.
#[derive(Debug, Clone)]
pub(crate) struct Heading {
    pub(crate) call: CallId,
    pub(crate) trace: TraceId,
    pub(crate) principal: Option<Principal>,
    pub(crate) tool: Option<Digest>,
    /// The run that the call is part of.
    pub(crate) run: Option<String>,
    pub(crate) policy: Digest,
    pub(crate) config: Digest,
}

impl Heading {
    /// An entry of this call.
    pub(crate) fn entry(&self, body: impl Into<Body>) -> EntryDraft {
        EntryDraft {
            body: body.into(),
            call: Some(self.call.to_string()),
            config: Some(self.config),
            policy: Some(self.policy),
            principal: self.principal.clone(),
            tool: self.tool,
            trace: Some(self.trace.to_string()),
        }
    }
}

/// One call's effects. Made from its [`Grant`], driven by the sandbox, taken apart when the guest is done.
pub(crate) struct CallEffects {
    shared: Arc<Shared>,
    /// That it is among the calls that run, where stops find it.
    entered: Entered,
    grant: Grant,
    heading: Heading,
    /// The budgets that came with the call's run.
    run_budgets: Vec<Budget>,
    mode: Mode,
    /// What is recorded and not yet durable: it goes with the next intent, or with the call's end.
    pending: Batch,
    /// Rows of the transcript so far.
    steps: u32,
    /// Effects so far: refused, intended, the host's own.
    ordinal: u32,
    log: String,
    clock_ms: u64,
    random: ChaCha20Rng,
    listener: Option<Listener>,
    tally: Tally,
    upstream: Duration,
    refusals: Vec<Refusal>,
    /// Why the ledger took no more, if it did not: the call then ends as a fault, not as a result.
    fault: Option<StoreError>,
    /// What the guest was told before, when the call goes on.
    past: VecDeque<Recalled>,
    /// The effect that was held, until the guest asks for it again.
    waiting: Option<WaitingEffect>,
    /// The effect that ended this guest to wait for approvals.
    held: Option<Held>,
    /// Why it went no further and waits on, where a stop came before the held effect had its intent.
    still_held: Option<Refusal>,
    /// The call ran before, and was stopped to wait or by the host's end.
    resumed: bool,
    /// The dead letter that is tried again, in place of a guest's run.
    letter: Option<Redelivery>,
}

/// A dead letter that is tried again.
#[derive(Debug, Clone)]
pub(crate) struct Redelivery {
    /// What the intent says of it.
    pub(crate) letter: Letter,
    /// The effect whose idempotency key it has, which may be an earlier one that this was to repeat, and when that was first sent, in
    /// milliseconds since 1970; none for a key of its own.
    pub(crate) key: Option<(String, u32, u64)>,
    /// The connection and the route that it went to.
    pub(crate) place: (String, String),
}

/// A held effect, when its call goes on.
pub(crate) struct WaitingEffect {
    pub(crate) asked: AskedFor,
    pub(crate) hold: Hold,
    pub(crate) votes: Votes,
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
    /// What a caller is told of it.
    pub(crate) held: Held,
}

/// Where a call goes on.
pub(crate) struct Resumption {
    pub(crate) past: VecDeque<Recalled>,
    /// The effect that was held, if it was not the host's end that stopped it.
    pub(crate) waiting: Option<WaitingEffect>,
    pub(crate) steps: u32,
    pub(crate) ordinal: u32,
    pub(crate) tally: Tally,
}

/// An effect that waits for approvals: what a caller is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// From then on it is over, in milliseconds since 1970.
    pub expires_ms: u64,
}

/// What is left of a call's effects when its guest is done.
pub(crate) struct Remains {
    pub(crate) heading: Heading,
    pub(crate) pending: Batch,
    pub(crate) log: String,
    pub(crate) tally: Tally,
    pub(crate) upstream: Duration,
    pub(crate) effects: u32,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) fault: Option<StoreError>,
    /// It is among the calls that run until its end is written.
    pub(crate) _entered: Entered,
    /// The call waits: it has not ended.
    pub(crate) held: Option<Held>,
    /// It ran before, and went on.
    pub(crate) resumed: bool,
}

/// What a call begins with.
pub(crate) struct Beginning {
    pub(crate) entered: Entered,
    pub(crate) grant: Grant,
    pub(crate) heading: Heading,
    /// The budgets that came with the call's run.
    pub(crate) run_budgets: Vec<Budget>,
    pub(crate) mode: Mode,
    pub(crate) pending: Batch,
    pub(crate) clock_ms: u64,
    pub(crate) random: ChaCha20Rng,
    pub(crate) listener: Option<Listener>,
    pub(crate) resumption: Option<Resumption>,
}

/// Why an effect has no answer.
enum Missed {
    /// A rule refused it before its intent. Not recorded yet.
    Refused(Refusal),
    /// A kill came before its intent. Not recorded yet; the call ends here.
    Killed(Refusal),
    /// The gate refused it after its intent and before its first byte. The outcome says so.
    NotSent(Refusal),
    /// It may have happened.
    Failed(String),
    /// The call ends here: it waits for approvals, or does not do again what it had done.
    Over(Stop),
    /// The host cannot go on.
    Fault(StoreError),
}

impl From<StoreError> for Missed {
    fn from(error: StoreError) -> Missed {
        Missed::Fault(error)
    }
}

impl From<Refusal> for Missed {
    fn from(refusal: Refusal) -> Missed {
        Missed::Refused(refusal)
    }
}

/// An effect as far as it is known: what a refusal is recorded with.
struct Known {
    ordinal: u32,
    cause: Cause,
    import: Option<String>,
    asked: Option<Digest>,
    connection: Option<String>,
    route: Option<String>,
    tier: Option<Tier>,
    effect: Option<Digest>,
    spend: Option<Amount>,
    rules: Vec<String>,
    /// The budgets that policy was told have no room for it.
    exhausted: Vec<String>,
    /// The hold that ends with what becomes of the effect, and who approved it.
    hold: Option<Digest>,
    approvals: BTreeMap<String, u32>,
    /// Those of them that people gave: a broken glass passes no cap.
    given: BTreeMap<String, u32>,
    /// The budgets whose caps these let it pass.
    over: Vec<String>,
}

impl Known {
    fn new(ordinal: u32, cause: Cause) -> Known {
        Known {
            ordinal,
            cause,
            import: None,
            asked: None,
            connection: None,
            route: None,
            tier: None,
            effect: None,
            spend: None,
            rules: Vec::new(),
            exhausted: Vec::new(),
            hold: None,
            approvals: BTreeMap::new(),
            given: BTreeMap::new(),
            over: Vec::new(),
        }
    }

    fn admitted(&mut self, admitted: &Admitted) {
        self.connection = Some(admitted.connection().name().to_owned());
        self.route = Some(admitted.route().name().to_owned());
        self.tier = Some(admitted.tier());
    }
}

impl CallEffects {
    pub(crate) fn new(shared: Arc<Shared>, beginning: Beginning) -> CallEffects {
        let Beginning {
            entered,
            grant,
            heading,
            run_budgets,
            mode,
            pending,
            clock_ms,
            random,
            listener,
            resumption,
        } = beginning;
        let resumed = resumption.is_some();
        let (past, waiting, steps, ordinal, tally) = match resumption {
            Some(on) => (on.past, on.waiting, on.steps, on.ordinal, on.tally),
            None => (VecDeque::new(), None, 0, 0, Tally::default()),
        };
        CallEffects {
            shared,
            entered,
            grant,
            heading,
            run_budgets,
            mode,
            pending,
            steps,
            ordinal,
            log: String::new(),
            clock_ms,
            random,
            listener,
            tally,
            upstream: Duration::ZERO,
            refusals: Vec::new(),
            fault: None,
            past,
            waiting,
            held: None,
            still_held: None,
            resumed,
            letter: None,
        }
    }

    /// An effect that failed for good in another call, once more: through the whole gate, as the operator's.
    ///
    /// # Errors
    /// A [`Stop`] where the call ends here.
    pub(crate) fn redeliver(
        &mut self,
        letter: Redelivery,
        import: u32,
        guest: &GuestRequest,
    ) -> Result<Result<GuestResponse, GuestHttpError>, Stop> {
        self.letter = Some(letter);
        let ordinal = self.next_ordinal()?;
        let outcome = self.effect(ordinal, import, guest);
        self.told(outcome)
    }

    /// What the guest is told of an effect.
    fn told(&mut self, outcome: Result<GuestResponse, Missed>) -> Result<Result<GuestResponse, GuestHttpError>, Stop> {
        match outcome {
            Ok(response) => Ok(Ok(response)),
            Err(Missed::Refused(refusal) | Missed::NotSent(refusal)) => Ok(Err(GuestHttpError::Refused(refusal))),
            Err(Missed::Failed(why)) => Ok(Err(GuestHttpError::Failed(why))),
            Err(Missed::Over(stop) | Missed::Killed(stop)) => Err(stop),
            Err(Missed::Fault(error)) => Err(self.fail(error)),
        }
    }

    pub(crate) fn into_remains(self) -> Remains {
        Remains {
            heading: self.heading,
            pending: self.pending,
            log: self.log,
            tally: self.tally,
            upstream: self.upstream,
            effects: self.ordinal,
            refusals: self.refusals,
            fault: self.fault,
            _entered: self.entered,
            held: self.held,
            resumed: self.resumed,
        }
    }

    /// Why a call that went on was stopped before its held effect was decided: it waits as before, its approvals unused.
    pub(crate) fn stopped_while_held(&self) -> Option<Refusal> {
        let stopped = || self.waiting.as_ref().and_then(|_| self.entered.running().check().err());
        self.still_held.clone().or_else(stopped)
    }

    /// The answer of a call that waits on. Nothing of its going on is recorded.
    pub(crate) fn into_still_held(self, refusal: Refusal, started: Instant) -> Answer {
        Answer {
            call: self.heading.call,
            trace: self.heading.trace,
            outcome: CallOutcome::Stopped(refusal),
            refused_effects: Vec::new(),
            cost: Cost {
                ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                ..Cost::default()
            },
        }
    }

    /// What the guest had asked for and, going on, ended without: the call did not do again what it had done.
    ///
    /// # Errors
    /// Where the ledger takes no more: a hold that nobody waits for any more ends here.
    pub(crate) fn left_over(&mut self) -> Result<Option<Divergence>, StoreError> {
        let missing = self.past.front().map(|recalled| recalled.asked.missing());
        let Some(waiting) = self.waiting.take() else {
            return Ok(missing);
        };
        let divergence = missing.unwrap_or_else(|| waiting.asked.missing());
        self.refuse(waiting.known(), &divergence.stop())?;
        Ok(Some(divergence))
    }

    /// The guest's effect, from what it asked for to the answer it is given.
    fn effect(&mut self, ordinal: u32, import: u32, guest: &GuestRequest) -> Result<GuestResponse, Missed> {
        let cause = match self.letter {
            None => Cause::Guest,
            Some(_) => Cause::Operator,
        };
        let mut known = Known::new(ordinal, cause);
        known.import = self.grant.label(import).map(str::to_owned);
        let asked = transcript::kept(guest, self.grant.limits());
        known.asked = Some(self.keep(format!("effect/{ordinal}/asked"), &asked)?);
        let outcome = self
            .bounded(guest)
            .map_err(Missed::from)
            .and_then(|()| self.permitted(&mut known, import, guest))
            .and_then(|permitted| self.send(&mut known, permitted));
        self.recorded(known, outcome)
    }

    /// Writes down a refusal that is not on the ledger yet.
    fn recorded(&mut self, known: Known, outcome: Result<GuestResponse, Missed>) -> Result<GuestResponse, Missed> {
        if let Err(Missed::Refused(refusal) | Missed::Killed(refusal)) = &outcome {
            self.refuse(known, refusal)?;
        }
        outcome
    }

    /// What the guest was told when it first asked for this.
    fn recall(
        &mut self,
        recalled: Recalled,
        import: u32,
        guest: &GuestRequest,
    ) -> Result<Result<GuestResponse, GuestHttpError>, Stop> {
        let label = self.grant.label(import);
        let same = recalled.asked.check(label, guest, self.grant.limits());
        if let Err(divergence) = same {
            return Err(self.diverged(&divergence));
        }
        self.clock_ms = recalled.clock_ms;
        if let Err(GuestHttpError::Refused(refusal)) = &recalled.answer {
            self.refusals.push(refusal.clone());
        }
        Ok(recalled.answer)
    }

    /// The guest asks for something else than it had: nothing more happens.
    fn diverged(&mut self, divergence: &Divergence) -> Stop {
        self.past.clear();
        let stop = divergence.stop();
        match self.waiting.take() {
            None => stop,
            Some(waiting) => match self.refuse(waiting.known(), &stop) {
                Ok(()) => stop,
                Err(error) => self.fail(error),
            },
        }
    }

    /// The held effect, which the guest asks for again: by what people said, and decided anew.
    fn go_on(&mut self, waiting: WaitingEffect, import: u32, guest: &GuestRequest) -> Result<GuestResponse, Missed> {
        let label = self.grant.label(import);
        let same = waiting.asked.check(label, guest, self.grant.limits());
        if let Err(divergence) = same {
            let stop = divergence.stop();
            self.refuse(waiting.known(), &stop)?;
            return Err(Missed::Over(stop));
        }
        self.clock_ms = self.clock_ms.max(waiting.clock_ms);
        let mut known = waiting.known();
        let now_ms = u64::try_from(now_ms()).unwrap_or_default();
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
                self.permitted(&mut known, import, guest)
                    .and_then(|permitted| waiting.still(permitted))
                    .and_then(|permitted| self.send(&mut known, permitted))
            }
            standing => Err(not_approved(&standing).into()),
        };
        match outcome {
            // A stop uses no approvals up: the hold stays, and the call can go on once it is lifted.
            Err(Missed::Refused(refusal) | Missed::Killed(refusal)) if is_a_stop(&refusal) => {
                self.still_held = Some(refusal.clone());
                Err(Missed::Over(refusal))
            }
            Err(Missed::Refused(refusal)) if !ambit_core::guard!("hold.kept", !passes(&refusal)) => {
                Err(Missed::Over(self.wait_on(waiting.held, refusal)))
            }
            outcome => self.recorded(known, outcome),
        }
    }

    /// Ends the guest before an approved effect that cannot be had right now: its hold goes on, with its approvals.
    fn wait_on(&mut self, held: Held, refusal: Refusal) -> Stop {
        self.held = Some(held);
        let stop = Refusal::new(Code::Held, format!("it is approved and waits on: {}", refusal.message));
        self.refusals.push(refusal);
        stop
    }

    /// Notes that the effect waits for approvals, and ends the guest: nothing of the call is kept but rows. Where as many of the agent's
    /// effects wait as may, it is refused, and the guest goes on.
    fn hold(&mut self, known: &Known, admitted: &Admitted, spend: Spend, asks: Asks) -> Result<Missed, StoreError> {
        let ordinal = known.ordinal;
        let (principal, tool) = (Principal::from(self.grant.caller()), self.grant.tool().digest());
        let kept = self.payload(format!("effect/{ordinal}/held"), &admitted.request().wire())?;
        let request = kept.commitment();
        let effect = effect_digest(admitted, spend, &request);
        let connection = admitted.connection().name().to_owned();
        let bound = Bound {
            call: self.heading.call.as_str(),
            ordinal,
            effect: &effect,
            tool: &tool,
            connection: &connection,
            principal: &principal,
            run: self.heading.run.as_deref(),
        };
        let now_ms = u64::try_from(now_ms()).unwrap_or_default();
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
            expires_ms: now_ms.saturating_add(self.grant.limits().hold_ms),
        };
        let entry = self.heading.entry(EffectHeld {
            asked: known.asked,
            connection: held.connection.clone(),
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
        batch.entries.push(entry);
        batch.payloads.push(kept);
        match self.shared.store.commit(batch) {
            Ok(_) => {}
            Err(full @ StoreError::Holds { .. }) => return Ok(Missed::Refused(full.into())),
            Err(error) => return Err(error),
        }
        self.pending = Batch::default();
        self.steps += 1;
        let message = format!("effect {ordinal} waits for approvals");
        self.held = Some(held);
        Ok(Missed::Over(Refusal::new(Code::Held, message)))
    }

    /// Refuses what is larger than any request that could be sent, before it is kept or looked at.
    fn bounded(&self, guest: &GuestRequest) -> Result<(), Refusal> {
        let (size, most) = (guest.size(), self.grant.limits().wire().most());
        if !ambit_core::guard!("wire.asked-size", size <= most) {
            return Err(Refusal::new(
                Code::Limit,
                format!("the request is {size} bytes; the most that could be sent is {most}"),
            ));
        }
        Ok(())
    }

    /// Scope, route, tier and narrowing; then money; then policy. Nothing has left when this returns, except the host's
    /// own look-up of a currency, which has an intent of its own.
    fn permitted(&mut self, known: &mut Known, import: u32, guest: &GuestRequest) -> Result<Permitted, Missed> {
        let admitted = self.grant.admit(import, guest)?;
        known.admitted(&admitted);
        self.same_place(known, &admitted)?;
        self.not_in_a_dry_run(admitted.tier())?;
        self.not_stopped(&admitted)?;
        let spend = self.spend(&admitted)?;
        known.spend = amount(spend);
        known.effect = known.asked.map(|asked| effect_digest(&admitted, spend, &asked));
        match self.decide(&admitted, spend, &[], known) {
            Ok(()) => Ok(Permitted { admitted, spend }),
            Err(refusal) => match self.approvals_that_permit(&admitted, spend, &[], known, &refusal) {
                needs if needs.is_empty() => Err(refusal.into()),
                needs => {
                    let asks = self.asks_too(&admitted, spend, known, needs)?;
                    Err(self.hold(known, &admitted, spend, asks)?)
                }
            },
        }
    }

    /// That a dead letter goes under its own key to where that key is known, and to nowhere else.
    fn same_place(&self, known: &Known, admitted: &Admitted) -> Result<(), Refusal> {
        let Some(letter) = self.redelivered(known).filter(|letter| letter.key.is_some()) else {
            return Ok(());
        };
        let (connection, route) = (admitted.connection().name(), admitted.route().name());
        let same = letter.place.0 == connection && letter.place.1 == route && admitted.idempotency_header().is_some();
        if !ambit_core::guard!("flow.letter-place", same) {
            let (was, route_was) = &letter.place;
            return Err(Refusal::new(
                Code::Stale,
                format!("the effect went to `{was}/{route_was}` and would go to `{connection}/{route}` now, where its key is not known"),
            )
            .advise("retry it with --new-key if it is to be sent there, and if it may be done twice"));
        }
        Ok(())
    }

    /// Whether an effect is one that can wait: asked for the first time, by the guest, and not in a dry run, of which nothing is left.
    fn can_wait(&self, known: &Known) -> bool {
        let dry = self.mode == Mode::DryRun;
        known.hold.is_none() && known.cause == Cause::Guest && ambit_core::guard!("hold.dry-run", !dry)
    }

    /// What policy asks for, with what budgets ask for that have no room now: whoever approves is told all of it. A budget that nobody may
    /// pass asks for nothing; it may have room by then.
    fn asks_too(&self, admitted: &Admitted, spend: Spend, known: &Known, ways: Vec<Need>) -> Result<Asks, StoreError> {
        let reserved = self.reservations(known, admitted, spend).unwrap_or_default();
        let mut over = self.without_room(&reserved)?;
        over.retain(|name| self.over_of(name).is_some());
        let also = self.asked_for(&over).unwrap_or_default();
        let needs = hold::combined(&ways, &also);
        Ok(Asks { needs, over })
    }

    /// The configured budgets, and those that came with the run.
    fn budgets(&self) -> impl Iterator<Item = &Budget> {
        self.shared.config.budgets().iter().chain(&self.run_budgets)
    }

    /// Whose approvals let an effect pass the cap of the budget of this name.
    fn over_of(&self, name: &str) -> Option<&Over> {
        self.budgets().find(|budget| budget.name == name)?.over.as_ref()
    }

    /// The approvals that let an effect pass the caps of all these; none where one of them is nobody's to pass.
    fn asked_for(&self, budgets: &[String]) -> Option<Need> {
        let mut need = Need::new();
        for name in budgets {
            let over = self.over_of(name)?;
            let most = need.entry(over.ask.clone()).or_default();
            *most = (*most).max(over.count);
        }
        Some(need)
    }

    /// The names of the budgets that have no room now for what would be reserved. It promises nothing: the transaction of the intent
    /// decides.
    fn without_room(&self, reserved: &[Reservation]) -> Result<Vec<String>, StoreError> {
        let configured: Vec<Budget> = self.budgets().cloned().collect();
        let accounts = self.shared.store.reader()?.accounts()?;
        let budgets = Budgets::new(&configured, &accounts, now_ms());
        let lacks = reserved.iter().filter(|one| !budgets.have_room(one));
        let mut names: Vec<String> = lacks.map(|one| one.budget.clone()).collect();
        names.sort();
        Ok(names)
    }

    /// The approvals that an effect waits for, where it is one that can wait, and is denied by policy.
    fn approvals_that_permit(
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

    /// A dry run reads and changes nothing, whatever policy says.
    fn not_in_a_dry_run(&self, tier: Tier) -> Result<(), Refusal> {
        let dry = self.mode == Mode::DryRun;
        if !ambit_core::guard!("policy.dry-run", !dry || tier == Tier::Read) {
            return Err(Refusal::new(
                Code::Tier,
                format!("the call is a dry run, and the effect is a {tier}: nothing was sent"),
            )
            .advise("call again in mode execute to have it done"));
        }
        Ok(())
    }

    /// What an operator stopped does not happen. The store looks again in the intent's transaction, and the gate before the first byte.
    fn not_stopped(&self, admitted: &Admitted) -> Result<(), Missed> {
        let board = self.shared.store.board();
        let subject = self.entered.running().subject();
        let allowed = board.check_effect(subject, admitted.connection().name(), admitted.tier());
        match allowed {
            Err(refusal) if !ambit_core::guard!("stop.effect", false) => Err(stopped(refusal)),
            _ => Ok(()),
        }
    }

    /// What the effect spends; a currency that only the service knows is looked up first.
    fn spend(&mut self, admitted: &Admitted) -> Result<Spend, Missed> {
        let looked_up = match admitted.currency_lookup()? {
            Some(lookup) => Some(self.look_up(&lookup)?),
            None => None,
        };
        Ok(admitted.spend(looked_up.as_deref())?)
    }

    /// A request of the host's own, through a route of the same connection: the operator's configuration asks for it, so no
    /// policy decides it, and its answer goes to nobody but the host.
    fn look_up(&mut self, lookup: &CurrencyLookup) -> Result<String, Missed> {
        let ordinal = self.next_ordinal()?;
        let mut known = Known::new(ordinal, Cause::Host);
        let admitted = lookup.admitted();
        known.admitted(admitted);
        let permitted = Permitted {
            admitted: admitted.clone(),
            spend: Spend::None,
        };
        match self.send(&mut known, permitted) {
            Ok(answer) => Ok(lookup.read(&answer)?),
            Err(Missed::Refused(refusal)) => {
                self.refuse(known, &refusal)?;
                Err(Missed::Refused(refusal))
            }
            Err(Missed::Killed(refusal)) => {
                self.refuse(known, &refusal)?;
                Err(Missed::Killed(refusal))
            }
            Err(Missed::NotSent(refusal)) => Err(Missed::Refused(refusal)),
            // The look-up has its outcome; what it was for has none yet.
            Err(Missed::Over(stop)) => Err(Missed::Killed(stop)),
            Err(Missed::Failed(why)) => {
                Err(Refusal::new(Code::Money, format!("the currency could not be looked up: {why}")).into())
            }
            Err(other) => Err(other),
        }
    }

    /// Asks policy about the effect, with the budgets that have no room for it.
    fn decide(
        &self,
        admitted: &Admitted,
        spend: Spend,
        exhausted: &[String],
        known: &mut Known,
    ) -> Result<(), Refusal> {
        let decision = self.asking(admitted, spend, exhausted, known, |facts| {
            self.shared.policy.decide_effect(facts)
        });
        known.rules = decision.rules().to_vec();
        if !decision.errors().is_empty() {
            tracing::warn!(call = %self.heading.call, errors = ?decision.errors(), "a policy could not be evaluated");
        }
        decision.refusal().map_or(Ok(()), Err)
    }

    /// Puts a question to policy about the effect.
    fn asking<T>(
        &self,
        admitted: &Admitted,
        spend: Spend,
        exhausted: &[String],
        known: &Known,
        question: impl FnOnce(&EffectFacts<'_>) -> T,
    ) -> T {
        let fields = admitted.field_facts();
        question(&EffectFacts {
            call: CallFacts {
                caller: self.grant.caller(),
                run: self.heading.run.as_deref(),
                mode: self.mode,
                tool: self.grant.tool().name(),
                tool_digest: self.grant.tool().digest(),
                function: self.grant.function(),
            },
            connection: admitted.connection().name(),
            route: admitted.route().name(),
            tier: admitted.tier(),
            fields: &fields,
            captures: admitted.captures(),
            recipients: &[],
            exhausted,
            spend,
            approvals: &known.approvals,
        })
    }

    /// Intent, sending, outcome. The intent is durable before a byte leaves, the outcome before anyone sees the answer.
    fn send(&mut self, known: &mut Known, permitted: Permitted) -> Result<GuestResponse, Missed> {
        let Permitted { admitted, spend } = permitted;
        let connection = admitted.connection().name().to_owned();
        let shared = Arc::clone(&self.shared);
        let upstream = open_upstream(&shared, &connection)?;
        upstream.ready()?;
        let waited = self.turn(&admitted).map_err(stopped)?;
        let mut bounds = self.bounds();
        bounds.time = bounds.time.saturating_sub(waited);
        let idempotency = self.presented(known, &admitted);
        let presented = idempotency
            .as_ref()
            .map(|(header, key)| (header.as_str(), key.as_str()));
        let reserved = self.reservations(known, &admitted, spend)?;
        self.approved_still(known)?;
        let leave = shared
            .flow
            .enter(&connection, admitted.route().name(), admitted.tier())?;
        let (durable, reserved) = self.intend(known, &admitted, spend, reserved)?;
        let way = Way {
            ordinal: known.ordinal,
            admitted: &admitted,
            upstream,
            presented,
            answer_bytes: bounds.answer_bytes,
            deadline: Instant::now() + bounds.time,
            first_ms: self
                .redelivered(known)
                .and_then(|letter| letter.key.as_ref())
                .map_or_else(flow::clock, |(.., first)| *first),
        };
        let delivered = self.deliver(&shared, &way, durable, leave)?;
        self.settle(known, &admitted, reserved, spend, delivered)
    }

    /// Sends what is durable, and again as its route says, each time with an entry of its own that is durable before it leaves.
    fn deliver<'s>(
        &mut self,
        shared: &'s Shared,
        way: &Way<'_>,
        durable: Durable,
        leave: flow::Leave<'s>,
    ) -> Result<Delivered, Missed> {
        let again = durable.again();
        let mut delivered = Delivered::default();
        let mut next = Some((durable, leave));
        while let Some((durable, leave)) = next.take() {
            let bounds = way.bounds(delivered.attempts);
            let started = Instant::now();
            let sending = shared.wire.send(way.upstream, durable, way.presented, bounds);
            let sent = shared.io.block_on(sending);
            self.upstream += started.elapsed();
            self.note_pause(way.admitted.connection().name(), flow::later(&sent));
            leave.end(flow::how(&sent), &shared.store)?;
            let attempt = flow::attempt(&sent);
            let after = one_outcome(&sent);
            delivered.add(sent);
            if let Some(wait) = way.pause(delivered.attempts, attempt) {
                self.rest(wait);
                next = self.again(shared, way, &again, delivered.attempts, after)?;
            }
        }
        Ok(delivered)
    }

    /// Leave to send once more, where nothing is in the way: a pause, a breaker, a rate, the time, room on the disk.
    fn again<'s>(
        &mut self,
        shared: &'s Shared,
        way: &Way<'_>,
        again: &Again,
        attempts: u32,
        after: Outcome,
    ) -> Result<Option<(Durable, flow::Leave<'s>)>, Missed> {
        let (connection, route) = (way.admitted.connection().name(), way.admitted.route().name());
        let tier = way.admitted.tier();
        if way.upstream.ready().is_err() || shared.flow.check(connection, route, tier).is_err() {
            return Ok(None);
        }
        let Ok(turn) = shared.flow.turn(connection, route, way.left()) else {
            return Ok(None);
        };
        self.rest(turn);
        if self.entered.running().check().is_err() || self.not_stopped(way.admitted).is_err() {
            return Ok(None);
        }
        let Ok(leave) = shared.flow.enter(connection, route, tier) else {
            return Ok(None);
        };
        let entry = self.heading.entry(EffectRetried {
            after,
            attempt: attempts.saturating_add(1),
            connection: connection.to_owned(),
            ordinal: way.ordinal,
            request: again.request(),
            route: route.to_owned(),
        });
        let mut entries = self.pending.entries.clone();
        entries.push(entry);
        let batch = Batch {
            entries,
            payloads: self.pending.payloads.clone(),
            transcript: self.pending.transcript.clone(),
            again: Some(again.until(way.deadline)),
            ..Batch::default()
        };
        match self.shared.store.commit(batch) {
            Ok(committed) => {
                self.pending = Batch::default();
                let durable = committed.durable.ok_or(StoreError::Unintended)?;
                Ok(Some((durable, leave)))
            }
            // What is under way can still be ended: there is room for that.
            Err(StoreError::NoRoom { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the effect's turn under the rates of its connection and route, unless a breaker is open; how long it waited.
    fn turn(&mut self, admitted: &Admitted) -> Result<Duration, Refusal> {
        let (connection, route) = (admitted.connection().name(), admitted.route().name());
        let flow = &self.shared.flow;
        flow.check(connection, route, admitted.tier())?;
        let most = Duration::from_millis(self.grant.limits().upstream_ms);
        let wait = flow.turn(connection, route, most)?;
        self.rest(wait);
        self.entered.running().check()?;
        Ok(wait)
    }

    /// Lets time pass that counts as waiting for the service; no longer than until a kill ends the call.
    fn rest(&mut self, time: Duration) {
        if !time.is_zero() {
            let (started, running) = (Instant::now(), self.entered.running());
            self.shared.io.block_on(async {
                tokio::select! {
                    () = tokio::time::sleep(time) => {}
                    _ = running.stopped() => {}
                }
            });
            self.upstream += started.elapsed();
        }
    }

    /// Writes down, with the outcome, that the service asked to be left alone.
    fn note_pause(&mut self, connection: &str, later: Option<Duration>) {
        let Some(later) = later else { return };
        let later = u64::try_from(later.as_millis()).unwrap_or(u64::MAX);
        let entry = EntryDraft::of_ledger(ServicePaused {
            connection: connection.to_owned(),
            until: flow::clock().saturating_add(later),
        });
        self.pending.entries.push(entry);
    }

    /// That what was approved still is, by the people of now: a look-up and a wait for the effect's turn have passed since that was asked.
    fn approved_still(&self, known: &Known) -> Result<(), Missed> {
        if known.hold.is_none() {
            return Ok(());
        }
        let reader = self.shared.store.reader()?;
        let Some(waiting) = Waiting::of(&reader, &self.shared.config, self.heading.call.as_str())? else {
            return Err(not_approved(&Standing::Ended(End::Stale)).into());
        };
        let now_ms = u64::try_from(now_ms()).unwrap_or_default();
        let (hold, votes) = (&waiting.pending.hold, &waiting.pending.votes);
        let passes = matches!(votes.end(hold, now_ms, Found::Permitted), Ok((_, End::Passed)));
        if !ambit_core::guard!("hold.approved-still", passes) {
            return Err(not_approved(&votes.standing(hold, now_ms)).into());
        }
        Ok(())
    }

    /// How much of an answer is waited for.
    fn bounds(&self) -> Bounds {
        let limits = self.grant.limits();
        Bounds {
            time: Duration::from_millis(limits.upstream_ms),
            answer_bytes: usize::try_from(limits.response_body_bytes).unwrap_or(usize::MAX),
        }
    }

    /// The header and the key by which the service knows a repeated request, where its route has one.
    fn presented(&self, known: &Known, admitted: &Admitted) -> Option<(String, String)> {
        let header = admitted.idempotency_header()?;
        Some((header.to_owned(), self.idempotency_key(known)))
    }

    /// The key by which the service knows a repeated request: a function of call and effect, so that it is the same after a
    /// crash. A dead letter that is tried again has that of the effect which it was.
    fn idempotency_key(&self, known: &Known) -> String {
        let (call, ordinal) = match self.redelivered(known).and_then(|letter| letter.key.as_ref()) {
            Some((call, ordinal, _)) => (call.as_str(), *ordinal),
            None => (self.heading.call.as_str(), known.ordinal),
        };
        Digest::domain("ambit/idempotency/v1", &[call.as_bytes(), &ordinal.to_be_bytes()]).to_hex()
    }

    /// The dead letter that this effect is.
    fn redelivered(&self, known: &Known) -> Option<&Redelivery> {
        self.letter.as_ref().filter(|_| known.cause == Cause::Operator)
    }

    /// Commits the intent. A budget without room is one more fact: policy decides once more, and what it then permits passes the cap
    /// only by approvals that are for it.
    fn intend(
        &mut self,
        known: &mut Known,
        admitted: &Admitted,
        spend: Spend,
        mut reserved: Vec<Reservation>,
    ) -> Result<(Durable, Vec<Reservation>), Missed> {
        // Each turn lets one more of the reservations pass its cap.
        loop {
            let error = match self.commit_intent(known, admitted, spend, &reserved) {
                Ok(durable) => return Ok(durable),
                Err(error) => error,
            };
            match error {
                StoreError::Budget { ref name, .. } => {
                    let name = name.clone();
                    self.over_budget((&name, &error), admitted, spend, known, &mut reserved)?;
                }
                StoreError::Run { run, why } => return Err(why.refusal(&run).into()),
                StoreError::Stopped(stop) => return Err(stopped(stop.refusal())),
                StoreError::NoRoom { .. } => {
                    return Err(Refusal::new(Code::Ledger, "the ledger has no room for another effect")
                        .advise("free disk space, or raise the ledger's quota")
                        .into());
                }
                error => return Err(error.into()),
            }
        }
    }

    /// Commits the intent with everything the guest was given since the last one.
    fn commit_intent(
        &mut self,
        known: &Known,
        admitted: &Admitted,
        spend: Spend,
        reserved: &[Reservation],
    ) -> Result<(Durable, Vec<Reservation>), StoreError> {
        let request = self.payload(format!("effect/{}/request", known.ordinal), &admitted.request().wire())?;
        let effect = effect_digest(admitted, spend, &request.commitment());
        let entry = self.heading.entry(EffectIntent {
            asked: known.asked,
            hold: known.hold,
            cause: known.cause,
            connection: admitted.connection().name().to_owned(),
            effect,
            import: known.import.clone(),
            letter: self.redelivered(known).map(|letter| letter.letter.clone()),
            ordinal: known.ordinal,
            request: request.commitment(),
            reserved: reserved.to_vec(),
            route: admitted.route().name().to_owned(),
            rules: known.rules.clone(),
            spend: amount(spend),
            tier: admitted.tier(),
        });
        let time = Duration::from_millis(self.grant.limits().upstream_ms);
        // A copy: a batch that is refused for a budget leaves what is pending to the next one.
        let mut batch = Batch {
            entries: self.pending.entries.clone(),
            payloads: self.pending.payloads.clone(),
            transcript: self.pending.transcript.clone(),
            intent: Some(Intent {
                request: admitted.request().clone(),
                deadline: Instant::now() + time,
            }),
            again: None,
        };
        batch
            .transcript
            .push(self.row("effect", Some(effect), request.name().to_owned()));
        batch.entries.push(entry);
        batch.payloads.push(request);
        let committed = self.shared.store.commit(batch)?;
        self.pending = Batch::default();
        self.steps += 1;
        let mut reserved = reserved.to_vec();
        reserved.iter_mut().for_each(|one| place_one(one, committed.time_ms));
        let durable = committed.durable.ok_or(StoreError::Unintended)?;
        Ok((durable, reserved))
    }

    /// A budget has no room. Where the effect's approvals are for that, its reservation may pass the cap: `Ok`. Else it waits for those who
    /// may say so, where the budget names them and policy permits it or asks for people too; or it is refused.
    fn over_budget(
        &mut self,
        (name, error): (&str, &StoreError),
        admitted: &Admitted,
        spend: Spend,
        known: &mut Known,
        reserved: &mut [Reservation],
    ) -> Result<(), Missed> {
        let mut exhausted = self.without_room(reserved)?;
        if !exhausted.iter().any(|one| one == name) {
            exhausted.push(name.to_owned());
        }
        known.exhausted.clone_from(&exhausted);
        let full = Refusal::new(Code::Budget, error.to_string()).advise(format!(
            "wait until budget `{name}` has room again, or ask the operator to raise its cap"
        ));
        if known.cause == Cause::Host {
            // No policy decides what the host asks for itself.
            return Err(full.into());
        }
        let decided = self.decide(admitted, spend, &exhausted, known);
        let one = reserved.iter_mut().find(|one| one.budget == name && one.over.is_none());
        if let (Ok(()), Some(hold), Some(one)) = (&decided, known.hold, one)
            && ambit_core::guard!("budget.over-approved", self.is_passed(name, known))
        {
            one.over = Some(hold);
            return Ok(());
        }
        let ways = match &decided {
            Ok(()) => vec![Need::new()],
            Err(refusal) => self.approvals_that_permit(admitted, spend, &exhausted, known, refusal),
        };
        let waits = self.can_wait(known) && !ways.is_empty();
        if let (true, Some(also)) = (waits, self.asked_for(&exhausted)) {
            if decided.is_ok() {
                // What permits it does not deny it.
                known.rules.clear();
            }
            let needs = hold::combined(&ways, &also);
            let asks = Asks { needs, over: exhausted };
            return Err(self.hold(known, admitted, spend, asks)?);
        }
        // What was approved was permitted a moment ago, and is again once there is room: its approvals are not used up.
        if known.hold.is_none() {
            decided?;
        }
        Err(full.into())
    }

    /// Whether the effect's approvals let it pass the cap: its hold said so, and enough of those whom the budget asks said yes.
    fn is_passed(&self, name: &str, known: &Known) -> bool {
        let given = |group: &str| known.given.get(group).copied().unwrap_or_default();
        let enough = self.over_of(name).is_some_and(|over| given(&over.ask) >= over.count);
        enough && known.over.iter().any(|one| one == name)
    }

    /// What every budget that matches sets aside for the effect: of bytes, the most that can go.
    fn reservations(&self, known: &Known, admitted: &Admitted, spend: Spend) -> Result<Vec<Reservation>, Refusal> {
        let route = Some((admitted.connection().name(), admitted.route().name()));
        let (call, run) = (self.heading.call.as_str(), self.heading.run.as_deref());
        let used = self.grant.used(call, run, route);
        let counted = |budget: &Budget| budget.unit == Unit::Bytes && budget.covers.covers(&used);
        let bytes = if self.budgets().any(counted) {
            let upstream = open_upstream(&self.shared, admitted.connection().name())?;
            let idempotency = self.presented(known, admitted);
            let presented = idempotency
                .as_ref()
                .map(|(header, key)| (header.as_str(), key.as_str()));
            let once = upstream.most_bytes(admitted.request(), presented, self.bounds().answer_bytes)?;
            let retries = admitted.route().retries().map_or(0, |retries| retries.most);
            once.saturating_mul(u64::from(retries) + 1)
        } else {
            0
        };
        let reserved = self.budgets().filter_map(|budget| {
            Some(Reservation {
                amount: budget.of_effect(&used, &spend, bytes)?,
                budget: budget.name.clone(),
                cap: budget.cap,
                over: None,
                window: budget.period(&used).to_string(),
            })
        });
        Ok(reserved.collect())
    }

    /// Writes down what became of an intent, settles what was reserved, and makes the answer.
    fn settle(
        &mut self,
        known: &Known,
        admitted: &Admitted,
        reserved: Vec<Reservation>,
        spend: Spend,
        delivered: Delivered,
    ) -> Result<GuestResponse, Missed> {
        let attempts = delivered.attempts;
        let ended = Ended::of(delivered, admitted)?;
        self.clock_ms = u64::try_from(now_ms()).unwrap_or_default().max(self.clock_ms);
        let answer = self.keep(
            format!("effect/{}/answer", known.ordinal),
            &ended.recorded(self.clock_ms),
        )?;
        self.step("answer", None, format!("effect/{}/answer", known.ordinal));
        let outcome = match &ended.what {
            What::Answered(response) => Outcome::Answered(Answered {
                status: response.status,
            }),
            What::NotSent(refusal) => {
                let detail = self.keep(format!("effect/{}/refused", known.ordinal), &refusal_json(refusal))?;
                Outcome::NotSent(refused(refusal, Some(detail)))
            }
            What::InDoubt(doubt, _) => Outcome::InDoubt(*doubt),
        };
        // What a read in doubt used, it used: nobody will ask whether it happened.
        let became = match ended.became() {
            Became::InDoubt if known.cause == Cause::Host || admitted.tier() == Tier::Read => Became::Done,
            became => became,
        };
        let settled = settled(reserved, became, ended.traffic);
        let happened = matches!(became, Became::Done | Became::InDoubt);
        let body = EffectOutcome {
            answer: Some(answer),
            attempts,
            dead: known.cause != Cause::Host && admitted.route().dead_letter() && ended.failed(),
            ms: ended.traffic.ms,
            ordinal: known.ordinal,
            outcome,
            received: ended.traffic.received_bytes,
            sent: ended.traffic.sent_bytes,
            settled,
            spent: if happened { amount(spend) } else { None },
        };
        self.tally.outcome(&body);
        let entry = self.heading.entry(body);
        self.pending.entries.push(entry);
        self.shared.store.commit(std::mem::take(&mut self.pending))?;
        match ended.what {
            What::Answered(response) => Ok(response),
            What::NotSent(refusal) => {
                self.refusals.push(refusal.clone());
                Err(match refusal.code {
                    Code::Killed => Missed::Over(refusal),
                    _ => Missed::NotSent(refusal),
                })
            }
            What::InDoubt(Doubt::Stopped, why) => {
                let running = self.entered.running().check();
                Err(Missed::Over(
                    running.err().unwrap_or_else(|| Refusal::new(Code::Killed, why)),
                ))
            }
            What::InDoubt(_, why) => Err(Missed::Failed(why)),
        }
    }

    /// Writes down that an effect was refused before its intent. The entry goes with the next commit.
    fn refuse(&mut self, known: Known, refusal: &Refusal) -> Result<(), StoreError> {
        let detail = self.keep(format!("effect/{}/refused", known.ordinal), &refusal_json(refusal))?;
        self.step("refused", known.effect, format!("effect/{}/refused", known.ordinal));
        let entry = self.heading.entry(EffectRefused {
            asked: known.asked,
            cause: known.cause,
            connection: known.connection,
            effect: known.effect,
            exhausted: known.exhausted,
            hold: known.hold,
            import: known.import,
            ordinal: known.ordinal,
            refused: refused(refusal, Some(detail)),
            route: known.route,
            rules: known.rules,
            spend: known.spend,
            tier: known.tier,
        });
        self.pending.entries.push(entry);
        self.tally.refused();
        self.refusals.push(refusal.clone());
        self.flush()
    }

    /// Writes down what is pending where it is much: refused effects would else pile up in memory until the call ends.
    fn flush(&mut self) -> Result<(), StoreError> {
        const MUCH: usize = 1 << 20;
        let pending: usize = self.pending.payloads.iter().map(|payload| payload.bytes().len()).sum();
        if !ambit_core::guard!("sandbox.refused-pile", pending <= MUCH) {
            self.shared.store.commit(std::mem::take(&mut self.pending))?;
        }
        Ok(())
    }

    /// The number of the next effect.
    fn next_ordinal(&mut self) -> Result<u32, Refusal> {
        let limit = self.grant.limits().effects;
        if !ambit_core::guard!("sandbox.effects", self.ordinal < limit) {
            return Err(
                Refusal::new(Code::Effects, format!("the call asked for more than {limit} effects"))
                    .advise("raise `effects` in the tool's limits, or let the tool do less in one call"),
            );
        }
        self.ordinal += 1;
        Ok(self.ordinal)
    }

    fn payload(&self, name: String, value: &Json) -> Result<Payload, StoreError> {
        Payload::new(self.heading.call.as_str(), name, value.to_canonical().into_bytes())
    }

    /// Stores a value beside the ledger and returns what an entry says of it.
    fn keep(&mut self, name: String, value: &Json) -> Result<Digest, StoreError> {
        let payload = self.payload(name, value)?;
        let commitment = payload.commitment();
        self.pending.payloads.push(payload);
        Ok(commitment)
    }

    /// The next row of the transcript.
    fn row(&self, kind: &str, effect: Option<Digest>, payload: String) -> TranscriptRow {
        TranscriptRow {
            call: self.heading.call.to_string(),
            step: self.steps + 1,
            kind: kind.to_owned(),
            effect,
            payload: Some(payload),
        }
    }

    fn step(&mut self, kind: &str, effect: Option<Digest>, payload: String) {
        let row = self.row(kind, effect, payload);
        self.steps += 1;
        self.pending.transcript.push(row);
    }

    /// The ledger failed: the call ends, and not as a result.
    fn fail(&mut self, error: StoreError) -> Stop {
        let stop = Refusal::new(
            Code::Ledger,
            "the ledger takes no more entries, so nothing more happens",
        );
        self.fault = Some(error);
        stop
    }
}

/// What a held effect waits for.
struct Asks {
    /// The ways to its approval.
    needs: Vec<Need>,
    /// The budgets whose caps that lets it pass.
    over: Vec<String>,
}

/// The way out through a connection.
fn open_upstream<'s>(shared: &'s Shared, connection: &str) -> Result<&'s Upstream, Refusal> {
    shared.upstreams.get(connection).ok_or_else(|| {
        Refusal::new(
            Code::Binding,
            format!("connection `{connection}` is not open in this process"),
        )
    })
}

/// An effect that everything permits.
struct Permitted {
    admitted: Admitted,
    spend: Spend,
}

/// The way of one effect to its service.
struct Way<'a> {
    ordinal: u32,
    admitted: &'a Admitted,
    upstream: &'a Upstream,
    presented: Option<(&'a str, &'a str)>,
    answer_bytes: usize,
    /// Until when all its sendings have to be over.
    deadline: Instant,
    /// When it was first sent under its key, in milliseconds since 1970.
    first_ms: u64,
}

impl Way<'_> {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The limits of the next sending: of the time that is left, an equal share for each that may still come.
    fn bounds(&self, attempts: u32) -> Bounds {
        let retries = self.admitted.route().retries().map_or(0, |retries| retries.most);
        Bounds {
            time: self.left() / (retries.saturating_sub(attempts) + 1),
            answer_bytes: self.answer_bytes,
        }
    }

    /// How long to wait before the effect is sent again; none where it is not.
    fn pause(&self, attempts: u32, last: Attempt) -> Option<Duration> {
        let route = self.admitted.route();
        let retries = route.retries()?;
        let safe = self.admitted.tier() == Tier::Read && self.admitted.request().method().is_safe();
        // No route is loaded that could be here without a key.
        if !safe && self.presented.is_none() {
            return None;
        }
        let wait = Duration::from_millis(retries.after(attempts, last, flow::jitter())?);
        let lifetime = route.idempotency().map(|key| key.lifetime_s.saturating_mul(1_000));
        let age = flow::clock().saturating_sub(self.first_ms);
        let age = age.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let remembered = safe || lifetime.is_some_and(|lifetime| age < lifetime);
        (ambit_core::guard!("gate.retry-lifetime", remembered) && wait < self.left()).then_some(wait)
    }
}

/// What all sendings of one effect came to.
#[derive(Default)]
struct Delivered {
    attempts: u32,
    /// The last one of which something left, or the last one.
    last: Option<Result<Sent, SendError>>,
    /// Whether one before that may have happened.
    doubted: bool,
    traffic: Traffic,
}

impl Delivered {
    fn add(&mut self, sent: Result<Sent, SendError>) {
        self.attempts = self.attempts.saturating_add(1);
        let traffic = match &sent {
            Ok(sent) => sent.traffic,
            Err(SendError::NotSent(_)) => Traffic::default(),
            Err(
                SendError::Unknown(failed)
                | SendError::Late(failed)
                | SendError::Stopped(failed)
                | SendError::Unusable { failed, .. },
            ) => failed.traffic,
        };
        let sum = &mut self.traffic;
        sum.sent_bytes = sum.sent_bytes.saturating_add(traffic.sent_bytes);
        sum.received_bytes = sum.received_bytes.saturating_add(traffic.received_bytes);
        sum.ms = sum.ms.saturating_add(traffic.ms);
        match &self.last {
            // What left before says more than what did not leave now.
            Some(last) if !matches!(last, Err(SendError::NotSent(_))) && matches!(sent, Err(SendError::NotSent(_))) => {
            }
            last => {
                self.doubted |= last.as_ref().is_some_and(may_have_happened);
                self.last = Some(sent);
            }
        }
    }
}

/// Whether a sending may have had an effect: everything but what did not leave, and a 4xx, which says that it had none.
fn may_have_happened(sent: &Result<Sent, SendError>) -> bool {
    match sent {
        Ok(sent) => sent.status == 408 || !(400..500).contains(&sent.status),
        Err(SendError::NotSent(_)) => false,
        Err(_) => true,
    }
}

/// What the ledger says of one sending that is followed by another.
fn one_outcome(sent: &Result<Sent, SendError>) -> Outcome {
    match sent {
        Ok(Sent { status, .. }) | Err(SendError::Unusable { status, .. }) => {
            Outcome::Answered(Answered { status: *status })
        }
        Err(SendError::NotSent(refusal)) => Outcome::NotSent(refused(refusal, None)),
        Err(SendError::Unknown(_)) => Outcome::InDoubt(Doubt::Connection),
        Err(SendError::Late(_)) => Outcome::InDoubt(Doubt::Timeout),
        Err(SendError::Stopped(_)) => Outcome::InDoubt(Doubt::Stopped),
    }
}

/// How an intent ended.
struct Ended {
    what: What,
    traffic: Traffic,
    /// Whether a sending before the last may have happened.
    doubted: bool,
}

enum What {
    /// The service answered; what the guest, or the host for its own request, is given of it.
    Answered(GuestResponse),
    /// Nothing left.
    NotSent(Refusal),
    /// Nobody knows.
    InDoubt(Doubt, String),
}

impl Ended {
    /// # Errors
    /// [`StoreError::Unintended`] where nothing was tried to be sent, which nobody does.
    fn of(delivered: Delivered, admitted: &Admitted) -> Result<Ended, StoreError> {
        let what = match delivered.last.ok_or(StoreError::Unintended)? {
            Ok(sent) => What::Answered(admitted.answer(sent.status, &sent.headers, &sent.body)),
            Err(SendError::NotSent(refusal)) => What::NotSent(refusal),
            Err(SendError::Late(Failed { why, .. })) => What::InDoubt(Doubt::Timeout, why),
            Err(SendError::Stopped(Failed { why, .. })) => What::InDoubt(Doubt::Stopped, why),
            Err(SendError::Unknown(Failed { why, .. })) => What::InDoubt(Doubt::Connection, why),
            Err(SendError::Unusable { status, failed, .. }) => {
                let why = failed.why;
                What::InDoubt(Doubt::Answer, format!("the service answered with {status}, and {why}"))
            }
        };
        Ok(Ended {
            what,
            traffic: delivered.traffic,
            doubted: delivered.doubted,
        })
    }

    /// What budgets take it for. A service that answers with 4xx says that it did not do it, except for 408, which says
    /// nothing of the kind, and except where it was sent before and may have been done then. Everything else, redirects and 5xx
    /// included, may have happened.
    fn became(&self) -> Became {
        match &self.what {
            What::Answered(response) if response.status == 408 => Became::Done,
            What::Answered(_) if self.doubted => Became::Done,
            What::Answered(response) if (400..500).contains(&response.status) => Became::Declined,
            What::Answered(_) => Became::Done,
            What::NotSent(_) => Became::NotSent,
            What::InDoubt(..) => Became::InDoubt,
        }
    }

    /// Whether it failed: it is in doubt, was not sent, or the service declined it.
    fn failed(&self) -> bool {
        !matches!(&self.what, What::Answered(response) if (200..400).contains(&response.status))
    }

    /// What the transcript keeps: all that a replay gives the guest.
    fn recorded(&self, clock_ms: u64) -> Json {
        let (name, value) = match &self.what {
            What::Answered(response) => ("answered", response.to_json()),
            What::NotSent(refusal) => ("refused", refusal_json(refusal)),
            What::InDoubt(_, why) => ("failed", Json::from(why.as_str())),
        };
        Json::Object([("clock", Json::from(clock_ms)), (name, value)].into_iter().collect())
    }
}

/// What an effect's reservations come to. What nobody knows stays reserved until a person says what happened.
pub(crate) fn settled(reserved: Vec<Reservation>, became: Became, traffic: Traffic) -> Vec<Settlement> {
    let bytes = traffic.sent_bytes.saturating_add(traffic.received_bytes);
    let settled = reserved.into_iter().filter_map(|reservation| {
        let period: Period = reservation.window.parse().ok()?;
        Some(Settlement {
            amount: period.unit().used(reservation.amount, became, bytes)?,
            budget: reservation.budget,
            window: reservation.window,
        })
    });
    settled.collect()
}

/// The digest of an effect on the ledger: over the salted commitment to its request, so that nobody can guess a request
/// from it.
fn effect_digest(admitted: &Admitted, spend: Spend, commitment: &Digest) -> Digest {
    let effect = HttpEffect {
        connection: admitted.connection().name().to_owned(),
        route: admitted.route().name().to_owned(),
        tier: admitted.tier(),
        request: admitted.request().clone(),
        captures: admitted.captures().clone(),
        spend,
    };
    effect.digest(commitment)
}

impl WaitingEffect {
    /// What is known of it before anything is decided anew.
    fn known(&self) -> Known {
        let mut known = Known::new(self.asked.ordinal, Cause::Guest);
        known.import = self.asked.label.clone();
        known.asked = self.commitment;
        known.hold = Some(self.hold.id);
        known.over.clone_from(&self.held.over);
        known
    }

    /// That what is permitted now is what was approved, to the byte.
    fn still(&self, permitted: Permitted) -> Result<Permitted, Missed> {
        let effect = effect_digest(&permitted.admitted, permitted.spend, &self.request);
        let wire = permitted.admitted.request().wire().to_canonical();
        if !ambit_core::guard!("hold.same-effect", effect == self.effect && wire == self.wire) {
            let why = "the effect is another one than was approved: its route, money or request changed meanwhile";
            return Err(Refusal::new(Code::Stale, why).into());
        }
        Ok(permitted)
    }
}

/// A stop's refusal: a kill ends the call, safe mode refuses the effect.
fn stopped(refusal: Refusal) -> Missed {
    match refusal.code {
        Code::Killed => Missed::Killed(refusal),
        _ => Missed::Refused(refusal),
    }
}

/// Whether an operator's stop refused, and no rule about the effect itself.
pub(crate) const fn is_a_stop(refusal: &Refusal) -> bool {
    matches!(refusal.code, Code::Killed | Code::SafeMode)
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

fn amount(spend: Spend) -> Option<Amount> {
    match spend {
        Spend::None => None,
        Spend::Known { currency, minor } => Some(Amount {
            currency,
            minor: u64::try_from(minor).unwrap_or(u64::MAX),
        }),
    }
}

/// Adds a line to a call's log.
pub(crate) fn log_line(log: &mut String, level: LogLevel, message: &str) {
    log.push_str(level_name(level));
    log.push(' ');
    log.push_str(message);
    log.push('\n');
}

const fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

/// What an entry says of a refusal; its sentence, which may quote the guest, is a payload.
pub(crate) fn refused(refusal: &Refusal, detail: Option<Digest>) -> Refused {
    Refused {
        code: refusal.code,
        detail,
        rule: refusal.rule.clone(),
    }
}

/// A refusal as payloads keep it.
pub(crate) fn refusal_json(refusal: &Refusal) -> Json {
    let text = |text: &Option<String>| text.as_deref().map_or(Json::Null, Json::from);
    Json::Object(
        [
            ("code", Json::from(refusal.code.as_str())),
            ("message", Json::from(refusal.message.as_str())),
            ("advice", text(&refusal.advice)),
            ("rule", text(&refusal.rule)),
        ]
        .into_iter()
        .collect(),
    )
}

impl Effects for CallEffects {
    fn http(&mut self, import: u32, request: GuestRequest) -> Result<Result<GuestResponse, GuestHttpError>, Stop> {
        self.entered.running().check()?;
        if let Some(recalled) = self.past.pop_front() {
            return self.recall(recalled, import, &request);
        }
        let outcome = match self.waiting.take() {
            Some(waiting) => self.go_on(waiting, import, &request),
            None => {
                let ordinal = self.next_ordinal()?;
                self.effect(ordinal, import, &request)
            }
        };
        self.told(outcome)
    }

    fn log(&mut self, level: LogLevel, message: &str) -> Result<(), Stop> {
        // The sandbox has counted it against the call's log limit.
        log_line(&mut self.log, level, message);
        Ok(())
    }

    fn progress(&mut self, done: u64, total: u64, message: &str) -> Result<(), Stop> {
        tracing::info!(call = %self.heading.call, done, total, message = %ambit_core::error::printable(message), "progress");
        if let Some(listener) = &self.listener {
            listener.tell(Progress { done, total, message });
        }
        Ok(())
    }

    fn now(&mut self) -> Result<u64, Stop> {
        Ok(self.clock_ms)
    }

    fn random(&mut self, bytes: &mut [u8]) -> Result<(), Stop> {
        self.random.fill_bytes(bytes);
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Stop> {
        self.entered.running().check()
    }
}
