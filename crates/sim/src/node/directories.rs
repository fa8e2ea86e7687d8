//! The drivers of a log directory: the one of its flushes, and the one that applies changes of metadata.
//!
//! A pass of group commit takes time between its steps, in which anything may happen. While the disk does not answer, the
//! step waits.

use std::sync::Arc;
use std::time::Duration;

use ottla_log::files::simulated::Simulated;
use ottla_protocol::time::MonotonicTime;
use ottla_replica::stalls::Task;
use ottla_replica::{FlushPass, InOrder, node};

use super::event::{NodeEvent, ProcessId};
use super::failed::Failed;
use super::host::{Directory, Replicas, SimulatedHost};
use crate::outside::Outside;

/// Passes that a stop may use to flush what is queued.
const LAST_PASSES: usize = 100;

/// The directories of a process, by number.
#[derive(Debug)]
pub struct Directories {
    process: ProcessId,
    drivers: Vec<Driver>,
}

#[derive(Debug)]
struct Driver {
    directory: Arc<Directory>,
    stalled_until: Duration,
    pass: Option<FlushPass<Simulated, SimulatedHost>>,
    /// When the driver of flushes looks next.
    looks_at: Option<Duration>,
    /// What is to be applied.
    job: Option<node::Job<Simulated, SimulatedHost>>,
}

impl Directories {
    pub fn new(process: ProcessId, directories: &[Arc<Directory>]) -> Self {
        let drivers = directories.iter().map(|directory| Driver {
            directory: Arc::clone(directory),
            stalled_until: Duration::ZERO,
            pass: None,
            looks_at: None,
            job: None,
        });
        Self {
            process,
            drivers: drivers.collect(),
        }
    }

    pub fn count(&self) -> usize {
        self.drivers.len()
    }

    pub fn get(&self, number: usize) -> &Arc<Directory> {
        &self.drivers[number].directory
    }

    /// Lets a directory not answer for a while.
    pub fn stall(&mut self, number: usize, until: Duration) {
        let count = self.drivers.len();
        self.drivers[number % count].stalled_until = until;
    }

    /// What is to be applied and was not yet.
    pub fn jobs(&self) -> impl Iterator<Item = &node::Job<Simulated, SimulatedHost>> {
        self.drivers.iter().flat_map(|driver| &driver.job)
    }

    /// Has the driver of flushes look when the next pass is due.
    pub fn look_for_pass(&mut self, number: usize, outside: &mut Outside) {
        let time = outside.time();
        let driver = &mut self.drivers[number];
        let Some(MonotonicTime(due)) = driver.directory.next_pass() else {
            return;
        };
        let at = due.max(time);
        if driver.pass.is_some() || driver.looks_at.is_some_and(|looks| looks <= at) {
            return;
        }
        driver.looks_at = Some(at);
        let delay = at.saturating_sub(time);
        outside.later(self.process, delay, NodeEvent::BeginPass(number));
    }

    pub fn begin_pass(&mut self, number: usize, outside: &mut Outside) {
        let now = outside.now().monotonic;
        let driver = &mut self.drivers[number];
        if driver.looks_at.is_none_or(|looks| looks > now.0) {
            return;
        }
        driver.looks_at = None;
        if driver.pass.is_some() {
            return;
        }
        driver.pass = driver.directory.begin_pass(now);
        if driver.pass.is_none() {
            return self.look_for_pass(number, outside);
        }
        driver.directory.stalls.mark(Task::Flush, now);
        outside.note("pass begins in", [number as i64, 0, 0]);
        let delay = outside.between(100, 6_000);
        outside.later(self.process, delay, NodeEvent::SyncPass(number));
    }

    pub fn sync_pass(&mut self, number: usize, outside: &mut Outside) {
        if self.waits_for_disk(number, NodeEvent::SyncPass(number), outside) {
            return;
        }
        if let Some(pass) = &mut self.drivers[number].pass {
            pass.sync();
            let delay = outside.between(20, 1_000);
            outside.later(self.process, delay, NodeEvent::EndPass(number));
        }
    }

    pub fn end_pass(&mut self, number: usize, outside: &mut Outside) -> Result<(), Failed> {
        let driver = &mut self.drivers[number];
        driver.directory.stalls.end(Task::Flush);
        let ended = match driver.pass.take() {
            Some(mut pass) => pass.end(outside.now().monotonic),
            None => Ok(()),
        };
        self.look_for_pass(number, outside);
        Ok(ended?)
    }

    /// Whether a step waits for a disk that does not answer; it is tried again when it does.
    pub fn waits_for_disk(&self, number: usize, step: NodeEvent, outside: &mut Outside) -> bool {
        let until = self.drivers[number].stalled_until;
        let waits = until > outside.time();
        if waits {
            let delay = until.saturating_sub(outside.time());
            outside.later(self.process, delay, step);
        }
        waits
    }

    /// Flushes all that is dirty in a directory, at a stop.
    pub fn flush_all(&mut self, number: usize) -> Result<(), Failed> {
        let end = MonotonicTime(Duration::MAX);
        let driver = &mut self.drivers[number];
        let mut passes = driver.pass.take().into_iter().collect::<Vec<_>>();
        for _ in 0..LAST_PASSES {
            passes.extend(driver.directory.begin_pass(end));
            let Some(mut pass) = passes.pop() else {
                break;
            };
            pass.end(end)?;
        }
        Ok(())
    }

    /// Has a directory do a job, together with what waits there.
    pub fn give(
        &mut self,
        number: usize,
        job: node::Job<Simulated, SimulatedHost>,
        outside: &mut Outside,
    ) {
        match &mut self.drivers[number].job {
            Some(earlier) => earlier.add(job),
            none => *none = Some(job),
        }
        let delay = outside.between(20, 4_000);
        outside.later(self.process, delay, NodeEvent::Apply(number));
    }

    /// Does what waits for the directory; returns the failures, and nothing if there was nothing to do.
    pub fn apply(
        &mut self,
        number: usize,
        replicas: &Replicas,
        outside: &mut Outside,
    ) -> Option<Result<(), Failed>> {
        let now = outside.now();
        let stalls = &self.drivers[number].directory.stalls;
        if self.waits_for_disk(number, NodeEvent::Apply(number), outside) {
            stalls.mark(Task::Metadata, now.monotonic);
            return None;
        }
        let job = self.drivers[number].job.take()?;
        let errors = replicas.perform(&job, &InOrder, now);
        self.drivers[number].directory.stalls.end(Task::Metadata);
        outside.note("applied in", [number as i64, errors.len() as i64, 0]);
        let first = errors.into_iter().next();
        Some(first.map_or(Ok(()), |error| Err(error.into())))
    }
}
