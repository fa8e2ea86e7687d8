import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;

/**
 * Kafka Streams, at least once: counts records by key over a repartitioning and a store with a changelog, in two runs, of
 * which the second restores what the first stored. Arguments: bootstrap, input topic, output topic, directory of its
 * state, how many of each of ten keys there must be at the end. Prints the final counts.
 */
public final class CountKeys {
    private CountKeys() {
    }

    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "count-keys");
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[3]);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 200);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put("auto.offset.reset", "earliest");
        StreamsBuilder builder = new StreamsBuilder();
        KStream<String, String> input = builder.stream(arguments[1]);
        // The new key makes it repartition.
        input.map((key, value) -> KeyValue.pair("counted " + key, value))
                .groupByKey(Grouped.with(Serdes.String(), Serdes.String()))
                .count(Materialized.as("counts"))
                .toStream()
                .to(arguments[2], Produced.with(Serdes.String(), Serdes.Long()));
        long expected = Long.parseLong(arguments[4]);
        try (KafkaStreams streams = new KafkaStreams(builder.build(), settings)) {
            streams.start();
            Map<String, Long> counts = counts(arguments[0], arguments[2], expected);
            counts.entrySet().stream().sorted(Map.Entry.comparingByKey())
                    .forEach(entry -> System.out.println(entry.getKey() + " " + entry.getValue()));
        }
    }

    /** The last count of each key, once all ten have come to `expected`. */
    private static Map<String, Long> counts(String bootstrap, String topic, long expected) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        Map<String, Long> counts = new HashMap<>();
        try (KafkaConsumer<String, Long> reader =
                new KafkaConsumer<>(settings, new StringDeserializer(), new LongDeserializer())) {
            List<TopicPartition> partitions = reader.partitionsFor(topic).stream()
                    .map(partition -> new TopicPartition(topic, partition.partition())).toList();
            reader.assign(partitions);
            reader.seekToBeginning(partitions);
            long end = System.nanoTime() + Duration.ofMinutes(2).toNanos();
            while (counts.values().stream().filter(count -> count >= expected).count() < 10) {
                if (System.nanoTime() > end) {
                    throw new AssertionError("the counts came to " + counts);
                }
                for (ConsumerRecord<String, Long> record : reader.poll(Duration.ofMillis(200))) {
                    counts.put(record.key(), record.value());
                }
            }
        }
        return counts;
    }
}
