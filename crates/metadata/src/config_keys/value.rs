//! Whether a text is a value of a config key.

use super::{Bounds, ConfigKey, ValueType};

/// Why a value is refused; displayed as Kafka's tools show it, behind the key's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {value} for configuration {name}: {reason}")]
pub struct InvalidValue {
    /// The key.
    pub name: &'static str,
    /// The value.
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
        ValueType::List => items(value)
            .try_for_each(|item| one_of(key.bounds, item))
            .map_err(refuse),
        ValueType::Text | ValueType::Class | ValueType::Password => {
            one_of(key.bounds, value).map_err(refuse)
        }
    }
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
        _ => Ok(()),
    }
}
