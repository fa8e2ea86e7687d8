//! The checks after each start: they compare the node with what the clients know. The message of a
//! check has its name.
//!
//! They check the same facts as the tests that kill a real broker, cut its power and fill its disk.
//! Acknowledged records are there once and in order. Offsets have no gaps. Deleted records stay
//! deleted. The newest record of each key is there. Topics, configs, committed offsets, generations
//! and producer ids are as the clients were told.

use std::collections::BTreeMap;

use ottla_coordinator::partition_for;
use ottla_log::{Bound, FirstBatch, ReadRequest};
use ottla_metadata::{ConfigResource, MetadataImage};
use ottla_protocol::ids::Offset;
use ottla_protocol::records::{BatchView, Decompressor, split_batches};
use ottla_protocol::time::MonotonicTime;

use crate::messages::Place;
use crate::model::{Model, PartitionModel, Presence, Purpose, Survives, TopicModel, number_in};
use crate::node::{Broker, Found, Partition};

/// How a node ended before it was started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// In an orderly way, or killed: what the operating system has is there.
    Process,
    /// The power went: only what was synced is there.
    Power,
}

/// Where logs ended when their process did.
pub type Ends = BTreeMap<Place, Before>;

/// The end of the process before this one.
#[derive(Debug, Clone, Copy)]
pub struct Last<'a> {
    pub ended: Ended,
    pub before: &'a Ends,
}

#[derive(Debug, Clone, Copy)]
pub struct Before {
    pub start: i64,
    pub high_watermark: i64,
    pub end: i64,
    /// Whether its directory worked.
    pub is_online: bool,
}

/// What a log holds.
struct Held {
    start: i64,
    end: i64,
    /// The batches by base offset: number and last offset.
    batches: BTreeMap<i64, (usize, i64)>,
}

/// Compares a node that has just started with what clients know; returns the comparisons, and the records that a power cut
/// took under `page-cache`.
pub fn after_start(
    broker: &Broker,
    model: &mut Model,
    last: Last<'_>,
    now: MonotonicTime,
) -> (u64, u64) {
    let (mut checks, mut gone) = (metadata(&broker.image, model), 0);
    let places: Vec<Place> = model.partitions.keys().copied().collect();
    for place in places {
        let (id, index) = place;
        let partition = match broker.replicas.by_id(id, index) {
            Found::Here(partition) => partition,
            other => {
                // A deletion that was not answered yet may have been done.
                assert!(
                    !model.is_live(place),
                    "check: partitions are there: {place:?} is not: {other:?}"
                );
                continue;
            }
        };
        gone += partition_after_start(&partition, model, last, now);
        checks += 1;
    }
    (checks, gone)
}

/// What groups have committed, in a coordinator that has just read its partition.
pub fn groups(broker: &Broker, index: i32, model: &Model) -> u64 {
    let Some((shard, count)) = broker.coordinators.shard(index) else {
        return 0;
    };
    let mut checks = 0;
    for (group, place) in model.commits.keys() {
        if partition_for(group, count) != index {
            continue;
        }
        let Some(topic) = broker.image.topics.get(&place.0) else {
            continue;
        };
        let stored = shard.state().offsets().get((group, &topic.name, place.1.0));
        model.check_commit(group, *place, stored.map(|stored| stored.offset));
        checks += 1;
    }
    checks
}

/// Topics, their partitions and their configs.
pub fn metadata(image: &MetadataImage, model: &Model) -> u64 {
    for id in &model.gone {
        assert!(
            !image.topics.contains_key(id),
            "check: deleted topics stay deleted: {id} is back"
        );
    }
    for (name, topic) in &model.topics {
        let found = image.topic(name);
        match topic.presence {
            Presence::Live => {
                let found = found.unwrap_or_else(|| {
                    panic!("check: acknowledged topics are there: {name} is not")
                });
                assert_eq!(found.id, topic.id, "check: topics keep their id: {name}");
                let partitions = found.partitions.len() as i64;
                assert!(
                    partitions >= topic.partitions.into(),
                    "check: acknowledged partitions are there: {name} has {partitions}, not {}",
                    topic.partitions
                );
                retention(image, name, topic);
            }
            Presence::Gone => assert!(
                found.is_none_or(|found| found.id != topic.id),
                "check: deleted topics stay deleted: {name} is back"
            ),
            Presence::Creating | Presence::Deleting => {}
        }
    }
    model.topics.len() as u64
}

fn retention(image: &MetadataImage, name: &str, topic: &TopicModel) {
    let found = image.config(&ConfigResource::topic(name), "retention.ms");
    let is_known = found == topic.retention.as_deref()
        || topic
            .retention_maybe
            .iter()
            .any(|maybe| found == Some(maybe.as_str()));
    assert!(
        is_known,
        "check: acknowledged configs stay: retention.ms of {name} is {found:?}, not {:?} or {:?}",
        topic.retention, topic.retention_maybe
    );
}

/// Compares a log with what clients know of it; both go on from what is there. Returns the records that were lost although
/// they were acknowledged, where that may be.
fn partition_after_start(
    partition: &Partition,
    model: &mut Model,
    last: Last<'_>,
    now: MonotonicTime,
) -> u64 {
    let place = partition.id();
    let purpose = model.purpose(place);
    if purpose == Purpose::Internal {
        return 0;
    }
    let held = read_all(partition, place, model, now);
    let known = &model.partitions[&place];
    ends(&held, known, place, last);
    let gone = if purpose == Purpose::Compacted {
        keys(&held, model, place);
        0
    } else {
        no_gaps(&held, place);
        order(&held, model, place);
        acknowledged(&held, known, place, last.ended)
    };
    // All that a start finds it has made durable.
    let known = model.partitions.get_mut(&place).expect("it is known");
    if purpose == Purpose::Compacted {
        known.placed.retain(|base, _| *base < held.end);
        known
            .placed
            .values_mut()
            .for_each(|placed| placed.survives = Survives::PowerCut);
    } else {
        known.placed.clear();
        for (base, (number, _)) in held.batches {
            model.place(place, base, number, Survives::PowerCut);
        }
    }
    gone
}

/// Reads a log from its start to its end.
fn read_all(partition: &Partition, place: Place, model: &Model, now: MonotonicTime) -> Held {
    let offsets = partition.offsets().expect("a partition that was opened");
    let mut held = Held {
        start: offsets.log_start.0,
        end: offsets.log_end.0,
        batches: BTreeMap::new(),
    };
    let mut next = held.start;
    while next < held.end {
        let request = ReadRequest {
            offset: Offset(next),
            max_bytes: 1 << 20,
            first_batch: FirstBatch::MayExceed,
            bound: Bound::LogEnd,
        };
        let plan = partition.plan_own(&request, now).expect("the log is open");
        let plan = plan.unwrap_or_else(|error| panic!("check: logs can be read: {error}"));
        let mut bytes = Vec::new();
        let read = plan.read(&mut bytes);
        read.unwrap_or_else(|error| panic!("check: logs can be read: {error}"));
        let from = next;
        for batch in split_batches(&bytes).map_while(Result::ok) {
            let base = batch.header().base_offset;
            next = batch.header().next_offset().0;
            let number = match model.purpose(place) {
                Purpose::Compacted => compacted(model, place, &batch),
                _ => Some(model.recognise(place, &batch)),
            };
            held.batches
                .extend(number.map(|number| (base, (number, next - 1))));
        }
        if next == from {
            // What is left was compacted away.
            break;
        }
    }
    held
}

/// The number of a batch that compaction may have written anew; none where it holds no record any more.
fn compacted(model: &Model, place: Place, batch: &BatchView<'_>) -> Option<usize> {
    let mut decompressor = Decompressor::default();
    let records = batch.records(&mut decompressor, 1 << 20);
    let mut records = records.unwrap_or_else(|error| panic!("check: records are sound: {error}"));
    let first = records.next()?.ok()?;
    let number = first.value.and_then(number_in)?;
    let sent = model.sent.get(number);
    let is_sent = sent.is_some_and(|sent| sent.place == place && sent.key.as_deref() == first.key);
    assert!(is_sent, "check: a record was sent: {number} of {place:?}");
    Some(number)
}

fn ends(held: &Held, known: &PartitionModel, place: Place, last: Last<'_>) {
    let Held { start, end, .. } = *held;
    assert!(
        start >= known.deleted_before,
        "check: deleted records stay deleted: {place:?} starts at {start}, before {}",
        known.deleted_before
    );
    let may_start = known.purpose == Purpose::Trimmed || start == 0;
    assert!(
        may_start,
        "check: nothing is removed unasked: {place:?} starts at {start}"
    );
    let Some(before) = last.before.get(&place) else {
        return;
    };
    assert!(
        start <= before.start.max(known.asked_before),
        "check: nothing is removed by a start: {place:?} starts at {start}, not at {}",
        before.start
    );
    match last.ended {
        Ended::Process if before.is_online => assert_eq!(
            end, before.end,
            "check: a kill takes nothing: the end of {place:?}"
        ),
        Ended::Power if before.is_online && known.purpose != Purpose::Cached => assert!(
            end >= before.high_watermark,
            "check: what could be read is there: {place:?} ends at {end}, before {}",
            before.high_watermark
        ),
        _ => {}
    }
}

fn no_gaps(held: &Held, place: Place) {
    let mut next = None;
    for (base, (_, last)) in &held.batches {
        let follows = next.map_or(*base <= held.start, |next| next == *base);
        assert!(
            follows,
            "check: offsets have no gaps: {base} of {place:?} after {next:?}"
        );
        next = Some(last + 1);
    }
    let next = next.unwrap_or(held.start);
    assert_eq!(
        next, held.end,
        "check: offsets have no gaps: the end of {place:?}"
    );
}

/// Batches of an idempotent producer are there once, and in the order in which it sent them.
fn order(held: &Held, model: &Model, place: Place) {
    let mut newest = BTreeMap::new();
    for (base, (number, _)) in &held.batches {
        let sent = &model.sent[*number];
        if !sent.is_idempotent {
            continue;
        }
        let before = newest.insert(sent.producer, sent.order);
        assert!(
            before.is_none_or(|before| before < sent.order),
            "check: idempotent batches are there once and in order: {number} at {base} of {place:?}"
        );
    }
}

/// What was acknowledged or read is where it was.
fn acknowledged(held: &Held, known: &PartitionModel, place: Place, ended: Ended) -> u64 {
    let mut lost = 0;
    for (base, placed) in &known.placed {
        if placed.last < held.start {
            continue;
        }
        let found = held.batches.get(base);
        if found == Some(&(placed.number, placed.last)) {
            continue;
        }
        let must_be_there = ended == Ended::Process || placed.survives == Survives::PowerCut;
        assert!(
            !must_be_there,
            "check: nothing acknowledged is lost: batch {} at {base} of {place:?}, there is {found:?}",
            placed.number
        );
        if known.purpose == Purpose::Cached {
            lost += (placed.last - base + 1).unsigned_abs();
        }
    }
    lost
}

/// Of each key the newest record that was acknowledged is there, or a newer one.
fn keys(held: &Held, model: &Model, place: Place) {
    let mut newest: BTreeMap<&[u8], i64> = BTreeMap::new();
    for (base, (number, _)) in &held.batches {
        if let Some(key) = &model.sent[*number].key {
            newest.insert(key, *base);
        }
    }
    for (base, placed) in &model.partitions[&place].placed {
        let is_durable = placed.survives == Survives::PowerCut;
        let Some(key) = model.sent[placed.number]
            .key
            .as_deref()
            .filter(|_| is_durable)
        else {
            continue;
        };
        let found = newest.get(key).copied();
        assert!(
            found.is_some_and(|found| found >= *base),
            "check: the newest record of a key is there: {key:?} of {place:?} at {base}, found {found:?}"
        );
    }
}
