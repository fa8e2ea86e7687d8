//! The APIs of a controller's listener: what brokers and observers ask the controller, and admin tools with
//! `--bootstrap-controller` (KIP-919).
//!
//! Followers of the metadata log fetch it here; only committed records leave.

pub mod allocate_producer_ids;
pub mod alter_partition;
pub mod assign_replicas_to_dirs;
pub mod broker_heartbeat;
pub mod broker_registration;
pub mod describe_cluster;
pub mod fetch;
pub mod fetch_snapshot;

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::api_key::ApiKey;
use ottla_protocol::messages;

use super::{Refused, api_versions, describe_quorum, encode, unregister_broker};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::metrics::errors;
use crate::reply::Reply;

serve_apis! {
    own [];
    AllocateProducerIds => memory waits
        allocate_producer_ids::handle(AllocateProducerIdsRequestData),
    AlterPartition => memory waits alter_partition::handle(AlterPartitionRequestData),
    ApiVersions => memory ready api_versions::handle(ApiVersionsRequestData),
    AssignReplicasToDirs => memory waits
        assign_replicas_to_dirs::handle(AssignReplicasToDirsRequestData),
    BrokerHeartbeat => memory waits broker_heartbeat::handle(BrokerHeartbeatRequestData),
    BrokerRegistration => memory waits broker_registration::handle(BrokerRegistrationRequestData),
    DescribeCluster => memory ready describe_cluster::handle(DescribeClusterRequestData),
    DescribeQuorum => memory ready describe_quorum::handle(DescribeQuorumRequestData),
    Fetch => logs waits fetch::handle(FetchRequestData),
    FetchSnapshot => logs ready fetch_snapshot::handle(FetchSnapshotRequestData),
    UnregisterBroker => memory waits unregister_broker::handle(UnregisterBrokerRequestData),
}
