//! `DescribeAcls` (key 29), versions 1 to 3. The answer is that of a Kafka without an authorizer.

use ottla_protocol::messages::{DescribeAclsRequestData, DescribeAclsResponseData, ErrorCode};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Refuses: there are no access control lists.
pub fn handle(
    _broker: &Broker,
    _context: &RequestContext,
    _request: DescribeAclsRequestData,
) -> DescribeAclsResponseData {
    let why = "No Authorizer is configured on the broker";
    DescribeAclsResponseData::default()
        .with_error_code(ErrorCode::SecurityDisabled.code())
        .with_error_message(Some(why.to_owned().into()))
}
