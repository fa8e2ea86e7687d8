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

use super::host::SimulatedHost;
use super::{Directory, Failed, NodeEvent, Process, now};
use crate::outside::Outside;

/// Passes that a stop may use to flush what is queued.
const LAST_PASSES: usize = 100;

#[derive(Debug)]
pub struct DirectoryDriver {
    pub directory: Arc<Directory>,
    pub stalled_until: Duration,
    pass: Option<FlushPass<Simulated, SimulatedHost>>,
    /// When the driver of flushes looks next.
    looks_at: Option<Duration>,
    /// What is to be applied.
    pub job: Option<node::Job<Simulated, SimulatedHost>>,
}

impl DirectoryDriver {
    pub fn new(directory: Arc<Directory>) -> Self {
        Self {
            directory,
            stalled_until: Duration::ZERO,
            pass: None,
            looks_at: None,
            job: None,
        }
    }
}

impl Process {
    /// Has the driver of flushes look when the next pass is due.
    pub(super) fn look_for_pass(&mut self, number: usize, outside: &mut Outside) {
        let time = outside.time();
        let driver = &mut self.directories[number];
        let Some(MonotonicTime(due)) = driver.directory.next_pass() else {
            return;
        };
        let at = due.max(time);
        if driver.pass.is_some() || driver.looks_at.is_some_and(|looks| looks <= at) {
            return;
        }
        driver.looks_at = Some(at);
        self.later(
            at.saturating_sub(time),
            NodeEvent::BeginPass(number),
            outside,
        );
    }

    pub(super) fn begin_pass(&mut self, number: usize, outside: &mut Outside) {
        let now = now(outside).monotonic;
        let driver = &mut self.directories[number];
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
        self.later(delay, NodeEvent::SyncPass(number), outside);
    }

    pub(super) fn sync_pass(&mut self, number: usize, outside: &mut Outside) {
        if self.waits_for_disk(number, NodeEvent::SyncPass(number), outside) {
            return;
        }
        if let Some(pass) = &mut self.directories[number].pass {
            pass.sync();
            let delay = outside.between(20, 1_000);
            self.later(delay, NodeEvent::EndPass(number), outside);
        }
    }

    pub(super) fn end_pass(&mut self, number: usize, outside: &mut Outside) -> Result<(), Failed> {
        let driver = &mut self.directories[number];
        driver.directory.stalls.end(Task::Flush);
        let ended = match driver.pass.take() {
            Some(mut pass) => pass.end(now(outside).monotonic),
            None => Ok(()),
        };
        self.look_for_pass(number, outside);
        Ok(ended?)
    }

    /// Whether a step waits for a disk that does not answer; it is tried again when it does.
    pub(super) fn waits_for_disk(
        &mut self,
        number: usize,
        step: NodeEvent,
        outside: &mut Outside,
    ) -> bool {
        let until = self.directories[number].stalled_until;
        let waits = until > outside.time();
        if waits {
            self.later(until.saturating_sub(outside.time()), step, outside);
        }
        waits
    }

    /// Flushes all that is dirty in a directory, at a stop.
    pub(super) fn flush_all(&mut self, number: usize) -> Result<(), Failed> {
        let end = MonotonicTime(Duration::MAX);
        let driver = &mut self.directories[number];
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

    /// Does what waits for the directory.
    pub(super) fn apply(&mut self, number: usize, outside: &mut Outside) -> Result<(), Failed> {
        let now = now(outside);
        let stalls = &self.directories[number].directory.stalls;
        if self.directories[number].stalled_until > outside.time() {
            stalls.mark(Task::Metadata, now.monotonic);
            let _ = self.waits_for_disk(number, NodeEvent::Apply(number), outside);
            return Ok(());
        }
        let Some(job) = self.directories[number].job.take() else {
            return Ok(());
        };
        let errors = self.replicas.perform(&job, &InOrder, now);
        self.directories[number]
            .directory
            .stalls
            .end(Task::Metadata);
        outside.note("applied in", [number as i64, errors.len() as i64, 0]);
        self.on_applied(number, outside);
        errors
            .into_iter()
            .next()
            .map_or(Ok(()), |error| Err(error.into()))
    }
}
