//! The steps of compaction that need the log's lock: deciding whether it is due, beginning a pass, replacing segments.
//! The pass itself is [`Compaction`].

use super::PartitionLog;
use crate::compaction::plan::{LogFacts, SegmentFacts};
use crate::compaction::{
    Beginning, Compaction, CompactionError, LastRecord, Outcome, Plan, Quarantined, Rewritten, plan,
};
use crate::directory::StorageError;
use crate::files::{FileError, Files};
use crate::position::LogPosition;
use crate::producer_state::ProducerEntry;
use crate::scan::Scan;
use ottla_protocol::ids::{Offset, ProducerId};
use ottla_protocol::time::Timestamp;
use std::sync::Arc;

impl<F: Files> PartitionLog<F> {
    /// The offset up to which the log is compacted, for `cleaner-offset-checkpoint`.
    pub fn compacted_to(&self) -> Option<Offset> {
        self.compaction.to
    }

    /// The batches that the last pass could not read.
    pub fn quarantine(&self) -> &[Quarantined] {
        &self.compaction.quarantine
    }

    pub fn plan_compaction(&mut self, now: Timestamp) -> Result<Plan, StorageError> {
        self.directory().ensure_online()?;
        let facts = self.compaction_facts()?;
        Ok(plan(&facts, &self.config, now))
    }

    /// Whether a closed segment ends after the recovery point on disk, so that compaction must wait for a checkpoint.
    pub fn compaction_needs_checkpoint(&self) -> bool {
        self.config.compact && self.flush.recovery_point_on_disk < self.active().base
    }

    fn compaction_facts(&mut self) -> Result<LogFacts, StorageError> {
        let active = self.active().base;
        let dirty_from = self.compaction.to.unwrap_or(self.log_start);
        let floor = self.segments.base_of(dirty_from);
        let closed: Vec<Offset> = self
            .segments
            .bases()
            .filter(|base| *base < active)
            .collect();
        let closed = closed
            .into_iter()
            .map(|base| self.segment_facts(base, base >= floor));
        let closed = closed.collect::<Result<_, _>>()?;
        Ok(LogFacts {
            log_start: self.log_start,
            log_end: self.segments.end(),
            last_stable: self.last_stable_offset(),
            recovery_point: self.flush.recovery_point_on_disk,
            compacted_to: self.compaction.to,
            active,
            closed,
        })
    }

    /// The facts of the segment at `base` for the plan. Its timestamps are read only if the segment is dirty and a
    /// setting needs them.
    fn segment_facts(
        &mut self,
        base: Offset,
        is_dirty: bool,
    ) -> Result<SegmentFacts, StorageError> {
        let config = &self.config;
        let asks_first = is_dirty && config.compact && config.max_compaction_lag.is_some();
        let asks_largest = is_dirty && config.compact && !config.min_compaction_lag.is_zero();
        let (segment, place) = self
            .segments
            .get_mut(base)
            .expect("a segment that was just listed");
        let mut facts = SegmentFacts {
            base,
            size: segment.size,
            index_bytes: segment.offset_index.bytes(),
            time_index_bytes: segment.time_index.bytes(),
            first_timestamp: Timestamp::NONE,
            largest_timestamp: Timestamp::NONE,
        };
        if asks_largest {
            let largest = segment.largest(place).map(Some);
            let largest = place.directory.judge(largest.or_else(absent))?;
            facts.largest_timestamp = largest.map_or(Timestamp::NONE, |largest| largest.timestamp);
        }
        if asks_first {
            let file = segment.file(place).map(Some).or_else(absent);
            let first = place.directory.judge(file)?.and_then(|file| {
                let mut scan = Scan::new(&*file, 0, segment.size);
                scan.next_header().ok().flatten()
            });
            facts.first_timestamp = first.map_or(Timestamp::NONE, |first| {
                Timestamp(first.header.max_timestamp)
            });
        }
        Ok(facts)
    }

    /// Begins a pass, if the log is still due: retention, a truncation or another pass may have changed it since the
    /// plan.
    pub fn begin_compaction(&mut self, now: Timestamp) -> Result<Compaction<F>, CompactionError> {
        self.directory().ensure_online()?;
        let facts = self.compaction_facts()?;
        let plan = plan(&facts, &self.config, now);
        if !plan.is_due() {
            return Err(CompactionError::NotDue);
        }
        let dirty = self.segments.get(self.segments.base_of(plan.first_dirty));
        let position = dirty.map_or(Ok(0), |segment| {
            segment.position_before(self.place(), plan.first_dirty)
        });
        let first_dirty_position = self.directory().judge(position)?;
        let to = plan.first_uncleanable;
        let first = facts.closed.first().map(|first| first.base);
        let from = first.filter(|first| *first < to).unwrap_or(to);
        let (flushed, log_end) = (self.flush.flushed, self.segments.end());
        let last_record = |(id, entry): (&ProducerId, &ProducerEntry)| {
            (*id, LastRecord::of(entry, flushed, log_end))
        };
        let beginning = Beginning {
            directory: Arc::clone(self.directory()),
            path: self.place().path.clone(),
            config: self.config.clone(),
            closed: facts.closed,
            plan,
            first_dirty_position,
            aborted: self.aborted_transactions(from, to)?,
            last_records: self.producers.producers().iter().map(last_record).collect(),
            cuts: self.flush.cuts,
        };
        Ok(Compaction::begin(beginning, now))
    }

    /// Replaces the sources of `rewritten` by it, unless they have changed. The caller then calls
    /// [`Compaction::sync_names`] without the lock.
    pub fn replace_segments(&mut self, rewritten: Rewritten<F>) -> Result<(), CompactionError> {
        self.directory().ensure_online()?;
        if !rewritten.is_current(&self.segments, self.flush.cuts) {
            rewritten.discard(&self.segments);
            return Err(CompactionError::Changed);
        }
        for source in rewritten.sources() {
            self.flush.unsynced.remove(&source);
        }
        let is_old = |position: LogPosition| rewritten.replaces(position.segment);
        let moves_high_watermark = is_old(self.high_watermark);
        let moves_unstable = self.first_unstable.is_some_and(is_old);
        rewritten.replace_in(&mut self.segments)?;
        self.flush.has_new_names = true;
        if moves_high_watermark {
            self.high_watermark = self.segments.position_of(self.high_watermark.offset)?;
        }
        if moves_unstable {
            self.first_unstable = None;
            self.update_first_unstable()?;
        }
        self.assert_invariants();
        Ok(())
    }

    /// Records the outcome of a pass.
    pub fn complete_compaction(&mut self, outcome: &Outcome) {
        if outcome.cuts == self.flush.cuts {
            self.compaction.to = Some(outcome.end);
            self.compaction.quarantine.clone_from(&outcome.quarantine);
        }
    }
}

/// Ignores a missing file: the pass will meet it and treat it like damage of this log.
fn absent<T>(error: FileError) -> Result<Option<T>, FileError> {
    if error.is_not_found() {
        Ok(None)
    } else {
        Err(error)
    }
}
