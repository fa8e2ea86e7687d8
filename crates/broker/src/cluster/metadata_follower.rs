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

/// Applies committed metadata to this broker, one image after the other.
#[derive(Debug)]
pub struct MetadataFollower {
    drivers: Arc<Drivers>,
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
        self.last = Arc::clone(image);
        log_failures(&self.drivers.apply(image, changes));
        if changes.configs.iter().any(AllowedConnections::depend_on) {
            let allowed = AllowedConnections::resolve(image, &self.statics);
            self.connections.allow(allowed);
        }
    }
}
