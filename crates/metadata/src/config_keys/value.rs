//! Checks a text against the type and bounds of a config key.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeMap;

use super::{Bounds, ConfigKey, ValueType};

/// Why a value is refused. The text is similar to Kafka's, with the key's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {value} for configuration {name}: {reason}")]
pub struct InvalidValue {
    /// The key.
    pub name: &'static str,
    pub value: String,
    /// What would be valid.
    pub reason: String,
}

pub(super) fn check(key: &ConfigKey, value: &str) -> Result<(), InvalidValue> {
    let refuse = |reason: String| InvalidValue {
        name: key.name,
        value: if key.is_sensitive() {
            "[hidden]".to_owned()
        } else {
            value.to_owned()
        },
        reason,
    };
    let text = value.trim();
    match key.value_type {
        ValueType::Boolean => {
            let known = ["true", "false"].contains(&text.to_ascii_lowercase().as_str());
            known
                .then_some(())
                .ok_or_else(|| refuse("expected true or false".to_owned()))
        }
        ValueType::Short | ValueType::Int | ValueType::Long => {
            let (low, high) = range(key.value_type);
            let number = text
                .parse::<i64>()
                .ok()
                .filter(|number| (low..=high).contains(number));
            let number = number
                .ok_or_else(|| refuse(format!("expected a whole number from {low} to {high}")))?;
            within(key.bounds, number).map_err(refuse)
        }
        ValueType::Double => {
            let number = text
                .parse::<f64>()
                .map_err(|_| refuse("expected a number".to_owned()))?;
            fraction(key.bounds, number).map_err(refuse)
        }
        ValueType::List if key.bounds == Bounds::Replicas => replicas(value).map_err(refuse),
        ValueType::List => list(key.bounds, value).map_err(refuse),
        ValueType::Text | ValueType::Class | ValueType::Password => {
            one_of(key.bounds, value).map_err(refuse)
        }
    }
}

fn list(bounds: Bounds, value: &str) -> Result<(), String> {
    let is_empty = |item: &str| item.trim().is_empty();
    if matches!(bounds, Bounds::OneOf(_)) && !is_empty(value) && value.split(',').any(is_empty) {
        return Err("values must not be empty".to_owned());
    }
    items(value).try_for_each(|item| one_of(bounds, item))
}

/// The items of a list value.
fn items(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

const fn range(value_type: ValueType) -> (i64, i64) {
    match value_type {
        ValueType::Short => (i16::MIN as i64, i16::MAX as i64),
        ValueType::Int => (i32::MIN as i64, i32::MAX as i64),
        _ => (i64::MIN, i64::MAX),
    }
}

fn within(bounds: Bounds, number: i64) -> Result<(), String> {
    let (valid, expected) = match bounds {
        Bounds::AtLeast(low) => (number >= low, format!("must be at least {low}")),
        Bounds::Between(low, high) => (
            (low..=high).contains(&number),
            format!("must be from {low} to {high}"),
        ),
        Bounds::Or(apart, low, high) => (
            number == apart || (low..=high).contains(&number),
            format!("must be from {low} to {high}, or {apart}"),
        ),
        _ => return Ok(()),
    };
    valid.then_some(()).ok_or(expected)
}

fn fraction(bounds: Bounds, number: f64) -> Result<(), String> {
    match bounds {
        Bounds::Ratio(high) if !(0.0..=high).contains(&number) => {
            Err(format!("must be from 0 to {high}"))
        }
        _ => Ok(()),
    }
}

fn one_of(bounds: Bounds, text: &str) -> Result<(), String> {
    match bounds {
        Bounds::OneOf(known) if !known.contains(&text) => {
            Err(format!("must be one of {}", known.join(", ")))
        }
        Bounds::OneOfAnyCase(known) if !known.contains(&text.to_ascii_lowercase().as_str()) => {
            Err(format!("must be one of {}", known.join(", ")))
        }
        Bounds::NonEmpty if text.is_empty() => Err("must not be empty".to_owned()),
        Bounds::ConnectionsByAddress => connections_by_address(text).map(|_| ()),
        Bounds::OffsetReset => offset_reset(text),
        Bounds::ClientMatch => client_match(text),
        _ => Ok(()),
    }
}

fn replicas(value: &str) -> Result<(), String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_replica = |item: &str| {
        let pair = item.split_once(':');
        pair.is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
    };
    if value.trim() == "*" || items(value).all(is_replica) {
        return Ok(());
    }
    Err("must be *, or replicas as partition:broker, separated by commas".to_owned())
}

/// Checks a condition on clients. The pattern is a regular expression, of which only the brackets are checked.
fn client_match(item: &str) -> Result<(), String> {
    const PROPERTIES: &[&str] = &[
        "client_instance_id",
        "client_id",
        "client_software_name",
        "client_software_version",
        "client_source_address",
        "client_source_port",
    ];
    let condition = item.split_once('=').filter(|(property, pattern)| {
        PROPERTIES.contains(&property.trim())
            && !pattern.is_empty()
            && !pattern.contains('=')
            && has_pairs(pattern)
    });
    condition
        .map(|_| ())
        .ok_or_else(|| format!("illegal client matching pattern {item}: it is property=pattern"))
}

/// Whether every bracket of a regular expression has its pair.
fn has_pairs(pattern: &str) -> bool {
    let (mut groups, mut in_class) = (0_u32, false);
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.next().is_none() => return false,
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => groups += 1,
            ')' if !in_class => match groups.checked_sub(1) {
                Some(left) => groups = left,
                None => return false,
            },
            _ => {}
        }
    }
    groups == 0 && !in_class
}

/// The value of `max.connections.per.ip.overrides`: `address:count`, separated by commas. The only name that is accepted is
/// `localhost`.
pub fn connections_by_address(text: &str) -> Result<BTreeMap<IpAddr, usize>, String> {
    let mut counts = BTreeMap::new();
    for item in items(text) {
        let parsed = item.rsplit_once(':').and_then(|(host, count)| {
            let address = match host.trim().trim_matches(['[', ']']) {
                "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
                address => address.parse().ok()?,
            };
            Some((address.to_canonical(), count.trim().parse().ok()?))
        });
        let (address, count) = parsed.ok_or_else(|| format!("{item} is not address:count"))?;
        counts.insert(address, count);
    }
    Ok(counts)
}

fn offset_reset(text: &str) -> Result<(), String> {
    const BY_DURATION: &str = "by_duration:";
    let is_valid = match text.strip_prefix(BY_DURATION) {
        Some(duration) => is_duration(duration),
        None => matches!(text, "earliest" | "latest"),
    };
    is_valid.then_some(()).ok_or_else(|| {
        format!("must be earliest, latest, or {BY_DURATION} and a duration such as PT1H")
    })
}

/// Whether this is an ISO 8601 duration of days, hours, minutes and seconds that is not negative.
fn is_duration(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    let Some(rest) = upper.strip_prefix('+').unwrap_or(&upper).strip_prefix('P') else {
        return false;
    };
    let (days, time) = match rest.split_once('T') {
        Some((days, time)) => (days, Some(time)),
        None => (rest, None),
    };
    let mut seconds = 0.0;
    let is_valid = amounts(days, &[('D', 86_400.0)], &mut seconds)
        && time.is_none_or(|time| {
            let units = [('H', 3_600.0), ('M', 60.0), ('S', 1.0)];
            !time.is_empty() && amounts(time, &units, &mut seconds)
        });
    is_valid && !rest.is_empty() && seconds >= 0.0
}

/// Reads amounts with these units, each at most once and in this order, and adds up their seconds.
fn amounts(text: &str, units: &[(char, f64)], seconds: &mut f64) -> bool {
    let mut rest = text;
    for (unit, worth) in units {
        let Some((amount, after)) = rest.split_once(*unit) else {
            continue;
        };
        let digits = amount.strip_prefix(['+', '-']).unwrap_or(amount);
        let (whole, part) = match digits.split_once(['.', ',']) {
            Some((whole, part)) if *unit == 'S' && part.len() <= 9 => (whole, part),
            Some(_) => return false,
            None => (digits, ""),
        };
        let are_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !are_digits(whole) || !are_digits(part) {
            return false;
        }
        let number: f64 = amount.replace(',', ".").parse().unwrap_or(f64::NAN);
        *seconds += number * worth;
        rest = after;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::{client_match, connections_by_address, offset_reset, replicas};
    use core::net::{IpAddr, Ipv4Addr};

    #[test]
    fn a_group_begins_at_an_end_or_a_duration_ago() {
        let valid = [
            "earliest",
            "latest",
            "by_duration:PT1H",
            "by_duration:P1DT2H3.5S",
            "by_duration:pt0,000000001s",
            "by_duration:PT1H-1M",
        ];
        for text in valid {
            assert_eq!(offset_reset(text), Ok(()), "{text}");
        }
        let invalid = [
            "",
            "EARLIEST",
            "foo",
            "none",
            "by_duration",
            "by_duration:",
            "by_duration:1h",
            "by_duration:P",
            "by_duration:PT",
            "by_duration:P1DT",
            "by_duration:-PT1H",
            "by_duration:PT-1H",
            "by_duration:PT1M1H",
            "by_duration:PT1.5H",
            "by_duration:P1Y",
        ];
        for text in invalid {
            assert!(offset_reset(text).is_err(), "{text}");
        }
    }

    #[test]
    fn connections_are_counted_by_address() {
        let counts = connections_by_address("127.0.0.1:4, [::1]:5,localhost:6").unwrap();
        assert_eq!(counts[&IpAddr::V4(Ipv4Addr::LOCALHOST)], 6);
        assert_eq!(counts.len(), 2);
        assert!(connections_by_address("").unwrap().is_empty());
        for text in ["nonsense", "127.0.0.1", "127.0.0.1:x", "a.example:5"] {
            let why = connections_by_address(text).unwrap_err();
            assert!(why.contains("address:count"), "{why}");
        }
    }

    #[test]
    fn clients_are_chosen_by_a_property_and_a_pattern() {
        for text in [
            "client_id=a",
            "client_source_port = [0-9]+",
            "client_id=(a|b)\\]",
        ] {
            assert_eq!(client_match(text), Ok(()), "{text}");
        }
        for text in [
            "x",
            "client_id",
            "client_id=",
            "client=a",
            "client_id=[",
            "client_id=a)",
        ] {
            assert!(client_match(text).is_err(), "{text}");
        }
    }

    #[test]
    fn replicas_are_named_by_partition_and_broker() {
        for text in ["", "*", "0:1", "0:1,1:2"] {
            assert_eq!(replicas(text), Ok(()), "{text}");
        }
        for text in ["all", "0", "0:", ":1", "0:1,*", "a:b"] {
            assert!(replicas(text).is_err(), "{text}");
        }
    }
}
