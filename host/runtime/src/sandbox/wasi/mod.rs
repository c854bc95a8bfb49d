//! WASI 0.2 with nothing in it, for the tool chains whose components import it whatever the program does.
//!
//! There are no arguments, environment variables, directories, sockets or names. Clocks and randomness are the call's
//! own, so that a replay sees the same; a sleep is over at once and moves the clock by as much. What is written to
//! standard output and error goes to the call's log when the call is over. Nothing here waits for anything.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::{clocks, random};
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamError, subscribe};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, async_trait};

use super::call::{LogBudget, State};
use super::{Effects, LogLevel, Stop};

/// Streams, pollables and errors that one call may hold. They are all in memory and small.
const MAX_RESOURCES: usize = 1_024;
/// Largest single write to standard output or error.
const WRITE_BYTES: usize = 64 << 10;

/// Packages whose every interface of version 0.2 is served.
const PACKAGES: [&str; 6] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// Whether an import of this name is WASI as served here.
pub(super) fn serves(import: &str) -> bool {
    let version = import.rsplit_once('@').map(|(_, version)| version);
    PACKAGES.iter().any(|package| import.starts_with(package)) && version.is_some_and(|v| v.starts_with("0.2."))
}

/// What a component that imports WASI gets for one call.
pub(super) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
    stdout: Output,
    stderr: Output,
    /// How long the guest believes to have slept, in nanoseconds.
    slept: u64,
}

impl Wasi {
    pub(super) fn new(budget: &LogBudget) -> Wasi {
        let (stdout, stderr) = (Output::new(budget), Output::new(budget));
        let context = WasiCtx::builder()
            .stdout(stdout.clone())
            .stderr(stderr.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Wasi {
            context,
            table,
            stdout,
            stderr,
            slept: 0,
        }
    }

    /// Hands what the guest printed to the log, line by line.
    ///
    /// # Errors
    /// What the log answers.
    pub(super) fn flush(self, effects: &mut dyn Effects) -> Result<(), Stop> {
        for (output, level) in [(self.stdout, LogLevel::Info), (self.stderr, LogLevel::Warn)] {
            let printed = std::mem::take(&mut *output.lock());
            for line in String::from_utf8_lossy(&printed).lines() {
                effects.log(level, line)?;
            }
        }
        Ok(())
    }
}

/// Standard output or error: memory, within the call's log limit.
#[derive(Clone)]
struct Output {
    printed: Arc<Mutex<Vec<u8>>>,
    budget: LogBudget,
}

impl Output {
    fn new(budget: &LogBudget) -> Output {
        Output {
            printed: Arc::default(),
            budget: budget.clone(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    /// Only WASI 0.3 asks for it, which is not served.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
        self.budget
            .take(bytes.len(), lines)
            .map_err(|stop| StreamError::Trap(stop.into()))?;
        self.lock().extend_from_slice(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(WRITE_BYTES)
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

/// A sleep: over when it begins.
struct Elapsed;

#[async_trait]
impl Pollable for Elapsed {
    async fn ready(&mut self) {}
}

/// Defines every interface of the served packages. Clocks and randomness, which would differ on replay, are then
/// replaced by ours.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type Ours = HasSelf<State>;
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    clocks::wall_clock::add_to_linker::<_, Ours>(linker, |state| state)?;
    clocks::monotonic_clock::add_to_linker::<_, Ours>(linker, |state| state)?;
    random::random::add_to_linker::<_, Ours>(linker, |state| state)?;
    random::insecure::add_to_linker::<_, Ours>(linker, |state| state)?;
    random::insecure_seed::add_to_linker::<_, Ours>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Wasi { context, table, .. } = self
            .wasi
            .get_or_insert_with(|| Box::new(Wasi::new(&self.log_budget)))
            .as_mut();
        WasiCtxView { ctx: context, table }
    }
}

impl State {
    fn slept(&self) -> u64 {
        self.wasi.as_ref().map_or(0, |wasi| wasi.slept)
    }

    /// Milliseconds since 1970 by the call's clock, with what the guest slept, in nanoseconds.
    fn nanoseconds(&mut self) -> wasmtime::Result<u64> {
        let now = self.effects.now()?.saturating_mul(1_000_000);
        Ok(now.saturating_add(self.slept()))
    }

    fn sleep(&mut self, nanoseconds: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let table = self.ctx().table;
        let elapsed = table.push(Elapsed)?;
        let pollable = subscribe(table, elapsed)?;
        if let Some(wasi) = &mut self.wasi {
            wasi.slept = wasi.slept.saturating_add(nanoseconds);
        }
        Ok(pollable)
    }
}

impl clocks::wall_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        let now = self.nanoseconds()?;
        Ok(clocks::wall_clock::Datetime {
            seconds: now / 1_000_000_000,
            nanoseconds: (now % 1_000_000_000) as u32,
        })
    }

    fn resolution(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(clocks::wall_clock::Datetime {
            seconds: 0,
            nanoseconds: 1_000_000,
        })
    }
}

impl clocks::monotonic_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        self.nanoseconds()
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1_000_000)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let remaining = when.saturating_sub(self.nanoseconds()?);
        self.sleep(remaining)
    }

    fn subscribe_duration(&mut self, nanoseconds: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.sleep(nanoseconds)
    }
}

impl random::random::Host for State {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        let mut bytes = [0; 8];
        self.effects.random(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

impl random::insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        random::random::Host::get_random_u64(self)
    }
}

impl random::insecure_seed::Host for State {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((
            random::random::Host::get_random_u64(self)?,
            random::random::Host::get_random_u64(self)?,
        ))
    }
}

#[cfg(test)]
mod tests;
