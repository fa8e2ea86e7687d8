//! How far a start has come with opening its logs: logged every few seconds, and not at all while it is quick.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ottla_protocol::time::MonotonicTime;

/// A start that takes no longer than this logs nothing.
const FIRST: Duration = Duration::from_secs(2);
/// The time between two lines.
const INTERVAL: Duration = Duration::from_secs(5);

/// Collects the progress of the threads that open logs.
#[derive(Debug)]
pub(crate) struct RecoveryProgress {
    logs: usize,
    began: MonotonicTime,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    opened: usize,
    bytes: u64,
    /// The sum of the parts that are done of logs under way.
    parts: f64,
    next: MonotonicTime,
}

/// The progress of one log.
#[derive(Debug)]
pub(crate) struct OfLog<'a> {
    all: &'a RecoveryProgress,
    done: u64,
    part: f64,
}

/// A line of the log.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    opened: usize,
    bytes: u64,
    /// An estimate from the speed so far; unknown before anything is done.
    left: Option<Duration>,
}

impl RecoveryProgress {
    /// Nothing of `logs` logs is done.
    pub(crate) fn new(logs: usize, now: MonotonicTime) -> Self {
        let state = State {
            opened: 0,
            bytes: 0,
            parts: 0.0,
            next: now.after(FIRST),
        };
        Self {
            logs,
            began: now,
            state: Mutex::new(state),
        }
    }

    /// A log is about to be opened.
    pub(crate) fn begin_log(&self) -> OfLog<'_> {
        OfLog {
            all: self,
            done: 0,
            part: 0.0,
        }
    }

    fn note(&self, change: impl FnOnce(&mut State), now: MonotonicTime) -> Option<Report> {
        // Held for counting only.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        if now < state.next || state.opened == self.logs {
            return None;
        }
        state.next = now.after(INTERVAL);
        let done = (state.opened as f64 + state.parts) / self.logs as f64;
        let took = now.0.saturating_sub(self.began.0);
        Some(Report {
            opened: state.opened,
            bytes: state.bytes,
            left: Duration::try_from_secs_f64(took.as_secs_f64() * (1.0 - done) / done)
                .ok()
                .map(|left| Duration::from_secs(left.as_secs())),
        })
    }

    fn say(&self, report: &Report) {
        let left = report.left.map(|left| left.as_secs());
        tracing::info!(
            opened = report.opened,
            logs = self.logs,
            megabytes_read = report.bytes >> 20,
            about_seconds_left = left,
            "opening the logs"
        );
    }
}

impl OfLog<'_> {
    /// Recovery has read up to here.
    pub(crate) fn on_read(&mut self, progress: ottla_log::Progress, now: MonotonicTime) {
        let part = progress.done as f64 / progress.total.max(1) as f64;
        let (bytes, more) = (progress.done - self.done, part - self.part);
        (self.done, self.part) = (progress.done, part);
        let count = |state: &mut State| {
            state.bytes += bytes;
            state.parts += more;
        };
        if let Some(report) = self.all.note(count, now) {
            self.all.say(&report);
        }
    }

    /// The log is open.
    pub(crate) fn on_opened(self, now: MonotonicTime) {
        let count = |state: &mut State| {
            state.opened += 1;
            state.parts -= self.part;
        };
        if let Some(report) = self.all.note(count, now) {
            self.all.say(&report);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{RecoveryProgress, Report};
    use ottla_protocol::time::MonotonicTime;
    use std::time::Duration;

    fn at(seconds: u64) -> MonotonicTime {
        MonotonicTime(Duration::from_secs(seconds))
    }

    #[test]
    fn a_quick_start_says_nothing_and_a_slow_one_how_long_it_will_take() {
        let progress = RecoveryProgress::new(10, at(1));
        let opened = |now| progress.note(|state| state.opened += 1, at(now));
        assert_eq!(opened(1), None);
        assert_eq!(opened(2), None);
        let half = |state: &mut super::State| {
            state.parts += 0.5;
            state.bytes += 100;
        };
        let report = Report {
            opened: 2,
            bytes: 100,
            left: Some(Duration::from_secs(12)),
        };
        assert_eq!(progress.note(half, at(5)), Some(report));
        assert_eq!(opened(9), None, "not at every step");
        assert_eq!(opened(10).map(|report| report.opened), Some(4));
    }

    #[test]
    fn before_anything_is_done_nothing_is_estimated() {
        let progress = RecoveryProgress::new(1, at(0));
        let report = progress.note(|_| {}, at(60)).unwrap();
        assert_eq!(report.left, None);
    }
}
