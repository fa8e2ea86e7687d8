//! What others see of a controller: who leads, the voters, and what can be read of its log.

use ottla_log::files::Files;
use ottla_protocol::ids::Offset;

use super::{NodeError, RaftNode};
use crate::metadata_log::{LogView, QuorumStatus};
use crate::raft::log::is_alone;
use crate::voter::{DYNAMIC_VOTERS, Voter};

impl<F: Files> RaftNode<F> {
    /// The state of the quorum, as this controller knows it.
    pub fn status(&self) -> QuorumStatus {
        QuorumStatus {
            leader: self.leader.0,
            epoch: self.epoch(),
            is_active: self.led_epoch().is_some(),
            voters: self.all_voters(),
            ..self.log.status()
        }
    }

    /// The voters: as the log has them, or as the configuration names them.
    pub fn all_voters(&self) -> Vec<Voter> {
        let control = self.control();
        if control.kraft_version >= DYNAMIC_VOTERS {
            control.voters.clone()
        } else {
            self.peers.voters()
        }
    }

    /// Whether this node is the only voter: it leads after the first [`Self::ready`], and commits what it proposes at once.
    pub fn is_alone(&self) -> bool {
        is_alone(&self.applied.voters, &[self.raw.raft.id])
    }

    /// The controllers to which this one has something to say, where they are reached: voters and observers, without itself.
    pub fn others(&self) -> Vec<Voter> {
        let mut all = self.peers.all();
        all.retain(|other| !other.is_same_voter(&self.voter));
        all
    }

    /// What can be read of the log; all of it is committed.
    pub fn view(&self) -> LogView<F> {
        self.log.view()
    }

    /// The same after `earlier`.
    pub fn view_after(&self, earlier: &LogView<F>) -> LogView<F> {
        self.log.view_after(earlier)
    }

    /// Whether a snapshot is due by the bytes since the last one, or because another controller needs one.
    pub fn is_snapshot_due(&self) -> bool {
        self.log.is_snapshot_due() || self.needs_snapshot_for_others()
    }

    /// Raft's log of a leader that was alone may begin where the Kafka log was, and have no snapshot yet. A controller that
    /// joins has nothing, and begins with one.
    fn needs_snapshot_for_others(&self) -> bool {
        let head = self.raw.store().head();
        let begins_late = head.before.index > 0 && head.snapshot.is_none();
        begins_late && self.led_epoch().is_some() && !self.peers.observers().is_empty()
    }

    /// The offset that the next proposed record will have, if this node leads.
    pub fn next_offset(&self) -> Offset {
        let proposed = self
            .leadership
            .and_then(|leadership| leadership.proposed_end);
        proposed.unwrap_or(self.applied.log_end)
    }

    /// Syncs everything before a stop, so that the next start applies nothing again.
    pub fn close(mut self) -> Result<(), NodeError> {
        self.checkpoint().map(|_| ())
    }
}
