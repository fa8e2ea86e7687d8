//! The list of batches that compaction could not read, in a text file of the partition. The batches stay as they are.
//!
//! | line | of `compaction-quarantine` |
//! |---|---|
//! | 1 | version, 0 |
//! | 2 | number of entries |
//! | then | `first-offset last-offset segment position bytes reason…`; the reason is the rest of the line |
//!
//! Each pass rewrites the list, and removes the file if there are no entries. Kafka ignores it.

use crate::files::{FileError, Files, read_whole, replace_durably};
use ottla_protocol::ids::Offset;
use std::fmt::Write;
use std::path::Path;

/// The file in a partition's directory.
pub const QUARANTINE: &str = "compaction-quarantine";

const MAX_BYTES: u64 = 16 << 20;
/// Upper bound of the entries of one pass. Batches beyond it stay in the log too, but are only counted.
pub(super) const MAX_ENTRIES: usize = 10_000;

/// A batch, or the rest of a segment, that compaction could not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its first offset, as far as it is known.
    pub first_offset: Offset,
    /// Its last offset, as far as it is known.
    pub last_offset: Offset,
    /// The base offset of the segment that holds it.
    pub segment: Offset,
    /// Its position in the segment's `.log` file.
    pub position: u64,
    pub bytes: u64,
    pub reason: String,
}

/// The list of the partition at `directory`. A file that cannot be parsed counts as an empty list; the next pass
/// rewrites it.
pub fn read_quarantine<F: Files>(
    files: &F,
    directory: &Path,
) -> Result<Vec<Quarantined>, FileError> {
    let content = match read_whole(files, &directory.join(QUARANTINE), MAX_BYTES) {
        Err(error) if error.is_malformed() => None,
        outcome => outcome?,
    };
    let content = content.unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    Ok(text.lines().skip(2).map_while(parse).collect())
}

/// Writes the list of the partition at `directory`, durably.
pub(super) fn write_quarantine<F: Files>(
    files: &F,
    directory: &Path,
    list: &[Quarantined],
) -> Result<(), FileError> {
    let path = directory.join(QUARANTINE);
    if list.is_empty() {
        return match files.remove(&path) {
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => files.sync_directory(directory),
        };
    }
    let mut text = format!("0\n{}\n", list.len());
    for entry in list {
        let reason = entry.reason.replace('\n', " ");
        let _ = writeln!(
            text,
            "{} {} {} {} {} {reason}",
            entry.first_offset, entry.last_offset, entry.segment, entry.position, entry.bytes
        );
    }
    replace_durably(files, &path, text.as_bytes())
}

fn parse(line: &str) -> Option<Quarantined> {
    let mut words = line.splitn(6, ' ');
    Some(Quarantined {
        first_offset: Offset(words.next()?.parse().ok()?),
        last_offset: Offset(words.next()?.parse().ok()?),
        segment: Offset(words.next()?.parse().ok()?),
        position: words.next()?.parse().ok()?,
        bytes: words.next()?.parse().ok()?,
        reason: words.next()?.to_owned(),
    })
}
