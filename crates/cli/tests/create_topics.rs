//! One CreateTopics request for several topics, over the wire: each topic is created or refused by itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod session;

use ottla_client::{Cluster, ErrorCode, Options};
use ottla_protocol::messages::KafkaString;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequestData};
use session::Session;

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_beside_a_reserved_name_is_created_and_survives_a_restart() {
    let mut session = Session::new();
    session.auto_create = false;
    session.start_broker().await;
    let bootstrap = [session.address()];
    let cluster = Cluster::connect(&bootstrap, Options::default()).await;
    let cluster = cluster.unwrap();
    let topic = |name| CreatableTopic {
        name: KafkaString::from_static(name),
        num_partitions: 2,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequestData {
        topics: ["good", "__cluster_metadata", "bad/name"].map(topic).into(),
        timeout_ms: 10_000,
        ..CreateTopicsRequestData::default()
    };
    let created = cluster.call_controller(&request).await.unwrap();
    let codes: Vec<_> = created
        .topics
        .iter()
        .map(|topic| (topic.name.as_str(), ErrorCode::from(topic.error_code)))
        .collect();
    let expected = [
        ("good", ErrorCode::None),
        ("__cluster_metadata", ErrorCode::InvalidRequest),
        ("bad/name", ErrorCode::InvalidTopicException),
    ];
    assert_eq!(codes, expected);
    // Topics are not created on first use here: the topic exists, and not only in the answer.
    session.produce("good", "kept\n");
    session.stop_broker().await;
    session.start_broker().await;
    let listed = session.ottla(&["topic", "list"]);
    assert!(listed.contains("good"), "{listed}");
    assert!(!listed.contains("__cluster_metadata"), "{listed}");
    let consumed = session.ottla(&["consume", "good", "--from", "beginning", "--exit"]);
    assert_eq!(consumed, "kept\n");
}
