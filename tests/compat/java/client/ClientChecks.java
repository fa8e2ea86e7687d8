import static java.util.Map.entry;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** The Java client: one source for every release that the suite runs. Arguments: bootstrap, prefix. */
public final class ClientChecks {
    private final Clients clients;
    private final Admin admin;

    private ClientChecks(Clients clients, Admin admin) {
        this.clients = clients;
        this.admin = admin;
    }

    public static void main(String[] arguments) {
        Clients clients = new Clients(arguments[0], arguments[1]);
        Claims claims = new Claims();
        try (Admin admin = Admin.create(clients.base())) {
            new AdminChecks(clients, admin).addTo(claims);
            new ClientChecks(clients, admin).addTo(claims);
            new AdminChecks(clients, admin).addLast(claims);
            claims.run();
        }
        System.exit(0);
    }

    private void addTo(Claims claims) {
        claims.add("every_codec_comes_back_as_it_was_sent", this::codecs);
        claims.add("every_acks_is_answered", this::acks);
        claims.add("idempotent_producer_keeps_order", this::idempotent);
        if (majorRelease() >= 4) {
            claims.add("batches_behind_a_refused_first_one_wait_for_it", this::refusedFirstBatch);
        }
        claims.add("keys_are_partitioned_by_murmur2", this::partitioner);
        claims.add("producer_is_refused_a_record_too_large", this::tooLarge);
        claims.add("record_without_a_key_is_refused_on_a_compacted_topic", this::nullKey);
        claims.add("a_compacted_topic_keeps_the_newest_record_of_each_key", this::compaction);
        claims.add("timestamps_are_the_brokers_where_the_topic_says_so", this::logAppendTime);
        claims.add("producing_creates_the_topic", this::automatic);
        claims.add("group_resumes_from_its_commit", this::commit);
        claims.add("auto_commit_commits_what_was_polled", this::autoCommit);
        claims.add("eager_group_rebalances", () -> rebalance("RangeAssignor"));
        claims.add("cooperative_group_rebalances", () -> rebalance("CooperativeStickyAssignor"));
        claims.add("static_member_returns_to_its_partitions", this::staticMember);
        claims.add("offsets_are_found_by_time", this::offsets);
        claims.add("a_fetch_at_the_end_waits_for_the_next_record", this::longPoll);
        claims.add("transactions_work_or_are_refused_with_the_reason", this::transactions);
        claims.add("the_consumer_protocol_works_or_is_refused", this::consumerProtocol);
        claims.add("small_fetch_limits_still_return_every_record", this::smallFetches);
    }

    private void create(String name, int partitions, Map<String, String> configs) throws Exception {
        NewTopic topic = new NewTopic(clients.name(name), partitions, (short) 1).configs(configs);
        admin.createTopics(List.of(topic)).all().get();
    }

    private List<ProducerRecord<byte[], byte[]>> records(String name, int count) {
        return Clients.records(clients.name(name), count);
    }

    private void transactions() {
        try (KafkaProducer<byte[], byte[]> producer =
                clients.producer(Map.of("transactional.id", clients.name("transaction"), "max.block.ms", "40000"))) {
            producer.initTransactions();
        } catch (KafkaException error) {
            Claims.expect(error.getMessage().contains("transactions are not served"), "failed with " + error);
        }
    }

    private void consumerProtocol() throws Exception {
        create("consumer-protocol", 3, Map.of());
        clients.produce(records("consumer-protocol", 3), Map.of());
        Properties settings = clients.base();
        settings.putAll(Map.of("group.id", clients.name("consumer-protocol"), "group.protocol", "consumer",
                "auto.offset.reset", "earliest"));
        try (KafkaConsumer<byte[], byte[]> member =
                new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            member.subscribe(List.of(clients.name("consumer-protocol")));
            Clients.take(member, 3);
        } catch (UnsupportedVersionException refused) {
            // A broker may lack this protocol, but its clients must then fail at once.
        }
    }

    private void codecs() throws Exception {
        for (String codec : Clients.CODECS) {
            String name = "codec-" + codec;
            create(name, 3, Map.of());
            clients.produce(records(name, 30), Map.of("compression.type", codec, "linger.ms", "50", "acks", "all"));
            Clients.expectSame(records(name, 30), clients.fromStart(clients.name(name), 30, Map.of()));
        }
    }

    private void acks() throws Exception {
        create("acks", 3, Map.of());
        for (String acks : List.of("all", "1", "0")) {
            clients.produce(records("acks", 30), Map.of("acks", acks, "enable.idempotence", "false"));
        }
        clients.fromStart(clients.name("acks"), 90, Map.of());
    }

    private void idempotent() throws Exception {
        create("idempotent", 3, Map.of());
        List<ProducerRecord<byte[], byte[]>> sent = records("idempotent", 300);
        List<RecordMetadata> answers =
                clients.produce(sent, Map.of("enable.idempotence", "true", "batch.size", "2000", "linger.ms", "5"));
        List<Long> offsets = answers.stream().filter(answer -> answer.partition() == 0).map(RecordMetadata::offset).toList();
        Claims.expectEqual(offsets, IntStream.range(0, 100).mapToObj(Long::valueOf).toList(), "the offsets");
        Map<String, String> committed = Map.of("isolation.level", "read_committed");
        Clients.expectSame(sent, clients.fromStart(clients.name("idempotent"), 300, committed));
    }

    /** The client's release. Before 4 it splits only by `batch.size`, so a batch of that size is refused for ever. */
    private static int majorRelease() {
        Properties release = new Properties();
        try (InputStream file = ClientChecks.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            release.load(file);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return Integer.parseInt(release.getProperty("version").split("\\.")[0]);
    }

    /**
     * The first batch of a partition is too large and is split. The next batch, already in flight, must not be appended before it.
     * Apache Kafka before 4.5 fails this check: the records of the first batch time out (KAFKA-15591).
     */
    private void refusedFirstBatch() throws Exception {
        int partitions = 20;
        create("refused-first", partitions, Map.of("max.message.bytes", "3000"));
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) {
            for (int number = 0; number < 5; number++) {
                byte[] value = Clients.bytes(number + "x".repeat(1000));
                sent.add(new ProducerRecord<>(clients.name("refused-first"), partition, null, value));
            }
        }
        Map<String, String> settings = Map.of("enable.idempotence", "true", "batch.size", "4500", "linger.ms", "0",
                "max.in.flight.requests.per.connection", "5", "delivery.timeout.ms", "20000", "request.timeout.ms", "10000");
        List<RecordMetadata> answers = clients.produce(sent, settings);
        for (int index = 0; index < answers.size(); index++) {
            Claims.expectEqual(answers.get(index).offset(), (long) index % 5, "the offset of record " + index);
        }
    }

    /** The client chooses partitions from the metadata, so this check finds a broker with wrong partition indexes. */
    private void partitioner() throws Exception {
        create("keyed", 7, Map.of());
        List<ProducerRecord<byte[], byte[]>> keyed = IntStream.range(0, 100)
                .mapToObj(index -> new ProducerRecord<>(clients.name("keyed"), Clients.bytes("k" + index), new byte[0]))
                .toList();
        List<Integer> found = clients.produce(keyed, Map.of()).stream().map(RecordMetadata::partition).toList();
        List<Integer> wanted = keyed.stream()
                .map(record -> (org.apache.kafka.common.utils.Utils.murmur2(record.key()) & 0x7fffffff) % 7)
                .toList();
        Claims.expectEqual(found, wanted, "the partitions");
    }

    private void tooLarge() throws Exception {
        create("small", 3, Map.of("max.message.bytes", "2000"));
        var large = new ProducerRecord<byte[], byte[]>(clients.name("small"), 0, null, new byte[5000]);
        Claims.expectError(RecordTooLargeException.class, () -> clients.produce(List.of(large), Map.of()));
        Claims.expectError(InvalidTopicException.class, () -> clients.produce(Clients.records("not a name", 1), Map.of()));
    }

    private void nullKey() throws Exception {
        create("compacted", 3, Map.of("cleanup.policy", "compact"));
        var unkeyed = new ProducerRecord<byte[], byte[]>(clients.name("compacted"), 0, null, new byte[5]);
        Claims.expectError(org.apache.kafka.common.InvalidRecordException.class,
                () -> clients.produce(List.of(unkeyed), Map.of()));
    }

    /** Ten segments, with the codecs in turn; the last one is active and is not compacted. */
    private void compaction() throws Exception {
        create("compaction", 1, Map.of("cleanup.policy", "compact", "min.cleanable.dirty.ratio", "0.01",
                "segment.ms", "30000"));
        String topic = clients.name("compaction");
        for (int round = 0; round < 10; round++) {
            List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
            for (int key = 0; key < 20; key++) {
                boolean deleted = key == 7 && round >= 5;
                byte[] value = deleted ? null : Clients.bytes("round " + round);
                if (key != 7 || round <= 5) {
                    long timestamp = Clients.START + round * 60_000L + key;
                    records.add(new ProducerRecord<>(topic, 0, timestamp, Clients.bytes("key " + key), value));
                }
            }
            String codec = Clients.CODECS.get(round % Clients.CODECS.size());
            clients.produce(records, Map.of("compression.type", codec, "linger.ms", "50", "acks", "all"));
        }
        Claims.until("compaction", () -> all(topic).size() == 19 + 19 + 1);
        List<ConsumerRecord<byte[], byte[]>> left = all(topic);
        List<String> values = left.stream().map(record -> record.value() == null ? "gone" : new String(record.value())).toList();
        Claims.expectEqual(values.stream().filter("round 8"::equals).count(), 19L, "newest of what is closed");
        Claims.expectEqual(values.stream().filter("round 9"::equals).count(), 19L, "what is active");
        Claims.expectEqual(values.get(0), "gone", "the tombstone");
        Claims.expectEqual(left.get(0).offset(), 107L, "the offset of the tombstone");
    }

    /** Reads the topic's only partition. */
    private List<ConsumerRecord<byte[], byte[]>> all(String topic) {
        List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> reader = clients.consumer("reads-all", Map.of())) {
            TopicPartition partition = new TopicPartition(topic, 0);
            reader.assign(List.of(partition));
            reader.seekToBeginning(List.of(partition));
            long end = reader.endOffsets(List.of(partition)).get(partition);
            while (reader.position(partition) < end) {
                reader.poll(Duration.ofMillis(100)).forEach(found::add);
            }
        }
        return found;
    }

    private void logAppendTime() throws Exception {
        create("append-time", 3, Map.of("message.timestamp.type", "LogAppendTime"));
        clients.produce(records("append-time", 30), Map.of("compression.type", "lz4"));
        for (ConsumerRecord<byte[], byte[]> record : clients.fromStart(clients.name("append-time"), 30, Map.of())) {
            Claims.expect(record.timestamp() > Clients.START + 600_000, "timestamp " + record.timestamp());
            Claims.expectEqual(record.timestampType().toString(), "LogAppendTime", "the timestamp type");
        }
    }

    private void automatic() throws Exception {
        clients.produce(records("automatic", 1).subList(0, 1), Map.of());
    }

    private TopicPartition partition(String name, int index) {
        return new TopicPartition(clients.name(name), index);
    }

    private void commit() throws Exception {
        create("commit", 3, Map.of());
        clients.produce(records("commit", 30), Map.of());
        try (KafkaConsumer<byte[], byte[]> first = clients.consumer("commit", Map.of())) {
            first.subscribe(List.of(clients.name("commit")));
            Clients.take(first, 30);
            first.commitSync(Map.ofEntries(
                    entry(partition("commit", 0), new OffsetAndMetadata(4, Optional.of(0), "four")),
                    entry(partition("commit", 1), new OffsetAndMetadata(10)),
                    entry(partition("commit", 2), new OffsetAndMetadata(7))));
        }
        try (KafkaConsumer<byte[], byte[]> second = clients.consumer("commit", Map.of())) {
            second.subscribe(List.of(clients.name("commit")));
            List<ConsumerRecord<byte[], byte[]>> found = Clients.take(second, 9);
            Claims.expectEqual(found.stream().filter(record -> record.partition() == 0).count(), 6L, "partition 0");
            OffsetAndMetadata committed = second.committed(Set.of(partition("commit", 0))).get(partition("commit", 0));
            Claims.expectEqual(committed, new OffsetAndMetadata(4, Optional.of(0), "four"), "the commit");
        }
    }

    private void autoCommit() throws Exception {
        Map<String, String> settings = Map.of("enable.auto.commit", "true", "auto.commit.interval.ms", "100");
        try (KafkaConsumer<byte[], byte[]> reader = clients.consumer("auto-commit", settings)) {
            reader.subscribe(List.of(clients.name("commit")));
            Clients.take(reader, 30);
        }
        var offsets = admin.listConsumerGroupOffsets(clients.name("auto-commit")).partitionsToOffsetAndMetadata().get();
        Claims.expectEqual(offsets.get(partition("commit", 1)).offset(), 10L, "the committed offset");
    }

    private void rebalance(String assignor) throws Exception {
        create(assignor, 4, Map.of());
        Map<String, String> settings =
                Map.of("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor);
        Clients.Member first = clients.new Member(assignor, clients.name(assignor), settings);
        Claims.until("the first member owning all", () -> first.owned() == 4);
        Clients.Member second = clients.new Member(assignor, clients.name(assignor), settings);
        Claims.until("sharing the partitions", () -> first.owned() == 2 && second.owned() == 2);
        second.leave();
        Claims.until("the first member owning all again", () -> first.owned() == 4);
        first.leave();
    }

    private void staticMember() throws Exception {
        Map<String, String> settings = Map.of("group.instance.id", "one");
        for (int round = 0; round < 2; round++) {
            Clients.Member member = clients.new Member("static", clients.name("commit"), settings);
            Claims.until("the static member owning all", () -> member.owned() == 3);
            member.leave();
        }
        var members = admin.describeConsumerGroups(List.of(clients.name("static"))).all().get()
                .get(clients.name("static")).members();
        Claims.expectEqual(members.size(), 1, "the number of static members after leaving");
    }

    private void offsets() throws Exception {
        try (KafkaConsumer<byte[], byte[]> reader = clients.consumer("offsets", Map.of())) {
            Collection<TopicPartition> all = List.of(partition("codec-none", 0), partition("codec-none", 2));
            Claims.expect(reader.beginningOffsets(all).values().stream().allMatch(offset -> offset == 0), "beginnings");
            Claims.expect(reader.endOffsets(all).values().stream().allMatch(offset -> offset == 10), "ends");
            TopicPartition asked = partition("codec-none", 2);
            var found = reader.offsetsForTimes(Map.of(asked, Clients.START + 14_000)).get(asked);
            Claims.expectEqual(found.offset(), 4L, "the offset by time");
            Claims.expectEqual(found.timestamp(), Clients.START + 14_000, "its timestamp");
        }
    }

    private void longPoll() throws Exception {
        create("tail", 3, Map.of());
        try (KafkaConsumer<byte[], byte[]> reader = clients.consumer("tail", Map.of("fetch.max.wait.ms", "3000"))) {
            reader.assign(List.of(partition("tail", 0)));
            reader.poll(Duration.ofMillis(500));
            long start = System.nanoTime();
            clients.produce(records("tail", 1), Map.of());
            Clients.take(reader, 1);
            Claims.expect(System.nanoTime() - start < 2_000_000_000L, "the record came only when the fetch ran out");
        }
    }

    private void smallFetches() throws Exception {
        Map<String, String> settings =
                Map.of("fetch.max.bytes", "1", "max.partition.fetch.bytes", "1", "fetch.min.bytes", "100000",
                        "fetch.max.wait.ms", "20");
        String topic = clients.name("idempotent");
        try (KafkaConsumer<byte[], byte[]> reader = clients.consumer("small-fetches", settings)) {
            reader.subscribe(List.of(topic));
            Clients.expectSame(Clients.records(topic, 300), Clients.take(reader, 300));
        }
    }
}
