//! The events of a process: what it has to do at a time.

use ottla_protocol::ids::NodeId;

use crate::messages::Place;

/// One process of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessId {
    pub node: NodeId,
    /// Which of the processes of all nodes it is.
    pub number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeEvent {
    /// A pass of group commit may be due in the directory of this number.
    BeginPass(usize),
    SyncPass(usize),
    EndPass(usize),
    /// Requests wait for the controller.
    Controller,
    /// A snapshot of the metadata is to be written.
    WriteSnapshot,
    /// Something committed is to be taken over.
    Follow,
    /// A directory has a job.
    Apply(usize),
    /// The follower looks whether a directory that it waits for is stalled.
    LookAtStalls,
    Housekeeping(usize),
    ExpireOffsets,
    Cleaner,
    /// A coordinator has a deadline.
    Tick(i32),
    /// A coordinator's partition is to be read.
    Load(i32),
    /// A fetch has waited for long enough.
    FetchWaited(u64),
    /// A broker asks its controller something, or asks again.
    Beat,
    /// A broker fetches metadata.
    FetchMetadata,
    /// A replica may fetch from its leader.
    Fetch(Place),
    /// The fetch of a follower has waited for long enough.
    FollowerWaited(u64),
    /// A broker looks after the ISRs of the partitions that it leads.
    LookAtIsrs,
    /// The controller looks which sessions are over.
    Sessions,
    /// The clock of a controller's part of Raft goes on.
    QuorumTick,
    /// A controller learns that the process of another one has ended.
    ControllerEnded(NodeId),
}
