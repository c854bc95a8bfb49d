//! The machine's clock, as all of the host asks it.
//!
//! Entries have the ledger's time, which never goes back. Where a time decides whether something still counts, the later of the two is
//! the one that is asked: [`at_least`].

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, of the system's clock.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The same as an unsigned number: what holds, votes, keys and breakers count in.
pub fn clock() -> u64 {
    u64::try_from(now_ms()).unwrap_or_default()
}

/// Now, and no earlier than a time that the ledger has: a clock that is behind it, or goes back, makes nothing count again that had ended.
pub fn at_least(ledger_ms: u64) -> u64 {
    if ambit_core::guard!("hold.expiry-ledger", false) {
        return clock();
    }
    clock().max(ledger_ms)
}
