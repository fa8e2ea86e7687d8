//! The definition of a config key.

use super::value::{self, InvalidValue};

/// The documentation of a key that is accepted and has no effect. `ottla config set` recognises such a key by it.
pub const WITHOUT_EFFECT: &str = "Understood, but without effect in this release.";

/// The end of the documentation of a key whose change takes effect at the next start.
pub const FROM_NEXT_START: &str = "A change counts from the next start on.";

/// The type of a config's value (KIP-226).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// `true` or `false`.
    Boolean,
    Text,
    /// A 32-bit number.
    Int,
    /// A 16-bit number.
    Short,
    /// A 64-bit number.
    Long,
    /// A floating-point number.
    Double,
    /// Texts separated by commas.
    List,
    /// A Java class by name; Ottla loads none.
    Class,
    /// Text that is never shown.
    Password,
}

impl ValueType {
    /// The number in DescribeConfigs.
    pub const fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::Text => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }
}

/// The values that a config accepts, besides its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bounds {
    /// Any value of the type.
    Any,
    /// This number or a larger one.
    AtLeast(i64),
    /// From the first number to the second, both included.
    Between(i64, i64),
    /// The first number, or one from the second to the third, both included.
    Or(i64, i64, i64),
    /// A fraction from 0 to this.
    Ratio(f64),
    /// One of these texts; in a list, each item.
    OneOf(&'static [&'static str]),
    /// One of these texts, in upper or lower case; given here in lower case.
    OneOfAnyCase(&'static [&'static str]),
    /// Every text that is not empty.
    NonEmpty,
    /// Numbers of connections by address, see [`connections_by_address`](super::connections_by_address).
    ConnectionsByAddress,
    /// The offset at which a group starts to read: `earliest`, `latest`, or `by_duration:` and an ISO 8601 duration.
    OffsetReset,
    /// Replicas as `partition:broker`, or `*` for all.
    Replicas,
    /// The clients that send metrics, as `property=pattern`.
    ClientMatch,
}

/// How important a config is to most users, in Kafka's three levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// To be checked before production.
    High,
    /// To be checked when tuning.
    Medium,
    /// Seldom to be changed.
    Low,
}

/// Where a broker config may be changed while the broker runs (KIP-226).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// Only in the file, before a start.
    ReadOnly,
    /// By AlterConfigs, for one listener of one broker, behind the listener's prefix.
    PerListener,
    /// By AlterConfigs, for one broker.
    PerBroker,
    /// By AlterConfigs, for one broker or for all.
    ClusterWide,
}

/// The effect of setting a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The effect in its documentation.
    Works,
    /// None yet: the key only tunes. It is accepted, and logged once.
    NotYet,
    /// It asks for security, or for a kind of cluster, that is not built yet: with any value but the default, the broker
    /// does not start.
    Refused,
}

/// When a change takes effect that is made while the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenChanged {
    /// At once.
    AtOnce,
    /// At the next start.
    NextStart,
    /// Never; a warning is logged.
    NoEffect,
    /// The change is refused: only the file can set it.
    Refused,
}

/// How the value of a synonym is converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// No conversion.
    Same,
    /// Hours become milliseconds.
    Hours,
    /// Minutes become milliseconds.
    Minutes,
}

impl Unit {
    /// The value in the config's own unit.
    pub fn convert(self, value: &str) -> String {
        let factor = match self {
            Self::Same => return value.to_owned(),
            Self::Hours => 3_600_000,
            Self::Minutes => 60_000,
        };
        match value.trim().parse::<i64>() {
            // A negative number means "for ever" in every unit.
            Ok(number) if number < 0 => "-1".to_owned(),
            Ok(number) => number.saturating_mul(factor).to_string(),
            Err(_) => value.to_owned(),
        }
    }
}

/// A broker config that gives the config of a topic or a group its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synonym {
    /// The broker config.
    pub name: &'static str,
    pub unit: Unit,
}

impl Synonym {
    pub(super) const fn new(name: &'static str, unit: Unit) -> Self {
        Self { name, unit }
    }
}

/// One config key.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigKey {
    /// Kafka's name, or `ottla.…`.
    pub name: &'static str,
    pub value_type: ValueType,
    /// Kafka's default. `None` if the key must be set, or is derived from another key.
    pub default: Option<&'static str>,
    pub bounds: Bounds,
    pub importance: Importance,
    pub update: Update,
    /// The broker configs that give the config of a topic or a group its default, the strongest first.
    pub synonyms: &'static [Synonym],
    /// Whether it is for tests, and shown only if set.
    pub internal: bool,
    /// Whether it is shown only if set, because Kafka has it only as a dynamic config.
    pub only_where_set: bool,
    /// When a change takes effect, if the key has an effect. Use [`Self::when_changed`].
    change_if_it_works: WhenChanged,
    pub effect: Effect,
    pub documentation: &'static str,
}

impl ConfigKey {
    pub(super) const fn new(
        name: &'static str,
        value_type: ValueType,
        default: Option<&'static str>,
    ) -> Self {
        Self {
            name,
            value_type,
            default,
            bounds: Bounds::Any,
            importance: Importance::Medium,
            update: Update::ReadOnly,
            synonyms: &[],
            internal: false,
            only_where_set: false,
            change_if_it_works: WhenChanged::AtOnce,
            effect: Effect::NotYet,
            documentation: WITHOUT_EFFECT,
        }
    }

    pub(super) const fn bounded(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    pub(super) const fn important(mut self, importance: Importance) -> Self {
        self.importance = importance;
        self
    }

    pub(super) const fn updated(mut self, update: Update) -> Self {
        self.update = update;
        self
    }

    pub(super) const fn synonyms(mut self, synonyms: &'static [Synonym]) -> Self {
        self.synonyms = synonyms;
        self
    }

    pub(super) const fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    pub(super) const fn only_where_set(mut self) -> Self {
        self.only_where_set = true;
        self
    }

    pub(super) const fn at_next_start(mut self) -> Self {
        self.change_if_it_works = WhenChanged::NextStart;
        self
    }

    pub(super) const fn only_by_file(mut self) -> Self {
        self.change_if_it_works = WhenChanged::Refused;
        self
    }

    pub(super) const fn works(mut self, documentation: &'static str) -> Self {
        self.effect = Effect::Works;
        self.documentation = documentation;
        self
    }

    pub(super) const fn refused(mut self) -> Self {
        self.effect = Effect::Refused;
        self.documentation = "Not served in this release: the broker starts only with the default.";
        self
    }

    /// When a change takes effect that is made while the broker runs, if [`Self::update`] allows one.
    pub const fn when_changed(&self) -> WhenChanged {
        match self.effect {
            Effect::Works => self.change_if_it_works,
            Effect::NotYet => WhenChanged::NoEffect,
            Effect::Refused => WhenChanged::Refused,
        }
    }

    /// Whether its value is never shown.
    pub fn is_sensitive(&self) -> bool {
        self.value_type == ValueType::Password
    }

    /// Refuses a value that does not fit the key's type and bounds.
    pub fn check(&self, value: &str) -> Result<(), InvalidValue> {
        value::check(self, value)
    }
}
