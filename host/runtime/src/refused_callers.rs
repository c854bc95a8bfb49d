//! Credentials that were refused over HTTP, on the ledger: counted by why, a minute at a time.
//!
//! Anybody who reaches a port can be refused as often as they like, so that an entry for each would let them fill the ledger. The
//! first refusal begins a minute; at its end one entry says how many there were. What is counted is bounded by the list of reasons.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use ambit_core::identity::why::Why;
use ambit_core::ledger::EntryDraft;
use ambit_core::ledger::body::CallersRefused;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::clock::clock;
use crate::host::Host;
use crate::store::{Batch, Store, StoreError};

/// For how long refusals are counted into one entry.
pub const MINUTE: Duration = Duration::from_secs(60);

/// What was refused since the last entry.
#[derive(Debug, Default)]
struct Counted {
    from: u64,
    refused: BTreeMap<Why, u32>,
}

/// Counts refusals for one host, and writes them down. The last of them go with it when it is dropped.
#[derive(Debug, Clone)]
pub struct RefusedCallers(Arc<Counting>);

/// It has no host, but a host's ledger: what is dropped last, on a thread of the host's own, must not end the host.
#[derive(Debug)]
struct Counting {
    store: Arc<Store>,
    io: Handle,
    minute: Duration,
    counted: Mutex<Counted>,
}

impl RefusedCallers {
    /// Of this host, an entry for each `minute`: [`MINUTE`], but in tests.
    #[must_use]
    pub fn new(host: &Host, minute: Duration) -> RefusedCallers {
        RefusedCallers(Arc::new(Counting {
            store: Arc::clone(&host.shared.store),
            io: host.shared.io.handle().clone(),
            minute,
            counted: Mutex::default(),
        }))
    }

    /// Counts one. Who presented nothing was not refused: that is how a client learns what to present.
    pub fn note(&self, why: Why) {
        if why == Why::Missing {
            return;
        }
        let first = {
            let mut counted = self.0.counted.lock();
            let first = counted.refused.is_empty();
            if first {
                counted.from = clock();
            }
            let count = counted.refused.entry(why).or_default();
            *count = count.saturating_add(1);
            first
        };
        if first {
            self.write_later();
        }
    }

    /// One task for each minute in which something is refused.
    fn write_later(&self) {
        let counting = Arc::downgrade(&self.0);
        let minute = self.0.minute;
        self.0.io.spawn(async move {
            tokio::time::sleep(minute).await;
            let written = tokio::task::spawn_blocking(move || {
                if let Some(counting) = counting.upgrade() {
                    counting.write();
                }
            });
            drop(written.await);
        });
    }
}

impl Counting {
    fn write(&self) {
        let counted = mem::take(&mut *self.counted.lock());
        if counted.refused.is_empty() {
            return;
        }
        let entry = EntryDraft::of_ledger(CallersRefused {
            from: counted.from,
            refused: counted.refused,
        });
        let written = self.store.commit(Batch {
            entries: vec![entry],
            ..Batch::default()
        });
        match written {
            Ok(_) => {}
            // They are told in the log, and room is kept for what must be written.
            Err(StoreError::NoRoom { .. }) => {
                tracing::warn!("the ledger has no room to say which credentials were refused")
            }
            Err(error) => tracing::error!(%error, "which credentials were refused is not on the ledger"),
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.write();
    }
}
