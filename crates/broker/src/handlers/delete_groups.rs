//! `DeleteGroups` (key 42), versions 0 to 3.
//!
//! - 2: flexible. 3: a message for each group, which is null as in Kafka without a plugin for streams groups.
//!
//! A share group that Kafka left is not deleted (`UNSUPPORTED_VERSION`), as this release cannot delete its state.

use std::collections::BTreeSet;

use ottla_coordinator::group::delete::DeleteGroupRequest;
use ottla_protocol::messages::delete_groups_response::DeletableGroupResult;
use ottla_protocol::messages::{DeleteGroupsRequestData, DeleteGroupsResponseData, ErrorCode};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Deletes empty groups; an error concerns one group. A group that is named twice is deleted once.
pub async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: DeleteGroupsRequestData,
) -> DeleteGroupsResponseData {
    let mut seen = BTreeSet::new();
    let mut results = Vec::new();
    for group in request.groups_names {
        let group_id = group.as_str().to_owned();
        if seen.insert(group_id.clone()) {
            let code = delete(broker, group_id).await;
            results.push(
                DeletableGroupResult::default()
                    .with_group_id(group)
                    .with_error_code(code.code()),
            );
        }
    }
    DeleteGroupsResponseData::default().with_results(results)
}

async fn delete(broker: &Broker, group_id: String) -> ErrorCode {
    match broker.groups.ask(DeleteGroupRequest { group_id }).await {
        Ok(Ok(())) => ErrorCode::None,
        Ok(Err(error)) => error.code(),
        Err(unavailable) => unavailable.code(),
    }
}
