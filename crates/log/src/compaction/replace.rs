//! Putting a compacted segment in the place of those it was made from, so that a crash leaves the old or the new.
//!
//! Which segments are replaced is written down first. The rest is names alone, under the log's lock: all files of the
//! new segment change from `.cleaned` to `.swap`, from which on a start would complete the replacement; the old files
//! go; `.swap` is dropped, the `.log` first. What recovery makes of every state in between is in
//! `recovery/directory.rs`. The names of one directory become durable in the order in which they changed, as
//! journaling file systems have it; they are synced afterwards.

use super::{CompactionError, Outcome, Quarantined};
use crate::directory::StorageError;
use crate::files::{FileError, Files, read_whole, replace_durably};
use crate::format::{CLEANED_SUFFIX, FileKind, SWAP_SUFFIX};
use crate::partition_log::PartitionLog;
use crate::position::LogPosition;
use crate::segment::Segment;
use ottla_protocol::ids::Offset;
use std::path::Path;

/// The file that says which segments are being replaced: a line `0`, the version, and a line with the first one's base
/// offset and the base offset of the segment after the last. It stays until the pass has ended.
pub(crate) const REPLACEMENT: &str = "compaction-replacement";

/// No such file is longer.
const MAX_BYTES: u64 = 1000;

/// Writes down, durably, that the segments from one base offset up to another are to be replaced.
pub(crate) fn write_replacement<F: Files>(
    files: &F,
    directory: &Path,
    (from, to): (Offset, Offset),
) -> Result<(), FileError> {
    let text = format!("0\n{from} {to}\n");
    replace_durably(files, &directory.join(REPLACEMENT), text.as_bytes())
}

/// Which segments were being replaced when the log was last in use, if any were.
pub(crate) fn read_replacement<F: Files>(
    files: &F,
    directory: &Path,
) -> Result<Option<(Offset, Offset)>, FileError> {
    let content = match read_whole(files, &directory.join(REPLACEMENT), MAX_BYTES) {
        // Not ours.
        Err(error) if error.is_malformed() => None,
        outcome => outcome?,
    };
    let content = content.unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let range = text.strip_prefix("0\n").and_then(|line| {
        let (from, to) = line.trim_end().split_once(' ')?;
        Some((Offset(from.parse().ok()?), Offset(to.parse().ok()?)))
    });
    Ok(range)
}

/// How far a log is compacted, and what of it could not be.
#[derive(Debug, Default)]
pub(crate) struct Compacted {
    /// The offset before which it is; `None` when it never was.
    pub(crate) to: Option<Offset>,
    pub(crate) quarantine: Vec<Quarantined>,
}

impl Compacted {
    /// The log now ends at `end`.
    pub(crate) fn cut_to(&mut self, end: Offset) {
        self.to = self.to.map(|to| to.min(end));
    }
}

/// A compacted segment that is durable and waits to take its sources' place.
#[derive(Debug)]
#[must_use = "a compacted segment is to replace its sources"]
pub struct Rewritten<F: Files> {
    pub(super) segment: Segment<F>,
    pub(super) kinds: Vec<FileKind>,
    /// The base offsets and sizes of the segments it was made from.
    pub(super) sources: Vec<(Offset, u64)>,
    pub(super) cuts: u64,
}

impl<F: Files> PartitionLog<F> {
    /// The offset up to which the log is compacted, for `cleaner-offset-checkpoint`.
    pub fn compacted_to(&self) -> Option<Offset> {
        self.compaction.to
    }

    /// What compaction could not read when it last ran.
    pub fn quarantine(&self) -> &[Quarantined] {
        &self.compaction.quarantine
    }

    /// Puts `rewritten` in the place of its sources, unless these have changed. The directory is to be synced next,
    /// outside of the lock: [`super::Compaction::sync_names`].
    pub fn replace_segments(&mut self, rewritten: Rewritten<F>) -> Result<(), CompactionError> {
        self.place.directory.ensure_online()?;
        if !self.holds_sources_of(&rewritten) {
            self.discard(&rewritten);
            return Err(CompactionError::Changed);
        }
        let base = rewritten.segment.base;
        self.rename_all(&rewritten, CLEANED_SUFFIX, SWAP_SUFFIX)?;
        for (source, _) in &rewritten.sources {
            self.segments.remove(source);
            self.remove_files(*source)
                .map_err(|error| self.place.directory.give_up(error))?;
        }
        self.rename_all(&rewritten, SWAP_SUFFIX, "")?;
        if rewritten.segment.aborted > 0 {
            self.with_aborted.insert(base);
        }
        self.segments.insert(base, rewritten.segment);
        self.flush.has_new_names = true;
        let is_old = |position: LogPosition| {
            let mut sources = rewritten.sources.iter();
            sources.any(|(source, _)| *source == position.segment)
        };
        if is_old(self.high_watermark) {
            self.high_watermark = self.position_of(self.high_watermark.offset)?;
        }
        if self.first_unstable.is_some_and(is_old) {
            self.first_unstable = None;
            self.update_first_unstable()?;
        }
        Ok(())
    }

    /// Takes note that a pass has ended.
    pub fn complete_compaction(&mut self, outcome: &Outcome) {
        if outcome.cuts == self.flush.cuts {
            self.compaction.to = Some(outcome.end);
            self.compaction.quarantine.clone_from(&outcome.quarantine);
        }
    }

    fn holds_sources_of(&self, rewritten: &Rewritten<F>) -> bool {
        let is_held = |(base, size): &(Offset, u64)| {
            let held = self.segments.get(base);
            held.is_some_and(|segment| segment.size == *size) && *base < self.active().base
        };
        rewritten.cuts == self.flush.cuts && rewritten.sources.iter().all(is_held)
    }

    fn discard(&self, rewritten: &Rewritten<F>) {
        for kind in &rewritten.kinds {
            let path = kind.path_with(&self.place.path, rewritten.segment.base, CLEANED_SUFFIX);
            // What cannot be removed goes with the next pass, or the next start.
            let _ = self.place.directory.files().remove(&path);
        }
    }

    /// A rename that fails half-way, or a removal between two of them, on a full disk too, leaves files that only a start can put in order.
    fn rename_all(
        &self,
        rewritten: &Rewritten<F>,
        from: &str,
        to: &str,
    ) -> Result<(), StorageError> {
        let directory = &self.place.directory;
        let base = rewritten.segment.base;
        let path = |kind: &FileKind, suffix| kind.path_with(&self.place.path, base, suffix);
        let renamed: Result<(), FileError> = rewritten.kinds.iter().try_for_each(|kind| {
            directory.forget(&path(kind, to));
            directory.files().rename(&path(kind, from), &path(kind, to))
        });
        renamed.map_err(|error| directory.take_offline(error))
    }
}
