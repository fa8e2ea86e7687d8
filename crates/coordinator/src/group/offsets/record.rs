//! Committed offsets as records: `OffsetCommit`, written at version 4 (1 with an expiry), read at every version.

use ottla_protocol::messages::coordinator::group::{
    GroupRecord, LegacyOffsetCommitValue, OffsetCommitKey, OffsetCommitValue,
};

use super::committed::{Committed, Place};

/// The only written version that has an expiry. It has no leader epoch and no topic id.
const VERSION_WITH_EXPIRY: i16 = 1;
/// The version of every other value.
const VERSION: i16 = 4;
/// The version of a `GroupMetadata` value.
const GROUP_VERSION: i16 = 3;

/// The version to write the value of a record at.
pub fn value_version(record: &GroupRecord) -> i16 {
    match record {
        GroupRecord::OffsetCommit(_, Some(value)) if value.expire_timestamp != -1 => {
            VERSION_WITH_EXPIRY
        }
        GroupRecord::OffsetCommit(..) => VERSION,
        GroupRecord::GroupMetadata(..) => GROUP_VERSION,
        _ => record.highest_value_version(),
    }
}

/// The record that commits an offset.
pub fn of(place: Place<'_>, committed: &Committed) -> GroupRecord {
    let mut value = OffsetCommitValue {
        offset: committed.offset,
        metadata: committed.metadata.clone(),
        commit_timestamp: committed.commit_timestamp,
        ..OffsetCommitValue::default()
    };
    if let Some(expires) = committed.expire_timestamp {
        value.expire_timestamp = expires;
    } else {
        value.leader_epoch = committed.leader_epoch.unwrap_or(-1);
        value.topic_id = committed.topic_id;
    }
    GroupRecord::OffsetCommit(key(place), Some(value))
}

/// The record that deletes an offset.
pub fn tombstone(place: Place<'_>) -> GroupRecord {
    GroupRecord::OffsetCommit(key(place), None)
}

fn key((group, topic, partition): Place<'_>) -> OffsetCommitKey {
    OffsetCommitKey {
        group: group.to_owned(),
        topic: topic.to_owned(),
        partition,
        ..OffsetCommitKey::default()
    }
}

/// The offset that a value commits.
pub fn read(value: OffsetCommitValue, record_offset: i64) -> Committed {
    let known = |number: i64| (number != -1).then_some(number);
    Committed {
        offset: value.offset,
        leader_epoch: (value.leader_epoch != -1).then_some(value.leader_epoch),
        metadata: value.metadata,
        commit_timestamp: value.commit_timestamp,
        expire_timestamp: known(value.expire_timestamp),
        topic_id: value.topic_id,
        record_offset,
    }
}

/// The offset that a value of the oldest record type commits.
pub fn read_legacy(value: LegacyOffsetCommitValue, record_offset: i64) -> Committed {
    let current = OffsetCommitValue {
        offset: value.offset,
        metadata: value.metadata,
        commit_timestamp: value.commit_timestamp,
        ..OffsetCommitValue::default()
    };
    read(current, record_offset)
}
