//! Shortens a log: at its end by a truncation, at its start by DeleteRecords and retention.
//!
//! Files are removed at once; a running read holds them open (assumption 9 of `docs/formats.md`). The log start offset
//! moves first, so a crash in between leaves too many segments, never a gap.

use super::PartitionLog;
use crate::damage::UNBOUNDED;
use crate::directory::StorageError;
use crate::files::{File, Files};
use crate::format::FileKind;
use crate::look::Look;
use crate::planted::{Bug, is_planted};
use crate::producer_state::ProducerState;
use crate::recovery::LoadProducers;
use crate::segment::Sought;
use ottla_protocol::ids::Offset;
use ottla_protocol::time::Timestamp;

/// Why records cannot be deleted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TrimError {
    /// Only records below the high watermark can be deleted.
    #[error("records before {offset} cannot be deleted: the high watermark is {high_watermark}")]
    BeyondHighWatermark {
        offset: Offset,
        high_watermark: Offset,
    },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    pub segments: usize,
    /// The bytes of these segments.
    pub bytes: u64,
}

impl<F: Files> PartitionLog<F> {
    /// Deletes the records before `offset`; `None` stands for the high watermark. Returns the new log start offset.
    pub fn delete_records(
        &mut self,
        offset: Option<Offset>,
        now: Timestamp,
    ) -> Result<Offset, TrimError> {
        self.directory().ensure_online()?;
        let high_watermark = self.high_watermark.offset;
        let offset = offset.unwrap_or(high_watermark);
        if offset > high_watermark {
            return Err(TrimError::BeyondHighWatermark {
                offset,
                high_watermark,
            });
        }
        self.advance_log_start(offset)?;
        self.remove_before_log_start(now)?;
        Ok(self.log_start)
    }

    /// Raises the log start offset. The next retention removes the segments before it.
    pub fn advance_log_start(&mut self, offset: Offset) -> Result<(), StorageError> {
        if offset <= self.log_start {
            return Ok(());
        }
        // The last stable offset must not stay below the log start offset. Its new position is looked up first: where the
        // file cannot be opened now, nothing has changed.
        if self
            .first_unstable
            .is_some_and(|first| first.offset < offset)
        {
            self.first_unstable = Some(self.segments.position_of(offset)?);
        }
        self.log_start = offset;
        self.leader_epochs.truncate_from_start(offset);
        self.producers.on_log_start(offset);
        self.update_first_unstable()
    }

    fn remove_before_log_start(&mut self, now: Timestamp) -> Result<Removed, StorageError> {
        let bases: Vec<Offset> = self.segments.bases().collect();
        let unneeded = bases
            .windows(2)
            .take_while(|pair| pair.last().is_some_and(|next| *next <= self.log_start));
        self.remove_first(unneeded.count(), now)
    }

    /// Removes the segments that the configured retention no longer keeps: only whole ones, below the high watermark.
    pub fn apply_retention(&mut self, now: Timestamp) -> Result<Removed, StorageError> {
        self.directory().ensure_online()?;
        let mut removed = self.remove_before_log_start(now)?;
        let (active, place) = self.segments.active_mut();
        let given_back = active.give_back_idle(place, now);
        place.directory.judge(given_back)?;
        if self.config.delete {
            let by_size = self.breaching_size();
            removed.add(self.remove_first(by_size, now)?);
            let by_age = self.breaching_age(now)?;
            removed.add(self.remove_first(by_age, now)?);
        }
        Ok(removed)
    }

    /// How many segments at the start are below the high watermark; an empty active segment does not count.
    fn removable(&self) -> usize {
        let ends = self.segments.bases().skip(1).chain([self.segments.end()]);
        let below = ends
            .take_while(|end| *end <= self.high_watermark.offset)
            .count();
        if self.active().size == 0 {
            below.min(self.segments.len() - 1)
        } else {
            below
        }
    }

    fn breaching_size(&self) -> usize {
        let Some(kept) = self.config.retention_bytes else {
            return 0;
        };
        let Some(mut surplus) = self.size().checked_sub(kept) else {
            return 0;
        };
        let sizes = self
            .segments
            .iter()
            .take(self.removable())
            .map(|segment| segment.size);
        sizes
            .take_while(|size| {
                surplus.checked_sub(*size).is_some_and(|left| {
                    surplus = left;
                    true
                })
            })
            .count()
    }

    fn breaching_age(&mut self, now: Timestamp) -> Result<usize, StorageError> {
        let Some(kept) = self.config.retention else {
            return Ok(0);
        };
        let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        let removable = self.removable();
        let bases: Vec<Offset> = self.segments.bases().take(removable).collect();
        for (count, base) in bases.into_iter().enumerate() {
            let age_from = self.age_from(base, now)?;
            if now.0.saturating_sub(age_from.0) <= kept {
                return Ok(count);
            }
        }
        Ok(removable)
    }

    /// The time from which the age of the segment at `base` counts: its largest timestamp, or, if it has none, the time
    /// of the last write to its file.
    fn age_from(&mut self, base: Offset, now: Timestamp) -> Result<Timestamp, StorageError> {
        let largest = self.segments.largest_timestamp(base)?;
        if largest.0 >= 0 {
            return Ok(largest);
        }
        let directory = self.directory();
        let path = self.place().path_of(FileKind::Log, base);
        let status = directory.judge(directory.files().status(&path))?;
        Ok(status.map_or(now, |status| Timestamp(status.modified_ms)))
    }

    fn remove_first(&mut self, count: usize, now: Timestamp) -> Result<Removed, StorageError> {
        if count == 0 {
            return Ok(Removed::default());
        }
        if count == self.segments.len() {
            self.roll_at(self.segments.end(), now)?;
        }
        let Some(new_start) = self.segments.bases().nth(count) else {
            return Ok(Removed::default());
        };
        self.advance_log_start(new_start)?;
        let mut removed = Removed::default();
        while let Some(base) = self.segments.first_base().filter(|base| *base < new_start) {
            let bytes = self.segments.get(base).map_or(0, |segment| segment.size);
            removed.add(Removed { segments: 1, bytes });
            self.remove_segment(base)?;
        }
        self.flush.has_new_names = true;
        Ok(removed)
    }

    fn remove_segment(&mut self, base: Offset) -> Result<(), StorageError> {
        self.flush.unsynced.remove(&base);
        self.segments.remove(base)
    }

    /// Removes the records from `offset` on; returns whether there were any.
    ///
    /// The caller must then write the checkpoints of recovery points and log start offsets, which must not be after the
    /// new end. A start takes torn bytes before a recovery point for damage and keeps them, and it empties a log that
    /// ends before its log start offset.
    pub fn truncate_to(&mut self, offset: Offset, now: Timestamp) -> Result<bool, StorageError> {
        self.directory().ensure_online()?;
        if offset >= self.segments.end() {
            // An epoch that has begun and has no record may be one that the leader does not have.
            if self.leader_epochs.truncate_from_end(offset) {
                self.write_leader_epochs()?;
            }
            return Ok(false);
        }
        if self.segments.first_base().is_some_and(|base| base > offset) {
            self.truncate_fully(offset, now)?;
            return Ok(true);
        }
        let mut has_removed = false;
        while self.active().base >= offset && self.segments.len() > 1 {
            self.remove_segment(self.active().base)?;
            has_removed = true;
        }
        if has_removed {
            // After a crash, a removed segment must not come back behind a truncated one: assumption 7.
            let directory = self.directory();
            directory.judge(directory.files().sync_directory(self.path()))?;
        }
        self.truncate_active(offset, now)?;
        let end = self.segments.end();
        self.flush.cut_to(end);
        self.compaction.cut_to(end);
        self.log_start = self.log_start.min(end);
        self.leader_epochs.truncate_from_end(end);
        self.write_leader_epochs()?;
        self.rebuild_producers(now)?;
        let high_watermark = self.high_watermark.offset.min(end);
        self.set_high_watermark(high_watermark)?;
        // The truncation must be durable before the next append: assumption 5.
        self.sync_all()?;
        Ok(true)
    }

    fn truncate_active(&mut self, offset: Offset, now: Timestamp) -> Result<(), StorageError> {
        let (end, log_start) = (self.segments.end(), self.log_start);
        let (segment, place) = self.segments.active_mut();
        // A batch that holds the offset is removed as a whole, and so is damage.
        let short = i64::from(is_planted(Bug::TruncationOneBatchShort));
        let found = segment.find(place, &Look::Waiting, offset.plus(short), end);
        let cut = match place.directory.judge(found)? {
            Sought::Batch(located) => Some((located.header.base_offset(), located.position)),
            Sought::Damage(damage) => Some((damage.first_offset, damage.position)),
            Sought::Beyond => None,
        };
        if let Some((from, position)) = cut {
            let truncated = segment.truncate(place, from, position, log_start);
            place.directory.judge(truncated)?;
        }
        let ended = place.directory.judge(segment.end(place))?;
        // Damage that stays keeps its offsets, and a segment that ends in damage takes no appends.
        let damaged = ended.damage.last();
        let damaged = damaged.map(|damage| damage.ending_at(offset).next_offset);
        let end = ended.next.max(damaged.unwrap_or(ended.next));
        self.segments.set_end(end);
        if end > ended.next {
            let (segment, place) = self.segments.active_mut();
            place.directory.judge(segment.close(place))?;
        } else {
            self.segments
                .activate_last(now, self.config.segment_jitter)?;
        }
        self.segments.forget_beyond_end();
        Ok(())
    }

    /// Removes all records; the next record will have `offset`.
    pub fn truncate_fully(&mut self, offset: Offset, now: Timestamp) -> Result<(), StorageError> {
        self.restart_at(offset, now)?;
        self.sync_all()
    }

    fn restart_at(&mut self, offset: Offset, now: Timestamp) -> Result<(), StorageError> {
        self.segments
            .restart_at(offset, now, self.config.segment_jitter)?;
        self.log_start = offset;
        self.flush.restart_at(offset);
        self.compaction.cut_to(offset);
        self.producers = ProducerState::empty(offset);
        self.leader_epochs.clear();
        self.write_leader_epochs()?;
        self.set_high_watermark(offset)
    }

    fn rebuild_producers(&mut self, now: Timestamp) -> Result<(), StorageError> {
        let behind_end = self.segments.end().plus(1);
        let snapshots = self.segments.snapshots().range(behind_end..);
        for offset in snapshots.copied().collect::<Vec<_>>() {
            self.segments.remove_snapshot(offset)?;
        }
        let from = LoadProducers {
            log_start: self.log_start,
            recovery_point: UNBOUNDED,
            expiration: self.config.producer_id_expiration,
            now,
        };
        from.load(&mut self.segments, &mut self.producers)?;
        self.first_unstable = None;
        Ok(())
    }

    fn sync_all(&mut self) -> Result<(), StorageError> {
        let directory = self.directory();
        let file = self.active().file(self.place());
        directory.judge(file.and_then(|file| file.sync_data()))?;
        directory.judge(directory.files().sync_directory(self.path()))?;
        self.flush.has_new_names = false;
        Ok(())
    }
}

impl Removed {
    fn add(&mut self, more: Self) {
        self.segments += more.segments;
        self.bytes += more.bytes;
    }
}
