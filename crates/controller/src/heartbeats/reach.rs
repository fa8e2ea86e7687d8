//! Whether the machines of brokers answer attempts to connect to them.
//!
//! A kernel answers whatever the load on its processes and disks: it accepts the connection, or refuses it. So attempts
//! without an answer say that the machine is gone, or the path to it. They count only for a broker that has answered this
//! process before: an address that is hidden behind a firewall never answers.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_metadata::MetadataImage;
use ottla_protocol::ids::NodeId;
use ottla_protocol::time::MonotonicTime;

/// How long an attempt waits for its answer. A machine that is farther away is never known to answer.
pub const ANSWERED_WITHIN: Duration = Duration::from_millis(150);
/// How many attempts in a row without an answer say that a machine is gone.
pub const ATTEMPTS: u32 = 3;
/// The longest time between two attempts in a row.
const IN_A_ROW: Duration = Duration::from_secs(1);
/// Before a broker that has not answered yet is tried again.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The outcome of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A connection was accepted.
    Accepted,
    /// A connection was refused: the machine is there, and no process listens.
    Refused,
    /// Nothing came back in time.
    Unanswered,
    /// The attempt could not be made.
    Untried,
}

/// What is known of each broker, by its id and epoch.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    brokers: BTreeMap<(NodeId, i64), Attempts>,
}

#[derive(Debug, Clone, Copy)]
struct Attempts {
    has_answered: bool,
    /// How many in a row had no answer, and when the first of them began.
    unanswered: u32,
    since: MonotonicTime,
    /// When the last one began.
    last: MonotonicTime,
}

impl Reach {
    /// Brokers that serve and have never answered, and that are to be tried now. Forgets those that are gone.
    pub fn untried(&mut self, image: &MetadataImage, now: MonotonicTime) -> Vec<(NodeId, i64)> {
        let is_registered = |(id, epoch): (NodeId, i64)| {
            let registered = image.brokers.get(&id);
            registered.is_some_and(|broker| broker.epoch == epoch)
        };
        self.brokers.retain(|broker, _| is_registered(*broker));
        let serving = image.brokers.values().filter(|broker| !broker.fenced);
        let is_due = |broker: &(NodeId, i64)| {
            self.brokers.get(broker).is_none_or(|attempts| {
                !attempts.has_answered && attempts.last.after(TRIED_AGAIN_AFTER) <= now
            })
        };
        let serving = serving.map(|broker| (broker.id, broker.epoch));
        serving.filter(is_due).collect()
    }

    /// An attempt to connect to this broker has ended.
    pub fn on_attempt(
        &mut self,
        broker: (NodeId, i64),
        (began, ended): (MonotonicTime, MonotonicTime),
        answer: Answer,
    ) {
        let attempts = self.brokers.entry(broker).or_insert(Attempts {
            has_answered: false,
            unanswered: 0,
            since: began,
            last: began,
        });
        if attempts.last.after(IN_A_ROW) < began {
            attempts.unanswered = 0;
        }
        attempts.last = began;
        // This process did not run in time: it may have missed the answer.
        let is_stalled = ended.remaining(began) > ANSWERED_WITHIN * 2;
        match answer {
            Answer::Accepted | Answer::Refused => {
                attempts.has_answered = true;
                attempts.unanswered = 0;
            }
            Answer::Unanswered if !is_stalled => {
                if attempts.unanswered == 0 {
                    attempts.since = began;
                }
                attempts.unanswered = attempts.unanswered.saturating_add(1);
            }
            Answer::Unanswered | Answer::Untried => attempts.unanswered = 0,
        }
    }

    /// Since when a broker that has answered before does not answer any more.
    pub fn unreachable_since(&self, broker: (NodeId, i64)) -> Option<MonotonicTime> {
        let attempts = self.brokers.get(&broker)?;
        (attempts.has_answered && attempts.unanswered >= ATTEMPTS).then_some(attempts.since)
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Reach};
    use ottla_protocol::ids::NodeId;
    use ottla_protocol::time::MonotonicTime;
    use std::time::Duration;

    const BROKER: (NodeId, i64) = (NodeId(1), 7);

    /// Attempts that begin at these milliseconds and last so long.
    fn attempts(reach: &mut Reach, began: &[u64], lasted: u64, answer: Answer) {
        for began in began {
            let [began, ended] =
                [*began, began + lasted].map(|at| MonotonicTime(Duration::from_millis(at)));
            reach.on_attempt(BROKER, (began, ended), answer);
        }
    }

    fn since(reach: &Reach) -> Option<u128> {
        let since = reach.unreachable_since(BROKER);
        since.map(|since| since.0.as_millis())
    }

    #[test]
    fn only_attempts_in_a_row_count() {
        let mut reach = Reach::default();
        attempts(&mut reach, &[0], 5, Answer::Accepted);
        attempts(&mut reach, &[100, 300], 150, Answer::Unanswered);
        attempts(&mut reach, &[500], 5, Answer::Accepted);
        attempts(&mut reach, &[700, 900], 150, Answer::Unanswered);
        assert_eq!(since(&reach), None, "it answered in between");
        attempts(&mut reach, &[9_000], 150, Answer::Unanswered);
        assert_eq!(since(&reach), None, "the others were long ago");
        attempts(&mut reach, &[9_200, 9_400], 150, Answer::Unanswered);
        assert_eq!(since(&reach), Some(9_000));
        attempts(&mut reach, &[9_600], 5, Answer::Untried);
        assert_eq!(since(&reach), None);
    }

    #[test]
    fn attempts_of_a_process_that_stood_still_do_not_count() {
        let mut reach = Reach::default();
        attempts(&mut reach, &[0], 5, Answer::Accepted);
        attempts(&mut reach, &[100, 700, 1_300], 500, Answer::Unanswered);
        assert_eq!(since(&reach), None);
    }
}
