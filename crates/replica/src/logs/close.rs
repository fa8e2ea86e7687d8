//! Closing the logs of a directory, so that the next start reads nothing.

use std::sync::{Arc, PoisonError};

use ottla_log::checkpoint::{self, PartitionOffsets};
use ottla_log::files::{FileError, Files};
use ottla_log::{PartitionLog, StorageError, run_together};
use ottla_protocol::ids::Offset;

use crate::checkpoints::{self, Partitions};
use crate::{Directory, Host, Partition};

/// A log that was taken out of its partition.
pub type Closing<F, H> = (Arc<Partition<F, H>>, PartitionLog<F>);

/// The logs of a directory, and whether their offsets were written down.
pub type Taken<F, H> = (Vec<Closing<F, H>>, Result<(), FileError>);

/// Takes the logs of a directory out and writes their high watermarks and starts down; from then on nobody else writes its
/// checkpoint files. Nothing when that was done before. `taken` is called after each log.
pub fn take_all<F: Files, H: Host>(
    directory: &Directory<F, H>,
    partitions: impl FnOnce() -> Partitions<F, H>,
    taken: impl Fn(),
) -> Option<Taken<F, H>> {
    let mut files = directory.checkpoint_files()?;
    files.are_closed = true;
    let mut logs: Vec<Closing<F, H>> = Vec::new();
    let (mut high_watermarks, mut log_starts) = (PartitionOffsets::new(), PartitionOffsets::new());
    for partition in partitions() {
        let Some(log) = partition.take_log() else {
            continue;
        };
        let key = checkpoints::key(&partition);
        high_watermarks.insert(key.clone(), log.high_watermark());
        if log.log_start_offset() > Offset(0) {
            log_starts.insert(key, log.log_start_offset());
        }
        logs.push((partition, log));
        taken();
    }
    let written = checkpoints::write(directory, checkpoint::HIGH_WATERMARKS, &high_watermarks)
        .and_then(|()| checkpoints::write(directory, checkpoint::LOG_START_OFFSETS, &log_starts));
    Some((logs, written))
}

/// Closes logs of one directory with as few syncs as they allow; returns their recovery points. `closed` is called when
/// the disk has answered.
pub fn close_together<F: Files, H: Host>(
    logs: Vec<Closing<F, H>>,
    closed: impl Fn(),
) -> Result<PartitionOffsets, StorageError> {
    let mut flushes = Vec::with_capacity(logs.len());
    let mut points = PartitionOffsets::new();
    let count = logs.len();
    for (partition, log) in logs {
        // A pass of the cleaner finds the log gone soon.
        drop(
            partition
                .cleaning
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let flush = log.begin_close_among(count)?;
        points.insert(checkpoints::key(&partition), flush.end().offset);
        flushes.push(flush);
        closed();
    }
    run_together(&flushes)?;
    closed();
    Ok(points)
}

/// Writes down that a directory was closed: the recovery points of its logs, and the mark of a clean shutdown.
pub fn finish<F: Files, H: Host>(
    directory: &Directory<F, H>,
    recovery_points: &PartitionOffsets,
    broker_epoch: i64,
) -> Result<(), FileError> {
    let (files, path) = (directory.log.files(), directory.log.path());
    checkpoint::write_offsets(files, path, checkpoint::RECOVERY_POINTS, recovery_points)?;
    checkpoint::write_clean_shutdown(files, path, broker_epoch)
}
