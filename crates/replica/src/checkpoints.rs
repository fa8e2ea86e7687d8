//! Writes the checkpoint files of a log directory.
//!
//! Each directory is written by itself, so a slow or failed one does not delay others. A failed or closed directory is
//! not written: its logs are not served any more, and its files stay as they are. A write that fails takes its directory
//! offline, unless the disk is only full. The partitions are listed while the files are locked, so the later of two
//! writers has the newer list.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_log::checkpoint::{self, PartitionOffsets};
use ottla_log::files::Files;
use ottla_log::planted::{Bug, is_planted};
use ottla_log::{PartitionLog, StorageError};
use ottla_protocol::ids::Offset;

use crate::{Directory, Host, Partition};

/// The partitions of a directory.
pub type Partitions<F, H> = Vec<Arc<Partition<F, H>>>;

/// Writes the high watermarks, unless they equal `written`; returns them.
pub fn write_high_watermarks<F: Files, H: Host>(
    directory: &Directory<F, H>,
    partitions: impl FnOnce() -> Partitions<F, H>,
    written: Option<&PartitionOffsets>,
) -> Result<PartitionOffsets, StorageError> {
    let Some(_writing) = directory.checkpoint_files() else {
        return Ok(PartitionOffsets::new());
    };
    let offsets = offsets(&partitions(), |log| Some(log.high_watermark()));
    if written != Some(&offsets) {
        write(directory, checkpoint::HIGH_WATERMARKS, &offsets)?;
    }
    Ok(offsets)
}

/// Writes the log start offsets.
pub fn write_log_starts<F: Files, H: Host>(
    directory: &Directory<F, H>,
    partitions: impl FnOnce() -> Partitions<F, H>,
) -> Result<(), StorageError> {
    write_all(
        directory,
        partitions,
        checkpoint::LOG_START_OFFSETS,
        |log| Some(log.log_start_offset()).filter(|start| *start > Offset(0)),
    )
}

/// As [`write_log_starts`], for a caller that tells a client that they are written: a directory that has failed is an error.
pub fn ensure_log_starts<F: Files, H: Host>(
    directory: &Directory<F, H>,
    partitions: impl FnOnce() -> Partitions<F, H>,
) -> Result<(), StorageError> {
    write_log_starts(directory, partitions)?;
    directory.log.ensure_online()
}

/// Writes the offsets up to which logs are compacted.
pub fn write_compacted<F: Files, H: Host>(
    directory: &Directory<F, H>,
    partitions: impl FnOnce() -> Partitions<F, H>,
) -> Result<(), StorageError> {
    write_all(directory, partitions, checkpoint::CLEANER_OFFSETS, |log| {
        log.compacted_to()
    })
}

fn write_all<F: Files, H: Host>(
    directory: &Directory<F, H>,
    partitions: impl FnOnce() -> Partitions<F, H>,
    name: &str,
    offset: impl Fn(&mut PartitionLog<F>) -> Option<Offset>,
) -> Result<(), StorageError> {
    let Some(_writing) = directory.checkpoint_files() else {
        return Ok(());
    };
    let offsets = offsets(&partitions(), offset);
    write(directory, name, &offsets)
}

/// Writes the recovery points, and tells each log that its own is on disk.
pub fn write_recovery_points<F: Files, H: Host>(
    directory: &Directory<F, H>,
    partitions: impl FnOnce() -> Partitions<F, H>,
) -> Result<(), StorageError> {
    let Some(_writing) = directory.checkpoint_files() else {
        return Ok(());
    };
    let partitions = partitions();
    let offsets = offsets(&partitions, |log| Some(log.recovery_point()));
    write(directory, checkpoint::RECOVERY_POINTS, &offsets)?;
    for partition in partitions {
        if let Some(offset) = offsets.get(&key(&partition)) {
            partition.with_log(|log| log.recovery_point_written(*offset));
        }
    }
    Ok(())
}

/// Removes the entries of deleted partitions with these names. Otherwise a start after a crash would use their log
/// start offset, recovery point or cleaner offset for the new partitions.
pub fn forget<F: Files, H: Host>(
    directory: &Directory<F, H>,
    names: &BTreeSet<(String, i32)>,
) -> Result<(), StorageError> {
    if is_planted(Bug::StaleCheckpointsKept)
        || names.is_empty()
        || directory.log.failure().is_some()
    {
        return Ok(());
    }
    let Some(_writing) = directory.checkpoint_files() else {
        return Ok(());
    };
    let (files, path) = (directory.log.files(), directory.log.path());
    for name in [
        checkpoint::RECOVERY_POINTS,
        checkpoint::HIGH_WATERMARKS,
        checkpoint::LOG_START_OFFSETS,
        checkpoint::CLEANER_OFFSETS,
    ] {
        let read = match checkpoint::read_offsets(files, path, name) {
            // The start has ignored this file, and logged that.
            Err(error) if error.is_malformed() => None,
            read => Some(directory.log.judge(read)?),
        };
        let mut offsets = read.clone().unwrap_or_default();
        offsets.retain(|partition, _| !names.contains(partition));
        if read.as_ref() != Some(&offsets) {
            write(directory, name, &offsets)?;
        }
    }
    Ok(())
}

fn offsets<F: Files, H: Host>(
    partitions: &[Arc<Partition<F, H>>],
    offset: impl Fn(&mut PartitionLog<F>) -> Option<Offset>,
) -> PartitionOffsets {
    let offsets = partitions
        .iter()
        .filter_map(|partition| Some((key(partition), partition.with_log(&offset)??)));
    offsets.collect()
}

/// The key of a partition in a checkpoint.
pub fn key<F: Files, H: Host>(partition: &Partition<F, H>) -> (String, i32) {
    (partition.topic.to_string(), partition.index.0)
}

/// Writes one file. The caller holds [`Directory::checkpoint_files`].
pub(crate) fn write<F: Files, H: Host>(
    directory: &Directory<F, H>,
    name: &str,
    offsets: &PartitionOffsets,
) -> Result<(), StorageError> {
    if directory.log.failure().is_some() {
        return Ok(());
    }
    let (files, path) = (directory.log.files(), directory.log.path());
    directory
        .log
        .judge(checkpoint::write_offsets(files, path, name, offsets))
}
