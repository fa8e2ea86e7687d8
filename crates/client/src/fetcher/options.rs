//! The options of a fetcher, and positions in partitions.

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

/// What to do if a position is not in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutOfRange {
    /// Go on at the first record.
    #[default]
    Earliest,
    /// Go on at the end. If the position is before the first record, go on there, so that no record is skipped.
    Latest,
    Fail,
}

/// How a fetcher fetches.
#[derive(Debug, Clone, Copy)]
pub struct FetchOptions {
    /// How long a broker may wait for `min_bytes`.
    pub max_wait: Duration,
    /// The bytes of records for which a broker waits.
    pub min_bytes: i32,
    /// The most bytes in one answer.
    pub max_bytes: i32,
    /// The most bytes of one partition in one answer.
    pub partition_max_bytes: i32,
    pub isolation: Isolation,
    pub out_of_range: OutOfRange,
    /// How long the fetcher waits for brokers that cannot be reached; `None` means for ever.
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
