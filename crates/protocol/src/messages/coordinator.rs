//! Records of the coordinators' internal topics, in Kafka's own formats.

pub mod group;
pub mod share;
pub mod transaction;
