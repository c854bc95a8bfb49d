//! What is undone on a ledger: each effect once, by a call that is there for it, and only what happened.
//!
//! A rollback names the call that it undoes, and in one by routes each intent names the effect that it takes back. Both are words of the
//! entry alone; that they are true is checked here, over all calls of a ledger, with the heads of digests as the only memory.

use std::collections::HashSet;

use super::LedgerError;
use super::body::{Body, By, EffectIntent, EffectOutcome, EffectResolved, End, Found, Rollback, Undoes};
use super::entry::Entry;
use super::story::{CallStory, EffectStory};
use crate::digest::Digest;
use crate::guard;
use crate::undo::may_have_happened;

/// The head of a digest: of a call, or of one of its effects.
type Head = [u8; 16];

/// What [`verify`](super::verify()) knows of undoing, from the entries so far.
#[derive(Default)]
pub(super) struct Undone {
    /// Effects that changed something and happened, of calls that can be undone.
    happened: HashSet<Head>,
    /// Those of them that were taken back, or may have been.
    effects: HashSet<Head>,
    /// Calls that a function of their tool has undone.
    calls: HashSet<Head>,
    /// Calls that a rollback which has not ended is undoing.
    under_way: HashSet<Head>,
    /// Calls that are rollbacks themselves.
    rollbacks: HashSet<Head>,
}

impl Undone {
    /// Takes in an entry of a call. `before` is the call's story without it; none where it is the call's first. `is_over` says of a call
    /// whether it had ended.
    ///
    /// # Errors
    /// [`LedgerError::Story`] where it undoes what cannot be undone, or was.
    pub(super) fn tell(
        &mut self,
        entry: &Entry,
        before: Option<&CallStory>,
        is_over: impl FnOnce(&str) -> bool,
    ) -> Result<(), LedgerError> {
        match (entry.body(), before) {
            (Body::CallAccepted(accepted), None) => match &accepted.undoes {
                Some(rollback) => self.begin(entry, rollback, is_over),
                None => Ok(()),
            },
            (Body::EffectIntent(intent), Some(_)) => match &intent.undoes {
                Some(undoes) => self.take_back(entry, undoes),
                None => Ok(()),
            },
            (Body::EffectOutcome(outcome), Some(story)) => {
                self.ended(story, outcome);
                Ok(())
            }
            (Body::EffectResolved(resolved), Some(story)) => {
                self.resolved(story, resolved);
                Ok(())
            }
            (Body::CallFinished(finished), Some(story)) => {
                if let Some(rollback) = story.undoes() {
                    let call = head(&rollback.call, None);
                    self.under_way.remove(&call);
                    if rollback.by == By::Function && matches!(finished.outcome, End::Ok(_)) {
                        self.calls.insert(call);
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A rollback begins: of a call that is over, of which nothing is in doubt and which is none itself, that was not undone whole, and
    /// that no other is undoing.
    fn begin(
        &mut self,
        entry: &Entry,
        rollback: &Rollback,
        is_over: impl FnOnce(&str) -> bool,
    ) -> Result<(), LedgerError> {
        let call = head(&rollback.call, None);
        let can = is_over(&rollback.call) && !self.rollbacks.contains(&call);
        if !guard!("ledger.undo-over", can) {
            return Err(wrong(
                entry,
                &rollback.call,
                "no call of that id was over, with nothing of it in doubt, that can be undone",
            ));
        }
        if !guard!("ledger.undo-whole", !self.calls.contains(&call)) {
            return Err(wrong(entry, &rollback.call, "it was undone before"));
        }
        let alone = self.under_way.insert(call);
        if !guard!("ledger.undo-alone", alone) {
            return Err(wrong(entry, &rollback.call, "another rollback of it has not ended"));
        }
        self.rollbacks.insert(head(entry.call().unwrap_or_default(), None));
        Ok(())
    }

    /// An effect is taken back once, and only one that happened.
    fn take_back(&mut self, entry: &Entry, undoes: &Undoes) -> Result<(), LedgerError> {
        let effect = head(&undoes.call, Some(undoes.ordinal));
        if !guard!("ledger.undo-happened", self.happened.contains(&effect)) {
            return Err(wrong(
                entry,
                &undoes.call,
                "it had no such effect that happened and changed something",
            ));
        }
        let first = self.effects.insert(effect);
        if !guard!("ledger.undo-once", first) {
            return Err(wrong(
                entry,
                &undoes.call,
                "the effect was taken back before, or may have been",
            ));
        }
        Ok(())
    }

    fn ended(&mut self, story: &CallStory, outcome: &EffectOutcome) {
        let Some(EffectStory::Intended { intent, retries, .. }) = story.effects.get(&outcome.ordinal) else {
            return;
        };
        let intent = &intent.what;
        let earlier = retries.iter().map(|again| &again.what.after);
        match &intent.undoes {
            Some(undoes) if !may_have_happened(&outcome.outcome, earlier) => self.free(undoes),
            None if outcome.is_done() => self.happened(story, intent),
            _ => {}
        }
    }

    fn resolved(&mut self, story: &CallStory, resolved: &EffectResolved) {
        let Some(intent) = intent(story, resolved.ordinal) else {
            return;
        };
        match (&intent.undoes, resolved.found) {
            (Some(undoes), Found::NotDone) => self.free(undoes),
            (None, Found::Done) => self.happened(story, intent),
            _ => {}
        }
    }

    /// What was to take the effect back did not happen.
    fn free(&mut self, undoes: &Undoes) {
        self.effects.remove(&head(&undoes.call, Some(undoes.ordinal)));
    }

    fn happened(&mut self, story: &CallStory, intent: &EffectIntent) {
        if intent.changes() && story.undoes().is_none() {
            self.happened.insert(head(&story.call, Some(intent.ordinal)));
        }
    }
}

fn intent(story: &CallStory, ordinal: u32) -> Option<&EffectIntent> {
    match story.effects.get(&ordinal)? {
        EffectStory::Intended { intent, .. } => Some(&intent.what),
        _ => None,
    }
}

fn head(call: &str, ordinal: Option<u32>) -> Head {
    let ordinal = ordinal.map(u32::to_be_bytes);
    let ordinal: &[u8] = ordinal.as_ref().map_or(&[], |bytes| bytes);
    let digest = Digest::domain("ambit/undone/v1", &[call.as_bytes(), ordinal]);
    let [head, _] = digest.as_bytes().as_chunks::<16>().0 else {
        return [0; 16];
    };
    *head
}

fn wrong(entry: &Entry, call: &str, why: &str) -> LedgerError {
    LedgerError::Story(format!(
        "{} of call {} undoes call {call}: {why}",
        entry.kind(),
        entry.call().unwrap_or_default()
    ))
}
