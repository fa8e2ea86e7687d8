//! The start of an epoch: `quorum-state` has it first, and its leader writes the first entry.

use ottla_log::files::Files;
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};
use ottla_protocol::planted::{Bug, is_planted};
use ottla_protocol::time::Timestamp;
use raft::eraftpb::HardState;
use raft::{INVALID_ID, StateRole};

use super::{Leadership, NodeError, RaftNode, epoch_of};
use crate::batches::{self, Place};
use crate::metadata_log::proposal;
use crate::quorum_state::Election;
use crate::raft::payload;
use crate::voter::{DYNAMIC_VOTERS, QuorumControl};

impl<F: Files> RaftNode<F> {
    /// The only voter needs no votes of others, and waits for no timeout.
    pub(super) fn elect_alone(&mut self) -> Result<(), NodeError> {
        if self.raw.raft.state != StateRole::Leader && self.is_alone() {
            self.raw.campaign()?;
        }
        Ok(())
    }

    /// Writes a new epoch, and the vote or the leader in it, to `quorum-state`, before Raft's log has it or a batch of it.
    /// Apache Kafka must not vote again, and goes on as a candidate where a node has voted for itself and knows no leader.
    pub(super) fn note_epoch(&mut self, state: &HardState) -> Result<(), NodeError> {
        let raft = &self.raw.raft;
        let epoch = epoch_of(state.term);
        let voted_for_other = state.vote != INVALID_ID && state.vote != raft.id;
        let has_leader = raft.leader_id != INVALID_ID && !voted_for_other;
        let to = if has_leader {
            raft.leader_id
        } else {
            state.vote
        };
        let is_noted =
            self.noted_leader || to == INVALID_ID || (to == self.noted_vote && !has_leader);
        let is_known = epoch < self.noted_epoch || (epoch == self.noted_epoch && is_noted);
        if is_known || is_planted(Bug::VoteNotPersisted) {
            return Ok(());
        }
        let known = self.peers.known(to);
        let leader = known.filter(|_| has_leader).map(|leader| leader.node_id);
        let voted = known.filter(|_| !has_leader);
        let voters = self.peers.voters();
        let mut ids: Vec<NodeId> = voters.iter().map(|voter| voter.node_id).collect();
        ids.sort_unstable();
        self.log.note_election(&Election {
            leader,
            epoch,
            voted: voted.map(|voter| (voter.node_id, voter.directory_id)),
            kraft_version: self.control().kraft_version,
            cluster_id: &self.cluster_id,
            voters: &ids,
        })?;
        (self.noted_epoch, self.noted_vote, self.noted_leader) = (epoch, to, has_leader);
        Ok(())
    }

    /// Proposes the first entry of an epoch that this node was elected for: the leader, and the voters if the log has none
    /// or this one at another address.
    pub(super) fn begin_epoch(&mut self, now: Timestamp) {
        self.note_role();
        if self.raw.raft.state != StateRole::Leader || self.leadership.is_some() {
            return;
        }
        let epoch = epoch_of(self.raw.raft.term);
        let mut granting: Vec<NodeId> = self
            .granted
            .iter()
            .filter_map(|id| self.peers.node_id(*id))
            .collect();
        granting.push(self.voter.node_id);
        granting.sort_unstable();
        let change = proposal::leader_change(self.voter.node_id, &granting, &self.peers.voters());
        let mut records = vec![change];
        records.extend(
            self.renewed_voters()
                .iter()
                .flat_map(QuorumControl::to_records),
        );
        let place = Place {
            offset: Offset(0),
            epoch: LeaderEpoch(0),
            timestamp: now,
        };
        let batch = batches::control_batch(place, &records);
        let payload = payload::encode(epoch, &[batch]);
        if self.raw.propose(Vec::new(), payload).is_ok() {
            self.leadership = Some(Leadership {
                epoch,
                proposed_end: None,
            });
        }
    }

    /// The voters to write, if the log has none, or this one at another address.
    fn renewed_voters(&self) -> Option<QuorumControl> {
        let mut control = self.control().clone();
        let is_current = control.voters_in_log && control.voters.contains(&self.voter);
        if control.kraft_version < DYNAMIC_VOTERS || is_current {
            return None;
        }
        let own = control
            .voters
            .iter_mut()
            .find(|voter| voter.is_same_voter(&self.voter))?;
        own.clone_from(&self.voter);
        Some(control)
    }
}
