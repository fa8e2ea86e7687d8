//! What a group consumer does when its coordinator refuses.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod double;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use double::{Asked, Double, Step, Topic, all_versions, answer, metadata};
use ottla_client::{
    Cluster, ErrorCode, FetchOptions, GroupConsumer, GroupConsumerOptions, GroupOptions, Options,
    OutOfRange,
};
use ottla_protocol::api_key::ApiKey;
use ottla_protocol::messages::consumer_protocol_assignment::{
    ConsumerProtocolAssignmentData, TopicPartition,
};
use ottla_protocol::messages::find_coordinator_response::Coordinator;
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use ottla_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use ottla_protocol::messages::{
    FindCoordinatorResponseData, JoinGroupResponseData, KafkaString, LeaveGroupResponseData,
    ListOffsetsResponseData, OffsetCommitResponseData, OffsetFetchResponseData,
    SyncGroupResponseData,
};

/// Partition 0 of `t`.
fn assignment() -> Bytes {
    let assignment = ConsumerProtocolAssignmentData {
        assigned_partitions: vec![TopicPartition {
            topic: KafkaString::from_static("t"),
            partitions: vec![0],
            ..TopicPartition::default()
        }],
        ..ConsumerProtocolAssignmentData::default()
    };
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    assignment.write(&mut bytes, 1).unwrap();
    bytes.freeze()
}

/// A member joins, gets partition 0 of `t`, and finds no commit and the log empty.
fn joins(asked: &Asked) -> Step {
    let version = asked.version;
    match asked.api {
        ApiKey::ApiVersions => all_versions(asked),
        ApiKey::Metadata => metadata(asked, Topic::default()),
        ApiKey::FindCoordinator => {
            let response = FindCoordinatorResponseData {
                coordinators: vec![Coordinator {
                    key: KafkaString::from_static("g"),
                    node_id: 1,
                    host: KafkaString::from(asked.address.ip().to_string()),
                    port: i32::from(asked.address.port()),
                    ..Coordinator::default()
                }],
                ..FindCoordinatorResponseData::default()
            };
            answer(|out| response.write(out, version).unwrap())
        }
        ApiKey::JoinGroup => {
            let response = JoinGroupResponseData {
                generation_id: 1,
                protocol_type: Some(KafkaString::from_static("consumer")),
                protocol_name: Some(KafkaString::from_static("range")),
                leader: KafkaString::from_static("another"),
                member_id: KafkaString::from_static("one"),
                ..JoinGroupResponseData::default()
            };
            answer(|out| response.write(out, version).unwrap())
        }
        ApiKey::SyncGroup => {
            let response = SyncGroupResponseData {
                assignment: assignment(),
                ..SyncGroupResponseData::default()
            };
            answer(|out| response.write(out, version).unwrap())
        }
        ApiKey::OffsetFetch => {
            let response = OffsetFetchResponseData {
                groups: vec![OffsetFetchResponseGroup {
                    group_id: KafkaString::from_static("g"),
                    ..OffsetFetchResponseGroup::default()
                }],
                ..OffsetFetchResponseData::default()
            };
            answer(|out| response.write(out, version).unwrap())
        }
        ApiKey::ListOffsets => {
            let response = ListOffsetsResponseData {
                topics: vec![ListOffsetsTopicResponse {
                    name: KafkaString::from_static("t"),
                    partitions: vec![ListOffsetsPartitionResponse {
                        offset: 0,
                        ..ListOffsetsPartitionResponse::default()
                    }],
                    ..ListOffsetsTopicResponse::default()
                }],
                ..ListOffsetsResponseData::default()
            };
            answer(|out| response.write(out, version).unwrap())
        }
        _ => Step::Close,
    }
}

/// The answer of a coordinator that has yet to read its group.
fn is_loading(asked: &Asked) -> Step {
    let code = ErrorCode::CoordinatorLoadInProgress.code();
    if asked.api == ApiKey::LeaveGroup {
        let response = LeaveGroupResponseData {
            error_code: code,
            ..LeaveGroupResponseData::default()
        };
        return answer(|out| response.write(out, asked.version).unwrap());
    }
    let response = OffsetCommitResponseData {
        topics: vec![OffsetCommitResponseTopic {
            name: KafkaString::from_static("t"),
            partitions: vec![OffsetCommitResponsePartition {
                error_code: code,
                ..OffsetCommitResponsePartition::default()
            }],
            ..OffsetCommitResponseTopic::default()
        }],
        ..OffsetCommitResponseData::default()
    };
    answer(|out| response.write(out, asked.version).unwrap())
}

#[tokio::test]
async fn what_committing_waited_for_is_not_waited_for_again_to_leave() {
    let leaves = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&leaves);
    let double = Double::start(move |asked| match asked.api {
        ApiKey::OffsetCommit => is_loading(asked),
        ApiKey::LeaveGroup => {
            counted.fetch_add(1, Ordering::Relaxed);
            is_loading(asked)
        }
        _ => joins(asked),
    })
    .await;
    let bootstrap = [double.address.to_string()];
    let client = Options {
        retry_for: Duration::from_millis(300),
        ..Options::default()
    };
    let cluster = Cluster::connect(&bootstrap, client).await.unwrap();
    let options = GroupConsumerOptions {
        group: GroupOptions {
            group: "g".to_owned(),
            topics: vec!["t".to_owned()],
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(45),
        },
        fetch: FetchOptions {
            out_of_range: OutOfRange::Earliest,
            ..FetchOptions::default()
        },
        commit_every: Some(Duration::from_secs(45)),
    };
    let mut consumer = GroupConsumer::new(Arc::new(cluster), options);
    consumer.poll().await.unwrap();
    assert!(consumer.is_joined());
    let error = consumer.close().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::CoordinatorLoadInProgress));
    assert!(
        error.to_string().starts_with("commit of group g"),
        "{error}"
    );
    assert_eq!(leaves.load(Ordering::Relaxed), 1);
}
