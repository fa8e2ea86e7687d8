//! Describes `.cutoff` files. Recovery and `ottla log repair` begin them with lines of text.

use crate::files::{File, FileError, Files, Open};
use crate::format::CUT_OFF_SUFFIX;
use crate::recovery::cut_off::is_whole_segment;
use std::path::Path;

/// Upper bound of these lines in bytes.
const MAX_HEAD: usize = 4096;

/// A description of the file at `path`.
pub(super) fn describe<F: Files>(files: &F, path: &Path) -> Result<String, FileError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A renamed segment has no such lines.
    if is_whole_segment(&name) {
        return Ok(
            "recovery set this whole segment aside, behind where the log was cut".to_owned(),
        );
    }
    if is_replaced(&name) {
        return Ok("`ottla log repair` moved this file aside as it stood".to_owned());
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

/// Whether this is a file that `ottla log repair` replaced: its name ends with the kind of file.
fn is_replaced(name: &str) -> bool {
    let what = name.strip_suffix(CUT_OFF_SUFFIX);
    let what = what.and_then(|stem| stem.splitn(3, '-').nth(2));
    what.is_some_and(|what| what.bytes().all(|byte| byte.is_ascii_alphabetic()))
}
