//! Where guests run: one engine, a fresh instance for every call, and a limit on everything a guest can use up.
//!
//! A guest reaches what its [`Effects`] do for it and nothing else. The sandbox knows no connection, policy or ledger;
//! it turns JSON into values and back, counts, and stops. It runs a guest on the calling thread, which must not be one
//! that anything else waits for: [`Sandbox::run`] returns when the guest is done.
//!
//! Whatever ends a call early, a limit or the host, is one [`Refusal`] in its [`Outcome`]. The instance is thrown away.

mod call;
mod compile;
mod engine;
mod link;
#[cfg(test)]
pub(crate) mod tests;
mod turns;
mod values;
mod wasi;

use std::sync::Arc;
use std::time::Duration;

use ambit_core::effect::{GuestRequest, GuestResponse};
use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Limits;
use ambit_core::json::Json;
use ambit_core::manifest::{Function, Manifest};
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre};

pub use self::call::Spent;
pub use self::compile::{COMPILE_CHILD, CompileCache, Compiler, compile_child_main};
pub use self::engine::MOST_KEPT_RESIDENT;
use self::engine::{Placement, Ticker};
use self::turns::{Turn, Turns};
#[doc(hidden)]
pub use self::values::fuzz;
use self::values::{Exports, Lifted};

/// The guest's stack where nothing else is said. The calling thread's own must be larger by about 256 KiB.
pub const DEFAULT_STACK_BYTES: usize = 512 << 10;

/// How a [`Sandbox`] is set up; all of it for the whole process.
#[derive(Debug)]
pub struct SandboxOptions {
    /// Where components are compiled.
    pub compiler: Compiler,
    /// Machine code kept between starts.
    pub cache: Option<CompileCache>,
    /// Calls that can run at once. Each reserves 16 GiB of address space (not memory); one more is refused.
    pub slots: u32,
    /// Largest stack of a guest in bytes: [`Limits::stack_bytes`] of the process, as all calls share one engine.
    pub stack_bytes: usize,
}

impl SandboxOptions {
    /// 64 calls at once, 512 KiB of stack, no cache.
    #[must_use]
    pub fn new(compiler: Compiler) -> SandboxOptions {
        SandboxOptions {
            compiler,
            cache: None,
            slots: 64,
            stack_bytes: DEFAULT_STACK_BYTES,
        }
    }
}

/// What a guest's imports do: the embedder's side of one call.
///
/// The guest waits for each of them, on the same thread, so they may block. Time in [`Effects::http`] is not the
/// guest's. A [`Stop`] ends the call at once and becomes its outcome; the guest never sees it.
pub trait Effects: std::any::Any + Send {
    /// One HTTP effect through the import at position `import` of the component.
    ///
    /// The inner result is the guest's: an answer, or an error that its code handles.
    ///
    /// # Errors
    /// A [`Stop`] where the call must not go on.
    fn http(&mut self, import: u32, request: GuestRequest) -> Result<Result<GuestResponse, GuestHttpError>, Stop>;

    /// One line of the log, at most `limits.log_bytes` in all.
    ///
    /// # Errors
    /// A [`Stop`] where the call must not go on.
    fn log(&mut self, level: LogLevel, message: &str) -> Result<(), Stop>;

    /// How far the guest is: `done` of `total` steps, zero where it does not know.
    ///
    /// # Errors
    /// A [`Stop`] where the call must not go on.
    fn progress(&mut self, done: u64, total: u64, message: &str) -> Result<(), Stop>;

    /// The call's clock in milliseconds since 1970, which only an effect's answer advances.
    ///
    /// # Errors
    /// A [`Stop`] where the call must not go on.
    fn now(&mut self) -> Result<u64, Stop>;

    /// Fills `bytes` from the call's stream of random numbers.
    ///
    /// # Errors
    /// A [`Stop`] where the call must not go on.
    fn random(&mut self, bytes: &mut [u8]) -> Result<(), Stop>;

    /// Asked about every millisecond while the guest runs: may it go on? This is where a kill or a deadline from
    /// outside ends a call. Must be quick, and must not wait.
    ///
    /// # Errors
    /// A [`Stop`] where the call must not go on.
    fn tick(&mut self) -> Result<(), Stop> {
        Ok(())
    }
}

/// Why the host ends a call while its guest still runs.
pub type Stop = Refusal;

/// What a guest is told when it gets no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestHttpError {
    /// The host refused and nothing was sent. The guest sees code and message only.
    Refused(Refusal),
    /// It may have been sent, and no usable answer came.
    Failed(String),
}

/// How loud a guest's log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Steps in detail.
    Trace,
    /// For the tool's author.
    Debug,
    /// For whoever runs it. Also what a WASI program prints to standard output.
    Info,
    /// Something is odd. Also what a WASI program prints to standard error.
    Warn,
    /// Something failed.
    Error,
}

/// A call is over.
pub struct Ended {
    /// What came of it.
    pub outcome: Outcome,
    /// Fuel the guest used, instantiation included.
    pub fuel_used: u64,
    /// Largest size of all linear memories and tables together, in bytes.
    pub peak_memory: u64,
    /// From beginning to end.
    pub duration: Duration,
    /// How much of `duration` went into effects, and into waiting for a processor that another guest had.
    pub outside: Duration,
    /// What [`Sandbox::run`] was given.
    pub effects: Box<dyn Effects>,
    /// What it ran in.
    pub spent: Spent,
}

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ended")
            .field("outcome", &self.outcome)
            .field("fuel_used", &self.fuel_used)
            .field("peak_memory", &self.peak_memory)
            .field("duration", &self.duration)
            .field("outside", &self.outside)
            .finish_non_exhaustive()
    }
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The function returned a value; null where it has no result.
    Ok(Json),
    /// The function returned its own error.
    ToolError(Json),
    /// A limit or the host ended it, or it trapped.
    Stopped(Refusal),
}

impl From<Lifted> for Outcome {
    fn from(lifted: Lifted) -> Outcome {
        match lifted {
            Lifted::Ok(value) => Outcome::Ok(value),
            Lifted::Err(value) => Outcome::ToolError(value),
        }
    }
}

/// A component ready to be called: compiled, linked, its functions looked up.
pub struct LoadedTool {
    manifest: Manifest,
    instance: InstancePre<call::State>,
    exports: Exports,
}

impl LoadedTool {
    /// What the component declares.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

impl std::fmt::Debug for LoadedTool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedTool")
            .field("digest", &self.manifest.digest)
            .finish_non_exhaustive()
    }
}

/// The process's engine with its slots, its clock and its compiler.
pub struct Sandbox {
    engine: Engine,
    engine_id: String,
    ticker: Ticker,
    turns: Arc<Turns>,
    compiler: Compiler,
    cache: Option<CompileCache>,
}

impl Sandbox {
    /// Reserves the slots and starts the clock.
    ///
    /// # Errors
    /// `internal` where the platform does not let it.
    pub fn new(options: SandboxOptions) -> Result<Sandbox, Refusal> {
        let engine = engine::engine(Placement::Pool(options.slots), options.stack_bytes)?;
        let ticker = Ticker::start(&engine)?;
        Ok(Sandbox {
            engine_id: compile::engine_id(&engine),
            engine,
            ticker,
            turns: Turns::new(std::thread::available_parallelism().map_or(1, usize::from)),
            compiler: options.compiler,
            cache: options.cache,
        })
    }

    /// Names the engine: on the same one, a call with the same inputs uses the same fuel.
    #[must_use]
    pub fn engine_id(&self) -> &str {
        &self.engine_id
    }

    /// Calls itself another engine.
    #[cfg(test)]
    pub(crate) fn pose_as(&mut self, engine: &str) {
        engine.clone_into(&mut self.engine_id);
    }

    /// Reads, compiles and links a component. Blocks while it is compiled.
    ///
    /// # Errors
    /// `load` where the component is not one, declares what cannot be, imports what nobody serves or exceeds what a
    /// component may be made of; `internal` where it cannot be compiled here.
    pub fn load(&self, bytes: &[u8]) -> Result<LoadedTool, Refusal> {
        let manifest = Manifest::read(bytes)?;
        let component = compile::component(&self.engine, &self.compiler, self.cache.as_ref(), bytes)?;
        admit(&component)?;
        let instance = link::link(&component, &manifest)?;
        let exports = Exports::plan(&component, &manifest)?;
        Ok(LoadedTool {
            manifest,
            instance,
            exports,
        })
    }

    /// Calls `function` of `tool` with `args`, an object with a member for each parameter, on this thread.
    ///
    /// Nothing outlives the call but what is returned. `limits.stack_bytes` is the engine's and not looked at here.
    pub fn run(
        &self,
        tool: &LoadedTool,
        function: &Function,
        args: &Json,
        limits: &Limits,
        effects: Box<dyn Effects>,
    ) -> Ended {
        let Some(export) = tool.exports.get(&function.id) else {
            let refusal = Refusal::new(Code::Function, format!("the tool has no function `{}`", function.id));
            return Ended::before_it_began(refusal, effects);
        };
        let _running = self.ticker.running();
        let turn = Turn::none_yet(&self.turns);
        call::run(tool, export, args, limits, turn, effects)
    }
}

impl Ended {
    fn before_it_began(refusal: Refusal, effects: Box<dyn Effects>) -> Ended {
        Ended {
            outcome: Outcome::Stopped(refusal),
            fuel_used: 0,
            peak_memory: 0,
            duration: Duration::ZERO,
            outside: Duration::ZERO,
            effects,
            spent: Spent::nothing(),
        }
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox")
            .field("compiler", &self.compiler)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// Whether a slot can hold the component.
fn admit(component: &Component) -> Result<(), Refusal> {
    let needs = component.resources_required();
    let fits = needs.as_ref().is_some_and(|needs| {
        needs.num_memories <= engine::MEMORIES_PER_COMPONENT && needs.num_tables <= engine::TABLES_PER_COMPONENT
    });
    if !ambit_core::guard!("sandbox.admit", fits) {
        return Err(Refusal::new(
            Code::Load,
            format!(
                "the component needs more than the {} memories and {} tables of a slot",
                engine::MEMORIES_PER_COMPONENT,
                engine::TABLES_PER_COMPONENT
            ),
        ));
    }
    Ok(())
}
