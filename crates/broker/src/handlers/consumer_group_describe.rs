//! `ConsumerGroupDescribe` (key 69), versions 0 and 1 (KIP-848).
//!
//! It is announced and refused, like `ConsumerGroupHeartbeat`. A client that does not know the type of a group tries this
//! API first, and then the one for classic groups.

use ottla_protocol::messages::consumer_group_describe_response::DescribedGroup;
use ottla_protocol::messages::{
    ConsumerGroupDescribeRequestData, ConsumerGroupDescribeResponseData, ErrorCode,
};

use crate::broker::Broker;
use crate::context::RequestContext;

/// Refuses each group: there are classic groups only.
pub fn handle(
    _broker: &Broker,
    _context: &RequestContext,
    request: ConsumerGroupDescribeRequestData,
) -> ConsumerGroupDescribeResponseData {
    let groups = request.group_ids.into_iter().map(|group| {
        DescribedGroup::default()
            .with_group_id(group)
            .with_error_code(ErrorCode::UnsupportedVersion.code())
    });
    ConsumerGroupDescribeResponseData::default().with_groups(groups.collect())
}
