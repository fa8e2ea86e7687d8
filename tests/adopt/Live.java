import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Live state while Kafka stops: members of groups, and an open transaction. */
final class Live {
    private interface Step {
        void take() throws Exception;
    }

    private final Wire wire;
    private final List<Thread> members = new ArrayList<>();
    private final CountDownLatch over = new CountDownLatch(1);
    private KafkaProducer<String, String> producer;

    Live(Wire wire) {
        this.wire = wire;
    }

    static boolean hasShareGroups(Wire wire) throws Exception {
        try (Admin admin = Admin.create(wire.base())) {
            return admin.describeFeatures().featureMetadata().get().finalizedFeatures().containsKey("share.version");
        }
    }

    void claims(Claims claims) {
        claims.add("opens_a_transaction", this::transaction);
        claims.add("opens_groups", this::groups);
    }

    private void transaction() throws Exception {
        producer = wire.producer(Map.of("transactional.id", "live-transaction", "transaction.timeout.ms", "600000"));
        producer.initTransactions();
        producer.beginTransaction();
        Wire.send(producer, "transactional", 2, "live", 3);
    }

    private void groups() throws Exception {
        CountDownLatch joined = new CountDownLatch(hasShareGroups(wire) ? 2 : 1);
        start(() -> consume(joined));
        if (joined.getCount() > 1) {
            start(() -> share(joined));
        }
        Claims.until("the members", () -> joined.getCount() == 0);
    }

    private void start(Step member) {
        Thread thread = new Thread(() -> {
            try {
                member.take();
            } catch (Exception error) {
                error.printStackTrace();
            }
        });
        members.add(thread);
        thread.start();
    }

    private void consume(CountDownLatch joined) {
        Map<String, String> settings = Map.of("group.id", "live-consumer", "group.protocol", "consumer");
        try (KafkaConsumer<String, String> member = wire.consumer(settings)) {
            member.subscribe(List.of("codecs"));
            boolean isIn = false;
            while (over.getCount() > 0) {
                member.poll(Duration.ofMillis(50));
                if (!isIn && !member.assignment().isEmpty()) {
                    isIn = true;
                    joined.countDown();
                }
            }
        }
    }

    static KafkaShareConsumer<String, String> shareConsumer(Wire wire, String group) {
        Properties properties = wire.base();
        properties.put("group.id", group);
        return new KafkaShareConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
    }

    private void share(CountDownLatch joined) {
        try (KafkaShareConsumer<String, String> member = shareConsumer(wire, "live-share")) {
            member.subscribe(List.of("codecs"));
            boolean isIn = false;
            while (over.getCount() > 0) {
                if (member.poll(Duration.ofMillis(50)).count() > 0 && !isIn) {
                    isIn = true;
                    joined.countDown();
                }
            }
        }
    }

    /** Ends all of it, as the error message of the refused start says. */
    void release(Claims claims) {
        claims.add("ends_the_transaction", () -> {
            producer.commitTransaction();
            producer.close();
        });
        claims.add("ends_the_groups", () -> {
            over.countDown();
            for (Thread member : members) {
                member.join();
            }
            try (Admin admin = Admin.create(wire.base())) {
                Claims.until("empty groups", () -> admin.listGroups().all().get().stream()
                        .filter(group -> group.groupId().startsWith("live-"))
                        .map(GroupListing::groupState)
                        .allMatch(state -> Objects.equals(state.orElseThrow(), GroupState.EMPTY)));
            }
        });
    }
}
