//! The changes of ISRs that the controller has not answered yet: found by fetches of followers and by [`shrink`], sent by
//! [`send`].
//!
//! There is at most one for each partition, because a leader has at most one pending. A change whose outcome is unknown is
//! sent again as long as it is pending.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ottla_controller::alter_partition::Place;
use ottla_controller::request::AlterPartition;
use ottla_replica::{PartitionId, isr_request};
use ottla_replication::{Answer, IsrChange};
use tokio::sync::{Notify, watch};

use crate::broker::Broker;
use crate::drivers::stopping::stopped;
use crate::replicas::Found;

/// Upper bound of the partitions in one request.
const AT_ONCE: usize = 1_000;
/// The time until changes with an unknown outcome are sent again.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// Upper bound of the time between looks for members that lag.
const LONGEST_INTERVAL: Duration = Duration::from_hours(24);

type Changes = BTreeMap<PartitionId, (IsrChange, Direction)>;

/// Whether a change makes the ISR larger or smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Expands,
    Shrinks,
}

#[derive(Debug, Default)]
pub struct IsrChanges {
    waiting: Mutex<Changes>,
    added: Notify,
    /// The changes that the controller has made.
    expanded: AtomicU64,
    shrunk: AtomicU64,
}

impl IsrChanges {
    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a change that takes a follower in, in place of an earlier one of the partition.
    pub fn expand(&self, partition: PartitionId, change: IsrChange) {
        self.add(partition, (change, Direction::Expands));
    }

    /// Adds a change that takes a member out, in place of an earlier one of the partition.
    pub fn shrink(&self, partition: PartitionId, change: IsrChange) {
        self.add(partition, (change, Direction::Shrinks));
    }

    fn add(&self, partition: PartitionId, change: (IsrChange, Direction)) {
        self.lock().insert(partition, change);
        self.added.notify_one();
    }

    /// Adds a change that was sent already, unless there is a later one of the partition.
    fn add_again(&self, partition: PartitionId, change: (IsrChange, Direction)) {
        self.lock().entry(partition).or_insert(change);
        self.added.notify_one();
    }

    /// How many changes the controller has made that took followers in, and how many that took members out.
    pub fn counted(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.expanded), count(&self.shrunk))
    }

    fn count(&self, direction: Direction) {
        let counter = match direction {
            Direction::Expands => &self.expanded,
            Direction::Shrinks => &self.shrunk,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits for changes, and takes them all.
    async fn take(&self) -> Changes {
        loop {
            let taken = std::mem::take(&mut *self.lock());
            if !taken.is_empty() {
                return taken;
            }
            self.added.notified().await;
        }
    }
}

/// Sends changes to the controller until the broker stops. Changes that are found while a request is under way go
/// together into the next one.
pub async fn send(broker: Arc<Broker>, mut stopping: watch::Receiver<bool>) {
    let sending = async {
        loop {
            let changes = broker.isr_changes.take().await;
            if !send_all(&broker, changes).await {
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    };
    tokio::select! {
        () = sending => {}
        () = stopped(&mut stopping) => {}
    }
}

/// Takes members that lag out of the ISRs, twice in the time that a follower may lag, until the broker stops.
pub async fn shrink(broker: Arc<Broker>, mut stopping: watch::Receiver<bool>) {
    let half = broker.config.replication.max_lag / 2;
    let half = half.clamp(Duration::from_millis(1), LONGEST_INTERVAL);
    let mut times = tokio::time::interval(half);
    loop {
        tokio::select! {
            _ = times.tick() => {}
            () = stopped(&mut stopping) => return,
        }
        let look = || {
            let now = broker.clock.monotonic();
            for partition in broker.replicas.all() {
                if let Some(change) = partition.shrink_isr(now) {
                    broker.isr_changes.shrink(partition.id(), change);
                }
            }
        };
        broker.replicas.disk_work().run(look);
    }
}

/// Sends changes, and hands the answers to their partitions. Returns whether all have a known outcome; the others are
/// added again.
async fn send_all(broker: &Broker, changes: Changes) -> bool {
    let changes: Vec<_> = changes.into_iter().collect();
    let mut is_known = true;
    for some in changes.chunks(AT_ONCE) {
        let mut answers = ask(broker, some).await;
        for sent in some {
            let answer = answers.remove(&sent.0).unwrap_or(Answer::Unknown);
            is_known &= answer != Answer::Unknown;
            answered(broker, sent, answer);
        }
    }
    is_known
}

type Sent = (PartitionId, (IsrChange, Direction));

/// Asks the controller for changes. Returns the answers that it gave.
async fn ask(broker: &Broker, changes: &[Sent]) -> BTreeMap<Place, Answer> {
    let node = broker.config.node_id;
    let image = broker.controller.image();
    let Some(registration) = image.brokers.get(&node) else {
        return BTreeMap::new();
    };
    let wanted = changes.iter();
    let wanted = wanted.map(|(place, (change, _))| isr_request::wanted(*place, change));
    let request = AlterPartition {
        broker: node,
        epoch: registration.epoch,
        partitions: wanted.collect(),
    };
    match broker.controller.ask(request).await {
        Ok(Ok(reply)) => {
            let answers = reply.into_iter();
            answers
                .map(|(place, outcome)| (place, isr_request::answer(outcome)))
                .collect()
        }
        Ok(Err(refusal)) => {
            let answer = Answer::of_error(refusal.code());
            let all = changes.iter().map(|(id, _)| (*id, answer.clone()));
            all.collect()
        }
        Err(_) => BTreeMap::new(),
    }
}

/// Hands an answer to its partition. A change that is still pending without a known outcome is added again.
fn answered(broker: &Broker, (id, change): &Sent, answer: Answer) {
    let Found::Here(partition) = broker.replicas.by_id(id.0, id.1) else {
        return;
    };
    let now = broker.clock.monotonic();
    let is_unknown = answer == Answer::Unknown;
    if matches!(answer, Answer::Committed(_)) {
        broker.isr_changes.count(change.1);
    }
    let work = || {
        partition.isr_answered(&change.0, answer, now);
        is_unknown && partition.pending_isr_change().as_ref() == Some(&change.0)
    };
    if broker.replicas.disk_work().run(work) {
        broker.isr_changes.add_again(*id, change.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::{Changes, Direction, IsrChange, IsrChanges, PartitionId};
    use ottla_protocol::ids::{LeaderEpoch, PartitionIndex, Uuid};

    const PARTITION: PartitionId = (Uuid::from_parts(1, 1), PartitionIndex(0));

    fn change(partition_epoch: i32) -> IsrChange {
        IsrChange {
            leader_epoch: LeaderEpoch(1),
            partition_epoch,
            isr: Vec::new(),
        }
    }

    fn only(change: IsrChange, direction: Direction) -> Changes {
        Changes::from([(PARTITION, (change, direction))])
    }

    #[tokio::test]
    async fn a_change_with_an_unknown_outcome_is_sent_again() {
        let changes = IsrChanges::default();
        changes.expand(PARTITION, change(1));
        let sent = changes.take().await;
        changes.add_again(PARTITION, sent[&PARTITION].clone());
        let again = changes.take().await;
        assert_eq!(again, only(change(1), Direction::Expands));
    }

    #[tokio::test]
    async fn a_later_change_is_not_replaced_by_one_that_was_sent() {
        let changes = IsrChanges::default();
        changes.expand(PARTITION, change(1));
        let sent = changes.take().await;
        let later = (change(2), Direction::Shrinks);
        changes.add(PARTITION, later);
        changes.add_again(PARTITION, sent[&PARTITION].clone());
        let left = changes.take().await;
        assert_eq!(left, only(change(2), Direction::Shrinks));
    }
}
