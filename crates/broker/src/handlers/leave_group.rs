//! `LeaveGroup` (key 13), versions 0 to 5.
//!
//! - 3: several members, also by group instance id. 4: flexible. 5: the reason.

use ottla_coordinator::group::classic::{LeaveRequest, Leaving, Left};
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::leave_group_response::MemberResponse;
use ottla_protocol::messages::{
    ErrorCode, KafkaString, LeaveGroupRequestData, LeaveGroupResponseData,
};

use super::join_group::owned;
use crate::broker::Broker;
use crate::context::RequestContext;

/// From this version on several members leave at once.
const FIRST_WITH_MANY: i16 = 3;

/// Removes members from their group.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: LeaveGroupRequestData,
) -> LeaveGroupResponseData {
    if request.group_id.is_empty() {
        return refused(ErrorCode::InvalidGroupId);
    }
    let request = domain(request, context.version);
    match broker.groups.ask(request).await {
        Ok(left) if context.version >= FIRST_WITH_MANY => {
            LeaveGroupResponseData::default().with_members(left.into_iter().map(wire).collect())
        }
        Ok(left) => refused(left.first().map_or(ErrorCode::None, code)),
        Err(unavailable) => refused(unavailable.code()),
    }
}

fn domain(request: LeaveGroupRequestData, version: i16) -> LeaveRequest {
    let alone = || vec![MemberIdentity::default().with_member_id(request.member_id.clone())];
    let members = if version >= FIRST_WITH_MANY {
        request.members
    } else {
        alone()
    };
    let members = members.into_iter().map(|member| Leaving {
        member_id: member.member_id.as_str().to_owned(),
        instance_id: owned(member.group_instance_id.as_ref()),
        reason: owned(member.reason.as_ref()),
    });
    LeaveRequest {
        group_id: request.group_id.as_str().to_owned(),
        members: members.collect(),
    }
}

fn refused(code: ErrorCode) -> LeaveGroupResponseData {
    LeaveGroupResponseData::default().with_error_code(code.code())
}

fn code(left: &Left) -> ErrorCode {
    left.outcome
        .map_or_else(ottla_coordinator::group::classic::LeaveError::code, |()| {
            ErrorCode::None
        })
}

fn wire(left: Left) -> MemberResponse {
    let code = code(&left);
    MemberResponse::default()
        .with_member_id(left.member_id.into())
        .with_group_instance_id(left.instance_id.map(KafkaString::from))
        .with_error_code(code.code())
}
