//! The thread of a log directory for its regular jobs: checkpoints, retention, removing deleted partitions.
//!
//! `ottla_replica::housekeeping` decides when each is due. Each directory has its own thread, so that a slow disk
//! delays only its own jobs. A step that fails or panics is logged, and the next one is done. A failed write takes
//! the directory offline, checkpoints included.

use std::io;
use std::sync::{Arc, Weak};

use ottla_log::checkpoint::PartitionOffsets;
use ottla_log::files::disk::Disk;
use ottla_log::{PartitionLog, Removed, StorageError, run_together};
use ottla_protocol::time::{MonotonicTime, Timestamp};

use ottla_replica::checkpoints;
use ottla_replica::housekeeping::{Intervals, Job, Schedule};
use ottla_replica::logs::remove_directory;
use ottla_replica::stalls::Task;

use super::monitor::Monitor;
use super::threads::{Threads, caught};
use super::working::Working;
use crate::replicas::partition::Partition;
use crate::replicas::{Directory, Replicas};

/// The threads, one for each log directory.
#[derive(Debug, Default)]
pub(super) struct Housekeeper {
    wakes: Arc<Monitor<()>>,
    threads: Threads,
}

impl Housekeeper {
    pub(super) fn start(&self, replicas: &Arc<Replicas>, intervals: Intervals) -> io::Result<()> {
        let now = replicas.clock().monotonic();
        for (number, directory) in replicas.directories().iter().enumerate() {
            let jobs = Jobs {
                schedule: Schedule::new(intervals, now),
                written: None,
            };
            let (wakes, directory) = (Arc::clone(&self.wakes), Arc::clone(directory));
            let replicas = Arc::downgrade(replicas);
            let work = move || run(&replicas, &directory, &wakes, jobs);
            self.threads.start("keep", number, work)?;
        }
        Ok(())
    }

    /// Asks the threads to end.
    pub(super) fn stop(&self) {
        self.wakes.stop();
    }

    /// Waits for the thread of the directory of this number.
    pub(super) fn join(&self, number: usize) {
        self.threads.join(number);
    }
}

/// What the thread of a directory does, and when.
struct Jobs {
    schedule: Schedule,
    /// The high watermarks as they were last written.
    written: Option<PartitionOffsets>,
}

fn run(replicas: &Weak<Replicas>, directory: &Arc<Directory>, wakes: &Monitor<()>, mut jobs: Jobs) {
    let wait = jobs.schedule.longest_wait();
    loop {
        let guard = wakes.lock();
        if wakes.is_stopping() {
            return;
        }
        drop(wakes.wait(guard, Some(wait)));
        if wakes.is_stopping() {
            return;
        }
        let Some(replicas) = replicas.upgrade() else {
            return;
        };
        let work = Working::begin(directory, Task::Housekeeping, replicas.clock());
        jobs.work(&replicas, directory, &work);
        remove_due(&replicas, directory, &work);
    }
}

impl Jobs {
    fn work(&mut self, replicas: &Replicas, directory: &Arc<Directory>, work: &Working<'_>) {
        let now = replicas.now();
        step("look at the free space", || {
            directory.reserve.look();
            directory.reserve.keep_spare();
            Ok::<_, StorageError>(())
        });
        let partitions = replicas.all_in(directory);
        flush(&partitions, now, work, |partition| {
            self.schedule.flushes_between(&partition.settings())
        });
        for job in self.schedule.take_due(now) {
            match job {
                Job::WriteHighWatermarks => self.write_high_watermarks(replicas, directory),
                Job::MoveRecoveryPoints => {
                    // Under `page-cache` nothing else syncs the logs, and a start after a crash would read them whole.
                    flush(&partitions, now, work, |_| true);
                    step("move the recovery points", || {
                        move_recovery_points(replicas, directory, &partitions, work)
                    });
                    write_log_starts(replicas, directory);
                }
                Job::ExpireProducers => expire_producers(replicas, &partitions, work),
                Job::ApplyRetention => {
                    apply_retention(replicas, &partitions, work);
                    write_log_starts(replicas, directory);
                }
            }
            work.disk_answered();
        }
    }

    fn write_high_watermarks(&mut self, replicas: &Replicas, directory: &Arc<Directory>) {
        step("write the high watermarks", || {
            let here = || replicas.all_in(directory);
            let last = self.written.as_ref();
            let written = checkpoints::write_high_watermarks(directory, here, last)?;
            self.written = Some(written);
            Ok::<_, StorageError>(())
        });
    }
}

fn write_log_starts(replicas: &Replicas, directory: &Arc<Directory>) {
    step("write the log start offsets", || {
        replicas.write_log_starts(directory)
    });
}

/// Does one step and logs its failure. A panic in it does not end the thread: the other steps are done all the same.
fn step<E: std::fmt::Display>(what: &str, work: impl FnOnce() -> Result<(), E>) {
    match caught(work) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "cannot {what}"),
        Err(error) => tracing::error!(%error, "cannot {what}; housekeeping goes on"),
    }
}

/// Asks for a flush of those of `partitions` that `asks` is true for.
fn flush(
    partitions: &[Arc<Partition>],
    now: MonotonicTime,
    work: &Working<'_>,
    asks: impl Fn(&Partition) -> bool,
) {
    for partition in partitions {
        step("ask for a flush", || {
            if asks(partition) {
                partition.flush_if_dirty(now);
            }
            Ok::<_, StorageError>(())
        });
        work.disk_answered();
    }
}

/// Syncs indexes up to the flushed offset and writes the recovery points, so that a start after a crash reads less.
fn move_recovery_points(
    replicas: &Replicas,
    directory: &Arc<Directory>,
    partitions: &[Arc<Partition>],
    work: &Working<'_>,
) -> Result<(), StorageError> {
    let is_behind = |log: &mut PartitionLog<Disk>| log.recovery_point() < log.flushed_offset();
    let behind = partitions.iter();
    let behind = behind.filter(|partition| partition.with_log(is_behind) == Some(true));
    checkpoint_together(&behind.collect::<Vec<_>>(), work);
    checkpoints::write_recovery_points(directory, || replicas.all_in(directory))
}

/// Checkpoints logs of one directory with as few syncs as they allow.
fn checkpoint_together(partitions: &[&Arc<Partition>], work: &Working<'_>) {
    let mut begun = Vec::new();
    let mut checkpoints = Vec::new();
    for partition in partitions {
        step("move a recovery point", || {
            let checkpoint = partition.with_log(|log| log.begin_checkpoint_among(partitions.len()));
            if let Some(Some(checkpoint)) = checkpoint.transpose()? {
                begun.push(partition);
                checkpoints.push(checkpoint);
            }
            Ok::<_, StorageError>(())
        });
        work.disk_answered();
    }
    // Outside of the partitions' locks.
    let ran = run_together(&checkpoints);
    work.disk_answered();
    for (partition, checkpoint) in begun.into_iter().zip(&checkpoints) {
        step("end a checkpoint", || {
            partition.end_checkpoint(checkpoint, &ran);
            Ok::<_, StorageError>(())
        });
    }
    step("move recovery points", || ran);
}

fn apply_retention(replicas: &Replicas, partitions: &[Arc<Partition>], work: &Working<'_>) {
    for partition in partitions {
        let (topic, index) = (&*partition.topic, partition.index.0);
        step(&format!("apply retention to {topic}-{index}"), || {
            retain(partition, replicas.clock().now().wall)
        });
        work.disk_answered();
    }
}

fn expire_producers(replicas: &Replicas, partitions: &[Arc<Partition>], work: &Working<'_>) {
    let now = replicas.clock().now().wall;
    for partition in partitions {
        step("forget idle producers", || {
            partition.with_log(|log| log.expire_producers(now));
            Ok::<_, StorageError>(())
        });
        work.disk_answered();
    }
}

fn retain(partition: &Partition, now: Timestamp) -> Result<(), StorageError> {
    let removed = partition.with_log(|log| log.apply_retention(now));
    if let Some(Removed {
        segments: segments @ 1..,
        bytes,
    }) = removed.transpose()?
    {
        let (topic, partition) = (&*partition.topic, partition.index.0);
        tracing::info!(
            topic,
            partition,
            segments,
            bytes,
            "retention removed segments"
        );
    }
    Ok(())
}

/// Removes the deleted partitions of `directory` that are due, or all of them when the disk is short of space: the delay
/// only lets an operator look at the files, the broker does not need them.
fn remove_due(replicas: &Replicas, directory: &Directory, work: &Working<'_>) {
    let is_short = directory.reserve.is_short();
    let due = replicas
        .node()
        .take_removals(directory, replicas.clock().monotonic());
    for path in due {
        step("remove a deleted partition", || {
            remove_directory(directory.log.files(), &path, || work.disk_answered())
        });
        if is_short {
            directory.reserve.look();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn the_steps_after_one_that_panics_are_done() {
        let mut done = 0;
        for number in [1, 2] {
            step("count", || {
                assert_ne!(number, 1, "a broken invariant");
                done += number;
                Ok::<_, String>(())
            });
        }
        assert_eq!(done, 2);
    }
}
