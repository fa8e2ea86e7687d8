//! When the active controller heard of each broker last.
//!
//! Soft state: it is in no record, and dies with the leadership. The owner calls it on each event, puts what it returns
//! into the requests, and proposes the fencing that [`Heartbeats::on_tick`] and [`Heartbeats::on_evidence`] ask for.
//! Invariants:
//!
//! - Only the registered process of a broker extends its session: a heartbeat with another epoch does not count.
//! - A controller that becomes active gives each unfenced broker a whole session.
//! - Before the end of a session, lateness alone fences nobody: it takes evidence ([`reach`], or a refused connection).

pub mod reach;

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_metadata::MetadataImage;
use ottla_protocol::ids::{NodeId, Offset};
use ottla_protocol::time::MonotonicTime;

use crate::broker_heartbeat::{ControlledShutdown, Health, Heartbeat};
use crate::request::FenceBroker;

/// `broker.session.timeout.ms` of Kafka.
pub const DEFAULT_SESSION: Duration = Duration::from_secs(9);
/// A broker that has been silent for a shorter time is not late.
const SHORTEST_LATE: Duration = Duration::from_millis(500);

/// The sessions of the brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeats {
    session: Duration,
    /// The broker of this process, whose heartbeats say nothing of the network.
    own: Option<NodeId>,
    brokers: BTreeMap<NodeId, Contact>,
}

/// The session of one process of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Contact {
    /// The epoch of its registration.
    epoch: i64,
    at: MonotonicTime,
    /// The longest time between two of its heartbeats, of which older ones count less; `None` until this controller has
    /// heard one.
    pace: Option<Duration>,
    /// The last metadata offset that it has applied; below all offsets until it has reported one.
    metadata_offset: Offset,
    /// The offset that all active brokers have to apply before it may stop, if it shuts down.
    shutdown: Option<Offset>,
}

impl Heartbeats {
    /// The sessions that a controller begins with.
    pub fn new(image: &MetadataImage, session: Duration, now: MonotonicTime) -> Self {
        let unfenced = image.brokers.values().filter(|broker| !broker.fenced);
        let brokers = unfenced.map(|broker| (broker.id, Contact::new(broker.epoch, now)));
        Self {
            session,
            own: None,
            brokers: brokers.collect(),
        }
    }

    /// The broker `own` is in the controller's process.
    #[must_use]
    pub fn beside(mut self, own: NodeId) -> Self {
        self.own = Some(own);
        self
    }

    /// Whether the process that is registered as this broker has a session.
    pub fn is_alive(&self, image: &MetadataImage, id: NodeId, now: MonotonicTime) -> bool {
        let registered = image.brokers.get(&id);
        let contact = self.brokers.get(&id);
        registered.zip(contact).is_some_and(|(broker, contact)| {
            broker.epoch == contact.epoch && !self.is_over(contact, now)
        })
    }

    /// A broker has sent a heartbeat.
    pub fn on_heartbeat(
        &mut self,
        image: &MetadataImage,
        heartbeat: &Heartbeat,
        now: MonotonicTime,
    ) {
        let (id, epoch) = (heartbeat.broker, heartbeat.epoch);
        let registered = image.brokers.get(&id);
        let Some(broker) = registered.filter(|broker| broker.epoch == epoch) else {
            return;
        };
        let contact = self.brokers.entry(id).or_insert(Contact::new(epoch, now));
        if contact.epoch != epoch {
            *contact = Contact::new(epoch, now);
        }
        // Until there are several, they say little about the next.
        let first = self.session / 4;
        contact.pace = Some(match contact.pace {
            Some(pace) => now.remaining(contact.at).max(pace * 7 / 8),
            None => first,
        });
        contact.at = now;
        contact.metadata_offset = heartbeat.metadata_offset;
        if broker.fenced {
            contact.shutdown = None;
        }
    }

    /// A heartbeat of this process waits for its answer: it is alive as far as anybody can know.
    pub fn on_waiting(&mut self, (id, epoch): (NodeId, i64), now: MonotonicTime) {
        let contact = self.brokers.get_mut(&id);
        if let Some(contact) = contact.filter(|contact| contact.epoch == epoch) {
            contact.at = now;
        }
    }

    /// How far the controlled shutdown of a broker is, for the decision about its heartbeat.
    pub fn shutdown(&self, image: &MetadataImage, id: NodeId) -> ControlledShutdown {
        let contact = self.brokers.get(&id);
        let Some(needed) = contact.and_then(|contact| contact.shutdown) else {
            return ControlledShutdown::None;
        };
        let is_active = |id: NodeId| {
            let contact = self.brokers.get(&id);
            image.is_active(id) && contact.is_none_or(|contact| contact.shutdown.is_none())
        };
        let applied = |id: NodeId| {
            let contact = self.brokers.get(&id);
            contact.map_or(Offset(-1), |contact| contact.metadata_offset)
        };
        let mut active = image.brokers.keys().filter(|id| is_active(**id));
        if active.all(|id| applied(*id) >= needed) {
            ControlledShutdown::Seen
        } else {
            ControlledShutdown::Waiting
        }
    }

    /// The decision about a broker's heartbeat is committed.
    pub fn on_decided(&mut self, (id, epoch): (NodeId, i64), health: &Health) {
        let contact = self.brokers.get_mut(&id);
        let Some(contact) = contact.filter(|contact| contact.epoch == epoch) else {
            return;
        };
        contact.shutdown = match health.shutdown {
            Some(offset) => contact.shutdown.or(Some(offset)),
            None if health.is_fenced => None,
            None => contact.shutdown,
        };
    }

    /// Ends one session that is over, and asks to fence its broker. The owner calls it again once that is decided, so
    /// that each decision sees the ones before it.
    pub fn on_tick(&mut self, now: MonotonicTime) -> Option<FenceBroker> {
        let mut brokers = self.brokers.iter();
        let over = brokers.find(|(_, contact)| self.is_over(contact, now));
        let broker = over.map(|(id, contact)| (*id, contact.epoch))?;
        self.end(broker)
    }

    /// A process is dead by other evidence than its silence: its connection was reset, and a new one is refused. The
    /// session ends at once, so that its next process can register.
    pub fn on_evidence(&mut self, broker: (NodeId, i64)) -> Option<FenceBroker> {
        self.end(broker)
    }

    /// The brokers from which a heartbeat should have come by now, or from which none has come since this controller became
    /// active. That is no reason to fence them, but to look at them.
    pub fn late(&self, now: MonotonicTime) -> Vec<(NodeId, i64)> {
        let others = self.brokers.iter().filter(|(id, _)| Some(**id) != self.own);
        let late = others.filter(|(_, contact)| contact.is_late(now));
        late.map(|(id, contact)| (*id, contact.epoch)).collect()
    }

    /// The machine of a broker has not answered since `since`. If the broker is late too, it is fenced, and its session
    /// ends. Another machine must have been heard meanwhile: if all are silent, it is the network of this one that is gone.
    pub fn on_unreachable(
        &mut self,
        broker: (NodeId, i64),
        since: MonotonicTime,
        now: MonotonicTime,
    ) -> Option<FenceBroker> {
        let contact = self.brokers.get(&broker.0)?;
        let mut others = self.brokers.iter();
        let is_network_there = others.any(|(id, other)| {
            *id != broker.0 && Some(*id) != self.own && other.pace.is_some() && other.at > since
        });
        if !contact.is_late(now) || !is_network_there {
            return None;
        }
        self.end(broker)
    }

    /// A fencing could not be committed: [`Heartbeats::on_tick`] asks for it again, unless the broker beats before.
    pub fn on_not_fenced(&mut self, fence: &FenceBroker, now: MonotonicTime) {
        let since = now.0.saturating_sub(self.session);
        let over = since.saturating_sub(Duration::from_millis(1));
        let contact = Contact::new(fence.epoch, MonotonicTime(over));
        self.brokers.entry(fence.broker).or_insert(contact);
    }

    /// When [`Heartbeats::on_tick`] has something to do; `None` without sessions.
    pub fn next_tick(&self) -> Option<MonotonicTime> {
        let ends = self.brokers.values().map(|contact| contact.at);
        // A session is over after its last moment.
        let first = ends.min()?.after(self.session);
        Some(first.after(Duration::from_millis(1)))
    }

    fn end(&mut self, (id, epoch): (NodeId, i64)) -> Option<FenceBroker> {
        let contact = self.brokers.get(&id)?;
        if contact.epoch != epoch {
            return None;
        }
        self.brokers.remove(&id);
        Some(FenceBroker { broker: id, epoch })
    }

    fn is_over(&self, contact: &Contact, now: MonotonicTime) -> bool {
        contact.at.after(self.session) < now
    }
}

impl Contact {
    const fn new(epoch: i64, at: MonotonicTime) -> Self {
        Self {
            epoch,
            at,
            pace: None,
            metadata_offset: Offset(-1),
            shutdown: None,
        }
    }

    fn is_late(&self, now: MonotonicTime) -> bool {
        let allowed = self.pace.map(|pace| (pace * 2).max(SHORTEST_LATE));
        allowed.is_none_or(|allowed| self.at.after(allowed) < now)
    }
}

#[cfg(test)]
mod tests;
