//! Runs into one limit of the sandbox for each case.

ambit_sdk::generate!({ world: "ambit-tests:hostile-sandbox/tool" });

use ambit::capability::{clock, log, progress, random};
use std::hint::black_box;

struct Tool;

export!(Tool);

type Case = (&'static str, fn() -> Result<String, String>);

/// Every case, with what the sandbox should say to it.
const CASES: &[Case] = &[
    // Endless without any import: fuel, or the wall clock.
    ("spin", spin),
    // Endless through imports that cost nothing upstream.
    ("spin-clock", spin_clock),
    // Memory, a page at a time and at once.
    ("memory-creep", memory_creep),
    ("memory-leap", memory_leap),
    // The engine's stack, by calls without a frame in linear memory.
    ("stack", stack),
    // The guest's own stack in linear memory, by frames of 4 KiB.
    ("shadow-stack", shadow_stack),
    ("unreachable", unreachable_instruction),
    ("panic", panic_with_a_message),
    ("out-of-bounds", out_of_bounds),
    ("divide-by-zero", divide_by_zero),
    ("indirect-call", indirect_call),
    // Log: many lines, one huge line, and a cut inside a character of several bytes.
    ("log-flood", log_flood),
    ("log-line", log_line),
    ("log-multibyte", log_multibyte),
    ("log-escapes", log_escapes),
    ("progress-flood", progress_flood),
    // Random: more than one request may ask, and without end.
    ("random-leap", random_leap),
    ("random-flood", random_flood),
    ("giant-result", giant_result),
    ("giant-error", giant_error),
    // Nothing wrong: the same instance's neighbour must be well.
    ("fine", fine),
];

impl Guest for Tool {
    fn try_(case: String) -> Result<String, String> {
        match CASES.iter().find(|(name, _)| *name == case) {
            Some((_, run)) => run(),
            None => Err(format!("no case `{case}`")),
        }
    }

    fn text(size: u32) -> String {
        "x".repeat(size as usize)
    }

    fn swallow(value: String) -> u32 {
        value.len() as u32
    }

    fn cases() -> Vec<String> {
        CASES.iter().map(|(name, _)| (*name).to_owned()).collect()
    }
}

fn spin() -> Result<String, String> {
    let mut count = 0u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}

fn spin_clock() -> Result<String, String> {
    let start = clock::now();
    while clock::now() < start + 3_600_000 {}
    Ok("an hour passed".into())
}

fn memory_creep() -> Result<String, String> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        kept.push(black_box(vec![1; 64 * 1024]));
    }
}

fn memory_leap() -> Result<String, String> {
    let leap = black_box(vec![1u8; 1 << 30]);
    Ok(format!("{} bytes", leap.len()))
}

fn stack() -> Result<String, String> {
    fn deeper(depth: u64) -> u64 {
        if black_box(depth) == u64::MAX {
            0
        } else {
            deeper(depth + 1) ^ depth
        }
    }
    Ok(deeper(0).to_string())
}

fn shadow_stack() -> Result<String, String> {
    fn deeper(depth: u64) -> u64 {
        let frame = black_box([depth; 512]);
        if depth == u64::MAX {
            0
        } else {
            deeper(depth + 1) ^ frame[(depth % 512) as usize]
        }
    }
    Ok(deeper(0).to_string())
}

fn unreachable_instruction() -> Result<String, String> {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

fn panic_with_a_message() -> Result<String, String> {
    panic!("a guest's own words \u{1b}[31m");
}

fn out_of_bounds() -> Result<String, String> {
    let far = black_box(0xffff_fff0_usize as *const u8);
    // SAFETY: it is not, and that is the case: the engine must stop it.
    Ok(unsafe { far.read_volatile() }.to_string())
}

fn divide_by_zero() -> Result<String, String> {
    Ok((1 / black_box(0u32)).to_string())
}

fn indirect_call() -> Result<String, String> {
    let nowhere = black_box(0x00ff_ffff_usize);
    // SAFETY: it is not, and that is the case: the engine must stop it.
    let function: extern "C" fn() = unsafe { std::mem::transmute(nowhere) };
    function();
    Ok("returned".into())
}

fn log_flood() -> Result<String, String> {
    loop {
        log::log(
            log::Level::Info,
            "the same line again, sixty-four characters of it, and no end....",
        );
    }
}

fn log_line() -> Result<String, String> {
    log::log(log::Level::Info, &"x".repeat(8 * 1024 * 1024));
    Ok("logged".into())
}

fn log_multibyte() -> Result<String, String> {
    log::log(log::Level::Info, &format!("x{}", "€".repeat(30_000)));
    Ok("logged".into())
}

fn log_escapes() -> Result<String, String> {
    log::log(
        log::Level::Error,
        "\u{1b}]0;owned\u{7}\u{1b}[2J\r\n{\"forged\":true}\u{202e}\u{0}",
    );
    Ok("logged".into())
}

fn progress_flood() -> Result<String, String> {
    loop {
        progress::report(1, 0, "still here");
    }
}

fn random_leap() -> Result<String, String> {
    Ok(random::bytes(u32::MAX).len().to_string())
}

fn random_flood() -> Result<String, String> {
    let mut sum = 0u64;
    loop {
        let bytes = random::bytes(65_536);
        sum = bytes.iter().fold(sum, |sum, &byte| sum.wrapping_add(byte.into()));
        black_box(sum);
    }
}

fn giant_result() -> Result<String, String> {
    Ok("x".repeat(32 * 1024 * 1024))
}

fn giant_error() -> Result<String, String> {
    Err("\u{1f600}".repeat(4 * 1024 * 1024))
}

fn fine() -> Result<String, String> {
    Ok(format!("{:016x}", random::number() ^ clock::now()))
}
