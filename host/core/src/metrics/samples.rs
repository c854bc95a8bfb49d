//! What was counted, by metric and labels.

use std::collections::BTreeMap;

use super::names::{Kind, Metric, SERIES_OVERFLOW};
use crate::guard;

/// Most series of one metric. More names than that are counted under `other`: configuration changes, and a ledger remembers all of it.
pub const MOST_SERIES: usize = 1_000;
/// Stands for names beyond that.
pub const OTHER: &str = "other";
/// Between the labels of a key: no name has it.
const BETWEEN: char = '\u{1f}';

/// What a metric says of one set of labels.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// How often, or how much.
    Count(u64),
    /// How it stands.
    Level(f64),
    /// How often it was within each end and not within the one before, beyond the last, and the sum of all.
    Spread {
        /// One more than there are ends.
        counts: Vec<u64>,
        /// Of all that was observed.
        sum: f64,
    },
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// By the metric's name and its labels, one after another.
    families: BTreeMap<&'static str, BTreeMap<String, Value>>,
    /// The key that is looked for, so that counting on makes none.
    key: String,
}

impl Samples {
    /// Adds to a counter, which exists from then on, also where nothing is added. What passes `u64::MAX` stays there.
    pub fn add(&mut self, metric: &'static Metric, labels: &[&str], more: u64) {
        if let Some(Value::Count(count)) = self.value(metric, labels) {
            *count = count.saturating_add(more);
        }
    }

    /// Says how something stands.
    pub fn set(&mut self, metric: &'static Metric, labels: &[&str], to: f64) {
        if let Some(Value::Level(level)) = self.value(metric, labels) {
            *level = to;
        }
    }

    /// Counts something that took so many seconds.
    pub fn observe(&mut self, metric: &'static Metric, labels: &[&str], seconds: f64) {
        let Kind::Histogram(ends) = metric.kind else { return };
        let within = ends.iter().position(|end| seconds <= *end).unwrap_or(ends.len());
        if let Some(Value::Spread { counts, sum }) = self.value(metric, labels) {
            if let Some(count) = counts.get_mut(within) {
                *count = count.saturating_add(1);
            }
            *sum += seconds;
        }
    }

    /// Takes in all that others counted: counts are added, levels are theirs.
    pub fn merge(&mut self, other: &Self) {
        for (name, family) in &other.families {
            let own = self.families.entry(name).or_default();
            for (key, value) in family {
                match (own.get_mut(key), value) {
                    (Some(Value::Count(count)), Value::Count(more)) => *count = count.saturating_add(*more),
                    (
                        Some(Value::Spread { counts, sum }),
                        Value::Spread {
                            counts: more,
                            sum: further,
                        },
                    ) => {
                        for (count, more) in counts.iter_mut().zip(more) {
                            *count = count.saturating_add(*more);
                        }
                        *sum += further;
                    }
                    _ => drop(own.insert(key.clone(), value.clone())),
                }
            }
        }
    }

    /// What a metric says, each with the values of its labels, in their order.
    pub fn of<'s>(&'s self, metric: &Metric) -> impl Iterator<Item = (Vec<&'s str>, &'s Value)> {
        let family = self.families.get(metric.name).into_iter().flatten();
        let bare = metric.labels.is_empty();
        family.map(move |(key, value)| match bare {
            true => (Vec::new(), value),
            false => (key.split(BETWEEN).collect(), value),
        })
    }

    /// A counter's count, for tests and summaries: 0 where nothing was counted.
    #[must_use]
    pub fn count(&self, metric: &Metric, labels: &[&str]) -> u64 {
        let found = self.of(metric).find(|(values, _)| values == labels);
        match found {
            Some((_, Value::Count(count))) => *count,
            _ => 0,
        }
    }

    /// Where to count. None where the labels are not the metric's: nothing is counted then, rather than something else.
    fn value(&mut self, metric: &'static Metric, labels: &[&str]) -> Option<&mut Value> {
        debug_assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
        if labels.len() != metric.labels.len() {
            return None;
        }
        self.key.clear();
        for (at, label) in labels.iter().enumerate() {
            if at > 0 {
                self.key.push(BETWEEN);
            }
            let plain = label.chars().map(|c| if c.is_control() { ' ' } else { c });
            self.key.extend(plain);
        }
        let family = self.families.entry(metric.name).or_default();
        let there = family.contains_key(&self.key);
        if !guard!("metrics.cardinality", there || family.len() < MOST_SERIES) {
            self.key.clear();
            let others = vec![OTHER; labels.len()].join(&BETWEEN.to_string());
            self.key.push_str(&others);
            let overflow = self.families.entry(SERIES_OVERFLOW.name).or_default();
            if let Value::Count(count) = overflow.entry(metric.name.to_owned()).or_insert(Value::Count(0)) {
                *count = count.saturating_add(1);
            }
        }
        let family = self.families.entry(metric.name).or_default();
        if !family.contains_key(&self.key) {
            family.insert(self.key.clone(), nothing(metric.kind));
        }
        family.get_mut(&self.key)
    }
}

/// Where counting begins.
fn nothing(kind: Kind) -> Value {
    match kind {
        Kind::Counter => Value::Count(0),
        Kind::Gauge => Value::Level(0.0),
        Kind::Histogram(ends) => Value::Spread {
            counts: vec![0; ends.len() + 1],
            sum: 0.0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::{CALLS, HOLD_SECONDS, STOPS};
    use super::*;

    #[test]
    fn no_metric_has_more_series_than_it_may() {
        let mut samples = Samples::default();
        for nth in 0..MOST_SERIES + 50 {
            samples.add(&CALLS, &["refunds", &format!("f{nth}"), "ok"], 1);
        }
        // What is known is counted on, what is new is not told apart.
        samples.add(&CALLS, &["refunds", "f7", "ok"], 1);
        assert_eq!(samples.of(&CALLS).count(), MOST_SERIES + 1);
        assert_eq!(samples.count(&CALLS, &["refunds", "f7", "ok"]), 2);
        assert_eq!(samples.count(&CALLS, &[OTHER, OTHER, OTHER]), 50);
        assert_eq!(samples.count(&SERIES_OVERFLOW, &["ambit_calls_total"]), 50);
    }

    #[test]
    fn a_label_is_one_label() {
        let mut samples = Samples::default();
        samples.add(&CALLS, &["a\u{1f}b", "c\nd", ""], 1);
        let (labels, _) = samples.of(&CALLS).next().unwrap_or_else(|| unreachable!());
        assert_eq!(labels, ["a b", "c d", ""]);
    }

    #[test]
    fn what_is_merged_is_added() {
        let mut one = Samples::default();
        one.add(&CALLS, &["t", "f", "ok"], 2);
        one.observe(&HOLD_SECONDS, &["passed"], 59.0);
        one.set(&STOPS, &["kill"], 2.0);
        let mut sum = one.clone();
        sum.merge(&one);
        assert_eq!(sum.count(&CALLS, &["t", "f", "ok"]), 4);
        let spread = sum.of(&HOLD_SECONDS).next();
        assert!(
            matches!(spread, Some((_, Value::Spread { counts, sum })) if counts.first() == Some(&2) && *sum == 118.0)
        );
        assert!(matches!(sum.of(&STOPS).next(), Some((_, Value::Level(level))) if *level == 2.0));
    }
}
