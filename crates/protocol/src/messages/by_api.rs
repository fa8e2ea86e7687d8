//! Requests and responses whose type is known at run time only, by API and version.
//!
//! One line an API. For what treats all APIs alike: the codec's test, sweeps and fuzzing.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kacrab_protocol::ProtocolError;

use crate::api_key::ApiKey;
use crate::messages;

/// A decoded request or response.
pub trait Message: Debug + Send {
    /// Appends the body at `version`.
    fn write(&self, out: &mut BytesMut, version: i16) -> Result<(), ProtocolError>;
}

macro_rules! apis {
    ($($api:ident: $request:ident, $response:ident;)*) => {
        $(
            impl Message for messages::$request {
                fn write(&self, out: &mut BytesMut, version: i16) -> Result<(), ProtocolError> {
                    Self::write(self, out, version)
                }
            }
            impl Message for messages::$response {
                fn write(&self, out: &mut BytesMut, version: i16) -> Result<(), ProtocolError> {
                    Self::write(self, out, version)
                }
            }
        )*

        /// Every API, in the order of their numbers.
        pub const APIS: &[ApiKey] = &[$(ApiKey::$api),*];

        /// Reads the body of a request from the front of `body`.
        pub fn read_request(
            api: ApiKey,
            version: i16,
            body: &mut Bytes,
        ) -> Result<Box<dyn Message>, ProtocolError> {
            Ok(match api {
                $(ApiKey::$api => Box::new(messages::$request::read(body, version)?),)*
            })
        }

        /// Reads the body of a response from the front of `body`.
        pub fn read_response(
            api: ApiKey,
            version: i16,
            body: &mut Bytes,
        ) -> Result<Box<dyn Message>, ProtocolError> {
            Ok(match api {
                $(ApiKey::$api => Box::new(messages::$response::read(body, version)?),)*
            })
        }
    };
}

apis! {
    Produce: ProduceRequestData, ProduceResponseData;
    Fetch: FetchRequestData, FetchResponseData;
    ListOffsets: ListOffsetsRequestData, ListOffsetsResponseData;
    Metadata: MetadataRequestData, MetadataResponseData;
    OffsetCommit: OffsetCommitRequestData, OffsetCommitResponseData;
    OffsetFetch: OffsetFetchRequestData, OffsetFetchResponseData;
    FindCoordinator: FindCoordinatorRequestData, FindCoordinatorResponseData;
    JoinGroup: JoinGroupRequestData, JoinGroupResponseData;
    Heartbeat: HeartbeatRequestData, HeartbeatResponseData;
    LeaveGroup: LeaveGroupRequestData, LeaveGroupResponseData;
    SyncGroup: SyncGroupRequestData, SyncGroupResponseData;
    DescribeGroups: DescribeGroupsRequestData, DescribeGroupsResponseData;
    ListGroups: ListGroupsRequestData, ListGroupsResponseData;
    SaslHandshake: SaslHandshakeRequestData, SaslHandshakeResponseData;
    ApiVersions: ApiVersionsRequestData, ApiVersionsResponseData;
    CreateTopics: CreateTopicsRequestData, CreateTopicsResponseData;
    DeleteTopics: DeleteTopicsRequestData, DeleteTopicsResponseData;
    DeleteRecords: DeleteRecordsRequestData, DeleteRecordsResponseData;
    InitProducerId: InitProducerIdRequestData, InitProducerIdResponseData;
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequestData, OffsetForLeaderEpochResponseData;
    AddPartitionsToTxn: AddPartitionsToTxnRequestData, AddPartitionsToTxnResponseData;
    AddOffsetsToTxn: AddOffsetsToTxnRequestData, AddOffsetsToTxnResponseData;
    EndTxn: EndTxnRequestData, EndTxnResponseData;
    WriteTxnMarkers: WriteTxnMarkersRequestData, WriteTxnMarkersResponseData;
    TxnOffsetCommit: TxnOffsetCommitRequestData, TxnOffsetCommitResponseData;
    DescribeAcls: DescribeAclsRequestData, DescribeAclsResponseData;
    CreateAcls: CreateAclsRequestData, CreateAclsResponseData;
    DeleteAcls: DeleteAclsRequestData, DeleteAclsResponseData;
    DescribeConfigs: DescribeConfigsRequestData, DescribeConfigsResponseData;
    AlterConfigs: AlterConfigsRequestData, AlterConfigsResponseData;
    AlterReplicaLogDirs: AlterReplicaLogDirsRequestData, AlterReplicaLogDirsResponseData;
    DescribeLogDirs: DescribeLogDirsRequestData, DescribeLogDirsResponseData;
    SaslAuthenticate: SaslAuthenticateRequestData, SaslAuthenticateResponseData;
    CreatePartitions: CreatePartitionsRequestData, CreatePartitionsResponseData;
    CreateDelegationToken: CreateDelegationTokenRequestData, CreateDelegationTokenResponseData;
    RenewDelegationToken: RenewDelegationTokenRequestData, RenewDelegationTokenResponseData;
    ExpireDelegationToken: ExpireDelegationTokenRequestData, ExpireDelegationTokenResponseData;
    DescribeDelegationToken: DescribeDelegationTokenRequestData, DescribeDelegationTokenResponseData;
    DeleteGroups: DeleteGroupsRequestData, DeleteGroupsResponseData;
    ElectLeaders: ElectLeadersRequestData, ElectLeadersResponseData;
    IncrementalAlterConfigs: IncrementalAlterConfigsRequestData, IncrementalAlterConfigsResponseData;
    AlterPartitionReassignments: AlterPartitionReassignmentsRequestData, AlterPartitionReassignmentsResponseData;
    ListPartitionReassignments: ListPartitionReassignmentsRequestData, ListPartitionReassignmentsResponseData;
    OffsetDelete: OffsetDeleteRequestData, OffsetDeleteResponseData;
    DescribeClientQuotas: DescribeClientQuotasRequestData, DescribeClientQuotasResponseData;
    AlterClientQuotas: AlterClientQuotasRequestData, AlterClientQuotasResponseData;
    DescribeUserScramCredentials: DescribeUserScramCredentialsRequestData, DescribeUserScramCredentialsResponseData;
    AlterUserScramCredentials: AlterUserScramCredentialsRequestData, AlterUserScramCredentialsResponseData;
    Vote: VoteRequestData, VoteResponseData;
    BeginQuorumEpoch: BeginQuorumEpochRequestData, BeginQuorumEpochResponseData;
    EndQuorumEpoch: EndQuorumEpochRequestData, EndQuorumEpochResponseData;
    DescribeQuorum: DescribeQuorumRequestData, DescribeQuorumResponseData;
    AlterPartition: AlterPartitionRequestData, AlterPartitionResponseData;
    UpdateFeatures: UpdateFeaturesRequestData, UpdateFeaturesResponseData;
    Envelope: EnvelopeRequestData, EnvelopeResponseData;
    FetchSnapshot: FetchSnapshotRequestData, FetchSnapshotResponseData;
    DescribeCluster: DescribeClusterRequestData, DescribeClusterResponseData;
    DescribeProducers: DescribeProducersRequestData, DescribeProducersResponseData;
    BrokerRegistration: BrokerRegistrationRequestData, BrokerRegistrationResponseData;
    BrokerHeartbeat: BrokerHeartbeatRequestData, BrokerHeartbeatResponseData;
    UnregisterBroker: UnregisterBrokerRequestData, UnregisterBrokerResponseData;
    DescribeTransactions: DescribeTransactionsRequestData, DescribeTransactionsResponseData;
    ListTransactions: ListTransactionsRequestData, ListTransactionsResponseData;
    AllocateProducerIds: AllocateProducerIdsRequestData, AllocateProducerIdsResponseData;
    ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequestData, ConsumerGroupHeartbeatResponseData;
    ConsumerGroupDescribe: ConsumerGroupDescribeRequestData, ConsumerGroupDescribeResponseData;
    ControllerRegistration: ControllerRegistrationRequestData, ControllerRegistrationResponseData;
    GetTelemetrySubscriptions: GetTelemetrySubscriptionsRequestData, GetTelemetrySubscriptionsResponseData;
    PushTelemetry: PushTelemetryRequestData, PushTelemetryResponseData;
    AssignReplicasToDirs: AssignReplicasToDirsRequestData, AssignReplicasToDirsResponseData;
    ListConfigResources: ListConfigResourcesRequestData, ListConfigResourcesResponseData;
    DescribeTopicPartitions: DescribeTopicPartitionsRequestData, DescribeTopicPartitionsResponseData;
    ShareGroupHeartbeat: ShareGroupHeartbeatRequestData, ShareGroupHeartbeatResponseData;
    ShareGroupDescribe: ShareGroupDescribeRequestData, ShareGroupDescribeResponseData;
    ShareFetch: ShareFetchRequestData, ShareFetchResponseData;
    ShareAcknowledge: ShareAcknowledgeRequestData, ShareAcknowledgeResponseData;
    AddRaftVoter: AddRaftVoterRequestData, AddRaftVoterResponseData;
    RemoveRaftVoter: RemoveRaftVoterRequestData, RemoveRaftVoterResponseData;
    UpdateRaftVoter: UpdateRaftVoterRequestData, UpdateRaftVoterResponseData;
    InitializeShareGroupState: InitializeShareGroupStateRequestData, InitializeShareGroupStateResponseData;
    ReadShareGroupState: ReadShareGroupStateRequestData, ReadShareGroupStateResponseData;
    WriteShareGroupState: WriteShareGroupStateRequestData, WriteShareGroupStateResponseData;
    DeleteShareGroupState: DeleteShareGroupStateRequestData, DeleteShareGroupStateResponseData;
    ReadShareGroupStateSummary: ReadShareGroupStateSummaryRequestData, ReadShareGroupStateSummaryResponseData;
    StreamsGroupHeartbeat: StreamsGroupHeartbeatRequestData, StreamsGroupHeartbeatResponseData;
    StreamsGroupDescribe: StreamsGroupDescribeRequestData, StreamsGroupDescribeResponseData;
    DescribeShareGroupOffsets: DescribeShareGroupOffsetsRequestData, DescribeShareGroupOffsetsResponseData;
    AlterShareGroupOffsets: AlterShareGroupOffsetsRequestData, AlterShareGroupOffsetsResponseData;
    DeleteShareGroupOffsets: DeleteShareGroupOffsetsRequestData, DeleteShareGroupOffsetsResponseData;
}
