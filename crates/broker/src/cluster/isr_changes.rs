//! The changes of ISRs that the controller has not answered yet: found by fetches of followers, sent by a driver.
//!
//! There is at most one for each partition, because a leader has at most one pending.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ottla_replica::PartitionId;
use ottla_replication::IsrChange;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub struct IsrChanges {
    waiting: Mutex<BTreeMap<PartitionId, IsrChange>>,
    added: Notify,
}

impl IsrChanges {
    /// Adds a change, in place of an earlier one of the partition.
    pub fn add(&self, partition: PartitionId, change: IsrChange) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(partition, change);
        drop(waiting);
        self.added.notify_one();
    }

    /// Waits for changes, and takes them all.
    pub async fn take(&self) -> BTreeMap<PartitionId, IsrChange> {
        loop {
            let waiting = self.waiting.lock();
            let taken = std::mem::take(&mut *waiting.unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.added.notified().await;
        }
    }
}
