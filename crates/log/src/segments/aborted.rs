//! The aborted transactions of a log, for readers of committed records. Each is in the index file of the segment with
//! its marker, or waits in memory while the disk is full or file descriptors are lacking.

use super::Segments;
use crate::directory::StorageError;
use crate::files::Files;
use crate::format::{AbortedTransaction, FileKind};
use crate::look::Look;
use ottla_protocol::ids::Offset;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Which segments have aborted transactions, and which entries are not in a file yet.
///
/// Invariants:
///
/// - A waiting entry ended later than every entry in the file of its segment.
/// - The recovery point never passes a waiting entry, so the next start finds it in the batches again.
#[derive(Debug, Default)]
pub(super) struct AbortedIndex {
    /// The segments with aborted transactions, in the file or waiting.
    segments: BTreeSet<Offset>,
    /// The entries that could not be written yet, by segment.
    waiting: BTreeMap<Offset, Vec<AbortedTransaction>>,
}

impl AbortedIndex {
    pub(super) fn add(&mut self, segments: impl IntoIterator<Item = Offset>) {
        self.segments.extend(segments);
    }

    pub(super) fn forget(&mut self, segment: Offset) {
        self.segments.remove(&segment);
        self.waiting.remove(&segment);
    }
}

impl<F: Files> Segments<F> {
    /// Whether a segment at `base` or later has aborted transactions.
    pub(crate) fn has_aborted_since(&self, base: Offset) -> bool {
        self.aborted.segments.range(base..).next().is_some()
    }

    /// Adds transactions whose markers are in the segment at `base`. Entries that cannot be written now wait; their
    /// markers are already in the log.
    pub(crate) fn keep_aborted(
        &mut self,
        base: Offset,
        entries: &[AbortedTransaction],
    ) -> Result<(), StorageError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.aborted.add([base]);
        let waiting = self.aborted.waiting.entry(base).or_default();
        waiting.extend(entries);
        match self.write_waiting_aborted() {
            Err(StorageError::Full { .. } | StorageError::TooManyOpenFiles { .. }) => Ok(()),
            outcome => outcome,
        }
    }

    /// Writes all waiting entries.
    pub(super) fn write_waiting_aborted(&mut self) -> Result<(), StorageError> {
        let Self {
            by_base,
            place,
            aborted,
            ..
        } = self;
        while let Some(mut waiting) = aborted.waiting.first_entry() {
            if let Some(segment) = by_base.get_mut(waiting.key()) {
                while let Some(entry) = waiting.get().first() {
                    place
                        .directory
                        .judge(segment.append_aborted(place, entry))?;
                    waiting.get_mut().remove(0);
                }
            }
            waiting.remove();
        }
        Ok(())
    }

    /// Drops the entries after the end of the log, which was truncated in its active segment.
    pub(super) fn cut_aborted(&mut self) {
        let (base, end) = (self.active().base, self.end);
        let waiting = &mut self.aborted.waiting;
        waiting.retain(|segment, _| *segment <= base);
        if let Some(waiting) = waiting.get_mut(&base) {
            waiting.retain(|entry| entry.last_offset < end);
        }
        waiting.retain(|_, waiting| !waiting.is_empty());
        self.forget_empty_aborted(base);
    }

    /// Removes the segment at `base` from those with aborted transactions, if it has none any more.
    pub(crate) fn forget_empty_aborted(&mut self, base: Offset) {
        let on_file = self.get(base).map_or(0, |segment| segment.aborted);
        if on_file == 0 && !self.aborted.waiting.contains_key(&base) {
            self.aborted.segments.remove(&base);
        }
    }

    /// The aborted transactions with records in `offsets`; nothing where the look has missed something.
    pub(crate) fn aborted_transactions(
        &self,
        look: &Look<F::File>,
        offsets: Range<Offset>,
    ) -> Result<Option<Vec<AbortedTransaction>>, StorageError> {
        let Range {
            start: from,
            end: to,
        } = offsets;
        let mut aborted = Vec::new();
        for base in self.aborted.segments.range(self.base_of(from)..) {
            let Some(segment) = self.get(*base) else {
                continue;
            };
            let entries = segment.aborted_transactions(&self.place, look, self.bound_of(*base));
            let Some(entries) = self.place.directory.judge_look(look, entries)? else {
                return Ok(None);
            };
            // A reader that does not know of an aborted transaction takes its records for committed, so one damaged
            // entry is an error.
            let entries: Option<Vec<_>> = entries.into_iter().collect();
            let mut entries = entries.ok_or_else(|| StorageError::DamagedTransactionIndex {
                path: self.place.path_of(FileKind::TransactionIndex, *base),
                segment: *base,
            })?;
            entries.extend(self.aborted.waiting.get(base).into_iter().flatten());
            let overlaps =
                |entry: &&AbortedTransaction| entry.last_offset >= from && entry.first_offset < to;
            aborted.extend(entries.iter().filter(overlaps));
            if entries.iter().any(|entry| entry.last_stable_offset >= to) {
                break;
            }
        }
        Ok(Some(aborted))
    }
}
