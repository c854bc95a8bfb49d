//! Times as people read them.

const SECOND: i64 = 1000;
const DAY: i64 = 24 * 60 * 60 * SECOND;

/// A time in milliseconds since 1970 as UTC in the form of RFC 3339, such as `2026-11-21T02:43:30.123Z`.
#[must_use]
pub fn utc(ms: i64) -> String {
    let (day, of_day) = (ms.div_euclid(DAY), ms.rem_euclid(DAY));
    let (year, month, date) = date(day);
    let (hour, minute) = (of_day / (3600 * SECOND), of_day / (60 * SECOND) % 60);
    let (second, milli) = (of_day / SECOND % 60, of_day % SECOND);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Year, month and day of the Gregorian calendar, from days since 1970. Years are counted from March, so that the leap day is the last.
fn date(day: i64) -> (i64, i64, i64) {
    // Days from 0000-03-01; 400 years have 146,097 days.
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Months from March have 31, 30, 31, 30, 31 days, over and over.
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, date)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn known_days() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_000_000_000_123, "2001-09-09T01:46:40.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
        ] {
            assert_eq!(utc(ms), text);
        }
    }
}
