//! The syncs of a log directory that clients wait for, so that work that can wait lets them go first.

use std::time::Duration;

use super::monitor::Monitor;

/// The longest that other work waits for one sync.
const LONGEST: Duration = Duration::from_millis(10);

/// Whether a sync runs. One runs at a time.
#[derive(Debug)]
pub struct Syncs {
    is_running: Monitor<bool>,
    longest: Duration,
}

impl Default for Syncs {
    fn default() -> Self {
        Self::waited_for(LONGEST)
    }
}

impl Syncs {
    /// Syncs for which other work waits so long at most.
    pub fn waited_for(longest: Duration) -> Self {
        Self {
            is_running: Monitor::default(),
            longest,
        }
    }

    /// Runs a sync.
    pub fn run<T>(&self, sync: impl FnOnce() -> T) -> T {
        self.is_running.change(|is_running| *is_running = true);
        let _ended = Ended(self);
        sync()
    }

    /// Waits while a sync runs: for this one, not for those after it, and not for a disk that does not answer.
    pub fn let_through(&self) {
        let is_running = self.is_running.lock();
        if *is_running {
            drop(self.is_running.wait(is_running, Some(self.longest)));
        }
    }
}

/// A sync that ended, be it by a panic.
struct Ended<'a>(&'a Syncs);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.is_running.change(|is_running| *is_running = false);
    }
}
