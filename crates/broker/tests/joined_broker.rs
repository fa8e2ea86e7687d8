//! Another broker joins over the controller's listener: this test sends what that broker would send.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_broker::Running;
use ottla_broker::config::BrokerConfig;
use ottla_broker::process::clock::Clock;
use ottla_client::{Connection, Options, Request};
use ottla_metadata::{MetadataImage, Partition};
use ottla_protocol::frame::{LENGTH_BYTES, RequestHead, write_request};
use ottla_protocol::ids::{NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::alter_partition_request::{self, BrokerState};
use ottla_protocol::messages::broker_registration_request::{Feature, Listener};
use ottla_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use ottla_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla_protocol::messages::{
    AllocateProducerIdsRequestData, AlterPartitionRequestData, AlterPartitionResponseData, ApiKey,
    AssignReplicasToDirsRequestData, BrokerHeartbeatRequestData, BrokerRegistrationRequestData,
    CreateTopicsRequestData, CreateTopicsResponseData, DefaultPrincipalDataData,
    DescribeQuorumRequestData, EnvelopeRequestData, ErrorCode, KafkaString, ProduceRequestData,
    ResponseHeaderData, UnregisterBrokerRequestData, assign_replicas_to_dirs_request,
};
use ottla_protocol::records::{BatchBuilder, BatchOptions};

/// The broker that joins.
const OTHER: i32 = 2;
const DIRECTORY: Uuid = Uuid::from_parts(2, 21);
/// Longer than any test takes.
const LONG: Duration = Duration::from_mins(10);

async fn start(directory: &Path, session: Duration) -> Running {
    let mut config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    config.metadata.broker_session = session;
    config.quorum.heartbeat_interval = Duration::from_millis(20);
    ottla_broker::start(config, Clock::start()).await.unwrap()
}

async fn connect(running: &Running, listener: &str) -> Connection {
    let mut all = running
        .addresses
        .iter()
        .chain(&running.controller_addresses);
    let address = all.find(|(known, _)| known == listener).unwrap().1;
    let opened = Connection::open(&address.to_string(), &Options::default()).await;
    opened.unwrap()
}

/// The registration of the process `incarnation` of the broker.
fn registration(running: &Running, incarnation: u64) -> BrokerRegistrationRequestData {
    let feature = |name: &'static str, maximum| {
        Feature::default()
            .with_name(KafkaString::from_static(name))
            .with_min_supported_version(0)
            .with_max_supported_version(maximum)
    };
    let listener = Listener::default()
        .with_name(KafkaString::from_static("PLAINTEXT"))
        .with_host(KafkaString::from_static("127.0.0.1"))
        .with_port(1);
    BrokerRegistrationRequestData::default()
        .with_broker_id(OTHER)
        .with_cluster_id(running.broker.cluster_id.clone())
        .with_incarnation_id(Uuid::from_parts(5, incarnation))
        .with_listeners(vec![listener])
        .with_features(vec![
            feature("metadata.version", 99),
            feature("eligible.leader.replicas.version", 1),
        ])
        .with_log_dirs(vec![DIRECTORY])
}

async fn register(controller: &Connection, request: &BrokerRegistrationRequestData) -> (i16, i64) {
    let answer = controller.call(request).await.unwrap();
    (answer.error_code, answer.broker_epoch)
}

/// A heartbeat of the broker, which has applied its registration.
fn heartbeat(epoch: i64) -> BrokerHeartbeatRequestData {
    BrokerHeartbeatRequestData::default()
        .with_broker_id(OTHER)
        .with_broker_epoch(epoch)
        .with_current_metadata_offset(epoch)
}

/// Registers the broker and ends its fencing; returns its epoch.
async fn join(running: &Running, controller: &Connection) -> i64 {
    let (code, epoch) = register(controller, &registration(running, 1)).await;
    assert_eq!(code, 0);
    let answer = controller.call(&heartbeat(epoch)).await.unwrap();
    assert_eq!((answer.error_code, answer.is_fenced), (0, false));
    epoch
}

/// Waits until the committed metadata is so.
async fn until(running: &Running, is_so: impl Fn(&MetadataImage) -> bool) {
    let mut images = running.broker.controller.follow();
    let image = images.wait_for(|image| is_so(image));
    let waited = tokio::time::timeout(Duration::from_secs(30), image).await;
    waited.expect("the metadata does not become so").unwrap();
}

fn is_fenced(image: &MetadataImage) -> bool {
    image.brokers[&NodeId(OTHER)].fenced
}

/// Creates a topic of one partition with these replicas; returns its id.
async fn create(running: &Running, name: &'static str, replicas: Vec<i32>) -> Uuid {
    let assigned = CreatableReplicaAssignment::default().with_broker_ids(replicas);
    let topic = CreatableTopic::default()
        .with_name(KafkaString::from_static(name))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![assigned]);
    let request = CreateTopicsRequestData::default().with_topics(vec![topic]);
    let clients = connect(running, "PLAINTEXT").await;
    let answer = clients.call(&request).await.unwrap();
    assert_eq!(answer.topics[0].error_code, 0);
    answer.topics[0].topic_id
}

fn partition(running: &Running, topic: Uuid) -> Partition {
    let image = running.broker.controller.image();
    image.topics[&topic].partitions[&PartitionIndex(0)].clone()
}

#[tokio::test]
async fn a_broker_registers_once_and_is_unfenced_when_it_has_caught_up() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path(), LONG).await;
    let controller = connect(&running, "CONTROLLER").await;
    let first = registration(&running, 1);
    let foreign = first.clone().with_cluster_id("another".to_owned().into());
    let inconsistent = ErrorCode::InconsistentClusterId.code();
    assert_eq!(register(&controller, &foreign).await, (inconsistent, -1));
    let zookeeper = first.clone().with_is_migrating_zk_broker(true);
    let unknown = ErrorCode::BrokerIdNotRegistered.code();
    assert_eq!(register(&controller, &zookeeper).await, (unknown, -1));
    let featureless = first.clone().with_features(Vec::new());
    let invalid = ErrorCode::InvalidRegistration.code();
    assert_eq!(register(&controller, &featureless).await, (invalid, -1));
    let duplicate = ErrorCode::DuplicateBrokerRegistration.code();
    let own = first.clone().with_broker_id(1);
    assert_eq!(register(&controller, &own).await, (duplicate, -1));

    let (code, epoch) = register(&controller, &first).await;
    assert_eq!(code, 0);
    let behind = heartbeat(epoch).with_current_metadata_offset(epoch - 1);
    let answer = controller.call(&behind).await.unwrap();
    assert_eq!((answer.is_caught_up, answer.is_fenced), (false, true));
    let waiting = heartbeat(epoch).with_want_fence(true);
    let answer = controller.call(&waiting).await.unwrap();
    assert_eq!((answer.is_caught_up, answer.is_fenced), (true, true));
    let answer = controller.call(&heartbeat(epoch)).await.unwrap();
    assert_eq!((answer.error_code, answer.is_fenced), (0, false));
    let stale = controller.call(&heartbeat(epoch - 1)).await.unwrap();
    assert_eq!(stale.error_code, ErrorCode::StaleBrokerEpoch.code());

    let second = registration(&running, 2);
    assert_eq!(register(&controller, &second).await, (duplicate, -1));
    assert_eq!(register(&controller, &first).await, (0, epoch));
    running.shut_down().await;
}

#[tokio::test]
async fn a_silent_broker_is_fenced_and_its_next_process_may_register() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path(), Duration::from_millis(300)).await;
    let controller = connect(&running, "CONTROLLER").await;
    let epoch = join(&running, &controller).await;
    let topic = create(&running, "t", vec![OTHER]).await;
    assert_eq!(partition(&running, topic).leader, Some(NodeId(OTHER)));
    until(&running, is_fenced).await;
    assert_eq!(partition(&running, topic).leader, None);
    assert!(!running.broker.controller.image().brokers[&NodeId(1)].fenced);
    let (code, next) = register(&controller, &registration(&running, 2)).await;
    assert!(code == 0 && next > epoch);
    running.shut_down().await;
}

#[tokio::test]
async fn a_broker_that_restarts_with_the_controller_registers_at_once() {
    let directory = tempfile::tempdir().unwrap();
    // Its address answers, so that nothing says that its last process is dead.
    let answers = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = answers.local_addr().unwrap().port();
    let registration = |running: &Running, incarnation| {
        let mut request = registration(running, incarnation);
        request.listeners[0].port = port;
        request
    };
    let running = start(directory.path(), LONG).await;
    let controller = connect(&running, "CONTROLLER").await;
    let (_, epoch) = register(&controller, &registration(&running, 1)).await;
    let answer = controller.call(&heartbeat(epoch)).await.unwrap();
    assert_eq!((answer.error_code, answer.is_fenced), (0, false));
    running.shut_down().await;
    let running = start(directory.path(), LONG).await;
    let controller = connect(&running, "CONTROLLER").await;
    assert!(!is_fenced(&running.broker.controller.image()));
    let (code, next) = register(&controller, &registration(&running, 2)).await;
    assert!(code == 0 && next > epoch, "the answer is {code}");
    running.shut_down().await;
}

#[tokio::test]
async fn a_leader_changes_its_isr_by_its_own_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path(), LONG).await;
    let controller = connect(&running, "CONTROLLER").await;
    let epoch = join(&running, &controller).await;
    let topic = create(&running, "t", vec![OTHER, 1]).await;
    let before = partition(&running, topic);
    let wanted = |broker_epoch, partition_epoch| {
        let member = BrokerState::default()
            .with_broker_id(OTHER)
            .with_broker_epoch(epoch);
        let partition = alter_partition_request::PartitionData::default()
            .with_leader_epoch(before.leader_epoch.0)
            .with_partition_epoch(partition_epoch)
            .with_new_isr_with_epochs(vec![member]);
        let topic = alter_partition_request::TopicData::default()
            .with_topic_id(topic)
            .with_partitions(vec![partition]);
        AlterPartitionRequestData::default()
            .with_broker_id(OTHER)
            .with_broker_epoch(broker_epoch)
            .with_topics(vec![topic])
    };
    let request = wanted(epoch - 1, before.partition_epoch);
    let stale = controller.call(&request).await.unwrap();
    assert_eq!(stale.error_code, ErrorCode::StaleBrokerEpoch.code());
    let outcome = |answer: AlterPartitionResponseData| {
        let partition = &answer.topics[0].partitions[0];
        assert_eq!((answer.error_code, answer.topics[0].topic_id), (0, topic));
        (partition.error_code, partition.isr.clone())
    };
    let ahead = wanted(epoch, before.partition_epoch + 1);
    let not_controller = ErrorCode::NotController.code();
    let answer = controller.call(&ahead).await.unwrap();
    assert_eq!(outcome(answer), (not_controller, vec![]));
    let current = wanted(epoch, before.partition_epoch);
    let answer = controller.call(&current).await.unwrap();
    let after = partition(&running, topic);
    assert_eq!(after.isr, [NodeId(OTHER)]);
    let answered = &answer.topics[0].partitions[0];
    assert_eq!(answered.partition_epoch, after.partition_epoch);
    assert_eq!(
        (answered.leader_id, answered.leader_epoch),
        (OTHER, after.leader_epoch.0)
    );
    assert_eq!(outcome(answer), (0, vec![OTHER]));
    running.shut_down().await;
}

#[tokio::test]
async fn a_broker_gets_producer_ids_reports_its_directories_and_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path(), LONG).await;
    let controller = connect(&running, "CONTROLLER").await;
    let epoch = join(&running, &controller).await;
    let topic = create(&running, "t", vec![OTHER]).await;
    let allocate = AllocateProducerIdsRequestData::default()
        .with_broker_id(OTHER)
        .with_broker_epoch(epoch);
    let first = controller.call(&allocate).await.unwrap();
    let second = controller.call(&allocate).await.unwrap();
    assert_eq!((first.error_code, first.producer_id_len), (0, 1000));
    assert_eq!(second.producer_id_start, first.producer_id_start + 1000);

    let failed = Uuid::from_parts(2, 22);
    let place = |topic_id, index| {
        let partition =
            assign_replicas_to_dirs_request::PartitionData::default().with_partition_index(index);
        assign_replicas_to_dirs_request::TopicData::default()
            .with_topic_id(topic_id)
            .with_partitions(vec![partition])
    };
    let located = assign_replicas_to_dirs_request::DirectoryData::default()
        .with_id(failed)
        .with_topics(vec![
            place(Uuid::from_parts(7, 7), 0),
            place(topic, 0),
            place(topic, 3),
        ]);
    let assign = AssignReplicasToDirsRequestData::default()
        .with_broker_id(OTHER)
        .with_broker_epoch(epoch)
        .with_directories(vec![located]);
    let answer = controller.call(&assign).await.unwrap();
    let topics = answer.directories[0].topics.iter();
    let codes: Vec<i16> = topics.map(|topic| topic.partitions[0].error_code).collect();
    let unknown_id = ErrorCode::UnknownTopicId.code();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(codes, [unknown_id, 0, unknown]);
    assert_eq!(
        partition(&running, topic).leader,
        None,
        "it lies in a directory that is not there"
    );

    let forget = UnregisterBrokerRequestData::default().with_broker_id(OTHER);
    let clients = connect(&running, "PLAINTEXT").await;
    assert_eq!(clients.call(&forget).await.unwrap().error_code, 0);
    let again = controller.call(&forget).await.unwrap();
    assert_eq!(again.error_code, ErrorCode::BrokerIdNotRegistered.code());
    let answer = controller.call(&allocate).await.unwrap();
    assert_eq!(answer.error_code, ErrorCode::StaleBrokerEpoch.code());
    running.shut_down().await;
}

#[tokio::test]
async fn a_broker_may_stop_when_its_leaderships_have_moved() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path(), LONG).await;
    let controller = connect(&running, "CONTROLLER").await;
    let epoch = join(&running, &controller).await;
    let topic = create(&running, "t", vec![OTHER, 1]).await;
    assert_eq!(partition(&running, topic).leader, Some(NodeId(OTHER)));
    let leaving = heartbeat(epoch).with_want_shut_down(true);
    let answer = controller.call(&leaving).await.unwrap();
    assert_eq!((answer.error_code, answer.should_shut_down), (0, false));
    assert_eq!(partition(&running, topic).leader, Some(NodeId(1)));
    assert!(
        running.broker.controller.image().brokers[&NodeId(OTHER)].in_controlled_shutdown,
        "it gets no new replicas in sync meanwhile"
    );
    // It may stop once the other broker, which beats by itself, knows the new leaders.
    let stops = async {
        while !controller.call(&leaving).await.unwrap().should_shut_down {
            tokio::task::yield_now().await;
        }
    };
    let stops = tokio::time::timeout(Duration::from_secs(30), stops).await;
    stops.expect("the broker is never told to stop");
    assert!(is_fenced(&running.broker.controller.image()));
    running.shut_down().await;
}

#[tokio::test]
async fn leaderships_leave_a_log_directory_that_a_heartbeat_reports_as_failed() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path(), LONG).await;
    let controller = connect(&running, "CONTROLLER").await;
    let sound = Uuid::from_parts(2, 22);
    let request = registration(&running, 1).with_log_dirs(vec![DIRECTORY, sound]);
    let (_, epoch) = register(&controller, &request).await;
    controller.call(&heartbeat(epoch)).await.unwrap();
    let topic = create(&running, "t", vec![OTHER, 1]).await;
    let located = assign_replicas_to_dirs_request::TopicData::default()
        .with_topic_id(topic)
        .with_partitions(vec![
            assign_replicas_to_dirs_request::PartitionData::default(),
        ]);
    let assign = AssignReplicasToDirsRequestData::default()
        .with_broker_id(OTHER)
        .with_broker_epoch(epoch)
        .with_directories(vec![
            assign_replicas_to_dirs_request::DirectoryData::default()
                .with_id(DIRECTORY)
                .with_topics(vec![located]),
        ]);
    assert_eq!(controller.call(&assign).await.unwrap().error_code, 0);
    assert_eq!(partition(&running, topic).leader, Some(NodeId(OTHER)));
    let failed = heartbeat(epoch)
        .with_offline_log_dirs(vec![DIRECTORY])
        .with_cordoned_log_dirs(Some(vec![sound]));
    let answer = controller.call(&failed).await.unwrap();
    assert_eq!((answer.error_code, answer.is_fenced), (0, false));
    let after = partition(&running, topic);
    assert_eq!(
        (after.leader, after.isr),
        (Some(NodeId(1)), vec![NodeId(1)])
    );
    let image = running.broker.controller.image();
    let broker = &image.brokers[&NodeId(OTHER)];
    assert_eq!(broker.directories, [sound]);
    assert_eq!(broker.cordoned_directories.as_deref(), Some(&[sound][..]));
    // Without other brokers the node stops at once.
    let fenced = heartbeat(epoch).with_want_fence(true);
    assert!(controller.call(&fenced).await.unwrap().is_fenced);
    running.shut_down().await;
}

/// An envelope with a request of the client `User:alice` at 10.0.0.9.
fn envelope<R: Request>(request: &R, head: &RequestHead) -> EnvelopeRequestData {
    let mut inner = BytesMut::new();
    write_request(&mut inner, head, |out| request.encode(out, head.version)).unwrap();
    let principal = DefaultPrincipalDataData::default()
        .with_type(KafkaString::from_static("User"))
        .with_name(KafkaString::from_static("alice"));
    let mut bytes = BytesMut::from(&[0, 0][..]);
    principal.write(&mut bytes, 0).unwrap();
    EnvelopeRequestData::default()
        .with_request_data(inner.split_off(LENGTH_BYTES).freeze())
        .with_request_principal(Some(bytes.freeze()))
        .with_client_host_address(Bytes::from_static(&[10, 0, 0, 9]))
}

fn head(api: ApiKey, version: i16) -> RequestHead {
    RequestHead {
        api,
        version,
        correlation_id: 4711,
        client_id: None,
    }
}

#[tokio::test]
async fn a_broker_forwards_requests_of_its_clients() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path(), LONG).await;
    let controller = connect(&running, "CONTROLLER").await;
    let topic = CreatableTopic::default()
        .with_name(KafkaString::from_static("forwarded"))
        .with_num_partitions(3)
        .with_replication_factor(1);
    let create = CreateTopicsRequestData::default().with_topics(vec![topic]);
    let wrapped = envelope(&create, &head(ApiKey::CreateTopics, 7));
    let answer = controller.call(&wrapped).await.unwrap();
    assert_eq!(answer.error_code, 0);
    let mut content = answer.response_data.unwrap();
    let header = ResponseHeaderData::read(&mut content, 1).unwrap();
    assert_eq!(header.correlation_id, 4711);
    let created = CreateTopicsResponseData::read(&mut content, 7).unwrap();
    assert!(content.is_empty());
    assert_eq!(
        (
            created.topics[0].error_code,
            created.topics[0].num_partitions
        ),
        (0, 3)
    );
    assert!(
        running
            .broker
            .controller
            .image()
            .topic("forwarded")
            .is_some()
    );
    running.shut_down().await;
}

#[tokio::test]
async fn an_envelope_that_makes_no_sense_is_refused_with_kafkas_codes() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path(), LONG).await;
    let controller = connect(&running, "CONTROLLER").await;
    let describe = DescribeQuorumRequestData::default();
    let good = || envelope(&describe, &head(ApiKey::DescribeQuorum, 2));
    let registration = registration(&running, 1);
    let inner = envelope(&good(), &head(ApiKey::Envelope, 0));
    let mut cut_off = good();
    cut_off
        .request_data
        .truncate(cut_off.request_data.len() - 1);
    let cases = [
        (good(), ErrorCode::None),
        (
            good().with_request_principal(None),
            ErrorCode::PrincipalDeserializationFailure,
        ),
        (
            good().with_request_principal(Some(Bytes::from_static(&[0, 1, 1, 1, 0, 0]))),
            ErrorCode::PrincipalDeserializationFailure,
        ),
        (
            good().with_client_host_address(Bytes::from_static(&[1, 2, 3])),
            ErrorCode::InvalidRequest,
        ),
        (inner, ErrorCode::InvalidRequest),
        (
            envelope(&registration, &head(ApiKey::BrokerRegistration, 4)),
            ErrorCode::InvalidRequest,
        ),
        (
            good().with_request_data(Bytes::from_static(&[0])),
            ErrorCode::UnsupportedVersion,
        ),
        (cut_off, ErrorCode::UnsupportedVersion),
        // Forwardable, but not served yet.
        (
            envelope(&describe, &head(ApiKey::AlterUserScramCredentials, 0)),
            ErrorCode::UnsupportedVersion,
        ),
    ];
    for (number, (wrapped, code)) in cases.into_iter().enumerate() {
        let answer = controller.call(&wrapped).await.unwrap();
        assert_eq!(answer.error_code, code.code(), "case {number}");
        assert_eq!(answer.response_data.is_some(), code == ErrorCode::None);
    }
    running.shut_down().await;
}

#[tokio::test]
async fn an_answer_about_a_partition_of_another_broker_names_its_leader() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path(), LONG).await;
    let controller = connect(&running, "CONTROLLER").await;
    join(&running, &controller).await;
    create(&running, "t", vec![OTHER, 1]).await;
    let mut records = BatchBuilder::new(BatchOptions::default());
    records.append(0, None, Some(b"x"), &[]);
    let data = PartitionProduceData::default().with_records(Some(records.build().unwrap().into()));
    let topic = TopicProduceData::default()
        .with_name(KafkaString::from_static("t"))
        .with_partition_data(vec![data]);
    let request = ProduceRequestData::default()
        .with_acks(1)
        .with_timeout_ms(1_000)
        .with_topic_data(vec![topic]);
    let clients = connect(&running, "PLAINTEXT").await;
    let answer = clients.call(&request).await.unwrap();
    let partition = &answer.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, ErrorCode::NotLeaderOrFollower.code());
    let leader = &partition.current_leader;
    assert_eq!((leader.leader_id, leader.leader_epoch), (OTHER, 0));
    let endpoints = answer.node_endpoints.iter();
    let endpoints: Vec<_> = endpoints
        .map(|node| (node.node_id, node.host.as_str(), node.port))
        .collect();
    assert_eq!(endpoints, [(OTHER, "127.0.0.1", 1)]);
    running.shut_down().await;
}
