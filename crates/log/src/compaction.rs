//! Compaction: the newest record of each key stays, older ones are removed, offsets never change.
//!
//! [`plan()`] says whether a log is due. A pass is a [`Compaction`]: begun under the log's lock, it walks the dirty
//! part for the newest offset of each key ([`Compaction::index`]), then writes segments anew
//! ([`Compaction::rewrite_next`]), each of which replaces its sources under the lock
//! (`PartitionLog::replace_segments`). When the map is full the pass ends at that offset, and the next pass continues.
//! Nothing here waits: the caller's `pace` hears of every byte, and may wait or end the pass.

mod error;
mod filter;
mod offset_map;
mod output;
pub mod plan;
mod quarantine;
mod replace;
mod rewrite;
mod transactions;
mod walk;

pub use self::error::CompactionError;
pub(crate) use self::filter::LastRecord;
pub use self::offset_map::{BYTES_PER_KEY, Full, MapLimits, OffsetMap};
pub(crate) use self::output::Output;
pub use self::plan::{Obstacle, Plan, Reason, Verdict, plan};
pub use self::quarantine::{QUARANTINE, Quarantined, read_quarantine};
pub use self::replace::Rewritten;
pub(crate) use self::replace::{Compacted, REPLACEMENT, read_replacement, write_replacement};

use self::filter::checked_records;
use self::plan::SegmentFacts;
use self::quarantine::write_quarantine;
use self::transactions::Transactions;
use self::walk::{Met, Walk, WalkError};
use crate::config::LogConfig;
use crate::directory::LogDirectory;
use crate::files::{FileError, Files, Open};
use crate::format::{AbortedTransaction, CLEANED_SUFFIX, FileKind};
use ottla_protocol::ids::{Offset, ProducerId};
use ottla_protocol::records::{BatchView, Decompressor};
use ottla_protocol::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::Arc;

/// The end of the gaps that compaction left in a log: all are before this offset, and none spans it.
///
/// Ottla compacts below the recovery point on disk only. Kafka goes beyond it, up to the offset in its cleaner
/// checkpoint. Both compact what is on stable storage. A recovery point that is lost counts as 0.
pub(crate) fn gaps_end(recovery_point: Offset, compacted_to: Option<Offset>) -> Offset {
    recovery_point.max(compacted_to.unwrap_or_default())
}

/// Called with the number of bytes that were read or written. It may wait, to limit the rate, and may end the pass.
pub type Pace<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// Buffers that a worker reuses from pass to pass.
#[derive(Debug)]
pub struct Tools {
    pub map: OffsetMap,
    decompressor: Decompressor,
}

impl Tools {
    pub fn new(map: OffsetMap) -> Self {
        Self {
            map,
            decompressor: Decompressor::default(),
        }
    }
}

/// A pass of compaction over one log.
#[derive(Debug)]
pub struct Compaction<F: Files> {
    directory: Arc<LogDirectory<F>>,
    path: PathBuf,
    config: LogConfig,
    /// All segments that may be cleaned.
    sources: Vec<SegmentFacts>,
    /// The number of `sources` that the pass has dealt with.
    done: usize,
    first_dirty: Offset,
    /// Where in its segment the dirty part begins.
    first_dirty_position: u64,
    /// The end offset of the last source.
    upper: Offset,
    /// The map holds all keys below this offset.
    mapped_to: Offset,
    now: Timestamp,
    cuts: u64,
    transactions: Transactions,
    last_records: BTreeMap<ProducerId, LastRecord>,
    /// The segments that cannot be walked to their end.
    damaged: BTreeSet<Offset>,
    quarantine: Vec<Quarantined>,
    stats: Stats,
    /// Whether the file `compaction-replacement` is on disk.
    has_replacement: bool,
}

/// What a pass has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Bytes read, for the map and for writing anew.
    pub bytes_read: u64,
    /// Bytes of batches written.
    pub bytes_written: u64,
    /// Records in the segments that were written anew.
    pub records_read: u64,
    /// How many of them were kept.
    pub records_kept: u64,
    /// Segments that were replaced.
    pub segments_before: u64,
    /// Segments that replaced them.
    pub segments_after: u64,
    /// Keys in the map.
    pub keys: u64,
}

/// How a pass ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The offset up to which the log is now compacted.
    pub end: Offset,
    /// Whether that is all that may be cleaned. Otherwise the map was too small for the keys.
    pub is_whole: bool,
    /// The batches that could not be read.
    pub quarantine: Vec<Quarantined>,
    pub stats: Stats,
    pub(crate) cuts: u64,
}

/// What a pass copies from its log when it begins, under the log's lock.
#[derive(Debug)]
pub(crate) struct Beginning<F: Files> {
    pub(crate) directory: Arc<LogDirectory<F>>,
    pub(crate) path: PathBuf,
    pub(crate) config: LogConfig,
    /// All closed segments.
    pub(crate) closed: Vec<SegmentFacts>,
    pub(crate) plan: Plan,
    /// Where in its segment the dirty part begins.
    pub(crate) first_dirty_position: u64,
    /// The aborted transactions of the segments that may be cleaned.
    pub(crate) aborted: Vec<AbortedTransaction>,
    pub(crate) last_records: BTreeMap<ProducerId, LastRecord>,
    pub(crate) cuts: u64,
}

/// The map that is being filled, and the transactions met on the way.
struct Indexing<'a> {
    tools: &'a mut Tools,
    transactions: &'a mut Transactions,
    pace: Pace<'a>,
}

/// How many keys of a segment are in the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Indexed {
    All,
    /// The map is full: keys from this offset on did not fit.
    Full(Offset),
    /// The walk met damage, or its start position was not the start of a batch.
    Astray,
}

impl<F: Files> Compaction<F> {
    pub(crate) fn begin(from: Beginning<F>, now: Timestamp) -> Self {
        let upper = from.plan.first_uncleanable;
        let mut sources = from.closed;
        sources.retain(|segment| segment.base < upper);
        Self {
            directory: from.directory,
            path: from.path,
            config: from.config,
            sources,
            done: 0,
            first_dirty: from.plan.first_dirty,
            first_dirty_position: from.first_dirty_position,
            upper,
            mapped_to: from.plan.first_dirty,
            now,
            cuts: from.cuts,
            transactions: Transactions::new(from.aborted),
            last_records: from.last_records,
            damaged: BTreeSet::new(),
            quarantine: Vec::new(),
            stats: Stats::default(),
            has_replacement: false,
        }
    }

    /// Fills the map with the newest offset of each key in the dirty part, until the part ends or the map is full.
    pub fn index(&mut self, tools: &mut Tools, pace: Pace<'_>) -> Result<(), CompactionError> {
        self.remove_leftovers()?;
        let expected = u64::try_from(self.upper.0 - self.first_dirty.0).unwrap_or(0);
        tools.map.clear(expected);
        let mut transactions = self.transactions.clone();
        for number in 0..self.sources.len() {
            let (source, end) = self.source(number);
            if end <= self.first_dirty {
                continue;
            }
            let mut indexing = Indexing {
                tools: &mut *tools,
                transactions: &mut transactions,
                pace: &mut *pace,
            };
            let full_at = self.index_segment(&source, end, &mut indexing)?;
            self.mapped_to = full_at.unwrap_or(end);
            if full_at.is_some() {
                break;
            }
        }
        self.stats.keys = tools.map.keys() as u64;
        Ok(())
    }

    /// Puts the keys of one segment into the map; returns the offset of the first that did not fit.
    fn index_segment(
        &mut self,
        source: &SegmentFacts,
        end: Offset,
        indexing: &mut Indexing<'_>,
    ) -> Result<Option<Offset>, CompactionError> {
        let start = if source.base <= self.first_dirty {
            self.first_dirty_position
        } else {
            0
        };
        let offsets = source.base..end;
        let mut indexed = self.index_from(start..source.size, offsets.clone(), indexing)?;
        if start > 0 && matches!(indexed, Indexed::Astray) {
            // A segment is rewritten from its start, so all its keys must be in the map.
            indexed = self.index_from(0..source.size, offsets, indexing)?;
        }
        Ok(match indexed {
            Indexed::Full(offset) => Some(offset),
            // Keys after the damage are not in the map, so no record is removed because of them.
            Indexed::All | Indexed::Astray => None,
        })
    }

    fn index_from(
        &mut self,
        positions: Range<u64>,
        offsets: Range<Offset>,
        indexing: &mut Indexing<'_>,
    ) -> Result<Indexed, CompactionError> {
        let file = self.open(offsets.start)?;
        // The position from the index is trusted only once a batch was found there.
        let mut is_named_rightly = positions.start == 0;
        let mut walk = Walk::new(&file, positions, offsets);
        loop {
            let (located, batch) = match walk.next() {
                Ok(Some(Met::Batch(located, batch))) => (located, batch),
                Ok(Some(Met::Unreadable(batch))) if is_named_rightly => {
                    hold_up(&mut *indexing.pace, batch.bytes.len())?;
                    continue;
                }
                Ok(None) if is_named_rightly => return Ok(Indexed::All),
                Ok(_) | Err(WalkError::Damaged { .. }) => {
                    return Ok(Indexed::Astray);
                }
                Err(WalkError::Disk(error)) => return Err(self.disk(error)),
            };
            is_named_rightly |= located.header.last_offset() <= self.first_dirty;
            if !is_named_rightly {
                return Ok(Indexed::Astray);
            }
            self.stats.bytes_read += located.size as u64;
            hold_up(&mut *indexing.pace, located.size)?;
            if batch.header().is_control() {
                continue;
            }
            let producer = ProducerId(batch.header().producer_id);
            if let Some(last) = self.last_records.get_mut(&producer) {
                last.on_met(located.header.last_offset());
            }
            if indexing.transactions.on_data(batch.header()) {
                continue;
            }
            if let Some(offset) = index_batch(&batch, self.first_dirty, indexing.tools) {
                return Ok(Indexed::Full(offset));
            }
        }
    }

    /// Source number `number`, and its end offset.
    fn source(&self, number: usize) -> (SegmentFacts, Offset) {
        let source = self.sources.get(number).expect("a source of this pass");
        let end = self.sources.get(number + 1);
        (*source, end.map_or(self.upper, |next| next.base))
    }

    fn open(&self, base: Offset) -> Result<F::File, CompactionError> {
        let path = FileKind::Log.path(&self.path, base);
        let opened = self.directory.open_anew(&path, Open::Read);
        opened.map_err(|error| self.disk(error))
    }

    fn disk(&self, error: FileError) -> CompactionError {
        CompactionError::of(&self.directory, error)
    }

    /// Removes `.cleaned` files of a failed pass. Next to a complete segment they would make a start drop that segment.
    fn remove_leftovers(&self) -> Result<(), CompactionError> {
        let files = self.directory.files();
        let entries = files.list(&self.path).map_err(|error| self.disk(error))?;
        for entry in entries {
            if entry.name.ends_with(CLEANED_SUFFIX) {
                let path = self.path.join(entry.name);
                self.directory.forget(&path);
                files.remove(&path).map_err(|error| self.disk(error))?;
            }
        }
        Ok(())
    }

    /// Makes the names of replaced segments durable. Call it without the log's lock.
    pub fn sync_names(&self) -> Result<(), CompactionError> {
        match self.directory.files().sync_directory(&self.path) {
            Err(error) if error.is_not_found() => Err(CompactionError::Changed),
            // Without a file descriptor the pass ends here. Names become durable in order (assumption 8), and the next
            // flush syncs them.
            synced => Ok(self.directory.judge(synced)?),
        }
    }

    /// Ends a pass after its last segment, and writes the quarantine. It syncs the names first: an earlier pass may
    /// have replaced segments and found no file descriptor for that, and nothing counts as compacted before.
    pub fn finish(mut self) -> Result<Outcome, CompactionError> {
        self.sync_names()?;
        let written = write_quarantine(self.directory.files(), &self.path, &self.quarantine);
        written.map_err(|error| self.disk(error))?;
        self.forget_replacement()?;
        Ok(Outcome {
            end: self.mapped_to,
            is_whole: self.mapped_to >= self.upper,
            quarantine: std::mem::take(&mut self.quarantine),
            stats: self.stats,
            cuts: self.cuts,
        })
    }

    fn forget_replacement(&mut self) -> Result<(), CompactionError> {
        if !std::mem::take(&mut self.has_replacement) {
            return Ok(());
        }
        match self.directory.files().remove(&self.path.join(REPLACEMENT)) {
            Err(error) if !error.is_not_found() => Err(self.disk(error)),
            _ => Ok(()),
        }
    }
}

/// However a pass ends, `compaction-replacement` goes. It stays only where the directory is offline, for the next
/// start.
impl<F: Files> Drop for Compaction<F> {
    fn drop(&mut self) {
        if self.directory.failure().is_none() {
            // The next start removes what cannot be removed now.
            let _ = self.forget_replacement();
        }
    }
}

/// Puts the keys of a batch from `first_dirty` on into the map; returns the offset of the first that did not fit. A
/// batch with a record that cannot be read is left out: it must not remove older records of its keys.
fn index_batch(batch: &BatchView<'_>, first_dirty: Offset, tools: &mut Tools) -> Option<Offset> {
    let Tools { map, decompressor } = tools;
    let records = checked_records(batch, decompressor).ok()?;
    let mut dirty = records
        .flatten()
        .filter(|record| record.offset >= first_dirty.0);
    dirty.find_map(|record| {
        let offset = Offset(record.offset);
        map.put(record.key?, offset).err().map(|Full| offset)
    })
}

fn hold_up(pace: Pace<'_>, bytes: usize) -> Result<(), CompactionError> {
    match pace(bytes as u64) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(CompactionError::Stopped),
    }
}
