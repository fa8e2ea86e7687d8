//! What a coordinator has appended and is not committed yet, and the answers that wait for it.
//!
//! Invariants: an answer leaves when everything appended before it is committed. One that has waited longer than
//! `offsets.commit.timeout.ms` leaves as not available instead; what was appended for it stays, as in Kafka, and counts
//! once it is committed.

use std::collections::VecDeque;
use std::time::Duration;

use ottla_protocol::time::MonotonicTime;
use tokio::sync::oneshot;

use super::Unavailable;
use crate::replicas::partition;

/// An answer that may leave, or leaves as the error that is given.
pub type Release = Box<dyn FnOnce(Result<(), Unavailable>) + Send>;
/// Completes when an append is committed or lost.
pub type Committed = oneshot::Receiver<Result<(), partition::Unavailable>>;

/// Appends, the oldest first, with those who wait for each and for how long.
pub struct Uncommitted {
    timeout: Duration,
    appends: VecDeque<Append>,
}

struct Append {
    committed: Committed,
    waiting: VecDeque<(MonotonicTime, Release)>,
}

impl Uncommitted {
    /// Nothing is appended; answers wait for `timeout` at the longest.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            appends: VecDeque::new(),
        }
    }

    /// Whether everything is committed.
    pub fn is_empty(&self) -> bool {
        self.appends.is_empty()
    }

    /// Takes note of an append.
    pub fn push(&mut self, committed: Committed) {
        self.appends.push_back(Append {
            committed,
            waiting: VecDeque::new(),
        });
    }

    /// Lets an answer leave when everything appended so far is committed.
    pub fn release(&mut self, release: Release, now: MonotonicTime) {
        match self.appends.back_mut() {
            Some(last) => last.waiting.push_back((now.after(self.timeout), release)),
            None => release(Ok(())),
        }
    }

    /// Completes when the oldest append is committed (true) or lost (false); never if there is none.
    pub async fn settled(&mut self) -> bool {
        match self.appends.front_mut() {
            Some(oldest) => matches!((&mut oldest.committed).await, Ok(Ok(()))),
            None => std::future::pending().await,
        }
    }

    /// The oldest append is committed, and the answers that waited for it leave.
    pub fn on_committed(&mut self) {
        let oldest = self.appends.pop_front();
        for (_, release) in oldest.into_iter().flat_map(|oldest| oldest.waiting) {
            release(Ok(()));
        }
    }

    /// Forgets everything: an append was lost. Who waits is told by the silence.
    pub fn clear(&mut self) {
        self.appends.clear();
    }

    /// When the next answer has waited long enough.
    pub fn next_deadline(&self) -> Option<MonotonicTime> {
        let mut waiting = self.appends.iter().flat_map(|append| &append.waiting);
        waiting.next().map(|(deadline, _)| *deadline)
    }

    /// Answers those who have waited long enough.
    pub fn expire(&mut self, now: MonotonicTime) {
        for append in &mut self.appends {
            let is_due = |(deadline, _): &mut (MonotonicTime, Release)| *deadline <= now;
            while let Some((_, release)) = append.waiting.pop_front_if(is_due) {
                release(Err(Unavailable::NotAvailable));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Unavailable, Uncommitted};
    use ottla_protocol::time::MonotonicTime;
    use std::sync::mpsc;
    use std::time::Duration;
    use tokio::sync::oneshot;

    fn at(ms: u64) -> MonotonicTime {
        MonotonicTime(Duration::from_millis(ms))
    }

    #[tokio::test]
    async fn an_answer_leaves_with_its_append_or_when_its_time_is_up() {
        let mut uncommitted = Uncommitted::new(Duration::from_millis(100));
        let (left, answers) = mpsc::channel();
        let release = |uncommitted: &mut Uncommitted, name: &'static str, ms| {
            let left = left.clone();
            let release = Box::new(move |outcome| left.send((name, outcome)).unwrap());
            uncommitted.release(release, at(ms));
        };
        release(&mut uncommitted, "nothing to wait for", 0);
        assert_eq!(answers.try_recv(), Ok(("nothing to wait for", Ok(()))));
        let (first, committed) = oneshot::channel();
        uncommitted.push(committed);
        release(&mut uncommitted, "first", 0);
        let (second, committed) = oneshot::channel();
        uncommitted.push(committed);
        release(&mut uncommitted, "second", 10);
        release(&mut uncommitted, "third", 50);
        assert_eq!(uncommitted.next_deadline(), Some(at(100)));
        first.send(Ok(())).unwrap();
        assert!(uncommitted.settled().await);
        uncommitted.on_committed();
        assert_eq!(answers.try_recv(), Ok(("first", Ok(()))));
        uncommitted.expire(at(109));
        assert!(answers.try_recv().is_err());
        uncommitted.expire(at(110));
        let late = Err(Unavailable::NotAvailable);
        assert_eq!(answers.try_recv(), Ok(("second", late)));
        assert_eq!(uncommitted.next_deadline(), Some(at(150)));
        drop(second);
        assert!(!uncommitted.settled().await, "the append is lost");
        uncommitted.clear();
        assert!(answers.try_recv().is_err() && uncommitted.is_empty());
    }
}
