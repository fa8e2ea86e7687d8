//! What clients know about a cluster: what they sent, the answers, and what they read. It shares no
//! code with the product; [`crate::checks`] compares a node with it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ottla_protocol::ids::{LeaderEpoch, PartitionIndex, Uuid};
use ottla_protocol::records::{BatchView, Decompressor, split_batches};

use crate::messages::{ClientId, Place};

/// The bytes of a batch that a log changes when it appends it: base offset and leader epoch, and what is between.
const CHANGED_BY_LOG: usize = 16;

/// What becomes of records in an unclean end of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Survives {
    /// The operating system has them: they outlive the process.
    Kill,
    /// They are on stable storage.
    PowerCut,
}

/// What a topic is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing is ever removed.
    Kept,
    /// The same, under `page-cache`.
    Cached,
    /// Records are deleted, by clients and by retention.
    Trimmed,
    Compacted,
    /// The node's own.
    Internal,
    /// Comes and goes.
    Made,
}

/// A batch that was sent, perhaps more than once.
#[derive(Debug)]
pub struct Sent {
    pub place: Place,
    pub producer: ClientId,
    /// Counts the batches of this producer.
    pub order: u64,
    pub bytes: Bytes,
    pub records: i64,
    /// Whether it must not be appended twice.
    pub is_idempotent: bool,
    pub key: Option<Vec<u8>>,
}

/// A batch at its place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The number of the batch.
    pub number: usize,
    pub last: i64,
    pub survives: Survives,
}

#[derive(Debug)]
pub struct PartitionModel {
    pub purpose: Purpose,
    /// What clients were told, or have read, by base offset.
    pub placed: BTreeMap<i64, Placed>,
    /// Records before this were deleted, and the client was told.
    pub deleted_before: i64,
    /// The furthest that a client ever asked to delete.
    pub asked_before: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// A request to create it is not answered yet.
    Creating,
    Live,
    Deleting,
    Gone,
}

#[derive(Debug, Clone)]
pub struct TopicModel {
    pub purpose: Purpose,
    pub presence: Presence,
    pub id: Uuid,
    /// How many partitions it has at least.
    pub partitions: i32,
    /// The value of `retention.ms` that was answered, and those that were asked for since.
    pub retention: Option<String>,
    pub retention_maybe: Vec<String>,
}

/// What one group has committed for one partition.
#[derive(Debug, Default)]
pub struct CommitModel {
    pub acknowledged: Option<i64>,
    /// Asked for since, with an outcome that is not known.
    pub maybe: BTreeSet<i64>,
}

#[derive(Debug, Default)]
pub struct Model {
    pub sent: Vec<Sent>,
    pub partitions: BTreeMap<Place, PartitionModel>,
    pub topics: BTreeMap<String, TopicModel>,
    /// The ids of topics that are gone.
    pub gone: BTreeSet<Uuid>,
    pub commits: BTreeMap<(String, Place), CommitModel>,
    /// The highest generation of each group in which a member was given its assignment.
    pub generations: BTreeMap<String, i32>,
    producer_ids: BTreeSet<i64>,
    /// The newest leader epoch of each partition of a cluster. An older leader may not have what others have read.
    pub leader_epochs: BTreeMap<Place, LeaderEpoch>,
}

impl Model {
    /// A topic was created, and the client was told.
    pub fn created(&mut self, name: &str, purpose: Purpose, id: Uuid, partitions: i32) {
        let known = self.topics.get(name);
        let retention_maybe = known.map_or_else(Vec::new, |known| known.retention_maybe.clone());
        let topic = TopicModel {
            purpose,
            presence: Presence::Live,
            id,
            partitions: 0,
            retention: None,
            retention_maybe,
        };
        self.topics.insert(name.to_owned(), topic);
        self.grown(name, partitions);
    }

    /// A topic has this many partitions.
    pub fn grown(&mut self, name: &str, partitions: i32) {
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        topic.partitions = topic.partitions.max(partitions);
        for index in 0..partitions {
            let place = (topic.id, PartitionIndex(index));
            let new = || PartitionModel {
                purpose: topic.purpose,
                placed: BTreeMap::new(),
                deleted_before: 0,
                asked_before: 0,
            };
            self.partitions.entry(place).or_insert_with(new);
        }
    }

    /// A topic was deleted, and the client was told.
    pub fn deleted(&mut self, name: &str) {
        if let Some(topic) = self.topics.get_mut(name) {
            topic.presence = Presence::Gone;
            self.gone.insert(topic.id);
            self.partitions.retain(|(id, _), _| *id != topic.id);
        }
    }

    /// The partitions that are there for sure and serve `purpose`.
    pub fn places(&self, purpose: impl Fn(Purpose) -> bool) -> Vec<Place> {
        let live = self
            .topics
            .values()
            .filter(|topic| topic.presence == Presence::Live && purpose(topic.purpose));
        let places = live
            .flat_map(|topic| (0..topic.partitions).map(|index| (topic.id, PartitionIndex(index))));
        places.collect()
    }

    pub fn is_live(&self, (id, _): Place) -> bool {
        let mut topics = self.topics.values();
        topics.any(|topic| topic.id == id && topic.presence == Presence::Live)
    }

    pub fn purpose(&self, place: Place) -> Purpose {
        let known = self.partitions.get(&place);
        known.map_or(Purpose::Made, |known| known.purpose)
    }

    /// Counts a batch that is about to be sent.
    pub fn sends(&mut self, sent: Sent) -> usize {
        self.sent.push(sent);
        self.sent.len() - 1
    }

    /// A producer was told that its batch is at `base`.
    pub fn acknowledged(&mut self, number: usize, base: i64, survives: Survives) {
        let place = self.sent[number].place;
        let survives = match self.purpose(place) {
            Purpose::Cached => Survives::Kill,
            _ => survives,
        };
        self.place(place, base, number, survives);
    }

    /// A batch is at `base`: nothing else is.
    pub fn place(&mut self, place: Place, base: i64, number: usize, survives: Survives) {
        let last = base + self.sent[number].records - 1;
        let Some(partition) = self.partitions.get_mut(&place) else {
            return;
        };
        let before = partition.placed.range(..=last).next_back();
        if let Some((known_base, known)) = before {
            let is_same = *known_base == base && known.number == number;
            assert!(
                is_same || known.last < base,
                "check: one batch at one offset: {number} is at {base} to {last} of {place:?}, where {known:?} from {known_base} is"
            );
        }
        let entry = partition.placed.entry(base).or_insert(Placed {
            number,
            last,
            survives,
        });
        entry.survives = entry.survives.max(survives);
    }

    /// The number of the batch that these bytes are of.
    fn number_of(batch: &BatchView<'_>) -> usize {
        let mut decompressor = Decompressor::default();
        let records = batch.records(&mut decompressor, 1 << 20);
        let mut records =
            records.unwrap_or_else(|error| panic!("check: records are sound: {error}"));
        let first = records.next().and_then(Result::ok);
        let value = first.and_then(|first| first.value.map(number_in));
        value
            .flatten()
            .unwrap_or_else(|| panic!("check: a batch was sent: it has no number"))
    }

    /// Whether a batch of a log is the one that was sent to `place`; its number.
    pub fn recognise(&self, place: Place, batch: &BatchView<'_>) -> usize {
        assert!(batch.is_crc_valid(), "check: checksums are right");
        let number = Self::number_of(batch);
        let sent = self.sent.get(number);
        let sent = sent.unwrap_or_else(|| panic!("check: a batch was sent: {number} was not"));
        assert_eq!(
            sent.place, place,
            "check: batch {number} is where it was sent to"
        );
        let is_same = batch.bytes().get(CHANGED_BY_LOG..) == sent.bytes.get(CHANGED_BY_LOG..);
        assert!(
            is_same,
            "check: batch {number} has the bytes that were sent"
        );
        number
    }

    /// A consumer has read these batches, from `position` on; returns the next position.
    pub fn read(&mut self, place: Place, position: i64, bytes: &[u8]) -> i64 {
        let mut next = position;
        let survives = match self.purpose(place) {
            Purpose::Cached => Survives::Kill,
            _ => Survives::PowerCut,
        };
        for batch in split_batches(bytes).map_while(Result::ok) {
            let header = batch.header();
            let base = header.base_offset;
            let number = self.recognise(place, &batch);
            assert!(
                base == next || (next == position && base < next),
                "check: consumers skip nothing: a batch at {base} of {place:?} where {next} follows"
            );
            self.place(place, base, number, survives);
            next = header.next_offset().0;
        }
        next
    }

    pub fn has_producer_id(&mut self, id: i64) {
        let is_new = self.producer_ids.insert(id);
        assert!(
            is_new,
            "check: producer ids are given once: {id} is given again"
        );
    }

    pub fn commit(&mut self, group: &str, place: Place) -> &mut CommitModel {
        self.commits.entry((group.to_owned(), place)).or_default()
    }

    /// What a client was told that a group has committed must be what was committed.
    pub fn check_commit(&self, group: &str, place: Place, found: Option<i64>) {
        let Some(known) = self.commits.get(&(group.to_owned(), place)) else {
            return assert_eq!(found, None, "check: commits were asked for");
        };
        let is_known =
            found == known.acknowledged || found.is_some_and(|found| known.maybe.contains(&found));
        assert!(
            is_known,
            "check: committed offsets stay: {group} has {found:?} for {place:?}, not {known:?}"
        );
    }

    /// A member was told that it is in this generation: those that were written down come before it.
    pub fn joined(&self, group: &str, generation: i32) {
        let highest = self.generations.get(group).copied().unwrap_or(0);
        assert!(
            generation >= highest,
            "check: generations rise: {generation} of {group} after {highest}"
        );
    }

    /// A member was given its assignment in this generation, which is written down.
    pub fn synced(&mut self, group: &str, generation: i32) {
        let highest = self.generations.entry(group.to_owned()).or_default();
        *highest = generation.max(*highest);
    }
}

/// The number of its batch that a record carries.
pub fn number_in(value: &[u8]) -> Option<usize> {
    let number = value.first_chunk().copied().map(u64::from_le_bytes)?;
    usize::try_from(number).ok()
}
