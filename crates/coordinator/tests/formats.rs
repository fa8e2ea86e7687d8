//! A shard reads every version of the records that Kafka has written for groups and offsets. Unknown records do no harm.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use bytes::Bytes;
use ottla_coordinator::group::offsets::OffsetFetchRequest;
use ottla_coordinator::group::offsets::{Fetched, record};
use ottla_coordinator::state::{Position, State};
use ottla_coordinator::{Config, Shard};
use ottla_protocol::ids::Offset;
use ottla_protocol::messages::coordinator::group::group_metadata_value::MemberMetadata;
use ottla_protocol::messages::coordinator::group::{
    ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue, ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberValue, ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataValue, GroupMetadataKey, GroupMetadataValue, GroupRecord,
    LegacyOffsetCommitKey, LegacyOffsetCommitValue, OffsetCommitKey, OffsetCommitValue,
};
use ottla_protocol::time::Now;

/// Writes the record at `version`, as an old broker has, and reads it back into a shard.
fn shard_after(records: Vec<(GroupRecord, i16)>) -> Shard {
    let mut shard = Shard::new(Config::default());
    for (offset, (record, version)) in records.into_iter().enumerate() {
        let (key, value) = record.encode(version).unwrap();
        let offset = Offset(i64::try_from(offset).unwrap());
        shard.apply(
            Position::plain(offset),
            GroupRecord::decode(key, value).unwrap(),
        );
    }
    shard.on_loaded(Now::default());
    shard
}

fn group_key() -> GroupMetadataKey {
    GroupMetadataKey {
        group: "g".into(),
        ..GroupMetadataKey::default()
    }
}

fn offset_key() -> OffsetCommitKey {
    OffsetCommitKey {
        group: "g".into(),
        topic: "t".into(),
        partition: 3,
        ..OffsetCommitKey::default()
    }
}

fn fetched(shard: &Shard) -> Fetched {
    let request = OffsetFetchRequest {
        group_id: "g".into(),
        topics: None,
        require_stable: false,
    };
    shard.fetch_offsets(&request)[0].partitions[0].1.clone()
}

#[test]
fn group_metadata_of_every_version_is_read() {
    for version in 0..=GroupMetadataValue::MAX_VERSION {
        let member = MemberMetadata {
            member_id: "m".into(),
            client_id: "c".into(),
            client_host: "/h".into(),
            session_timeout: 10_000,
            rebalance_timeout: if version >= 1 { 20_000 } else { -1 },
            group_instance_id: (version >= 3).then(|| "i".into()),
            assignment: Bytes::from_static(b"A"),
            ..MemberMetadata::default()
        };
        let value = GroupMetadataValue {
            protocol_type: "consumer".into(),
            generation: 4,
            protocol: Some("range".into()),
            leader: Some("m".into()),
            current_state_timestamp: if version >= 2 { 99 } else { -1 },
            members: vec![member],
            ..GroupMetadataValue::default()
        };
        let record = GroupRecord::GroupMetadata(group_key(), Some(value));
        let shard = shard_after(vec![(record, version)]);
        let group = shard.classic("g").unwrap();
        assert_eq!(group.generation(), 4, "version {version}");
        assert_eq!(group.state_since().is_some(), version >= 2);
        let described = shard.describe("g").unwrap();
        assert_eq!(described.state, "Stable");
        assert_eq!(described.members[0].assignment, "A");
        assert_eq!(described.members[0].instance_id.is_some(), version >= 3);
    }
}

#[test]
fn offset_commits_of_every_version_are_read() {
    for version in 0..=OffsetCommitValue::MAX_VERSION {
        let value = OffsetCommitValue {
            offset: 7,
            leader_epoch: if version >= 3 { 2 } else { -1 },
            metadata: "text".into(),
            commit_timestamp: 50,
            expire_timestamp: if version == 1 { 60 } else { -1 },
            ..OffsetCommitValue::default()
        };
        let record = GroupRecord::OffsetCommit(offset_key(), Some(value));
        let Fetched::Offset(committed) = fetched(&shard_after(vec![(record, version)])) else {
            panic!("version {version} is not read");
        };
        assert_eq!((committed.offset, committed.commit_timestamp), (7, 50));
        assert_eq!(committed.leader_epoch, (version >= 3).then_some(2));
        assert_eq!(committed.expire_timestamp, (version == 1).then_some(60));
    }
}

#[test]
fn legacy_offset_commits_are_read_and_replaced() {
    let key = LegacyOffsetCommitKey {
        group: "g".into(),
        topic: "t".into(),
        partition: 3,
        ..LegacyOffsetCommitKey::default()
    };
    let value = LegacyOffsetCommitValue {
        offset: 7,
        ..LegacyOffsetCommitValue::default()
    };
    let old = GroupRecord::LegacyOffsetCommit(key, Some(value));
    let Fetched::Offset(committed) = fetched(&shard_after(vec![(old.clone(), 0)])) else {
        panic!("the old record is not read");
    };
    assert_eq!(committed.offset, 7);
    let deleted = GroupRecord::OffsetCommit(offset_key(), None);
    let shard = shard_after(vec![(old, 0), (deleted, 4)]);
    assert!(shard.state().offsets().of_group("g").is_none());
}

#[test]
fn what_is_written_has_kafkas_versions() {
    let plain = OffsetCommitValue::default();
    let expiring = OffsetCommitValue {
        expire_timestamp: 1,
        ..OffsetCommitValue::default()
    };
    let version =
        |value| record::value_version(&GroupRecord::OffsetCommit(offset_key(), Some(value)));
    assert_eq!(version(plain), 4);
    assert_eq!(version(expiring), 1);
    let group = GroupRecord::GroupMetadata(group_key(), Some(GroupMetadataValue::default()));
    assert_eq!(record::value_version(&group), 3);
}

#[test]
fn group_of_a_newer_protocol_is_kept_until_it_is_empty_and_deleted() {
    let group = GroupRecord::ConsumerGroupMetadata(
        ConsumerGroupMetadataKey {
            group_id: "g".into(),
            ..ConsumerGroupMetadataKey::default()
        },
        Some(ConsumerGroupMetadataValue::default()),
    );
    let member_key = ConsumerGroupMemberMetadataKey {
        group_id: "g".into(),
        member_id: "m".into(),
        ..ConsumerGroupMemberMetadataKey::default()
    };
    let member = GroupRecord::ConsumerGroupMemberMetadata(
        member_key.clone(),
        Some(ConsumerGroupMemberMetadataValue::default()),
    );
    let version = group.highest_value_version();
    let mut shard = shard_after(vec![(group, version), (member, 0)]);
    assert!(shard.decide_delete_group("g").reply.is_err());
    assert!(shard.describe("g").is_err());

    let gone = GroupRecord::ConsumerGroupMemberMetadata(member_key, None);
    shard.apply(Position::plain(Offset(2)), gone);
    let decision = shard.decide_delete_group("g");
    assert!(decision.reply.is_ok());
    assert_eq!(decision.records.len(), 1);
    for record in decision.records {
        shard.apply(Position::plain(Offset(3)), record);
    }
    assert_eq!(*shard.state(), State::default());
}

/// Kafka's loader throws on a group's tombstone while members or assignments are there, and on a target
/// assignment's while it still names members; then it serves no group of that partition.
#[test]
fn group_of_a_newer_protocol_is_deleted_from_its_leaves_to_its_root() {
    let group_id = || String::from("g");
    let group = GroupRecord::ConsumerGroupMetadata(
        ConsumerGroupMetadataKey {
            group_id: group_id(),
            ..ConsumerGroupMetadataKey::default()
        },
        Some(ConsumerGroupMetadataValue::default()),
    );
    let target = GroupRecord::ConsumerGroupTargetAssignmentMetadata(
        ConsumerGroupTargetAssignmentMetadataKey {
            group_id: group_id(),
            ..ConsumerGroupTargetAssignmentMetadataKey::default()
        },
        Some(ConsumerGroupTargetAssignmentMetadataValue::default()),
    );
    let member = GroupRecord::ConsumerGroupTargetAssignmentMember(
        ConsumerGroupTargetAssignmentMemberKey {
            group_id: group_id(),
            ..ConsumerGroupTargetAssignmentMemberKey::default()
        },
        Some(ConsumerGroupTargetAssignmentMemberValue::default()),
    );
    let expression = GroupRecord::ConsumerGroupRegularExpression(
        ConsumerGroupRegularExpressionKey {
            group_id: group_id(),
            ..ConsumerGroupRegularExpressionKey::default()
        },
        Some(ConsumerGroupRegularExpressionValue::default()),
    );
    let shard = shard_after(vec![(group, 0), (target, 0), (member, 0), (expression, 0)]);
    let records = shard.decide_delete_group("g").records;
    let types: Vec<u8> = records
        .iter()
        .map(|record| record.encode(0).unwrap().0[1])
        .collect();
    assert_eq!(types, [16, 7, 6, 3]);
}
