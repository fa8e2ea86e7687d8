import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/**
 * An idempotent producer, a consumer and a member of a classic group that keep running during the whole journey. For them
 * each broker must look like the same one after a restart. Sequence numbers continue. Leader epochs never go back; otherwise
 * the clients would wait for ever. The group knows its member without a rebalance.
 */
final class Steady {
    static final String TOPIC = "steady";

    private final Wire wire;
    private final List<String> read = new ArrayList<>();
    private KafkaProducer<String, String> producer;
    private KafkaConsumer<String, String> consumer;
    private KafkaConsumer<String, String> member;
    private int taken;
    private int generation;
    private int sent;

    Steady(Wire wire) {
        this.wire = wire;
    }

    /** Sends more records, and must read exactly the records sent so far, in order. */
    void step() throws Exception {
        if (producer == null) {
            producer = wire.producer(Map.of());
            consumer = wire.consumer(Map.of("isolation.level", "read_committed"));
            consumer.assign(List.of(new TopicPartition(TOPIC, 0)));
            member = wire.consumer(Map.of("group.id", "steady-group", "group.protocol", "classic"));
            member.subscribe(List.of(TOPIC));
        }
        for (int more = 0; more < 7; more++) {
            long offset = producer.send(new ProducerRecord<>(TOPIC, 0, Wire.START + sent, "k", "v" + sent)).get().offset();
            Claims.expectEqual(offset, (long) sent, "the offset of record " + sent);
            sent++;
        }
        Claims.until("reading on", () -> {
            consumer.poll(Duration.ofMillis(100)).forEach(record -> read.add(record.offset() + record.value()));
            return read.size() >= sent;
        });
        for (int index = 0; index < sent; index++) {
            Claims.expectEqual(read.get(index), index + "v" + index, "record " + index);
        }
        Claims.expectEqual(read.size(), sent, "the number of records");
        stepInGroup();
    }

    private void stepInGroup() throws Exception {
        Claims.until("reading on as a member", () -> {
            taken += member.poll(Duration.ofMillis(100)).count();
            return taken >= sent;
        });
        Claims.expectEqual(taken, sent, "the number of records that the member got");
        member.commitSync();
        int now = member.groupMetadata().generationId();
        Claims.expectEqual(now, generation == 0 ? now : generation, "the generation");
        generation = now;
    }
}
