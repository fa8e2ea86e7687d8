//! Counters of a partition's traffic since this broker opened it, for `/metrics`.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Counters of one partition. They only grow, and nothing depends on them.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes_in: AtomicU64,
    records_in: AtomicU64,
    bytes_out: AtomicU64,
    refused: AtomicU64,
    follower_lag: AtomicI64,
}

/// The values of the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Bytes of record batches appended by producers.
    pub bytes_in: u64,
    /// Records appended by producers.
    pub records_in: u64,
    /// Bytes of record batches fetched.
    pub bytes_out: u64,
    /// Record batches refused.
    pub refused: u64,
}

impl Traffic {
    /// Counts an appended batch.
    pub fn appended(&self, bytes: usize, records: i32) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        let records = u64::try_from(records).unwrap_or(0);
        self.records_in.fetch_add(records, Ordering::Relaxed);
    }

    /// Counts a refused batch.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts fetched bytes.
    pub fn fetched(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many records below the leader's high watermark this node did not have at the last answer of the leader.
    pub fn follower_lag(&self) -> i64 {
        self.follower_lag.load(Ordering::Relaxed)
    }

    pub(crate) fn set_follower_lag(&self, lag: i64) {
        self.follower_lag.store(lag, Ordering::Relaxed);
    }

    /// The counters now.
    pub fn counted(&self) -> Counted {
        Counted {
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            records_in: self.records_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}
