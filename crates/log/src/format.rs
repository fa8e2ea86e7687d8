//! The names of a segment's files, and the layouts of its indexes. They are Kafka 4.3's.
//!
//! All numbers are big-endian and signed. The record batch itself is `protocol::records`'. The text files are in
//! [`crate::checkpoint`], producer snapshots in `producer_snapshot.rs`. `docs/formats.md` explains which file
//! holds what and when it is made durable; the tables are on the items below.

use ottla_protocol::ids::{Offset, ProducerId};
use std::path::{Path, PathBuf};

/// The kinds of files of a segment. A file's name is the segment's base offset in 20 digits, and the suffix of its
/// kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// Record batches, one after the other.
    Log,
    /// [`OffsetEntry`]s, by rising offset.
    OffsetIndex,
    /// [`TimeEntry`]s, by rising timestamp.
    TimeIndex,
    /// [`AbortedTransaction`]s, by rising last offset. Made with the first one.
    TransactionIndex,
    /// The state of producers before the offset in its name: see `producer_snapshot.rs`.
    ProducerSnapshot,
}

impl FileKind {
    /// All kinds, the log first.
    pub const ALL: [Self; 5] = [
        Self::Log,
        Self::OffsetIndex,
        Self::TimeIndex,
        Self::TransactionIndex,
        Self::ProducerSnapshot,
    ];

    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Log => ".log",
            Self::OffsetIndex => ".index",
            Self::TimeIndex => ".timeindex",
            Self::TransactionIndex => ".txnindex",
            Self::ProducerSnapshot => ".snapshot",
        }
    }

    /// The path of this kind of file for `offset` in `directory`.
    pub fn path(self, directory: &Path, offset: Offset) -> PathBuf {
        self.path_with(directory, offset, "")
    }

    /// The path of this kind of file for `offset` in `directory`, with `suffix` appended.
    pub(crate) fn path_with(self, directory: &Path, offset: Offset, suffix: &str) -> PathBuf {
        directory.join(format!("{:020}{}{suffix}", offset.0, self.suffix()))
    }

    /// The kind and the offset of a file, from its name.
    pub fn of_name(name: &str) -> Option<(Self, Offset)> {
        let (digits, _) = name.split_at_checked(20)?;
        let suffix = name.get(20..)?;
        let kind = Self::ALL.into_iter().find(|kind| kind.suffix() == suffix)?;
        if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        Some((kind, Offset(digits.parse().ok()?)))
    }
}

/// The suffix of a file or partition directory that waits to be removed.
pub const DELETED_SUFFIX: &str = ".deleted";
/// The suffix of a segment that compaction is still writing.
pub const CLEANED_SUFFIX: &str = ".cleaned";
/// The suffix of a compacted segment that is complete and is replacing its sources.
pub const SWAP_SUFFIX: &str = ".swap";
/// The suffix of bytes that recovery or a repair removed from a log and kept. Kafka ignores such files.
pub const CUT_OFF_SUFFIX: &str = ".cutoff";

/// A fixed-size entry of an index file.
pub(crate) trait IndexEntry: Copy {
    /// Bytes of an entry.
    const SIZE: usize;
    /// Appends the entry's bytes to `to`.
    fn encode(&self, to: &mut Vec<u8>);
    /// The entry in exactly [`IndexEntry::SIZE`] bytes.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// An entry of `.index`: the position of the batch with this last offset.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 4 | last offset of the batch, less the segment's base offset |
/// | 4 | 4 | position of the batch in the `.log` file |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetEntry {
    /// The batch's last offset, less the segment's base offset.
    pub relative_offset: i32,
    /// The batch's position.
    pub position: i32,
}

impl IndexEntry for OffsetEntry {
    const SIZE: usize = 8;

    fn encode(&self, to: &mut Vec<u8>) {
        to.extend(self.relative_offset.to_be_bytes());
        to.extend(self.position.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        Some(Self {
            relative_offset: fields.i32()?,
            position: fields.i32()?,
        })
    }
}

/// An entry of `.timeindex`: the largest timestamp of the segment so far, and the last offset of the batch that has it.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 8 | timestamp, ms since the Unix epoch |
/// | 8 | 4 | last offset of the batch, less the segment's base offset |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeEntry {
    /// The largest timestamp of the segment so far.
    pub timestamp: i64,
    /// The last offset of the batch that has it, less the segment's base offset.
    pub relative_offset: i32,
}

impl IndexEntry for TimeEntry {
    const SIZE: usize = 12;

    fn encode(&self, to: &mut Vec<u8>) {
        to.extend(self.timestamp.to_be_bytes());
        to.extend(self.relative_offset.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        Some(Self {
            timestamp: fields.i64()?,
            relative_offset: fields.i32()?,
        })
    }
}

/// An entry of `.txnindex`: an aborted transaction, in the segment of its marker.
///
/// | at | size | field |
/// |---|---|---|
/// | 0 | 2 | version, 0 |
/// | 2 | 8 | producer id |
/// | 10 | 8 | first offset of the transaction |
/// | 18 | 8 | last offset: the marker's |
/// | 26 | 8 | last stable offset when the marker was written |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    pub last_offset: Offset,
    /// The last stable offset when the marker was written.
    pub last_stable_offset: Offset,
}

impl IndexEntry for AbortedTransaction {
    const SIZE: usize = 34;

    fn encode(&self, to: &mut Vec<u8>) {
        to.extend(0i16.to_be_bytes());
        to.extend(self.producer_id.0.to_be_bytes());
        to.extend(self.first_offset.0.to_be_bytes());
        to.extend(self.last_offset.0.to_be_bytes());
        to.extend(self.last_stable_offset.0.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        (fields.i16()? == 0).then_some(())?;
        Some(Self {
            producer_id: ProducerId(fields.i64()?),
            first_offset: Offset(fields.i64()?),
            last_offset: Offset(fields.i64()?),
            last_stable_offset: Offset(fields.i64()?),
        })
    }
}

/// The entries of an index file, and the number of bytes after them: a torn entry, or the zeros by which Kafka
/// preallocates the index of an active segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries<E> {
    /// The entries, in order.
    pub entries: Vec<E>,
    /// The number of bytes after them.
    pub rest: usize,
}

fn read_entries<E: IndexEntry>(content: &[u8], is_unused: impl Fn(&E) -> bool) -> Entries<E> {
    let mut entries = Vec::new();
    for bytes in content.chunks_exact(E::SIZE) {
        match E::decode(bytes) {
            Some(entry) if entries.is_empty() || !is_unused(&entry) => entries.push(entry),
            _ => break,
        }
    }
    let rest = content.len() - entries.len() * E::SIZE;
    Entries { entries, rest }
}

/// The entries of an `.index` file.
pub fn offset_entries(content: &[u8]) -> Entries<OffsetEntry> {
    read_entries(content, |entry: &OffsetEntry| entry.relative_offset == 0)
}

/// The entries of a `.timeindex` file.
pub fn time_entries(content: &[u8]) -> Entries<TimeEntry> {
    read_entries(content, |entry: &TimeEntry| entry.relative_offset == 0)
}

/// The entries of a `.txnindex` file.
pub fn aborted_transactions(content: &[u8]) -> Entries<AbortedTransaction> {
    read_entries(content, |_: &AbortedTransaction| false)
}

/// Reads numbers from the front of a slice; `None` where it ends too early.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests;
