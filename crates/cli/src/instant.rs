//! Times as people write them: `2026-11-24`, `2026-11-24T10:30:00Z`, `15m` (ago), or milliseconds since 1970.
//!
//! A time without a zone is UTC, so that a command means the same on each machine.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

const MS_PER_DAY: i64 = 86_400_000;

/// The wall clock in milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line is where time enters"
)]
pub fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// Parses a time into milliseconds since 1970.
pub fn parse(text: &str, now_ms: i64) -> Result<i64> {
    let parsed = parse_number(text)
        .or_else(|| parse_ago(text, now_ms))
        .or_else(|| parse_date_time(text));
    match parsed {
        Some(at) => Ok(at),
        None => bail!(
            "{text:?} is not a time; write 2026-11-24, 2026-11-24T10:30:00Z, 15m (s, m, h, d ago), or milliseconds since 1970"
        ),
    }
}

/// `2026-11-24T10:30:00.000Z`; `-` for Kafka's -1, no time.
pub fn format(at_ms: i64) -> String {
    if at_ms < 0 {
        return "-".to_owned();
    }
    let (year, month, day) = date_of(at_ms.div_euclid(MS_PER_DAY));
    let ms = at_ms.rem_euclid(MS_PER_DAY);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, ms) = (ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Twelve digits or more are milliseconds. Fewer are refused: they would be a time before 1974,
/// surely a mistake.
fn parse_number(text: &str) -> Option<i64> {
    (text.len() >= 12).then(|| text.parse().ok()).flatten()
}

fn parse_ago(text: &str, now_ms: i64) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: i64 = number.parse().ok().filter(|number| *number >= 0)?;
    let unit = match unit {
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => MS_PER_DAY,
        _ => return None,
    };
    now_ms.checked_sub(number.checked_mul(unit)?)
}

fn parse_date_time(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let days = parse_date(date)?;
    let (time, offset) = split_zone(time)?;
    Some(days * MS_PER_DAY + parse_clock(time)? - offset)
}

fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-');
    let year: i64 = parts.next().filter(|year| year.len() == 4)?.parse().ok()?;
    let month: i64 = parts.next()?.parse().ok()?;
    let day: i64 = parts.next()?.parse().ok()?;
    let days = days_of(year, month, day);
    // A date that does not exist (30 February) comes back as another.
    ((1..=12).contains(&month) && date_of(days) == (year, month, day)).then_some(days)
}

/// The clock time, and how far its zone is ahead of UTC in milliseconds.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix('Z') {
        return Some((time, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else {
        return Some((text, 0));
    };
    let (time, zone) = text.split_at(at);
    let digits: String = zone[1..].chars().filter(|digit| *digit != ':').collect();
    if digits.len() != 4 {
        return None;
    }
    let zone_minutes: i64 =
        digits[..2].parse::<i64>().ok()? * 60 + digits[2..].parse::<i64>().ok()?;
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    Some((time, sign * zone_minutes * 60_000))
}

fn parse_clock(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':');
    let hour: i64 = parts.next()?.parse().ok()?;
    let minute: i64 = parts.next()?.parse().ok()?;
    let second: f64 = parts.next().unwrap_or("0").parse().ok()?;
    let is_valid =
        (0..24).contains(&hour) && (0..60).contains(&minute) && (0.0..60.0).contains(&second);
    #[expect(clippy::cast_possible_truncation, reason = "less than a minute")]
    let ms = (second * 1000.0).round() as i64;
    is_valid.then_some(hour * 3_600_000 + minute * 60_000 + ms)
}

/// Days since 1970 of a date in the Gregorian calendar, counted in eras of 400 years that begin in March.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_of`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::{format, parse};

    #[test]
    fn times_are_read_as_written() {
        let cases = [
            ("1970-01-01", 0),
            ("2026-11-24", 1_795_478_400_000),
            ("2026-11-24T10:30:00Z", 1_795_516_200_000),
            ("2026-11-24 10:30", 1_795_516_200_000),
            ("2026-11-24T10:30:00.250+02:00", 1_795_509_000_250),
            ("2024-02-29T23:59:59Z", 1_709_251_199_000),
            ("1795516200000", 1_795_516_200_000),
            ("15m", 999_999_100_000),
        ];
        for (text, at) in cases {
            assert_eq!(parse(text, 1_000_000_000_000).unwrap(), at, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-02-30",
            "10:30",
            "-5m",
            "2026-01-01T25:00",
        ] {
            assert!(parse(text, 0).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_is_printed_as_it_would_be_read() {
        for at in [0, 951_782_399_999, 1_795_516_200_123, 4_102_444_800_000] {
            assert_eq!(parse(&format(at), 0).unwrap(), at);
        }
        assert_eq!(format(-1), "-");
    }
}
