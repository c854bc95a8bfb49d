//! How often a service is asked, when it is left alone, and when it is asked again.
//!
//! Arithmetic only: whoever uses it brings the time, in milliseconds, and the randomness. A [`Bucket`] holds requests to a
//! [`Rate`]; a [`Breaker`] leaves a service alone that keeps failing, and asks it with reads before anything else; [`Retries`]
//! say what is sent again, and after how long.

mod breaker;
mod bucket;
mod retry;

use serde::Deserialize;

pub use breaker::{
    Blocked, Breaker, BreakerRule, BreakerSpec, Change, Changed, Failure, How, Pass, Standing, is_unreached,
};
pub use bucket::{Bucket, Per, Rate, RateSpec};
pub use retry::{Attempt, Retries, RetrySpec};

/// Random bits that spread what would else happen at one moment: 0 is none, [`Jitter::MOST`] the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter(u64);

impl Jitter {
    /// The most there is.
    pub const MOST: u64 = 1023;

    /// Of any random number.
    #[must_use]
    pub const fn of(random: u64) -> Self {
        Self(random & Self::MOST)
    }

    /// Between nothing and about all of `whole`.
    pub(crate) const fn part(self, whole: u64) -> u64 {
        // `whole` is at most some days in milliseconds.
        whole.saturating_mul(self.0) / (Self::MOST + 1)
    }
}

/// A time as the configuration writes it, in milliseconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
struct TimeSpec(String);

impl TimeSpec {
    /// In milliseconds, between `least` and `most` of them.
    fn check(&self, key: &str, least: u64, most: u64) -> Result<u64, String> {
        let text = &self.0;
        let wrong = || format!("`{key}` is `{text}`: write a number and `ms`, `s`, `m` or `h`, such as `30s`");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
        let unit = match text.get(digits.len()..) {
            Some("ms") => 1,
            Some("s") => 1_000,
            Some("m") => 60_000,
            Some("h") => 3_600_000,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        let time = number.checked_mul(unit).ok_or_else(wrong)?;
        if (least..=most).contains(&time) {
            Ok(time)
        } else {
            Err(format!("`{key}` is `{text}`; it is between {least} ms and {most} ms"))
        }
    }
}

/// A count as the configuration writes it, between 1 and `most`.
fn count(key: &str, number: u32, most: u32) -> Result<u32, String> {
    if (1..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("`{key}` is {number}; it is between 1 and {most}"))
    }
}

#[cfg(test)]
mod tests;
