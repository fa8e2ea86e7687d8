//! The checkpoint files of a log directory, put together from what its logs say.
//!
//! Each directory is written by itself: one that is slow or has failed holds up no other. A directory that has failed, or
//! is closed, is left as it is: its logs were written down as they were, and nobody finds them any more.

use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};

use ottla_log::PartitionLog;
use ottla_log::checkpoint::{self, PartitionOffsets};
use ottla_log::files::FileError;
use ottla_log::files::disk::Disk;
use ottla_protocol::ids::Offset;

use super::directories::CheckpointFiles;
use super::{Directory, Partition, Replicas};

/// Writes the high watermarks, unless they are as `written`; says what they are.
pub(super) fn write_high_watermarks(
    replicas: &Replicas,
    directory: &Arc<Directory>,
    written: Option<&PartitionOffsets>,
) -> Result<PartitionOffsets, FileError> {
    let Some(_writing) = writing(directory) else {
        return Ok(PartitionOffsets::new());
    };
    let offsets = offsets(&replicas.all_in(directory), |log| {
        Some(log.high_watermark())
    });
    if written != Some(&offsets) {
        write(directory, checkpoint::HIGH_WATERMARKS, &offsets)?;
    }
    Ok(offsets)
}

/// Writes where each log starts.
pub(super) fn write_log_starts(
    replicas: &Replicas,
    directory: &Arc<Directory>,
) -> Result<(), FileError> {
    write_all(replicas, directory, checkpoint::LOG_START_OFFSETS, |log| {
        Some(log.log_start_offset()).filter(|start| *start > Offset(0))
    })
}

/// Writes how far logs are compacted.
pub(super) fn write_compacted(
    replicas: &Replicas,
    directory: &Arc<Directory>,
) -> Result<(), FileError> {
    write_all(replicas, directory, checkpoint::CLEANER_OFFSETS, |log| {
        log.compacted_to()
    })
}

fn write_all(
    replicas: &Replicas,
    directory: &Arc<Directory>,
    name: &str,
    offset: impl Fn(&mut PartitionLog<Disk>) -> Option<Offset>,
) -> Result<(), FileError> {
    let Some(_writing) = writing(directory) else {
        return Ok(());
    };
    let offsets = offsets(&replicas.all_in(directory), offset);
    write(directory, name, &offsets)
}

/// Writes the recovery points down as they are, and lets the logs know.
pub(super) fn write_recovery_points(
    replicas: &Replicas,
    directory: &Arc<Directory>,
) -> Result<(), FileError> {
    let Some(_writing) = writing(directory) else {
        return Ok(());
    };
    let partitions = replicas.all_in(directory);
    let offsets = offsets(&partitions, |log| Some(log.recovery_point()));
    write(directory, checkpoint::RECOVERY_POINTS, &offsets)?;
    for partition in partitions {
        if let Some(offset) = offsets.get(&key(&partition)) {
            partition.with_log(|log| log.recovery_point_written(*offset));
        }
    }
    Ok(())
}

/// Takes what earlier partitions of these names left out of the checkpoints: a start after a crash would believe that
/// the new ones begin, are durable or are compacted as far.
pub(super) fn forget(
    directory: &Directory,
    names: &BTreeSet<(String, i32)>,
) -> Result<(), FileError> {
    if names.is_empty() || directory.log.failure().is_some() {
        return Ok(());
    }
    let Some(_writing) = writing(directory) else {
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
            // The start went on without it, and said so.
            Err(error) if error.is_malformed() => None,
            read => Some(read?),
        };
        let mut offsets = read.clone().unwrap_or_default();
        offsets.retain(|partition, _| !names.contains(partition));
        if read.as_ref() != Some(&offsets) {
            checkpoint::write_offsets(files, path, name, &offsets)?;
        }
    }
    Ok(())
}

/// The right to write; nothing once the directory is closed.
pub(super) fn writing(directory: &Directory) -> Option<MutexGuard<'_, CheckpointFiles>> {
    let writing = directory.checkpoints.lock();
    let writing = writing.unwrap_or_else(PoisonError::into_inner);
    (!writing.are_closed).then_some(writing)
}

fn offsets(
    partitions: &[Arc<Partition>],
    offset: impl Fn(&mut PartitionLog<Disk>) -> Option<Offset>,
) -> PartitionOffsets {
    let offsets = partitions
        .iter()
        .filter_map(|partition| Some((key(partition), partition.with_log(&offset)??)));
    offsets.collect()
}

/// What a checkpoint calls a partition.
pub(super) fn key(partition: &Partition) -> (String, i32) {
    (partition.topic.to_string(), partition.index.0)
}

/// Writes one of the files, for whoever has the right to.
pub(super) fn write(
    directory: &Directory,
    name: &str,
    offsets: &PartitionOffsets,
) -> Result<(), FileError> {
    if directory.log.failure().is_some() {
        return Ok(());
    }
    let (files, path) = (directory.log.files(), directory.log.path());
    checkpoint::write_offsets(files, path, name, offsets)
}
