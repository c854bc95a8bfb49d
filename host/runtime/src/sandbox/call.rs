//! One call: a fresh store and instance under limits, thrown away afterwards whatever happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ambit_core::effect::{GuestRequest, GuestResponse};
use ambit_core::error::{Code, Refusal, printable};
use ambit_core::grant::Limits;
use ambit_core::json::Json;
use wasmtime::{PoolConcurrencyLimitError, ResourceLimiter, Store, Trap, UpdateDeadline};
use wasmtime_wasi::I32Exit;

use super::turns::Turn;
use super::values::{Export, Lifted};
use super::wasi::Wasi;
use super::{Effects, Ended, GuestHttpError, LoadedTool, LogLevel, Outcome, Stop};

/// What one line of the log costs beyond its bytes, so that empty lines are not free.
const LINE_COST: usize = 16;
/// What a table element takes of the memory limit: a pointer, the same on every machine.
const TABLE_ELEMENT_BYTES: usize = 8;
/// Component-model handles that may live at once in a call.
const MAX_HANDLES: usize = 4_096;
/// Core instances, tables and memories of a call.
const MAX_INSTANCES: usize = 100;

/// What belongs to one running call.
pub(super) struct State {
    pub(super) effects: Box<dyn Effects>,
    pub(super) log_budget: LogBudget,
    pub(super) wasi: Option<Box<Wasi>>,
    memory: Memory,
    time: Time,
    turn: Turn,
}

impl State {
    /// Does something outside the guest, during which the call's wall clock stands still and other guests compute.
    pub(super) fn outside<R>(&mut self, act: impl FnOnce(&mut dyn Effects) -> Result<R, Stop>) -> wasmtime::Result<R> {
        let begun = Instant::now();
        self.turn.give();
        let answer = act(self.effects.as_mut());
        self.time.outside += begun.elapsed();
        Ok(answer?)
    }

    /// What a running guest comes by every millisecond.
    fn tick(&mut self) -> Result<(), Stop> {
        self.effects.tick()?;
        self.time.check()?;
        self.time.outside += self.turn.tick();
        // A call that is shorter than a tick has no turn to wait for, only the processor.
        std::thread::yield_now();
        Ok(())
    }
}

/// Runs `export` of `tool` from its first instruction to its last.
pub(super) fn run(
    tool: &LoadedTool,
    export: &Export,
    args: &Json,
    limits: &Limits,
    turn: Turn,
    effects: Box<dyn Effects>,
) -> Ended {
    let mut store = store(tool, limits, turn, effects);
    let outcome = invoke(&mut store, tool, export, args, limits);
    let fuel_used = limits.fuel.saturating_sub(store.get_fuel().unwrap_or(0));
    let State {
        effects,
        wasi,
        memory,
        time,
        turn,
        ..
    } = store.data_mut();
    turn.give();
    let mut effects = std::mem::replace(effects, Box::new(Over));
    let printed = wasi.take().map_or(Ok(()), |wasi| wasi.flush(effects.as_mut()));
    Ended {
        outcome: match (outcome, printed) {
            (Ok(lifted), Ok(())) => lifted.into(),
            (Err(refusal), _) | (Ok(_), Err(refusal)) => Outcome::Stopped(refusal),
        },
        fuel_used,
        peak_memory: memory.peak as u64,
        duration: time.started.elapsed(),
        outside: time.outside,
        effects,
        spent: Spent(Some(store)),
    }
}

/// What is left of a guest that is over. To take it apart and give its memory back takes about as long as a short call computes: who has
/// something to wait for can do it meanwhile, by letting go of this.
pub struct Spent(#[expect(dead_code, reason = "to be let go of")] Option<Store<State>>);

impl Spent {
    /// Of a guest that did not begin.
    pub(super) const fn nothing() -> Spent {
        Spent(None)
    }
}

/// The effects of a guest that is over: none. It runs no more, so that nobody asks for any.
struct Over;

impl Over {
    fn is() -> Stop {
        Refusal::new(Code::Trap, "the tool's function has returned")
    }
}

impl Effects for Over {
    fn http(&mut self, _: u32, _: GuestRequest) -> Result<Result<GuestResponse, GuestHttpError>, Stop> {
        Err(Over::is())
    }

    fn log(&mut self, _: LogLevel, _: &str) -> Result<(), Stop> {
        Err(Over::is())
    }

    fn progress(&mut self, _: u64, _: u64, _: &str) -> Result<(), Stop> {
        Err(Over::is())
    }

    fn now(&mut self) -> Result<u64, Stop> {
        Err(Over::is())
    }

    fn random(&mut self, _: &mut [u8]) -> Result<(), Stop> {
        Err(Over::is())
    }
}

fn store(tool: &LoadedTool, limits: &Limits, turn: Turn, effects: Box<dyn Effects>) -> Store<State> {
    let state = State {
        effects,
        log_budget: LogBudget::new(limits.log_bytes),
        wasi: None,
        memory: Memory {
            used: 0,
            peak: 0,
            limit: to_usize(limits.memory_bytes),
        },
        time: Time {
            started: Instant::now(),
            outside: Duration::ZERO,
            limit: Duration::from_millis(limits.wall_ms),
        },
        turn,
    };
    let mut store = Store::new(tool.instance.engine(), state);
    store.limiter(|state| &mut state.memory);
    store.set_max_component_handles(MAX_HANDLES);
    store.set_hostcall_fuel(handover_bytes(limits));
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut store| {
        store.data_mut().tick()?;
        Ok(UpdateDeadline::Continue(1))
    });
    store
}

/// What a guest may hand to the host in one call of a function or one result, in bytes of the host's memory. A value
/// takes up to sixteen times its JSON text (a list of one-digit numbers).
fn handover_bytes(limits: &Limits) -> usize {
    let text = limits
        .result_bytes
        .max(limits.request_body_bytes)
        .max(limits.log_bytes)
        .max(64 << 10);
    to_usize(text.saturating_mul(16))
}

fn invoke(
    store: &mut Store<State>,
    tool: &LoadedTool,
    export: &Export,
    args: &Json,
    limits: &Limits,
) -> Result<Lifted, Refusal> {
    let args = export.lower(args, limits)?;
    let why = |error| stopped(error, limits);
    store.set_fuel(limits.fuel).map_err(why)?;
    let instance = tool.instance.instantiate(&mut *store).map_err(why)?;
    let results = export.call(store, &instance, args).map_err(why)?;
    export.lift(results, limits)
}

/// Why the guest ended before its function returned.
fn stopped(error: wasmtime::Error, limits: &Limits) -> Refusal {
    let error = match error.downcast::<Refusal>() {
        Ok(refusal) => return refusal,
        Err(error) => error,
    };
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => return out_of_fuel(limits),
        Some(Trap::StackOverflow) => {
            return Refusal::new(Code::Stack, "the tool's call stack is exhausted")
                .advise("Recursion that deep is usually endless; report it to the tool's author.");
        }
        Some(trap) => return trapped(&trap.to_string()),
        None => {}
    }
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return trapped(&format!("the program exited with status {status} instead of returning"));
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Refusal::new(Code::Limit, "every slot for running tools is in use").advise("Try again later.");
    }
    let cause = error.root_cause().to_string();
    // The engine's error for it has no public type.
    if cause.contains("fuel allocated for hostcalls") {
        let most = handover_bytes(limits);
        return Refusal::new(
            Code::Limit,
            format!("the tool handed over more than {most} bytes at once"),
        );
    }
    trapped(&cause)
}

fn out_of_fuel(limits: &Limits) -> Refusal {
    Refusal::new(Code::Fuel, format!("the tool used up its fuel of {}", limits.fuel))
        .advise("Raise `limits.fuel` if the work is meant to be this long.")
}

fn trapped(cause: &str) -> Refusal {
    Refusal::new(Code::Trap, format!("the tool trapped: {}", printable(cause)))
        .advise("This is a fault of the tool; report it to its author.")
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// How long the guest itself has run.
struct Time {
    started: Instant,
    /// Spent outside the guest: for effects, and waiting for a processor that another guest has.
    outside: Duration,
    limit: Duration,
}

impl Time {
    fn check(&self) -> Result<(), Stop> {
        let ran = self.started.elapsed().saturating_sub(self.outside);
        if !ambit_core::guard!("sandbox.time", ran <= self.limit) {
            let limit = self.limit.as_millis();
            return Err(
                Refusal::new(Code::Time, format!("the tool ran longer than {limit} ms")).advise(
                    "Time waiting for services is not counted. Raise `limits.wall_ms` if the work is meant to take it.",
                ),
            );
        }
        Ok(())
    }
}

/// Counts everything that grows inside the guest: linear memories and tables, all together.
struct Memory {
    used: usize,
    peak: usize,
    limit: usize,
}

impl Memory {
    fn grow(&mut self, by: usize) -> wasmtime::Result<bool> {
        let grown = self.used.saturating_add(by);
        if !ambit_core::guard!("sandbox.memory", grown <= self.limit) {
            // A refused growth would be an answer that the guest may act on; ending the call is the same on every replay.
            let refusal = Refusal::new(
                Code::Memory,
                format!("the tool asked for more than {} bytes of memory", self.limit),
            )
            .advise("Raise `limits.memory_bytes` if the work is meant to need it.");
            return Err(refusal.into());
        }
        self.used = grown;
        self.peak = self.peak.max(grown);
        Ok(true)
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT_BYTES))
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_INSTANCES
    }

    fn memories(&self) -> usize {
        MAX_INSTANCES
    }
}

/// What is left of a call's log: shared by the log, the progress messages and, through WASI, the standard streams.
#[derive(Clone)]
pub(super) struct LogBudget(Arc<AtomicUsize>);

impl LogBudget {
    fn new(bytes: u64) -> LogBudget {
        LogBudget(Arc::new(AtomicUsize::new(to_usize(bytes))))
    }

    /// Takes what `bytes` in so many lines cost.
    pub(super) fn take(&self, bytes: usize, lines: usize) -> Result<(), Stop> {
        let cost = bytes.saturating_add(lines.saturating_mul(LINE_COST));
        let left = self.0.load(Ordering::Relaxed);
        if !ambit_core::guard!("sandbox.log", cost <= left) {
            return Err(Refusal::new(Code::Log, "the tool logged more than it may")
                .advise("Raise `limits.log_bytes`, or have the tool log less."));
        }
        self.0.store(left.saturating_sub(cost), Ordering::Relaxed);
        Ok(())
    }
}
