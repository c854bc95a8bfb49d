//! Fuzzing on a stable compiler: what is driven ([`targets`]), how inputs are made ([`mutate`]) and how a run goes.
//!
//! There is no coverage to steer by. What steers instead is what became of an input: one that is accepted, or refused in
//! words not seen before, is kept and bent further. A run is a function of its seed and of the files in
//! `tests/fuzz/corpus` and `tests/fuzz/regressions`; only where it stops depends on the clock.

pub mod mutate;
pub mod run;
pub mod targets;

use std::path::{Path, PathBuf};

/// What became of an input: accepted, or why not. What must hold for it was asserted.
pub type Became = Result<(), String>;

/// Something that takes any bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folders.
    pub name: &'static str,
    /// What is driven, and what must hold.
    pub about: &'static str,
    /// Takes the bytes, and panics where something does not hold.
    pub drive: fn(&[u8]) -> Became,
    /// Words of its language, to be inserted.
    pub words: &'static [&'static str],
    /// The longest input that is made, in bytes.
    pub longest: usize,
    /// Seeds beside the files of its folder.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    targets::ALL.iter().find(|target| target.name == name)
}

/// Where seeds and regressions are.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}
