//! A broker without sockets that coordinates groups, and the requests that the tests send to it.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ottla_broker::Broker;
use ottla_broker::access::principal::Principal;
use ottla_broker::config::BrokerConfig;
use ottla_broker::context::{Connection, ListenerRole, RequestContext};
use ottla_broker::drivers::controller::controller;
use ottla_broker::handlers::{
    heartbeat, join_group, leave_group, list_groups, offset_commit, offset_fetch, served,
    sync_group,
};
use ottla_broker::process::clock::Clock;
use ottla_controller::Settings;
use ottla_metadata::{Loader, MetadataDelta, MetadataImage};
use ottla_protocol::ids::Uuid;
use ottla_protocol::messages::metadata::RegisterBrokerRecord;
use ottla_protocol::messages::{
    ApiKey, ErrorCode, HeartbeatRequestData, JoinGroupRequestData, JoinGroupResponseData,
    KafkaString, LeaveGroupRequestData, ListGroupsRequestData, OffsetCommitRequestData,
    OffsetCommitResponseData, OffsetFetchRequestData, SyncGroupRequestData, join_group_request,
    leave_group_request, offset_commit_request, offset_fetch_request, sync_group_request,
};
use ottla_protocol::time::MonotonicTime;
use ottla_replica::housekeeping::Intervals;

use crate::images::add_topic;
use crate::nowhere::{Nowhere, no_sessions};

pub const T: u64 = 7;

pub const OFFSETS: u64 = 8;

/// Topic `t` with two partitions and `__consumer_offsets` with three, all led by this node.
pub fn image() -> MetadataImage {
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

pub struct Node {
    pub broker: Arc<Broker>,
    pub connection: Arc<Connection>,
}

pub fn start(directory: &Path) -> Node {
    start_with(directory, |config| {
        config.storage.flush_max_delay = Duration::from_millis(5);
    })
}

pub fn start_with(directory: &Path, adjust: impl FnOnce(&mut BrokerConfig)) -> Node {
    let mut config = BrokerConfig::embedded(directory.to_path_buf(), 0);
    adjust(&mut config);
    let settings = Settings {
        statics: config.statics.clone(),
        ..Settings::default()
    };
    let image = image();
    let sessions = no_sessions();
    let (controller, ..) = controller(Loader::new(image.clone()), settings, Nowhere, sessions);
    let name = KafkaString::from_static("cluster");
    let broker = Broker::new(config, Clock::start(), name, controller, served);
    broker.drivers.load(&image, Intervals::default()).unwrap();
    broker.groups.reconcile(&image);
    let local = "127.0.0.1:9092".parse().unwrap();
    let connection = Connection {
        id: 1,
        listener: Arc::from("PLAINTEXT"),
        role: ListenerRole::Broker,
        local,
        peer: local,
        principal: Principal::anonymous(),
        software: OnceLock::new(),
        beats_of: OnceLock::new(),
    };
    Node {
        broker,
        connection: Arc::new(connection),
    }
}

pub fn text(text: &str) -> KafkaString {
    text.to_owned().into()
}

impl Node {
    /// Without a clean shutdown.
    pub fn crash(self) {
        self.broker.groups.stop();
    }

    pub fn context(&self, api: ApiKey, version: i16) -> RequestContext {
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

    pub async fn join(&self, member: &str, version: i16) -> JoinGroupResponseData {
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
    pub async fn join_alone(&self, share: &'static str) -> JoinGroupResponseData {
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
    pub async fn sync(&self, joined: &JoinGroupResponseData, share: &'static str) -> (i16, Bytes) {
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

    pub async fn heartbeat(&self, joined: &JoinGroupResponseData) -> i16 {
        let request = HeartbeatRequestData::default()
            .with_group_id(text("g"))
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone());
        let context = self.context(ApiKey::Heartbeat, 4);
        heartbeat::handle(&self.broker, &context, request)
            .await
            .error_code
    }

    pub async fn leave(&self, joined: &JoinGroupResponseData) -> i16 {
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
    pub async fn commit(
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
    pub async fn fetch(&self, group: &str, version: i16) -> (i64, i16) {
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

    pub async fn list(&self) -> Vec<(String, String)> {
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
