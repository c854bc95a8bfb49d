//! What an operator, or a test, can choose about a store.

use std::fmt;
use std::sync::Arc;

use super::HighWaterOptions;
use crate::clock;

/// Milliseconds since 1970, from wherever the store has its time.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What can be chosen about a store.
#[derive(Clone)]
pub struct StoreOptions {
    /// Most bytes of the database, if not all that the file system has. Its write-ahead log and large payloads come on top.
    pub quota: Option<u64>,
    /// Bytes of the disk that new calls and intents must leave free, so that what is under way can be ended on the ledger. The default,
    /// 128 MiB, is an answer and a result of 1 MiB each for 64 concurrent calls.
    pub reserve: u64,
    /// Where a checkpoint is kept outside the home, if anywhere.
    pub high_water: Option<HighWaterOptions>,
    /// Where the time comes from: the system's clock.
    pub clock: Clock,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            quota: None,
            reserve: 128 << 20,
            high_water: None,
            clock: Arc::new(clock::now_ms),
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            quota,
            reserve,
            high_water,
            clock: _,
        } = self;
        f.debug_struct("StoreOptions")
            .field("quota", quota)
            .field("reserve", reserve)
            .field("high_water", high_water)
            .finish_non_exhaustive()
    }
}
