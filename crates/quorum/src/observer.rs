//! A follower of the metadata log that does not vote, and keeps the image only: a node without the role of a controller.
//!
//! Synchronous: its owner fetches, and hands over what it got. Invariants:
//!
//! - Only records below the high watermark are in the image. Those above it wait, because their leader may lose them.
//! - The image never goes back. A leader whose log diverges below what was applied is refused.
//! - A batch is applied whole and in order; a gap, a wrong CRC or an unknown record ends the observer, as it ends Kafka's.

use std::collections::VecDeque;

use ottla_metadata::{Changes, Loader, MetadataImage};
use ottla_protocol::ids::{LeaderEpoch, Offset};
use ottla_protocol::records::control::ControlRecord;
use ottla_protocol::records::{BatchError, BatchView};

use crate::batches::{self, Content, DecodeError};
use crate::checkpoint::SnapshotId;
use crate::metadata_log::{FollowerEnd, UnsupportedVersion, check_version};
use crate::voter::{QuorumControl, Voter};

/// Upper bound of an unfinished batch of a snapshot. Kafka's batches have at most 8 MiB.
const MAX_BATCH_BYTES: usize = 64 * 1024 * 1024;

/// Why a log cannot be followed any further.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The bytes are no batches.
    #[error("the leader's bytes at offset {0} are no batch: {1}")]
    Shape(Offset, BatchError),
    /// The bytes were changed on the way, or on the leader's disk.
    #[error("the CRC of the leader's batch at offset {0} does not fit its bytes")]
    Crc(Offset),
    /// A batch is missing.
    #[error("the leader's batch begins at offset {found}, and {expected} was fetched")]
    Gap { expected: Offset, found: Offset },
    /// A record cannot be understood.
    #[error("a record at offset {0} cannot be understood; a newer release may: {1}")]
    Record(Offset, DecodeError),
    /// The leader's log diverges below what was applied.
    #[error("the leader's log ends at offset {end}, and records up to {applied} were committed")]
    DivergesBelowCommitted { end: Offset, applied: Offset },
    /// The pieces do not follow each other, are damaged, or end without a footer.
    #[error("the pieces of the leader's snapshot {0} do not make a snapshot")]
    Snapshot(String),
    /// The cluster's `metadata.version` is not supported.
    #[error(transparent)]
    Version(#[from] UnsupportedVersion),
}

/// A batch above the high watermark.
#[derive(Debug)]
struct Waiting {
    end: Offset,
    epoch: LeaderEpoch,
    content: Content,
}

/// A snapshot that is being fetched.
#[derive(Debug)]
struct Loading {
    id: SnapshotId,
    /// How many bytes have come.
    position: u64,
    /// The beginning of a batch that has not come whole.
    rest: Vec<u8>,
    loader: Loader,
    control: QuorumControl,
    has_footer: bool,
}

/// The observer.
#[derive(Debug, Default)]
pub struct Observer {
    loader: Loader,
    control: QuorumControl,
    /// The end of what was applied, and the epoch of its last batch.
    applied: FollowerEnd,
    high_watermark: Offset,
    waiting: VecDeque<Waiting>,
    loading: Option<Loading>,
}

/// What an observer asks its leader for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Batches from here on.
    Batches(FollowerEnd),
    /// A piece of a snapshot, from this position on.
    Snapshot { id: SnapshotId, position: u64 },
}

impl Observer {
    /// The committed metadata.
    pub const fn image(&self) -> &MetadataImage {
        self.loader.image()
    }

    /// The end of what is in the image.
    pub const fn applied(&self) -> Offset {
        self.applied.offset
    }

    /// All records before it are committed, as far as the leader has told.
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The level of `kraft.version`.
    pub const fn kraft_version(&self) -> i16 {
        self.control.kraft_version
    }

    /// The voters, if they are in the log.
    pub fn voters(&self) -> &[Voter] {
        &self.control.voters
    }

    /// What to ask the leader for next.
    pub fn wanted(&self) -> Wanted {
        match &self.loading {
            Some(loading) => Wanted::Snapshot {
                id: loading.id,
                position: loading.position,
            },
            None => Wanted::Batches(self.end()),
        }
    }

    fn end(&self) -> FollowerEnd {
        let last = self.waiting.back();
        last.map_or(self.applied, |last| FollowerEnd {
            offset: last.end,
            last_epoch: last.epoch,
        })
    }

    /// The leader sent batches, and told its high watermark. Returns what changed in the image.
    pub fn on_batches(
        &mut self,
        bytes: &[u8],
        high_watermark: Offset,
    ) -> Result<Changes, ObserveError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = self.end().offset;
            let batch = BatchView::first(rest).map_err(|error| ObserveError::Shape(at, error))?;
            rest = rest.get(batch.size()..).unwrap_or_default();
            self.add(&batch, at)?;
        }
        self.high_watermark = self.high_watermark.max(high_watermark);
        self.apply()
    }

    fn add(&mut self, batch: &BatchView<'_>, at: Offset) -> Result<(), ObserveError> {
        let header = batch.header();
        if !batch.is_crc_valid() {
            return Err(ObserveError::Crc(at));
        }
        if header.base_offset() != at {
            return Err(ObserveError::Gap {
                expected: at,
                found: header.base_offset(),
            });
        }
        let content = batches::decode(batch).map_err(|error| ObserveError::Record(at, error))?;
        self.waiting.push_back(Waiting {
            end: header.next_offset(),
            epoch: LeaderEpoch(header.partition_leader_epoch),
            content,
        });
        Ok(())
    }

    /// Applies what is below the high watermark.
    fn apply(&mut self) -> Result<Changes, ObserveError> {
        let mut changes = Changes::default();
        while let Some(batch) = self
            .waiting
            .pop_front_if(|first| first.end <= self.high_watermark)
        {
            match batch.content {
                Content::Data(records) => changes.extend(self.loader.load(&records)),
                Content::Control(records) => {
                    for record in &records {
                        self.control.replay(record);
                    }
                }
            }
            self.applied = FollowerEnd {
                offset: batch.end,
                last_epoch: batch.epoch,
            };
        }
        if changes.features {
            check_version(self.loader.image())?;
        }
        Ok(changes)
    }

    /// The leader's log diverges: the batches from `end` on, or of later epochs, are not its own.
    pub fn on_diverging(&mut self, end: FollowerEnd) -> Result<(), ObserveError> {
        let is_kept = |batch: &Waiting| batch.end <= end.offset && batch.epoch <= end.last_epoch;
        while self.waiting.pop_back_if(|last| !is_kept(last)).is_some() {}
        if self.waiting.is_empty() && end.offset < self.applied.offset {
            return Err(ObserveError::DivergesBelowCommitted {
                end: end.offset,
                applied: self.applied.offset,
            });
        }
        Ok(())
    }

    /// The leader no longer has what was asked for, and names a snapshot.
    pub fn on_snapshot(&mut self, id: SnapshotId) {
        self.loading = Some(Loading::of(id));
    }

    /// The leader does not have the snapshot any more: another fetch finds the one that it has.
    pub fn on_snapshot_gone(&mut self) {
        self.loading = None;
    }

    /// The leader sent the piece of the snapshot at `position`; the snapshot has `size` bytes. After the last piece
    /// the image is replaced, and its changes are returned.
    pub fn on_piece(
        &mut self,
        position: u64,
        bytes: &[u8],
        size: u64,
    ) -> Result<Option<Changes>, ObserveError> {
        let Some(loading) = &mut self.loading else {
            return Ok(None);
        };
        let is_next = position == loading.position && !bytes.is_empty();
        if !is_next || position + bytes.len() as u64 > size {
            return Err(loading.broken());
        }
        loading.add(bytes)?;
        if loading.position < size {
            return Ok(None);
        }
        let loaded = self.loading.take().expect("it was there a moment ago");
        if !loaded.has_footer || !loaded.rest.is_empty() {
            return Err(loaded.broken());
        }
        self.replace(loaded).map(Some)
    }

    /// Takes over a whole snapshot, unless it is older than what was applied.
    fn replace(&mut self, loaded: Loading) -> Result<Changes, ObserveError> {
        let id = loaded.id;
        if id.end_offset <= self.applied.offset {
            return Ok(Changes::default());
        }
        check_version(loaded.loader.image())?;
        let changes = Changes::between(self.loader.image(), loaded.loader.image());
        self.loader = loaded.loader;
        self.control = loaded.control;
        self.waiting.clear();
        self.applied = FollowerEnd {
            offset: id.end_offset,
            last_epoch: id.epoch,
        };
        self.high_watermark = self.high_watermark.max(id.end_offset);
        Ok(changes)
    }
}

impl Loading {
    fn of(id: SnapshotId) -> Self {
        Self {
            id,
            position: 0,
            rest: Vec::new(),
            loader: Loader::default(),
            control: QuorumControl::default(),
            has_footer: false,
        }
    }

    fn broken(&self) -> ObserveError {
        ObserveError::Snapshot(self.id.file_name())
    }

    /// Loads the batches that are whole with these bytes.
    fn add(&mut self, bytes: &[u8]) -> Result<(), ObserveError> {
        self.position += bytes.len() as u64;
        self.rest.extend_from_slice(bytes);
        let buffered = std::mem::take(&mut self.rest);
        let mut rest = buffered.as_slice();
        loop {
            let batch = match BatchView::first(rest) {
                Ok(batch) if batch.is_crc_valid() => batch,
                Err(BatchError::Incomplete { .. }) => break,
                _ => return Err(self.broken()),
            };
            rest = rest.get(batch.size()..).unwrap_or_default();
            let at = batch.header().base_offset();
            let content = batches::decode(&batch);
            self.load(content.map_err(|error| ObserveError::Record(at, error))?);
        }
        self.rest = rest.to_vec();
        if self.rest.len() > MAX_BATCH_BYTES {
            return Err(self.broken());
        }
        Ok(())
    }

    fn load(&mut self, content: Content) {
        match content {
            Content::Data(records) => _ = self.loader.load(&records),
            Content::Control(records) => {
                for record in &records {
                    self.control.replay(record);
                    self.has_footer |= matches!(record, ControlRecord::SnapshotFooter(_));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
