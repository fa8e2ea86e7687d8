//! The offset that each group has committed for each partition, and those that open transactions would commit.

use std::collections::BTreeMap;

use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::coordinator::group::GroupRecord;

use super::committed::{Committed, Place};
use super::pending::Pending;
use super::record;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionResult {
    /// Its offsets are committed.
    Commit,
    /// Its offsets are dropped.
    Abort,
}

type ByPartition = BTreeMap<i32, Committed>;
/// The offsets of one group.
pub type ByTopic = BTreeMap<String, ByPartition>;

/// The offsets of a shard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Offsets {
    groups: BTreeMap<String, ByTopic>,
    pending: Pending,
}

impl Offsets {
    /// The offsets of a group.
    pub fn of_group(&self, group_id: &str) -> Option<&ByTopic> {
        self.groups.get(group_id)
    }

    /// Every group with committed offsets.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &ByTopic)> {
        self.groups.iter().map(|(id, topics)| (id.as_str(), topics))
    }

    /// One offset: of (group, topic, partition).
    pub fn get(&self, place: Place<'_>) -> Option<&Committed> {
        let (group, topic, partition) = place;
        self.groups.get(group)?.get(topic)?.get(&partition)
    }

    /// Whether an open transaction would commit an offset here.
    pub fn is_pending(&self, place: Place<'_>) -> bool {
        self.pending.contains(place)
    }

    /// Whether an open transaction would commit any offset of the group.
    pub fn has_pending(&self, group_id: &str) -> bool {
        self.pending.of_group(group_id).next().is_some()
    }

    /// Whether the group has offsets, committed or pending.
    pub fn has_group(&self, group_id: &str) -> bool {
        self.groups.contains_key(group_id) || self.has_pending(group_id)
    }

    /// The records that delete every offset of a group, one for each partition.
    pub fn tombstones(&self, group_id: &str) -> Vec<GroupRecord> {
        let committed = self.groups.get(group_id).into_iter().flatten();
        let mut records: Vec<GroupRecord> = committed
            .flat_map(|(topic, partitions)| partitions.keys().map(move |p| (topic, *p)))
            .map(|(topic, partition)| record::tombstone((group_id, topic, partition)))
            .collect();
        for (topic, partition) in self.pending.of_group(group_id) {
            if self.get((group_id, topic, partition)).is_none() {
                records.push(record::tombstone((group_id, topic, partition)));
            }
        }
        records
    }

    /// The groups and partitions with an offset, committed or pending, of the topic. An offset without a topic id counts
    /// for every topic of its name.
    pub fn places_of_topic(&self, name: &str, id: Uuid) -> Vec<(String, i32)> {
        let concerns =
            |committed: &Committed| committed.topic_id == Uuid::ZERO || committed.topic_id == id;
        let mut places = Vec::new();
        for (group, topics) in &self.groups {
            let partitions = topics.get(name).into_iter().flatten();
            for (partition, _) in partitions.filter(|(_, committed)| concerns(committed)) {
                places.push((group.clone(), *partition));
            }
        }
        let pending = self.pending.of_topic(name);
        places.extend(pending.filter(|(_, c)| concerns(c)).map(|(place, _)| place));
        places.sort();
        places.dedup();
        places
    }

    pub(crate) fn put(&mut self, place: Place<'_>, committed: Committed) {
        let (group, topic, partition) = place;
        let topics = self.groups.entry(group.to_owned()).or_default();
        let partitions = topics.entry(topic.to_owned()).or_default();
        partitions.insert(partition, committed);
    }

    pub(crate) fn put_pending(&mut self, producer_id: i64, place: Place<'_>, committed: Committed) {
        self.pending.put(producer_id, place, committed);
    }

    /// Removes an offset, and those that open transactions would commit in its place.
    pub(crate) fn remove(&mut self, place: Place<'_>) {
        let (group, topic, partition) = place;
        self.pending.remove(place);
        let Some(topics) = self.groups.get_mut(group) else {
            return;
        };
        if let Some(partitions) = topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                topics.remove(topic);
            }
        }
        if topics.is_empty() {
            self.groups.remove(group);
        }
    }

    /// Ends a transaction. A plain commit that was written after the transaction's stays: the order of the records counts.
    /// If the order of markers counted, compaction would change the outcome.
    pub(crate) fn end_transaction(&mut self, producer_id: i64, result: TransactionResult) {
        let ended = self.pending.take(producer_id);
        if result == TransactionResult::Abort {
            return;
        }
        for ((group, topic, partition), committed) in ended {
            let place = (group.as_str(), topic.as_str(), partition);
            let existing = self.get(place);
            if existing.is_none_or(|e| committed.record_offset > e.record_offset) {
                self.put(place, committed);
            }
        }
    }
}
