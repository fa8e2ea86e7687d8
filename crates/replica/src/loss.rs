//! Records below a high watermark that a node has removed: the value that goes into the loss ledger.
//!
//! Consumers may have read such records, and with acks=all their producers may have been told that they are safe. Who
//! removes them returns a [`Loss`]; who gets one records it.

use std::fmt;
use std::sync::Arc;

use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};

use crate::PartitionId;

/// Records below the high watermark that a node has removed, because its leader does not have them. While the leader has
/// not recovered from an unclean election, also records above it (`to` is then `from`): a node that restarts may know an
/// older high watermark than it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The topic's name.
    pub topic: Arc<str>,
    pub partition: PartitionId,
    /// The offset of the first one.
    pub from: Offset,
    /// The offset after the last one that was below the high watermark.
    pub to: Offset,
    /// The end of the log before the removal. The records from `to` on were not known to be committed.
    pub end: Offset,
    /// The leader epoch of the last record of the log before the removal.
    pub removed_epoch: Option<LeaderEpoch>,
    /// The leader that the node follows now.
    pub leader: NodeId,
    pub leader_epoch: LeaderEpoch,
    pub reason: LossReason,
}

/// Why the records were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossReason {
    /// The leader has records of other epochs at their offsets, or none.
    Diverged,
    /// The log of the leader ends before them.
    LeaderEndsBefore,
}

impl fmt::Display for LossReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Diverged => "the log of the leader has other records there, or none",
            Self::LeaderEndsBefore => "the log of the leader ends before them",
        })
    }
}
