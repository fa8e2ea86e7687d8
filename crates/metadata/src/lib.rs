//! Cluster metadata: records, image, delta, snapshot. Pure.
//!
//! The records of the metadata log are replayed into an immutable [`MetadataImage`]. A [`MetadataDelta`] also collects what
//! some records changed, and brokers act on those [`Changes`]. This crate has no file and no connection.

pub mod config_keys;
pub mod delta;
mod difference;
pub mod effective;
pub mod image;
pub mod loader;
pub mod ottla_configs;
pub mod partition;
pub mod registration;
pub mod resource;
pub mod snapshot;
pub mod versions;

pub use delta::{Changes, MetadataDelta};
pub use image::{MetadataImage, QuotaEntity, Topic};
pub use loader::Loader;
pub use partition::Partition;
pub use registration::{BrokerRegistration, ControllerRegistration, Endpoint, FeatureRange};
pub use resource::{ConfigResource, ResourceKind};
pub use versions::MetadataVersion;
