//! `ConsumerGroupHeartbeat` (key 68), versions 0 and 1 (KIP-848).
//!
//! The consumer group protocol is not served. The API is announced nevertheless, as by a Kafka at group.version 0: a client
//! with `group.protocol=consumer` then fails at once; without the API it would wait for ever.

use ottla_protocol::messages::{
    ConsumerGroupHeartbeatRequestData, ConsumerGroupHeartbeatResponseData, ErrorCode,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Refuses: there are classic groups only.
pub fn handle(
    _broker: &Broker,
    _context: &RequestContext,
    _request: ConsumerGroupHeartbeatRequestData,
) -> ConsumerGroupHeartbeatResponseData {
    let why =
        "the consumer group protocol is not served by this release; set group.protocol=classic";
    ConsumerGroupHeartbeatResponseData::default()
        .with_error_code(ErrorCode::UnsupportedVersion.code())
        .with_error_message(Some(why.to_owned().into()))
}
