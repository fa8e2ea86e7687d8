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

/// What a listener is for (KIP-919), by its number in requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointType {
    Brokers = 1,
    Controllers = 2,
}

impl EndpointType {
    /// The answer of a listener of this type to a request that is for another type.
    pub fn refusal(
        self,
        request: &DescribeClusterRequestData,
    ) -> Option<DescribeClusterResponseData> {
        let asked = request.endpoint_type;
        let other = match self {
            Self::Brokers => Self::Controllers,
            Self::Controllers => Self::Brokers,
        };
        let (code, why) = if asked == self as i8 {
            return None;
        } else if asked == other as i8 {
            (ErrorCode::MismatchedEndpointType, self.mismatch())
        } else {
            let why = "unsupported endpoint type";
            (ErrorCode::UnsupportedEndpointType, why)
        };
        let response = DescribeClusterResponseData::default()
            .with_endpoint_type(asked)
            .with_error_code(code.code())
            .with_error_message(Some(why.to_owned().into()));
        Some(response)
    }

    const fn mismatch(self) -> &'static str {
        match self {
            Self::Brokers => {
                "the request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
            }
            Self::Controllers => {
                "this is a controller's listener; ask a broker's, or set bootstrap.controllers"
            }
        }
    }
}

/// Names the cluster and its brokers.
pub fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeClusterRequestData,
) -> DescribeClusterResponseData {
    if let Some(refusal) = EndpointType::Brokers.refusal(&request) {
        return refusal;
    }
    let response = DescribeClusterResponseData::default().with_endpoint_type(request.endpoint_type);
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
