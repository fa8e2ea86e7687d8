//! The requests of this client, and the range of versions of each.
//!
//! The oldest version is one that Kafka 3.0 serves, for the APIs that it has. The newest is the newest that this client
//! needs; in Produce, Fetch, OffsetCommit and OffsetFetch it is the last one that names topics by name.

use bytes::{Bytes, BytesMut};
use ottla_protocol::messages::{self, ApiKey, KafkaString, ProtocolError};

/// A request and its response.
pub trait Request: Send + Sync {
    const KEY: ApiKey;
    /// The oldest version this client speaks.
    const OLDEST: i16;
    /// The newest version this client speaks.
    const NEWEST: i16;
    /// What the broker answers.
    type Response: Send;

    /// Writes the body.
    fn encode(&self, out: &mut BytesMut, version: i16) -> Result<(), ProtocolError>;

    /// Reads the body of a response.
    fn decode(body: &mut Bytes, version: i16) -> Result<Self::Response, ProtocolError>;
}

/// The ApiVersions request, which names this client.
pub(crate) fn api_versions() -> messages::ApiVersionsRequestData {
    messages::ApiVersionsRequestData {
        client_software_name: KafkaString::from_static("ottla"),
        client_software_version: KafkaString::from_static(env!("CARGO_PKG_VERSION")),
        ..messages::ApiVersionsRequestData::default()
    }
}

macro_rules! requests {
    ($($key:ident $oldest:literal..=$newest:literal: $request:ident => $response:ident;)*) => {$(
        impl Request for messages::$request {
            const KEY: ApiKey = ApiKey::$key;
            const OLDEST: i16 = $oldest;
            const NEWEST: i16 = $newest;
            type Response = messages::$response;

            fn encode(&self, out: &mut BytesMut, version: i16) -> Result<(), ProtocolError> {
                self.write(out, version)
            }

            fn decode(body: &mut Bytes, version: i16) -> Result<Self::Response, ProtocolError> {
                messages::$response::read(body, version)
            }
        }
    )*};
}

requests! {
    FetchSnapshot 0..=1: FetchSnapshotRequestData => FetchSnapshotResponseData;
    Produce 7..=12: ProduceRequestData => ProduceResponseData;
    Fetch 11..=12: FetchRequestData => FetchResponseData;
    ListOffsets 6..=11: ListOffsetsRequestData => ListOffsetsResponseData;
    Metadata 8..=13: MetadataRequestData => MetadataResponseData;
    OffsetCommit 7..=9: OffsetCommitRequestData => OffsetCommitResponseData;
    OffsetFetch 8..=9: OffsetFetchRequestData => OffsetFetchResponseData;
    FindCoordinator 4..=6: FindCoordinatorRequestData => FindCoordinatorResponseData;
    JoinGroup 5..=9: JoinGroupRequestData => JoinGroupResponseData;
    Heartbeat 3..=4: HeartbeatRequestData => HeartbeatResponseData;
    LeaveGroup 3..=5: LeaveGroupRequestData => LeaveGroupResponseData;
    SyncGroup 3..=5: SyncGroupRequestData => SyncGroupResponseData;
    DescribeGroups 4..=6: DescribeGroupsRequestData => DescribeGroupsResponseData;
    ListGroups 4..=5: ListGroupsRequestData => ListGroupsResponseData;
    DeleteGroups 0..=2: DeleteGroupsRequestData => DeleteGroupsResponseData;
    OffsetForLeaderEpoch 3..=4:
        OffsetForLeaderEpochRequestData => OffsetForLeaderEpochResponseData;
    OffsetDelete 0..=0: OffsetDeleteRequestData => OffsetDeleteResponseData;
    ApiVersions 0..=4: ApiVersionsRequestData => ApiVersionsResponseData;
    CreateTopics 5..=7: CreateTopicsRequestData => CreateTopicsResponseData;
    DeleteTopics 6..=6: DeleteTopicsRequestData => DeleteTopicsResponseData;
    DeleteRecords 0..=2: DeleteRecordsRequestData => DeleteRecordsResponseData;
    CreatePartitions 0..=3: CreatePartitionsRequestData => CreatePartitionsResponseData;
    InitProducerId 3..=5: InitProducerIdRequestData => InitProducerIdResponseData;
    DescribeConfigs 3..=4: DescribeConfigsRequestData => DescribeConfigsResponseData;
    IncrementalAlterConfigs 0..=1:
        IncrementalAlterConfigsRequestData => IncrementalAlterConfigsResponseData;
    DescribeLogDirs 1..=5: DescribeLogDirsRequestData => DescribeLogDirsResponseData;
    AlterPartitionReassignments 0..=1:
        AlterPartitionReassignmentsRequestData => AlterPartitionReassignmentsResponseData;
    ListPartitionReassignments 0..=0:
        ListPartitionReassignmentsRequestData => ListPartitionReassignmentsResponseData;
    DescribeQuorum 0..=2: DescribeQuorumRequestData => DescribeQuorumResponseData;
    DescribeCluster 0..=2: DescribeClusterRequestData => DescribeClusterResponseData;
    BrokerRegistration 0..=4:
        BrokerRegistrationRequestData => BrokerRegistrationResponseData;
    BrokerHeartbeat 0..=2: BrokerHeartbeatRequestData => BrokerHeartbeatResponseData;
    AlterPartition 2..=3: AlterPartitionRequestData => AlterPartitionResponseData;
    AllocateProducerIds 0..=0:
        AllocateProducerIdsRequestData => AllocateProducerIdsResponseData;
    AssignReplicasToDirs 0..=0:
        AssignReplicasToDirsRequestData => AssignReplicasToDirsResponseData;
    UnregisterBroker 0..=0: UnregisterBrokerRequestData => UnregisterBrokerResponseData;
    AddRaftVoter 0..=1: AddRaftVoterRequestData => AddRaftVoterResponseData;
    RemoveRaftVoter 0..=0: RemoveRaftVoterRequestData => RemoveRaftVoterResponseData;
    Envelope 0..=0: EnvelopeRequestData => EnvelopeResponseData;
    DescribeProducers 0..=0: DescribeProducersRequestData => DescribeProducersResponseData;
    ConsumerGroupDescribe 0..=1:
        ConsumerGroupDescribeRequestData => ConsumerGroupDescribeResponseData;
}
