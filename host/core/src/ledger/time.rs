//! Times as people read them.

use crate::money::day;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A time in milliseconds since 1970 as UTC in the form of RFC 3339, such as `2026-11-21T02:43:30.123Z`.
#[must_use]
pub fn utc(ms: i64) -> String {
    let of_day = ms.rem_euclid(DAY);
    let (hour, minute) = (of_day / HOUR, of_day % HOUR / MINUTE);
    let (second, milli) = (of_day % MINUTE / SECOND, of_day % SECOND);
    format!("{}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z", day(ms))
}

/// Reads a time in UTC as [`utc`] prints it, with or without milliseconds, seconds, or all after the day:
/// `2026-11-21T02:43:30.123Z`, `2026-11-21T02:43Z`, `2026-11-21`. None for what is no such time.
#[must_use]
pub fn parse_utc(text: &str) -> Option<i64> {
    const FULL: &str = "0000-00-00T00:00:00.000Z";
    let short = match text.len() {
        10 => text,
        17 | 20 | 24 => text.strip_suffix('Z')?,
        _ => return None,
    };
    let whole = format!("{short}{}", FULL.get(short.len()..)?);
    let number = |from: usize, to: usize| {
        let digits = whole.get(from..to)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<i64>().ok()).flatten()
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    // Days since 1970 of a date, years beginning in March.
    let shifted = year - i64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let era_day = shifted.rem_euclid(400) * 365 + shifted.rem_euclid(400) / 4 - shifted.rem_euclid(400) / 100;
    let days = shifted.div_euclid(400) * 146_097 + era_day + day_of_year - 719_468;
    let of_day = number(11, 13)? * HOUR + number(14, 16)? * MINUTE + number(17, 19)? * SECOND + number(20, 23)?;
    let ms = days * DAY + of_day;
    // What is no time, such as the 30th of February, would be printed as another.
    (utc(ms) == whole).then_some(ms)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::{parse_utc, utc};

    proptest! {
        #[test]
        fn what_is_printed_is_read(ms in 0..4_107_542_399_999_i64) {
            prop_assert_eq!(parse_utc(&utc(ms)), Some(ms));
        }
    }

    #[test]
    fn only_times_are_read() {
        assert_eq!(parse_utc("1970-01-02"), Some(86_400_000));
        assert_eq!(parse_utc("1970-01-01T00:01Z"), Some(60_000));
        assert_eq!(parse_utc("1970-01-01T00:00:01Z"), Some(1_000));
        for text in [
            "",
            "tomorrow",
            "2026-02-30",
            "2026-13-01",
            "2026-11-21T24:00Z",
            "2026-11-21T02:43",
            "2026-11-2T02:43Z",
            "+026-11-21",
            "2026/11/21",
            "2026-11-21T02:43:30+0Z",
            "2026-11-21é",
        ] {
            assert_eq!(parse_utc(text), None, "{text}");
        }
    }

    #[test]
    fn known_times() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_000_000_000_123, "2001-09-09T01:46:40.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        ] {
            assert_eq!(utc(ms), text);
        }
    }
}
