//! Groups and offsets through their handlers, over real partitions in a temporary directory, without sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod images;
mod nowhere;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ottla_broker::Broker;
use ottla_broker::config::BrokerConfig;
use ottla_broker::context::{Connection, RequestContext};
use ottla_broker::drivers::controller::controller;
use ottla_broker::handlers::{
    SERVED, delete_groups, describe_groups, find_coordinator, heartbeat, join_group, leave_group,
    list_groups, offset_commit, offset_delete, offset_fetch, sync_group,
};
use ottla_broker::process::clock::Clock;
use ottla_broker::replicas::Found;
use ottla_broker::replicas::partition::{Append, RequiredAcks};
use ottla_controller::Settings;
use ottla_coordinator::partition_for;
use ottla_log::{Batch, Origin, PartitionLog};
use ottla_metadata::{MetadataDelta, MetadataImage};
use ottla_protocol::ids::{PartitionIndex, Uuid};
use ottla_protocol::messages::metadata::RegisterBrokerRecord;
use ottla_protocol::messages::{
    ApiKey, DeleteGroupsRequestData, DescribeGroupsRequestData, ErrorCode,
    FindCoordinatorRequestData, HeartbeatRequestData, JoinGroupRequestData, JoinGroupResponseData,
    KafkaString, LeaveGroupRequestData, ListGroupsRequestData, OffsetCommitRequestData,
    OffsetCommitResponseData, OffsetDeleteRequestData, OffsetFetchRequestData,
    SyncGroupRequestData, join_group_request, leave_group_request, offset_commit_request,
    offset_delete_request, offset_fetch_request, sync_group_request,
};
use ottla_protocol::records::{BatchBuilder, BatchOptions, split_batches};
use ottla_protocol::time::MonotonicTime;
use ottla_replica::housekeeping::Intervals;

use images::add_topic;
use nowhere::Nowhere;

const T: u64 = 7;
const OFFSETS: u64 = 8;

/// Topic `t` with two partitions and `__consumer_offsets` with three, all led by this node.
fn image() -> MetadataImage {
    let mut delta = MetadataDelta::new(MetadataImage::default());
    let broker = RegisterBrokerRecord {
        broker_id: 1,
        fenced: false,
        ..RegisterBrokerRecord::default()
    };
    delta.replay(&broker.into());
    for (id, name, partitions) in [(T, "t", 2), (OFFSETS, "__consumer_offsets", 3)] {
        add_topic(&mut delta, (name, Uuid::from_parts(id, id)), partitions, -1);
    }
    delta.finish().0
}

struct Node {
    broker: Arc<Broker>,
    connection: Arc<Connection>,
}

fn start(directory: &Path) -> Node {
    start_with(directory, |config| {
        config.storage.flush_max_delay = Duration::from_millis(5);
    })
}

fn start_with(directory: &Path, adjust: impl FnOnce(&mut BrokerConfig)) -> Node {
    let mut config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    adjust(&mut config);
    let settings = Settings {
        statics: config.statics.clone(),
        ..Settings::default()
    };
    let image = image();
    let (controller, ..) = controller(image.clone(), settings, Nowhere);
    let name = KafkaString::from_static("cluster");
    let broker = Broker::new(config, Clock::start(), name, controller, SERVED);
    broker.drivers.load(&image, Intervals::default()).unwrap();
    broker.groups.reconcile(&image);
    let local = "127.0.0.1:9092".parse().unwrap();
    let connection = Connection {
        id: 1,
        listener: Arc::from("PLAINTEXT"),
        local,
        peer: local,
        software: OnceLock::new(),
    };
    Node {
        broker,
        connection: Arc::new(connection),
    }
}

fn text(text: &str) -> KafkaString {
    text.to_owned().into()
}

impl Node {
    /// Without a clean shutdown.
    fn crash(self) {
        self.broker.groups.stop();
    }

    fn context(&self, api: ApiKey, version: i16) -> RequestContext {
        RequestContext {
            connection: Arc::clone(&self.connection),
            api,
            version,
            correlation_id: 1,
            client_id: Some(text("c")),
            received: MonotonicTime::default(),
            size: 0,
        }
    }

    async fn join(&self, member: &str, version: i16) -> JoinGroupResponseData {
        let protocol = join_group_request::JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"));
        let request = JoinGroupRequestData::default()
            .with_group_id(text("g"))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(10_000)
            .with_member_id(text(member))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let context = self.context(ApiKey::JoinGroup, version);
        join_group::handle(&self.broker, &context, request).await
    }

    /// Joins as the only member, and assigns itself `share`.
    async fn join_alone(&self, share: &'static str) -> JoinGroupResponseData {
        let told = self.join("", 9).await;
        assert_eq!(told.error_code, ErrorCode::MemberIdRequired.code());
        let joined = self.join(told.member_id.as_str(), 9).await;
        assert_eq!(joined.error_code, 0);
        assert_eq!(joined.leader, joined.member_id);
        let synced = self.sync(&joined, share).await;
        assert_eq!(synced, (0, share.into()));
        joined
    }

    /// Hands in `share` as the member's own.
    async fn sync(&self, joined: &JoinGroupResponseData, share: &'static str) -> (i16, Bytes) {
        let assignment = sync_group_request::SyncGroupRequestAssignment::default()
            .with_member_id(joined.member_id.clone())
            .with_assignment(Bytes::from_static(share.as_bytes()));
        let request = SyncGroupRequestData::default()
            .with_group_id(text("g"))
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(vec![assignment]);
        let context = self.context(ApiKey::SyncGroup, 5);
        let synced = sync_group::handle(&self.broker, &context, request).await;
        (synced.error_code, synced.assignment)
    }

    async fn heartbeat(&self, joined: &JoinGroupResponseData) -> i16 {
        let request = HeartbeatRequestData::default()
            .with_group_id(text("g"))
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone());
        let context = self.context(ApiKey::Heartbeat, 4);
        heartbeat::handle(&self.broker, &context, request)
            .await
            .error_code
    }

    async fn leave(&self, joined: &JoinGroupResponseData) -> i16 {
        let member =
            leave_group_request::MemberIdentity::default().with_member_id(joined.member_id.clone());
        let request = LeaveGroupRequestData::default()
            .with_group_id(text("g"))
            .with_members(vec![member]);
        let context = self.context(ApiKey::LeaveGroup, 5);
        let left = leave_group::handle(&self.broker, &context, request).await;
        left.members[0].error_code
    }

    /// Commits `offset` for `t-0`, `t-9` and `nowhere-0`.
    async fn commit(
        &self,
        group: &str,
        offset: i64,
        joined: Option<&JoinGroupResponseData>,
    ) -> OffsetCommitResponseData {
        let partition = |index| {
            offset_commit_request::OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_committed_metadata(Some(text("note")))
        };
        let topic = |name, partitions| {
            offset_commit_request::OffsetCommitRequestTopic::default()
                .with_name(text(name))
                .with_partitions(partitions)
        };
        let topics = vec![
            topic("t", vec![partition(0), partition(9)]),
            topic("nowhere", vec![partition(0)]),
        ];
        let member = joined.map(|joined| joined.member_id.clone());
        let request = OffsetCommitRequestData::default()
            .with_group_id(text(group))
            .with_generation_id_or_member_epoch(joined.map_or(-1, |joined| joined.generation_id))
            .with_member_id(member.unwrap_or_default())
            .with_topics(topics);
        let context = self.context(ApiKey::OffsetCommit, 9);
        offset_commit::handle(&self.broker, &context, request).await
    }

    /// The offset that `group` has committed for `t-0`, asked for in `version`.
    async fn fetch(&self, group: &str, version: i16) -> (i64, i16) {
        let request = if version >= 8 {
            let mut topic = offset_fetch_request::OffsetFetchRequestTopics::default()
                .with_partition_indexes(vec![0]);
            if version >= 10 {
                topic.topic_id = Uuid::from_parts(T, T);
            } else {
                topic.name = text("t");
            }
            let asked = offset_fetch_request::OffsetFetchRequestGroup::default()
                .with_group_id(text(group))
                .with_topics(Some(vec![topic]));
            OffsetFetchRequestData::default().with_groups(vec![asked])
        } else {
            let topic = offset_fetch_request::OffsetFetchRequestTopic::default()
                .with_name(text("t"))
                .with_partition_indexes(vec![0]);
            OffsetFetchRequestData::default()
                .with_group_id(text(group))
                .with_topics(Some(vec![topic]))
        };
        let context = self.context(ApiKey::OffsetFetch, version);
        let answer = offset_fetch::handle(&self.broker, &context, request).await;
        if version >= 8 {
            let partition = &answer.groups[0].topics[0].partitions[0];
            (partition.committed_offset, partition.error_code)
        } else {
            let partition = &answer.topics[0].partitions[0];
            (partition.committed_offset, partition.error_code)
        }
    }

    async fn list(&self) -> Vec<(String, String)> {
        let context = self.context(ApiKey::ListGroups, 5);
        let request = ListGroupsRequestData::default();
        let answer = list_groups::handle(&self.broker, &context, request).await;
        assert_eq!(answer.error_code, 0);
        let groups = answer.groups.into_iter().map(|group| {
            let state = group.group_state.as_str().to_owned();
            (group.group_id.as_str().to_owned(), state)
        });
        let mut groups: Vec<_> = groups.collect();
        groups.sort();
        groups
    }
}

#[tokio::test]
async fn coordinator_is_found_and_transactions_are_refused_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let context = node.context(ApiKey::FindCoordinator, 6);
    let request =
        FindCoordinatorRequestData::default().with_coordinator_keys(vec![text("g"), text("h")]);
    let answer = find_coordinator::handle(&node.broker, &context, request).await;
    assert_eq!(answer.coordinators.len(), 2);
    for found in answer.coordinators {
        assert_eq!((found.error_code, found.node_id, found.port), (0, 1, 9092));
    }
    let request = FindCoordinatorRequestData::default()
        .with_key_type(1)
        .with_coordinator_keys(vec![text("x")]);
    let answer = find_coordinator::handle(&node.broker, &context, request).await;
    let refused = &answer.coordinators[0];
    assert_eq!(
        refused.error_code,
        ErrorCode::ClusterAuthorizationFailed.code()
    );
    let message = refused.error_message.as_ref().unwrap();
    assert!(message.as_str().contains("transactions are not served"));
    let context = node.context(ApiKey::FindCoordinator, 0);
    let request = FindCoordinatorRequestData::default().with_key(text("g"));
    let answer = find_coordinator::handle(&node.broker, &context, request).await;
    assert_eq!(
        (answer.error_code, answer.node_id, answer.port),
        (0, 1, 9092)
    );
}

#[tokio::test]
async fn member_joins_commits_and_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let joined = node.join_alone("share").await;
    assert_eq!(node.heartbeat(&joined).await, 0);

    let committed = node.commit("g", 5, Some(&joined)).await;
    let codes: Vec<(String, i32, i16)> = committed
        .topics
        .iter()
        .flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|p| {
                (
                    topic.name.as_str().to_owned(),
                    p.partition_index,
                    p.error_code,
                )
            })
        })
        .collect();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert!(codes.contains(&("t".into(), 0, 0)));
    assert!(codes.contains(&("t".into(), 9, unknown)));
    assert!(codes.contains(&("nowhere".into(), 0, unknown)));
    for version in [1, 2, 5, 7, 8, 9, 10] {
        assert_eq!(node.fetch("g", version).await, (5, 0), "version {version}");
    }
    assert_eq!(node.list().await, [("g".to_owned(), "Stable".to_owned())]);

    assert_eq!(node.leave(&joined).await, 0);
    assert_eq!(node.list().await, [("g".to_owned(), "Empty".to_owned())]);
    assert_eq!(
        node.heartbeat(&joined).await,
        ErrorCode::UnknownMemberId.code()
    );
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let joined = node.join_alone("share").await;
    node.commit("g", 41, Some(&joined)).await;
    node.commit("g", 42, Some(&joined)).await;
    node.commit("simple", 7, None).await;
    node.crash();

    let node = start(directory.path());
    assert_eq!(node.fetch("g", 9).await, (42, 0));
    assert_eq!(node.fetch("simple", 9).await, (7, 0));
    assert_eq!(node.heartbeat(&joined).await, 0);
    let context = node.context(ApiKey::DescribeGroups, 6);
    let request = DescribeGroupsRequestData::default().with_groups(vec![text("g"), text("no")]);
    let described = describe_groups::handle(&node.broker, &context, request)
        .await
        .groups;
    assert_eq!(described[0].group_state.as_str(), "Stable");
    assert_eq!(described[0].members[0].client_host.as_str(), "/127.0.0.1");
    assert_eq!(described[0].members[0].member_assignment, "share");
    assert_eq!(described[1].error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!(described[1].group_state.as_str(), "Dead");
}

#[tokio::test]
async fn group_is_deleted_with_its_offsets_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let joined = node.join_alone("share").await;
    node.commit("g", 5, Some(&joined)).await;
    let delete =
        || DeleteGroupsRequestData::default().with_groups_names(vec![text("g"), text("g")]);
    let context = node.context(ApiKey::DeleteGroups, 2);
    let refused = delete_groups::handle(&node.broker, &context, delete()).await;
    assert_eq!(refused.results.len(), 1);
    assert_eq!(
        refused.results[0].error_code,
        ErrorCode::NonEmptyGroup.code()
    );

    node.leave(&joined).await;
    let deleted = delete_groups::handle(&node.broker, &context, delete()).await;
    assert_eq!(deleted.results[0].error_code, 0);
    node.crash();

    let node = start(directory.path());
    assert_eq!(node.fetch("g", 9).await, (-1, 0));
    assert!(node.list().await.is_empty());
}

#[tokio::test]
async fn offsets_of_subscribed_topics_are_not_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let joined = node.join_alone("share").await;
    node.commit("g", 5, Some(&joined)).await;
    let partition = offset_delete_request::OffsetDeleteRequestPartition::default();
    let topic = offset_delete_request::OffsetDeleteRequestTopic::default()
        .with_name(text("t"))
        .with_partitions(vec![partition]);
    let request = || {
        OffsetDeleteRequestData::default()
            .with_group_id(text("g"))
            .with_topics(vec![topic.clone()])
    };
    let context = node.context(ApiKey::OffsetDelete, 0);
    let answer = offset_delete::handle(&node.broker, &context, request()).await;
    let code = answer.topics[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::GroupSubscribedToTopic.code());
    node.leave(&joined).await;
    let answer = offset_delete::handle(&node.broker, &context, request()).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    assert_eq!(node.fetch("g", 9).await, (-1, 0));
}

#[tokio::test]
async fn rebalance_hands_every_member_its_share() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let first = node.join_alone("all").await;
    // A newcomer of an old version waits for the first member to rejoin.
    let (second, rejoined) = tokio::join!(node.join("", 3), async {
        loop {
            let code = node.heartbeat(&first).await;
            if code == ErrorCode::RebalanceInProgress.code() {
                return node.join(first.member_id.as_str(), 9).await;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!((second.error_code, rejoined.error_code), (0, 0));
    assert_eq!((second.generation_id, rejoined.generation_id), (2, 2));
    assert_eq!(rejoined.members.len(), 2);
    assert_eq!(second.leader, rejoined.member_id);
}

#[tokio::test]
async fn member_that_waits_is_answered_when_the_coordinator_goes() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path());
    let first = node.join_alone("all").await;
    let (waiting, ()) = tokio::join!(node.join("", 3), async {
        while node.heartbeat(&first).await == 0 {
            tokio::task::yield_now().await;
        }
        node.broker.groups.stop();
    });
    assert_eq!(waiting.error_code, ErrorCode::NotCoordinator.code());
}

#[tokio::test]
async fn a_commit_that_is_not_on_disk_in_time_is_answered_as_not_available() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_with(directory.path(), |config| {
        config.groups.commit_timeout = Duration::from_millis(20);
        config.storage.flush_max_delay = Duration::from_mins(1);
    });
    let code = |response: OffsetCommitResponseData| {
        let topic = response.topics.iter().find(|topic| topic.name == text("t"));
        let mut partitions = topic.unwrap().partitions.iter();
        let first = partitions.find(|partition| partition.partition_index == 0);
        first.unwrap().error_code
    };
    let index = PartitionIndex(partition_for("simple", 3));
    let Found::Here(partition) = node.broker.replicas.by_name("__consumer_offsets", index) else {
        panic!("the partition is here");
    };
    // A flush that has begun and does not end holds up all others, as a disk that hangs does.
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(0, Some(b"no key of a group"), None, &[]);
    let batch = builder.build().unwrap();
    let batch: Batch<'_> = split_batches(&batch).next().unwrap().unwrap().into();
    let now = node.broker.clock.now();
    let append = Append {
        batches: &[batch],
        acks: RequiredAcks::Leader,
    };
    partition.append(&[append], Origin::Coordinator, now);
    let flush = partition.with_log(PartitionLog::begin_flush);
    let flush = flush.unwrap().unwrap().unwrap();
    let late = loop {
        match ErrorCode::from(code(node.commit("simple", 5, None).await)) {
            ErrorCode::CoordinatorLoadInProgress => {}
            code => break code,
        }
    };
    assert_eq!(late, ErrorCode::CoordinatorNotAvailable);
    flush.run().unwrap();
    partition.with_log(|log| log.complete_flush(&flush));
    let later = loop {
        match ErrorCode::from(code(node.commit("simple", 6, None).await)) {
            ErrorCode::CoordinatorNotAvailable => {}
            code => break code,
        }
    };
    assert_eq!(later, ErrorCode::None);
}

/// A broker whose partitions have small segments.
fn start_with_small_segments(directory: &Path) -> Node {
    start_with(directory, |config| {
        let values = &mut config.statics.values;
        values.insert("log.segment.bytes".to_owned(), "300".to_owned());
        config.storage.flush_max_delay = Duration::from_millis(5);
    })
}

#[tokio::test]
async fn damage_that_a_coordinator_meets_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_with_small_segments(directory.path());
    // In a segment that is closed: the last one is looked at by the start.
    for offset in 0..5 {
        node.commit("simple", offset, None).await;
    }
    node.broker.groups.stop();
    node.broker.drivers.close(1).unwrap();
    let index = partition_for("simple", 3);
    let log = format!("__consumer_offsets-{index}/00000000000000000000.log");
    let file = OpenOptions::new()
        .write(true)
        .open(directory.path().join(log));
    // The length of the first batch.
    file.unwrap().write_all_at(&[0xFF; 4], 8).unwrap();

    let node = start_with_small_segments(directory.path());
    let met = async {
        while node.broker.replicas.damage().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, met).await.unwrap();
    let known = node.broker.replicas.damage();
    assert_eq!(
        (&*known[0].topic, known[0].partition),
        ("__consumer_offsets", index)
    );
}

#[tokio::test]
async fn an_offset_that_has_rotted_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_with_small_segments(directory.path());
    let index = partition_for("simple", 3);
    let committed = 0x0102_0304_0506_0708;
    node.commit("simple", 3, None).await;
    node.commit("simple", committed, None).await;
    let others = (0..).map(|number| format!("other-{number}"));
    let others = others.filter(|group| partition_for(group, 3) == index);
    for group in others.take(5) {
        node.commit(&group, 1, None).await;
    }
    node.broker.groups.stop();
    node.broker.drivers.close(1).unwrap();
    let partition = directory.path().join(format!("__consumer_offsets-{index}"));
    let mut changed = 0;
    for entry in std::fs::read_dir(partition).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let mut windows = bytes.windows(8);
        if let Some(at) = windows.position(|window| window == committed.to_be_bytes()) {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&[0x7F], at as u64).unwrap();
            changed += 1;
        }
    }
    assert_eq!(changed, 1);

    let node = start_with_small_segments(directory.path());
    assert_eq!(node.fetch("simple", 9).await, (3, 0));
}

#[tokio::test]
async fn a_group_record_that_is_too_large_costs_nobody_its_id() {
    let directory = tempfile::tempdir().unwrap();
    let node = start_with(directory.path(), |config| {
        config.storage.flush_max_delay = Duration::from_millis(5);
        let values = &mut config.statics.values;
        values.insert("message.max.bytes".to_owned(), "1000".to_owned());
    });
    let told = node.join("", 9).await;
    let joined = node.join(told.member_id.as_str(), 9).await;
    let too_large: &str = "x".repeat(2000).leak();
    let refused = node.sync(&joined, too_large).await;
    assert_eq!(
        refused,
        (ErrorCode::UnknownServerError.code(), Bytes::new())
    );
    let rejoin = ErrorCode::RebalanceInProgress.code();
    assert_eq!(node.heartbeat(&joined).await, rejoin);
    let again = node.join(joined.member_id.as_str(), 9).await;
    assert_eq!((again.error_code, again.generation_id), (0, 2));
    assert_eq!(again.member_id, joined.member_id);
    assert_eq!(node.sync(&again, "mine").await, (0, "mine".into()));
    assert_eq!(node.heartbeat(&again).await, 0);
    assert_eq!(node.leave(&again).await, 0);
    assert_eq!(node.list().await, [("g".to_owned(), "Empty".to_owned())]);
}
