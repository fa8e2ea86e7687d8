//! The replicated state of a shard. It follows from the records of the partition alone.
//!
//! [`State::apply`] is the only mutator, the same on leader, follower and replay; it cannot fail and reads
//! neither time nor configuration. It sees records in the order of the log, committed or not: an owner that
//! loses an append throws the state away and reads the log again.

use std::collections::BTreeMap;

use ottla_protocol::ids::{Offset, ProducerId};
use ottla_protocol::messages::coordinator::group::{
    GroupMetadataValue, GroupRecord, OffsetCommitKey,
};

use crate::group::foreign::{Foreign, ForeignRecord};
use crate::group::offsets::{Committed, Offsets, TransactionResult, record};

/// The place of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its offset in the partition.
    pub offset: Offset,
    /// The producer whose transaction it belongs to; [`ProducerId::NONE`] outside of transactions.
    pub producer_id: ProducerId,
}

impl Position {
    /// A record outside of transactions.
    pub const fn plain(offset: Offset) -> Self {
        Self {
            offset,
            producer_id: ProducerId::NONE,
        }
    }
}

/// The replicated state of one group.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// A group that only has offsets: its consumers assign partitions to themselves.
    Simple,
    /// The last record of a classic group.
    Classic(GroupMetadataValue),
    /// A group of a newer protocol.
    Foreign(Foreign),
}

/// The replicated state of all groups of a partition.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    groups: BTreeMap<String, Stored>,
    offsets: Offsets,
}

impl State {
    /// The committed offsets.
    pub const fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    pub fn group(&self, group_id: &str) -> Option<&Stored> {
        self.groups.get(group_id)
    }

    /// Every group.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.groups.iter().map(|(id, stored)| (id.as_str(), stored))
    }

    /// The ids of all groups.
    pub fn group_ids(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// A group of a newer protocol.
    pub fn foreign(&self, group_id: &str) -> Option<&Foreign> {
        match self.groups.get(group_id)? {
            Stored::Foreign(foreign) => Some(foreign),
            Stored::Simple | Stored::Classic(_) => None,
        }
    }

    /// The groups of newer protocols.
    pub fn foreigns(&self) -> impl Iterator<Item = (&str, &Foreign)> {
        self.groups.iter().filter_map(|(id, stored)| match stored {
            Stored::Foreign(foreign) => Some((id.as_str(), foreign)),
            Stored::Simple | Stored::Classic(_) => None,
        })
    }

    /// Applies a record.
    pub fn apply(&mut self, position: Position, record: GroupRecord) {
        if let Some(foreign) = ForeignRecord::of(&record) {
            return self.apply_foreign(foreign);
        }
        match record {
            GroupRecord::OffsetCommit(key, value) => {
                let committed = value.map(|value| record::read(value, position.offset.0));
                self.apply_offset(position, &key, committed);
            }
            GroupRecord::LegacyOffsetCommit(key, value) => {
                let committed = value.map(|value| record::read_legacy(value, position.offset.0));
                let key = OffsetCommitKey {
                    group: key.group,
                    topic: key.topic,
                    partition: key.partition,
                    ..OffsetCommitKey::default()
                };
                self.apply_offset(position, &key, committed);
            }
            GroupRecord::GroupMetadata(key, Some(value)) => {
                self.groups.insert(key.group, Stored::Classic(value));
            }
            GroupRecord::GroupMetadata(key, None) => {
                self.groups.remove(&key.group);
            }
            // The other types belong to newer protocols, which are handled above.
            _ => {}
        }
    }

    /// Applies the marker that ends a transaction.
    pub fn apply_marker(&mut self, producer_id: ProducerId, result: TransactionResult) {
        self.offsets.end_transaction(producer_id.0, result);
    }

    fn apply_offset(
        &mut self,
        position: Position,
        key: &OffsetCommitKey,
        committed: Option<Committed>,
    ) {
        let place = (key.group.as_str(), key.topic.as_str(), key.partition);
        let Some(committed) = committed else {
            return self.offsets.remove(place);
        };
        if !self.groups.contains_key(&key.group) {
            self.groups.insert(key.group.clone(), Stored::Simple);
        }
        if position.producer_id == ProducerId::NONE {
            self.offsets.put(place, committed);
        } else {
            self.offsets
                .put_pending(position.producer_id.0, place, committed);
        }
    }

    fn apply_foreign(&mut self, record: ForeignRecord) {
        let group_id = record.group_id.clone();
        let mut foreign = match self.groups.remove(&group_id) {
            Some(Stored::Foreign(foreign)) => foreign,
            Some(other) if record.is_tombstone() => {
                self.groups.insert(group_id, other);
                return;
            }
            Some(_) | None => Foreign::new(record.kind()),
        };
        foreign.apply(record);
        if !foreign.is_gone() {
            self.groups.insert(group_id, Stored::Foreign(foreign));
        } else if self.offsets.has_group(&group_id) {
            self.groups.insert(group_id, Stored::Simple);
        }
    }
}
