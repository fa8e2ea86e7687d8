//! The messages between clients and nodes, as values in place of the broker's frames.

use bytes::Bytes;
use ottla_controller::{ControllerReply, ControllerRequest};
use ottla_coordinator::Unavailable;
use ottla_coordinator::group::requests::{GroupCall, GroupReply, GroupRequest};
use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, Uuid};
use ottla_protocol::messages::ErrorCode;
use ottla_replica::partition::RequiredAcks;
use std::time::Duration;

/// A client's number.
pub type ClientId = usize;
/// A partition, by its topic's id and its index.
pub type Place = (Uuid, PartitionIndex);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The name of a request on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Where the reply to a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplyTo {
    pub connection: ConnectionId,
    pub request: RequestId,
}

/// A message under way.
#[derive(Debug)]
pub enum Delivery {
    ToNode(NodeId, ReplyTo, Request),
    ToClient(ClientId, ReplyTo, Reply),
    /// The connection is closed, and the client is told.
    Closed(ClientId, ConnectionId),
}

/// A batch for one partition.
#[derive(Debug, Clone)]
pub struct Produce {
    pub place: Place,
    pub batch: Bytes,
    pub acks: RequiredAcks,
}

/// Asks for the records of one partition.
#[derive(Debug, Clone, Copy)]
pub struct Fetch {
    pub place: Place,
    pub offset: i64,
    pub max_wait: Duration,
    /// The epoch of the leader that the client knows; a single node is asked without.
    pub leader_epoch: Option<LeaderEpoch>,
}

#[derive(Debug, Clone)]
pub enum Request {
    Produce(Produce),
    Fetch(Fetch),
    InitProducerId,
    DeleteRecords {
        place: Place,
        before: i64,
    },
    Controller(ControllerRequest),
    /// Whether a topic of this name is there.
    Describe(String),
    Group(GroupRequest),
    /// Which node leads a partition, or coordinates a group.
    Find(Served),
}

/// What one node of a cluster serves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Served {
    Partition(Place),
    Group(String),
}

#[derive(Debug)]
pub enum Reply {
    /// The offset of the batch.
    Produced(Result<i64, ErrorCode>),
    Fetched(Result<Fetched, ErrorCode>),
    ProducerId(Result<i64, ErrorCode>),
    /// The log start offset.
    Deleted(Result<i64, ErrorCode>),
    Controller(Result<ControllerReply, ErrorCode>),
    Described(Option<Uuid>),
    Group(Result<GroupReply, Unavailable>),
    /// The node, and the leader epoch in which it serves.
    Found(Option<(NodeId, LeaderEpoch)>),
}

#[derive(Debug)]
pub struct Fetched {
    pub bytes: Vec<u8>,
    pub log_start: i64,
    pub high_watermark: i64,
}

/// The group of a request; empty if it is for all.
pub fn group_of(request: &GroupRequest) -> &str {
    match request {
        GroupRequest::Join(request) => request.group_id(),
        GroupRequest::Sync(request) => request.group_id(),
        GroupRequest::Heartbeat(request) => request.group_id(),
        GroupRequest::Leave(request) => request.group_id(),
        GroupRequest::CommitOffsets(request) => request.group_id(),
        GroupRequest::FetchOffsets(request) => request.group_id(),
        GroupRequest::DeleteOffsets(request) => request.group_id(),
        GroupRequest::DeleteGroup(request) => request.group_id(),
        GroupRequest::DescribeGroup(request) => request.group_id(),
        GroupRequest::ListGroups(_) | GroupRequest::ListOffsets(_) => "",
    }
}
