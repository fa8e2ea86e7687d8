import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.Metric;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A consumer with a rack, which reads one partition from its start.
 *
 * <p>Arguments: BOOTSTRAP TOPIC RACK. After each poll it prints the next offset, and the replica other than the leader from
 * which it reads, or -1.
 */
final class RackReader {
    public static void main(String[] arguments) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("client.rack", arguments[2]);
        properties.put("auto.offset.reset", "none");
        TopicPartition partition = new TopicPartition(arguments[1], 0);
        StringDeserializer text = new StringDeserializer();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties, text, text)) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, 0);
            long next = 0;
            while (true) {
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    if (record.offset() != next) {
                        throw new IllegalStateException("offset " + record.offset() + " follows " + (next - 1));
                    }
                    next++;
                }
                System.out.println(next + " " + replica(consumer));
            }
        }
    }

    private static int replica(KafkaConsumer<?, ?> consumer) {
        for (Metric metric : consumer.metrics().values()) {
            if (metric.metricName().name().equals("preferred-read-replica")) {
                return (Integer) metric.metricValue();
            }
        }
        return -1;
    }
}
