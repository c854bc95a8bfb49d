//! What a guest is answered when its call is run again: from the record, until it asks for something else or the record ends.

use std::collections::{BTreeMap, VecDeque};

use ambit_core::digest::Digest;
use ambit_core::effect::{GuestRequest, GuestResponse};
use ambit_core::error::{Code, Refusal};
use ambit_core::grant::Limits;
use ambit_core::ledger::body::Part;
use ambit_core::manifest::Manifest;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::compare::Extent;
use crate::sandbox::{Effects, GuestHttpError, LogLevel, Stop};
use crate::transcript::{self, AskedFor, Divergence, Recalled, Transcript, Unreadable};

/// Answers a guest from what was recorded, and stops it at the first difference.
pub(super) struct Recorded {
    answers: VecDeque<Recalled>,
    /// What it asked for last, where nobody answered it: the record ends there.
    last: Option<AskedFor>,
    labels: BTreeMap<u32, String>,
    limits: Limits,
    clock_ms: u64,
    random: ChaCha20Rng,
    pub(super) log: String,
    /// The number that the effect after the recorded ones would have.
    next: u32,
    /// How the call ended for asking once more than it may, if it did.
    beyond: bool,
    /// The call was stopped from outside: what it would have asked for next, nobody knows.
    open: bool,
    pub(super) diverged: Option<Divergence>,
}

impl Recorded {
    pub(super) fn new(
        transcript: Transcript,
        manifest: &Manifest,
        limits: &Limits,
        extent: &Extent<'_>,
        next: u32,
    ) -> Result<Self, Unreadable> {
        let labels = manifest
            .capabilities()
            .map(|import| (import.index, import.label.clone()))
            .collect();
        Ok(Self {
            random: ChaCha20Rng::from_seed(transcript.start.seed()?),
            clock_ms: transcript.start.clock,
            answers: transcript.answers,
            last: transcript.held.or(transcript.unanswered),
            labels,
            limits: limits.clone(),
            log: String::new(),
            next,
            beyond: extent.asked_too_often(),
            open: extent.stopped().is_some(),
            diverged: None,
        })
    }

    /// An effect that the guest asked for then and not now.
    pub(super) fn left_over(&self) -> Option<Divergence> {
        let next = self.answers.front().map(|recalled| &recalled.asked);
        next.or(self.last.as_ref()).map(AskedFor::missing)
    }

    fn diverge(&mut self, divergence: Divergence) -> Stop {
        let stop = divergence.stop();
        self.diverged = Some(divergence);
        stop
    }

    /// The guest asks for more than was ever answered.
    fn beyond_the_record(&mut self, label: Option<&str>, request: &GuestRequest) -> Stop {
        if self.beyond {
            return Refusal::new(Code::Effects, "the call asked for more effects than it may");
        }
        match self.last.take() {
            Some(last) => match last.check(label, request, &self.limits) {
                Err(divergence) => return self.diverge(divergence),
                Ok(()) => self.open = true,
            },
            None if self.open => {}
            None => {
                let seen = Digest::of(transcript::kept(request, &self.limits).to_canonical().as_bytes());
                return self.diverge(Divergence {
                    part: Part::Effect,
                    ordinal: Some(self.next),
                    what: format!("effect {}", self.next),
                    recorded: "none".to_owned(),
                    seen: seen.to_string(),
                });
            }
        }
        Refusal::new(Code::Held, "the record ends here")
    }
}

impl Effects for Recorded {
    fn http(&mut self, import: u32, request: GuestRequest) -> Result<Result<GuestResponse, GuestHttpError>, Stop> {
        let label = self.labels.get(&import).cloned();
        let Some(recalled) = self.answers.pop_front() else {
            return Err(self.beyond_the_record(label.as_deref(), &request));
        };
        if let Err(divergence) = recalled.asked.check(label.as_deref(), &request, &self.limits) {
            return Err(self.diverge(divergence));
        }
        self.clock_ms = recalled.clock_ms;
        match recalled.answer {
            // A dry run ended there.
            Err(GuestHttpError::Refused(refusal)) if refusal.code == Code::DryRun => Err(refusal),
            answer => Ok(answer),
        }
    }

    fn log(&mut self, level: LogLevel, message: &str) -> Result<(), Stop> {
        crate::effects::log_line(&mut self.log, level, message);
        Ok(())
    }

    fn progress(&mut self, _: u64, _: u64, _: &str) -> Result<(), Stop> {
        Ok(())
    }

    fn now(&mut self) -> Result<u64, Stop> {
        Ok(self.clock_ms)
    }

    fn random(&mut self, bytes: &mut [u8]) -> Result<(), Stop> {
        self.random.fill_bytes(bytes);
        Ok(())
    }
}
