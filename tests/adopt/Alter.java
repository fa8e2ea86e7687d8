import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;

/** What Kafka changes after it has the directory back. */
final class Alter {
    private static final String CONFIGS = Tool.CONFIGS;

    private final Wire wire;

    Alter(Wire wire) {
        this.wire = wire;
    }

    void claims(Claims claims) {
        claims.add("kafka_configs_alters_topics_with_settings_of_ottla", this::topics);
        claims.add("kafka_configs_shows_and_alters_brokers", this::brokers);
        claims.add("kafka_goes_on_with_transactions", this::transactions);
        claims.add("kafka_goes_on_with_consumer_groups", this::groups);
        claims.add("kafka_goes_on_with_share_groups", this::shareGroups);
        claims.add("kafka_compacts_on", () -> Carry.compact(wire, "kafka", 40));
        claims.add("kafka_deletes_topics_with_settings_of_ottla", this::delete);
        claims.add("kafka_fills_the_metadata_log", () -> Carry.grow(wire, "kafka"));
    }

    /** Checks that work without the features that Ottla does not finalise. */
    void claimsOfNewcomer(Claims claims) {
        claims.add("kafka_configs_alters_topics_with_settings_of_ottla", this::topics);
        claims.add("kafka_begins_with_transactions", this::transactions);
        claims.add("kafka_compacts_on", () -> Carry.compact(wire, "kafka", 40));
        claims.add("kafka_deletes_topics_with_settings_of_ottla", this::delete);
        claims.add("kafka_fills_the_metadata_log", () -> Carry.grow(wire, "kafka"));
    }

    private void topics() throws Exception {
        for (String topic : List.of("plain", "born")) {
            wire.tool(CONFIGS, "--alter", "--entity-type", "topics", "--entity-name", topic,
                    "--add-config", "max.message.bytes=2500000", "--delete-config", "retention.ms")
                    .expect("Completed updating config for topic " + topic);
            Claims.until("the altered configs", () -> {
                String shown = wire.tool(CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", topic)
                        .expect().output();
                return shown.contains("max.message.bytes=2500000") && !shown.contains("retention.ms=");
            });
        }
    }

    /** Ottla's settings are configs of the same resource. */
    private void brokers() throws Exception {
        wire.tool(CONFIGS, "--describe", "--entity-type", "brokers", "--entity-default").expect("log.cleaner.threads=2");
        wire.tool(CONFIGS, "--alter", "--entity-type", "brokers", "--entity-default",
                "--add-config", "log.cleaner.threads=1,num.io.threads=6").expect("Completed updating default config");
        Claims.until("the altered default", () ->
                wire.tool(CONFIGS, "--describe", "--entity-type", "brokers", "--entity-default").expect().output()
                        .contains("log.cleaner.threads=1"));
        wire.tool(CONFIGS, "--describe", "--all", "--entity-type", "brokers", "--entity-name", "1").expect("num.io.threads=6");
    }

    private void transactions() throws Exception {
        try (KafkaProducer<String, String> producer = wire.producer(Map.of("transactional.id", "done-transaction"))) {
            producer.initTransactions();
            producer.beginTransaction();
            Wire.send(producer, "transactional", 2, "again", 10);
            Wire.send(producer, "born", 2, "again", 10);
            producer.sendOffsetsToTransaction(
                    Map.of(new TopicPartition("plain", 0), new OffsetAndMetadata(8, "again")),
                    new ConsumerGroupMetadata("of-transactions"));
            producer.commitTransaction();
            producer.beginTransaction();
            Wire.send(producer, "born", 2, "aborted again", 10);
            producer.abortTransaction();
        }
    }

    private void groups() throws Exception {
        TopicPartition first = new TopicPartition("plain", 0);
        try (KafkaConsumer<String, String> member =
                wire.consumer(Map.of("group.id", "idle-consumer", "group.protocol", "consumer"))) {
            member.subscribe(List.of("plain"));
            Claims.until("the assignment", () -> {
                member.poll(Duration.ofMillis(50));
                return member.assignment().size() == 4;
            });
            Claims.expectEqual(member.committed(Set.of(first)).get(first).offset(), 13L, "what was committed before Ottla");
            member.commitSync(Map.of(first, new OffsetAndMetadata(14, "after Ottla")));
        }
    }

    /** Records that were acknowledged before Ottla are not delivered again; records that Ottla received are. */
    private void shareGroups() throws Exception {
        if (!Live.hasShareGroups(wire)) {
            return;
        }
        List<String> values = new ArrayList<>();
        try (KafkaShareConsumer<String, String> member = Live.shareConsumer(wire, "idle-share")) {
            member.subscribe(List.of("codecs"));
            Claims.until("the records that Ottla took in", () -> {
                member.poll(Duration.ofMillis(100)).forEach(record -> values.add(record.key()));
                return values.size() >= 20;
            });
            member.commitSync();
        }
        Claims.expectEqual(values.size(), 20, "the number of records");
        Claims.expect(values.stream().allMatch(key -> key.startsWith("ottla-key")), "others are among " + values);
    }

    /** One of the topics is created again, and must not get the settings of the deleted one. */
    private void delete() throws Exception {
        try (Admin admin = Admin.create(wire.base())) {
            admin.deleteTopics(List.of("gone")).all().get();
            Claims.until("the topic again", () -> {
                try {
                    admin.createTopics(List.of(new NewTopic("gone", 1, (short) 1))).all().get();
                    return true;
                } catch (java.util.concurrent.ExecutionException exists) {
                    return false;
                }
            });
        }
        wire.send(Map.of(), "gone", 1, "again", 10);
    }
}
