//! Indexes that were made anew from the batches, and how they become files.
//!
//! Below the recovery point no start reads the batches again: an index that is there is believed, and one index is believed
//! on account of the other. So new ones must be there whole or not at all. Both are written aside, synced, and renamed
//! (assumption 6 of `docs/formats.md`). Until then they are detached: all entries stay in memory, those of batches that are
//! appended meanwhile included, and nothing is written into a file of their name.

use super::Segment;
use crate::directory::StorageError;
use crate::files::{File, FileError, Files, Open, aside};
use crate::format::FileKind;
use crate::index_file::IndexFile;
use crate::place::Place;
use std::io::IoSlice;
use std::path::PathBuf;

/// With more files than this, one sync of the file system is faster than one of each.
const MANY: usize = 8;

/// The order in which new indexes take their places, and so become durable (assumption 8). The offset index is last: a
/// start that finds the old one judges it as before, whatever lies beside it.
const KINDS: [FileKind; 2] = [FileKind::TimeIndex, FileKind::OffsetIndex];

/// The indexes of one partition that lie beside their places.
#[derive(Debug, Default)]
pub(crate) struct NewIndexes {
    /// Where each is, and its place.
    files: Vec<(PathBuf, PathBuf)>,
}

impl NewIndexes {
    /// Puts them in their places, durably.
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
    /// Empties both indexes, which are to be made anew and have no files from now on.
    pub(crate) fn detach_indexes(&mut self) {
        self.offset_index = IndexFile::detached();
        self.time_index = IndexFile::detached();
    }

    pub(crate) fn has_detached_indexes(&self) -> bool {
        self.offset_index.is_detached()
    }

    /// The files in `new` are those of the indexes, which are detached no more.
    pub(crate) fn attach_indexes(&mut self) {
        self.offset_index.attach();
        self.time_index.attach();
        if self.active.is_none() {
            self.offset_index.release();
            self.time_index.release();
        }
    }

    /// Writes the detached indexes aside and adds them to `new`. Nothing is left of them where that fails.
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
