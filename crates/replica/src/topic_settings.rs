//! A topic's configs, resolved into the settings of its partitions.
//!
//! `metadata::effective` decides where a value comes from. Values were checked against the table of config keys before
//! they were stored. A value that still does not parse counts as Kafka's default.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use ottla_log::LogConfig;
use ottla_metadata::effective::{self, EffectiveConfig, StaticConfigs};
use ottla_metadata::{MetadataImage, ResourceKind, config_keys};
use ottla_protocol::records::{
    Compression, CompressionLevel, KeyRule, ProduceRules, TargetCompression, TimestampType,
};

use crate::throttled::ThrottledReplicas;

/// Upper bound of a decompressed record, for produce and for searches by time.
const MAX_RECORD_BYTES: &str = "max.decompressed.message.bytes";

/// When an acknowledged record may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Never by a power cut: it is acknowledged after it is on stable storage.
    Fsync,
    /// By a power cut of all replicas, as in Kafka.
    PageCache,
}

/// The settings of a topic's partitions.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSettings {
    pub log: LogConfig,
    /// The rules for produced batches.
    pub rules: ProduceRules,
    /// `ottla.ack.durability`.
    pub durability: Durability,
    /// `flush.messages`: a flush is due after this many unflushed records.
    pub flush_messages: i64,
    /// `flush.ms`: a record is flushed at most this long after its append.
    pub flush_interval: Duration,
    /// `min.insync.replicas`.
    pub min_insync_replicas: usize,
    /// `replica.lag.time.max.ms`: how long a follower may lag before it leaves the ISR.
    pub max_replica_lag: Duration,
    /// `replica.fetch.backoff.ms`: the longest wait of a follower after an error of its leader.
    pub fetch_backoff: Duration,
    /// `leader.replication.throttled.replicas`.
    pub leader_throttled: ThrottledReplicas,
    /// `follower.replication.throttled.replicas`.
    pub follower_throttled: ThrottledReplicas,
    /// `file.delete.delay.ms`: the files of a deleted partition are removed after this time.
    pub delete_delay: Duration,
}

/// Configs of the broker that topics depend on.
const PRODUCER_EXPIRATION: &str = "producer.id.expiration.ms";
const DECOMPRESSED: &str = "ottla.decompressed.max.bytes";
const REPLICA_LAG: &str = "replica.lag.time.max.ms";
const FETCH_BACKOFF: &str = "replica.fetch.backoff.ms";

/// The effective configs of one topic, by name.
pub struct Configs(BTreeMap<&'static str, String>);

impl Configs {
    /// The configs by name, from the effective values.
    pub fn of(effective: Vec<EffectiveConfig>) -> Self {
        let values = effective.into_iter();
        Self(
            values
                .filter_map(|config| Some((config.key.name, config.value?)))
                .collect(),
        )
    }

    /// These configs of a broker. To work all of them out takes a hundred times as long.
    fn of_broker(image: &MetadataImage, statics: &StaticConfigs, names: &[&str]) -> Self {
        let keys = names
            .iter()
            .filter_map(|name| config_keys::find(ResourceKind::Broker, name));
        Self::of(
            keys.map(|key| effective::broker_key(image, statics, key))
                .collect(),
        )
    }

    /// A value; empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A number, or `default` if the value does not parse.
    pub fn number<N: FromStr>(&self, name: &str, default: N) -> N {
        self.text(name).trim().parse().unwrap_or(default)
    }

    /// A duration in milliseconds, or `default` if the value does not parse.
    pub fn duration(&self, name: &str, default: Duration) -> Duration {
        let value = self.text(name).trim().parse::<i64>();
        value.map_or(default, |value| {
            Duration::from_millis(value.max(0).cast_unsigned())
        })
    }

    /// A number, or `None` if it is negative, which means "no limit".
    fn limit(&self, name: &str) -> Option<u64> {
        u64::try_from(self.number::<i64>(name, -1)).ok()
    }
}

impl Default for TopicSettings {
    /// The settings of a topic on a broker without configs.
    fn default() -> Self {
        let statics = StaticConfigs::default();
        Self::resolve(&MetadataImage::default(), &statics, "")
    }
}

impl TopicSettings {
    /// Whether the high watermark may wait for flushes of this node.
    pub fn counts_flushed(&self) -> bool {
        self.durability == Durability::Fsync || self.flush_messages < i64::MAX
    }

    /// The settings of the topic `name` in `image`.
    pub fn resolve(image: &MetadataImage, statics: &StaticConfigs, name: &str) -> Self {
        let configs = Configs::of(effective::topic(image, statics, name));
        let broker = Configs::of_broker(
            image,
            statics,
            &[
                PRODUCER_EXPIRATION,
                DECOMPRESSED,
                REPLICA_LAG,
                FETCH_BACKOFF,
            ],
        );
        let policy = configs.text("cleanup.policy");
        let has_policy = |name| policy.split(',').any(|policy| policy.trim() == name);
        let (compact, delete) = (has_policy("compact"), has_policy("delete"));
        let durability = match configs.text("ottla.ack.durability") {
            "page-cache" => Durability::PageCache,
            _ => Durability::Fsync,
        };
        let defaults = LogConfig::default();
        let log = log_config(&configs, &defaults);
        // A record can be compacted only after its segment is closed, so `max.compaction.lag.ms` bounds the age of the
        // active segment.
        let max_age = log.max_compaction_lag.filter(|_| compact);
        Self {
            log: LogConfig {
                compact,
                delete,
                segment_age: max_age.map_or(log.segment_age, |age| age.min(log.segment_age)),
                producer_id_expiration: broker
                    .duration(PRODUCER_EXPIRATION, defaults.producer_id_expiration),
                ..log
            },
            rules: ProduceRules {
                keys: if compact {
                    KeyRule::Required
                } else {
                    KeyRule::Optional
                },
                max_decompressed_bytes: broker.number(DECOMPRESSED, 256 << 20),
                ..produce_rules(&configs)
            },
            durability,
            flush_messages: configs.number("flush.messages", i64::MAX),
            flush_interval: configs.duration("flush.ms", Duration::MAX),
            min_insync_replicas: configs.number("min.insync.replicas", 1),
            max_replica_lag: broker.duration(REPLICA_LAG, Duration::from_secs(30)),
            fetch_backoff: broker.duration(FETCH_BACKOFF, Duration::from_secs(1)),
            leader_throttled: ThrottledReplicas::parse(
                configs.text("leader.replication.throttled.replicas"),
            ),
            follower_throttled: ThrottledReplicas::parse(
                configs.text("follower.replication.throttled.replicas"),
            ),
            delete_delay: configs.duration("file.delete.delay.ms", Duration::from_mins(1)),
        }
    }
}

/// `num.recovery.threads.per.data.dir`.
pub fn recovery_threads(image: &MetadataImage, statics: &StaticConfigs) -> usize {
    let broker = Configs::of(effective::broker(image, statics));
    broker.number("num.recovery.threads.per.data.dir", 2).max(1)
}

/// `num.replica.fetchers`.
pub fn replica_fetchers(image: &MetadataImage, statics: &StaticConfigs) -> usize {
    let name = "num.replica.fetchers";
    let broker = Configs::of_broker(image, statics, &[name]);
    broker.number(name, 1).max(1)
}

/// The bytes a second up to which throttled replicas are replicated, by this node as their leader and as their follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicationLimits {
    pub leader: u64,
    pub follower: u64,
}

/// `leader.replication.throttled.rate` and `follower.replication.throttled.rate`.
pub fn replication_limits(image: &MetadataImage, statics: &StaticConfigs) -> ReplicationLimits {
    let [leader, follower] = [
        "leader.replication.throttled.rate",
        "follower.replication.throttled.rate",
    ];
    let broker = Configs::of_broker(image, statics, &[leader, follower]);
    let limit = |name| broker.limit(name).unwrap_or(u64::MAX);
    ReplicationLimits {
        leader: limit(leader),
        follower: limit(follower),
    }
}

fn log_config(configs: &Configs, defaults: &LogConfig) -> LogConfig {
    let ratio = configs.number("min.cleanable.dirty.ratio", 0.5);
    // Kafka's default, the largest number, means "no limit".
    let max_lag = configs.limit("max.compaction.lag.ms");
    let max_lag = max_lag.filter(|lag| *lag < i64::MAX.unsigned_abs());
    LogConfig {
        min_cleanable_dirty_ratio: ratio,
        min_compaction_lag: configs.duration("min.compaction.lag.ms", Duration::ZERO),
        max_compaction_lag: max_lag.map(Duration::from_millis),
        delete_retention: configs.duration("delete.retention.ms", defaults.delete_retention),
        // Kafka's tests, and ours, need smaller segments than `segment.bytes` allows.
        segment_bytes: configs.number(
            "internal.segment.bytes",
            configs.number("segment.bytes", defaults.segment_bytes),
        ),
        segment_age: configs.duration("segment.ms", defaults.segment_age),
        segment_jitter: configs.duration("segment.jitter.ms", defaults.segment_jitter),
        segment_index_bytes: configs.number("segment.index.bytes", defaults.segment_index_bytes),
        max_record_bytes: configs.number(MAX_RECORD_BYTES, defaults.max_record_bytes),
        index_interval_bytes: configs.number("index.interval.bytes", defaults.index_interval_bytes),
        retention: configs.limit("retention.ms").map(Duration::from_millis),
        retention_bytes: configs.limit("retention.bytes"),
        ..defaults.clone()
    }
}

fn produce_rules(configs: &Configs) -> ProduceRules {
    let name = configs.text("compression.type");
    let known = Compression::ALL
        .into_iter()
        .find(|compression| compression.name() == name);
    let compression = match known {
        _ if name == "uncompressed" => {
            TargetCompression::Fixed(Compression::None, Compression::None.default_level())
        }
        Some(compression) => TargetCompression::Fixed(compression, level(configs, compression)),
        None => TargetCompression::Producer,
    };
    ProduceRules {
        compression,
        keys: KeyRule::Optional,
        timestamp_type: match configs.text("message.timestamp.type") {
            "LogAppendTime" => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        },
        timestamp_before_max_ms: configs.number("message.timestamp.before.max.ms", i64::MAX),
        timestamp_after_max_ms: configs.number("message.timestamp.after.max.ms", i64::MAX),
        max_message_bytes: configs.number("max.message.bytes", 1_048_588),
        max_decompressed_bytes: 0,
        max_record_bytes: configs.number(MAX_RECORD_BYTES, LogConfig::default().max_record_bytes),
    }
}

fn level(configs: &Configs, compression: Compression) -> CompressionLevel {
    let CompressionLevel(default) = compression.default_level();
    let key = format!("compression.{}.level", compression.name());
    CompressionLevel(configs.number(&key, default))
}

#[cfg(test)]
mod tests {
    use super::{Durability, TopicSettings, recovery_threads};
    use ottla_metadata::effective::StaticConfigs;
    use ottla_metadata::{ConfigResource, MetadataImage, ottla_configs};
    use ottla_protocol::ids::{NodeId, Uuid};
    use ottla_protocol::records::{Compression, CompressionLevel, KeyRule, TargetCompression};
    use std::time::Duration;

    fn set(image: &mut MetadataImage, resource: ConfigResource, name: &str, value: &str) {
        image
            .configs
            .entry(resource)
            .or_default()
            .insert(name.to_owned(), value.to_owned());
    }

    fn resolve(image: &MetadataImage, file: &[(&str, &str)]) -> TopicSettings {
        let pairs = file
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let statics = StaticConfigs {
            node: NodeId(1),
            values: pairs.collect(),
        };
        TopicSettings::resolve(image, &statics, "t")
    }

    #[test]
    fn without_configs_kafkas_defaults_hold_and_acks_are_durable() {
        let settings = resolve(&MetadataImage::default(), &[]);
        assert_eq!(settings.log.segment_bytes, 1 << 30);
        assert_eq!(settings.log.retention, Some(Duration::from_hours(7 * 24)));
        assert_eq!(settings.log.retention_bytes, None);
        assert!(settings.log.delete && !settings.log.compact);
        assert_eq!(settings.log.max_compaction_lag, None);
        assert_eq!(settings.rules.max_message_bytes, 1_048_588);
        assert_eq!(settings.rules.compression, TargetCompression::Producer);
        assert_eq!(settings.rules.timestamp_before_max_ms, i64::MAX);
        assert_eq!(settings.durability, Durability::Fsync);
        assert_eq!(settings.min_insync_replicas, 1);
    }

    #[test]
    fn the_nearest_source_wins_and_units_are_converted() {
        let mut image = MetadataImage::default();
        let file = [
            ("log.retention.hours", "2"),
            ("log.segment.bytes", "1000000"),
        ];
        assert_eq!(
            resolve(&image, &file).log.retention,
            Some(Duration::from_hours(2))
        );
        set(
            &mut image,
            ConfigResource::cluster(),
            "log.retention.ms",
            "-1",
        );
        assert_eq!(resolve(&image, &file).log.retention, None);
        set(&mut image, ConfigResource::topic("t"), "retention.ms", "5");
        assert_eq!(
            resolve(&image, &file).log.retention,
            Some(Duration::from_millis(5))
        );
        assert_eq!(resolve(&image, &file).log.segment_bytes, 1_000_000);
        let small = ("internal.segment.bytes", "20000");
        set(&mut image, ConfigResource::topic("t"), small.0, small.1);
        assert_eq!(resolve(&image, &file).log.segment_bytes, 20_000);
    }

    #[test]
    fn recovery_threads_are_taken_from_the_file_or_from_what_was_altered_since() {
        let mut image = MetadataImage::default();
        let key = "num.recovery.threads.per.data.dir";
        let statics = |values: &[(&str, &str)]| StaticConfigs {
            node: NodeId(1),
            values: values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        assert_eq!(recovery_threads(&image, &statics(&[])), 2);
        assert_eq!(recovery_threads(&image, &statics(&[(key, "5")])), 5);
        set(&mut image, ConfigResource::cluster(), key, "3");
        assert_eq!(recovery_threads(&image, &statics(&[(key, "5")])), 3);
    }

    #[test]
    fn a_topics_own_settings_are_taken() {
        let mut image = MetadataImage::default();
        set(
            &mut image,
            ConfigResource::topic("t"),
            "cleanup.policy",
            "compact,delete",
        );
        set(
            &mut image,
            ConfigResource::topic("t"),
            "compression.type",
            "zstd",
        );
        set(
            &mut image,
            ConfigResource::topic("t"),
            "compression.zstd.level",
            "7",
        );
        let id = Uuid::from_parts(1, 2);
        image.topic_ids.insert("t".to_owned(), id);
        let own = ottla_configs::stored_name(id, "ottla.ack.durability");
        set(&mut image, ConfigResource::cluster(), &own, "page-cache");
        set(
            &mut image,
            ConfigResource::topic("t"),
            "max.compaction.lag.ms",
            "60000",
        );
        let file = [
            ("log.cleaner.min.cleanable.ratio", "0.25"),
            ("log.cleaner.min.compaction.lag.ms", "1000"),
            ("log.cleaner.delete.retention.ms", "2000"),
        ];
        let settings = resolve(&image, &file);
        assert!(settings.log.compact && settings.log.delete);
        let (minute, second) = (Duration::from_mins(1), Duration::from_secs(1));
        assert_eq!(settings.log.max_compaction_lag, Some(minute));
        assert_eq!(settings.log.segment_age, minute, "closed in time");
        assert_eq!(settings.log.min_compaction_lag, second);
        assert_eq!(settings.log.delete_retention, 2 * second);
        assert!((settings.log.min_cleanable_dirty_ratio - 0.25).abs() < 1e-9);
        assert_eq!(settings.rules.keys, KeyRule::Required);
        let zstd = TargetCompression::Fixed(Compression::Zstd, CompressionLevel(7));
        assert_eq!(settings.rules.compression, zstd);
        assert_eq!(settings.durability, Durability::PageCache);
    }
}
