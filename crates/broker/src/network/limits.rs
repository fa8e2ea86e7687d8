//! The bounds of the network: connections in all and by address, and memory for requests in flight.
//!
//! Both hand out guards. A guard that is dropped gives back what it took.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::allowed::AllowedConnections;

/// Counts open connections, and decides whether there may be another.
///
/// The bounds may change at any time. Open connections stay open, even if they are more than a new bound allows.
#[derive(Debug)]
pub struct ConnectionLimits {
    /// Upper bound by the file descriptors of the process.
    descriptors: usize,
    // A short lock on a path that also makes a system call; an owner task would cost two hops per connection.
    state: Mutex<State>,
    /// Notified when there may be room for another connection.
    freed: Notify,
}

#[derive(Debug)]
struct State {
    allowed: AllowedConnections,
    /// Slots that connections hold.
    taken: usize,
    /// Whether it was logged that all slots are taken; reset once a tenth of them is free.
    is_logged: bool,
    open: HashMap<IpAddr, usize>,
}

impl ConnectionLimits {
    /// Bounded by `allowed`, and by the `descriptors` that connections may have.
    pub fn new(allowed: AllowedConnections, descriptors: usize) -> Arc<Self> {
        Arc::new(Self {
            descriptors,
            state: Mutex::new(State {
                allowed,
                taken: 0,
                is_logged: false,
                open: HashMap::new(),
            }),
            freed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn allowed(&self) -> AllowedConnections {
        self.state().allowed.clone()
    }

    /// Replaces the bounds.
    pub fn allow(&self, allowed: AllowedConnections) {
        self.state().allowed = allowed;
        self.freed.notify_waiters();
    }

    /// Waits for a slot. That all slots are taken is logged once.
    pub async fn slot(self: &Arc<Self>) -> Slot {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Registered before the look, so that what is freed in between is not missed.
            freed.as_mut().enable();
            if let Some(slot) = self.try_slot() {
                return slot;
            }
            freed.await;
        }
    }

    fn try_slot(self: &Arc<Self>) -> Option<Slot> {
        let mut state = self.state();
        let configured = state.allowed.in_all;
        let limit = configured.min(self.descriptors);
        if state.taken < limit {
            state.taken += 1;
            // At the limit each freed slot goes to a waiting connection at once. The line is not repeated for that.
            state.is_logged &= limit - state.taken <= limit / 10;
            return Some(Slot(Arc::clone(self)));
        }
        if !std::mem::replace(&mut state.is_logged, true) {
            if self.descriptors < configured {
                tracing::warn!(
                    connections = self.descriptors,
                    "all file descriptors for connections are in use: others wait until one closes; raise the limit of \
                     open files (ulimit -n), or set max.connections"
                );
            } else {
                tracing::warn!(
                    connections = configured,
                    "all connections that max.connections allows are open: others wait until one closes"
                );
            }
        }
        None
    }

    /// Counts a connection from `address` that holds `slot`. `None` if the address has as many as it may.
    pub fn admit(self: &Arc<Self>, address: IpAddr, slot: Slot) -> Option<Admission> {
        let address = address.to_canonical();
        let mut state = self.state();
        let open = state.open.get(&address).copied().unwrap_or(0);
        if open >= state.allowed.for_address(address) {
            drop(state);
            return None;
        }
        state.open.insert(address, open + 1);
        drop(state);
        Some(Admission { address, slot })
    }
}

/// Room for one more connection.
#[derive(Debug)]
pub struct Slot(Arc<ConnectionLimits>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.state().taken -= 1;
        self.0.freed.notify_waiters();
    }
}

/// One counted connection.
#[derive(Debug)]
pub struct Admission {
    address: IpAddr,
    slot: Slot,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = self.slot.0.state();
        if let Some(count) = state.open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                state.open.remove(&self.address);
            }
        }
    }
}

/// Bounds the bytes of requests that are being received or answered, over all connections.
///
/// A reservation succeeds while at least one byte is left. So the last one may exceed the bound, and a request larger than
/// the whole bound is still served. This is Kafka's rule for `queued.max.request.bytes`.
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
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr};

    use super::{AllowedConnections, ConnectionLimits, RequestMemory};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const DESCRIPTORS: usize = 1000;

    fn allowed<const N: usize>(
        in_all: usize,
        per_address: usize,
        overrides: [(IpAddr, usize); N],
    ) -> AllowedConnections {
        AllowedConnections {
            in_all,
            per_address,
            overrides: BTreeMap::from(overrides),
        }
    }

    #[tokio::test]
    async fn an_address_gets_its_share_and_gets_it_back() {
        let limits = ConnectionLimits::new(allowed(10, 1, [(THERE, 2)]), DESCRIPTORS);
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
        let limits = ConnectionLimits::new(allowed(1, 5, [(HERE, 0)]), DESCRIPTORS);
        assert!(limits.admit(HERE, limits.slot().await).is_none());
        let free = limits.try_slot();
        assert!(free.is_some(), "the refused connection kept its slot");
    }

    #[tokio::test]
    async fn a_change_counts_the_connections_that_are_open() {
        let limits = ConnectionLimits::new(allowed(10, 10, []), DESCRIPTORS);
        let one = limits.admit(HERE, limits.slot().await).unwrap();
        let _two = limits.admit(HERE, limits.slot().await).unwrap();
        limits.allow(allowed(10, 2, []));
        assert!(limits.admit(HERE, limits.slot().await).is_none());
        drop(one);
        let _three = limits.admit(HERE, limits.slot().await).unwrap();

        limits.allow(allowed(1, 10, []));
        assert!(limits.try_slot().is_none());
        let waiting = tokio::spawn({
            let limits = std::sync::Arc::clone(&limits);
            async move { limits.slot().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        limits.allow(allowed(3, 10, []));
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn there_are_no_more_connections_than_file_descriptors() {
        let limits = ConnectionLimits::new(allowed(usize::MAX, usize::MAX, []), 1);
        let _slot = limits.try_slot().unwrap();
        assert!(limits.try_slot().is_none());
    }

    #[test]
    fn that_all_are_taken_is_logged_once_until_there_is_room_again() {
        let limits = ConnectionLimits::new(allowed(2, 2, []), DESCRIPTORS);
        let is_logged = || limits.state().is_logged;
        let first = limits.try_slot();
        let second = limits.try_slot();
        assert!(first.is_some() && second.is_some() && !is_logged());
        assert!(limits.try_slot().is_none() && is_logged());
        drop(first);
        let third = limits.try_slot();
        assert!(third.is_some() && is_logged());
        drop(second);
        drop(third);
        assert!(limits.try_slot().is_some() && !is_logged());
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
