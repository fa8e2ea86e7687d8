//! What a follower does next in its leader epoch: fetch, ask for the leader's offsets, or wait.

use std::time::Duration;

use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};
use ottla_protocol::messages::ErrorCode;
use ottla_protocol::time::MonotonicTime;

/// The wait after the first error. It doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(25);

/// The next step of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// To fetch from the end of its log.
    Fetch,
    /// To ask for the start and the end of the leader's log: the leader has no record at the end of the follower's log.
    FindLeaderOffsets,
    /// To have the recovery points of its directory written, because its log was shortened.
    WriteCheckpoints,
    /// Nothing until a new leader epoch begins: it has failed, or its leader has a later epoch.
    Stop,
}

/// The offsets of a leader's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderOffsets {
    pub start: Offset,
    pub end: Offset,
}

/// What a follower does to its log when its end is not in the leader's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// The leader's log ends earlier.
    TruncateTo(Offset),
    /// The leader's log begins later: all records go.
    RestartAt(Offset),
    /// The leader has the offset now.
    Keep,
}

/// A follower of one leader, for one leader epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Following {
    pub leader: NodeId,
    pub leader_epoch: LeaderEpoch,
    step: Step,
    /// After an error, the time of the next step.
    not_before: Option<MonotonicTime>,
    /// The errors in a row.
    errors: u32,
}

impl Following {
    pub fn new(leader: NodeId, leader_epoch: LeaderEpoch) -> Self {
        Self {
            leader,
            leader_epoch,
            step: Step::Fetch,
            not_before: None,
            errors: 0,
        }
    }

    /// The next step; `None` while it waits after an error.
    pub fn next(&self, now: MonotonicTime) -> Option<Step> {
        let waits = self.not_before.is_some_and(|at| now < at);
        (!waits).then_some(self.step)
    }

    /// The time of the next step, if it waits for one.
    pub fn waits_until(&self) -> Option<MonotonicTime> {
        self.not_before
    }

    /// The leader has answered, and the answer is used.
    pub fn on_progress(&mut self) {
        self.step = Step::Fetch;
        self.not_before = None;
        self.errors = 0;
    }

    /// The log was shortened.
    pub fn on_shortened(&mut self) {
        self.step = Step::WriteCheckpoints;
        self.not_before = None;
    }

    /// The follower cannot go on in this leader epoch.
    pub fn on_failure(&mut self) {
        self.step = Step::Stop;
    }

    /// The leader has answered with an error, has not answered, or its answer is unusable. A new leader may not know yet
    /// that it is one, so the first waits are short; `longest` is their upper bound.
    pub fn on_error(&mut self, code: ErrorCode, now: MonotonicTime, longest: Duration) {
        match code {
            ErrorCode::OffsetOutOfRange => {
                self.step = Step::FindLeaderOffsets;
                self.not_before = None;
            }
            // The metadata of this node will have the later epoch soon.
            ErrorCode::FencedLeaderEpoch => self.on_failure(),
            _ => {
                let backoff = FIRST_BACKOFF.saturating_mul(1 << self.errors.min(16));
                self.errors += 1;
                self.not_before = Some(now.after(backoff.min(longest)));
            }
        }
    }
}

impl LeaderOffsets {
    /// What a follower whose log ends at `own_end` does to it.
    pub fn reset(self, own_end: Offset) -> Reset {
        if self.end < own_end {
            Reset::TruncateTo(self.end)
        } else if self.start > own_end {
            Reset::RestartAt(self.start)
        } else {
            Reset::Keep
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Following, LeaderOffsets, Reset, Step};
    use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};
    use ottla_protocol::messages::ErrorCode;
    use ottla_protocol::time::MonotonicTime;
    use std::time::Duration;

    const LONGEST: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> MonotonicTime {
        MonotonicTime(Duration::from_millis(ms))
    }

    fn after(code: ErrorCode) -> Following {
        let mut following = Following::new(NodeId(2), LeaderEpoch(3));
        following.on_error(code, at(10), LONGEST);
        following
    }

    #[test]
    fn an_error_is_waited_out_except_where_something_is_to_be_done() {
        let mut refused = after(ErrorCode::NotLeaderOrFollower);
        assert_eq!(refused.next(at(34)), None);
        assert_eq!(refused.next(at(35)), Some(Step::Fetch));
        for _ in 0..40 {
            refused.on_error(ErrorCode::NotLeaderOrFollower, at(10), LONGEST);
        }
        assert_eq!(refused.next(at(1009)), None);
        assert_eq!(refused.next(at(1010)), Some(Step::Fetch));
        let outside = after(ErrorCode::OffsetOutOfRange);
        assert_eq!(outside.next(at(10)), Some(Step::FindLeaderOffsets));
        let fenced = after(ErrorCode::FencedLeaderEpoch);
        assert_eq!(fenced.next(at(99)), Some(Step::Stop));
    }

    #[test]
    fn an_error_while_asking_for_offsets_asks_again() {
        let mut outside = after(ErrorCode::OffsetOutOfRange);
        outside.on_error(ErrorCode::UnknownLeaderEpoch, at(10), LONGEST);
        assert_eq!(outside.next(at(1010)), Some(Step::FindLeaderOffsets));
    }

    #[test]
    fn a_log_outside_of_the_leaders_is_shortened_or_begun_anew() {
        let leader = LeaderOffsets {
            start: Offset(10),
            end: Offset(20),
        };
        assert_eq!(leader.reset(Offset(25)), Reset::TruncateTo(Offset(20)));
        assert_eq!(leader.reset(Offset(9)), Reset::RestartAt(Offset(10)));
        assert_eq!(leader.reset(Offset(10)), Reset::Keep);
        assert_eq!(leader.reset(Offset(20)), Reset::Keep);
    }
}
