//! The checkpoint files of a log directory, put together from its logs.
//!
//! Each directory is written by itself: one that is slow or has failed holds up no other. A directory that has failed, or
//! is closed, is left as it is: its logs were written down as they were, and are served no more. The partitions are asked for
//! while the files are locked: of two writers the later one has the newer list.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_log::PartitionLog;
use ottla_log::checkpoint::{self, PartitionOffsets};
use ottla_log::files::{FileError, Files};
use ottla_log::planted::{Bug, is_planted};
use ottla_protocol::ids::Offset;

use crate::{Directory, Host, Partition};

/// The partitions that lie in a directory.
pub type Partitions<F, H> = Vec<Arc<Partition<F, H>>>;

/// Writes the high watermarks, unless they are as `written`; returns them.
pub fn write_high_watermarks<F: Files, H: Host>(
    directory: &Directory<F, H>,
    partitions: impl FnOnce() -> Partitions<F, H>,
    written: Option<&PartitionOffsets>,
) -> Result<PartitionOffsets, FileError> {
    let Some(_writing) = directory.checkpoint_files() else {
        return Ok(PartitionOffsets::new());
    };
    let offsets = offsets(&partitions(), |log| Some(log.high_watermark()));
    if written != Some(&offsets) {
        write(directory, checkpoint::HIGH_WATERMARKS, &offsets)?;
    }
    Ok(offsets)
}

/// Writes where each log starts.
pub fn write_log_starts<F: Files, H: Host>(
    directory: &Directory<F, H>,
    partitions: impl FnOnce() -> Partitions<F, H>,
) -> Result<(), FileError> {
    write_all(
        directory,
        partitions,
        checkpoint::LOG_START_OFFSETS,
        |log| Some(log.log_start_offset()).filter(|start| *start > Offset(0)),
    )
}

/// Writes how far logs are compacted.
pub fn write_compacted<F: Files, H: Host>(
    directory: &Directory<F, H>,
    partitions: impl FnOnce() -> Partitions<F, H>,
) -> Result<(), FileError> {
    write_all(directory, partitions, checkpoint::CLEANER_OFFSETS, |log| {
        log.compacted_to()
    })
}

fn write_all<F: Files, H: Host>(
    directory: &Directory<F, H>,
    partitions: impl FnOnce() -> Partitions<F, H>,
    name: &str,
    offset: impl Fn(&mut PartitionLog<F>) -> Option<Offset>,
) -> Result<(), FileError> {
    let Some(_writing) = directory.checkpoint_files() else {
        return Ok(());
    };
    let offsets = offsets(&partitions(), offset);
    write(directory, name, &offsets)
}

/// Writes the recovery points down as they are, and lets the logs know.
pub fn write_recovery_points<F: Files, H: Host>(
    directory: &Directory<F, H>,
    partitions: impl FnOnce() -> Partitions<F, H>,
) -> Result<(), FileError> {
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

/// Takes what earlier partitions of these names left out of the checkpoints: a start after a crash would believe that
/// the new ones begin, are durable or are compacted as far.
pub fn forget<F: Files, H: Host>(
    directory: &Directory<F, H>,
    names: &BTreeSet<(String, i32)>,
) -> Result<(), FileError> {
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

fn offsets<F: Files, H: Host>(
    partitions: &[Arc<Partition<F, H>>],
    offset: impl Fn(&mut PartitionLog<F>) -> Option<Offset>,
) -> PartitionOffsets {
    let offsets = partitions
        .iter()
        .filter_map(|partition| Some((key(partition), partition.with_log(&offset)??)));
    offsets.collect()
}

/// What a checkpoint calls a partition.
pub fn key<F: Files, H: Host>(partition: &Partition<F, H>) -> (String, i32) {
    (partition.topic.to_string(), partition.index.0)
}

/// Writes one of the files. The caller holds [`Directory::checkpoint_files`].
pub(crate) fn write<F: Files, H: Host>(
    directory: &Directory<F, H>,
    name: &str,
    offsets: &PartitionOffsets,
) -> Result<(), FileError> {
    if directory.log.failure().is_some() {
        return Ok(());
    }
    let (files, path) = (directory.log.files(), directory.log.path());
    checkpoint::write_offsets(files, path, name, offsets)
}
