//! Replies that wait until everything appended before them is committed.
//!
//! Invariants:
//! - Replies leave in the order in which they were held, so their end offsets and deadlines never decrease.
//! - A reply leaves once its end offset is committed, or as [`Unavailable::NotAvailable`] after the timeout. The records
//!   of a late reply stay in the log and count once they are committed, as in Kafka.

use std::collections::VecDeque;
use std::time::Duration;

use ottla_protocol::ids::Offset;
use ottla_protocol::planted::{Bug, is_planted};
use ottla_protocol::time::MonotonicTime;

use super::Unavailable;
use crate::ticket::Ticket;

/// The outcome of a request.
pub type Outcome<R> = Result<R, Unavailable>;

/// The end of what is appended, the end of what is committed, and the replies in between.
#[derive(Debug)]
pub struct Uncommitted<R> {
    timeout: Duration,
    appended: Offset,
    committed: Offset,
    held: VecDeque<Held<R>>,
}

#[derive(Debug)]
struct Held<R> {
    /// The offset up to which the log must be committed first.
    end: Offset,
    deadline: MonotonicTime,
    ticket: Ticket,
    outcome: Outcome<R>,
}

impl<R> Uncommitted<R> {
    /// Nothing is appended. A reply is held for at most `timeout`.
    pub const fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            appended: Offset(0),
            committed: Offset(0),
            held: VecDeque::new(),
        }
    }

    /// Whether everything appended is committed.
    pub fn is_empty(&self) -> bool {
        self.appended <= self.committed
    }

    /// Records up to `end` were appended.
    pub fn on_appended(&mut self, end: Offset) {
        self.appended = self.appended.max(end);
    }

    /// Holds a reply until everything appended so far is committed; returns it if it may leave at once.
    pub fn hold(
        &mut self,
        ticket: Ticket,
        outcome: Outcome<R>,
        now: MonotonicTime,
    ) -> Option<(Ticket, Outcome<R>)> {
        if self.is_empty() || is_planted(Bug::GroupAnsweredEarly) {
            return Some((ticket, outcome));
        }
        self.held.push_back(Held {
            end: self.appended,
            deadline: now.after(self.timeout),
            ticket,
            outcome,
        });
        None
    }

    /// Everything below `end` is committed; returns the replies that may leave.
    pub fn on_committed(&mut self, end: Offset) -> Vec<(Ticket, Outcome<R>)> {
        self.committed = self.committed.max(end);
        let committed = self.committed;
        let mut released = Vec::new();
        while let Some(held) = self.held.pop_front_if(|held| held.end <= committed) {
            released.push((held.ticket, held.outcome));
        }
        released
    }

    /// When the next reply has been held for the timeout.
    pub fn next_deadline(&self) -> Option<MonotonicTime> {
        self.held.front().map(|held| held.deadline)
    }

    /// Takes the requests whose reply has been held for the timeout.
    pub fn expire(&mut self, now: MonotonicTime) -> Vec<Ticket> {
        let mut expired = Vec::new();
        while let Some(held) = self.held.pop_front_if(|held| held.deadline <= now) {
            expired.push(held.ticket);
        }
        expired
    }

    /// Drops everything: an append was lost. Returns the requests whose replies were held.
    pub fn clear(&mut self) -> Vec<Ticket> {
        self.appended = self.committed;
        self.held.drain(..).map(|held| held.ticket).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ottla_protocol::ids::Offset;
    use ottla_protocol::time::MonotonicTime;

    use super::Uncommitted;
    use crate::ticket::Ticket;

    fn at(ms: u64) -> MonotonicTime {
        MonotonicTime(Duration::from_millis(ms))
    }

    #[test]
    fn a_reply_leaves_with_its_append_or_when_its_time_is_up() {
        let mut uncommitted = Uncommitted::new(Duration::from_millis(100));
        let at_once = uncommitted.hold(Ticket(0), Ok("nothing appended"), at(0));
        assert_eq!(at_once, Some((Ticket(0), Ok("nothing appended"))));
        uncommitted.on_appended(Offset(1));
        assert_eq!(uncommitted.hold(Ticket(1), Ok("first"), at(0)), None);
        uncommitted.on_appended(Offset(3));
        assert_eq!(uncommitted.hold(Ticket(2), Ok("second"), at(10)), None);
        assert_eq!(uncommitted.hold(Ticket(3), Ok("third"), at(50)), None);
        assert_eq!(uncommitted.next_deadline(), Some(at(100)));
        assert_eq!(
            uncommitted.on_committed(Offset(2)),
            [(Ticket(1), Ok("first"))]
        );
        assert_eq!(uncommitted.expire(at(109)), []);
        assert_eq!(uncommitted.expire(at(110)), [Ticket(2)]);
        assert_eq!(uncommitted.next_deadline(), Some(at(150)));
        assert!(!uncommitted.is_empty());
        assert_eq!(uncommitted.clear(), [Ticket(3)]);
        assert!(uncommitted.is_empty());
    }
}
