//! A voter that `controller.quorum.voters` names, and whose disk was replaced: it has its name, and has forgotten what it
//! had promised. A directory id tells it apart only where the voters are in the log.
//!
//! It counts again once it has everything that it may have acknowledged:
//!
//! - It tells the leader that its log is empty, and the leader sends everything again.
//! - It votes for nobody who has a log until its own has reached what the leader knew of it, and what was committed. So an
//!   entry that was committed with its old disk is not lost, unless its process ends once more before that.

use ottla_log::files::Files;
use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::RaftNode;

/// What a voter that began with an empty log must have before it votes as any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Debt {
    /// It had a log at its start, or has caught up.
    None,
    /// It has no log, and has heard of no leader.
    Unknown,
    /// The log up to this index.
    UpTo(u64),
}

impl<F: Files> RaftNode<F> {
    /// A leader's heartbeat counts entries that are lost here. It is taken as if they had never been here; returns the index
    /// up to which the leader believes this log to go.
    pub(super) fn forget_lost_entries(&self, message: &mut Message) -> Option<u64> {
        let has_nothing = self.raw.raft.raft_log.last_index() == 0;
        let is_heartbeat = message.get_msg_type() == MessageType::MsgHeartbeat;
        let believed =
            (has_nothing && is_heartbeat && message.commit > 0).then_some(message.commit);
        if believed.is_some() {
            message.commit = 0;
        }
        believed
    }

    /// Tells the leader that nothing is here.
    pub(super) fn tell_loss(&mut self, leader: u64, believed: u64) {
        let raft = &mut self.raw.raft;
        let mut answer = Message::default();
        answer.set_msg_type(MessageType::MsgAppendResponse);
        (answer.to, answer.from, answer.term) = (leader, raft.id, raft.term);
        (answer.index, answer.reject) = (believed, true);
        raft.msgs.push(answer);
    }

    /// What a message says of what this voter must have.
    pub(super) fn note_debt(&mut self, (kind, commit): (MessageType, u64), believed: Option<u64>) {
        if self.debt == Debt::None {
            return;
        }
        if self.raw.raft.state == StateRole::Leader {
            // Others without entries have elected it: the cluster is new.
            self.debt = Debt::None;
            return;
        }
        let known = match self.debt {
            Debt::UpTo(known) => Some(known),
            Debt::None | Debt::Unknown => None,
        };
        let committed = (kind == MessageType::MsgAppend).then_some(commit);
        if let Some(index) = committed.max(believed).max(known) {
            let is_paid = committed.is_some() && self.raw.raft.raft_log.last_index() >= index;
            self.debt = if is_paid {
                Debt::None
            } else {
                Debt::UpTo(index)
            };
        }
    }

    /// Whether this voter may not give its vote to the sender: it may have voted, or acknowledged entries, before
    /// its log was lost. In a new cluster nobody has entries.
    pub(super) fn owes_entries(&self, message: &Message) -> bool {
        let is_request = matches!(
            message.get_msg_type(),
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote
        );
        is_request && self.debt != Debt::None && message.index > 0
    }

    /// A follower tells its leader that its log is empty: all of it is sent again.
    pub(super) fn begin_again(&mut self, message: &Message) -> bool {
        let raft = &mut self.raw.raft;
        let is_loss = message.get_msg_type() == MessageType::MsgAppendResponse
            && (message.reject, message.reject_hint, message.log_term) == (true, 0, 0)
            && (raft.state, raft.term) == (StateRole::Leader, message.term);
        let Some(progress) = raft.mut_prs().get_mut(message.from) else {
            return false;
        };
        if !is_loss || progress.matched == 0 {
            return false;
        }
        progress.matched = 0;
        progress.become_probe();
        progress.next_idx = 1;
        true
    }
}
