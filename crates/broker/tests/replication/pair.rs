//! Two brokers of one cluster in one process. The first has the controller; what the second asks of it, and the metadata
//! that it applies, are passed on in memory. Replication goes over sockets.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_broker::cluster::channel::{Controller, Request};
use ottla_broker::cluster::{isr_changes, registration};
use ottla_broker::config::BrokerConfig;
use ottla_broker::context::ListenerRole;
use ottla_broker::drivers::controller::{Follower, follower};
use ottla_broker::drivers::fetchers;
use ottla_broker::handlers::{self, create_topics};
use ottla_broker::network::Listener;
use ottla_broker::network::connection::ConnectionSettings;
use ottla_broker::network::inbox::FrameLimits;
use ottla_broker::network::limits::RequestMemory;
use ottla_broker::process::clock::Clock;
use ottla_broker::replicas::partition::{Append, Partition, RequiredAcks};
use ottla_broker::replicas::{Found, Replicas};
use ottla_broker::{Broker, Running};
use ottla_controller::broker_heartbeat::{ControlledShutdown, Heartbeat, Wish};
use ottla_controller::request::{BrokerHeartbeat, FenceBroker, RegisterBroker};
use ottla_controller::{ControllerReply, ControllerRequest};
use ottla_log::{Batch, Bound, FirstBatch, Origin, ReadRequest};
use ottla_metadata::{Changes, Endpoint, MetadataImage};
use ottla_protocol::ids::{NodeId, Offset, PartitionIndex, Uuid};
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use ottla_protocol::messages::{ApiKey, CreateTopicsRequestData, KafkaString};
use ottla_protocol::records::{BatchBuilder, BatchOptions, split_batches};
use ottla_replica::housekeeping::Intervals;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::support;

/// Longer than any test waits for what must happen.
pub const LONG: Duration = Duration::from_secs(20);

pub const FIRST: NodeId = NodeId(1);
pub const SECOND: NodeId = NodeId(2);

pub struct Pair {
    pub first: Running,
    pub second: Arc<Broker>,
    epoch: i64,
    tasks: JoinSet<()>,
    /// What the second broker does to replicate; it ends when this is dropped.
    replicating: JoinSet<()>,
    _stopping: watch::Sender<bool>,
    never: watch::Receiver<bool>,
    _directories: [tempfile::TempDir; 2],
}

/// A broker's configuration. A follower may lag for `max_lag`.
fn config(node: NodeId, directory: &Path, max_lag: Duration) -> BrokerConfig {
    let mut config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    let lag = max_lag.as_millis().to_string();
    let values = &mut config.statics.values;
    values.insert("replica.lag.time.max.ms".to_owned(), lag);
    values.insert("node.id".to_owned(), node.0.to_string());
    config.replication.max_lag = max_lag;
    // A fetch that only its end would go on from fails the test.
    config.replication.fetch_wait = LONG * 10;
    config.replication.socket_timeout = LONG * 20;
    // The second broker sends no heartbeats, and the first none that would unfence it.
    config.quorum.heartbeat_interval = LONG * 10;
    config.metadata.broker_session = LONG * 20;
    config.node_id = node;
    config.statics.node = node;
    config
}

impl Pair {
    pub async fn start(max_lag: Duration) -> Self {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, two] = [&directories[0], &directories[1]].map(tempfile::TempDir::path);
        let clock = Clock::start();
        let first = ottla_broker::start(config(FIRST, one, max_lag), clock);
        let first = first.await.unwrap();
        let of_cluster = &first.broker.controller;
        let image = MetadataImage::clone(&of_cluster.image());
        let (applied, _, follower) = follower(image, of_cluster.applied());
        let sessions = Arc::clone(of_cluster.sessions());
        let (controller, requests) = Controller::new(applied, sessions);
        let config = config(SECOND, two, max_lag);
        let id = first.broker.cluster_id.clone();
        let second = Broker::new(config, clock, id, controller, handlers::served);
        let directory = Uuid::from_parts(7, 7);
        let known = second.replicas.directories()[0].id.set(directory);
        known.unwrap();
        let drivers = Arc::clone(&second.drivers);
        let loaded = of_cluster.image();
        let load = move || drivers.load(&loaded, Intervals::default());
        tokio::task::spawn_blocking(load).await.unwrap().unwrap();
        let (stopping, never) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let address = serve(&second, &mut tasks, &never);
        let endpoint = Endpoint {
            listener: "PLAINTEXT".to_owned(),
            host: address.ip().to_string(),
            port: address.port(),
            security_protocol: 0,
        };
        let last = (vec![directory], -1);
        let image = of_cluster.image();
        let asked = registration::registration(&second.config, &image, vec![endpoint], last);
        let epoch = of_cluster.ask(RegisterBroker(asked)).await.unwrap();
        let epoch = epoch.unwrap();
        second.set_epoch(epoch);
        beat(of_cluster, (SECOND, epoch)).await;
        tasks.spawn(pass_on(of_cluster.clone(), requests));
        tasks.spawn(apply(of_cluster.clone(), Arc::clone(&second), follower));
        let mut pair = Self {
            first,
            second,
            epoch,
            tasks,
            replicating: JoinSet::new(),
            _stopping: stopping,
            never,
            _directories: directories,
        };
        pair.replicate();
        pair
    }

    /// The second broker replicates.
    pub fn replicate(&mut self) {
        let (second, never) = (&self.second, &self.never);
        let tasks = &mut self.replicating;
        tasks.spawn(fetchers::follow(Arc::clone(second), never.clone()));
        tasks.spawn(isr_changes::send(Arc::clone(second), never.clone()));
        tasks.spawn(isr_changes::shrink(Arc::clone(second), never.clone()));
    }

    /// The second broker does not replicate any more.
    pub async fn stop_replicating(&mut self) {
        self.replicating.shutdown().await;
    }

    /// Creates a topic with one partition on both brokers; the first leads it.
    pub async fn create_topic(&self, name: &'static str, min_isr: &'static str) {
        let assignment = CreatableReplicaAssignment::default()
            .with_partition_index(0)
            .with_broker_ids(vec![FIRST.0, SECOND.0]);
        let min_isr = CreatableTopicConfig::default()
            .with_name(KafkaString::from_static("min.insync.replicas"))
            .with_value(Some(KafkaString::from_static(min_isr)));
        let topic = CreatableTopic::default()
            .with_name(KafkaString::from_static(name))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(vec![assignment])
            .with_configs(vec![min_isr]);
        let request = CreateTopicsRequestData::default().with_topics(vec![topic]);
        let context = support::context(ApiKey::CreateTopics);
        let response = create_topics::handle(&self.first.broker, &context, request).await;
        assert_eq!(response.topics[0].error_code, 0, "{response:?}");
    }

    /// The controller takes the first broker for dead.
    pub async fn fence_first(&self) {
        let controller = &self.first.broker.controller;
        let epoch = controller.image().brokers[&FIRST].epoch;
        let fence = FenceBroker {
            broker: FIRST,
            epoch,
        };
        controller.ask(fence).await.unwrap();
    }

    pub async fn unfence_first(&self) {
        let broker = &self.first.broker;
        beat(&broker.controller, (FIRST, broker.epoch())).await;
    }

    /// Waits until the controller has this ISR for the partition of `topic`.
    pub async fn isr(&self, topic: &str, isr: &[NodeId]) {
        let mut images = self.first.broker.controller.follow();
        let is_there = |image: &Arc<MetadataImage>| {
            let topic = image.topic(topic).unwrap();
            topic.partitions[&PartitionIndex(0)].isr == isr
        };
        let changed = tokio::time::timeout(LONG, images.wait_for(is_there)).await;
        changed.expect("the ISR in time").unwrap();
    }

    pub async fn shut_down(mut self) {
        self.replicating.shutdown().await;
        self.tasks.shutdown().await;
        let (drivers, epoch) = (Arc::clone(&self.second.drivers), self.epoch);
        let close = move || drivers.close(epoch);
        tokio::task::spawn_blocking(close).await.unwrap().unwrap();
        self.first.shut_down().await;
    }
}

/// A broker that is fenced wants to serve.
async fn beat(controller: &Controller, (broker, epoch): (NodeId, i64)) {
    let heartbeat = Heartbeat {
        broker,
        epoch,
        metadata_offset: Offset(epoch),
        wish: Wish::Serve,
        offline_directories: Vec::new(),
        cordoned_directories: None,
        shutdown: ControlledShutdown::None,
    };
    let health = controller.ask(BrokerHeartbeat(heartbeat)).await.unwrap();
    assert!(!health.unwrap().is_fenced);
}

/// Serves clients of the broker on a free port.
fn serve(
    broker: &Arc<Broker>,
    tasks: &mut JoinSet<()>,
    never: &watch::Receiver<bool>,
) -> SocketAddr {
    let network = &broker.config.network;
    let settings = ConnectionSettings {
        frames: FrameLimits {
            any: network.max_request_bytes,
            without_records: network.max_request_bytes_without_records,
        },
        max_idle: network.connections_max_idle,
        receive_timeout: network.receive_timeout,
        memory: RequestMemory::new(network.max_bytes_in_flight),
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind("PLAINTEXT", ListenerRole::Broker, any, 50).unwrap();
    let address = listener.address().unwrap();
    let limits = Arc::clone(&broker.connections);
    tasks.spawn(listener.run(Arc::clone(broker), limits, settings, never.clone()));
    broker.set_ready(true);
    address
}

/// Passes on what the second broker asks of the controller.
async fn pass_on(controller: Controller, mut requests: mpsc::Receiver<Request>) {
    while let Some((caller, request)) = requests.recv().await {
        if let ControllerRequest::AlterPartition(request) = request {
            let reply = controller.ask(request).await.unwrap();
            let _ = caller.send(ControllerReply::AlterPartition(reply));
        }
    }
}

/// Applies the metadata to the second broker, and publishes it there.
async fn apply(of_cluster: Controller, broker: Arc<Broker>, follower: Follower) {
    let mut images = of_cluster.follow();
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        let changes = difference(&broker.controller.image(), &image);
        let (drivers, later) = (Arc::clone(&broker.drivers), Arc::clone(&image));
        let applied = tokio::task::spawn_blocking(move || drivers.apply(&later, &changes));
        assert!(applied.await.unwrap().is_empty());
        follower.begin_at(MetadataImage::clone(&image), of_cluster.applied());
        images.changed().await.unwrap();
    }
}

fn difference(before: &MetadataImage, now: &MetadataImage) -> Changes {
    let topics = now.topics.iter();
    let partitions = topics.flat_map(|(id, topic)| {
        let indexes = topic.partitions.keys();
        indexes.map(|index| (*id, *index))
    });
    let gone = before.topics.iter();
    let gone = gone.filter(|(id, _)| !now.topics.contains_key(*id));
    Changes {
        partitions: partitions.collect(),
        deleted_topics: gone.map(|(id, topic)| (*id, topic.name.clone())).collect(),
        brokers: now.brokers.keys().copied().collect(),
        ..Changes::default()
    }
}

/// The first partition of a topic.
pub fn found(replicas: &Replicas, topic: &str) -> Arc<Partition> {
    match replicas.by_name(topic, PartitionIndex(0)) {
        Found::Here(partition) => partition,
        found => panic!("{found:?}: the partition is here"),
    }
}

/// Waits until `is_so`.
pub async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let reached = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let reached = tokio::time::timeout(LONG, reached).await;
    assert!(reached.is_ok(), "not in time: {what}");
}

/// Appends a record; returns the offset after it.
pub fn append(
    broker: &Broker,
    partition: &Arc<Partition>,
    value: &str,
    acks: RequiredAcks,
) -> Offset {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(0, None, Some(value.as_bytes()), &[]);
    let bytes = builder.build().unwrap();
    let batch = Batch::from(split_batches(&bytes).next().unwrap().unwrap());
    let append = Append {
        batches: &[batch],
        acks,
    };
    let now = broker.clock.now();
    let outcome = partition.append(&[append], Origin::Client, now);
    outcome[0].as_ref().unwrap().last_offset.plus(1)
}

/// Appends a record, and waits until it is acknowledged by all replicas in the ISR.
pub async fn produce(broker: &Broker, partition: &Arc<Partition>, value: &str) {
    let end = append(broker, partition, value, RequiredAcks::All);
    let (producer, answer) = oneshot::channel();
    if !partition.replicated(end, || producer) {
        let answer = tokio::time::timeout(LONG, answer).await;
        answer.expect("acknowledged in time").unwrap().unwrap();
    }
}

pub fn bytes_of(partition: &Partition) -> Vec<u8> {
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
