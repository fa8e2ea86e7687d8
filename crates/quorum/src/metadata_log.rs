//! The metadata log in Kafka's format: `__cluster_metadata-0`. The Raft node derives it from its own log (`committed.rs`).
//!
//! - Offsets are contiguous. Every batch has the epoch of the leader that wrote it. Epochs never regress.
//! - After a failed write or sync nothing more is written.
//!
//! [`MetadataLog::open`] and [`MetadataLog::propose`] lead the log without Raft, as Apache Kafka and earlier releases of
//! Ottla do. Only tests use them: they write the logs that a start takes over.
//!
//! One thread owns the log. Nothing here is async.

mod ahead;
mod committed;
pub(crate) mod proposal;
mod recovery;
mod refusals;
mod replay;
mod snapshots;
#[cfg(test)]
pub(crate) mod tests;
mod view;

use self::ahead::Ahead;
use crate::batches::{self, Place};
use crate::checkpoint::SnapshotId;
use crate::epoch_checkpoint::EpochStarts;
use crate::segment;
use crate::voter::{DYNAMIC_VOTERS, QuorumControl, Voter, VoterEndpoint};
use ottla_log::files::{File, FileError, Files};
use ottla_metadata::{Loader, MetadataVersion};
use ottla_protocol::ids::{LeaderEpoch, NodeId, Offset};
use ottla_protocol::messages::RecordError;
use ottla_protocol::messages::metadata::MetadataRecord;
use ottla_protocol::time::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use ahead::AheadEntry;
pub use committed::ApplyError;
pub use recovery::{Inspected, Location};
pub(crate) use recovery::{Until, newest_epoch, segments_from, write_again};
pub use refusals::{OpenError, UnsupportedVersion, check_version};
pub(crate) use replay::Stretch;
pub use snapshots::{SnapshotJob, WrittenSnapshot};
pub use view::{Fetched, FollowerEnd, LogView, SnapshotPiece, SnapshotUnreadable};

/// Sizes of the metadata log; the defaults are Kafka's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `metadata.log.segment.bytes`.
    pub segment_bytes: u64,
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub snapshot_bytes: u64,
    /// The most bytes of one batch; a follower refuses larger ones.
    pub batch_bytes: usize,
    /// Bytes of disk that are reserved after the end of the log, so that a disk full of records does not stop metadata.
    pub reserved_bytes: u64,
    /// Bytes of entries before a snapshot that Raft's log keeps, so that followers a little behind need no snapshot.
    pub kept_entry_bytes: u64,
    /// Bytes of entries after which the log is synced, if Raft derives it. A start applies at most so many again.
    pub checkpoint_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: 1024 * 1024 * 1024,
            snapshot_bytes: 20 * 1024 * 1024,
            batch_bytes: 8 * 1024 * 1024,
            reserved_bytes: 4 * 1024 * 1024,
            kept_entry_bytes: 1024 * 1024,
            checkpoint_bytes: 1024 * 1024,
        }
    }
}

/// Why a proposal was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// A record cannot be written at the cluster's `metadata.version`.
    #[error("a record does not fit metadata.version: {0}")]
    Record(#[from] RecordError),
    /// More than one batch, and the cluster's `metadata.version` has no transactions.
    #[error(
        "the change is too large for one batch; split it, or raise metadata.version to 13 or later"
    )]
    TooLarge,
    /// The disk is full. Nothing was written, and a later proposal may succeed.
    #[error("the disk of the metadata log is full: {0}")]
    Full(FileError),
    /// The log failed, with this proposal or an earlier one. The next start finds out how much of it is on the disk.
    #[error("the metadata log has failed and takes nothing until the next start: {0}")]
    Failed(Failure),
}

/// Why a metadata log takes nothing more.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// A write or a sync failed.
    #[error(transparent)]
    Disk(Arc<FileError>),
    /// The disk filled up after the first batch of a metadata transaction. Its end must come before anything else.
    #[error("the disk filled up in a metadata transaction: {0}")]
    HalfATransaction(Arc<FileError>),
}

/// The state of the quorum, as one controller knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumStatus {
    /// `None` while no leader of the epoch is known.
    pub leader: Option<NodeId>,
    pub epoch: LeaderEpoch,
    /// Whether this controller leads, and has applied all that earlier leaders committed: it alone decides.
    pub is_active: bool,
    /// All records before it are committed.
    pub high_watermark: Offset,
    /// The oldest offset in the log.
    pub log_start: Offset,
    pub voters: Vec<Voter>,
    /// The level of `kraft.version`.
    pub kraft_version: i16,
    /// When the last batch was written.
    pub last_append: Timestamp,
}

impl QuorumStatus {
    /// Where the leader is reached; empty while none is known.
    pub fn leader_endpoints(&self) -> &[VoterEndpoint] {
        let mut voters = self.voters.iter();
        let leader = voters.find(|voter| Some(voter.node_id) == self.leader);
        leader.map_or(&[], |leader| &leader.endpoints)
    }
}

/// A log that was just opened, and its metadata.
#[derive(Debug)]
pub struct Opened<F: Files> {
    /// The log; this node leads it.
    pub log: MetadataLog<F>,
    /// The metadata after the whole log.
    pub loader: Loader,
    /// The snapshot from which the log was restored.
    pub restored: Option<SnapshotId>,
    /// Bytes of an unfinished write that were cut off at its end.
    pub cut_bytes: u64,
}

/// The metadata log, led by this node.
pub struct MetadataLog<F: Files> {
    files: F,
    directory: PathBuf,
    settings: Settings,
    voter: Voter,
    control: QuorumControl,
    epoch: LeaderEpoch,
    epoch_starts: EpochStarts,
    /// Base offsets of all segments; the last is the one written to.
    segments: Vec<Offset>,
    active: F::File,
    active_size: u64,
    /// The position in the active segment up to which disk is reserved.
    reserved_to: u64,
    end: Offset,
    /// Batches after the end, which readers do not see.
    ahead: Ahead,
    last_append: Timestamp,
    snapshots: BTreeMap<SnapshotId, u64>,
    bytes_since_snapshot: u64,
    failed: Option<Failure>,
}

impl<F: Files> fmt::Debug for MetadataLog<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataLog")
            .field("directory", &self.directory)
            .field("epoch", &self.epoch)
            .field("end", &self.end)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl<F: Files> MetadataLog<F> {
    /// The epoch in which this node leads.
    pub const fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// The offset of the next record. All records before it are committed.
    pub const fn end_offset(&self) -> Offset {
        self.end
    }

    /// The state of the quorum.
    pub fn status(&self) -> QuorumStatus {
        let voters = if self.control.kraft_version >= DYNAMIC_VOTERS {
            self.control.voters.clone()
        } else {
            vec![self.voter.clone()]
        };
        QuorumStatus {
            leader: Some(self.voter.node_id),
            epoch: self.epoch,
            is_active: true,
            high_watermark: self.end,
            log_start: self.log_start(),
            voters,
            kraft_version: self.control.kraft_version,
            last_append: self.last_append,
        }
    }

    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The level of `kraft.version`.
    pub const fn kraft_version(&self) -> i16 {
        self.control.kraft_version
    }

    /// Commits `records` together, and returns the end of the log after them: everything before it is on stable storage.
    ///
    /// Records that do not fit one batch become a metadata transaction of several. Without records nothing is written.
    /// A batch is written only after all batches before it are synced, so a crash can tear only the last one.
    pub fn propose(
        &mut self,
        records: &[MetadataRecord],
        version: MetadataVersion,
        now: Timestamp,
    ) -> Result<Offset, ProposeError> {
        if let Some(failure) = &self.failed {
            return Err(ProposeError::Failed(failure.clone()));
        }
        let built = proposal::build(
            records,
            version,
            self.place(self.end, now),
            self.settings.batch_bytes,
        )?;
        for (written, (bytes, count)) in built.into_iter().enumerate() {
            match self.append(&bytes, count, now) {
                Err(ProposeError::Full(error)) if written > 0 => {
                    return Err(self.fail(Failure::HalfATransaction(Arc::new(error))));
                }
                appended => appended?,
            }
        }
        Ok(self.end)
    }

    fn place(&self, offset: Offset, timestamp: Timestamp) -> Place {
        Place {
            offset,
            epoch: self.epoch,
            timestamp,
        }
    }

    /// Writes the first batch of an epoch: the leader, and the voters if the log has others or none.
    fn start_epoch(&mut self, now: Timestamp) -> Result<(), ProposeError> {
        let voters = if self.control.kraft_version >= DYNAMIC_VOTERS {
            self.control.voters.clone()
        } else {
            vec![self.voter.clone()]
        };
        let granting = [self.voter.node_id];
        let change = proposal::leader_change(self.voter.node_id, &granting, &voters);
        let mut records = vec![change];
        let is_current = self.control.voters.contains(&self.voter);
        if self.control.kraft_version >= DYNAMIC_VOTERS
            && !(is_current && self.control.voters_in_log)
        {
            self.control.voters = vec![self.voter.clone()];
            self.control.voters_in_log = true;
            records.extend(self.control.to_records());
        }
        let batch = batches::control_batch(self.place(self.end, now), &records);
        let count = i32::try_from(records.len()).expect("three records at most");
        self.append(&batch, count, now)
    }

    fn append(&mut self, batch: &[u8], records: i32, now: Timestamp) -> Result<(), ProposeError> {
        self.write(batch)?;
        self.active
            .sync_data()
            .map_err(|error| self.fail_by(error))?;
        self.note_written(batch, i64::from(records), now);
        Ok(())
    }

    fn write(&mut self, batch: &[u8]) -> Result<(), ProposeError> {
        self.make_room(batch.len() as u64)?;
        let before = self.active_size;
        if let Err(error) = self.active.write_at(&[IoSlice::new(batch)], before) {
            if error.is_full() && self.active.truncate(before).is_ok() {
                return Err(ProposeError::Full(error));
            }
            return Err(self.fail_by(error));
        }
        Ok(())
    }

    fn note_written(&mut self, batch: &[u8], records: i64, now: Timestamp) {
        self.active_size += batch.len() as u64;
        self.bytes_since_snapshot += batch.len() as u64;
        self.end = self.end.plus(records);
        self.last_append = now;
    }

    fn fail_by(&mut self, error: FileError) -> ProposeError {
        self.fail(Failure::Disk(Arc::new(error)))
    }

    fn fail(&mut self, failure: Failure) -> ProposeError {
        self.failed = Some(failure.clone());
        ProposeError::Failed(failure)
    }

    /// Rolls the segment if the batch would make it too large, and reserves disk after the end.
    fn make_room(&mut self, bytes: u64) -> Result<(), ProposeError> {
        let is_large = self.active_size + bytes > self.settings.segment_bytes;
        if self.active_size > 0 && is_large && self.ahead.is_empty() {
            match self.roll() {
                Err(error) if error.is_full() => return Err(ProposeError::Full(error)),
                rolled => rolled.map_err(|error| self.fail_by(error))?,
            }
        }
        match self.reserve(bytes) {
            // The batch may still fit into what is reserved already.
            Err(error) if !error.is_full() => Err(self.fail_by(error)),
            _ => Ok(()),
        }
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), FileError> {
        let reserved = self.settings.reserved_bytes;
        let end = self.active_size + bytes;
        if reserved > 0 && end + reserved / 2 > self.reserved_to {
            self.active.reserve(self.active_size, bytes + reserved)?;
            self.reserved_to = end + reserved;
        }
        Ok(())
    }

    fn roll(&mut self) -> Result<(), FileError> {
        let ahead = self.read_ahead()?;
        // Gives back disk that is reserved and not used. No batch is ever in two segments.
        self.active.truncate(self.active_size)?;
        self.active.sync_data()?;
        let next = segment::create(&self.files, &self.directory, self.end);
        self.move_ahead(&ahead, next.as_ref().ok())?;
        let next = next?;
        self.active = next;
        self.segments.push(self.end);
        self.active_size = 0;
        self.reserved_to = 0;
        Ok(())
    }

    fn log_start(&self) -> Offset {
        let oldest_snapshot = self.snapshots.keys().next().map(|id| id.end_offset);
        let first_segment = self.segments.first().copied().unwrap_or(self.end);
        oldest_snapshot.map_or(first_segment, |offset| offset.max(first_segment))
    }
}
