//! `DescribeCluster` (key 60) on a controller's listener, versions 0 to 2: the controllers (KIP-919).

use ottla_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use ottla_protocol::messages::{
    DescribeClusterRequestData, DescribeClusterResponseData, ErrorCode,
};

use crate::access::operations;
use crate::broker::Broker;
use crate::cluster::quorum_leader::{leader_id, status};
use crate::context::RequestContext;
use crate::handlers::describe_cluster::EndpointType;

/// Names the cluster and its controllers.
pub fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeClusterRequestData,
) -> DescribeClusterResponseData {
    if let Some(refusal) = EndpointType::Controllers.refusal(&request) {
        return refusal;
    }
    let response = DescribeClusterResponseData::default().with_endpoint_type(request.endpoint_type);
    let Some(quorum) = status(broker) else {
        return response.with_error_code(ErrorCode::BrokerNotAvailable.code());
    };
    let listener = &context.connection.listener;
    let controllers = quorum.voters.iter().filter_map(|voter| {
        let endpoint = voter.endpoints.iter();
        let endpoint = endpoint.clone().find(|one| *one.listener == **listener)?;
        let controller = DescribeClusterBroker::default()
            .with_broker_id(voter.node_id.0)
            .with_host(endpoint.host.clone().into())
            .with_port(endpoint.port.into());
        Some(controller)
    });
    let asked = request.include_cluster_authorized_operations;
    response
        .with_cluster_id(broker.cluster_id.clone())
        .with_controller_id(leader_id(&quorum))
        .with_brokers(controllers.collect())
        .with_cluster_authorized_operations(if asked {
            operations::ON_CLUSTER
        } else {
            operations::NOT_ASKED
        })
}
