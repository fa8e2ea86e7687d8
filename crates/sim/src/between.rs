//! The messages between the nodes of a cluster, and the links that carry them.
//!
//! A link may lose a message, deliver it late or twice, and let later ones overtake it, as connections that break and are
//! made again do. It may be cut in one direction only. A reply names the request, so that a node takes it once.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use ottla_controller::{ControllerReply, ControllerRequest};
use ottla_log::files::simulated::Random;
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};
use ottla_protocol::messages::ErrorCode;
use ottla_quorum::{SnapshotId, SnapshotPiece, Wanted};
use ottla_replication::follower::EpochEnd;
use ottla_replication::{FollowerFetch, LeaderOffsets, Replica};

use crate::messages::Place;

/// A message from one node to another.
#[derive(Debug, Clone)]
pub struct Between {
    pub from: NodeId,
    pub to: NodeId,
    /// Names the request and its reply among those of the asking node.
    pub number: u64,
    pub content: Content,
}

#[derive(Debug, Clone)]
pub enum Content {
    Ask(Box<ControllerRequest>),
    /// Nothing was done if there is no reply.
    Told(Option<Box<ControllerReply>>),
    /// What is wanted of the metadata log, by one that knows this epoch.
    FetchMetadata(Wanted, LeaderEpoch),
    Metadata(MetadataAnswer),
    /// From one controller to another, in the encoding of Raft messages.
    Raft(Bytes),
    Fetch(ReplicaFetch),
    Fetched(FollowerAnswer),
}

/// The answer of a controller to one that follows the metadata log.
#[derive(Debug, Clone)]
pub struct MetadataAnswer {
    /// Who leads the log, as far as the controller knows.
    pub leader: Option<NodeId>,
    pub epoch: LeaderEpoch,
    pub content: Metadata,
}

/// What a controller tells an observer.
#[derive(Debug, Clone)]
pub enum Metadata {
    Batches(Vec<u8>, Offset),
    Snapshot(SnapshotId),
    SnapshotGone,
    Piece(u64, SnapshotPiece),
    /// The controller does not lead, or the follower has another epoch in mind.
    Refused,
    /// The controller cannot tell now.
    Unavailable,
}

/// A follower's fetch.
#[derive(Debug, Clone, Copy)]
pub struct ReplicaFetch {
    pub place: Place,
    pub replica: Replica,
    pub fetch: FollowerFetch,
    /// Whether the offsets of the leader's log are asked for.
    pub wants_offsets: bool,
    pub max_wait: Duration,
}

/// A leader's answer to a follower.
#[derive(Debug, Clone)]
pub enum FollowerAnswer {
    Records {
        bytes: Vec<u8>,
        high_watermark: Offset,
        log_start: Offset,
    },
    Diverging(EpochEnd),
    Offsets(LeaderOffsets),
    Failed(ErrorCode),
}

/// The links between all nodes.
#[derive(Debug, Default)]
pub struct Links {
    /// From where to where nothing arrives.
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// Whether each message arrives once and soon.
    are_calm: bool,
}

impl Links {
    /// After which times a message arrives: never, once, or twice.
    pub fn delays(&self, message: &Between, random: &mut Random) -> Vec<Duration> {
        if self.are_calm {
            return vec![Duration::from_micros(50 + random.below(600))];
        }
        if !self.delivers(message.from, message.to) || random.one_in(150) {
            return Vec::new();
        }
        let copies = if random.one_in(60) { 2 } else { 1 };
        let is_patient = matches!(
            message.content,
            Content::Fetch(_) | Content::Fetched(_) | Content::Raft(_)
        );
        let delay = |random: &mut Random| {
            let slow = match random.below(400) {
                0 if is_patient => 4_000_000,
                1 | 2 => 300_000,
                _ => 600,
            };
            Duration::from_micros(50 + random.below(slow))
        };
        (0..copies).map(|_| delay(random)).collect()
    }

    /// Whether messages arrive.
    pub fn delivers(&self, from: NodeId, to: NodeId) -> bool {
        !self.cuts.contains(&(from, to))
    }

    /// Cuts one direction of a link.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
    }

    /// All links work from now on.
    pub fn calm_down(&mut self) {
        self.mend();
        self.are_calm = true;
    }

    /// All links work again.
    pub fn mend(&mut self) {
        self.cuts.clear();
    }
}
