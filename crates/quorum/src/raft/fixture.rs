//! Entries and voters for the tests of this module.

use raft::eraftpb::{ConfState, Entry, EntryType, HardState};

use super::payload;
use crate::batches::{DataBatch, Place};
use ottla_metadata::MetadataVersion;
use ottla_protocol::ids::{LeaderEpoch, Offset, Uuid};
use ottla_protocol::messages::metadata::TopicRecord;
use ottla_protocol::time::Timestamp;

/// A payload of one batch with one topic for each of `names`.
pub(crate) fn payload(epoch: i32, names: &[&str]) -> Vec<u8> {
    let mut batch = DataBatch::new(Place {
        offset: Offset(0),
        epoch: LeaderEpoch(0),
        timestamp: Timestamp(1_000),
    });
    for name in names {
        let record = TopicRecord {
            name: (*name).into(),
            topic_id: Uuid::from_parts(1, name.len() as u64),
            ..TopicRecord::default()
        };
        batch
            .append(&record.into(), MetadataVersion::LATEST)
            .expect("a topic can be written");
    }
    payload::encode(
        LeaderEpoch(epoch),
        &[batch.build().expect("it has records")],
    )
}

pub(super) fn entry(index: u64, term: u64) -> Entry {
    let name = format!("topic-{index}-{term}");
    Entry {
        index,
        term,
        data: payload(i32::try_from(term).unwrap(), &[&name]).into(),
        ..Entry::default()
    }
}

/// An entry of term 2 that adds a voter, with a payload of `epoch`.
pub(super) fn addition(index: u64, epoch: i32) -> Entry {
    let mut addition = Entry {
        index,
        term: 2,
        data: vec![0x18, 7].into(),
        context: payload(epoch, &["a"]).into(),
        ..Entry::default()
    };
    addition.set_entry_type(EntryType::EntryConfChange);
    addition
}

pub(super) fn entries(indexes: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    indexes.map(|index| entry(index, term)).collect()
}

pub(super) fn voters(ids: &[u64]) -> ConfState {
    ConfState {
        voters: ids.to_vec(),
        ..ConfState::default()
    }
}

pub(super) fn state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState {
        term,
        vote,
        commit,
        ..HardState::default()
    }
}
