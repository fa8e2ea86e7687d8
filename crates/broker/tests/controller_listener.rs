//! The listener of a controller, over sockets: a node without a vote follows the metadata, and tools see it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use ottla_broker::Running;
use ottla_broker::cluster::observe::{CannotFollow, Identity, MetadataObserver};
use ottla_broker::config::BrokerConfig;
use ottla_broker::process::clock::Clock;
use ottla_client::{Connection, Options, Request};
use ottla_protocol::ids::{NodeId, Offset, Uuid};
use ottla_protocol::messages::{
    CreateTopicsRequestData, DescribeClusterRequestData, DescribeQuorumRequestData, ErrorCode,
    KafkaString, MetadataRequestData, create_topics_request, describe_quorum_request,
};

const OBSERVER: NodeId = NodeId(7);

async fn start(directory: &Path) -> Running {
    let config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    ottla_broker::start(config, Clock::start()).await.unwrap()
}

/// The address of the listener with this name.
fn address(running: &Running, name: &str) -> String {
    let all = running
        .addresses
        .iter()
        .chain(&running.controller_addresses);
    let mut named = all.filter(|(known, _)| known == name);
    named.next().unwrap().1.to_string()
}

async fn connect(running: &Running, listener: &str) -> Connection {
    let opened = Connection::open(&address(running, listener), &Options::default()).await;
    opened.unwrap()
}

fn observer(running: &Running, cluster_id: &str) -> MetadataObserver {
    let identity = Identity {
        node: OBSERVER,
        directory: Uuid::from_parts(7, 7),
        cluster_id: cluster_id.to_owned(),
    };
    MetadataObserver::new(identity, vec![address(running, "CONTROLLER")])
}

fn topic(name: &str) -> CreateTopicsRequestData {
    let topic = create_topics_request::CreatableTopic::default()
        .with_name(KafkaString::from(name.to_owned()))
        .with_num_partitions(3)
        .with_replication_factor(1);
    CreateTopicsRequestData::default().with_topics(vec![topic])
}

async fn create(running: &Running, name: &str) {
    let clients = connect(running, "PLAINTEXT").await;
    let created = clients.call(&topic(name)).await.unwrap();
    assert_eq!(created.topics[0].error_code, 0);
}

/// Follows until the observer has the controller's image.
async fn follow(observer: &mut MetadataObserver, running: &Running) {
    while *observer.image().0 != *running.broker.controller.image() {
        observer.next().await.unwrap();
    }
}

#[tokio::test]
async fn an_observer_follows_the_metadata() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let cluster_id = running.broker.cluster_id.as_str().to_owned();
    create(&running, "first").await;
    let mut observer = observer(&running, &cluster_id);
    follow(&mut observer, &running).await;
    create(&running, "second").await;
    follow(&mut observer, &running).await;
    assert_eq!(observer.image().0.topics.len(), 2);
    running.shut_down().await;
}

#[tokio::test]
async fn describe_quorum_shows_how_far_an_observer_has_come() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let cluster_id = running.broker.cluster_id.as_str().to_owned();
    let mut observer = observer(&running, &cluster_id);
    follow(&mut observer, &running).await;
    create(&running, "t").await;
    follow(&mut observer, &running).await;
    let tools = connect(&running, "CONTROLLER").await;
    let partition = describe_quorum_request::PartitionData::default();
    let asked = describe_quorum_request::TopicData::default()
        .with_topic_name(KafkaString::from_static("__cluster_metadata"))
        .with_partitions(vec![partition]);
    let request = DescribeQuorumRequestData::default().with_topics(vec![asked]);
    let answer = tools.call(&request).await.unwrap();
    let quorum = &answer.topics[0].partitions[0];
    let [seen] = quorum.observers.as_slice() else {
        panic!("one observer fetched, {} are shown", quorum.observers.len())
    };
    assert_eq!(seen.replica_id, OBSERVER.0);
    assert_eq!(seen.replica_directory_id, Uuid::from_parts(7, 7));
    assert!(seen.log_end_offset > 0 && Offset(seen.log_end_offset) <= observer.image().1);
    let request = DescribeClusterRequestData::default().with_endpoint_type(2);
    let cluster = tools.call(&request).await.unwrap();
    assert_eq!((cluster.error_code, cluster.brokers.len()), (0, 1));
    let port = address(&running, "CONTROLLER");
    assert!(port.ends_with(&format!(":{}", cluster.brokers[0].port)));
    running.shut_down().await;
}

#[tokio::test]
async fn an_observer_of_another_cluster_is_refused_and_told_where_to_look() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let mut stranger = observer(&running, "another-cluster");
    let refused = stranger.next().await.unwrap_err();
    assert!(matches!(refused, CannotFollow::ForeignCluster { .. }));
    assert!(
        refused
            .to_string()
            .contains("controller.quorum.bootstrap.servers")
    );
    assert!(stranger.image().0.topics.is_empty());
    running.shut_down().await;
}

#[tokio::test]
async fn each_listener_serves_its_own_apis() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let controller = connect(&running, "CONTROLLER").await;
    assert!(controller.version::<MetadataRequestData>().is_err());
    let wrong = DescribeClusterRequestData::default().with_endpoint_type(1);
    let answer = controller.call(&wrong).await.unwrap();
    assert_eq!(answer.error_code, ErrorCode::MismatchedEndpointType.code());
    let clients = connect(&running, "PLAINTEXT").await;
    assert!(clients.version::<MetadataRequestData>().is_ok());
    assert_eq!(<DescribeQuorumRequestData as Request>::NEWEST, 2);
    running.shut_down().await;
}
