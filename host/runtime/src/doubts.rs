//! Effects in doubt that are sent again: which can be, until when, and how their calls go on with it.
//!
//! A host that ended while an effect was under way saw no end of it, and neither did its guest. Where the effect's route has an idempotency
//! key, and the key is one that the service still recognises, an operator may have it sent again instead of finding out: the service does
//! at most once what it is asked for under one key. The call is run again from its transcript, and the effect is decided anew as if it were a
//! new one; what refuses it leaves all as it was.
//!
//! An effect that is in doubt for another cause is not sent again: its guest was told so, and may have done something else instead.

use std::collections::BTreeMap;

use ambit_core::effect::GuestRequest;
use ambit_core::error::{Code, Refusal};
use ambit_core::ledger::CallStory;
use ambit_core::ledger::body::{EffectIntent, EffectOutcome, Reservation};
use ambit_core::ledger::story::{EffectStory, Told};

use crate::approvals::{ApprovalError, Stopped, approvals_of_intent};
use crate::call::{Accepted, Answer, Fault, Listener};
use crate::config::Config;
use crate::dead_letters;
use crate::edits::changes;
use crate::effects::{Redelivery, Repeated, UnseenEffect, forgotten, is_known, known_until, same_way};
use crate::host::Host;
use crate::objects;
use crate::recovery::{in_doubt, runs};
use crate::store::{Reader, StoreError, Window, Work};
use crate::transcript::{AskedFor, Record, Unreadable};

/// The choice that an operator has with an effect in doubt, beside saying what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Until when its service recognises its key, in milliseconds since 1970.
    pub until_ms: u64,
}

impl Retry {
    /// Of an effect in doubt, by today's configuration.
    ///
    /// # Errors
    /// Why it cannot be sent again, or [`StoreError`] where the ledger cannot be read.
    pub fn of(
        reader: &Reader,
        config: &Config,
        story: &CallStory,
        ordinal: u32,
    ) -> Result<Result<Retry, Refusal>, StoreError> {
        let intent = match unseen(story, ordinal) {
            Ok((intent, _)) => &intent.what,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let (_, _, first_ms) = dead_letters::key(reader, story, ordinal)?;
        Ok(recognised(config, intent, first_ms).map(|until_ms| Retry { until_ms }))
    }
}

/// Intent and outcome of an effect in doubt that no guest was told anything of, in a call that can go on with it.
fn unseen(story: &CallStory, ordinal: u32) -> Result<(&Told<EffectIntent>, &EffectOutcome), Refusal> {
    let call = &story.call;
    let refuse = |why: String, advice: String| Refusal::new(Code::Doubt, why).advise(advice);
    let found = match story.effects.get(&ordinal) {
        Some(EffectStory::Intended {
            intent,
            outcome: Some(outcome),
            resolved: None,
            ..
        }) if intent.what.changes() && outcome.what.is_in_doubt() => Some((&**intent, &outcome.what)),
        _ => None,
    };
    let say =
        format!("find out at the service, then `ambit calls resolve {call} --effect {ordinal} --done` or `--not-done`");
    let Some((intent, outcome)) = found else {
        return Err(refuse(
            format!("effect {ordinal} of call {call} is not in doubt"),
            "`ambit calls --in-doubt` prints what is".to_owned(),
        ));
    };
    let untold = outcome.is_unseen() && !story.is_over();
    if !ambit_core::guard!("flow.doubt-untold", untold) {
        let listed = match outcome.dead {
            true => "; it is a dead letter too: `ambit dead-letters retry` sends it again as an effect of its own",
            false => "",
        };
        let why = match story.is_over() {
            true => "its call is over, and nothing goes on with it",
            false => "its tool was told that it is in doubt, and may have done something else instead",
        };
        return Err(refuse(
            format!("effect {ordinal} of call {call} is not sent again: {why}"),
            format!("{say}{listed}"),
        ));
    }
    match story.doubts().find(|other| *other != ordinal) {
        None => Ok((intent, outcome)),
        Some(other) => Err(refuse(
            format!("effect {other} of call {call} is in doubt too, and its tool was told so"),
            format!("find out at the service what became of that first: --effect {other} --done or --not-done"),
        )),
    }
}

/// Until when the service recognises an effect that it was first sent at a time. It promises nothing: it is asked again right before it is
/// sent, of the route that it goes through then.
fn recognised(config: &Config, intent: &EffectIntent, first_ms: u64) -> Result<u64, Refusal> {
    let (connection, route) = (&intent.connection, &intent.route);
    let found = config.connection(connection);
    let found = found.and_then(|connection| connection.route(route));
    let until = found.and_then(|route| known_until(route, first_ms));
    let known = found.is_some_and(|route| is_known(route, first_ms, 0));
    until
        .filter(|_| known)
        .ok_or_else(|| forgotten(connection, route, Repeated::Doubt))
}

/// A call that goes on with an effect in doubt.
pub(crate) struct Unseen {
    pub(crate) story: CallStory,
    pub(crate) intent: EffectIntent,
    pub(crate) effect: UnseenEffect,
    /// The dead letter that the call is an operator's retry of, in place of a guest's run.
    pub(crate) letter: Option<LetterAgain>,
}

/// An operator's retry of a dead letter that the host's end left in doubt.
#[derive(Clone)]
pub(crate) struct LetterAgain {
    redelivery: Redelivery,
    import: Option<String>,
    guest: GuestRequest,
}

impl Unseen {
    fn of(reader: &Reader, config: &Config, story: CallStory, ordinal: u32) -> Result<Self, ApprovalError> {
        let (told, outcome) = unseen(&story, ordinal)?;
        let (intent, outcome) = (told.what.clone(), outcome.clone());
        let began_ms = u64::try_from(told.stamp.time_ms()).unwrap_or_default();
        let key = dead_letters::key(reader, &story, ordinal)?;
        let name = format!("effect/{ordinal}/request");
        let recorded = reader.payload(&story.call, &name)?;
        let recorded = recorded.ok_or_else(|| Unreadable::value(format!("its value `{name}` is gone")))?;
        let record = Record::new(reader, &story);
        let edits = match story.holds.get(&ordinal).filter(|_| intent.hold.is_some()) {
            Some(hold) => {
                same_way(config, &intent.connection, &intent.route, hold.held.what.way.as_ref())?;
                changes(&record, hold)?
            }
            None => None,
        };
        let effect = UnseenEffect {
            changes: edits,
            asked: AskedFor::read(&record, ordinal, intent.import.as_deref())?,
            reserved: still_reserved(reader, &story.call, &intent)?,
            approvals: match intent.hold {
                Some(_) => approvals_of_intent(reader, config, &story, ordinal, began_ms)?,
                None => BTreeMap::new(),
            },
            began_ms,
            first_ms: key.2,
            before: match intent.before {
                Some(kept) => Some((kept, objects::before(&record, &story.before_name(ordinal))?)),
                None => None,
            },
            intent: intent.clone(),
            outcome,
            recorded,
        };
        let letter = match &intent.letter {
            None => None,
            Some(letter) => {
                let asked = format!("effect/{ordinal}/asked");
                let guest = record.read::<GuestRequest>(&asked)?;
                Some(LetterAgain {
                    redelivery: Redelivery {
                        letter: letter.clone(),
                        key: (!letter.new_key).then_some(key),
                        place: (intent.connection.clone(), intent.route.clone()),
                    },
                    import: intent.import.clone(),
                    guest: guest.ok_or_else(|| Unreadable::value(format!("its value `{asked}` is gone")))?,
                })
            }
        };
        Ok(Self {
            story,
            intent,
            effect,
            letter,
        })
    }
}

/// What the intent set aside and is not settled yet.
pub(crate) fn still_reserved(
    reader: &Reader,
    call: &str,
    intent: &EffectIntent,
) -> Result<Vec<Reservation>, StoreError> {
    let work = Work {
        call: call.to_owned(),
        ordinal: Some(intent.ordinal),
    };
    let left = reader.reserved(&work)?;
    let is_left = |one: &&Reservation| {
        let of = |(Window { budget, window }, _): &(Window, u64)| *budget == one.budget && *window == one.window;
        left.iter().any(of)
    };
    Ok(intent.reserved.iter().filter(is_left).cloned().collect())
}

impl Host {
    /// Has an effect in doubt sent again, of a call's only one, where no number is given, and goes on with its call. Blocks as [`Host::call`]
    /// does.
    ///
    /// # Errors
    /// [`Code::Doubt`] where no such effect is in doubt, its guest was told so, or another is in doubt too; [`Code::Stale`] where its
    /// service does not recognise it any more, or it would come out otherwise; whatever refuses it today, by its own code. It stays in
    /// doubt then, and its call as it is. A call that went on is an [`Answer`], whatever it came to.
    pub fn retry_doubt(
        &self,
        call: &str,
        ordinal: Option<u32>,
        listener: Option<Listener>,
    ) -> Result<Answer, ApprovalError> {
        let _alone = self.shared.alone(call).ok_or_else(|| runs(call))?;
        let reader = self.reader()?;
        let story = reader.story(call)?;
        let ordinal = in_doubt(&story, ordinal)?;
        let unseen = Unseen::of(&reader, &self.shared.config, story, ordinal)?;
        self.go_on(&reader, Stopped::InDoubt(Box::new(unseen)), listener.into())
    }

    /// Sends an operator's retry of a dead letter again.
    pub(crate) fn run_letter_again(&self, accepted: Accepted<'_>, letter: LetterAgain) -> Result<Answer, Fault> {
        let LetterAgain {
            redelivery,
            import,
            guest,
        } = letter;
        self.run_without_guest(accepted, import.as_deref(), |effects, import| {
            effects.redeliver_unseen(redelivery, import, &guest)
        })
    }
}
