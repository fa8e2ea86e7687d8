//! The directory of a partition's files, and the suffix of their names.

use crate::directory::LogDirectory;
use crate::files::{FileError, Files, Open};
use crate::format::{CLEANED_SUFFIX, FileKind};
use ottla_protocol::ids::Offset;
use std::path::PathBuf;
use std::sync::Arc;

/// The directory of a partition and the suffix of its segments' files.
#[derive(Debug)]
pub(crate) struct Place<F: Files> {
    pub(crate) directory: Arc<LogDirectory<F>>,
    pub(crate) path: PathBuf,
    /// The suffix of the segments' files: empty, except while compaction writes them.
    pub(crate) suffix: &'static str,
}

impl<F: Files> Place<F> {
    /// The place of segments that compaction is writing, in the partition at `path`.
    pub(crate) fn cleaned(directory: Arc<LogDirectory<F>>, path: PathBuf) -> Self {
        Self {
            directory,
            path,
            suffix: CLEANED_SUFFIX,
        }
    }

    pub(crate) fn path_of(&self, kind: FileKind, base: Offset) -> PathBuf {
        kind.path_with(&self.path, base, self.suffix)
    }

    pub(crate) fn open(&self, kind: FileKind, base: Offset) -> Result<Arc<F::File>, FileError> {
        let how = if kind == FileKind::Log {
            Open::Write
        } else {
            Open::Create
        };
        self.directory.open(&self.path_of(kind, base), how)
    }

    pub(crate) fn length(&self, kind: FileKind, base: Offset) -> Result<Option<u64>, FileError> {
        let status = self.directory.files().status(&self.path_of(kind, base))?;
        Ok(status.map(|status| status.length))
    }
}
