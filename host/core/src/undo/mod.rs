//! Taking back what a call did: what there is to take back, and how.
//!
//! A call is undone by another call, its *rollback*, in one of two ways. By routes: effect by effect, the last first, as the operator's
//! routes say (`undo`), and no guest runs. Or by the function that the undone one declares (`undo(name)`), with arguments from what was
//! asked and returned. [`effects`] says what happened and what of it was taken back, from the entries; [`obstacle`] why nothing can be
//! undone right now; [`inverse`] makes the request that takes one effect back, from what is recorded of it; [`arguments`] what the
//! function is called with. Nothing here reads or sends.

mod happened;
mod inverse;
#[cfg(test)]
mod tests;

pub use happened::may_have_happened;
pub use inverse::{Inverse, Recorded, Wrote, inverse};

use crate::error::{Code, Refusal};
use crate::guard;
use crate::json::{Json, Object};
use crate::ledger::CallStory;
use crate::ledger::body::{By, End, Found};
use crate::ledger::story::{EffectStory, Opening};
use crate::manifest;

use happened::{Happened, happened};

/// What became of one effect that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It happened, and nothing took it back.
    Done,
    /// It may have happened: to a sending of it the service answered with this status, which says neither. None where nobody saw an answer.
    Unsure(Option<u16>),
    /// It was taken back by the effect of this number of this rollback.
    Undone(String, u32),
    /// It may have been taken back: what this rollback asked for may have happened, with the status as in [`State::Unsure`].
    MaybeUndone(String, Option<u16>),
}

/// What a call's rollback is about: its effects that changed something, the last first, and what became of each. `rollbacks` are the
/// rollbacks of it so far, in order. An effect that did not happen is none of them.
#[must_use]
pub fn effects(story: &CallStory, rollbacks: &[CallStory]) -> Vec<(u32, State)> {
    let states = story.effects.iter().rev().filter_map(|(ordinal, effect)| {
        let state = match happened(effect)? {
            Happened::No | Happened::InDoubt => return None,
            Happened::Unsure(status) => State::Unsure(status),
            Happened::Yes => State::Done,
        };
        Some((*ordinal, taken_back(rollbacks, &story.call, *ordinal).unwrap_or(state)))
    });
    states.collect()
}

/// What rollbacks made of an effect of a call: one that took it back counts more than one that may have.
fn taken_back(rollbacks: &[CallStory], call: &str, ordinal: u32) -> Option<State> {
    let mut maybe = None;
    for rollback in rollbacks {
        for (nth, effect) in &rollback.effects {
            let EffectStory::Intended { intent, .. } = effect else {
                continue;
            };
            let undoes = intent.what.undoes.as_ref();
            if !undoes.is_some_and(|undoes| undoes.call == call && undoes.ordinal == ordinal) {
                continue;
            }
            match happened(effect) {
                Some(Happened::Yes) => return Some(State::Undone(rollback.call.clone(), *nth)),
                Some(Happened::Unsure(status)) => maybe = Some(State::MaybeUndone(rollback.call.clone(), status)),
                Some(Happened::InDoubt) => maybe = Some(State::MaybeUndone(rollback.call.clone(), None)),
                Some(Happened::No) | None => {}
            }
        }
    }
    maybe
}

/// Why a call cannot be undone right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It was denied before it began.
    Denied,
    /// It is a rollback itself.
    Rollback,
    /// An effect of it waits for approvals.
    Waits,
    /// It has not ended.
    Unfinished,
    /// Nobody knows whether this effect of this call, the one to be undone or a rollback of it, happened.
    Doubt(String, u32),
    /// This rollback of it has not ended.
    UnderWay {
        /// The rollback.
        call: String,
        /// Whether an effect of it waits for approvals.
        waits: bool,
        /// In which way it undoes.
        by: By,
    },
    /// It was undone, last by this call.
    Undone(String),
    /// This rollback of it, by the tool's function, did not end well, and may have changed something.
    Half(String),
    /// None of its effects changed anything.
    Nothing,
}

/// Why a call cannot be undone right now; none where it can. `rollbacks` are the rollbacks of it so far, in order.
#[must_use]
pub fn obstacle(story: &CallStory, rollbacks: &[CallStory]) -> Option<Obstacle> {
    if matches!(story.opening.what, Opening::Denied(_)) {
        return Some(Obstacle::Denied);
    }
    if story.undoes().is_some() {
        return Some(Obstacle::Rollback);
    }
    if story.waiting().is_some() {
        return Some(Obstacle::Waits);
    }
    if let Some(doubt) = std::iter::once(story).chain(rollbacks).find_map(doubt) {
        return Some(doubt);
    }
    if !story.is_over() {
        return Some(Obstacle::Unfinished);
    }
    if let Some(open) = rollbacks.iter().find(|rollback| !rollback.is_over()) {
        return Some(Obstacle::UnderWay {
            call: open.call.clone(),
            waits: open.waiting().is_some(),
            by: open.undoes().map_or(By::Routes, |undoes| undoes.by),
        });
    }
    if let Some(by) = rollbacks.iter().rev().find(|rollback| undid_all(rollback)) {
        return Some(Obstacle::Undone(by.call.clone()));
    }
    if let Some(half) = rollbacks
        .iter()
        .find(|rollback| !guard!("undo.half", !did_half(rollback)))
    {
        return Some(Obstacle::Half(half.call.clone()));
    }
    let effects = effects(story, rollbacks);
    let left = effects.iter().any(|(_, state)| !matches!(state, State::Undone(..)));
    let last = effects.iter().rev().find_map(|(_, state)| match state {
        State::Undone(by, _) => Some(by.clone()),
        _ => None,
    });
    match (left, last) {
        (true, _) => None,
        (false, Some(by)) => Some(Obstacle::Undone(by)),
        (false, None) => Some(Obstacle::Nothing),
    }
}

fn doubt(story: &CallStory) -> Option<Obstacle> {
    let ordinal = story.doubts().next()?;
    Some(Obstacle::Doubt(story.call.clone(), ordinal))
}

/// Whether a function of the tool undid all of a call: it ended well, or the last thing that it did was found to be done.
#[must_use]
pub fn undid_all(rollback: &CallStory) -> bool {
    let by_function = rollback.undoes().is_some_and(|undoes| undoes.by == By::Function);
    let Some(finished) = rollback.finished.as_ref().filter(|_| by_function) else {
        return false;
    };
    let last = rollback.effects.values().rev().find_map(|effect| match effect {
        EffectStory::Intended { intent, resolved, .. } if intent.what.changes() => {
            Some(resolved.as_ref().map(|resolved| resolved.what.found))
        }
        _ => None,
    });
    matches!(finished.what.outcome, End::Ok(_)) || last.flatten() == Some(Found::Done)
}

/// Whether a function of the tool that did not undo all of a call may have undone some: nobody knows what is left.
fn did_half(rollback: &CallStory) -> bool {
    let by_function = rollback.undoes().is_some_and(|undoes| undoes.by == By::Function);
    let mut ends = rollback.effects.values().filter_map(happened);
    by_function && ends.any(|end| end != Happened::No)
}

impl Obstacle {
    /// What the operator is told.
    #[must_use]
    pub fn refusal(&self, call: &str) -> Refusal {
        let refuse = |code: Code, why: String, advice: &str| Refusal::new(code, why).advise(advice);
        match self {
            Self::Denied => refuse(
                Code::Undo,
                format!("call {call} was denied: nothing of it happened"),
                "`ambit audit show` says why it was denied",
            ),
            Self::Rollback => refuse(
                Code::Undo,
                format!("call {call} is a rollback itself"),
                "to have what it took back once more, call the tool again",
            ),
            Self::Waits => refuse(
                Code::Undo,
                format!("call {call} waits for approvals: it has not ended"),
                "`ambit approvals reject` ends its hold; what it did before can be undone then",
            ),
            Self::Unfinished => refuse(
                Code::Undo,
                format!("call {call} has not ended"),
                "wait until it has; where the host's end interrupted it, `ambit calls resume` goes on with it and `ambit calls end` ends it",
            ),
            Self::Doubt(of, ordinal) => {
                let which = if of == call { "call" } else { "its rollback" };
                refuse(
                    Code::Doubt,
                    format!("nobody knows whether effect {ordinal} of {which} {of} happened"),
                    &format!("find out at the service, then `ambit calls resolve {of} --done` or `--not-done`"),
                )
            }
            Self::UnderWay {
                call: by, waits: true, ..
            } => refuse(
                Code::Undo,
                format!("call {call} is being undone: its rollback {by} waits for approvals"),
                "`ambit approvals list` prints what waits",
            ),
            Self::UnderWay { call: by, .. } => refuse(
                Code::Undo,
                format!("call {call} is being undone: its rollback {by} has not ended"),
                "wait until it has",
            ),
            Self::Undone(by) => refuse(
                Code::Undo,
                format!("call {call} was undone already, by {by}"),
                &format!("`ambit audit show {by}` says how"),
            ),
            Self::Half(by) => refuse(
                Code::Undo,
                format!(
                    "its rollback {by} undid some of call {call}, or may have, and did not end well: it is not run again"
                ),
                &format!("`ambit audit show {by}` prints what it did; look at the service, and do the rest by hand"),
            ),
            Self::Nothing => refuse(
                Code::Undo,
                format!("nothing to undo: no effect of call {call} changed anything"),
                "`ambit audit show` prints what it did",
            ),
        }
    }
}

/// The arguments of the function that undoes a call: each parameter from what was asked for or returned, as the undone function's
/// declaration was resolved when its component was read.
///
/// # Errors
/// The parameter that neither has.
pub fn arguments(undo: &manifest::Undo, args: &Json, result: &Json) -> Result<Json, String> {
    let mut members = Object::new();
    for (name, source) in &undo.params {
        let (from, place) = match source {
            manifest::Source::Argument => (args, "arguments"),
            manifest::Source::Result => (result, "result"),
        };
        match from.get(name) {
            Some(value) => members.insert(name.as_str(), value.clone()),
            // An optional argument was left out, and is again.
            None if *source == manifest::Source::Argument => continue,
            None => {
                return Err(format!(
                    "its recorded {place} has no `{name}`, which `{}` takes",
                    undo.function
                ));
            }
        };
    }
    Ok(members.into())
}
