//! The cleaner over real partitions in a temporary directory: it compacts by itself, whatever one partition holds.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod images;

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_broker::config::BrokerConfig;
use ottla_broker::drivers::Drivers;
use ottla_broker::process::clock::Clock;
use ottla_broker::replicas::partition::{Append, RequiredAcks, replicated};
use ottla_broker::replicas::{Found, Partition, Replicas};
use ottla_log::checkpoint::{CLEANER_OFFSETS, read_offsets};
use ottla_log::files::Files as _;
use ottla_log::files::disk::Disk;
use ottla_log::{Batch, Bound, FirstBatch, Origin, ReadRequest};
use ottla_metadata::{ConfigResource, MetadataDelta, MetadataImage};
use ottla_protocol::ids::{Offset, PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::RemoveTopicRecord;
use ottla_protocol::records::{BatchBuilder, BatchOptions, BatchView, Decompressor, split_batches};
use ottla_replica::cleaner::report::CompactionReport;
use ottla_replica::housekeeping::Intervals;

use images::add_topic;

const TOPIC: &str = "t";

fn topic_id() -> Uuid {
    Uuid::from_parts(7, 7)
}

/// A compacted topic with these partitions, and what the cleaner is to do at once.
fn image(partitions: i32, cleaner: &[(&str, &str)]) -> MetadataImage {
    let mut delta = MetadataDelta::new(MetadataImage::default());
    add_topic(&mut delta, (TOPIC, topic_id()), partitions, -1);
    let mut image = delta.finish().0;
    let topic = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0"),
        ("segment.bytes", "2000"),
    ];
    let of = |image: &mut MetadataImage, resource, configs: &[(&str, &str)]| {
        let own = image.configs.entry(resource).or_default();
        for (name, value) in configs {
            own.insert((*name).to_owned(), (*value).to_owned());
        }
    };
    of(&mut image, ConfigResource::topic(TOPIC), &topic);
    of(&mut image, ConfigResource::cluster(), cleaner);
    image
}

fn start(directory: &Path, image: &MetadataImage) -> (Arc<Replicas>, Arc<Drivers>) {
    let config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    let clock = Clock::start();
    let replicas = Replicas::new(&config, 100, clock);
    let drivers = Drivers::new(Arc::clone(&replicas));
    drivers.load(image, Intervals::default()).unwrap();
    (replicas, drivers)
}

fn partition(replicas: &Replicas, index: i32) -> Arc<Partition> {
    match replicas.by_name(TOPIC, PartitionIndex(index)) {
        Found::Here(partition) => partition,
        found => panic!("{found:?}"),
    }
}

/// Appends `records` records with 5 keys, in several segments.
async fn fill(replicas: &Replicas, index: i32, records: i64) {
    let partition = partition(replicas, index);
    for number in 0..records {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let (key, value) = (format!("key {}", number % 5), format!("value {number}"));
        builder.append(
            1000 + number,
            Some(key.as_bytes()),
            Some(value.as_bytes()),
            &[],
        );
        let bytes = builder.build().unwrap();
        let batch = Batch::from(BatchView::first(&bytes).unwrap());
        let append = Append {
            batches: &[batch],
            acks: RequiredAcks::All,
        };
        let appended = partition.append(&[append], Origin::Client, Clock::start().now());
        let end = appended[0].as_ref().unwrap().last_offset.plus(1);
        if let Some(replicated) = replicated(&partition, end) {
            replicated.await.unwrap().unwrap();
        }
    }
}

/// The report of a partition. There is none while another thread has its log, which is tried a few times.
fn report(drivers: &Drivers, index: i32) -> CompactionReport {
    let mut looks = (0..100).map(|_| drivers.compaction(|partition| partition.index.0 == index));
    looks.find_map(|mut reports| reports.pop()).unwrap()
}

/// Waits until a partition's report is as wanted.
async fn until(drivers: &Drivers, index: i32, is_so: impl Fn(&CompactionReport) -> bool) {
    let waited = tokio::time::timeout(Duration::from_mins(1), async {
        while !is_so(&report(drivers, index)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{}", report(drivers, index));
}

fn keys_and_values(replicas: &Replicas, index: i32) -> Vec<(String, String)> {
    let partition = partition(replicas, index);
    let mut seen = Vec::new();
    let mut offset = Offset(0);
    loop {
        let request = ReadRequest {
            offset,
            max_bytes: 1 << 20,
            first_batch: FirstBatch::MayExceed,
            bound: Bound::HighWatermark,
        };
        let plan = partition
            .with_log(|log| log.read(&request).unwrap())
            .unwrap();
        let mut bytes = Vec::new();
        if plan.read(&mut bytes).unwrap() == 0 {
            return seen;
        }
        let mut decompressor = Decompressor::default();
        for batch in split_batches(&bytes).map(Result::unwrap) {
            offset = batch.header().next_offset();
            if !batch.is_crc_valid() {
                continue;
            }
            let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
            for record in batch.records(&mut decompressor, 1 << 20).unwrap() {
                let record = record.unwrap();
                seen.push((text(record.key), text(record.value)));
            }
        }
    }
}

const AT_ONCE: [(&str, &str); 1] = [("log.cleaner.backoff.ms", "10")];

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_partition_is_said_and_compacted_around_and_the_others_are_compacted_too() {
    let directory = tempfile::tempdir().unwrap();
    let (replicas, drivers) = start(directory.path(), &image(2, &[("log.cleaner.threads", "0")]));
    fill(&replicas, 0, 100).await;
    fill(&replicas, 1, 100).await;
    let (_, values): (Vec<_>, Vec<_>) = keys_and_values(&replicas, 0).into_iter().unzip();
    assert_eq!(values.len(), 100);
    // The value of the second record of the first partition rots on disk.
    let path = directory.path().join("t-0/00000000000000000000.log");
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(2 * 61 + 30)).unwrap();
    file.write_all(b"rot").unwrap();
    drop(file);

    let with_workers = image(2, &[AT_ONCE[0], ("log.cleaner.threads", "2")]);
    let changes = ottla_metadata::Changes {
        configs: [ConfigResource::cluster()].into(),
        ..ottla_metadata::Changes::default()
    };
    assert_eq!(drivers.apply(&with_workers, &changes).len(), 0);
    for index in [0, 1] {
        until(&drivers, index, |report| {
            report.history.compacted_at.is_some()
        })
        .await;
        let left = keys_and_values(&replicas, index);
        let newest: Vec<_> = left
            .iter()
            .rev()
            .take(5)
            .map(|(_, value)| value.clone())
            .collect();
        assert_eq!(
            newest,
            ["value 99", "value 98", "value 97", "value 96", "value 95"]
        );
        assert!(left.len() < 50, "{}", left.len());
    }
    let (poisoned, sound) = (report(&drivers, 0), report(&drivers, 1));
    assert_eq!(poisoned.quarantine.len(), 1);
    assert_eq!(poisoned.quarantine[0].first_offset, Offset(1));
    assert!(poisoned.is_degraded() && !sound.is_degraded());
    let known = read_offsets(&Disk, directory.path(), CLEANER_OFFSETS).unwrap();
    let end = sound.plan.first_dirty;
    assert!(end > Offset(50));
    assert_eq!(known.get(&(TOPIC.to_owned(), 1)), Some(&end));
    // A start goes on from there, and still knows what is in quarantine.
    drivers.close(1).unwrap();
    let (_, drivers) = start(
        directory.path(),
        &image(2, &[("log.cleaner.enable", "false")]),
    );
    assert_eq!(report(&drivers, 1).plan.first_dirty, end);
    assert_eq!(report(&drivers, 0).quarantine, poisoned.quarantine);
    drivers.close(2).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_fails_is_tried_again_and_stops_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (replicas, drivers) = start(directory.path(), &image(2, &[("log.cleaner.threads", "0")]));
    // The first is the dirtiest: its turn comes first.
    fill(&replicas, 0, 100).await;
    fill(&replicas, 1, 50).await;
    let log = directory.path().join("t-0/00000000000000000000.log");
    let aside = directory.path().join("aside");
    Disk.rename(&log, &aside).unwrap();
    let changes = ottla_metadata::Changes {
        configs: [ConfigResource::cluster()].into(),
        ..ottla_metadata::Changes::default()
    };
    assert_eq!(drivers.apply(&image(2, &AT_ONCE), &changes).len(), 0);
    until(&drivers, 1, |report| report.history.compacted_at.is_some()).await;
    until(&drivers, 0, |report| report.history.failure.is_some()).await;
    assert!(report(&drivers, 0).is_degraded());
    Disk.rename(&aside, &log).unwrap();
    until(&drivers, 0, |report| report.history.compacted_at.is_some()).await;
    assert!(!report(&drivers, 0).is_degraded());
    drivers.close(1).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_can_be_deleted_and_the_broker_closed_while_the_cleaner_waits_for_its_rate() {
    for deletes in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        // At a byte per second a pass would take hours.
        let slow = [AT_ONCE[0], ("log.cleaner.io.max.bytes.per.second", "1")];
        let without = image(1, &[("log.cleaner.threads", "0")]);
        let (replicas, drivers) = start(directory.path(), &without);
        let wide = partition(&replicas, 0);
        let mut config = wide.with_log(|log| log.config().clone()).unwrap();
        config.segment_bytes = 1 << 20;
        wide.with_log(|log| log.set_config(config)).unwrap();
        for _ in 0..4 {
            let mut builder = BatchBuilder::new(BatchOptions::default());
            builder.append(1, Some(b"key"), Some(&vec![7; 500_000]), &[]);
            let bytes = builder.build().unwrap();
            let batch = Batch::from(BatchView::first(&bytes).unwrap());
            let now = Clock::start().now();
            let append = Append {
                batches: &[batch],
                acks: RequiredAcks::All,
            };
            let appended = wide.append(&[append], Origin::Client, now);
            let end = appended[0].as_ref().unwrap().last_offset.plus(1);
            if let Some(replicated) = replicated(&wide, end) {
                replicated.await.unwrap().unwrap();
            }
        }
        drop(wide);
        let image = image(1, &slow);
        let changes = ottla_metadata::Changes {
            configs: [ConfigResource::cluster()].into(),
            ..ottla_metadata::Changes::default()
        };
        assert_eq!(drivers.apply(&image, &changes).len(), 0);
        until(&drivers, 0, |report| report.plan.is_due()).await;
        if deletes {
            let mut delta = MetadataDelta::new(image);
            let record = RemoveTopicRecord {
                topic_id: topic_id(),
                ..RemoveTopicRecord::default()
            };
            delta.replay(&record.into());
            let (image, changes) = delta.finish();
            assert_eq!(drivers.apply(&image, &changes).len(), 0);
            assert!(!directory.path().join("t-0").exists());
        }
        drivers.close(1).unwrap();
    }
}
