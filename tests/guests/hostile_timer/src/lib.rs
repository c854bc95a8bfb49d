//! Looks for anything that differs between two runs of the same call: time, chance, memory, numbers.
ambit_sdk::generate!({ world: "ambit-tests:hostile-timer/tool" });

use ambit::capability::{clock, log, random};
use std::hint::black_box;

guests_shared::cases! {
    // A timer for side channels: does the clock move while the guest computes, or while the host works for it?
    "clock-while-computing" => same(clock::now(), || { (0..2_000_000u64).for_each(|n| { black_box(n); }); clock::now() }),
    "clock-while-logging" => same(clock::now(), || { log::log(log::Level::Info, "x"); clock::now() }),
    "clock-while-drawing" => same(clock::now(), || { random::bytes(65_536); clock::now() }),
    // Chance that does not come from the call's stream, or repeats itself.
    "chance-repeats" => if random::number() == random::number() { Err("the same number twice".into()) } else { same(0, || 0) },
    // What earlier guests may have left in memory.
    "fresh-memory" => same(0, || vec![0u8; 0].len() as u64 + left_over()),
    // Bits of NaNs are the processor's choice.
    "bits-of-a-nan" => same(f64::to_bits(black_box(0.0) / black_box(0.0)) << 1, || f64::to_bits(black_box(f64::INFINITY) - black_box(f64::INFINITY)) << 1),
    "sign-of-a-nan" => Ok(format!("{:016x}", f64::to_bits(black_box(-0.0f64) / black_box(0.0)))),
    "sign-of-a-root" => Ok(format!("{:016x}", f64::to_bits(black_box(-1.0f64).sqrt()))),
    "sign-of-a-short-nan" => Ok(format!("{:08x}", f32::to_bits(black_box(-0.0f32) / black_box(0.0)))),
    // Where things are.
    "address-on-the-stack" => { let local = black_box(0u8); Ok(format!("{:p}", black_box(&raw const local))) },
    "address-on-the-heap" => { let kept = black_box(Box::new(0u64)); Ok(format!("{:p}", black_box(&raw const *kept))) },
}

fn same(before: u64, after: impl FnOnce() -> u64) -> Result<String, String> {
    let after = after();
    if before == after {
        Ok("the same".into())
    } else {
        Err(format!("{before} became {after}"))
    }
}

/// Bytes other than zero in a megabyte that nobody has written to yet.
fn left_over() -> u64 {
    #[cfg(target_arch = "wasm32")]
    {
        let first = core::arch::wasm32::memory_grow::<0>(16) << 16;
        // SAFETY: these sixteen pages were just added, and nothing else knows of them.
        let fresh = unsafe { std::slice::from_raw_parts(first as *const u8, 16 << 16) };
        fresh.iter().filter(|byte| **byte != 0).count() as u64
    }
    #[cfg(not(target_arch = "wasm32"))]
    0
}
