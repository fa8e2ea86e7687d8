//! How far the observers of the metadata log have come, for DescribeQuorum. Kept in memory by the controller that they ask.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ottla_protocol::ids::{NodeId, Offset, Uuid};
use ottla_protocol::time::Timestamp;

/// An observer that has not fetched for so long is forgotten, as by Kafka.
const FORGOTTEN_AFTER_MS: i64 = 5 * 60 * 1000;
/// Upper bound of the observers that are remembered.
const MAX_OBSERVERS: usize = 10_000;

/// What identifies an observer: its node, and the directory of its metadata.
pub type ObserverId = (NodeId, Uuid);

/// The progress of one observer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The end of its log at its last fetch.
    pub end: Offset,
    pub fetched_at: Timestamp,
    /// When it last had everything; `None` if it never had.
    pub caught_up_at: Option<Timestamp>,
}

/// The observers that fetch from this controller.
#[derive(Debug, Default)]
pub struct Observers(Mutex<BTreeMap<ObserverId, Progress>>);

impl Observers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObserverId, Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An observer has fetched from `end` on.
    pub fn fetched(&self, id: ObserverId, end: Offset, has_all: bool, now: Timestamp) {
        let mut known = self.lock();
        if known.len() >= MAX_OBSERVERS {
            known.retain(|_, progress| is_remembered(progress, now));
        }
        if known.len() >= MAX_OBSERVERS && !known.contains_key(&id) {
            return;
        }
        let before = known.get(&id).and_then(|progress| progress.caught_up_at);
        let progress = Progress {
            end,
            fetched_at: now,
            caught_up_at: if has_all { Some(now) } else { before },
        };
        known.insert(id, progress);
    }

    /// The observers that have fetched lately.
    pub fn all(&self, now: Timestamp) -> Vec<(ObserverId, Progress)> {
        let mut known = self.lock();
        known.retain(|_, progress| is_remembered(progress, now));
        known
            .iter()
            .map(|(id, progress)| (*id, *progress))
            .collect()
    }
}

fn is_remembered(progress: &Progress, now: Timestamp) -> bool {
    now.0.saturating_sub(progress.fetched_at.0) < FORGOTTEN_AFTER_MS
}

#[cfg(test)]
mod tests {
    use super::{FORGOTTEN_AFTER_MS, Observers};
    use ottla_protocol::ids::{NodeId, Offset, Uuid};
    use ottla_protocol::time::Timestamp;

    #[test]
    fn an_observer_is_known_by_its_last_fetch_and_forgotten_after_five_minutes() {
        let observers = Observers::default();
        let id = (NodeId(4), Uuid::from_parts(1, 2));
        observers.fetched(id, Offset(5), true, Timestamp(1_000));
        observers.fetched(id, Offset(7), false, Timestamp(2_000));
        let [(found, progress)] = observers.all(Timestamp(3_000))[..] else {
            panic!("there is one")
        };
        assert_eq!((found, progress.end), (id, Offset(7)));
        assert_eq!(progress.fetched_at, Timestamp(2_000));
        assert_eq!(progress.caught_up_at, Some(Timestamp(1_000)));
        assert!(
            observers
                .all(Timestamp(2_000 + FORGOTTEN_AFTER_MS))
                .is_empty()
        );
    }
}
