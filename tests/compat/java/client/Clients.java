import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The producers and consumers of the checks, and their records. */
final class Clients {
    /** An hour ago, so that neither retention nor the limit on early records applies. */
    static final long START = System.currentTimeMillis() / 1000 * 1000 - 3_600_000;

    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");

    private final String bootstrap;
    private final String prefix;

    Clients(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
    }

    String name(String of) {
        return prefix + "-" + of;
    }

    Properties base() {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("client.id", "java");
        return properties;
    }

    /** Keys, a null key, a null value, headers, own timestamps. */
    static List<ProducerRecord<byte[], byte[]>> records(String topic, int count) {
        List<ProducerRecord<byte[], byte[]>> made = new ArrayList<>();
        for (int index = 0; index < count; index++) {
            byte[] key = index % 10 == 9 ? null : bytes("key-" + index % 7);
            byte[] value = index % 10 == 8 ? null : bytes("value-" + index + "-" + "x".repeat(200));
            made.add(new ProducerRecord<>(topic, index % 3, START + index * 1000L, key, value, List.of(
                    new RecordHeader("index", bytes(String.valueOf(index))),
                    new RecordHeader("same", bytes("1")),
                    new RecordHeader("same", bytes("2")),
                    new RecordHeader("null", (byte[]) null))));
        }
        return made;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    KafkaProducer<byte[], byte[]> producer(Map<String, ?> settings) {
        Properties properties = base();
        properties.putAll(settings);
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** Produces all records; returns the broker's answers. */
    List<RecordMetadata> produce(List<ProducerRecord<byte[], byte[]>> records, Map<String, ?> settings) throws Exception {
        List<RecordMetadata> answers = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(settings)) {
            List<Future<RecordMetadata>> waiting = new ArrayList<>();
            records.forEach(record -> waiting.add(producer.send(record)));
            for (Future<RecordMetadata> answer : waiting) {
                answers.add(answer.get());
            }
        }
        return answers;
    }

    KafkaConsumer<byte[], byte[]> consumer(String group, Map<String, ?> settings) {
        Properties properties = base();
        properties.put("group.id", name(group));
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        properties.put("session.timeout.ms", "10000");
        properties.put("heartbeat.interval.ms", "300");
        properties.putAll(settings);
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Consumes exactly `count` records. */
    static List<ConsumerRecord<byte[], byte[]>> take(KafkaConsumer<byte[], byte[]> reader, int count) throws Exception {
        List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
        Claims.until("consuming " + count + " records", () -> {
            reader.poll(Duration.ofMillis(200)).forEach(found::add);
            return found.size() >= count;
        });
        Claims.expectEqual(found.size(), count, "the number of records");
        return found;
    }

    List<ConsumerRecord<byte[], byte[]>> fromStart(String topic, int count, Map<String, ?> settings) throws Exception {
        try (KafkaConsumer<byte[], byte[]> reader = consumer("reads-" + topic, settings)) {
            reader.subscribe(List.of(topic));
            return take(reader, count);
        }
    }

    static void expectSame(List<ProducerRecord<byte[], byte[]>> sent, List<ConsumerRecord<byte[], byte[]>> found) {
        for (int partition = 0; partition < 3; partition++) {
            int of = partition;
            List<String> want = sent.stream().filter(record -> record.partition() == of).map(Clients::text).toList();
            List<String> got = found.stream().filter(record -> record.partition() == of).map(Clients::text).toList();
            Claims.expectEqual(got, want, "partition " + partition);
        }
    }

    private static String text(ProducerRecord<byte[], byte[]> record) {
        return text(record.key()) + text(record.value()) + List.of(record.headers().toArray()) + record.timestamp();
    }

    private static String text(ConsumerRecord<byte[], byte[]> record) {
        return text(record.key()) + text(record.value()) + List.of(record.headers().toArray()) + record.timestamp();
    }

    private static String text(byte[] bytes) {
        return Objects.isNull(bytes) ? "null" : new String(bytes, StandardCharsets.UTF_8);
    }

    /** A group member that polls in its own thread, like an application, until it must leave. */
    final class Member {
        private final KafkaConsumer<byte[], byte[]> reader;
        private final Thread thread = new Thread(this::poll);
        private volatile boolean leaving;
        private volatile int owned;
        private volatile RuntimeException failure;

        Member(String group, String topic, Map<String, ?> settings) {
            reader = consumer(group, settings);
            reader.subscribe(List.of(topic));
            thread.start();
        }

        private void poll() {
            try (reader) {
                while (!leaving) {
                    reader.poll(Duration.ofMillis(50));
                    owned = reader.assignment().size();
                }
            } catch (RuntimeException error) {
                failure = error;
            }
        }

        int owned() {
            if (failure != null) {
                throw failure;
            }
            return owned;
        }

        void leave() throws InterruptedException {
            leaving = true;
            thread.join();
        }
    }
}
