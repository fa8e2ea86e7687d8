//! The resources that configs belong to.

use std::fmt;

/// The kind of a resource with configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    /// A topic, by name.
    Topic,
    /// A broker, by its id in decimal; the empty name is the default of all brokers.
    Broker,
    /// A broker's loggers; never stored.
    BrokerLogger,
    /// A subscription to client metrics (KIP-714).
    ClientMetrics,
    /// A group, by id.
    Group,
}

impl ResourceKind {
    /// The number in the protocol.
    pub const fn code(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::BrokerLogger => 8,
            Self::ClientMetrics => 16,
            Self::Group => 32,
        }
    }

    /// The kind with this number in the protocol.
    pub const fn from_code(code: i8) -> Option<Self> {
        match code {
            2 => Some(Self::Topic),
            4 => Some(Self::Broker),
            8 => Some(Self::BrokerLogger),
            16 => Some(Self::ClientMetrics),
            32 => Some(Self::Group),
            _ => None,
        }
    }
}

/// The owner of a set of configs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigResource {
    pub kind: ResourceKind,
    /// Empty for the default of all brokers.
    pub name: String,
}

impl ConfigResource {
    /// The topic of this name.
    pub fn topic(name: impl Into<String>) -> Self {
        Self {
            kind: ResourceKind::Topic,
            name: name.into(),
        }
    }

    /// The broker of this id.
    pub fn broker(id: i32) -> Self {
        Self {
            kind: ResourceKind::Broker,
            name: id.to_string(),
        }
    }

    /// The default of all brokers.
    pub fn cluster() -> Self {
        Self {
            kind: ResourceKind::Broker,
            name: String::new(),
        }
    }

    /// The group of this id.
    pub fn group(id: impl Into<String>) -> Self {
        Self {
            kind: ResourceKind::Group,
            name: id.into(),
        }
    }
}

/// As log messages show it: `topic orders`, `broker 1`, `all brokers`.
impl fmt::Display for ConfigResource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.kind {
            ResourceKind::Broker if name.is_empty() => formatter.write_str("all brokers"),
            ResourceKind::Broker => write!(formatter, "broker {name}"),
            ResourceKind::Topic => write!(formatter, "topic {name}"),
            ResourceKind::Group => write!(formatter, "group {name}"),
            ResourceKind::ClientMetrics => write!(formatter, "client metrics {name}"),
            ResourceKind::BrokerLogger => write!(formatter, "loggers of broker {name}"),
        }
    }
}
