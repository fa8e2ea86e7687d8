//! The scrub: one thread that reads all closed segments in rounds, slowly, and logs what is damaged.
//!
//! `ottla_log::scrub` reads a segment; the thread chooses the segment and rests between reads. A failure is logged and
//! counted, and the round goes on: after an error with the next segment, after a panic with the next partition. A restart
//! loses the progress of a round. Each round begins at another partition, so that a broker that restarts often still reads
//! all of them in the end.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ottla_log::damage::Damage;
use ottla_log::files::FileError;
use ottla_protocol::ids::Offset;
use ottla_protocol::time::MonotonicTime;
use ottla_replica::scrub::{ScrubReport, ScrubSettings};

use super::monitor::Monitor;
use super::rest::rest;
use super::threads::{Panicked, Thread, caught};
use crate::replicas::Replicas;
use crate::replicas::damage::repair;
use crate::replicas::partition::Partition;

/// The first round begins this long after a start, or after one interval if that is shorter.
const INITIAL_DELAY: Duration = Duration::from_mins(10);

/// The thread and what it shares with the rest of the broker.
#[derive(Debug, Default)]
pub(super) struct Scrubber {
    shared: Arc<Shared>,
    thread: Mutex<Option<Thread>>,
}

type Shared = Monitor<State>;

#[derive(Debug, Default)]
struct State {
    settings: Option<ScrubSettings>,
    report: ScrubReport,
}

/// Why a partition could not be scrubbed.
#[derive(Debug, thiserror::Error)]
enum NotScrubbed {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the scrub {0}")]
    Panic(#[from] Panicked),
}

/// What the scrub stopped reading before the end.
#[derive(Debug, Clone, Copy)]
enum Ended {
    /// The scrub stops or is turned off.
    Round,
    /// The partition is gone.
    Partition,
}

impl Scrubber {
    /// Applies `settings`, and starts the thread unless they turn the scrub off.
    pub(super) fn configure(
        &self,
        replicas: &Arc<Replicas>,
        settings: ScrubSettings,
    ) -> io::Result<()> {
        let is_new = self.shared.change(|state| {
            let is_new = state.settings != Some(settings) && !self.shared.is_stopping();
            if is_new {
                state.settings = Some(settings);
            }
            is_new
        });
        if !is_new {
            return Ok(());
        }
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if settings.is_off() || thread.is_some() {
            return Ok(());
        }
        let (shared, replicas) = (Arc::clone(&self.shared), Arc::downgrade(replicas));
        match Thread::start("scrub", move || run(&shared, &replicas)) {
            Ok(started) => *thread = Some(started),
            Err(error) => {
                // The next change of a config tries again.
                self.shared.lock().settings = None;
                return Err(error);
            }
        }
        Ok(())
    }

    /// The settings that are applied now.
    pub(super) fn settings(&self) -> Option<ScrubSettings> {
        self.shared.lock().settings
    }

    /// Asks the thread to end, in the middle of a round too.
    pub(super) fn stop(&self) {
        self.shared.stop();
    }

    /// Waits for the thread, which was asked to end.
    pub(super) fn join(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            thread.join();
        }
    }

    /// What was done since the start.
    pub(super) fn report(&self) -> ScrubReport {
        self.shared.lock().report
    }
}

fn run(shared: &Shared, replicas: &Weak<Replicas>) {
    Scrub { shared }.work(replicas);
}

/// What the thread does.
#[derive(Clone, Copy)]
struct Scrub<'a> {
    shared: &'a Shared,
}

impl Scrub<'_> {
    fn work(self, replicas: &Weak<Replicas>) {
        let Some(clock) = replicas.upgrade().map(|replicas| replicas.clock()) else {
            return;
        };
        let mut began = clock.monotonic();
        let mut delay = INITIAL_DELAY;
        while self.wait(began, delay, || clock.monotonic()).is_continue() {
            began = clock.monotonic();
            delay = Duration::MAX;
            let Some(replicas) = replicas.upgrade() else {
                return;
            };
            if self.round(&replicas).is_break() {
                // Stopping, or turned off. Once it is turned on again, the round begins anew.
                began = clock.monotonic();
                delay = INITIAL_DELAY;
                continue;
            }
            let mut state = self.shared.lock();
            state.report.rounds += 1;
            state.report.ended_at = Some(clock.now().wall);
        }
    }

    /// Waits until the interval, or `delay` if shorter, has passed since `began`; breaks when the thread must end.
    fn wait(
        self,
        began: MonotonicTime,
        delay: Duration,
        now: impl Fn() -> MonotonicTime,
    ) -> ControlFlow<()> {
        let mut state = self.shared.lock();
        loop {
            if self.shared.is_stopping() {
                return ControlFlow::Break(());
            }
            let settings = state.settings.filter(|settings| !settings.is_off());
            let left =
                settings.map(|settings| began.after(settings.interval.min(delay)).remaining(now()));
            if left == Some(Duration::ZERO) {
                return ControlFlow::Continue(());
            }
            state = self.shared.wait(state, left);
        }
    }

    /// Reads all partitions, from one that the time of day chooses; breaks when it is stopped or turned off.
    fn round(self, replicas: &Replicas) -> ControlFlow<()> {
        let mut all = replicas.all();
        all.sort_by(|one, other| (&one.topic, one.index).cmp(&(&other.topic, other.index)));
        let seconds = replicas.clock().now().wall.0.unsigned_abs() / 1000;
        let first = usize::try_from(seconds).unwrap_or(0).checked_rem(all.len());
        all.rotate_left(first.unwrap_or(0));
        for partition in all {
            let scrubbed = caught(|| self.scrub(replicas, &partition));
            match scrubbed.unwrap_or_else(|panicked| Err(panicked.into())) {
                Ok(ControlFlow::Break(())) => return ControlFlow::Break(()),
                Ok(ControlFlow::Continue(())) => {}
                Err(error) => self.log_failure(&partition, &error),
            }
        }
        ControlFlow::Continue(())
    }

    /// Reads the closed segments of one partition; breaks when the round must end.
    fn scrub(
        self,
        replicas: &Replicas,
        partition: &Partition,
    ) -> Result<ControlFlow<()>, NotScrubbed> {
        let mut from = Offset(0);
        loop {
            let next = partition.with_log(|log| {
                let is_online = log.directory().failure().is_none();
                is_online.then(|| log.segment_to_scrub(from)).flatten()
            });
            let Some(scrub) = next.flatten() else {
                return Ok(ControlFlow::Continue(()));
            };
            from = scrub.base().plus(1);
            let mut ended = Ended::Round;
            let mut pace = |bytes| {
                let throttled = self.throttle(replicas, partition, bytes);
                throttled.map_break(|what| ended = what)
            };
            match scrub.run(&mut pace) {
                Ok(None) => {
                    return Ok(match ended {
                        Ended::Round => ControlFlow::Break(()),
                        Ended::Partition => ControlFlow::Continue(()),
                    });
                }
                Ok(Some(found)) => {
                    self.shared.lock().report.segments += 1;
                    let new = partition.with_log(|log| {
                        let new = log.complete_scrub(&scrub, found);
                        partition.count_damage(log);
                        (new, repair(log.directory().path()))
                    });
                    if let Some((new, repair)) = new {
                        log_damage(partition, &new, &repair);
                    }
                }
                Err(error) if error.is_not_found() => {
                    let is_missed = partition.with_log(|log| log.misses(&scrub));
                    if is_missed.transpose()? == Some(true) {
                        self.log_failure(partition, &error.into());
                    }
                }
                Err(error) => self.log_failure(partition, &error.into()),
            }
        }
    }

    /// Rests for the bytes read; breaks when the scrub stops, is turned off, or the partition is gone.
    fn throttle(
        self,
        replicas: &Replicas,
        partition: &Partition,
        bytes: u64,
    ) -> ControlFlow<Ended> {
        let began = replicas.now();
        self.shared.lock().report.bytes += bytes;
        rest(
            self.shared,
            partition,
            replicas.clock(),
            |state, is_gone| {
                let settings = state.settings.filter(|settings| !settings.is_off());
                match settings.filter(|_| !self.shared.is_stopping()) {
                    None => ControlFlow::Break(Ended::Round),
                    Some(_) if is_gone => ControlFlow::Break(Ended::Partition),
                    Some(settings) => ControlFlow::Continue(began.after(settings.cost(bytes))),
                }
            },
        )
    }

    fn log_failure(self, partition: &Partition, error: &NotScrubbed) {
        self.shared.lock().report.failures += 1;
        tracing::error!(
            topic = &*partition.topic,
            partition = partition.index.0,
            error = %error,
            "the scrub cannot read a segment: the disk may be failing; check it, and copy its data elsewhere"
        );
    }
}

fn log_damage(partition: &Partition, new: &[Damage], repair: &str) {
    let Some(first) = new.first() else { return };
    tracing::error!(
        topic = &*partition.topic,
        partition = partition.index.0,
        places = new.len(),
        segment = first.segment.0,
        next_readable_offset = first.next_offset.0,
        repair,
        "the scrub found damage; its offsets are refused from now on: {first}"
    );
}
