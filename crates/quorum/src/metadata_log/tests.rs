//! Tests of the metadata log over simulated files: restarts, power cuts at every change, damage, full disks.

use super::{Failure, Location, MetadataLog, OpenError, Opened, ProposeError, Settings};
use crate::checkpoint::SnapshotId;
use crate::directory::{self, DirectoryState, Format, METADATA_DIRECTORY};
use crate::voter::{Voter, VoterEndpoint};
use ottla_log::files::simulated::Simulated;
use ottla_log::files::{File, FileError, Files, Open, Operation, read_whole, replace_durably};
use ottla_metadata::{Loader, MetadataImage, MetadataVersion};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, Uuid};
use ottla_protocol::messages::metadata::{FeatureLevelRecord, MetadataRecord, TopicRecord};
use ottla_protocol::time::Timestamp;
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

pub(crate) const VERSION: MetadataVersion = MetadataVersion::LATEST;
pub(crate) const NOW: Timestamp = Timestamp(1_795_488_512_562);

fn data() -> &'static Path {
    Path::new("/data")
}

pub(crate) fn log_directory() -> PathBuf {
    data().join(METADATA_DIRECTORY)
}

pub(crate) fn voter() -> Voter {
    Voter {
        node_id: NodeId(1),
        directory_id: Uuid::from_parts(5, 5),
        endpoints: vec![VoterEndpoint {
            listener: "CONTROLLER".into(),
            host: "127.0.0.1".into(),
            port: 9093,
        }],
    }
}

fn bootstrap() -> Vec<MetadataRecord> {
    vec![
        FeatureLevelRecord {
            name: "metadata.version".into(),
            feature_level: VERSION.0,
            ..FeatureLevelRecord::default()
        }
        .into(),
    ]
}

pub(crate) fn formatted() -> Simulated {
    let files = Simulated::new();
    format_into(&files).unwrap();
    files
}

fn format_into(files: &Simulated) -> Result<(), crate::WriteError> {
    let voter = voter();
    directory::format(
        files,
        &Format {
            cluster_id: "cluster",
            node_id: NodeId(1),
            directories: &[(data(), voter.directory_id)],
            metadata_directory: data(),
            voters: std::slice::from_ref(&voter),
            bootstrap: &bootstrap(),
            version: VERSION,
            now: NOW,
        },
    )
}

pub(crate) fn small() -> Settings {
    Settings {
        segment_bytes: 600,
        snapshot_bytes: 900,
        batch_bytes: 8 * 1024,
        reserved_bytes: 4096,
        ..Settings::default()
    }
}

pub(crate) fn open(files: &Simulated, settings: Settings) -> Result<Opened<Simulated>, OpenError> {
    MetadataLog::open(
        files.clone(),
        Location {
            directory: &log_directory(),
            cluster_id: "cluster",
        },
        voter(),
        settings,
        NOW,
    )
}

pub(crate) fn topic(number: u64) -> MetadataRecord {
    TopicRecord {
        name: format!("topic-{number}"),
        topic_id: Uuid::from_parts(9, number),
        ..TopicRecord::default()
    }
    .into()
}

pub(crate) fn topics(image: &MetadataImage) -> Vec<u64> {
    let number = |id: &Uuid| id.least_significant_bits();
    image.topics.keys().map(number).collect()
}

/// A node that proposes, applies, and takes snapshots when they are due, as the broker does.
struct Node {
    log: MetadataLog<Simulated>,
    loader: Loader,
}

impl Node {
    fn start(files: &Simulated, settings: Settings) -> Result<Self, OpenError> {
        let Opened { log, loader, .. } = open(files, settings)?;
        Ok(Self { log, loader })
    }

    fn create(&mut self, number: u64) -> Result<(), ProposeError> {
        let record = topic(number);
        self.log
            .propose(std::slice::from_ref(&record), VERSION, NOW)?;
        self.loader.load([&record]);
        if self.log.is_snapshot_due() {
            let _ = self.snapshot();
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<bool, FileError> {
        let Some(job) = self.log.begin_snapshot(&self.loader, NOW)? else {
            return Ok(false);
        };
        match job.write() {
            Ok(written) => self.log.adopt_snapshot(written).map(|()| true),
            Err(crate::WriteError::File(error)) => Err(error),
            Err(crate::WriteError::Record(error)) => panic!("{error}"),
        }
    }
}

#[test]
fn every_start_leads_in_a_higher_epoch() {
    let files = formatted();
    for expected in 1..4 {
        let opened = open(&files, Settings::default()).unwrap();
        assert_eq!(opened.log.epoch(), LeaderEpoch(expected));
    }
}

#[test]
fn epochs_do_not_regress_when_the_log_is_lost() {
    let files = formatted();
    open(&files, Settings::default()).unwrap();
    open(&files, Settings::default()).unwrap();
    let path = log_directory().join("00000000000000000000.log");
    files.open(&path, Open::Replace).unwrap();
    let opened = open(&files, Settings::default()).unwrap();
    assert_eq!(opened.log.epoch(), LeaderEpoch(3));
}

#[test]
fn the_first_epoch_is_above_the_one_that_kafka_left_in_its_quorum_state() {
    let files = formatted();
    // As Kafka 4.3.1 leaves it: it has voted for itself in an epoch that has no batch yet.
    let state = format!(
        "{{\"leaderId\":-1,\"leaderEpoch\":41,\"votedId\":1,\"votedDirectoryId\":\"{}\",\"data_version\":1}}",
        voter().directory_id
    );
    let path = log_directory().join("quorum-state");
    replace_durably(&files, &path, state.as_bytes()).unwrap();
    let opened = open(&files, Settings::default()).unwrap();
    assert_eq!(opened.log.epoch(), LeaderEpoch(42));
    let left = read_whole(&files, &path, 1000).unwrap().unwrap();
    let left = String::from_utf8(left).unwrap();
    assert!(
        left.contains("\"leaderId\":1,\"leaderEpoch\":42,"),
        "{left}"
    );
}

#[test]
fn the_first_epoch_is_above_those_of_log_and_snapshot_if_quorum_state_is_old_or_gone() {
    let files = formatted();
    let state = log_directory().join("quorum-state");
    open(&files, Settings::default()).unwrap();
    let old = read_whole(&files, &state, 1000).unwrap().unwrap();
    open(&files, Settings::default()).unwrap();
    replace_durably(&files, &state, &old).unwrap();
    assert_eq!(next_epoch(&files), LeaderEpoch(3));
    files.remove(&state).unwrap();
    assert_eq!(next_epoch(&files), LeaderEpoch(4));
    let mut node = Node::start(&files, small()).unwrap();
    node.create(1).unwrap();
    assert!(node.snapshot().unwrap(), "a snapshot of epoch 5");
    drop(node);
    for entry in files.list(&log_directory()).unwrap() {
        if !entry.name.ends_with(".checkpoint") {
            files.remove(&log_directory().join(entry.name)).unwrap();
        }
    }
    assert_eq!(next_epoch(&files), LeaderEpoch(6));
}

fn next_epoch(files: &Simulated) -> LeaderEpoch {
    open(files, Settings::default()).unwrap().log.epoch()
}

#[test]
fn the_first_epoch_puts_the_voters_into_the_log_and_later_ones_do_not() {
    let files = formatted();
    let first = open(&files, Settings::default()).unwrap().log;
    assert_eq!(first.end_offset(), Offset(3));
    let second = open(&files, Settings::default()).unwrap().log;
    assert_eq!(second.end_offset(), Offset(4));
}

#[test]
fn a_voter_with_new_endpoints_is_put_into_the_log_again() {
    let files = formatted();
    open(&files, Settings::default()).unwrap();
    let mut moved = voter();
    moved.endpoints[0].port = 1;
    let opened = MetadataLog::open(
        files.clone(),
        Location {
            directory: &log_directory(),
            cluster_id: "cluster",
        },
        moved.clone(),
        Settings::default(),
        NOW,
    );
    let log = opened.unwrap().log;
    assert_eq!(log.end_offset(), Offset(6));
    assert_eq!(log.status().voters, [moved]);
}

#[test]
fn the_directory_of_another_voter_is_refused() {
    let files = formatted();
    let mut other = voter();
    other.directory_id = Uuid::from_parts(6, 6);
    let opened = MetadataLog::open(
        files,
        Location {
            directory: &log_directory(),
            cluster_id: "cluster",
        },
        other,
        Settings::default(),
        NOW,
    );
    assert!(matches!(opened, Err(OpenError::OtherVoters { .. })));
}

#[test]
fn what_was_proposed_is_there_after_a_restart_across_rolls_and_snapshots() {
    let files = formatted();
    let mut node = Node::start(&files, small()).unwrap();
    for number in 0..200 {
        node.create(number).unwrap();
    }
    let end = node.log.end_offset();
    drop(node);
    let opened = open(&files, small()).unwrap();
    assert_eq!(topics(opened.loader.image()), (0..200).collect::<Vec<_>>());
    assert_eq!(opened.log.end_offset(), end.plus(1));
    assert!(opened.restored.is_some_and(|id| id.end_offset.0 > 0));
}

#[test]
fn snapshots_and_log_are_purged() {
    let files = formatted();
    let mut node = Node::start(&files, small()).unwrap();
    for number in 0..500 {
        node.create(number % 20).unwrap();
    }
    let entries = files.list(&log_directory()).unwrap();
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let snapshots = names.iter().filter(|name| name.ends_with(".checkpoint"));
    assert_eq!(snapshots.count(), 2, "{names:?}");
    let segments = names
        .iter()
        .filter(|name| !name.contains('-') && name.contains(".log"));
    assert!(segments.count() < 12, "{names:?}");
    assert!(node.log.status().log_start > Offset(300));
}

#[test]
fn the_log_replaces_a_damaged_newest_snapshot() {
    let files = formatted();
    let mut node = Node::start(&files, Settings::default()).unwrap();
    for number in 0..10 {
        node.create(number).unwrap();
        if number % 3 == 2 {
            assert!(node.snapshot().unwrap());
        }
    }
    let newest = *node.log.snapshots.last_key_value().unwrap().0;
    drop(node);
    let path = log_directory().join(newest.file_name());
    let file = files.open(&path, Open::Write).unwrap();
    file.write_at(&[IoSlice::new(b"damage")], 80).unwrap();
    let opened = open(&files, Settings::default()).unwrap();
    assert_eq!(topics(opened.loader.image()), (0..10).collect::<Vec<_>>());
    assert!(opened.restored.is_some_and(|id| id < newest));
}

#[test]
fn a_change_larger_than_a_batch_becomes_a_transaction() {
    let files = formatted();
    let mut node = Node::start(&files, small()).unwrap();
    let records: Vec<_> = (0..1000).map(topic).collect();
    node.log.propose(&records, VERSION, NOW).unwrap();
    let opened = open(&files, small()).unwrap();
    assert_eq!(opened.loader.image().topics.len(), 1000);
    assert!(!opened.loader.in_transaction());
    let refused = node.log.propose(&records, MetadataVersion(12), NOW);
    assert!(matches!(refused, Err(ProposeError::TooLarge)));
}

#[test]
fn a_torn_last_batch_is_cut_off_at_every_byte() {
    let files = formatted();
    let mut node = Node::start(&files, Settings::default()).unwrap();
    node.create(1).unwrap();
    let whole = node.log.active_size;
    node.create(2).unwrap();
    let path = log_directory().join("00000000000000000000.log");
    let bytes = read_whole(&files, &path, 1 << 20).unwrap().unwrap();
    for length in usize::try_from(whole).unwrap()..bytes.len() {
        let copy = files.process_killed();
        let file = copy.open(&path, Open::Write).unwrap();
        file.truncate(length as u64).unwrap();
        let opened = open(&copy, Settings::default()).unwrap();
        assert_eq!(topics(opened.loader.image()), [1], "cut at {length}");
        assert_eq!(opened.cut_bytes, length as u64 - whole);
    }
}

#[test]
fn damage_before_the_last_batch_refuses_the_open() {
    let files = formatted();
    let mut node = Node::start(&files, Settings::default()).unwrap();
    for number in 0..3 {
        node.create(number).unwrap();
    }
    let path = log_directory().join("00000000000000000000.log");
    let last_batch = 61 + 30;
    let damaged_up_to = node.log.active_size - 2 * last_batch;
    for position in (0..damaged_up_to).step_by(7) {
        let copy = files.process_killed();
        let file = copy.open(&path, Open::Write).unwrap();
        let mut byte = [0];
        file.read_at(&mut byte, position).unwrap();
        byte[0] ^= 0x5a;
        file.write_at(&[IoSlice::new(&byte)], position).unwrap();
        let opened = open(&copy, Settings::default());
        // Offset and epoch are not covered by the CRC; a changed epoch reads as another leader's batch.
        let is_epoch = opened
            .as_ref()
            .is_ok_and(|opened| topics(opened.loader.image()) == [0, 1, 2]);
        assert!(
            is_epoch || matches!(opened, Err(OpenError::Damaged { .. })),
            "damage at {position}"
        );
    }
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let files = formatted();
    let mut node = Node::start(&files, Settings::default()).unwrap();
    node.create(1).unwrap();
    files.limit_space(Some(0));
    assert!(matches!(node.create(2), Err(ProposeError::Full(_))));
    files.limit_space(None);
    node.create(3).unwrap();
    let opened = open(&files, Settings::default()).unwrap();
    assert_eq!(topics(opened.loader.image()), [1, 3]);
}

#[test]
fn a_disk_that_fills_up_in_a_transaction_fails_the_log() {
    let records: Vec<_> = (0..1000).map(topic).collect();
    let mut outcomes = Vec::new();
    for space in (0..100_000).step_by(4096) {
        let files = formatted();
        let mut node = Node::start(&files, small()).unwrap();
        files.limit_space(Some(space));
        match node.log.propose(&records, VERSION, NOW) {
            Ok(_) => outcomes.push("taken"),
            Err(ProposeError::Full(_)) => outcomes.push("full"),
            Err(ProposeError::Failed(Failure::HalfATransaction(_))) => {
                outcomes.push("failed");
                files.limit_space(None);
                assert!(matches!(node.create(5), Err(ProposeError::Failed(_))));
                let opened = open(&files, small()).unwrap();
                assert!(topics(opened.loader.image()).is_empty());
                assert!(
                    opened.loader.in_transaction(),
                    "it is for the leader to abort it"
                );
            }
            Err(other) => panic!("{other}"),
        }
    }
    outcomes.dedup();
    assert_eq!(outcomes, ["full", "failed", "taken"]);
}

#[test]
fn after_a_failed_sync_nothing_more_is_taken() {
    let files = formatted();
    let mut node = Node::start(&files, Settings::default()).unwrap();
    node.create(1).unwrap();
    files.fail_nth(Operation::Sync, 1, ErrorKind::Other);
    assert!(matches!(node.create(2), Err(ProposeError::Failed(_))));
    assert!(matches!(node.create(3), Err(ProposeError::Failed(_))));
    drop(node);
    let after = files.power_cut(1);
    let opened = open(&after, Settings::default()).unwrap();
    assert!(topics(opened.loader.image()).starts_with(&[1]));
    assert!(!topics(opened.loader.image()).contains(&3));
}

/// The power is cut after each change of a run of several starts. Every proposal that was answered is there, of the others
/// a prefix, and no epoch is used twice.
/// The system counts what it could not sync as written, and shows it to the next process.
#[test]
fn a_batch_whose_sync_failed_is_on_disk_before_another_follows_it() {
    for seed in 0..20 {
        let files = formatted();
        let mut log = open(&files, small()).unwrap().log;
        log.propose(&[topic(1)], VERSION, NOW).unwrap();
        files.fail_nth(Operation::Sync, 1, ErrorKind::Other);
        log.propose(&[topic(2)], VERSION, NOW).unwrap_err();
        drop(log);
        let files = files.process_killed();
        let opened = open(&files, small()).unwrap();
        let seen = topics(opened.loader.image());
        let mut log = opened.log;
        log.propose(&[topic(3)], VERSION, NOW).unwrap();
        drop(log);
        let files = files.power_cut(seed);
        let opened = open(&files, small()).unwrap();
        assert_eq!(seen, [1, 2]);
        assert_eq!(topics(opened.loader.image()), [1, 2, 3], "seed {seed}");
    }
}

#[test]
fn a_power_cut_at_any_change_loses_nothing_that_was_answered() {
    let mut cut_after = 0;
    loop {
        let seed = cut_after * 31 + 7;
        let files = formatted();
        files.cut_power_after(cut_after);
        let run = run_until_the_power_goes(&files);
        let Some(known) = run else {
            break;
        };
        let after = files.power_cut(seed);
        let opened =
            open(&after, small()).unwrap_or_else(|error| panic!("cut {cut_after}: {error}"));
        let found = topics(opened.loader.image());
        assert!(
            found.len() >= known.answered && found.len() <= known.proposed,
            "cut {cut_after}: {} answered, {} found, {} proposed",
            known.answered,
            found.len(),
            known.proposed
        );
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
        assert!(opened.log.epoch() > known.epoch, "cut {cut_after}");
        cut_after += 1;
    }
    assert!(cut_after > 200, "only {cut_after} changes were cut");
}

struct Known {
    answered: usize,
    proposed: usize,
    epoch: LeaderEpoch,
}

/// What is known at the power cut; `None` if the run ended before it.
fn run_until_the_power_goes(files: &Simulated) -> Option<Known> {
    let mut known = Known {
        answered: 0,
        proposed: 0,
        epoch: LeaderEpoch(0),
    };
    for _ in 0..3 {
        let Ok(mut node) = Node::start(files, small()) else {
            return Some(known);
        };
        known.epoch = node.log.epoch();
        for _ in 0..20 {
            known.proposed += 1;
            if node.create(known.answered as u64).is_err() {
                return Some(known);
            }
            known.answered += 1;
        }
    }
    None
}

#[test]
fn formatting_is_repeated_after_a_power_cut_and_never_half_done() {
    for cut_after in 0.. {
        let files = Simulated::new();
        files.cut_power_after(cut_after);
        let done = format_into(&files).is_ok();
        let after = files.power_cut(cut_after);
        match directory::directory_state(&after, data()).unwrap() {
            DirectoryState::New => {
                assert!(!done, "formatting was answered and is gone");
                format_into(&after).unwrap();
            }
            DirectoryState::Formatted(_) => {}
            DirectoryState::Foreign(name) => panic!("cut {cut_after}: {name}"),
        }
        open(&after, Settings::default())
            .unwrap_or_else(|error| panic!("cut {cut_after}: {error}"));
        assert_eq!(
            directory::read_bootstrap(&after, data()).unwrap(),
            Some(bootstrap())
        );
        if done {
            break;
        }
    }
}

#[test]
fn the_names_of_snapshots_are_kafkas() {
    let id = SnapshotId {
        end_offset: Offset(51),
        epoch: LeaderEpoch(1),
    };
    assert_eq!(id.file_name(), "00000000000000000051-0000000001.checkpoint");
    assert_eq!(SnapshotId::parse(&id.file_name()), Some(id));
    assert_eq!(
        SnapshotId::parse("00000000000000000051-0000000001.checkpoint.part"),
        None
    );
}
