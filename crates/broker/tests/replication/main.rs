//! Brokers replicate partitions over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod link;
mod pair;
mod racks;
#[path = "../support/mod.rs"]
mod support;
mod throttles;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_broker::cluster::fetchers::{Fetcher, Partitions, Source};
use ottla_broker::config::BrokerConfig;
use ottla_broker::drivers::Drivers;
use ottla_broker::handlers::{self, create_topics};
use ottla_broker::metrics::observe;
use ottla_broker::process::clock::Clock;
use ottla_broker::replicas::Replicas;
use ottla_broker::replicas::partition::{Partition, RequiredAcks, Role};
use ottla_broker::{Broker, Running};
use ottla_metadata::{MetadataDelta, MetadataImage};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, Uuid};
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::metadata::{PartitionRecord, TopicRecord};
use ottla_protocol::messages::{
    ApiKey, CreateTopicsRequestData, DeleteRecordsRequestData, ErrorCode, KafkaString,
    ListOffsetsRequestData, ListOffsetsResponseData, create_topics_request,
};
use ottla_replica::housekeeping::Intervals;
use ottla_replication::Replica;
use tokio::sync::watch;

use self::pair::{FIRST, LONG, Pair, SECOND, Times, append, bytes_of, eventually, found, produce};

const FOLLOWER: NodeId = NodeId(2);

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
        let partition = found(&running.broker.replicas, "t");
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

    /// The metadata has a new leader epoch.
    fn lead_anew(&self) {
        let before = self.partition.role();
        let role = Role {
            leader_epoch: LeaderEpoch(before.leader_epoch.0 + 1),
            partition_epoch: before.partition_epoch + 1,
            ..before
        };
        let now = Clock::start().monotonic();
        self.partition.set_role(role, now).unwrap();
    }

    async fn produce(&self, value: &str) {
        produce(&self.running.broker, &self.partition, value).await;
    }

    fn source(&self) -> Source {
        Source {
            leader: NodeId(1),
            address: self.running.addresses[0].1.to_string(),
            epoch: 1,
        }
    }

    fn topic_id(&self) -> Uuid {
        self.partition.topic_id
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

/// A node that follows the leader. Its leader may hold a fetch for `wait`.
struct Follower {
    partition: Arc<Partition>,
    fetching: tokio::task::JoinHandle<()>,
    _assigned: watch::Sender<Arc<Partitions>>,
    _drivers: Arc<Drivers>,
}

fn follow(directory: &Path, leader: &Leader, wait: Duration) -> Follower {
    let mut config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    config.statics.node = FOLLOWER;
    config.replication.fetch_wait = wait;
    let clock = Clock::start();
    let replicas = Replicas::new(&config, 10, clock);
    let drivers = Drivers::new(Arc::clone(&replicas));
    let epoch = leader.partition.role().leader_epoch;
    let image = image(leader.topic_id(), epoch.0);
    drivers.load(&image, Intervals::default()).unwrap();
    let partition = found(&replicas, "t");
    let own = Replica {
        node: FOLLOWER,
        broker_epoch: None,
    };
    let lost = Arc::default();
    let fetcher = Fetcher::new(leader.source(), own, &config.replication, replicas, lost);
    let partitions = BTreeMap::from([(partition.id(), epoch)]);
    let (assigned, assignments) = watch::channel(Arc::new(partitions));
    Follower {
        partition,
        fetching: tokio::spawn(fetcher.run(assignments)),
        _assigned: assigned,
        _drivers: drivers,
    }
}

/// The leader holds a fetch for longer than the test waits: only the second connection can tell of the flush.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_acknowledged_as_soon_as_the_follower_has_flushed_it() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let leader = Leader::start(directories[0].path()).await;
    leader.set_isr(&[1, 2]);
    let follower = follow(directories[1].path(), &leader, LONG);
    for value in ["one", "two", "three"] {
        leader.produce(value).await;
    }
    let flushed = follower.partition.with_log(|log| log.flushed_offset());
    assert_eq!(flushed, Some(Offset(3)));
    assert_eq!(bytes_of(&follower.partition), bytes_of(&leader.partition));
    follower.fetching.abort();
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
    let follower = follow(directories[1].path(), &leader, Duration::from_millis(500));
    leader.set_isr(&[1, 2]);
    leader.produce("four").await;
    let offsets = follower.partition.offsets().unwrap();
    assert_eq!((offsets.log_start, offsets.log_end), (Offset(2), Offset(4)));
    assert_eq!(bytes_of(&follower.partition), bytes_of(&leader.partition));
    follower.fetching.abort();
    leader.running.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_acknowledged_and_readable_once_all_brokers_of_the_isr_have_it() {
    let pair = Pair::start(Times::default()).await;
    pair.create_topic("t", "2").await;
    let leader = found(&pair.first.broker.replicas, "t");
    for value in ["one", "two", "three"] {
        produce(&pair.first.broker, &leader, value).await;
    }
    let follower = found(&pair.second.broker.replicas, "t");
    assert_eq!(bytes_of(&follower), bytes_of(&leader));
    assert_eq!(leader.offsets().unwrap().high_watermark, Offset(3));
    let flushed = follower.with_log(|log| log.flushed_offset());
    assert_eq!(flushed, Some(Offset(3)), "it is on stable storage on both");
    pair.links[0].cut().await;
    append(&pair.first.broker, &leader, "four", RequiredAcks::Leader);
    let flushed = || leader.with_log(|log| log.flushed_offset()) == Some(Offset(4));
    leader.flush_if_dirty(pair.first.broker.clock.monotonic());
    eventually("the leader flushes", flushed).await;
    assert_eq!(leader.offsets().unwrap().high_watermark, Offset(3));
    pair.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_lags_leaves_the_isr_and_joins_again() {
    let pair = Pair::start(Times {
        lag: Duration::from_millis(300),
        ..Times::default()
    })
    .await;
    pair.create_topic("t", "1").await;
    let leader = found(&pair.first.broker.replicas, "t");
    produce(&pair.first.broker, &leader, "one").await;
    pair.isr("t", &[FIRST, SECOND]).await;
    pair.links[0].cut().await;
    produce(&pair.first.broker, &leader, "two").await;
    pair.isr("t", &[FIRST]).await;
    metric(&pair.first, "underreplicatedpartitions", 1..=1).await;
    metric(&pair.first, "isrshrinks_total", 1..=99).await;
    pair.mend();
    pair.isr("t", &[FIRST, SECOND]).await;
    let follower = found(&pair.second.broker.replicas, "t");
    assert_eq!(bytes_of(&follower), bytes_of(&leader));
    metric(&pair.first, "isrexpands_total", 1..=99).await;
    metric(&pair.first, "underreplicatedpartitions", 0..=0).await;
    metric(&pair.first, "leadercount", 1..=1).await;
    metric(&pair.second, "leadercount", 0..=0).await;
    let lag = "consumerlag{clientid=\"ReplicaFetcherThread-0-1\",topic=\"t\",partition=\"0\"}";
    metric(&pair.second, lag, 0..=0).await;
    pair.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_disk_is_nearly_full_leaves_the_isr_at_once() {
    let all_of_it = format!("ottla.disk.reserve={}", i64::MAX);
    let pair = Pair::start_with(Times::default(), &[&all_of_it]).await;
    let reserve = &pair.second.broker.replicas.directories()[0].reserve;
    eventually("the disk is short of space", || reserve.is_short()).await;
    pair.create_topic("t", "1").await;
    pair.create_topic("__consumer_offsets", "1").await;
    let first = &pair.first.broker;
    let leader = found(&first.replicas, "t");
    produce(first, &leader, "one").await;
    pair.isr("t", &[FIRST]).await;
    let follower = found(&pair.second.broker.replicas, "t");
    assert_eq!(follower.offsets().unwrap().log_end, Offset(0));
    let offsets = found(&first.replicas, "__consumer_offsets");
    produce(first, &offsets, "committed").await;
    let follower = found(&pair.second.broker.replicas, "__consumer_offsets");
    let has_it = || follower.offsets().unwrap().log_end == Offset(1);
    eventually("internal topics are replicated", has_it).await;
    pair.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_on_all_live_brokers_before_the_answer() {
    let pair = Pair::start(Times {
        wait: Duration::from_millis(100),
        ..Times::default()
    })
    .await;
    pair.create_topic("t", "1").await;
    let first = &pair.first.broker;
    let leader = found(&first.replicas, "t");
    for value in ["one", "two", "three"] {
        produce(first, &leader, value).await;
    }
    assert_eq!(delete_records(first, 2, LONG).await, (2, ErrorCode::None));
    let follower = found(&pair.second.broker.replicas, "t");
    assert_eq!(follower.offsets().unwrap().log_start, Offset(2));
    pair.links[0].cut().await;
    let late = delete_records(first, 3, Duration::ZERO).await;
    assert_eq!(late, (2, ErrorCode::RequestTimedOut));
    pair.mend();
    assert_eq!(delete_records(first, 3, LONG).await, (3, ErrorCode::None));
    pair.shut_down().await;
}

/// Deletes the records of `t` before `offset`; returns the low watermark and the error.
async fn delete_records(broker: &Arc<Broker>, offset: i64, timeout: Duration) -> (i64, ErrorCode) {
    let partition = DeleteRecordsPartition::default().with_offset(offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(KafkaString::from_static("t"))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequestData::default()
        .with_timeout_ms(i32::try_from(timeout.as_millis()).unwrap())
        .with_topics(vec![topic]);
    let context = support::context(ApiKey::DeleteRecords);
    let response = handlers::delete_records::handle(broker, &context, request).await;
    let partition = &response.topics[0].partitions[0];
    let code = ErrorCode::from(partition.error_code);
    (partition.low_watermark, code)
}

/// Waits until the value of a metric of replication is one of these.
async fn metric(running: &Running, name: &str, values: RangeInclusive<i64>) {
    let broker = &running.broker;
    let shows = async {
        loop {
            let observed = observe::observe(broker).await.unwrap();
            let text = broker.metrics.text(&observed).unwrap();
            let of_name = |line: &str| line.split_once(&format!("_{name} "))?.1.parse().ok();
            if text
                .lines()
                .find_map(of_name)
                .is_some_and(|value| values.contains(&value))
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let reached = tokio::time::timeout(LONG, shows).await;
    assert!(reached.is_ok(), "{name} is not {values:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_election_the_old_leader_follows_and_removes_what_only_it_had() {
    let pair = Pair::start(Times {
        // A broker that was fenced joins the ISR with a fetch that it sends after that.
        wait: Duration::from_millis(100),
        ..Times::default()
    })
    .await;
    pair.create_topic("t", "1").await;
    let first = Arc::clone(&pair.first.broker);
    let old = found(&first.replicas, "t");
    produce(&first, &old, "one").await;
    pair.links[0].cut().await;
    append(&first, &old, "two", RequiredAcks::Leader);
    append(&first, &old, "three", RequiredAcks::Leader);
    pair.fence_first().await;
    pair.isr("t", &[SECOND]).await;
    let new = found(&pair.second.broker.replicas, "t");
    eventually("the second leads", || new.role().is_leader()).await;
    produce(&pair.second.broker, &new, "other").await;
    pair.mend();
    pair.isr("t", &[FIRST, SECOND]).await;
    produce(&pair.second.broker, &new, "last").await;
    assert_eq!(old.offsets().unwrap().log_end, Offset(3));
    assert_eq!(bytes_of(&old), bytes_of(&new));
    pair.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_partition_does_not_wait_for_the_fetch_that_is_under_way() {
    let pair = Pair::start(Times::default()).await;
    for topic in ["t", "u", "v"] {
        pair.create_topic(topic, "2").await;
        let leader = found(&pair.first.broker.replicas, topic);
        // The fetch of the partitions before waits for records for longer than the test does.
        produce(&pair.first.broker, &leader, "one").await;
    }
    pair.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_tells_no_end_before_its_followers_have_what_it_began_with() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let leader = Leader::start(directories[0].path()).await;
    leader.set_isr(&[1]);
    leader.produce("one").await;
    leader.set_isr(&[1, 2]);
    let broker = &leader.running.broker;
    append(broker, &leader.partition, "two", RequiredAcks::Leader);
    let end = async |timestamp: i64| {
        let answer = list_offsets(broker, timestamp).await;
        let partition = &answer.topics[0].partitions[0];
        (partition.offset, ErrorCode::from(partition.error_code))
    };
    assert_eq!(end(-1).await, (1, ErrorCode::None), "the high watermark");
    leader.lead_anew();
    assert_eq!(end(-1).await, (-1, ErrorCode::OffsetNotAvailable));
    assert_eq!(end(-2).await, (0, ErrorCode::None), "the start is known");
    let follower = follow(directories[1].path(), &leader, LONG);
    let reached = || !leader.partition.is_behind_its_epoch();
    eventually("the follower has caught up", reached).await;
    assert_eq!(end(-1).await, (2, ErrorCode::None));
    follower.fetching.abort();
    leader.running.shut_down().await;
}

async fn list_offsets(broker: &Broker, timestamp: i64) -> ListOffsetsResponseData {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default()
        .with_name(KafkaString::from_static("t"))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequestData::default()
        .with_replica_id(-1)
        .with_topics(vec![topic]);
    let context = support::context(ApiKey::ListOffsets);
    handlers::list_offsets::handle(broker, &context, request).await
}
