import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import java.util.function.Consumer;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Kafka's clients with the settings that all steps share. */
final class Wire {
    /** An hour ago, so that neither retention nor the limit on early records applies. */
    static final long START = System.currentTimeMillis() / 1000 * 1000 - 3_600_000;

    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");

    private final String bootstrap;

    Wire(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    Properties base() {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        return properties;
    }

    KafkaProducer<String, String> producer(Map<String, ?> settings) {
        Properties properties = base();
        properties.putAll(settings);
        return new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
    }

    KafkaConsumer<String, String> consumer(Map<String, ?> settings) {
        Properties properties = base();
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        properties.putAll(settings);
        return new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
    }

    /** Sends `count` records of `label` to each partition below `partitions`, and waits for the answers. */
    static List<RecordMetadata> send(
            KafkaProducer<String, String> producer, String topic, int partitions, String label, int count)
            throws Exception {
        List<Future<RecordMetadata>> waiting = new ArrayList<>();
        for (int index = 0; index < count; index++) {
            for (int partition = 0; partition < partitions; partition++) {
                String value = index % 10 == 9 ? null : label + "-" + index + "-" + "x".repeat(100);
                waiting.add(producer.send(new ProducerRecord<>(
                        topic, partition, START + index, label + "-key-" + index % 7, value,
                        List.of(new RecordHeader("label", label.getBytes(StandardCharsets.UTF_8))))));
            }
        }
        producer.flush();
        List<RecordMetadata> answers = new ArrayList<>();
        for (Future<RecordMetadata> answer : waiting) {
            answers.add(answer.get());
        }
        return answers;
    }

    List<RecordMetadata> send(Map<String, ?> settings, String topic, int partitions, String label, int count)
            throws Exception {
        try (KafkaProducer<String, String> producer = producer(settings)) {
            return send(producer, topic, partitions, label, count);
        }
    }

    /**
     * Sends a record of `key` to the compacted topic: each is a segment of its own, by its timestamp. Markers have the
     * time of day, and no segment that begins with one is rolled by what is older.
     */
    static void sendCompacted(KafkaProducer<String, String> producer, String key, String value, int step)
            throws Exception {
        producer.send(new ProducerRecord<>("compacted", 0, START + 4_000_000 + step * 10_000L, key, value)).get();
    }

    /** Reads the partitions from their starts to the ends they have now. */
    void read(Collection<TopicPartition> partitions, String isolation, Consumer<ConsumerRecord<String, String>> each) {
        try (KafkaConsumer<String, String> reader = consumer(Map.of("isolation.level", isolation))) {
            reader.assign(partitions);
            reader.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = reader.endOffsets(partitions);
            long limit = System.nanoTime() + 40_000_000_000L;
            while (ends.entrySet().stream().anyMatch(end -> reader.position(end.getKey()) < end.getValue())) {
                Claims.expect(System.nanoTime() < limit, "reading does not come to the ends " + ends);
                reader.poll(Duration.ofMillis(100)).forEach(each);
            }
        }
    }

    /** How many records of each key the compacted topic still holds. */
    Map<String, Integer> compactedCounts() {
        Map<String, Integer> counts = new HashMap<>();
        read(List.of(new TopicPartition("compacted", 0)), "read_uncommitted",
                record -> counts.merge(record.key(), 1, Integer::sum));
        return counts;
    }

    /** How many records of __consumer_offsets still hold an offset that was committed on Ottla. */
    int committedOnOttla() {
        List<TopicPartition> partitions = new ArrayList<>();
        for (int partition = 0; partition < 4; partition++) {
            partitions.add(new TopicPartition("__consumer_offsets", partition));
        }
        int[] count = {0};
        read(partitions, "read_uncommitted", record ->
                count[0] += record.value() != null && record.value().contains("on Ottla") ? 1 : 0);
        return count[0];
    }

    static void alter(Admin admin, ConfigResource resource, Map<String, String> values) throws Exception {
        List<AlterConfigOp> changes = values.entrySet().stream()
                .map(value -> new AlterConfigOp(
                        new ConfigEntry(value.getKey(), value.getValue()), AlterConfigOp.OpType.SET))
                .toList();
        admin.incrementalAlterConfigs(Map.of(resource, changes)).all().get();
    }

    static ConfigResource topic(String name) {
        return new ConfigResource(ConfigResource.Type.TOPIC, name);
    }

    static ConfigResource brokers(String name) {
        return new ConfigResource(ConfigResource.Type.BROKER, name);
    }

    Tool.Result tool(String main, String... arguments) throws Exception {
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", bootstrap));
        all.addAll(List.of(arguments));
        return Tool.run(main, all.toArray(String[]::new));
    }
}
