//! The topic configs of Apache Kafka 4.4, and what Ottla does with each.
//!
//! Names, types, defaults and bounds are Kafka's.

use super::{Bounds, ConfigKey, Synonym, Unit, ValueType};

/// Topic configs, by name.
pub const TOPIC: &[ConfigKey] = &[
    ConfigKey::new("cleanup.policy", ValueType::List, Some("delete")).bounded(Bounds::OneOf(&["compact", "delete"])).synonyms(&[Synonym::new("log.cleanup.policy", Unit::Same)])
        .works("What happens to old segments: `delete` drops them by `retention.*`, `compact` keeps the latest record of each key; both may be named. A compacted topic refuses records without a key."),
    ConfigKey::new("compression.gzip.level", ValueType::Int, Some("-1")).bounded(Bounds::Or(-1, 1, 9)).synonyms(&[Synonym::new("compression.gzip.level", Unit::Same)])
        .works("Level for batches that the broker compresses itself with gzip; -1 is the library's default."),
    ConfigKey::new("compression.lz4.level", ValueType::Int, Some("9")).bounded(Bounds::Between(1, 17)).synonyms(&[Synonym::new("compression.lz4.level", Unit::Same)])
        .works("Level for batches that the broker compresses itself with lz4."),
    ConfigKey::new("compression.type", ValueType::Text, Some("producer")).bounded(Bounds::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])).synonyms(&[Synonym::new("compression.type", Unit::Same)])
        .works("Codec in which batches are stored. `producer` keeps what the producer chose and costs nothing; anything else makes the broker rebuild batches that came in another codec."),
    ConfigKey::new("compression.zstd.level", ValueType::Int, Some("3")).bounded(Bounds::Between(-131_072, 22)).synonyms(&[Synonym::new("compression.zstd.level", Unit::Same)])
        .works("Level for batches that the broker compresses itself with zstd."),
    ConfigKey::new("delete.retention.ms", ValueType::Long, Some("86400000")).bounded(Bounds::AtLeast(0)).synonyms(&[Synonym::new("log.cleaner.delete.retention.ms", Unit::Same)])
        .works("How long a tombstone stays in a compacted topic after it was first cleaned, so that slow consumers still see the deletion."),
    ConfigKey::new("errors.deadletterqueue.group.enable", ValueType::Boolean, Some("false")),
    ConfigKey::new("file.delete.delay.ms", ValueType::Long, Some("60000")).bounded(Bounds::AtLeast(0)).synonyms(&[Synonym::new("log.segment.delete.delay.ms", Unit::Same)])
        .works("How long the files of a deleted partition stay, renamed, before they are removed; below `ottla.disk.reserve` they are removed at once. The files of a deleted segment are removed at once; open reads of them still work."),
    ConfigKey::new("flush.messages", ValueType::Long, Some("9223372036854775807")).bounded(Bounds::AtLeast(1)).synonyms(&[Synonym::new("log.flush.interval.messages", Unit::Same)])
        .works("Flush the log to stable storage after this many records. `acks=all` under `ottla.ack.durability=fsync` does not wait for it: it asks for its own flush."),
    ConfigKey::new("flush.ms", ValueType::Long, Some("9223372036854775807")).bounded(Bounds::AtLeast(0)).synonyms(&[Synonym::new("log.flush.interval.ms", Unit::Same), Synonym::new("log.flush.scheduler.interval.ms", Unit::Same)])
        .works("Flush the log to stable storage when its oldest unflushed record is this old."),
    ConfigKey::new("follower.replication.throttled.replicas", ValueType::List, Some("")).bounded(Bounds::Replicas)
        .works("Replicas, as `partition:broker` or `*`, that fetch at most at `follower.replication.throttled.rate` of their broker while they are not in sync."),
    ConfigKey::new("index.interval.bytes", ValueType::Int, Some("4096")).bounded(Bounds::AtLeast(0)).synonyms(&[Synonym::new("log.index.interval.bytes", Unit::Same)])
        .works("An index entry is written after each this many bytes of log. A smaller value lets fetches start closer to their record, and makes the index larger."),
    ConfigKey::new("internal.segment.bytes", ValueType::Int, None).internal()
        .works("Segment size without the lower bound of `segment.bytes`, for tests."),
    ConfigKey::new("leader.replication.throttled.replicas", ValueType::List, Some("")).bounded(Bounds::Replicas)
        .works("Leaders, as `partition:broker` or `*`, that send records to followers that are not in sync at most at `leader.replication.throttled.rate` of their broker."),
    ConfigKey::new("local.retention.bytes", ValueType::Long, Some("-2")).bounded(Bounds::AtLeast(-2)).synonyms(&[Synonym::new("log.local.retention.bytes", Unit::Same)]),
    ConfigKey::new("local.retention.ms", ValueType::Long, Some("-2")).bounded(Bounds::AtLeast(-2)).synonyms(&[Synonym::new("log.local.retention.ms", Unit::Same)]),
    ConfigKey::new("max.compaction.lag.ms", ValueType::Long, Some("9223372036854775807")).bounded(Bounds::AtLeast(1)).synonyms(&[Synonym::new("log.cleaner.max.compaction.lag.ms", Unit::Same)])
        .works("A record is compacted when it is this old, however little of the log is dirty. Segments of a compacted topic are closed at this age, because only closed segments are compacted."),
    ConfigKey::new("max.decompressed.message.bytes", ValueType::Int, Some("2147483639")).bounded(Bounds::Between(1, 2_147_483_639)).synonyms(&[Synonym::new("max.decompressed.message.bytes", Unit::Same)])
        .works("Largest record, uncompressed and in bytes, in a batch that comes compressed or that the broker compresses. A larger one is refused with its batch, and a search by time that meets one fails."),
    ConfigKey::new("max.message.bytes", ValueType::Int, Some("1048588")).bounded(Bounds::AtLeast(0)).synonyms(&[Synonym::new("message.max.bytes", Unit::Same)])
        .works("Largest record batch that is accepted, after compression, in bytes."),
    ConfigKey::new("message.timestamp.after.max.ms", ValueType::Long, Some("3600000")).bounded(Bounds::AtLeast(0)).synonyms(&[Synonym::new("log.message.timestamp.after.max.ms", Unit::Same)])
        .works("A record whose timestamp is further than this ahead of the broker's clock is refused; only with `CreateTime`."),
    ConfigKey::new("message.timestamp.before.max.ms", ValueType::Long, Some("9223372036854775807")).bounded(Bounds::AtLeast(0)).synonyms(&[Synonym::new("log.message.timestamp.before.max.ms", Unit::Same)])
        .works("A record whose timestamp is further than this behind the broker's clock is refused; only with `CreateTime`."),
    ConfigKey::new("message.timestamp.type", ValueType::Text, Some("CreateTime")).bounded(Bounds::OneOf(&["CreateTime", "LogAppendTime"])).synonyms(&[Synonym::new("log.message.timestamp.type", Unit::Same)])
        .works("Whether records carry the time the producer gave (`CreateTime`) or the time the broker appended them (`LogAppendTime`)."),
    ConfigKey::new("min.cleanable.dirty.ratio", ValueType::Double, Some("0.5")).bounded(Bounds::Ratio(1.0)).synonyms(&[Synonym::new("log.cleaner.min.cleanable.ratio", Unit::Same)])
        .works("A log is compacted when more than this part of its closed segments has come since the last time. Smaller means fewer old records and more rewriting."),
    ConfigKey::new("min.compaction.lag.ms", ValueType::Long, Some("0")).bounded(Bounds::AtLeast(0)).synonyms(&[Synonym::new("log.cleaner.min.compaction.lag.ms", Unit::Same)])
        .works("A record is left as it is until it is this old."),
    ConfigKey::new("min.insync.replicas", ValueType::Int, Some("1")).bounded(Bounds::AtLeast(1)).synonyms(&[Synonym::new("min.insync.replicas", Unit::Same)])
        .works("How many in-sync replicas must hold a record before `acks=all` is answered and consumers may read it. A topic that is created with three replicas or more gets 2 of its own, unless the request, the file or the config of all brokers has another value."),
    ConfigKey::new("preallocate", ValueType::Boolean, Some("false")).synonyms(&[Synonym::new("log.preallocate", Unit::Same)]),
    ConfigKey::new("remote.copy.lag.bytes", ValueType::Long, Some("-1")).bounded(Bounds::AtLeast(-1)).synonyms(&[Synonym::new("log.remote.copy.lag.bytes", Unit::Same)]),
    ConfigKey::new("remote.copy.lag.ms", ValueType::Long, Some("0")).bounded(Bounds::AtLeast(-1)).synonyms(&[Synonym::new("log.remote.copy.lag.ms", Unit::Same)]),
    ConfigKey::new("remote.log.copy.disable", ValueType::Boolean, Some("false")),
    ConfigKey::new("remote.log.delete.on.disable", ValueType::Boolean, Some("false")),
    ConfigKey::new("remote.storage.enable", ValueType::Boolean, Some("false")),
    ConfigKey::new("retention.bytes", ValueType::Long, Some("-1")).synonyms(&[Synonym::new("log.retention.bytes", Unit::Same)])
        .works("Size of a partition above which its oldest segments are deleted; -1 for no bound. Per partition, not per topic."),
    ConfigKey::new("retention.ms", ValueType::Long, Some("604800000")).bounded(Bounds::AtLeast(-1)).synonyms(&[Synonym::new("log.retention.ms", Unit::Same), Synonym::new("log.retention.minutes", Unit::Minutes), Synonym::new("log.retention.hours", Unit::Hours)])
        .works("Age, by record timestamp, at which a segment is deleted; -1 keeps it for ever."),
    ConfigKey::new("segment.bytes", ValueType::Int, Some("1073741824")).bounded(Bounds::AtLeast(1_048_576)).synonyms(&[Synonym::new("log.segment.bytes", Unit::Same)])
        .works("Size at which a segment is closed and the next begun. Retention and compaction work on closed segments."),
    ConfigKey::new("segment.index.bytes", ValueType::Int, Some("10485760")).bounded(Bounds::AtLeast(4)).synonyms(&[Synonym::new("log.index.size.max.bytes", Unit::Same)])
        .works("Largest size of a segment's offset index; a full index closes the segment."),
    ConfigKey::new("segment.jitter.ms", ValueType::Long, Some("0")).bounded(Bounds::AtLeast(0)).synonyms(&[Synonym::new("log.roll.jitter.ms", Unit::Same), Synonym::new("log.roll.jitter.hours", Unit::Hours)])
        .works("Largest random amount by which `segment.ms` is shortened, so that segments do not all roll at once."),
    ConfigKey::new("segment.ms", ValueType::Long, Some("604800000")).bounded(Bounds::AtLeast(1)).synonyms(&[Synonym::new("log.roll.ms", Unit::Same), Synonym::new("log.roll.hours", Unit::Hours)])
        .works("Age, by record timestamp, at which a segment is closed even if it is not full."),
    ConfigKey::new("unclean.leader.election.enable", ValueType::Boolean, Some("false")).synonyms(&[Synonym::new("unclean.leader.election.enable", Unit::Same)])
        .works("Whether a replica that is not in sync may lead when no other is left: records that only others have are lost then."),
];
