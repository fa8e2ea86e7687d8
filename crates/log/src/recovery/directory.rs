//! A partition's directory before its log is opened: made if it is missing, rid of what an interrupted operation left.

use crate::directory::StorageError;
use crate::files::Files;
use crate::format::{CLEANED_SUFFIX, DELETED_SUFFIX, FileKind, SWAP_SUFFIX};
use crate::segment::Place;
use ottla_protocol::ids::Offset;
use std::collections::BTreeSet;

/// The files of a log, by offset.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) segments: BTreeSet<Offset>,
    pub(super) snapshots: BTreeSet<Offset>,
}

impl<F: Files> Place<F> {
    pub(super) fn make_directory(&self) -> Result<(), StorageError> {
        let files = self.directory.files();
        if self
            .directory
            .judge(files.list(&self.path).map(Some).or_else(absent))?
            .is_none()
        {
            self.directory.judge(files.create_directory(&self.path))?;
            self.directory
                .judge(files.sync_directory(self.directory.path()))?;
        }
        Ok(())
    }

    /// Removes what an interrupted deletion or compaction left, and indexes without a segment; lists the rest.
    pub(super) fn tidy_and_list(&self) -> Result<Found, StorageError> {
        let files = self.directory.files();
        let mut found = Found::default();
        let mut indexes = Vec::new();
        for entry in self.directory.judge(files.list(&self.path))? {
            let name = entry.name.as_str();
            if name.ends_with(DELETED_SUFFIX) || name.ends_with(CLEANED_SUFFIX) {
                self.directory.judge(files.remove(&self.path.join(name)))?;
            } else if let Some(name) = name.strip_suffix(SWAP_SUFFIX) {
                self.finish_swap(name, &mut found)?;
            } else {
                match FileKind::of_name(name) {
                    Some((FileKind::Log, base)) => found.segments.extend([base]),
                    Some((FileKind::ProducerSnapshot, offset)) => found.snapshots.extend([offset]),
                    Some((kind, base)) => indexes.push((kind, base)),
                    None => {}
                }
            }
        }
        for (kind, base) in indexes {
            if !found.segments.contains(&base) {
                self.directory
                    .judge(files.remove(&self.path_of(kind, base)))?;
            }
        }
        Ok(found)
    }

    /// A compacted segment was about to take the place of the one it was made from: let it.
    fn finish_swap(&self, name: &str, found: &mut Found) -> Result<(), StorageError> {
        let files = self.directory.files();
        let from = self.path.join(format!("{name}{SWAP_SUFFIX}"));
        self.directory
            .judge(files.rename(&from, &self.path.join(name)))?;
        if let Some((FileKind::Log, base)) = FileKind::of_name(name) {
            found.segments.insert(base);
        }
        Ok(())
    }
}

fn absent<T>(error: crate::files::FileError) -> Result<Option<T>, crate::files::FileError> {
    if error.is_not_found() {
        Ok(None)
    } else {
        Err(error)
    }
}
