use std::collections::HashSet;
use std::fs;
use std::sync::LazyLock;

use ambit_core::ledger::fuzz;

use crate::fuzz::{Became, folder, run};

pub(super) const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"body\":",
    "\"call\":",
    "\"clock\":",
    "\"config\":",
    "\"index\":",
    "\"kind\":",
    "\"policy\":",
    "\"principal\":",
    "\"time\":",
    "\"tool\":",
    "\"trace\":",
    "\"call-finished\"",
    "\"call-denied\"",
    "\"call-accepted\"",
    "\"effect-intent\"",
    "\"effect-outcome\"",
    "\"effect-refused\"",
    "\"ledger-opened\"",
    "\"format\":",
    "\"rules\":",
    "\"spent\":",
    "\"minor\":",
    "\"usd\"",
    "null",
    "true",
    "sha256:",
    "\\u0000",
    "\\u001f",
    "\\n",
    "\\/",
    "é",
    "\"receipt\":",
    "\"summary\":",
    "\"entry\":",
    "\"proof\":",
    "\"checkpoint\":",
    "\n\n",
    "\u{2014} ",
    "\n",
    "=",
    "+",
];

/// The entries of the ledger that the seeds are of.
static GENUINE: LazyLock<HashSet<Vec<u8>>> = LazyLock::new(|| {
    let files = run::files(&folder().join("corpus/entry")).expect("the seeds of entries");
    let entries = files.iter().map(|file| fs::read(file).expect("a seed"));
    entries.collect()
});

pub(super) fn entry(bytes: &[u8]) -> Became {
    fuzz::entry(bytes)
}

pub(super) fn note(bytes: &[u8]) -> Became {
    fuzz::note(bytes)
}

pub(super) fn receipt(bytes: &[u8]) -> Became {
    fuzz::receipt(bytes, &|entry| GENUINE.contains(entry))
}

pub(super) fn bundle(bytes: &[u8]) -> Became {
    fuzz::bundle(bytes)
}

/// Bundles of the seeds' entries, and of empty ones.
pub(super) fn bundles() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for entry in GENUINE.iter().take(3) {
        all.extend(u16::try_from(entry.len()).unwrap_or_default().to_be_bytes());
        all.extend(entry);
    }
    let most: Vec<u8> = (0..256).flat_map(|_| [0, 1, b'x']).collect();
    vec![all, vec![0, 0], vec![0, 3, b'a', b'b', b'c', 0, 0], most]
}
