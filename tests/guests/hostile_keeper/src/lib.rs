//! Keeps what one caller gave it, and offers it to the next.
ambit_sdk::generate!({ world: "ambit-tests:hostile-keeper/tool" });

use std::sync::Mutex;

struct Tool;

export!(Tool);

/// What it kept, by the ordinary way.
static KEPT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Begins everything that it keeps, so that it is found again in memory.
const MARK: &[u8] = b"kept-for-later:";

impl Guest for Tool {
    fn keep(text: String) -> String {
        let found = search();
        let mut kept = KEPT.lock().unwrap_or_else(|kept| kept.into_inner());
        kept.push(String::from_utf8_lossy(MARK).into_owned() + &text);
        scatter(&text);
        format!("{} calls, {found} traces", kept.len())
    }
}

/// Writes it all over 4 MiB that stay with the instance.
fn scatter(text: &str) {
    let line = [MARK, text.as_bytes()].concat();
    let everywhere = line.repeat((4 << 20) / line.len());
    std::mem::forget(everywhere);
}

/// How often the mark lies anywhere in memory, up to what can be had, besides in the program's own data.
#[cfg(target_arch = "wasm32")]
fn search() -> usize {
    core::arch::wasm32::memory_grow::<0>(100);
    let size = core::arch::wasm32::memory_size::<0>() << 16;
    // SAFETY: all of the memory is there to be read; its first page is left out, as no reference may be null.
    let memory = unsafe { std::slice::from_raw_parts(65_536 as *const u8, size - 65_536) };
    let found = memory.windows(MARK.len()).filter(|window| *window == MARK).count();
    let own = MARK.as_ptr() as usize >= 65_536;
    found - usize::from(own)
}

#[cfg(not(target_arch = "wasm32"))]
fn search() -> usize {
    0
}
