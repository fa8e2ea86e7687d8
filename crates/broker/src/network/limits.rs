//! What bounds the network: connections in all and by address, and memory for requests in flight.
//!
//! Both hand out guards that give back on drop, so that no path can forget to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// What bounds all connections together.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// `max.connections`.
    pub configured: usize,
    /// As many as the process has file descriptors for.
    pub descriptors: usize,
}

/// Counts open connections.
#[derive(Debug)]
pub struct ConnectionLimits {
    all: Arc<Semaphore>,
    most: Most,
    /// Whether it has been said that all are taken.
    is_said: AtomicBool,
    per_address: usize,
    overrides: HashMap<IpAddr, usize>,
    // A short lock on a path that also makes a system call; an owner task would cost two hops per connection.
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl ConnectionLimits {
    /// At most `most` connections, at most `per_address` from one address unless `overrides` names it.
    pub fn new(most: Most, per_address: usize, overrides: HashMap<IpAddr, usize>) -> Arc<Self> {
        let all = most.configured.min(most.descriptors);
        Arc::new(Self {
            all: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            most,
            is_said: AtomicBool::new(false),
            per_address,
            overrides,
            open: Mutex::new(HashMap::new()),
        })
    }

    /// Waits until another connection may be accepted. That all are taken is said once, until one is free again.
    pub async fn slot(&self) -> OwnedSemaphorePermit {
        if let Ok(slot) = Arc::clone(&self.all).try_acquire_owned() {
            self.is_said.store(false, Ordering::Relaxed);
            return slot;
        }
        if !self.is_said.swap(true, Ordering::Relaxed) {
            let Most {
                configured,
                descriptors,
            } = self.most;
            if descriptors < configured {
                tracing::warn!(
                    connections = descriptors,
                    "as many connections as there are file descriptors for: others wait until one closes; raise the limit \
                     of open files (ulimit -n), or set max.connections"
                );
            } else {
                tracing::warn!(
                    connections = configured,
                    "as many connections as max.connections allows: others wait until one closes"
                );
            }
        }
        Arc::clone(&self.all)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed")
    }

    /// Whether a connection could be accepted now.
    pub fn is_full(&self) -> bool {
        self.all.available_permits() == 0
    }

    /// Counts a connection from `address`, or says that it has enough.
    pub fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        slot: OwnedSemaphorePermit,
    ) -> Option<Admission> {
        let address = address.to_canonical();
        let limit = self.overrides.get(&address).copied();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_insert(0);
        if *count >= limit.unwrap_or(self.per_address) {
            if *count == 0 {
                open.remove(&address);
            }
            return None;
        }
        *count += 1;
        Some(Admission {
            limits: Arc::clone(self),
            address,
            _slot: slot,
        })
    }
}

/// One counted connection.
#[derive(Debug)]
pub struct Admission {
    limits: Arc<ConnectionLimits>,
    address: IpAddr,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut open = self
            .limits
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Bounds the bytes of requests that are being received or answered, over all connections.
///
/// A reservation succeeds while anything is left, so the bound may be passed by one request and a request larger
/// than the whole bound still gets through (Kafka's rule for `queued.max.request.bytes`).
#[derive(Debug)]
pub struct RequestMemory {
    available: AtomicI64,
    freed: Notify,
}

impl RequestMemory {
    /// A bound of `bytes`.
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            available: AtomicI64::new(i64::try_from(bytes).unwrap_or(i64::MAX)),
            freed: Notify::new(),
        })
    }

    /// Takes `bytes`, unless nothing is left.
    pub fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let bytes = bytes as i64;
        self.available
            .try_update(Ordering::AcqRel, Ordering::Acquire, |available| {
                (available > 0).then_some(available - bytes)
            })
            .ok()?;
        Some(Reservation {
            memory: Arc::clone(self),
            bytes,
        })
    }

    /// Takes `bytes` as soon as anything is left.
    pub async fn reserve(self: &Arc<Self>, bytes: usize) -> Reservation {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Registered before the look, so that what is freed in between is not missed.
            freed.as_mut().enable();
            if let Some(reservation) = self.try_reserve(bytes) {
                return reservation;
            }
            freed.await;
        }
    }
}

/// Bytes taken from [`RequestMemory`], given back on drop.
#[derive(Debug)]
pub struct Reservation {
    memory: Arc<RequestMemory>,
    bytes: i64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let before = self
            .memory
            .available
            .fetch_add(self.bytes, Ordering::AcqRel);
        if before <= 0 {
            self.memory.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::{IpAddr, Ipv4Addr};

    use super::{ConnectionLimits, Most, RequestMemory};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const TEN: Most = Most {
        configured: 10,
        descriptors: 1000,
    };
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    #[tokio::test]
    async fn an_address_gets_its_share_and_gets_it_back() {
        let limits = ConnectionLimits::new(TEN, 1, HashMap::from([(THERE, 2)]));
        let first = limits.admit(HERE, limits.slot().await);
        assert!(first.is_some());
        assert!(limits.admit(HERE, limits.slot().await).is_none());
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        assert!(limits.admit(mapped, limits.slot().await).is_none());
        drop(first);
        assert!(limits.admit(HERE, limits.slot().await).is_some());
        let _one = limits.admit(THERE, limits.slot().await).unwrap();
        let _two = limits.admit(THERE, limits.slot().await).unwrap();
        assert!(limits.admit(THERE, limits.slot().await).is_none());
    }

    #[tokio::test]
    async fn an_override_of_zero_shuts_an_address_out() {
        let limits = ConnectionLimits::new(TEN, 5, HashMap::from([(HERE, 0)]));
        assert!(limits.admit(HERE, limits.slot().await).is_none());
        assert!(!limits.is_full(), "the refused connection kept its slot");
    }

    #[tokio::test]
    async fn request_memory_is_passed_by_one_request_and_no_more() {
        let memory = RequestMemory::new(100);
        let first = memory.try_reserve(60).unwrap();
        let second = memory.try_reserve(60).unwrap();
        assert!(memory.try_reserve(1).is_none());
        let waiting = tokio::spawn({
            let memory = std::sync::Arc::clone(&memory);
            async move { memory.reserve(10).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
        drop(second);
        assert!(memory.try_reserve(100).is_some());
    }
}
