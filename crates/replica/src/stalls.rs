//! Detects a log directory whose disk does not answer.
//!
//! A driver marks the start of each task, each answer of the disk, and the end of the task. A directory is *stalled* while
//! a task in it has had no answer from the disk for [`STALLED_AFTER`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ottla_protocol::time::MonotonicTime;

/// How long a task waits for the disk before its directory is stalled.
pub const STALLED_AFTER: Duration = Duration::from_secs(10);

const NO_TASK: u64 = u64::MAX;

/// What a driver does in a log directory. At most one task of a kind runs at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Retention, checkpoints and the removal of deleted partitions.
    Housekeeping,
    /// Applying changes of metadata.
    Metadata,
    /// Syncing appended records.
    Flush,
    /// Closing the directory.
    Close,
}

const TASKS: usize = 4;

/// A change since the last [`Stalls::change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StallChange {
    /// The directory is stalled.
    Began,
    /// The directory answers again.
    Ended,
}

/// The running tasks of one log directory.
#[derive(Debug)]
pub struct Stalls {
    /// When the disk last answered each [`Task`], in milliseconds; [`NO_TASK`] while none runs.
    answered_at: [AtomicU64; TASKS],
    was_stalled: AtomicBool,
}

impl Default for Stalls {
    fn default() -> Self {
        Self {
            answered_at: std::array::from_fn(|_| AtomicU64::new(NO_TASK)),
            was_stalled: AtomicBool::new(false),
        }
    }
}

impl Stalls {
    /// A task has begun, or the disk has answered it.
    pub fn mark(&self, task: Task, now: MonotonicTime) {
        self.answered_at[task as usize].store(millis(now), Ordering::Relaxed);
    }

    /// A task has ended.
    pub fn end(&self, task: Task) {
        self.answered_at[task as usize].store(NO_TASK, Ordering::Relaxed);
    }

    /// Whether a task has had no answer for [`STALLED_AFTER`].
    pub fn is_stalled(&self, now: MonotonicTime) -> bool {
        self.answered_at.iter().any(|at| {
            let waited = millis(now).saturating_sub(at.load(Ordering::Relaxed));
            u128::from(waited) >= STALLED_AFTER.as_millis()
        })
    }

    /// Whether a stall has begun or ended since the last call.
    pub fn change(&self, now: MonotonicTime) -> Option<StallChange> {
        let is_stalled = self.is_stalled(now);
        let was_stalled = self.was_stalled.swap(is_stalled, Ordering::Relaxed);
        (is_stalled != was_stalled).then_some(if is_stalled {
            StallChange::Began
        } else {
            StallChange::Ended
        })
    }
}

fn millis(time: MonotonicTime) -> u64 {
    u64::try_from(time.0.as_millis()).unwrap_or(NO_TASK)
}

#[cfg(test)]
mod tests {
    use super::{STALLED_AFTER, StallChange, Stalls, Task};
    use ottla_protocol::time::MonotonicTime;
    use std::time::Duration;

    #[test]
    fn a_directory_is_stalled_only_while_a_task_in_it_gets_no_answer() {
        let stalls = Stalls::default();
        let began = MonotonicTime(Duration::from_secs(100));
        assert_eq!(stalls.change(began), None);
        for task in [Task::Housekeeping, Task::Metadata, Task::Close] {
            stalls.mark(task, began);
        }
        let late = began.after(STALLED_AFTER);
        assert!(stalls.is_stalled(late) && !stalls.is_stalled(began));
        assert_eq!(stalls.change(late), Some(StallChange::Began));
        assert_eq!(stalls.change(late), None, "it is told once");
        stalls.mark(Task::Housekeeping, began.after(Duration::from_millis(5)));
        stalls.end(Task::Metadata);
        stalls.end(Task::Close);
        assert!(!stalls.is_stalled(late), "the disk has answered");
        assert_eq!(stalls.change(late), Some(StallChange::Ended));
        stalls.end(Task::Housekeeping);
        assert!(
            !stalls.is_stalled(late.after(STALLED_AFTER)),
            "no task runs"
        );
    }
}
