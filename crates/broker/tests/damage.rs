//! Partitions of a broker whose files were damaged while it was down: they come up, say what is damaged, and serve the
//! rest.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod images;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ottla_broker::config::BrokerConfig;
use ottla_broker::drivers::Drivers;
use ottla_broker::process::clock::Clock;
use ottla_broker::replicas::partition::{
    AnsweredBy, Append, ReadAt, Refused, RequiredAcks, replicated,
};
use ottla_broker::replicas::{Found, Partition, Replicas};
use ottla_log::checkpoint;
use ottla_log::files::disk::Disk;
use ottla_log::files::{Files as _, replace_durably};
use ottla_log::{Appended, Batch, Bound, FirstBatch, Origin};
use ottla_metadata::{Changes, ConfigResource, MetadataDelta, MetadataImage};
use ottla_protocol::ids::{Offset, PartitionIndex, Uuid};
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::records::{BatchBuilder, BatchOptions, BatchView, split_batches};
use ottla_replica::housekeeping::Intervals;

use images::add_topic;

const RECORDS: i64 = 60;

fn image(broker: &[(&str, &str)]) -> MetadataImage {
    let mut delta = MetadataDelta::new(MetadataImage::default());
    add_topic(&mut delta, ("t", Uuid::from_parts(7, 7)), 1, -1);
    let mut image = delta.finish().0;
    let topic = image.configs.entry(ConfigResource::topic("t")).or_default();
    topic.insert("segment.bytes".to_owned(), "1000".to_owned());
    let cluster = image.configs.entry(ConfigResource::cluster()).or_default();
    for (name, value) in broker {
        cluster.insert((*name).to_owned(), (*value).to_owned());
    }
    image
}

fn start(directory: &Path) -> (Arc<Replicas>, Arc<Drivers>) {
    start_with(directory, &[])
}

fn start_with(directory: &Path, broker: &[(&str, &str)]) -> (Arc<Replicas>, Arc<Drivers>) {
    let config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    let clock = Clock::start();
    let replicas = Replicas::new(&config, 100, clock);
    let drivers = Drivers::new(Arc::clone(&replicas));
    drivers.load(&image(broker), Intervals::default()).unwrap();
    (replicas, drivers)
}

fn partition(replicas: &Replicas) -> Arc<Partition> {
    match replicas.by_name("t", PartitionIndex(0)) {
        Found::Here(partition) => partition,
        found => panic!("{found:?}"),
    }
}

fn append(partition: &Arc<Partition>, number: i64) -> Result<Appended, Refused> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(1000 + number, None, Some(b"some value"), &[]);
    let bytes = builder.build().unwrap();
    let batch = Batch::from(BatchView::first(&bytes).unwrap());
    let append = Append {
        batches: &[batch],
        acks: RequiredAcks::All,
    };
    let mut appended = partition.append(&[append], Origin::Client, Clock::start().now());
    appended.remove(0)
}

/// One record a batch.
async fn fill(replicas: &Replicas, from: i64, to: i64) {
    let partition = partition(replicas);
    for number in from..to {
        let appended = append(&partition, number).unwrap();
        let end = appended.last_offset.plus(1);
        if let Some(replicated) = replicated(&partition, end) {
            replicated.await.unwrap().unwrap();
        }
    }
}

/// The offset that a fetch from `offset` begins with, or its error.
fn fetch(replicas: &Replicas, offset: i64) -> Result<i64, ErrorCode> {
    fetch_up_to(replicas, offset, Bound::HighWatermark)
}

fn fetch_up_to(replicas: &Replicas, offset: i64, bound: Bound) -> Result<i64, ErrorCode> {
    let read = ReadAt {
        offset: Offset(offset),
        max_bytes: 1,
        first_batch: FirstBatch::MayExceed,
        bound,
        answered_by: AnsweredBy::Leader,
        current_epoch: None,
        last_fetched_epoch: None,
    };
    let planned = partition(replicas).plan(&read, Clock::start().monotonic());
    let planned = planned.map_err(|error| error.code())?;
    let mut bytes = Vec::new();
    planned.plan.read(&mut bytes).unwrap();
    let first = split_batches(&bytes).next().unwrap().unwrap();
    assert!(first.is_crc_valid());
    Ok(first.header().base_offset)
}

/// The `.log` files, in order.
fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("t-0")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    segments
}

fn overwrite(path: &Path, position: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, position).unwrap();
}

/// The offset and position of each batch of a segment.
fn batches(path: &Path) -> Vec<(i64, u64)> {
    let bytes = fs::read(path).unwrap();
    let mut position = 0;
    let mut found = Vec::new();
    for batch in split_batches(&bytes) {
        let batch = batch.unwrap();
        found.push((batch.header().base_offset, position));
        position += batch.size() as u64;
    }
    found
}

/// A stopped broker's directory: cleanly, or as after a crash a moment later.
async fn stopped(is_clean: bool) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (replicas, drivers) = start(directory.path());
    fill(&replicas, 0, RECORDS).await;
    drivers.close(1).unwrap();
    if !is_clean {
        checkpoint::remove_clean_shutdown(&Disk, directory.path()).unwrap();
    }
    directory
}

/// The segments and batches of the tests: first, middle and last of each.
fn places(directory: &Path) -> Vec<(PathBuf, i64, u64)> {
    let all = segments(directory);
    assert!(all.len() > 3);
    let mut places = Vec::new();
    for path in [&all[0], &all[2], all.last().unwrap()] {
        let found = batches(path);
        for place in [0, found.len() / 2, found.len() - 1] {
            let (offset, position) = found[place];
            places.push((path.clone(), offset, position));
        }
    }
    places
}

#[tokio::test]
async fn a_damaged_batch_is_refused_and_the_rest_served_wherever_it_is() {
    for is_clean in [true, false] {
        for place in 0..9 {
            let directory = stopped(is_clean).await;
            let (path, offset, position) = places(directory.path()).swap_remove(place);
            let what = format!("offset {offset}, clean: {is_clean}");
            let injury: &[u8] = if place % 2 == 0 { &[0xFF; 4] } else { &[0x7F] };
            overwrite(&path, position + 8, injury);
            let (replicas, drivers) = start(directory.path());
            for wanted in 0..RECORDS {
                let expected = if wanted == offset {
                    Err(ErrorCode::CorruptMessage)
                } else {
                    Ok(wanted)
                };
                assert_eq!(fetch(&replicas, wanted), expected, "{wanted}, {what}");
            }
            let known = replicas.damage();
            assert_eq!(known.len(), 1, "{what}");
            let line = known[0].to_string();
            let says = format!("the next that can is {}", offset + 1);
            assert!(line.contains(&says), "{line}");
            fill(&replicas, RECORDS, RECORDS + 1).await;
            assert_eq!(fetch(&replicas, RECORDS), Ok(RECORDS), "{what}");
            let trimmed = partition(&replicas).with_log(|log| {
                let now = Clock::start().now().wall;
                log.delete_records(Some(Offset(offset + 1)), now)
            });
            assert_eq!(trimmed.unwrap().unwrap(), Offset(offset + 1), "{what}");
            assert!(replicas.damage().is_empty(), "what was deleted, {what}");
            drivers.close(2).unwrap();
        }
    }
}

#[tokio::test]
async fn files_beside_the_log_that_are_nonsense_or_gone_keep_nothing_from_being_served() {
    let nonsense: &[(&str, &[u8])] = &[
        ("recovery-point-offset-checkpoint", b"0\n1\nt 0\n"),
        ("replication-offset-checkpoint", b"zero"),
        ("log-start-offset-checkpoint", b"\xFF\xFE"),
        ("cleaner-offset-checkpoint", b"0\n5\n"),
        ("t-0/leader-epoch-checkpoint", b"0\n1\nx y\n"),
        ("t-0/00000000000000000000.index", &[0xFF; 80]),
        ("t-0/00000000000000000000.timeindex", b""),
        ("t-0/00000000000000000060.snapshot", b"not one"),
    ];
    for is_clean in [true, false] {
        for (name, content) in nonsense {
            let directory = stopped(is_clean).await;
            let path = directory.path().join(name);
            replace_durably(&Disk, &path, content).unwrap();
            let (replicas, drivers) = start(directory.path());
            for wanted in 0..RECORDS {
                assert_eq!(fetch(&replicas, wanted), Ok(wanted), "{name}");
            }
            drivers.close(2).unwrap();
        }
    }
}

#[tokio::test]
async fn a_topic_is_made_beside_checkpoints_that_are_nonsense() {
    let names = [
        checkpoint::RECOVERY_POINTS,
        checkpoint::HIGH_WATERMARKS,
        checkpoint::LOG_START_OFFSETS,
        checkpoint::CLEANER_OFFSETS,
    ];
    for name in names {
        for content in [&b"0\n1\nt 0\n"[..], b"\xFF\xFE"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(name);
            replace_durably(&Disk, &path, content).unwrap();
            let (replicas, drivers) = start(directory.path());
            let offsets = checkpoint::read_offsets(&Disk, directory.path(), name);
            assert!(offsets.unwrap().is_empty(), "{name}");
            fill(&replicas, 0, 2).await;
            assert_eq!(fetch(&replicas, 0), Ok(0), "{name}");
            drivers.close(1).unwrap();
        }
    }
}

#[tokio::test]
async fn a_damaged_index_of_aborted_transactions_is_refused_and_shown() {
    let directory = stopped(true).await;
    let index = segments(directory.path())[0].with_extension("txnindex");
    replace_durably(&Disk, &index, &[0x7F; 34]).unwrap();
    let (replicas, drivers) = start(directory.path());
    assert!(replicas.damage().is_empty(), "nobody has looked");
    assert_eq!(fetch(&replicas, 0), Ok(0));
    let committed = fetch_up_to(&replicas, 0, Bound::LastStableOffset);
    assert_eq!(committed, Err(ErrorCode::CorruptMessage));
    let known = replicas.damage();
    assert_eq!(known[0].count(), 1);
    assert!(
        known[0].to_string().contains("ottla log repair"),
        "{}",
        known[0]
    );
    drivers.close(2).unwrap();
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

#[tokio::test]
async fn the_scrub_finds_what_no_reader_notices_and_has_it_refused() {
    let directory = stopped(true).await;
    let (path, offset, position) = places(directory.path()).swap_remove(4);
    // In the records, which readers leave to their checksums.
    overwrite(&path, position + 65, &[0xA5]);
    let (replicas, drivers) = start_with(directory.path(), &[("ottla.scrub.interval.ms", "10")]);
    until("nothing was found", || !replicas.damage().is_empty()).await;
    assert_eq!(fetch(&replicas, offset), Err(ErrorCode::CorruptMessage));
    for wanted in (0..RECORDS).filter(|wanted| *wanted != offset) {
        assert_eq!(fetch(&replicas, wanted), Ok(wanted));
    }
    let closed = u64::try_from(segments(directory.path()).len()).unwrap() - 1;
    until("no more rounds", || drivers.scrub().rounds > closed + 1).await;
    assert_eq!(replicas.damage()[0].places.len(), 1);
    let report = drivers.scrub();
    let read = report.rounds * closed..=(report.rounds + 1) * closed;
    assert!(
        read.contains(&report.segments),
        "the active one is left alone: {report:?}"
    );
    assert_eq!(report.failures, 0);
    drivers.close(2).unwrap();
}

#[tokio::test]
async fn a_scrub_that_rests_ends_with_the_broker_or_its_config() {
    let directory = stopped(true).await;
    let slow = ("ottla.scrub.max.bytes.per.second", "1024");
    let configs = [("ottla.scrub.interval.ms", "1"), slow];
    let (_, drivers) = start_with(directory.path(), &configs);
    until("nothing is read", || drivers.scrub().bytes > 0).await;
    let began = Clock::start();
    drivers.close(2).unwrap();
    assert!(began.monotonic().0 < Duration::from_secs(5));
    assert_eq!(drivers.scrub().rounds, 0);
}

#[tokio::test]
async fn the_scrub_says_that_a_segment_is_gone() {
    let directory = stopped(true).await;
    let (replicas, drivers) = start_with(directory.path(), &[("ottla.scrub.interval.ms", "10")]);
    until("no round", || drivers.scrub().rounds > 0).await;
    assert_eq!(drivers.scrub().failures, 0);
    Disk.remove(&segments(directory.path())[1]).unwrap();
    until("nothing is said", || drivers.scrub().failures > 0).await;
    drop((replicas, drivers));
}

#[tokio::test]
async fn a_round_of_the_scrub_that_is_turned_off_does_not_count() {
    let directory = stopped(true).await;
    let slow = ("ottla.scrub.max.bytes.per.second", "1");
    let configs = [("ottla.scrub.interval.ms", "1"), slow];
    let (_, drivers) = start_with(directory.path(), &configs);
    until("nothing is read", || drivers.scrub().bytes > 0).await;
    let configure = |interval| {
        let image = image(&[("ottla.scrub.interval.ms", interval)]);
        let changes = Changes {
            configs: [ConfigResource::cluster()].into(),
            ..Changes::default()
        };
        assert!(drivers.apply(&image, &changes).is_empty());
    };
    configure("0");
    configure("1");
    until("no round", || drivers.scrub().rounds > 0).await;
    let closed = segments(directory.path()).len() - 1;
    let read = usize::try_from(drivers.scrub().segments).unwrap();
    assert!(read >= closed, "{read} of {closed}");
    drivers.close(2).unwrap();
}

#[tokio::test]
async fn a_log_that_ends_before_its_recovery_point_gets_a_new_one_at_once() {
    let directory = stopped(false).await;
    let path = segments(directory.path()).pop().unwrap();
    let (offset, position) = batches(&path)[1];
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(position).unwrap();
    let (replicas, drivers) = start(directory.path());
    let name = checkpoint::RECOVERY_POINTS;
    let points = checkpoint::read_offsets(&Disk, directory.path(), name).unwrap();
    assert_eq!(points[&("t".to_owned(), 0)], Offset(offset));
    fill(&replicas, offset, offset + 1).await;
    assert_eq!(fetch(&replicas, offset), Ok(offset));
    drivers.close(2).unwrap();
}

#[tokio::test]
async fn a_log_that_ends_before_a_recovery_point_that_stays_is_not_appended_to() {
    let directory = stopped(true).await;
    let path = segments(directory.path()).pop().unwrap();
    let (offset, position) = batches(&path)[1];
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(position).unwrap();
    // What is in the way of the new checkpoint.
    let name = format!("{}.tmp", checkpoint::RECOVERY_POINTS);
    let in_the_way = directory.path().join(name);
    fs::create_dir(&in_the_way).unwrap();
    let (replicas, drivers) = start(directory.path());
    let end = partition(&replicas).with_log(|log| log.log_end_offset());
    assert_eq!(end, Some(Offset(offset)));
    let refused = append(&partition(&replicas), 0).unwrap_err().to_string();
    assert!(refused.contains("is offline: cannot open"), "{refused}");
    assert!(refused.contains(checkpoint::RECOVERY_POINTS), "{refused}");
    drop((replicas, drivers));
    fs::remove_dir(&in_the_way).unwrap();
    let (replicas, drivers) = start(directory.path());
    fill(&replicas, offset, offset + 1).await;
    assert_eq!(fetch(&replicas, offset), Ok(offset));
    drivers.close(2).unwrap();
}
