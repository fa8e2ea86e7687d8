//! The spare file of a log directory: it holds space for a start on a full disk.
//!
//! A start must write a little before anything else works: a leader epoch, checkpoints. On a full disk it removes the
//! spare file first. The file is created again once there is space beyond `ottla.disk.reserve`. Kafka ignores it.

use std::path::Path;

use ottla_log::files::{File as _, FileError, Files, Open};

/// The file's name in a log directory.
const NAME: &str = "ottla.spare";
/// The size of the file in bytes.
pub const BYTES: u64 = 4 << 20;

/// At a start: removes the file if less than its size is free.
pub fn make_room<F: Files>(files: &F, directory: &Path) -> Result<(), FileError> {
    let free = files.space(directory)?.free;
    make_room_on(files, directory, free)
}

fn make_room_on<F: Files>(files: &F, directory: &Path, free: u64) -> Result<(), FileError> {
    let path = directory.join(NAME);
    if free >= BYTES || files.status(&path)?.is_none() {
        return Ok(());
    }
    tracing::warn!(
        log_dir = %directory.display(),
        "the disk is full: starting with the space that was kept for it; records of clients are refused"
    );
    files.remove(&path)
}

/// Creates the file. The caller has checked that there is enough space.
pub fn keep<F: Files>(files: &F, directory: &Path) -> Result<(), FileError> {
    let path = directory.join(NAME);
    let file = files.open(&path, Open::Create)?;
    let taken = file.reserve(0, BYTES);
    if taken.is_err() {
        // An empty file holds no space.
        files.remove(&path)?;
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::{BYTES, NAME, keep, make_room_on};
    use ottla_log::files::disk::Disk;

    #[test]
    fn space_is_kept_until_the_disk_is_full() {
        let directory = tempfile::tempdir().unwrap();
        make_room_on(&Disk, directory.path(), 0).unwrap();
        keep(&Disk, directory.path()).unwrap();
        let file = directory.path().join(NAME);
        make_room_on(&Disk, directory.path(), BYTES).unwrap();
        assert!(file.exists());
        make_room_on(&Disk, directory.path(), BYTES - 1).unwrap();
        assert!(!file.exists());
    }
}
