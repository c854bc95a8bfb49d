//! The answer to a call, once more from the ledger: for its caller who asks later, in another process too.
//!
//! What a call came to is told in the words that it was told in first, as far as they are recorded. What it used of the machine, what was
//! read back and what was refused on the way is in its entries.

use ambit_core::digest::Digest;
use ambit_core::error::{Code, Refusal};
use ambit_core::ledger::CallStory;
use ambit_core::ledger::body::{CallFinished, EffectHeld, End, Outcome as Became, Refused};
use ambit_core::ledger::story::{EffectStory, Opening};

use crate::approvals::edited_effects;
use crate::call::{Answer, Cost, Held, Outcome, Paused};
use crate::host::Host;
use crate::offers::EndEntry;
use crate::store::{Reader, StoreError};
use crate::transcript::{Record, Unreadable};

impl Host {
    /// What the caller of a call is answered by now: what it came to, or what it waits for. None of one that has not ended and waits for
    /// nothing: it runs, or a host ended in it. Whoever asks has found that the call is the caller's.
    ///
    /// What people said of a held effect since is not in it. A value that was erased is a refusal that says so.
    ///
    /// # Errors
    /// Where the ledger cannot be read, or a value is another one than it commits to.
    pub fn answer_again(&self, story: &CallStory) -> Result<Option<Answer>, StoreError> {
        let reader = self.reader()?;
        let past = Past {
            record: Record::new(&reader, story),
            story,
        };
        let Some(outcome) = past.outcome()? else {
            return Ok(None);
        };
        let (Ok(call), Ok(trace)) = (story.call.parse(), story.trace.parse()) else {
            let what = format!("the id or the trace of call {} is none", story.call);
            return Err(StoreError::Damaged { what });
        };
        let finished = story.finished.as_ref().map(|finished| &finished.what);
        Ok(Some(Answer {
            call,
            trace,
            outcome,
            refused_effects: past.refused_effects()?,
            checked: match finished {
                Some(finished) => finished.checked.clone(),
                None => story.tally().checks().to_vec(),
            },
            edited: believed(edited_effects(&reader, story))?.unwrap_or_default(),
            cost: finished.map_or_else(Cost::default, |finished| cost(story, finished)),
            end: end(&reader, story)?,
        }))
    }
}

/// A call's entries, and the values beside them.
struct Past<'t> {
    record: Record<'t>,
    story: &'t CallStory,
}

impl Past<'_> {
    fn outcome(&self) -> Result<Option<Outcome>, StoreError> {
        if let Opening::Denied(denied) = &self.story.opening.what {
            return Ok(Some(Outcome::Stopped(self.refusal("denied", &denied.refused)?)));
        }
        let Some(finished) = &self.story.finished else {
            return Ok(self.waits());
        };
        Ok(Some(match &finished.what.outcome {
            End::Ok(_) => match believed(self.record.json("result"))? {
                Some(value) => Outcome::Ok(value),
                None => Outcome::Stopped(erased()),
            },
            End::ToolError(_) => match believed(self.record.json("result"))? {
                Some(value) => Outcome::ToolError(value),
                None => Outcome::Stopped(erased()),
            },
            End::Refused(refused) | End::Trapped(refused) => Outcome::Stopped(self.refusal("refused", refused)?),
            End::Interrupted => Outcome::Stopped(
                Refusal::new(Code::Killed, "an operator ended the call where its host had left it")
                    .advise("what it had done by then stays done; its record says how far it came"),
            ),
        }))
    }

    /// What a call waits for that has not ended.
    fn waits(&self) -> Option<Outcome> {
        if let Some(hold) = self.story.waiting() {
            return Some(Outcome::Held(Box::new(held(&hold.held.what))));
        }
        if let Some(paused) = self.story.paused() {
            return Some(Outcome::Paused(Box::new(Paused {
                stop: paused.what.stop.clone(),
                refusal: Refusal::new(Code::SafeMode, "an operator lets nothing be changed for now"),
            })));
        }
        self.story.suspended().map(|_| {
            Outcome::Stopped(Refusal::new(
                Code::Suspended,
                "the host ended, and the call goes on when it is back",
            ))
        })
    }

    fn refused_effects(&self) -> Result<Vec<Refusal>, StoreError> {
        let mut all = Vec::new();
        for (ordinal, effect) in &self.story.effects {
            let refused = match effect {
                EffectStory::Refused(told) => Some(&told.what.refused),
                EffectStory::Intended {
                    outcome: Some(outcome), ..
                } => match &outcome.what.outcome {
                    // Of what was only suspended nobody was told.
                    Became::NotSent(refused) if refused.detail.is_some() => Some(refused),
                    _ => None,
                },
                EffectStory::Intended { .. } | EffectStory::Held(_) => None,
            };
            if let Some(refused) = refused {
                all.push(self.refusal(&format!("effect/{ordinal}/refused"), refused)?);
            }
        }
        Ok(all)
    }

    /// A refusal in its own words, or what its entry says of it where they are there no more.
    fn refusal(&self, name: &str, refused: &Refused) -> Result<Refusal, StoreError> {
        Ok(believed(self.record.read(name))?.flatten().unwrap_or_else(|| Refusal {
            rule: refused.rule.clone(),
            ..Refusal::new(refused.code, "the words of this refusal were erased")
        }))
    }
}

/// A value of the record; none of one that was erased.
fn believed<T>(read: Result<T, Unreadable>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Unreadable::Value(_) | Unreadable::Store(StoreError::Erased { .. })) => Ok(None),
        Err(Unreadable::Tampered(what)) => Err(StoreError::Damaged { what }),
        Err(Unreadable::Store(error)) => Err(error),
    }
}

fn erased() -> Refusal {
    Refusal::new(
        Code::Ledger,
        "the call has ended, and what it returned was erased since",
    )
    .advise("do not call again for it: its receipt says how it ended")
}

/// What its caller was told when it was held. What it still lacks is for those who decide.
fn held(held: &EffectHeld) -> Held {
    Held {
        hold: held.hold,
        ordinal: held.ordinal,
        connection: held.connection.clone(),
        route: held.route.clone(),
        tier: held.tier,
        spend: held.spend,
        needs: held.needs.clone(),
        over: held.over.clone(),
        rules: held.rules.clone(),
        expires_ms: held.expires,
        request: None,
        missing: held.needs.clone(),
        edited: None,
    }
}

fn cost(story: &CallStory, finished: &CallFinished) -> Cost {
    Cost {
        fuel: finished.fuel,
        memory_bytes: finished.memory,
        // They are numbered from 1.
        effects: story.effects.keys().next_back().copied().unwrap_or_default(),
        ms: finished.ms,
        upstream_ms: finished.upstream,
    }
}

/// The entry that ends a call, where it has ended.
fn end(reader: &Reader, story: &CallStory) -> Result<Option<EndEntry>, StoreError> {
    let stamp = match (&story.opening.what, &story.finished) {
        (Opening::Denied(_), _) => story.opening.stamp,
        (Opening::Accepted(_), Some(finished)) => finished.stamp,
        (Opening::Accepted(_), None) => return Ok(None),
    };
    let entry = reader.entry(stamp.index())?;
    Ok(Some(EndEntry {
        index: entry.index(),
        digest: Digest::of(entry.bytes()),
    }))
}
