//! Where a client reaches each broker, for Metadata, FindCoordinator, DescribeCluster and NodeEndpoints.
//!
//! This broker is reached at its address in `advertised.listeners`, or without that at the local address of the client's own
//! connection. Other brokers are reached at their registered endpoint of the same listener.

use ottla_metadata::{BrokerRegistration, MetadataImage};
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::KafkaString;

use crate::broker::Broker;
use crate::config::HostPort;
use crate::context::RequestContext;

/// A broker, with the address at which the client of a connection reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    pub host: KafkaString,
    pub port: i32,
    pub rack: Option<KafkaString>,
    pub fenced: bool,
}

/// This broker.
pub fn this_node(broker: &Broker, context: &RequestContext) -> Node {
    let listeners = &broker.config.network.listeners;
    let listener = listeners
        .iter()
        .find(|listener| *listener.name == *context.connection.listener);
    let local = context.connection.local;
    let dialled = || HostPort {
        host: local.ip().to_canonical().to_string(),
        port: local.port(),
    };
    let HostPort { host, port } = listener
        .and_then(|listener| listener.advertised.clone())
        .unwrap_or_else(dialled);
    Node {
        id: broker.config.node_id,
        host: host.into(),
        port: port.into(),
        rack: broker.config.rack.clone().map(KafkaString::from),
        fenced: false,
    }
}

/// The registered brokers with an endpoint on the listener of this connection.
pub fn nodes(broker: &Broker, image: &MetadataImage, context: &RequestContext) -> Vec<Node> {
    let one = |registration: &BrokerRegistration| {
        if registration.id == broker.config.node_id {
            let fenced = registration.fenced;
            return Some(Node {
                fenced,
                ..this_node(broker, context)
            });
        }
        let endpoint = registration.endpoint(&context.connection.listener)?;
        Some(Node {
            id: registration.id,
            host: endpoint.host.clone().into(),
            port: endpoint.port.into(),
            rack: registration.rack.clone().map(KafkaString::from),
            fenced: registration.fenced,
        })
    };
    image
        .brokers
        .values()
        .filter_map(|broker| one(broker))
        .collect()
}
