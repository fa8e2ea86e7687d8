//! Reads batches. Under the lock it decides what to read, from memory and a few positioned reads. The resulting
//! [`ReadPlan`] is read without the lock, or sent by the kernel.
//!
//! A plan begins at a batch and ends at the bound or after `max_bytes`. So it may end within a batch, as in Kafka:
//! clients ignore such an end, and [`ReadPlan::read`] leaves it out.

use super::PartitionLog;
use crate::batch::{RecordTooLarge, first_record_at};
use crate::directory::{LogDirectory, StorageError};
use crate::files::{File, FileError, Files, Operation};
use crate::format::{AbortedTransaction, FileKind};
use crate::look::{Look, Missing};
use crate::position::LogPosition;
use crate::scan::Located;
use crate::segment::{Segment, Sought};
use bytes::Bytes;
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::{BatchView, split_batches};
use ottla_protocol::time::Timestamp;
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// What to read.
#[derive(Debug, Clone, Copy)]
pub struct ReadRequest {
    /// The offset of the first record wanted.
    pub offset: Offset,
    /// Upper bound of the bytes to read.
    pub max_bytes: usize,
    pub first_batch: FirstBatch,
    /// The offset at which the read ends.
    pub bound: Bound,
}

/// Whether the first batch may be larger than `max_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstBatch {
    /// It is read whatever its size, so that a reader always makes progress.
    MayExceed,
    /// Nothing is read if it is larger.
    MustFit,
}

/// The offset below which a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The end of the log, for followers.
    LogEnd,
    /// The high watermark, for consumers with `isolation.level=read_uncommitted`.
    HighWatermark,
    /// The last stable offset, for consumers with `isolation.level=read_committed`.
    LastStableOffset,
}

/// Why a search by time has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TimeQueryError {
    /// The search met a record that is larger than `max.decompressed.message.bytes`.
    #[error(transparent)]
    RecordTooLarge(#[from] RecordTooLarge),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    #[error("offset {offset} is outside of the log, which is from {log_start} to {log_end}")]
    OutOfRange {
        offset: Offset,
        log_start: Offset,
        log_end: Offset,
    },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The bytes to read: a file, a position and a length.
#[derive(Debug)]
pub struct ReadPlan<F: Files> {
    directory: Arc<LogDirectory<F>>,
    file: Option<Arc<F::File>>,
    /// The position of the first batch in the file.
    pub position: u64,
    /// The number of bytes; 0 if there is nothing to read.
    pub length: usize,
    /// The size of the first batch; larger than `length` if it did not fit.
    pub first_batch_size: usize,
    /// Where the records of the file end that never change: those below the high watermark.
    pub committed_end: u64,
    /// The aborted transactions in these bytes, for a read to the last stable offset.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// What must be in the page cache before anything can be planned, see [`PartitionLog::read_cached`].
    pub missing: Option<Missing<F::File>>,
}

impl<F: Files> ReadPlan<F> {
    /// The file, to be sent by the kernel; `None` if there is nothing to read.
    pub fn file(&self) -> Option<&Arc<F::File>> {
        self.file.as_ref()
    }

    /// The log directory that the file lies in.
    pub fn directory(&self) -> &Arc<LogDirectory<F>> {
        &self.directory
    }

    /// Judges an error of sending the file as an error of reading it: see [`LogDirectory::judge`].
    pub fn failed(&self, source: std::io::Error) -> StorageError {
        let path = self.directory.path();
        let error = FileError::new(Operation::Read, path, source);
        self.directory.failed(error)
    }

    /// Reads the bytes to the end of `buffer`, whole batches only; returns how many.
    pub fn read(&self, buffer: &mut Vec<u8>) -> Result<usize, StorageError> {
        let start = buffer.len();
        buffer.resize(start + self.length, 0);
        let whole = self.read_into(buffer.get_mut(start..).unwrap_or_default())?;
        buffer.truncate(start + whole);
        Ok(whole)
    }

    /// Reads whole batches into the front of `buffer`, which has room for `length` bytes; returns the number of bytes.
    pub fn read_into(&self, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let Some(file) = &self.file else { return Ok(0) };
        let wanted = buffer.get_mut(..self.length).unwrap_or_default();
        let read = self.directory.judge(file.read_at(wanted, self.position))?;
        Ok(whole_batches(wanted.get(..read).unwrap_or_default()))
    }

    /// As [`Self::read_into`], but from `parts`, the bytes of this plan.
    pub fn fill(&self, buffer: &mut [u8], parts: &[Bytes]) -> usize {
        let mut filled = 0;
        for part in parts {
            let rest = buffer.get_mut(filled..).unwrap_or_default();
            let Some(front) = rest.get_mut(..part.len()) else {
                break;
            };
            front.copy_from_slice(part);
            filled += part.len();
        }
        whole_batches(buffer.get(..filled).unwrap_or_default())
    }

    /// As [`Self::read_into`], but returns `None` where it would wait for the disk.
    pub fn read_cached_into(&self, buffer: &mut [u8]) -> Result<Option<usize>, StorageError> {
        let Some(file) = &self.file else {
            return Ok(Some(0));
        };
        let wanted = buffer.get_mut(..self.length).unwrap_or_default();
        let read = file.read_cached_at(wanted, self.position);
        let read = self.directory.judge(read)?;
        Ok(read.map(|read| whole_batches(wanted.get(..read).unwrap_or_default())))
    }
}

/// The length of the whole batches at the start of `bytes`.
fn whole_batches(bytes: &[u8]) -> usize {
    let batches = split_batches(bytes).map_while(Result::ok);
    batches.map(|batch| batch.size()).sum()
}

/// A query by time, of ListOffsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeQuery {
    Earliest,
    /// The end of the log, as far as the bound allows.
    Latest(Bound),
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// The first record with this timestamp or a later one.
    At(Timestamp),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetAtTime {
    pub offset: Offset,
    /// The record's timestamp; -1 for `Earliest` and `Latest`.
    pub timestamp: Timestamp,
    /// The epoch of the leader that appended it.
    pub leader_epoch: Option<LeaderEpoch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passing {
    /// It stops at damage, which may hold the record.
    Never,
    /// It continues after damage, because a record is known to exist. The first damage is the answer if no record is
    /// found.
    Remembered,
}

impl<F: Files> PartitionLog<F> {
    pub fn bound(&self, bound: Bound) -> Offset {
        self.bound_position(bound).offset
    }

    fn bound_position(&self, bound: Bound) -> LogPosition {
        match bound {
            Bound::LogEnd => self.log_end(),
            Bound::HighWatermark => self.high_watermark,
            Bound::LastStableOffset => self.last_stable(),
        }
    }

    pub fn read(&self, request: &ReadRequest) -> Result<ReadPlan<F>, ReadError> {
        let planned = self.plan(request, &Look::Waiting)?;
        Ok(planned.expect("a look that waits for the disk misses nothing"))
    }

    /// As [`Self::read`], without waiting for the disk: where indexes and heads are not in the page cache, nothing is
    /// planned, and the plan names what is missing.
    pub fn read_cached(&self, request: &ReadRequest) -> Result<ReadPlan<F>, ReadError> {
        let look = Look::cached();
        if let Some(plan) = self.plan(request, &look)? {
            return Ok(plan);
        }
        let mut plan = self.nothing_to_read(request.bound);
        plan.missing = look.into_missing();
        Ok(plan)
    }

    /// The plan; nothing where the look has missed something.
    fn plan(
        &self,
        request: &ReadRequest,
        look: &Look<F::File>,
    ) -> Result<Option<ReadPlan<F>>, ReadError> {
        let ReadRequest { offset, bound, .. } = *request;
        self.directory().ensure_online()?;
        if offset < self.log_start || offset > self.segments.end() {
            let (log_start, log_end) = (self.log_start, self.segments.end());
            return Err(ReadError::OutOfRange {
                offset,
                log_start,
                log_end,
            });
        }
        let end = self.bound_position(bound);
        let mut plan = self.nothing_to_read(bound);
        if offset >= end.offset {
            return Ok(Some(plan));
        }
        if let Some(damage) = self.segments.damage().covering(offset) {
            return Err(self.damaged(*damage).into());
        }
        let first = self.segments.base_of(offset);
        let segments = self.segments.from(first);
        for segment in segments.take_while(|segment| segment.base <= end.segment) {
            let found = self.find_in(segment, look, offset);
            let found = match self.directory().judge_look(look, found)? {
                Some(Sought::Batch(located)) => located,
                Some(Sought::Damage(damage)) => return Err(self.damaged(damage).into()),
                Some(Sought::Beyond) => continue,
                None => return Ok(None),
            };
            let limit = if segment.base == end.segment {
                end.position
            } else {
                segment.size
            };
            let damaged = self
                .segments
                .damage()
                .position_behind(segment.base, found.position);
            let limit = limit.min(damaged.unwrap_or(limit));
            let available =
                usize::try_from(limit.saturating_sub(found.position)).unwrap_or(usize::MAX);
            plan.first_batch_size = found.size;
            let wanted = match request.first_batch {
                FirstBatch::MayExceed => request.max_bytes.max(found.size),
                FirstBatch::MustFit => request.max_bytes,
            };
            if wanted >= found.size {
                plan.length = wanted.min(available);
            }
            if plan.length > 0 {
                plan.position = found.position;
                plan.file = Some(self.directory().judge(segment.file(self.place()))?);
                plan.committed_end = self.committed_end(segment);
            }
            if plan.length > 0 && plan.aborted.is_some() {
                plan.aborted = self.aborted_of(&plan, look, segment, offset..end.offset)?;
                return Ok(plan.aborted.is_some().then_some(plan));
            }
            return Ok(Some(plan));
        }
        Ok(Some(plan))
    }

    /// The batch that holds `offset`, or the damage there: a batch that is known to be damaged does not count.
    fn find_in(
        &self,
        segment: &Segment<F>,
        look: &Look<F::File>,
        offset: Offset,
    ) -> Result<Sought, FileError> {
        let bound = self.segments.bound_of(segment.base);
        match segment.find(self.place(), look, offset, bound)? {
            Sought::Batch(located)
                if self.segments.damage().is_at(segment.base, located.position) =>
            {
                segment.find_by_checksums(self.place(), offset, bound)
            }
            found => Ok(found),
        }
    }

    fn committed_end(&self, segment: &Segment<F>) -> u64 {
        let committed = self.high_watermark;
        match segment.base.cmp(&committed.segment) {
            Ordering::Less => segment.size,
            Ordering::Equal => committed.position,
            Ordering::Greater => 0,
        }
    }

    fn nothing_to_read(&self, bound: Bound) -> ReadPlan<F> {
        let aborted = (bound == Bound::LastStableOffset).then(Vec::new);
        let directory = Arc::clone(self.directory());
        ReadPlan {
            directory,
            file: None,
            position: 0,
            length: 0,
            first_batch_size: 0,
            committed_end: 0,
            aborted,
            missing: None,
        }
    }

    /// The aborted transactions that a reader of the planned bytes must know; nothing where the look has missed something.
    fn aborted_of(
        &self,
        plan: &ReadPlan<F>,
        look: &Look<F::File>,
        segment: &Segment<F>,
        offsets: Range<Offset>,
    ) -> Result<Option<Vec<AbortedTransaction>>, StorageError> {
        if !self.segments.has_aborted_since(segment.base) {
            return Ok(Some(Vec::new()));
        }
        let after = plan.position + plan.length as u64;
        let source = || {
            let file = self.place().open(FileKind::OffsetIndex, segment.base)?;
            Ok(look.at(file))
        };
        let index = &segment.offset_index;
        let before =
            index.partition_point(&source, |entry| i64::from(entry.position) < after as i64);
        let next = before.and_then(|count| index.entry(count, &source));
        let Some(within) = self.directory().judge_look(look, next)? else {
            return Ok(None);
        };
        let of_next_segment = || self.segments.next_base(segment.base.plus(1));
        let upper = within
            .map(|entry| segment.base.plus(i64::from(entry.relative_offset)))
            .or_else(of_next_segment);
        let offsets = offsets.start..upper.unwrap_or(offsets.end);
        self.segments.aborted_transactions(look, offsets)
    }

    /// Answers a query by time; `None` if there is no such record.
    pub fn offset_at(&mut self, query: TimeQuery) -> Result<Option<OffsetAtTime>, TimeQueryError> {
        self.directory().ensure_online()?;
        let timestamp = Timestamp::NONE;
        match query {
            TimeQuery::Earliest => {
                let offset = self.log_start;
                let first = self
                    .leader_epochs
                    .entries()
                    .next()
                    .filter(|(_, start)| *start <= offset);
                Ok(Some(OffsetAtTime {
                    offset,
                    timestamp,
                    leader_epoch: first.map(|(epoch, _)| epoch),
                }))
            }
            TimeQuery::Latest(bound) => {
                let offset = self.bound(bound);
                Ok(Some(OffsetAtTime {
                    offset,
                    timestamp,
                    leader_epoch: self.leader_epochs.latest(),
                }))
            }
            TimeQuery::MaxTimestamp => self.offset_of_max_timestamp(),
            TimeQuery::At(timestamp) => self.first_in(Offset(0), timestamp, Passing::Never),
        }
    }

    fn offset_of_max_timestamp(&mut self) -> Result<Option<OffsetAtTime>, TimeQueryError> {
        let mut largest = (Timestamp::NONE, None);
        let mut lowest = Offset(0);
        while let Some(base) = self.segments.next_base(lowest) {
            lowest = base.plus(1);
            let timestamp = self.segments.largest_timestamp(base)?;
            if timestamp > largest.0 {
                largest = (timestamp, Some(base));
            }
        }
        let (timestamp, Some(base)) = largest else {
            return Ok(None);
        };
        self.first_in(base, timestamp, Passing::Remembered)
    }

    /// The first record with this timestamp or a later one, in the segments from `base` on.
    ///
    /// Damage may hold that record, unless the time index rules it out. An answer after the damage could be too late,
    /// and the reader would miss records without notice. So the answer is the first offset of the damage, and a read
    /// there reports the damage.
    fn first_in(
        &mut self,
        base: Offset,
        timestamp: Timestamp,
        passing: Passing,
    ) -> Result<Option<OffsetAtTime>, TimeQueryError> {
        let mut passed = None;
        let mut lowest = base;
        while let Some(base) = self.segments.next_base(lowest) {
            lowest = base.plus(1);
            let largest = self.segments.largest_timestamp(base)?;
            if largest < timestamp && !self.segments.damage().is_in(base) {
                continue;
            }
            match self.first_in_segment(base, timestamp, passing)? {
                (Some(found), _) => return Ok(Some(found)),
                (None, damage) => passed = passed.or(damage),
            }
        }
        Ok(passed)
    }

    /// The same in one segment; also returns the damage that was passed over.
    fn first_in_segment(
        &self,
        base: Offset,
        timestamp: Timestamp,
        passing: Passing,
    ) -> Result<(Option<OffsetAtTime>, Option<OffsetAtTime>), TimeQueryError> {
        let Some(segment) = self.segments.get(base) else {
            return Ok((None, None));
        };
        let bound = self.segments.bound_of(base);
        let mut passed = None;
        let mut from = self.log_start;
        // Compaction may have removed the record with the timestamp that the batch's header still has.
        loop {
            let found = segment.find_time(self.place(), timestamp, from..bound);
            match self.directory().judge(found)? {
                Sought::Beyond => return Ok((None, passed)),
                Sought::Batch(located) => {
                    let found = self.first_record_in(segment, &located, timestamp)?;
                    if found.is_some() {
                        return Ok((found, passed));
                    }
                    from = located.header.next_offset();
                }
                Sought::Damage(damage) => {
                    let at = OffsetAtTime {
                        offset: damage.first_offset.max(from),
                        timestamp,
                        leader_epoch: None,
                    };
                    if passing == Passing::Never {
                        return Ok((Some(at), None));
                    }
                    passed = passed.or(Some(at));
                    from = damage.next_offset;
                }
            }
        }
    }

    fn first_record_in(
        &self,
        segment: &Segment<F>,
        located: &Located,
        timestamp: Timestamp,
    ) -> Result<Option<OffsetAtTime>, TimeQueryError> {
        let directory = self.directory();
        let file = directory.judge(segment.file(self.place()))?;
        let mut bytes = vec![0; located.size];
        directory.judge(file.read_at(&mut bytes, located.position))?;
        let batch = BatchView::first(&bytes).ok();
        let limit = self.config.max_record_bytes;
        let record = batch.map(|batch| first_record_at(&batch, timestamp, self.log_start, limit));
        let record = record.transpose()?.flatten();
        let epoch = LeaderEpoch(located.header.partition_leader_epoch);
        Ok(record.map(|(offset, timestamp)| OffsetAtTime {
            offset,
            timestamp,
            leader_epoch: Some(epoch).filter(|epoch| epoch.0 >= 0),
        }))
    }
}
