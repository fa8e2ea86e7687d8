//! `DeleteAcls` (key 31), versions 1 to 3. The answer is that of a Kafka without an authorizer.

use ottla_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use ottla_protocol::messages::{DeleteAclsRequestData, DeleteAclsResponseData, ErrorCode};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Refuses each filter: there are no access control lists.
pub fn handle(
    _broker: &Broker,
    _context: &RequestContext,
    request: DeleteAclsRequestData,
) -> DeleteAclsResponseData {
    let refused = || {
        DeleteAclsFilterResult::default()
            .with_error_code(ErrorCode::SecurityDisabled.code())
            .with_error_message(Some("No Authorizer is configured.".to_owned().into()))
    };
    DeleteAclsResponseData::default()
        .with_filter_results(request.filters.iter().map(|_| refused()).collect())
}
