//! Why an operation on one resource is refused: Kafka's error codes, and the messages for the caller.

use ottla_protocol::error_code::ErrorCode;
use ottla_protocol::ids::{NodeId, Uuid};

use crate::assignments::InvalidAssignment;
use crate::config_refusal::ConfigRefusal;
use crate::features::InvalidUpdate;
use crate::placement::InvalidReplicationFactor;
use crate::topic_names::InvalidTopicName;

/// The most partitions that one request may create or add: they must fit one proposal.
pub const MAX_PARTITIONS_PER_REQUEST: usize = 10_000;

/// Why an operation on one resource is refused. The code is Kafka's for the same case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("topic '{0}' already exists")]
    TopicExists(String),
    #[error(transparent)]
    InvalidTopicName(#[from] InvalidTopicName),
    /// A topic that has a name, but that no request creates.
    #[error("creation of internal topic {0} is prohibited")]
    InternalTopic(String),
    /// CreateTopics names it more than once.
    #[error("duplicate topic name '{0}'")]
    DuplicateTopic(String),
    /// CreatePartitions names it more than once.
    #[error("duplicate topic name")]
    DuplicateTopicName,
    /// DeleteTopics names it more than once in one way.
    #[error("the request names a topic twice, by the same name or id")]
    TopicNamedTwice,
    /// DeleteTopics names it in both ways.
    #[error("the request names a topic twice, by its name and by its id")]
    TopicNamedByNameAndId,
    /// No topic of this name, or no such partition of it.
    #[error("this server does not host this topic-partition")]
    UnknownTopic,
    #[error("there is no topic with the id {0}")]
    UnknownTopicId(Uuid),
    #[error("topic deletion is disabled; set delete.topic.enable=true")]
    TopicDeletionDisabled,

    #[error(transparent)]
    InvalidReplicationFactor(#[from] InvalidReplicationFactor),
    #[error("number of partitions was set to an invalid non-positive value")]
    PartitionsNotPositive,
    #[error("topic already has {has} partition(s)")]
    SamePartitions { has: usize },
    #[error(
        "the topic {topic} currently has {has} partition(s); {wanted} would not be an increase"
    )]
    FewerPartitions {
        topic: String,
        has: usize,
        wanted: i32,
    },
    #[error("at most {MAX_PARTITIONS_PER_REQUEST} partitions can be added by one request")]
    TooManyAddedPartitions,
    #[error(
        "excessively large number of partitions per request: at most {MAX_PARTITIONS_PER_REQUEST} can be created"
    )]
    TooManyPartitions,
    #[error(transparent)]
    InvalidAssignment(#[from] InvalidAssignment),
    /// CreateTopics assigns replicas, and names a number of them too.
    #[error(
        "a manual partition assignment was specified, but replication factor was not set to -1"
    )]
    AssignmentAndReplicationFactor,
    /// CreateTopics assigns replicas, and names a number of partitions too.
    #[error("a manual partition assignment was specified, but numPartitions was not set to -1")]
    AssignmentAndPartitions,

    #[error(transparent)]
    Config(#[from] ConfigRefusal),
    #[error("each resource must appear at most once")]
    ResourceNamedTwice,
    /// Configs for the broker of this name.
    #[error("'{0}' is not the id of a broker here")]
    NotABroker(String),
    /// Configs for all groups together.
    #[error("default group resources are not allowed")]
    DefaultGroup,
    #[error("the name of a subscription to client metrics must not be empty")]
    UnnamedClientMetrics,
    #[error("the levels of loggers are no configs of the cluster")]
    LoggerLevels,

    #[error("no broker {0} is registered")]
    UnknownBroker(i32),
    /// The broker's epoch is not the registered one.
    #[error("stale broker epoch")]
    StaleBrokerEpoch,
    /// A process with the broker's id is alive.
    #[error(
        "another broker is registered with the id {0}; if it was restarted, this resolves itself once the session of \
         its last process ends"
    )]
    DuplicateBroker(NodeId),
    #[error(transparent)]
    InvalidRegistration(#[from] InvalidRegistration),
    /// The broker does not support the level of a feature that the cluster has finalised.
    #[error(
        "unable to register because the broker does not support finalized version {level} of {name}: it supports {} \
         to {}",
        supported.0, supported.1
    )]
    UnsupportedFeature {
        name: String,
        level: i16,
        /// The lowest and the highest level.
        supported: (i16, i16),
    },
    #[error("the metadata version has no directories of replicas")]
    NoDirectoryAssignment,
    #[error(transparent)]
    InvalidUpdate(#[from] InvalidUpdate),

    /// The leader is where the election would put it.
    #[error("leader election is not needed for this partition")]
    ElectionNotNeeded,
    /// The preferred replica cannot lead now.
    #[error("the preferred leader was not available")]
    PreferredLeaderNotAvailable,
    #[error("no replica of this partition can be elected")]
    EligibleLeadersNotAvailable,
    /// There is nothing to cancel.
    #[error("no partition reassignment is in progress")]
    NoReassignmentInProgress,
    /// A controller on another node has refused, for a reason of which only this is known.
    #[error("{}", message.clone().unwrap_or_else(|| format!("the controller answered {code:?}")))]
    Elsewhere {
        code: ErrorCode,
        message: Option<String>,
    },
}

/// What is wrong with the registration of a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRegistration {
    #[error("no log directories are specified in the registration")]
    NoDirectory,
    #[error("the registration has a reserved directory id")]
    ReservedDirectory,
    #[error("the registration has a directory id twice")]
    DirectoryTwice,
    #[error("broker {other} is already registered with directory {directory}")]
    DirectoryOfOther { other: NodeId, directory: Uuid },
    #[error("the features of the registration do not contain 'metadata.version'")]
    NoMetadataVersion,
}

impl Refusal {
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::TopicExists(_) => ErrorCode::TopicAlreadyExists,
            Self::InvalidTopicName(_) => ErrorCode::InvalidTopicException,
            Self::InternalTopic(_)
            | Self::DuplicateTopic(_)
            | Self::DuplicateTopicName
            | Self::TopicNamedTwice
            | Self::TopicNamedByNameAndId
            | Self::AssignmentAndReplicationFactor
            | Self::AssignmentAndPartitions
            | Self::ResourceNamedTwice
            | Self::NotABroker(_)
            | Self::DefaultGroup
            | Self::UnnamedClientMetrics
            | Self::LoggerLevels => ErrorCode::InvalidRequest,
            Self::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
            Self::UnknownTopicId(_) => ErrorCode::UnknownTopicId,
            Self::TopicDeletionDisabled => ErrorCode::TopicDeletionDisabled,
            Self::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
            Self::PartitionsNotPositive
            | Self::SamePartitions { .. }
            | Self::FewerPartitions { .. }
            | Self::TooManyAddedPartitions => ErrorCode::InvalidPartitions,
            Self::TooManyPartitions => ErrorCode::PolicyViolation,
            Self::InvalidAssignment(_) => ErrorCode::InvalidReplicaAssignment,
            Self::Config(refusal) => refusal.code(),
            Self::UnknownBroker(_) => ErrorCode::BrokerIdNotRegistered,
            Self::StaleBrokerEpoch => ErrorCode::StaleBrokerEpoch,
            Self::DuplicateBroker(_) => ErrorCode::DuplicateBrokerRegistration,
            Self::InvalidRegistration(_) => ErrorCode::InvalidRegistration,
            Self::UnsupportedFeature { .. } | Self::NoDirectoryAssignment => {
                ErrorCode::UnsupportedVersion
            }
            Self::InvalidUpdate(_) => ErrorCode::InvalidUpdateVersion,
            Self::ElectionNotNeeded => ErrorCode::ElectionNotNeeded,
            Self::PreferredLeaderNotAvailable => ErrorCode::PreferredLeaderNotAvailable,
            Self::EligibleLeadersNotAvailable => ErrorCode::EligibleLeadersNotAvailable,
            Self::NoReassignmentInProgress => ErrorCode::NoReassignmentInProgress,
            Self::Elsewhere { code, .. } => *code,
        }
    }
}
