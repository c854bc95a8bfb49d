//! Whether an effect happened, by how each of its sendings ended: of what is undone, and of what undoes it.

use crate::guard;
use crate::ledger::body::{Answered, Found, Outcome};
use crate::ledger::story::EffectStory;

/// Whether an effect that changes something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    /// Nothing of it did.
    No,
    /// It may have: the status of the last sending that may have done it, where its answer was seen.
    Unsure(Option<u16>),
    /// It has not ended, or its end is in doubt and nobody has said what was found.
    InDoubt,
    /// It did.
    Yes,
}

/// Whether an effect happened; none where nothing of it was permitted, or it changes nothing.
pub(super) fn happened(effect: &EffectStory) -> Option<Happened> {
    let EffectStory::Intended {
        intent,
        retries,
        outcome,
        resolved,
        ..
    } = effect
    else {
        return None;
    };
    if !intent.what.changes() {
        return None;
    }
    let Some(outcome) = outcome.as_ref().map(|outcome| &outcome.what.outcome) else {
        return Some(Happened::InDoubt);
    };
    let earlier = || retries.iter().map(|again| &again.what.after);
    let found = resolved.as_ref().map(|resolved| resolved.what.found);
    Some(match (outcome, found) {
        (Outcome::InDoubt(_), Some(Found::Done)) => Happened::Yes,
        (Outcome::InDoubt(_), Some(Found::NotDone)) => Happened::No,
        (Outcome::InDoubt(_), None) => Happened::InDoubt,
        (Outcome::Answered(Answered { status: 200..=299 }), _) => Happened::Yes,
        (outcome, _) if !may_have_happened(outcome, earlier()) => Happened::No,
        (outcome, _) => {
            let mut last_first = std::iter::once(outcome).chain(earlier().rev());
            let last = last_first.find(|outcome| may_have(outcome));
            Happened::Unsure(last.and_then(status))
        }
    })
}

/// Whether an effect that ended so may have happened, or did; `earlier` is how each sending of it before the last ended. It did not where
/// nothing of any sending left the host, or the service declined it: an answer to a later sending says nothing of an earlier one.
#[must_use]
pub fn may_have_happened<'o>(outcome: &Outcome, earlier: impl IntoIterator<Item = &'o Outcome>) -> bool {
    let before = earlier.into_iter().any(may_have);
    may_have(outcome) || !guard!("undo.earlier", !before)
}

/// Whether one sending may have done it.
fn may_have(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::NotSent(_) => false,
        // The service's word that it did not do it: all others say that it did, or nothing.
        Outcome::Answered(Answered { status }) => {
            !guard!("undo.declined", *status != 408 && (400..500).contains(status))
        }
        Outcome::InDoubt(_) => true,
    }
}

const fn status(outcome: &Outcome) -> Option<u16> {
    match outcome {
        Outcome::Answered(Answered { status }) => Some(*status),
        _ => None,
    }
}
