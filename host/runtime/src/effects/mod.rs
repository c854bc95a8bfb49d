//! What one call's guest may make happen, and the record of it: admission, decision, intent, sending, outcome, answer.
//!
//! One effect at a time. The order is the promise: an intent is durable before a byte leaves, and an outcome is durable
//! before the guest sees the answer. What the guest was given is part of the same transactions, so that a call can be
//! replayed from its transcript.

mod again;
mod budget;
mod edit;
mod hold;
mod key;
mod object;
mod pause;
mod send;
mod shown;
mod suspend;
mod token;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_core::digest::Digest;
use ambit_core::effect::{GuestRequest, GuestResponse, HttpEffect};
use ambit_core::error::{Code, Refusal};
use ambit_core::grant::{Admitted, CurrencyLookup, Grant};
use ambit_core::hold::End;
use ambit_core::json::Json;
use ambit_core::ledger::body::{Amount, BeforeEffect, Cause, EffectRefused, Letter, Refused, Undoes};
use ambit_core::ledger::{Body, EntryDraft, Principal, Tally};
use ambit_core::money::{Budget, Spend};
use ambit_core::policy::{CallFacts, EffectFacts, Mode};
use ambit_core::route::ObjectQuestion;
use ambit_core::scope::Tier;
use ambit_core::undo::Inverse;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;

use crate::call::{Answer, Cost, Listener, Outcome as CallOutcome, Progress};
use crate::host::Shared;
use crate::ids::{CallId, TraceId};
use crate::objects::Seen;
use crate::sandbox::{Effects, GuestHttpError, LogLevel, Spent, Stop};
use crate::store::{Batch, Entered, Payload, StoreError, TranscriptRow};
use crate::transcript::{self, Divergence, Recalled};

use object::Before;

pub(crate) use again::UnseenEffect;
pub(crate) use budget::no_room;
pub use edit::Edited;
pub(crate) use edit::Editing;
pub use hold::Held;
pub(crate) use hold::{WaitingEffect, ended, not_approved, same_way};
pub(crate) use key::{Repeated, forgotten, is_known, known_until};
use object::not_changed_since;
pub use pause::Paused;
pub(crate) use send::{one_outcome, settled};
pub use shown::{FirstWrite, Shown, Would};
pub(crate) use suspend::SuspendedEffects;

/// How often the host looks something up, in all of a call, for effects that are held or in doubt: two for each time that one is tried.
/// Whoever tries it every minute of the 72 hours that a hold waits by default stays below.
const MOST_APART: u32 = if cfg!(test) { 12 } else { 10_000 };

/// What every entry of one call says about it.
#[derive(Debug, Clone)]
pub(crate) struct Heading {
    pub(crate) call: CallId,
    pub(crate) trace: TraceId,
    pub(crate) principal: Option<Principal>,
    pub(crate) tool: Option<Digest>,
    /// The run that the call is part of.
    pub(crate) run: Option<String>,
    /// Whether the trace is recorded, by its caller or here.
    pub(crate) sampled: bool,
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
    /// What the host looked up of them to go on with one that has its number: apart from what the call may ask for.
    apart: u32,
    /// Whether it looks something up for such a one now.
    goes_on: bool,
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
    /// The effect in doubt that is sent again, until the guest asks for it again.
    unseen: Option<UnseenEffect>,
    /// The effect that ended this guest to wait for approvals.
    held: Option<Held>,
    /// What became of an edit of the held effect, where the call was run again for one.
    edited: Option<Result<Held, Refusal>>,
    /// The effect that ended this guest, as the call is a dry run.
    first_write: Option<FirstWrite>,
    /// The stop that ended this guest before a change.
    paused: Option<Paused>,
    /// What the guest had asked for when its host ended, where nothing but that is on the ledger.
    not_asked: Option<BeforeEffect>,
    /// Why it went no further and stays as it was: a stop came before the held effect had its intent, or the effect in doubt was not sent
    /// again.
    still_held: Option<Refusal>,
    /// Fuel of the call's guests before this one; none where nobody knows.
    used_before: Option<u64>,
    /// The engine that the call's first guest ran on, where this is another one.
    began_on: Option<String>,
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

/// Where a call goes on.
#[derive(Default)]
pub(crate) struct Resumption {
    pub(crate) past: VecDeque<Recalled>,
    /// The effect that was held, if it was not the host's end that stopped it.
    pub(crate) waiting: Option<WaitingEffect>,
    /// The effect in doubt that is to be sent again.
    pub(crate) unseen: Option<UnseenEffect>,
    pub(crate) steps: u32,
    pub(crate) ordinal: u32,
    /// What the host looked up for effects that were held or in doubt.
    pub(crate) apart: u32,
    pub(crate) tally: Tally,
    /// Which guest of the call goes on with it.
    pub(crate) guest: u32,
    /// Fuel of those before; none where nobody knows.
    pub(crate) used_before: Option<u64>,
    /// Whether its host had ended, and left it to this one.
    pub(crate) suspended: bool,
    /// The engine that the first of them ran on.
    pub(crate) began_on: Option<String>,
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
    /// The effect that a dry run ended at.
    pub(crate) first_write: Option<FirstWrite>,
    /// The stop that it is paused by: it has not ended.
    pub(crate) paused: Option<Paused>,
    /// Fuel of the call's guests before the last; none where nobody knows.
    pub(crate) used_before: Option<u64>,
    /// The engine that the call's first guest ran on, where its last is another one.
    pub(crate) began_on: Option<String>,
    /// What its guest ran in, where it is to be let go of while the call's end is written.
    pub(crate) spent: Option<Spent>,
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
    /// A kill, or its caller's word, came before its intent. Not recorded yet; the call ends here.
    Killed(Refusal),
    /// A dry run ends at it. Not recorded yet.
    Ends(Refusal),
    /// Safe mode forbids it for now. Not recorded.
    Paused(Refusal),
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
    /// How that hold ends, where the effect is refused.
    end: Option<End>,
    approvals: BTreeMap<String, u32>,
    /// Those of them that people gave: a broken glass passes no cap.
    given: BTreeMap<String, u32>,
    /// The budgets whose caps these let it pass.
    over: Vec<String>,
    /// The effect of another call that it takes back.
    undoes: Option<Undoes>,
    /// Whether it was sent before, and is in doubt: it is no new effect, and waits for nobody.
    sent: bool,
    /// What it changes, as it was read before.
    before: Option<Before>,
    /// What to ask about what it created, by its service's answer.
    created: Option<ObjectQuestion>,
    /// Whether it is the host's own reading of an object, to which that there is none is an answer.
    reads_object: bool,
    /// What its call had read when it was held.
    reads: Vec<Seen>,
}

/// Where a request comes from: what has to cover it.
#[derive(Clone, Copy)]
pub(crate) enum Through<'a> {
    /// The guest asks, or asked in an earlier call, through this import.
    Import(u32),
    /// The host takes an effect of an earlier call back, through this connection.
    Inverse(&'a str, &'a Inverse, &'a Undoes),
}

impl<'a> Through<'a> {
    const fn undoes(self) -> Option<&'a Undoes> {
        match self {
            Through::Import(_) => None,
            Through::Inverse(_, _, undoes) => Some(undoes),
        }
    }

    /// What ends the call where it is not as it was: a guest that asks for something else, or a record or route that says otherwise.
    fn stop(self, divergence: &Divergence) -> Stop {
        match self {
            Through::Import(_) => divergence.stop(),
            Through::Inverse(_, _, undoes) => Refusal::new(
                Code::Stale,
                format!(
                    "what takes effect {} back is another request than it was: its route changed meanwhile",
                    undoes.ordinal
                ),
            )
            .advise(format!("undo what is left of it anew: ambit rollback {}", undoes.call)),
        }
    }
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
            end: None,
            approvals: BTreeMap::new(),
            given: BTreeMap::new(),
            over: Vec::new(),
            undoes: None,
            sent: false,
            before: None,
            created: None,
            reads_object: false,
            reads: Vec::new(),
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
        let used_before = resumption.as_ref().map_or(Some(0), |on| on.used_before);
        let on = resumption.unwrap_or_default();
        CallEffects {
            shared,
            entered,
            grant,
            heading,
            run_budgets,
            mode,
            pending,
            steps: on.steps,
            ordinal: on.ordinal,
            apart: on.apart,
            goes_on: false,
            log: String::new(),
            clock_ms,
            random,
            listener,
            tally: on.tally,
            upstream: Duration::ZERO,
            refusals: Vec::new(),
            fault: None,
            past: on.past,
            waiting: on.waiting,
            unseen: on.unseen,
            held: None,
            edited: None,
            first_write: None,
            paused: None,
            not_asked: None,
            still_held: None,
            used_before,
            began_on: on.began_on,
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
        let outcome = self.effect(ordinal, Through::Import(import), guest);
        self.told(outcome)
    }

    /// Takes an effect of another call back: through the whole gate, as the operator's. Where the rollback goes on after a hold, what it
    /// had done before is not done again.
    ///
    /// # Errors
    /// A [`Stop`] where the call ends here.
    pub(crate) fn take_back(
        &mut self,
        connection: &str,
        inverse: &Inverse,
        undoes: &Undoes,
    ) -> Result<Result<GuestResponse, GuestHttpError>, Stop> {
        self.ask_for(Through::Inverse(connection, inverse, undoes), &inverse.words)
    }

    /// What the guest, or the host in its place, asks for next: what it was told before, or now for the first time.
    fn ask_for(
        &mut self,
        import: Through<'_>,
        request: &GuestRequest,
    ) -> Result<Result<GuestResponse, GuestHttpError>, Stop> {
        self.entered.running().check()?;
        if let Some(recalled) = self.past.pop_front() {
            return self.recall(recalled, import, request);
        }
        let outcome = match (self.waiting.take(), self.unseen.take()) {
            (Some(waiting), _) => self.go_on(waiting, import, request),
            (None, Some(unseen)) => self.send_unseen(unseen, import, request),
            (None, None) => {
                let ordinal = self.next_ordinal()?;
                self.effect(ordinal, import, request)
            }
        };
        self.told(outcome)
    }

    /// Whether what is asked for may be had, and as what.
    fn admit(&self, import: Through<'_>, request: &GuestRequest) -> Result<Admitted, Refusal> {
        match import {
            Through::Import(import) => self.grant.admit(import, request),
            Through::Inverse(connection, inverse, _) => self.grant.admit_inverse(connection, inverse),
        }
    }

    /// The label of the import that a request comes through.
    fn label(&self, import: Through<'_>) -> Option<&str> {
        match import {
            Through::Import(import) => self.grant.label(import),
            Through::Inverse(..) => None,
        }
    }

    /// What the guest is told of an effect.
    fn told(&mut self, outcome: Result<GuestResponse, Missed>) -> Result<Result<GuestResponse, GuestHttpError>, Stop> {
        match outcome {
            Ok(response) => Ok(Ok(response)),
            Err(Missed::Refused(refusal) | Missed::NotSent(refusal) | Missed::Paused(refusal)) => {
                Ok(Err(GuestHttpError::Refused(refusal)))
            }
            Err(Missed::Failed(why)) => Ok(Err(GuestHttpError::Failed(why))),
            Err(Missed::Over(stop) | Missed::Killed(stop) | Missed::Ends(stop)) => Err(stop),
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
            first_write: self.first_write,
            paused: self.paused,
            used_before: self.used_before,
            began_on: self.began_on,
            spent: None,
        }
    }

    /// Why a call that went on was stopped before its held effect was decided, or its effect in doubt sent again: it stays as before, its
    /// approvals unused.
    pub(crate) fn stopped_while_held(&self) -> Option<Refusal> {
        let before = self.waiting.is_some() || self.unseen.is_some();
        let stopped = || before.then(|| self.entered.running().check().err()).flatten();
        // Its guest ended, however, before it asked for the effect in doubt again.
        let missing = || self.unseen.as_ref().map(|unseen| unseen.missing().stop());
        self.still_held.clone().or_else(stopped).or_else(missing)
    }

    /// The answer of a call that stays as it was. Nothing of its going on is recorded.
    pub(crate) fn into_still_held(self, refusal: Refusal, started: Instant) -> Answer {
        self.into_left(refusal, started).0
    }

    /// The same, of a call that is among those that run until its end is written, for which whoever writes that has to keep what it is
    /// entered by.
    fn into_left(self, refusal: Refusal, started: Instant) -> (Answer, Entered) {
        let answer = Answer {
            call: self.heading.call,
            trace: self.heading.trace,
            outcome: CallOutcome::Stopped(refusal),
            refused_effects: Vec::new(),
            checked: self.tally.checks().to_vec(),
            edited: Vec::new(),
            cost: Cost {
                ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                ..Cost::default()
            },
            end: None,
        };
        (answer, self.entered)
    }

    /// What the guest had asked for and, going on, ended without: the call did not do again what it had done.
    ///
    /// # Errors
    /// Where the ledger takes no more: a hold that nobody waits for any more ends here.
    pub(crate) fn left_over(&mut self) -> Result<Option<Divergence>, StoreError> {
        let missing = self.past.front().map(|recalled| recalled.asked.missing());
        let missing = missing.or_else(|| self.unseen.as_ref().map(UnseenEffect::missing));
        let Some(waiting) = self.waiting.take() else {
            return Ok(missing);
        };
        let divergence = missing.unwrap_or_else(|| waiting.asked.missing());
        let stop = divergence.stop();
        self.refuse(waiting.refused(&stop), &stop)?;
        Ok(Some(divergence))
    }

    /// The guest's effect, from what it asked for to the answer it is given.
    fn effect(&mut self, ordinal: u32, import: Through<'_>, guest: &GuestRequest) -> Result<GuestResponse, Missed> {
        let cause = match (&self.letter, import) {
            (None, Through::Import(_)) => Cause::Guest,
            _ => Cause::Operator,
        };
        let mut known = Known::new(ordinal, cause);
        known.undoes = import.undoes().cloned();
        known.import = self.label(import).map(str::to_owned);
        let asked = transcript::kept(guest, self.grant.limits());
        known.asked = Some(self.keep(format!("effect/{ordinal}/asked"), &asked)?);
        let outcome = self
            .bounded(guest)
            .map_err(Missed::from)
            .and_then(|()| self.permitted(&mut known, import, guest))
            .and_then(|permitted| self.send_and_check(&mut known, permitted));
        let outcome = match outcome {
            Err(Missed::Paused(refusal)) => Err(self.pause(&known, refusal)?),
            Err(Missed::Killed(refusal)) if self.suspends(&known, &refusal) => Err(self.not_asked_yet(&known, refusal)),
            outcome => outcome,
        };
        self.recorded(known, outcome)
    }

    /// Writes down a refusal that is not on the ledger yet.
    fn recorded(&mut self, known: Known, outcome: Result<GuestResponse, Missed>) -> Result<GuestResponse, Missed> {
        if let Err(Missed::Refused(refusal) | Missed::Killed(refusal) | Missed::Ends(refusal)) = &outcome {
            self.refuse(known, refusal)?;
        }
        outcome
    }

    /// What the guest was told when it first asked for this.
    fn recall(
        &mut self,
        recalled: Recalled,
        import: Through<'_>,
        guest: &GuestRequest,
    ) -> Result<Result<GuestResponse, GuestHttpError>, Stop> {
        let label = self.label(import);
        let same = recalled.asked.check(label, guest, self.grant.limits());
        if let Err(divergence) = same {
            return Err(self.diverged(import.stop(&divergence)));
        }
        self.clock_ms = recalled.clock_ms;
        if let Err(GuestHttpError::Refused(refusal)) = &recalled.answer {
            self.refusals.push(refusal.clone());
            if refusal.code == Code::DryRun {
                return Err(refusal.clone());
            }
        }
        Ok(recalled.answer)
    }

    /// The guest asks for something else than it had: nothing more happens.
    fn diverged(&mut self, stop: Stop) -> Stop {
        self.past.clear();
        if self.unseen.take().is_some() {
            // Nothing was sent again: the call stays as it was.
            self.still_held = Some(stop.clone());
            return stop;
        }
        match self.waiting.take() {
            None => stop,
            Some(waiting) => match self.refuse(waiting.refused(&stop), &stop) {
                Ok(()) => stop,
                Err(error) => self.fail(error),
            },
        }
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

    /// Scope, route, tier and narrowing; then money; then policy; then what there is to change. Nothing has left when this
    /// returns, except the host's own look-up of a currency and its reading of an object, which have intents of their own.
    fn permitted(&mut self, known: &mut Known, import: Through<'_>, guest: &GuestRequest) -> Result<Permitted, Missed> {
        let (admitted, spend) = self.considered(known, import, guest)?;
        match self.decide(&admitted, spend, &[], known) {
            Ok(()) => {
                self.read_before(known, &admitted)?;
                not_changed_since(known, import, &admitted)?;
                Ok(Permitted { admitted, spend })
            }
            Err(refusal) => match self.approvals_that_permit(&admitted, spend, &[], known, &refusal) {
                needs if needs.is_empty() => Err(refusal.into()),
                needs => {
                    self.read_before(known, &admitted)?;
                    not_changed_since(known, import, &admitted)?;
                    let asks = self.asks_too(&admitted, spend, known, needs)?;
                    Err(self.hold(known, &admitted, spend, asks)?)
                }
            },
        }
    }

    /// All of that before policy is asked.
    fn considered(
        &mut self,
        known: &mut Known,
        import: Through<'_>,
        guest: &GuestRequest,
    ) -> Result<(Admitted, Spend), Missed> {
        let admitted = self.admit(import, guest)?;
        known.admitted(&admitted);
        self.same_place(known, &admitted)?;
        if self.ends_dry_run(admitted.tier()) {
            let refusal = self.first_write(known, &admitted)?;
            return Err(Missed::Ends(refusal));
        }
        self.not_stopped(&admitted)?;
        let spend = self.spend(&admitted)?;
        self.grant.check_spend(&spend)?;
        known.spend = amount(spend);
        known.effect = known.asked.map(|asked| effect_digest(&admitted, spend, &asked));
        Ok((admitted, spend))
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

    /// Asks the service for the currency of an amount.
    fn look_up(&mut self, lookup: &CurrencyLookup) -> Result<String, Missed> {
        match self.ask(lookup.admitted(), false)? {
            Ok(answer) => Ok(lookup.read(&answer)?),
            Err(why) => Err(Refusal::new(Code::Money, format!("the currency could not be looked up: {why}")).into()),
        }
    }

    /// A request of the host's own, through a route of the same connection: the operator's configuration asks for it, so no
    /// policy decides it, and its answer goes to nobody but the host. Of one that nobody saw answered it says why.
    fn ask(&mut self, admitted: &Admitted, reads_object: bool) -> Result<Result<GuestResponse, String>, Missed> {
        let ordinal = self.next_ordinal()?;
        let mut known = Known::new(ordinal, Cause::Host);
        known.reads_object = reads_object;
        known.admitted(admitted);
        let permitted = Permitted {
            admitted: admitted.clone(),
            spend: Spend::None,
        };
        match self.send(&mut known, permitted) {
            Ok(answer) => Ok(Ok(answer)),
            Err(Missed::Refused(refusal)) => {
                self.refuse(known, &refusal)?;
                Err(Missed::Refused(refusal))
            }
            Err(Missed::Killed(refusal)) if self.suspends(&known, &refusal) => Err(Missed::Killed(refusal)),
            Err(Missed::Killed(refusal)) => {
                self.refuse(known, &refusal)?;
                Err(Missed::Killed(refusal))
            }
            Err(Missed::NotSent(refusal)) => Err(Missed::Refused(refusal)),
            // What was asked has its outcome; what it was for has none yet.
            Err(Missed::Over(stop)) => Err(Missed::Killed(stop)),
            Err(Missed::Failed(why)) => Ok(Err(why)),
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

    /// The dead letter that this effect is.
    fn redelivered(&self, known: &Known) -> Option<&Redelivery> {
        self.letter.as_ref().filter(|_| known.cause == Cause::Operator)
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
            end: known.end,
            exhausted: known.exhausted,
            hold: known.hold,
            import: known.import,
            ordinal: known.ordinal,
            refused: refused(refusal, Some(detail)),
            route: known.route,
            rules: known.rules,
            spend: known.spend,
            tier: known.tier,
            undoes: known.undoes,
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

    /// All that going on with an effect takes before it is sent: what the host looks up for that is apart from what the call may ask for,
    /// as often as it is tried.
    fn permitted_again(
        &mut self,
        known: &mut Known,
        import: Through<'_>,
        guest: &GuestRequest,
    ) -> Result<Permitted, Missed> {
        self.going_on(|effects| effects.permitted(known, import, guest))
    }

    fn going_on<T>(&mut self, looks_up: impl FnOnce(&mut Self) -> T) -> T {
        self.goes_on = !ambit_core::guard!("hold.reads-apart", false);
        let found = looks_up(self);
        self.goes_on = false;
        found
    }

    /// The number of something that is looked up to go on with an effect: one more of those that are apart.
    fn next_apart(&mut self) -> Result<u32, Refusal> {
        if !ambit_core::guard!("hold.reads-most", self.apart < MOST_APART) {
            return Err(Refusal::new(
                Code::Stale,
                format!("what an effect of the call needs was looked up {MOST_APART} times, and it was never sent"),
            )
            .advise(
                "call the tool again; of an effect in doubt, find out at the service what became of it, and say so",
            ));
        }
        self.apart += 1;
        self.ordinal = self.ordinal.saturating_add(1);
        Ok(self.ordinal)
    }

    /// Effects that count towards what the call may ask for.
    const fn counted(&self) -> u32 {
        self.ordinal.saturating_sub(self.apart)
    }

    /// The number of the next effect.
    fn next_ordinal(&mut self) -> Result<u32, Refusal> {
        if self.goes_on {
            return self.next_apart();
        }
        let limit = self.grant.limits().effects;
        if !ambit_core::guard!("sandbox.effects", self.counted() < limit) {
            return Err(
                Refusal::new(Code::Effects, format!("the call asked for more than {limit} effects"))
                    .advise("raise `effects` in the tool's limits, or let the tool do less in one call"),
            );
        }
        self.ordinal = self.ordinal.saturating_add(1);
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

/// An effect that everything permits.
struct Permitted {
    admitted: Admitted,
    spend: Spend,
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

/// A stop's refusal: a kill ends the call, and so does its caller; safe mode pauses it.
fn stopped(refusal: Refusal) -> Missed {
    match refusal.code {
        Code::Killed | Code::Cancelled | Code::Suspended => Missed::Killed(refusal),
        Code::SafeMode => Missed::Paused(refusal),
        _ => Missed::Refused(refusal),
    }
}

/// Whether a stop refused, an operator's, the caller's or the host's own, and no rule about the effect itself.
pub(crate) const fn is_a_stop(refusal: &Refusal) -> bool {
    matches!(
        refusal.code,
        Code::Killed | Code::Cancelled | Code::SafeMode | Code::Suspended
    )
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
        self.ask_for(Through::Import(import), &request)
    }

    fn log(&mut self, level: LogLevel, message: &str) -> Result<(), Stop> {
        // The sandbox has counted it against the call's log limit.
        log_line(&mut self.log, level, message);
        Ok(())
    }

    fn progress(&mut self, done: u64, total: u64, message: &str) -> Result<(), Stop> {
        tracing::info!(call = %self.heading.call, done, total, said = %ambit_core::error::printable(message), "progress");
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
