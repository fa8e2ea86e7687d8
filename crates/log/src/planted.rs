//! Bugs that a test plants to see that the torture (`tests/torture.rs`) catches them: a net that catches nothing proves
//! nothing.
//!
//! Only code compiled for tests can plant one, and only on its own thread; everywhere else [`is_planted`] is a constant
//! `false` and costs nothing.

/// A mistake, in the place where it would be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Group commit answers before anything is synced.
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
    /// A new partition finds the checkpoints of the one that had its name: a mistake of whoever drives the log.
    #[cfg(test)]
    StaleCheckpointsKept,
}

/// Whether `bug` is to be made here.
#[cfg(not(test))]
pub(crate) const fn is_planted(_bug: Bug) -> bool {
    false
}

#[cfg(test)]
pub(crate) use self::planting::{is_planted, planting};

#[cfg(test)]
mod planting {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    pub(crate) fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Runs `work` on this thread with `bug` in the code.
    pub(crate) fn planting<T>(bug: Option<Bug>, work: impl FnOnce() -> T) -> T {
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
