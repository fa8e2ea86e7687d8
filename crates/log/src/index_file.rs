//! An index file: fixed-size entries in rising order, read by positioned reads, the newest kept in memory.
//!
//! New entries wait in memory and are written many at a time; a crash loses them, and recovery makes them anew from
//! the batches. A closed segment keeps only the number of its entries. Invariant: the file holds the first `written`
//! of `count` entries, and `recent` holds all from its start on, so at least the unwritten. A detached index has no file:
//! all of it is in memory, until a file that holds all of it has its name.

use crate::files::{File, FileError};
use crate::format::IndexEntry;
use std::io::IoSlice;
use std::sync::Arc;

/// Where the file is obtained when an answer is not in memory.
pub(crate) type Source<'a, H> = &'a dyn Fn() -> Result<Arc<H>, FileError>;

/// Entries that may wait before they are written.
const MAX_UNWRITTEN: u32 = 64;
/// Entries of an active segment that stay in memory for readers at the tail.
const MAX_RECENT: usize = 256;
/// When a search has come down to so many entries, it reads them at once.
const READ_AT_ONCE: u32 = 256;

#[derive(Debug, Clone)]
pub(crate) struct IndexFile<E> {
    written: u32,
    /// The newest entries; boxed, because there are two indexes for each segment and most are closed.
    recent: Option<Box<Recent<E>>>,
}

#[derive(Debug, Clone)]
struct Recent<E> {
    /// The number of the first.
    start: u32,
    entries: Vec<E>,
    /// Whether these are all entries, and the file of that name, if there is one, is none of theirs.
    is_detached: bool,
}

impl<E: IndexEntry> IndexFile<E> {
    /// An index of which `bytes` are on file; a torn last entry does not count.
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

    /// The file now holds all entries of a detached index.
    pub(crate) fn attach(&mut self) {
        self.written = self.count();
        if let Some(recent) = &mut self.recent {
            recent.is_detached = false;
        }
    }

    /// Keeps nothing in memory of what is on file.
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

    /// The bytes that it takes beside itself.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        let recent = self.recent.as_ref();
        recent.map_or(0, |recent| {
            size_of::<Recent<E>>() + recent.entries.capacity() * size_of::<E>()
        })
    }

    /// All entries of an index of which nothing is on file, as they are to be there.
    pub(crate) fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.recent()
            .iter()
            .for_each(|entry| entry.encode(&mut bytes));
        bytes
    }

    /// Writes the waiting entries, unless the index is detached.
    pub(crate) fn write<H: File>(&mut self, source: Source<'_, H>) -> Result<(), FileError> {
        if self.is_detached() {
            return Ok(());
        }
        if !self.is_written() {
            let mut bytes = Vec::new();
            let waiting = (self.written - self.recent_start()) as usize;
            self.recent()
                .iter()
                .skip(waiting)
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

    /// Writes the waiting entries and keeps nothing in memory, unless the index is detached: the segment is closed.
    pub(crate) fn write_and_release<H: File>(
        &mut self,
        source: Source<'_, H>,
    ) -> Result<(), FileError> {
        self.write(source)?;
        self.release();
        Ok(())
    }

    /// The entry number `index`.
    pub(crate) fn entry<H: File>(
        &self,
        index: u32,
        source: Source<'_, H>,
    ) -> Result<Option<E>, FileError> {
        if let Some(recent) = index.checked_sub(self.recent_start()) {
            return Ok(self.recent().get(recent as usize).copied());
        }
        let mut bytes = vec![0; E::SIZE];
        source()?.read_at(&mut bytes, u64::from(index) * E::SIZE as u64)?;
        Ok(E::decode(&bytes))
    }

    pub(crate) fn last<H: File>(&self, source: Source<'_, H>) -> Result<Option<E>, FileError> {
        match self.count().checked_sub(1) {
            Some(index) => self.entry(index, source),
            None => Ok(None),
        }
    }

    /// The number of entries for which `holds` is true; it must hold for the first so many and for no other.
    pub(crate) fn partition_point<H: File>(
        &self,
        source: Source<'_, H>,
        holds: impl Fn(&E) -> bool,
    ) -> Result<u32, FileError> {
        let (recent, recent_start) = (self.recent(), self.recent_start());
        if recent.first().is_some_and(&holds) || recent_start == 0 {
            let recent = recent.partition_point(&holds);
            return Ok(recent_start + u32::try_from(recent).unwrap_or(u32::MAX));
        }
        let file = source()?;
        let again = || Ok(Arc::clone(&file));
        let (mut low, mut high) = (0, recent_start);
        while high - low > READ_AT_ONCE {
            let middle = low + (high - low) / 2;
            if self
                .entry(middle, &again)?
                .is_some_and(|entry| holds(&entry))
            {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let entries = read_entries::<E, H>(&file, low, high - low)?;
        Ok(low + u32::try_from(entries.partition_point(holds)).unwrap_or(u32::MAX))
    }

    /// The last entry for which `holds` is true; it must hold for the first entries and for no other.
    pub(crate) fn last_where<H: File>(
        &self,
        source: Source<'_, H>,
        holds: impl Fn(&E) -> bool,
    ) -> Result<Option<E>, FileError> {
        match self.partition_point(source, holds)?.checked_sub(1) {
            Some(index) => self.entry(index, source),
            None => Ok(None),
        }
    }

    /// Keeps the first `count` entries and cuts the file to them. A detached index has none.
    pub(crate) fn truncate<H: File>(
        &mut self,
        count: u32,
        source: Source<'_, H>,
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

/// `count` entries from number `from`, fewer where the file ends.
pub(crate) fn read_entries<E: IndexEntry, H: File>(
    file: &H,
    from: u32,
    count: u32,
) -> Result<Vec<E>, FileError> {
    let mut bytes = vec![0; count as usize * E::SIZE];
    let read = file.read_at(&mut bytes, u64::from(from) * E::SIZE as u64)?;
    bytes.truncate(read);
    Ok(bytes.chunks_exact(E::SIZE).map_while(E::decode).collect())
}
