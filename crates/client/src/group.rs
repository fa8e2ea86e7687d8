//! A member of a consumer group, by the classic protocol: join, sync, heartbeat, leave, commit.
//!
//! The member sends requests only when its owner calls it. The owner must send heartbeats within the session timeout, and
//! join again when a heartbeat says so. The range assignor assigns exactly as Java's `RangeAssignor`, so that clients of
//! other software may be members of the same group.

mod assignment;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::messages::join_group_request::{
    JoinGroupRequestData, JoinGroupRequestProtocol,
};
use ottla_protocol::messages::leave_group_request::{LeaveGroupRequestData, MemberIdentity};
use ottla_protocol::messages::sync_group_request::{
    SyncGroupRequestAssignment, SyncGroupRequestData,
};
use ottla_protocol::messages::{
    HeartbeatRequestData, JoinGroupResponseData, KafkaString, OffsetCommitRequestData,
};

pub use self::assignment::range_assignment;
pub(crate) use self::assignment::{decode_assignment, decode_subscription};
use self::assignment::{encode_assignment, encode_subscription};
use crate::backoff::Backoff;
use crate::error::ErrorCode;
use crate::offsets::commit_topics;
use crate::{ClientError, Cluster, Position, Request, Result, TopicPartition};

const PROTOCOL_TYPE: &str = "consumer";
const RANGE: &str = "range";
/// How much longer than the rebalance timeout a join may take.
const JOIN_MARGIN: Duration = Duration::from_secs(5);

/// How a member behaves.
#[derive(Debug, Clone)]
pub struct GroupOptions {
    pub group: String,
    /// The topics that the member reads.
    pub topics: Vec<String>,
    /// `group.instance.id`, for static membership.
    pub instance_id: Option<String>,
    /// The member is removed after this time without a heartbeat.
    pub session_timeout: Duration,
    /// How long a rebalance waits for this member.
    pub rebalance_timeout: Duration,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat {
    /// The member is in the current generation.
    Stable,
    /// The group rebalances, or has removed this member. It must join again.
    Rejoin,
}

#[derive(Debug)]
pub struct GroupMember {
    cluster: Arc<Cluster>,
    options: GroupOptions,
    coordinator: Option<i32>,
    member_id: String,
    generation: i32,
    /// Whether a join or sync was dropped before its answer came. Its connection is blocked until the group is ready.
    is_blocked: bool,
    /// The topics of the group and their numbers of partitions, if this member assigned them.
    assigned_counts: BTreeMap<String, usize>,
}

/// Whether a join or sync is done, or the join must be sent again.
enum Step<T> {
    Done(T),
    Again,
}

impl GroupMember {
    /// A member that has not joined yet.
    pub fn new(cluster: Arc<Cluster>, options: GroupOptions) -> Self {
        Self {
            cluster,
            options,
            coordinator: None,
            member_id: String::new(),
            generation: -1,
            is_blocked: false,
            assigned_counts: BTreeMap::new(),
        }
    }

    /// The topics whose partitions this member assigned in this generation, with their numbers of partitions. Empty unless
    /// it leads the group. When a number changes, the group must assign again.
    pub(crate) fn assigned_counts(&self) -> &BTreeMap<String, usize> {
        &self.assigned_counts
    }

    /// The id that the coordinator gave this member.
    pub fn member_id(&self) -> &str {
        &self.member_id
    }

    /// The generation of this member; negative while it is in none.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Joins the group, waits for the other members, and returns the partitions of this member.
    pub(crate) async fn join(&mut self, backoff: &mut Backoff) -> Result<Vec<TopicPartition>> {
        loop {
            match self.try_join().await {
                Err(error) if error.is_retriable_in_group() && backoff.wait().await => {}
                answer => return answer,
            }
        }
    }

    /// As [`Self::join`], without retries.
    pub(crate) async fn try_join(&mut self) -> Result<Vec<TopicPartition>> {
        self.free_connection();
        self.is_blocked = true;
        let answer = self.join_and_sync().await;
        self.is_blocked = false;
        if answer.is_err() {
            self.coordinator = None;
        }
        answer
    }

    async fn join_and_sync(&mut self) -> Result<Vec<TopicPartition>> {
        loop {
            let Step::Done(joined) = self.request_join().await? else {
                continue;
            };
            if let Step::Done(assignment) = self.request_sync(joined).await? {
                return Ok(assignment);
            }
        }
    }

    /// Closes the connection if a dropped join or sync blocks it: a broker answers the requests of a connection one after
    /// the other, so the next request would wait for the whole group.
    fn free_connection(&mut self) {
        if std::mem::take(&mut self.is_blocked)
            && let Some(coordinator) = self.coordinator
        {
            self.cluster.disconnect(coordinator);
        }
    }

    /// Sends a heartbeat to the coordinator.
    pub async fn heartbeat(&mut self) -> Result<Heartbeat> {
        let request = HeartbeatRequestData {
            group_id: self.group_id(),
            generation_id: self.generation,
            member_id: KafkaString::from(self.member_id.clone()),
            group_instance_id: self.instance_id(),
            ..HeartbeatRequestData::default()
        };
        let code = match self.call_coordinator(&request).await {
            Ok(response) => ErrorCode::from(response.error_code),
            Err(error) => return Err(error),
        };
        match code {
            ErrorCode::None => Ok(Heartbeat::Stable),
            ErrorCode::RebalanceInProgress => Ok(Heartbeat::Rejoin),
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => {
                self.reset(code);
                Ok(Heartbeat::Rejoin)
            }
            code => {
                if code.is_retriable() {
                    self.coordinator = None;
                }
                Err(self.refused("heartbeat", code))
            }
        }
    }

    /// Commits offsets as a member of the current generation. Tries again after retriable errors, except a rebalance.
    pub(crate) async fn commit(
        &mut self,
        offsets: &BTreeMap<TopicPartition, Position>,
        backoff: &mut Backoff,
    ) -> Result<()> {
        loop {
            match self.try_commit(offsets).await {
                Err(error) if error.is_retriable() && backoff.wait().await => {}
                answer => return answer,
            }
        }
    }

    /// As [`Self::commit`], without retries. Topics that do not exist any more are no error.
    pub(crate) async fn try_commit(
        &mut self,
        offsets: &BTreeMap<TopicPartition, Position>,
    ) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let request = OffsetCommitRequestData {
            group_id: self.group_id(),
            generation_id_or_member_epoch: self.generation,
            member_id: KafkaString::from(self.member_id.clone()),
            group_instance_id: self.instance_id(),
            topics: commit_topics(offsets),
            ..OffsetCommitRequestData::default()
        };
        let response = self.call_coordinator(&request).await?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                let code = ErrorCode::from(partition.error_code);
                if !code.is_error() || code == ErrorCode::UnknownTopicOrPartition {
                    continue;
                }
                if code.is_retriable() {
                    self.coordinator = None;
                }
                return Err(self.refused("commit", code));
            }
        }
        Ok(())
    }

    /// Leaves the group, so that the others need not wait for the session timeout. Tries again after retriable errors. A
    /// static member stays.
    pub(crate) async fn leave(&mut self, backoff: &mut Backoff) -> Result<()> {
        if self.member_id.is_empty() || self.options.instance_id.is_some() {
            return Ok(());
        }
        self.free_connection();
        let request = LeaveGroupRequestData {
            group_id: self.group_id(),
            members: vec![MemberIdentity {
                member_id: KafkaString::from(self.member_id.clone()),
                ..MemberIdentity::default()
            }],
            ..LeaveGroupRequestData::default()
        };
        loop {
            let answer = self.call_coordinator(&request).await;
            let answer = answer.and_then(|response| {
                let members = response.members.iter().map(|member| member.error_code);
                let code = members.chain([response.error_code]).find(|code| *code != 0);
                match ErrorCode::from(code.unwrap_or(0)) {
                    // The coordinator has removed the member already.
                    ErrorCode::UnknownMemberId => Ok(()),
                    code => ClientError::check(code.code(), None, "leave the group"),
                }
            });
            match answer {
                Err(error) if error.is_retriable() => {
                    self.coordinator = None;
                    if !backoff.wait().await {
                        return Err(error);
                    }
                }
                answer => {
                    self.reset(ErrorCode::UnknownMemberId);
                    return answer;
                }
            }
        }
    }

    /// Calls the group's coordinator. After an error the coordinator is looked up again.
    async fn call_coordinator<R: Request>(&mut self, request: &R) -> Result<R::Response> {
        let coordinator = self.coordinator().await?;
        let answer = self.cluster.call(coordinator, request).await;
        if answer.is_err() {
            self.coordinator = None;
        }
        answer
    }

    /// Calls the group's coordinator for a request that may wait until the end of a rebalance.
    async fn call_for_a_rebalance<R: Request>(&mut self, request: &R) -> Result<R::Response> {
        let coordinator = self.coordinator().await?;
        let connection = self.cluster.node(coordinator).await?;
        let limit = self.options.rebalance_timeout + JOIN_MARGIN;
        connection.call_within(request, limit).await
    }

    async fn request_join(&mut self) -> Result<Step<JoinGroupResponseData>> {
        let request = JoinGroupRequestData {
            group_id: self.group_id(),
            session_timeout_ms: milliseconds(self.options.session_timeout),
            rebalance_timeout_ms: milliseconds(self.options.rebalance_timeout),
            member_id: KafkaString::from(self.member_id.clone()),
            group_instance_id: self.instance_id(),
            protocol_type: KafkaString::from_static(PROTOCOL_TYPE),
            protocols: vec![JoinGroupRequestProtocol {
                name: KafkaString::from_static(RANGE),
                metadata: encode_subscription(&self.options.topics),
                ..JoinGroupRequestProtocol::default()
            }],
            ..JoinGroupRequestData::default()
        };
        let response = self.call_for_a_rebalance(&request).await?;
        let code = ErrorCode::from(response.error_code);
        match code {
            ErrorCode::None => {
                self.member_id = response.member_id.to_string();
                self.generation = response.generation_id;
                Ok(Step::Done(response))
            }
            ErrorCode::MemberIdRequired => {
                self.member_id = response.member_id.to_string();
                Ok(Step::Again)
            }
            ErrorCode::UnknownMemberId => {
                self.reset(code);
                Ok(Step::Again)
            }
            _ => Err(self.refused("join", code)),
        }
    }

    async fn request_sync(
        &mut self,
        joined: JoinGroupResponseData,
    ) -> Result<Step<Vec<TopicPartition>>> {
        let assignments = self.assign(&joined).await?;
        let request = SyncGroupRequestData {
            group_id: self.group_id(),
            generation_id: self.generation,
            member_id: KafkaString::from(self.member_id.clone()),
            group_instance_id: self.instance_id(),
            protocol_type: Some(KafkaString::from_static(PROTOCOL_TYPE)),
            protocol_name: joined.protocol_name,
            assignments,
            ..SyncGroupRequestData::default()
        };
        let response = self.call_for_a_rebalance(&request).await?;
        let code = ErrorCode::from(response.error_code);
        match code {
            ErrorCode::None => {
                let assigned = decode_assignment(&response.assignment);
                let unreadable =
                    |_| self.refused("read the assignment", ErrorCode::UnknownServerError);
                Ok(Step::Done(assigned.map_err(unreadable)?))
            }
            ErrorCode::RebalanceInProgress => Ok(Step::Again),
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => {
                self.reset(code);
                Ok(Step::Again)
            }
            _ => Err(self.refused("sync", code)),
        }
    }

    /// The assignments of all members if this member leads the group, else none.
    async fn assign(
        &mut self,
        joined: &JoinGroupResponseData,
    ) -> Result<Vec<SyncGroupRequestAssignment>> {
        self.assigned_counts.clear();
        if joined.leader.as_str() != self.member_id || joined.skip_assignment {
            return Ok(Vec::new());
        }
        let mut subscriptions = BTreeMap::new();
        for member in &joined.members {
            let topics = decode_subscription(&member.metadata).unwrap_or_default();
            let order = member
                .group_instance_id
                .as_ref()
                .unwrap_or(&member.member_id);
            subscriptions.insert((order.to_string(), member.member_id.to_string()), topics);
        }
        let mut counts = BTreeMap::new();
        for topic in subscriptions.values().flatten() {
            if counts.contains_key(topic) {
                continue;
            }
            self.cluster.forget(topic);
            match self.cluster.topic(topic).await {
                Ok(found) => counts.insert(topic.clone(), found.partitions.len()),
                Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                    counts.insert(topic.clone(), 0)
                }
                Err(error) => return Err(error),
            };
        }
        let assignment = range_assignment(&subscriptions, &counts).into_iter();
        self.assigned_counts = counts;
        let encode = |((_, member_id), partitions): ((String, String), Vec<TopicPartition>)| {
            SyncGroupRequestAssignment {
                member_id: KafkaString::from(member_id),
                assignment: encode_assignment(&partitions),
                ..SyncGroupRequestAssignment::default()
            }
        };
        Ok(assignment.map(encode).collect())
    }

    async fn coordinator(&mut self) -> Result<i32> {
        if let Some(coordinator) = self.coordinator {
            return Ok(coordinator);
        }
        let found = self.cluster.coordinator(&self.options.group).await?;
        self.coordinator = Some(found);
        Ok(found)
    }

    fn reset(&mut self, code: ErrorCode) {
        self.generation = -1;
        if code == ErrorCode::UnknownMemberId {
            self.member_id.clear();
        }
    }

    fn group_id(&self) -> KafkaString {
        KafkaString::from(self.options.group.clone())
    }

    fn instance_id(&self) -> Option<KafkaString> {
        self.options.instance_id.clone().map(KafkaString::from)
    }

    fn refused(&self, action: &str, code: ErrorCode) -> ClientError {
        ClientError::refused(format!("{action} of group {}", self.options.group), code)
    }
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
