//! The allocator of the command, and what it is told.

use libmimalloc_sys::{mi_option_set, mi_option_t};
use mimalloc::MiMalloc;

/// A call makes and drops hundreds of small values, many of them on another thread than the one that made them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The option's number in `mimalloc.h` of the third version (`mi_option_purge_delay`); the bindings have no name for it.
const PURGE_DELAY: mi_option_t = 15;
/// After how many milliseconds what was freed goes back to the system. By itself it is a second: by then the threads of calls have taken
/// pages of each other's again and again, and what a server has resident creeps up by a quarter before it stays.
const PURGE_AFTER_MS: i64 = 50;

/// Has what was freed go back to the system soon. Called first of all, by the only thread.
pub(crate) fn purge_soon() {
    // SAFETY: It sets a number of the allocator's own, atomically; that it is one that is there is seen by a test.
    unsafe { mi_option_set(PURGE_DELAY, PURGE_AFTER_MS) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another version of the allocator may number its options otherwise.
    #[test]
    fn the_number_is_that_of_the_delay() {
        // SAFETY: It reads a number of the allocator's own.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1_000, "what is documented as the delay by itself");
        purge_soon();
        assert_eq!(delay(), PURGE_AFTER_MS);
    }
}
