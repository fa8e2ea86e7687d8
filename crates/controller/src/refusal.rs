//! Why an operation on one resource is refused, as the caller is told.

use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::error_code::ErrorCode;

/// The most bytes of a config's value; the wire's records cannot carry more.
pub const MAX_CONFIG_VALUE_BYTES: usize = i16::MAX as usize;

/// Why an operation on one resource is refused. The code is Kafka's for the same case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A topic of this name exists.
    #[error("topic '{0}' already exists")]
    TopicExists(String),
    /// The name cannot be a topic's.
    #[error("{0}")]
    InvalidTopicName(String),
    /// No topic of this name, or no such partition of it.
    #[error("this server does not host this topic-partition")]
    UnknownTopic,
    /// No topic of this id.
    #[error("there is no topic with the id {0}")]
    UnknownTopicId(Uuid),
    /// Too few brokers, or a number that makes no sense.
    #[error("{0}")]
    InvalidReplicationFactor(String),
    /// A number of partitions that makes no sense.
    #[error("{0}")]
    InvalidPartitions(String),
    /// A manual assignment that cannot be made.
    #[error("{0}")]
    InvalidAssignment(String),
    /// A config that does not exist, or a value that it does not take.
    #[error("{0}")]
    InvalidConfig(String),
    /// The request contradicts itself.
    #[error("{0}")]
    InvalidRequest(String),
    /// The request goes beyond a limit of policy.
    #[error("{0}")]
    Policy(String),
    /// `delete.topic.enable` is off.
    #[error("topic deletion is disabled; set delete.topic.enable=true")]
    TopicDeletionDisabled,
    /// The broker is not registered.
    #[error("no broker {0} is registered")]
    UnknownBroker(i32),
    /// The leader is where the election would put it.
    #[error("leader election is not needed for this partition")]
    ElectionNotNeeded,
    /// The preferred replica cannot lead now.
    #[error("the preferred leader was not available")]
    PreferredLeaderNotAvailable,
    /// No replica can lead now.
    #[error("no replica of this partition can be elected")]
    EligibleLeadersNotAvailable,
    /// There is nothing to cancel.
    #[error("no partition reassignment is in progress")]
    NoReassignmentInProgress,
    /// A broker with this id, or another with this incarnation, is alive.
    #[error("another broker is registered with node.id {0}")]
    DuplicateBroker(i32),
    /// The broker's epoch is not the registered one.
    #[error("stale broker epoch")]
    StaleBrokerEpoch,
    /// A feature cannot have the level asked for.
    #[error("{0}")]
    InvalidUpdateVersion(String),
    /// The broker does not support a finalised feature's level.
    #[error("{0}")]
    UnsupportedFeature(String),
}

impl Refusal {
    /// Kafka's error code.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::TopicExists(_) => ErrorCode::TopicAlreadyExists,
            Self::InvalidTopicName(_) => ErrorCode::InvalidTopicException,
            Self::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownTopicId(_) => ErrorCode::UnknownTopicId,
            Self::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
            Self::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
            Self::InvalidAssignment(_) => ErrorCode::InvalidReplicaAssignment,
            Self::InvalidConfig(_) => ErrorCode::InvalidConfig,
            Self::InvalidRequest(_) => ErrorCode::InvalidRequest,
            Self::Policy(_) => ErrorCode::PolicyViolation,
            Self::TopicDeletionDisabled => ErrorCode::TopicDeletionDisabled,
            Self::UnknownBroker(_) => ErrorCode::BrokerIdNotRegistered,
            Self::ElectionNotNeeded => ErrorCode::ElectionNotNeeded,
            Self::PreferredLeaderNotAvailable => ErrorCode::PreferredLeaderNotAvailable,
            Self::EligibleLeadersNotAvailable => ErrorCode::EligibleLeadersNotAvailable,
            Self::NoReassignmentInProgress => ErrorCode::NoReassignmentInProgress,
            Self::DuplicateBroker(_) => ErrorCode::DuplicateBrokerRegistration,
            Self::StaleBrokerEpoch => ErrorCode::StaleBrokerEpoch,
            Self::InvalidUpdateVersion(_) => ErrorCode::InvalidUpdateVersion,
            Self::UnsupportedFeature(_) => ErrorCode::UnsupportedVersion,
        }
    }
}
