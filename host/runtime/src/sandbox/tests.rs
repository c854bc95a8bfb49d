//! The sandbox from outside, with guests written in WebAssembly text so that each does exactly one thing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;

use ambit_core::effect::{GuestBody, Method};
use ambit_core::json::Limits as JsonLimits;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::*;

/// A component from a world and a core module, the way tool chains make one.
pub(crate) fn component(world: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve
        .push_str("capability.wit", include_str!("../../../../wit/capability.wit"))
        .unwrap();
    let package = resolve
        .push_str("guest.wit", &format!("package test:guest@1.0.0;\n{world}"))
        .unwrap();
    let world = resolve.select_world(&[package], Some("tool")).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(&module).unwrap().encode().unwrap()
}

/// Memory, and an allocator that never frees: what every guest here begins with.
pub(crate) const ALLOCATOR: &str = r#"
    (memory (export "memory") 4)
    (global $top (mut i32) (i32.const 4096))
    (func $alloc (export "cabi_realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
        (local $at i32) (local $end i32)
        (local.set $at (i32.and
            (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
            (i32.sub (i32.const 0) (local.get $align))))
        (local.set $end (i32.add (local.get $at) (local.get $new)))
        (block $fits
            (br_if $fits (i32.le_u (local.get $end) (i32.mul (memory.size) (i32.const 65536))))
            (drop (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $new) (i32.const 16))))))
        (global.set $top (local.get $end))
        (local.get $at))
"#;

/// What the effects of a call were, and what they answer.
#[derive(Default)]
pub(super) struct Recorded {
    pub(super) requests: Vec<(u32, GuestRequest)>,
    pub(super) lines: Vec<(LogLevel, String)>,
    pub(super) progress: Vec<(u64, u64, String)>,
    /// Ends the call at its next effect or tick.
    stop: Option<Refusal>,
    /// How long an effect takes.
    takes: Duration,
}

pub(super) struct Recorder(pub(super) Arc<Mutex<Recorded>>);

impl Effects for Recorder {
    fn http(&mut self, import: u32, request: GuestRequest) -> Result<Result<GuestResponse, GuestHttpError>, Stop> {
        let mut recorded = self.0.lock().unwrap();
        std::thread::sleep(recorded.takes);
        if let Some(stop) = recorded.stop.clone() {
            return Err(stop);
        }
        let answer = if request.path == "/refused" {
            Err(GuestHttpError::Refused(Refusal::new(Code::Scope, "not declared")))
        } else {
            Ok(GuestResponse {
                status: 201,
                headers: vec![],
                body: Some(request.path.clone()),
            })
        };
        recorded.requests.push((import, request));
        Ok(answer)
    }

    fn log(&mut self, level: LogLevel, message: &str) -> Result<(), Stop> {
        self.0.lock().unwrap().lines.push((level, message.to_owned()));
        Ok(())
    }

    fn progress(&mut self, done: u64, total: u64, message: &str) -> Result<(), Stop> {
        self.0.lock().unwrap().progress.push((done, total, message.to_owned()));
        Ok(())
    }

    fn now(&mut self) -> Result<u64, Stop> {
        Ok(1_700_000_000_123)
    }

    fn random(&mut self, bytes: &mut [u8]) -> Result<(), Stop> {
        bytes.fill(7);
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Stop> {
        self.0.lock().unwrap().stop.clone().map_or(Ok(()), Err)
    }
}

pub(super) static SANDBOX: LazyLock<Sandbox> =
    LazyLock::new(|| Sandbox::new(SandboxOptions::new(Compiler::InProcess)).unwrap());

pub(super) fn json(text: &str) -> Json {
    Json::parse(
        text,
        JsonLimits {
            bytes: 64 << 20,
            ..JsonLimits::default()
        },
    )
    .unwrap()
}

/// Runs one function of a component.
pub(super) fn call(
    tool: &LoadedTool,
    function: &str,
    args: &Json,
    limits: &Limits,
    recorded: &Arc<Mutex<Recorded>>,
) -> Ended {
    let effects = Box::new(Recorder(Arc::clone(recorded)));
    let function = tool.manifest().function(function).unwrap();
    SANDBOX.run(tool, function, args, limits, effects)
}

fn quick(tool: &LoadedTool, function: &str, args: &str) -> Outcome {
    call(tool, function, &json(args), &Limits::default(), &Arc::default()).outcome
}

fn stop(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Stopped(refusal) => refusal,
        other => panic!("not stopped: {other:?}"),
    }
}

/// One way to use something up for each function.
static GLUTTON: LazyLock<LoadedTool> = LazyLock::new(|| {
    let world = "world tool {
        import ambit:capability/log@0.1.0;
        import ambit:capability/progress@0.1.0;
        import ambit:capability/random@0.1.0;
        import ambit:capability/clock@0.1.0;
        export spin: func();
        export grow: func(pages: u32) -> u32;
        export recurse: func();
        export trap: func();
        export flood: func(len: u32);
        export flood-empty: func();
        export flood-progress: func();
        export random: func(len: u32) -> u32;
        export now: func() -> u64;
        export text: func(len: u32) -> string;
        export swallow: func(value: string) -> u32;
        export many: func(len: u32) -> list<list<bool>>;
    }";
    let module = format!(
        r#"(module
        (import "ambit:capability/log@0.1.0" "log" (func $log (param i32 i32 i32)))
        (import "ambit:capability/progress@0.1.0" "report" (func $report (param i64 i64 i32 i32)))
        (import "ambit:capability/random@0.1.0" "bytes" (func $bytes (param i32 i32)))
        (import "ambit:capability/clock@0.1.0" "now" (func $now (result i64)))
        {ALLOCATOR}
        (func (export "spin") (loop $again (br $again)))
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
        (func $recurse (export "recurse") (call $recurse))
        (func (export "trap") unreachable)
        (func (export "flood") (param $len i32)
            (loop $again (call $log (i32.const 2) (i32.const 0) (local.get $len)) (br $again)))
        (func (export "flood-empty")
            (loop $again (call $log (i32.const 0) (i32.const 0) (i32.const 0)) (br $again)))
        (func (export "flood-progress")
            (loop $again (call $report (i64.const 1) (i64.const 0) (i32.const 0) (i32.const 0)) (br $again)))
        (func (export "random") (param i32) (result i32)
            (call $bytes (local.get 0) (i32.const 8))
            (i32.load (i32.const 12)))
        (func (export "now") (result i64) (call $now))
        (func $pair (param $len i32) (result i32)
            (i32.store (i32.const 16) (call $alloc (i32.const 0) (i32.const 0) (i32.const 8) (local.get $len)))
            (i32.store (i32.const 20) (local.get $len))
            (i32.const 16))
        (func (export "text") (param i32) (result i32) (call $pair (local.get 0)))
        (func (export "swallow") (param i32 i32) (result i32) (local.get 1))
        (func (export "many") (param i32) (result i32)
            (drop (call $pair (i32.mul (local.get 0) (i32.const 8))))
            (i32.store (i32.const 20) (local.get 0))
            (i32.const 16))
        )"#
    );
    SANDBOX.load(&component(world, &module)).unwrap()
});

fn check_limit(function: &str, args: &str, change: impl FnOnce(&mut Limits), expected: Code) -> Refusal {
    let mut limits = Limits::default();
    change(&mut limits);
    let ended = call(&GLUTTON, function, &json(args), &limits, &Arc::default());
    assert!(ended.fuel_used <= limits.fuel, "{}", ended.fuel_used);
    let refusal = stop(ended.outcome);
    assert_eq!(refusal.code, expected, "{refusal:?}");
    refusal
}

#[test]
fn trap_03_an_endless_loop_runs_out_of_fuel() {
    let refusal = check_limit("spin", "{}", |limits| limits.fuel = 1_000_000, Code::Fuel);
    assert_eq!(refusal.message, "the tool used up its fuel of 1000000");
}

#[test]
fn fuel_is_the_same_every_time() {
    let used = || {
        call(
            &GLUTTON,
            "text",
            &json(r#"{"len":100}"#),
            &Limits::default(),
            &Arc::default(),
        )
        .fuel_used
    };
    let first = used();
    assert!(first > 0);
    assert!((0..10).all(|_| used() == first));
    let with = |fuel| {
        let limits = Limits {
            fuel,
            ..Limits::default()
        };
        call(&GLUTTON, "text", &json(r#"{"len":100}"#), &limits, &Arc::default()).outcome
    };
    assert!(matches!(with(first), Outcome::Ok(_)), "enough is enough");
    assert_eq!(stop(with(1)).code, Code::Fuel);
}

#[test]
fn trap_03_an_endless_loop_runs_out_of_time() {
    let begun = Instant::now();
    let limits = |limits: &mut Limits| {
        // Ends by itself, but far later, where time is not limited.
        limits.fuel = 50_000_000_000;
        limits.wall_ms = 20;
    };
    check_limit("spin", "{}", limits, Code::Time);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn trap_03_a_stop_from_outside_ends_a_running_guest() {
    let recorded = Arc::new(Mutex::new(Recorded::default()));
    let kill = Arc::clone(&recorded);
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        kill.lock().unwrap().stop = Some(Refusal::new(Code::Caller, "killed"));
    });
    let limits = Limits {
        fuel: u64::MAX,
        ..Limits::default()
    };
    let ended = call(&GLUTTON, "spin", &json("{}"), &limits, &recorded);
    killer.join().unwrap();
    assert_eq!(stop(ended.outcome), Refusal::new(Code::Caller, "killed"));
}

#[test]
fn trap_03_spinning_guests_do_not_stop_others() {
    let recorded = Arc::new(Mutex::new(Recorded::default()));
    let limits = Limits {
        fuel: u64::MAX,
        wall_ms: 20_000,
        ..Limits::default()
    };
    std::thread::scope(|scope| {
        let spin = || call(&GLUTTON, "spin", &json("{}"), &limits, &recorded).outcome;
        let spinning: Vec<_> = (0..4).map(|_| scope.spawn(spin)).collect();
        for _ in 0..20 {
            assert_eq!(quick(&GLUTTON, "swallow", r#"{"value":"abc"}"#), Outcome::Ok(json("3")));
        }
        assert!(spinning.iter().all(|guest| !guest.is_finished()));
        recorded.lock().unwrap().stop = Some(Refusal::new(Code::Caller, "killed"));
        for guest in spinning {
            assert_eq!(stop(guest.join().unwrap()).code, Code::Caller);
        }
    });
}

#[test]
fn trap_11_stopping_one_guest_leaves_the_others() {
    let spin = |fuel, wall_ms| {
        let limits = Limits {
            fuel,
            wall_ms,
            ..Limits::default()
        };
        stop(call(&GLUTTON, "spin", &json("{}"), &limits, &Arc::default()).outcome).code
    };
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| spin(2_000_000_000, 30_000));
        for _ in 0..5 {
            assert_eq!(spin(u64::MAX, 5), Code::Time);
        }
        assert_eq!(patient.join().unwrap(), Code::Fuel, "by its own limit alone");
    });
}

#[test]
fn trap_04_memory_beyond_the_limit_ends_the_call() {
    // 64 MiB, where nothing else is said.
    check_limit("grow", r#"{"pages":1021}"#, |_| {}, Code::Memory);
    check_limit(
        "grow",
        r#"{"pages":0}"#,
        |limits| limits.memory_bytes = (4 << 16) - 1,
        Code::Memory,
    );
    // Four pages to begin with, and the small table that the imports need.
    let limits = Limits {
        memory_bytes: (8 << 16) + 1024,
        ..Limits::default()
    };
    let grow = |pages| {
        call(
            &GLUTTON,
            "grow",
            &json(&format!("{{\"pages\":{pages}}}")),
            &limits,
            &Arc::default(),
        )
    };
    let ended = grow(4);
    assert_eq!(ended.outcome, Outcome::Ok(json("4")));
    assert!(
        (8 << 16..(8 << 16) + 1024).contains(&ended.peak_memory),
        "{}",
        ended.peak_memory
    );
    assert_eq!(stop(grow(5).outcome).code, Code::Memory);
}

#[test]
fn endless_recursion_exhausts_the_stack() {
    check_limit("recurse", "{}", |_| {}, Code::Stack);
}

#[test]
fn a_trap_is_named() {
    let refusal = check_limit("trap", "{}", |_| {}, Code::Trap);
    assert_eq!(
        refusal.message,
        "the tool trapped: wasm trap: wasm `unreachable` instruction executed"
    );
}

#[test]
fn trap_12_log_floods_end_the_call() {
    // Enough to go over the limit, and not for much more where there is none.
    let brief = |limits: &mut Limits| limits.fuel = 200_000;
    check_limit("flood", r#"{"len":1000}"#, brief, Code::Log);
    check_limit("flood-empty", "{}", brief, Code::Log);
    check_limit("flood-progress", "{}", brief, Code::Log);
    let recorded = Arc::default();
    let limits = Limits {
        fuel: 200_000,
        ..Limits::default()
    };
    call(&GLUTTON, "flood", &json(r#"{"len":1000}"#), &limits, &recorded);
    let logged: usize = recorded.lock().unwrap().lines.iter().map(|(_, line)| line.len()).sum();
    assert!(logged <= 64 << 10, "{logged}");
}

#[test]
fn random_bytes_are_the_calls_and_bounded() {
    assert_eq!(
        quick(&GLUTTON, "random", r#"{"len":65536}"#),
        Outcome::Ok(json("65536"))
    );
    check_limit("random", r#"{"len":65537}"#, |_| {}, Code::Limit);
}

#[test]
fn the_clock_is_the_calls() {
    assert_eq!(quick(&GLUTTON, "now", "{}"), Outcome::Ok(json("1700000000123")));
}

#[test]
fn a_result_is_limited_to_the_byte() {
    let limits = Limits {
        result_bytes: 1_000,
        ..Limits::default()
    };
    let text = |len| {
        call(
            &GLUTTON,
            "text",
            &json(&format!("{{\"len\":{len}}}")),
            &limits,
            &Arc::default(),
        )
        .outcome
    };
    // Zero bytes are written as escapes of six characters.
    let Outcome::Ok(result) = text(166) else { panic!() };
    assert_eq!(result.to_canonical().len(), 998);
    assert_eq!(stop(text(167)).code, Code::Result);
}

#[test]
fn a_giant_result_is_not_built() {
    // 16 million empty lists in 128 MiB of guest memory would be gigabytes here.
    let limits = |limits: &mut Limits| {
        limits.memory_bytes = 256 << 20;
        limits.fuel = u64::MAX;
    };
    check_limit("many", r#"{"len":16000000}"#, limits, Code::Limit);
    check_limit("many", r#"{"len":400000}"#, |_| {}, Code::Result);
}

#[test]
fn arguments_are_limited_to_the_byte() {
    let args = json(r#"{"value":"0123456789"}"#);
    let run = |args_bytes| {
        let limits = Limits {
            args_bytes,
            ..Limits::default()
        };
        call(&GLUTTON, "swallow", &args, &limits, &Arc::default()).outcome
    };
    assert_eq!(run(22), Outcome::Ok(json("10")));
    let refusal = stop(run(21));
    assert_eq!(
        (refusal.code, refusal.message.as_str()),
        (Code::Arguments, "the arguments are 22 bytes of JSON; 21 is the most")
    );
}

#[test]
fn arguments_and_results_are_limited_in_depth() {
    let with = |json_depth| Limits {
        json_depth,
        ..Limits::default()
    };
    let swallow = |depth| {
        call(
            &GLUTTON,
            "swallow",
            &json(r#"{"value":""}"#),
            &with(depth),
            &Arc::default(),
        )
        .outcome
    };
    assert_eq!(swallow(1), Outcome::Ok(json("0")));
    assert_eq!(stop(swallow(0)).code, Code::Arguments);
    let many = |depth| call(&GLUTTON, "many", &json(r#"{"len":1}"#), &with(depth), &Arc::default()).outcome;
    assert_eq!(many(2), Outcome::Ok(json("[[]]")));
    assert_eq!(stop(many(1)).code, Code::Result);
}

/// Sends through two imports of one interface.
fn two_services() -> LoadedTool {
    SANDBOX.load(&two_services_component()).unwrap()
}

fn two_services_component() -> Vec<u8> {
    let world = r#"world tool {
        @external-id("GET https://a.example/** reads(**)")
        import stripe: ambit:capability/http@0.1.0;
        import ambit:capability/clock@0.1.0;
        @external-id("GET https://b.example/** reads(**)")
        import slack: ambit:capability/http@0.1.0;
        export first: func(path: string) -> u16;
        export second: func(path: string) -> u16;
    }"#;
    // Record fields and variant cases flattened: method, path, query, headers, body, then where the answer goes.
    let send = |import: &str| {
        format!(
            "(call {import} (i32.const 2) (local.get 0) (local.get 1) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 1) (local.get 0) (local.get 1) (i32.const 64))
             (i32.load16_u (i32.const 68))"
        )
    };
    let ty = "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)";
    let (first, second) = (send("$stripe"), send("$slack"));
    let module = format!(
        r#"(module
        (import "stripe" "send" (func $stripe {ty}))
        (import "ambit:capability/clock@0.1.0" "now" (func (result i64)))
        (import "slack" "send" (func $slack {ty}))
        {ALLOCATOR}
        (func (export "first") (param i32 i32) (result i32) {first})
        (func (export "second") (param i32 i32) (result i32) {second}))"#
    );
    component(world, &module)
}

#[test]
fn requests_arrive_with_the_position_of_their_import() {
    let tool = two_services();
    let recorded = Arc::default();
    let index = |label| {
        tool.manifest()
            .imports
            .iter()
            .find(|import| import.label == label)
            .unwrap()
            .index
    };
    for (function, label) in [("first", "stripe"), ("second", "slack")] {
        let ended = call(
            &tool,
            function,
            &json(r#"{"path":"/x"}"#),
            &Limits::default(),
            &recorded,
        );
        assert_eq!(ended.outcome, Outcome::Ok(json("201")));
        let (import, request) = recorded.lock().unwrap().requests.pop().unwrap();
        assert_eq!(import, index(label));
        assert_eq!((request.method, request.path.as_str()), (Method::Post, "/x"));
        assert_eq!(request.body, GuestBody::Json("/x".into()));
    }
    assert_ne!(index("stripe"), index("slack"));
}

#[test]
fn a_refused_effect_is_the_guests_to_handle() {
    // The answer's first word is then a string's address, whatever it is; the call goes on.
    assert!(matches!(
        quick(&two_services(), "first", r#"{"path":"/refused"}"#),
        Outcome::Ok(_)
    ));
}

/// Every slot can hold the most that a component may be made of: else a few such would take the slots of all others.
#[test]
fn all_slots_hold_what_is_admitted() {
    const SLOTS: usize = 3;
    let mut options = SandboxOptions::new(Compiler::InProcess);
    options.slots = SLOTS as u32;
    let sandbox = Sandbox::new(options).unwrap();
    let tables = "(table 1 funcref)".repeat(4);
    let parts = (0..8).map(|part| {
        let memory = if part < 4 { "(memory 1)" } else { "" };
        format!("(core module $m{part} {memory} {tables}) (core instance (instantiate $m{part}))")
    });
    let wasm = wat::parse_str(format!("(component {})", parts.collect::<String>())).unwrap();
    let component = compile::component(&sandbox.engine, &Compiler::InProcess, None, &wasm).unwrap();
    admit(&component).unwrap();
    let linker = wasmtime::component::Linker::<()>::new(&sandbox.engine);
    let instance = linker.instantiate_pre(&component).unwrap();
    let mut stores: Vec<_> = (0..SLOTS).map(|_| wasmtime::Store::new(&sandbox.engine, ())).collect();
    for store in &mut stores {
        store.set_fuel(1_000).unwrap();
        store.set_epoch_deadline(1_000_000);
        instance.instantiate(store).unwrap();
    }
}

#[test]
fn a_stop_in_an_effect_ends_the_call_with_that_refusal() {
    let why = Refusal::new(Code::Ledger, "nothing can be recorded")
        .advise("free some disk")
        .rule("r");
    let recorded = Arc::new(Mutex::new(Recorded {
        stop: Some(why.clone()),
        ..Recorded::default()
    }));
    let ended = call(
        &two_services(),
        "first",
        &json(r#"{"path":"/x"}"#),
        &Limits::default(),
        &recorded,
    );
    assert_eq!(stop(ended.outcome), why);
}

#[test]
fn waiting_for_an_effect_is_not_the_guests_time() {
    let recorded = Arc::new(Mutex::new(Recorded {
        takes: Duration::from_millis(60),
        ..Recorded::default()
    }));
    let limits = Limits {
        wall_ms: 30,
        ..Limits::default()
    };
    let ended = call(&two_services(), "first", &json(r#"{"path":"/x"}"#), &limits, &recorded);
    assert_eq!(ended.outcome, Outcome::Ok(json("201")));
    assert!(ended.outside >= Duration::from_millis(60) && ended.duration >= ended.outside);
}

#[test]
fn a_component_of_too_many_parts_is_refused() {
    let of = |kind: &str, count| {
        let instances = format!(
            "(core module $m ({kind})) {}",
            "(core instance (instantiate $m))".repeat(count)
        );
        let wasm = wat::parse_str(format!("(component {instances})")).unwrap();
        compile::component(&SANDBOX.engine, &Compiler::InProcess, None, &wasm).and_then(|component| admit(&component))
    };
    for (kind, most) in [("memory 1", 4), ("table 1 funcref", 32)] {
        assert_eq!(of(kind, most), Ok(()));
        assert_eq!(of(kind, most + 1).unwrap_err().code, Code::Load);
    }
    assert_eq!(of("func", 65).unwrap_err().code, Code::Load);
}

/// Effects that run another call in the middle of one.
struct Nested {
    sandbox: Arc<Sandbox>,
    tool: Arc<LoadedTool>,
    inner: Arc<Mutex<Option<Outcome>>>,
    recorder: Recorder,
}

impl Effects for Nested {
    fn http(&mut self, import: u32, request: GuestRequest) -> Result<Result<GuestResponse, GuestHttpError>, Stop> {
        let function = self.tool.manifest().function("first").unwrap();
        let effects = Box::new(Recorder(Arc::default()));
        let ended = self.sandbox.run(
            &self.tool,
            function,
            &json(r#"{"path":"/x"}"#),
            &Limits::default(),
            effects,
        );
        *self.inner.lock().unwrap() = Some(ended.outcome);
        self.recorder.http(import, request)
    }

    fn log(&mut self, level: LogLevel, message: &str) -> Result<(), Stop> {
        self.recorder.log(level, message)
    }

    fn progress(&mut self, done: u64, total: u64, message: &str) -> Result<(), Stop> {
        self.recorder.progress(done, total, message)
    }

    fn now(&mut self) -> Result<u64, Stop> {
        self.recorder.now()
    }

    fn random(&mut self, bytes: &mut [u8]) -> Result<(), Stop> {
        self.recorder.random(bytes)
    }
}

#[test]
fn more_calls_than_slots_are_refused_and_the_others_go_on() {
    let mut options = SandboxOptions::new(Compiler::InProcess);
    options.slots = 1;
    let sandbox = Arc::new(Sandbox::new(options).unwrap());
    let tool = Arc::new(sandbox.load(&two_services_component()).unwrap());
    let inner = Arc::default();
    for _ in 0..3 {
        let nested = Nested {
            sandbox: Arc::clone(&sandbox),
            tool: Arc::clone(&tool),
            inner: Arc::clone(&inner),
            recorder: Recorder(Arc::default()),
        };
        let function = tool.manifest().function("first").unwrap();
        let ended = sandbox.run(
            &tool,
            function,
            &json(r#"{"path":"/x"}"#),
            &Limits::default(),
            Box::new(nested),
        );
        assert_eq!(ended.outcome, Outcome::Ok(json("201")));
        assert_eq!(stop(inner.lock().unwrap().take().unwrap()).code, Code::Limit);
    }
}

#[test]
fn a_function_of_another_tool_is_refused() {
    let tool = two_services();
    let function = GLUTTON.manifest().function("spin").unwrap();
    let ended = SANDBOX.run(
        &tool,
        function,
        &json("{}"),
        &Limits::default(),
        Box::new(Recorder(Arc::default())),
    );
    assert_eq!(stop(ended.outcome).code, Code::Function);
}

fn check_load(world: &str, imports: &str, expected: &str) {
    let module = format!(r#"(module {imports} {ALLOCATOR} (func (export "go")))"#);
    let refusal = SANDBOX.load(&component(world, &module)).unwrap_err();
    assert_eq!(refusal.code, Code::Load, "{refusal:?}");
    assert!(refusal.message.contains(expected), "{refusal:?}");
}

#[test]
fn what_nobody_serves_is_refused_by_name() {
    check_load(
        "interface other { go: func(); } world tool { import other; export go: func(); }",
        r#"(import "test:guest/other@1.0.0" "go" (func))"#,
        "test:guest/other@1.0.0",
    );
    check_load(
        "world tool { import lonely: func(); export go: func(); }",
        r#"(import "$root" "lonely" (func))"#,
        "lonely",
    );
}

#[test]
fn what_is_not_a_component_is_refused() {
    let valid = component(
        "world tool { export go: func(); }",
        &format!(r#"(module {ALLOCATOR} (func (export "go")))"#),
    );
    SANDBOX.load(&valid).unwrap();
    let cut = &valid[..valid.len() / 2];
    for bytes in [&b""[..], b"not wasm", b"\0asm\x01\0\0\0", cut] {
        assert_eq!(SANDBOX.load(bytes).unwrap_err().code, Code::Load);
    }
}

/// Two components with the same function, which tells them apart.
fn numbered(number: u32) -> Vec<u8> {
    let module = format!(r#"(module {ALLOCATOR} (func (export "number") (result i32) (i32.const {number})))"#);
    component("world tool { export number: func() -> u32; }", &module)
}

fn cached(directory: &Path, key: u8) -> Sandbox {
    let mut options = SandboxOptions::new(Compiler::InProcess);
    options.slots = 1;
    options.cache = Some(CompileCache::new(directory, [key; 32]));
    Sandbox::new(options).unwrap()
}

fn number_of(sandbox: &Sandbox, wasm: &[u8]) -> Outcome {
    let tool = sandbox.load(wasm).unwrap();
    let function = tool.manifest().function("number").unwrap();
    sandbox
        .run(
            &tool,
            function,
            &json("{}"),
            &Limits::default(),
            Box::new(Recorder(Arc::default())),
        )
        .outcome
}

fn cache_files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn trap_15_compiled_code_is_cached_and_a_wrong_tag_is_never_used() {
    let directory = tempfile::tempdir().unwrap();
    let sandbox = cached(directory.path(), 1);
    assert_eq!(number_of(&sandbox, &numbered(1)), Outcome::Ok(json("1")));
    let one = cache_files(directory.path()).remove(0);
    let written = std::fs::read(&one).unwrap();
    assert_eq!(number_of(&sandbox, &numbered(2)), Outcome::Ok(json("2")));
    let two = cache_files(directory.path())
        .into_iter()
        .find(|path| *path != one)
        .unwrap();

    // Another component's authentic code under this one's name, as a cache keyed by name alone would take.
    std::fs::copy(&two, &one).unwrap();
    assert_eq!(number_of(&sandbox, &numbered(1)), Outcome::Ok(json("1")));
    assert_eq!(std::fs::read(&one).unwrap(), written, "recompiled and cached again");

    // The same bytes under another home's key.
    std::fs::copy(&two, &one).unwrap();
    assert_eq!(
        number_of(&cached(directory.path(), 2), &numbered(1)),
        Outcome::Ok(json("1"))
    );
    assert_ne!(std::fs::read(&one).unwrap(), written);

    // Cut short, and empty.
    for damaged in [&written[..100], &[]] {
        std::fs::write(&one, damaged).unwrap();
        assert_eq!(number_of(&sandbox, &numbered(1)), Outcome::Ok(json("1")));
        assert_eq!(std::fs::read(&one).unwrap(), written);
    }
}

#[test]
fn a_valid_cache_entry_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let sandbox = cached(directory.path(), 1);
    number_of(&sandbox, &numbered(1));
    // A compiler that cannot run shows that none is needed.
    let mut options = SandboxOptions::new(Compiler::Child("/nonexistent".into()));
    options.slots = 1;
    options.cache = Some(CompileCache::new(directory.path(), [1; 32]));
    let warm = Sandbox::new(options).unwrap();
    assert_eq!(number_of(&warm, &numbered(1)), Outcome::Ok(json("1")));
    let refusal = warm.load(&numbered(2)).unwrap_err();
    assert_eq!(refusal.code, Code::Internal);
    assert!(refusal.message.contains("/nonexistent"), "{refusal}");
}

/// A stand-in for the compiler that does what `script` says.
fn compiler(directory: &Path, script: &str) -> Compiler {
    use std::os::unix::fs::PermissionsExt;
    let program = directory.join("compiler");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    Compiler::Child(program)
}

#[track_caller]
fn check_compiler(script: &str, code: Code, expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut options = SandboxOptions::new(compiler(directory.path(), script));
    options.slots = 1;
    let refusal = Sandbox::new(options).unwrap().load(&numbered(1)).unwrap_err();
    assert_eq!(refusal.code, code, "{refusal:?}");
    assert!(refusal.message.contains(expected), "{refusal:?}");
}

#[test]
fn a_compiler_that_fails_is_told_apart_from_a_bad_component() {
    check_compiler(
        "cat >/dev/null; echo no such opcode >&2; exit 2",
        Code::Load,
        "not valid: no such opcode",
    );
    check_compiler(
        "cat >/dev/null; echo out of luck >&2; exit 1",
        Code::Internal,
        "out of luck",
    );
    check_compiler("cat >/dev/null; kill -9 $$", Code::Load, "memory or processor time");
    check_compiler("exit 0", Code::Load, "does not fit");
    check_compiler(
        "cat >/dev/null; printf '\\033[31mred' >&2; exit 2",
        Code::Load,
        "\\u{1b}[31mred",
    );
}

#[test]
fn the_compiler_has_no_environment() {
    check_compiler(
        "cat >/dev/null; echo \"[$HOME$USER$CARGO_MANIFEST_DIR]\" >&2; exit 2",
        Code::Load,
        "not valid: []",
    );
}
