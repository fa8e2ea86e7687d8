//! Closes the logs of a directory, so that the next start reads nothing.

use std::sync::{Arc, PoisonError};

use ottla_log::checkpoint::{self, PartitionOffsets};
use ottla_log::files::Files;
use ottla_log::{PartitionLog, StorageError, run_together};
use ottla_protocol::ids::Offset;

use super::LogsError;
use crate::checkpoints::{self, Partitions};
use crate::{Directory, Host, Partition, Workers};

/// Logs closed by one sync.
const CLOSED_TOGETHER: usize = 1000;

/// A log that was taken out of its partition.
type Closing<F, H> = (Arc<Partition<F, H>>, PartitionLog<F>);

/// The logs of a directory, and whether their checkpoints were written.
type Taken<F, H> = (Vec<Closing<F, H>>, Result<(), StorageError>);

/// Closes the logs of a directory and marks it as closed; does nothing when that was done before. After a failure the
/// mark is missing, and the next start recovers the directory.
pub fn close<F: Files, H: Host>(
    directory: &Directory<F, H>,
    partitions: impl FnOnce() -> Partitions<F, H>,
    workers: &impl Workers,
    broker_epoch: i64,
) -> Result<(), LogsError> {
    let Some((logs, written)) = take_all(directory, partitions, workers) else {
        return Ok(());
    };
    let mut logs = logs.into_iter().peekable();
    let mut groups = Vec::new();
    while logs.peek().is_some() {
        groups.push(logs.by_ref().take(CLOSED_TOGETHER).collect());
    }
    let points = workers.each(groups, |logs| close_together(logs, workers));
    let points = points
        .into_iter()
        .collect::<Result<Vec<PartitionOffsets>, StorageError>>()?;
    written?;
    let points = points.into_iter().flatten().collect();
    Ok(finish(directory, &points, broker_epoch)?)
}

/// Takes the logs out of their partitions and writes their high watermarks and log start offsets. After this, nothing else
/// writes the checkpoint files of the directory. Returns `None` when that was done before.
fn take_all<F: Files, H: Host>(
    directory: &Directory<F, H>,
    partitions: impl FnOnce() -> Partitions<F, H>,
    workers: &impl Workers,
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
        workers.disk_answered();
    }
    let written = checkpoints::write(directory, checkpoint::HIGH_WATERMARKS, &high_watermarks)
        .and_then(|()| checkpoints::write(directory, checkpoint::LOG_START_OFFSETS, &log_starts));
    Some((logs, written))
}

/// Closes logs of one directory with as few syncs as they allow; returns their recovery points.
fn close_together<F: Files, H: Host>(
    logs: Vec<Closing<F, H>>,
    workers: &impl Workers,
) -> Result<PartitionOffsets, StorageError> {
    let mut flushes = Vec::with_capacity(logs.len());
    let mut points = PartitionOffsets::new();
    let count = logs.len();
    for (partition, log) in logs {
        // Waits for a pass of the cleaner, which soon finds that the log is gone.
        drop(
            partition
                .cleaning
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let flush = log.begin_close_among(count)?;
        points.insert(checkpoints::key(&partition), flush.end().offset);
        flushes.push(flush);
        workers.disk_answered();
    }
    run_together(&flushes)?;
    workers.disk_answered();
    Ok(points)
}

/// Writes the recovery points of the logs, and the mark of a clean shutdown.
fn finish<F: Files, H: Host>(
    directory: &Directory<F, H>,
    recovery_points: &PartitionOffsets,
    broker_epoch: i64,
) -> Result<(), StorageError> {
    let log = &directory.log;
    log.ensure_online()?;
    let (files, path) = (log.files(), log.path());
    let points = checkpoint::RECOVERY_POINTS;
    log.judge(checkpoint::write_offsets(
        files,
        path,
        points,
        recovery_points,
    ))?;
    log.judge(checkpoint::write_clean_shutdown(files, path, broker_epoch))
}
