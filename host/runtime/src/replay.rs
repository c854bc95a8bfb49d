//! A call once more, from what was recorded of it: offline, and compared.
//!
//! Nothing is decided here and nothing leaves: there is no policy, connection or gate in it.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use ambit_core::digest::Digest;
use ambit_core::effect::{GuestRequest, GuestResponse};
use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Limits;
use ambit_core::ledger::body::{Asked, CallFinished, End};
use ambit_core::ledger::bundle::{Bundle, Opened, Proven, Salted};
use ambit_core::ledger::story::Opening;
use ambit_core::ledger::{CallStory, Checkpoint, LedgerError};
use ambit_core::manifest::Manifest;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Serialize;

use crate::config::{self, Config};
use crate::home;
use crate::host::{self, OpenError};
use crate::sandbox::{Compiler, Effects, GuestHttpError, LoadedTool, LogLevel, Outcome, Sandbox, Stop};
use crate::store::{Keys, Reader, StoreError};
use crate::transcript::{self, Divergence, Recalled, Record, Transcript, Unreadable};

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
    /// The first difference; none where everything is as it was.
    pub diverged: Option<Divergence>,
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

    /// Replays a call that has ended.
    ///
    /// # Errors
    /// Where the call was denied, has not ended, was ended from outside, or its values were erased; [`Code::Tool`] where its component is
    /// gone; [`Code::Ledger`] where a value is not the one that the ledger commits to.
    pub fn replay(&mut self, call: &str) -> Result<Replayed, ReplayError> {
        let story = self.reader.story(call)?;
        let (asked, _) = replayable(&story)?;
        self.not_erased(call)?;
        let digest = story.tool.ok_or_else(|| refuse("it names no component"))?;
        self.load(&asked.tool, digest)?;
        let tool = self.tools.get(&digest).ok_or_else(|| refuse("its component is gone"))?;
        let again = again(&self.sandbox, tool, &Record::new(&self.reader, &story), &story)?;
        Ok(again.replayed(&story, digest))
    }

    /// Runs a call that has ended in another component than it had: none where the recorded call cannot be run again at all.
    ///
    /// # Errors
    /// As [`replay`](Self::replay), but for the component.
    pub(crate) fn rerun(&self, story: &CallStory, tool: &LoadedTool) -> Result<Again, ReplayError> {
        replayable(story)?;
        self.not_erased(&story.call)?;
        again(&self.sandbox, tool, &Record::new(&self.reader, story), story)
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
        let (asked, _) = replayable(&story)?;
        self.not_erased(call)?;
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
    fn not_erased(&self, call: &str) -> Result<(), ReplayError> {
        match self.reader.erased(call)? {
            Some(erased) => Err(refuse(&format!("its values were {erased}")).into()),
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
    let (asked, _) = replayable(&opened.story)?;
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
    let again = again(&sandbox, &tool, &Record::of_bundle(opened), &opened.story)?;
    Ok(again.replayed(&opened.story, Digest::of(&opened.component)))
}

/// A call that was run again, and what was not as recorded.
pub(crate) struct Again {
    /// The first other effect, end or result.
    pub(crate) behaviour: Option<Divergence>,
    log: Option<Divergence>,
    effects: usize,
    pub(crate) fuel_recorded: u64,
    pub(crate) fuel_used: u64,
    same_engine: bool,
}

impl Again {
    /// Whether the log alone is another one.
    pub(crate) fn logs_otherwise(&self) -> bool {
        self.behaviour.is_none() && self.log.is_some()
    }

    fn replayed(self, story: &CallStory, tool: Digest) -> Replayed {
        let fuel = fuel_difference(self.same_engine, self.fuel_recorded, self.fuel_used);
        Replayed {
            call: story.call.clone(),
            tool,
            effects: self.effects,
            fuel_recorded: self.fuel_recorded,
            fuel_used: self.fuel_used,
            same_engine: self.same_engine,
            diverged: self.behaviour.or(self.log).or(fuel),
        }
    }
}

/// Runs a recorded call in a component, offline, and compares.
fn again(sandbox: &Sandbox, tool: &LoadedTool, record: &Record<'_>, story: &CallStory) -> Result<Again, ReplayError> {
    let (asked, finished) = replayable(story)?;
    let args = record.json("args")?;
    let limits = transcript::limits(asked)?;
    let transcript = Transcript::read(record, story)?;
    let same_engine = transcript.start.engine == sandbox.engine_id();
    let count = transcript.answers.len();
    let effects = Recorded::new(transcript, tool.manifest(), &limits, finished)?;
    let Ok(function) = tool.manifest().function(&asked.function) else {
        let gone = divergence(
            "function",
            asked.function.clone(),
            "the component has none of that name".to_owned(),
        );
        return Ok(Again {
            behaviour: Some(gone),
            log: None,
            effects: count,
            fuel_recorded: finished.fuel,
            fuel_used: 0,
            same_engine,
        });
    };
    let ended = sandbox.run(tool, function, &args, &limits, Box::new(effects));
    let effects: Box<dyn Any> = ended.effects;
    let effects = effects
        .downcast::<Recorded>()
        .map_err(|_| refuse("its record was lost in the sandbox"))?;
    let log = log_difference(&record.text("log")?.unwrap_or_default(), &effects.log);
    let behaviour = match effects.diverged {
        Some(divergence) => Some(divergence),
        None => effects
            .left_over()
            .or(end_difference(record, finished, &ended.outcome)?),
    };
    Ok(Again {
        behaviour,
        log,
        effects: count,
        fuel_recorded: finished.fuel,
        fuel_used: ended.fuel_used,
        same_engine,
    })
}

/// A call that ran to an end of its own, or to a limit that is the same every time.
fn replayable(story: &CallStory) -> Result<(&Asked, &CallFinished), Refusal> {
    let Opening::Accepted(accepted) = &story.opening.what else {
        return Err(refuse("it was denied, so no guest ran"));
    };
    if story.letter().is_some() {
        return Err(refuse("it is an operator's retry of a dead letter, so no guest ran"));
    }
    if !story.ran_a_guest() {
        return Err(refuse("it is an operator's rollback by routes, so no guest ran"));
    }
    let finished = &story.finished.as_ref().ok_or_else(|| refuse("it has not ended"))?.what;
    match &finished.outcome {
        End::Interrupted => Err(refuse("the host ended before it did")),
        End::Refused(refused) | End::Trapped(refused) if from_outside(refused.code) => Err(refuse(&format!(
            "it was ended by `{}`, which the tool has no part in",
            refused.code
        ))),
        _ => Ok((&accepted.asked, finished)),
    }
}

/// Ends that do not follow from the guest's inputs.
const fn from_outside(code: Code) -> bool {
    matches!(
        code,
        Code::Tool
            | Code::Function
            | Code::Config
            | Code::Time
            | Code::Ledger
            | Code::Diverged
            | Code::Policy
            | Code::Caller
            | Code::Run
            | Code::Stale
            | Code::Killed
    )
}

/// Answers a guest from what was recorded, and stops it at the first difference.
struct Recorded {
    answers: VecDeque<Recalled>,
    labels: BTreeMap<u32, String>,
    limits: Limits,
    clock_ms: u64,
    random: ChaCha20Rng,
    log: String,
    /// How the call ended for asking once more than it may, if it did.
    beyond: bool,
    diverged: Option<Divergence>,
}

impl Recorded {
    fn new(
        transcript: Transcript,
        manifest: &Manifest,
        limits: &Limits,
        finished: &CallFinished,
    ) -> Result<Self, Unreadable> {
        let labels = manifest
            .capabilities()
            .map(|import| (import.index, import.label.clone()))
            .collect();
        let beyond = matches!(
            &finished.outcome,
            End::Refused(refused) | End::Trapped(refused) if refused.code == Code::Effects
        );
        Ok(Self {
            random: ChaCha20Rng::from_seed(transcript.start.seed()?),
            clock_ms: transcript.start.clock,
            answers: transcript.answers,
            labels,
            limits: limits.clone(),
            log: String::new(),
            beyond,
            diverged: None,
        })
    }

    fn diverge(&mut self, divergence: Divergence) -> Stop {
        let stop = divergence.stop();
        self.diverged = Some(divergence);
        stop
    }

    /// An effect that the guest asked for then and not now.
    fn left_over(&self) -> Option<Divergence> {
        self.answers.front().map(|recalled| recalled.asked.missing())
    }
}

impl Effects for Recorded {
    fn http(&mut self, import: u32, request: GuestRequest) -> Result<Result<GuestResponse, GuestHttpError>, Stop> {
        let Some(recalled) = self.answers.pop_front() else {
            if self.beyond {
                return Err(Refusal::new(
                    Code::Effects,
                    "the call asked for more effects than it may",
                ));
            }
            let seen = Digest::of(transcript::kept(&request, &self.limits).to_canonical().as_bytes());
            return Err(self.diverge(Divergence {
                what: "an effect".to_owned(),
                recorded: "none".to_owned(),
                seen: seen.to_string(),
            }));
        };
        let label = self.labels.get(&import).map(String::as_str);
        if let Err(divergence) = recalled.asked.check(label, &request, &self.limits) {
            return Err(self.diverge(divergence));
        }
        self.clock_ms = recalled.clock_ms;
        match recalled.answer {
            // A dry run ended there.
            Err(GuestHttpError::Refused(refusal)) if refusal.code == Code::DryRun => Err(refusal),
            answer => Ok(answer),
        }
    }

    fn log(&mut self, level: LogLevel, message: &str) -> Result<(), Stop> {
        crate::effects::log_line(&mut self.log, level, message);
        Ok(())
    }

    fn progress(&mut self, _: u64, _: u64, _: &str) -> Result<(), Stop> {
        Ok(())
    }

    fn now(&mut self) -> Result<u64, Stop> {
        Ok(self.clock_ms)
    }

    fn random(&mut self, bytes: &mut [u8]) -> Result<(), Stop> {
        self.random.fill_bytes(bytes);
        Ok(())
    }
}

/// How the call's end differs from the recorded one.
fn end_difference(
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
    Ok((!same).then(|| divergence("result", recorded.to_string(), seen.to_string())))
}

fn another_end(recorded: &End, seen: &Outcome) -> Option<Divergence> {
    let (recorded, seen) = (word(recorded), seen_word(seen));
    let same = ambit_core::guard!("replay.end", recorded == seen);
    (!same).then(|| divergence("end", recorded, seen))
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
    (!same).then(|| divergence("log", digest(recorded), digest(seen)))
}

/// Fuel is a function of the inputs too, on the same engine.
fn fuel_difference(same_engine: bool, recorded: u64, seen: u64) -> Option<Divergence> {
    let same = ambit_core::guard!("replay.fuel", !same_engine || recorded == seen);
    (!same).then(|| divergence("fuel", recorded.to_string(), seen.to_string()))
}

fn divergence(what: &str, recorded: String, seen: String) -> Divergence {
    Divergence {
        what: what.to_owned(),
        recorded,
        seen,
    }
}

impl std::fmt::Debug for Replayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replayer")
            .field("home", &self.home)
            .finish_non_exhaustive()
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
    }

    #[test]
    fn fuel_is_the_same_on_the_same_engine() {
        assert_eq!(fuel_difference(true, 7, 7), None);
        assert!(fuel_difference(true, 7, 8).is_some());
        assert_eq!(fuel_difference(false, 7, 8), None);
    }
}
