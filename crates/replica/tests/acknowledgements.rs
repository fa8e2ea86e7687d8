//! What was acknowledged survives a power cut at any moment, and many partitions are flushed by one sync.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::time::Duration;

use ottla_log::files::simulated::Simulated;
use ottla_log::files::{Files as _, Operation};
use ottla_log::planted::{Bug, planting};
use ottla_log::{Batch, LogConfig, LogDirectory, OpenFiles, Origin, StorageError};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, Uuid};
use ottla_protocol::records::{BatchBuilder, BatchOptions, BatchView};
use ottla_protocol::time::{MonotonicTime, Now, Timestamp};
use ottla_replica::logs::{NewLog, WhoseLog, delete, find, sync_and_hold};
use ottla_replica::partition::{Append, RequiredAcks, Role};
use ottla_replica::{Host, TopicSettings, Unavailable};

const NODE: NodeId = NodeId(1);
const ROOT: &str = "/data";
const WALL: Timestamp = Timestamp(1_700_000_000_000);

type Directory = ottla_replica::Directory<Simulated, Producers>;
type Partition = ottla_replica::Partition<Simulated, Producers>;
/// A partition's index, and the offset that its producer waits for.
type WaitsFor = (i32, Offset);

/// Producers get a message.
#[derive(Debug)]
struct Producers;

impl Host for Producers {
    type Producer = (WaitsFor, Sender<WaitsFor>);
    type Consumer = ();
    type Flusher = ();

    fn answer((waits_for, sender): Self::Producer, outcome: Result<(), Unavailable>) {
        if outcome.is_ok() {
            sender.send(waits_for).unwrap();
        }
    }

    fn wake((): &()) {}
    fn pass_is_due((): &()) {}
}

fn whose(index: i32) -> WhoseLog {
    let log = LogConfig {
        segment_bytes: 1000,
        index_interval_bytes: 200,
        ..LogConfig::default()
    };
    WhoseLog {
        topic: Arc::from("t"),
        topic_id: Uuid::from_parts(1, 2),
        index: PartitionIndex(index),
        settings: Arc::new(TopicSettings {
            log,
            ..TopicSettings::default()
        }),
        brokers: Arc::default(),
    }
}

fn directory(disk: &Simulated, max_delay: u64) -> Arc<Directory> {
    let log = LogDirectory::new(disk.clone(), ROOT);
    Directory::new(log, Some(0), Duration::from_millis(max_delay), ())
}

fn new_disk() -> Simulated {
    let disk = Simulated::new();
    disk.create_directory(ROOT.as_ref()).unwrap();
    disk.sync_directory("/".as_ref()).unwrap();
    disk
}

/// Creates partitions and leads them; fewer if the power is cut.
fn partitions(directory: &Arc<Directory>, count: i32) -> Vec<Arc<Partition>> {
    let new = (0..count).map_while(|index| {
        let of = whose(index);
        NewLog { directory, of }.create(WALL).ok()
    });
    let (partitions, _) = sync_and_hold(new.collect());
    let role = Role {
        node: NODE,
        leader: Some(NODE),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        replicas: vec![NODE],
        isr: vec![NODE],
        recovering: false,
    };
    let leads =
        |partition: &Arc<Partition>| partition.set_role(role.clone(), at(0).monotonic).is_ok();
    partitions.into_iter().take_while(leads).collect()
}

fn at(ms: u64) -> Now {
    Now {
        monotonic: MonotonicTime(Duration::from_millis(ms)),
        wall: WALL,
    }
}

/// Appends two records; returns the end of the log.
fn append(partition: &Arc<Partition>, acks: RequiredAcks, now: Now) -> Option<Offset> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for value in [&b"one"[..], b"two"] {
        builder.append(WALL.0, None, Some(value), &[]);
    }
    let bytes = builder.build().unwrap();
    let batches = [Batch::from(BatchView::first(&bytes).unwrap())];
    let append = Append {
        batches: &batches,
        acks,
    };
    let mut outcomes = partition.append(&[append], Origin::Client, now);
    let appended = outcomes.pop().unwrap().ok()?;
    Some(appended.last_offset.plus(1))
}

/// Appends to two partitions with producers that wait, and runs passes, until the power is cut; returns the
/// acknowledged offset of each.
fn workload(disk: &Simulated) -> [Offset; 2] {
    let (sender, answers): (_, Receiver<WaitsFor>) = mpsc::channel();
    let directory = directory(disk, 3);
    let partitions = partitions(&directory, 2);
    for step in 0..60 {
        let Some(partition) = partitions.get(usize::from(step % 3 == 0)) else {
            break;
        };
        let now = at(step);
        let Some(end) = append(partition, RequiredAcks::All, now) else {
            break;
        };
        let waits_for = (partition.index.0, end);
        if partition.replicated(end, || (waits_for, sender.clone())) {
            sender.send(waits_for).unwrap();
        }
        if step % 4 == 3
            && let Some(mut pass) = directory.begin_pass(now.monotonic)
        {
            pass.sync();
            // The power may be off.
            let _ = pass.end(now.monotonic);
        }
    }
    for partition in &partitions {
        drop(partition.take_log());
    }
    let mut acknowledged = [Offset(0); 2];
    for (index, end) in answers.try_iter() {
        let place = &mut acknowledged[usize::try_from(index).unwrap()];
        *place = end.max(*place);
    }
    acknowledged
}

/// The number of partitions that lost acknowledged records in a power cut after `changes` changes.
fn lost(changes: u64, seed: u64) -> usize {
    let disk = new_disk();
    disk.cut_power_after(changes);
    let acknowledged = workload(&disk);
    let directory = directory(&disk.power_cut(seed), 3);
    let of = |name: &str| Some(whose(name.strip_prefix("t-")?.parse().ok()?));
    let found = find(&directory, of).unwrap();
    let opened = found.existing.into_iter();
    let opened = opened.map(|existing| existing.open(WALL, &mut |_| {}).unwrap());
    let (partitions, outcome) = sync_and_hold(opened.collect());
    outcome.unwrap();
    let mut ends = [Offset(0); 2];
    for partition in partitions {
        let end = partition.offsets().unwrap().log_end;
        assert_eq!(
            end.0 % 2,
            0,
            "a torn batch, after {changes} changes, seed {seed}"
        );
        ends[usize::try_from(partition.index.0).unwrap()] = end;
    }
    let pairs = ends.iter().zip(&acknowledged);
    pairs
        .filter(|(end, acknowledged)| end < acknowledged)
        .count()
}

#[test]
fn every_acknowledged_record_survives_a_power_cut_at_any_moment() {
    let total = {
        let disk = new_disk();
        let before = disk.changes();
        let acknowledged = workload(&disk);
        assert!(acknowledged.iter().all(|end| *end > Offset(10)));
        disk.changes() - before
    };
    assert!(total > 100, "{total}");
    for changes in 0..=total {
        for seed in 0..3 {
            let lost = lost(changes, changes * 31 + seed);
            assert_eq!(lost, 0, "after {changes} changes, seed {seed}");
        }
    }
}

#[test]
fn an_answer_before_the_sync_loses_acknowledged_records() {
    let losses = || {
        (50..150)
            .map(|changes| lost(changes, changes))
            .sum::<usize>()
    };
    assert!(planting(Some(Bug::AnswerBeforeSync), losses) > 0);
}

#[test]
fn many_dirty_partitions_are_flushed_by_one_sync_of_the_file_system() {
    let disk = new_disk();
    let directory = directory(&disk, 1000);
    let partitions = partitions(&directory, 20);
    for partition in &partitions {
        append(partition, RequiredAcks::Leader, at(0)).unwrap();
    }
    assert_eq!(
        directory.next_pass(),
        Some(at(1000).monotonic),
        "nobody waits"
    );
    let count = || {
        (
            disk.count(Operation::Sync),
            disk.count(Operation::SyncFileSystem),
        )
    };
    let (syncs, of_all) = count();
    let mut pass = directory.begin_pass(at(1000).monotonic).unwrap();
    pass.sync();
    pass.end(at(1000).monotonic).unwrap();
    for partition in &partitions {
        assert_eq!(partition.offsets().unwrap().high_watermark, Offset(2));
    }
    assert_eq!(count(), (syncs, of_all + 1));
    assert_eq!(directory.next_pass(), None, "all are clean");
}

#[test]
fn min_insync_replicas_concerns_only_those_that_ask_for_all_replicas() {
    let disk = new_disk();
    let directory = directory(&disk, 1000);
    let partition = partitions(&directory, 1).remove(0);
    partition.set_settings(Arc::new(TopicSettings {
        min_insync_replicas: 2,
        ..TopicSettings::default()
    }));
    let role = Role {
        replicas: vec![NODE, NodeId(2), NodeId(3)],
        partition_epoch: 1,
        ..partition.role()
    };
    partition.set_role(role, at(0).monotonic).unwrap();
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(WALL.0, None, Some(b"x"), &[]);
    let bytes = builder.build().unwrap();
    let batches = [Batch::from(BatchView::first(&bytes).unwrap())];
    let appends = [
        RequiredAcks::Leader,
        RequiredAcks::All,
        RequiredAcks::Leader,
    ]
    .map(|acks| Append {
        batches: &batches,
        acks,
    });
    let outcomes = partition.append(&appends, Origin::Client, at(0));
    let offsets: Vec<_> = outcomes
        .iter()
        .map(|outcome| {
            outcome
                .as_ref()
                .ok()
                .map(|appended| appended.first_offset.0)
        })
        .collect();
    assert_eq!(offsets, [Some(0), None, Some(1)]);
    let refused = outcomes[1].as_ref().unwrap_err().to_string();
    assert_eq!(
        refused,
        "1 replicas are in sync, min.insync.replicas asks for 2"
    );
}

/// A directory with one partition that this node leads, and the answers to its producers.
struct One {
    disk: Simulated,
    directory: Arc<Directory>,
    partition: Arc<Partition>,
    answers: Receiver<WaitsFor>,
    sender: Sender<WaitsFor>,
}

impl One {
    fn new() -> Self {
        let disk = new_disk();
        let directory = directory(&disk, 1000);
        Self::on(disk, directory)
    }

    /// At most one file of a segment stays open.
    fn with_one_open_file() -> Self {
        let disk = new_disk();
        let open = Arc::new(OpenFiles::new(1));
        let log = LogDirectory::sharing(disk.clone(), ROOT, open);
        let directory = Directory::new(log, Some(0), Duration::from_secs(1), ());
        Self::on(disk, directory)
    }

    fn on(disk: Simulated, directory: Arc<Directory>) -> Self {
        let (sender, answers) = mpsc::channel();
        let partition = partitions(&directory, 1).remove(0);
        Self {
            disk,
            directory,
            partition,
            answers,
            sender,
        }
    }

    /// Appends with a producer that waits.
    fn produce(&self) {
        let end = append(&self.partition, RequiredAcks::All, at(0)).unwrap();
        let waits_for = (0, end);
        let is_there = self
            .partition
            .replicated(end, || (waits_for, self.sender.clone()));
        assert!(!is_there);
    }

    /// Runs the pass that is due at `ms`.
    fn pass(&self, ms: u64) -> Result<(), StorageError> {
        let now = at(ms).monotonic;
        let mut pass = self.directory.begin_pass(now).expect("a pass is due");
        pass.sync();
        pass.end(now)
    }

    fn answered(&self) -> Vec<i64> {
        self.answers.try_iter().map(|(_, end)| end.0).collect()
    }
}

#[test]
fn a_pass_that_lacks_a_file_descriptor_is_made_up_for_by_another() {
    let one = One::new();
    one.produce();
    one.pass(0).unwrap();
    assert_eq!(one.answered(), [2]);
    // The name of a new segment must be synced.
    one.partition
        .with_log(|log| log.roll(WALL))
        .unwrap()
        .unwrap();
    one.produce();
    let mut pass = one.directory.begin_pass(at(0).monotonic).unwrap();
    one.disk.limit_handles(Some(0));
    pass.sync();
    pass.end(at(0).monotonic).unwrap();
    assert_eq!(one.answered(), [0; 0]);
    one.disk.limit_handles(None);
    one.pass(1000).unwrap();
    assert_eq!(one.answered(), [4]);
}

#[test]
fn a_partition_whose_flush_could_not_begin_is_flushed_by_the_next_pass() {
    let one = One::with_one_open_file();
    one.produce();
    one.partition
        .with_log(|log| log.roll(WALL))
        .unwrap()
        .unwrap();
    one.produce();
    // The flush must open the closed segment.
    one.disk.limit_handles(Some(0));
    one.pass(0).unwrap();
    assert_eq!(one.answered(), [0; 0]);
    one.disk.limit_handles(None);
    one.pass(1000).unwrap();
    assert_eq!(one.answered(), [2, 4]);
}

#[test]
fn after_a_failed_sync_nobody_is_answered_and_nothing_is_flushed() {
    let one = One::new();
    one.produce();
    one.disk.fail_nth(Operation::Sync, 1, ErrorKind::Other);
    one.pass(0).unwrap_err();
    assert_eq!(one.answered(), [0; 0]);
    assert!(append(&one.partition, RequiredAcks::All, at(1)).is_none());
    assert!(one.directory.begin_pass(at(9999).monotonic).is_none());
    let (sender, refused) = mpsc::channel();
    assert!(
        !one.partition
            .replicated(Offset(2), || ((0, Offset(2)), sender))
    );
    let told = refused.try_recv();
    assert_eq!(
        told,
        Err(TryRecvError::Disconnected),
        "refused, not left to wait"
    );
}

#[test]
fn a_leader_begins_its_epoch_before_it_appends_anything() {
    let one = One::new();
    one.produce();
    one.pass(0).unwrap();
    let role = Role {
        leader_epoch: LeaderEpoch(7),
        ..one.partition.role()
    };
    one.partition.set_role(role, at(1).monotonic).unwrap();
    let end = one
        .partition
        .with_log(|log| log.end_of_epoch(LeaderEpoch(7)));
    let end = end.unwrap().unwrap();
    assert_eq!((end.epoch, end.end), (LeaderEpoch(7), Offset(2)));
}

#[test]
fn what_is_appended_to_a_truncated_log_is_flushed() {
    let one = One::new();
    for _ in 0..5 {
        one.produce();
    }
    one.pass(0).unwrap();
    assert_eq!(one.answered(), [2, 4, 6, 8, 10]);
    one.partition.truncate_to(Offset(4), WALL).unwrap().unwrap();
    let end = append(&one.partition, RequiredAcks::Leader, at(1)).unwrap();
    assert_eq!(end, Offset(6));
    one.pass(1001).unwrap();
    let flushed = one.partition.with_log(|log| log.flushed_offset());
    assert_eq!(flushed, Some(Offset(6)));
}

/// Other records take the offsets that the producer waits for.
#[test]
fn the_producer_of_truncated_records_is_never_acknowledged() {
    let one = One::new();
    one.produce();
    one.partition.truncate_to(Offset(0), WALL).unwrap().unwrap();
    let end = append(&one.partition, RequiredAcks::Leader, at(1)).unwrap();
    assert_eq!(end, Offset(2));
    one.pass(1001).unwrap();
    let offsets = one.partition.offsets().unwrap();
    assert_eq!(offsets.high_watermark, Offset(2));
    assert_eq!(one.answered(), [0; 0]);
}

#[test]
fn a_deleted_partition_keeps_no_file_open() {
    let one = One::new();
    one.produce();
    assert!(one.disk.open_handles() > 0);
    delete(&one.partition).unwrap();
    assert_eq!(one.disk.open_handles(), 0);
    assert!(one.directory.begin_pass(at(9999).monotonic).is_none());
}
