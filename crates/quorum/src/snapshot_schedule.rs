//! When a snapshot of the metadata log is due: by the bytes since the last one, or by its age.

use std::time::Duration;

use ottla_log::files::{FileError, Files};
use ottla_metadata::{Loader, MetadataImage};
use ottla_protocol::time::Timestamp;

use crate::metadata_log::{MetadataLog, SnapshotJob};

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

    /// Begins a snapshot if one is due. `image` is the image after the whole log.
    pub fn begin_if_due<F: Files>(
        &mut self,
        log: &mut MetadataLog<F>,
        image: &MetadataImage,
        now: Timestamp,
    ) -> Result<Option<SnapshotJob<F>>, FileError> {
        if !self.is_due(log.is_snapshot_due(), now) {
            return Ok(None);
        }
        log.begin_snapshot(&Loader::new(image.clone()), now)
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
