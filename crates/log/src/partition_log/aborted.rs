//! The aborted transactions of a log, which readers of committed records must know: on file in the index of the segment
//! that holds the marker, or waiting here while the disk is full or descriptors are lacking.
//!
//! Invariants: what waits ended later than what is on file of its segment; the recovery point never passes what waits,
//! so a start finds it in the batches again.

use super::PartitionLog;
use crate::directory::StorageError;
use crate::files::Files;
use crate::format::{AbortedTransaction, FileKind};
use ottla_protocol::ids::Offset;

impl<F: Files> PartitionLog<F> {
    /// Adds the transactions whose markers are in the segment at `base`. Where they cannot be written down yet, they
    /// wait: the markers are in the log already.
    pub(crate) fn keep_aborted(
        &mut self,
        base: Offset,
        entries: &[AbortedTransaction],
    ) -> Result<(), StorageError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.with_aborted.insert(base);
        let waiting = self.waiting_aborted.entry(base).or_default();
        waiting.extend(entries);
        match self.write_waiting_aborted() {
            Err(StorageError::Full { .. } | StorageError::TooManyOpenFiles { .. }) => Ok(()),
            outcome => outcome,
        }
    }

    /// Writes all that waits.
    pub(crate) fn write_waiting_aborted(&mut self) -> Result<(), StorageError> {
        let Self {
            segments,
            place,
            waiting_aborted,
            ..
        } = self;
        while let Some(mut waiting) = waiting_aborted.first_entry() {
            if let Some(segment) = segments.get_mut(waiting.key()) {
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

    /// The log was cut, and now ends in the segment at `base`.
    pub(crate) fn cut_aborted(&mut self, base: Offset) {
        self.waiting_aborted.retain(|segment, _| *segment <= base);
        if let Some(waiting) = self.waiting_aborted.get_mut(&base) {
            waiting.retain(|entry| entry.last_offset < self.next);
        }
        self.waiting_aborted
            .retain(|_, waiting| !waiting.is_empty());
        let on_file = self
            .segments
            .get(&base)
            .map_or(0, |segment| segment.aborted);
        if on_file == 0 && !self.waiting_aborted.contains_key(&base) {
            self.with_aborted.remove(&base);
        }
    }

    /// The aborted transactions with records from `from` on and before `to`.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, StorageError> {
        let floor = self.segments.range(..=from).next_back();
        let floor = floor.map_or(from, |(base, _)| *base);
        let mut aborted = Vec::new();
        for base in self.with_aborted.range(floor..) {
            let Some(segment) = self.segments.get(base) else {
                continue;
            };
            let entries = segment.aborted_transactions(&self.place, self.bound_of(*base));
            let entries = self.place.directory.judge(entries)?;
            // A reader that is not told of one takes its records for committed.
            let entries: Option<Vec<_>> = entries.into_iter().collect();
            let mut entries = entries.ok_or_else(|| StorageError::DamagedTransactionIndex {
                path: self.place.path_of(FileKind::TransactionIndex, *base),
                segment: *base,
            })?;
            entries.extend(self.waiting_aborted.get(base).into_iter().flatten());
            let overlaps =
                |entry: &&AbortedTransaction| entry.last_offset >= from && entry.first_offset < to;
            aborted.extend(entries.iter().filter(overlaps));
            if entries.iter().any(|entry| entry.last_stable_offset >= to) {
                break;
            }
        }
        Ok(aborted)
    }
}
