//! `JoinGroup` (key 11), versions 0 to 9.
//!
//! - 1: rebalance timeout. 4: a new dynamic member must join again with the id that it is given (KIP-394).
//! - 5: static members (KIP-345). 6: flexible. 7: the answer names the protocol type. 8: the reason.
//! - 9: a static leader may be told to keep the assignment.

use std::net::IpAddr;
use std::time::Duration;

use ottla_coordinator::group::classic::{JoinReply, JoinRequest, Joined, Protocol};
use ottla_protocol::messages::join_group_response::JoinGroupResponseMember;
use ottla_protocol::messages::{
    ErrorCode, JoinGroupRequestData, JoinGroupResponseData, KafkaString,
};

use crate::broker::Broker;
use crate::context::RequestContext;
use crate::process::random::random_id;

/// Joins a group; the answer comes when the rebalance has collected its members.
pub async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: JoinGroupRequestData,
) -> JoinGroupResponseData {
    let member_id = request.member_id.clone();
    let request = domain(context, request);
    if let Err(error) = request.check(broker.groups.config()) {
        return refused(error.code(), context.version).with_member_id(member_id);
    }
    match broker.groups.ask(request).await {
        Ok(reply) => wire(reply, context.version),
        Err(unavailable) => refused(unavailable.code(), context.version),
    }
}

fn domain(context: &RequestContext, request: JoinGroupRequestData) -> JoinRequest {
    // Version 0 has no rebalance timeout; the session timeout serves as both.
    let rebalance_timeout_ms = if context.version == 0 {
        request.session_timeout_ms
    } else {
        request.rebalance_timeout_ms
    };
    let protocols = request.protocols.into_iter().map(|protocol| Protocol {
        name: protocol.name.as_str().to_owned(),
        // Copied, so that the member does not keep the request's buffer alive.
        metadata: bytes::Bytes::copy_from_slice(&protocol.metadata),
    });
    JoinRequest {
        group_id: request.group_id.as_str().to_owned(),
        member_id: request.member_id.as_str().to_owned(),
        instance_id: owned(request.group_instance_id.as_ref()),
        client_id: context.client_id().to_owned(),
        client_host: java_address(context.connection.peer.ip()),
        session_timeout: millis(request.session_timeout_ms),
        rebalance_timeout: millis(rebalance_timeout_ms),
        protocol_type: request.protocol_type.as_str().to_owned(),
        protocols: protocols.collect(),
        reason: owned(request.reason.as_ref()),
        member_id_required: context.version >= 4,
        can_skip_assignment: context.version >= 9,
        fresh_id: random_id().hyphenated(),
    }
}

/// A nullable string of the wire as an owned string.
pub fn owned(text: Option<&KafkaString>) -> Option<String> {
    text.map(|text| text.as_str().to_owned())
}

fn millis(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// An address in Java's format for one without a host name. Tools show it, and the group's records hold it.
fn java_address(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("/{address}"),
        IpAddr::V6(address) => {
            let segments = address.segments().map(|segment| format!("{segment:x}"));
            format!("/{}", segments.join(":"))
        }
    }
}

/// Before version 7 the protocol's name cannot be null.
fn protocol_name(name: Option<String>, version: i16) -> Option<KafkaString> {
    match name.filter(|name| !name.is_empty()) {
        None if version < 7 => Some(KafkaString::default()),
        name => name.map(KafkaString::from),
    }
}

fn refused(code: ErrorCode, version: i16) -> JoinGroupResponseData {
    JoinGroupResponseData::default()
        .with_error_code(code.code())
        .with_generation_id(-1)
        .with_protocol_name(protocol_name(None, version))
}

fn wire(reply: JoinReply, version: i16) -> JoinGroupResponseData {
    let member_id = KafkaString::from(reply.member_id);
    match reply.outcome {
        Err(error) => refused(error.code(), version).with_member_id(member_id),
        Ok(joined) => joined_as(joined, version).with_member_id(member_id),
    }
}

fn joined_as(joined: Joined, version: i16) -> JoinGroupResponseData {
    let members = joined.members.into_iter().map(|member| {
        let response = JoinGroupResponseMember::default()
            .with_member_id(member.id.into())
            .with_metadata(member.metadata);
        if version >= 5 {
            response.with_group_instance_id(member.instance_id.map(KafkaString::from))
        } else {
            response
        }
    });
    let mut response = JoinGroupResponseData::default()
        .with_generation_id(joined.generation)
        .with_protocol_name(protocol_name(joined.protocol, version))
        .with_leader(joined.leader.unwrap_or_default().into())
        .with_members(members.collect());
    if version >= 7 {
        response.protocol_type = joined.protocol_type.map(KafkaString::from);
    }
    if version >= 9 {
        response.skip_assignment = joined.skip_assignment;
    }
    response
}

#[cfg(test)]
mod tests {
    use super::java_address;

    #[test]
    fn addresses_are_printed_as_java_does() {
        for (address, printed) in [
            ("127.0.0.1", "/127.0.0.1"),
            ("::ffff:10.0.0.1", "/10.0.0.1"),
            ("::1", "/0:0:0:0:0:0:0:1"),
        ] {
            assert_eq!(java_address(address.parse().unwrap()), printed);
        }
    }
}
