//! How far a recorded call can be compared, and what is not as recorded.

use std::fmt;

use ambit_core::digest::Digest;
use ambit_core::error::{Code, Refusal};
use ambit_core::ledger::CallStory;
use ambit_core::ledger::body::{Asked, CallFinished, End, Part};
use ambit_core::ledger::story::Opening;
use serde::{Serialize, Serializer};

use super::refuse;
use crate::sandbox::Outcome;
use crate::transcript::{Divergence, Record, Unreadable};

/// Why a call got no further, where its own doing does not say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Its time was up.
    Time,
    /// An operator stopped it.
    Operator,
    /// Its caller took it back.
    TakenBack,
    /// The host ended before it did.
    HostEnd,
    /// It has no end yet: it runs, or the host ended and nobody went on with it.
    Open,
    /// It was paused before a change, under safe mode.
    Paused,
    /// An effect of it waits for people.
    Waits,
    /// A rule of the host ended it: when it was to go on it was no longer permitted, or the ledger took no more.
    Rule(Code),
}

impl By {
    /// In a word, for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Operator => "operator",
            Self::TakenBack => "cancelled",
            Self::HostEnd => "host-end",
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Waits => "waits",
            Self::Rule(code) => code.as_str(),
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time => f.write_str("its time was up"),
            Self::Operator => f.write_str("an operator stopped it"),
            Self::TakenBack => f.write_str("its caller took it back"),
            Self::HostEnd => f.write_str("the host ended"),
            Self::Open => f.write_str("no more is recorded: it has not ended"),
            Self::Paused => f.write_str("safe mode paused it"),
            Self::Waits => f.write_str("it waits for approvals"),
            Self::Rule(code) => write!(f, "it was ended by `{code}`"),
        }
    }
}

impl Serialize for By {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// How much of a call is a function of what was recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Extent<'s> {
    /// All of it: it ran to an end of its own, or to a limit that is the same every time.
    Whole(&'s CallFinished),
    /// Up to where something that it has no part in stopped it.
    UpTo(By, Option<&'s CallFinished>),
}

impl<'s> Extent<'s> {
    /// Of a call whose guest ran.
    ///
    /// # Errors
    /// Where none did.
    pub(crate) fn of(story: &'s CallStory) -> Result<(&'s Asked, Self), Refusal> {
        let Opening::Accepted(accepted) = &story.opening.what else {
            return Err(refuse("it was denied, so no guest ran"));
        };
        if story.letter().is_some() {
            return Err(refuse("it is an operator's retry of a dead letter, so no guest ran"));
        }
        if !story.ran_a_guest() {
            return Err(refuse("it is an operator's rollback by routes, so no guest ran"));
        }
        let Some(finished) = story.finished.as_ref().map(|finished| &finished.what) else {
            let by = match (story.waiting(), story.paused()) {
                (Some(_), _) => By::Waits,
                (None, Some(_)) => By::Paused,
                (None, None) if story.suspended().is_some() => By::HostEnd,
                (None, None) => By::Open,
            };
            return Ok((&accepted.asked, Self::UpTo(by, None)));
        };
        let by = match &finished.outcome {
            End::Interrupted => Some(By::HostEnd),
            // No guest ran to that end: what would have come of its call was decided without it.
            End::Refused(refused) if finished.fuel == 0 => {
                Some(from_outside(refused.code).unwrap_or(By::Rule(refused.code)))
            }
            End::Refused(refused) | End::Trapped(refused) => from_outside(refused.code),
            End::Ok(_) | End::ToolError(_) => None,
        };
        let extent = match by {
            Some(by) => Self::UpTo(by, Some(finished)),
            None => Self::Whole(finished),
        };
        Ok((&accepted.asked, extent))
    }

    /// Of a call that can be compared to its end.
    ///
    /// # Errors
    /// Where something stopped it before that.
    pub(crate) fn whole(story: &'s CallStory) -> Result<(&'s Asked, Self), Refusal> {
        match Self::of(story)? {
            (_, Self::UpTo(_, None)) => Err(refuse("it has not ended")),
            (_, Self::UpTo(by, _)) => Err(refuse(&format!("{by}, which the tool has no part in"))),
            whole => Ok(whole),
        }
    }

    /// Its end, where it has one.
    pub(super) const fn finished(&self) -> Option<&'s CallFinished> {
        match self {
            Self::Whole(finished) => Some(finished),
            Self::UpTo(_, finished) => *finished,
        }
    }

    /// What stopped it before its own end.
    pub(super) const fn stopped(&self) -> Option<By> {
        match self {
            Self::Whole(_) => None,
            Self::UpTo(by, _) => Some(*by),
        }
    }

    /// Whether it ended for asking for more effects than it may.
    pub(super) fn asked_too_often(&self) -> bool {
        let end = self.finished().map(|finished| &finished.outcome);
        matches!(end, Some(End::Refused(refused) | End::Trapped(refused)) if refused.code == Code::Effects)
    }

    /// Fuel as recorded; 0 where nobody counted it to the end.
    pub(super) fn fuel(&self) -> u64 {
        self.finished().map_or(0, |finished| finished.fuel)
    }

    /// How the log differs. That of a call that was stopped is the beginning of what is logged now.
    pub(super) fn log_difference(&self, recorded: &str, seen: &str) -> Option<Divergence> {
        match self {
            Self::UpTo(..) if seen.starts_with(recorded) => None,
            _ => log_difference(recorded, seen),
        }
    }

    /// How the fuel differs, on the same engine: of a call that was stopped, no less is used up to there.
    pub(super) fn fuel_difference(&self, same_engine: bool, seen: u64) -> Option<Divergence> {
        match self {
            Self::UpTo(..) if seen >= self.fuel() => None,
            _ => fuel_difference(same_engine, self.fuel(), seen),
        }
    }
}

/// What an end that does not follow from the guest's inputs came from.
const fn from_outside(code: Code) -> Option<By> {
    match code {
        Code::Time => Some(By::Time),
        Code::Killed => Some(By::Operator),
        Code::Cancelled => Some(By::TakenBack),
        Code::Suspended => Some(By::HostEnd),
        Code::Tool
        | Code::Function
        | Code::Config
        | Code::Ledger
        | Code::Diverged
        | Code::Policy
        | Code::Caller
        | Code::Run
        | Code::Stale => Some(By::Rule(code)),
        _ => None,
    }
}

/// How the call's end differs from the recorded one.
pub(super) fn end_difference(
    record: &Record<'_>,
    finished: &CallFinished,
    outcome: &Outcome,
) -> Result<Option<Divergence>, Unreadable> {
    if let Some(divergence) = another_end(&finished.outcome, outcome) {
        return Ok(Some(divergence));
    }
    let (Outcome::Ok(value) | Outcome::ToolError(value)) = outcome else {
        return Ok(None);
    };
    let recorded = Digest::of(record.json("result")?.to_canonical().as_bytes());
    let seen = Digest::of(value.to_canonical().as_bytes());
    let same = ambit_core::guard!("replay.result", recorded == seen);
    Ok((!same).then(|| divergence(Part::Result, recorded.to_string(), seen.to_string())))
}

fn another_end(recorded: &End, seen: &Outcome) -> Option<Divergence> {
    let (recorded, seen) = (word(recorded), seen_word(seen));
    let same = ambit_core::guard!("replay.end", recorded == seen);
    (!same).then(|| divergence(Part::End, recorded, seen))
}

fn word(end: &End) -> String {
    match end {
        End::Ok(_) => "ok".to_owned(),
        End::ToolError(_) => "tool-error".to_owned(),
        End::Refused(refused) | End::Trapped(refused) => refused.code.to_string(),
        End::Interrupted => "interrupted".to_owned(),
    }
}

fn seen_word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok(_) => "ok".to_owned(),
        Outcome::ToolError(_) => "tool-error".to_owned(),
        Outcome::Stopped(refusal) => refusal.code.to_string(),
    }
}

fn log_difference(recorded: &str, seen: &str) -> Option<Divergence> {
    let same = ambit_core::guard!("replay.log", recorded == seen);
    let digest = |text: &str| Digest::of(text.as_bytes()).to_string();
    (!same).then(|| divergence(Part::Log, digest(recorded), digest(seen)))
}

/// Fuel is a function of the inputs too, on the same engine.
fn fuel_difference(same_engine: bool, recorded: u64, seen: u64) -> Option<Divergence> {
    let same = ambit_core::guard!("replay.fuel", !same_engine || recorded == seen);
    (!same).then(|| divergence(Part::Fuel, recorded.to_string(), seen.to_string()))
}

/// A difference that is not in an effect.
pub(super) fn divergence(part: Part, recorded: String, seen: String) -> Divergence {
    Divergence {
        part,
        ordinal: None,
        what: part.as_str().to_owned(),
        recorded,
        seen,
    }
}

#[cfg(test)]
mod tests {
    use ambit_core::json::Json;
    use ambit_core::ledger::body::Refused;

    use super::*;

    #[test]
    fn an_end_is_as_it_was_by_its_kind() {
        let trapped = |code| {
            End::Trapped(Refused {
                code,
                detail: None,
                rule: None,
            })
        };
        let stopped = Outcome::Stopped(Refusal::new(Code::Fuel, "used up"));
        assert_eq!(another_end(&trapped(Code::Fuel), &stopped), None);
        assert!(another_end(&trapped(Code::Trap), &stopped).is_some());
        assert!(another_end(&trapped(Code::Trap), &Outcome::Ok(Json::Null)).is_some());
    }

    #[test]
    fn a_log_is_as_it_was() {
        assert_eq!(log_difference("info a\n", "info a\n"), None);
        assert!(log_difference("info a\n", "").is_some());
        let stopped = Extent::UpTo(By::Time, None);
        assert_eq!(stopped.log_difference("info a\n", "info a\ninfo b\n"), None);
        assert!(stopped.log_difference("info a\n", "info b\n").is_some());
    }

    #[test]
    fn fuel_is_the_same_on_the_same_engine() {
        assert_eq!(fuel_difference(true, 7, 7), None);
        assert!(fuel_difference(true, 7, 8).is_some());
        assert_eq!(fuel_difference(false, 7, 8), None);
    }
}
