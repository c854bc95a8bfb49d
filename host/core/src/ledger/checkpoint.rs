//! Checkpoints (c2sp.org/tlog-checkpoint): a ledger's name, size and root, signed.

use super::LedgerError;
use super::merkle::{Hash, empty_root};
use super::note::{SignerKey, VerifierKey};
use crate::guard;

/// How far a ledger has come: what is signed with every commit, kept outside as a high-water mark, and put into receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
}

impl Checkpoint {
    /// Signs the state of the ledger whose key this is: its origin is the key's name. The caller has made sure that this state extends
    /// everything signed before.
    #[must_use]
    pub fn sign(size: u64, root: Hash, key: &SignerKey) -> String {
        key.sign(&format!("{}\n{size}\n{root}\n", key.verifier().name()))
    }

    /// Verifies a note's signature and reads the checkpoint in it.
    ///
    /// # Errors
    /// [`LedgerError::Note`] for what is not a checkpoint, [`LedgerError::Signature`] where the key did not sign it or it is of another
    /// ledger.
    pub fn parse_verified(note: &str, key: &VerifierKey) -> Result<Self, LedgerError> {
        let checkpoint = Self::parse_text(key.open(note)?)?;
        if !guard!("ledger.origin", checkpoint.origin == key.name()) {
            return Err(LedgerError::Note(format!(
                "it is of the ledger {:?}, and the key is of {:?}",
                checkpoint.origin,
                key.name()
            )));
        }
        Ok(checkpoint)
    }

    /// Three lines. Extension lines, which the format allows and nobody can audit, are refused: this ledger writes none.
    fn parse_text(text: &str) -> Result<Self, LedgerError> {
        let bad = |why: &str| LedgerError::Note(why.to_owned());
        let mut lines = text.split_terminator('\n');
        let (Some(origin), Some(size), Some(root), None) = (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(bad("it must have three lines: origin, size and root"));
        };
        if origin.is_empty() {
            return Err(bad("its origin is empty"));
        }
        let size = size
            .parse::<u64>()
            .ok()
            .filter(|number| number.to_string() == size)
            .ok_or_else(|| bad("its size is not a plain decimal number"))?;
        let root = Hash::parse(root).ok_or_else(|| bad("its root is not the base64 of a SHA-256 hash"))?;
        if size == 0 && root != empty_root() {
            return Err(bad("its size is 0, and its root is not that of an empty tree"));
        }
        Ok(Self {
            origin: origin.to_owned(),
            size,
            root,
        })
    }

    /// Which ledger: the name of its key.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many entries the ledger had.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root over these entries.
    #[must_use]
    pub const fn root(&self) -> Hash {
        self.root
    }
}
