import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Apache Kafka's own command-line tools against a broker. Arguments: bootstrap, prefix. */
public final class ToolChecks {
    private static final String TOOLS = "org.apache.kafka.tools.";
    private static final String TOPICS = TOOLS + "TopicCommand";
    private static final String PRODUCER = TOOLS + "ConsoleProducer";
    private static final String CONSUMER = TOOLS + "consumer.ConsoleConsumer";
    private static final String FEATURES = TOOLS + "FeatureCommand";
    private static final String GROUPS = TOOLS + "consumer.group.ConsumerGroupCommand";
    private static final String CONFIGS = Tool.CONFIGS;
    private static final String OFFSETS = TOOLS + "GetOffsetShell";

    private final String bootstrap;
    private final String topic;
    private final String group;

    private ToolChecks(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.topic = prefix + "-topic";
        this.group = prefix + "-group";
    }

    public static void main(String[] arguments) {
        ToolChecks checks = new ToolChecks(arguments[0], arguments[1]);
        Claims claims = new Claims();
        if (Tool.IS_4_4) {
            // It creates a topic with a fixed name, so only one release at a time can run it.
            claims.add("client_compatibility_test", checks::clientCompatibility);
        }
        claims.add("kafka_broker_api_versions", checks::apiVersions);
        claims.add("kafka_topics", checks::topics);
        claims.add("kafka_console_producer_and_consumer", checks::console);
        claims.add("kafka_consumer_groups", checks::groups);
        claims.add("kafka_consumer_groups_resets_offsets", checks::resetOffsets);
        claims.add("kafka_configs", checks::configs);
        claims.add("kafka_configs_lists_users_and_clients", checks::users);
        claims.add("kafka_transactions_lists", checks::transactions);
        claims.add("kafka_log_dirs", checks::logDirs);
        claims.add("kafka_get_offsets", checks::offsets);
        claims.add("kafka_groups", checks::listGroups);
        claims.add("kafka_delete_records", checks::deleteRecords);
        claims.add("kafka_leader_election", checks::election);
        claims.add("kafka_reassign_partitions", checks::reassign);
        claims.add("kafka_metadata_quorum", checks::quorum);
        claims.add("kafka_features", checks::features);
        claims.add("kafka_cluster", checks::cluster);
        claims.add("kafka_producer_and_consumer_perf_test", checks::performance);
        claims.add("kafka_verifiable_producer_and_consumer", checks::verifiable);
        claims.add("kafka_topics_deletes", checks::deleteTopics);
        claims.run();
        System.exit(0);
    }

    private Tool.Result tool(String main, String... arguments) throws Exception {
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", bootstrap));
        all.addAll(List.of(arguments));
        return Tool.run(main, all.toArray(String[]::new));
    }

    /** It creates a topic with a fixed name, so it passes only once on each broker. */
    private void clientCompatibility() throws Exception {
        tool(TOOLS + "ClientCompatibilityTest",
                "--topic", topic + "-compatibility",
                "--num-cluster-nodes", "1",
                "--offsets-for-times-supported", "true",
                "--cluster-id-supported", "true",
                "--expect-record-too-large-exception", "false",
                "--create-topics-supported", "true",
                "--describe-acls-supported", "true",
                "--describe-configs-supported", "true",
                "--idempotent-producer-supported", "true").expect("SUCCESS.");
    }

    private void apiVersions() throws Exception {
        tool(TOOLS + "BrokerApiVersionsCommand").expect(
                "Produce(0): 0 to 13 [usable: 13]",
                "Fetch(1): 4 to 18 [usable: 18]",
                "ApiVersions(18): 0 to 5 [usable: " + (Tool.IS_4_4 ? 5 : 4) + "]",
                "OffsetCommit(8): 2 to 10 [usable: 10]",
                "DescribeTopicPartitions(75): 0 [usable: 0]");
    }

    private void topics() throws Exception {
        tool(TOPICS, "--create", "--topic", topic, "--partitions", "3", "--replication-factor", "1",
                "--config", "retention.ms=3600000").expect("Created topic " + topic);
        // A Kafka broker gets it after the controller has answered.
        Claims.until("the topic", () -> tool(TOPICS, "--list").output().contains(topic));
        tool(TOPICS, "--describe", "--topic", topic)
                .expect("PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=3600000", "Partition: 2", "Isr: 1");
        tool(TOPICS, "--alter", "--topic", topic, "--partitions", "4").expect();
        Claims.until("the fourth partition", () ->
                tool(TOPICS, "--describe", "--topic", topic).output().contains("PartitionCount: 4"));
        tool(TOPICS, "--create", "--topic", topic).expectFailure("already exists");
        tool(TOPICS, "--create", "--if-not-exists", "--topic", topic).expect();
        tool(TOPICS, "--describe", "--under-replicated-partitions").expect();
        tool(TOPICS, "--describe", "--topic", topic + "-none").expectFailure("does not exist");
    }

    private void console() throws Exception {
        String lines = "h1:a,h2:b\tk1\tone\nh1:c\tk2\ttwo\nh1:d\tk1\tthree\n";
        Tool.runWithInput(PRODUCER, lines, "--bootstrap-server", bootstrap, "--topic", topic,
                "--compression-codec", "zstd", "--reader-property", "parse.key=true",
                "--reader-property", "parse.headers=true").expect();
        tool(CONSUMER, "--topic", topic, "--from-beginning", "--max-messages", "3", "--timeout-ms", "20000",
                "--group", group, "--formatter-property", "print.key=true", "--formatter-property", "print.headers=true")
                .expect("h1:a,h2:b\tk1\tone", "h1:c\tk2\ttwo", "h1:d\tk1\tthree", "Processed a total of 3 messages");
        tool(CONSUMER, "--topic", topic, "--partition", "0", "--offset", "latest", "--timeout-ms", "500")
                .expect("Processed a total of 0 messages");
    }

    private void groups() throws Exception {
        tool(GROUPS, "--list").expect(group);
        tool(GROUPS, "--describe", "--group", group).expect("has no active members", "CURRENT-OFFSET", topic);
        tool(GROUPS, "--describe", "--group", group, "--state").expect("Empty");
        tool(GROUPS, "--describe", "--group", group, "--members").expect("has no active members");
        // The whole call fails when another client has just deleted a group.
        Claims.until("the group among all", () ->
                tool(GROUPS, "--describe", "--all-groups").output().contains(group + " "));
        tool(GROUPS, "--delete-offsets", "--group", group, "--topic", topic + ":0").expect("Successful");
    }

    private void resetOffsets() throws Exception {
        tool(GROUPS, "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute")
                .expect("NEW-OFFSET");
        tool(GROUPS, "--reset-offsets", "--group", group, "--topic", topic, "--to-datetime", "2020-01-01T00:00:00.000",
                "--dry-run").expect("NEW-OFFSET");
        tool(CONSUMER, "--topic", topic, "--max-messages", "3", "--timeout-ms", "20000", "--group", group)
                .expect("Processed a total of 3 messages");
        tool(GROUPS, "--delete", "--group", group).expect("was successful");
    }

    private void configs() throws Exception {
        tool(CONFIGS, "--alter", "--entity-type", "topics", "--entity-name", topic,
                "--add-config", "cleanup.policy=[delete,compact],max.message.bytes=5000", "--delete-config", "retention.ms")
                .expect("Completed updating config for topic " + topic);
        Claims.until("the altered config", () -> {
            String seen = tool(CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", topic).output();
            return seen.contains("cleanup.policy=delete,compact") && seen.contains("max.message.bytes=5000")
                    && !seen.contains("retention.ms=");
        });
        tool(CONFIGS, "--describe", "--all", "--entity-type", "topics", "--entity-name", topic).expect("segment.bytes=");
        tool(CONFIGS, "--describe", "--all", "--entity-type", "brokers", "--entity-name", "1").expect("log.dirs=");
        // The tools of another release run against the same broker, and delete this default at their end.
        Claims.until("the altered default", () -> {
            tool(CONFIGS, "--alter", "--entity-type", "brokers", "--entity-default", "--add-config", "log.cleaner.threads=2")
                    .expect();
            return tool(CONFIGS, "--describe", "--entity-type", "brokers", "--entity-default").output()
                    .contains("log.cleaner.threads=2");
        });
        tool(CONFIGS, "--alter", "--entity-type", "brokers", "--entity-default", "--delete-config", "log.cleaner.threads")
                .expect();
    }

    private void users() throws Exception {
        for (String entity : List.of("users", "clients", "ips")) {
            tool(CONFIGS, "--describe", "--entity-type", entity).expect();
        }
    }

    private void transactions() throws Exception {
        tool(TOOLS + "TransactionsCommand", "list").expect("TransactionalId");
    }

    private void logDirs() throws Exception {
        tool(TOOLS + "LogDirsCommand", "--describe", "--topic-list", topic)
                .expect("\"partition\":\"" + topic + "-3\"", "\"error\":null");
    }

    private void offsets() throws Exception {
        tool(OFFSETS, "--topic", topic, "--time", "-2").expect(topic + ":0:0", topic + ":3:0");
        String latest = tool(OFFSETS, "--topic", topic).expect().output();
        int total = latest.lines().filter(line -> line.startsWith(topic + ":"))
                .mapToInt(line -> Integer.parseInt(line.substring(line.lastIndexOf(':') + 1))).sum();
        Claims.expectEqual(total, 3, "the sum of the end offsets");
        tool(OFFSETS, "--topic", topic, "--time", "max-timestamp").expect(topic + ":");
    }

    private void listGroups() throws Exception {
        tool(TOOLS + "GroupsCommand", "--list").expect("GROUP", "PROTOCOL");
    }

    private String write(String name, String text) throws Exception {
        return Files.writeString(Files.createTempFile(name, ".json"), text).toString();
    }

    private void deleteRecords() throws Exception {
        tool(TOPICS, "--create", "--topic", topic + "-delete", "--partitions", "1").expect();
        Tool.runWithInput(PRODUCER, "a\nb\nc\n", "--bootstrap-server", bootstrap, "--topic", topic + "-delete").expect();
        String file = write("delete", "{\"version\":1,\"partitions\":[{\"topic\":\"" + topic
                + "-delete\",\"partition\":0,\"offset\":2}]}");
        tool(TOOLS + "DeleteRecordsCommand", "--offset-json-file", file).expect("low_watermark: 2");
        Files.delete(Path.of(file));
    }

    private void election() throws Exception {
        tool(TOOLS + "LeaderElectionCommand", "--election-type", "preferred", "--topic", topic, "--partition", "0")
                .expect("Valid replica already elected");
    }

    private void reassign() throws Exception {
        String file = write("reassign", "{\"version\":1,\"partitions\":[{\"topic\":\"" + topic
                + "\",\"partition\":0,\"replicas\":[1]}]}");
        String command = TOOLS + "reassign.ReassignPartitionsCommand";
        tool(command, "--reassignment-json-file", file, "--execute").expect("Successfully started");
        tool(command, "--reassignment-json-file", file, "--verify").expect("is completed");
        tool(command, "--list").expect("No partition reassignments found");
        Files.delete(Path.of(file));
    }

    private void quorum() throws Exception {
        String quorum = TOOLS + "MetadataQuorumCommand";
        Tool.Result status = tool(quorum, "describe", "--status");
        status.expect("LeaderId:", "CurrentVoters:");
        tool(quorum, "describe", "--replication").expect("Leader");
        Matcher endpoint = Pattern.compile("[A-Z]+://([^\"]+)").matcher(status.output());
        Claims.expect(endpoint.find(), "no endpoint of the controller");
        String controller = endpoint.group(1);
        Tool.run(quorum, "--bootstrap-controller", controller, "describe", "--status").expect("LeaderId:");
        Tool.run(quorum, "--bootstrap-controller", controller, "describe", "--replication").expect("Leader");
        Tool.run(FEATURES, "--bootstrap-controller", controller, "describe").expect("Feature: metadata.version");
    }

    private void features() throws Exception {
        tool(FEATURES, "describe").expect("Feature: metadata.version");
        tool(FEATURES, "upgrade", "--feature", "metadata.version=30").expect("metadata.version was upgraded to 30.");
        tool(FEATURES, "upgrade", "--dry-run", "--feature", "metadata.version=30")
                .expect("metadata.version can be upgraded to 30.");
        tool(FEATURES, "upgrade", "--feature", "metadata.version=99").expectFailure("only supports versions 7-3");
        tool(FEATURES, "downgrade", "--feature", "metadata.version=22")
                .expectFailure("Refusing to perform the requested downgrade");
        tool(FEATURES, "upgrade", "--feature", "nothing=1").expectFailure("does not support this feature");
        tool(FEATURES, "disable", "--feature", "nothing").expectFailure("Feature nothing not found.");
    }

    private void cluster() throws Exception {
        Claims.expect(Tool.run(TOOLS + "ClusterTool", "cluster-id", "--bootstrap-server", bootstrap).output()
                .contains("Cluster ID: "), "no cluster id");
    }

    private void performance() throws Exception {
        String name = topic + "-performance";
        tool(TOPICS, "--create", "--topic", name, "--partitions", "2").expect();
        tool(TOOLS + "ProducerPerformance", "--topic", name, "--num-records", "5000", "--record-size", "1000",
                "--throughput", "-1", "--command-property", "compression.type=lz4").expect("5000 records sent");
        tool(TOOLS + "ConsumerPerformance", "--topic", name, "--num-records", "5000", "--timeout", "20000").expect("5000");
    }

    private void verifiable() throws Exception {
        String name = topic + "-verifiable";
        tool(TOPICS, "--create", "--topic", name, "--partitions", "1").expect();
        // It prints the acknowledgements only when its process ends, so the consumer is the proof.
        tool(TOOLS + "VerifiableProducer", "--topic", name, "--max-messages", "50", "--acks", "-1")
                .expect("startup_complete");
        tool(TOOLS + "VerifiableConsumer", "--topic", name, "--group-id", group + "-verifiable", "--max-messages", "50",
                "--reset-policy", "earliest", "--group-protocol", "classic").expect("\"success\":true");
    }

    private void deleteTopics() throws Exception {
        tool(TOPICS, "--delete", "--topic", topic).expect();
        Claims.until("the deletion", () -> !tool(TOPICS, "--list").output().lines().anyMatch(topic::equals));
        tool(TOPICS, "--delete", "--topic", topic).expectFailure("does not exist");
    }
}
