//! The sessions of the brokers with the active controller of this process, and the task that fences silent brokers.
//!
//! They are soft state: [`Sessions::begin`] when this controller becomes active, [`Sessions::end`] when it no longer is. A
//! heartbeat counts from its arrival, however long the decision about it takes. The broker of this process is as the others.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ottla_controller::broker_heartbeat::Health;
use ottla_controller::heartbeats::Heartbeats;
use ottla_controller::request::FenceBroker;
use ottla_controller::{ControllerReply, ControllerRequest};
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::NodeId;
use ottla_protocol::time::MonotonicTime;
use tokio::sync::{Notify, watch};

use crate::broker::Broker;
use crate::drivers::stopping::stopped;
use crate::process::clock::Clock;

/// Between two looks at the sessions, at most; and before a fencing that failed is tried again.
const LOOK: Duration = Duration::from_millis(500);

/// The sessions; none while another controller is active.
#[derive(Debug)]
pub struct Sessions {
    timeout: Duration,
    clock: Clock,
    heartbeats: Mutex<Option<Heartbeats>>,
    /// Brokers whose connection has ended or that have none to this controller yet, until their next heartbeat.
    disconnected: Mutex<BTreeSet<NodeId>>,
    suspects: Mutex<BTreeSet<NodeId>>,
    suspected: Notify,
}

impl Sessions {
    /// `timeout` is `broker.session.timeout.ms`.
    pub fn new(timeout: Duration, clock: Clock) -> Self {
        Self {
            timeout,
            clock,
            heartbeats: Mutex::default(),
            disconnected: Mutex::default(),
            suspects: Mutex::default(),
            suspected: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Heartbeats>> {
        self.heartbeats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// This controller becomes active: each unfenced broker of `image` gets a whole session, and counts as disconnected. So
    /// a broker that died together with the last controller need not wait for the end of that session.
    pub fn begin(&self, image: &MetadataImage) {
        let now = self.clock.monotonic();
        *self.lock() = Some(Heartbeats::new(image, self.timeout, now));
        lock(&self.disconnected).extend(image.brokers.keys());
        lock(&self.suspects).extend(image.brokers.keys());
        self.suspected.notify_one();
    }

    /// The connection ended on which this broker sent its heartbeats. A new process may register in its place: the last one
    /// is dead, or learns from its next heartbeat that it is replaced.
    pub fn on_disconnected(&self, broker: NodeId) {
        lock(&self.disconnected).insert(broker);
        lock(&self.suspects).insert(broker);
        self.suspected.notify_one();
    }

    /// Waits for brokers that may be dead, and takes them.
    pub async fn suspects(&self) -> BTreeSet<NodeId> {
        loop {
            let suspects = std::mem::take(&mut *lock(&self.suspects));
            if !suspects.is_empty() {
                return suspects;
            }
            self.suspected.notified().await;
        }
    }

    /// Another controller is active.
    pub fn end(&self) {
        *self.lock() = None;
    }

    /// Whether the active controller is in this process.
    pub fn is_active(&self) -> bool {
        self.lock().is_some()
    }

    /// Whether the process that is registered as this broker has a session, and is connected as far as is known.
    pub fn is_alive(&self, image: &MetadataImage, id: NodeId) -> bool {
        if lock(&self.disconnected).contains(&id) {
            return false;
        }
        let now = self.clock.monotonic();
        let heartbeats = self.lock();
        let heartbeats = heartbeats.as_ref();
        heartbeats.is_some_and(|heartbeats| heartbeats.is_alive(image, id, now))
    }

    /// Counts a request that is a heartbeat, and adds to it how far the controlled shutdown of its broker is. Returns the
    /// broker and its epoch, for [`Sessions::on_reply`].
    pub fn on_request(
        &self,
        image: &MetadataImage,
        request: &mut ControllerRequest,
    ) -> Option<(NodeId, i64)> {
        let ControllerRequest::BrokerHeartbeat(beat) = request else {
            return None;
        };
        let heartbeat = &mut beat.0;
        lock(&self.disconnected).remove(&heartbeat.broker);
        let mut heartbeats = self.lock();
        let heartbeats = heartbeats.as_mut()?;
        heartbeats.on_heartbeat(image, heartbeat, self.clock.monotonic());
        heartbeat.shutdown = heartbeats.shutdown(image, heartbeat.broker);
        Some((heartbeat.broker, heartbeat.epoch))
    }

    /// The decision about the heartbeat of a broker is committed.
    pub fn on_reply(&self, broker: (NodeId, i64), reply: &ControllerReply) {
        if let ControllerReply::BrokerHeartbeat(Ok(health)) = reply {
            self.on_decided(broker, health);
        }
    }

    fn on_decided(&self, broker: (NodeId, i64), health: &Health) {
        if let Some(heartbeats) = self.lock().as_mut() {
            heartbeats.on_decided(broker, health);
        }
    }

    /// A broker whose session is over, if there is one; and when to look again.
    fn look(&self) -> (Option<FenceBroker>, MonotonicTime) {
        let now = self.clock.monotonic();
        let latest = now.after(LOOK);
        let mut heartbeats = self.lock();
        let Some(heartbeats) = heartbeats.as_mut() else {
            return (None, latest);
        };
        let over = heartbeats.on_tick(now);
        let next = heartbeats
            .next_tick()
            .map_or(latest, |next| next.min(latest));
        (over, next)
    }

    /// The fencing is not committed: it is due again.
    fn not_fenced(&self, fence: &FenceBroker) {
        let now = self.clock.monotonic();
        if let Some(heartbeats) = self.lock().as_mut() {
            heartbeats.on_not_fenced(fence, now);
        }
    }
}

fn lock(brokers: &Mutex<BTreeSet<NodeId>>) -> MutexGuard<'_, BTreeSet<NodeId>> {
    brokers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fences brokers whose session is over, one after the other, until the broker stops.
pub async fn fence_silent(broker: Arc<Broker>, mut stopping: watch::Receiver<bool>) {
    let sessions = Arc::clone(broker.controller.sessions());
    loop {
        let (over, mut next) = sessions.look();
        if let Some(fence) = over {
            tracing::warn!(
                broker = fence.broker.0,
                epoch = fence.epoch,
                "fencing a broker: no heartbeat has come from it for broker.session.timeout.ms"
            );
            if broker.controller.ask_here(fence.clone()).await.is_ok() {
                continue;
            }
            sessions.not_fenced(&fence);
            next = broker.clock.monotonic().after(LOOK);
        }
        tokio::select! {
            () = broker.clock.sleep_until(Some(next)) => {}
            () = stopped(&mut stopping) => return,
        }
    }
}
