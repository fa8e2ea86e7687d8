//! How far the other controllers are, as their leader knows it by their answers.

use ottla_log::files::Files;
use ottla_protocol::ids::Offset;
use ottla_protocol::time::Timestamp;
use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::RaftNode;
use crate::voter::Voter;

/// Upper bound of the remembered ends.
const MAX_ENDS: usize = 4096;

/// What a leader has heard of another controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Answers {
    /// Whether an answer has come since the last call of `date_answers`.
    is_new: bool,
    answered_at: Option<Timestamp>,
    /// The last entry of the leader at that time.
    last_then: u64,
    caught_up_at: Option<Timestamp>,
}

/// A controller that follows the log, as its leader knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub controller: Voter,
    /// Where its log ends, as far as it has answered.
    pub end: Offset,
    pub answered_at: Option<Timestamp>,
    /// When it last had everything.
    pub caught_up_at: Option<Timestamp>,
}

/// The controllers that follow the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replicas {
    pub voters: Vec<Replica>,
    pub observers: Vec<Replica>,
}

impl Answers {
    /// An answer came: the controller has the entries up to `matched`, and the leader those up to `last`.
    fn on_answer(&mut self, (matched, last): (u64, u64), now: Timestamp) {
        if matched >= last {
            self.caught_up_at = Some(now);
        } else if matched >= self.last_then && self.answered_at.is_some() {
            self.caught_up_at = self.answered_at;
        }
        self.answered_at = Some(now);
        self.last_then = last;
    }

    /// Time begins for a controller of which nothing was heard yet.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.answered_at.get_or_insert(now);
    }

    pub(super) fn caught_up_at(&self) -> Option<Timestamp> {
        self.caught_up_at
    }

    pub(super) fn answered_at(&self) -> Option<Timestamp> {
        self.answered_at
    }
}

impl<F: Files> RaftNode<F> {
    pub(super) fn note_answer(&mut self, message: &Message) {
        let is_answer = matches!(
            message.get_msg_type(),
            MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse
        );
        let raft = &self.raw.raft;
        if is_answer && raft.state == StateRole::Leader && message.term == raft.term {
            self.answers.entry(message.from).or_default().is_new = true;
        }
    }

    /// Gives the answers that have come their time.
    pub(super) fn date_answers(&mut self, now: Timestamp) {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        for (id, answers) in &mut self.answers {
            if std::mem::take(&mut answers.is_new)
                && let Some(progress) = raft.prs().get(*id)
            {
                answers.on_answer((progress.matched, last), now);
            }
        }
    }

    /// The controllers that follow this leader, and itself.
    pub fn replicas(&self, now: Timestamp) -> Replicas {
        if self.led_epoch().is_none() {
            return Replicas::default();
        }
        let replica = |id: u64, controller: &Voter| {
            let is_own = controller.is_same_voter(&self.voter);
            let answers = self.answers.get(&id).copied().unwrap_or_default();
            let matched = self.raw.raft.prs().get(id).map_or(0, |one| one.matched);
            Replica {
                controller: controller.clone(),
                end: if is_own {
                    self.applied.log_end
                } else {
                    self.offset_at(matched)
                },
                answered_at: if is_own {
                    Some(now)
                } else {
                    answers.answered_at
                },
                caught_up_at: if is_own {
                    Some(now)
                } else {
                    answers.caught_up_at
                },
            }
        };
        let voters = self.all_voters();
        let voters = voters.iter().map(|one| replica(super::raft_id(one), one));
        let observers = self.peers.observers().iter();
        let learners = &self.applied.voters.learners;
        let observers = observers
            .filter(|(id, _)| learners.contains(id))
            .map(|(id, one)| replica(*id, one));
        Replicas {
            voters: voters.collect(),
            observers: observers.collect(),
        }
    }

    /// Remembers where the Kafka log ends after the entry that was applied last.
    pub(super) fn note_end(&mut self) {
        if self.ends.len() >= MAX_ENDS {
            self.ends.pop_front();
        }
        self.ends
            .push_back((self.applied.at.index, self.applied.log_end));
    }

    /// The end of the Kafka log after the entry at `index`, or after an earlier one if that is not known any more.
    fn offset_at(&self, index: u64) -> Offset {
        if index >= self.applied.at.index {
            return self.applied.log_end;
        }
        let known = self.ends.partition_point(|(at, _)| *at <= index);
        let last = known.checked_sub(1).and_then(|last| self.ends.get(last));
        last.map_or(Offset(0), |(_, end)| *end)
    }
}

#[cfg(test)]
mod tests {
    use super::Answers;
    use ottla_protocol::time::Timestamp;

    #[test]
    fn a_follower_of_a_busy_leader_has_caught_up_when_it_had_all_that_was_there_at_its_last_answer()
    {
        let mut answers = Answers::default();
        answers.on_answer((3, 10), Timestamp(100));
        assert_eq!(answers.caught_up_at(), None);
        answers.on_answer((9, 20), Timestamp(200));
        assert_eq!(answers.caught_up_at(), None, "it had not all of 10");
        answers.on_answer((20, 25), Timestamp(300));
        assert_eq!(answers.caught_up_at(), Some(Timestamp(200)));
        answers.on_answer((25, 25), Timestamp(400));
        assert_eq!(answers.caught_up_at(), Some(Timestamp(400)));
        answers.on_answer((25, 40), Timestamp(500));
        assert_eq!(answers.caught_up_at(), Some(Timestamp(400)));
        assert_eq!(answers.answered_at(), Some(Timestamp(500)));
    }
}
