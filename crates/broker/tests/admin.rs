//! Admin handlers of a running broker: the quorum, log directories, elections, reassignments, ACLs, features.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use bytes::BytesMut;
use ottla_broker::Running;
use ottla_broker::config::BrokerConfig;
use ottla_broker::context::RequestContext;
use ottla_broker::handlers::{
    alter_partition_reassignments, api_versions, create_acls, create_topics, describe_acls,
    describe_configs, describe_log_dirs, describe_producers, describe_quorum,
    describe_topic_partitions, elect_leaders, list_partition_reassignments, metadata,
    update_features,
};
use ottla_broker::process::clock::Clock;
use ottla_protocol::messages::{
    AlterPartitionReassignmentsRequestData, ApiKey, ApiVersionsRequestData, CreateAclsRequestData,
    CreateTopicsRequestData, DescribeAclsRequestData, DescribeConfigsRequestData,
    DescribeLogDirsRequestData, DescribeProducersRequestData, DescribeQuorumRequestData,
    DescribeTopicPartitionsRequestData, ElectLeadersRequestData, ErrorCode, KafkaString,
    ListPartitionReassignmentsRequestData, MetadataRequestData, UpdateFeaturesRequestData,
    alter_partition_reassignments_request, create_acls_request, create_topics_request,
    describe_configs_request, describe_producers_request, describe_quorum_request,
    describe_topic_partitions_request, elect_leaders_request, metadata_request,
    update_features_request,
};

use support::context;

fn text(text: &'static str) -> KafkaString {
    KafkaString::from_static(text)
}

/// A broker with a topic `t` of two partitions.
async fn start(directory: &Path) -> Running {
    let config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    let running = ottla_broker::start(config, Clock::start()).await.unwrap();
    let topic = create_topics_request::CreatableTopic::default()
        .with_name(text("t"))
        .with_num_partitions(2)
        .with_replication_factor(1);
    let request = CreateTopicsRequestData::default().with_topics(vec![topic]);
    let context = context(ApiKey::CreateTopics);
    let created = create_topics::handle(&running.broker, &context, request).await;
    assert_eq!(created.topics[0].error_code, 0);
    running
}

#[tokio::test]
async fn the_quorum_is_this_node_alone_and_only_its_partition_can_be_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let ask = |topic| {
        let partition = describe_quorum_request::PartitionData::default();
        let topic = describe_quorum_request::TopicData::default()
            .with_topic_name(text(topic))
            .with_partitions(vec![partition]);
        let request = DescribeQuorumRequestData::default().with_topics(vec![topic]);
        describe_quorum::handle(&running.broker, &context(ApiKey::DescribeQuorum), request)
    };
    let quorum = ask("__cluster_metadata").topics[0].partitions[0].clone();
    assert_eq!((quorum.error_code, quorum.leader_id), (0, 1));
    assert_eq!(quorum.current_voters.len(), 1);
    assert!(quorum.observers.is_empty() && quorum.high_watermark > 0);
    assert_eq!(
        quorum.current_voters[0].log_end_offset,
        quorum.high_watermark
    );
    let unknown = ask("t").topics[0].partitions[0].error_code;
    assert_eq!(unknown, ErrorCode::UnknownTopicOrPartition.code());
    running.shut_down().await;
}

#[tokio::test]
async fn the_quorum_is_described_in_every_version() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    for version in 0..=2 {
        let partition = describe_quorum_request::PartitionData::default();
        let topic = describe_quorum_request::TopicData::default()
            .with_topic_name(text("__cluster_metadata"))
            .with_partitions(vec![partition]);
        let request = DescribeQuorumRequestData::default().with_topics(vec![topic]);
        let context = RequestContext {
            version,
            ..context(ApiKey::DescribeQuorum)
        };
        let quorum = describe_quorum::handle(&running.broker, &context, request);
        assert_eq!(quorum.nodes.len(), usize::from(version == 2));
        quorum.write(&mut BytesMut::new(), version).unwrap();
    }
    running.shut_down().await;
}

#[tokio::test]
async fn log_directories_show_what_lies_in_them_and_what_failed() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let ask = || {
        let request = DescribeLogDirsRequestData::default();
        let context = context(ApiKey::DescribeLogDirs);
        describe_log_dirs::handle(&running.broker, &context, request).results[0].clone()
    };
    let found = ask();
    assert_eq!((found.error_code, found.topics.len()), (0, 1));
    assert_eq!(found.topics[0].partitions.len(), 2);
    assert!(found.total_bytes >= found.usable_bytes && found.usable_bytes > 0);
    let disk = &running.broker.replicas.directories()[0].log;
    disk.failed(ottla_log::files::FileError::new(
        ottla_log::files::Operation::Write,
        directory.path(),
        std::io::ErrorKind::Other,
    ));
    let failed = ask();
    assert_eq!(failed.error_code, ErrorCode::KafkaStorageError.code());
    assert!(failed.topics.is_empty());
}

#[tokio::test]
async fn elections_and_reassignments_that_change_nothing_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let asked = elect_leaders_request::TopicPartitions::default()
        .with_topic(text("t"))
        .with_partitions(vec![0, 9]);
    let request = ElectLeadersRequestData::default().with_topic_partitions(Some(vec![asked]));
    let context_of = context(ApiKey::ElectLeaders);
    let elected = elect_leaders::handle(&running.broker, &context_of, request).await;
    let results = elected.replica_election_results[0].partition_result.iter();
    let codes: Vec<i16> = results.map(|result| result.error_code).collect();
    let not_needed = ErrorCode::ElectionNotNeeded.code();
    assert_eq!(
        codes,
        [not_needed, ErrorCode::UnknownTopicOrPartition.code()]
    );

    let partition = |index, replicas| {
        alter_partition_reassignments_request::ReassignablePartition::default()
            .with_partition_index(index)
            .with_replicas(replicas)
    };
    let topic = alter_partition_reassignments_request::ReassignableTopic::default()
        .with_name(text("t"))
        .with_partitions(vec![
            partition(0, Some(vec![1])),
            partition(1, Some(vec![7])),
            partition(1, None),
        ]);
    let request = AlterPartitionReassignmentsRequestData::default().with_topics(vec![topic]);
    let context_of = context(ApiKey::AlterPartitionReassignments);
    let moved = alter_partition_reassignments::handle(&running.broker, &context_of, request).await;
    let codes = moved.responses[0].partitions.iter();
    let codes: Vec<i16> = codes.map(|partition| partition.error_code).collect();
    let nothing_to_cancel = ErrorCode::NoReassignmentInProgress.code();
    let invalid = ErrorCode::InvalidReplicaAssignment.code();
    assert_eq!(codes, [0, invalid, nothing_to_cancel]);
    let request = ListPartitionReassignmentsRequestData::default().with_topics(None);
    let context_of = context(ApiKey::ListPartitionReassignments);
    let listed = list_partition_reassignments::handle(&running.broker, &context_of, request);
    assert!(listed.topics.is_empty());
    running.shut_down().await;
}

#[tokio::test]
async fn without_an_authorizer_acls_are_refused_as_in_kafka() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let creation = create_acls_request::AclCreation::default();
    let request = CreateAclsRequestData::default().with_creations(vec![creation]);
    let created = create_acls::handle(&running.broker, &context(ApiKey::CreateAcls), request);
    let disabled = ErrorCode::SecurityDisabled.code();
    assert_eq!(created.results[0].error_code, disabled);
    let request = DescribeAclsRequestData::default();
    let described = describe_acls::handle(&running.broker, &context(ApiKey::DescribeAcls), request);
    assert_eq!(described.error_code, disabled);
    running.shut_down().await;
}

#[tokio::test]
async fn a_feature_that_cannot_be_had_is_refused_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let before = running.broker.controller.image().features.clone();
    for (name, code) in [
        ("metadata.version", ErrorCode::None),
        ("group.version", ErrorCode::InvalidUpdateVersion),
    ] {
        let update = update_features_request::FeatureUpdateKey::default()
            .with_feature(text(name))
            .with_max_version_level(if name == "metadata.version" { 30 } else { 1 })
            .with_upgrade_type(1);
        let request = UpdateFeaturesRequestData::default().with_feature_updates(vec![update]);
        let context = context(ApiKey::UpdateFeatures);
        let updated = update_features::handle(&running.broker, &context, request).await;
        assert_eq!(updated.error_code, code.code());
        assert!(updated.results.is_empty(), "none since version 2");
    }
    assert_eq!(running.broker.controller.image().features, before);
    running.shut_down().await;
}

#[tokio::test]
async fn a_new_cluster_shows_the_features_it_has_and_those_it_could_have() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let request = ApiVersionsRequestData::default()
        .with_client_software_name(text("test"))
        .with_client_software_version(text("1"));
    let shown = api_versions::handle(&running.broker, &context(ApiKey::ApiVersions), request);
    let supported = shown.supported_features.iter();
    let supported: Vec<_> = supported
        .map(|feature| (feature.name.as_str(), feature.max_version))
        .collect();
    for feature in [
        ("kraft.version", 1),
        ("eligible.leader.replicas.version", 1),
    ] {
        assert!(supported.contains(&feature), "{supported:?}");
    }
    let finalized = shown.finalized_features.iter();
    let finalized: Vec<_> = finalized
        .map(|feature| (feature.name.as_str(), feature.max_version_level))
        .collect();
    // The voters of a directory formatted here stand in the log.
    for feature in [
        ("kraft.version", 1),
        ("eligible.leader.replicas.version", 1),
    ] {
        assert!(finalized.contains(&feature), "{finalized:?}");
    }
    running.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_log_is_no_topic_and_has_the_name_of_one() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path()).await;
    let broker = &running.broker;
    let name = text("__cluster_metadata");

    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(name.clone());
    let request = DescribeConfigsRequestData::default().with_resources(vec![resource]);
    let configs = describe_configs::handle(broker, &context(ApiKey::DescribeConfigs), request);
    assert_eq!(configs.results[0].error_code, 3);

    let topic = describe_topic_partitions_request::TopicRequest::default().with_name(name.clone());
    let request = DescribeTopicPartitionsRequestData::default().with_topics(vec![topic]);
    let of_partitions = context(ApiKey::DescribeTopicPartitions);
    let partitions = describe_topic_partitions::handle(broker, &of_partitions, request);
    assert_eq!(partitions.topics[0].error_code, 3);

    let topic = describe_producers_request::TopicRequest::default()
        .with_name(name.clone())
        .with_partition_indexes(vec![0]);
    let request = DescribeProducersRequestData::default().with_topics(vec![topic]);
    let producers =
        describe_producers::handle(broker, &context(ApiKey::DescribeProducers), request);
    assert_eq!(producers.topics[0].partitions[0].error_code, 3);

    for may_create in [false, true] {
        let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(name.clone()));
        let request = MetadataRequestData::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(may_create);
        let answer = metadata::handle(broker, &context(ApiKey::Metadata), request).await;
        assert_eq!(answer.topics[0].error_code, 3, "{may_create}");
    }

    let topic = create_topics_request::CreatableTopic::default()
        .with_name(name)
        .with_num_partitions(1)
        .with_replication_factor(1);
    let request = CreateTopicsRequestData::default().with_topics(vec![topic]);
    let created = create_topics::handle(broker, &context(ApiKey::CreateTopics), request).await;
    assert_eq!(created.topics[0].error_code, 42);
    running.shut_down().await;
}
