//! Writing once more what recovery has read, so that the sync which follows has something to sync.
//!
//! After a failed sync the kernel takes what it could not write for written: a process that is started again reads it
//! from memory, syncs it without an error, and loses it when the power fails. Only a new write reaches the disk.

use crate::directory::StorageError;
use crate::files::{File, FileError, Files};
use crate::partition_log::PartitionLog;
use crate::recovery::unless_full;
use ottla_protocol::ids::Offset;
use std::io::IoSlice;

/// The bytes that are read and written at a time.
const CHUNK: usize = 1 << 20;

impl<F: Files> PartitionLog<F> {
    /// Writes what was read from the segment at `base` on, from `offset` on, once more.
    pub(crate) fn write_again(&self, base: Offset, offset: Offset) -> Result<(), StorageError> {
        let directory = &self.place.directory;
        for segment in self.segments.range(base..).map(|(_, segment)| segment) {
            let (start, _) = directory.judge(segment.start_before(&self.place, offset))?;
            let file = directory.judge(segment.file(&self.place))?;
            let written = write_again(&*file, (start, segment.size));
            unless_full(directory.judge(written))?;
        }
        Ok(())
    }
}

/// Writes the bytes of `file` from one position up to another as they are.
fn write_again<H: File>(file: &H, (from, to): (u64, u64)) -> Result<(), FileError> {
    let mut position = from;
    while position < to {
        let length = usize::try_from(to - position).map_or(CHUNK, |left| left.min(CHUNK));
        let mut bytes = vec![0; length];
        let read = file.read_at(&mut bytes, position)?;
        if read == 0 {
            break;
        }
        bytes.truncate(read);
        file.write_at(&[IoSlice::new(&bytes)], position)?;
        position += read as u64;
    }
    Ok(())
}
