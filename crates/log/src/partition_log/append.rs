//! Appends batches: a leader assigns their offsets, a follower takes them over. All requests of one call are one write.
//!
//! The caller has validated the batches: each is whole, its checksum is right, its inner offsets are 0, 1, 2, ….
//! Nothing changes in memory before the write has succeeded. On a full disk the file is truncated to its old length and
//! the append is refused. Any other failure takes the log directory offline (assumption 11 of `docs/formats.md`).

use super::PartitionLog;
use crate::batch::{Batch, BatchError, parse_checked};
use crate::directory::StorageError;
use crate::files::{File, FileError, Files};
use crate::planted::{Bug, is_planted};
use crate::position::LogPosition;
use crate::producer_state::{Changes, Origin, ProducerError};
use crate::scan::Located;
use crate::segment::Incoming;
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::BATCH_OVERHEAD;
use ottla_protocol::time::Timestamp;
use std::io::IoSlice;

/// How a leader appends.
#[derive(Debug, Clone, Copy)]
pub struct LeaderAppend {
    /// Who wrote the batches; it decides which checks apply.
    pub origin: Origin,
    /// The leader's epoch, which is written into every batch.
    pub leader_epoch: LeaderEpoch,
    /// The time, for rolling segments by age.
    pub now: Timestamp,
}

/// The outcome of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record.
    pub first_offset: Offset,
    /// The offset of the last record. The append is durable when the log is flushed beyond it.
    pub last_offset: Offset,
    /// For a duplicate: the timestamp of the batch in the log. Nothing was written.
    pub duplicate_of: Option<Timestamp>,
    pub bytes: u64,
}

/// Why batches were not appended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The sequence, epoch or transaction of the producer does not allow it.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// They are larger than a segment.
    #[error("{bytes} bytes at once do not fit into a segment of {limit}")]
    LargerThanSegment {
        /// Their size in bytes.
        bytes: u64,
        /// `segment.bytes`.
        limit: u64,
    },
    /// The leader's batches begin before the end of this log.
    #[error("offset {offset} was appended where {expected} or later must follow")]
    UnexpectedOffset {
        /// The base offset of the first wrong batch.
        offset: Offset,
        /// The end of the log.
        expected: Offset,
    },
    #[error("not a record batch: {0}")]
    Invalid(#[from] BatchError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Batches that passed the checks and are not written yet.
struct Pending<'a> {
    heads: Vec<[u8; BATCH_OVERHEAD]>,
    bodies: Vec<&'a [u8]>,
    located: Vec<Located>,
    producers: Changes,
    bytes: u64,
    next: Offset,
}

impl<'a> Pending<'a> {
    fn at(next: Offset) -> Self {
        let producers = Changes::default();
        Self {
            heads: Vec::new(),
            bodies: Vec::new(),
            located: Vec::new(),
            producers,
            bytes: 0,
            next,
        }
    }

    fn push(&mut self, batch: Batch<'a>, start: u64) {
        let header = batch.header;
        let size = BATCH_OVERHEAD + batch.body.len();
        self.heads.push(header.encode());
        self.bodies.push(batch.body);
        self.located.push(Located {
            header,
            position: start + self.bytes,
            size,
        });
        self.bytes += size as u64;
        self.next = header.next_offset();
    }
}

type Batches<'a> = Vec<Batch<'a>>;

impl<F: Files> PartitionLog<F> {
    /// Appends `requests`, each of one or more batches, and assigns their offsets. As far as they fit into one segment
    /// they are one write. Each request is appended whole or not at all.
    pub fn append_as_leader(
        &mut self,
        requests: &[&[Batch<'_>]],
        append: LeaderAppend,
    ) -> Vec<Result<Appended, AppendError>> {
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut pending = Pending::at(self.segments.end());
        for request in requests {
            let outcome = self
                .assign(request, pending.next, append.leader_epoch)
                .and_then(|batches| {
                    if self.must_write_before(&batches, pending.bytes, append.now) {
                        let rolled = self.write_and_roll(&mut pending, &batches, append.now);
                        rolled.inspect_err(|error| {
                            fail_unwritten(&mut outcomes, self.segments.end(), error);
                        })?;
                    }
                    self.stage(batches, &mut pending, append.origin)
                });
            outcomes.push(outcome);
        }
        if let Err(error) = self.write(pending, append.now) {
            fail_unwritten(&mut outcomes, self.segments.end(), &error);
        }
        outcomes
    }

    /// Appends one request: see [`PartitionLog::append_as_leader`].
    pub fn append(
        &mut self,
        batches: &[Batch<'_>],
        append: LeaderAppend,
    ) -> Result<Appended, AppendError> {
        let outcome = self.append_as_leader(&[batches], append).pop();
        outcome.expect("an outcome for each request")
    }

    /// Appends batches with the offsets that their leader assigned. A batch that is cut off at the end is left out. It
    /// stops at the first batch of a later epoch than `leader_epoch`: the follower must first ask that epoch's leader
    /// where the logs diverge. After an error a part of the batches may be appended.
    pub fn append_as_follower(
        &mut self,
        bytes: &[u8],
        leader_epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<Option<Appended>, AppendError> {
        let mut rest = self.check_as_follower(bytes, leader_epoch)?;
        let mut whole: Option<Appended> = None;
        while !rest.is_empty() {
            let mut size = 0;
            let fits = rest.iter().take_while(|batch| {
                size += batch.size();
                size <= self.config.segment_bytes
            });
            // One batch is written even if it is larger than a segment: the leader has it.
            let next = rest.split_off(fits.count().max(1));
            let written = self.write_as_follower(std::mem::replace(&mut rest, next), now)?;
            whole = Some(Appended {
                first_offset: whole.map_or(written.first_offset, |whole| whole.first_offset),
                bytes: written.bytes + whole.map_or(0, |whole| whole.bytes),
                ..written
            });
        }
        Ok(whole)
    }

    fn check_as_follower<'a>(
        &self,
        bytes: &'a [u8],
        leader_epoch: LeaderEpoch,
    ) -> Result<Batches<'a>, AppendError> {
        let mut batches = Vec::new();
        let mut rest = bytes;
        let mut expected = self.segments.end();
        while !rest.is_empty() {
            let batch = match parse_checked(rest) {
                Err(error) if error.is_cut_off() => break,
                parsed => parsed?,
            };
            rest = rest.get(batch.size()..).unwrap_or_default();
            let header = batch.header();
            let is_later = header.partition_leader_epoch > leader_epoch.0;
            if is_later && !is_planted(Bug::LaterBatchesAppended) {
                break;
            }
            let offset = header.base_offset();
            if offset < expected {
                return Err(AppendError::UnexpectedOffset { offset, expected });
            }
            expected = header.next_offset();
            batches.push(Batch::from(batch));
        }
        Ok(batches)
    }

    fn write_as_follower(
        &mut self,
        batches: Batches<'_>,
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        let mut pending = Pending::at(self.segments.end());
        if self.must_write_before(&batches, 0, now) {
            self.write_and_roll(&mut pending, &batches, now)?;
        }
        let appended = self.stage(batches, &mut pending, Origin::Replication)?;
        self.write(pending, now)?;
        Ok(appended)
    }

    fn assign<'a>(
        &self,
        request: &[Batch<'a>],
        next: Offset,
        epoch: LeaderEpoch,
    ) -> Result<Batches<'a>, AppendError> {
        self.directory().ensure_online()?;
        let mut next = next;
        let mut batches = request.to_vec();
        for batch in &mut batches {
            batch.header.base_offset = next.0;
            batch.header.partition_leader_epoch = epoch.0;
            let size = batch.header.size().map(|size| size as u64);
            assert_eq!(
                size,
                Some(batch.size()),
                "a validated batch is as long as its head says"
            );
            next = batch.header.next_offset();
        }
        assert!(!batches.is_empty(), "a request to append holds a batch");
        self.check_size(&batches)?;
        Ok(batches)
    }

    fn check_size(&self, batches: &Batches<'_>) -> Result<(), AppendError> {
        let bytes = incoming(batches).bytes;
        let limit = self.config.segment_bytes;
        if bytes > limit {
            Err(AppendError::LargerThanSegment { bytes, limit })
        } else {
            Ok(())
        }
    }

    fn must_write_before(&self, batches: &Batches<'_>, pending: u64, now: Timestamp) -> bool {
        let mut incoming = incoming(batches);
        incoming.bytes += pending;
        self.active().should_roll(&self.config, &incoming, now)
    }

    fn write_and_roll(
        &mut self,
        pending: &mut Pending<'_>,
        batches: &Batches<'_>,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let next = pending.next;
        let written = self.write(std::mem::replace(pending, Pending::at(next)), now);
        // Offsets of batches that were not written are assigned again.
        written.inspect_err(|_| *pending = Pending::at(self.segments.end()))?;
        let first = batches
            .first()
            .map_or(next, |batch| batch.header.base_offset());
        self.roll_at(first.max(self.segments.end()), now)
    }

    /// Checks the batches against the state of their producers, and adds them to `pending`.
    fn stage<'a>(
        &self,
        batches: Batches<'a>,
        pending: &mut Pending<'a>,
        origin: Origin,
    ) -> Result<Appended, AppendError> {
        let mut staged = self.producers.stage_after(&pending.producers);
        let segment = self.active();
        let start = segment.size;
        let mut position = start + pending.bytes;
        for batch in &batches {
            let header = &batch.header;
            let place = LogPosition {
                offset: header.base_offset(),
                segment: segment.base,
                position,
            };
            position += batch.size();
            if !header.has_producer_id() {
                continue;
            }
            if origin == Origin::Client
                && let Some(batch) = staged.duplicate(header)
            {
                return Ok(Appended {
                    first_offset: batch.first_offset(),
                    last_offset: batch.last_offset,
                    duplicate_of: Some(batch.timestamp),
                    bytes: 0,
                });
            }
            staged.add(batch, Some(place), origin)?;
        }
        pending.producers.merge(staged.finish());
        let whole = incoming(&batches);
        let first_offset = batches
            .first()
            .map_or(self.segments.end(), |batch| batch.header.base_offset());
        for batch in batches {
            pending.push(batch, start);
        }
        Ok(Appended {
            first_offset,
            last_offset: whole.last_offset,
            duplicate_of: None,
            bytes: whole.bytes,
        })
    }

    fn write(&mut self, pending: Pending<'_>, now: Timestamp) -> Result<(), StorageError> {
        if pending.located.is_empty() {
            return Ok(());
        }
        self.directory().ensure_online()?;
        let pairs = pending.heads.iter().zip(&pending.bodies);
        let slices: Vec<IoSlice<'_>> = pairs
            .flat_map(|(head, body)| [IoSlice::new(head.as_slice()), IoSlice::new(body)])
            .collect();
        let Self {
            segments, config, ..
        } = self;
        let (active, place) = segments.active_mut();
        active.reserve(place, config.segment_bytes, now);
        let written = active.append(
            place,
            &slices,
            &pending.located,
            config.index_interval_bytes,
        );
        written.map_err(|error| self.after_failed_write(error))?;
        for Located { header, .. } in &pending.located {
            let epoch = LeaderEpoch(header.partition_leader_epoch);
            self.leader_epochs.assign(epoch, header.base_offset());
        }
        self.segments.set_end(pending.next);
        let aborted = self.producers.apply(pending.producers, pending.next);
        let base = self.active().base;
        self.segments.keep_aborted(base, &aborted)?;
        match self.update_first_unstable() {
            // The records are written. The last stable offset stays at an older transaction for now.
            Err(StorageError::TooManyOpenFiles { .. }) => Ok(()),
            outcome => outcome,
        }
    }

    fn after_failed_write(&self, error: FileError) -> StorageError {
        let directory = self.directory();
        if error.is_full() {
            let active = self.active();
            let cut = active
                .file(self.place())
                .and_then(|file| file.truncate(active.size));
            if let Err(error) = cut {
                return directory.failed(error);
            }
        }
        directory.failed(error)
    }
}

fn incoming(batches: &Batches<'_>) -> Incoming {
    let bytes = batches.iter().map(Batch::size).sum();
    let last_offset = batches
        .last()
        .map_or(Offset::NONE, |batch| batch.header.last_offset());
    let timestamps = batches.iter().map(|batch| batch.header.max_timestamp);
    Incoming {
        bytes,
        last_offset,
        max_timestamp: Timestamp(timestamps.max().unwrap_or(-1)),
    }
}

/// Sets the outcome of all requests from `end` on to `error`: they were not written. That includes duplicates of them.
fn fail_unwritten(
    outcomes: &mut [Result<Appended, AppendError>],
    end: Offset,
    error: &StorageError,
) {
    for outcome in outcomes {
        if outcome
            .as_ref()
            .is_ok_and(|appended| appended.last_offset >= end)
        {
            *outcome = Err(error.clone().into());
        }
    }
}
