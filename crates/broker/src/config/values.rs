//! Values of configuration keys that have been checked already, with Kafka's defaults for keys that are not set.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_metadata::ResourceKind;
use ottla_metadata::config_keys::find;

/// The values of broker configs.
#[derive(Debug, Clone, Default)]
pub struct Values {
    set: BTreeMap<String, String>,
}

impl Values {
    /// The values that are set; the others have their defaults.
    pub fn new(set: BTreeMap<String, String>) -> Self {
        Self { set }
    }

    /// The values that were set.
    pub fn into_set(self) -> BTreeMap<String, String> {
        self.set
    }

    /// The value of `key`, if it was set.
    pub fn set(&self, key: &str) -> Option<&str> {
        self.set.get(key).map(String::as_str)
    }

    /// The value of `key`, or its default; empty where it has neither.
    pub fn text(&self, key: &str) -> String {
        let default = || find(ResourceKind::Broker, key).and_then(|key| key.default);
        self.set(key)
            .or_else(default)
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    /// The items of a comma-separated list.
    pub fn list(&self, key: &str) -> Vec<String> {
        self.text(key)
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// A number; 0 where it has neither value nor default.
    pub fn number(&self, key: &str) -> i64 {
        self.text(key).parse().unwrap_or_default()
    }

    /// A number: a negative one becomes 0, one above the range of `T` becomes the largest of `T`.
    pub fn count<T: TryFrom<i64> + Bounded>(&self, key: &str) -> T {
        T::try_from(self.number(key).max(0)).unwrap_or(T::LARGEST)
    }

    /// A number of milliseconds; a negative one is [`Duration::MAX`].
    pub fn duration(&self, key: &str) -> Duration {
        u64::try_from(self.number(key)).map_or(Duration::MAX, Duration::from_millis)
    }

    /// Whether the value is `true`.
    pub fn flag(&self, key: &str) -> bool {
        self.text(key).eq_ignore_ascii_case("true")
    }
}

/// An integer type with a largest value.
pub trait Bounded {
    const LARGEST: Self;
}

impl Bounded for usize {
    const LARGEST: Self = Self::MAX;
}
impl Bounded for i32 {
    const LARGEST: Self = Self::MAX;
}
impl Bounded for i16 {
    const LARGEST: Self = Self::MAX;
}
impl Bounded for u64 {
    const LARGEST: Self = Self::MAX;
}
