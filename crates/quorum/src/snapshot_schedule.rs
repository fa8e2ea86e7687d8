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
        let age = Duration::from_millis(now.0.saturating_sub(self.last.0).max(0) as u64);
        let is_old = self.interval.is_some_and(|interval| age >= interval);
        if !log.is_snapshot_due() && !is_old {
            return Ok(None);
        }
        self.last = now;
        log.begin_snapshot(&Loader::new(image.clone()), now)
    }
}
