//! The way of a call, from a request to a receipt.
//!
//! Each step consumes what the step before it made: a [`Grant`] is minted from a decision, the sandbox runs under a grant,
//! an effect leaves with the [`Durable`](crate::store::Durable) of its committed intent. Refusals take the same way out as
//! results: on the ledger, with a receipt.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use ambit_core::digest::Digest;
use ambit_core::error::{Code, Refusal};
use ambit_core::grant::{BoundImport, Grant, Limits, Narrowing, ToolIdentity};
use ambit_core::identity::Caller;
use ambit_core::json::Json;
use ambit_core::ledger::Principal;
use ambit_core::ledger::body::{
    Asked, CallAccepted, CallDenied, CallFinished, EffectChecked, End, Letter, Once, Reservation, Returned, Rollback,
    ShownBy, Stage,
};
use ambit_core::manifest::Function;
use ambit_core::money::Budget;
use ambit_core::policy::{CallFacts, Mode};
use ambit_core::run::{Run, RunError};
use ambit_core::stop::Subject;
use ambit_core::trace::Arrival;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cancel::Cancel;
use crate::clock::{clock, now_ms};
use crate::config::Config;
use crate::effects::{Beginning, CallEffects, Heading, Remains, no_room, refusal_json, refused};
pub use crate::effects::{Edited, FirstWrite, Held, Paused, Shown, Would};
use crate::guests::settled;
use crate::host::{Host, Shared, Tool};
use crate::ids::{CallId, TraceId};
use crate::offers::EndEntry;
use crate::places::Place;
use crate::random;
use crate::sandbox::{self, Effects, Ended};
use crate::store::{Batch, Entered, Payload, StoreError, place_one, unread};
use crate::suspend::begins_nothing;
use crate::transcript::Start;

/// What a caller asks for. Nothing in it is believed before it was checked.
#[derive(Debug, Clone)]
pub struct CallRequest {
    /// The tool's name in this home.
    pub tool: String,
    /// The function's id, or its last part where that is unique.
    pub function: String,
    /// Arguments as JSON text: one object with a member for each parameter.
    pub args: String,
    /// Who calls.
    pub agent: String,
    /// Whom the agent acts for.
    pub user: Option<String>,
    /// Whether effects may be committed: in a run, that of the run or a stricter one.
    pub mode: Mode,
    /// The run that the call is part of.
    pub run: Option<String>,
    /// The trace the call belongs to; a new one where there is none.
    pub trace: Option<TraceId>,
    /// What the caller gives up of what it could have.
    pub narrowing: Narrowing,
    /// Who is told how far the tool says it is.
    pub listener: Option<Listener>,
    /// How its caller takes it back.
    pub cancel: Option<Cancel>,
}

/// What a tool says of how far it is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Steps done.
    pub done: u64,
    /// Of so many; zero where the tool doesn't know.
    pub total: u64,
    /// The tool's words: not to be believed, and not to be shown as they are.
    pub message: &'a str,
}

/// Is told of a call's progress, on the call's thread: it must not wait for anything.
#[derive(Clone)]
pub struct Listener(Arc<dyn Fn(Progress<'_>) + Send + Sync>);

impl Listener {
    /// That does this with each report.
    #[must_use]
    pub fn new(told: impl Fn(Progress<'_>) + Send + Sync + 'static) -> Listener {
        Listener(Arc::new(told))
    }

    pub(crate) fn tell(&self, progress: Progress<'_>) {
        (self.0)(progress);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// What a caller gets back. Every call has a receipt, refused ones too: [`Host::receipt`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The call's id on the ledger.
    pub call: CallId,
    /// The trace it is recorded under.
    pub trace: TraceId,
    /// How it ended.
    pub outcome: Outcome,
    /// Effects that the guest asked for and the host refused, in order.
    pub refused_effects: Vec<Refusal>,
    /// Effects that were read back, in order, with what was seen: no value of what was read is in it.
    pub checked: Vec<EffectChecked>,
    /// Effects that people changed while they waited, in order.
    pub edited: Vec<Edited>,
    /// What it cost.
    pub cost: Cost,
    /// Where its end stands on the ledger, for whoever made it in this process; none of what has not ended.
    #[serde(skip)]
    pub end: Option<EndEntry>,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The function returned a value; null where it has no result.
    Ok(Json),
    /// The function returned its own error.
    ToolError(Json),
    /// A rule or a limit ended it, or the guest failed.
    Stopped(Refusal),
    /// It waits for approvals, and goes on with them: [`Host::resume`].
    Held(Box<Held>),
    /// An operator's safe mode keeps it from a change. It goes on once that is lifted: [`Host::resume`].
    Paused(Box<Paused>),
    /// It is a dry run, and ended at the first effect that would have changed something.
    FirstWrite(Box<FirstWrite>),
}

impl From<sandbox::Outcome> for Outcome {
    fn from(outcome: sandbox::Outcome) -> Outcome {
        match outcome {
            sandbox::Outcome::Ok(value) => Outcome::Ok(value),
            sandbox::Outcome::ToolError(value) => Outcome::ToolError(value),
            sandbox::Outcome::Stopped(refusal) => Outcome::Stopped(refusal),
        }
    }
}

/// What a call used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Fuel, in wasmtime's units.
    pub fuel: u64,
    /// Most memory the guest held at once, in bytes.
    pub memory_bytes: u64,
    /// Effects asked for, refused ones and the host's own included.
    pub effects: u32,
    /// The call's own time, waiting for services not counted, in milliseconds.
    pub ms: u64,
    /// Waiting for services, in milliseconds.
    pub upstream_ms: u64,
}

/// The host could not do its work: the call has no answer, and nothing left that is not recorded.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The ledger did not take an entry.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no randomness.
    #[error("the operating system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
    /// The sandbox gave back other effects than it was given, or what begins a call cannot be written.
    #[error("the call's record was lost")]
    Lost,
}

/// A request with its names, before anything about it is decided.
pub(crate) struct Asking {
    /// How it came, where an agent asked for it over a protocol.
    pub(crate) arrival: Option<Arrival>,
    pub(crate) started: Instant,
    pub(crate) heading: Heading,
    pub(crate) args: Payload,
    pub(crate) request: CallRequest,
    /// What the call may use.
    pub(crate) limits: Limits,
    /// The dead letter that an operator tries again by it.
    pub(crate) letter: Option<Letter>,
    /// The call that an operator has undone by it, and how.
    pub(crate) undoes: Option<Rollback>,
    /// How its caller showed over HTTP who it is.
    pub(crate) by: Option<ShownBy>,
    /// The word of its caller that it is made once for.
    pub(crate) once: Option<Once>,
    /// Who is told once it is on the ledger, before its guest runs.
    pub(crate) began: Option<Began>,
}

/// How a call comes to the host, beside what it asks for.
#[derive(Debug, Default)]
pub struct Coming {
    /// What its caller showed over HTTP.
    pub by: Option<ShownBy>,
    /// Over which protocol, and as part of which span of its caller's.
    pub arrival: Option<Arrival>,
    /// The word of its caller that it is made once for: [`Host::once`].
    pub once: Option<Once>,
    /// Who is told of it: it is durable then before its guest runs.
    pub began: Option<Began>,
}

/// Whose share of the places a call is of: who showed over HTTP who it is has others beside it.
fn sharing<'r>(request: &'r CallRequest, coming: &Coming) -> Option<&'r str> {
    coming.by.as_ref().map(|_| request.agent.as_str())
}

/// A place for a call, or why it has none, for [`Host::call_placed`].
#[derive(Debug)]
pub struct Placed {
    /// When the call came.
    came: Instant,
    place: Result<Place, Refusal>,
}

impl Placed {
    /// Whether there is a place. Where there is none, why not is all that is left to be written.
    #[must_use]
    pub const fn is_had(&self) -> bool {
        self.place.is_ok()
    }
}

/// Is told the id of a call that is permitted, once it is on the ledger and before its guest runs. It must not wait for anything.
pub struct Began(Box<dyn FnOnce(&CallId) + Send>);

impl Began {
    /// That does this.
    #[must_use]
    pub fn new(told: impl FnOnce(&CallId) + Send + 'static) -> Began {
        Began(Box::new(told))
    }
}

impl fmt::Debug for Began {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Began")
    }
}

/// Whether a call was made already for a word of its caller, or a run started for one of an operator's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// No.
    No,
    /// This one, for the same request.
    Same(String),
    /// This one, for another request.
    Other(String),
}

/// A call that everything permits, on the ledger or about to be.
pub(crate) struct Accepted<'h> {
    pub(crate) tool: &'h Tool,
    pub(crate) function: &'h Function,
    pub(crate) args: Json,
    pub(crate) beginning: Beginning,
    pub(crate) asked: Asked,
    pub(crate) reserved: Vec<Reservation>,
    pub(crate) started: Instant,
}

/// Why a call does not begin.
pub(crate) struct Denied {
    pub(crate) stage: Stage,
    pub(crate) refusal: Refusal,
    rules: Vec<String>,
    /// The budget that has no room.
    budget: Option<String>,
}

impl Denied {
    /// Where the caller is not the one that it has to be.
    pub(crate) const fn of_caller(refusal: Refusal) -> Denied {
        Denied::at_stage(Stage::Caller, refusal)
    }

    /// Where no policy was asked.
    pub(crate) const fn at_stage(stage: Stage, refusal: Refusal) -> Denied {
        Denied {
            stage,
            refusal,
            rules: Vec::new(),
            budget: None,
        }
    }
}

/// Gives a refusal the stage it belongs to.
trait At<T> {
    fn at(self, stage: Stage) -> Result<T, Denied>;
}

impl<T> At<T> for Result<T, Refusal> {
    fn at(self, stage: Stage) -> Result<T, Denied> {
        self.map_err(|refusal| Denied::at_stage(stage, refusal))
    }
}

impl Host {
    /// Makes one call, on this thread, which must be one that may block and not a thread of an asynchronous runtime.
    ///
    /// # Errors
    /// A [`Fault`] where the host cannot do its work. A refusal is an [`Answer`].
    pub fn call(&self, request: CallRequest) -> Result<Answer, Fault> {
        self.call_shown(request, None)
    }

    /// The same, for a caller who showed over HTTP who it is: what it showed is on the ledger with the call, and a key is looked at once
    /// more, now and whenever the call goes on.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn call_shown(&self, request: CallRequest, by: Option<ShownBy>) -> Result<Answer, Fault> {
        self.call_coming(
            request,
            Coming {
                by,
                ..Coming::default()
            },
        )
    }

    /// The same, for one that is made once for a word of its caller, or of which somebody is told before it is over.
    ///
    /// # Errors
    /// As [`Host::call`]; [`StoreError::Repeated`] where another call was made for the word: nothing was done.
    pub fn call_coming(&self, request: CallRequest, coming: Coming) -> Result<Answer, Fault> {
        let came = Instant::now();
        let place = self
            .shared
            .places()
            .take(sharing(&request, &coming), request.cancel.as_ref());
        self.call_placed(request, coming, &Placed { came, place })
    }

    /// A place for a call, where one can be had without waiting.
    #[must_use]
    pub fn place_now(&self, request: &CallRequest, coming: &Coming) -> Option<Placed> {
        let came = Instant::now();
        let place = Ok(self.shared.places().now(sharing(request, coming))?);
        Some(Placed { came, place })
    }

    /// A place for a call, waited for without a thread: no longer than a call may wait, and until it is taken back or the host ends. That it
    /// got none is an answer too, which [`Host::call_placed`] gives.
    pub fn place_for(&self, request: &CallRequest, coming: &Coming) -> impl Future<Output = Placed> + Send + use<> {
        let came = Instant::now();
        let places = Arc::clone(self.shared.places());
        let agent = sharing(request, coming).map(str::to_owned);
        let (cancel, ends) = (request.cancel.clone(), self.ends());
        async move {
            let place = tokio::select! {
                biased;
                place = places.wait(agent.as_deref(), cancel.as_ref()) => place,
                () = ends => Err(begins_nothing()),
            };
            Placed { came, place }
        }
    }

    /// The same as [`Host::call_coming`], with the place that was waited for. Whoever waits for that has it once the caller lets go of it.
    ///
    /// # Errors
    /// As [`Host::call_coming`].
    pub fn call_placed(&self, request: CallRequest, coming: Coming, placed: &Placed) -> Result<Answer, Fault> {
        let Placed { came, place } = placed;
        // It begins now, whatever its door was made by and however long it waited: from here on to its end it is this reading.
        let host = if ambit_core::guard!("reload.begins", false) {
            self.clone()
        } else {
            self.current()
        };
        let mut asking = host.ask(request)?;
        let Coming {
            by,
            arrival,
            once,
            began,
        } = coming;
        (asking.by, asking.once, asking.began) = (by, once, began);
        asking.started = *came;
        asking.arrival = arrival;
        asking.heading.sampled = host.records(arrival);
        let _alone = host.shared.alone(asking.heading.call.as_str());
        if let Err(refusal) = place {
            return host.deny(asking, Denied::at_stage(Stage::Grant, refusal.clone()));
        }
        match host.decide(&asking) {
            Ok(decided) => match host.accept(asking, decided)? {
                Ok(accepted) => host.run(accepted),
                Err((asking, denied)) => host.deny(asking, denied),
            },
            Err(denied) => host.deny(asking, denied),
        }
    }

    /// Writes down a call that does not begin as what its caller showed leaves it out, where that is found before it is made.
    ///
    /// # Errors
    /// As [`Host::call`].
    pub fn refuse_left_out(&self, request: CallRequest, coming: Coming, refusal: Refusal) -> Result<Answer, Fault> {
        let mut asking = self.ask(request)?;
        let Coming { by, arrival, .. } = coming;
        asking.by = by;
        asking.arrival = arrival;
        asking.heading.sampled = self.records(arrival);
        self.deny(asking, Denied::at_stage(Stage::Grant, refusal))
    }

    /// What stands on the ledger for a word of a caller, and for what is asked for under it.
    ///
    /// Who shows a token of a run is that run's, and of its callers the one that it leaves so much (`of_run`): its words are no other's,
    /// neither of another run nor of who it was narrowed for. Another token that leaves the same is the same
    /// caller; where money is capped, that is what came of the token that caps it.
    #[must_use]
    pub fn once(&self, principal: &Principal, of_run: Option<(&str, &Narrowing)>, word: &str, request: &[u8]) -> Once {
        let user = principal.user.as_deref().unwrap_or_default();
        let who: [&[u8]; 3] = [principal.tenant.as_bytes(), principal.agent.as_bytes(), user.as_bytes()];
        let key = match of_run {
            Some((run, narrowing)) if !ambit_core::guard!("call.once-run", false) => {
                let left = json!(narrowing).to_string();
                let of_run = [run.as_bytes(), left.as_bytes(), word.as_bytes()];
                Digest::domain("ambit/run-word/v1", &[&who[..], &of_run[..]].concat())
            }
            _ => Digest::domain("ambit/word/v1", &[&who[..], &[word.as_bytes()]].concat()),
        };
        self.marked(&key, &Digest::domain("ambit/word-request/v1", &[request]))
    }

    /// The same for a word of an operator over HTTP, by the name that stands on the ledger.
    #[must_use]
    pub fn once_of_operator(&self, name: &str, word: &str, request: &[u8]) -> Once {
        let key = Digest::domain("ambit/operator-word/v1", &[name.as_bytes(), word.as_bytes()]);
        self.marked(&key, &Digest::domain("ambit/operator-word-request/v1", &[request]))
    }

    fn marked(&self, key: &Digest, request: &Digest) -> Once {
        let words = &self.shared.words;
        Once {
            key: words.mark(key),
            request: words.mark(request),
        }
    }

    /// Whether a call was made already for a word of its caller, or a run started for one of an operator's: its id.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub fn known(&self, once: &Once) -> Result<Known, StoreError> {
        Ok(match self.reader()?.once(&once.key)? {
            None => Known::No,
            Some((request, call)) if ambit_core::guard!("call.once-same", request == once.request) => Known::Same(call),
            Some((_, call)) => Known::Other(call),
        })
    }

    /// Names the call.
    pub(crate) fn ask(&self, request: CallRequest) -> Result<Asking, Fault> {
        let started = Instant::now();
        let call = CallId::new()?;
        let trace = match &request.trace {
            Some(trace) => trace.clone(),
            None => TraceId::random()?,
        };
        // The ledger keeps what was asked as far as a call may ask: an oversized text is refused below, and kept by its head.
        let limits = self.limits_of(&request.tool).clone();
        let most = usize::try_from(limits.args_bytes).unwrap_or(usize::MAX);
        let kept = request.args.as_bytes().get(..most).unwrap_or(request.args.as_bytes());
        let args = Payload::new(call.as_str(), "args", kept.to_vec())?;
        let heading = Heading {
            call,
            trace,
            principal: None,
            tool: None,
            run: None,
            sampled: self.records(None),
            policy: self.shared.policy.digest(),
            config: self.shared.config.digest(),
        };
        Ok(Asking {
            arrival: None,
            started,
            heading,
            args,
            request,
            limits,
            letter: None,
            undoes: None,
            by: None,
            once: None,
            began: None,
        })
    }

    /// Whether the trace of a call is recorded: by its caller, or here.
    pub(crate) fn records(&self, arrival: Option<Arrival>) -> bool {
        let by_caller = arrival.and_then(|arrival| arrival.parent);
        let here = self.shared.config.telemetry().is_some_and(|telemetry| telemetry.traces);
        here || by_caller.is_some_and(|parent| parent.sampled)
    }

    /// The limits of a tool's calls, or of the home where it has none of its own.
    fn limits_of(&self, tool: &str) -> &Limits {
        let config = &self.shared.config;
        config.tool(tool).map_or(config.limits(), |tool| &tool.limits)
    }

    /// Caller, run, tool, stops, function, arguments, policy, grant: in this order, and the first that fails is the answer.
    pub(crate) fn decide(&self, asking: &Asking) -> Result<Decided<'_>, Denied> {
        let request = &asking.request;
        let shared = &self.shared;
        let caller = shared
            .directory
            .caller(&request.agent, request.user.as_deref())
            .at(Stage::Caller)?;
        self.check_shown(asking.by.as_ref(), &caller).at(Stage::Caller)?;
        let run = self.run_for(request, &caller).at(Stage::Run)?;
        let (name, tool) = shared
            .tools
            .get_key_value(&request.tool)
            .ok_or_else(|| no_tool(shared, &request.tool))
            .at(Stage::Tool)?;
        let subject = subject(&shared.config, &caller, name, run.as_ref());
        let began_ms = clock();
        let board = shared.store.board();
        let entered = board
            .enter(asking.heading.call.as_str(), subject, began_ms)
            .at(Stage::Stopped)?;
        if let Some(cancel) = &request.cancel {
            cancel.attach(entered.running()).at(Stage::Stopped)?;
        }
        let function = tool.loaded.manifest().function(&request.function).at(Stage::Function)?;
        let limits = &asking.limits;
        let args = arguments(&request.args, limits).at(Stage::Arguments)?;
        let decision = shared.policy.decide_call(&CallFacts {
            caller: &caller,
            run: run.as_ref().map(Run::id),
            mode: request.mode,
            tool: name,
            tool_digest: tool.digest,
            function: &function.id,
        });
        let rules = decision.rules().to_vec();
        if let Some(refusal) = decision.refusal() {
            return Err(Denied {
                stage: Stage::Policy,
                refusal,
                rules,
                budget: None,
            });
        }
        let imports = bound_imports(shared, name, tool);
        let identity = ToolIdentity::new(name, tool.digest);
        let grant = Grant::mint(
            &decision,
            caller,
            identity,
            function,
            imports,
            request.narrowing.clone(),
            limits.clone(),
        )
        .at(Stage::Grant)?;
        Ok(Decided {
            tool,
            function,
            args,
            grant,
            run,
            rules,
            entered,
        })
    }

    /// The run that a call names, where the call may be part of it now. Asked again in the transaction of each entry.
    fn run_for(&self, request: &CallRequest, caller: &Caller) -> Result<Option<Run>, Refusal> {
        let Some(id) = &request.run else {
            // What nobody counts would bound nothing, silently.
            if !ambit_core::guard!("token.money-run", request.narrowing.money.is_empty()) {
                return Err(Refusal::new(
                    Code::Run,
                    "the money that the caller kept is counted in a run, and the call is part of none",
                ));
            }
            return Ok(None);
        };
        let run = self
            .known_run(id)
            .map_err(unread)?
            .ok_or_else(|| RunError::Unknown.refusal(id))?;
        run.admits_call(&Principal::from(caller), request.mode, now_ms())
            .map_err(|why| why.refusal(id))?;
        Ok(Some(run))
    }

    /// A run as it is now; none where there is none of that id.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub fn known_run(&self, id: &str) -> Result<Option<Run>, StoreError> {
        self.reader()?.run(id)
    }

    /// Makes the record that the call begins with. Where it is part of a run, a budget counts calls or fuel, it is made once for a word
    /// of its caller, or somebody is told of it, it is durable before the guest runs, else it goes with the first intent or the end.
    pub(crate) fn accept<'h>(
        &self,
        mut asking: Asking,
        decided: Decided<'h>,
    ) -> Result<Result<Accepted<'h>, (Asking, Denied)>, Fault> {
        let Decided {
            tool,
            function,
            args,
            grant,
            run,
            rules,
            entered,
        } = decided;
        let mut heading = asking.heading.clone();
        heading.principal = Some(Principal::from(grant.caller()));
        heading.tool = Some(tool.digest);
        heading.run = run.as_ref().map(|run| run.id().to_owned());
        let mut seed = [0_u8; 32];
        random::fill(&mut seed)?;
        let clock_ms = clock();
        let start = Payload::new(
            heading.call.as_str(),
            "start",
            Start::new(
                &seed,
                clock_ms,
                self.shared.sandbox.engine_id(),
                &asking.request.narrowing,
            )
            .to_text()
            .map_err(|_| Fault::Lost)?,
        )?;
        let asked = Asked {
            args: asking.args.commitment(),
            function: function.id.clone(),
            limits: grant.limits().into(),
            mode: asking.request.mode,
            tier: function.declared.tier,
            tool: asking.request.tool.clone(),
        };
        let run_budgets = own_budgets(run.as_ref(), &grant);
        let budgets = self.shared.config.budgets().iter().chain(&run_budgets);
        let mut reserved = call_reservations(budgets, &grant, &heading);
        let entry = heading.entry(CallAccepted {
            arrival: asking.arrival,
            asked: asked.clone(),
            by: asking.by.clone(),
            letter: asking.letter.clone(),
            once: asking.once,
            reserved: reserved.clone(),
            rules,
            run: heading.run.clone(),
            seed: start.commitment(),
            undoes: asking.undoes.clone(),
        });
        let mut pending = Batch {
            entries: vec![entry],
            payloads: vec![asking.args.clone(), start],
            ..Batch::default()
        };
        let early = asking.once.is_some() || asking.began.is_some();
        if early || run.is_some() || !reserved.is_empty() {
            match self.shared.store.commit(std::mem::take(&mut pending)) {
                Ok(committed) => reserved.iter_mut().for_each(|one| place_one(one, committed.time_ms)),
                Err(ref error @ StoreError::Budget { ref name, .. }) => {
                    let denied = Denied {
                        budget: Some(name.clone()),
                        ..Denied::at_stage(Stage::Budget, no_room(name, error))
                    };
                    return Ok(Err((asking, denied)));
                }
                // It ended since it was looked at.
                Err(StoreError::Run { run, why }) => {
                    return Ok(Err((asking, Denied::at_stage(Stage::Run, why.refusal(&run)))));
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(Began(tell)) = asking.began.take() {
            tell(&heading.call);
        }
        let mode = asking.request.mode;
        let random = ChaCha20Rng::from_seed(seed);
        let beginning = Beginning {
            entered,
            grant,
            heading,
            run_budgets,
            mode,
            pending,
            clock_ms,
            random,
            listener: asking.request.listener,
            resumption: None,
        };
        Ok(Ok(Accepted {
            tool,
            function,
            args,
            beginning,
            asked,
            reserved,
            started: asking.started,
        }))
    }

    /// Runs the guest under its grant, then writes down how it ended.
    pub(crate) fn run(&self, accepted: Accepted<'_>) -> Result<Answer, Fault> {
        let heading = &accepted.beginning.heading;
        // A call that goes on may be one that undoes another: its first entry says so.
        let undoes = match accepted.beginning.resumption {
            Some(_) => self.reader()?.story(heading.call.as_str())?.undoes().cloned(),
            None => None,
        };
        self.run_to_undo(accepted, undoes)
    }

    /// The same for a guest that undoes another call.
    pub(crate) fn run_to_undo(&self, accepted: Accepted<'_>, undoes: Option<Rollback>) -> Result<Answer, Fault> {
        let Accepted {
            tool,
            function,
            args,
            beginning,
            asked,
            reserved,
            started,
        } = accepted;
        let limits = beginning.grant.limits().clone();
        let guest = self.guest_begins(&beginning, &reserved)?;
        let effects: Box<dyn Effects> = Box::new(CallEffects::new(Arc::clone(&self.shared), beginning));
        let ended = self.shared.sandbox.run(&tool.loaded, function, &args, &limits, effects);
        let Ended {
            outcome,
            fuel_used,
            peak_memory,
            effects,
            spent,
            ..
        } = ended;
        let effects: Box<dyn Any> = effects;
        let mut effects = effects.downcast::<CallEffects>().map_err(|_| Fault::Lost)?;
        if let Some(refusal) = effects.stopped_while_held() {
            self.guest_ended(&guest, fuel_used)?;
            return Ok(effects.into_still_held(refusal, started));
        }
        if let sandbox::Outcome::Stopped(refusal) = &outcome
            && refusal.code == Code::Suspended
        {
            return self.suspended(&guest, *effects, refusal, fuel_used, started);
        }
        let left_over = effects.left_over()?;
        let mut remains = effects.into_remains();
        remains.spent = Some(spent);
        if let Some(fault) = remains.fault.take() {
            return Err(fault.into());
        }
        let total = started.elapsed();
        let cost = Cost {
            fuel: fuel_used,
            memory_bytes: peak_memory,
            effects: remains.effects,
            ms: millis(total.saturating_sub(remains.upstream)),
            upstream_ms: millis(remains.upstream),
        };
        if let Some(first) = remains.first_write.take() {
            let outcome = Outcome::FirstWrite(Box::new(first));
            return self.finish(remains, outcome, (asked, undoes), reserved, cost);
        }
        let held = remains.held.take().map(|held| Outcome::Held(Box::new(held)));
        let paused = remains.paused.take().map(|paused| Outcome::Paused(Box::new(paused)));
        if let Some(outcome) = held.or(paused) {
            self.guest_ended(&guest, fuel_used)?;
            return Ok(Answer {
                call: remains.heading.call,
                trace: remains.heading.trace,
                outcome,
                refused_effects: remains.refusals,
                checked: remains.tally.checks().to_vec(),
                edited: Vec::new(),
                cost,
                end: None,
            });
        }
        let outcome = match (outcome, left_over) {
            (sandbox::Outcome::Ok(_) | sandbox::Outcome::ToolError(_), Some(divergence)) => {
                Outcome::Stopped(divergence.stop())
            }
            (outcome, _) => outcome.into(),
        };
        self.finish(remains, outcome, (asked, undoes), reserved, cost)
    }

    /// The last entry: with it the call's result is durable, and then it is given out. It says what was asked for, and what that undoes,
    /// as the call's first entry does.
    pub(crate) fn finish(
        &self,
        mut remains: Remains,
        outcome: Outcome,
        (asked, undoes): (Asked, Option<Rollback>),
        reserved: Vec<Reservation>,
        cost: Cost,
    ) -> Result<Answer, Fault> {
        let call = remains.heading.call.as_str().to_owned();
        let mut keep = |name: &str, bytes: Vec<u8>| -> Result<Digest, StoreError> {
            let payload = Payload::new(call.as_str(), name, bytes)?;
            let commitment = payload.commitment();
            remains.pending.payloads.push(payload);
            Ok(commitment)
        };
        let end = match &outcome {
            Outcome::Ok(value) => End::Ok(Returned {
                result: keep("result", value.to_canonical().into_bytes())?,
            }),
            Outcome::ToolError(value) => End::ToolError(Returned {
                result: keep("result", value.to_canonical().into_bytes())?,
            }),
            // A call that waits has not ended.
            Outcome::Held(_) | Outcome::Paused(_) => return Err(Fault::Lost),
            Outcome::FirstWrite(first) => {
                let refusal = &first.refusal;
                let detail = keep("refused", refusal_json(refusal).to_canonical().into_bytes())?;
                End::Refused(refused(refusal, Some(detail)))
            }
            Outcome::Stopped(refusal) => {
                let detail = keep("refused", refusal_json(refusal).to_canonical().into_bytes())?;
                let refused = refused(refusal, Some(detail));
                if is_the_guests(refusal.code) {
                    End::Trapped(refused)
                } else {
                    End::Refused(refused)
                }
            }
        };
        let log = match std::mem::take(&mut remains.log) {
            log if log.is_empty() => None,
            log => Some(keep("log", log.into_bytes())?),
        };
        // Each guest of a call that waited was computed anew.
        let fuel = remains.used_before.map(|before| before.saturating_add(cost.fuel));
        let settled = reserved.into_iter().map(|reservation| settled(reservation, fuel));
        let entry = remains.heading.entry(CallFinished {
            asked,
            checked: remains.tally.checks().to_vec(),
            edited: remains.tally.edited(),
            effects: remains.tally.counts(),
            engine: another_engine(remains.began_on.as_deref(), self.shared.sandbox.engine_id(), &cost),
            fuel: cost.fuel,
            log,
            memory: cost.memory_bytes,
            ms: cost.ms,
            outcome: end,
            settled: settled.collect(),
            spent: remains.tally.spent(),
            undoes,
            upstream: cost.upstream_ms,
        });
        remains.pending.entries.push(entry);
        let spent = remains.spent.take();
        let committed = self.shared.store.commit_while(remains.pending, || drop(spent))?;
        let Heading { call, trace, .. } = remains.heading;
        Ok(Answer {
            call,
            trace,
            outcome,
            refused_effects: remains.refusals,
            checked: remains.tally.checks().to_vec(),
            edited: Vec::new(),
            cost,
            end: EndEntry::of(&committed),
        })
    }

    /// Writes down that a call does not begin.
    pub(crate) fn deny(&self, asking: Asking, denied: Denied) -> Result<Answer, Fault> {
        let Asking {
            arrival,
            heading,
            args,
            request,
            undoes,
            by,
            once,
            ..
        } = asking;
        let Denied {
            stage,
            refusal,
            rules,
            budget,
        } = denied;
        let once = match once {
            Some(once) if passes(stage) && !ambit_core::guard!("call.once-passes", false) => {
                // Nothing was done for the word, and it may be said again; unless it was said at the same time, and that did something.
                if let Some((_, call)) = self.reader()?.once(&once.key)? {
                    return Err(StoreError::Repeated { call }.into());
                }
                None
            }
            once => once,
        };
        let caller = self
            .shared
            .directory
            .caller(&request.agent, request.user.as_deref())
            .ok();
        let tool = self.shared.tools.get(&request.tool);
        let function = tool.and_then(|tool| tool.loaded.manifest().function(&request.function).ok());
        // A run that is none has no name on the ledger: it would be the caller's words.
        let known = |id: &String| self.known_run(id).map(|run| run.map(|_| id.clone()));
        let run = request.run.as_ref().map(known).transpose()?.flatten();
        let detail = Payload::new(
            heading.call.as_str(),
            "denied",
            refusal_json(&refusal).to_canonical().into_bytes(),
        )?;
        let heading = Heading {
            principal: caller.as_ref().map(Principal::from),
            tool: tool.map(|tool| tool.digest),
            ..heading
        };
        let entry = heading.entry(CallDenied {
            args: Some(args.commitment()),
            arrival,
            budget,
            by,
            function: function.map(|function| function.id.clone()),
            mode: Some(request.mode),
            once,
            refused: refused(&refusal, Some(detail.commitment())),
            rules,
            run,
            stage,
            tool: tool.map(|_| request.tool.clone()),
            undoes,
        });
        let committed = self.shared.store.commit(Batch {
            entries: vec![entry],
            payloads: vec![args, detail],
            ..Batch::default()
        })?;
        let Heading { call, trace, .. } = heading;
        let outcome = Outcome::Stopped(refusal);
        Ok(Answer {
            call,
            trace,
            outcome,
            refused_effects: Vec::new(),
            checked: Vec::new(),
            edited: Vec::new(),
            cost: Cost::default(),
            end: EndEntry::of(&committed),
        })
    }

    /// The proof of how a call ended, against the newest checkpoint: a file to keep, verifiable offline.
    ///
    /// # Errors
    /// Where the call has not ended, or the ledger cannot be read.
    pub fn receipt(&self, call: &CallId) -> Result<String, StoreError> {
        let receipt = self.reader()?.receipt(call.as_str(), self.shared.store.verifier())?;
        Ok(receipt.to_json()?)
    }
}

/// Whether what refuses a call here may be gone when it is asked for again: a key, a stop, a budget, a place, what its credentials leave.
const fn passes(stage: Stage) -> bool {
    matches!(stage, Stage::Caller | Stage::Stopped | Stage::Budget | Stage::Grant)
}

/// What is known once a call is permitted.
pub(crate) struct Decided<'h> {
    pub(crate) tool: &'h Tool,
    pub(crate) function: &'h Function,
    pub(crate) args: Json,
    pub(crate) grant: Grant,
    /// The run that the call is part of.
    pub(crate) run: Option<Run>,
    rules: Vec<String>,
    /// That the call is among those that run, where stops find it.
    pub(crate) entered: Entered,
}

impl Decided<'_> {
    /// Whether today's caller is the one whose call it was, in the team and tenant of then: a call goes on, is undone, or has an effect
    /// retried for nobody else.
    pub(crate) fn is_of(&self, principal: Option<&Principal>) -> bool {
        let today = Principal::from(self.grant.caller());
        ambit_core::guard!("call.same-caller", Some(&today) == principal)
    }
}

/// Who and what a call is of, as stops look at it.
pub(crate) fn subject(config: &Config, caller: &Caller, tool: &str, run: Option<&Run>) -> Subject {
    let bound = config.tool(tool).map(|tool| tool.bind.values().cloned().collect());
    Subject {
        tenant: caller.tenant().to_owned(),
        agent: caller.agent().to_owned(),
        tool: tool.to_owned(),
        connections: bound.unwrap_or_default(),
        run: run.map(|run| run.id().to_owned()),
    }
}

/// The budgets that no configuration has: those that came with the call's run, and with the token that its caller showed.
pub(crate) fn own_budgets(run: Option<&Run>, grant: &Grant) -> Vec<Budget> {
    let mut budgets = run.map(Run::budgets).unwrap_or_default();
    budgets.extend(grant.budgets());
    budgets
}

/// What every budget that matches sets aside for the call: of fuel, all that it may use.
fn call_reservations<'a>(
    budgets: impl Iterator<Item = &'a Budget>,
    grant: &Grant,
    heading: &Heading,
) -> Vec<Reservation> {
    let used = grant.used(heading.call.as_str(), heading.run.as_deref(), None);
    let reserved = budgets.filter_map(|budget| {
        Some(Reservation {
            amount: budget.of_call(&used, grant.limits().fuel)?,
            budget: budget.name.clone(),
            cap: budget.cap,
            over: None,
            warn: budget.warn,
            window: budget.period(&used).to_string(),
        })
    });
    reserved.collect()
}

pub(crate) fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn no_tool(shared: &Shared, name: &str) -> Refusal {
    // A process that calls one tool loads that one: what is accepted is in the lock.
    let names: Vec<&str> = shared.config.lock().iter().map(|(name, _)| name).collect();
    let refusal = Refusal::new(
        Code::Tool,
        format!("there is no tool `{}`", ambit_core::error::printable(name)),
    );
    let nearest = names.iter().min_by_key(|known| strsim::osa_distance(known, name));
    match nearest {
        None => refusal,
        Some(near) if strsim::osa_distance(near, name) <= 2 => refusal.advise(format!("did you mean `{near}`?")),
        Some(_) => refusal.advise(format!("the tools here: {}", names.join(", "))),
    }
}

/// Parses the arguments' text, within the call's limits.
fn arguments(text: &str, limits: &Limits) -> Result<Json, Refusal> {
    let size = text.len() as u64;
    if !ambit_core::guard!("sandbox.args", size <= limits.args_bytes) {
        return Err(Refusal::new(
            Code::Arguments,
            format!(
                "the arguments are {size} bytes; the call takes at most {}",
                limits.args_bytes
            ),
        ));
    }
    let depth = usize::try_from(limits.json_depth).unwrap_or(usize::MAX);
    let args = Json::parse(
        text,
        ambit_core::json::Limits {
            depth,
            ..ambit_core::json::Limits::default()
        },
    )
    .map_err(|e| Refusal::new(Code::Arguments, format!("the arguments are not JSON: {e}")))?;
    match args {
        Json::Object(_) => Ok(args),
        _ => Err(Refusal::new(
            Code::Arguments,
            "the arguments are not a JSON object with a member for each parameter",
        )),
    }
}

/// The tool's capabilities with the connections that the operator bound them to. An unbound one reaches nothing.
fn bound_imports(shared: &Shared, name: &str, tool: &Tool) -> Vec<BoundImport> {
    let bind = shared.config.tool(name).map(|tool| &tool.bind);
    let manifest = tool.loaded.manifest();
    manifest
        .capabilities()
        .filter_map(|import| {
            let scope = import.scope.clone()?;
            let connection = bind
                .and_then(|bind| bind.get(&import.label))
                .and_then(|name| shared.config.connection(name));
            Some(BoundImport {
                label: import.label.clone(),
                index: import.index,
                scope,
                connection: connection.cloned(),
            })
        })
        .collect()
}

/// The engine that a call's last guest ran on, where that is another one than it began on.
fn another_engine(began_on: Option<&str>, engine: &str, cost: &Cost) -> Option<String> {
    // Where no guest ran there is no fuel to tell.
    let another = began_on.is_some_and(|began_on| began_on != engine) && cost.fuel > 0;
    another.then(|| engine.to_owned())
}

/// Whether the guest itself failed, rather than a rule of the host ending it.
const fn is_the_guests(code: Code) -> bool {
    matches!(
        code,
        Code::Trap | Code::Fuel | Code::Memory | Code::Stack | Code::Time | Code::Log | Code::Result | Code::Effects
    )
}
