//! The APIs of a controller's listener: what brokers and observers ask the controller, and admin tools with
//! `--bootstrap-controller` (KIP-919).
//!
//! Followers of the metadata log fetch it here; only committed records leave.

pub mod describe_cluster;
pub mod fetch;
pub mod fetch_snapshot;

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::api_key::ApiKey;
use ottla_protocol::messages;

use super::{Refused, api_versions, describe_quorum, encode};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::metrics::errors;
use crate::reply::Reply;

serve_apis! {
    own [];
    ApiVersions => memory ready api_versions::handle(ApiVersionsRequestData),
    DescribeCluster => memory ready describe_cluster::handle(DescribeClusterRequestData),
    DescribeQuorum => memory ready describe_quorum::handle(DescribeQuorumRequestData),
    Fetch => logs waits fetch::handle(FetchRequestData),
    FetchSnapshot => logs ready fetch_snapshot::handle(FetchSnapshotRequestData),
}
