//! Changes of the voters, one at a time, and the controllers that follow without a vote.
//!
//! A controller that is no voter follows as what Raft calls a learner: the leader makes it one when the controller has said
//! who it is, by an entry that is not in the Kafka log. It becomes a voter by an entry that is both the change in Raft and
//! the `VotersRecord` of the Kafka log, and only after it has caught up. A voter that is removed goes on as an observer.
//! The checks, and the errors for callers, are those of Kafka 4.3.1 (`AddVoterHandler`, `RemoveVoterHandler`,
//! `UpdateVoterHandler`).

use ottla_log::files::Files;
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset, Uuid};
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::time::Timestamp;
use raft::eraftpb::{ConfChange, ConfChangeType, Message, MessageType};
use raft::{INVALID_ID, StateRole};

use super::peers::raft_id_of;
use super::progress::Answers;
use super::{Leadership, NodeError, RaftNode, raft_id};
use crate::batches::{self, Place};
use crate::raft::payload;
use crate::voter::{DYNAMIC_VOTERS, QuorumControl, Voter};

/// A controller that becomes a voter must have had everything within this time.
const CAUGHT_UP_WITHIN_MS: i64 = 10_000;
/// An observer of which nothing was heard for so long is forgotten, as by Kafka.
const FORGOTTEN_AFTER_MS: i64 = 5 * 60 * 1000;
/// Upper bound of the voters.
const MAX_VOTERS: usize = 16;

/// A change of one voter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VoterChange {
    Add(Voter),
    Remove {
        node_id: NodeId,
        directory_id: Uuid,
    },
    /// It is reached elsewhere.
    Update(Voter),
}

/// Why the voters do not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VotersRefused {
    #[error("this controller is not the active one")]
    NotLeader,
    #[error("an earlier change of the metadata quorum is not committed yet; try again")]
    Pending,
    #[error(
        "the voters are in controller.quorum.voters: kraft.version is {0}, and they change only where it is 1"
    )]
    Static(i16),
    #[error(
        "node {0} is a voter already; remove it first if its directory.id has changed. Voters: {1}"
    )]
    Duplicate(NodeId, String),
    #[error("node {0} with directory.id {1} is not among the voters, or the only one: {2}")]
    NotFound(NodeId, Uuid, String),
    #[error(
        "node {0} with directory.id {1} has not caught up with the metadata log: start it as a controller with \
         controller.quorum.bootstrap.servers, and add it when its lag is 0"
    )]
    Behind(NodeId, Uuid),
    #[error("{0}; the metadata quorum does not change now")]
    NoRoom(String),
    #[error("a quorum has at most {MAX_VOTERS} voters")]
    TooMany,
    #[error("there are {0} voters already")]
    Enough(usize),
}

impl VotersRefused {
    /// The error code for the caller.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NotLeader => ErrorCode::NotLeaderOrFollower,
            Self::Pending | Self::Behind(..) | Self::NoRoom(_) => ErrorCode::RequestTimedOut,
            Self::Static(_) => ErrorCode::UnsupportedVersion,
            Self::Duplicate(..) => ErrorCode::DuplicateVoter,
            Self::NotFound(..) => ErrorCode::VoterNotFound,
            Self::TooMany | Self::Enough(_) => ErrorCode::InvalidRequest,
        }
    }
}

/// The voters after a change.
fn changed(voters: &[Voter], change: &VoterChange) -> Result<Vec<Voter>, VotersRefused> {
    let mut changed = voters.to_vec();
    match change {
        VoterChange::Add(added) => {
            if voters.iter().any(|voter| voter.node_id == added.node_id) {
                return Err(VotersRefused::Duplicate(added.node_id, names(voters)));
            }
            if voters.len() >= MAX_VOTERS {
                return Err(VotersRefused::TooMany);
            }
            changed.push(added.clone());
        }
        VoterChange::Remove {
            node_id,
            directory_id,
        } => {
            changed.retain(|one| (one.node_id, one.directory_id) != (*node_id, *directory_id));
            if changed.len() == voters.len() || changed.is_empty() {
                let names = names(voters);
                return Err(VotersRefused::NotFound(*node_id, *directory_id, names));
            }
        }
        VoterChange::Update(updated) => {
            let mut known = changed.iter_mut();
            let Some(known) = known.find(|voter| voter.is_same_voter(updated)) else {
                let (node, directory) = (updated.node_id, updated.directory_id);
                return Err(VotersRefused::NotFound(node, directory, names(voters)));
            };
            known.clone_from(updated);
        }
    }
    Ok(changed)
}

fn names(voters: &[Voter]) -> String {
    let names = voters
        .iter()
        .map(|voter| format!("{} ({})", voter.node_id, voter.directory_id));
    names.collect::<Vec<_>>().join(", ")
}

impl<F: Files> RaftNode<F> {
    /// Whether the voters may change this way now. Returns the voters after the change.
    pub fn check_voters(
        &self,
        change: &VoterChange,
        now: Timestamp,
    ) -> Result<Vec<Voter>, VotersRefused> {
        if self.led_epoch().is_none() {
            return Err(VotersRefused::NotLeader);
        }
        let control = self.control();
        if control.kraft_version < DYNAMIC_VOTERS {
            return Err(VotersRefused::Static(control.kraft_version));
        }
        let is_pending = self
            .pending_voters
            .is_some_and(|end| end > self.applied.log_end);
        if is_pending || self.raw.raft.has_pending_conf() {
            return Err(VotersRefused::Pending);
        }
        let voters = changed(&control.voters, change)?;
        if let VoterChange::Add(added) = change
            && !self.has_caught_up(added, now)
        {
            return Err(VotersRefused::Behind(added.node_id, added.directory_id));
        }
        Ok(voters)
    }

    fn has_caught_up(&self, observer: &Voter, now: Timestamp) -> bool {
        let id = raft_id(observer);
        let caught_up = self.answers.get(&id).and_then(Answers::caught_up_at);
        self.applied.voters.learners.contains(&id)
            && caught_up.is_some_and(|at| at.0 >= now.0 - CAUGHT_UP_WITHIN_MS)
    }

    /// Proposes a change of the voters. Returns where the log ends after it; see [`RaftNode::propose`].
    pub fn propose_voters(
        &mut self,
        change: &VoterChange,
        now: Timestamp,
    ) -> Result<(LeaderEpoch, Offset), VotersRefused> {
        let voters = self.check_voters(change, now)?;
        let Some(Leadership {
            epoch,
            proposed_end: Some(end),
        }) = self.leadership
        else {
            return Err(VotersRefused::NotLeader);
        };
        let payload = payload::encode(epoch, &[voters_batch(&voters, now)]);
        self.make_room(payload.len())
            .map_err(|error| VotersRefused::NoRoom(error.to_string()))?;
        let proposed = match change {
            VoterChange::Add(added) => {
                let change = conf_change(ConfChangeType::AddNode, raft_id(added));
                self.raw.propose_conf_change(payload, change)
            }
            VoterChange::Remove {
                node_id,
                directory_id,
            } => {
                let id = raft_id_of(*node_id, *directory_id);
                let change = conf_change(ConfChangeType::AddLearnerNode, id);
                self.raw.propose_conf_change(payload, change)
            }
            VoterChange::Update(_) => self.raw.propose(Vec::new(), payload),
        };
        proposed.map_err(|_| VotersRefused::Pending)?;
        let end = end.plus(1);
        self.leadership = Some(Leadership {
            epoch,
            proposed_end: Some(end),
        });
        self.pending_voters = Some(end);
        Ok((epoch, end))
    }

    /// A controller has said who it is, and where it is reached.
    pub fn on_hello(&mut self, controller: Voter) {
        let has_static_voters = self.control().kraft_version < DYNAMIC_VOTERS
            && !self.applied.voters.voters.is_empty()
            && self.control().voters.is_empty();
        if !has_static_voters && !controller.is_same_voter(&self.voter) {
            self.peers.heard_of(controller);
        }
    }

    /// What a leader does about the others at intervals: a controller that has said who it is follows as an observer, a
    /// silent one and a disk that was replaced are forgotten, and a voter that has moved is written into the log.
    pub fn settle_others(&mut self, now: Timestamp) {
        let is_busy = self.held.is_some() || self.raw.raft.has_pending_conf();
        if self.led_epoch().is_none() || is_busy {
            return;
        }
        let learners = &self.applied.voters.learners;
        let mut observers = self.peers.observers().keys();
        let is_new = |id: &&u64| !learners.contains(id) && !self.peers.is_replaced(**id);
        if let Some(id) = observers.find(is_new).copied() {
            self.propose_observer(ConfChangeType::AddLearnerNode, id);
            self.answers.remove(&id);
            return;
        }
        // A new leader gives everybody a full time.
        for id in learners {
            self.answers.entry(*id).or_default().begin(now);
        }
        let silent = learners.iter().find(|id| {
            let answered = self.answers.get(*id).and_then(Answers::answered_at);
            let is_silent = answered.is_some_and(|at| at.0 < now.0 - FORGOTTEN_AFTER_MS);
            is_silent || self.peers.is_replaced(**id)
        });
        if let Some(id) = silent.copied() {
            self.peers.forget(id);
            self.propose_observer(ConfChangeType::RemoveNode, id);
            return;
        }
        let own = self.peers.voter(raft_id(&self.voter));
        let moved = own.filter(|own| **own != self.voter).map(|_| &self.voter);
        if let Some(moved) = moved.or_else(|| self.peers.moved()).cloned() {
            // It is tried again at the next call.
            let _ = self.propose_voters(&VoterChange::Update(moved), now);
        }
    }

    fn propose_observer(&mut self, kind: ConfChangeType, id: u64) {
        // It is tried again at the next call.
        let _ = self
            .raw
            .propose_conf_change(Vec::new(), conf_change(kind, id));
    }

    /// The voters of the log count from now on. The first ones of a quorum are in no change of Raft's log: a controller that
    /// has joined takes them from the first record that names them.
    pub(super) fn follow_voters(&mut self) -> Result<(), NodeError> {
        let control = self.control().clone();
        if control.kraft_version < DYNAMIC_VOTERS {
            return Ok(());
        }
        self.peers.set_voters(&control.voters);
        if self.applied.voters.voters.is_empty() {
            for voter in &control.voters {
                let change = conf_change(ConfChangeType::AddNode, raft_id(voter));
                self.applied.voters = self.raw.apply_conf_change(&change)?;
            }
            // The next start must know them: see `Written`.
            self.bytes_since_checkpoint = self.log.settings().checkpoint_bytes;
        }
        Ok(())
    }

    /// A leader that is not a voter any more hands over, or goes.
    pub(super) fn leave_if_removed(&mut self) {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader || self.applied.voters.voters.contains(&raft.id) {
            return;
        }
        if raft.lead_transferee.is_none() && self.leaving_ticks == 0 {
            self.resign();
        }
        self.leaving_ticks += 1;
        if self.leaving_ticks > super::ELECTION_TICKS {
            self.leaving_ticks = 0;
            let raft = &mut self.raw.raft;
            raft.become_follower(raft.term, INVALID_ID);
        }
    }

    /// A controller that has joined with an empty log has no vote: it may be a voter whose disk was wiped, and which has
    /// promised what it does not know any more. A voter that was added has entries.
    pub(super) fn must_not_vote(&self, kind: MessageType) -> bool {
        let is_request = matches!(
            kind,
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote
        );
        let raft = &self.raw.raft;
        is_request && raft.raft_log.last_index() == 0 && !raft.promotable()
    }

    /// The library takes only a snapshot in which this node is a voter or a learner. One that is older than the entry that
    /// made it a learner is taken too: that entry follows.
    pub(super) fn follow_as_observer(&self, message: &mut Message) {
        let id = self.raw.raft.id;
        let known = message.mut_snapshot().mut_metadata().mut_conf_state();
        if !known.voters.contains(&id) && !known.learners.contains(&id) {
            known.learners.push(id);
        }
    }
}

pub(super) fn conf_change(kind: ConfChangeType, id: u64) -> ConfChange {
    let mut change = ConfChange::default();
    change.set_change_type(kind);
    change.node_id = id;
    change
}

/// The batch that names the voters.
pub(super) fn voters_batch(voters: &[Voter], now: Timestamp) -> Vec<u8> {
    let place = Place {
        offset: Offset(0),
        epoch: LeaderEpoch(0),
        timestamp: now,
    };
    batches::control_batch(place, &[QuorumControl::voters_record(voters)])
}
