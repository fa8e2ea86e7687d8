//! The leader epochs of a partition and the start offset of each. Clients and followers use them to find where two logs
//! diverge.
//!
//! Pure; `epoch_file.rs` says when the checkpoint is written. Invariant: epochs and their start offsets both
//! rise.

use ottla_protocol::ids::{LeaderEpoch, Offset};
use std::collections::BTreeMap;

/// The leader epochs of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    starts: BTreeMap<LeaderEpoch, Offset>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    pub epoch: LeaderEpoch,
    /// The offset after its last record.
    pub end: Offset,
}

impl LeaderEpochs {
    /// The epochs of a checkpoint.
    pub fn from_entries(entries: impl IntoIterator<Item = (LeaderEpoch, Offset)>) -> Self {
        let mut epochs = Self::default();
        for (epoch, start) in entries {
            epochs.assign(epoch, start);
        }
        epochs
    }

    /// The epochs and their start offsets, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = (LeaderEpoch, Offset)> {
        self.starts.iter().map(|(epoch, start)| (*epoch, *start))
    }

    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.starts.last_key_value().map(|(epoch, _)| *epoch)
    }

    /// Records that `epoch` appends from `start` on; returns whether anything has changed.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        let is_known = self
            .starts
            .last_key_value()
            .is_some_and(|(last, at)| *last == epoch && *at <= start);
        if epoch.0 < 0 || start.0 < 0 || is_known {
            return false;
        }
        self.starts
            .retain(|known, at| *known < epoch && *at < start);
        self.starts.insert(epoch, start);
        true
    }

    /// Records the epoch of a batch that is in the log. Like [`LeaderEpochs::assign`], but ignores an epoch or an
    /// offset lower than the latest.
    pub fn observe(&mut self, epoch: LeaderEpoch, start: Offset) {
        if self.latest().is_none_or(|latest| epoch > latest) {
            self.assign(epoch, start);
        }
    }

    /// Drops the epochs that begin at `end` or later, where the log was truncated; returns whether anything has
    /// changed.
    pub fn truncate_from_end(&mut self, end: Offset) -> bool {
        let before = self.starts.len();
        self.starts.retain(|_, start| *start < end);
        self.starts.len() != before
    }

    /// Drops the epochs that end before `log_start`; the epoch of `log_start` now begins there. Returns whether
    /// anything has changed.
    pub fn truncate_from_start(&mut self, log_start: Offset) -> bool {
        let Some(current) = self.epoch_of(log_start) else {
            return false;
        };
        let is_unchanged = self
            .starts
            .first_key_value()
            .is_some_and(|(epoch, at)| *epoch == current && *at == log_start);
        self.starts.retain(|epoch, _| *epoch > current);
        self.starts.insert(current, log_start);
        !is_unchanged
    }

    pub fn clear(&mut self) {
        self.starts.clear();
    }

    /// The epoch of the record at `offset`.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.starts
            .iter()
            .take_while(|(_, start)| **start <= offset)
            .last()
            .map(|(epoch, _)| *epoch)
    }

    /// The end of `epoch`, or, if it has no records, of the epoch before it; `None` if neither is known.
    pub fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<EpochEnd> {
        if self.latest()? == epoch {
            return Some(EpochEnd {
                epoch,
                end: log_end,
            });
        }
        let (_, end) = self
            .starts
            .range(LeaderEpoch(epoch.0.saturating_add(1))..)
            .next()?;
        let floor = self.starts.range(..=epoch).next_back();
        Some(EpochEnd {
            epoch: floor.map_or(epoch, |(floor, _)| *floor),
            end: *end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{EpochEnd, LeaderEpochs};
    use ottla_protocol::ids::{LeaderEpoch, Offset};

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        LeaderEpochs::from_entries(
            entries
                .iter()
                .map(|(epoch, start)| (LeaderEpoch(*epoch), Offset(*start))),
        )
    }

    fn listed(epochs: &LeaderEpochs) -> Vec<(i32, i64)> {
        epochs
            .entries()
            .map(|(epoch, start)| (epoch.0, start.0))
            .collect()
    }

    #[test]
    fn an_epoch_without_records_gives_way_to_the_next() {
        let mut epochs = epochs(&[(1, 0), (2, 10)]);
        assert!(!epochs.assign(LeaderEpoch(2), Offset(15)));
        assert!(epochs.assign(LeaderEpoch(3), Offset(10)));
        assert_eq!(listed(&epochs), [(1, 0), (3, 10)]);
        assert!(!epochs.assign(LeaderEpoch(-1), Offset(20)));
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let epochs = epochs(&[(2, 5), (4, 10)]);
        let end = |epoch| {
            epochs
                .end_of(LeaderEpoch(epoch), Offset(20))
                .map(|found: EpochEnd| (found.epoch.0, found.end.0))
        };
        assert_eq!(end(4), Some((4, 20)));
        assert_eq!(end(3), Some((2, 10)));
        assert_eq!(end(2), Some((2, 10)));
        assert_eq!(end(1), Some((1, 5)));
        assert_eq!(end(5), None);
        assert_eq!(
            LeaderEpochs::default().end_of(LeaderEpoch(0), Offset(0)),
            None
        );
    }

    #[test]
    fn truncation_keeps_the_epoch_of_the_log_start() {
        let mut epochs = epochs(&[(1, 0), (2, 10), (3, 20)]);
        assert!(epochs.truncate_from_end(Offset(20)));
        assert!(!epochs.truncate_from_end(Offset(20)));
        assert!(epochs.truncate_from_start(Offset(15)));
        assert!(!epochs.truncate_from_start(Offset(15)));
        assert_eq!(listed(&epochs), [(2, 15)]);
        assert!(!epochs.truncate_from_start(Offset(3)));
    }

    #[test]
    fn an_offset_is_of_the_last_epoch_that_began_before_it() {
        let epochs = epochs(&[(1, 5), (2, 10)]);
        let of = |offset| epochs.epoch_of(Offset(offset)).map(|epoch| epoch.0);
        assert_eq!(
            [of(4), of(5), of(9), of(10)],
            [None, Some(1), Some(1), Some(2)]
        );
    }
}
