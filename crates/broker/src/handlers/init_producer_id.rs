//! `InitProducerId` (key 22), versions 0 to 5.
//!
//! - 2: flexible. 3: the producer's id and epoch. 4: `PRODUCER_FENCED`. 5: a second version of transactions.
//!
//! As in Kafka, every request without a transactional id gets a new producer id, also if it names an old one. Transactions
//! have no coordinator yet: a transactional id is refused with an error that clients do not retry.

use ottla_protocol::messages::{ErrorCode, InitProducerIdRequestData, InitProducerIdResponseData};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::refused_transactions;

/// Allocates a producer id.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: InitProducerIdRequestData,
) -> InitProducerIdResponseData {
    let refused = |code: ErrorCode| {
        InitProducerIdResponseData::default()
            .with_error_code(code.code())
            .with_producer_id(-1)
            .with_producer_epoch(-1)
    };
    // Id and epoch are both given or both -1.
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return refused(ErrorCode::InvalidRequest);
    }
    match &request.transactional_id {
        Some(id) if id.as_str().is_empty() => return refused(ErrorCode::InvalidRequest),
        Some(id) => {
            broker.refused_transactions.log(context, id.as_str());
            return refused(refused_transactions::CODE);
        }
        None => {}
    }
    let (controller, node) = (&broker.controller, broker.config.node_id);
    match broker.producer_ids.next(controller, node).await {
        Ok(id) => InitProducerIdResponseData::default()
            .with_producer_id(id.0)
            .with_producer_epoch(0),
        Err(code) => refused(code),
    }
}
