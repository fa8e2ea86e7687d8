//! Applies committed metadata to this broker: creates and removes partitions, changes limits, and logs the changes.

use std::sync::Arc;

use ottla_metadata::effective::StaticConfigs;
use ottla_metadata::{Changes, MetadataImage};

use super::metadata_events;
use crate::broker::Broker;
use crate::drivers::Drivers;
use crate::drivers::applier::log_failures;
use crate::network::allowed::AllowedConnections;
use crate::network::limits::ConnectionLimits;
use crate::replicas::Replicas;

/// Applies committed metadata to this broker, one image after the other.
#[derive(Debug)]
pub struct MetadataFollower {
    drivers: Arc<Drivers>,
    replicas: Arc<Replicas>,
    connections: Arc<ConnectionLimits>,
    statics: StaticConfigs,
    /// The image that was applied last.
    last: Arc<MetadataImage>,
}

impl MetadataFollower {
    /// Starts at the current image of the controller, which the broker has applied already.
    pub fn new(broker: &Broker) -> Self {
        Self {
            drivers: Arc::clone(&broker.drivers),
            replicas: Arc::clone(&broker.replicas),
            connections: Arc::clone(&broker.connections),
            statics: broker.config.statics.clone(),
            last: broker.controller.image(),
        }
    }

    /// Applies an image, which differs from the last one by `changes`. Blocks on the disks, except on stalled ones.
    pub fn apply(&mut self, image: &Arc<MetadataImage>, changes: &Changes) {
        for event in metadata_events::events(&self.last, image, changes) {
            event.log();
        }
        log_failures(&self.drivers.apply(image, changes));
        let losses = self.replicas.losses();
        losses.led(&self.replicas, (&self.last, image), changes);
        self.last = Arc::clone(image);
        if changes.configs.iter().any(AllowedConnections::depend_on) {
            let allowed = AllowedConnections::resolve(image, &self.statics);
            self.connections.allow(allowed);
        }
    }
}
