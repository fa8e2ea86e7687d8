//! The brokers of the cluster as this node's metadata has them, shared by its partitions.

use std::sync::{Arc, PoisonError, RwLock};

use ottla_metadata::MetadataImage;
use ottla_replication::{Broker, Brokers};

/// The brokers of the latest metadata.
#[derive(Debug, Default)]
pub struct LiveBrokers(RwLock<Arc<Brokers>>);

impl LiveBrokers {
    /// The brokers now.
    pub fn get(&self) -> Arc<Brokers> {
        // Held only to copy or replace the pointer.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over the brokers of `image`.
    pub fn set(&self, image: &MetadataImage) {
        let brokers = image.brokers.iter().map(|(id, registration)| {
            let broker = Broker {
                epoch: registration.epoch,
                is_fenced: registration.fenced,
                is_shutting_down: registration.in_controlled_shutdown,
            };
            (*id, broker)
        });
        let brokers = Arc::new(brokers.collect());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = brokers;
    }
}
