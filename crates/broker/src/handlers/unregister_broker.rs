//! `UnregisterBroker` (key 64), version 0, also on a controller's listener.

use ottla_controller::request::UnregisterBroker;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::{
    ErrorCode, UnregisterBrokerRequestData, UnregisterBrokerResponseData,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Forgets a broker. Its partitions keep it as a replica.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: UnregisterBrokerRequestData,
) -> UnregisterBrokerResponseData {
    let operation = UnregisterBroker(NodeId(request.broker_id));
    let response = UnregisterBrokerResponseData::default();
    match broker.controller.ask_here(operation).await {
        Ok(Ok(())) => response,
        Ok(Err(refusal)) => response
            .with_error_code(refusal.code().code())
            .with_error_message(Some(refusal.to_string().into())),
        Err(_) => response.with_error_code(ErrorCode::NotController.code()),
    }
}
