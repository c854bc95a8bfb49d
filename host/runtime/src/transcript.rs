//! What a call's guest was given, read back to be given again.
//!
//! A guest's inputs are its arguments, the call's seed and clock, and the answers of its effects; all of them are recorded
//! with the intents and outcomes they belong to. Given the same again, in the same component under the same limits, it asks
//! for the same. Where it does not, that is a [`Divergence`], and nothing further happens.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use ambit_core::digest::Digest;
use ambit_core::effect::{GuestRequest, GuestResponse};
use ambit_core::error::{Code, Refusal};
use ambit_core::grant::{Limits, Narrowing};
use ambit_core::json::{self, Json};
use ambit_core::ledger::CallStory;
use ambit_core::ledger::body::{Asked, Doubt, Found, Outcome, Part};
use ambit_core::ledger::bundle::Opened;
use ambit_core::ledger::story::EffectStory;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sandbox::{GuestHttpError, Stop};
use crate::store::{Reader, StoreError};

/// The first thing that is not as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// What differs.
    #[serde(skip)]
    pub part: Part,
    /// The effect that does, where it is one.
    #[serde(skip)]
    pub ordinal: Option<u32>,
    /// What it is about: `effect 2`, `result`, `end`, `log`, `fuel`.
    pub what: String,
    /// What is recorded: a digest, or a word.
    pub recorded: String,
    /// What came now.
    pub seen: String,
}

impl Divergence {
    /// That ends the call.
    pub(crate) fn stop(&self) -> Stop {
        Refusal::new(Code::Diverged, self.to_string())
            .advise("the tool did not do again what it had done: its component or engine is not deterministic")
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what, recorded, seen, ..
        } = self;
        write!(f, "{what} is not as recorded: {recorded} then, {seen} now")
    }
}

/// Why a transcript cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The ledger or the keys.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value is gone, or not what it should be.
    #[error("the call cannot be run again: {0}")]
    Value(String),
    /// A value is another one than the ledger commits to.
    #[error("the call's record was tampered with: {0}")]
    Tampered(String),
}

impl Unreadable {
    pub(crate) fn value(why: impl Into<String>) -> Self {
        Self::Value(why.into())
    }
}

/// The values of one call, each held against the entry that commits to it.
pub(crate) struct Record<'r> {
    from: Kept<'r>,
    commitments: BTreeMap<String, Digest>,
}

/// Where the values are.
enum Kept<'r> {
    Ledger(&'r Reader, &'r str),
    /// They were held against their entries when the bundle was opened.
    Bundle(&'r BTreeMap<String, Vec<u8>>),
}

impl<'r> Record<'r> {
    /// What is stored beside the ledger.
    pub(crate) fn new(reader: &'r Reader, story: &'r CallStory) -> Self {
        Self {
            from: Kept::Ledger(reader, &story.call),
            commitments: story.commitments().into_iter().collect(),
        }
    }

    /// Some of what is stored beside the ledger, with what entries say of it.
    pub(crate) fn of_values(
        reader: &'r Reader,
        call: &'r str,
        commitments: impl IntoIterator<Item = (String, Digest)>,
    ) -> Self {
        Self {
            from: Kept::Ledger(reader, call),
            commitments: commitments.into_iter().collect(),
        }
    }

    /// What came in a bundle.
    pub(crate) fn of_bundle(opened: &'r Opened) -> Self {
        Self {
            from: Kept::Bundle(&opened.values),
            commitments: opened.story.commitments().into_iter().collect(),
        }
    }

    /// A value as text; none where the ledger knows of none of that name.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Unreadable> {
        let bytes = match self.from {
            Kept::Ledger(reader, call) => self.stored(reader, call, name)?,
            Kept::Bundle(values) => values.get(name).cloned(),
        };
        match bytes.map(String::from_utf8) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(Unreadable::value(format!("its value `{name}` is no text"))),
        }
    }

    /// A stored value, believed only where an entry commits to just this one.
    fn stored(&self, reader: &Reader, call: &str, name: &str) -> Result<Option<Vec<u8>>, Unreadable> {
        let wrong = |why: &str| Unreadable::Tampered(format!("its value `{name}` {why}"));
        match (self.commitments.get(name), reader.payload(call, name)?) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(gone(name)),
            (None, Some(_)) => Err(wrong("is stored, and no entry of the ledger commits to it")),
            (Some(commitment), Some(value)) => {
                if !ambit_core::guard!("replay.value", value.commitment() == *commitment) {
                    return Err(wrong("is not the one that the ledger commits to"));
                }
                Ok(Some(value.into_bytes()))
            }
        }
    }

    /// A value that has to be there, as JSON. Its size and depth were limited when it was stored.
    pub(crate) fn json(&self, name: &str) -> Result<Json, Unreadable> {
        let text = self.text(name)?.ok_or_else(|| gone(name))?;
        let limits = json::Limits {
            depth: usize::from(u16::MAX),
            bytes: usize::MAX,
        };
        Json::parse(&text, limits)
            .map_err(|error| Unreadable::value(format!("its value `{name}` is not JSON: {error}")))
    }

    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Unreadable> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| Unreadable::value(format!("its value `{name}` is not what it should be: {error}")))
    }
}

fn gone(name: &str) -> Unreadable {
    Unreadable::value(format!("its value `{name}` is gone"))
}

/// What a value that is not the ledger's means for whoever wanted to run its call again.
pub(crate) fn tampered(why: &Unreadable) -> Refusal {
    Refusal::new(Code::Ledger, why.to_string())
        .advise("keep the home as it is; `ambit audit verify` checks all that the ledger commits to")
}

/// What a guest's randomness and clock begin with, and what runs it: the value `start` of a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Start {
    /// Milliseconds since 1970.
    pub(crate) clock: u64,
    /// The engine: fuel is the same on the same one alone.
    pub(crate) engine: String,
    /// What the caller gave up.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) narrowing: Narrowing,
    /// 64 hexadecimal digits.
    pub(crate) seed: String,
}

fn is_default(narrowing: &Narrowing) -> bool {
    *narrowing == Narrowing::default()
}

impl Start {
    pub(crate) fn new(seed: &[u8; 32], clock_ms: u64, engine: &str, narrowing: &Narrowing) -> Self {
        Self {
            clock: clock_ms,
            engine: engine.to_owned(),
            narrowing: narrowing.clone(),
            seed: data_encoding::HEXLOWER.encode(seed),
        }
    }

    pub(crate) fn seed(&self) -> Result<[u8; 32], Unreadable> {
        let seed = data_encoding::HEXLOWER.decode(self.seed.as_bytes()).ok();
        seed.and_then(|seed| seed.try_into().ok())
            .ok_or_else(|| Unreadable::value("its seed is no seed"))
    }

    pub(crate) fn to_text(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}

/// The value `effect/N/answer`: all that the guest was told.
#[derive(Deserialize)]
struct Answer {
    clock: u64,
    answered: Option<GuestResponse>,
    refused: Option<Refusal>,
    failed: Option<String>,
    found: Option<Found>,
}

/// The value `effect/N/answer` of an effect that was in doubt when the host ended, and of which an operator said what became.
pub(crate) fn found_answer(clock_ms: u64, found: Found) -> Json {
    let members = [("clock", Json::from(clock_ms)), ("found", Json::from(found.as_str()))];
    Json::Object(members.into_iter().collect())
}

/// What a guest asked for, as recorded.
#[derive(Debug, Clone)]
pub(crate) struct AskedFor {
    pub(crate) ordinal: u32,
    pub(crate) label: Option<String>,
    /// Of the value `effect/N/asked`.
    digest: Digest,
}

impl AskedFor {
    /// What is recorded of an effect.
    pub(crate) fn read(record: &Record<'_>, ordinal: u32, label: Option<&str>) -> Result<Self, Unreadable> {
        let asked = record.json(&format!("effect/{ordinal}/asked"))?;
        Ok(Self {
            ordinal,
            label: label.map(str::to_owned),
            digest: Digest::of(asked.to_canonical().as_bytes()),
        })
    }

    /// That the guest asks for the same now.
    ///
    /// # Errors
    /// The [`Divergence`].
    pub(crate) fn check(&self, label: Option<&str>, request: &GuestRequest, limits: &Limits) -> Result<(), Divergence> {
        let seen = Digest::of(kept(request, limits).to_canonical().as_bytes());
        let same = self.label.as_deref() == label && self.digest == seen;
        if ambit_core::guard!("replay.effect", same) {
            return Ok(());
        }
        let told = |label: Option<&str>, digest: &Digest| format!("{digest} through `{}`", label.unwrap_or("nothing"));
        Err(Divergence {
            part: Part::Effect,
            ordinal: Some(self.ordinal),
            what: format!("effect {}", self.ordinal),
            recorded: told(self.label.as_deref(), &self.digest),
            seen: told(label, &seen),
        })
    }

    /// That the guest ended without asking for it.
    pub(crate) fn missing(&self) -> Divergence {
        Divergence {
            part: Part::Effect,
            ordinal: Some(self.ordinal),
            what: format!("effect {}", self.ordinal),
            recorded: self.digest.to_string(),
            seen: "the tool ended without it".to_owned(),
        }
    }
}

/// What is kept of a guest's request: all of it, or of one that is larger than any that could be sent its size and head.
pub(crate) fn kept(guest: &GuestRequest, limits: &Limits) -> Json {
    if guest.size() <= limits.wire().most() {
        return guest.to_json();
    }
    let head: String = guest.path.chars().take(256).collect();
    let members = [
        ("method", Json::from(guest.method.as_str())),
        ("path-begins", Json::from(head)),
        ("size", Json::from(guest.size() as u64)),
    ];
    Json::Object(members.into_iter().collect())
}

/// One effect of the guest's that has its answer.
#[derive(Debug, Clone)]
pub(crate) struct Recalled {
    pub(crate) asked: AskedFor,
    pub(crate) answer: Result<GuestResponse, GuestHttpError>,
    /// The call's clock when the guest went on.
    pub(crate) clock_ms: u64,
}

/// All that a guest was given.
pub(crate) struct Transcript {
    pub(crate) start: Start,
    pub(crate) answers: VecDeque<Recalled>,
    /// What it asked for last, where that is held.
    pub(crate) held: Option<AskedFor>,
    /// What it asked for last, where the host ended before anybody answered.
    pub(crate) unanswered: Option<AskedFor>,
    /// The call's clock then, after the host's own look-up for it.
    pub(crate) held_clock_ms: u64,
}

impl Transcript {
    /// Reads what is recorded of a call.
    ///
    /// # Errors
    /// [`Unreadable`] where a value is gone or cannot be read, or an effect has no answer because the host ended first.
    pub(crate) fn read(record: &Record<'_>, story: &CallStory) -> Result<Self, Unreadable> {
        Self::of(record, story, false)
    }

    /// Reads what is recorded of a call up to where it got: nobody goes on with it by that.
    ///
    /// # Errors
    /// [`Unreadable`] where a value is gone or cannot be read.
    pub(crate) fn so_far(record: &Record<'_>, story: &CallStory) -> Result<Self, Unreadable> {
        Self::of(record, story, true)
    }

    /// The last effect of the guest's that is recorded.
    pub(crate) fn last_ordinal(&self) -> Option<u32> {
        let last = self.held.as_ref().or(self.unanswered.as_ref());
        last.or(self.answers.back().map(|recalled| &recalled.asked))
            .map(|asked| asked.ordinal)
    }

    fn of(record: &Record<'_>, story: &CallStory, so_far: bool) -> Result<Self, Unreadable> {
        let start: Start = record.read("start")?.ok_or_else(|| gone("start"))?;
        let mut answers: VecDeque<Recalled> = VecDeque::new();
        let (mut held, mut last) = (None, None);
        let mut clock_ms = start.clock;
        for (ordinal, effect) in &story.effects {
            let (asked, label) = match effect {
                EffectStory::Held(told) => (told.what.asked, told.what.import.as_deref()),
                EffectStory::Refused(told) => (told.what.asked, told.what.import.as_deref()),
                EffectStory::Intended { intent, .. } => (intent.what.asked, intent.what.import.as_deref()),
            };
            let answer: Option<Answer> = record.read(&format!("effect/{ordinal}/answer"))?;
            clock_ms = answer.as_ref().map_or(clock_ms, |answer| answer.clock.max(clock_ms));
            if asked.is_none() {
                // The host's own, for the effect before it: only its time shows. That of one that is held, or of which nobody saw the end, shows
                // when it goes on.
                if held.is_none()
                    && last.is_none()
                    && let Some(last) = answers.back_mut()
                {
                    last.clock_ms = clock_ms;
                }
                continue;
            }
            let under_way = so_far && matches!(effect, EffectStory::Intended { outcome: None, .. });
            if unanswered(effect) || under_way {
                last = Some(AskedFor::read(record, *ordinal, label)?);
                continue;
            }
            last = None;
            let asked = AskedFor::read(record, *ordinal, label)?;
            if matches!(effect, EffectStory::Held(_)) {
                held = Some(asked);
                continue;
            }
            let refused: Option<Refusal> = record.read(&format!("effect/{ordinal}/refused"))?;
            answers.push_back(Recalled {
                asked,
                answer: given(answer, refused).ok_or_else(|| gone(&format!("effect/{ordinal}/answer")))?,
                clock_ms,
            });
        }
        Ok(Self {
            start,
            answers,
            held,
            unanswered: last,
            held_clock_ms: clock_ms,
        })
    }
}

/// Whether the host ended in it, and nobody answered it since: the guest asks again.
fn unanswered(effect: &EffectStory) -> bool {
    let EffectStory::Intended { outcome, resolved, .. } = effect else {
        return false;
    };
    let told = outcome.as_ref().and_then(|outcome| outcome.what.answer);
    let found = resolved.as_ref().and_then(|resolved| resolved.what.answer);
    let ended = outcome.as_ref().is_some_and(|outcome| match &outcome.what.outcome {
        Outcome::InDoubt(doubt) => *doubt == Doubt::Restart,
        Outcome::NotSent(refused) => refused.code == Code::Suspended,
        Outcome::Answered(_) => false,
    });
    ended && told.or(found).is_none()
}

/// What the guest is told of an effect that was in doubt.
fn found_out(found: Found) -> GuestHttpError {
    match found {
        Found::Done => GuestHttpError::Failed("completed-unseen: it was done, and its answer was not seen".to_owned()),
        Found::NotDone => GuestHttpError::Refused(Refusal::new(
            Code::NotDone,
            "the host ended while it was under way, and it was found not to be done",
        )),
    }
}

/// What the guest was told: the answer's word, or that of a refusal before the intent.
fn given(answer: Option<Answer>, refused: Option<Refusal>) -> Option<Result<GuestResponse, GuestHttpError>> {
    match answer {
        Some(Answer {
            answered: Some(response),
            ..
        }) => Some(Ok(response)),
        Some(Answer {
            refused: Some(refusal), ..
        }) => Some(Err(GuestHttpError::Refused(refusal))),
        Some(Answer { failed: Some(why), .. }) => Some(Err(GuestHttpError::Failed(why))),
        Some(Answer { found: Some(found), .. }) => Some(Err(found_out(found))),
        Some(_) => None,
        None => refused.map(|refusal| Err(GuestHttpError::Refused(refusal))),
    }
}

/// The limits that a call ran under.
///
/// # Errors
/// [`Unreadable`] where this version does not know one of them.
pub(crate) fn limits(asked: &Asked) -> Result<Limits, Unreadable> {
    let limits: serde_json::Map<_, _> = asked
        .limits
        .iter()
        .map(|(name, limit)| (name.to_owned(), limit.into()))
        .collect();
    serde_json::from_value(limits.into())
        .map_err(|error| Unreadable::value(format!("its limits are not known here: {error}")))
}
