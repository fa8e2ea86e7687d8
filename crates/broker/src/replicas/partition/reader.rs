//! A reader that waits at the end of partitions.
//!
//! It says how many bytes it lacks. Whoever appends takes the bytes off, and so learns whether the reader could be
//! answered if they were on stable storage: then they are flushed for it. Bytes may be counted twice while it looks at its
//! partitions, but none is missed: a flush may come early, never too late.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;

/// Somebody who waits for records, in one partition or more.
#[derive(Debug)]
pub struct Reader {
    changed: Notify,
    lacking: AtomicI64,
}

impl Reader {
    /// A reader that is told of changes, and for which no append is flushed.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            changed: Notify::new(),
            lacking: AtomicI64::new(i64::MAX),
        })
    }

    /// It lacks so many bytes from now on: said before it looks at its partitions.
    pub fn lacks(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.lacking.store(bytes, Ordering::SeqCst);
    }

    /// So many bytes more are there, or will be once they are flushed; says whether it lacks no more.
    pub fn gets(&self, bytes: u64) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.lacking.fetch_sub(bytes, Ordering::SeqCst) <= bytes
    }

    /// Waits until one of its partitions has changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }
}
