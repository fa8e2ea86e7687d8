//! `BrokerRegistration` (key 62), versions 0 to 4.
//!
//! - 1: whether a broker of ZooKeeper's time asks, which is refused. 2: log directories (KIP-858). 3: the epoch of the last
//!   process, if it shut down in an orderly way (KIP-966). 4: features whose lowest level is 0.

use ottla_controller::brokers::Registration;
use ottla_controller::request::RegisterBroker;
use ottla_metadata::{BrokerRegistration, Endpoint, FeatureRange};
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::{
    BrokerRegistrationRequestData, BrokerRegistrationResponseData, ErrorCode,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Registers a broker, and returns its epoch.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: BrokerRegistrationRequestData,
) -> BrokerRegistrationResponseData {
    let registered = if request.cluster_id != broker.cluster_id {
        Err(ErrorCode::InconsistentClusterId)
    } else if request.is_migrating_zk_broker {
        Err(ErrorCode::BrokerIdNotRegistered)
    } else {
        register(broker, request).await
    };
    match registered {
        Ok(epoch) => BrokerRegistrationResponseData::default().with_broker_epoch(epoch),
        Err(code) => BrokerRegistrationResponseData::default()
            .with_error_code(code.code())
            .with_broker_epoch(-1),
    }
}

async fn register(
    broker: &Broker,
    request: BrokerRegistrationRequestData,
) -> Result<i64, ErrorCode> {
    let id = NodeId(request.broker_id);
    let image = broker.controller.image();
    let has_session = broker.controller.sessions().is_alive(&image, id);
    let registration = Registration {
        previous_epoch: request.previous_broker_epoch,
        is_alive: id == broker.config.node_id || has_session,
        broker: registration(request),
    };
    let asked = broker
        .controller
        .ask_here(RegisterBroker(registration))
        .await;
    let reply = asked.map_err(|_| ErrorCode::NotController)?;
    reply.map_err(|refusal| {
        tracing::warn!(broker = id.0, %refusal, "refused to register a broker");
        refusal.code()
    })
}

fn registration(request: BrokerRegistrationRequestData) -> BrokerRegistration {
    let endpoints = request.listeners.into_iter().map(|listener| Endpoint {
        listener: listener.name.to_string(),
        host: listener.host.to_string(),
        port: listener.port,
        security_protocol: listener.security_protocol,
    });
    let features = request.features.into_iter().map(|feature| FeatureRange {
        name: feature.name.to_string(),
        minimum: feature.min_supported_version,
        maximum: feature.max_supported_version,
    });
    BrokerRegistration {
        id: NodeId(request.broker_id),
        epoch: -1,
        incarnation: request.incarnation_id,
        endpoints: endpoints.collect(),
        features: features.collect(),
        rack: request.rack.map(|rack| rack.to_string()),
        fenced: true,
        in_controlled_shutdown: false,
        directories: request.log_dirs,
        cordoned_directories: None,
    }
}
