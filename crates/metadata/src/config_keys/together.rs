//! Bounds between configs of one resource. Each check gets a function that gives the effective value of a config.
//!
//! On stored values that break them, Kafka logs a fault at its start, or does not start.

use super::find;
use crate::ResourceKind;

/// Gives the effective value of a config by its name.
pub type ValueOf<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A bound that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Broken {
    /// The configs that it is about.
    pub keys: Vec<String>,
    pub why: String,
}

impl Broken {
    fn new<K: Into<String>>(keys: impl IntoIterator<Item = K>, why: String) -> Self {
        let keys = keys.into_iter().map(Into::into).collect();
        Self { keys, why }
    }
}

/// Each thread of the cleaner must have more than this share of the cleaner's memory.
const DEDUPE_BYTES_PER_THREAD: i64 = 1_048_576;

/// A group config, and the broker configs that bound it.
struct Range {
    key: &'static str,
    minimum: Option<&'static str>,
    maximum: &'static str,
}

const fn range(key: &'static str, minimum: &'static str, maximum: &'static str) -> Range {
    let minimum = Some(minimum);
    Range {
        key,
        minimum,
        maximum,
    }
}

const RANGES: &[Range] = &[
    range(
        "consumer.heartbeat.interval.ms",
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.max.heartbeat.interval.ms",
    ),
    range(
        "consumer.session.timeout.ms",
        "group.consumer.min.session.timeout.ms",
        "group.consumer.max.session.timeout.ms",
    ),
    range(
        "consumer.assignment.interval.ms",
        "group.consumer.min.assignment.interval.ms",
        "group.consumer.max.assignment.interval.ms",
    ),
    range(
        "share.heartbeat.interval.ms",
        "group.share.min.heartbeat.interval.ms",
        "group.share.max.heartbeat.interval.ms",
    ),
    range(
        "share.session.timeout.ms",
        "group.share.min.session.timeout.ms",
        "group.share.max.session.timeout.ms",
    ),
    range(
        "share.record.lock.duration.ms",
        "group.share.min.record.lock.duration.ms",
        "group.share.max.record.lock.duration.ms",
    ),
    range(
        "share.delivery.count.limit",
        "group.share.min.delivery.count.limit",
        "group.share.max.delivery.count.limit",
    ),
    range(
        "share.partition.max.record.locks",
        "group.share.min.partition.max.record.locks",
        "group.share.max.partition.max.record.locks",
    ),
    range(
        "share.assignment.interval.ms",
        "group.share.min.assignment.interval.ms",
        "group.share.max.assignment.interval.ms",
    ),
    range(
        "streams.heartbeat.interval.ms",
        "group.streams.min.heartbeat.interval.ms",
        "group.streams.max.heartbeat.interval.ms",
    ),
    range(
        "streams.session.timeout.ms",
        "group.streams.min.session.timeout.ms",
        "group.streams.max.session.timeout.ms",
    ),
    Range {
        key: "streams.num.standby.replicas",
        minimum: None,
        maximum: "group.streams.max.standby.replicas",
    },
    Range {
        key: "streams.num.warmup.replicas",
        minimum: None,
        maximum: "group.streams.max.warmup.replicas",
    },
    range(
        "streams.assignment.interval.ms",
        "group.streams.min.assignment.interval.ms",
        "group.streams.max.assignment.interval.ms",
    ),
];

/// The kinds of groups that have a session and heartbeats in their configs.
const GROUP_KINDS: &[&str] = &["consumer", "share", "streams"];

fn number(value_of: ValueOf<'_>, key: &str) -> Option<i64> {
    value_of(key)?.trim().parse().ok()
}

/// Checks the configs of a group against those of its broker.
pub fn of_group(group: ValueOf<'_>, broker: ValueOf<'_>) -> Result<(), Broken> {
    for range in RANGES {
        let Some(value) = number(group, range.key) else {
            continue;
        };
        within(range.key, value, range, broker)?;
    }
    for kind in GROUP_KINDS {
        let session = format!("{kind}.session.timeout.ms");
        let heartbeat = format!("{kind}.heartbeat.interval.ms");
        if let (Some(timeout), Some(interval)) =
            (number(group, &session), number(group, &heartbeat))
            && timeout <= interval
        {
            let why =
                format!("{session} ({timeout}) must be greater than {heartbeat} ({interval})");
            return Err(Broken::new([session, heartbeat], why));
        }
    }
    let dead_letters = "errors.deadletterqueue.topic.name";
    if group(dead_letters).is_some_and(|topic| topic.starts_with("__")) {
        let why = format!("{dead_letters} must not start with __");
        return Err(Broken::new([dead_letters], why));
    }
    Ok(())
}

fn within(key: &str, value: i64, range: &Range, broker: ValueOf<'_>) -> Result<(), Broken> {
    let refuse = |why| {
        let bounds = range.minimum.into_iter().chain([range.maximum, key]);
        Err(Broken::new(bounds, why))
    };
    if let Some(minimum) = range.minimum
        && let Some(bound) = number(broker, minimum)
        && value < bound
    {
        return refuse(format!(
            "{key} must be greater than or equal to {minimum} ({bound}), not {value}"
        ));
    }
    match number(broker, range.maximum) {
        Some(bound) if value > bound => refuse(format!(
            "{key} must be less than or equal to {} ({bound}), not {value}",
            range.maximum
        )),
        _ => Ok(()),
    }
}

/// The broken bounds with which Kafka does not start, among configs that may change while it runs.
pub fn of_start(broker: ValueOf<'_>) -> Vec<Broken> {
    let mut faults = Vec::new();
    for range in RANGES {
        let key = format!("group.{}", range.key);
        if range.key.ends_with(".assignment.interval.ms")
            && let Some(value) = number(broker, &key)
            && let Err(broken) = within(&key, value, range, broker)
        {
            faults.push(broken);
        }
    }
    let (of_all, of_some) = ("max.connections.per.ip", "max.connections.per.ip.overrides");
    if number(broker, of_all) == Some(0) && broker(of_some).is_none_or(|text| text.is_empty()) {
        let why = format!("{of_all} can be 0 only if {of_some} names who may connect");
        faults.push(Broken::new([of_all, of_some], why));
    }
    let (threads, buffer) = ("log.cleaner.threads", "log.cleaner.dedupe.buffer.size");
    if let (Some(count), Some(bytes)) = (number(broker, threads), number(broker, buffer))
        && count > 0
        && bytes / count <= DEDUPE_BYTES_PER_THREAD
    {
        let why = format!(
            "{buffer} must be more than {DEDUPE_BYTES_PER_THREAD} for each of {threads}, and it is {bytes} for {count}"
        );
        faults.push(Broken::new([buffer, threads], why));
    }
    faults
}

/// The broken bounds among those that a change to a broker's configs must keep: those of the start, and some that Kafka
/// checks only when a config changes.
pub fn of_broker(broker: ValueOf<'_>) -> Vec<Broken> {
    let mut faults = of_start(broker);
    for unit in ["ms", "bytes"] {
        let (local, all) = (
            format!("log.local.retention.{unit}"),
            format!("log.retention.{unit}"),
        );
        // -2 means the same as the retention of the whole log.
        if let (Some(kept), Some(limit)) = (
            number(broker, &local),
            default_of_topics(broker, &format!("retention.{unit}")),
        ) && limit >= 0
            && kept != -2
            && (kept == -1 || kept > limit)
        {
            let why = format!("{local} ({kept}) must not be more than {all} ({limit})");
            faults.push(Broken::new([local, all], why));
        }
    }
    faults
}

/// The default that the broker configs give a topic config, in the unit of the topic config.
fn default_of_topics(broker: ValueOf<'_>, key: &str) -> Option<i64> {
    let mut synonyms = find(ResourceKind::Topic, key)?.synonyms.iter();
    let value = synonyms.find_map(|known| Some(known.unit.convert(&broker(known.name)?)))?;
    value.trim().parse().ok()
}

/// Checks the configs of a topic.
pub fn of_topic(topic: ValueOf<'_>) -> Result<(), Broken> {
    let (shortest, longest) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
    if let (Some(min), Some(max)) = (number(topic, shortest), number(topic, longest))
        && min > max
    {
        let why = format!("conflict topic config setting {shortest} ({min}) > {longest} ({max})");
        return Err(Broken::new([shortest, longest], why));
    }
    let remote = "remote.storage.enable";
    if topic(remote).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        let why = "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log \
                   storage.";
        return Err(Broken::new([remote], why.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{RANGES, find, of_broker, of_group, of_start};
    use crate::ResourceKind;

    fn default(kind: ResourceKind, name: &str) -> Option<String> {
        find(kind, name)?.default.map(str::to_owned)
    }

    /// The defaults of a kind with one other value.
    fn with(kind: ResourceKind, key: &str, value: i64) -> impl Fn(&str) -> Option<String> {
        move |name| {
            if name == key {
                Some(value.to_string())
            } else {
                default(kind, name)
            }
        }
    }

    #[test]
    fn every_bound_is_a_config_of_the_broker() {
        let broker = |name: &str| find(ResourceKind::Broker, name).expect(name);
        for range in RANGES {
            assert!(
                find(ResourceKind::Group, range.key).is_some(),
                "{}",
                range.key
            );
            broker(range.maximum);
            range.minimum.map(broker);
        }
    }

    #[test]
    fn a_group_keeps_to_the_bounds_of_its_broker() {
        let broker = |name: &str| default(ResourceKind::Broker, name);
        let check = |key, value| of_group(&with(ResourceKind::Group, key, value), &broker);
        for range in RANGES {
            let number = |name| broker(name).unwrap().parse::<i64>().unwrap();
            let maximum = number(range.maximum);
            assert!(
                check(range.key, maximum + 1)
                    .unwrap_err()
                    .why
                    .contains(range.maximum)
            );
            if let Some(minimum) = range.minimum {
                let bound = number(minimum);
                assert_eq!(check(range.key, bound), Ok(()), "{}", range.key);
                let refused = check(range.key, bound - 1).unwrap_err();
                assert!(refused.why.contains(minimum), "{refused}");
            }
        }
        let letters =
            |name: &str| (name == "errors.deadletterqueue.topic.name").then(|| "__x".into());
        assert!(of_group(&letters, &broker).is_err());
        // A broker may allow a session that is no longer than the time between two heartbeats.
        let lax = with(
            ResourceKind::Broker,
            "group.consumer.max.heartbeat.interval.ms",
            60_000,
        );
        let group = with(
            ResourceKind::Group,
            "consumer.heartbeat.interval.ms",
            45_000,
        );
        let refused = of_group(&group, &lax).unwrap_err();
        assert!(refused.why.contains("greater than"), "{refused}");
    }

    #[test]
    fn a_broker_keeps_to_what_its_other_configs_say() {
        let check = |key, value| {
            let broken = of_broker(&with(ResourceKind::Broker, key, value));
            assert!(broken.len() < 2, "{broken:?}");
            broken.into_iter().next().map(|broken| {
                assert!(broken.keys.iter().any(|known| known == key), "{broken:?}");
                broken.why
            })
        };
        assert_eq!(check("log.cleaner.threads", 1), None);
        for (key, value) in [
            ("max.connections.per.ip", 0),
            ("log.cleaner.dedupe.buffer.size", 1_048_576),
            ("group.share.assignment.interval.ms", 15_001),
            ("log.local.retention.ms", 604_800_001),
        ] {
            assert!(check(key, value).unwrap().contains(key), "{key}");
        }
        // By default a log is kept for a week, and may have any size.
        assert_eq!(check("log.local.retention.ms", 604_800_000), None);
        assert_eq!(check("log.local.retention.bytes", i64::MAX), None);
    }

    #[test]
    fn the_local_retention_keeps_to_the_whole_one_in_whatever_unit_it_is_set() {
        for (key, value, limit) in [
            ("log.retention.ms", "1000", 1000),
            ("log.retention.minutes", "2", 120_000),
            ("log.retention.hours", "1", 3_600_000),
        ] {
            let broken = |local: i64| {
                let broker = move |name: &str| match name {
                    "log.local.retention.ms" => Some(local.to_string()),
                    _ if name == key => Some(value.to_owned()),
                    _ => default(ResourceKind::Broker, name),
                };
                // Kafka starts with it, and checks it when a config changes.
                assert_eq!(of_start(&broker), []);
                of_broker(&broker).len()
            };
            assert_eq!(
                [broken(limit), broken(limit + 1), broken(-1), broken(-2)],
                [0, 1, 1, 0],
                "{key}"
            );
        }
    }
}
