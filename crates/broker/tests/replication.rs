//! A node replicates a partition from a broker over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_broker::Running;
use ottla_broker::cluster::fetchers::{Fetcher, Source};
use ottla_broker::config::BrokerConfig;
use ottla_broker::drivers::Drivers;
use ottla_broker::handlers::create_topics;
use ottla_broker::process::clock::Clock;
use ottla_broker::replicas::partition::{Append, Partition, RequiredAcks, Role};
use ottla_broker::replicas::{Found, Replicas};
use ottla_log::{Batch, Bound, FirstBatch, Origin, ReadRequest};
use ottla_metadata::{MetadataDelta, MetadataImage};
use ottla_protocol::ids::{NodeId, Offset, PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::{PartitionRecord, TopicRecord};
use ottla_protocol::messages::{
    ApiKey, CreateTopicsRequestData, KafkaString, create_topics_request,
};
use ottla_protocol::records::{BatchBuilder, BatchOptions, split_batches};
use ottla_replica::housekeeping::Intervals;
use ottla_replication::Replica;
use tokio::sync::oneshot;

const FOLLOWER: NodeId = NodeId(2);
/// Longer than the test waits for anything.
const LONG: Duration = Duration::from_secs(25);

/// A broker that leads the only partition of topic `t`; `isr` are its in-sync replicas.
struct Leader {
    running: Running,
    partition: Arc<Partition>,
}

impl Leader {
    async fn start(directory: &Path) -> Self {
        let config = BrokerConfig::embedded(directory.to_path_buf(), 0);
        let running = ottla_broker::start(config, Clock::start()).await.unwrap();
        let topic = create_topics_request::CreatableTopic::default()
            .with_name(KafkaString::from_static("t"))
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = CreateTopicsRequestData::default().with_topics(vec![topic]);
        let context = support::context(ApiKey::CreateTopics);
        create_topics::handle(&running.broker, &context, request).await;
        let partition = found(&running.broker.replicas);
        Self { running, partition }
    }

    /// The metadata has these in-sync replicas, and the follower among the replicas.
    fn set_isr(&self, isr: &[i32]) {
        let before = self.partition.role();
        let role = Role {
            replicas: vec![before.node, FOLLOWER],
            isr: isr.iter().copied().map(NodeId).collect(),
            partition_epoch: before.partition_epoch + 1,
            ..before
        };
        let now = Clock::start().monotonic();
        self.partition.set_role(role, now).unwrap();
    }

    /// Appends a record; returns the answer to its producer, which waits for all replicas.
    async fn produce(&self, value: &str) {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(0, None, Some(value.as_bytes()), &[]);
        let bytes = builder.build().unwrap();
        let batch = Batch::from(split_batches(&bytes).next().unwrap().unwrap());
        let append = Append {
            batches: &[batch],
            acks: RequiredAcks::All,
        };
        let now = self.running.broker.clock.now();
        let outcome = self.partition.append(&[append], Origin::Client, now);
        let end = outcome[0].as_ref().unwrap().last_offset.plus(1);
        let (producer, answer) = oneshot::channel();
        if !self.partition.replicated(end, || producer) {
            let answer = tokio::time::timeout(LONG / 2, answer).await;
            answer.expect("acknowledged in time").unwrap().unwrap();
        }
    }

    fn source(&self) -> Source {
        Source {
            leader: NodeId(1),
            address: self.running.addresses[0].1.to_string(),
        }
    }

    fn topic_id(&self) -> Uuid {
        self.partition.topic_id
    }
}

fn found(replicas: &Replicas) -> Arc<Partition> {
    match replicas.by_name("t", PartitionIndex(0)) {
        Found::Here(partition) => partition,
        found => panic!("{found:?}: the partition is here"),
    }
}

/// The partition as the follower's metadata has it.
fn image(topic_id: Uuid, leader_epoch: i32) -> MetadataImage {
    let mut delta = MetadataDelta::new(MetadataImage::default());
    let topic = TopicRecord {
        name: "t".into(),
        topic_id,
        ..TopicRecord::default()
    };
    delta.replay(&topic.into());
    let record = PartitionRecord {
        partition_id: 0,
        leader_epoch,
        topic_id,
        replicas: vec![1, 2],
        isr: vec![1, 2],
        leader: 1,
        ..PartitionRecord::default()
    };
    delta.replay(&record.into());
    delta.finish().0
}

/// A node that follows the leader.
fn follow(directory: &Path, leader: &Leader) -> (Arc<Drivers>, Fetcher, Arc<Partition>) {
    let mut config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    config.statics.node = FOLLOWER;
    let clock = Clock::start();
    let replicas = Replicas::new(&config, 10, clock);
    let drivers = Drivers::new(Arc::clone(&replicas));
    let epoch = leader.partition.role().leader_epoch.0;
    let image = image(leader.topic_id(), epoch);
    drivers.load(&image, Intervals::default()).unwrap();
    let partition = found(&replicas);
    let own = Replica {
        node: FOLLOWER,
        broker_epoch: None,
    };
    let fetcher = Fetcher::new(leader.source(), own, replicas, clock);
    (drivers, fetcher, partition)
}

fn bytes_of(partition: &Partition) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = partition.with_log(|log| {
        let request = ReadRequest {
            offset: log.log_start_offset(),
            max_bytes: 1 << 20,
            first_batch: FirstBatch::MayExceed,
            bound: Bound::LogEnd,
        };
        log.read(&request).unwrap().read(&mut bytes)
    });
    read.unwrap().unwrap();
    bytes
}

/// The leader holds a fetch for longer than the test waits: only the second connection can tell of the flush.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_acknowledged_as_soon_as_the_follower_has_flushed_it() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let leader = Leader::start(directories[0].path()).await;
    leader.set_isr(&[1, 2]);
    let (_drivers, fetcher, follower) = follow(directories[1].path(), &leader);
    let fetching = tokio::spawn(fetcher.waiting(LONG).run());
    for value in ["one", "two", "three"] {
        leader.produce(value).await;
    }
    let flushed = follower.with_log(|log| log.flushed_offset());
    assert_eq!(flushed, Some(Offset(3)));
    assert_eq!(bytes_of(&follower), bytes_of(&leader.partition));
    fetching.abort();
    leader.running.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_without_the_leaders_first_records_begins_at_its_log_start() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let leader = Leader::start(directories[0].path()).await;
    leader.set_isr(&[1]);
    for value in ["one", "two", "three"] {
        leader.produce(value).await;
    }
    let wall = leader.running.broker.clock.now().wall;
    let deleted = leader
        .partition
        .with_log(|log| log.delete_records(Some(Offset(2)), wall));
    assert_eq!(deleted.unwrap().unwrap(), Offset(2));
    let (_drivers, fetcher, follower) = follow(directories[1].path(), &leader);
    let fetching = tokio::spawn(fetcher.run());
    leader.set_isr(&[1, 2]);
    leader.produce("four").await;
    let offsets = follower.offsets().unwrap();
    assert_eq!((offsets.log_start, offsets.log_end), (Offset(2), Offset(4)));
    assert_eq!(bytes_of(&follower), bytes_of(&leader.partition));
    fetching.abort();
    leader.running.shut_down().await;
}
