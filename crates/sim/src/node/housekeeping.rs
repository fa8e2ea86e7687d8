//! The drivers of what comes back at intervals: checkpoints, retention, removing deleted partitions,
//! compaction. When each is due is decided by `ottla_replica`.

use std::collections::BTreeSet;
use std::hash::RandomState;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use ottla_log::PartitionLog;
use ottla_log::checkpoint::PartitionOffsets;
use ottla_log::compaction::{BYTES_PER_KEY, CompactionError, MapLimits, OffsetMap, Outcome};
use ottla_log::files::simulated::Simulated;
use ottla_protocol::time::{MonotonicTime, Timestamp};
use ottla_replica::housekeeping::{Intervals, Job, Schedule};
use ottla_replica::logs::remove_directory;
use ottla_replica::stalls::Task;
use ottla_replica::{checkpoints, cleaner};

use super::directories::Directories;
use super::event::{NodeEvent, ProcessId};
use super::failed::Failed;
use super::host::{Directory, Partition, Replicas};
use crate::outside::Outside;

/// Shorter than those of a real node, so that a world sees all of it.
const INTERVALS: Intervals = Intervals {
    retention: Duration::from_secs(10),
    producers: Duration::from_secs(20),
    recovery_points: Duration::from_secs(5),
    high_watermarks: Duration::from_secs(2),
    initial_delay: Duration::from_secs(3),
};
/// `offsets.retention.check.interval.ms`.
const EXPIRY: Duration = Duration::from_secs(30);
/// How long the cleaner rests where nothing is due, and between two steps of a pass.
const BACKOFF: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(5);
/// Keys that one pass of the cleaner takes: some passes do not take the whole.
const KEYS: usize = 20;

/// The housekeeping of one directory.
#[derive(Debug)]
struct House {
    schedule: Schedule,
    /// The high watermarks as they were last written.
    written: Option<PartitionOffsets>,
}

#[derive(Debug)]
pub struct Housekeeping {
    process: ProcessId,
    replicas: Arc<Replicas>,
    houses: Vec<House>,
    cleaner: cleaner::schedule::Schedule,
    pass: Option<(Arc<Partition>, cleaner::pass::CompactionPass<Simulated>)>,
}

impl Housekeeping {
    pub fn new(process: ProcessId, replicas: Arc<Replicas>) -> Self {
        Self {
            process,
            replicas,
            houses: Vec::new(),
            cleaner: cleaner::schedule::Schedule::default(),
            pass: None,
        }
    }

    pub fn start(&mut self, outside: &mut Outside) {
        let now = outside.now().monotonic;
        for number in 0..self.replicas.directories().len() {
            let schedule = Schedule::new(INTERVALS, now);
            let wait = schedule.longest_wait();
            let written = None;
            self.houses.push(House { schedule, written });
            outside.later(self.process, wait, NodeEvent::Housekeeping(number));
        }
        outside.later(self.process, BACKOFF, NodeEvent::Cleaner);
        outside.later(self.process, EXPIRY, NodeEvent::ExpireOffsets);
    }

    pub fn keep_house(
        &mut self,
        number: usize,
        directories: &Directories,
        outside: &mut Outside,
    ) -> Result<(), Failed> {
        let now = outside.now();
        let directory = Arc::clone(directories.get(number));
        if directories.waits_for_disk(number, NodeEvent::Housekeeping(number), outside) {
            directory.stalls.mark(Task::Housekeeping, now.monotonic);
            return Ok(());
        }
        directory.stalls.end(Task::Housekeeping);
        let schedule = &mut self.houses[number].schedule;
        let wait = schedule.longest_wait();
        let due = schedule.take_due(now.monotonic);
        outside.later(self.process, wait, NodeEvent::Housekeeping(number));
        directory.reserve.look();
        let mut outcome = Ok(());
        for job in due {
            let done = match job {
                Job::WriteHighWatermarks => self.write_high_watermarks(number, &directory),
                Job::MoveRecoveryPoints => self.move_recovery_points(&directory, now.monotonic),
                Job::ExpireProducers => {
                    for partition in self.replicas.all_in(&directory) {
                        partition.with_log(|log| log.expire_producers(now.wall));
                    }
                    Ok(())
                }
                Job::ApplyRetention => self.retain(&directory, now.wall),
            };
            outcome = outcome.and(done);
        }
        for path in self.replicas.take_removals(&directory, now.monotonic) {
            let removed = remove_directory(directory.log.files(), &path, || {});
            outcome = outcome.and(removed.map_err(Failed::from));
        }
        outcome
    }

    fn write_high_watermarks(
        &mut self,
        number: usize,
        directory: &Arc<Directory>,
    ) -> Result<(), Failed> {
        let house = &mut self.houses[number];
        let here = || self.replicas.all_in(directory);
        let last = house.written.as_ref();
        let written = checkpoints::write_high_watermarks(directory, here, last)?;
        house.written = Some(written);
        Ok(())
    }

    fn move_recovery_points(
        &mut self,
        directory: &Arc<Directory>,
        now: MonotonicTime,
    ) -> Result<(), Failed> {
        let is_behind =
            |log: &mut PartitionLog<Simulated>| log.recovery_point() < log.flushed_offset();
        let mut outcome = Ok(());
        for partition in self.replicas.all_in(directory) {
            partition.flush_if_dirty(now);
            if partition.with_log(is_behind) == Some(true) {
                outcome = outcome.and(partition.checkpoint().map_err(Failed::from));
            }
        }
        let here = || self.replicas.all_in(directory);
        let points = checkpoints::write_recovery_points(directory, here);
        let starts = checkpoints::write_log_starts(directory, here);
        outcome.and(points.and(starts).map_err(Failed::from))
    }

    fn retain(&mut self, directory: &Arc<Directory>, now: Timestamp) -> Result<(), Failed> {
        let mut outcome = Ok(());
        for partition in self.replicas.all_in(directory) {
            let removed = partition.with_log(|log| log.apply_retention(now));
            let removed = removed.transpose().map_err(Failed::from);
            outcome = outcome.and(removed.map(|_| ()));
        }
        let here = || self.replicas.all_in(directory);
        let written = checkpoints::write_log_starts(directory, here);
        outcome.and(written.map_err(Failed::from))
    }

    /// The cleaner's next step.
    pub fn clean(&mut self, outside: &mut Outside) -> Result<(), Failed> {
        let stepped = match self.pass.take() {
            Some((partition, pass)) => self.go_on_cleaning(partition, pass, outside),
            None => self.begin_cleaning(outside),
        };
        let is_cleaning = self.pass.is_some();
        let delay = if is_cleaning { STEP } else { BACKOFF };
        outside.later(self.process, delay, NodeEvent::Cleaner);
        match stepped {
            Err(CompactionError::Storage(error)) => Err(error.into()),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    fn go_on_cleaning(
        &mut self,
        partition: Arc<Partition>,
        mut pass: cleaner::pass::CompactionPass<Simulated>,
        outside: &mut Outside,
    ) -> Result<(), CompactionError> {
        let mut pace = |_| ControlFlow::Continue(());
        match pass.step(&partition, &mut pace) {
            Ok(None) => self.pass = Some((partition, pass)),
            ended => return self.end_cleaning(&partition, ended, outside),
        }
        Ok(())
    }

    fn end_cleaning(
        &mut self,
        partition: &Partition,
        ended: Result<Option<Outcome>, CompactionError>,
        outside: &mut Outside,
    ) -> Result<(), CompactionError> {
        let (id, now) = (partition.id(), outside.now());
        let schedule = &mut self.cleaner;
        schedule.end(id);
        match ended {
            Ok(outcome) => {
                schedule.on_compacted(id, now.wall);
                let end = outcome.map_or(-1, |outcome| outcome.end.0);
                outside.note("compacted to", [partition.index.0.into(), end, 0]);
                let directory = partition.directory();
                // What is not written is compacted again after the next start.
                let _ = checkpoints::write_compacted(directory, || self.replicas.all_in(directory));
                Ok(())
            }
            Err(error) => {
                schedule.on_failed(id, error.to_string(), BACKOFF, now.monotonic);
                Err(error)
            }
        }
    }

    /// Begins a pass over the dirtiest log that is due.
    fn begin_cleaning(&mut self, outside: &mut Outside) -> Result<(), CompactionError> {
        let now = outside.now();
        let all = self.replicas.all();
        let alive: BTreeSet<_> = all.iter().map(|partition| partition.id()).collect();
        self.cleaner.forget_others(&alive);
        let mut due = Vec::new();
        for partition in all {
            let is_compacted = partition.settings().log.compact;
            let may_begin = self.cleaner.may_begin(partition.id(), now.monotonic);
            if !is_compacted || !may_begin || !partition.directory().answers(now.monotonic) {
                continue;
            }
            if partition.with_log(|log| log.compaction_needs_checkpoint()) == Some(true) {
                partition.checkpoint()?;
                let directory = partition.directory();
                let here = || self.replicas.all_in(directory);
                if checkpoints::write_recovery_points(directory, here).is_err() {
                    continue;
                }
            }
            let plan = partition.with_log(|log| log.plan_compaction(now.wall));
            match plan.transpose()? {
                Some(plan) if plan.is_due() => due.push((partition, plan)),
                _ => self.cleaner.on_nothing_due(partition.id()),
            }
        }
        let Some(partition) = self.cleaner.begin_dirtiest(due) else {
            return Ok(());
        };
        let limits = MapLimits {
            bytes: KEYS * BYTES_PER_KEY,
            load_factor: 0.9,
        };
        // Where a key lies in the map changes nothing that can be seen.
        let map = OffsetMap::new(limits, [RandomState::new(), RandomState::new()]);
        let mut pace = |_| ControlFlow::Continue(());
        match cleaner::pass::CompactionPass::begin(&partition, map, now.wall, &mut pace) {
            Ok(pass) => self.pass = Some((partition, pass)),
            Err(error) => return self.end_cleaning(&partition, Err(error), outside),
        }
        Ok(())
    }

    /// The cleaner ends, in the middle of a pass too.
    pub fn stop_cleaning(&mut self) {
        self.pass = None;
    }
}
