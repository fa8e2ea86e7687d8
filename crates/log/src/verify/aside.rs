//! What was set aside earlier, as its file tells: recovery and `ottla log repair` begin it with lines of text.

use crate::files::{File, FileError, Files, Open};
use crate::recovery::cut_off::is_whole_segment;
use std::path::Path;

/// The lines are no longer than this.
const MAX_HEAD: usize = 4096;

/// What the file at `path` says of itself.
pub(super) fn describe<F: Files>(files: &F, path: &Path) -> Result<String, FileError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // That has no such lines.
    if is_whole_segment(&name) {
        return Ok(
            "recovery set this whole segment aside, behind where the log was cut".to_owned(),
        );
    }
    let file = files.open(path, Open::Read)?;
    let mut head = vec![0; MAX_HEAD];
    let read = file.read_at(&mut head, 0)?;
    let head = String::from_utf8_lossy(head.get(..read).unwrap_or_default());
    match head.split_once("\n\n") {
        Some((lines, _)) => Ok(lines.replace('\n', "; ")),
        None => Ok("recovery set this aside".to_owned()),
    }
}
