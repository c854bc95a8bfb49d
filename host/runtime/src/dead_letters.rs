//! Effects that failed for good: what is in the list, and how one is tried again.
//!
//! What was to change something and failed for good is kept: in doubt, not sent, or declined by the service, after all retries. A route,
//! or its connection, says otherwise with `dead_letter`, and may say it of what reads too.
//! Nothing happens to it by itself. To retry one is a call of its own, without a guest: the same caller, tool and function are
//! decided on by today's policy, the request goes through scope, route, tier, money and budgets as any does, and its intent, whose
//! cause is the operator, takes the letter from the list. If it fails again it is a new letter.

use std::sync::Arc;
use std::time::Instant;

use ambit_core::effect::{GuestRequest, GuestResponse};
use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Narrowing;
use ambit_core::json::Json;
use ambit_core::ledger::body::{Asked, EffectIntent, EffectOutcome, Found, Letter};
use ambit_core::ledger::story::{EffectStory, Opening, Told};
use ambit_core::ledger::{CallStory, Principal};

use crate::call::{Accepted, Answer, CallRequest, Cost, Denied, Fault, Outcome, millis};
use crate::config::Config;
use crate::edits::changes;
use crate::effects::{CallEffects, Redelivery, Repeated, forgotten, is_known, known_until};
use crate::host::Host;
use crate::sandbox::{GuestHttpError, Stop};
use crate::store::{Reader, StoreError};
use crate::transcript::{Record, Start, Unreadable};

/// Why a dead letter is not tried again. It stays in the list.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// A rule.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The host could not do its work.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<StoreError> for LetterError {
    fn from(error: StoreError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<Unreadable> for LetterError {
    fn from(error: Unreadable) -> Self {
        match error {
            Unreadable::Store(error) => error.into(),
            Unreadable::Value(_) | Unreadable::Tampered(_) => {
                Self::Refused(Refusal::new(Code::Stale, error.to_string()))
            }
        }
    }
}

/// An effect that failed for good, as the ledger tells it.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Its call's id.
    pub call: String,
    /// Who the call was by.
    pub principal: Principal,
    /// What the call was asked.
    pub asked: Asked,
    /// What was to be sent.
    pub intent: Told<EffectIntent>,
    /// What became of it.
    pub outcome: Told<EffectOutcome>,
    /// What an operator found out, where it was in doubt.
    pub found: Option<Found>,
    /// The effect whose idempotency key it was sent under, and when that was first sent, in milliseconds since 1970.
    key: (String, u32, u64),
}

impl DeadLetter {
    /// Reads the letter of an effect.
    ///
    /// # Errors
    /// Where the ledger cannot be read, or says nothing of such an effect.
    pub fn read(reader: &Reader, call: &str, ordinal: u32) -> Result<Self, StoreError> {
        let story = reader.story(call)?;
        let damaged = || StoreError::batch(format!("effect {ordinal} of call {call} is no dead letter"));
        let (intent, outcome) = ended(&story, ordinal).ok_or_else(damaged)?;
        let Opening::Accepted(accepted) = &story.opening.what else {
            return Err(damaged());
        };
        Ok(Self {
            call: call.to_owned(),
            principal: story.principal.clone().ok_or_else(damaged)?,
            asked: accepted.asked.clone(),
            intent: intent.clone(),
            outcome: outcome.clone(),
            found: found(&story, ordinal),
            key: key(reader, &story, ordinal)?,
        })
    }

    /// Until when the service recognises its idempotency key, in milliseconds since 1970; none where its route has none today.
    #[must_use]
    pub fn key_until_ms(&self, config: &Config) -> Option<u64> {
        let intent = &self.intent.what;
        let route = config.connection(&intent.connection)?.route(&intent.route)?;
        known_until(route, self.key.2)
    }

    /// Whether it does now.
    fn is_known(&self, config: &Config) -> bool {
        let intent = &self.intent.what;
        let connection = config.connection(&intent.connection);
        let route = connection.and_then(|connection| connection.route(&intent.route));
        route.is_some_and(|route| is_known(route, self.key.2, 0))
    }
}

/// The refusal of what is not in the list.
pub(crate) fn none(call: &str, ordinal: u32) -> Refusal {
    let call = ambit_core::error::printable(call);
    Refusal::new(
        Code::Arguments,
        format!("effect {ordinal} of call {call} is no dead letter"),
    )
    .advise("`ambit dead-letters list` prints them; one that was retried or dropped is not there any more")
}

fn found(story: &CallStory, ordinal: u32) -> Option<Found> {
    match story.effects.get(&ordinal)? {
        EffectStory::Intended { resolved, .. } => resolved.as_ref().map(|resolved| resolved.what.found),
        _ => None,
    }
}

fn happened(call: &str, ordinal: u32) -> Refusal {
    Refusal::new(
        Code::Stale,
        format!("effect {ordinal} of call {call} was done, as an operator found out: it is not done again"),
    )
    .advise("give it up: ambit dead-letters drop --because happened")
}

fn ended(story: &CallStory, ordinal: u32) -> Option<(&Told<EffectIntent>, &Told<EffectOutcome>)> {
    match story.effects.get(&ordinal)? {
        EffectStory::Intended {
            intent,
            outcome: Some(outcome),
            ..
        } => Some((intent, outcome)),
        _ => None,
    }
}

/// Whose key an effect has: its own, or that of the effect which it tried again. Each is before the other on the ledger, so there is
/// a first.
pub(crate) fn key(reader: &Reader, story: &CallStory, ordinal: u32) -> Result<(String, u32, u64), StoreError> {
    let mut at = (story.call.clone(), ordinal);
    let mut story = story.clone();
    loop {
        let Some((intent, _)) = ended(&story, at.1) else {
            return Err(StoreError::batch(format!(
                "effect {} of call {} has no end",
                at.1, at.0
            )));
        };
        match &intent.what.letter {
            Some(letter) if !letter.new_key => {
                at = (letter.call.clone(), letter.ordinal);
                story = reader.story(&at.0)?;
            }
            _ => {
                let first = u64::try_from(intent.stamp.time_ms()).unwrap_or_default();
                return Ok((at.0, at.1, first));
            }
        }
    }
}

impl Host {
    /// Tries a dead letter again, with today's rules: under the key that it had, or with `new_key` under another, with which the
    /// service may do twice what it did once. Blocks as [`Host::call`] does.
    ///
    /// # Errors
    /// Where there is no such letter, the service does not know its key any more, or a value of its call is gone. What policy, a
    /// budget or another rule refuses is an [`Answer`]; the letter stays then too, unless an intent was written.
    pub fn retry_dead_letter(&self, call: &str, ordinal: u32, new_key: bool) -> Result<Answer, LetterError> {
        let _alone = self.shared.alone(call).ok_or_else(|| none(call, ordinal))?;
        let reader = self.reader()?;
        let letters = reader.dead_letters_like(call)?;
        let there = |work: &crate::store::Work| work.call == call && work.ordinal == Some(ordinal);
        if !letters.iter().any(|(work, _)| there(work)) {
            return Err(none(call, ordinal).into());
        }
        let _place = self.shared.place()?;
        self.is_read_last()?;
        let letter = DeadLetter::read(&reader, call, ordinal)?;
        if !ambit_core::guard!("flow.letter-found", letter.found != Some(Found::Done)) {
            return Err(happened(call, ordinal).into());
        }
        let known = letter.is_known(&self.shared.config);
        if !ambit_core::guard!("flow.letter-lifetime", new_key || known) {
            let intent = &letter.intent.what;
            return Err(forgotten(&intent.connection, &intent.route, Repeated::Letter).into());
        }
        let story = reader.story(call)?;
        let record = Record::new(&reader, &story);
        let gone = |name: &str| Unreadable::value(format!("its value `{name}` is gone"));
        let args = record.text("args")?.ok_or_else(|| gone("args"))?;
        let start: Start = record.read("start")?.ok_or_else(|| gone("start"))?;
        let asked = format!("effect/{ordinal}/asked");
        let guest = record.text(&asked)?.ok_or_else(|| gone(&asked))?;
        let guest: GuestRequest =
            serde_json::from_str(&guest).map_err(|error| Unreadable::value(format!("`{asked}`: {error}")))?;
        // What failed is what people made of it, and not what the guest had asked for.
        let edited = match story.holds.get(&ordinal) {
            Some(hold) => changes(&record, hold)?,
            None => None,
        };
        let guest = match edited {
            Some(changes) => changes.apply(&guest)?,
            None => guest,
        };
        let redelivery = Redelivery {
            letter: Letter {
                call: call.to_owned(),
                new_key,
                ordinal,
            },
            key: (!new_key).then(|| letter.key.clone()),
            place: (letter.intent.what.connection.clone(), letter.intent.what.route.clone()),
        };
        let asked = (args, start.narrowing);
        Ok(self.redeliver(&letter, asked, redelivery, &guest)?)
    }

    fn redeliver(
        &self,
        letter: &DeadLetter,
        (args, narrowing): (String, Narrowing),
        redelivery: Redelivery,
        guest: &GuestRequest,
    ) -> Result<Answer, Fault> {
        let mut asking = self.ask(CallRequest {
            tool: letter.asked.tool.clone(),
            function: letter.asked.function.clone(),
            args,
            agent: letter.principal.agent.clone(),
            user: letter.principal.user.clone(),
            mode: letter.asked.mode,
            trace: None,
            narrowing,
            listener: None,
            cancel: None,
            // An operator's doing, and no part of the agent's session.
            run: None,
        })?;
        asking.letter = Some(redelivery.letter.clone());
        let _running = self.shared.alone(asking.heading.call.as_str());
        let decided = match self.decide(&asking) {
            Ok(decided) if !decided.is_of(Some(&letter.principal)) => {
                let why = "the agent is in another team or tenant than when the effect failed";
                let denied = Denied::of_caller(Refusal::new(Code::Stale, why));
                return self.deny(asking, denied);
            }
            Ok(decided) => decided,
            Err(denied) => return self.deny(asking, denied),
        };
        let accepted = match self.accept(asking, decided)? {
            Ok(accepted) => accepted,
            Err((asking, denied)) => return self.deny(asking, denied),
        };
        self.run_redelivery(accepted, letter, redelivery, guest)
    }

    fn run_redelivery(
        &self,
        accepted: Accepted<'_>,
        letter: &DeadLetter,
        redelivery: Redelivery,
        guest: &GuestRequest,
    ) -> Result<Answer, Fault> {
        let label = letter.intent.what.import.as_deref();
        self.run_without_guest(accepted, label, |effects, import| {
            effects.redeliver(redelivery, import, guest)
        })
    }

    /// One effect in place of a guest's run, through the import of this label, and the end of its call.
    pub(crate) fn run_without_guest(
        &self,
        accepted: Accepted<'_>,
        label: Option<&str>,
        send: impl FnOnce(&mut CallEffects, u32) -> Result<Result<GuestResponse, GuestHttpError>, Stop>,
    ) -> Result<Answer, Fault> {
        let Accepted {
            tool,
            beginning,
            asked,
            reserved,
            ..
        } = accepted;
        let started = Instant::now();
        let mut capabilities = tool.loaded.manifest().capabilities();
        let import = capabilities.find(|import| Some(import.label.as_str()) == label);
        let mut effects = CallEffects::new(Arc::clone(&self.shared), beginning);
        let outcome = match import {
            Some(import) => send(&mut effects, import.index),
            None => Err(Refusal::new(
                Code::Binding,
                "the tool's component has no such import any more",
            )),
        };
        if let Some(refusal) = effects.stopped_while_held() {
            return Ok(effects.into_still_held(refusal, started));
        }
        let mut remains = effects.into_remains();
        if let Some(fault) = remains.fault.take() {
            return Err(fault.into());
        }
        let cost = Cost {
            effects: remains.effects,
            ms: millis(started.elapsed().saturating_sub(remains.upstream)),
            upstream_ms: millis(remains.upstream),
            ..Cost::default()
        };
        self.finish(remains, told(outcome), (asked, None), reserved, cost)
    }
}

/// What came of it, in place of a function's result.
fn told(outcome: Result<Result<GuestResponse, GuestHttpError>, Refusal>) -> Outcome {
    let one = |name: &str, value: Json| Json::Object([(name, value)].into_iter().collect());
    match outcome {
        Ok(Ok(answer)) if (200..400).contains(&answer.status) => Outcome::Ok(one("status", Json::from(answer.status))),
        Ok(Ok(answer)) => Outcome::ToolError(one("status", Json::from(answer.status))),
        Ok(Err(GuestHttpError::Failed(why))) => Outcome::ToolError(one("in-doubt", Json::from(why.as_str()))),
        Ok(Err(GuestHttpError::Refused(refusal))) | Err(refusal) => Outcome::Stopped(refusal),
    }
}
