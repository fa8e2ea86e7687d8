import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Produces keys of all lengths up to 64 bytes, of text and of arbitrary bytes, and prints for each a line of JSON
 * for `ottla produce --input json`: the key, and as value the partition that the producer chose.
 */
public final class PlaceKeys {
    public static void main(String[] arguments) throws Exception {
        String topic = arguments[1];
        int count = Integer.parseInt(arguments[2]);
        Map<String, Object> config = Map.of("bootstrap.servers", arguments[0]);
        var serializer = new ByteArraySerializer();
        List<byte[]> keys = keys(count);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = new KafkaProducer<>(config, serializer, serializer)) {
            for (byte[] key : keys) {
                sent.add(producer.send(new ProducerRecord<>(topic, key, new byte[0])));
            }
        }
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < count; i++) {
            String key = Base64.getEncoder().encodeToString(keys.get(i));
            lines.append("{\"key\":{\"base64\":\"").append(key).append("\"},\"value\":\"")
                .append(sent.get(i).get().partition()).append("\"}\n");
        }
        System.out.print(lines);
    }

    private static List<byte[]> keys(int count) {
        Random random = new Random(4);
        List<byte[]> keys = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            if (i % 4 == 0) {
                keys.add(Integer.toString(i).getBytes(StandardCharsets.UTF_8));
            } else if (i % 4 == 1) {
                keys.add(("Schlüssel-" + i + "-ключ").getBytes(StandardCharsets.UTF_8));
            } else {
                byte[] key = new byte[i % 65];
                random.nextBytes(key);
                keys.add(key);
            }
        }
        return keys;
    }
}
