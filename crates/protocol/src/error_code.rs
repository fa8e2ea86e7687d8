//! Kafka's error codes: their numbers, their names, and which of them are retriable.
//!
//! The error enum of each operation maps to these codes in one exhaustive `code()`. Handlers do not choose codes
//! themselves.

macro_rules! codes {
    ($($number:literal $name:ident,)*) => {
        /// The outcome that a response carries as a number. Named as in Kafka's `Errors`, with
        /// `UNKNOWN_TOPIC_OR_PARTITION` as `UnknownTopicOrPartition`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(
                #[doc = concat!("Number ", $number, ".")]
                $name,
            )*
            /// A number without a name in this release.
            Unknown(i16),
        }

        impl ErrorCode {
            /// The number on the wire.
            pub const fn code(self) -> i16 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Unknown(number) => number,
                }
            }
        }

        impl From<i16> for ErrorCode {
            fn from(number: i16) -> Self {
                match number {
                    $($number => Self::$name,)*
                    _ => Self::Unknown(number),
                }
            }
        }
    };
}

codes! {
    -1 UnknownServerError,
    0 None,
    1 OffsetOutOfRange,
    2 CorruptMessage,
    3 UnknownTopicOrPartition,
    4 InvalidFetchSize,
    5 LeaderNotAvailable,
    6 NotLeaderOrFollower,
    7 RequestTimedOut,
    8 BrokerNotAvailable,
    9 ReplicaNotAvailable,
    10 MessageTooLarge,
    11 StaleControllerEpoch,
    12 OffsetMetadataTooLarge,
    13 NetworkException,
    14 CoordinatorLoadInProgress,
    15 CoordinatorNotAvailable,
    16 NotCoordinator,
    17 InvalidTopicException,
    18 RecordListTooLarge,
    19 NotEnoughReplicas,
    20 NotEnoughReplicasAfterAppend,
    21 InvalidRequiredAcks,
    22 IllegalGeneration,
    23 InconsistentGroupProtocol,
    24 InvalidGroupId,
    25 UnknownMemberId,
    26 InvalidSessionTimeout,
    27 RebalanceInProgress,
    28 InvalidCommitOffsetSize,
    29 TopicAuthorizationFailed,
    30 GroupAuthorizationFailed,
    31 ClusterAuthorizationFailed,
    32 InvalidTimestamp,
    33 UnsupportedSaslMechanism,
    34 IllegalSaslState,
    35 UnsupportedVersion,
    36 TopicAlreadyExists,
    37 InvalidPartitions,
    38 InvalidReplicationFactor,
    39 InvalidReplicaAssignment,
    40 InvalidConfig,
    41 NotController,
    42 InvalidRequest,
    43 UnsupportedForMessageFormat,
    44 PolicyViolation,
    45 OutOfOrderSequenceNumber,
    46 DuplicateSequenceNumber,
    47 InvalidProducerEpoch,
    48 InvalidTxnState,
    49 InvalidProducerIdMapping,
    50 InvalidTransactionTimeout,
    51 ConcurrentTransactions,
    52 TransactionCoordinatorFenced,
    53 TransactionalIdAuthorizationFailed,
    54 SecurityDisabled,
    55 OperationNotAttempted,
    56 KafkaStorageError,
    57 LogDirNotFound,
    58 SaslAuthenticationFailed,
    59 UnknownProducerId,
    60 ReassignmentInProgress,
    61 DelegationTokenAuthDisabled,
    62 DelegationTokenNotFound,
    63 DelegationTokenOwnerMismatch,
    64 DelegationTokenRequestNotAllowed,
    65 DelegationTokenAuthorizationFailed,
    66 DelegationTokenExpired,
    67 InvalidPrincipalType,
    68 NonEmptyGroup,
    69 GroupIdNotFound,
    70 FetchSessionIdNotFound,
    71 InvalidFetchSessionEpoch,
    72 ListenerNotFound,
    73 TopicDeletionDisabled,
    74 FencedLeaderEpoch,
    75 UnknownLeaderEpoch,
    76 UnsupportedCompressionType,
    77 StaleBrokerEpoch,
    78 OffsetNotAvailable,
    79 MemberIdRequired,
    80 PreferredLeaderNotAvailable,
    81 GroupMaxSizeReached,
    82 FencedInstanceId,
    83 EligibleLeadersNotAvailable,
    84 ElectionNotNeeded,
    85 NoReassignmentInProgress,
    86 GroupSubscribedToTopic,
    87 InvalidRecord,
    88 UnstableOffsetCommit,
    89 ThrottlingQuotaExceeded,
    90 ProducerFenced,
    91 ResourceNotFound,
    92 DuplicateResource,
    93 UnacceptableCredential,
    94 InconsistentVoterSet,
    95 InvalidUpdateVersion,
    96 FeatureUpdateFailed,
    97 PrincipalDeserializationFailure,
    98 SnapshotNotFound,
    99 PositionOutOfRange,
    100 UnknownTopicId,
    101 DuplicateBrokerRegistration,
    102 BrokerIdNotRegistered,
    103 InconsistentTopicId,
    104 InconsistentClusterId,
    105 TransactionalIdNotFound,
    106 FetchSessionTopicIdError,
    107 IneligibleReplica,
    108 NewLeaderElected,
    109 OffsetMovedToTieredStorage,
    110 FencedMemberEpoch,
    111 UnreleasedInstanceId,
    112 UnsupportedAssignor,
    113 StaleMemberEpoch,
    114 MismatchedEndpointType,
    115 UnsupportedEndpointType,
    116 UnknownControllerId,
    117 UnknownSubscriptionId,
    118 TelemetryTooLarge,
    119 InvalidRegistration,
    120 TransactionAbortable,
    121 InvalidRecordState,
    122 ShareSessionNotFound,
    123 InvalidShareSessionEpoch,
    124 FencedStateEpoch,
    125 InvalidVoterKey,
    126 DuplicateVoter,
    127 VoterNotFound,
    128 InvalidRegularExpression,
    129 RebootstrapRequired,
    130 StreamsInvalidTopology,
    131 StreamsInvalidTopologyEpoch,
    132 StreamsTopologyFenced,
    133 ShareSessionLimitReached,
    134 GroupDeletionFailed,
    135 StreamsTopologyDescriptionUpdateFailed,
    136 ControllerIdNotRegistered,
}

impl ErrorCode {
    /// Whether this is an error: every code but [`Self::None`].
    pub fn is_error(self) -> bool {
        self != Self::None
    }

    /// Whether the same request may succeed later: Java's exception for the code is a `RetriableException`, which
    /// `cargo xtask codec-test` compares.
    pub const fn is_retriable(self) -> bool {
        matches!(
            self,
            Self::CorruptMessage
                | Self::UnknownTopicOrPartition
                | Self::LeaderNotAvailable
                | Self::NotLeaderOrFollower
                | Self::RequestTimedOut
                | Self::ReplicaNotAvailable
                | Self::NetworkException
                | Self::CoordinatorLoadInProgress
                | Self::CoordinatorNotAvailable
                | Self::NotCoordinator
                | Self::NotEnoughReplicas
                | Self::NotEnoughReplicasAfterAppend
                | Self::NotController
                | Self::ConcurrentTransactions
                | Self::KafkaStorageError
                | Self::FetchSessionIdNotFound
                | Self::InvalidFetchSessionEpoch
                | Self::ListenerNotFound
                | Self::FencedLeaderEpoch
                | Self::UnknownLeaderEpoch
                | Self::OffsetNotAvailable
                | Self::PreferredLeaderNotAvailable
                | Self::EligibleLeadersNotAvailable
                | Self::ElectionNotNeeded
                | Self::UnstableOffsetCommit
                | Self::ThrottlingQuotaExceeded
                | Self::UnknownTopicId
                | Self::InconsistentTopicId
                | Self::FetchSessionTopicIdError
                | Self::ShareSessionNotFound
                | Self::InvalidShareSessionEpoch
                | Self::ShareSessionLimitReached
        )
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> Self {
        code.code()
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorCode;

    #[test]
    fn numbers_and_names_belong_together() {
        for number in -1..=136 {
            let code = ErrorCode::from(number);
            assert_eq!(code.code(), number);
            assert!(!matches!(code, ErrorCode::Unknown(_)), "{number}");
        }
        assert_eq!(ErrorCode::from(3), ErrorCode::UnknownTopicOrPartition);
        assert_eq!(ErrorCode::from(9999).code(), 9999);
    }

    #[test]
    fn only_none_is_no_error() {
        assert!(!ErrorCode::from(0).is_error());
        assert!(ErrorCode::UnknownServerError.is_error());
        assert!(ErrorCode::Unknown(9999).is_error());
    }
}
