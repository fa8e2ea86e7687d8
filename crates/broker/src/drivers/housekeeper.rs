//! Work that comes back at intervals: checkpoints, retention, removing deleted partitions.
//!
//! Each log directory has a thread for it, so that a slow disk delays its own housekeeping only. A step that fails or
//! panics is logged, and the next is done. A failed disk is taken offline by the threads that write to it, not here.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ottla_log::checkpoint::PartitionOffsets;
use ottla_log::files::FileError;
use ottla_log::files::disk::Disk;
use ottla_log::{PartitionLog, Removed, StorageError, run_together};
use ottla_protocol::time::{MonotonicTime, Timestamp};

use ottla_replica::checkpoints;
use ottla_replica::logs::remove_directory;
use ottla_replica::stalls::Task;

use super::monitor::Monitor;
use super::threads::{Threads, caught};
use super::working::Working;
use crate::replicas::partition::Partition;
use crate::replicas::{Directory, Replicas};
use crate::start::spare;

/// How often each job is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// `log.retention.check.interval.ms`.
    pub retention: Duration,
    /// `producer.id.expiration.check.interval.ms`.
    pub producers: Duration,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub recovery_points: Duration,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub high_watermarks: Duration,
    /// `log.initial.task.delay.ms`: how long after a start retention begins.
    pub initial_delay: Duration,
}

impl Default for Intervals {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            retention: Duration::from_mins(5),
            producers: Duration::from_mins(10),
            recovery_points: Duration::from_mins(1),
            high_watermarks: Duration::from_secs(5),
            initial_delay: Duration::from_secs(30),
        }
    }
}

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
            let rounds = Rounds {
                retention: now.after(intervals.initial_delay),
                producers: now.after(intervals.producers),
                recovery_points: now.after(intervals.recovery_points),
                high_watermarks: now.after(intervals.high_watermarks),
                written: None,
                intervals,
            };
            let (wakes, directory) = (Arc::clone(&self.wakes), Arc::clone(directory));
            let replicas = Arc::downgrade(replicas);
            let work = move || run(&replicas, &directory, &wakes, rounds);
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

/// When each job is due next.
struct Rounds {
    intervals: Intervals,
    retention: MonotonicTime,
    producers: MonotonicTime,
    recovery_points: MonotonicTime,
    high_watermarks: MonotonicTime,
    /// The high watermarks as they were last written.
    written: Option<PartitionOffsets>,
}

fn run(
    replicas: &Weak<Replicas>,
    directory: &Arc<Directory>,
    wakes: &Monitor<()>,
    mut rounds: Rounds,
) {
    let Intervals {
        high_watermarks,
        producers,
        ..
    } = rounds.intervals;
    let wait = Duration::from_secs(1).min(high_watermarks).min(producers);
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
        rounds.work(&replicas, directory, &work);
        remove_due(&replicas, directory, &work);
    }
}

impl Rounds {
    fn work(&mut self, replicas: &Replicas, directory: &Arc<Directory>, work: &Working<'_>) {
        let now = replicas.clock().monotonic();
        step("look at the free space", || {
            directory.reserve.look();
            directory.reserve.keep_spare(spare::BYTES, spare::keep);
            Ok::<_, FileError>(())
        });
        let partitions = replicas.all_in(directory);
        flush(&partitions, now, work, |partition| {
            partition.settings().flush_interval < self.intervals.recovery_points
        });
        if now >= self.high_watermarks {
            self.high_watermarks = now.after(self.intervals.high_watermarks);
            step("write the high watermarks", || {
                let last = self.written.as_ref();
                let written = checkpoints::write_high_watermarks(
                    directory,
                    || replicas.all_in(directory),
                    last,
                )?;
                self.written = Some(written);
                Ok::<_, FileError>(())
            });
            work.goes_on();
        }
        if now >= self.recovery_points {
            self.recovery_points = now.after(self.intervals.recovery_points);
            // Under `page-cache` nothing else syncs the logs, and a start after a crash would read them whole.
            flush(&partitions, now, work, |_| true);
            step("move the recovery points", || {
                move_recovery_points(replicas, directory, &partitions, work)
            });
            step("write the log start offsets", || {
                checkpoints::write_log_starts(directory, || replicas.all_in(directory))
            });
            work.goes_on();
        }
        if now >= self.producers {
            self.producers = now.after(self.intervals.producers);
            expire_producers(replicas, &partitions, work);
        }
        if now >= self.retention {
            self.retention = now.after(self.intervals.retention);
            apply_retention(replicas, directory, &partitions, work);
        }
    }
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
            Ok::<_, FileError>(())
        });
        work.goes_on();
    }
}

/// Syncs indexes up to the flushed offset and writes the recovery points, so that a start after a crash reads less.
fn move_recovery_points(
    replicas: &Replicas,
    directory: &Arc<Directory>,
    partitions: &[Arc<Partition>],
    work: &Working<'_>,
) -> Result<(), FileError> {
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
        work.goes_on();
    }
    // Outside of the partitions' locks.
    let ran = run_together(&checkpoints);
    work.goes_on();
    for (partition, checkpoint) in begun.into_iter().zip(&checkpoints) {
        step("end a checkpoint", || {
            partition.end_checkpoint(checkpoint, &ran);
            Ok::<_, StorageError>(())
        });
    }
    step("move recovery points", || ran);
}

fn apply_retention(
    replicas: &Replicas,
    directory: &Arc<Directory>,
    partitions: &[Arc<Partition>],
    work: &Working<'_>,
) {
    for partition in partitions {
        let (topic, index) = (&*partition.topic, partition.index.0);
        step(&format!("apply retention to {topic}-{index}"), || {
            retain(partition, replicas.clock().now().wall)
        });
        work.goes_on();
    }
    step("write the log start offsets", || {
        checkpoints::write_log_starts(directory, || replicas.all_in(directory))
    });
}

fn expire_producers(replicas: &Replicas, partitions: &[Arc<Partition>], work: &Working<'_>) {
    let now = replicas.clock().now().wall;
    for partition in partitions {
        step("forget idle producers", || {
            partition.with_log(|log| log.expire_producers(now));
            Ok::<_, StorageError>(())
        });
        work.goes_on();
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
            remove_directory(directory.log.files(), &path, || work.goes_on())
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
