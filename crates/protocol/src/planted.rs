//! Bugs that a test plants to prove that the tests that run from seeds would catch them.
//!
//! This is the lowest crate, so every crate above can name a [`Bug`] where it would be made. Only code compiled with
//! the feature `planted` can plant a bug, and only on its own thread. Tests enable the feature. Without it
//! [`is_planted`] is a constant `false` and costs nothing. The torture is in `crates/replica/tests/torture`, the
//! simulation in `crates/sim`.

/// A bug, named by its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A producer is answered before its records are synced.
    AnswerBeforeSync,
    /// A file is replaced by a rename, and the directory is not synced.
    RenameWithoutDirectorySync,
    /// A flush does not sync the directory entries of new segments.
    NewNamesNotSynced,
    /// A failed sync is retried, and the second outcome is believed.
    FailedSyncRetried,
    /// Recovery trusts every index entry, even if it contradicts the batches.
    IndexTrustedOverLog,
    /// Recovery removes one sound batch too many from a torn log.
    RecoveryCutsOneBatchMore,
    /// A truncation leaves the first batch that it must remove.
    TruncationOneBatchShort,
    RecoveredNotSynced,
    /// The recovery point passes the flushed offset.
    RecoveryPointAheadOfData,
    /// Compaction removes tombstones at once.
    TombstoneDroppedEarly,
    /// A new partition inherits the checkpoints of a deleted one with its name.
    StaleCheckpointsKept,
    /// A start forgets which batches of idempotent producers a log holds.
    ProducersForgotten,
    /// A group coordinator answers before its records are committed.
    GroupAnsweredEarly,
    /// The high watermark moves while the ISR is smaller than the effective min ISR.
    HighWatermarkBelowMinIsr,
    /// Under `fsync` a follower counts to the end of its log, not only as far as it has flushed.
    UnflushedFollowerCounts,
    /// A leader ignores a new ISR.
    StaleIsrKept,
    /// A leader serves followers of any leader epoch.
    EpochCheckSkipped,
    /// A follower takes an answer that it asked for in an earlier leader epoch.
    EarlierAnswerTaken,
    /// A follower appends batches of later leader epochs than the one in which it fetched.
    LaterBatchesAppended,
    /// A follower keeps the end of an epoch that the leader does not have.
    DivergingEndKept,
    /// A follower that diverges truncates its log to an offset below its high watermark.
    TruncatedBelowHighWatermark,
    /// A log that may be in a log directory which is not there is made anew in another one.
    MissingLogMadeAnew,
    /// A fenced broker is elected.
    FencedBrokerLeads,
    /// A replica stays an eligible leader although its broker did not end in an orderly way.
    EligibleAfterUncleanShutdown,
    /// An election does not raise the leader epoch.
    LeaderEpochNotRaised,
    /// A controller answers a message before the entries that it brought are synced.
    RaftEntryNotSynced,
    /// A controller forgets at a restart for whom it voted.
    VoteNotPersisted,
    /// A leader takes an entry for committed that only it has.
    CommitWithoutMajority,
    /// An entry counts although it was decided in an earlier epoch.
    TermFenceSkipped,
    /// A snapshot of the metadata log does not name the voters.
    SnapshotWithoutVoters,
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

    /// Runs `work` on this thread with `bug` planted.
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
