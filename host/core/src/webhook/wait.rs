//! How long a message waits until it is sent again, and when it is given up.

use crate::flow::Jitter;

/// Milliseconds between one sending that failed and the next; what comes after the last of them is as long as that.
const WAITS_MS: [u64; 6] = [5_000, 30_000, 120_000, 600_000, 1_800_000, LONGEST_WAIT_MS];
/// The longest that a message waits, also where its receiver asks for more, in milliseconds.
pub const LONGEST_WAIT_MS: u64 = 3_600_000;

/// What becomes of a message that was sent and not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It is sent again after so many milliseconds.
    Again(u64),
    /// It is given up.
    GiveUp,
}

/// What becomes of a message that was sent `attempts` times, the last time now, and is to be given up at `until_ms`. `asked_ms` is what
/// its receiver asked for, which is heeded up to an hour. Four fifths of a wait are fixed and one is chance, so that those who failed
/// together do not come back together. The last sending is at the end, whatever the wait: it is given up no earlier than it may.
#[must_use]
pub fn wait(attempts: u32, asked_ms: Option<u64>, now_ms: i64, until_ms: i64, jitter: Jitter) -> Wait {
    let left = u64::try_from(until_ms.saturating_sub(now_ms)).unwrap_or_default();
    if left == 0 {
        return Wait::GiveUp;
    }
    let nth = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    let [.., longest] = WAITS_MS;
    let step = WAITS_MS.get(nth).copied().unwrap_or(longest);
    let fifth = step / 5;
    let own = (step - fifth).saturating_add(jitter.part(fifth));
    let asked = asked_ms.unwrap_or_default().min(LONGEST_WAIT_MS);
    Wait::Again(own.max(asked).min(left))
}
