//! Replaces segments by the compacted segment that was made from them. A crash leaves the old segments or the new one.
//!
//! 1. `compaction-replacement` names the segments that are replaced. This file alone is synced.
//! 2. The new files are renamed from `.cleaned` to `.swap`. From here on a start completes the replacement.
//! 3. The old files are removed.
//! 4. `.swap` is dropped from the names of the new files, from the `.log` first.
//!
//! All this is under the log's lock. `recovery/directory.rs` completes or undoes every state in between. Names are synced
//! afterwards, so the renames and removals must become durable in this order: assumption 8 of `docs/formats.md`.

use super::Quarantined;
use crate::directory::StorageError;
use crate::files::{FileError, Files, read_whole, replace_durably};
use crate::format::{CLEANED_SUFFIX, FileKind, SWAP_SUFFIX};
use crate::segment::Segment;
use crate::segments::Segments;
use ottla_protocol::ids::Offset;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The file that names the segments being replaced: a line `0`, the version, and a line with the base offset of the
/// first one and of the segment after the last. It stays until the pass has ended.
pub(crate) const REPLACEMENT: &str = "compaction-replacement";

const MAX_BYTES: u64 = 1000;

/// Writes, durably, that the segments with base offsets in `bases` are being replaced.
pub(crate) fn write_replacement<F: Files>(
    files: &F,
    directory: &Path,
    bases: Range<Offset>,
) -> Result<(), FileError> {
    let text = format!("0\n{} {}\n", bases.start, bases.end);
    replace_durably(files, &directory.join(REPLACEMENT), text.as_bytes())
}

/// The base offsets of the segments that were being replaced when the log was last in use.
pub(crate) fn read_replacement<F: Files>(
    files: &F,
    directory: &Path,
) -> Result<Option<Range<Offset>>, FileError> {
    let content = match read_whole(files, &directory.join(REPLACEMENT), MAX_BYTES) {
        // Ottla did not write this file.
        Err(error) if error.is_malformed() => None,
        outcome => outcome?,
    };
    let content = content.unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let range = text.strip_prefix("0\n").and_then(|line| {
        let (from, to) = line.trim_end().split_once(' ')?;
        Some(Offset(from.parse().ok()?)..Offset(to.parse().ok()?))
    });
    Ok(range)
}

#[derive(Debug, Default)]
pub(crate) struct Compacted {
    /// The offset before which it is compacted; `None` when it never was.
    pub(crate) to: Option<Offset>,
    pub(crate) quarantine: Vec<Quarantined>,
}

impl Compacted {
    /// The log now ends at `end`.
    pub(crate) fn cut_to(&mut self, end: Offset) {
        self.to = self.to.map(|to| to.min(end));
    }
}

/// A compacted segment that is synced and has not replaced its sources yet.
#[derive(Debug)]
#[must_use = "a compacted segment is to replace its sources"]
pub struct Rewritten<F: Files> {
    pub(super) segment: Segment<F>,
    pub(super) kinds: Vec<FileKind>,
    /// The base offsets and sizes of the segments it was made from.
    pub(super) sources: Vec<(Offset, u64)>,
    pub(super) cuts: u64,
}

impl<F: Files> Rewritten<F> {
    /// Whether its sources are unchanged, in a log that was truncated `cuts` times so far.
    pub(crate) fn is_current(&self, segments: &Segments<F>, cuts: u64) -> bool {
        let active = segments.active().base;
        let is_held = |(base, size): &(Offset, u64)| {
            let held = segments.get(*base);
            held.is_some_and(|segment| segment.size == *size) && *base < active
        };
        self.cuts == cuts && self.sources.iter().all(is_held)
    }

    /// Whether the segment at `base` is one of its sources.
    pub(crate) fn replaces(&self, base: Offset) -> bool {
        self.sources().any(|source| source == base)
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = Offset> {
        self.sources.iter().map(|(source, _)| *source)
    }

    /// Removes its files, because its sources have changed.
    pub(crate) fn discard(&self, segments: &Segments<F>) {
        for kind in &self.kinds {
            let path = self.path(segments, *kind, CLEANED_SUFFIX);
            // The next pass, or the next start, removes what cannot be removed now.
            let _ = segments.directory().files().remove(&path);
        }
    }

    /// Replaces its sources. The names are not synced.
    pub(crate) fn replace_in(self, segments: &mut Segments<F>) -> Result<(), StorageError> {
        self.rename_all(segments, CLEANED_SUFFIX, SWAP_SUFFIX)?;
        for source in self.sources() {
            let removed = segments.remove(source);
            removed.map_err(|error| segments.directory().give_up(error))?;
        }
        self.rename_all(segments, SWAP_SUFFIX, "")?;
        segments.insert(self.segment);
        Ok(())
    }

    /// Renames its files. A failure half-way, on a full disk too, takes the directory offline: it leaves files that
    /// only a start can put in order.
    fn rename_all(&self, segments: &Segments<F>, from: &str, to: &str) -> Result<(), StorageError> {
        let directory = segments.directory();
        let renamed: Result<(), FileError> = self.kinds.iter().try_for_each(|kind| {
            let (from, to) = (
                self.path(segments, *kind, from),
                self.path(segments, *kind, to),
            );
            directory.forget(&to);
            directory.files().rename(&from, &to)
        });
        renamed.map_err(|error| directory.take_offline(error))
    }

    fn path(&self, segments: &Segments<F>, kind: FileKind, suffix: &str) -> PathBuf {
        kind.path_with(&segments.place().path, self.segment.base, suffix)
    }
}
