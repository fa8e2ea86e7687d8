//! `AllocateProducerIds` (key 67), version 0.

use ottla_controller::request::AllocateProducerIds;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::{
    AllocateProducerIdsRequestData, AllocateProducerIdsResponseData, ErrorCode,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Gives a broker a block of producer ids.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: AllocateProducerIdsRequestData,
) -> AllocateProducerIdsResponseData {
    let operation = AllocateProducerIds {
        broker: NodeId(request.broker_id),
        epoch: request.broker_epoch,
    };
    let allocated = match broker.controller.ask_here(operation).await {
        Ok(reply) => reply.map_err(|refusal| refusal.code()),
        Err(_) => Err(ErrorCode::NotController),
    };
    match allocated {
        Ok(block) => AllocateProducerIdsResponseData::default()
            .with_producer_id_start(block.first.0)
            .with_producer_id_len(block.size),
        Err(code) => AllocateProducerIdsResponseData::default().with_error_code(code.code()),
    }
}
