//! Recovers a quorum whose majority is lost for good: one controller that is left goes on alone, with all that it has.
//!
//! Nobody can say what the lost majority had committed that this controller lacks. What it has, and does not know to be
//! committed, is kept: the majority may have had it. The others are removed by entries of the log, so that a controller that
//! joins later counts the same voters. A crash in between is mended by another call.

use std::path::Path;

use ottla_log::files::Files;
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, Uuid};
use ottla_protocol::time::Timestamp;
use raft::eraftpb::{ConfChangeType, ConfState};

use super::membership::{conf_change, voters_batch};
use super::peers::{node_of, raft_id_of};
use super::{Member, NodeError, RaftNode, epoch_of, has_raft_log, raft_id};
use crate::metadata_log::{Location, Settings};
use crate::raft::log::{FILE, RaftLog};
use crate::raft::payload::{self, Payload};
use crate::voter::Voter;

/// A controller alone is elected within so many ticks.
const MAX_TICKS: usize = 64;
/// Each entry that is not applied yet may change the voters once more.
const MAX_ROUNDS: usize = 64;

/// What a controller has that is left of its quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// This controller, as the quorum knows it.
    pub voter: Voter,
    /// The node ids of all voters, as far as this controller knows.
    pub voters: Vec<NodeId>,
    /// Whether `controller.quorum.voters` names them.
    pub has_static_voters: bool,
    /// The newest epoch in which it took part.
    pub epoch: LeaderEpoch,
    /// The end of the metadata that it has applied; it may have more.
    pub end: Offset,
    /// Entries of which it does not know whether they are committed.
    pub unknown_entries: u64,
    /// When the newest metadata that it has was written.
    pub last_written: Option<Timestamp>,
}

impl<F: Files> RaftNode<F> {
    /// What the controller `node_id` has, whose metadata log is at `location`. Writes nothing.
    pub fn survey(
        files: F,
        location: Location<'_>,
        (node_id, directory_id): (NodeId, Uuid),
    ) -> Result<Survivor, NodeError> {
        let directory = location.directory;
        let mut voter = Voter {
            node_id,
            directory_id,
            endpoints: Vec::new(),
        };
        let inspected = Self::inspect(files, location, voter.clone())?;
        let Some(read) = &inspected.raft else {
            return Err(if has_raft_log(inspected.log.files(), directory)? {
                NodeError::NotOfRaft(directory.to_path_buf())
            } else {
                NodeError::NoRaftLog(directory.join(FILE))
            });
        };
        let head = read.head();
        let known = inspected.log.voters();
        match known {
            Some(voters) => {
                let mut voters = voters.iter();
                let own = voters.find(|known| known.is_same_voter(&voter));
                voter.endpoints = own.map(|own| own.endpoints.clone()).unwrap_or_default();
            }
            None => voter.directory_id = Uuid::ZERO,
        }
        let ids = match known {
            Some(voters) => voters.iter().map(raft_id).collect(),
            None => head.applied.voters.voters.clone(),
        };
        let voters: Vec<NodeId> = ids.iter().map(|id| node_of(*id)).collect();
        if !ids.contains(&raft_id(&voter)) {
            return Err(NodeError::NoVoter {
                node_id,
                directory_id,
                voters: format!("{voters:?}"),
            });
        }
        let written = read.last_entry().and_then(|entry| {
            let payload = Payload::parse(&entry.data).ok()?;
            let placed = payload.place(Offset(0), payload.epoch);
            placed.last().map(|batch| Timestamp(batch.timestamp))
        });
        Ok(Survivor {
            voter,
            voters,
            has_static_voters: known.is_none(),
            epoch: epoch_of(head.hard_state.term),
            end: inspected.written.log_end,
            unknown_entries: read.last().index.saturating_sub(head.hard_state.commit),
            last_written: written,
        })
    }

    /// Makes this controller the only voter. Returns the epoch that it has begun, and the end of its log.
    pub fn recover(
        files: &F,
        location: Location<'_>,
        survivor: &Survivor,
        now: Timestamp,
    ) -> Result<(LeaderEpoch, Offset), NodeError> {
        for _ in 0..MAX_ROUNDS {
            let voter = &survivor.voter;
            stand_alone(files, location.directory, raft_id(voter))?;
            let member = Member {
                voter: voter.clone(),
                voters: std::slice::from_ref(voter),
            };
            let (mut node, _) = Self::open(files.clone(), location, member, Settings::default())?;
            let is_done = node.lead_alone(now)? && node.drop_others(survivor, now)?;
            let reached = (node.epoch(), node.end_offset());
            node.close()?;
            if is_done {
                return Ok(reached);
            }
            // An entry has added a voter. It is applied now, and is not met again.
        }
        Err(NodeError::NotAlone)
    }

    fn lead_alone(&mut self, now: Timestamp) -> Result<bool, NodeError> {
        for _ in 0..MAX_TICKS {
            self.on_tick(0);
            self.ready(now)?;
            if self.led_epoch().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes into the log that the others are no voters.
    fn drop_others(&mut self, survivor: &Survivor, now: Timestamp) -> Result<bool, NodeError> {
        let Some(epoch) = self.led_epoch() else {
            return Ok(false);
        };
        for id in survivor.others(self) {
            let change = conf_change(ConfChangeType::RemoveNode, id);
            self.raw.propose_conf_change(Vec::new(), change)?;
            self.ready(now)?;
        }
        if !survivor.has_static_voters {
            let batch = voters_batch(std::slice::from_ref(&self.voter), now);
            let payload = payload::encode(epoch, &[batch]);
            self.raw.propose(Vec::new(), payload)?;
            self.ready(now)?;
        }
        Ok(self
            .raw
            .raft
            .prs()
            .conf()
            .voters()
            .contains(self.raw.raft.id)
            && self.applied.voters.voters.len() == 1)
    }
}

impl Survivor {
    /// The Raft ids of the other voters that the log names.
    fn others<F: Files>(&self, node: &RaftNode<F>) -> Vec<u64> {
        let voters = &node.log.control().voters;
        let mut ids: Vec<u64> = voters.iter().map(raft_id).collect();
        if self.has_static_voters {
            let of_static = self.voters.iter();
            ids = of_static.map(|id| raft_id_of(*id, Uuid::ZERO)).collect();
        }
        ids.retain(|id| *id != node.raw.raft.id);
        ids
    }
}

/// From here on this controller counts nobody but itself.
fn stand_alone<F: Files>(files: &F, directory: &Path, id: u64) -> Result<(), NodeError> {
    let Some(read) = RaftLog::read_file(files.clone(), directory)? else {
        return Err(NodeError::NoRaftLog(directory.join(FILE)));
    };
    let mut log = read.open()?;
    let mut applied = log.head().applied.clone();
    applied.voters = ConfState {
        voters: vec![id],
        ..ConfState::default()
    };
    Ok(log.checkpoint(applied)?)
}
