//! What compaction asks of a log, under the log's lock: whether it is due, what a pass begins with, and a segment put in the
//! place of its sources. The pass itself is [`Compaction`].

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

    /// What compaction could not read when it last ran.
    pub fn quarantine(&self) -> &[Quarantined] {
        &self.compaction.quarantine
    }

    /// Decides whether the log is due for compaction.
    pub fn plan_compaction(&mut self, now: Timestamp) -> Result<Plan, StorageError> {
        self.directory().ensure_online()?;
        let facts = self.compaction_facts()?;
        Ok(plan(&facts, &self.config, now))
    }

    /// Whether a closed segment lies behind the recovery point that is on disk: compaction must wait for it.
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

    /// What the plan must know of the segment at `base`. Its times are looked up only where it is dirty and a setting asks
    /// for them.
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

    /// Begins a pass, if the log is due now: retention, a truncation or another pass may have gone over it since it was
    /// planned.
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
            aborted: self.segments.aborted_transactions(from, to)?,
            last_records: self.producers.producers().iter().map(last_record).collect(),
            cuts: self.flush.cuts,
        };
        Ok(Compaction::begin(beginning, now))
    }

    /// Puts `rewritten` in the place of its sources, unless these have changed. The directory is to be synced next,
    /// outside of the lock: [`Compaction::sync_names`].
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

    /// Records that a pass has ended.
    pub fn complete_compaction(&mut self, outcome: &Outcome) {
        if outcome.cuts == self.flush.cuts {
            self.compaction.to = Some(outcome.end);
            self.compaction.quarantine.clone_from(&outcome.quarantine);
        }
    }
}

/// A missing file is found by the pass, like damage, and is the trouble of this log alone.
fn absent<T>(error: FileError) -> Result<Option<T>, FileError> {
    if error.is_not_found() {
        Ok(None)
    } else {
        Err(error)
    }
}
