//! How a fetcher fetches, and the positions that it is given.

use std::time::Duration;

/// Which records of transactions are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// All records.
    #[default]
    ReadUncommitted,
    /// Only those of committed transactions.
    ReadCommitted,
}

impl Isolation {
    pub(crate) fn level(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// What to do when a position is not (or no longer) in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutOfRange {
    /// Go on at the first record.
    #[default]
    Earliest,
    /// Go on at the end; before the first record, at the first record, so that none is skipped that is there.
    Latest,
    Fail,
}

/// How a fetcher fetches.
#[derive(Debug, Clone, Copy)]
pub struct FetchOptions {
    /// How long a broker may wait for `min_bytes`.
    pub max_wait: Duration,
    /// What a broker waits for.
    pub min_bytes: i32,
    /// The most one answer holds.
    pub max_bytes: i32,
    /// The most one answer holds of a partition.
    pub partition_max_bytes: i32,
    /// Which records of transactions are read.
    pub isolation: Isolation,
    /// What to do when a position is not in the log.
    pub out_of_range: OutOfRange,
    /// How long brokers that cannot be reached are waited for; nothing for ever.
    pub patience: Option<Duration>,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 50 * 1024 * 1024,
            partition_max_bytes: 1024 * 1024,
            isolation: Isolation::default(),
            out_of_range: OutOfRange::default(),
            patience: None,
        }
    }
}

/// The next offset to read, and the leader epoch of the record before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub offset: i64,
    /// The epoch, -1 when unknown.
    pub leader_epoch: i32,
}

impl Position {
    /// The position at `offset`, whose leader epoch is not known.
    pub fn at(offset: i64) -> Self {
        Self {
            offset,
            leader_epoch: -1,
        }
    }
}
