//! A guest that asks WASI for everything there usually is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use ambit_core::error::Code;
use ambit_core::grant::Limits;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::sandbox::tests::{ALLOCATOR, Recorded, SANDBOX, call, json};
use crate::sandbox::{Ended, LoadedTool, LogLevel, Outcome};

/// The parts of WASI that the guest uses, with the types that the host's are compared with.
const WASI: [&str; 6] = [
    "package wasi:io@0.2.3;
     interface error { resource error; }
     interface poll { resource pollable { block: func(); } }
     interface streams {
        use error.{error};
        variant stream-error { last-operation-failed(error), closed }
        resource output-stream { blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>; }
     }",
    "package wasi:cli@0.2.3;
     interface environment {
        get-environment: func() -> list<tuple<string, string>>;
        get-arguments: func() -> list<string>;
     }
     interface stdout { use wasi:io/streams@0.2.3.{output-stream}; get-stdout: func() -> output-stream; }
     interface stderr { use wasi:io/streams@0.2.3.{output-stream}; get-stderr: func() -> output-stream; }
     interface exit { exit: func(status: result); }",
    "package wasi:clocks@0.2.3;
     interface monotonic-clock {
        use wasi:io/poll@0.2.3.{pollable};
        now: func() -> u64;
        subscribe-duration: func(when: u64) -> pollable;
     }
     interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } now: func() -> datetime; }",
    "package wasi:random@0.2.3; interface random { get-random-u64: func() -> u64; }",
    "package wasi:filesystem@0.2.3;
     interface types { resource descriptor; }
     interface preopens { use types.{descriptor}; get-directories: func() -> list<tuple<descriptor, string>>; }",
    "package wasi:sockets@0.2.3;
     interface network {
        resource network;
        enum error-code { unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout,
            concurrency-conflict, not-in-progress, would-block, invalid-state, new-socket-limit, address-not-bindable,
            address-in-use, remote-unreachable, connection-refused, connection-reset, connection-aborted,
            datagram-too-large, name-unresolvable, temporary-resolver-failure, permanent-resolver-failure }
        enum ip-address-family { ipv4, ipv6 }
     }
     interface instance-network { use network.{network}; instance-network: func() -> network; }
     interface ip-name-lookup {
        use network.{network, error-code};
        resource resolve-address-stream;
        resolve-addresses: func(network: borrow<network>, name: string) -> result<resolve-address-stream, error-code>;
     }
     interface tcp { resource tcp-socket; }
     interface tcp-create-socket {
        use network.{error-code, ip-address-family};
        use tcp.{tcp-socket};
        create-tcp-socket: func(address-family: ip-address-family) -> result<tcp-socket, error-code>;
     }",
];

fn component(world: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    for (i, package) in WASI.iter().enumerate() {
        resolve.push_str(format!("wasi{i}.wit"), package).unwrap();
    }
    let package = resolve
        .push_str("guest.wit", &format!("package test:guest@1.0.0;\n{world}"))
        .unwrap();
    let world = resolve.select_world(&[package], Some("tool")).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(&module).unwrap().encode().unwrap()
}

static CURIOUS: LazyLock<LoadedTool> = LazyLock::new(|| {
    let world = "world tool {
        import wasi:cli/environment@0.2.3;
        import wasi:cli/stdout@0.2.3;
        import wasi:cli/stderr@0.2.3;
        import wasi:cli/exit@0.2.3;
        import wasi:clocks/monotonic-clock@0.2.3;
        import wasi:clocks/wall-clock@0.2.3;
        import wasi:random/random@0.2.3;
        import wasi:filesystem/preopens@0.2.3;
        import wasi:sockets/instance-network@0.2.3;
        import wasi:sockets/ip-name-lookup@0.2.3;
        import wasi:sockets/tcp-create-socket@0.2.3;
        export arguments: func() -> u32;
        export variables: func() -> u32;
        export directories: func() -> u32;
        export resolve: func(name: string) -> u32;
        export connect: func() -> u32;
        export seconds: func() -> u64;
        export sleep: func(nanoseconds: u64) -> u64;
        export hoard: func();
        export random: func() -> u64;
        export print: func(text: string);
        export shout: func(text: string);
        export flood: func(text: string);
        export leave: func();
    }";
    let module = format!(
        r#"(module
        (import "wasi:cli/environment@0.2.3" "get-arguments" (func $arguments (param i32)))
        (import "wasi:cli/environment@0.2.3" "get-environment" (func $variables (param i32)))
        (import "wasi:filesystem/preopens@0.2.3" "get-directories" (func $directories (param i32)))
        (import "wasi:sockets/instance-network@0.2.3" "instance-network" (func $network (result i32)))
        (import "wasi:sockets/ip-name-lookup@0.2.3" "resolve-addresses" (func $resolve (param i32 i32 i32 i32)))
        (import "wasi:sockets/tcp-create-socket@0.2.3" "create-tcp-socket" (func $socket (param i32 i32)))
        (import "wasi:clocks/wall-clock@0.2.3" "now" (func $wall (param i32)))
        (import "wasi:clocks/monotonic-clock@0.2.3" "now" (func $now (result i64)))
        (import "wasi:clocks/monotonic-clock@0.2.3" "subscribe-duration" (func $subscribe (param i64) (result i32)))
        (import "wasi:io/poll@0.2.3" "[method]pollable.block" (func $block (param i32)))
        (import "wasi:random/random@0.2.3" "get-random-u64" (func $random (result i64)))
        (import "wasi:cli/stdout@0.2.3" "get-stdout" (func $stdout (result i32)))
        (import "wasi:cli/stderr@0.2.3" "get-stderr" (func $stderr (result i32)))
        (import "wasi:io/streams@0.2.3" "[method]output-stream.blocking-write-and-flush"
            (func $write (param i32 i32 i32 i32)))
        (import "wasi:cli/exit@0.2.3" "exit" (func $exit (param i32)))
        {ALLOCATOR}
        (func (export "arguments") (result i32) (call $arguments (i32.const 16)) (i32.load (i32.const 20)))
        (func (export "variables") (result i32) (call $variables (i32.const 16)) (i32.load (i32.const 20)))
        (func (export "directories") (result i32) (call $directories (i32.const 16)) (i32.load (i32.const 20)))
        ;; 1000 for an error, and which.
        (func $outcome (result i32)
            (i32.add (i32.mul (i32.load8_u (i32.const 16)) (i32.const 1000)) (i32.load8_u (i32.const 20))))
        (func (export "resolve") (param i32 i32) (result i32)
            (call $resolve (call $network) (local.get 0) (local.get 1) (i32.const 16)) (call $outcome))
        (func (export "connect") (result i32) (call $socket (i32.const 0) (i32.const 16)) (call $outcome))
        (func (export "seconds") (result i64) (call $wall (i32.const 16)) (i64.load (i32.const 16)))
        (func (export "sleep") (param i64) (result i64) (local $begun i64)
            (local.set $begun (call $now))
            (call $block (call $subscribe (local.get 0)))
            (i64.sub (call $now) (local.get $begun)))
        (func (export "hoard") (loop $again (drop (call $subscribe (i64.const 0))) (br $again)))
        (func (export "random") (result i64) (call $random))
        (func $print (export "print") (param i32 i32)
            (call $write (call $stdout) (local.get 0) (local.get 1) (i32.const 16)))
        (func (export "shout") (param i32 i32)
            (call $write (call $stderr) (local.get 0) (local.get 1) (i32.const 16)))
        (func (export "flood") (param i32 i32) (local $out i32)
            (local.set $out (call $stdout))
            (loop $again
                (call $write (local.get $out) (local.get 0) (local.get 1) (i32.const 16))
                (br $again)))
        (func (export "leave") (call $exit (i32.const 1)))
        )"#
    );
    SANDBOX.load(&component(world, &module)).unwrap()
});

fn run(function: &str, args: &str) -> (Ended, Vec<(LogLevel, String)>) {
    let recorded: Arc<Mutex<Recorded>> = Arc::default();
    // Enough for everything that ends, and not for much more of what does not.
    let limits = Limits {
        fuel: 1_000_000,
        ..Limits::default()
    };
    let ended = call(&CURIOUS, function, &json(args), &limits, &recorded);
    let lines = std::mem::take(&mut recorded.lock().unwrap().lines);
    (ended, lines)
}

#[track_caller]
fn check(function: &str, args: &str, expected: &str) {
    assert_eq!(run(function, args).0.outcome, Outcome::Ok(json(expected)), "{function}");
}

#[track_caller]
fn check_stopped(function: &str, args: &str, code: Code) -> Vec<(LogLevel, String)> {
    let (ended, lines) = run(function, args);
    let Outcome::Stopped(refusal) = ended.outcome else {
        panic!("{:?}", ended.outcome)
    };
    assert_eq!(refusal.code, code, "{refusal:?}");
    lines
}

#[test]
fn trap_01_there_is_nothing_of_the_host() {
    for empty in ["arguments", "variables", "directories"] {
        check(empty, "{}", "0");
    }
}

#[test]
fn trap_06_names_and_sockets_are_refused() {
    const PERMANENT_RESOLVER_FAILURE: &str = "1020";
    const ACCESS_DENIED: &str = "1001";
    for name in ["localhost", "example.com", "127.0.0.1"] {
        let (ended, _) = run("resolve", &format!("{{\"name\":\"{name}\"}}"));
        assert_eq!(ended.outcome, Outcome::Ok(json(PERMANENT_RESOLVER_FAILURE)), "{name}");
    }
    check("connect", "{}", ACCESS_DENIED);
}

#[test]
fn time_and_randomness_are_the_calls() {
    check("seconds", "{}", "1700000000");
    check("random", "{}", "\"506381209866536711\"");
}

#[test]
fn a_sleep_is_over_at_once_and_was_as_long_as_asked() {
    let begun = Instant::now();
    check("sleep", r#"{"nanoseconds":3600000000000}"#, "3600000000000");
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn resources_are_bounded() {
    check_stopped("hoard", "{}", Code::Trap);
}

#[test]
fn trap_02_what_is_printed_goes_to_the_log() {
    let lines = |function| run(function, r#"{"text":"one\ntwo"}"#).1;
    assert_eq!(
        lines("print"),
        [(LogLevel::Info, "one".to_owned()), (LogLevel::Info, "two".to_owned())]
    );
    assert_eq!(
        lines("shout"),
        [(LogLevel::Warn, "one".to_owned()), (LogLevel::Warn, "two".to_owned())]
    );
}

#[test]
fn a_flood_of_standard_output_ends_the_call() {
    for text in ["a line of some length\\n", "\\n"] {
        let lines = check_stopped("flood", &format!("{{\"text\":\"{text}\"}}"), Code::Log);
        let printed: usize = lines.iter().map(|(_, line)| line.len() + 16).sum();
        assert!(!lines.is_empty() && printed <= 64 << 10, "{printed}");
    }
}

#[test]
fn leaving_is_not_returning() {
    check_stopped("leave", "{}", Code::Trap);
}

#[test]
fn of_wasi_only_the_packages_of_0_2_are_served() {
    for served in [
        "wasi:cli/environment@0.2.3",
        "wasi:io/streams@0.2.0",
        "wasi:sockets/tcp@0.2.9",
    ] {
        assert!(super::serves(served), "{served}");
    }
    let others = [
        "wasi:http/outgoing-handler@0.2.3",
        "wasi:cli/environment@0.3.0",
        "wasi:cli/environment",
        "wasi:config/store@0.2.0",
    ];
    for other in others {
        assert!(!super::serves(other), "{other}");
    }
}
