//! Ottla's own keys.

use super::{Bounds, ConfigKey, Importance, Synonym, Unit, Update, ValueType};

const DURABILITY: Bounds = Bounds::OneOf(&["fsync", "page-cache"]);
const DURABILITY_TEXT: &str = "When `acks=all` is answered: `fsync` once the batch is on stable storage (group commit), \
     `page-cache` as Kafka does, once it is in the kernel's memory. Under `fsync` consumers never see records that a power cut can remove.";

/// Topic configs of Ottla's own.
pub const TOPIC: &[ConfigKey] =
    &[
        ConfigKey::new("ottla.ack.durability", ValueType::Text, Some("fsync"))
            .bounded(DURABILITY)
            .important(Importance::High)
            .synonyms(&[Synonym::new("ottla.ack.durability", Unit::Same)])
            .works(DURABILITY_TEXT),
    ];

/// Broker configs of Ottla's own.
pub const BROKER: &[ConfigKey] = &[
    ConfigKey::new("ottla.ack.durability", ValueType::Text, Some("fsync"))
        .bounded(DURABILITY)
        .important(Importance::High)
        .updated(Update::ClusterWide)
        .works(DURABILITY_TEXT),
    ConfigKey::new("ottla.flush.max.delay.ms", ValueType::Long, Some("100"))
        .bounded(Bounds::Between(0, 60_000))
        .works("Longest time until a record with acks 0 or 1 is on stable storage, and so visible to consumers, when no client triggers a flush sooner."),
    ConfigKey::new("ottla.broker.heartbeat.interval.ms", ValueType::Int, Some("250"))
        .bounded(Bounds::AtLeast(10))
        .works("The time between two heartbeats to the controller, if it is shorter than `broker.heartbeat.interval.ms`."),
    ConfigKey::new("ottla.broker.unreachable.fence.enable", ValueType::Boolean, Some("true"))
        .works("Whether the controller fences a broker before the end of its session when its machine has vanished: its heartbeats are late, three attempts in a row to connect to it were not answered within 150 ms, it answered such an attempt before, and another broker was heard meanwhile. A machine that is only slow answers. `false` is Kafka's behaviour: only `broker.session.timeout.ms` counts for a machine that does not answer."),
    ConfigKey::new("ottla.cluster.id", ValueType::Text, None)
        .works("The id of the cluster for which new log directories are formatted. New nodes of one cluster need the same; without it, a node that is the only controller makes up one. It is not changed later."),
    ConfigKey::new("ottla.disk.reserve", ValueType::Long, None)
        .bounded(Bounds::AtLeast(0))
        .works("Bytes kept free on the file system of each log directory. Below it records of clients are refused with NOT_ENOUGH_REPLICAS and the reason, while fetches, committed offsets, metadata, retention and deletion go on; when there is space again, records are accepted again. By default 5 % of the file system, 1 GiB at most."),
    ConfigKey::new("ottla.scrub.interval.ms", ValueType::Long, Some("604800000"))
        .bounded(Bounds::AtLeast(0))
        .updated(Update::ClusterWide)
        .works("How often all closed segments are read in the background and their checksums compared, so that damage is found before it is needed: once in 7 days. What was read does not stay in the page cache. 0 for never."),
    ConfigKey::new("ottla.scrub.max.bytes.per.second", ValueType::Long, Some("10485760"))
        .bounded(Bounds::AtLeast(1024))
        .updated(Update::ClusterWide)
        .works("How many bytes the scrub may read per second. If this is too little for `ottla.scrub.interval.ms`, a round takes longer."),
    ConfigKey::new("ottla.max.open.files", ValueType::Int, None)
        .bounded(Bounds::AtLeast(8))
        .works("Largest number of log files that stay open, however many segments and partitions there are; further ones are opened when they are needed. By default a quarter of what the process may have open, which is raised to the hard limit at the start; more is not taken. An eighth is for what answers hold open, the rest for connections."),
    ConfigKey::new("ottla.fetch.buffered.max.bytes", ValueType::Int, Some("67108864"))
        .bounded(Bounds::AtLeast(0))
        .works("Memory for fetched records that wait to be sent, over all connections. Small ones are read into memory because that is cheaper; beyond this they are sent from their files like large ones."),
    ConfigKey::new("ottla.request.max.bytes", ValueType::Int, Some("4194304"))
        .bounded(Bounds::AtLeast(65_536))
        .works("Largest request that carries no record data. Such a request may decode to many times its size; requests with record data are bounded by `socket.request.max.bytes`."),
    ConfigKey::new("ottla.request.receive.timeout.ms", ValueType::Long, Some("30000"))
        .bounded(Bounds::AtLeast(1))
        .works("How long a large request may take to arrive after its memory has been set aside; then its connection is closed."),
    ConfigKey::new("ottla.decompressed.max.bytes", ValueType::Int, Some("268435456"))
        .bounded(Bounds::AtLeast(1_048_576))
        .works("Largest size of a record batch after decompression; a batch beyond it is refused as corrupt."),
    ConfigKey::new("ottla.http.listen", ValueType::Text, Some("127.0.0.1:9464"))
        .works("Address of the HTTP listener with `/metrics`, `/live`, `/ready` and `/why`; empty for none."),
];
