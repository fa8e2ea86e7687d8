//! Every request that a group coordinator answers, with its reply, as closed enums: a driver can queue, log, and
//! replay them.
//!
//! [`Call`] ties the type of a request to the type of its reply, so that a handler that sends a [`JoinRequest`] is
//! handed a [`JoinReply`].

use ottla_protocol::ids::Uuid;

use super::classic::{
    HeartbeatError, HeartbeatRequest, JoinReply, JoinRequest, LeaveReply, LeaveRequest, SyncReply,
    SyncRequest,
};
use super::delete::{DeleteError, DeleteGroupRequest};
use super::describe::{DescribeError, DescribeGroupRequest, DescribedGroup};
use super::list::{Filter, ListedGroup};
use super::offsets::{
    CommitReply, CommitRequest, FetchedTopic, ListOffsetsRequest, OffsetDeleteReply,
    OffsetDeleteRequest, OffsetFetchRequest, StoredOffset,
};

/// A request of a client, or of the broker itself, that one shard answers.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupRequest {
    /// `JoinGroup`. The reply may take as long as a rebalance.
    Join(JoinRequest),
    /// `SyncGroup`. The reply may take until the leader of the group has sent the assignments.
    Sync(SyncRequest),
    /// `Heartbeat`: restarts the session of a member.
    Heartbeat(HeartbeatRequest),
    /// `LeaveGroup`: removes members.
    Leave(LeaveRequest),
    /// `OffsetCommit`.
    CommitOffsets(CommitRequest),
    /// `OffsetFetch` of one group. Changes nothing.
    FetchOffsets(OffsetFetchRequest),
    /// `OffsetDelete`.
    DeleteOffsets(OffsetDeleteRequest),
    /// `DeleteGroups`, for one of its groups.
    DeleteGroup(DeleteGroupRequest),
    /// `DescribeGroups`, for one of its groups. Changes nothing.
    DescribeGroup(DescribeGroupRequest),
    /// `ListGroups`: the groups of this shard. Changes nothing.
    ListGroups(Filter),
    /// Every committed offset of this shard, for the metrics of consumer lag. Changes nothing.
    ListOffsets(ListOffsetsRequest),
}

/// The reply to the [`GroupRequest`] of the same name.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupReply {
    /// The new generation, or why there is none for this member.
    Join(JoinReply),
    /// The assignment of the member.
    Sync(SyncReply),
    /// Whether the heartbeat counts.
    Heartbeat(Result<(), HeartbeatError>),
    /// The outcome for each member, in the order of the request.
    Leave(LeaveReply),
    /// The outcome for each partition, or why nothing is committed.
    CommitOffsets(CommitReply),
    /// The offsets by topic, in the order of the request.
    FetchOffsets(Vec<FetchedTopic>),
    /// The outcome for each partition, or why nothing is deleted.
    DeleteOffsets(OffsetDeleteReply),
    /// Whether the group is deleted.
    DeleteGroup(Result<(), DeleteError>),
    /// The group with its members.
    DescribeGroup(Result<DescribedGroup, DescribeError>),
    /// The groups that pass the filter.
    ListGroups(Vec<ListedGroup>),
    /// The offsets, ordered by group, topic, and partition.
    ListOffsets(Vec<StoredOffset>),
}

/// An event that a shard handles without a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// `offsets.retention.check.interval.ms` has passed: expired offsets, and groups left with none, are deleted.
    ExpiryDue,
    /// A topic was deleted: its committed offsets are deleted too.
    TopicDeleted {
        /// The name it had.
        name: String,
        /// The id it had.
        id: Uuid,
    },
}

/// A request with the type of its reply.
pub trait Call: Into<GroupRequest> {
    /// What answers it.
    type Reply: Send + 'static;

    /// The reply, if `reply` answers a request of this type.
    fn reply_from(reply: GroupReply) -> Option<Self::Reply>;
}

/// A request to the shard that owns one group.
pub trait GroupCall: Call {
    fn group_id(&self) -> &str;
}

macro_rules! calls {
    ($($request:ty => $variant:ident($reply:ty);)*) => {
        $(
            impl From<$request> for GroupRequest {
                fn from(request: $request) -> Self {
                    Self::$variant(request)
                }
            }

            impl Call for $request {
                type Reply = $reply;

                fn reply_from(reply: GroupReply) -> Option<Self::Reply> {
                    if let GroupReply::$variant(reply) = reply {
                        Some(reply)
                    } else {
                        None
                    }
                }
            }
        )*
    };
}

calls! {
    JoinRequest => Join(JoinReply);
    SyncRequest => Sync(SyncReply);
    HeartbeatRequest => Heartbeat(Result<(), HeartbeatError>);
    LeaveRequest => Leave(LeaveReply);
    CommitRequest => CommitOffsets(CommitReply);
    OffsetFetchRequest => FetchOffsets(Vec<FetchedTopic>);
    OffsetDeleteRequest => DeleteOffsets(OffsetDeleteReply);
    DeleteGroupRequest => DeleteGroup(Result<(), DeleteError>);
    DescribeGroupRequest => DescribeGroup(Result<DescribedGroup, DescribeError>);
    Filter => ListGroups(Vec<ListedGroup>);
    ListOffsetsRequest => ListOffsets(Vec<StoredOffset>);
}

macro_rules! group_calls {
    ($($request:ty)*) => {
        $(
            impl GroupCall for $request {
                fn group_id(&self) -> &str {
                    &self.group_id
                }
            }
        )*
    };
}

group_calls! {
    JoinRequest SyncRequest HeartbeatRequest LeaveRequest CommitRequest OffsetFetchRequest
    OffsetDeleteRequest DeleteGroupRequest DescribeGroupRequest
}
