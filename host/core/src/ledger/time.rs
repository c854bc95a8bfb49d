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

/// Reads what [`utc`] prints, or a beginning of it: a day, an hour and minute after a `T`, perhaps a second, perhaps a fraction of up to three
/// digits. A `Z` may end it; there is no other zone.
#[must_use]
pub fn parse_utc(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00"));
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let digits = |text: &str, length: usize| -> Option<i64> {
        let plain = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
        if plain { text.parse().ok() } else { None }
    };
    let mut date = date.split('-');
    let (year, month, of_month) = (
        digits(date.next()?, 4)?,
        digits(date.next()?, 2)?,
        digits(date.next()?, 2)?,
    );
    let mut time = time.split(':');
    let (hour, minute) = (digits(time.next()?, 2)?, digits(time.next()?, 2)?);
    let second = time.next().map_or(Some(0), |second| digits(second, 2))?;
    if date.next().is_some() || time.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let milli = match fraction.len() {
        1..=3 => digits(&format!("{fraction:0<3}"), 3)?,
        _ => return None,
    };
    // Days since 1970 of the civil calendar, years from March on. What is no day prints as another.
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + of_month - 1;
    let year = if month < 3 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let ms = days * DAY + hour * HOUR + minute * MINUTE + second * SECOND + milli;
    utc(ms).starts_with(text.split('T').next()?).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::{parse_utc, utc};

    #[test]
    fn what_is_printed_is_read_and_nothing_like_it() {
        for ms in [
            0,
            -1,
            951_868_799_999,
            951_868_800_000,
            1_000_000_000_123,
            4_107_542_399_999,
        ] {
            assert_eq!(parse_utc(&utc(ms)), Some(ms));
        }
        assert_eq!(parse_utc("2001-09-09"), Some(999_993_600_000));
        assert_eq!(parse_utc("2001-09-09T01:46"), Some(999_999_960_000));
        assert_eq!(parse_utc("2001-09-09T01:46:40.5Z"), Some(1_000_000_000_500));
        for text in [
            "",
            "2001",
            "2001-02-29",
            "2001-13-01",
            "2001-9-9",
            "2001-09-09T24:00",
            "2001-09-09T01",
            "2001-09-09 01:46",
            "2001-09-09T01:46+01:00",
            "2001-09-09T01:46:40.1234",
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
