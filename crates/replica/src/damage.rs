//! Reports damage in a partition's log: logs it with the next step for the operator, and counts it for `/ready` and the
//! metrics.
//!
//! A reader may retry for ever, so a partition logs the same damage at most once a minute.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ottla_log::damage::Damage;
use ottla_log::files::Files;
use ottla_log::{LogDirectory, PartitionLog, StorageError};
use ottla_protocol::ids::Offset;
use ottla_protocol::time::MonotonicTime;

use crate::Host;
use crate::partition::Partition;

/// The time between two log lines about one damaged range.
const INTERVAL: Duration = Duration::from_mins(1);
/// Upper bound of the ranges whose last log line is remembered. With more ranges, the list is cleared.
const MAX_LOGGED: usize = 100;

/// The part of a partition's damage that is known without the lock of its log.
#[derive(Debug, Default)]
pub struct DamageNotes {
    /// The number of damaged ranges that the log knows.
    places: AtomicUsize,
    /// The segment whose index of aborted transactions is damaged, and the error.
    index: Mutex<Option<(Offset, String)>>,
    /// When each damaged range was last logged, by its first offset; a transaction index, by [`Offset::NONE`].
    logged_at: Mutex<BTreeMap<Offset, MonotonicTime>>,
}

/// The known damage of a partition.
#[derive(Debug, Clone)]
pub struct DamageReport {
    pub topic: String,
    pub partition: i32,
    /// The damaged ranges, in the order of offsets.
    pub places: Vec<Damage>,
    /// The error of the index of aborted transactions, if it is damaged. A report has this or a damaged range, or both.
    pub index: Option<String>,
}

impl DamageReport {
    /// The number of damaged ranges and indexes.
    pub fn count(&self) -> usize {
        self.places.len() + usize::from(self.index.is_some())
    }
}

impl DamageNotes {
    /// Updates the number of damaged ranges from `log`.
    pub(crate) fn count<F: Files>(&self, log: &PartitionLog<F>) {
        let places = log.known_damage().count();
        self.places.store(places, Ordering::Relaxed);
    }

    fn index(&self) -> MutexGuard<'_, Option<(Offset, String)>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this damage must be logged again; if so, records `now`.
    fn is_due(&self, first_offset: Offset, now: MonotonicTime) -> bool {
        let mut logged_at = self
            .logged_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let last = logged_at.get(&first_offset);
        if last.is_some_and(|last| now < last.after(INTERVAL)) {
            return false;
        }
        if logged_at.len() >= MAX_LOGGED {
            logged_at.clear();
        }
        logged_at.insert(first_offset, now);
        true
    }
}

impl<F: Files, H: Host> Partition<F, H> {
    /// Records and logs the damage in `error`, if it is about damage. The caller has held the lock of `log` since the
    /// read, because compaction may replace the segment.
    pub(crate) fn on_unreadable(
        &self,
        log: &mut PartitionLog<F>,
        error: &StorageError,
        now: MonotonicTime,
    ) {
        let (topic, partition) = (&*self.topic, self.index.0);
        let (path, damage) = match error {
            StorageError::Damaged { path, damage } => (path, damage),
            StorageError::DamagedTransactionIndex { segment, .. } => {
                *self.damage.index() = Some((*segment, error.to_string()));
                if self.damage.is_due(Offset::NONE, now) {
                    tracing::error!(
                        topic,
                        partition,
                        "consumers of committed records cannot read on: {error}"
                    );
                }
                return;
            }
            _ => return,
        };
        log.note_damage(*damage);
        self.damage.count(log);
        if !self.damage.is_due(damage.first_offset, now) {
            return;
        }
        let next = damage.next_offset;
        let skip = format!(
            "ottla group reset-offsets GROUP --topic {topic}:{partition} --to-offset {next} --execute"
        );
        tracing::error!(
            topic,
            partition,
            next_readable_offset = next.0,
            file = %path.display(),
            skip,
            repair = repair(path.ancestors().nth(2).unwrap_or(path)),
            "a client or a coordinator asked for damaged records: {damage}"
        );
    }

    /// Updates the count of damage from `log`, the partition's log.
    pub fn count_damage(&self, log: &PartitionLog<F>) {
        self.damage.count(log);
    }

    /// Whether damage is known. Does not take the lock, because it is called for thousands of partitions.
    pub fn is_damaged(&self) -> bool {
        self.damage.index().is_some() || self.damage.places.load(Ordering::Relaxed) > 0
    }

    /// The known damage of `log`, the partition's log; `None` if there is none. Damage below the log start offset does
    /// not count, though its bytes are still in the segment.
    pub fn damage_report(&self, log: &PartitionLog<F>) -> Option<DamageReport> {
        self.damage.count(log);
        let mut index = self.damage.index().clone();
        index.take_if(|(segment, _)| !log.has_segment(*segment));
        let start = log.log_start_offset();
        let places = log.known_damage().copied();
        let report = DamageReport {
            topic: self.topic.to_string(),
            partition: self.index.0,
            places: places.filter(|damage| damage.next_offset > start).collect(),
            index: index.map(|(_, told)| told),
        };
        (report.count() > 0).then_some(report)
    }

    /// Logs the damage that was found when a log was opened.
    pub fn log_damage_found(&self, damage: &[Damage], directory: &LogDirectory<F>) {
        self.with_log(|log| self.damage.count(log));
        let Some(first) = damage.first() else { return };
        tracing::error!(
            topic = &*self.topic,
            partition = self.index.0,
            places = damage.len(),
            repair = repair(directory.path()),
            "a log is damaged below its recovery point; the rest of it is served: {first}"
        );
    }
}

/// The command that repairs damage.
pub fn repair(directory: &std::path::Path) -> String {
    format!("ottla log repair {}", directory.display())
}

impl fmt::Display for DamageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}: ", self.topic, self.partition)?;
        match (self.places.first(), &self.index) {
            (Some(first), _) => write!(f, "{first}")?,
            (None, Some(index)) => f.write_str(index)?,
            (None, None) => {}
        }
        match self.count() {
            0 | 1 => Ok(()),
            more => write!(f, "; {} more places", more - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DamageNotes, MAX_LOGGED};
    use ottla_protocol::ids::Offset;
    use ottla_protocol::time::MonotonicTime;
    use std::time::Duration;

    #[test]
    fn a_place_is_said_once_a_minute_and_each_for_itself() {
        let at = |seconds| MonotonicTime(Duration::from_secs(seconds));
        let notes = DamageNotes::default();
        assert!(notes.is_due(Offset(0), at(0)));
        assert!(notes.is_due(Offset(5), at(0)));
        assert!(!notes.is_due(Offset(0), at(59)));
        assert!(notes.is_due(Offset(0), at(60)));
        assert!(!notes.is_due(Offset(0), at(61)));
        for number in 0..1000 {
            notes.is_due(Offset(10 + number), at(61));
        }
        assert!(notes.logged_at.lock().unwrap().len() <= MAX_LOGGED);
    }
}
