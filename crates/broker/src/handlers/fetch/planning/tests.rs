//! What a fetch plans to read, and which flush it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ottla_log::files::disk::Disk;
use ottla_log::files::{File as _, Files as _, Open};
use ottla_log::{Batch, Bound, Origin};
use ottla_metadata::{MetadataDelta, MetadataImage};
use ottla_protocol::ids::{NodeId, Offset, PartitionIndex, Uuid};
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::messages::metadata::{PartitionRecord, TopicRecord};
use ottla_protocol::records::{BatchBuilder, BatchOptions, split_batches};

use super::{Limits, Outcome, Planning, Settled, Target, Waits, reader};
use crate::config::BrokerConfig;
use crate::drivers::Drivers;
use crate::drivers::cold_reads::ColdReads;
use crate::fetch_sessions::{FetchKey, FetchNews, FetchTopicKey, FetchWish};
use crate::process::clock::Clock;
use crate::process::held_files::HeldFiles;
use crate::replicas::partition::{AnsweredBy, Append, Partition, RequiredAcks};
use crate::replicas::{Found, Replicas};
use ottla_replica::housekeeping::Intervals;
use ottla_replication::Replica;

/// The only partition of a topic, which nothing flushes unless it is asked to.
fn partition(directory: &Path) -> (Arc<Drivers>, Arc<Partition>) {
    partition_of(directory, vec![1])
}

/// The same with these replicas, all in sync; this node leads.
fn partition_of(directory: &Path, replicas: Vec<i32>) -> (Arc<Drivers>, Arc<Partition>) {
    let (drivers, mut all) = partitions_of(directory, replicas, 1);
    (drivers, all.remove(0))
}

/// So many of them.
fn partitions_of(
    directory: &Path,
    replicas: Vec<i32>,
    count: i32,
) -> (Arc<Drivers>, Vec<Arc<Partition>>) {
    let mut config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    config.storage.flush_max_delay = Duration::from_hours(1000);
    let mut delta = MetadataDelta::new(MetadataImage::default());
    let topic_id = Uuid::from_parts(7, 7);
    let topic = TopicRecord {
        name: "t".into(),
        topic_id,
        ..TopicRecord::default()
    };
    delta.replay(&topic.into());
    for index in 0..count {
        let record = PartitionRecord {
            partition_id: index,
            leader_epoch: 0,
            topic_id,
            isr: replicas.clone(),
            replicas: replicas.clone(),
            leader: 1,
            ..PartitionRecord::default()
        };
        delta.replay(&record.into());
    }
    let clock = Clock::start();
    let replicas = Replicas::new(&config, 10, clock);
    let drivers = Drivers::new(Arc::clone(&replicas));
    let image = delta.finish().0;
    drivers.load(&image, Intervals::default()).unwrap();
    let find = |index| match replicas.by_name("t", PartitionIndex(index)) {
        Found::Here(partition) => partition,
        found => panic!("{found:?}: the partition is here"),
    };
    let all = (0..count).map(find).collect();
    (drivers, all)
}

/// Appends a record that nobody needs on stable storage; its bytes.
fn append(partition: &Arc<Partition>) -> usize {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(0, None, Some(b"x"), &[]);
    let bytes = builder.build().unwrap();
    let batch = Batch::from(split_batches(&bytes).next().unwrap().unwrap());
    let append = Append {
        batches: &[batch],
        acks: RequiredAcks::Leader,
    };
    let outcomes = partition.append(&[append], Origin::Client, Clock::start().now());
    outcomes[0].as_ref().unwrap();
    bytes.len()
}

/// Flushes all records, so that consumers see them.
async fn flush(partition: &Arc<Partition>, end: Offset) {
    partition.make_readable(Clock::start().monotonic());
    reaches(partition, end).await;
}

async fn reaches(partition: &Arc<Partition>, end: Offset) {
    let reader = reader();
    let reached = async {
        while !partition.is_readable_to(end, &reader).unwrap() {
            reader.consumer().notified().await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_mins(1), reached).await;
    reached.expect("nobody has asked for the flush");
}

fn target(partition: &Arc<Partition>) -> Target {
    let key = FetchKey {
        topic: FetchTopicKey::Name("t".to_owned().into()),
        partition: partition.index.0,
    };
    let wish = FetchWish {
        offset: 0,
        max_bytes: i32::MAX,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        flushed: None,
        has_room: true,
    };
    let found = Ok(Arc::clone(partition));
    Target::new(key, wish, found)
}

fn limits(min_bytes: usize) -> Limits {
    Limits {
        max_bytes: usize::MAX,
        min_bytes,
        max_wait: Duration::from_hours(1),
        bound: Bound::HighWatermark,
        follower: None,
        answered_by: AnsweredBy::Leader,
        near: BTreeSet::new(),
        isr_changes: Arc::default(),
        held_files: HeldFiles::new(1),
        cold_reads: Arc::new(ColdReads::new([])),
        quotas: Arc::default(),
        clock: Clock::start(),
    }
}

fn planning(targets: impl IntoIterator<Item = Target>, limits: &Limits) -> Planning<'_> {
    let targets = targets.into_iter().enumerate().collect();
    Planning::new(targets, Settled::none(), limits)
}

async fn plan_enough(
    targets: impl IntoIterator<Item = Target>,
    limits: &Limits,
) -> BTreeMap<usize, (Target, Outcome)> {
    let targets = targets.into_iter().enumerate().collect();
    super::plan_enough(targets, Settled::none(), limits).await
}

async fn plan_all(
    targets: impl IntoIterator<Item = Target>,
    limits: &Limits,
) -> BTreeMap<usize, (Target, Outcome)> {
    let mut planning = planning(targets, limits);
    planning.plan_all().await;
    planning.finish()
}

/// The fetch of node 2 from `offset`, up to which it has flushed its log.
fn of_follower(partition: &Arc<Partition>, offset: i64) -> (Target, Limits) {
    let mut target = target(partition);
    target.wish.offset = offset;
    target.wish.current_leader_epoch = 0;
    target.wish.flushed = Some(Offset(offset));
    let limits = Limits {
        bound: Bound::LogEnd,
        follower: Some(Replica {
            node: NodeId(2),
            broker_epoch: Some(5),
        }),
        ..limits(1)
    };
    (target, limits)
}

#[tokio::test]
async fn a_follower_that_waits_gets_a_record_before_it_is_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let (_drivers, partition) = partition_of(directory.path(), vec![1, 2]);
    let (target, limits) = of_follower(&partition, 0);
    let targets = [target];
    let mut reading = pin!(plan_enough(targets, &limits));
    let is_waiting = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context).is_pending()));
    assert!(is_waiting.await);
    let size = append(&partition);
    let plans = tokio::time::timeout(Duration::from_mins(1), reading).await;
    let plans = plans.expect("an append wakes it");
    assert_eq!(plans[&0].1.as_ref().unwrap().0.plan.length, size);
}

#[tokio::test]
async fn the_high_watermark_waits_for_what_a_follower_has_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let (_drivers, partition) = partition_of(directory.path(), vec![1, 2]);
    append(&partition);
    partition.make_readable(Clock::start().monotonic());
    let high_watermark = || partition.offsets().unwrap().high_watermark;
    let (mut target, limits) = of_follower(&partition, 1);
    target.wish.flushed = Some(Offset(0));
    plan_all([target], &limits).await;
    while partition.with_log(|log| log.flushed_offset()) != Some(Offset(1)) {
        tokio::task::yield_now().await;
    }
    assert_eq!(high_watermark(), Offset(0));
    let (target, limits) = of_follower(&partition, 1);
    plan_all([target], &limits).await;
    assert_eq!(high_watermark(), Offset(1));
}

#[tokio::test]
async fn a_fetch_that_waits_does_not_count_again() {
    let directory = tempfile::tempdir().unwrap();
    let (_drivers, partition) = partition_of(directory.path(), vec![1, 2]);
    append(&partition);
    let (mut waiting, limits) = of_follower(&partition, 1);
    waiting.wish.flushed = Some(Offset(0));
    let mut planned = plan_all([waiting], &limits).await;
    let (waiting, _) = planned.remove(&0).unwrap();
    let (told, _) = of_follower(&partition, 1);
    plan_all([told], &limits).await;
    // Another append, say, wakes it. It does not know of the flush that was told since.
    plan_all([waiting], &limits).await;
    partition.make_readable(Clock::start().monotonic());
    let reached = async {
        while partition.offsets().unwrap().high_watermark < Offset(1) {
            tokio::task::yield_now().await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_mins(1), reached).await;
    reached.expect("the follower has flushed the record");
}

#[tokio::test]
async fn a_node_without_a_replica_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (_drivers, partition) = partition(directory.path());
    let (target, limits) = of_follower(&partition, 0);
    let plans = plan_all([target], &limits).await;
    assert_eq!(
        plans[&0].1.as_ref().err(),
        Some(&ErrorCode::UnknownLeaderEpoch)
    );
}

#[tokio::test]
async fn what_is_appended_behind_the_look_of_a_reader_is_flushed_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let (_replicas, partition) = partition(directory.path());
    let size = append(&partition);
    flush(&partition, Offset(1)).await;
    let (targets, limits) = ([target(&partition)], limits(2 * size));

    let mut planning = planning(targets, &limits);
    planning.plan_watched([0].into()).await;
    let look = planning.look();
    assert_eq!((look.bytes, look.unflushed), (size as u64, 0));
    append(&partition);
    planning.flush_if_enough(Waits::of(&limits));
    reaches(&partition, Offset(2)).await;
}

#[tokio::test]
async fn a_reader_that_waits_for_the_disk_holds_neither_a_thread_nor_the_lock() {
    let directory = tempfile::tempdir().unwrap();
    let (_drivers, partition) = partition(directory.path());
    let size = append(&partition);
    flush(&partition, Offset(1)).await;
    let segment = directory.path().join("t-0/00000000000000000000.log");
    Disk.open(&segment, Open::Read)
        .unwrap()
        .forget_cached(0, 4096);

    let path = partition.directory().log.path().to_path_buf();
    let cold_reads = ColdReads::new([(path.clone(), Arc::default())]);
    let (targets, mut limits) = ([target(&partition)], limits(size));
    limits.cold_reads = Arc::new(cold_reads);
    let threads = limits.cold_reads.take_all_threads(&path).await;
    let mut reading = pin!(plan_enough(targets, &limits));
    let is_waiting = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context).is_pending()));
    assert!(is_waiting.await);
    append(&partition);
    drop(threads);
    let plans = reading.await;
    let (planned, _) = plans[&0].1.as_ref().unwrap();
    assert_eq!(planned.plan.length, size);
    assert_eq!(limits.cold_reads.loaded(), 1);
}

#[tokio::test]
async fn a_reader_that_waits_holds_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let (_replicas, partition) = partition(directory.path());
    let size = append(&partition);
    flush(&partition, Offset(1)).await;
    let (targets, limits) = ([target(&partition)], limits(2 * size));
    let held_files = Arc::clone(&limits.held_files);

    let plans = plan_all([target(&partition)], &limits).await;
    assert!(held_files.are_spent(), "a plan holds the only file");
    drop(plans);
    let mut reading = pin!(plan_enough(targets, &limits));
    let is_waiting = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context).is_pending()));
    assert!(is_waiting.await);
    assert!(!held_files.are_spent());
}

/// Waits as a request does, until a partition has changed; returns the places that were planned then.
async fn planned_after(
    targets: Vec<Target>,
    limits: &Limits,
    change: impl FnOnce(),
) -> (Vec<usize>, Vec<u64>) {
    let all: BTreeSet<usize> = (0..targets.len()).collect();
    let mut planning = planning(targets, limits);
    planning.plan_watched(all.clone()).await;
    assert_eq!(planning.latest.len(), all.len());
    let due = planning.drop_reads().into_iter().collect();
    change();
    let reader = Arc::clone(&planning.settled.reader);
    tokio::time::timeout(Duration::from_mins(1), reader.consumer().notified())
        .await
        .expect("a change wakes it");
    planning.plan_watched(due).await;
    let bytes = planning
        .latest_plans()
        .map(|planned| planned.plan.length as u64);
    (planning.latest.clone(), bytes.collect())
}

#[tokio::test]
async fn a_follower_that_waits_looks_only_at_partitions_that_have_changed() {
    let directory = tempfile::tempdir().unwrap();
    let (_drivers, all) = partitions_of(directory.path(), vec![1, 2], 5);
    let (_, limits) = of_follower(&all[0], 0);
    let targets: Vec<Target> = all.iter().map(|one| of_follower(one, 0).0).collect();
    let mut size = 0;
    let planned = planned_after(targets, &limits, || size = append(&all[3])).await;
    assert_eq!(planned, (vec![3], vec![size as u64]));
}

#[tokio::test]
async fn a_request_that_begins_to_wait_looks_only_at_what_has_changed_since_its_plan() {
    let directory = tempfile::tempdir().unwrap();
    let (_drivers, all) = partitions_of(directory.path(), vec![1, 2], 3);
    let (_, limits) = of_follower(&all[0], 0);
    let targets: Vec<Target> = all.iter().map(|one| of_follower(one, 0).0).collect();
    let mut planning = planning(targets, &limits);
    planning.plan_all().await;
    append(&all[1]);
    planning.plan_watched([0, 1, 2].into()).await;
    assert_eq!(planning.latest, [1]);
    append(&all[2]);
    planning.plan_watched(BTreeSet::new()).await;
    assert_eq!(planning.latest, [2], "it watches those as well");
}

#[tokio::test]
async fn a_consumer_that_waits_also_looks_again_at_what_it_may_read_already() {
    let directory = tempfile::tempdir().unwrap();
    let (_drivers, all) = partitions_of(directory.path(), vec![1], 4);
    let size = append(&all[2]);
    flush(&all[2], Offset(1)).await;
    let targets: Vec<Target> = all.iter().map(target).collect();
    let change = || {
        append(&all[1]);
        all[1].make_readable(Clock::start().monotonic());
    };
    let mut limits = limits(2 * size);
    limits.held_files = HeldFiles::new(2);
    let planned = planned_after(targets, &limits, change).await;
    assert_eq!(planned, (vec![1, 2], vec![size as u64; 2]));
}

#[tokio::test]
async fn records_that_nothing_has_flushed_yet_count_when_something_else_wakes_the_consumer() {
    let directory = tempfile::tempdir().unwrap();
    let (_drivers, all) = partitions_of(directory.path(), vec![1], 3);
    let targets: Vec<Target> = all.iter().map(target).collect();
    let limits = limits(usize::MAX);
    let mut planning = planning(targets, &limits);
    planning.plan_watched([0, 1, 2].into()).await;
    let size = append(&all[1]);
    planning.plan_watched(BTreeSet::new()).await;
    assert_eq!(planning.latest, [1]);
    assert_eq!(planning.look().unflushed, size as u64);
}

#[tokio::test]
async fn an_answer_after_a_wait_tells_the_high_watermark_of_now() {
    let directory = tempfile::tempdir().unwrap();
    let (_drivers, all) = partitions_of(directory.path(), vec![1, 2], 2);
    append(&all[0]);
    all[0].make_readable(Clock::start().monotonic());
    let targets: Vec<Target> = all
        .iter()
        .zip([1, 0])
        .map(|(one, offset)| {
            let mut target = of_follower(one, offset).0;
            target.wish.flushed = Some(Offset(0));
            target
        })
        .collect();
    let (_, limits) = of_follower(&all[0], 0);
    let mut reading = pin!(plan_enough(targets, &limits));
    let is_waiting = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context).is_pending()));
    assert!(is_waiting.await);
    let (told, _) = of_follower(&all[0], 1);
    plan_all([told], &limits).await;
    reaches(&all[0], Offset(1)).await;
    append(&all[1]);
    let plans = tokio::time::timeout(Duration::from_mins(1), reading).await;
    let plans = plans.expect("an append wakes it");
    let told = plans[&0].1.as_ref().unwrap().0.offsets;
    assert_eq!(told.high_watermark, Offset(1));
}

/// A session for which one of two partitions is settled waits, and is woken by a change of that one.
#[tokio::test]
async fn a_partition_that_was_settled_joins_the_request_when_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let (_drivers, all) = partitions_of(directory.path(), vec![1, 2], 2);
    let limits = of_follower(&all[0], 0).1;
    let find_first = || of_follower(&all[0], 0).0;
    let session_reader = reader();
    let mut planned = plan_all([find_first()], &limits).await;
    let (first, plan) = planned.remove(&0).unwrap();
    let offsets = plan.unwrap().0.offsets;
    let news = FetchNews {
        records_bytes: 0,
        high_watermark: offsets.high_watermark.0,
        log_start_offset: offsets.log_start.0,
        must_be_told: false,
        is_error: false,
    };
    let stale = FetchNews {
        high_watermark: -1,
        ..news
    };
    assert!(
        first
            .settle((&session_reader, 7), &stale, &limits)
            .is_none()
    );
    assert!(first.settle((&session_reader, 7), &news, &limits).is_some());
    let find = |place| (place == 7).then(find_first);
    let settled = Settled {
        count: 1,
        reader: session_reader,
        find: &find,
    };
    let second = of_follower(&all[1], 0).0;
    let mut reading = pin!(super::plan_enough([(9, second)].into(), settled, &limits));
    let is_waiting = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context).is_pending()));
    assert!(is_waiting.await);
    let size = append(&all[0]);
    let plans = tokio::time::timeout(Duration::from_mins(1), reading).await;
    let plans = plans.expect("an append wakes it");
    let bytes = plans.iter().map(|(place, (_, plan))| {
        let length = plan.as_ref().unwrap().0.plan.length;
        (*place, length)
    });
    assert_eq!(bytes.collect::<Vec<_>>(), [(7, size), (9, 0)]);
}
