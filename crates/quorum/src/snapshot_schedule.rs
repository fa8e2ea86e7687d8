//! When a snapshot of the metadata log is due: by the bytes since the last one, or by its age.

use std::time::Duration;

use ottla_protocol::time::Timestamp;

/// When snapshots of one log are due. The caller writes one at a time, and asks again when it is done.
#[derive(Debug)]
pub struct SnapshotSchedule {
    interval: Option<Duration>,
    last: Timestamp,
}

impl SnapshotSchedule {
    /// A schedule by bytes, and by age if there is an `interval`. The age counts from `now`.
    pub const fn new(interval: Option<Duration>, now: Timestamp) -> Self {
        Self {
            interval,
            last: now,
        }
    }

    /// Whether a snapshot is due: for its bytes, as the log knows, or for its age. If so, the caller begins it, and the age
    /// counts from `now`.
    pub fn is_due(&mut self, by_bytes: bool, now: Timestamp) -> bool {
        let age = Duration::from_millis(now.0.saturating_sub(self.last.0).max(0) as u64);
        let is_old = self.interval.is_some_and(|interval| age >= interval);
        let is_due = by_bytes || is_old;
        if is_due {
            self.last = now;
        }
        is_due
    }
}
