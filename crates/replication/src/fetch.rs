//! A follower's fetch of one partition, and why a leader does not take it.

use ottla_protocol::ids::{LeaderEpoch, Offset};

/// What a follower tells its leader when it fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerFetch {
    /// The leader epoch in which it follows.
    pub leader_epoch: LeaderEpoch,
    /// The end of its log.
    pub offset: Offset,
    /// The epoch of its last record.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    pub log_start: Offset,
    /// How far its log is on stable storage; `None` if it does not say, as Apache Kafka's followers do not.
    pub flushed: Option<Offset>,
    /// Whether it takes records. Without room for them it asks to leave the ISR.
    pub has_room: bool,
}

/// Why a leader does not take the fetch of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FetchRefusal {
    /// It comes from an earlier start of the node's process.
    #[error("the broker has been started again since")]
    StaleBroker,
    #[error("the node has no replica of the partition")]
    NotAReplica,
}
