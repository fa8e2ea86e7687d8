//! Opens a controller: its Raft log, and the Kafka log up to the checkpoint in it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use ottla_log::files::{FileError, Files};
use ottla_metadata::Loader;
use ottla_protocol::ids::{LeaderEpoch, Offset, Uuid};
use raft::eraftpb::{ConfChange, ConfState, HardState};
use raft::{Config, RawNode};

use super::lost_log::Debt;
use super::peers::{Peers, raft_id};
use super::{ELECTION_TICKS, HEARTBEAT_TICKS, InspectedNode, NodeError, RaftNode, epoch_of};
use crate::metadata_log::{Location, Settings, write_again};
use crate::raft::log::{self, Applied, Head, Position, RaftLog};
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
    /// All voters, as the log has them, as `controller.quorum.voters` names them, or as other controllers tell. A controller
    /// that is not among those of a log is an observer.
    pub voters: &'a [Voter],
}

/// Whether the directory belongs to a controller that Raft drives.
pub fn has_raft_log<F: Files>(files: &F, directory: &Path) -> Result<bool, FileError> {
    Ok(files.status(&directory.join(log::FILE))?.is_some())
}

impl<F: Files> RaftNode<F> {
    /// Reads the directory of a controller. Writes nothing.
    pub fn inspect(
        files: F,
        location: Location<'_>,
        voter: Voter,
    ) -> Result<InspectedNode<F>, NodeError> {
        InspectedNode::read(files, location, voter)
    }

    /// Opens the controller whose metadata log is at `location`. Returns the metadata of what is applied.
    pub fn open(
        files: F,
        location: Location<'_>,
        member: Member<'_>,
        settings: Settings,
    ) -> Result<(Self, Loader), NodeError> {
        let inspected = Self::inspect(files, location, member.voter.clone())?;
        inspected.open(member, settings)
    }
}

impl<F: Files> InspectedNode<F> {
    /// Opens the controller. Returns the metadata of what is applied.
    ///
    /// Without a log of Raft, that of the only voter begins where the Kafka log ends: all of that is committed. Its indexes
    /// go on from the offset, so that a later voter whose log is empty gets a snapshot first. A voter of several takes over
    /// what may not be committed: see `take_over.rs`.
    pub fn open(
        mut self,
        member: Member<'_>,
        settings: Settings,
    ) -> Result<(RaftNode<F>, Loader), NodeError> {
        self.check(&member)?;
        if self.is_to_be_taken_over(member.voters) {
            let taken = self.take_over(member.voters)?;
            return taken.open(member, settings);
        }
        let promised = self.promised(member.voters);
        let has_leader = self.promise.has_leader;
        let (files, stored) = (self.log.files().clone(), self.log.stored_epoch);
        let directory = self.log.location().directory.to_path_buf();
        let cluster_id = self.log.location().cluster_id.to_owned();
        let (end, epoch) = (self.log.end(), self.log.epoch());
        self.log.voter = member.voter.clone();
        let opened = self.log.open_committed(settings, &self.written.ahead)?;
        let peers = Peers::of(member.voters);
        let raft_log = if let Some(mut read) = self.raft {
            for stretch in &self.written.unsynced {
                write_again(&files, stretch)?;
            }
            read.raise_term(promised);
            read.raise_commit(self.written.at.index);
            read.open()?
        } else {
            let head = head_after(end, epoch, promised, member.first_voters());
            RaftLog::create(files, &directory, &head)?
        };
        let mut applied = raft_log.head().applied.clone();
        if self.written.at.index > applied.at.index {
            (applied.at, applied.log_end) = (self.written.at, self.written.log_end);
        }
        let id = raft_id(&member.voter);
        let config = config(id, applied.at.index);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, raft_log, &logger)?;
        let epoch = epoch_of(raw.raft.term);
        let mut node = RaftNode {
            debt: member.debt(raw.raft.raft_log.last_index() == 0),
            raw,
            log: opened.log,
            cluster_id,
            voter: member.voter,
            peers,
            applied,
            noted_epoch: stored,
            noted_vote: promised.1,
            noted_leader: has_leader,
            bytes_since_checkpoint: 0,
            held: None,
            waiting: VecDeque::new(),
            proposed_bytes: 0,
            is_full: false,
            leadership: None,
            leader: (None, epoch),
            granted: BTreeSet::new(),
            timeout: (ELECTION_TICKS, None),
            until_candidacy: None,
            announced: None,
            announced_to: BTreeMap::new(),
            begun: BTreeMap::new(),
            answers: BTreeMap::new(),
            pending_voters: None,
            leaving_ticks: 0,
            ends: VecDeque::new(),
            taken_control: Some(self.control),
            new_origin: None,
            other_origins: BTreeMap::new(),
            events: Vec::new(),
        };
        node.change_voters(&self.written.changes)?;
        node.write_ahead_after(self.written.last)?;
        Ok((node, opened.loader))
    }
}

impl<F: Files> RaftNode<F> {
    /// Takes over the voters of the entries that are in the Kafka log.
    fn change_voters(&mut self, changes: &[ConfChange]) -> Result<(), NodeError> {
        for change in changes {
            self.applied.voters = self.raw.apply_conf_change(change)?;
        }
        if self.log.control().voters_in_log {
            self.follow_voters()?;
        }
        Ok(())
    }
}

impl Member<'_> {
    /// Whether a voter with an empty log may have had another one.
    fn debt(&self, is_empty: bool) -> Debt {
        if is_empty && self.has_static_voters() && self.voters.len() > 1 {
            Debt::Unknown
        } else {
            Debt::None
        }
    }

    pub(super) fn is_voter(&self) -> bool {
        self.is_among(self.voters)
    }

    /// The Raft ids of the first voters. A controller that joins has none until a record names them.
    fn first_voters(&self) -> Vec<u64> {
        let voters = if self.is_voter() { self.voters } else { &[] };
        voters.iter().map(raft_id).collect()
    }

    pub(super) fn is_only_but_for_its_directory(&self) -> bool {
        matches!(self.voters, [only] if only.node_id == self.voter.node_id && !self.is_voter())
    }

    pub(super) fn is_among(&self, voters: &[Voter]) -> bool {
        voters.iter().any(|one| one.is_same_voter(&self.voter))
    }

    /// Whether the configuration names the voters. It knows no directory ids.
    pub(super) fn has_static_voters(&self) -> bool {
        let mut voters = self.voters.iter();
        !self.voters.is_empty() && voters.all(|voter| voter.directory_id == Uuid::ZERO)
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

/// The start of a log that goes on after a Kafka log, which ends at `end` with a batch of epoch `last`. `promised` are the
/// term and the vote of this node.
pub(super) fn head_after(
    end: Offset,
    last: LeaderEpoch,
    promised: (u64, u64),
    voters: Vec<u64>,
) -> Head {
    let at = Position {
        index: end.0.unsigned_abs(),
        term: term_of(last),
    };
    let (term, vote) = promised.max((at.term, 0));
    let hard_state = HardState {
        term,
        vote,
        commit: at.index,
        ..HardState::default()
    };
    let voters = ConfState {
        voters,
        ..ConfState::default()
    };
    Head {
        before: at,
        hard_state,
        applied: Applied {
            at,
            log_end: end,
            voters,
        },
        snapshot: None,
        origin: if at.index == 0 { 0 } else { term },
    }
}

pub(super) fn term_of(epoch: LeaderEpoch) -> u64 {
    u64::from(epoch.0.unsigned_abs())
}

pub(super) fn names(voters: &[Voter]) -> String {
    let names = voters
        .iter()
        .map(|voter| format!("{} ({})", voter.node_id, voter.directory_id));
    names.collect::<Vec<_>>().join(", ")
}
