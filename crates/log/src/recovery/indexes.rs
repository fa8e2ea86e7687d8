//! Makes missing index files anew from the batches, when a log is opened.
//!
//! Below the recovery point no start reads the batches again, so a new index must be there whole or not at all: all are
//! written aside, synced, and renamed together (assumption 6 of `docs/formats.md`). Where space or descriptors are lacking
//! the entries stay in memory, no file is made, and the next start does it again.

use super::{OpenError, Recovering};
use crate::damage::{Met, Survey, UNBOUNDED};
use crate::directory::StorageError;
use crate::files::{File, FileError, Files, Open, aside};
use crate::format::FileKind;
use crate::index_file::IndexFile;
use crate::segment::Segment;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

/// With more files than this, one sync of the file system is faster than one of each.
const MANY: usize = 8;

/// New index files that lie beside their places.
#[derive(Debug, Default)]
pub(super) struct Rebuilt {
    files: Vec<(PathBuf, PathBuf)>,
}

impl<F: Files> Recovering<F> {
    /// Makes the offset and time index of a segment anew; what is damaged is passed over.
    pub(super) fn rebuild_indexes(
        &self,
        segment: &mut Segment<F>,
        rebuilt: &mut Rebuilt,
    ) -> Result<(), OpenError> {
        let size = segment.size;
        let place = self.place();
        segment.offset_index = IndexFile::of_length(0);
        segment.time_index = IndexFile::of_length(0);
        place
            .directory
            .judge(segment.begin_scan(place, 0, self.now))?;
        let file = place.directory.judge(segment.file(place))?;
        let mut survey = Survey::new(&*file, segment.base, 0..size, segment.base..UNBOUNDED);
        while let Some(met) = place.directory.judge(survey.advance())? {
            if let Met::Batch(located) = met {
                segment.note(&located, u64::from(self.config.index_interval_bytes));
            }
        }
        segment.end_scan();
        segment.size = size;
        let bytes = [segment.offset_index.encoded(), segment.time_index.encoded()];
        let kinds = [FileKind::OffsetIndex, FileKind::TimeIndex];
        let files: Vec<_> = kinds
            .map(|kind| place.path_of(kind, segment.base))
            .into_iter()
            .map(|path| (aside(&path), path))
            .collect();
        let written = files
            .iter()
            .zip(&bytes)
            .try_for_each(|((aside, _), bytes)| self.write_aside(aside, bytes));
        match written {
            Ok(()) => {
                segment.offset_index = IndexFile::of_length(bytes[0].len() as u64);
                segment.time_index = IndexFile::of_length(bytes[1].len() as u64);
                rebuilt.files.extend(files);
            }
            Err(error) if error.is_full() || error.is_lack_of_descriptors() => {
                // Both go: one alone would be believed.
                for (aside, path) in &files {
                    self.remove_index(aside)?;
                    self.remove_index(path)?;
                }
            }
            Err(error) => return Err(place.directory.failed(error).into()),
        }
        Ok(())
    }

    fn remove_index(&self, path: &Path) -> Result<(), StorageError> {
        let directory = &self.place().directory;
        directory.forget(path);
        match directory.files().remove(path) {
            Err(error) if error.is_not_found() => Ok(()),
            outcome => directory.judge(outcome),
        }
    }

    fn write_aside(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let file = self.place().directory.open_anew(path, Open::Replace)?;
        file.write_at(&[IoSlice::new(bytes)], 0)
    }

    /// Puts the new indexes in their places, durably.
    pub(super) fn name_rebuilt(&self, rebuilt: &Rebuilt) -> Result<(), StorageError> {
        if rebuilt.files.is_empty() {
            return Ok(());
        }
        let directory = &self.place().directory;
        let files = directory.files();
        if rebuilt.files.len() > MANY {
            directory.judge_sync(files.sync_file_system(&self.place().path))?;
        } else {
            for (aside, _) in &rebuilt.files {
                let file = directory.judge(directory.open_anew(aside, Open::Write))?;
                directory.judge_sync(file.sync_data())?;
            }
        }
        for (aside, path) in &rebuilt.files {
            directory.forget(path);
            directory.judge(files.rename(aside, path))?;
        }
        directory.judge_sync(files.sync_directory(&self.place().path))
    }
}
