//! A classic group as its `GroupMetadata` record, written at version 3 and read at every version.

use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::messages::coordinator::group::group_metadata_value::MemberMetadata;
use ottla_protocol::messages::coordinator::group::{
    GroupMetadataKey, GroupMetadataValue, GroupRecord,
};
use ottla_protocol::time::Timestamp;

use super::group::{Group, State};
use super::member::Member;
use super::messages::Protocol;

/// The record of `group`, with its members.
pub fn of(group: &Group) -> GroupRecord {
    let members = group
        .members
        .values()
        .map(|member| member_of(group, member));
    record(
        &group.id,
        Some(GroupMetadataValue {
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            generation: group.generation,
            protocol: group.protocol.clone(),
            leader: group.leader.clone(),
            current_state_timestamp: group.state_since.unwrap_or(Timestamp::NONE).0,
            members: members.collect(),
            ..GroupMetadataValue::default()
        }),
    )
}

/// The record of a group at its creation, without the members that may have joined since.
pub fn of_new(group: &Group) -> GroupRecord {
    record(
        &group.id,
        Some(GroupMetadataValue {
            // The schema's defaults are empty strings; Kafka writes null.
            protocol: None,
            leader: None,
            current_state_timestamp: group.state_since.unwrap_or(Timestamp::NONE).0,
            ..GroupMetadataValue::default()
        }),
    )
}

/// The record that deletes a group.
pub fn tombstone(group_id: &str) -> GroupRecord {
    record(group_id, None)
}

fn record(group_id: &str, value: Option<GroupMetadataValue>) -> GroupRecord {
    let key = GroupMetadataKey {
        group: group_id.to_owned(),
        ..GroupMetadataKey::default()
    };
    GroupRecord::GroupMetadata(key, value)
}

fn member_of(group: &Group, member: &Member) -> MemberMetadata {
    let protocol = group.protocol.as_deref().unwrap_or_default();
    MemberMetadata {
        member_id: member.id.clone(),
        group_instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout: millis(member.rebalance_timeout),
        session_timeout: millis(member.session_timeout),
        subscription: member.metadata(protocol),
        assignment: member.assignment.clone(),
        ..MemberMetadata::default()
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// The group that a record describes: empty, or stable with its members.
pub fn read(group_id: &str, value: &GroupMetadataValue) -> Group {
    let since = Timestamp(value.current_state_timestamp);
    let mut group = Group::new(group_id, (since != Timestamp::NONE).then_some(since));
    group.generation = value.generation;
    group.protocol.clone_from(&value.protocol);
    group.leader.clone_from(&value.leader);
    for member in &value.members {
        group.add(read_member(value, member), &value.protocol_type);
    }
    if !group.members.is_empty() {
        group.state = State::Stable;
    }
    if !value.members.iter().any(|m| group.is_leader(&m.member_id)) {
        group.leader = group.members.keys().next().cloned();
    }
    group.protocol_type = Some(value.protocol_type.clone()).filter(|kind| !kind.is_empty());
    group.subscribed_topics = group.read_subscriptions();
    group
}

fn read_member(value: &GroupMetadataValue, member: &MemberMetadata) -> Member {
    let session_timeout = duration(member.session_timeout);
    let rebalance_timeout = match member.rebalance_timeout {
        -1 => session_timeout,
        timeout => duration(timeout),
    };
    Member {
        id: member.member_id.clone(),
        instance_id: member.group_instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout,
        session_timeout,
        protocols: vec![Protocol {
            name: value.protocol.clone().unwrap_or_default(),
            metadata: member.subscription.clone(),
        }],
        assignment: Bytes::clone(&member.assignment),
        is_new: false,
        awaiting_join: None,
        awaiting_sync: None,
    }
}

fn duration(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
