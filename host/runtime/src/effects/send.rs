//! Sending: the intent, the way to the service and again, and what became of it.
//!
//! The intent is durable before a byte leaves, and the outcome before anyone sees the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_core::credential::ROUTE;
use ambit_core::digest::Digest;
use ambit_core::effect::GuestResponse;
use ambit_core::error::{Code, Refusal};
use ambit_core::flow::Attempt;
use ambit_core::grant::Admitted;
use ambit_core::json::Json;
use ambit_core::ledger::EntryDraft;
use ambit_core::ledger::body::{
    Answered, Cause, Doubt, EffectIntent, EffectOutcome, EffectRetried, Outcome, Reservation, ServicePaused, Settlement,
};
use ambit_core::money::{Became, Period, Spend};
use ambit_core::route::ObjectQuestion;
use ambit_core::scope::Tier;
use ambit_core::trace::{SpanId, TRACEPARENT, traceparent};

use crate::clock::clock;
use crate::flow;
use crate::gate::{Bounds, Failed, Pass, SendError, Sent, Traffic, Upstream};
use crate::host::Shared;
use crate::store::{Again, Batch, Durable, Intent, StoreError, place_one};

use super::key::{Repeated, forgotten, is_known};
use super::{CallEffects, Known, Missed, Permitted, amount, effect_digest, refusal_json, refused, stopped};

impl CallEffects {
    /// Intent, sending, outcome. The intent is durable before a byte leaves, the outcome before anyone sees the answer.
    pub(super) fn send(&mut self, known: &mut Known, permitted: Permitted) -> Result<GuestResponse, Missed> {
        let Permitted { admitted, spend } = permitted;
        let connection = admitted.connection().name().to_owned();
        let shared = Arc::clone(&self.shared);
        let upstream = open_upstream(&shared, &connection)?;
        upstream.ready()?;
        let waited = self.turn(&admitted).map_err(stopped)?;
        let mut bounds = self.bounds();
        bounds.time = bounds.time.saturating_sub(waited);
        let own = self.own_headers(known, &admitted);
        let pass = self.token_for(known, &admitted, upstream)?;
        let reserved = self.reservations(known, &admitted, spend)?;
        self.approved_still(known)?;
        self.letter_known(known, &admitted)?;
        // While people's votes were counted something may have been revoked: then it is for another token.
        let now = shared.store.board().turn();
        let pass = match pass {
            Some(pass) if !pass.is_good(now) => self.token_for(known, &admitted, upstream)?,
            pass => pass,
        };
        let leave = shared
            .flow
            .enter(&connection, admitted.route().name(), admitted.tier())?;
        let (durable, reserved) = self.intend(known, &admitted, spend, reserved)?;
        let way = Way {
            ordinal: known.ordinal,
            admitted: &admitted,
            upstream,
            pass,
            own: &borrowed(&own),
            traced: self.traced(upstream),
            answer_bytes: bounds.answer_bytes,
            deadline: Instant::now() + bounds.time,
            first_ms: self
                .redelivered(known)
                .and_then(|letter| letter.key.as_ref())
                .map_or_else(clock, |(.., first)| *first),
        };
        let delivered = self.deliver(&shared, &way, durable, leave)?;
        self.settle(known, &admitted, reserved, spend, delivered)
    }

    /// That the service still knows the key of a dead letter: a look-up, a reading and a wait for its turn have passed since that was asked.
    fn letter_known(&self, known: &Known, admitted: &Admitted) -> Result<(), Refusal> {
        let key = self.redelivered(known).and_then(|letter| letter.key.as_ref());
        let Some((.., first_ms)) = key else { return Ok(()) };
        let (connection, route) = (admitted.connection().name(), admitted.route());
        if !ambit_core::guard!("flow.letter-turn", is_known(route, *first_ms, 0)) {
            return Err(forgotten(connection, route.name(), Repeated::Letter));
        }
        Ok(())
    }

    /// Sends what is durable, and again as its route says, each time with an entry of its own that is durable before it leaves.
    pub(super) fn deliver<'s>(
        &mut self,
        shared: &'s Shared,
        way: &Way<'_>,
        durable: Durable,
        leave: flow::Leave<'s>,
    ) -> Result<Delivered, Missed> {
        self.deliver_from(Delivered::default(), shared, way, durable, leave)
    }

    /// The same after what came of sendings before.
    pub(super) fn deliver_from<'s>(
        &mut self,
        mut delivered: Delivered,
        shared: &'s Shared,
        way: &Way<'_>,
        durable: Durable,
        leave: flow::Leave<'s>,
    ) -> Result<Delivered, Missed> {
        let again = durable.again();
        let mut next = Some((durable, leave));
        while let Some((durable, leave)) = next.take() {
            let bounds = way.bounds(delivered.attempts);
            let started = Instant::now();
            let pass = way.pass.as_deref();
            let traceparent = way
                .traced
                .as_ref()
                .map(|traced| traced.of(way.ordinal, delivered.attempts));
            let traceparent = traceparent.as_deref().map(|text| (TRACEPARENT, text));
            let own: Vec<(&str, &str)> = way.own.iter().copied().chain(traceparent).collect();
            let sending = shared.wire.send_with(way.upstream, durable, &own, pass, bounds);
            let sent = shared.io.block_on(sending);
            self.upstream += started.elapsed();
            way.note_declined(&sent);
            if way.admitted.route().name() != ROUTE {
                self.note_pause(way.admitted.connection().name(), flow::later(&sent));
            }
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
        let now = shared.store.board().turn();
        if way.pass.as_ref().is_some_and(|pass| !pass.is_good(now)) {
            return Ok(None);
        }
        if self.entered.running().check().is_err() || self.not_stopped(way.admitted).is_err() {
            return Ok(None);
        }
        let Ok(leave) = shared.flow.enter(connection, route, tier) else {
            return Ok(None);
        };
        match self.commit_again(way, again.until(way.deadline), attempts, after) {
            Ok(durable) => Ok(Some((durable, leave))),
            // What is under way can still be ended: there is room for that.
            Err(StoreError::NoRoom { .. }) => Ok(None),
            // A stop came since it was looked at: the effect ends with what the sending before came to.
            Err(StoreError::Stopped(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Commits that the effect is sent once more, after so many sendings.
    pub(super) fn commit_again(
        &mut self,
        way: &Way<'_>,
        again: Again,
        attempts: u32,
        after: Outcome,
    ) -> Result<Durable, StoreError> {
        let entry = self.heading.entry(EffectRetried {
            after,
            attempt: attempts.saturating_add(1),
            connection: way.admitted.connection().name().to_owned(),
            ordinal: way.ordinal,
            request: again.request(),
            route: way.admitted.route().name().to_owned(),
        });
        let mut entries = self.pending.entries.clone();
        entries.push(entry);
        let batch = Batch {
            entries,
            payloads: self.pending.payloads.clone(),
            transcript: self.pending.transcript.clone(),
            again: Some(again),
            ..Batch::default()
        };
        let committed = self.shared.store.commit(batch)?;
        self.pending = Batch::default();
        committed.durable.ok_or(StoreError::Unintended)
    }

    /// Waits for the effect's turn under the rates of its connection and route, unless a breaker is open; how long it waited.
    pub(super) fn turn(&mut self, admitted: &Admitted) -> Result<Duration, Refusal> {
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
            until: clock().saturating_add(later),
        });
        self.pending.entries.push(entry);
    }

    /// How much of an answer is waited for.
    pub(super) fn bounds(&self) -> Bounds {
        let limits = self.grant.limits();
        Bounds {
            time: Duration::from_millis(limits.upstream_ms),
            answer_bytes: usize::try_from(limits.response_body_bytes).unwrap_or(usize::MAX),
        }
    }

    /// The headers that the host sets for an effect: the key by which the service knows a repeated request, and the version of what the
    /// effect changes, where its route has them.
    pub(super) fn own_headers(&self, known: &Known, admitted: &Admitted) -> Vec<(String, String)> {
        let key = admitted.idempotency_header().map(str::to_owned);
        let version = known.before.as_ref().and_then(|before| before.image.etag.clone());
        let version = version.filter(|_| !ambit_core::guard!("object.if-match", false));
        let key = key.map(|header| (header, self.idempotency_key(known)));
        key.into_iter()
            .chain(version.map(|etag| (IF_MATCH.to_owned(), etag)))
            .collect()
    }

    /// What a service is told of the trace: nothing, unless its connection says so. A guest has no word in it.
    pub(super) fn traced(&self, upstream: &Upstream) -> Option<Traced> {
        ambit_core::guard!("gate.trace", upstream.is_traced()).then(|| Traced {
            call: self.heading.call.to_string(),
            trace: self.heading.trace.to_string(),
            sampled: self.heading.sampled,
        })
    }

    /// The key by which the service knows a repeated request: a function of call and effect, so that it is the same after a
    /// crash. A dead letter that is tried again has that of the effect which it was.
    pub(super) fn idempotency_key(&self, known: &Known) -> String {
        let (call, ordinal) = match self.redelivered(known).and_then(|letter| letter.key.as_ref()) {
            Some((call, ordinal, _)) => (call.as_str(), *ordinal),
            None => (self.heading.call.as_str(), known.ordinal),
        };
        Digest::domain("ambit/idempotency/v1", &[call.as_bytes(), &ordinal.to_be_bytes()]).to_hex()
    }

    /// Commits the intent with everything the guest was given since the last one.
    pub(super) fn commit_intent(
        &mut self,
        known: &Known,
        admitted: &Admitted,
        spend: Spend,
        reserved: &[Reservation],
    ) -> Result<(Durable, Vec<Reservation>), StoreError> {
        let request = self.payload(format!("effect/{}/request", known.ordinal), &admitted.request().wire())?;
        let effect = effect_digest(admitted, spend, &request.commitment());
        let (before, kept_before) = self.kept_before(known, None)?;
        let entry = self.heading.entry(EffectIntent {
            asked: known.asked,
            before,
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
            undoes: known.undoes.clone(),
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
            webhooks: Vec::new(),
        };
        batch
            .transcript
            .push(self.row("effect", Some(effect), request.name().to_owned()));
        batch.entries.push(entry);
        batch.payloads.push(request);
        batch.payloads.extend(kept_before);
        let committed = self.shared.store.commit(batch)?;
        self.pending = Batch::default();
        self.steps += 1;
        let mut reserved = reserved.to_vec();
        reserved.iter_mut().for_each(|one| place_one(one, committed.time_ms));
        let durable = committed.durable.ok_or(StoreError::Unintended)?;
        Ok((durable, reserved))
    }

    /// Writes down what became of an intent, settles what was reserved, and makes the answer.
    pub(super) fn settle(
        &mut self,
        known: &mut Known,
        admitted: &Admitted,
        reserved: Vec<Reservation>,
        spend: Spend,
        delivered: Delivered,
    ) -> Result<GuestResponse, Missed> {
        let attempts = delivered.attempts;
        let last = delivered.ended.clone();
        let mut ended = Ended::of(delivered, admitted)?;
        if let Some(refusal) = self.suspended(known) {
            ended.with_its_host(refusal);
        }
        known.created.clone_from(&ended.created);
        let answer = match &ended.what {
            // Nobody is told anything: it stays as it was.
            What::StillUnseen(_) | What::Unseen(_) | What::Unasked(_) => None,
            _ => Some(self.keep_answer(known.ordinal, &ended)?),
        };
        let outcome = match &ended.what {
            What::Answered(response) => Outcome::Answered(Answered {
                status: response.status,
            }),
            What::NotSent(refusal) => {
                let detail = self.keep(format!("effect/{}/refused", known.ordinal), &refusal_json(refusal))?;
                Outcome::NotSent(refused(refusal, Some(detail)))
            }
            What::InDoubt(doubt, _) => Outcome::InDoubt(*doubt),
            What::Unasked(refusal) => Outcome::NotSent(refused(refusal, None)),
            What::StillUnseen(_) | What::Unseen(_) => Outcome::InDoubt(Doubt::Restart),
        };
        // What a read in doubt used, it used: nobody will ask whether it happened.
        let became = match ended.became() {
            Became::InDoubt if known.cause == Cause::Host || admitted.tier() == Tier::Read => Became::Done,
            became => became,
        };
        let settled = settled(reserved, became, ended.traffic);
        let happened = matches!(became, Became::Done | Became::InDoubt);
        let body = EffectOutcome {
            absent: known.reads_object && ended.says_there_is_none(),
            answer,
            attempts,
            // What stays as it was has not failed for good, and what did not take an effect back is tried again by the next rollback.
            dead: answer.is_some()
                && known.cause != Cause::Host
                && known.undoes.is_none()
                && admitted.route().dead_letter(admitted.tier())
                && ended.failed(),
            // What did not leave at all ended as its last sending did.
            last: last.filter(|last| *last != outcome && !matches!(outcome, Outcome::NotSent(_))),
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
                    Code::Killed | Code::Cancelled | Code::Suspended => Missed::Over(refusal),
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
            What::StillUnseen(refusal) => Err(self.stays(refusal)),
            What::Unseen(refusal) | What::Unasked(refusal) => Err(Missed::Over(refusal)),
        }
    }

    /// What the guest is told, and when.
    fn keep_answer(&mut self, ordinal: u32, ended: &Ended) -> Result<Digest, StoreError> {
        self.clock_ms = clock().max(self.clock_ms);
        let name = format!("effect/{ordinal}/answer");
        let answer = self.keep(name.clone(), &ended.recorded(self.clock_ms))?;
        self.step("answer", None, name);
        Ok(answer)
    }
}

/// The way of one effect to its service.
pub(super) struct Way<'a> {
    pub(super) ordinal: u32,
    pub(super) admitted: &'a Admitted,
    pub(super) upstream: &'a Upstream,
    /// What it shows beside what every request there does.
    pub(super) pass: Option<Arc<Pass>>,
    /// The headers that the host sets for it.
    pub(super) own: &'a [(&'a str, &'a str)],
    /// What the service is told of the trace, where it is told.
    pub(super) traced: Option<Traced>,
    pub(super) answer_bytes: usize,
    /// Until when all its sendings have to be over.
    pub(super) deadline: Instant,
    /// When it was first sent under its key, in milliseconds since 1970.
    pub(super) first_ms: u64,
}

impl Way<'_> {
    /// A token that its service did not take is not used again. The answer is the guest's: whoever asks once more has another token.
    fn note_declined(&self, sent: &Result<Sent, SendError>) {
        let status = match sent {
            Ok(sent) => sent.status,
            Err(SendError::Unusable { status, .. }) => *status,
            Err(_) => return,
        };
        if let (401, Some(minter), Some(pass)) = (status, self.upstream.minter(), &self.pass) {
            minter.declined(pass);
        }
    }

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
        if !safe && self.admitted.idempotency_header().is_none() {
            return None;
        }
        let wait = Duration::from_millis(retries.after(attempts, last, flow::jitter())?);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let remembered = safe || is_known(route, self.first_ms, wait_ms);
        (ambit_core::guard!("gate.retry-lifetime", remembered) && wait < self.left()).then_some(wait)
    }
}

/// The trace of a call, as a service is told of it: each sending is a span of its own.
pub(super) struct Traced {
    call: String,
    trace: String,
    sampled: bool,
}

impl Traced {
    /// The `traceparent` of an effect's next sending, after so many.
    pub(super) fn of(&self, ordinal: u32, attempts: u32) -> String {
        let span = SpanId::of_sending(&self.call, ordinal, attempts.saturating_add(1));
        traceparent(&self.trace, span, self.sampled)
    }
}

/// What all sendings of one effect came to.
#[derive(Default)]
pub(super) struct Delivered {
    attempts: u32,
    /// The last one of which something left, or the last one.
    last: Option<Result<Sent, SendError>>,
    /// How the last one ended.
    ended: Option<Outcome>,
    /// Whether one before that may have happened.
    doubted: bool,
    traffic: Traffic,
}

impl Delivered {
    /// After sendings of which nobody saw what became.
    pub(super) fn unseen(attempts: u32) -> Self {
        Self {
            attempts,
            doubted: true,
            ..Self::default()
        }
    }

    /// The body of the last answer, before anything is left out of it: for the host alone.
    pub(super) fn body(&self) -> Option<Vec<u8>> {
        match &self.last {
            Some(Ok(sent)) => Some(sent.body.to_vec()),
            _ => None,
        }
    }

    fn add(&mut self, sent: Result<Sent, SendError>) {
        self.attempts = self.attempts.saturating_add(1);
        self.ended = Some(one_outcome(&sent));
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

/// How an intent ended.
struct Ended {
    what: What,
    traffic: Traffic,
    /// Whether a sending before the last may have happened.
    doubted: bool,
    /// What to ask about what it created, by the answer.
    created: Option<ObjectQuestion>,
}

enum What {
    /// The service answered; what the guest, or the host for its own request, is given of it.
    Answered(GuestResponse),
    /// Nothing left.
    NotSent(Refusal),
    /// Nobody knows.
    InDoubt(Doubt, String),
    /// Nothing left now, and nobody knows what became of what left before the host ended.
    StillUnseen(Refusal),
    /// The host ends, and what left is as after its crash: nobody is told anything.
    Unseen(Refusal),
    /// The host ends, and nothing left: its guest asks again.
    Unasked(Refusal),
}

impl Ended {
    /// # Errors
    /// [`StoreError::Unintended`] where nothing was tried to be sent, which nobody does.
    fn of(delivered: Delivered, admitted: &Admitted) -> Result<Ended, StoreError> {
        let last = delivered.last.ok_or(StoreError::Unintended)?;
        let created = last.as_ref().ok().and_then(|sent| admitted.created_object(&sent.body));
        let what = match last {
            Ok(sent) => What::Answered(admitted.answer(sent.status, &sent.headers, &sent.body)),
            // What left in this process before what did not leave would stand in its place: it was sent by another.
            Err(SendError::NotSent(refusal)) if delivered.doubted => What::StillUnseen(refusal),
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
            created,
        })
    }

    /// As the host ends, and another goes on with the call: nobody waits for the answer, and its guest is told nothing.
    fn with_its_host(&mut self, refusal: Refusal) {
        match &self.what {
            What::InDoubt(Doubt::Stopped, _) => self.what = What::Unseen(refusal),
            What::NotSent(why) if why.code == Code::Suspended => self.what = What::Unasked(refusal),
            _ => {}
        }
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
            What::NotSent(_) | What::Unasked(_) => Became::NotSent,
            What::InDoubt(..) | What::StillUnseen(_) | What::Unseen(_) => Became::InDoubt,
        }
    }

    /// Whether it failed: it is in doubt, was not sent, or the service declined it.
    fn failed(&self) -> bool {
        !matches!(&self.what, What::Answered(response) if (200..400).contains(&response.status))
    }

    /// Whether the service said that there is no such thing, or no more.
    fn says_there_is_none(&self) -> bool {
        matches!(&self.what, What::Answered(response) if matches!(response.status, 404 | 410))
    }

    /// What the transcript keeps: all that a replay gives the guest.
    fn recorded(&self, clock_ms: u64) -> Json {
        let (name, value) = match &self.what {
            What::Answered(response) => ("answered", response.to_json()),
            What::NotSent(refusal) | What::StillUnseen(refusal) | What::Unseen(refusal) | What::Unasked(refusal) => {
                ("refused", refusal_json(refusal))
            }
            What::InDoubt(_, why) => ("failed", Json::from(why.as_str())),
        };
        Json::Object([("clock", Json::from(clock_ms)), (name, value)].into_iter().collect())
    }
}

/// The header that says which version of an object a request is about.
const IF_MATCH: &str = "if-match";

/// Headers as the gate takes them.
pub(super) fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

/// The way out through a connection.
pub(super) fn open_upstream<'s>(shared: &'s Shared, connection: &str) -> Result<&'s Upstream, Refusal> {
    shared.upstreams.get(connection).ok_or_else(|| {
        Refusal::new(
            Code::Binding,
            format!("connection `{connection}` is not open in this process"),
        )
    })
}

/// Whether a sending may have had an effect: everything but what did not leave, and a 4xx, which says that it had none.
fn may_have_happened(sent: &Result<Sent, SendError>) -> bool {
    match sent {
        Ok(sent) => sent.status == 408 || !(400..500).contains(&sent.status),
        Err(SendError::NotSent(_)) => false,
        Err(_) => true,
    }
}

/// What the ledger says of one sending: of one that is followed by another, and where a breaker asks.
pub(crate) fn one_outcome(sent: &Result<Sent, SendError>) -> Outcome {
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
