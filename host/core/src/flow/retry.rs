//! What is sent again, and after how long.

use serde::Deserialize;

use super::{Jitter, TimeSpec, count};

/// `retries = { most = 3, backoff = "200ms" }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrySpec {
    /// How many times more, at most.
    most: u32,
    /// How long before the first of them.
    backoff: TimeSpec,
}

impl RetrySpec {
    /// Checks it.
    ///
    /// # Errors
    /// One clause: a number or a time that is none of retries.
    pub fn check(&self) -> Result<Retries, String> {
        Ok(Retries {
            most: count("retries.most", self.most, 10)?,
            backoff_ms: self.backoff.check("retries.backoff", 1, 60_000)?,
        })
    }
}

/// How many times an effect is sent again, and after how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How many times more, at most.
    pub most: u32,
    /// Milliseconds before the first of them; twice as long before each one more.
    pub backoff_ms: u64,
}

/// How one sending ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The service could not be reached: nothing left.
    Unreached,
    /// Something left, and the connection broke or no answer came in time.
    Lost,
    /// The service answered with this status.
    Answered {
        /// HTTP status.
        status: u16,
        /// After how many milliseconds it wants to be asked again.
        later_ms: Option<u64>,
    },
    /// It would end in the same way again.
    Final,
}

impl Retries {
    /// After how many milliseconds the effect is sent again that was sent `attempts` times and last ended so; none where it is not.
    ///
    /// Half of the time is fixed and half is chance, so that those who failed together do not come back together. A service that
    /// says when it wants to be asked again is not asked before.
    #[must_use]
    pub fn after(&self, attempts: u32, last: Attempt, jitter: Jitter) -> Option<u64> {
        if attempts == 0 || attempts > self.most {
            return None;
        }
        let asked = match last {
            Attempt::Unreached | Attempt::Lost => None,
            Attempt::Answered {
                status: 429 | 503,
                later_ms: Some(later),
            } => Some(later),
            Attempt::Answered { status: 502..=504, .. } => None,
            Attempt::Answered { .. } | Attempt::Final => return None,
        };
        let doubled = self.backoff_ms.saturating_mul(1 << (attempts - 1).min(16));
        let half = doubled.div_ceil(2);
        let wait = half.saturating_add(jitter.part(doubled - half));
        Some(asked.map_or(wait, |asked| asked.saturating_add(wait)))
    }
}
