//! The segment files of the metadata log, named by their base offset.

use ottla_log::files::{Entry, FileError, Files, Open};
use ottla_protocol::ids::Offset;
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".log";

/// The suffixes of the files that Kafka derives from a segment.
const COMPANIONS: [&str; 4] = [".index", ".timeindex", ".txnindex", ".snapshot"];

/// The base offsets of the segments among these names, in order.
pub(crate) fn base_offsets(entries: &[Entry]) -> Vec<Offset> {
    let mut bases: Vec<Offset> = entries
        .iter()
        .filter(|entry| !entry.is_directory)
        .filter_map(|entry| parse(&entry.name))
        .collect();
    bases.sort_unstable();
    bases
}

fn parse(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok().map(Offset))?
}

/// The path of the segment with this base offset.
pub(crate) fn path(directory: &Path, base: Offset) -> PathBuf {
    directory.join(format!("{:020}{SUFFIX}", base.0))
}

/// Makes an empty segment, and syncs its name.
pub(crate) fn create<F: Files>(
    files: &F,
    directory: &Path,
    base: Offset,
) -> Result<F::File, FileError> {
    let file = files.open(&path(directory, base), Open::Replace)?;
    files.sync_directory(directory)?;
    Ok(file)
}

/// Removes a segment and the files derived from it. The caller syncs the directory.
pub(crate) fn remove<F: Files>(files: &F, directory: &Path, base: Offset) -> Result<(), FileError> {
    files.remove(&path(directory, base))?;
    remove_companions(files, directory, base)
}

/// Removes the files derived from a segment. Ottla does not keep them up to date, and a stale index would mislead Kafka.
pub(crate) fn remove_companions<F: Files>(
    files: &F,
    directory: &Path,
    base: Offset,
) -> Result<(), FileError> {
    for suffix in COMPANIONS {
        match files.remove(&directory.join(format!("{:020}{suffix}", base.0))) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
