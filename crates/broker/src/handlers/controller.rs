//! The APIs of a controller's listener: what brokers and observers ask the controller, and admin tools with
//! `--bootstrap-controller` (KIP-919).
//!
//! Followers of the metadata log fetch it here; only committed records leave. What brokers may forward for their clients is
//! served directly too: an Apache Kafka broker announces to its clients only what the controller announces. A controller
//! that is not the active one says so, and passes nothing on.

pub mod allocate_producer_ids;
pub mod alter_partition;
pub mod assign_replicas_to_dirs;
pub mod broker_heartbeat;
pub mod broker_registration;
pub mod describe_cluster;
pub mod envelope;
pub mod fetch;
pub mod fetch_snapshot;
pub mod update_raft_voter;

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::api_key::ApiKey;
use ottla_protocol::messages;

use super::{
    Refused, add_raft_voter, alter_configs, alter_partition_reassignments, api_versions,
    create_acls, create_partitions, create_topics, delete_acls, delete_topics, describe_acls,
    describe_configs, describe_quorum, elect_leaders, encode, incremental_alter_configs,
    list_partition_reassignments, remove_raft_voter, unregister_broker, update_features,
};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::metrics::errors;
use crate::reply::Reply;

serve_apis! {
    own [];
    AddRaftVoter => memory waits add_raft_voter::handle(AddRaftVoterRequestData),
    AllocateProducerIds => memory waits
        allocate_producer_ids::handle(AllocateProducerIdsRequestData),
    AlterConfigs => memory waits alter_configs::handle(AlterConfigsRequestData),
    AlterPartition => memory waits alter_partition::handle(AlterPartitionRequestData),
    AlterPartitionReassignments => memory waits
        alter_partition_reassignments::handle(AlterPartitionReassignmentsRequestData),
    ApiVersions => memory ready api_versions::handle(ApiVersionsRequestData),
    AssignReplicasToDirs => memory waits
        assign_replicas_to_dirs::handle(AssignReplicasToDirsRequestData),
    BrokerHeartbeat => memory waits broker_heartbeat::handle(BrokerHeartbeatRequestData),
    BrokerRegistration => memory waits broker_registration::handle(BrokerRegistrationRequestData),
    CreateAcls => memory ready create_acls::handle(CreateAclsRequestData),
    CreatePartitions => memory waits create_partitions::handle(CreatePartitionsRequestData),
    CreateTopics => memory waits create_topics::handle(CreateTopicsRequestData),
    DeleteAcls => memory ready delete_acls::handle(DeleteAclsRequestData),
    DeleteTopics => memory waits delete_topics::handle(DeleteTopicsRequestData),
    DescribeAcls => memory ready describe_acls::handle(DescribeAclsRequestData),
    DescribeCluster => memory ready describe_cluster::handle(DescribeClusterRequestData),
    DescribeConfigs => memory ready describe_configs::handle(DescribeConfigsRequestData),
    DescribeQuorum => memory ready describe_quorum::handle(DescribeQuorumRequestData),
    ElectLeaders => memory waits elect_leaders::handle(ElectLeadersRequestData),
    Envelope => memory waits envelope::handle(EnvelopeRequestData),
    Fetch => logs waits fetch::handle(FetchRequestData),
    FetchSnapshot => logs ready fetch_snapshot::handle(FetchSnapshotRequestData),
    IncrementalAlterConfigs => memory waits
        incremental_alter_configs::handle(IncrementalAlterConfigsRequestData),
    ListPartitionReassignments => memory ready
        list_partition_reassignments::handle(ListPartitionReassignmentsRequestData),
    RemoveRaftVoter => memory waits remove_raft_voter::handle(RemoveRaftVoterRequestData),
    UnregisterBroker => memory waits unregister_broker::handle(UnregisterBrokerRequestData),
    UpdateFeatures => memory waits update_features::handle(UpdateFeaturesRequestData),
    UpdateRaftVoter => memory waits update_raft_voter::handle(UpdateRaftVoterRequestData),
}
