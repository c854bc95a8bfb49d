//! The keys of agents in memory: whoever shows one is looked for without a look at the disk, however often.
//!
//! The writer brings them up to date once an entry about them is durable and before anyone is told so: a key that an operator hears to be
//! revoked is good for nothing from then on.

use std::collections::HashMap;

use ambit_core::identity::key::ApiKey;
use parking_lot::RwLock;

/// All keys, good or over, by id.
#[derive(Default)]
pub(super) struct Keyring(RwLock<HashMap<String, ApiKey>>);

impl Keyring {
    /// With the keys that the ledger's books have.
    pub(super) fn new(keys: Vec<ApiKey>) -> Self {
        let ring = Self::default();
        ring.apply(keys);
        ring
    }

    pub(super) fn get(&self, id: &str) -> Option<ApiKey> {
        self.0.read().get(id).cloned()
    }

    /// Takes in what has become durable.
    pub(super) fn apply(&self, changed: Vec<ApiKey>) {
        if changed.is_empty() {
            return;
        }
        let mut keys = self.0.write();
        for key in changed {
            keys.insert(key.id().to_owned(), key);
        }
    }
}
