//! The group configs of Apache Kafka 4.4. They belong to group protocols that are not served yet.

use super::{Bounds, ConfigKey, Importance, Synonym, Unit, ValueType};

/// Group configs, by name.
pub const GROUP: &[ConfigKey] = &[
    ConfigKey::new(
        "consumer.assignment.interval.ms",
        ValueType::Int,
        Some("1000"),
    )
    .bounded(Bounds::AtLeast(0))
    .synonyms(&[Synonym::new(
        "group.consumer.assignment.interval.ms",
        Unit::Same,
    )]),
    ConfigKey::new(
        "consumer.assignor.offload.enable",
        ValueType::Boolean,
        Some("true"),
    )
    .synonyms(&[Synonym::new(
        "group.consumer.assignor.offload.enable",
        Unit::Same,
    )])
    .internal(),
    ConfigKey::new(
        "consumer.heartbeat.interval.ms",
        ValueType::Int,
        Some("5000"),
    )
    .bounded(Bounds::AtLeast(1))
    .synonyms(&[Synonym::new(
        "group.consumer.heartbeat.interval.ms",
        Unit::Same,
    )]),
    ConfigKey::new("consumer.session.timeout.ms", ValueType::Int, Some("45000"))
        .bounded(Bounds::AtLeast(1))
        .synonyms(&[Synonym::new(
            "group.consumer.session.timeout.ms",
            Unit::Same,
        )]),
    ConfigKey::new(
        "errors.deadletterqueue.copy.record.enable",
        ValueType::Boolean,
        Some("false"),
    ),
    ConfigKey::new(
        "errors.deadletterqueue.topic.name",
        ValueType::Text,
        Some(""),
    ),
    ConfigKey::new("share.assignment.interval.ms", ValueType::Int, Some("1000"))
        .bounded(Bounds::AtLeast(0))
        .synonyms(&[Synonym::new(
            "group.share.assignment.interval.ms",
            Unit::Same,
        )]),
    ConfigKey::new(
        "share.assignor.offload.enable",
        ValueType::Boolean,
        Some("true"),
    )
    .synonyms(&[Synonym::new(
        "group.share.assignor.offload.enable",
        Unit::Same,
    )])
    .internal(),
    ConfigKey::new("share.auto.offset.reset", ValueType::Text, Some("latest"))
        .bounded(Bounds::OffsetReset),
    ConfigKey::new("share.delivery.count.limit", ValueType::Int, Some("5"))
        .bounded(Bounds::AtLeast(2))
        .synonyms(&[Synonym::new("group.share.delivery.count.limit", Unit::Same)]),
    ConfigKey::new("share.heartbeat.interval.ms", ValueType::Int, Some("5000"))
        .bounded(Bounds::AtLeast(1))
        .synonyms(&[Synonym::new(
            "group.share.heartbeat.interval.ms",
            Unit::Same,
        )]),
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
    .bounded(Bounds::AtLeast(100))
    .synonyms(&[Synonym::new(
        "group.share.partition.max.record.locks",
        Unit::Same,
    )]),
    ConfigKey::new(
        "share.record.lock.duration.ms",
        ValueType::Int,
        Some("30000"),
    )
    .bounded(Bounds::AtLeast(1_000))
    .synonyms(&[Synonym::new(
        "group.share.record.lock.duration.ms",
        Unit::Same,
    )]),
    ConfigKey::new(
        "share.renew.acknowledge.enable",
        ValueType::Boolean,
        Some("true"),
    ),
    ConfigKey::new("share.session.timeout.ms", ValueType::Int, Some("45000"))
        .bounded(Bounds::AtLeast(1))
        .synonyms(&[Synonym::new("group.share.session.timeout.ms", Unit::Same)]),
    ConfigKey::new(
        "streams.acceptable.recovery.lag",
        ValueType::Long,
        Some("10000"),
    )
    .bounded(Bounds::AtLeast(0))
    .synonyms(&[Synonym::new(
        "group.streams.acceptable.recovery.lag",
        Unit::Same,
    )])
    .internal(),
    ConfigKey::new(
        "streams.assignment.interval.ms",
        ValueType::Int,
        Some("1000"),
    )
    .bounded(Bounds::AtLeast(0))
    .synonyms(&[Synonym::new(
        "group.streams.assignment.interval.ms",
        Unit::Same,
    )]),
    ConfigKey::new("streams.assignor.name", ValueType::Text, None),
    ConfigKey::new(
        "streams.assignor.offload.enable",
        ValueType::Boolean,
        Some("true"),
    )
    .synonyms(&[Synonym::new(
        "group.streams.assignor.offload.enable",
        Unit::Same,
    )])
    .internal(),
    ConfigKey::new(
        "streams.heartbeat.interval.ms",
        ValueType::Int,
        Some("5000"),
    )
    .bounded(Bounds::AtLeast(1))
    .synonyms(&[Synonym::new(
        "group.streams.heartbeat.interval.ms",
        Unit::Same,
    )]),
    ConfigKey::new(
        "streams.initial.rebalance.delay.ms",
        ValueType::Int,
        Some("3000"),
    )
    .bounded(Bounds::AtLeast(0))
    .synonyms(&[Synonym::new(
        "group.streams.initial.rebalance.delay.ms",
        Unit::Same,
    )]),
    ConfigKey::new("streams.num.standby.replicas", ValueType::Int, Some("0"))
        .bounded(Bounds::AtLeast(0))
        .synonyms(&[Synonym::new(
            "group.streams.num.standby.replicas",
            Unit::Same,
        )]),
    ConfigKey::new("streams.num.warmup.replicas", ValueType::Int, Some("2"))
        .bounded(Bounds::AtLeast(0))
        .synonyms(&[Synonym::new(
            "group.streams.num.warmup.replicas",
            Unit::Same,
        )])
        .internal(),
    ConfigKey::new(
        "streams.rack.aware.assignment.tags",
        ValueType::List,
        Some(""),
    )
    .important(Importance::Low)
    .synonyms(&[Synonym::new(
        "group.streams.rack.aware.assignment.tags",
        Unit::Same,
    )]),
    ConfigKey::new("streams.session.timeout.ms", ValueType::Int, Some("45000"))
        .bounded(Bounds::AtLeast(1))
        .synonyms(&[Synonym::new("group.streams.session.timeout.ms", Unit::Same)]),
    ConfigKey::new(
        "streams.task.offset.interval.ms",
        ValueType::Int,
        Some("60000"),
    )
    .bounded(Bounds::AtLeast(1))
    .synonyms(&[Synonym::new(
        "group.streams.task.offset.interval.ms",
        Unit::Same,
    )])
    .internal(),
];
