//! The log files that answers hold open: bounded over all connections, so that readers that are slow or ask for many
//! partitions at once leave descriptors to others.
//!
//! A [`HeldFile`] counts one from when a read is planned until its bytes are in memory or sent. The bound may be passed
//! by one file for each thread that plans.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the files that are held.
#[derive(Debug)]
pub struct HeldFiles {
    limit: usize,
    held: AtomicUsize,
}

/// One file that is held, until this is dropped.
#[derive(Debug)]
pub struct HeldFile {
    of: Arc<HeldFiles>,
}

impl HeldFiles {
    /// At most `limit` files are held.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: AtomicUsize::new(0),
        })
    }

    /// Counts another.
    pub fn hold(self: &Arc<Self>) -> HeldFile {
        self.held.fetch_add(1, Ordering::Relaxed);
        HeldFile {
            of: Arc::clone(self),
        }
    }

    /// Whether no more should be held: what can wait for the next answer waits.
    pub fn are_spent(&self) -> bool {
        self.held.load(Ordering::Relaxed) >= self.limit
    }

    /// Whether so many are held that what can be read at once should not wait in its file until it is sent: slow readers
    /// get half, the other half is for those who read now.
    pub fn are_scarce(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.limit / 2
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        self.of.held.fetch_sub(1, Ordering::Relaxed);
    }
}
