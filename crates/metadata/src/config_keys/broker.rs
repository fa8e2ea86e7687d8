//! The broker configs of Apache Kafka 4.4, except those for security and for parts that are not built yet.
//!
//! Names, types, defaults and bounds are Kafka's.

use super::{Bounds, ConfigKey, Importance, Update, ValueType};

pub const BROKER: &[ConfigKey] = &[
    ConfigKey::new("add.partitions.to.txn.retry.backoff.max.ms", ValueType::Int, Some("100")).bounded(Bounds::AtLeast(0)).important(Importance::High),
    ConfigKey::new("add.partitions.to.txn.retry.backoff.ms", ValueType::Int, Some("20")).bounded(Bounds::AtLeast(1)).important(Importance::High),
    ConfigKey::new("advertised.listeners", ValueType::List, None).important(Importance::High)
        .works("Addresses that the broker gives to clients. By default it is the local address of the client's connection, which is wrong only behind a port mapping or a proxy: set it there."),
    ConfigKey::new("alter.config.policy.class.name", ValueType::Class, None).important(Importance::Low).refused(),
    ConfigKey::new("alter.log.dirs.replication.quota.window.num", ValueType::Int, Some("11")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("alter.log.dirs.replication.quota.window.size.seconds", ValueType::Int, Some("1")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("authorizer.class.name", ValueType::Text, Some("")).important(Importance::Low).refused(),
    ConfigKey::new("auto.create.topics.enable", ValueType::Boolean, Some("true")).important(Importance::High)
        .works("Whether a topic is created when a client first asks for it."),
    ConfigKey::new("auto.leader.rebalance.enable", ValueType::Boolean, Some("true")).important(Importance::High)
        .works("Whether the controller moves leaderships back to the preferred replicas by itself, so that brokers lead evenly."),
    ConfigKey::new("background.threads", ValueType::Int, Some("10")).bounded(Bounds::AtLeast(1)).important(Importance::High).updated(Update::ClusterWide),
    ConfigKey::new("broker.heartbeat.interval.ms", ValueType::Int, Some("2000"))
        .works("The longest time between two heartbeats to the controller; Ottla sends them at the shorter of this and `ottla.broker.heartbeat.interval.ms`."),
    ConfigKey::new("broker.id", ValueType::Int, Some("-1")).important(Importance::High)
        .works("Older name of `node.id`."),
    ConfigKey::new("broker.rack", ValueType::Text, None)
        .works("The rack or zone of this broker; replicas are spread over racks."),
    ConfigKey::new("broker.session.timeout.ms", ValueType::Int, Some("9000"))
        .works("The controller fences a broker that has sent no heartbeat for this long: its partitions get other leaders. It does so at once if the broker's address refuses connections, and soon if its machine has vanished (`ottla.broker.unreachable.fence.enable`)."),
    ConfigKey::new("client.quota.callback.class", ValueType::Class, None).important(Importance::Low).refused(),
    ConfigKey::new("compression.gzip.level", ValueType::Int, Some("-1")).bounded(Bounds::Or(-1, 1, 9)).updated(Update::ClusterWide)
        .works("Level for batches that the broker compresses itself with gzip; -1 is the library's default."),
    ConfigKey::new("compression.lz4.level", ValueType::Int, Some("9")).bounded(Bounds::Between(1, 17)).updated(Update::ClusterWide)
        .works("Level for batches that the broker compresses itself with lz4."),
    ConfigKey::new("compression.type", ValueType::Text, Some("producer")).bounded(Bounds::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])).important(Importance::High).updated(Update::ClusterWide)
        .works("Default of the topic config `compression.type`."),
    ConfigKey::new("compression.zstd.level", ValueType::Int, Some("3")).bounded(Bounds::Between(-131_072, 22)).updated(Update::ClusterWide)
        .works("Level for batches that the broker compresses itself with zstd."),
    ConfigKey::new("config.providers", ValueType::List, Some("")).important(Importance::Low).updated(Update::ClusterWide).refused(),
    ConfigKey::new("connection.failed.authentication.delay.ms", ValueType::Int, Some("100")).bounded(Bounds::AtLeast(0)).important(Importance::Low),
    ConfigKey::new("connections.max.idle.ms", ValueType::Long, Some("600000"))
        .works("A connection without a request for this long is closed; -1 for never."),
    ConfigKey::new("connections.max.reauth.ms", ValueType::Long, Some("0")).refused(),
    ConfigKey::new("controlled.shutdown.enable", ValueType::Boolean, Some("true")),
    ConfigKey::new("controller.listener.names", ValueType::List, None).important(Importance::High)
        .works("The listeners that belong to the controller."),
    ConfigKey::new("controller.performance.always.log.threshold.ms", ValueType::Long, Some("2000")).bounded(Bounds::AtLeast(0)).internal(),
    ConfigKey::new("controller.performance.sample.period.ms", ValueType::Long, Some("60000")).bounded(Bounds::AtLeast(100)).internal(),
    ConfigKey::new("controller.quorum.append.linger.ms", ValueType::Int, Some("25")).bounded(Bounds::AtLeast(0)),
    ConfigKey::new("controller.quorum.auto.join.enable", ValueType::Boolean, Some("false")).important(Importance::Low)
        .works("A controller that follows the log without a vote adds itself to the voters, where the metadata log names them (`kraft.version` 1). A voter with its node id and another directory is removed first. `ottla serve --join` sets it while fewer than three vote."),
    ConfigKey::new("controller.quorum.bootstrap.servers", ValueType::List, Some("")).important(Importance::High)
        .works("Addresses by which the controllers are found, as `host:port`, where the metadata log names the voters (`kraft.version` 1)."),
    ConfigKey::new("controller.quorum.election.backoff.max.ms", ValueType::Int, Some("1000")).bounded(Bounds::AtLeast(0)).important(Importance::High),
    ConfigKey::new("controller.quorum.election.timeout.ms", ValueType::Int, Some("1000")).bounded(Bounds::AtLeast(0)).important(Importance::High)
        .works("A controller that hears nothing of the active one for the shorter of this and `controller.quorum.fetch.timeout.ms`, and at most twice as long, asks the others for their votes. If the process of the active one has ended, it does so at once."),
    ConfigKey::new("controller.quorum.fetch.max.bytes", ValueType::Int, Some("1048576")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("controller.quorum.fetch.snapshot.max.bytes", ValueType::Int, Some("1048576")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("controller.quorum.fetch.timeout.ms", ValueType::Int, Some("2000")).bounded(Bounds::AtLeast(0)).important(Importance::High)
        .works("See `controller.quorum.election.timeout.ms`."),
    ConfigKey::new("controller.quorum.request.timeout.ms", ValueType::Int, Some("2000")).bounded(Bounds::AtLeast(0)),
    ConfigKey::new("controller.quorum.retry.backoff.ms", ValueType::Int, Some("20")).bounded(Bounds::AtLeast(0)).important(Importance::Low),
    ConfigKey::new("controller.quorum.voters", ValueType::List, Some("")).important(Importance::High)
        .works("The controllers, as `id@host:port`: all of them vote, and a majority must run to change metadata. It must be the same on all nodes. Empty where the metadata log names the voters."),
    ConfigKey::new("controller.quota.window.num", ValueType::Int, Some("11")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("controller.quota.window.size.seconds", ValueType::Int, Some("1")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("controller.socket.timeout.ms", ValueType::Int, Some("30000")),
    ConfigKey::new("cordoned.log.dirs", ValueType::List, Some("")).updated(Update::PerBroker).refused(),
    ConfigKey::new("create.topic.policy.class.name", ValueType::Class, None).important(Importance::Low).refused(),
    ConfigKey::new("default.replication.factor", ValueType::Int, Some("1"))
        .works("Replicas of a topic that is created without saying how many."),
    ConfigKey::new("delegation.token.expiry.check.interval.ms", ValueType::Long, Some("3600000")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("delegation.token.expiry.time.ms", ValueType::Long, Some("86400000")).bounded(Bounds::AtLeast(1)),
    ConfigKey::new("delegation.token.max.lifetime.ms", ValueType::Long, Some("604800000")).bounded(Bounds::AtLeast(1)),
    ConfigKey::new("delegation.token.secret.key", ValueType::Password, None).refused(),
    ConfigKey::new("delete.records.purgatory.purge.interval.requests", ValueType::Int, Some("1")),
    ConfigKey::new("delete.topic.enable", ValueType::Boolean, Some("true")).important(Importance::High)
        .works("Whether topics may be deleted."),
    ConfigKey::new("early.start.listeners", ValueType::List, None).important(Importance::High).refused(),
    ConfigKey::new("fetch.max.bytes", ValueType::Int, Some("57671680")).bounded(Bounds::AtLeast(1_024))
        .works("Largest answer to one fetch, in bytes; the first batch is returned whatever its size."),
    ConfigKey::new("fetch.purgatory.purge.interval.requests", ValueType::Int, Some("1000")),
    ConfigKey::new("follower.fetch.last.tiered.offset.enable", ValueType::Boolean, Some("false")).updated(Update::ClusterWide),
    ConfigKey::new("follower.replication.throttled.rate", ValueType::Long, Some("9223372036854775807")).bounded(Bounds::AtLeast(0)).only_where_set().updated(Update::ClusterWide)
        .works("Bytes a second that this broker fetches of the replicas in `follower.replication.throttled.replicas`; those in sync count, and do not wait."),
    ConfigKey::new("group.coordinator.append.linger.ms", ValueType::Int, Some("-1")).bounded(Bounds::AtLeast(-1)),
    ConfigKey::new("group.coordinator.background.threads", ValueType::Int, Some("2")).bounded(Bounds::AtLeast(1)).important(Importance::High),
    ConfigKey::new("group.coordinator.cached.buffer.max.bytes", ValueType::Int, Some("1048588")).bounded(Bounds::AtLeast(524_288)).updated(Update::ClusterWide),
    ConfigKey::new("group.coordinator.rebalance.protocols", ValueType::List, Some("classic,consumer,streams")).bounded(Bounds::OneOf(&["consumer", "classic", "share", "streams"]))
        .works("Group protocols that are served. `classic` is served whatever this says; the others are not served yet."),
    ConfigKey::new("group.coordinator.threads", ValueType::Int, Some("4")).bounded(Bounds::AtLeast(1)).important(Importance::High),
    ConfigKey::new("group.initial.rebalance.delay.ms", ValueType::Int, Some("3000"))
        .works("How long a new group waits for more members before its first rebalance."),
    ConfigKey::new("group.max.session.timeout.ms", ValueType::Int, Some("1800000"))
        .works("Largest session timeout that a member may ask for."),
    ConfigKey::new("group.max.size", ValueType::Int, Some("2147483647")).bounded(Bounds::AtLeast(1))
        .works("Largest number of members in a group."),
    ConfigKey::new("group.min.session.timeout.ms", ValueType::Int, Some("6000"))
        .works("Smallest session timeout that a member may ask for."),
    ConfigKey::new("initial.broker.registration.timeout.ms", ValueType::Int, Some("60000"))
        .works("How long a start waits for a controller. Then it is refused."),
    ConfigKey::new("inter.broker.listener.name", ValueType::Text, None)
        .works("The listener that brokers use among themselves."),
    ConfigKey::new("internal.metadata.delete.delay.millis", ValueType::Long, Some("60000")).important(Importance::Low).internal(),
    ConfigKey::new("internal.metadata.log.segment.bytes", ValueType::Int, None).important(Importance::Low).internal(),
    ConfigKey::new("internal.metadata.max.batch.size.in.bytes", ValueType::Int, Some("8388608")).important(Importance::Low).internal(),
    ConfigKey::new("kafka.metrics.polling.interval.secs", ValueType::Int, Some("10")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("kafka.metrics.reporters", ValueType::List, Some("")).important(Importance::Low),
    ConfigKey::new("leader.imbalance.check.interval.seconds", ValueType::Long, Some("300")).bounded(Bounds::AtLeast(1)).important(Importance::High)
        .works("How often the controller does so; with `auto.leader.rebalance.enable`."),
    ConfigKey::new("leader.replication.throttled.rate", ValueType::Long, Some("9223372036854775807")).bounded(Bounds::AtLeast(0)).only_where_set().updated(Update::ClusterWide)
        .works("Bytes a second that this broker sends of the replicas in `leader.replication.throttled.replicas`; what followers in sync get counts, and does not wait."),
    ConfigKey::new("listener.security.protocol.map", ValueType::Text, Some("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT")).important(Importance::Low).updated(Update::PerBroker)
        .works("The security protocol of each listener name. Only PLAINTEXT is served yet. It is read at a start; a change while the broker runs is refused.").only_by_file(),
    ConfigKey::new("listeners", ValueType::List, Some("PLAINTEXT://:9092")).important(Importance::High).updated(Update::PerBroker)
        .works("Addresses to listen on, as `NAME://host:port`. They are read at a start; a change while the broker runs is refused.").only_by_file(),
    ConfigKey::new("log.cleaner.backoff.ms", ValueType::Long, Some("15000")).bounded(Bounds::AtLeast(0)).updated(Update::ClusterWide)
        .works("How long the cleaner rests when no log is due for compaction."),
    ConfigKey::new("log.cleaner.dedupe.buffer.size", ValueType::Long, Some("134217728")).bounded(Bounds::Between(1_048_576, 17_179_869_184)).updated(Update::ClusterWide)
        .works("Memory in which all cleaner threads together remember keys, 24 bytes each. A log with more keys is compacted in several passes."),
    ConfigKey::new("log.cleaner.delete.retention.ms", ValueType::Long, Some("86400000")).bounded(Bounds::AtLeast(0)).updated(Update::ClusterWide)
        .works("Default of the topic config `delete.retention.ms`."),
    ConfigKey::new("log.cleaner.enable", ValueType::Boolean, Some("true"))
        .works("Whether compacted topics are compacted."),
    ConfigKey::new("log.cleaner.io.buffer.load.factor", ValueType::Double, Some("0.9")).updated(Update::ClusterWide)
        .works("How full the cleaner's table of keys may become. A fuller table holds more keys in the same memory, and is slower."),
    ConfigKey::new("log.cleaner.io.buffer.size", ValueType::Int, Some("524288")).bounded(Bounds::AtLeast(0)).updated(Update::ClusterWide),
    ConfigKey::new("log.cleaner.io.max.bytes.per.second", ValueType::Double, Some("1.7976931348623157E308")).updated(Update::ClusterWide)
        .works("How many bytes all cleaner threads together may read and write per second."),
    ConfigKey::new("log.cleaner.max.compaction.lag.ms", ValueType::Long, Some("9223372036854775807")).bounded(Bounds::AtLeast(1)).updated(Update::ClusterWide)
        .works("Default of the topic config `max.compaction.lag.ms`."),
    ConfigKey::new("log.cleaner.min.cleanable.ratio", ValueType::Double, Some("0.5")).bounded(Bounds::Ratio(1.0)).updated(Update::ClusterWide)
        .works("Default of the topic config `min.cleanable.dirty.ratio`."),
    ConfigKey::new("log.cleaner.min.compaction.lag.ms", ValueType::Long, Some("0")).bounded(Bounds::AtLeast(0)).updated(Update::ClusterWide)
        .works("Default of the topic config `min.compaction.lag.ms`."),
    ConfigKey::new("log.cleaner.threads", ValueType::Int, Some("1")).bounded(Bounds::Between(0, 64)).updated(Update::ClusterWide)
        .works("Logs that are compacted at a time."),
    ConfigKey::new("log.cleanup.policy", ValueType::List, Some("delete")).bounded(Bounds::OneOf(&["compact", "delete"])).updated(Update::ClusterWide)
        .works("Default of the topic config `cleanup.policy`."),
    ConfigKey::new("log.dir", ValueType::List, Some("/tmp/kafka-logs")).important(Importance::High)
        .works("The data directory, if `log.dirs` is not set."),
    ConfigKey::new("log.dir.failure.timeout.ms", ValueType::Long, Some("30000")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("log.dirs", ValueType::List, None).important(Importance::High)
        .works("The data directories, separated by commas."),
    ConfigKey::new("log.flush.interval.messages", ValueType::Long, Some("9223372036854775807")).bounded(Bounds::AtLeast(1)).important(Importance::High).updated(Update::ClusterWide)
        .works("Default of the topic config `flush.messages`."),
    ConfigKey::new("log.flush.interval.ms", ValueType::Long, None).important(Importance::High).updated(Update::ClusterWide)
        .works("Default of the topic config `flush.ms`."),
    ConfigKey::new("log.flush.offset.checkpoint.interval.ms", ValueType::Int, Some("60000")).bounded(Bounds::AtLeast(0)).important(Importance::High)
        .works("How often the recovery point is written. It bounds what a start after a crash has to read."),
    ConfigKey::new("log.flush.scheduler.interval.ms", ValueType::Long, Some("9223372036854775807")).important(Importance::High)
        .works("Default of the topic config `flush.ms` where `log.flush.interval.ms` is not set."),
    ConfigKey::new("log.flush.start.offset.checkpoint.interval.ms", ValueType::Int, Some("60000")).bounded(Bounds::AtLeast(0)).important(Importance::High),
    ConfigKey::new("log.index.interval.bytes", ValueType::Int, Some("4096")).bounded(Bounds::AtLeast(0)).updated(Update::ClusterWide)
        .works("Default of the topic config `index.interval.bytes`."),
    ConfigKey::new("log.index.size.max.bytes", ValueType::Int, Some("10485760")).bounded(Bounds::AtLeast(4)).updated(Update::ClusterWide)
        .works("Default of the topic config `segment.index.bytes`."),
    ConfigKey::new("log.initial.task.delay.ms", ValueType::Long, Some("30000")).bounded(Bounds::AtLeast(0)).important(Importance::Low).internal()
        .works("How long after a start retention begins."),
    ConfigKey::new("log.local.retention.bytes", ValueType::Long, Some("-2")).bounded(Bounds::AtLeast(-2)).updated(Update::ClusterWide),
    ConfigKey::new("log.local.retention.ms", ValueType::Long, Some("-2")).bounded(Bounds::AtLeast(-2)).updated(Update::ClusterWide),
    ConfigKey::new("log.message.timestamp.after.max.ms", ValueType::Long, Some("3600000")).bounded(Bounds::AtLeast(0)).updated(Update::ClusterWide)
        .works("Default of the topic config `message.timestamp.after.max.ms`."),
    ConfigKey::new("log.message.timestamp.before.max.ms", ValueType::Long, Some("9223372036854775807")).bounded(Bounds::AtLeast(0)).updated(Update::ClusterWide)
        .works("Default of the topic config `message.timestamp.before.max.ms`."),
    ConfigKey::new("log.message.timestamp.type", ValueType::Text, Some("CreateTime")).bounded(Bounds::OneOf(&["CreateTime", "LogAppendTime"])).updated(Update::ClusterWide)
        .works("Default of the topic config `message.timestamp.type`."),
    ConfigKey::new("log.preallocate", ValueType::Boolean, Some("false")).updated(Update::ClusterWide),
    ConfigKey::new("log.retention.bytes", ValueType::Long, Some("-1")).important(Importance::High).updated(Update::ClusterWide)
        .works("Default of the topic config `retention.bytes`."),
    ConfigKey::new("log.retention.check.interval.ms", ValueType::Long, Some("300000")).bounded(Bounds::AtLeast(1))
        .works("How often segments are checked against retention."),
    ConfigKey::new("log.retention.hours", ValueType::Int, Some("168")).important(Importance::High)
        .works("Default of the topic config `retention.ms`, in hours."),
    ConfigKey::new("log.retention.minutes", ValueType::Int, None).important(Importance::High)
        .works("Default of the topic config `retention.ms`, in minutes; has precedence over hours."),
    ConfigKey::new("log.retention.ms", ValueType::Long, None).bounded(Bounds::Or(-1, 1, i64::MAX)).important(Importance::High).updated(Update::ClusterWide)
        .works("Default of the topic config `retention.ms`; has precedence over minutes and hours."),
    ConfigKey::new("log.roll.hours", ValueType::Int, Some("168")).bounded(Bounds::AtLeast(1)).important(Importance::High)
        .works("Default of the topic config `segment.ms`, in hours."),
    ConfigKey::new("log.roll.jitter.hours", ValueType::Int, Some("0")).bounded(Bounds::AtLeast(0)).important(Importance::High)
        .works("Default of the topic config `segment.jitter.ms`, in hours."),
    ConfigKey::new("log.roll.jitter.ms", ValueType::Long, None).bounded(Bounds::AtLeast(0)).important(Importance::High).updated(Update::ClusterWide)
        .works("Default of the topic config `segment.jitter.ms`; has precedence over hours."),
    ConfigKey::new("log.roll.ms", ValueType::Long, None).bounded(Bounds::AtLeast(1)).important(Importance::High).updated(Update::ClusterWide)
        .works("Default of the topic config `segment.ms`; has precedence over hours."),
    ConfigKey::new("log.segment.bytes", ValueType::Int, Some("1073741824")).bounded(Bounds::AtLeast(1_048_576)).important(Importance::High).updated(Update::ClusterWide)
        .works("Default of the topic config `segment.bytes`."),
    ConfigKey::new("log.segment.delete.delay.ms", ValueType::Long, Some("60000")).bounded(Bounds::AtLeast(0)).important(Importance::High).updated(Update::ClusterWide)
        .works("Default of the topic config `file.delete.delay.ms`."),
    ConfigKey::new("max.connection.creation.rate", ValueType::Int, Some("2147483647")).bounded(Bounds::AtLeast(0)).updated(Update::ClusterWide),
    ConfigKey::new("max.connections", ValueType::Int, Some("2147483647")).bounded(Bounds::AtLeast(0)).updated(Update::ClusterWide)
        .works("Connections over all listeners. Another one waits to be accepted until one has closed. A change closes none."),
    ConfigKey::new("max.connections.per.ip", ValueType::Int, Some("2147483647")).bounded(Bounds::AtLeast(0)).updated(Update::ClusterWide)
        .works("Connections from one address; a further one is closed. A change holds for connections that come after it."),
    ConfigKey::new("max.connections.per.ip.overrides", ValueType::Text, Some("")).bounded(Bounds::ConnectionsByAddress).updated(Update::ClusterWide)
        .works("Connections from chosen addresses, as `address:count` separated by commas."),
    ConfigKey::new("max.decompressed.message.bytes", ValueType::Int, Some("2147483639")).bounded(Bounds::Between(1, 2_147_483_639)).updated(Update::ClusterWide)
        .works("Default of the topic config `max.decompressed.message.bytes`."),
    ConfigKey::new("max.incremental.fetch.session.cache.slots", ValueType::Int, Some("1000")).bounded(Bounds::AtLeast(0))
        .works("Largest number of fetch sessions (KIP-227); beyond it a new session replaces the oldest idle one."),
    ConfigKey::new("max.request.partition.size.limit", ValueType::Int, Some("2000")).bounded(Bounds::AtLeast(1))
        .works("Largest number of partitions in one answer of DescribeTopicPartitions."),
    ConfigKey::new("message.max.bytes", ValueType::Int, Some("1048588")).bounded(Bounds::AtLeast(0)).important(Importance::High).updated(Update::ClusterWide)
        .works("Default of the topic config `max.message.bytes`."),
    ConfigKey::new("metadata.log.dir", ValueType::Text, None).important(Importance::High)
        .works("The directory of the metadata log; the first of `log.dirs` if not set."),
    ConfigKey::new("metadata.log.max.record.bytes.between.snapshots", ValueType::Long, Some("20971520")).bounded(Bounds::AtLeast(1)).important(Importance::High)
        .works("Bytes of metadata log after which a snapshot is taken."),
    ConfigKey::new("metadata.log.max.snapshot.interval.ms", ValueType::Long, Some("3600000")).bounded(Bounds::AtLeast(0)).important(Importance::High)
        .works("Longest time between snapshots of a metadata log that grows; 0 for none."),
    ConfigKey::new("metadata.log.segment.bytes", ValueType::Int, Some("1073741824")).bounded(Bounds::AtLeast(8_388_608)).important(Importance::High),
    ConfigKey::new("metadata.log.segment.ms", ValueType::Long, Some("604800000")).important(Importance::High),
    ConfigKey::new("metadata.max.idle.interval.ms", ValueType::Int, Some("500")).bounded(Bounds::AtLeast(0)).important(Importance::Low),
    ConfigKey::new("metadata.max.retention.bytes", ValueType::Long, Some("104857600")).important(Importance::High),
    ConfigKey::new("metadata.max.retention.ms", ValueType::Long, Some("604800000")).important(Importance::High),
    ConfigKey::new("metric.reporters", ValueType::List, Some("org.apache.kafka.common.metrics.JmxReporter")).important(Importance::Low).updated(Update::ClusterWide),
    ConfigKey::new("metrics.num.samples", ValueType::Int, Some("2")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("metrics.recording.level", ValueType::Text, Some("INFO")).important(Importance::Low),
    ConfigKey::new("metrics.sample.window.ms", ValueType::Long, Some("30000")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("min.insync.replicas", ValueType::Int, Some("1")).bounded(Bounds::AtLeast(1)).important(Importance::High).updated(Update::ClusterWide)
        .works("Default of the topic config `min.insync.replicas`."),
    ConfigKey::new("node.id", ValueType::Int, None).bounded(Bounds::AtLeast(0)).important(Importance::High)
        .works("The number of this node, unique in the cluster."),
    ConfigKey::new("num.io.threads", ValueType::Int, Some("8")).bounded(Bounds::AtLeast(1)).important(Importance::High).updated(Update::ClusterWide),
    ConfigKey::new("num.network.threads", ValueType::Int, Some("3")).bounded(Bounds::AtLeast(1)).important(Importance::High).updated(Update::ClusterWide),
    ConfigKey::new("num.partitions", ValueType::Int, Some("1")).bounded(Bounds::AtLeast(1))
        .works("Partitions of a topic that is created without saying how many."),
    ConfigKey::new("num.recovery.threads.per.data.dir", ValueType::Int, Some("2")).bounded(Bounds::AtLeast(1)).important(Importance::High).updated(Update::ClusterWide)
        .works("Logs of one log directory that are opened at a time at a start, and closed at a stop. A change counts from the next start on.").at_next_start(),
    ConfigKey::new("num.replica.alter.log.dirs.threads", ValueType::Int, None).important(Importance::High),
    ConfigKey::new("num.replica.fetchers", ValueType::Int, Some("1")).bounded(Bounds::AtLeast(1)).important(Importance::High).updated(Update::ClusterWide)
        .works("Connections over which this broker fetches from each leader; each partition has its own one of them."),
    ConfigKey::new("offset.metadata.max.bytes", ValueType::Int, Some("4096")).important(Importance::High)
        .works("Largest text that may go with a committed offset."),
    ConfigKey::new("offsets.commit.timeout.ms", ValueType::Int, Some("5000")).bounded(Bounds::AtLeast(1)).important(Importance::High)
        .works("How long a committed offset, or another change of a group, may take to be on stable storage. After that the answer is COORDINATOR_NOT_AVAILABLE, which clients retry."),
    ConfigKey::new("offsets.load.buffer.size", ValueType::Int, Some("5242880")).bounded(Bounds::AtLeast(1)).important(Importance::High),
    ConfigKey::new("offsets.retention.check.interval.ms", ValueType::Long, Some("600000")).bounded(Bounds::AtLeast(1)).important(Importance::High)
        .works("How often committed offsets are checked for expiry."),
    ConfigKey::new("offsets.retention.minutes", ValueType::Int, Some("10080")).bounded(Bounds::AtLeast(1)).important(Importance::High)
        .works("How long committed offsets stay after their group became empty."),
    ConfigKey::new("offsets.topic.compression.codec", ValueType::Int, Some("0")).important(Importance::High)
        .works("Codec of the batches that the group coordinator writes, by its number."),
    ConfigKey::new("offsets.topic.num.partitions", ValueType::Int, Some("50")).bounded(Bounds::AtLeast(1)).important(Importance::High)
        .works("Partitions of `__consumer_offsets`. It cannot change once the topic exists."),
    ConfigKey::new("offsets.topic.replication.factor", ValueType::Short, Some("3")).bounded(Bounds::AtLeast(1)).important(Importance::High)
        .works("Replicas of `__consumer_offsets`. With fewer brokers than this the topic is not created and no group works."),
    ConfigKey::new("offsets.topic.segment.bytes", ValueType::Int, Some("104857600")).bounded(Bounds::AtLeast(1)).important(Importance::High)
        .works("Segment size of `__consumer_offsets`."),
    ConfigKey::new("principal.builder.class", ValueType::Class, Some("org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder")).updated(Update::PerBroker).refused(),
    ConfigKey::new("process.roles", ValueType::List, None).bounded(Bounds::OneOf(&["broker", "controller"])).important(Importance::High)
        .works("What this node is: `broker`, `controller`, or both."),
    ConfigKey::new("producer.id.expiration.check.interval.ms", ValueType::Int, Some("600000")).bounded(Bounds::AtLeast(1)).important(Importance::Low).internal()
        .works("How often the sequences of expired producers are removed."),
    ConfigKey::new("producer.id.expiration.ms", ValueType::Int, Some("86400000")).bounded(Bounds::AtLeast(1)).important(Importance::Low).updated(Update::ClusterWide)
        .works("How long a producer's sequence is kept after its last batch."),
    ConfigKey::new("producer.purgatory.purge.interval.requests", ValueType::Int, Some("1000")),
    ConfigKey::new("queued.max.request.bytes", ValueType::Long, Some("-1"))
        .works("Bytes of requests in flight over all connections. Beyond it no more are read until some are answered. If it is not set, Ottla's bound is 256 MiB; Kafka has none."),
    ConfigKey::new("queued.max.requests", ValueType::Int, Some("500")).bounded(Bounds::AtLeast(1)).important(Importance::High),
    ConfigKey::new("quota.window.num", ValueType::Int, Some("11")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("quota.window.size.seconds", ValueType::Int, Some("1")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("replica.alter.log.dirs.io.max.bytes.per.second", ValueType::Long, Some("9223372036854775807")).bounded(Bounds::AtLeast(0)).only_where_set().updated(Update::ClusterWide),
    ConfigKey::new("replica.fetch.backoff.ms", ValueType::Int, Some("1000")).bounded(Bounds::AtLeast(0))
        .works("The longest wait until a follower fetches a partition again after an error of its leader. The first wait is 25 ms, and doubles."),
    ConfigKey::new("replica.fetch.max.bytes", ValueType::Int, Some("1048576")).bounded(Bounds::AtLeast(0))
        .works("Bytes of one partition in the answer to a follower's fetch; the first batch is returned whatever its size."),
    ConfigKey::new("replica.fetch.min.bytes", ValueType::Int, Some("1")).important(Importance::High)
        .works("A leader holds a follower's fetch until it has this many bytes, or `replica.fetch.wait.max.ms` is over."),
    ConfigKey::new("replica.fetch.response.max.bytes", ValueType::Int, Some("10485760")).bounded(Bounds::AtLeast(0))
        .works("Bytes of the whole answer to a follower's fetch; the first batch is returned whatever its size."),
    ConfigKey::new("replica.fetch.wait.max.ms", ValueType::Int, Some("500")).important(Importance::High)
        .works("How long a leader may hold a follower's fetch that has no news."),
    ConfigKey::new("replica.high.watermark.checkpoint.interval.ms", ValueType::Long, Some("5000")).important(Importance::High)
        .works("How often high watermarks are written to disk."),
    ConfigKey::new("replica.lag.time.max.ms", ValueType::Long, Some("30000")).important(Importance::High)
        .works("A follower that has not caught up for this long leaves the in-sync replicas."),
    ConfigKey::new("replica.selector.class", ValueType::Text, None).bounded(Bounds::OneOf(&[
        "org.apache.kafka.common.replica.RackAwareReplicaSelector",
        "org.apache.kafka.common.replica.LeaderSelector",
    ]))
        .works("Where consumers read. `org.apache.kafka.common.replica.RackAwareReplicaSelector` sends a consumer with `client.rack` to a replica with the same `broker.rack`; by default all read from the leader."),
    ConfigKey::new("replica.socket.receive.buffer.bytes", ValueType::Int, Some("65536")).important(Importance::High),
    ConfigKey::new("replica.socket.timeout.ms", ValueType::Int, Some("30000")).important(Importance::High)
        .works("How long a leader may take to accept a connection of a follower, and to answer it."),
    ConfigKey::new("replication.quota.window.num", ValueType::Int, Some("11")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("replication.quota.window.size.seconds", ValueType::Int, Some("1")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("request.timeout.ms", ValueType::Int, Some("30000")).important(Importance::High),
    ConfigKey::new("security.inter.broker.protocol", ValueType::Text, Some("PLAINTEXT")).bounded(Bounds::OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])),
    ConfigKey::new("security.providers", ValueType::Text, None).important(Importance::Low).refused(),
    ConfigKey::new("server.max.startup.time.ms", ValueType::Long, Some("9223372036854775807")).bounded(Bounds::AtLeast(0)).internal(),
    ConfigKey::new("share.fetch.purgatory.purge.interval.requests", ValueType::Int, Some("1000")),
    ConfigKey::new("socket.connection.setup.timeout.max.ms", ValueType::Long, Some("30000")),
    ConfigKey::new("socket.connection.setup.timeout.ms", ValueType::Long, Some("10000")),
    ConfigKey::new("socket.listen.backlog.size", ValueType::Int, Some("50")).bounded(Bounds::AtLeast(1))
        .works("Connections that the kernel may hold before they are accepted."),
    ConfigKey::new("socket.receive.buffer.bytes", ValueType::Int, Some("102400")).important(Importance::High),
    ConfigKey::new("socket.request.max.bytes", ValueType::Int, Some("104857600")).bounded(Bounds::AtLeast(1)).important(Importance::High)
        .works("Largest request. Requests without record data have a smaller bound, `ottla.request.max.bytes`."),
    ConfigKey::new("socket.send.buffer.bytes", ValueType::Int, Some("102400")).important(Importance::High),
    ConfigKey::new("telemetry.max.bytes", ValueType::Int, Some("1048576")).bounded(Bounds::AtLeast(1)).important(Importance::Low),
    ConfigKey::new("unclean.leader.election.enable", ValueType::Boolean, Some("false")).important(Importance::High).updated(Update::ClusterWide)
        .works("Whether a replica that is not in sync may lead when no other is left: records that only others have are lost then."),
    ConfigKey::new("unclean.leader.election.interval.ms", ValueType::Long, Some("300000")).bounded(Bounds::AtLeast(1)).internal()
        .works("How often the controller looks for partitions without a leader whose topic allows unclean elections."),
    ConfigKey::new("unstable.api.versions.enable", ValueType::Boolean, Some("false")).important(Importance::High).internal(),
    ConfigKey::new("unstable.feature.versions.enable", ValueType::Boolean, Some("false")).important(Importance::High).internal(),
];
