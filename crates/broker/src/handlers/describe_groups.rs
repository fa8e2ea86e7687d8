//! `DescribeGroups` (key 15), versions 0 to 6.
//!
//! - 3: authorized operations. 4: static members. 5: flexible.
//! - 6: a group that does not exist is an error with a message; before, it is described as dead.

use ottla_coordinator::group::describe::{
    self, DescribeError, DescribeGroupRequest, DescribedMember,
};
use ottla_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use ottla_protocol::messages::{
    DescribeGroupsRequestData, DescribeGroupsResponseData, ErrorCode, KafkaString,
};

use crate::access::operations;
use crate::broker::Broker;
use crate::context::RequestContext;

/// From this version on a missing group is an error.
const FIRST_WITH_MISSING_GROUPS: i16 = 6;

/// Describes classic groups, in the order of the request.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeGroupsRequestData,
) -> DescribeGroupsResponseData {
    let wants_operations = context.version >= 3 && request.include_authorized_operations;
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let mut answer = describe(broker, context.version, group).await;
        if wants_operations && answer.error_code == ErrorCode::None.code() {
            answer.authorized_operations = operations::ON_GROUP;
        }
        groups.push(answer);
    }
    DescribeGroupsResponseData::default().with_groups(groups)
}

async fn describe(broker: &Broker, version: i16, group: KafkaString) -> DescribedGroup {
    let group_id = group.as_str().to_owned();
    let request = DescribeGroupRequest {
        group_id: group_id.clone(),
    };
    let answer = DescribedGroup::default().with_group_id(group);
    match broker.groups.ask(request).await {
        Ok(Ok(group)) => described(answer, group, version),
        Ok(Err(error)) => missing(answer, &group_id, error, version),
        Err(unavailable) => answer.with_error_code(unavailable.code().code()),
    }
}

fn missing(
    answer: DescribedGroup,
    group_id: &str,
    error: DescribeError,
    version: i16,
) -> DescribedGroup {
    let answer = answer.with_group_state(KafkaString::from_static("Dead"));
    if version < FIRST_WITH_MISSING_GROUPS {
        return answer;
    }
    let message = match error {
        DescribeError::NotFound => format!("Group {group_id} not found."),
        DescribeError::NotClassic => format!("Group {group_id} is not a classic group."),
    };
    answer
        .with_error_code(error.code().code())
        .with_error_message(Some(message.into()))
}

fn described(
    answer: DescribedGroup,
    group: describe::DescribedGroup,
    version: i16,
) -> DescribedGroup {
    let members = group
        .members
        .into_iter()
        .map(|member| wire(member, version));
    answer
        .with_group_state(KafkaString::from_static(group.state))
        .with_protocol_type(group.protocol_type.into())
        .with_protocol_data(group.protocol.into())
        .with_members(members.collect())
}

fn wire(member: DescribedMember, version: i16) -> DescribedGroupMember {
    let answer = DescribedGroupMember::default()
        .with_member_id(member.id.into())
        .with_client_id(member.client_id.into())
        .with_client_host(member.client_host.into())
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment);
    if version >= 4 {
        answer.with_group_instance_id(member.instance_id.map(KafkaString::from))
    } else {
        answer
    }
}
