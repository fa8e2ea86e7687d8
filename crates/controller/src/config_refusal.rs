//! Why a change to the configs of one resource is refused, with Kafka's code and, where tools read it, Kafka's text.

use ottla_metadata::ResourceKind;
use ottla_metadata::config_keys::InvalidValue;
use ottla_metadata::config_keys::together::Broken;
use ottla_protocol::error_code::ErrorCode;

/// The most bytes of a config's value; the wire's records cannot carry more.
pub const MAX_CONFIG_VALUE_BYTES: usize = i16::MAX as usize;

/// Why a change to configs is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigRefusal {
    /// No such config, for this kind of resource.
    #[error("{}", unknown(*kind, name, *nearest))]
    Unknown {
        kind: ResourceKind,
        name: String,
        /// The known config with the most similar name.
        nearest: Option<&'static str>,
    },
    /// Kafka knows the config, and Ottla does nothing with it yet.
    #[error("{0} is not served in this release")]
    NotServed(&'static str),
    /// `listener.name.*`.
    #[error("{0} is not served in this release: listeners have no configs of their own")]
    OfListener(String),
    /// The config takes effect only at a start.
    #[error("cannot update {0} while the broker runs: set it in the broker's file and restart")]
    NotWhileRunning(&'static str),
    /// Kafka takes these only from the file.
    #[error("Cannot update these configs dynamically: [{}]", .0.join(", "))]
    ReadOnly(Vec<String>),
    /// Kafka takes these only for one listener.
    #[error(
        "These security configs can be dynamically updated only per-listener using the listener prefix: [{}]",
        .0.join(", ")
    )]
    PerListener(Vec<String>),
    /// These cannot be set for all brokers together.
    #[error(
        "Cannot update these configs at default cluster level, broker id must be specified: [{}]",
        .0.join(", ")
    )]
    PerBroker(Vec<String>),
    /// A request names the same config twice.
    #[error("error due to duplicate config keys: {0}")]
    NamedTwice(String),
    /// CreateTopics gives these no value.
    #[error("null value not supported for topic configs: {}", .0.join(","))]
    Null(Vec<String>),
    /// The value does not fit the config's type or range.
    #[error(transparent)]
    Invalid(InvalidValue),
    /// The same, for configs that Kafka's broker checks before it asks the controller: it answers another code.
    #[error(transparent)]
    InvalidForBroker(InvalidValue),
    /// The value does not fit a record.
    #[error(
        "the configuration value cannot be added because it exceeds the maximum value size of \
         {MAX_CONFIG_VALUE_BYTES} bytes"
    )]
    TooLong,
    /// Only lists can be appended to and subtracted from.
    #[error("can't append to or subtract from key {0} because its type is not LIST")]
    NotAList(&'static str),
    /// A bound between configs of a topic, or of a group and its brokers, would not hold.
    #[error(transparent)]
    Bound(Broken),
    /// A bound between configs of brokers would not hold.
    #[error(transparent)]
    BoundOfBroker(Broken),
    /// Eligible leader replicas need the cluster's `min.insync.replicas`.
    #[error("Cluster-level min.insync.replicas cannot be removed while ELR is enabled.")]
    MinInSyncOfCluster,
    /// Eligible leader replicas need one `min.insync.replicas` for all brokers.
    #[error("Broker-level min.insync.replicas cannot be altered while ELR is enabled.")]
    MinInSyncOfBroker,
}

impl ConfigRefusal {
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown {
                kind: ResourceKind::ClientMetrics,
                ..
            }
            | Self::NotWhileRunning(_)
            | Self::ReadOnly(_)
            | Self::PerListener(_)
            | Self::PerBroker(_)
            | Self::NamedTwice(_)
            | Self::InvalidForBroker(_)
            | Self::BoundOfBroker(_) => ErrorCode::InvalidRequest,
            Self::Unknown { .. }
            | Self::NotServed(_)
            | Self::OfListener(_)
            | Self::Null(_)
            | Self::Invalid(_)
            | Self::TooLong
            | Self::NotAList(_)
            | Self::Bound(_)
            | Self::MinInSyncOfCluster
            | Self::MinInSyncOfBroker => ErrorCode::InvalidConfig,
        }
    }
}

fn unknown(kind: ResourceKind, name: &str, nearest: Option<&str>) -> String {
    let what = match kind {
        ResourceKind::ClientMetrics => {
            return format!("unknown client metrics configuration: {name}");
        }
        ResourceKind::Topic => "topic",
        ResourceKind::Group => "group",
        ResourceKind::Broker | ResourceKind::BrokerLogger => "broker",
    };
    let hint = nearest.map(|near| format!("; did you mean {near}?"));
    format!(
        "unknown {what} config name: {name}{}",
        hint.unwrap_or_default()
    )
}
