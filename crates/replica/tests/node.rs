//! A node creates, finds, deletes and reopens its partitions as the metadata says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod nobody;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use ottla_log::checkpoint::{
    PartitionOffsets, RECOVERY_POINTS, read_leader_epochs, read_offsets, was_clean_shutdown,
    write_offsets,
};
use ottla_log::files::simulated::Simulated;
use ottla_log::files::{Files as _, Operation};
use ottla_log::{Batch, LogDirectory, Origin};
use ottla_metadata::effective::StaticConfigs;
use ottla_metadata::partition::LOST;
use ottla_metadata::{Changes, ConfigResource, MetadataImage, MetadataVersion, Partition, Topic};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, Uuid};
use ottla_protocol::records::{BatchBuilder, BatchOptions, BatchView};
use ottla_protocol::time::{MonotonicTime, Now, Timestamp};
use ottla_replica::checkpoints::{ensure_log_starts, write_recovery_points};
use ottla_replica::node::Found;
use ottla_replica::partition::{Append, RequiredAcks};
use ottla_replica::stalls::{STALLED_AFTER, Task};
use ottla_replica::{Directory, InOrder, Workers};

use nobody::Nobody;

type Node = ottla_replica::Node<Simulated, Nobody>;

const NODE: NodeId = NodeId(1);
const NOW: Now = Now {
    monotonic: MonotonicTime(Duration::from_secs(100)),
    wall: Timestamp(1_700_000_000_000),
};
const TOPIC: Uuid = Uuid::from_parts(9, 1);

fn directory_id(number: u64) -> Uuid {
    Uuid::from_parts(5, number)
}

/// A node with log directories of these names.
fn node(disk: &Simulated, paths: &[&str]) -> Node {
    let directories = (1..).zip(paths).map(|(number, path)| {
        disk.create_directory(path.as_ref()).unwrap();
        let log = LogDirectory::new(disk.clone(), path);
        let directory = Directory::new(log, Some(0), Duration::from_millis(5), ());
        directory.id.set(directory_id(number)).unwrap();
        directory
    });
    let statics = StaticConfigs {
        node: NODE,
        ..StaticConfigs::default()
    };
    Node::new(statics, directories.collect())
}

/// Topic `t` with partitions that this node leads; `directories` are their log directories.
fn image(directories: &[Uuid]) -> MetadataImage {
    image_of(TOPIC, directories)
}

fn image_of(id: Uuid, directories: &[Uuid]) -> MetadataImage {
    let partitions = (0..).zip(directories).map(|(index, directory)| {
        let partition = Partition {
            replicas: vec![NODE],
            directories: vec![*directory],
            isr: vec![NODE],
            removing: Vec::new(),
            adding: Vec::new(),
            leader: Some(NODE),
            recovering: false,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            eligible_leaders: Vec::new(),
            last_known_eligible_leaders: Vec::new(),
        };
        (PartitionIndex(index), partition)
    });
    let topic = Topic {
        name: "t".to_owned(),
        id,
        partitions: partitions.collect(),
    };
    let mut image = MetadataImage::default();
    image.topic_ids.insert("t".to_owned(), id);
    image.topics.insert(id, Arc::new(topic));
    image
}

/// The id of no directory: the node chooses.
const ANYWHERE: Uuid = Uuid::from_parts(0, 1);

fn deletion() -> Changes {
    Changes {
        deleted_topics: [(TOPIC, "t".to_owned())].into(),
        ..Changes::default()
    }
}

fn apply(node: &Node, image: &MetadataImage, changes: &Changes, now: Now) {
    for job in node.plan(image, changes, now.monotonic) {
        let errors = node.perform(&job, &InOrder, now);
        assert!(errors.is_empty(), "{errors:?}");
    }
}

fn make(node: &Node, image: &MetadataImage) {
    apply(node, image, &node.everything_in(image), NOW);
}

/// The directory of partition `index`, if it is here.
fn place(node: &Node, index: i32) -> Option<String> {
    match node.by_name("t", PartitionIndex(index)) {
        Found::Here(partition) => Some(partition.directory().log.path().display().to_string()),
        Found::Elsewhere => None,
        missing => panic!("{missing:?}"),
    }
}

fn names(disk: &Simulated, path: &str) -> Vec<String> {
    let entries = disk.list(path.as_ref()).unwrap().into_iter();
    let mut names: Vec<_> = entries
        .filter(|entry| entry.is_directory)
        .map(|entry| entry.name)
        .collect();
    names.sort();
    names
}

/// The first half of a start.
fn open_existing(node: &Node, metadata: &MetadataImage) {
    let existing = node.find_logs(metadata, NOW.monotonic).unwrap();
    assert_eq!(
        place(node, 0),
        None,
        "its topic is known, its log is not open"
    );
    let opened = existing
        .into_iter()
        .flatten()
        .map(|existing| existing.open(NOW.wall, &mut |_| {}).unwrap());
    node.hold(opened.collect()).unwrap();
}

#[test]
fn a_partition_is_made_led_and_found_again_by_the_next_start() {
    let disk = Simulated::new();
    let metadata = image(&[ANYWHERE]);
    {
        let node = node(&disk, &["/one"]);
        make(&node, &metadata);
        assert!(node.all()[0].role().is_leader());
    }
    let node = node(&disk, &["/one"]);
    open_existing(&node, &metadata);
    assert_eq!(place(&node, 0).as_deref(), Some("/one"));
    assert!(
        !node.all()[0].role().is_leader(),
        "its role comes by a change"
    );
    make(&node, &metadata);
    assert!(node.all()[0].role().is_leader());
    assert!(matches!(
        node.by_name("t", PartitionIndex(1)),
        Found::UnknownPartition
    ));
    assert!(matches!(
        node.by_name("u", PartitionIndex(0)),
        Found::UnknownTopic
    ));
}

#[test]
fn new_partitions_go_where_the_metadata_says_or_else_where_the_fewest_are() {
    let disk = Simulated::new();
    let node = node(&disk, &["/one", "/two"]);
    let two = directory_id(2);
    make(&node, &image(&[two, ANYWHERE, ANYWHERE, ANYWHERE]));
    let places: Vec<_> = (0..4).map(|index| place(&node, index).unwrap()).collect();
    assert_eq!(places, ["/two", "/one", "/one", "/two"]);
}

#[test]
fn no_empty_log_replaces_one_in_a_directory_that_is_missing() {
    let disk = Simulated::new();
    let node = node(&disk, &["/one"]);
    make(&node, &image(&[directory_id(7), ANYWHERE]));
    assert_eq!(place(&node, 0), None);
    assert_eq!(names(&disk, "/one"), ["t-1"]);
}

/// Topic `t` in a cluster that records in which directory a replica is.
fn recorded(directories: &[Uuid]) -> MetadataImage {
    let mut image = image(directories);
    let level = MetadataVersion::OF_NEW_CLUSTERS.0;
    image.features.insert("metadata.version".to_owned(), level);
    image
}

/// The next start without `/two`, which has one of two logs.
fn start_without_two(metadata: &MetadataImage) -> (Simulated, Node) {
    let disk = Simulated::new();
    make(&node(&disk, &["/one", "/two"]), metadata);
    assert_eq!(names(&disk, "/two"), ["t-1"]);
    let node = node(&disk, &["/one"]).lacking_directories(true);
    open_existing(&node, metadata);
    make(&node, metadata);
    (disk, node)
}

#[test]
fn a_log_that_may_be_in_a_directory_that_failed_is_not_made_anew() {
    for metadata in [image(&[ANYWHERE; 2]), recorded(&[ANYWHERE; 2])] {
        let (disk, node) = start_without_two(&metadata);
        assert_eq!(names(&disk, "/one"), ["t-0"]);
        assert!(node.withholds((TOPIC, PartitionIndex(1))));
        assert!(!node.withholds((TOPIC, PartitionIndex(0))));
        // A change of it changes nothing, whether it is in sync or not, and what is new is made.
        make(&node, &without_claim(metadata));
        let mut changed = recorded(&[ANYWHERE; 3]);
        make(&node, &changed);
        assert_eq!(names(&disk, "/one"), ["t-0", "t-2"]);
        changed = recorded(&[directory_id(1), LOST, directory_id(1)]);
        make(&node, &changed);
        assert_eq!(names(&disk, "/one"), ["t-0", "t-2"]);
    }
}

/// The replica of `t-1` is not in sync any more: another broker leads.
fn without_claim(mut image: MetadataImage) -> MetadataImage {
    let mut topic = Topic::clone(&image.topics[&TOPIC]);
    let state = topic.partitions.get_mut(&PartitionIndex(1)).unwrap();
    state.replicas.push(NodeId(2));
    state.directories.push(ANYWHERE);
    state.isr = vec![NodeId(2)];
    state.leader = Some(NodeId(2));
    image.topics.insert(TOPIC, Arc::new(topic));
    image
}

#[test]
fn a_lost_replica_is_made_anew_when_all_directories_are_there_and_no_claim_is_left() {
    let lost = recorded(&[directory_id(1), LOST]);
    let disk = Simulated::new();
    let whole = node(&disk, &["/one", "/two"]);
    make(&whole, &lost);
    assert_eq!(place(&whole, 1), None, "it would lead without its records");
    make(&whole, &without_claim(lost));
    assert_eq!(place(&whole, 1).as_deref(), Some("/two"));
}

#[test]
fn a_stalled_directory_gets_no_new_partitions() {
    let disk = Simulated::new();
    let node = node(&disk, &["/one", "/two"]);
    let stalls = &node.directories()[0].stalls;
    stalls.mark(Task::Flush, NOW.monotonic);
    let later = Now {
        monotonic: NOW.monotonic.after(STALLED_AFTER),
        ..NOW
    };
    let metadata = image(&[ANYWHERE, ANYWHERE]);
    apply(&node, &metadata, &node.everything_in(&metadata), later);
    assert_eq!(names(&disk, "/one"), [] as [String; 0]);
    assert_eq!(names(&disk, "/two"), ["t-0", "t-1"]);
}

/// Deletes the topic while its partitions are made.
struct DeletesMeanwhile<'a>(&'a Node);

impl Workers for DeletesMeanwhile<'_> {
    fn each<T: Send, R: Send>(&self, tasks: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        let done = InOrder.each(tasks, work);
        let jobs = self
            .0
            .plan(&MetadataImage::default(), &deletion(), NOW.monotonic);
        assert!(jobs.is_empty(), "nothing of it is here yet");
        done
    }

    fn disk_answered(&self) {}
}

#[test]
fn a_topic_that_is_deleted_while_its_partition_is_made_leaves_no_log() {
    let disk = Simulated::new();
    let node = node(&disk, &["/one"]);
    let metadata = image(&[ANYWHERE]);
    let mut jobs = node.plan(&metadata, &node.everything_in(&metadata), NOW.monotonic);
    let job = jobs.pop().unwrap();
    let errors = node.perform(&job, &DeletesMeanwhile(&node), NOW);
    assert!(errors.is_empty() && node.all().is_empty(), "{errors:?}");
    let renamed = names(&disk, "/one");
    assert_eq!(renamed.len(), 1);
    assert!(renamed[0].ends_with("-delete"), "{renamed:?}");
}

#[test]
fn the_files_of_a_deleted_partition_go_after_their_delay() {
    let disk = Simulated::new();
    let node = node(&disk, &["/one"]);
    make(&node, &image(&[ANYWHERE]));
    let delay = node.all()[0].settings().delete_delay;
    apply(&node, &MetadataImage::default(), &deletion(), NOW);
    let directory = &node.directories()[0];
    assert!(node.take_removals(directory, NOW.monotonic).is_empty());
    let due = NOW.monotonic.after(delay);
    assert_eq!(node.take_removals(directory, due).len(), 1);
    assert!(node.take_removals(directory, due).is_empty());
}

#[test]
fn two_jobs_that_are_added_up_are_done_as_the_later_metadata_has_it() {
    let disk = Simulated::new();
    let node = node(&disk, &["/one"]);
    let earlier = image(&[ANYWHERE]);
    let mut jobs = node.plan(&earlier, &node.everything_in(&earlier), NOW.monotonic);
    let mut job = jobs.pop().unwrap();
    let mut later = image(&[ANYWHERE, ANYWHERE]);
    let configs = [("flush.messages".to_owned(), "7".to_owned())];
    let topic = ConfigResource::topic("t");
    later
        .configs
        .insert(topic.clone(), configs.into_iter().collect());
    let changes = Changes {
        partitions: [(TOPIC, PartitionIndex(1))].into(),
        configs: [topic].into(),
        ..Changes::default()
    };
    job.add(node.plan(&later, &changes, NOW.monotonic).pop().unwrap());
    assert!(node.perform(&job, &InOrder, NOW).is_empty());
    let flush_messages: Vec<_> = node
        .all()
        .iter()
        .map(|partition| partition.settings().flush_messages)
        .collect();
    assert_eq!(flush_messages, [7, 7]);
}

#[test]
fn a_directory_that_was_closed_is_marked_and_is_closed_once() {
    let disk = Simulated::new();
    let node = node(&disk, &["/one"]);
    make(&node, &image(&[ANYWHERE]));
    let directory = &node.directories()[0];
    node.close_directory(directory, &InOrder, 7).unwrap();
    let path = "/one".as_ref();
    assert!(was_clean_shutdown(&disk, path).unwrap());
    let points = read_offsets(&disk, path, RECOVERY_POINTS).unwrap();
    assert_eq!(points.len(), 1);
    let changes = disk.changes();
    node.close_directory(directory, &InOrder, 7).unwrap();
    assert_eq!(disk.changes(), changes);
}

/// With the mark, the next start would read nothing and not notice lost records.
#[test]
fn a_directory_that_could_not_be_closed_is_not_marked() {
    let mut failures = 0;
    for operation in [Operation::Sync, Operation::SyncDirectory, Operation::Write] {
        for nth in 1..=3 {
            let disk = Simulated::new();
            let node = node(&disk, &["/one"]);
            make(&node, &image(&[ANYWHERE]));
            disk.fail_nth(operation, nth, ErrorKind::Other);
            let directory = &node.directories()[0];
            let is_closed = node.close_directory(directory, &InOrder, 7).is_ok();
            let is_marked = was_clean_shutdown(&disk, "/one".as_ref()).unwrap();
            // The last sync of a close is that of the mark's own name.
            assert!(is_closed || !is_marked || operation == Operation::SyncDirectory);
            failures += u32::from(!is_closed);
        }
    }
    assert!(failures >= 7, "{failures}");
}

#[test]
fn a_checkpoint_that_cannot_be_written_takes_the_directory_offline_unless_the_disk_is_full() {
    for (kind, is_offline) in [(ErrorKind::Other, true), (ErrorKind::StorageFull, false)] {
        let disk = Simulated::new();
        let node = node(&disk, &["/one"]);
        make(&node, &image(&[ANYWHERE]));
        let directory = &node.directories()[0];
        disk.fail_nth(Operation::Write, 1, kind);
        let here = || node.all_in(directory);
        write_recovery_points(directory, here).unwrap_err();
        assert_eq!(directory.log.failure().is_some(), is_offline, "{kind}");
    }
}

#[test]
fn log_starts_of_a_directory_that_has_failed_are_not_taken_for_written() {
    let disk = Simulated::new();
    let node = node(&disk, &["/one"]);
    make(&node, &image(&[ANYWHERE]));
    let directory = &node.directories()[0];
    ensure_log_starts(directory, || node.all_in(directory)).unwrap();
    disk.fail_nth(Operation::Write, 1, ErrorKind::Other);
    write_recovery_points(directory, || node.all_in(directory)).unwrap_err();
    ensure_log_starts(directory, || node.all_in(directory)).unwrap_err();
}

#[test]
fn a_deletion_that_cannot_be_synced_takes_the_directory_offline() {
    let disk = Simulated::new();
    let node = node(&disk, &["/one"]);
    let metadata = image(&[ANYWHERE]);
    make(&node, &metadata);
    disk.fail_nth(Operation::SyncDirectory, 1, ErrorKind::StorageFull);
    for job in node.plan(&MetadataImage::default(), &deletion(), NOW.monotonic) {
        assert_eq!(node.perform(&job, &InOrder, NOW).len(), 1);
    }
    assert!(node.directories()[0].log.failure().is_some());
}

/// What is appended below a recovery point counts as damage where it is torn, and stays.
#[test]
fn a_start_lowers_a_recovery_point_beyond_the_end_of_its_log() {
    let disk = Simulated::new();
    let metadata = image(&[ANYWHERE]);
    make(&node(&disk, &["/one"]), &metadata);
    let path = "/one".as_ref();
    let point = |offset| PartitionOffsets::from([(("t".to_owned(), 0), Offset(offset))]);
    write_offsets(&disk, path, RECOVERY_POINTS, &point(9)).unwrap();
    let node = node(&disk, &["/one"]);
    open_existing(&node, &metadata);
    let points = read_offsets(&disk, path, RECOVERY_POINTS).unwrap();
    assert_eq!(points, point(0));
}

/// The new partition would have leader epochs in which nobody appended to it.
#[test]
fn a_checkpoint_of_a_deleted_partition_writes_nothing_into_a_new_one_of_its_name() {
    let disk = Simulated::new();
    let node = node(&disk, &["/one"]);
    make(&node, &image(&[ANYWHERE]));
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(NOW.wall.0, None, Some(b"value"), &[]);
    let bytes = builder.build().unwrap();
    let append = Append {
        batches: &[Batch::from(BatchView::first(&bytes).unwrap())],
        acks: RequiredAcks::Leader,
    };
    let deleted = node.all().remove(0);
    let appended = deleted.append(&[append], Origin::Client, NOW).remove(0);
    assert!(appended.is_ok(), "{appended:?}");
    let checkpoint = deleted.with_log(|log| {
        log.flush().unwrap();
        log.begin_checkpoint().unwrap().unwrap()
    });
    apply(&node, &MetadataImage::default(), &deletion(), NOW);
    make(&node, &image_of(Uuid::from_parts(9, 2), &[ANYWHERE]));
    let _ = checkpoint.unwrap().run();
    let epochs = read_leader_epochs(&disk, "/one/t-0".as_ref()).unwrap();
    assert_eq!(epochs.entries().count(), 0);
}
