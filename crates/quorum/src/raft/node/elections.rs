//! Elections that need not wait for the timeout: the leader is known to be gone, or it goes by itself.

use ottla_log::files::Files;
use ottla_protocol::ids::NodeId;
use raft::{INVALID_ID, StateRole};

use super::RaftNode;

/// Ticks between the candidacies of two followers that learn at the same time that their leader is gone.
const STAGGER_TICKS: usize = 2;

impl<F: Files> RaftNode<F> {
    /// The process of `node` has ended: its connection was reset, and another one refused. If it is the leader, this node
    /// asks for votes soon. If the leader lives for others, they do not give theirs (pre-vote), and nothing changes.
    pub fn on_process_ended(&mut self, node: NodeId) {
        let raft = &mut self.raw.raft;
        let is_led =
            raft.state == StateRole::Follower && self.peers.node_id(raft.leader_id) == Some(node);
        if !is_led {
            return;
        }
        let others = self.peers.ids().into_iter();
        let rank = others
            .filter(|id| *id != raft.leader_id && *id < raft.id)
            .count();
        raft.become_follower(raft.term, INVALID_ID);
        let wait = 1 + rank * STAGGER_TICKS;
        raft.election_elapsed = self.timeout.0.saturating_sub(wait);
        self.note_role();
    }

    /// Hands the leadership to the follower that has most of the log, before a stop. It takes effect with later messages.
    pub fn resign(&mut self) {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader {
            return;
        }
        let own = raft.id;
        let followers = raft.prs().iter().filter(|(id, _)| **id != own);
        let best = followers
            .filter(|(_, progress)| progress.recent_active)
            .max_by_key(|(_, progress)| progress.matched);
        if let Some((id, _)) = best.map(|(id, progress)| (*id, progress.matched)) {
            self.raw.transfer_leader(id);
        }
    }
}
