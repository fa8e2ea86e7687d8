import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.UnsupportedVersionException;

/** Changes through Ottla on a directory of Kafka: records, topics, configs, offsets, compaction. */
final class Carry {
    /** Ottla's own setting of a topic. */
    static final String SETTING = "ottla.ack.durability";

    private static final String CONFIGS = Tool.CONFIGS;

    private final Wire wire;

    Carry(Wire wire) {
        this.wire = wire;
    }

    void claims(Claims claims) {
        claims.add("produces_on", this::produce);
        claims.add("serves_no_api_of_what_is_only_kept", this::unserved);
        claims.add("creates_topics_with_settings_of_its_own", this::create);
        claims.add("alters_configs_and_settings_of_its_own", this::alter);
        claims.add("takes_configs_of_every_kind", this::configs);
        claims.add("shows_settings_of_topics_as_topic_configs_only", this::shown);
        claims.add("deletes_topics_and_records", this::delete);
        claims.add("serves_classic_groups", this::classic);
        claims.add("turns_and_deletes_empty_consumer_groups", this::turn);
        claims.add("leaves_share_groups_alone", this::shareGroups);
        claims.add("compacts", () -> compact(wire, "ottla", 20));
        claims.add("fills_the_metadata_log", () -> grow(wire, "ottla"));
    }

    private void produce() throws Exception {
        TopicPartition first = new TopicPartition("plain", 0);
        long end;
        try (Admin admin = Admin.create(wire.base())) {
            end = admin.listOffsets(Map.of(first, OffsetSpec.latest())).partitionResult(first).get().offset();
        }
        for (String codec : Wire.CODECS) {
            List<RecordMetadata> answers =
                    wire.send(Map.of("compression.type", codec), "plain", 4, "ottla-" + codec, 20);
            Claims.expectEqual(answers.get(0).offset(), end, "the next offset");
            end += 20;
        }
        for (String topic : List.of("recoded", "stamped", "trimmed", "gone", "codecs", "transactional")) {
            wire.send(Map.of(), topic, 1, "ottla", 20);
        }
    }

    private void unserved() throws Exception {
        try (KafkaProducer<String, String> producer = wire.producer(Map.of("transactional.id", "done-transaction"))) {
            producer.initTransactions();
            throw new AssertionError("transactions are served");
        } catch (KafkaException error) {
            Claims.expect(error.getMessage().contains("transactions are not served"), "failed with " + error);
        }
        Claims.expectError(UnsupportedVersionException.class, () -> {
            try (KafkaConsumer<String, String> member =
                    wire.consumer(Map.of("group.id", "idle-consumer", "group.protocol", "consumer"))) {
                member.subscribe(List.of("plain"));
                Claims.until("a refusal", () -> member.poll(Duration.ofMillis(100)).count() > 0);
            }
        });
    }

    void create() throws Exception {
        try (Admin admin = Admin.create(wire.base())) {
            admin.createTopics(List.of(
                    new NewTopic("born", 2, (short) 1).configs(Map.of(SETTING, "page-cache", "retention.ms", "900000000")),
                    new NewTopic("brief", 1, (short) 1).configs(Map.of(SETTING, "page-cache")))).all().get();
        }
        wire.send(Map.of(), "born", 2, "ottla", 20);
    }

    void alter() throws Exception {
        try (Admin admin = Admin.create(wire.base())) {
            Wire.alter(admin, Wire.topic("plain"), Map.of(SETTING, "page-cache"));
            Wire.alter(admin, Wire.topic("gone"), Map.of(SETTING, "page-cache"));
            Wire.alter(admin, Wire.topic("codecs"), Map.of("max.message.bytes", "3000000"));
        }
        wire.tool(CONFIGS, "--alter", "--entity-type", "topics", "--entity-name", "transactional",
                "--add-config", "retention.ms=800000000," + SETTING + "=page-cache").expect("Completed updating config");
    }

    /** The topics with Ottla's setting, as Ottla shows them. */
    static Set<String> carriers(Wire wire) throws Exception {
        Set<String> carriers = new TreeSet<>();
        try (Admin admin = Admin.create(wire.base())) {
            for (String topic : admin.listTopics().names().get()) {
                var shown = admin.describeConfigs(List.of(Wire.topic(topic))).all().get().get(Wire.topic(topic));
                if (!shown.get(SETTING).isDefault()) {
                    Claims.expectEqual(shown.get(SETTING).value(), "page-cache", SETTING + " of " + topic);
                    carriers.add(topic);
                }
            }
            for (String name : List.of("", "1")) {
                var shown = admin.describeConfigs(List.of(Wire.brokers(name))).all().get().get(Wire.brokers(name));
                Claims.expect(shown.entries().stream().noneMatch(entry -> entry.name().startsWith("ottla.topic.")),
                        "settings of topics are shown as configs of brokers");
            }
        }
        return carriers;
    }

    /** All kinds of configs that are accepted. The next Kafka starts with them. */
    void configs() throws Exception {
        NewTopic topic = new NewTopic("configured", 1, (short) 1).configs(Map.ofEntries(
                Map.entry("cleanup.policy", "compact,delete"), Map.entry("compression.type", "zstd"),
                Map.entry("compression.zstd.level", "5"), Map.entry("delete.retention.ms", "90000000"),
                Map.entry("file.delete.delay.ms", "70000"), Map.entry("flush.messages", "1000"),
                Map.entry("flush.ms", "5000"), Map.entry("index.interval.bytes", "8192"),
                Map.entry("max.compaction.lag.ms", "900000000"), Map.entry("min.compaction.lag.ms", "1000"),
                Map.entry("min.cleanable.dirty.ratio", "0.4"), Map.entry("max.message.bytes", "3000000"),
                Map.entry("message.timestamp.type", "LogAppendTime"),
                Map.entry("message.timestamp.before.max.ms", "86400000"), Map.entry("min.insync.replicas", "1"),
                Map.entry("preallocate", "true"), Map.entry("retention.bytes", "1000000000"),
                Map.entry("retention.ms", "-1"), Map.entry("segment.bytes", "2000000"),
                Map.entry("segment.index.bytes", "1000000"), Map.entry("segment.jitter.ms", "1000"),
                Map.entry("segment.ms", "3600000"), Map.entry("unclean.leader.election.enable", "true"),
                Map.entry("follower.replication.throttled.replicas", "*"),
                Map.entry("leader.replication.throttled.replicas", "0:1")));
        try (Admin admin = Admin.create(wire.base())) {
            admin.createTopics(List.of(topic)).all().get();
            Wire.alter(admin, new ConfigResource(ConfigResource.Type.GROUP, "of-ottla"),
                    Map.of("consumer.session.timeout.ms", "40000", "consumer.heartbeat.interval.ms", "6000"));
            if (Live.hasShareGroups(wire)) {
                Wire.alter(admin, new ConfigResource(ConfigResource.Type.GROUP, "shared-of-ottla"), Map.of(
                        "share.session.timeout.ms", "50000", "share.heartbeat.interval.ms", "6000",
                        "share.record.lock.duration.ms", "20000", "share.auto.offset.reset", "earliest"));
            }
            clientMetrics(admin);
            Wire.alter(admin, Wire.brokers(""), Map.of("message.max.bytes", "1500000", "log.retention.ms", "700000000"));
            Wire.alter(admin, Wire.brokers("1"), Map.of("log.segment.bytes", "500000000"));
        }
    }

    /** Ottla keeps them without effect, and Kafka finds them again. */
    private static void clientMetrics(Admin admin) throws Exception {
        Wire.alter(admin, new ConfigResource(ConfigResource.Type.CLIENT_METRICS, "of-ottla"), Map.of(
                "interval.ms", "30000", "metrics", "org.apache.kafka.consumer.", "match", "client_id=a.*"));
    }

    private void shown() throws Exception {
        Claims.expectEqual(carriers(wire), Set.of("born", "brief", "gone", "plain", "transactional"), "who has the setting");
        wire.tool(CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", "plain")
                .expect(SETTING + "=page-cache", "retention.ms=600000000");
    }

    void delete() throws Exception {
        try (Admin admin = Admin.create(wire.base())) {
            admin.deleteTopics(List.of("brief")).all().get();
            admin.deleteRecords(Map.of(new TopicPartition("trimmed", 0), RecordsToDelete.beforeOffset(17))).all().get();
        }
    }

    private void classic() throws Exception {
        TopicPartition first = new TopicPartition("plain", 0);
        try (KafkaConsumer<String, String> member = wire.consumer(Map.of("group.id", "idle-classic"))) {
            member.subscribe(List.of("plain"));
            Claims.until("the assignment", () -> {
                member.poll(Duration.ofMillis(50));
                return member.assignment().size() == 4;
            });
            Claims.expectEqual(member.committed(Set.of(first)).get(first).offset(), 11L, "what was committed on Kafka");
            for (long offset = 12; offset < 17; offset++) {
                member.commitSync(Map.of(first, new OffsetAndMetadata(offset, "on Ottla")));
                // Each commit begins a new segment.
                long next = System.nanoTime() + 150_000_000L;
                Claims.until("another segment", () -> {
                    member.poll(Duration.ofMillis(50));
                    return System.nanoTime() > next;
                });
            }
        }
        Claims.until("compaction of the committed offsets", () -> wire.committedOnOttla() <= 2);
    }

    /** Kafka must be able to load the rest of these. */
    private void turn() throws Exception {
        TopicPartition first = new TopicPartition("plain", 0);
        try (KafkaConsumer<String, String> member = wire.consumer(Map.of("group.id", "turned"))) {
            member.subscribe(List.of("plain"));
            Claims.until("the assignment", () -> {
                member.poll(Duration.ofMillis(50));
                return member.assignment().size() == 4;
            });
            Claims.expectEqual(member.committed(Set.of(first)).get(first).offset(), 15L, "what was committed before");
            member.commitSync(Map.of(first, new OffsetAndMetadata(16, "as classic")));
        }
        try (Admin admin = Admin.create(wire.base())) {
            admin.deleteConsumerGroups(List.of("dropped")).all().get();
        }
    }

    /** Their state would otherwise stay, and fence a group with the same name on Kafka. */
    private void shareGroups() throws Exception {
        if (!Live.hasShareGroups(wire)) {
            return;
        }
        try (Admin admin = Admin.create(wire.base())) {
            Claims.expectError(UnsupportedVersionException.class,
                    () -> admin.deleteConsumerGroups(List.of("idle-share")).all().get());
        }
    }

    /** Creates enough topics to trigger a snapshot; earlier records are then not read again. */
    static void grow(Wire wire, String who) throws Exception {
        try (Admin admin = Admin.create(wire.base())) {
            for (int round = 0; round < 3; round++) {
                List<NewTopic> topics = new ArrayList<>();
                for (int number = 0; number < 20; number++) {
                    topics.add(new NewTopic(who + "-" + round + "-" + number, 1, (short) 1));
                }
                admin.createTopics(topics).all().get();
            }
            // A Kafka broker gets them after the controller has answered.
            Claims.until("the topics", () -> admin.listTopics().names().get().contains(who + "-2-19"));
        }
    }

    /** Writes duplicates of one new key, and waits until compaction has left one of them in the closed segments. */
    static void compact(Wire wire, String who, int step) throws Exception {
        try (KafkaProducer<String, String> producer = wire.producer(Map.of("compression.type", "lz4"))) {
            for (int more = 0; more < 6; more++) {
                Wire.sendCompacted(producer, "key-" + who, who + "-" + more, step + more);
                Wire.sendCompacted(producer, "key-0", who + "-" + more, step + more);
            }
            Wire.sendCompacted(producer, "end", who, step + 8);
            Wire.sendCompacted(producer, "end", who, step + 9);
        }
        Claims.until("compaction after " + who, () -> {
            Map<String, Integer> counts = wire.compactedCounts();
            return counts.get("key-" + who) == 1 && counts.get("key-0") == 1;
        });
    }
}
