//! Elections that need not wait for the timeout: the leader is known to be gone, or it goes by itself.

use ottla_log::files::Files;
use ottla_protocol::ids::NodeId;
use raft::{INVALID_ID, StateRole};

use super::{HEARTBEAT_TICKS, RaftNode};

/// Ticks between the candidacies of two followers that learn at the same time that their leader is gone.
const STAGGER_TICKS: usize = 3;
/// The fewest ticks until such a follower asks again, if nobody has been elected; the most are twice as many. The other may
/// not have given up the leader yet when it was asked, or both asked for its vote at once.
const AGAIN_TICKS: usize = 5;
/// Ticks without a message of the leader until it is silent.
const SILENT_TICKS: usize = HEARTBEAT_TICKS + 1;

impl<F: Files> RaftNode<F> {
    /// The process of `node` has ended: its connection was reset, and another one refused. If it is the leader, this node
    /// asks for votes soon. If the leader lives for others, they do not give theirs (pre-vote), and nothing changes.
    pub fn on_process_ended(&mut self, node: NodeId) {
        let raft = &mut self.raw.raft;
        let is_led = self.held.is_none()
            && raft.state == StateRole::Follower
            && self.peers.node_id(raft.leader_id) == Some(node);
        if !is_led {
            return;
        }
        let others = self.peers.ids().into_iter();
        let rank = others
            .filter(|id| *id != raft.leader_id && *id < raft.id)
            .count();
        raft.become_follower(raft.term, INVALID_ID);
        self.until_candidacy = Some(rank * STAGGER_TICKS);
        self.note_role();
    }

    /// One tick of the time until this node asks for votes because the leader is gone.
    pub(super) fn tick_candidacy(&mut self, random: u64) {
        let raft = &mut self.raw.raft;
        let is_led = raft.leader_id != INVALID_ID;
        self.until_candidacy = match self.until_candidacy {
            Some(_) if is_led => None,
            Some(0) => {
                raft.election_elapsed = self.timeout.0;
                let more = usize::try_from(random % AGAIN_TICKS as u64).unwrap_or(0);
                Some(AGAIN_TICKS + more)
            }
            Some(ticks) => Some(ticks - 1),
            None => None,
        };
    }

    /// The leader, if nothing has come from it for a while. The driver finds out whether its machine still answers.
    pub fn silent_leader(&self) -> Option<NodeId> {
        let raft = &self.raw.raft;
        let is_silent = raft.state == StateRole::Follower && raft.election_elapsed >= SILENT_TICKS;
        is_silent.then(|| self.peers.node_id(raft.leader_id))?
    }

    /// Nothing listens at `node`, or its machine does not answer. If it is the leader, and still silent, this node asks for
    /// votes soon. Unlike the news of a reset connection, this is not overtaken by what the leader sent before its end.
    pub fn on_unreachable(&mut self, node: NodeId) {
        if self.silent_leader() == Some(node) {
            self.on_process_ended(node);
        }
    }

    /// Hands the leadership to the follower that has most of the log, before a stop. It takes effect with later messages.
    pub fn resign(&mut self) {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader || self.held.is_some() {
            return;
        }
        let own = raft.id;
        let voters = raft.prs().conf().voters();
        let others = raft.prs().iter();
        let followers = others.filter(|(id, _)| **id != own && voters.contains(**id));
        let best = followers
            .filter(|(_, progress)| progress.recent_active)
            .max_by_key(|(_, progress)| progress.matched);
        if let Some((id, _)) = best.map(|(id, progress)| (*id, progress.matched)) {
            self.raw.transfer_leader(id);
        }
    }
}
