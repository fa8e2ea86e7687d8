//! The configs of a subscription to client metrics (KIP-714). They are stored, but no metrics are collected, as in a Kafka
//! without a plugin for that.

use super::{Bounds, ConfigKey, ValueType};

/// Configs of client metrics, by name.
pub const CLIENT_METRICS: &[ConfigKey] = &[
    ConfigKey::new("interval.ms", ValueType::Int, Some("300000"))
        .bounded(Bounds::Between(100, 3_600_000)),
    ConfigKey::new("match", ValueType::List, Some("")).bounded(Bounds::ClientMatch),
    ConfigKey::new("metrics", ValueType::List, Some("")),
];
