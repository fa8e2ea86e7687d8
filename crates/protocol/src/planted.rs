//! Mistakes that a test plants in the code, to see that the tests that run from seeds catch them.
//!
//! This is the lowest crate, so that all that decide can name a [`Bug`] where it would be made. Only code compiled with the
//! feature `planted` can plant one, and only on its own thread. Tests switch the feature on; everywhere else [`is_planted`]
//! is a constant `false` and costs nothing. The torture is `crates/replica/tests/torture`, the simulation `crates/sim`.

/// A mistake, in the place where it would be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A producer is answered before its records are synced.
    AnswerBeforeSync,
    /// A file is replaced by a rename, and the directory is not synced.
    RenameWithoutDirectorySync,
    /// A flush leaves out the names of new segments.
    NewNamesNotSynced,
    /// A failed sync is tried again, and believed.
    FailedSyncRetried,
    /// Recovery believes every index entry, whatever the log says.
    IndexTrustedOverLog,
    /// Recovery cuts one sound batch too many off a torn log.
    RecoveryCutsOneBatchMore,
    /// Truncation leaves the last of the batches that must go.
    TruncationOneBatchShort,
    /// Recovery does not sync what it has read.
    RecoveredNotSynced,
    /// The recovery point runs ahead of what is flushed.
    RecoveryPointAheadOfData,
    /// Compaction lets tombstones go at once.
    TombstoneDroppedEarly,
    /// A new partition finds the checkpoints of the one that had its name.
    StaleCheckpointsKept,
}

/// Whether `bug` is to be made here.
#[cfg(not(any(test, feature = "planted")))]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}

#[cfg(any(test, feature = "planted"))]
pub use self::planting::{is_planted, planting};

#[cfg(any(test, feature = "planted"))]
mod planting {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether `bug` is to be made here.
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Runs `work` on this thread with `bug` in the code.
    pub fn planting<T>(bug: Option<Bug>, work: impl FnOnce() -> T) -> T {
        struct Dug;
        impl Drop for Dug {
            fn drop(&mut self) {
                PLANTED.set(None);
            }
        }
        PLANTED.set(bug);
        let _dug = Dug;
        work()
    }
}
