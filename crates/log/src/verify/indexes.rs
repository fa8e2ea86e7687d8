//! Compares the indexes of a segment with its batches, entry by entry while the batches are walked.
//!
//! After damage the largest timestamp is unknown, and entries of the time index there are accepted.

use super::finding::{Finding, Remedy, Severity};
use crate::damage::Damage;
use crate::files::{FileError, Files, read_whole};
use crate::format::{AbortedTransaction, FileKind, IndexEntry, OffsetEntry, TimeEntry};
use crate::scan::Located;
use crate::transaction_index;
use ottla_protocol::ids::Offset;
use std::path::{Path, PathBuf};

/// Upper bound of the size of an index; a larger file is not one.
const MAX_INDEX_BYTES: u64 = 1 << 30;

/// The entries of an index file, with the next one to compare.
struct Entries<E> {
    segment: Offset,
    path: PathBuf,
    left: std::iter::Peekable<std::vec::IntoIter<E>>,
    passed: u64,
}

impl<E: IndexEntry> Entries<E> {
    fn read<F: Files>(files: &F, segment: Offset, path: PathBuf) -> Result<Self, FileError> {
        let bytes = match read_whole(files, &path, MAX_INDEX_BYTES) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) if error.is_malformed() => Vec::new(),
            Err(error) => return Err(error),
        };
        let entries: Vec<E> = bytes.chunks_exact(E::SIZE).filter_map(E::decode).collect();
        Ok(Self {
            segment,
            path,
            left: entries.into_iter().peekable(),
            passed: 0,
        })
    }

    fn next_if(&mut self, holds: impl FnOnce(&E) -> bool) -> Option<E> {
        let entry = self.left.next_if(holds)?;
        self.passed += 1;
        Some(entry)
    }

    fn damage(&self, what: String) -> Finding {
        Finding {
            severity: Severity::Damage,
            path: self.path.clone(),
            position: Some(self.passed.saturating_sub(1) * E::SIZE as u64),
            what,
            remedy: Some(Remedy::Reindex(self.segment)),
        }
    }
}

/// The indexes of one segment.
pub(super) struct Indexes {
    base: Offset,
    offsets: Entries<OffsetEntry>,
    times: Entries<TimeEntry>,
    largest_timestamp: i64,
}

impl Indexes {
    pub(super) fn read<F: Files>(
        files: &F,
        directory: &Path,
        base: Offset,
    ) -> Result<Self, FileError> {
        let path = |kind: FileKind| kind.path(directory, base);
        Ok(Self {
            base,
            offsets: Entries::read(files, base, path(FileKind::OffsetIndex))?,
            times: Entries::read(files, base, path(FileKind::TimeIndex))?,
            largest_timestamp: -1,
        })
    }

    /// Skips the entries of damaged batches.
    pub(super) fn skip(&mut self, damage: &Damage) {
        let end = i64::try_from(damage.end()).unwrap_or(i64::MAX);
        let begin = i64::try_from(damage.position).unwrap_or(i64::MAX);
        let is_in = |entry: &OffsetEntry| (begin..end).contains(&i64::from(entry.position));
        while self.offsets.next_if(is_in).is_some() {}
        self.largest_timestamp = i64::MAX;
        let base = self.base;
        let is_before =
            |entry: &TimeEntry| base.plus(i64::from(entry.relative_offset)) < damage.next_offset;
        while self.times.next_if(is_before).is_some() {}
    }

    /// Compares the entries up to this batch that were not compared yet.
    pub(super) fn pass(&mut self, located: &Located, findings: &mut Vec<Finding>) {
        let header = &located.header;
        let at = i64::try_from(located.position).unwrap_or(i64::MAX);
        while let Some(entry) = self
            .offsets
            .next_if(|entry| i64::from(entry.position) <= at)
        {
            let named = self.base.plus(i64::from(entry.relative_offset));
            if i64::from(entry.position) != at {
                let what = format!(
                    "the entry for offset {named} names {}, where no batch begins",
                    entry.position
                );
                findings.push(self.offsets.damage(what));
            } else if named < header.base_offset() {
                let what = format!(
                    "offset {named} is said to be at {at}, where the batch from {} is",
                    header.base_offset()
                );
                findings.push(self.offsets.damage(what));
            }
        }
        self.largest_timestamp = self.largest_timestamp.max(header.max_timestamp);
        let last = header.last_offset();
        let base = self.base;
        while let Some(entry) = self
            .times
            .next_if(|entry| base.plus(i64::from(entry.relative_offset)) <= last)
        {
            if entry.timestamp > self.largest_timestamp {
                let what = format!(
                    "timestamp {} is said to be at offset {} or before, the largest there is {}",
                    entry.timestamp,
                    base.plus(i64::from(entry.relative_offset)),
                    self.largest_timestamp
                );
                findings.push(self.times.damage(what));
            }
        }
    }

    /// Reports the remaining entries, which have no batch. Zeros at the end are left by a crash of Apache Kafka.
    pub(super) fn end(&mut self, findings: &mut Vec<Finding>) {
        let is_zero = |entry: &OffsetEntry| entry.relative_offset == 0 && entry.position == 0;
        if let Some(entry) = self.offsets.next_if(|entry| !is_zero(entry)) {
            let what = format!(
                "the entry names position {}, which is behind the last batch",
                entry.position
            );
            findings.push(self.offsets.damage(what));
        }
        let is_zero = |entry: &TimeEntry| entry.timestamp == 0 && entry.relative_offset == 0;
        if let Some(entry) = self.times.next_if(|entry| !is_zero(entry)) {
            let offset = self.base.plus(i64::from(entry.relative_offset));
            findings.push(self.times.damage(format!(
                "the entry names offset {offset}, which is behind the last batch"
            )));
        }
    }
}

/// The findings about the index of aborted transactions of a segment with offsets in `offsets`.
pub(super) fn transaction_index<F: Files>(
    files: &F,
    directory: &Path,
    offsets: std::ops::Range<Offset>,
) -> Result<Option<Finding>, FileError> {
    let path = FileKind::TransactionIndex.path(directory, offsets.start);
    let Some(bytes) = read_whole(files, &path, MAX_INDEX_BYTES)? else {
        return Ok(None);
    };
    let entries = transaction_index::entries(&bytes, &offsets);
    let damaged = entries.iter().position(Option::is_none);
    Ok(damaged.map(|number| Finding {
        severity: Severity::Damage,
        path,
        position: Some((number * AbortedTransaction::SIZE) as u64),
        what: "this is no aborted transaction whose marker is in this segment, in order".to_owned(),
        remedy: Some(Remedy::ReindexTransactions(offsets.start)),
    }))
}
