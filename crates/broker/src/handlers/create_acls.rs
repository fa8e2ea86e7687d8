//! `CreateAcls` (key 30), versions 1 to 3. The answer is that of a Kafka without an authorizer.

use ottla_protocol::messages::create_acls_response::AclCreationResult;
use ottla_protocol::messages::{CreateAclsRequestData, CreateAclsResponseData, ErrorCode};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Refuses each entry: there are no access control lists.
pub fn handle(
    _broker: &Broker,
    _context: &RequestContext,
    request: CreateAclsRequestData,
) -> CreateAclsResponseData {
    let refused = || {
        AclCreationResult::default()
            .with_error_code(ErrorCode::SecurityDisabled.code())
            .with_error_message(Some("No Authorizer is configured.".to_owned().into()))
    };
    CreateAclsResponseData::default()
        .with_results(request.creations.iter().map(|_| refused()).collect())
}
