//! Durations and sizes as people write them: `7d`, `1GiB`. Kafka's keys count in milliseconds and bytes.

use anyhow::{Result, bail};

use crate::output::message;

const DURATIONS: [(&str, u64); 7] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Converts a value with a unit to the unit in the key's name, and prints the converted value as a
/// message. A value without a unit is passed on unchanged; the broker validates it.
pub fn resolve(key: &str, value: &str) -> Result<String> {
    let (units, what) = match key.rsplit('.').next() {
        Some("ms") => (&DURATIONS[..], "milliseconds"),
        Some("bytes") => (&SIZES[..], "bytes"),
        _ => return Ok(value.to_owned()),
    };
    let Some((number, unit)) = split(value) else {
        return Ok(value.to_owned());
    };
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let names: Vec<_> = units.iter().map(|(name, _)| *name).collect();
        bail!(
            "{key} is in {what}: {value:?} has another unit; write one of {}, or no unit",
            names.join(", ")
        );
    };
    let Some(resolved) = multiply(number, *factor) else {
        bail!("{value:?} is not a whole number of {what} in the range of {key}");
    };
    message(&format!("{key}: {value} is {resolved} {what}"));
    Ok(resolved.to_string())
}

/// A number of bytes, with a unit or without one.
pub fn parse_size(value: &str) -> Result<u64> {
    let (number, unit) = split(value).unwrap_or((value, "B"));
    let unit = SIZES.iter().find(|(name, _)| *name == unit);
    let bytes = unit.and_then(|(_, factor)| multiply(number, *factor));
    match bytes.map(u64::try_from) {
        Some(Ok(bytes)) if bytes > 0 => Ok(bytes),
        _ => bail!("{value:?} is not a size; write 20MB, for example"),
    }
}

/// Splits a number from its unit; `None` without a unit.
fn split(value: &str) -> Option<(&str, &str)> {
    let end = value.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
    let (number, unit) = value.split_at(end);
    let unit = unit.trim_start();
    let is_unit = !unit.is_empty() && unit.chars().all(|letter| letter.is_ascii_alphabetic());
    (number.starts_with(|letter: char| letter.is_ascii_digit()) && is_unit)
        .then_some((number, unit))
}

/// A decimal number times a factor; `None` unless the product is a whole number in range.
fn multiply(number: &str, factor: u64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let part = match fraction {
        "" => 0,
        digits => digits.parse::<u64>().ok()?.checked_mul(factor)?,
    };
    if part % scale != 0 {
        return None;
    }
    i64::try_from(whole.checked_add(part / scale)?).ok()
}

/// A size as text: `1.5 GiB`, in the largest unit that is not larger than the size.
pub fn format_size(bytes: u64) -> String {
    let units = &SIZES[..5];
    let fits = |(_, factor): &&(&str, u64)| bytes >= *factor;
    let (name, factor) = units.iter().rev().find(fits).unwrap_or(&units[0]);
    if *factor == 1 {
        return format!("{bytes} B");
    }
    let tenths = u128::from(bytes) * 10 / u128::from(*factor);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::{format_size, parse_size, resolve};

    #[test]
    fn units_become_what_the_key_counts_in() {
        let cases = [
            ("retention.ms", "7d", "604800000"),
            ("retention.ms", "1.5h", "5400000"),
            ("log.retention.ms", "2w", "1209600000"),
            ("segment.ms", "90 s", "90000"),
            ("delete.retention.ms", "250ms", "250"),
            ("retention.bytes", "1GiB", "1073741824"),
            ("max.message.bytes", "1.5MB", "1500000"),
            ("segment.bytes", "64KiB", "65536"),
        ];
        for (key, given, resolved) in cases {
            assert_eq!(resolve(key, given).unwrap(), resolved, "{key}={given}");
        }
    }

    #[test]
    fn what_has_no_unit_is_left_to_the_broker() {
        let cases = [
            ("retention.ms", "-1"),
            ("retention.ms", "600000"),
            ("retention.ms", "soon"),
            ("retention.bytes", "much"),
            ("cleanup.policy", "7d"),
            ("log.retention.hours", "7d"),
        ];
        for (key, given) in cases {
            assert_eq!(resolve(key, given).unwrap(), given, "{key}={given}");
        }
    }

    #[test]
    fn a_unit_of_something_else_is_refused() {
        let cases = [
            ("retention.ms", "1GiB"),
            ("retention.bytes", "7d"),
            ("retention.bytes", "1G"),
            ("retention.ms", "1.5ms"),
            ("retention.ms", "99999999999999999d"),
        ];
        for (key, given) in cases {
            assert!(resolve(key, given).is_err(), "{key}={given}");
        }
    }

    #[test]
    fn a_size_is_a_positive_whole_number_of_bytes() {
        let cases = [
            ("1", 1),
            ("20B", 20),
            ("64KiB", 65_536),
            ("2MiB", 2_097_152),
            ("1.5 GiB", 1_610_612_736),
            ("1TiB", 1_099_511_627_776),
            ("500kB", 500_000),
            ("20MB", 20_000_000),
            ("0.25GB", 250_000_000),
            ("3TB", 3_000_000_000_000),
            ("9223372036854775807", i64::MAX.cast_unsigned()),
            ("8388607TiB", 9_223_370_937_343_148_032),
        ];
        for (given, bytes) in cases {
            assert_eq!(parse_size(given).unwrap(), bytes, "{given}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        let refused = [
            "0",
            "0MB",
            "0.0kB",
            "",
            "MB",
            "much",
            "-1",
            "-20MB",
            "20mb",
            "20M",
            "20MB/s",
            "1.5",
            "1.0001kB",
            "1.2.3MB",
            "7d",
            "9223372036854775808",
            "8388608TiB",
            "99999999999999999999",
            "1.00000000000000000000kB",
        ];
        for given in refused {
            let error = parse_size(given).expect_err(given).to_string();
            assert!(error.contains("is not a size"), "{given}: {error}");
        }
    }

    #[test]
    fn a_size_is_shown_in_the_largest_unit_that_fits() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_610_612_736, "1.5 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ];
        for (bytes, shown) in cases {
            assert_eq!(format_size(bytes), shown);
        }
    }
}
