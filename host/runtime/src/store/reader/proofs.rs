//! Checkpoints, the proofs that are made of the tree, and the export.

use ambit_core::ledger::{Checkpoint, Hash, LedgerError, Receipt, VerifierKey, merkle, tiles};

use super::{Reader, last_checkpoint, node};
use crate::store::StoreError;

impl Reader {
    /// The last signed checkpoint.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where there is none: a ledger has one from its first entry on.
    pub fn checkpoint(&self) -> Result<String, StoreError> {
        last_checkpoint(&self.connection)?.ok_or_else(|| StoreError::damaged("it has no checkpoint"))
    }

    /// The audit path of an entry in the tree of the first `size` entries.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] for an entry that is not in it.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        merkle::inclusion(index, size, |at| node(&self.connection, at))
    }

    /// The proof that the first `new` entries begin with the first `old`.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] where `old` is larger than `new`, or `new` than the ledger.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
        merkle::consistency(old, new, |at| node(&self.connection, at))
    }

    /// The proof of a call's end, in the ledger as it is now.
    ///
    /// # Errors
    /// [`StoreError::Ledger`] for a call that has not ended, or is not there.
    pub fn receipt(&self, call: &str, key: &VerifierKey) -> Result<Receipt, StoreError> {
        let note = self.checkpoint()?;
        let size = Checkpoint::parse_verified(&note, key)?.size();
        let none = || StoreError::Ledger(LedgerError::Receipt(format!("there is no call {call}")));
        let last = self.entries_of(call)?.pop().ok_or_else(none)?;
        let proof = self.inclusion(last.index(), size)?;
        Ok(Receipt::new(last, proof, note)?)
    }

    /// Gives the ledger up to its last checkpoint to `file` as C2SP tiles: paths below the export's folder and their bytes, one by one, the
    /// checkpoint last.
    ///
    /// # Errors
    /// What `file` fails with, and where reading fails.
    pub fn export<E: From<StoreError>>(
        &self,
        key: &VerifierKey,
        mut file: impl FnMut(String, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let note = self.checkpoint()?;
        let size = Checkpoint::parse_verified(&note, key).map_err(StoreError::from)?.size();
        let bytes = |at| self.entry(at).map(|entry| entry.bytes().to_vec());
        tiles::export(size, &note, |at| node(&self.connection, at), bytes).try_for_each(|item| {
            let (path, bytes) = item?;
            file(path, bytes)
        })
    }

    /// One file of the ledger's layout as C2SP tiles; none where the ledger is not that long.
    ///
    /// # Errors
    /// Where reading fails.
    pub fn tile(&self, tile: tiles::Tile) -> Result<Option<Vec<u8>>, StoreError> {
        if !tile.is_within(self.size()?) {
            return Ok(None);
        }
        let mut entry = |at| self.entry(at).map(|entry| entry.bytes().to_vec());
        tiles::file(tile, &mut |at| node(&self.connection, at), &mut entry).map(Some)
    }

    /// Every checkpoint: one for each group of commits.
    pub(crate) fn checkpoints(&self) -> Result<Vec<String>, StoreError> {
        self.all("SELECT note FROM checkpoints ORDER BY size", [], |row| row.get(0))
    }
}
