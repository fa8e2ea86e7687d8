//! `SyncGroup` (key 14), versions 0 to 5.
//!
//! - 3: static members. 4: flexible. 5: request and answer name protocol type and protocol.

use ottla_coordinator::group::classic::{SyncRequest, Synced};
use ottla_protocol::messages::{
    ErrorCode, KafkaString, SyncGroupRequestData, SyncGroupResponseData,
};

use super::join_group::owned;
use crate::broker::Broker;
use crate::context::RequestContext;

/// From this version on the request must name protocol type and protocol.
const FIRST_WITH_PROTOCOL: i16 = 5;

/// Answers with the member's assignment, once the leader has made it.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: SyncGroupRequestData,
) -> SyncGroupResponseData {
    let is_named = request.protocol_type.is_some() && request.protocol_name.is_some();
    if context.version >= FIRST_WITH_PROTOCOL && !is_named {
        return refused(ErrorCode::InconsistentGroupProtocol);
    }
    if request.group_id.is_empty() {
        return refused(ErrorCode::InvalidGroupId);
    }
    match broker.groups.ask(domain(request)).await {
        Ok(Ok(synced)) => wire(synced, context.version),
        Ok(Err(error)) => refused(error.code()),
        Err(unavailable) => refused(unavailable.code()),
    }
}

fn domain(request: SyncGroupRequestData) -> SyncRequest {
    let assignments = request.assignments.into_iter().map(|assignment| {
        let share = bytes::Bytes::copy_from_slice(&assignment.assignment);
        (assignment.member_id.as_str().to_owned(), share)
    });
    SyncRequest {
        group_id: request.group_id.as_str().to_owned(),
        member_id: request.member_id.as_str().to_owned(),
        instance_id: owned(request.group_instance_id.as_ref()),
        generation: request.generation_id,
        protocol_type: owned(request.protocol_type.as_ref()),
        protocol: owned(request.protocol_name.as_ref()),
        assignments: assignments.collect(),
    }
}

fn refused(code: ErrorCode) -> SyncGroupResponseData {
    SyncGroupResponseData::default().with_error_code(code.code())
}

fn wire(synced: Synced, version: i16) -> SyncGroupResponseData {
    let response = SyncGroupResponseData::default().with_assignment(synced.assignment);
    if version < FIRST_WITH_PROTOCOL {
        return response;
    }
    response
        .with_protocol_type(synced.protocol_type.map(KafkaString::from))
        .with_protocol_name(synced.protocol.map(KafkaString::from))
}
