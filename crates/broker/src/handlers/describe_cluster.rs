//! `DescribeCluster` (key 60), versions 0 to 2.
//!
//! - 1: brokers or controllers (KIP-919). 2: fenced brokers, if asked for.

use ottla_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use ottla_protocol::messages::{
    DescribeClusterRequestData, DescribeClusterResponseData, ErrorCode,
};

use crate::access::operations;
use crate::broker::Broker;
use crate::cluster::endpoints;
use crate::context::RequestContext;

/// The endpoint type of brokers (KIP-919).
const BROKERS: i8 = 1;
/// The endpoint type of controllers (KIP-919).
const CONTROLLERS: i8 = 2;

/// Names the cluster and its brokers.
pub fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeClusterRequestData,
) -> DescribeClusterResponseData {
    let response = DescribeClusterResponseData::default().with_endpoint_type(request.endpoint_type);
    if request.endpoint_type != BROKERS {
        let (code, why) = if request.endpoint_type == CONTROLLERS {
            (
                ErrorCode::MismatchedEndpointType,
                "the request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
            )
        } else {
            (
                ErrorCode::UnsupportedEndpointType,
                "unsupported endpoint type",
            )
        };
        return response
            .with_error_code(code.code())
            .with_error_message(Some(why.to_owned().into()));
    }
    let nodes = endpoints::nodes(broker, &broker.controller.image(), context);
    let shown = nodes
        .into_iter()
        .filter(|node| request.include_fenced_brokers || !node.fenced);
    let brokers = shown.map(|node| {
        DescribeClusterBroker::default()
            .with_broker_id(node.id.0)
            .with_host(node.host)
            .with_port(node.port)
            .with_rack(node.rack)
            .with_is_fenced(node.fenced)
    });
    let asked = request.include_cluster_authorized_operations;
    response
        .with_cluster_id(broker.cluster_id.clone())
        .with_controller_id(broker.config.node_id.0)
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(if asked {
            operations::ON_CLUSTER
        } else {
            operations::NOT_ASKED
        })
}
