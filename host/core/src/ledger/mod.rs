//! The ledger: an append-only Merkle log of what was asked, decided, sent and answered.
//!
//! Nothing here stores or sends; it says what an entry is, what proves it, and whether a proof holds, so that an auditor with a public
//! key and this crate needs nobody's word.
//!
//! - [`entry`] and [`body`]: what is written, in canonical JSON.
//! - [`merkle`]: the tree over it (RFC 6962), and proofs.
//! - [`note`] and [`checkpoint`]: what the ledger's key signs (C2SP signed notes and checkpoints).
//! - [`tiles`]: the ledger as files (C2SP tlog-tiles).
//! - [`receipt`]: one call's end, its proof and a checkpoint in one file.
//! - [`bundle`]: one call with all its values, to be replayed where its home is not.
//! - [`context`]: what a call's later entries leave out, for those who read entries one by one.
//! - [`mod@story`]: the entries of one call, put together and checked against each other.
//! - [`mod@verify`]: everything about a whole ledger.
//!
//! What it cannot show: whoever holds the signing key can write another ledger. Only a checkpoint kept elsewhere tells the two apart.

pub mod body;
pub mod bundle;
pub mod checkpoint;
pub mod context;
pub mod entry;
mod error;
pub mod fuzz;
pub mod guests;
pub mod merkle;
pub mod note;
mod number;
pub mod receipt;
pub mod story;
#[cfg(test)]
mod tests;
pub mod tiles;
mod time;
mod undone;
pub mod verify;

pub use body::{Body, Kind, Tally};
pub use checkpoint::Checkpoint;
pub use context::Contexts;
pub use entry::{Entry, EntryDraft, Principal, Stamp};
pub use error::LedgerError;
pub use merkle::{Frontier, Hash, Node};
pub use note::{SignerKey, VerifierKey};
pub use receipt::Receipt;
pub use story::{CallStory, story};
pub use time::{parse_utc, utc};
pub use verify::{Bad, Verified, verify};

/// The format that this Ambit reads and writes.
pub const FORMAT: u64 = 1;
/// Most bytes in an entry: what a C2SP entry bundle can hold.
pub const MAX_ENTRY: usize = 65_535;
