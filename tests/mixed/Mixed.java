import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/**
 * The client of a cluster of two brokers: 1 is Ottla's, and 2 is Kafka's. One has the controller, and the other joins.
 * Arguments: the addresses of both, that of the controller, and the id of the broker that joins. It reads one command per
 * line, prints a claim for each check and "done" after each command, and remembers what was acknowledged.
 */
public final class Mixed {
    private static final String BOTH = "both";
    private static final String ON_KAFKA = "on-kafka";

    private final String ottla;
    private final String kafka;
    private final String controller;
    private final String joiner;
    /** The values that were acknowledged, in order. */
    private final Map<TopicPartition, List<String>> acknowledged = new HashMap<>();
    private int rounds;

    private Mixed(String[] addresses) {
        ottla = addresses[0];
        kafka = addresses[1];
        controller = addresses[2];
        joiner = addresses[3];
    }

    public static void main(String[] arguments) throws Exception {
        Mixed mixed = new Mixed(arguments);
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            Claims claims = new Claims();
            mixed.command(line, claims);
            claims.run();
        }
        System.exit(0);
    }

    private void command(String command, Claims claims) {
        switch (command) {
            case "joined" -> joined(claims);
            case "forward" -> forward(claims);
            case "controller" -> controller(claims);
            case "returned" -> returned(claims);
            case "ottla-alone" -> alone(claims);
            case "unregister" -> unregister(claims);
            default -> throw new IllegalArgumentException("unknown command " + command);
        }
    }

    /** The second broker has joined for the first time. */
    private void joined(Claims claims) {
        claims.add("both_brokers_are_shown", () -> awaitBrokers(1, 2));
        claims.add("the_broker_that_joined_is_an_observer", () -> {
            for (String where : List.of("--bootstrap-server=" + ottla, "--bootstrap-server=" + kafka,
                    "--bootstrap-controller=" + controller)) {
                String[] address = where.split("=");
                Tool.Result shown = Tool.run("org.apache.kafka.tools.MetadataQuorumCommand",
                        address[0], address[1], "describe", "--replication").expect("Leader");
                boolean observes = shown.output().lines()
                        .anyMatch(line -> line.startsWith(joiner + " ") && line.contains("Observer"));
                Claims.expect(observes, where + " shows " + shown.output());
            }
        });
        claims.add("api_versions_of_both_are_shown", () ->
                Tool.run("org.apache.kafka.tools.BrokerApiVersionsCommand", "--bootstrap-server", ottla)
                        .expect("(id: 1 rack: null", "(id: 2 rack: null"));
        claims.add("topics_are_placed_as_asked", () -> {
            createWith(ottla, ON_KAFKA, "2");
            createWith(kafka, BOTH, "1:2,2:1");
            try (Admin admin = admin(ottla)) {
                Claims.until("the leader of " + ON_KAFKA, () -> leader(admin, ON_KAFKA, 0) == 2);
                Claims.until("the leader of both-0", () -> leader(admin, BOTH, 0) == 1);
                Claims.until("the leader of both-1", () -> leader(admin, BOTH, 1) == 2);
            }
        });
        claims.add("records_go_through_both", () -> {
            produce(ON_KAFKA, 1, ottla);
            produce(BOTH, 2, kafka);
            expectAll();
        });
        claims.add("replicas_of_both_are_in_sync", this::awaitInSync);
        claims.add("a_group_commits", this::group);
    }

    /** Admin requests by clients of the broker that joined, which forwards those that it gets. */
    private void forward(Claims claims) {
        String via = joiner.equals("1") ? ottla : kafka;
        claims.add("topics_are_changed", () -> {
            try (Admin admin = admin(via)) {
                admin.createTopics(List.of(new NewTopic("forwarded", 1, (short) 2))).all().get();
                admin.createPartitions(Map.of("forwarded", NewPartitions.increaseTo(3))).all().get();
                ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, "forwarded");
                ConfigEntry entry = new ConfigEntry("retention.ms", "7000");
                AlterConfigOp set = new AlterConfigOp(entry, AlterConfigOp.OpType.SET);
                admin.incrementalAlterConfigs(Map.of(topic, List.of(set))).all().get();
                Claims.until("the config", () -> admin.describeConfigs(List.of(topic)).all().get()
                        .get(topic).get("retention.ms").value().equals("7000"));
                Claims.expectEqual(describe(admin, "forwarded").partitions().size(), 3, "the number of partitions");
                admin.deleteTopics(List.of("forwarded")).all().get();
                Claims.until("the deletion", () -> !admin.listTopics().names().get().contains("forwarded"));
            }
        });
        claims.add("configs_of_the_broker_are_changed", () -> {
            try (Admin admin = admin(via)) {
                ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, joiner);
                AlterConfigOp set = new AlterConfigOp(
                        new ConfigEntry("log.cleaner.threads", "2"), AlterConfigOp.OpType.SET);
                admin.incrementalAlterConfigs(Map.of(broker, List.of(set))).all().get();
                Claims.until("the config", () -> admin.describeConfigs(List.of(broker)).all().get()
                        .get(broker).get("log.cleaner.threads").value().equals("2"));
            }
        });
        claims.add("topics_are_created_for_a_producer", () -> produce("made-by-produce", 1, via));
    }

    /** Tools that ask the controller itself. */
    private void controller(Claims claims) {
        claims.add("configs_are_changed_on_the_controller", () -> {
            Tool.run(Tool.CONFIGS, "--bootstrap-controller", controller, "--alter", "--entity-type", "topics",
                    "--entity-name", BOTH, "--add-config", "segment.ms=700000").expect();
            Tool.run(Tool.CONFIGS, "--bootstrap-server", kafka, "--describe", "--entity-type", "topics",
                    "--entity-name", BOTH).expect("segment.ms=700000");
            // Only brokers can be described on a controller.
            Tool.run(Tool.CONFIGS, "--bootstrap-controller", controller, "--describe", "--entity-type", "brokers",
                    "--entity-name", "1", "--all").expect("broker.session.timeout.ms=9000");
        });
        claims.add("features_are_described_on_the_controller", () ->
                Tool.run("org.apache.kafka.tools.FeatureCommand", "--bootstrap-controller", controller, "describe")
                        .expect("metadata.version"));
    }

    /** The broker of Kafka is there again. */
    private void returned(Claims claims) {
        claims.add("both_brokers_are_shown", () -> awaitBrokers(1, 2));
        claims.add("replicas_of_both_are_in_sync", this::awaitInSync);
        claims.add("preferred_leaders_are_elected", () -> {
            try (Admin admin = admin(ottla)) {
                TopicPartition second = new TopicPartition(BOTH, 1);
                if (leader(admin, BOTH, 1) != 2) {
                    admin.electLeaders(ElectionType.PREFERRED, Set.of(second)).partitions().get();
                }
                Claims.until("the preferred leader", () -> leader(admin, BOTH, 1) == 2);
            }
        });
        claims.add("records_go_through_both", () -> {
            produce(ON_KAFKA, 1, ottla);
            produce(BOTH, 2, kafka);
            expectAll();
        });
        claims.add("replicas_are_still_in_sync", this::awaitInSync);
        claims.add("a_group_commits", this::group);
    }

    /** The broker of Kafka has stopped or died. */
    private void alone(Claims claims) {
        claims.add("one_broker_is_shown", () -> awaitBrokers(1));
        claims.add("leaderships_have_moved", () -> {
            try (Admin admin = admin(ottla)) {
                for (TopicPartitionInfo partition : describe(admin, BOTH).partitions()) {
                    Claims.expectEqual(partition.leader().id(), 1, "the leader of " + partition);
                    Claims.expectEqual(ids(partition.isr()), Set.of(1), "the ISR of " + partition);
                }
                Claims.expect(leader(admin, ON_KAFKA, 0) < 0, "a topic of the other broker has a leader");
            }
        });
        claims.add("records_go_through_ottla", () -> {
            produce(BOTH, 2, ottla);
            expectAll(BOTH);
        });
    }

    private void unregister(Claims claims) {
        claims.add("a_broker_is_unregistered", () -> {
            Tool.run("org.apache.kafka.tools.ClusterTool", "unregister", "--bootstrap-server", ottla, "--id", "2")
                    .expect("is no longer registered");
            awaitBrokers(1);
        });
    }

    private static Admin admin(String bootstrap) {
        return Admin.create(new Wire(bootstrap).base());
    }

    private void awaitBrokers(Integer... ids) throws Exception {
        for (String bootstrap : ids.length == 2 ? List.of(ottla, kafka) : List.of(ottla)) {
            try (Admin admin = admin(bootstrap)) {
                Claims.until("brokers " + List.of(ids) + " at " + bootstrap,
                        () -> ids(admin.describeCluster().nodes().get()).equals(Set.of(ids)));
            }
        }
    }

    private void awaitInSync() throws Exception {
        for (String bootstrap : List.of(ottla, kafka)) {
            try (Admin admin = admin(bootstrap)) {
                Claims.until("replicas in sync at " + bootstrap, () -> describe(admin, BOTH).partitions().stream()
                        .allMatch(partition -> ids(partition.isr()).equals(Set.of(1, 2))));
            }
        }
    }

    private static void createWith(String bootstrap, String topic, String replicas) throws Exception {
        Tool.run("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", bootstrap, "--create", "--topic", topic,
                "--replica-assignment", replicas).expect("Created topic");
    }

    private static TopicDescription describe(Admin admin, String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get(30, TimeUnit.SECONDS).get(topic);
    }

    /** The leader, or -1 while the asked broker knows none: the topic may have been created through another one. */
    private static int leader(Admin admin, String topic, int partition) throws Exception {
        try {
            Node leader = describe(admin, topic).partitions().get(partition).leader();
            return leader == null ? -1 : leader.id();
        } catch (ExecutionException error) {
            if (error.getCause() instanceof UnknownTopicOrPartitionException) {
                return -1;
            }
            throw error;
        }
    }

    private static Set<Integer> ids(Collection<Node> nodes) {
        return nodes.stream().map(Node::id).collect(Collectors.toSet());
    }

    /** Sends 500 records to each partition, and waits until all are acknowledged. */
    private void produce(String topic, int partitions, String bootstrap) throws Exception {
        String label = "round" + rounds++;
        Wire wire = new Wire(bootstrap);
        wire.send(Map.of("acks", "all", "compression.type", "lz4"), topic, partitions, label, 500);
        for (int partition = 0; partition < partitions; partition++) {
            List<String> values = acknowledged.computeIfAbsent(
                    new TopicPartition(topic, partition), key -> new ArrayList<>());
            for (int index = 0; index < 500; index++) {
                values.add(index % 10 == 9 ? "null" : label + "-" + index + "-" + "x".repeat(100));
            }
        }
    }

    /** Everything that was acknowledged is there once, in order, from wherever a client begins. */
    private void expectAll(String... topics) {
        Set<String> names = topics.length == 0 ? Set.of(BOTH, ON_KAFKA) : Set.of(topics);
        List<TopicPartition> partitions = acknowledged.keySet().stream()
                .filter(partition -> names.contains(partition.topic())).toList();
        for (String bootstrap : topics.length == 0 ? List.of(ottla, kafka) : List.of(ottla)) {
            Map<TopicPartition, List<String>> found = new HashMap<>();
            new Wire(bootstrap).read(partitions, "read_uncommitted", record -> found.computeIfAbsent(
                    new TopicPartition(record.topic(), record.partition()), key -> new ArrayList<>())
                    .add(String.valueOf(record.value())));
            for (TopicPartition partition : partitions) {
                List<String> wanted = acknowledged.get(partition);
                Claims.expect(wanted.equals(found.get(partition)), partition + " at " + bootstrap + " has "
                        + (found.get(partition) == null ? 0 : found.get(partition).size())
                        + " records, not the " + wanted.size() + " that were acknowledged");
            }
        }
    }

    /** A group reads the topic as members of both brokers, and finds its offsets again. */
    private void group() throws Exception {
        for (String bootstrap : List.of(ottla, kafka)) {
            Map<String, String> settings = Map.of("group.id", "group" + rounds++);
            long read = 0;
            try (KafkaConsumer<String, String> consumer = new Wire(bootstrap).consumer(settings)) {
                consumer.subscribe(List.of(BOTH));
                long wanted = 2L * acknowledged.get(new TopicPartition(BOTH, 0)).size();
                long limit = System.nanoTime() + 40_000_000_000L;
                while (read < wanted) {
                    Claims.expect(System.nanoTime() < limit, "the group has read " + read + " of " + wanted);
                    read += consumer.poll(Duration.ofMillis(200)).count();
                }
                consumer.commitSync();
            }
            try (Admin admin = admin(bootstrap)) {
                long committed = admin.listConsumerGroupOffsets(settings.get("group.id"))
                        .partitionsToOffsetAndMetadata().get().values().stream()
                        .mapToLong(offset -> offset.offset()).sum();
                Claims.expectEqual(committed, read, "the sum of the committed offsets");
            }
        }
    }
}
