import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/** Fills the directory through Kafka with all kinds of records that a log and the metadata may have. */
final class Fill {
    private final Wire wire;

    Fill(Wire wire) {
        this.wire = wire;
    }

    void claims(Claims claims) {
        claims.add("fills_topics", this::topics);
        claims.add("fills_records_of_all_codecs", this::records);
        claims.add("fills_transactions", this::transactions);
        claims.add("fills_a_compacted_topic", this::compacted);
        claims.add("fills_groups", this::groups);
        claims.add("fills_share_groups", this::shareGroups);
        claims.add("fills_metadata", this::metadata);
        claims.add("deletes_records_and_a_topic", this::deletions);
        claims.add("has_coordinators_compacted", this::coordinators);
    }

    private static NewTopic topic(String name, int partitions, Map<String, String> configs) {
        return new NewTopic(name, partitions, (short) 1).configs(configs);
    }

    void topics() throws Exception {
        try (Admin admin = Admin.create(wire.base())) {
            admin.createTopics(List.of(
                    topic("plain", 3, Map.of("retention.ms", "600000000", "max.message.bytes", "2000000")),
                    topic("codecs", 1, Map.of()),
                    topic("recoded", 1, Map.of("compression.type", "gzip")),
                    topic("stamped", 1, Map.of("message.timestamp.type", "LogAppendTime")),
                    topic("transactional", 2, Map.of("min.insync.replicas", "1")),
                    topic("compacted", 1, Map.of("cleanup.policy", "compact", "segment.ms", "1000",
                            "min.cleanable.dirty.ratio", "0.01")),
                    topic("trimmed", 1, Map.of("cleanup.policy", "compact,delete")),
                    topic("gone", 1, Map.of("retention.ms", "700000000")),
                    topic(Steady.TOPIC, 1, Map.of()),
                    topic("removed", 1, Map.of()))).all().get();
            admin.createPartitions(Map.of("plain", NewPartitions.increaseTo(4))).all().get();
        }
    }

    void records() throws Exception {
        wire.send(Map.of("enable.idempotence", "false", "acks", "1"), "plain", 4, "plain", 20);
        for (String codec : Wire.CODECS) {
            wire.send(Map.of("enable.idempotence", "false", "compression.type", codec), "codecs", 1, codec, 40);
            wire.send(Map.of("compression.type", codec), "plain", 4, "idempotent-" + codec, 40);
        }
        for (String topic : List.of("recoded", "stamped", "trimmed", "gone", "removed")) {
            wire.send(Map.of(), topic, 1, topic, 30);
        }
    }

    private void transactions() throws Exception {
        try (KafkaProducer<String, String> producer = wire.producer(Map.of("transactional.id", "done-transaction"))) {
            producer.initTransactions();
            producer.beginTransaction();
            Wire.send(producer, "transactional", 2, "first", 15);
            producer.sendOffsetsToTransaction(
                    Map.of(new TopicPartition("plain", 0), new OffsetAndMetadata(7, "by a transaction")),
                    new ConsumerGroupMetadata("of-transactions"));
            producer.commitTransaction();
            producer.beginTransaction();
            Wire.send(producer, "transactional", 2, "aborted", 15);
            Wire.send(producer, "plain", 1, "aborted", 5);
            producer.abortTransaction();
            producer.beginTransaction();
            Wire.send(producer, "transactional", 2, "third", 15);
            producer.commitTransaction();
        }
    }

    /** Duplicates, tombstones, and an aborted transaction; then Kafka compacts the topic. */
    private void compacted() throws Exception {
        try (KafkaProducer<String, String> producer = wire.producer(Map.of("compression.type", "zstd"))) {
            for (int step = 0; step < 12; step++) {
                Wire.sendCompacted(producer, "key-" + step % 3, "kafka-" + step, step);
            }
            Wire.sendCompacted(producer, "buried", "soon", 12);
            Wire.sendCompacted(producer, "buried", null, 13);
        }
        try (KafkaProducer<String, String> producer = wire.producer(Map.of("transactional.id", "of-compacted"))) {
            producer.initTransactions();
            producer.beginTransaction();
            Wire.sendCompacted(producer, "key-0", "never", 14);
            producer.abortTransaction();
            producer.beginTransaction();
            Wire.sendCompacted(producer, "key-1", "by a transaction", 15);
            producer.commitTransaction();
        }
        try (KafkaProducer<String, String> producer = wire.producer(Map.of())) {
            Wire.sendCompacted(producer, "end", "of the closed segments", 16);
            Wire.sendCompacted(producer, "end", "of all", 17);
        }
        Claims.until("compaction by Kafka", () -> {
            Map<String, Integer> counts = wire.compactedCounts();
            return counts.get("key-2") == 1 && counts.get("key-1") == 1 && counts.get("buried") == 1;
        });
    }

    private void groups() throws Exception {
        commit("idle-classic", "classic", 11);
        commit("idle-consumer", "consumer", 13);
        commit("turned", "consumer", 15);
        commit("dropped", "consumer", 17);
        try (Admin admin = Admin.create(wire.base())) {
            admin.alterConsumerGroupOffsets("simple", Map.of(
                    new TopicPartition("plain", 2), new OffsetAndMetadata(5, "by hand"))).all().get();
        }
    }

    void commit(String group, String protocol, long offset) throws Exception {
        try (KafkaConsumer<String, String> member = wire.consumer(Map.of("group.id", group, "group.protocol", protocol))) {
            member.subscribe(List.of("plain"));
            Claims.until("the assignment of " + group, () -> {
                member.poll(Duration.ofMillis(50));
                return member.assignment().size() == 4;
            });
            member.commitSync(Map.of(
                    new TopicPartition("plain", 0), new OffsetAndMetadata(offset, "as " + protocol),
                    new TopicPartition("plain", 1), new OffsetAndMetadata(offset + 1)));
        }
    }

    private void shareGroups() throws Exception {
        if (!Live.hasShareGroups(wire)) {
            return;
        }
        try (Admin admin = Admin.create(wire.base())) {
            for (String group : List.of("idle-share", "live-share")) {
                Wire.alter(admin, new ConfigResource(ConfigResource.Type.GROUP, group),
                        Map.of("share.auto.offset.reset", "earliest"));
            }
        }
        // Each member that joins and leaves raises the epoch under which the share coordinator stores its state.
        for (int round = 0; round < 3; round++) {
            try (KafkaShareConsumer<String, String> member = Live.shareConsumer(wire, "idle-share")) {
                member.subscribe(List.of(round % 2 == 0 ? "stamped" : "recoded"));
                Claims.until("a record of the share group", () -> member.poll(Duration.ofMillis(100)).count() > 0);
            }
        }
        int[] taken = {0};
        try (KafkaShareConsumer<String, String> member = Live.shareConsumer(wire, "idle-share")) {
            member.subscribe(List.of("codecs"));
            Claims.until("records of the share group", () -> {
                taken[0] += member.poll(Duration.ofMillis(100)).count();
                return taken[0] >= 40 * Wire.CODECS.size();
            });
            member.commitSync();
        }
    }

    private void metadata() throws Exception {
        try (Admin admin = Admin.create(wire.base())) {
            Wire.alter(admin, Wire.brokers(""), Map.of("log.cleaner.threads", "2"));
            Wire.alter(admin, Wire.brokers("1"), Map.of("background.threads", "6"));
            Wire.alter(admin, new ConfigResource(ConfigResource.Type.GROUP, "idle-consumer"),
                    Map.of("consumer.session.timeout.ms", "50000"));
            Wire.alter(admin, new ConfigResource(ConfigResource.Type.CLIENT_METRICS, "subscription"),
                    Map.of("interval.ms", "60000", "metrics", "org.apache.kafka.producer."));
            admin.alterClientQuotas(List.of(
                    new ClientQuotaAlteration(new ClientQuotaEntity(Map.of("user", "alice")),
                            List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 123_456.0))),
                    new ClientQuotaAlteration(new ClientQuotaEntity(Map.of("client-id", "batch")),
                            List.of(new ClientQuotaAlteration.Op("request_percentage", 50.5))))).all().get();
            admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(
                    "alice", new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), "secret"))).all().get();
            admin.createAcls(List.of(new AclBinding(
                    new ResourcePattern(ResourceType.TOPIC, "plain", PatternType.LITERAL),
                    new AccessControlEntry("User:alice", "*", AclOperation.READ, AclPermissionType.ALLOW)))).all().get();
            if (hasNetworks(admin)) {
                admin.createAcls(List.of(new AclBinding(
                        new ResourcePattern(ResourceType.TOPIC, "plain", PatternType.LITERAL), new AccessControlEntry(
                                "User:alice", "10.0.0.77/8", AclOperation.WRITE, AclPermissionType.DENY)))).all().get();
            }
        }
    }

    /** Whether hosts of ACLs may be networks: since metadata.version 32, 4.4-IV1. */
    private static boolean hasNetworks(Admin admin) throws Exception {
        var levels = admin.describeFeatures().featureMetadata().get().finalizedFeatures();
        return levels.get("metadata.version").maxVersionLevel() >= 32;
    }

    /** Their topics have many segments too, so that both brokers compact them. */
    private void coordinators() throws Exception {
        try (Admin admin = Admin.create(wire.base())) {
            for (String topic : admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get()) {
                if (topic.startsWith("__")) {
                    Wire.alter(admin, Wire.topic(topic),
                            Map.of("segment.ms", "100", "min.cleanable.dirty.ratio", "0.01"));
                }
            }
        }
    }

    void deletions() throws Exception {
        try (Admin admin = Admin.create(wire.base())) {
            admin.deleteRecords(Map.of(new TopicPartition("trimmed", 0), RecordsToDelete.beforeOffset(11))).all().get();
            admin.deleteTopics(List.of("removed")).all().get();
        }
    }
}
