//! `SaslHandshake` (key 17), versions 0 and 1; they differ in what follows a handshake that succeeds.
//!
//! No listener has SASL. A client that is configured for it learns so from this answer; the connection stays open.

use ottla_protocol::messages::{ErrorCode, SaslHandshakeRequestData, SaslHandshakeResponseData};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Refuses: this listener has no SASL.
pub fn handle(
    _broker: &Broker,
    _context: &RequestContext,
    _request: SaslHandshakeRequestData,
) -> SaslHandshakeResponseData {
    SaslHandshakeResponseData::default().with_error_code(ErrorCode::IllegalSaslState.code())
}
