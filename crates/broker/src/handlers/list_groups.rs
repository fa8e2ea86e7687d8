//! `ListGroups` (key 16), versions 0 to 5.
//!
//! - 3: flexible. 4: filtered by state, and the state in the answer. 5: the same for the type.

use ottla_coordinator::group::list::{Filter, ListedGroup};
use ottla_protocol::messages::{
    KafkaString, ListGroupsRequestData, ListGroupsResponseData, list_groups_response,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Lists the groups of all coordinators of this broker; an error if one of them is still loading.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ListGroupsRequestData,
) -> ListGroupsResponseData {
    let filter = Filter {
        states: names(&request.states_filter),
        types: names(&request.types_filter),
    };
    match broker.groups.ask_all(filter).await {
        Ok(groups) => {
            let groups = groups.into_iter().flatten();
            let groups = groups.map(|group| wire(group, context.version));
            ListGroupsResponseData::default().with_groups(groups.collect())
        }
        Err(unavailable) => {
            ListGroupsResponseData::default().with_error_code(unavailable.code().code())
        }
    }
}

fn names(filter: &[KafkaString]) -> Vec<String> {
    filter.iter().map(|name| name.as_str().to_owned()).collect()
}

fn wire(group: ListedGroup, version: i16) -> list_groups_response::ListedGroup {
    let mut answer = list_groups_response::ListedGroup::default()
        .with_group_id(group.id.into())
        .with_protocol_type(group.protocol_type.into());
    if version >= 4 {
        answer.group_state = KafkaString::from_static(group.state);
    }
    if version >= 5 {
        answer.group_type = KafkaString::from_static(group.kind.name());
    }
    answer
}
