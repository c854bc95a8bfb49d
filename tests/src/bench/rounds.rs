//! Rounds: subjects measured in turn, many times over, so that what else the machine does falls on all of them alike.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::Measured;

/// What is measured: does its work once, and says how long the part that counts took.
pub(super) type Work<'w> = Box<dyn FnMut() -> Measured<Duration> + 'w>;

/// All of `work` counts.
pub(super) fn whole<'w, T>(mut work: impl FnMut() -> Measured<T> + 'w) -> Work<'w> {
    Box::new(move || {
        let begun = Instant::now();
        let done = work()?;
        let took = begun.elapsed();
        drop(done);
        Ok(took)
    })
}

/// All of `work` counts, by the processor time that this process takes for it, on whatever thread: what waits for a disk or for another
/// program takes none.
pub(super) fn computing<'w, T>(mut work: impl FnMut() -> Measured<T> + 'w) -> Work<'w> {
    Box::new(move || {
        let begun = processor_time();
        let done = work()?;
        let took = processor_time().saturating_sub(begun);
        drop(done);
        Ok(took)
    })
}

/// What this process has taken of all processors so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The same, of work that needs something new each time, which does not count.
pub(super) fn prepared<'w, I, T>(
    mut prepare: impl FnMut() -> I + 'w,
    mut work: impl FnMut(I) -> Measured<T> + 'w,
) -> Work<'w> {
    Box::new(move || {
        let input = prepare();
        let begun = Instant::now();
        let done = work(input)?;
        let took = begun.elapsed();
        drop(done);
        Ok(took)
    })
}

/// Medians in microseconds: of each subject in each round.
pub(super) struct Medians(Vec<Vec<f64>>);

impl Medians {
    pub(super) fn new() -> Medians {
        Medians(Vec::new())
    }

    /// Does one round: each subject `times` times after a tenth of that to warm up, beginning with another one each round.
    pub(super) fn round(&mut self, times: usize, mut subjects: Vec<Work<'_>>) -> Measured<()> {
        let count = subjects.len();
        self.0.resize_with(count.max(self.0.len()), Vec::new);
        let first = self.0.first().map_or(0, Vec::len);
        for turn in 0..count {
            let at = (first + turn) % count;
            let (work, medians) = (&mut subjects[at], &mut self.0[at]);
            for _ in 0..times / 10 {
                work()?;
            }
            let waits = (0..times).map(|_| work()).collect::<Measured<Vec<_>>>()?;
            medians.push(micros(middle_of(waits)));
        }
        Ok(())
    }

    /// The middle of a subject's medians.
    pub(super) fn of(&self, subject: usize) -> f64 {
        middle(self.0[subject].clone())
    }

    /// The middle of what `of` makes of two subjects' medians of the same round.
    pub(super) fn paired(&self, one: usize, other: usize, of: impl Fn(f64, f64) -> f64) -> f64 {
        let pairs = self.0[one].iter().zip(&self.0[other]);
        middle(pairs.map(|(one, other)| of(*one, *other)).collect())
    }

    /// The middle of two subjects' ratios, round by round.
    pub(super) fn ratio(&self, one: usize, other: usize) -> f64 {
        self.paired(one, other, |one, other| one / other)
    }
}

/// The middle of how long `work` takes, in microseconds, for parts of a whole. Short work is done several times for each look
/// at the clock.
pub(super) fn part<T>(times: usize, mut work: impl FnMut() -> T) -> f64 {
    const AT_ONCE: u32 = 8;
    let waits: Vec<Duration> = (0..times.max(10))
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..AT_ONCE {
                std::hint::black_box(work());
            }
            begun.elapsed() / AT_ONCE
        })
        .collect();
    micros(middle_of(waits))
}

/// The same, of work that needs something new each time, which is not counted.
pub(super) fn part_of<I, T>(times: usize, mut prepare: impl FnMut() -> I, mut work: impl FnMut(I) -> T) -> f64 {
    let waits: Vec<Duration> = (0..times.max(10))
        .map(|_| {
            let input = prepare();
            let begun = Instant::now();
            let done = std::hint::black_box(work(input));
            let took = begun.elapsed();
            drop(done);
            took
        })
        .collect();
    micros(middle_of(waits))
}

/// The wait that so many of a hundred do not pass, of waits in order.
pub(super) fn quantile(waits: &[Duration], percent: usize) -> Duration {
    let at = (waits.len() * percent / 100).min(waits.len().saturating_sub(1));
    waits.get(at).copied().unwrap_or_default()
}

/// The middle wait.
pub(super) fn middle_of(mut waits: Vec<Duration>) -> Duration {
    waits.sort_unstable();
    quantile(&waits, 50)
}

pub(super) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The middle value.
pub(super) fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_round_does_not_change_the_ratio() {
        let mut medians = Medians::new();
        for slow in [1, 1, 50, 1, 1] {
            let fixed = |micros: u64| -> Work<'static> { Box::new(move || Ok(Duration::from_micros(micros * slow))) };
            medians.round(10, vec![fixed(10), fixed(30)]).unwrap();
        }
        assert!((medians.ratio(1, 0) - 3.0).abs() < 1e-9);
        assert!((medians.of(0) - 10.0).abs() < 1e-9);
    }

    #[test]
    fn what_computes_takes_processor_time() {
        let begun = Instant::now();
        let mut computes = computing(|| {
            while begun.elapsed() < Duration::from_millis(30) {}
            Ok(())
        });
        let computed = computes().unwrap();
        assert!(computed > Duration::from_micros(100), "{computed:?}");
    }

    #[test]
    fn quantiles_of_few_and_many() {
        let waits: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&waits, 99), Duration::from_millis(100));
        assert_eq!(quantile(&waits, 50), Duration::from_millis(51));
        assert_eq!(quantile(&[Duration::from_millis(7)], 99), Duration::from_millis(7));
        assert_eq!(quantile(&[], 99), Duration::ZERO);
    }
}
