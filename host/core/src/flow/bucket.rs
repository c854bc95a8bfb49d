//! A token bucket, in whole numbers.

use serde::Deserialize;

use super::count;
use crate::guard;

/// `rate = { per = "minute", most = 60, burst = 10 }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSpec {
    /// The span.
    pub per: Per,
    /// How many requests in it.
    pub most: u32,
    /// How many at once, after a time without any: `most`, where nothing is said.
    pub burst: Option<u32>,
}

/// The span that a rate counts over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// 1,000 ms.
    Second,
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
}

impl Per {
    /// Its length in milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        match self {
            Self::Second => 1_000,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
        }
    }

    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }
}

/// How many requests in which span, and how many of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_ms: u64,
    most: u64,
    burst: u64,
}

impl RateSpec {
    /// Checks it.
    ///
    /// # Errors
    /// One clause: a number that is none of a rate.
    pub fn check(&self) -> Result<Rate, String> {
        const MOST: u32 = 1_000_000;
        let most = count("rate.most", self.most, MOST)?;
        let burst = count("rate.burst", self.burst.unwrap_or(most), MOST)?;
        Ok(Rate::new(self.per.ms(), most.into(), burst.into()))
    }
}

impl Rate {
    /// `most` requests in each `per_ms` milliseconds, `burst` at once; all at least 1.
    pub(super) const fn new(per_ms: u64, most: u64, burst: u64) -> Self {
        Self { per_ms, most, burst }
    }

    /// How many requests at once after a time without any.
    #[must_use]
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// How many requests in its span.
    #[must_use]
    pub const fn most(&self) -> u64 {
        self.most
    }

    /// Its span in milliseconds.
    #[must_use]
    pub const fn per_ms(&self) -> u64 {
        self.per_ms
    }

    /// After how many milliseconds without a request nothing of earlier ones counts any more.
    #[must_use]
    pub const fn memory_ms(&self) -> u64 {
        self.burst.saturating_mul(self.per_ms).div_ceil(self.most)
    }

    /// The most that a bucket holds. A request is `per_ms`, and each millisecond brings `most`: nothing is ever rounded.
    const fn full(&self) -> i64 {
        // At most 10^6 requests of 3.6 * 10^6 each.
        self.burst.saturating_mul(self.per_ms).cast_signed()
    }
}

/// What is left of a rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    rate: Rate,
    /// Below zero for requests that wait for their turn.
    level: i64,
    at_ms: u64,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub const fn full(rate: Rate) -> Self {
        Self {
            rate,
            level: rate.full(),
            at_ms: 0,
        }
    }

    /// The rate that it keeps.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// A place for one request: after how many milliseconds its turn comes, at most `patience_ms`.
    ///
    /// # Errors
    /// How long it would be. Nothing is taken then.
    pub fn take(&mut self, now_ms: u64, patience_ms: u64) -> Result<u64, u64> {
        Self::take_all([self], now_ms, patience_ms)
    }

    /// A place for one request in all of them: after how many milliseconds its turn comes, at most `patience_ms`.
    ///
    /// # Errors
    /// How long it would be. Nothing is taken then from any.
    pub fn take_all<'b>(
        buckets: impl IntoIterator<Item = &'b mut Self>,
        now_ms: u64,
        patience_ms: u64,
    ) -> Result<u64, u64> {
        let mut buckets: Vec<_> = buckets.into_iter().collect();
        let wait = buckets
            .iter_mut()
            .map(|bucket| bucket.wait(now_ms))
            .max()
            .unwrap_or_default();
        if !guard!("flow.rate", wait <= patience_ms) {
            return Err(wait);
        }
        for bucket in buckets {
            bucket.level = bucket.level.saturating_sub_unsigned(bucket.rate.per_ms);
        }
        Ok(wait)
    }

    /// How long a request would wait from `now_ms` on, in milliseconds.
    pub fn wait(&mut self, now_ms: u64) -> u64 {
        self.fill(now_ms);
        let missing = self.rate.per_ms.cast_signed().saturating_sub(self.level);
        u64::try_from(missing).unwrap_or_default().div_ceil(self.rate.most)
    }

    /// One request that was made at this time, whatever the rate was then.
    pub fn remember(&mut self, at_ms: u64) {
        self.fill(at_ms);
        self.level = self.level.saturating_sub_unsigned(self.rate.per_ms).max(0);
    }

    /// How many requests could be made at once.
    pub fn room(&mut self, now_ms: u64) -> u64 {
        self.fill(now_ms);
        u64::try_from(self.level).unwrap_or_default() / self.rate.per_ms
    }

    /// A clock that goes back brings nothing.
    fn fill(&mut self, now_ms: u64) {
        let gained = now_ms.saturating_sub(self.at_ms).saturating_mul(self.rate.most);
        self.level = self.level.saturating_add_unsigned(gained).min(self.rate.full());
        self.at_ms = self.at_ms.max(now_ms);
    }
}
