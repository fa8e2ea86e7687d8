//! Counts the log files that answers hold open, over all connections, so that slow readers and readers of many partitions
//! cannot use up the descriptors.
//!
//! A [`HeldFile`] counts one file from the time a read is planned until its bytes are in memory or sent. Each thread that
//! plans may exceed the bound by one file.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of files that answers hold open.
#[derive(Debug)]
pub struct HeldFiles {
    limit: usize,
    held: AtomicUsize,
}

/// One file that an answer holds open, until this is dropped.
#[derive(Debug)]
pub struct HeldFile {
    of: Arc<HeldFiles>,
}

impl HeldFiles {
    /// Answers may hold `limit` files open.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: AtomicUsize::new(0),
        })
    }

    /// Counts one more file.
    pub fn hold(self: &Arc<Self>) -> HeldFile {
        self.held.fetch_add(1, Ordering::Relaxed);
        HeldFile {
            of: Arc::clone(self),
        }
    }

    /// Whether the limit is reached: partitions that can wait for the next answer must wait.
    pub fn are_spent(&self) -> bool {
        self.held.load(Ordering::Relaxed) >= self.limit
    }

    /// Whether more than half are held: records are then read into memory at once, instead of staying in their file
    /// until they are sent. So slow readers hold at most half of the files.
    pub fn are_scarce(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.limit / 2
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        self.of.held.fetch_sub(1, Ordering::Relaxed);
    }
}
