//! Making a log shorter: from its end when a leader says so, from its start by DeleteRecords and retention.
//!
//! Files are removed at once; whoever still reads them holds them open. The log start offset moves first, so that a
//! crash in between leaves segments too many, never a gap.

use super::PartitionLog;
use crate::directory::StorageError;
use crate::files::Files;
use crate::format::FileKind;
use crate::planted::{Bug, is_planted};
use crate::producer_state::ProducerState;
use crate::recovery;
use crate::segment::{Segment, Sought};
use ottla_protocol::ids::Offset;
use ottla_protocol::time::Timestamp;

/// Why records cannot be deleted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TrimError {
    /// Only what consumers may read can be deleted.
    #[error("records before {offset} cannot be deleted: the high watermark is {high_watermark}")]
    BeyondHighWatermark {
        /// The offset asked for.
        offset: Offset,
        /// The high watermark.
        high_watermark: Offset,
    },
    /// The disk cannot.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What retention has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// The number of segments.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl<F: Files> PartitionLog<F> {
    /// Deletes the records before `offset`, or all that consumers may read for `None`; returns the log start offset.
    pub fn delete_records(
        &mut self,
        offset: Option<Offset>,
        now: Timestamp,
    ) -> Result<Offset, TrimError> {
        self.place.directory.ensure_online()?;
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

    /// Moves the log start offset up; the segments before it go with the next retention.
    pub fn advance_log_start(&mut self, offset: Offset) -> Result<(), StorageError> {
        if offset <= self.log_start {
            return Ok(());
        }
        self.log_start = offset;
        self.leader_epochs.truncate_from_start(offset);
        self.producers.on_log_start(offset);
        self.update_first_unstable()
    }

    fn remove_before_log_start(&mut self, now: Timestamp) -> Result<Removed, StorageError> {
        let bases: Vec<Offset> = self.segments.keys().copied().collect();
        let unneeded = bases
            .windows(2)
            .take_while(|pair| pair.last().is_some_and(|next| *next <= self.log_start));
        self.remove_first(unneeded.count(), now)
    }

    /// Removes what the configured retention no longer keeps. Only whole segments below the high watermark go.
    pub fn apply_retention(&mut self, now: Timestamp) -> Result<Removed, StorageError> {
        self.place.directory.ensure_online()?;
        let mut removed = self.remove_before_log_start(now)?;
        let Self {
            segments, place, ..
        } = self;
        if let Some(mut active) = segments.last_entry() {
            let given_back = active.get_mut().give_back_idle(place, now);
            place.directory.judge(given_back)?;
        }
        if self.config.delete {
            let by_size = self.breaching_size();
            removed.add(self.remove_first(by_size, now)?);
            let by_age = self.breaching_age(now)?;
            removed.add(self.remove_first(by_age, now)?);
        }
        Ok(removed)
    }

    /// How many segments from the start are below the high watermark and not the empty last one.
    fn removable(&self) -> usize {
        let ends = self.segments.keys().skip(1).copied().chain([self.next]);
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
            .values()
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
        let Self {
            segments, place, ..
        } = self;
        for (count, segment) in segments.values_mut().enumerate() {
            let largest = segment.largest(place);
            let largest = place.directory.judge(largest)?.timestamp;
            let age_from = if largest.0 >= 0 {
                largest.0
            } else {
                let path = place.path_of(FileKind::Log, segment.base);
                let status = place
                    .directory
                    .judge(place.directory.files().status(&path))?;
                status.map_or(now.0, |status| status.modified_ms)
            };
            if count >= removable || now.0.saturating_sub(age_from) <= kept {
                return Ok(count);
            }
        }
        Ok(removable)
    }

    fn remove_first(&mut self, count: usize, now: Timestamp) -> Result<Removed, StorageError> {
        if count == 0 {
            return Ok(Removed::default());
        }
        if count == self.segments.len() {
            self.roll_at(self.next, now)?;
        }
        let Some(new_start) = self.segments.keys().nth(count).copied() else {
            return Ok(Removed::default());
        };
        self.advance_log_start(new_start)?;
        let mut removed = Removed::default();
        while self
            .segments
            .first_key_value()
            .is_some_and(|(base, _)| *base < new_start)
        {
            let Some((base, segment)) = self.segments.pop_first() else {
                break;
            };
            removed.add(Removed {
                segments: 1,
                bytes: segment.size,
            });
            self.remove_files(base)?;
        }
        self.flush.has_new_names = true;
        Ok(removed)
    }

    /// Removes the files named by `base`, the batches first: what lacks its batches is litter, but batches that came back
    /// by a crash without their transaction index would show what was aborted.
    pub(crate) fn remove_files(&mut self, base: Offset) -> Result<(), StorageError> {
        self.with_aborted.remove(&base);
        self.waiting_aborted.remove(&base);
        self.snapshots.remove(&base);
        self.flush.unsynced.remove(&base);
        self.damage.forget(base);
        for kind in FileKind::ALL {
            let path = self.place.path_of(kind, base);
            self.place.directory.forget(&path);
            match self.place.directory.files().remove(&path) {
                Err(error) if error.is_not_found() => {}
                outcome => self.place.directory.judge(outcome)?,
            }
        }
        Ok(())
    }

    /// Cuts off the records from `offset` on; says whether there were any. The checkpoints of recovery points and of log
    /// starts must not stay beyond the new end, nor beyond the end of a log that a start finds shorter: what is torn
    /// before a recovery point is taken for damage, and stays; a log that ends before its start begins anew there.
    pub fn truncate_to(&mut self, offset: Offset, now: Timestamp) -> Result<bool, StorageError> {
        self.place.directory.ensure_online()?;
        if offset >= self.next {
            return Ok(false);
        }
        if self
            .segments
            .first_key_value()
            .is_some_and(|(base, _)| *base > offset)
        {
            self.truncate_fully(offset, now)?;
            return Ok(true);
        }
        let mut has_removed = false;
        while self.active().base >= offset && self.segments.len() > 1 {
            let Some((base, _)) = self.segments.pop_last() else {
                break;
            };
            self.remove_files(base)?;
            has_removed = true;
        }
        if has_removed {
            // A segment that came back by a crash must not follow one that was cut.
            let directory = &self.place.directory;
            directory.judge_sync(directory.files().sync_directory(&self.place.path))?;
        }
        self.truncate_active(offset, now)?;
        self.flush.cut_to(self.next);
        self.compaction.cut_to(self.next);
        self.log_start = self.log_start.min(self.next);
        self.leader_epochs.truncate_from_end(self.next);
        self.write_leader_epochs()?;
        self.rebuild_producers(now)?;
        let high_watermark = self.high_watermark.offset.min(self.next);
        self.set_high_watermark(high_watermark)?;
        // A shorter log is only safe to extend when the cut is durable.
        self.sync_all()?;
        Ok(true)
    }

    fn truncate_active(&mut self, offset: Offset, now: Timestamp) -> Result<(), StorageError> {
        let Self {
            segments,
            place,
            config,
            ..
        } = self;
        let mut entry = segments
            .last_entry()
            .expect("a log always has an active segment");
        let segment = entry.get_mut();
        // A batch that holds the offset goes as a whole, and so does damage.
        let short = i64::from(is_planted(Bug::TruncationOneBatchShort));
        let found = segment.find(place, offset.plus(short), self.next);
        let cut = match place.directory.judge(found)? {
            Sought::Batch(located) => Some((located.header.base_offset(), located.position)),
            Sought::Damage(damage) => Some((damage.first_offset, damage.position)),
            Sought::Beyond => None,
        };
        if let Some((from, position)) = cut {
            let truncated = segment.truncate(place, from, position);
            place.directory.judge(truncated)?;
        }
        let base = segment.base;
        let jitter = super::jitter(config.segment_jitter, &place.path, segment.base);
        let ended = place.directory.judge(segment.end(place))?;
        // Damage that stays keeps its offsets, and what it ends is not appended to.
        let damaged = ended.damage.last();
        let damaged = damaged.map(|damage| damage.ending_at(offset).next_offset);
        self.next = ended.next.max(damaged.unwrap_or(ended.next));
        let settled = if self.next > ended.next {
            segment.close(place)
        } else {
            segment.activate(place, now, jitter)
        };
        place.directory.judge(settled)?;
        self.damage.cut_to(self.next);
        self.cut_aborted(base);
        Ok(())
    }

    /// Removes everything; the next record will have `offset`.
    pub fn truncate_fully(&mut self, offset: Offset, now: Timestamp) -> Result<(), StorageError> {
        self.restart_at(offset, now)?;
        self.sync_all()
    }

    /// As [`PartitionLog::truncate_fully`], but not durable yet.
    pub(crate) fn restart_at(
        &mut self,
        offset: Offset,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let bases: Vec<Offset> = self.segments.keys().copied().collect();
        for base in bases.into_iter().chain(self.snapshots.clone()) {
            self.segments.remove(&base);
            self.remove_files(base)?;
        }
        let jitter = super::jitter(self.config.segment_jitter, &self.place.path, offset);
        let segment =
            self.place
                .directory
                .judge(Segment::create(&self.place, offset, now, jitter))?;
        self.segments.insert(offset, segment);
        self.log_start = offset;
        self.next = offset;
        self.flush.restart_at(offset);
        self.compaction.cut_to(offset);
        self.producers = ProducerState::empty(offset);
        self.leader_epochs.clear();
        self.write_leader_epochs()?;
        self.set_high_watermark(offset)
    }

    fn rebuild_producers(&mut self, now: Timestamp) -> Result<(), StorageError> {
        let beyond: Vec<Offset> = self.snapshots.range(self.next.plus(1)..).copied().collect();
        for offset in beyond {
            self.remove_snapshot(offset)?;
        }
        recovery::load_producers(self, now)
    }

    fn sync_all(&mut self) -> Result<(), StorageError> {
        let directory = self.place.directory.clone();
        let synced = self
            .active()
            .file(&self.place)
            .and_then(|file| crate::files::File::sync_data(&*file));
        directory.judge(synced)?;
        directory.judge(directory.files().sync_directory(&self.place.path))?;
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
