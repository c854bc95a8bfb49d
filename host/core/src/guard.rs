//! Rules that tests can switch off, one at a time.
//!
//! A refusal that nobody would miss is not a rule. Where the design refuses something, the condition stands in
//! [`guard!`](crate::guard!) under a name. An ordinary build compiles that to the bare condition. A build with
//! `--cfg mutants` reads `AMBIT_MUTANT` once and lets the guard of that name pass everything, so that the test suite
//! can be asked, for each rule, whether any test fails without it.

/// Whether the guard `name` is switched off in this process.
///
/// Never, in an ordinary build.
#[cfg(not(mutants))]
#[must_use]
#[inline(always)]
pub const fn disabled(_name: &str) -> bool {
    false
}

/// Whether the guard `name` is the one that `AMBIT_MUTANT` switches off.
#[cfg(mutants)]
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a test build only, and read once")]
pub fn disabled(name: &str) -> bool {
    use std::sync::OnceLock;
    static MUTANT: OnceLock<Option<String>> = OnceLock::new();
    MUTANT.get_or_init(|| std::env::var("AMBIT_MUTANT").ok()).as_deref() == Some(name)
}

/// Whether a rule's condition holds: `guard!("area.name", condition_that_must_hold)`.
///
/// The condition must be free of side effects, and what follows must be safe (if wrong) without it.
///
/// ```
/// let methods = ["GET"];
/// if !ambit_core::guard!("scope.method", methods.contains(&"POST")) {
///     // refuse
/// }
/// ```
#[macro_export]
macro_rules! guard {
    ($name:literal, $holds:expr $(,)?) => {{ $crate::guard::disabled($name) || $holds }};
}
