//! Opens a controller: its Raft log, and the Kafka log up to the checkpoint in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ottla_log::files::{FileError, Files};
use ottla_metadata::Loader;
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};
use raft::eraftpb::ConfState;
use raft::{Config, RawNode};

use super::peers::{Peers, raft_id};
use super::{ELECTION_TICKS, HEARTBEAT_TICKS, NodeError, RaftNode, epoch_of};
use crate::metadata_log::{Inspected, Location, MetadataLog, Settings};
use crate::raft::log::{self, Applied, Head, RaftLog};
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

/// Whether the directory belongs to a controller that Raft drives.
pub fn has_raft_log<F: Files>(files: &F, directory: &Path) -> Result<bool, FileError> {
    Ok(files.status(&directory.join(log::FILE))?.is_some())
}

impl<F: Files> RaftNode<F> {
    /// Reads the log of a controller as far as it is checkpointed. Writes nothing.
    pub fn inspect(
        files: F,
        location: Location<'_>,
        voter: Voter,
    ) -> Result<Inspected<F>, NodeError> {
        let read = RaftLog::read_file(files.clone(), location.directory)?;
        let until = read.map(|read| read.head().applied.log_end);
        let inspected = MetadataLog::read(files, location, voter, until)?;
        if until.is_none() && inspected.end() > Offset(0) {
            return Err(NodeError::NotOfRaft(location.directory.to_path_buf()));
        }
        Ok(inspected)
    }

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
            return Err(NodeError::NoVoter {
                node_id: member.voter.node_id,
                directory_id: member.voter.directory_id,
                voters: names(member.voters),
            });
        }
        let read = RaftLog::read_file(files.clone(), location.directory)?;
        let applied = read
            .as_ref()
            .map_or_else(|| first(&peers), |read| read.head().applied.clone());
        if applied
            .voters
            .voters
            .iter()
            .any(|id| peers.voter(*id).is_none())
            || applied.voters.voters.len() != member.voters.len()
        {
            let voters = names(member.voters);
            return Err(NodeError::OtherVoters { voters });
        }
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
        let config = config(id, applied.at.index);
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
            until_candidacy: None,
            announced: None,
            announced_to: BTreeMap::new(),
            begun: BTreeMap::new(),
            events: Vec::new(),
        };
        Ok((node, opened.loader))
    }
}

fn config(id: u64, applied: u64) -> Config {
    Config {
        id,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        applied,
        max_size_per_msg: MESSAGE_BYTES,
        max_inflight_msgs: MESSAGES_IN_FLIGHT,
        check_quorum: true,
        pre_vote: true,
        max_uncommitted_size: UNCOMMITTED_BYTES,
        max_committed_size_per_ready: APPLY_BYTES,
        ..Config::default()
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

fn names(voters: &[Voter]) -> String {
    let names = voters
        .iter()
        .map(|voter| format!("{} ({})", voter.node_id, voter.directory_id));
    names.collect::<Vec<_>>().join(", ")
}
