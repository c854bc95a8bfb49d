//! A governed call of a trivial tool against raw wasmtime, on the same component in the same process.

use std::fs;

use ambit_core::digest::Digest;
use ambit_core::effect::{GuestRequest, GuestResponse};
use ambit_core::grant::{Grant, Limits, Narrowing, ToolIdentity};
use ambit_core::identity::Directory;
use ambit_core::json::Json;
use ambit_core::ledger::Stamp;
use ambit_core::manifest::Manifest;
use ambit_core::policy::{CallFacts, Mode, PolicySet};
use ambit_runtime::host::HostOptions;
use ambit_runtime::sandbox::{Effects, GuestHttpError, LoadedTool, LogLevel, Outcome, Sandbox, SandboxOptions, Stop};
use ambit_runtime::store::{Keys, Payload, Store, StoreOptions};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::durable::Appends;
use super::report::{Amount, Figure};
use super::rounds::{Medians, part, part_of, prepared, whole};
use super::setting::{self, POLICIES, Setting, TEXT, trivial};
use super::{Measured, Pace};
use crate::programs::component;

pub(super) fn with_memo(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let (medians, parts) = measure(setting, pace, true)?;
    let ratio = medians.ratio(GOVERNED, RAW);
    Ok(figure(&medians, ratio)
        .target("≤ 2×", ratio <= 2.0)
        .parts(parts)
        .note("a receipt is not part of a call: it is made from the ledger when somebody asks for it"))
}

pub(super) fn without_memo(setting: &Setting, pace: Pace<'_>) -> Measured<Figure> {
    let (medians, parts) = measure(setting, pace, false)?;
    let ratio = medians.ratio(GOVERNED, RAW);
    Ok(figure(&medians, ratio).parts(parts))
}

fn figure(medians: &Medians, ratio: f64) -> Figure {
    Figure::of(Amount::Micros(medians.of(GOVERNED))).against(
        "raw wasmtime's best",
        Amount::Micros(medians.of(RAW)),
        ratio,
    )
}

const RAW: usize = 0;
const SANDBOX: usize = 1;
const GOVERNED: usize = 2;

/// Raw, sandboxed and governed calls in turn; and the parts of a governed one.
fn measure(setting: &Setting, pace: Pace<'_>, memo: bool) -> Measured<(Medians, Vec<(&'static str, f64)>)> {
    let (rounds, calls) = (pace.pick(15, 2), pace.pick(2000, 30));
    let bytes = fs::read(component("good_echo"))?;
    let raw = Raw::load(&bytes)?;
    let alone = Alone::load(&bytes)?;
    let mut medians = Medians::new();
    for _ in pace.rounds(rounds) {
        // A new one each round: what a ledger in memory keeps would else grow without end.
        let host = setting.open(HostOptions {
            without_memo: !memo,
            ..setting.in_memory(&["echo"])
        })?;
        let governed = prepared(trivial, |request| setting::call(&host, request));
        let subjects = vec![whole(|| raw.call()), whole(|| alone.call()), governed];
        medians.round(calls, subjects)?;
    }
    let mut parts = vec![
        ("an instance, and the guest: raw wasmtime", medians.of(RAW)),
        (
            "sandbox: arguments to values and back, limits, clock",
            medians.paired(SANDBOX, RAW, |sandbox, raw| sandbox - raw),
        ),
    ];
    parts.extend(own_parts(setting, pace.pick(5000, 20), memo)?);
    Ok((medians, parts))
}

/// What the host does around the sandbox, each step alone, in microseconds.
fn own_parts(setting: &Setting, times: usize, memo: bool) -> Measured<Vec<(&'static str, f64)>> {
    let config = setting.config()?;
    let policy = PolicySet::load(config.policies(), &config.group_sizes()).map_err(|_| "the policies do not load")?;
    if policy.rules().len() != POLICIES {
        return Err(format!("{} policies are in force, not {POLICIES}", policy.rules().len()).into());
    }
    let policy = if memo { policy } else { policy.without_memo() };
    let directory = Directory::new(config.agents().clone())?;
    let manifest = Manifest::read(&fs::read(component("good_echo"))?)?;
    let function = manifest.function("hash")?;
    let (request, limits) = (trivial(), config.limits());
    let caller = || directory.caller(&request.agent, request.user.as_deref());
    let decide = || {
        caller().map(|caller| {
            let decision = policy.decide_call(&CallFacts {
                caller: &caller,
                run: None,
                mode: Mode::Execute,
                tool: "echo",
                tool_digest: manifest.digest,
                function: &function.id,
            });
            (caller, decision)
        })
    };
    let (_, decision) = decide()?;
    let mint = |caller| {
        let identity = ToolIdentity::new("echo", manifest.digest);
        let narrowing = Narrowing::default();
        Grant::mint(
            &decision,
            caller,
            identity,
            function,
            Vec::new(),
            narrowing,
            limits.clone(),
        )
    };
    let host = setting.open(setting.in_memory(&["echo"]))?;
    let appends = Appends::of(&host)?;
    let store = Store::memory(Keys::load(&setting.home())?, StoreOptions::default())?;
    let payloads = || {
        appends
            .payloads()
            .map(|payloads| payloads.iter().map(Payload::commitment).collect::<Vec<Digest>>())
    };
    let batch = || appends.batch().expect("as before");
    let sealed = part_of(times, batch, |batch| {
        let entries = batch.entries.into_iter();
        entries
            .map(|entry| entry.seal(Stamp::first(1_763_700_000_000)))
            .collect::<Vec<_>>()
    });
    let committed = part_of(times, batch, |batch| store.commit(batch));
    Ok(vec![
        (
            "arguments parsed",
            part(times, || {
                Json::parse(&request.args, ambit_core::json::Limits::default())
            }),
        ),
        ("caller, and policy's decision", part(times, decide)),
        ("grant", part_of(times, || caller().expect("it is known"), mint)),
        ("ids, seed and payloads with their commitments", part(times, payloads)),
        ("two entries printed and hashed", sealed),
        ("in the ledger's tree and books", committed - sealed),
    ])
}

/// Raw wasmtime as fast as it goes while stopping and counting as the host does.
struct Raw {
    instance: InstancePre<()>,
    hash: ComponentExportIndex,
}

impl Raw {
    fn load(bytes: &[u8]) -> Measured<Raw> {
        let mut config = Config::new();
        config
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool()))
            .wasm_component_model_implements(true)
            .concurrency_support(false)
            .wasm_gc(false)
            .gc_support(false)
            .wasm_exceptions(false)
            .wasm_function_references(false)
            .wasm_threads(false)
            .wasm_memory64(false)
            .cranelift_nan_canonicalization(true)
            .relaxed_simd_deterministic(true)
            .consume_fuel(true)
            .epoch_interruption(true)
            .generate_address_map(false);
        let engine = Engine::new(&config)?;
        let component = Component::new(&engine, bytes)?;
        let hash = component
            .get_export_index(None, "hash")
            .ok_or("the component has no `hash`")?;
        let instance = Linker::new(&engine).instantiate_pre(&component)?;
        Ok(Raw { instance, hash })
    }

    fn call(&self) -> Measured<u64> {
        let mut store = wasmtime::Store::new(self.instance.engine(), ());
        store.set_fuel(1_000_000_000)?;
        store.set_epoch_deadline(1_000_000);
        let instance = self.instance.instantiate(&mut store)?;
        let hash = instance.get_typed_func::<(&str,), (u64,)>(&mut store, self.hash)?;
        let (hash,) = hash.call(&mut store, (TEXT,))?;
        Ok(hash)
    }
}

/// The best found: what is left mapped of a slot is cleared only where it was touched.
fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(64)
        .total_core_instances(64 * 64)
        .total_memories(128)
        .total_tables(512)
        .total_stacks(0)
        .max_core_instances_per_component(64)
        .max_tables_per_module(4)
        .table_elements(100_000)
        .max_unused_warm_slots(64);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Yes)
            .linear_memory_keep_resident(2 << 20)
            .table_keep_resident(64 << 10);
    }
    pool
}

/// The sandbox without anything around it.
struct Alone {
    sandbox: Sandbox,
    tool: LoadedTool,
    args: Json,
    limits: Limits,
}

impl Alone {
    fn load(bytes: &[u8]) -> Measured<Alone> {
        let sandbox = Sandbox::new(SandboxOptions::new(setting::compiler()))?;
        let tool = sandbox.load(bytes)?;
        let args = Json::parse(&trivial().args, ambit_core::json::Limits::default())?;
        Ok(Alone {
            sandbox,
            tool,
            args,
            limits: Limits::default(),
        })
    }

    fn call(&self) -> Measured<()> {
        let function = self.tool.manifest().function("hash")?;
        let ended = self
            .sandbox
            .run(&self.tool, function, &self.args, &self.limits, Box::new(Nothing(None)));
        match ended.outcome {
            Outcome::Ok(_) => Ok(()),
            other => Err(format!("the sandbox came to {other:?}").into()),
        }
    }
}

/// Effects that do nothing, or answer every request alike.
pub(super) struct Nothing(pub(super) Option<GuestResponse>);

impl Effects for Nothing {
    fn http(&mut self, _: u32, _: GuestRequest) -> Result<Result<GuestResponse, GuestHttpError>, Stop> {
        Ok(self
            .0
            .clone()
            .ok_or_else(|| GuestHttpError::Failed("nobody is there".to_owned())))
    }

    fn log(&mut self, _: LogLevel, _: &str) -> Result<(), Stop> {
        Ok(())
    }

    fn progress(&mut self, _: u64, _: u64, _: &str) -> Result<(), Stop> {
        Ok(())
    }

    fn now(&mut self) -> Result<u64, Stop> {
        Ok(0)
    }

    fn random(&mut self, bytes: &mut [u8]) -> Result<(), Stop> {
        bytes.fill(7);
        Ok(())
    }
}
