//! What is written together: all of it, durably, or nothing.

use ambit_core::digest::Digest;
use ambit_core::effect::HttpRequest;
use ambit_core::guard;
use ambit_core::ledger::{Body, EntryDraft, Kind};

use super::{Intent, Payload, StoreError};

/// What is written in one transaction.
///
/// Budgets have no field of their own: what entries say is reserved and settled is what is reserved and settled.
#[derive(Debug, Default)]
pub struct Batch {
    /// Entries, in this order, next to each other. One whose reservation passes its cap fails the whole batch.
    pub entries: Vec<EntryDraft>,
    /// Values that the entries commit to.
    pub payloads: Vec<Payload>,
    /// Rows of calls' transcripts.
    pub transcript: Vec<TranscriptRow>,
    /// What may be sent once the batch is durable: the request of its one `effect-intent` entry.
    pub intent: Option<Intent>,
}

/// One thing that a guest was given, or asked for, in the order in which it happened: what a call is replayed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranscriptRow {
    /// The call.
    pub call: String,
    /// Position within the call's transcript.
    pub step: u32,
    /// What it is, in the transcript's words.
    pub kind: String,
    /// The digest of the effect, where it is one: what a replay is compared by.
    pub effect: Option<Digest>,
    /// The name of the payload that holds the value: of this batch, or stored before.
    pub payload: Option<String>,
}

impl Batch {
    /// Whether the batch only ends what is under way, or gives room back, and so may use the disk space that is kept for this.
    pub(super) fn only_ends(&self) -> bool {
        let ends = |entry: &EntryDraft| {
            matches!(
                entry.body.kind(),
                Kind::EffectOutcome
                    | Kind::CallFinished
                    | Kind::ValuesErased
                    | Kind::BreakerOpened
                    | Kind::BreakerClosed
                    | Kind::ServicePaused
            )
        };
        self.intent.is_none() && !self.entries.is_empty() && self.entries.iter().all(ends)
    }

    /// Whether the batch is the first that is written of `call`.
    pub(super) fn begins(&self, call: &str) -> bool {
        let begins = |entry: &EntryDraft| matches!(entry.body.kind(), Kind::CallAccepted | Kind::CallDenied);
        self.entries
            .iter()
            .any(|entry| begins(entry) && entry.call.as_deref() == Some(call))
    }

    /// The calls that are over once the batch is written.
    pub(super) fn finished_calls(&self) -> Vec<String> {
        let ends = |entry: &&EntryDraft| matches!(entry.body.kind(), Kind::CallFinished | Kind::CallDenied);
        self.entries
            .iter()
            .filter(ends)
            .filter_map(|entry| entry.call.clone())
            .collect()
    }

    /// The calls whose values the batch erases.
    pub(super) fn erased_calls(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter_map(|entry| match &entry.body {
                Body::ValuesErased(erased) => Some(erased.calls.iter().map(String::as_str)),
                _ => None,
            })
            .flatten()
    }

    /// Whether the payload that an entry commits to is this request, word for word.
    fn commits_to(&self, commitment: &Digest, request: &HttpRequest) -> bool {
        let wire = request.wire().to_canonical();
        let payload = self.payloads.iter().find(|payload| payload.commitment() == *commitment);
        payload.is_some_and(|payload| payload.bytes() == wire.as_bytes())
    }

    /// The position of the entry that stands for the batch's intent.
    ///
    /// # Errors
    /// [`StoreError::Batch`] unless the batch has exactly one intent on the ledger for the request that it wants to send, with the same
    /// digest, and none without a request to send.
    pub(super) fn intent_position(&self) -> Result<Option<usize>, StoreError> {
        let mut intents = self
            .entries
            .iter()
            .enumerate()
            .filter_map(|(position, entry)| match &entry.body {
                Body::EffectIntent(body) => Some((position, body.request)),
                _ => None,
            });
        match (&self.intent, intents.next(), intents.next()) {
            (None, None, _) => Ok(None),
            (Some(intent), Some((position, recorded)), None) => {
                if !guard!("ledger.intent-digest", self.commits_to(&recorded, &intent.request)) {
                    return Err(StoreError::batch(
                        "the intent on the ledger is not of the request to be sent",
                    ));
                }
                Ok(Some(position))
            }
            _ => Err(StoreError::batch(
                "an intent needs one request to send, and a request one intent",
            )),
        }
    }
}
