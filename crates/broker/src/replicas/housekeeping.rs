//! What must be done now and then: checkpoints, retention, removing deleted partitions. One thread, which may take
//! its time and logs what fails: a failed disk is noticed by those who write.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_log::checkpoint::{self, PartitionOffsets};
use ottla_log::files::FileError;
use ottla_log::files::disk::Disk;
use ottla_log::{Flush, PartitionLog, Removed, StorageError, run_together};
use ottla_protocol::ids::Offset;
use ottla_protocol::time::MonotonicTime;

use super::partition::Partition;
use super::{Replicas, logs};

/// How often what is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// `log.retention.check.interval.ms`.
    pub retention: Duration,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub recovery_points: Duration,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub high_watermarks: Duration,
    /// `log.initial.task.delay.ms`: how long a start is left in peace.
    pub initial_delay: Duration,
}

impl Default for Intervals {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            retention: Duration::from_mins(5),
            recovery_points: Duration::from_mins(1),
            high_watermarks: Duration::from_secs(5),
            initial_delay: Duration::from_secs(30),
        }
    }
}

/// The thread, and what it is told.
#[derive(Debug, Default)]
pub(super) struct Housekeeping {
    told: Arc<(Mutex<Told>, Condvar)>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held while checkpoint files are written: two at once would write over each other, and the older might win.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Told {
    is_stopping: bool,
    /// Directories to be removed, by the time at which.
    to_remove: Vec<(MonotonicTime, PathBuf)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Held for pushing and taking, and while a checkpoint is written, by threads that may wait.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Housekeeping {
    pub(super) fn start(&self, replicas: &Arc<Replicas>, intervals: Intervals) -> io::Result<()> {
        let told = Arc::clone(&self.told);
        let now = replicas.clock.monotonic();
        let rounds = Rounds {
            retention: now.after(intervals.initial_delay),
            recovery_points: now.after(intervals.recovery_points),
            high_watermarks: now.after(intervals.high_watermarks),
            written: BTreeMap::new(),
            intervals,
        };
        let replicas = Arc::downgrade(replicas);
        let run = move || run(&replicas, &told, rounds);
        let thread = std::thread::Builder::new()
            .name("housekeeping".to_owned())
            .spawn(run)?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    pub(super) fn stop(&self) {
        lock(&self.told.0).is_stopping = true;
        self.told.1.notify_one();
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("housekeeping panicked");
        }
    }

    /// Removes the directory at `path`, but not before `at`: by then nobody reads from it any more.
    pub(super) fn remove_at(&self, at: MonotonicTime, path: PathBuf) {
        lock(&self.told.0).to_remove.push((at, path));
    }
}

/// When each job is due next.
struct Rounds {
    intervals: Intervals,
    retention: MonotonicTime,
    recovery_points: MonotonicTime,
    high_watermarks: MonotonicTime,
    /// The high watermarks as they were last written.
    written: BTreeMap<PathBuf, PartitionOffsets>,
}

fn run(replicas: &Weak<Replicas>, told: &(Mutex<Told>, Condvar), rounds: Rounds) {
    let mut rounds = rounds;
    loop {
        let guard = lock(&told.0);
        if guard.is_stopping {
            return;
        }
        let wait = Duration::from_secs(1).min(rounds.intervals.high_watermarks);
        let (guard, _) = told
            .1
            .wait_timeout(guard, wait)
            .unwrap_or_else(PoisonError::into_inner);
        if guard.is_stopping {
            return;
        }
        drop(guard);
        let Some(replicas) = replicas.upgrade() else {
            return;
        };
        rounds.work(&replicas);
        remove_due(&replicas, told);
    }
}

impl Rounds {
    fn work(&mut self, replicas: &Replicas) {
        let now = replicas.clock.monotonic();
        for directory in replicas.directories.all() {
            directory.reserve.look();
            directory.reserve.keep_spare();
        }
        for partition in replicas.all() {
            if partition.settings().flush_interval < self.intervals.recovery_points {
                partition.flush_if_dirty();
            }
        }
        if now >= self.high_watermarks {
            self.high_watermarks = now.after(self.intervals.high_watermarks);
            noted(
                "write the high watermarks",
                self.write_changed_high_watermarks(replicas),
            );
        }
        if now >= self.recovery_points {
            self.recovery_points = now.after(self.intervals.recovery_points);
            // Under `page-cache` nobody else has them synced, and a start after a crash would read them all.
            replicas.all().iter().for_each(Partition::flush_if_dirty);
            noted("move the recovery points", move_recovery_points(replicas));
            noted("write the log start offsets", write_log_starts(replicas));
        }
        if now >= self.retention {
            self.retention = now.after(self.intervals.retention);
            apply_retention(replicas);
        }
    }

    fn write_changed_high_watermarks(&mut self, replicas: &Replicas) -> Result<(), FileError> {
        let _writing = lock(&replicas.housekeeping.writing);
        let offsets = logs::offsets_by_directory(replicas, |log| Some(log.high_watermark()));
        for (path, offsets) in offsets {
            if self.written.get(&path) != Some(&offsets) {
                write(replicas, &path, checkpoint::HIGH_WATERMARKS, &offsets)?;
                self.written.insert(path, offsets);
            }
        }
        Ok(())
    }
}

fn noted<E: std::fmt::Display>(what: &str, outcome: Result<(), E>) {
    if let Err(error) = outcome {
        tracing::error!(%error, "cannot {what}");
    }
}

fn write(
    replicas: &Replicas,
    path: &std::path::Path,
    name: &str,
    offsets: &PartitionOffsets,
) -> Result<(), FileError> {
    let directory = replicas
        .directories
        .all()
        .iter()
        .find(|directory| directory.log.path() == path);
    let directory = directory.expect("a log lies in a log directory");
    if directory.log.failure().is_some() {
        return Ok(());
    }
    checkpoint::write_offsets(directory.log.files(), path, name, offsets)
}

/// Writes the checkpoint of every directory; the first failure counts, and holds up no other directory.
fn write_all(
    replicas: &Replicas,
    name: &str,
    offsets: &BTreeMap<PathBuf, PartitionOffsets>,
) -> Result<(), FileError> {
    let written = offsets
        .iter()
        .map(|(path, offsets)| write(replicas, path, name, offsets));
    written.fold(Ok(()), Result::and)
}

pub(super) fn write_high_watermarks(replicas: &Replicas) -> Result<(), FileError> {
    let _writing = lock(&replicas.housekeeping.writing);
    let offsets = logs::offsets_by_directory(replicas, |log| Some(log.high_watermark()));
    write_all(replicas, checkpoint::HIGH_WATERMARKS, &offsets)
}

pub(super) fn write_log_starts(replicas: &Replicas) -> Result<(), FileError> {
    let _writing = lock(&replicas.housekeeping.writing);
    let offsets = logs::offsets_by_directory(replicas, |log| {
        Some(log.log_start_offset()).filter(|start| *start > Offset(0))
    });
    write_all(replicas, checkpoint::LOG_START_OFFSETS, &offsets)
}

/// Syncs indexes up to what is flushed, so that a start after a crash reads less, and writes down how far.
fn move_recovery_points(replicas: &Replicas) -> Result<(), FileError> {
    let mut by_directory: BTreeMap<PathBuf, Vec<Arc<Partition>>> = BTreeMap::new();
    for partition in replicas.all() {
        let behind = partition.with_log(|log| {
            let is_behind = log.recovery_point() < log.flushed_offset();
            is_behind.then(|| log.directory().path().to_path_buf())
        });
        if let Some(path) = behind.flatten() {
            by_directory.entry(path).or_default().push(partition);
        }
    }
    for partitions in by_directory.values() {
        checkpoint_together(partitions);
    }
    write_recovery_points(replicas)
}

/// Checkpoints logs of one directory with as few syncs as they allow.
fn checkpoint_together(partitions: &[Arc<Partition>]) {
    let mut begun = Vec::new();
    let mut checkpoints = Vec::new();
    for partition in partitions {
        let checkpoint = partition.with_log(|log| log.begin_checkpoint_among(partitions.len()));
        match checkpoint.transpose() {
            Ok(Some(Some(checkpoint))) => {
                begun.push(partition);
                checkpoints.push(checkpoint);
            }
            Ok(_) => {}
            Err(error) => noted("move a recovery point", Err(error)),
        }
    }
    // Outside of the partitions' locks.
    let ran = run_together(&checkpoints);
    for (partition, checkpoint) in begun.into_iter().zip(&checkpoints) {
        end_checkpoint(partition, checkpoint, &ran);
    }
    noted("move recovery points", ran);
}

/// Writes the recovery points down as they are, and lets the logs know.
pub(super) fn write_recovery_points(replicas: &Replicas) -> Result<(), FileError> {
    let _writing = lock(&replicas.housekeeping.writing);
    let offsets = logs::offsets_by_directory(replicas, |log| Some(log.recovery_point()));
    let mut outcome = Ok(());
    let mut written = BTreeMap::new();
    for (path, offsets) in offsets {
        match write(replicas, &path, checkpoint::RECOVERY_POINTS, &offsets) {
            Ok(()) => _ = written.insert(path, offsets),
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    for partition in replicas.all() {
        let key = (partition.topic.to_string(), partition.index.0);
        partition.with_log(|log| {
            let written = written.get(log.directory().path());
            if let Some(offset) = written.and_then(|offsets| offsets.get(&key)) {
                log.recovery_point_written(*offset);
            }
        });
    }
    outcome
}

/// Takes what earlier partitions of these names left out of the checkpoints: a start after a crash would believe that
/// the new ones begin, are durable or are compacted as far.
pub(super) fn forget(
    replicas: &Replicas,
    names: &BTreeSet<(String, i32)>,
) -> Result<(), FileError> {
    if names.is_empty() {
        return Ok(());
    }
    let _writing = lock(&replicas.housekeeping.writing);
    for directory in replicas.directories.all() {
        if directory.log.failure().is_some() {
            continue;
        }
        let (files, path) = (directory.log.files(), directory.log.path());
        for name in [
            checkpoint::RECOVERY_POINTS,
            checkpoint::HIGH_WATERMARKS,
            checkpoint::LOG_START_OFFSETS,
            checkpoint::CLEANER_OFFSETS,
        ] {
            let mut offsets = checkpoint::read_offsets(files, path, name)?;
            let before = offsets.len();
            offsets.retain(|partition, _| !names.contains(partition));
            if offsets.len() < before {
                checkpoint::write_offsets(files, path, name, &offsets)?;
            }
        }
    }
    Ok(())
}

/// Writes down how far logs are compacted.
pub(super) fn write_compacted(replicas: &Replicas) -> Result<(), FileError> {
    let _writing = lock(&replicas.housekeeping.writing);
    let offsets = logs::offsets_by_directory(replicas, |log| log.compacted_to());
    write_all(replicas, checkpoint::CLEANER_OFFSETS, &offsets)
}

pub(super) fn checkpoint_log(partition: &Partition) -> Result<(), StorageError> {
    let begun = partition.with_log(PartitionLog::begin_checkpoint);
    let Some(checkpoint) = begun.transpose()?.flatten() else {
        return Ok(());
    };
    // Outside of the partition's lock.
    let ran = checkpoint.run();
    end_checkpoint(partition, &checkpoint, &ran);
    ran
}

fn end_checkpoint(partition: &Partition, checkpoint: &Flush<Disk>, ran: &Result<(), StorageError>) {
    partition.with_log(|log| match ran {
        Ok(()) => _ = log.complete_checkpoint(checkpoint),
        Err(_) => log.abandon_checkpoint(),
    });
}

fn apply_retention(replicas: &Replicas) {
    let now = replicas.clock.now().wall;
    for partition in replicas.all() {
        let removed = partition.with_log(|log| {
            log.expire_producers(now);
            log.apply_retention(now)
        });
        match removed {
            Some(Ok(Removed { segments: 0, .. })) | None => {}
            Some(Ok(Removed { segments, bytes })) => {
                tracing::info!(topic = %partition.topic, partition = partition.index.0, segments, bytes, "retention removed segments");
            }
            Some(Err(error)) => {
                tracing::error!(topic = %partition.topic, partition = partition.index.0, %error, "cannot apply retention");
            }
        }
    }
    noted("write the log start offsets", write_log_starts(replicas));
}

fn remove_due(replicas: &Replicas, told: &(Mutex<Told>, Condvar)) {
    let now = replicas.clock.monotonic();
    let due: Vec<PathBuf> = {
        let mut told = lock(&told.0);
        let (due, later) = std::mem::take(&mut told.to_remove)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        told.to_remove = later;
        let due: Vec<(MonotonicTime, PathBuf)> = due;
        due.into_iter().map(|(_, path)| path).collect()
    };
    for path in due {
        let directory = replicas
            .directories
            .all()
            .iter()
            .find(|directory| path.starts_with(directory.log.path()));
        let Some(directory) = directory else { continue };
        noted(
            "remove a deleted partition",
            logs::remove_directory(*directory.log.files(), &path),
        );
    }
}
