//! Windows: for how long a budget counts, and how that stands in entries.
//!
//! Time is the ledger's: that of the entry, which never goes back. A calendar window is the hour, day or month (UTC) of
//! the entry that reserves. A rolling window has no edge to wait for: what is reserved counts until it is settled, and
//! what was used counts from the entry that settled it for the window's length, and up to a 120th of that longer. So
//! there is no stretch of that length in which more than the cap was used, wherever in it one begins to count.

use std::fmt;
use std::str::FromStr;

use super::{Unit, Use};
use crate::guard;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// For how long a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// One call.
    Call,
    /// All calls of one run.
    Run,
    /// An hour of the calendar in UTC.
    Hour,
    /// A day of the calendar in UTC.
    Day,
    /// A month of the calendar in UTC.
    Month,
    /// The last so many hours, at any moment.
    Rolling(Span),
}

/// The length of a rolling window: whole hours, from one to 31 days of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(i64);

/// Why a text is no length of a rolling window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASpan {
    /// Not a whole number with a unit.
    #[error("it is not a whole number of hours or days, such as \"24h\" or \"7d\"")]
    Unread,
    /// Nothing could ever count.
    #[error("it has no length")]
    Zero,
    /// More than is kept.
    #[error("it is longer than 31 days")]
    TooLong,
}

impl Span {
    /// The longest, in hours.
    pub const MOST_HOURS: i64 = 31 * 24;
    /// Parts in which use is added up: what was used counts up to one of them longer than the window.
    pub const SLICES: i64 = 120;

    /// Of so many hours.
    ///
    /// # Errors
    /// [`NotASpan::Zero`], [`NotASpan::TooLong`].
    pub fn hours(hours: i64) -> Result<Self, NotASpan> {
        match hours {
            ..=0 => Err(NotASpan::Zero),
            hours if hours <= Self::MOST_HOURS => Ok(Self(hours)),
            _ => Err(NotASpan::TooLong),
        }
    }

    /// The length in milliseconds.
    #[must_use]
    pub const fn ms(self) -> i64 {
        self.0.saturating_mul(HOUR_MS)
    }

    /// The length of a slice in milliseconds: 30 seconds for each hour of the window.
    #[must_use]
    pub const fn slice_ms(self) -> i64 {
        self.ms() / Self::SLICES
    }

    /// The beginning of the slice that a time falls into, in milliseconds since 1970.
    #[must_use]
    pub const fn slice(self, time_ms: i64) -> i64 {
        time_ms.div_euclid(self.slice_ms()).saturating_mul(self.slice_ms())
    }

    /// When no window can hold any more what was used in the slice that begins at `slice`.
    #[must_use]
    pub const fn frees(self, slice: i64) -> i64 {
        slice.saturating_add(self.slice_ms()).saturating_add(self.ms())
    }

    /// Slices that begin then or earlier are free at `time_ms`; see [`Span::frees`].
    #[must_use]
    pub const fn free_until(self, time_ms: i64) -> i64 {
        time_ms.saturating_sub(self.ms()).saturating_sub(self.slice_ms())
    }
}

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let (digits, hours) = match (text.strip_suffix('h'), text.strip_suffix('d')) {
            (Some(digits), _) => (digits, 1),
            (_, Some(digits)) => (digits, 24),
            _ => return Err(NotASpan::Unread),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotASpan::Unread);
        }
        // What has too many digits to be read is too long.
        let number: i64 = digits.parse().unwrap_or(i64::MAX);
        Self::hours(number.saturating_mul(hours))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            hours if hours > 24 && hours % 24 == 0 => write!(f, "{}d", hours / 24),
            hours => write!(f, "{hours}h"),
        }
    }
}

impl Window {
    /// The word that it has in the configuration and in entries.
    const fn word(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Run => "run",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Rolling(_) => "rolling",
        }
    }

    /// The calendar's name for the window that `time_ms` (milliseconds since 1970) falls into; none where no calendar says it.
    #[must_use]
    pub fn name(self, time_ms: i64) -> Option<String> {
        match self {
            Self::Hour => Some(format!("{}T{:02}", day(time_ms), time_ms.rem_euclid(DAY_MS) / HOUR_MS)),
            Self::Day => Some(day(time_ms)),
            Self::Month => Some(month(time_ms)),
            Self::Call | Self::Run | Self::Rolling(_) => None,
        }
    }

    /// When the calendar window that `time_ms` falls into is over: the first moment of the next one.
    #[must_use]
    pub fn turns(self, time_ms: i64) -> Option<i64> {
        let next = |length: i64| time_ms.div_euclid(length).saturating_add(1).saturating_mul(length);
        match self {
            Self::Hour => Some(next(HOUR_MS)),
            Self::Day => Some(next(DAY_MS)),
            Self::Month => {
                let midnights = (0..31).map(|days| next(DAY_MS).saturating_add(days * DAY_MS));
                let this = month(time_ms);
                midnights.into_iter().find(|midnight| month(*midnight) != this)
            }
            Self::Call | Self::Run | Self::Rolling(_) => None,
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rolling(span) => write!(f, "rolling {span}"),
            window => f.pad(window.word()),
        }
    }
}

/// What a reservation counts in: a unit, in one window. Entries and books have it as text: `usd day 2026-11-21`,
/// `fuel month 2026-11`, `calls call c_…`, `usd run r_…`, `bytes rolling 24h`.
///
/// Who reserves does not know the entry's time: it says `usd day`, and the ledger, when it gives the entry its place, says
/// which ([`Period::at`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Period {
    unit: Unit,
    window: Window,
    /// The call, the run, or the calendar's name; none for a rolling window, and before the time is known.
    which: Option<String>,
}

/// The text is no [`Period`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a window is such as `usd day 2026-11-21`")]
pub struct NotAPeriod;

impl Period {
    /// What `used` counts in, as far as that does not depend on the time.
    pub(super) fn new(unit: Unit, window: Window, used: &Use<'_>) -> Self {
        let which = match window {
            Window::Call => Some(used.call.to_owned()),
            Window::Run => used.run.map(str::to_owned),
            Window::Hour | Window::Day | Window::Month | Window::Rolling(_) => None,
        };
        Self { unit, window, which }
    }

    /// What is counted.
    #[must_use]
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// For how long.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }

    /// The call that it is of, where it is of one.
    #[must_use]
    pub fn call(&self) -> Option<&str> {
        self.which.as_deref().filter(|_| self.window == Window::Call)
    }

    /// The run that it is of, where it is of one.
    #[must_use]
    pub fn run(&self) -> Option<&str> {
        self.which.as_deref().filter(|_| self.window == Window::Run)
    }

    /// The one that `time_ms` falls into, where it did not say which.
    #[must_use]
    pub fn at(self, time_ms: i64) -> Self {
        let which = self.which.or_else(|| self.window.name(time_ms));
        Self { which, ..self }
    }

    /// Whether an entry of `call`, in `run` where it is in one, at `time_ms` reserves in this window, and in no other of its kind.
    #[must_use]
    pub fn is_of(&self, call: &str, run: Option<&str>, time_ms: i64) -> bool {
        let which = match self.window {
            Window::Call => Some(call.to_owned()),
            Window::Run => run.map(str::to_owned),
            window => window.name(time_ms),
        };
        // A call outside of runs is in no window of one.
        let some = self.window != Window::Run || run.is_some();
        guard!("budget.window", some && self.which == which)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.unit, self.window)?;
        match &self.which {
            Some(which) => write!(f, " {which}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Period {
    type Err = NotAPeriod;

    fn from_str(text: &str) -> Result<Self, NotAPeriod> {
        let mut words = text.splitn(3, ' ');
        let unit = words.next().and_then(|word| word.parse().ok()).ok_or(NotAPeriod)?;
        let (window, which) = match (words.next(), words.next()) {
            (Some("call"), Some(call)) => (Window::Call, Some(call)),
            (Some("run"), Some(run)) => (Window::Run, Some(run)),
            (Some("hour"), which) => (Window::Hour, which),
            (Some("day"), which) => (Window::Day, which),
            (Some("month"), which) => (Window::Month, which),
            (Some("rolling"), Some(span)) => (Window::Rolling(span.parse().map_err(|_| NotAPeriod)?), None),
            _ => return Err(NotAPeriod),
        };
        let period = Self {
            unit,
            window,
            which: which.map(str::to_owned),
        };
        // One window has one text: else it would be two accounts.
        if period.to_string() == text {
            Ok(period)
        } else {
            Err(NotAPeriod)
        }
    }
}

/// The calendar month of a time, as `2026-11`.
fn month(time_ms: i64) -> String {
    let day = day(time_ms);
    day.rsplit_once('-').map_or(day.clone(), |(month, _)| month.to_owned())
}

/// The calendar day of a time, as `2026-11-21`. Howard Hinnant's `civil_from_days`, for any day of the proleptic
/// Gregorian calendar.
pub(crate) fn day(time_ms: i64) -> String {
    let days = time_ms.div_euclid(DAY_MS) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn calendar_windows_turn_at_their_edges_in_utc() {
        for (ms, hour, day, month) in [
            (0, "1970-01-01T00", "1970-01-01", "1970-01"),
            (-1, "1969-12-31T23", "1969-12-31", "1969-12"),
            (951_782_400_000, "2000-02-29T00", "2000-02-29", "2000-02"),
            (1_709_251_199_999, "2024-02-29T23", "2024-02-29", "2024-02"),
            (1_709_251_200_000, "2024-03-01T00", "2024-03-01", "2024-03"),
            (1_795_219_200_000, "2026-11-21T00", "2026-11-21", "2026-11"),
            (1_795_222_799_999, "2026-11-21T00", "2026-11-21", "2026-11"),
            (1_795_222_800_000, "2026-11-21T01", "2026-11-21", "2026-11"),
        ] {
            let name = |window: Window| window.name(ms).unwrap();
            assert_eq!(
                (name(Window::Hour), name(Window::Day), name(Window::Month)),
                (hour.into(), day.into(), month.into())
            );
        }
        assert_eq!(Window::Call.name(0), None);
    }

    proptest! {
        #[test]
        fn a_window_lasts_until_it_turns_and_no_longer(ms in 0_i64..4_000_000_000_000) {
            for window in [Window::Hour, Window::Day, Window::Month] {
                let turns = window.turns(ms).unwrap();
                prop_assert!(turns > ms);
                prop_assert_eq!(window.name(turns - 1), window.name(ms));
                prop_assert_ne!(window.name(turns), window.name(ms));
            }
        }

        #[test]
        fn a_slice_is_held_by_every_window_that_can_have_some_of_it(hours in 1_i64..=Span::MOST_HOURS, used in 0_i64..4_000_000_000_000, after in 0_i64..4_000_000_000) {
            let span = Span::hours(hours).unwrap();
            let slice = span.slice(used);
            prop_assert!((slice..slice + span.slice_ms()).contains(&used));
            let now = used + after;
            let free = slice <= span.free_until(now);
            prop_assert_eq!(free, now >= span.frees(slice));
            // Never while the window that ends now has it, and never later than a slice after that.
            prop_assert!(!free || after > span.ms());
            prop_assert!(free || after < span.ms() + span.slice_ms());
        }
    }

    #[test]
    fn a_span_is_whole_hours_up_to_31_days() {
        let read = |text: &str| text.parse::<Span>().map(|span| span.to_string());
        for (text, shown) in [
            ("1h", "1h"),
            ("24h", "24h"),
            ("1d", "24h"),
            ("48h", "2d"),
            ("36h", "36h"),
            ("007d", "7d"),
            ("31d", "31d"),
            ("744h", "31d"),
        ] {
            assert_eq!(read(text), Ok(shown.to_owned()), "{text}");
        }
        for text in [
            "", "h", "24", "24m", "1.5h", "-1h", "+1h", " 1h", "1h ", "1 h", "1w", "٣h", "one day",
        ] {
            assert_eq!(read(text), Err(NotASpan::Unread), "{text}");
        }
        for text in ["0h", "0d", "000h"] {
            assert_eq!(read(text), Err(NotASpan::Zero), "{text}");
        }
        for text in ["745h", "32d", "99999999999999999999d", "9223372036854775807d"] {
            assert_eq!(read(text), Err(NotASpan::TooLong), "{text}");
        }
    }

    #[test]
    fn a_period_has_one_text() {
        for text in [
            "usd day 2026-11-21",
            "usd day",
            "fuel month 2026-11",
            "bytes hour 2026-11-21T09",
            "effects rolling 24h",
            "calls rolling 7d",
            "calls call c_aaaaaaaaaaaaaaaaaaaaaaaaaa",
            "usd run r_aaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "day",
            "day 2026-11-21",
            "dollars day",
            "usd week",
            "usd call",
            "usd rolling",
            "usd rolling 1d",
            "usd rolling 24h 2026-11-21",
            "usd  day",
            "usd run",
        ] {
            assert_eq!(text.parse::<Period>(), Err(NotAPeriod), "{text}");
        }
    }

    #[test]
    fn a_reservation_counts_in_the_window_of_its_entry() {
        const NOON: i64 = 1_795_262_400_000;
        let period = |text: &str| text.parse::<Period>().unwrap();
        for (text, placed) in [
            ("usd hour", "usd hour 2026-11-21T12"),
            ("usd day", "usd day 2026-11-21"),
            ("usd month", "usd month 2026-11"),
            ("usd rolling 24h", "usd rolling 24h"),
            ("usd call c_1", "usd call c_1"),
            ("usd day 2026-11-20", "usd day 2026-11-20"),
        ] {
            assert_eq!(period(text).at(NOON).to_string(), placed);
        }
        for (text, is) in [
            ("usd hour 2026-11-21T12", true),
            ("usd hour 2026-11-21T11", false),
            ("usd day 2026-11-21", true),
            ("usd day 2026-11-20", false),
            ("usd day", false),
            ("usd month 2026-12", false),
            ("usd rolling 24h", true),
            ("usd call c_1", true),
            ("usd call c_2", false),
        ] {
            assert_eq!(period(text).is_of("c_1", Some("r_1"), NOON), is, "{text}");
        }
    }
}
