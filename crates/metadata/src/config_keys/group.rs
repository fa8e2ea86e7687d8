//! The group configs of Apache Kafka 4.3. They belong to group protocols that are not served yet.

use super::{Bounds, ConfigKey, ValueType};

/// Group configs, by name.
pub const GROUP: &[ConfigKey] = &[
    ConfigKey::new(
        "consumer.assignment.interval.ms",
        ValueType::Int,
        Some("1000"),
    )
    .bounded(Bounds::AtLeast(0)),
    ConfigKey::new(
        "consumer.heartbeat.interval.ms",
        ValueType::Int,
        Some("5000"),
    )
    .bounded(Bounds::AtLeast(1)),
    ConfigKey::new("consumer.session.timeout.ms", ValueType::Int, Some("45000"))
        .bounded(Bounds::AtLeast(1)),
    ConfigKey::new("share.assignment.interval.ms", ValueType::Int, Some("1000"))
        .bounded(Bounds::AtLeast(0)),
    ConfigKey::new("share.auto.offset.reset", ValueType::Text, Some("latest")),
    ConfigKey::new("share.delivery.count.limit", ValueType::Int, Some("5"))
        .bounded(Bounds::AtLeast(2)),
    ConfigKey::new("share.heartbeat.interval.ms", ValueType::Int, Some("5000"))
        .bounded(Bounds::AtLeast(1)),
    ConfigKey::new(
        "share.isolation.level",
        ValueType::Text,
        Some("read_uncommitted"),
    )
    .bounded(Bounds::OneOf(&["read_committed", "read_uncommitted"])),
    ConfigKey::new(
        "share.partition.max.record.locks",
        ValueType::Int,
        Some("2000"),
    )
    .bounded(Bounds::AtLeast(100)),
    ConfigKey::new(
        "share.record.lock.duration.ms",
        ValueType::Int,
        Some("30000"),
    )
    .bounded(Bounds::AtLeast(1_000)),
    ConfigKey::new(
        "share.renew.acknowledge.enable",
        ValueType::Boolean,
        Some("true"),
    ),
    ConfigKey::new("share.session.timeout.ms", ValueType::Int, Some("45000"))
        .bounded(Bounds::AtLeast(1)),
    ConfigKey::new(
        "streams.assignment.interval.ms",
        ValueType::Int,
        Some("1000"),
    )
    .bounded(Bounds::AtLeast(0)),
    ConfigKey::new(
        "streams.heartbeat.interval.ms",
        ValueType::Int,
        Some("5000"),
    )
    .bounded(Bounds::AtLeast(1)),
    ConfigKey::new(
        "streams.initial.rebalance.delay.ms",
        ValueType::Int,
        Some("3000"),
    )
    .bounded(Bounds::AtLeast(0)),
    ConfigKey::new("streams.num.standby.replicas", ValueType::Int, Some("0"))
        .bounded(Bounds::AtLeast(0)),
    ConfigKey::new("streams.session.timeout.ms", ValueType::Int, Some("45000"))
        .bounded(Bounds::AtLeast(1)),
];
