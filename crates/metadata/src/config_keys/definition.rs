//! What is said of a config key.

use super::value::{self, InvalidValue};

/// The text of a key that is taken and does nothing; `ottla config set` knows such a key by it.
pub const WITHOUT_EFFECT: &str = "Understood, but without effect in this release.";

/// How the text of a key ends whose change holds from the next start on.
pub const FROM_NEXT_START: &str = "A change counts from the next start on.";

/// The type of a config's value; the wire's numbers are those of DescribeConfigs (KIP-226).
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

/// Which values a config takes, besides its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bounds {
    /// Any value of the type.
    Any,
    /// No smaller number.
    AtLeast(i64),
    /// No number outside, both ends allowed.
    Between(i64, i64),
    /// One number apart, or none outside the rest.
    Or(i64, i64, i64),
    /// A fraction from 0 to this.
    Ratio(f64),
    /// One of these; of a list, each item.
    OneOf(&'static [&'static str]),
    /// One of these, however it is capitalised; listed in lower case.
    OneOfAnyCase(&'static [&'static str]),
    /// Anything but the empty text.
    NonEmpty,
    /// Numbers of connections by address, see [`connections_by_address`](super::connections_by_address).
    ConnectionsByAddress,
    /// Where a group begins to read: `earliest`, `latest`, or `by_duration:` and an ISO 8601 duration.
    OffsetReset,
    /// Replicas as `partition:broker`, or `*` for all.
    Replicas,
    /// What a client must be to give its metrics, as `property=pattern`.
    ClientMatch,
}

/// How much a config matters to most users; Kafka's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    /// Look at it before going live.
    High,
    /// Look at it when tuning.
    Medium,
    /// Leave it alone.
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

/// What setting a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// What its text says.
    Works,
    /// Nothing yet: it only tunes. It is taken, and said so once.
    NotYet,
    /// It asks for safety or shape that is not built yet: a value other than the default refuses the start.
    Refused,
}

/// What comes of a change while the broker runs, of a key that may be changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenChanged {
    /// It holds at once.
    AtOnce,
    /// It holds from the next start on.
    NextStart,
    /// Nothing; who sets it is told.
    NoEffect,
    /// It is not taken: the file says it, before a start.
    Refused,
}

/// How a synonym's value becomes the config's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// As it is.
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
            // A negative number means "for ever" whatever its unit.
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
    /// Kafka's default where it has one; `None` where it must be set, or is derived from another key.
    pub default: Option<&'static str>,
    /// Which values it takes.
    pub bounds: Bounds,
    /// How much it matters.
    pub importance: Importance,
    /// Where it may be changed.
    pub update: Update,
    /// The broker configs that give the config of a topic or a group its default, the strongest first.
    pub synonyms: &'static [Synonym],
    /// Whether it is for tests and not shown.
    pub internal: bool,
    /// Whether it is shown only where it is set: Kafka knows it as a dynamic config alone.
    pub only_where_set: bool,
    /// What comes of a change where setting it works at all; [`Self::when_changed`] is what holds.
    change_of_what_works: WhenChanged,
    /// What setting it does.
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
            change_of_what_works: WhenChanged::AtOnce,
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
        self.change_of_what_works = WhenChanged::NextStart;
        self
    }

    pub(super) const fn only_by_file(mut self) -> Self {
        self.change_of_what_works = WhenChanged::Refused;
        self
    }

    pub(super) const fn works(mut self, documentation: &'static str) -> Self {
        self.effect = Effect::Works;
        self.documentation = documentation;
        self
    }

    pub(super) const fn refused(mut self) -> Self {
        self.effect = Effect::Refused;
        self.documentation = "Not served in this release: a value refuses the start.";
        self
    }

    /// What comes of a change while the broker runs, where [`Self::update`] allows one.
    pub const fn when_changed(&self) -> WhenChanged {
        match self.effect {
            Effect::Works => self.change_of_what_works,
            Effect::NotYet => WhenChanged::NoEffect,
            Effect::Refused => WhenChanged::Refused,
        }
    }

    /// Whether its value is never shown.
    pub fn is_sensitive(&self) -> bool {
        self.value_type == ValueType::Password
    }

    /// Whether `value` has the key's type and lies within its bounds.
    pub fn check(&self, value: &str) -> Result<(), InvalidValue> {
        value::check(self, value)
    }
}
