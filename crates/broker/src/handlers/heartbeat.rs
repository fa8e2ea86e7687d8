//! `Heartbeat` (key 12), versions 0 to 4.
//!
//! - 3: static members. 4: flexible.

use ottla_coordinator::group::classic::HeartbeatRequest;
use ottla_protocol::messages::{ErrorCode, HeartbeatRequestData, HeartbeatResponseData};

use super::join_group::owned;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::coordinators::Unavailable;

/// Keeps a member's session alive. While the coordinator loads, no session expires.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: HeartbeatRequestData,
) -> HeartbeatResponseData {
    if request.group_id.is_empty() {
        return answer(ErrorCode::InvalidGroupId);
    }
    let request = HeartbeatRequest {
        group_id: request.group_id.as_str().to_owned(),
        member_id: request.member_id.as_str().to_owned(),
        instance_id: owned(request.group_instance_id.as_ref()),
        generation: request.generation_id,
    };
    match broker.groups.ask(request).await {
        Ok(Ok(())) | Err(Unavailable::Loading) => answer(ErrorCode::None),
        Ok(Err(error)) => answer(error.code()),
        Err(unavailable) => answer(unavailable.code()),
    }
}

fn answer(code: ErrorCode) -> HeartbeatResponseData {
    HeartbeatResponseData::default().with_error_code(code.code())
}
