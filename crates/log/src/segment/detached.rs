//! Detached indexes: rebuilt from the batches, and in memory until both files are complete.
//!
//! A start trusts an index below the recovery point without reading the batches, and it trusts one index because the
//! other is there. So rebuilt indexes must be on disk completely, or not at all. Both are written to temporary files,
//! synced, and renamed (assumption 6 of `docs/formats.md`). Until then all entries stay in memory, also those of new
//! appends, and nothing is written into a file of their name.

use super::Segment;
use crate::directory::StorageError;
use crate::files::{File, FileError, Files, Open, aside};
use crate::format::FileKind;
use crate::index_file::IndexFile;
use crate::place::Place;
use std::io::IoSlice;
use std::path::PathBuf;

/// With more files than this, one sync of the file system is faster than a sync of each.
const MANY: usize = 8;

/// The order of the renames, in which the names become durable (assumption 8). The offset index is last: a start that
/// still finds the old one judges it as before.
const KINDS: [FileKind; 2] = [FileKind::TimeIndex, FileKind::OffsetIndex];

/// Rebuilt indexes of one partition, in temporary files.
#[derive(Debug, Default)]
pub(crate) struct NewIndexes {
    /// The temporary path and the final path of each.
    files: Vec<(PathBuf, PathBuf)>,
}

impl NewIndexes {
    /// Syncs and renames them, durably.
    pub(crate) fn put_in_place<F: Files>(self, place: &Place<F>) -> Result<(), StorageError> {
        if self.files.is_empty() {
            return Ok(());
        }
        let directory = &place.directory;
        let files = directory.files();
        if self.files.len() > MANY {
            directory.sync_file_system()?;
        } else {
            for (aside, _) in &self.files {
                let file = directory.judge(directory.open_anew(aside, Open::Write))?;
                directory.judge(file.sync_data())?;
            }
        }
        for (aside, path) in &self.files {
            directory.forget(path);
            directory.judge(files.rename(aside, path))?;
        }
        directory.judge(files.sync_directory(&place.path))
    }
}

impl<F: Files> Segment<F> {
    /// Empties both indexes and detaches them, to be rebuilt.
    pub(crate) fn detach_indexes(&mut self) {
        self.offset_index = IndexFile::detached();
        self.time_index = IndexFile::detached();
    }

    pub(crate) fn has_detached_indexes(&self) -> bool {
        self.offset_index.is_detached()
    }

    /// Ends the detached state: the renamed files have all entries.
    pub(crate) fn attach_indexes(&mut self) {
        self.offset_index.attach();
        self.time_index.attach();
        if self.active.is_none() {
            self.offset_index.release();
            self.time_index.release();
        }
    }

    /// Writes the detached indexes to temporary files and adds them to `new`. After an error the files are removed.
    pub(crate) fn write_aside(
        &self,
        place: &Place<F>,
        new: &mut NewIndexes,
    ) -> Result<(), FileError> {
        let files = KINDS.map(|kind| {
            let path = place.path_of(kind, self.base);
            (aside(&path), path)
        });
        let bytes = [self.time_index.encoded(), self.offset_index.encoded()];
        let mut pairs = files.iter().zip(&bytes);
        let written = pairs.try_for_each(|((aside, _), bytes)| {
            let file = place.directory.open_anew(aside, Open::Replace)?;
            file.write_at(&[IoSlice::new(bytes)], 0)
        });
        if written.is_ok() {
            new.files.extend(files);
            return Ok(());
        }
        for (aside, _) in &files {
            match place.directory.files().remove(aside) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        written
    }
}
