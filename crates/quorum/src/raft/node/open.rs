//! Opens a controller: its Raft log, and the Kafka log up to the checkpoint in it.

use std::collections::{BTreeMap, BTreeSet};

use ottla_log::files::Files;
use ottla_metadata::Loader;
use ottla_protocol::ids::{LeaderEpoch, NodeId};
use raft::eraftpb::ConfState;
use raft::{Config, RawNode};

use super::peers::{Peers, raft_id};
use super::{ELECTION_TICKS, HEARTBEAT_TICKS, NodeError, RaftNode, epoch_of};
use crate::metadata_log::{Location, MetadataLog, Settings};
use crate::raft::log::{Applied, Head, RaftLog};
use crate::voter::Voter;

/// Bytes of entries in one message, unless a single entry is larger.
const MESSAGE_BYTES: u64 = 1024 * 1024;
/// Messages with entries on their way to one follower.
const MESSAGES_IN_FLIGHT: usize = 64;
/// Bytes of entries that are proposed and not committed.
const UNCOMMITTED_BYTES: u64 = 32 * 1024 * 1024;
/// Bytes of entries that are applied in one step.
const APPLY_BYTES: u64 = 4 * 1024 * 1024;

/// A controller of a quorum, and the quorum.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// This controller.
    pub voter: Voter,
    /// All voters, as the directory was formatted with, or as `controller.quorum.voters` names them.
    pub voters: &'a [Voter],
}

impl<F: Files> RaftNode<F> {
    /// Opens the controller whose metadata log is at `location`. Returns the metadata of what is applied.
    pub fn open(
        files: F,
        location: Location<'_>,
        member: Member<'_>,
        settings: Settings,
    ) -> Result<(Self, Loader), NodeError> {
        let peers = Peers::of(member.voters);
        let id = raft_id(&member.voter);
        if peers.voter(id).is_none() {
            return Err(NodeError::NoVoter(member.voter.node_id));
        }
        let read = RaftLog::read_file(files.clone(), location.directory)?;
        let applied = read
            .as_ref()
            .map_or_else(|| first(&peers), |read| read.head().applied.clone());
        let opened = MetadataLog::open_committed(
            files.clone(),
            location,
            member.voter.clone(),
            settings,
            applied.log_end,
        )?;
        let raft_log = if let Some(read) = read {
            read.open()?
        } else {
            let head = Head {
                applied: applied.clone(),
                ..Head::default()
            };
            RaftLog::create(files, location.directory, &head)?
        };
        let config = Config {
            id,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: applied.at.index,
            max_size_per_msg: MESSAGE_BYTES,
            max_inflight_msgs: MESSAGES_IN_FLIGHT,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: UNCOMMITTED_BYTES,
            max_committed_size_per_ready: APPLY_BYTES,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, raft_log, &logger)?;
        let epoch = epoch_of(raw.raft.term);
        let no_leader: (Option<NodeId>, LeaderEpoch) = (None, epoch);
        let node = Self {
            raw,
            log: opened.log,
            voter: member.voter,
            peers,
            applied,
            bytes_since_checkpoint: 0,
            leadership: None,
            leader: no_leader,
            granted: BTreeSet::new(),
            timeout: (ELECTION_TICKS, None),
            announced: None,
            announced_to: BTreeMap::new(),
            begun: BTreeMap::new(),
            events: Vec::new(),
        };
        Ok((node, opened.loader))
    }
}

/// The state of a controller that has never run.
fn first(peers: &Peers) -> Applied {
    Applied {
        voters: ConfState {
            voters: peers.ids(),
            ..ConfState::default()
        },
        ..Applied::default()
    }
}
