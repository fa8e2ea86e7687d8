//! The sessions of the brokers with the active controller of this process, and the task that fences silent brokers.
//!
//! They are soft state: [`Sessions::begin`] when this controller becomes active, [`Sessions::end`] when it no longer is. A
//! heartbeat counts from its arrival until its answer: a broker that waits for an answer is not silent, so that a slow disk
//! of the controller fences nobody. The broker of this process is as the others. Time in which this process did not run does
//! not count ([`RunningTime`]).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ottla_controller::heartbeats::Heartbeats;
use ottla_controller::heartbeats::reach::{Answer, Reach};
use ottla_controller::request::FenceBroker;
use ottla_controller::running_time::RunningTime;
use ottla_controller::{ControllerReply, ControllerRequest};
use ottla_metadata::MetadataImage;
use ottla_protocol::ids::NodeId;
use ottla_protocol::time::MonotonicTime;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::broker::Broker;
use crate::drivers::stopping::stopped;
use crate::process::clock::Clock;

/// Between two looks at the sessions, at most; and before a fencing that failed is tried again.
const LOOK: Duration = Duration::from_millis(200);

/// How long sessions last.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The node of this process.
    pub own: NodeId,
    /// `broker.session.timeout.ms`.
    pub timeout: Duration,
    /// `ottla.broker.unreachable.fence.enable`.
    pub fences_unreachable: bool,
}

/// The sessions; none while another controller is active.
#[derive(Debug)]
pub struct Sessions {
    settings: Settings,
    clock: Clock,
    time: Mutex<RunningTime>,
    heartbeats: Mutex<Option<Heartbeats>>,
    /// Which brokers answer attempts to connect; kept while another controller is active.
    reach: Mutex<Reach>,
    /// The brokers, with their epochs, whose heartbeats are not answered yet.
    waiting: Mutex<Vec<(NodeId, i64)>>,
    /// Brokers whose connection has ended or that have none to this controller yet, until their next heartbeat.
    disconnected: Mutex<BTreeSet<NodeId>>,
    suspects: Mutex<BTreeSet<NodeId>>,
    suspected: Notify,
}

#[cfg(test)]
impl Sessions {
    /// Those of node 1, as long as Kafka's, which end only by their time.
    pub fn of_test(clock: Clock) -> Self {
        let settings = Settings {
            own: NodeId(1),
            timeout: Duration::from_secs(9),
            fences_unreachable: false,
        };
        Self::new(settings, clock)
    }
}

impl Sessions {
    pub fn new(settings: Settings, clock: Clock) -> Self {
        Self {
            settings,
            clock,
            time: Mutex::default(),
            heartbeats: Mutex::default(),
            reach: Mutex::default(),
            waiting: Mutex::default(),
            disconnected: Mutex::default(),
            suspects: Mutex::default(),
            suspected: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Heartbeats>> {
        lock(&self.heartbeats)
    }

    /// The time that counts for sessions.
    pub fn now(&self) -> MonotonicTime {
        lock(&self.time).at(self.clock.monotonic())
    }

    /// This controller becomes active: each unfenced broker of `image` gets a whole session, and counts as disconnected. So
    /// a broker that died together with the last controller need not wait for the end of that session.
    pub fn begin(&self, image: &MetadataImage) {
        let heartbeats = Heartbeats::new(image, self.settings.timeout, self.now());
        *self.lock() = Some(heartbeats.beside(self.settings.own));
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
        let now = self.now();
        let heartbeats = self.lock();
        let heartbeats = heartbeats.as_ref();
        heartbeats.is_some_and(|heartbeats| heartbeats.is_alive(image, id, now))
    }

    /// Counts a request that is a heartbeat, and adds to it how far the controlled shutdown of its broker is. The broker has
    /// a session while the returned value lives.
    pub fn on_request(
        &self,
        image: &MetadataImage,
        request: &mut ControllerRequest,
    ) -> Option<Beating<'_>> {
        let ControllerRequest::BrokerHeartbeat(beat) = request else {
            return None;
        };
        let heartbeat = &mut beat.0;
        lock(&self.disconnected).remove(&heartbeat.broker);
        let now = self.now();
        let mut heartbeats = self.lock();
        let heartbeats = heartbeats.as_mut()?;
        heartbeats.on_heartbeat(image, heartbeat, now);
        heartbeat.shutdown = heartbeats.shutdown(image, heartbeat.broker);
        let broker = (heartbeat.broker, heartbeat.epoch);
        lock(&self.waiting).push(broker);
        Some(Beating {
            sessions: self,
            broker,
        })
    }

    /// A broker whose session is over, if there is one; and when to look again.
    fn look(&self, now: MonotonicTime) -> (Option<FenceBroker>, MonotonicTime) {
        let latest = now.after(LOOK);
        let mut heartbeats = self.lock();
        let Some(heartbeats) = heartbeats.as_mut() else {
            return (None, latest);
        };
        for broker in lock(&self.waiting).iter() {
            heartbeats.on_waiting(*broker, now);
        }
        let over = heartbeats.on_tick(now);
        let next = heartbeats
            .next_tick()
            .map_or(latest, |next| next.min(latest));
        (over, next)
    }

    /// The brokers to which a connection is to be tried, to find out whether their machines answer.
    pub fn to_try(&self, image: &MetadataImage) -> Vec<(NodeId, i64)> {
        if !self.settings.fences_unreachable {
            return Vec::new();
        }
        let now = self.now();
        let mut brokers = lock(&self.reach).untried(image, now);
        brokers.retain(|(id, _)| *id != self.settings.own);
        let late = self.lock().as_ref().map(|heartbeats| heartbeats.late(now));
        brokers.extend(late.unwrap_or_default());
        brokers
    }

    /// An attempt that began at this [time](Self::now) has ended. Returns what it is evidence for.
    pub fn on_attempt(
        &self,
        broker: (NodeId, i64),
        began: MonotonicTime,
        answer: Answer,
    ) -> Option<FenceBroker> {
        let now = self.now();
        let mut reach = lock(&self.reach);
        reach.on_attempt(broker, (began, now), answer);
        let since = reach.unreachable_since(broker);
        let since = since.filter(|_| self.settings.fences_unreachable)?;
        let mut heartbeats = self.lock();
        heartbeats.as_mut()?.on_unreachable(broker, since, now)
    }

    /// The fencing is not committed: it is due again.
    pub fn not_fenced(&self, fence: &FenceBroker) {
        let now = self.now();
        if let Some(heartbeats) = self.lock().as_mut() {
            heartbeats.on_not_fenced(fence, now);
        }
    }
}

/// A heartbeat that is not answered yet.
#[derive(Debug)]
pub struct Beating<'a> {
    sessions: &'a Sessions,
    broker: (NodeId, i64),
}

impl Beating<'_> {
    /// The decision about the heartbeat is committed.
    pub fn on_reply(self, reply: &ControllerReply) {
        if let ControllerReply::BrokerHeartbeat(Ok(health)) = reply
            && let Some(heartbeats) = self.sessions.lock().as_mut()
        {
            heartbeats.on_decided(self.broker, health);
        }
    }
}

impl Drop for Beating<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.sessions.waiting);
        if let Some(at) = waiting.iter().position(|broker| *broker == self.broker) {
            waiting.swap_remove(at);
        }
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fences brokers whose session is over, one after the other, until the broker stops.
pub async fn fence_silent(broker: Arc<Broker>, mut stopping: watch::Receiver<bool>) {
    let sessions = Arc::clone(broker.controller.sessions());
    loop {
        let now = sessions.now();
        let (over, mut next) = sessions.look(now);
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
            next = now.after(LOOK);
        }
        tokio::select! {
            () = sleep(next.remaining(now)) => {}
            () = stopped(&mut stopping) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Sessions, Settings};
    use crate::process::clock::Clock;
    use ottla_controller::ControllerRequest;
    use ottla_controller::broker_heartbeat::{ControlledShutdown, Heartbeat, Wish};
    use ottla_controller::request::{BrokerHeartbeat, FenceBroker};
    use ottla_metadata::{BrokerRegistration, MetadataDelta, MetadataImage};
    use ottla_protocol::ids::{NodeId, Offset};
    use ottla_protocol::time::MonotonicTime;
    use std::time::Duration;

    const BROKER: NodeId = NodeId(2);
    const EPOCH: i64 = 7;

    fn image() -> MetadataImage {
        let broker = BrokerRegistration {
            id: BROKER,
            epoch: EPOCH,
            ..BrokerRegistration::default()
        };
        let mut delta = MetadataDelta::new(MetadataImage::default());
        delta.replay(&broker.to_record().into());
        delta.finish().0
    }

    fn heartbeat() -> ControllerRequest {
        BrokerHeartbeat(Heartbeat {
            broker: BROKER,
            epoch: EPOCH,
            metadata_offset: Offset(EPOCH),
            wish: Wish::Serve,
            offline_directories: Vec::new(),
            cordoned_directories: None,
            shutdown: ControlledShutdown::None,
        })
        .into()
    }

    #[test]
    fn a_broker_whose_heartbeat_is_not_answered_is_not_silent() {
        let settings = Settings {
            own: NodeId(1),
            timeout: Duration::from_secs(9),
            fences_unreachable: true,
        };
        let sessions = Sessions::new(settings, Clock::start());
        let image = image();
        sessions.begin(&image);
        let after = |seconds| {
            let now = MonotonicTime(Duration::from_secs(seconds));
            sessions.look(now).0
        };
        let beating = sessions.on_request(&image, &mut heartbeat());
        assert!(beating.is_some());
        assert_eq!(after(100), None, "the controller has not answered");
        drop(beating);
        assert_eq!(after(108), None, "a whole session begins at the last look");
        let broker = BROKER;
        let fence = FenceBroker {
            broker,
            epoch: EPOCH,
        };
        assert_eq!(after(110), Some(fence));
    }
}
