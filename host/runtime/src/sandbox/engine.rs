//! The one engine of a sandbox: its configuration, its pool of instance slots, and the clock that interrupts guests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use ambit_core::error::{Code, Refusal};
use wasmtime::{Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How often running guests look at the clock.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// Ticks without a running guest after which the ticking thread goes to sleep.
const IDLE_TICKS: u32 = 64;

/// Guest memory that stays mapped in a returned slot. Above the working set of ordinary guests, so that the next call
/// in the slot takes no page faults; only affordable where the kernel can tell which pages were touched.
const KEEP_RESIDENT: usize = 2 << 20;
/// The same of a table.
const KEEP_TABLE_RESIDENT: usize = 64 << 10;
/// Slots of memories and of tables that are kept so: more than processors compute at a time. Those of a burst of calls are given back.
const WARM_SLOTS: u32 = 15;
/// The most that slots of calls which are over keep resident, in bytes: a burst of calls leaves no more than that behind.
pub const MOST_KEPT_RESIDENT: usize = WARM_SLOTS as usize * (KEEP_RESIDENT + KEEP_TABLE_RESIDENT);
const _: () = assert!(MOST_KEPT_RESIDENT <= 32 << 20, "a server that does nothing is small");

/// What one component may be made of. Python's and JavaScript's tool chains link a few dozen core modules and share one
/// memory between them.
pub(super) const CORE_INSTANCES_PER_COMPONENT: u32 = 64;
/// Memories that one component may define. The pool itself would take more; it does not say what is wrong.
pub(super) const MEMORIES_PER_COMPONENT: u32 = 4;
/// Tables that one component may define.
pub(super) const TABLES_PER_COMPONENT: u32 = 32;
/// Elements one table may hold: a debug build of a large runtime has tens of thousands of indirect functions.
pub(super) const TABLE_ELEMENTS: usize = 100_000;

/// Where instances are made.
#[derive(Clone, Copy)]
pub(super) enum Placement {
    /// In this many slots reserved up front: how calls run.
    Pool(u32),
    /// Nowhere: an engine that only compiles, small enough for a process with an address-space limit.
    CompileOnly,
}

/// Builds an engine. Code compiled by one placement runs under the other: everything that shapes code is equal.
///
/// # Errors
/// `internal` where the platform refuses the reservation or lacks a required feature.
pub(super) fn engine(placement: Placement, stack_bytes: usize) -> Result<Engine, Refusal> {
    let mut config = profile(stack_bytes);
    if let Placement::Pool(slots) = placement {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(slots)));
    }
    Engine::new(&config).map_err(|error| {
        Refusal::new(
            Code::Internal,
            format!("the WebAssembly engine does not start here: {error:#}"),
        )
    })
}

/// Everything that shapes compiled code or a guest's view of the machine.
fn profile(stack_bytes: usize) -> Config {
    let mut config = Config::new();

    // Named imports carry the scopes. Everything concurrent is off: a call is one effect at a time, and a transcript
    // must be able to replay it.
    config.wasm_component_model_implements(true);
    config.concurrency_support(false);

    // Features that need a collected heap (or shared memory, which no limiter sees) would add memory that is not
    // counted; 64-bit memories make every access checked in software.
    config.wasm_gc(false);
    config.gc_support(false);
    config.wasm_exceptions(false);
    config.wasm_function_references(false);
    config.wasm_threads(false);
    config.wasm_memory64(false);

    // The same inputs give the same outputs and the same fuel on every machine.
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);
    config.consume_fuel(true);

    config.epoch_interruption(true);
    config.max_wasm_stack(stack_bytes);
    // The engine insists on it being the larger, though no guest runs on a stack of its own here.
    config.async_stack_size(stack_bytes.max(2 << 20));

    // A refusal names the trap, not addresses: no frames are collected, and no address map is stored with the code.
    config.wasm_backtrace_max_frames(None);
    config.generate_address_map(false);
    config
}

fn pool(slots: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        // Every slot can be a component of the most that is admitted: else a few such would take the slots of all others.
        .total_memories(slots.saturating_mul(MEMORIES_PER_COMPONENT))
        .total_tables(slots.saturating_mul(TABLES_PER_COMPONENT))
        .total_stacks(0)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_tables_per_module(4)
        .table_elements(TABLE_ELEMENTS)
        .max_unused_warm_slots(slots.min(WARM_SLOTS));
    // Without the kernel's help (before Linux 6.7, or another system) a resident slot would be cleared by writing all
    // of it; unmapping is cheaper then.
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Yes)
            .linear_memory_keep_resident(KEEP_RESIDENT)
            .table_keep_resident(KEEP_TABLE_RESIDENT);
    }
    pool
}

/// Advances an engine's epoch every [`TICK`] while at least one guest runs.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    closed: AtomicBool,
}

impl Ticker {
    /// Starts the thread. It ends when the ticker is dropped.
    ///
    /// # Errors
    /// `internal` where no thread can be started.
    pub(super) fn start(engine: &Engine) -> Result<Ticker, Refusal> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let (clock, engine) = (Arc::clone(&shared), engine.weak());
        let handle = std::thread::Builder::new()
            .name("ambit-epoch".into())
            .spawn(move || clock.tick(&engine))
            .map_err(|error| Refusal::new(Code::Internal, format!("no thread for the sandbox's clock: {error}")))?;
        Ok(Ticker {
            shared,
            thread: handle.thread().clone(),
        })
    }

    /// Keeps the clock ticking until the guard is dropped.
    pub(super) fn running(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(&self.shared)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// A guest is running.
pub(super) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn tick(&self, engine: &EngineWeak) {
        let mut idle = 0;
        while !self.closed.load(Ordering::SeqCst) {
            std::thread::sleep(TICK);
            let Some(engine) = engine.upgrade() else {
                return;
            };
            engine.increment_epoch();
            if self.running.load(Ordering::SeqCst) > 0 {
                idle = 0;
                continue;
            }
            idle += 1;
            if idle >= IDLE_TICKS {
                drop(engine);
                self.sleep();
                idle = 0;
            }
        }
    }

    /// Parks until a guest starts. `asleep` is set before `running` is read again, and [`Ticker::running`] counts
    /// before it reads `asleep`, so one of the two always sees the other.
    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        while self.running.load(Ordering::SeqCst) == 0
            && self.asleep.load(Ordering::SeqCst)
            && !self.closed.load(Ordering::SeqCst)
        {
            std::thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}
