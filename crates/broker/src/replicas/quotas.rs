//! The rates at which this node replicates throttled replicas, as their leader and as their follower, and their limits.
//!
//! What is throttled is decided by `ottla_replica`, what a rate is by `ottla_replication`. The limits are those of the
//! latest metadata.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ottla_protocol::time::MonotonicTime;
use ottla_replication::ReplicationRate;

use super::settings::ReplicationLimits;

/// The quotas of both sides.
#[derive(Debug, Default)]
pub struct ReplicationQuotas {
    pub leader: Quota,
    pub follower: Quota,
}

/// A rate and its limit.
#[derive(Debug)]
pub struct Quota {
    limit: AtomicU64,
    rate: Mutex<ReplicationRate>,
}

impl Default for Quota {
    /// Without a limit.
    fn default() -> Self {
        Self {
            limit: AtomicU64::new(u64::MAX),
            rate: Mutex::default(),
        }
    }
}

impl ReplicationQuotas {
    pub fn set(&self, limits: ReplicationLimits) {
        self.leader.limit.store(limits.leader, Ordering::Relaxed);
        self.follower
            .limit
            .store(limits.follower, Ordering::Relaxed);
    }
}

impl Quota {
    /// Counts bytes of a throttled replica.
    pub fn record(&self, bytes: u64, now: MonotonicTime) {
        self.rate().record(bytes, now);
    }

    pub fn is_exceeded(&self, now: MonotonicTime) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        self.rate().exceeds(limit, now)
    }

    fn rate(&self) -> MutexGuard<'_, ReplicationRate> {
        // Held for a few sums.
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
