//! A call once more, from what was recorded of it: offline, and compared.
//!
//! Nothing is decided here and nothing leaves: there is no policy, connection or gate in it. A call that ran to an end of its own is
//! compared to that end; one that was stopped from outside, by its time, an operator, its caller or the host's end, up to there.

mod compare;
mod recorded;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use ambit_core::digest::Digest;
use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Limits;
use ambit_core::ledger::body::{Asked, CallDiverged, Part};
use ambit_core::ledger::bundle::{Bundle, Opened, Proven, Salted};
use ambit_core::ledger::{CallStory, Checkpoint, LedgerError};
use serde::Serialize;

use crate::config::{self, Config};
use crate::home;
use crate::host::{self, OpenError};
use crate::sandbox::{Compiler, LoadedTool, Outcome, Sandbox};
use crate::store::{Keys, Reader, StoreError};
use crate::transcript::{self, Divergence, Record, Transcript, Unreadable};

pub use compare::By;
use compare::{Extent, divergence, end_difference};
use recorded::Recorded;

/// What a replay found.
#[derive(Debug, Clone, Serialize)]
pub struct Replayed {
    /// The call.
    pub call: String,
    /// The component that ran, then and now.
    pub tool: Digest,
    /// How many effects the guest asked for.
    pub effects: usize,
    /// Fuel as recorded.
    pub fuel_recorded: u64,
    /// Fuel used now.
    pub fuel_used: u64,
    /// Whether it is the same engine, so that fuel must be the same too.
    pub same_engine: bool,
    /// What stopped the call before its own end, and where: it is compared up to there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// The first difference; none where everything is as it was.
    pub diverged: Option<Divergence>,
}

/// How far a call got that was stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// What stopped it.
    pub by: By,
    /// The last effect that it had asked for by then.
    pub effect: Option<u32>,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.effect {
            Some(effect) => write!(f, "up to effect {effect}, where {}", self.by),
            None => write!(f, "from its beginning to where {}, before any effect", self.by),
        }
    }
}

/// A call of which nothing is left to compare.
#[derive(Debug, Clone, Serialize, thiserror::Error)]
#[error("the call cannot be replayed: its values were {erased}")]
pub struct Gone {
    /// The call.
    pub call: String,
    /// When, by which entry and why.
    pub erased: String,
    /// The values that are gone, by name: arguments, what was asked for and answered, the result.
    pub values: Vec<String>,
}

/// Why a call is not replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The home or its ledger.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Something that the call needs is not there, or is not what it was.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its values were erased.
    #[error(transparent)]
    Erased(#[from] Gone),
}

impl From<StoreError> for ReplayError {
    fn from(error: StoreError) -> ReplayError {
        ReplayError::Open(error.into())
    }
}

impl From<Unreadable> for ReplayError {
    fn from(error: Unreadable) -> ReplayError {
        match error {
            Unreadable::Store(error) => error.into(),
            Unreadable::Value(_) => ReplayError::Refused(Refusal::new(Code::Arguments, error.to_string())),
            Unreadable::Tampered(_) => ReplayError::Refused(transcript::tampered(&error)),
        }
    }
}

fn refuse(why: &str) -> Refusal {
    Refusal::new(Code::Arguments, format!("the call cannot be replayed: {why}"))
}

/// Replays calls of one home. It only reads, so a host may run on the home meanwhile.
pub struct Replayer {
    home: PathBuf,
    reader: Reader,
    sandbox: Sandbox,
    tools: BTreeMap<Digest, LoadedTool>,
}

impl Replayer {
    /// Opens a home for replaying.
    ///
    /// # Errors
    /// Where its configuration, keys or ledger cannot be read.
    pub fn open(home: &Path, compiler: Option<Compiler>) -> Result<Self, OpenError> {
        let config = Config::load(home)?;
        let keys = Keys::load(home)?;
        Ok(Self {
            home: home.to_owned(),
            reader: Reader::open(home)?.with_keys(&keys),
            sandbox: host::sandbox(&config, &keys, compiler)?,
            tools: BTreeMap::new(),
        })
    }

    /// The ledger that is replayed from.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Replays a call: to its end, or up to where something stopped it that it has no part in.
    ///
    /// # Errors
    /// Where no guest ran in it, as it was denied; [`ReplayError::Erased`] where its values were erased; [`Code::Tool`] where its component
    /// is gone; [`Code::Ledger`] where a value is not the one that the ledger commits to.
    pub fn replay(&mut self, call: &str) -> Result<Replayed, ReplayError> {
        let story = self.reader.story(call)?;
        let (asked, extent) = Extent::of(&story)?;
        self.not_erased(&story)?;
        let digest = story.tool.ok_or_else(|| refuse("it names no component"))?;
        self.load(&asked.tool, digest)?;
        let tool = self.tools.get(&digest).ok_or_else(|| refuse("its component is gone"))?;
        let record = Record::new(&self.reader, &story);
        let again = again(&self.sandbox, tool, &record, &story, (asked, extent))?;
        Ok(again.replayed(&story, digest))
    }

    /// What an entry says of a call that diverged; none where it did not. Digests in it cover the salt of the call's seed.
    ///
    /// # Errors
    /// Where the call's seed cannot be read any more.
    pub fn entry_of(&self, replayed: &Replayed) -> Result<Option<CallDiverged>, ReplayError> {
        let Some(diverged) = &replayed.diverged else {
            return Ok(None);
        };
        let start = self.reader.payload(&replayed.call, "start")?;
        let start = start.ok_or_else(|| refuse("its value `start` is gone"))?;
        let salted = |text: &str| Digest::domain("ambit/diverged/v1", &[start.salt(), text.as_bytes()]);
        Ok(Some(CallDiverged {
            call: replayed.call.clone(),
            engine: self.sandbox.engine_id().to_owned(),
            expected: salted(&diverged.recorded),
            ordinal: diverged.ordinal,
            part: diverged.part,
            seen: salted(&diverged.seen),
        }))
    }

    /// Runs a call that has ended in another component than it had: none where the recorded call cannot be run again at all.
    ///
    /// # Errors
    /// As [`replay`](Self::replay), but for the component.
    pub(crate) fn rerun(&self, story: &CallStory, tool: &LoadedTool) -> Result<Again, ReplayError> {
        let whole = Extent::whole(story)?;
        self.not_erased(story)
            .map_err(|gone| Refusal::new(Code::Arguments, gone.to_string()))?;
        again(&self.sandbox, tool, &Record::new(&self.reader, story), story, whole)
    }

    /// Loads a component as those of the home are loaded: in a child, under limits.
    pub(crate) fn load_component(&self, component: &[u8]) -> Result<LoadedTool, Refusal> {
        self.sandbox.load(component)
    }

    /// A call with all that running it again takes, as the text of a file: see [`ambit_core::ledger::bundle`]. Its values are plain text.
    ///
    /// # Errors
    /// As [`replay`](Self::replay); [`Code::Limit`] where it would be too long.
    pub fn bundle(&self, call: &str) -> Result<String, ReplayError> {
        let story = self.reader.story(call)?;
        let (asked, extent) = Extent::of(&story)?;
        if extent.finished().is_none() {
            return Err(refuse("it has not ended").into());
        }
        self.not_erased(&story)?;
        let digest = story.tool.ok_or_else(|| refuse("it names no component"))?;
        let component = home::read_component_of(&self.home, &asked.tool, &digest)?;
        let key = crate::store::verifier(&self.home)?;
        let checkpoint = self.reader.checkpoint()?;
        let size = Checkpoint::parse_verified(&checkpoint, &key)
            .map_err(StoreError::from)?
            .size();
        let entries = self.reader.entries_of(call)?.into_iter().map(|entry| {
            let proof = self.reader.inclusion(entry.index(), size)?;
            Ok(Proven { entry, proof })
        });
        let entries = entries.collect::<Result<_, StoreError>>()?;
        let mut values = BTreeMap::new();
        for (name, _) in story.commitments() {
            let value = self.reader.payload(call, &name)?;
            let value = value.ok_or_else(|| refuse(&format!("its value `{name}` is gone")))?;
            let salted = Salted {
                salt: *value.salt(),
                value: value.into_bytes(),
            };
            values.insert(name, salted);
        }
        let bundle = Bundle {
            call: call.to_owned(),
            checkpoint,
            component,
            entries,
            values,
        };
        let refused = |error: LedgerError| Refusal::new(Code::Ledger, error.to_string());
        let text = bundle.to_json().map_err(refused)?;
        // What its reader would refuse is not written: a stored value that is not the ledger's shows here.
        Bundle::open(&text, &key).map_err(refused)?;
        Ok(text)
    }

    /// That the call has its values still.
    fn not_erased(&self, story: &CallStory) -> Result<(), ReplayError> {
        match self.reader.erased(&story.call)? {
            Some(erased) => Err(Gone {
                call: story.call.clone(),
                erased: erased.to_string(),
                values: story.commitments().into_iter().map(|(name, _)| name).collect(),
            }
            .into()),
            None => Ok(()),
        }
    }

    /// Loads a component once.
    fn load(&mut self, name: &str, digest: Digest) -> Result<(), Refusal> {
        if !self.tools.contains_key(&digest) {
            let component = home::read_component_of(&self.home, name, &digest)?;
            self.tools.insert(digest, self.sandbox.load(&component)?);
        }
        Ok(())
    }
}

/// Replays the call of a bundle, of which everything was checked, without its home.
///
/// # Errors
/// As [`Replayer::replay`]; [`Code::Limit`] where the call was allowed more than anybody else's machine should give it.
pub fn replay_bundle(opened: &Opened, compiler: Option<Compiler>) -> Result<Replayed, ReplayError> {
    let (asked, extent) = Extent::of(&opened.story)?;
    let limits = transcript::limits(asked)?;
    // Another home's limits are another's choice: none beyond what any configuration here could say.
    if let Some(name) = config::limit_out_of_range(&limits)
        && !ambit_core::guard!("replay.bundle-limits", false)
    {
        let message = format!("the call of the bundle ran with a limit `{name}` that no home can set");
        return Err(Refusal::new(Code::Limit, message).into());
    }
    let sandbox = host::lone_sandbox(&limits, compiler)?;
    let tool = sandbox.load(&opened.component)?;
    let record = Record::of_bundle(opened);
    let again = again(&sandbox, &tool, &record, &opened.story, (asked, extent))?;
    Ok(again.replayed(&opened.story, Digest::of(&opened.component)))
}

/// A call that was run again, and what was not as recorded.
pub(crate) struct Again {
    /// The first other effect, end or result.
    pub(crate) behaviour: Option<Divergence>,
    log: Option<Divergence>,
    fuel: Option<Divergence>,
    effects: usize,
    pub(crate) fuel_recorded: u64,
    pub(crate) fuel_used: u64,
    same_engine: bool,
    stopped: Option<Stopped>,
}

impl Again {
    /// Whether the log alone is another one.
    pub(crate) fn logs_otherwise(&self) -> bool {
        self.behaviour.is_none() && self.log.is_some()
    }

    fn replayed(self, story: &CallStory, tool: Digest) -> Replayed {
        Replayed {
            call: story.call.clone(),
            tool,
            effects: self.effects,
            fuel_recorded: self.fuel_recorded,
            fuel_used: self.fuel_used,
            same_engine: self.same_engine,
            stopped: self.stopped,
            diverged: self.behaviour.or(self.log).or(self.fuel),
        }
    }
}

/// Runs a recorded call in a component, offline, and compares as far as `extent` goes.
fn again(
    sandbox: &Sandbox,
    tool: &LoadedTool,
    record: &Record<'_>,
    story: &CallStory,
    (asked, extent): (&Asked, Extent<'_>),
) -> Result<Again, ReplayError> {
    let args = record.json("args")?;
    let transcript = match extent {
        Extent::Whole(_) => Transcript::read(record, story)?,
        Extent::UpTo(..) => Transcript::so_far(record, story)?,
    };
    let ended_on = extent.finished().and_then(|finished| finished.engine.as_ref());
    let ended_on = ended_on.filter(|_| !ambit_core::guard!("replay.engine", false));
    let same_engine = ended_on.unwrap_or(&transcript.start.engine) == sandbox.engine_id();
    let limits = limits_again(transcript::limits(asked)?, &extent, same_engine);
    let count = transcript.answers.len();
    let last = transcript.last_ordinal();
    let next = story
        .effects
        .keys()
        .next_back()
        .map_or(1, |last| last.saturating_add(1));
    let effects = Recorded::new(transcript, tool.manifest(), &limits, &extent, next)?;
    let mut again = Again {
        behaviour: None,
        log: None,
        fuel: None,
        effects: count,
        fuel_recorded: extent.fuel(),
        fuel_used: 0,
        same_engine,
        stopped: extent.stopped().map(|by| Stopped { by, effect: last }),
    };
    let Ok(function) = tool.manifest().function(&asked.function) else {
        let none = "the component has none of that name".to_owned();
        again.behaviour = Some(divergence(Part::Function, asked.function.clone(), none));
        return Ok(again);
    };
    let ended = sandbox.run(tool, function, &args, &limits, Box::new(effects));
    let effects: Box<dyn Any> = ended.effects;
    let effects = *effects
        .downcast::<Recorded>()
        .map_err(|_| refuse("its record was lost in the sandbox"))?;
    again.fuel_used = ended.fuel_used;
    again.log = extent.log_difference(&record.text("log")?.unwrap_or_default(), &effects.log);
    again.fuel = extent.fuel_difference(same_engine, ended.fuel_used);
    let left_over = effects.left_over();
    again.behaviour = match (effects.diverged, left_over) {
        (Some(divergence), _) => Some(divergence),
        // That it takes longer here says nothing of the call.
        (None, left_over) if out_of_time(&ended.outcome) && (left_over.is_some() || extent.stopped().is_none()) => {
            return Err(refuse("running it again took longer than its time").into());
        }
        (None, Some(missing)) => Some(missing),
        (None, None) => match extent {
            Extent::Whole(finished) => end_difference(record, finished, &ended.outcome)?,
            Extent::UpTo(..) => None,
        },
    };
    Ok(again)
}

/// The limits that a call runs again under. One that was stopped from outside needs no more fuel than it had used by then, and a little.
fn limits_again(limits: Limits, extent: &Extent<'_>, same_engine: bool) -> Limits {
    const A_LITTLE: u64 = 1_000_000;
    let used = extent.fuel();
    if !same_engine || used == 0 || extent.stopped().is_none() {
        return limits;
    }
    Limits {
        fuel: limits.fuel.min(used.saturating_add(A_LITTLE)),
        ..limits
    }
}

fn out_of_time(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Stopped(refusal) if refusal.code == Code::Time)
}

impl fmt::Debug for Replayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replayer")
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}
