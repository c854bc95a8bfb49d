//! What can be wrong with something that claims to be of a ledger.

use super::{FORMAT, MAX_ENTRY};

/// Why an entry, a proof, a note or a receipt is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Bytes that are not an entry of this format, or not exactly as they would be printed.
    #[error("not a ledger entry: {0}")]
    Entry(String),
    /// An entry of more than [`MAX_ENTRY`] bytes. Large values belong beside the ledger, with their commitment in it.
    #[error("an entry of {bytes} bytes, where {MAX_ENTRY} fit")]
    TooLarge {
        /// Its size in canonical JSON.
        bytes: usize,
    },
    /// A ledger that a later Ambit began.
    #[error(
        "the ledger is of format {found}, and this Ambit reads format {FORMAT}: use the Ambit that wrote it, or a later one"
    )]
    Format {
        /// The format that its first entry names.
        found: u64,
    },
    /// An index or size beyond the tree.
    #[error("{what} {asked} is beyond a ledger of {size} entries")]
    OutOfRange {
        /// What was asked for.
        what: &'static str,
        /// Its index or size.
        asked: u64,
        /// The tree's size.
        size: u64,
    },
    /// A proof that does not lead to the root it should.
    #[error("the proof fails: {0}")]
    Proof(String),
    /// The text of a key that is not one.
    #[error("not a key: {0}")]
    Key(String),
    /// A text that is not a signed note, or not one with a checkpoint in it.
    #[error("not a checkpoint: {0}")]
    Note(String),
    /// A note that this key did not sign.
    #[error("the checkpoint is not signed by {key}: {why}")]
    Signature {
        /// The key that was asked about, by name and id.
        key: String,
        /// What is wrong with the signature.
        why: &'static str,
    },
    /// A receipt that is not one, or whose parts contradict each other.
    #[error("not a receipt of this ledger: {0}")]
    Receipt(String),
    /// A bundle that is not one, or of which a part is not what its entries say.
    #[error("not a bundle of this ledger: {0}")]
    Bundle(String),
    /// Entries that don't tell the story of one call.
    #[error("the entries are not those of one call: {0}")]
    Story(String),
}
