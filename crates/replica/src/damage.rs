//! Damage in a partition's log, as its readers and the scrub come upon it: remembered by the log, said with the next
//! step, shown by `/ready` and the metrics.
//!
//! A reader that does not give up asks again and again: a partition says the same damage once a minute at most.

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

/// The time between two lines about one place.
const INTERVAL: Duration = Duration::from_mins(1);
/// Places whose last line is remembered; when there are more, all are said again.
const MAX_SAID: usize = 100;

/// What a partition remembers of its damage outside of its log's lock.
#[derive(Debug, Default)]
pub struct DamageNotes {
    /// The places that the log knows.
    places: AtomicUsize,
    /// The segment whose index of aborted transactions is damaged, and what was said of it.
    index: Mutex<Option<(Offset, String)>>,
    /// When each place was last said, by the first offset that it takes; what is beside the log, by none.
    said: Mutex<BTreeMap<Offset, MonotonicTime>>,
}

/// The damage that is known of a partition.
#[derive(Debug, Clone)]
pub struct DamageReport {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The places, in the order of offsets.
    pub places: Vec<Damage>,
    /// The damage of an index of aborted transactions, if any was met; never none where there are no places.
    pub index: Option<String>,
}

impl DamageReport {
    /// How many places are damaged.
    pub fn count(&self) -> usize {
        self.places.len() + usize::from(self.index.is_some())
    }
}

impl DamageNotes {
    /// Takes over how many places `log` knows.
    pub(crate) fn count<F: Files>(&self, log: &PartitionLog<F>) {
        let places = log.known_damage().count();
        self.places.store(places, Ordering::Relaxed);
    }

    fn index(&self) -> MutexGuard<'_, Option<(Offset, String)>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether damage is to be said again.
    fn is_due(&self, first_offset: Offset, now: MonotonicTime) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let last = said.get(&first_offset);
        if last.is_some_and(|last| now < last.after(INTERVAL)) {
            return false;
        }
        if said.len() >= MAX_SAID {
            said.clear();
        }
        said.insert(first_offset, now);
        true
    }
}

impl<F: Files, H: Host> Partition<F, H> {
    /// Remembers the damage that `error` is about, if it is about any, and says it now and then. `log` is still locked
    /// since it was met: compaction may put another segment in the place of this one.
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
                        "readers of committed records wait: {error}"
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
            "a client or a coordinator asked for what is damaged: {damage}"
        );
    }

    /// Counts the damage that its log, locked, knows.
    pub fn count_damage(&self, log: &PartitionLog<F>) {
        self.damage.count(log);
    }

    /// Whether damage is known. Of thousands of partitions the lock is not to be taken each time.
    pub fn is_damaged(&self) -> bool {
        self.damage.index().is_some() || self.damage.places.load(Ordering::Relaxed) > 0
    }

    /// What is known of its damage, if any is left: what was deleted degrades nothing, though its bytes stay with their
    /// segment. `log` is its log, locked.
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

    /// Logs what an opened log turned out to hold.
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

/// The command that takes damage out.
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
    use super::{DamageNotes, MAX_SAID};
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
        assert!(notes.said.lock().unwrap().len() <= MAX_SAID);
    }
}
