//! What is written together: all of it, durably, or nothing.

use ambit_core::digest::Digest;
use ambit_core::effect::HttpRequest;
use ambit_core::guard;
use ambit_core::ledger::{Body, EntryDraft, Kind};

use super::durable::{Asked, Of};
use super::{Again, Intent, Payload, Progress, StoreError};

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
    /// What may be sent again once the batch is durable: the request of its one `effect-retried` entry.
    pub again: Option<Again>,
    /// How far webhooks have come, each by its name; none where it is forgotten. No entry says so.
    pub webhooks: Vec<(String, Option<Progress>)>,
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
    /// Whether the batch only ends what is under way or in doubt, stops something, takes a person's key away, or gives room back, and so
    /// may use the disk space that is kept for this.
    pub(super) fn only_ends(&self) -> bool {
        let ends = |entry: &EntryDraft| {
            matches!(
                entry.body.kind(),
                Kind::EffectOutcome
                    | Kind::EffectResolved
                    | Kind::EffectChecked
                    | Kind::GuestEnded
                    | Kind::CallSuspended
                    | Kind::CallFinished
                    | Kind::RunEnded
                    | Kind::PersonRevoked
                    | Kind::ValuesErased
                    | Kind::StopSet
                    | Kind::BreakerOpened
                    | Kind::BreakerClosed
                    | Kind::ServicePaused
                    | Kind::WebhookFailed
            )
        };
        let something = !self.entries.is_empty() || !self.webhooks.is_empty();
        self.intent.is_none() && self.again.is_none() && something && self.entries.iter().all(ends)
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

    /// What the batch asks leave for, and the position of the entry that stands for it.
    ///
    /// # Errors
    /// [`StoreError::Batch`] unless the batch has exactly one entry for the request that it wants to send, an intent or a sending once
    /// more, with the same digest; and none without a request to send.
    pub(super) fn leave(&mut self) -> Result<Option<Asked>, StoreError> {
        let mut asked = self
            .entries
            .iter()
            .enumerate()
            .filter_map(|(position, entry)| match &entry.body {
                Body::EffectIntent(body) => Some((position, entry.call.clone(), body.ordinal, body.request)),
                Body::EffectRetried(body) => Some((position, entry.call.clone(), body.ordinal, body.request)),
                _ => None,
            });
        let (first, second) = (asked.next(), asked.next());
        let first = first
            .filter(|_| second.is_none())
            .map(|(position, call, ordinal, request)| {
                let of = Of { call, ordinal, request };
                let retried = self.entries.get(position).map(|entry| entry.body.kind()) == Some(Kind::EffectRetried);
                (position, of, retried)
            });
        match (self.intent.take(), self.again.take(), first) {
            (None, None, None) if second.is_none() => Ok(None),
            (Some(intent), None, Some((position, of, false))) => {
                if !guard!("ledger.intent-digest", self.commits_to(&of.request, &intent.request)) {
                    return Err(StoreError::batch(
                        "the intent on the ledger is not of the request to be sent",
                    ));
                }
                let Some(Body::EffectIntent(body)) = self.entries.get(position).map(|entry| &entry.body) else {
                    return Err(StoreError::Unintended);
                };
                let again = Again {
                    request: intent.request,
                    of,
                    deadline: intent.deadline,
                    connection: body.connection.clone(),
                    tier: body.tier,
                };
                Ok(Some(Asked { position, again }))
            }
            (None, Some(again), Some((position, of, true))) => {
                if !guard!("ledger.retry-same", again.of == of) {
                    return Err(StoreError::batch(
                        "what would be sent again is not what the intent on the ledger was of",
                    ));
                }
                Ok(Some(Asked { position, again }))
            }
            _ => Err(StoreError::batch(
                "an intent needs one request to send, and a request one intent",
            )),
        }
    }
}
