//! `BrokerHeartbeat` (key 63), versions 0 to 2.
//!
//! - 1: log directories that have failed (KIP-858). 2: those that take no new replicas (KIP-1066).

use ottla_controller::broker_heartbeat::{ControlledShutdown, Heartbeat, Wish};
use ottla_controller::request::BrokerHeartbeat;
use ottla_protocol::ids::{NodeId, Offset};
use ottla_protocol::messages::{
    BrokerHeartbeatRequestData, BrokerHeartbeatResponseData, ErrorCode,
};

use crate::broker::Broker;
use crate::cluster::controller_clock;
use crate::context::RequestContext;

/// Extends the session of a broker, and tells it whether it is fenced and whether it may stop.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: BrokerHeartbeatRequestData,
) -> BrokerHeartbeatResponseData {
    let heartbeat = Heartbeat {
        broker: NodeId(request.broker_id),
        epoch: request.broker_epoch,
        metadata_offset: Offset(request.current_metadata_offset),
        wish: wish(&request),
        offline_directories: request.offline_log_dirs,
        cordoned_directories: request.cordoned_log_dirs,
        // The channel to the controller fills this in.
        shutdown: ControlledShutdown::None,
    };
    let refused =
        |code: ErrorCode| BrokerHeartbeatResponseData::default().with_error_code(code.code());
    match broker.controller.ask_here(BrokerHeartbeat(heartbeat)).await {
        Ok(Ok(health)) => {
            // The first broker of a connection is the only one: each opens its own.
            let _ = context.connection.beats_of.set(NodeId(request.broker_id));
            let clock = controller_clock::field(broker.clock.now().wall);
            let answer = BrokerHeartbeatResponseData {
                unknown_tagged_fields: vec![clock],
                ..BrokerHeartbeatResponseData::default()
            };
            answer
                .with_is_caught_up(health.is_caught_up)
                .with_is_fenced(health.is_fenced)
                .with_should_shut_down(health.should_shut_down)
        }
        Ok(Err(refusal)) => refused(refusal.code()),
        Err(_) => refused(ErrorCode::NotController),
    }
}

fn wish(request: &BrokerHeartbeatRequestData) -> Wish {
    match (request.want_fence, request.want_shut_down) {
        (false, false) => Wish::Serve,
        (true, false) => Wish::Fence,
        (false, true) => Wish::ShutDown,
        (true, true) => Wish::ShutDownFenced,
    }
}
