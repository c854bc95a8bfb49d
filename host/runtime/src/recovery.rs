//! What a process that ended left behind: effects in doubt, and calls that go on.
//!
//! A host that opens a home writes down of every intent without an outcome that it is in doubt: nobody was there to see its answer.
//! The calls stay as they are. One without an effect in doubt goes on from where it was ([`Host::resume`]); for one with such an effect an
//! operator says first what became of it ([`Host::settle_doubt`]). An operator can also end a call where it is ([`Host::end`]).
//!
//! A read that got no answer is no doubt: nothing depends on it, and the guest asks again when the call goes on.

use ambit_core::error::{Code, Refusal};
use ambit_core::ledger::body::{Doubt, EffectOutcome, EffectResolved, End, Found, Outcome, Settlement};
use ambit_core::ledger::story::{EffectStory, Told};
use ambit_core::ledger::{CallStory, EntryDraft};
use ambit_core::money::{Became, Period};

use crate::approvals::{ApprovalError, accepted};
use crate::clock::clock;
use crate::doubts::still_reserved;
use crate::effects::settled;
use crate::gate::Traffic;
use crate::host::{Host, ended_without_its_guest};
use crate::store::{Batch, Payload, Reader, Store, StoreError, TranscriptRow, Window, Work};
use crate::transcript::found_answer;

/// How many expired holds a host ends when it opens: each is a commit.
pub(crate) const MOST_EXPIRED: u32 = 100;

/// A call that has not ended, and that waits for nobody.
#[derive(Debug, Clone)]
pub struct Unended {
    /// What is on the ledger of it.
    pub story: CallStory,
    /// Its effects in doubt, by number: what keeps it from going on.
    pub doubts: Vec<u32>,
}

impl Unended {
    /// Of a home, the oldest first. Where a host holds the home, those that run are among them.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub fn all(reader: &Reader) -> Result<Vec<Unended>, StoreError> {
        let calls = reader.unended()?;
        let of = |call: String| {
            let story = reader.story(&call)?;
            let doubts = story.doubts().collect();
            Ok(Unended { story, doubts })
        };
        calls.into_iter().map(of).collect()
    }
}

/// Writes down that the intents which the last process left without an outcome are in doubt.
pub(crate) fn note_doubts(store: &Store) -> Result<(), StoreError> {
    let reader = store.reader()?;
    for call in reader.under_way()? {
        let story = reader.story(&call)?;
        let mut entries = Vec::new();
        for (ordinal, effect) in &story.effects {
            let EffectStory::Intended {
                intent,
                retries,
                outcome: None,
                ..
            } = effect
            else {
                continue;
            };
            // Money in doubt stays reserved until somebody says what happened. That something was sent counts, all that could go.
            let became = if intent.what.changes() {
                Became::InDoubt
            } else {
                Became::Done
            };
            let all = Traffic {
                sent_bytes: u64::MAX,
                ..Traffic::default()
            };
            // Of what was in doubt before and sent again, some is settled.
            let reserved = still_reserved(&reader, &call, &intent.what)?;
            let outcome = EffectOutcome {
                absent: false,
                answer: None,
                attempts: u32::try_from(retries.len() + 1).unwrap_or(u32::MAX),
                // It has not failed for good: its call goes on once somebody says what became of it.
                dead: false,
                last: None,
                ms: 0,
                ordinal: *ordinal,
                outcome: Outcome::InDoubt(Doubt::Restart),
                received: 0,
                sent: 0,
                settled: settled(reserved, became, all),
                spent: intent.what.spend,
            };
            entries.push(EntryDraft {
                body: outcome.into(),
                call: Some(call.clone()),
                config: story.config,
                policy: story.policy,
                principal: story.principal.clone(),
                tool: story.tool,
                trace: Some(story.trace.clone()),
            });
        }
        let batch = Batch {
            entries,
            ..Batch::default()
        };
        store.commit(batch)?;
    }
    Ok(())
}

impl Host {
    /// Calls that go on with [`Host::resume`] or wait for an operator's word, the oldest first: the host ended while they ran.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub fn unended(&self) -> Result<Vec<Unended>, StoreError> {
        let mut all = Unended::all(&self.reader()?)?;
        all.retain(|unended| !self.shared.is_running(&unended.story.call));
        Ok(all)
    }

    /// Writes down what an operator found out about an effect in doubt: of a call's only one, where no number is given. What budgets
    /// still had set aside for it is settled by that. The call, where it has not ended, does not go on by it: [`Host::resume`].
    ///
    /// # Errors
    /// [`Code::Doubt`] where no such effect is in doubt, or the call runs.
    pub fn settle_doubt(
        &self,
        call: &str,
        ordinal: Option<u32>,
        found: Found,
        reason: Option<&str>,
    ) -> Result<u32, ApprovalError> {
        let _alone = self.shared.alone(call).ok_or_else(|| runs(call))?;
        let reader = self.reader()?;
        let story = reader.story(call)?;
        let ordinal = in_doubt(&story, ordinal)?;
        let Some(outcome) = outcome_of(&story, ordinal) else {
            return Err(none_in_doubt(&story, Some(ordinal)).into());
        };
        let work = Work {
            call: call.to_owned(),
            ordinal: Some(ordinal),
        };
        let heading = self.heading_of(&story)?;
        let mut batch = Batch::default();
        let answer = if story.is_over() || outcome.what.answer.is_some() {
            None
        } else {
            let clock_ms = clock();
            let text = found_answer(clock_ms, found).to_canonical().into_bytes();
            let step = reader.transcript(call)?.len() + 1;
            Some(told(&mut batch, call, ordinal, step, text)?)
        };
        let reason = reason.map(|reason| Payload::new(call, format!("effect/{ordinal}/found"), reason.into()));
        let reason = reason.transpose()?;
        batch.entries.push(heading.entry(EffectResolved {
            answer,
            dead: story.is_letter_again(ordinal, found),
            found,
            ordinal,
            reason: reason.as_ref().map(Payload::commitment),
            settled: of_reserved(reader.reserved(&work)?, found),
            spent: outcome.what.spent.filter(|_| found == Found::Done),
        }));
        batch.payloads.extend(reason);
        self.shared.store.commit(batch)?;
        Ok(ordinal)
    }

    /// Ends a call where the host's end left it. Its effects in doubt stay so until somebody says what became of them.
    ///
    /// # Errors
    /// [`Code::Approval`] where the call is over, runs, or waits for people: what waits is rejected.
    pub fn end(&self, call: &str) -> Result<(), ApprovalError> {
        let _alone = self.shared.alone(call).ok_or_else(|| runs(call))?;
        let story = self.reader()?.story(call)?;
        let refuse =
            |why: &str, advice: &str| Refusal::new(Code::Approval, format!("call {call} {why}")).advise(advice);
        if story.waiting().is_some() {
            let advice = "`ambit approvals reject` ends it, and tells the tool";
            return Err(refuse("waits for people", advice).into());
        }
        let Some(accepted) = accepted(&story).filter(|_| !story.is_over()) else {
            return Err(refuse("is over already", "`ambit calls` prints what is not").into());
        };
        let finished = ended_without_its_guest(accepted, &story.guests, story.tally(), End::Interrupted);
        let entry = self.heading_of(&story)?.entry(finished);
        self.shared.store.commit(Batch {
            entries: vec![entry],
            ..Batch::default()
        })?;
        Ok(())
    }
}

/// Keeps what a guest is told when its call goes on.
fn told(
    batch: &mut Batch,
    call: &str,
    ordinal: u32,
    step: usize,
    text: Vec<u8>,
) -> Result<ambit_core::digest::Digest, StoreError> {
    let payload = Payload::new(call, format!("effect/{ordinal}/answer"), text)?;
    let commitment = payload.commitment();
    batch.transcript.push(TranscriptRow {
        call: call.to_owned(),
        step: u32::try_from(step).unwrap_or(u32::MAX),
        kind: "answer".to_owned(),
        effect: None,
        payload: Some(payload.name().to_owned()),
    });
    batch.payloads.push(payload);
    Ok(commitment)
}

/// What is still set aside for an effect, once somebody knows whether it happened.
fn of_reserved(reserved: Vec<(Window, u64)>, found: Found) -> Vec<Settlement> {
    let became = match found {
        Found::Done => Became::Done,
        Found::NotDone => Became::Declined,
    };
    let settled = reserved.into_iter().filter_map(|(Window { budget, window }, amount)| {
        let unit = window.parse::<Period>().ok()?.unit();
        Some(Settlement {
            amount: unit.used(amount, became, amount)?,
            budget,
            window,
        })
    });
    settled.collect()
}

pub(crate) fn outcome_of(story: &CallStory, ordinal: u32) -> Option<&Told<EffectOutcome>> {
    match story.effects.get(&ordinal)? {
        EffectStory::Intended { outcome, .. } => outcome.as_ref(),
        _ => None,
    }
}

/// The effect in doubt that is meant.
pub(crate) fn in_doubt(story: &CallStory, ordinal: Option<u32>) -> Result<u32, Refusal> {
    let doubts: Vec<u32> = story.doubts().collect();
    match (ordinal, doubts.as_slice()) {
        (Some(ordinal), doubts) if doubts.contains(&ordinal) => Ok(ordinal),
        (None, [one]) => Ok(*one),
        (None, [_, ..]) => Err(Refusal::new(
            Code::Doubt,
            format!("several effects of call {} are in doubt: {doubts:?}", story.call),
        )
        .advise("say which with --effect")),
        (ordinal, _) => Err(none_in_doubt(story, ordinal)),
    }
}

fn none_in_doubt(story: &CallStory, ordinal: Option<u32>) -> Refusal {
    let what = ordinal.map_or_else(|| "no effect".to_owned(), |ordinal| format!("effect {ordinal}"));
    let not = if ordinal.is_some() { "not " } else { "" };
    Refusal::new(Code::Doubt, format!("{what} of call {} is {not}in doubt", story.call))
        .advise("`ambit calls --in-doubt` prints what is")
}

pub(crate) fn runs(call: &str) -> Refusal {
    Refusal::new(Code::Approval, format!("call {call} runs right now")).advise("wait until it has ended")
}
