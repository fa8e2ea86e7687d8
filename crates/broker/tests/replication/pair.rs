//! Two brokers of one cluster, each behind a link that can be cut. The first has the controller, and leads at first.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_broker::config::{self, BrokerConfig, File};
use ottla_broker::handlers::create_topics;
use ottla_broker::process::clock::Clock;
use ottla_broker::replicas::partition::{Append, Partition, RequiredAcks};
use ottla_broker::replicas::{Found, Replicas};
use ottla_broker::{Broker, Running};
use ottla_controller::request::FenceBroker;
use ottla_log::{Batch, Bound, FirstBatch, Origin, ReadRequest};
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::{NodeId, Offset, PartitionIndex};
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use ottla_protocol::messages::{ApiKey, CreateTopicsRequestData, KafkaString};
use ottla_protocol::records::{BatchBuilder, BatchOptions, split_batches};
use tokio::sync::oneshot;

use crate::link::Link;
use crate::support;

/// Longer than any test waits for what must happen.
pub const LONG: Duration = Duration::from_secs(20);

pub const FIRST: NodeId = NodeId(1);
pub const SECOND: NodeId = NodeId(2);

/// How long a follower may lag, and how long its leader may hold a fetch.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub lag: Duration,
    pub wait: Duration,
}

impl Default for Times {
    /// Both are longer than a test takes: it fails if only their end would let it go on.
    fn default() -> Self {
        Self {
            lag: LONG * 20,
            wait: LONG * 10,
        }
    }
}

pub struct Pair {
    pub first: Running,
    pub second: Running,
    /// The ways of the brokers to the first one, and to the second.
    pub links: [Link; 2],
    _directories: [tempfile::TempDir; 2],
}

/// The configuration of a broker: of one with the controller, or from a file of one without.
fn configured(
    node: NodeId,
    (link, directory): (&Link, &Path),
    elsewhere: Option<(SocketAddr, &[&str])>,
    times: Times,
) -> BrokerConfig {
    let mut lines = vec![
        format!("node.id={node}"),
        format!("advertised.listeners=PLAINTEXT://{}", link.address),
        format!("log.dirs={}", directory.display()),
        "ottla.http.listen=".to_owned(),
        format!("broker.rack=rack-{node}"),
        "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector"
            .to_owned(),
        format!("broker.session.timeout.ms={}", LONG.as_millis() * 20),
        format!("replica.lag.time.max.ms={}", times.lag.as_millis()),
        format!("replica.fetch.wait.max.ms={}", times.wait.as_millis()),
        format!("replica.socket.timeout.ms={}", LONG.as_millis() * 20),
    ];
    let Some((controller, more)) = elsewhere else {
        lines.push("listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0".to_owned());
        return config::load(None, &lines).unwrap().config;
    };
    lines.extend([
        "listeners=PLAINTEXT://127.0.0.1:0".to_owned(),
        "process.roles=broker".to_owned(),
        "controller.listener.names=CONTROLLER".to_owned(),
        format!("controller.quorum.bootstrap.servers={controller}"),
    ]);
    lines.extend(more.iter().map(ToString::to_string));
    let file = File {
        name: "server.properties",
        text: &lines.join("\n"),
    };
    config::load(Some(file), &[]).unwrap().config
}

impl Pair {
    pub async fn start(times: Times) -> Self {
        Self::start_with(times, &[]).await
    }

    /// The second broker has more lines in its file.
    pub async fn start_with(times: Times, more: &[&str]) -> Self {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let links = [Link::new().await, Link::new().await];
        let at = [0, 1].map(|number: usize| (&links[number], directories[number].path()));
        let first = configured(FIRST, at[0], None, times);
        let first = ottla_broker::start(first, Clock::start()).await.unwrap();
        links[0].lead_to(first.addresses[0].1);
        let controller = first.controller_addresses[0].1;
        let second = configured(SECOND, at[1], Some((controller, more)), times);
        let second = ottla_broker::start(second, Clock::start()).await.unwrap();
        links[1].lead_to(second.addresses[0].1);
        Self {
            first,
            second,
            links,
            _directories: directories,
        }
    }

    /// The second broker fetches from the first again.
    pub fn mend(&self) {
        self.links[0].lead_to(self.first.addresses[0].1);
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

    pub async fn shut_down(self) {
        self.second.shut_down().await;
        self.first.shut_down().await;
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
