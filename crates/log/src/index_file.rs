//! An index file: entries of fixed size in rising order. They are read by positioned reads; the newest are in memory.
//!
//! New entries stay in memory and are written many at a time. A crash loses them, and recovery makes them again from
//! the batches. A closed segment keeps only the number of its entries in memory. A *detached* index has no file: all
//! its entries are in memory until a complete file is in place. Invariant: the file has the first `written` of `count`
//! entries, and `recent` has all from its `start` on, so at least those that are not written.

use crate::files::{File, FileError};
use crate::format::IndexEntry;
use crate::look::Reading;
use std::io::IoSlice;
use std::sync::Arc;

/// Opens the file, for entries that are not in memory.
pub(crate) type Source<'a, R> = &'a dyn Fn() -> Result<R, FileError>;

/// Entries that are written together.
const MAX_UNWRITTEN: u32 = 64;
/// Entries of an active segment that stay in memory, for readers near its end.
const MAX_RECENT: usize = 256;
/// A binary search reads its range with one read once it has this many entries left.
const READ_AT_ONCE: u32 = 256;

#[derive(Debug, Clone)]
pub(crate) struct IndexFile<E> {
    written: u32,
    /// The newest entries. Boxed, because every segment has two indexes and most segments are closed.
    recent: Option<Box<Recent<E>>>,
}

#[derive(Debug, Clone)]
struct Recent<E> {
    /// The number of the first of `entries`.
    start: u32,
    entries: Vec<E>,
    /// Whether the index is detached: `entries` is complete, and a file of its name is not used.
    is_detached: bool,
}

impl<E: IndexEntry> IndexFile<E> {
    /// An index whose file has `bytes` bytes. A torn last entry does not count.
    pub(crate) fn of_length(bytes: u64) -> Self {
        let written = u32::try_from(bytes / E::SIZE as u64).unwrap_or(u32::MAX);
        Self {
            written,
            recent: None,
        }
    }

    /// An empty index whose entries stay in memory.
    pub(crate) fn detached() -> Self {
        let recent = Recent {
            start: 0,
            entries: Vec::new(),
            is_detached: true,
        };
        Self {
            written: 0,
            recent: Some(Box::new(recent)),
        }
    }

    pub(crate) fn is_detached(&self) -> bool {
        self.recent
            .as_ref()
            .is_some_and(|recent| recent.is_detached)
    }

    /// Ends the detached state: the file has all entries now.
    pub(crate) fn attach(&mut self) {
        self.written = self.count();
        if let Some(recent) = &mut self.recent {
            recent.is_detached = false;
        }
    }

    /// Drops the entries that are in the file from memory.
    pub(crate) fn release(&mut self) {
        if self.is_written() && !self.is_detached() {
            self.recent = None;
        }
    }

    fn recent_start(&self) -> u32 {
        self.recent
            .as_ref()
            .map_or(self.written, |recent| recent.start)
    }

    fn recent(&self) -> &[E] {
        self.recent
            .as_ref()
            .map_or(&[], |recent| recent.entries.as_slice())
    }

    pub(crate) fn count(&self) -> u32 {
        self.recent_start() + u32::try_from(self.recent().len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.count()) * E::SIZE as u64
    }

    pub(crate) fn push(&mut self, entry: E) {
        let start = self.written;
        let none = || {
            Box::new(Recent {
                start,
                entries: Vec::new(),
                is_detached: false,
            })
        };
        self.recent.get_or_insert_with(none).entries.push(entry);
    }

    pub(crate) fn needs_writing(&self) -> bool {
        self.count() - self.written >= MAX_UNWRITTEN
    }

    pub(crate) fn is_written(&self) -> bool {
        self.count() == self.written
    }

    /// The bytes that it has allocated.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        let recent = self.recent.as_ref();
        recent.map_or(0, |recent| {
            size_of::<Recent<E>>() + recent.entries.capacity() * size_of::<E>()
        })
    }

    /// The content of the file for a detached index.
    pub(crate) fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.recent()
            .iter()
            .for_each(|entry| entry.encode(&mut bytes));
        bytes
    }

    /// Writes the entries that are not in the file yet, unless the index is detached.
    pub(crate) fn write<H: File>(&mut self, source: Source<'_, Arc<H>>) -> Result<(), FileError> {
        if self.is_detached() {
            return Ok(());
        }
        if !self.is_written() {
            let mut bytes = Vec::new();
            let in_file = (self.written - self.recent_start()) as usize;
            self.recent()
                .iter()
                .skip(in_file)
                .for_each(|entry| entry.encode(&mut bytes));
            source()?.write_at(
                &[IoSlice::new(&bytes)],
                u64::from(self.written) * E::SIZE as u64,
            )?;
            self.written = self.count();
        }
        if let Some(recent) = &mut self.recent
            && recent.entries.len() > MAX_RECENT
        {
            let surplus = recent.entries.len() - MAX_RECENT / 2;
            recent.entries.drain(..surplus);
            recent.start += u32::try_from(surplus).unwrap_or(u32::MAX);
        }
        Ok(())
    }

    /// For a segment that is closed: writes the entries that are not in the file and drops all from memory, unless the
    /// index is detached.
    pub(crate) fn write_and_release<H: File>(
        &mut self,
        source: Source<'_, Arc<H>>,
    ) -> Result<(), FileError> {
        self.write(source)?;
        self.release();
        Ok(())
    }

    pub(crate) fn entry<R: Reading>(
        &self,
        index: u32,
        source: Source<'_, R>,
    ) -> Result<Option<E>, FileError> {
        if let Some(recent) = index.checked_sub(self.recent_start()) {
            return Ok(self.recent().get(recent as usize).copied());
        }
        entry_in(&source()?, index)
    }

    pub(crate) fn last<R: Reading>(&self, source: Source<'_, R>) -> Result<Option<E>, FileError> {
        match self.count().checked_sub(1) {
            Some(index) => self.entry(index, source),
            None => Ok(None),
        }
    }

    /// The number of entries for which `holds` is true. It must be true for a prefix of the entries.
    pub(crate) fn partition_point<R: Reading>(
        &self,
        source: Source<'_, R>,
        holds: impl Fn(&E) -> bool,
    ) -> Result<u32, FileError> {
        let (recent, recent_start) = (self.recent(), self.recent_start());
        if recent.first().is_some_and(&holds) || recent_start == 0 {
            let recent = recent.partition_point(&holds);
            return Ok(recent_start + u32::try_from(recent).unwrap_or(u32::MAX));
        }
        let file = source()?;
        let (mut low, mut high) = (0, recent_start);
        while high - low > READ_AT_ONCE {
            let middle = low + (high - low) / 2;
            if entry_in(&file, middle)?.is_some_and(|entry| holds(&entry)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let entries = read_entries::<E, R>(&file, low, high - low)?;
        Ok(low + u32::try_from(entries.partition_point(holds)).unwrap_or(u32::MAX))
    }

    /// The last entry for which `holds` is true. It must be true for a prefix of the entries.
    pub(crate) fn last_where<R: Reading>(
        &self,
        source: Source<'_, R>,
        holds: impl Fn(&E) -> bool,
    ) -> Result<Option<E>, FileError> {
        match self.partition_point(source, holds)?.checked_sub(1) {
            Some(index) => self.entry(index, source),
            None => Ok(None),
        }
    }

    /// Keeps the first `count` entries and truncates the file, if the index has one.
    pub(crate) fn truncate<H: File>(
        &mut self,
        count: u32,
        source: Source<'_, Arc<H>>,
    ) -> Result<(), FileError> {
        match &mut self.recent {
            Some(recent) if count >= recent.start => {
                recent.entries.truncate((count - recent.start) as usize);
            }
            _ => self.recent = None,
        }
        if self.is_detached() {
            return Ok(());
        }
        self.written = self.written.min(count);
        source()?.truncate(u64::from(self.written) * E::SIZE as u64)
    }
}

/// The entry number `index`, which is on file.
fn entry_in<E: IndexEntry, R: Reading>(file: &R, index: u32) -> Result<Option<E>, FileError> {
    let mut bytes = vec![0; E::SIZE];
    file.bytes_at(&mut bytes, u64::from(index) * E::SIZE as u64)?;
    Ok(E::decode(&bytes))
}

/// `count` entries from number `from` on; fewer if the file ends.
pub(crate) fn read_entries<E: IndexEntry, R: Reading>(
    file: &R,
    from: u32,
    count: u32,
) -> Result<Vec<E>, FileError> {
    let mut bytes = vec![0; count as usize * E::SIZE];
    let read = file.bytes_at(&mut bytes, u64::from(from) * E::SIZE as u64)?;
    bytes.truncate(read);
    Ok(bytes.chunks_exact(E::SIZE).map_while(E::decode).collect())
}
