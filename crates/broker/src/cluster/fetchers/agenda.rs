//! Which partitions of a fetcher must be looked at before its next fetch: those whose state may have changed since it was
//! last told to the leader. The others cost nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::ids::LeaderEpoch;
use ottla_protocol::time::MonotonicTime;
use ottla_replica::PartitionId;

/// Partitions that follow one leader, with the leader epoch of each.
pub type Partitions = BTreeMap<PartitionId, LeaderEpoch>;

/// Whether `now` has a partition that is not in `known`, or that has a new leader epoch.
pub fn is_extended(known: &Arc<Partitions>, now: &Arc<Partitions>) -> bool {
    let is_news = |(id, epoch)| known.get(id) != Some(epoch);
    !Arc::ptr_eq(known, now) && now.iter().any(is_news)
}

/// The partitions of one fetcher.
#[derive(Debug, Default)]
pub struct Agenda {
    partitions: Arc<Partitions>,
    due: BTreeSet<PartitionId>,
    /// Those that wait after an error, with the time of their next try.
    paused: BTreeMap<PartitionId, MonotonicTime>,
}

impl Agenda {
    /// Takes over the partitions to fetch; returns those that are not among them any more.
    pub fn assign(&mut self, partitions: &Arc<Partitions>) -> Vec<PartitionId> {
        if Arc::ptr_eq(&self.partitions, partitions) {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.partitions, Arc::clone(partitions));
        for (id, epoch) in partitions.iter() {
            if before.get(id) != Some(epoch) {
                self.paused.remove(id);
                self.due.insert(*id);
            }
        }
        let gone = before.keys().filter(|id| !partitions.contains_key(id));
        let gone: Vec<PartitionId> = gone.copied().collect();
        for id in &gone {
            self.due.remove(id);
            self.paused.remove(id);
        }
        gone
    }

    /// A partition must be looked at.
    pub fn add(&mut self, id: PartitionId) {
        if self.partitions.contains_key(&id) {
            self.due.insert(id);
        }
    }

    /// All partitions must be looked at.
    pub fn add_all(&mut self) {
        self.due.extend(self.partitions.keys());
    }

    /// A partition must be looked at again at `time`.
    pub fn pause(&mut self, id: PartitionId, time: MonotonicTime) {
        self.paused.insert(id, time);
    }

    /// When the first of the paused partitions is due.
    pub fn next_try(&self) -> Option<MonotonicTime> {
        self.paused.values().min().copied()
    }

    /// Takes the partitions that are due now.
    pub fn take(&mut self, now: MonotonicTime) -> BTreeSet<PartitionId> {
        let mut taken = std::mem::take(&mut self.due);
        self.paused.retain(|id, time| {
            let waits = *time > now;
            if !waits {
                taken.insert(*id);
            }
            waits
        });
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::{Agenda, Partitions, is_extended};
    use ottla_protocol::ids::{LeaderEpoch, PartitionIndex, Uuid};
    use ottla_protocol::time::MonotonicTime;
    use ottla_replica::PartitionId;
    use std::sync::Arc;
    use std::time::Duration;

    fn id(index: i32) -> PartitionId {
        (Uuid::from_parts(1, 1), PartitionIndex(index))
    }

    fn partitions(epochs: &[(i32, i32)]) -> Arc<Partitions> {
        let all = epochs
            .iter()
            .map(|(index, epoch)| (id(*index), LeaderEpoch(*epoch)));
        Arc::new(all.collect())
    }

    fn at(ms: u64) -> MonotonicTime {
        MonotonicTime(Duration::from_millis(ms))
    }

    fn taken(agenda: &mut Agenda, ms: u64) -> Vec<i32> {
        agenda
            .take(at(ms))
            .into_iter()
            .map(|(_, index)| index.0)
            .collect()
    }

    #[test]
    fn only_partitions_that_are_new_or_have_a_new_epoch_are_due() {
        let mut agenda = Agenda::default();
        let first = partitions(&[(1, 1), (2, 1)]);
        agenda.assign(&first);
        assert_eq!(taken(&mut agenda, 0), [1, 2]);
        let later = partitions(&[(2, 2), (3, 1)]);
        assert!(is_extended(&first, &later));
        assert_eq!(
            agenda.assign(&later),
            [id(1)],
            "it is led by another broker now"
        );
        assert_eq!(taken(&mut agenda, 0), [2, 3]);
        let fewer = partitions(&[(3, 1)]);
        assert!(
            !is_extended(&later, &fewer),
            "no fetch must be given up for it"
        );
        assert!(taken(&mut agenda, 0).is_empty());
    }

    #[test]
    fn a_paused_partition_is_due_at_its_time_or_in_a_new_epoch() {
        let mut agenda = Agenda::default();
        agenda.assign(&partitions(&[(1, 1), (2, 1)]));
        agenda.take(at(0));
        agenda.pause(id(1), at(30));
        agenda.pause(id(2), at(20));
        assert_eq!(agenda.next_try(), Some(at(20)));
        assert!(taken(&mut agenda, 19).is_empty());
        assert_eq!(taken(&mut agenda, 20), [2]);
        agenda.assign(&partitions(&[(1, 2), (2, 1)]));
        assert_eq!(taken(&mut agenda, 21), [1]);
        assert_eq!(agenda.next_try(), None);
    }

    #[test]
    fn a_partition_that_was_taken_away_is_not_looked_at() {
        let mut agenda = Agenda::default();
        agenda.assign(&partitions(&[(1, 1), (2, 1)]));
        agenda.pause(id(1), at(5));
        agenda.assign(&partitions(&[]));
        agenda.add(id(2));
        assert!(taken(&mut agenda, 9).is_empty());
    }
}
