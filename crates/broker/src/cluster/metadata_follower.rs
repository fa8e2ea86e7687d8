//! Applies committed metadata to this broker: creates and removes partitions, changes limits, and logs the changes.

use std::sync::Arc;

use ottla_metadata::effective::StaticConfigs;
use ottla_metadata::{Changes, MetadataImage};
use ottla_quorum::QuorumStatus;
use tokio::sync::watch;

use super::elections::Elections;
use super::metadata_events;
use crate::broker::Broker;
use crate::drivers::Drivers;
use crate::drivers::applier::log_failures;
use crate::network::allowed::AllowedConnections;
use crate::network::limits::ConnectionLimits;
use crate::replicas::Replicas;
use crate::replicas::settings::replication_limits;

/// Applies committed metadata to this broker, one image after the other.
#[derive(Debug)]
pub struct MetadataFollower {
    drivers: Arc<Drivers>,
    replicas: Arc<Replicas>,
    connections: Arc<ConnectionLimits>,
    statics: StaticConfigs,
    elections: Arc<Elections>,
    /// Says whether the active controller is here; none on a broker alone.
    quorum: Option<watch::Receiver<QuorumStatus>>,
    /// The image that was applied last.
    last: Arc<MetadataImage>,
}

impl MetadataFollower {
    /// Starts at the current image of the controller, which the broker has applied already.
    pub fn new(broker: &Broker) -> Self {
        let follower = Self {
            drivers: Arc::clone(&broker.drivers),
            replicas: Arc::clone(&broker.replicas),
            connections: Arc::clone(&broker.connections),
            statics: broker.config.statics.clone(),
            elections: Arc::clone(&broker.elections),
            quorum: broker.quorum.get().cloned(),
            last: broker.controller.image(),
        };
        follower.limit_replication(&follower.last);
        follower
    }

    /// Applies an image, which differs from the last one by `changes`. Blocks on the disks, except on stalled ones.
    pub fn apply(&mut self, image: &Arc<MetadataImage>, changes: &Changes) {
        for event in metadata_events::events(&self.last, image, changes) {
            event.log();
        }
        log_failures(&self.drivers.apply(image, changes));
        let quorum = self.quorum.as_ref();
        if quorum.is_some_and(|quorum| quorum.borrow().is_active) {
            self.elections.count((&self.last, image), changes);
        }
        let losses = self.replicas.losses();
        losses.led(&self.replicas, (&self.last, image), changes);
        self.last = Arc::clone(image);
        if changes.configs.iter().any(AllowedConnections::depend_on) {
            let allowed = AllowedConnections::resolve(image, &self.statics);
            self.connections.allow(allowed);
            self.limit_replication(image);
        }
    }

    fn limit_replication(&self, image: &MetadataImage) {
        let limits = replication_limits(image, &self.statics);
        self.replicas.quotas().set(limits);
    }
}
