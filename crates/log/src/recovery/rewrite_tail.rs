//! Writing once more what recovery has read, so that the sync which follows has something to sync.
//!
//! After a failed sync the kernel takes what it could not write for written: a process that is started again reads it
//! from memory, syncs it without an error, and loses it when the power fails. Only a new write reaches the disk.

use crate::directory::{StorageError, unless_full};
use crate::files::{Files, copy};
use crate::partition_log::PartitionLog;
use ottla_protocol::ids::Offset;

impl<F: Files> PartitionLog<F> {
    /// Writes what was read from the segment at `base` on, from `offset` on, once more.
    pub(crate) fn rewrite_tail(&self, base: Offset, offset: Offset) -> Result<(), StorageError> {
        let directory = &self.place.directory;
        for segment in self.segments.range(base..).map(|(_, segment)| segment) {
            let (start, _) = directory.judge(segment.start_before(&self.place, offset))?;
            let file = directory.judge(segment.file(&self.place))?;
            let written = copy(&*file, (start, segment.size), (&*file, start));
            unless_full(directory.judge(written))?;
        }
        Ok(())
    }
}
