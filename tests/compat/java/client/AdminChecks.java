import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupListing;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.IllegalSaslStateException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.ResourceNotFoundException;
import org.apache.kafka.common.errors.SecurityDisabledException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.quota.ClientQuotaFilter;

/** Checks with the Java admin client on a cluster of one node. */
final class AdminChecks {
    private final Clients clients;
    private final Admin admin;

    AdminChecks(Clients clients, Admin admin) {
        this.clients = clients;
        this.admin = admin;
    }

    void addTo(Claims claims) {
        claims.add("admin_creates_and_describes_topics", this::topics);
        claims.add("admin_describes_and_alters_topic_configs", this::topicConfigs);
        claims.add("admin_describes_and_alters_broker_configs", this::brokerConfigs);
        claims.add("admin_adds_partitions", this::partitions);
        claims.add("admin_describes_the_cluster", this::cluster);
        claims.add("admin_lists_elections_and_reassignments", this::placement);
        claims.add("acls_are_answered_as_disabled", this::acls);
        claims.add("users_quotas_and_transactions_are_listed", this::lists);
        claims.add("a_client_with_sasl_is_told_that_there_is_none", this::sasl);
    }

    /** Checks that need the topics and groups of the client checks. */
    void addLast(Claims claims) {
        claims.add("admin_lists_offsets", this::offsets);
        claims.add("admin_describes_log_dirs_and_producers", this::disks);
        claims.add("admin_lists_describes_and_deletes_groups", this::groups);
        claims.add("records_are_deleted_up_to_an_offset", this::deleteRecords);
        claims.add("admin_deletes_topics_by_name_and_id", this::deleteTopics);
    }

    private TopicDescription described(String name) throws Exception {
        return admin.describeTopics(List.of(clients.name(name))).allTopicNames().get().get(clients.name(name));
    }

    private void create(NewTopic topic) throws Exception {
        admin.createTopics(List.of(topic)).all().get();
    }

    private void topics() throws Exception {
        String name = clients.name("admin");
        NewTopic topic = new NewTopic(name, 3, (short) 1).configs(Map.of("retention.ms", "3600000"));
        var created = admin.createTopics(List.of(topic));
        Claims.expectEqual(created.numPartitions(name).get(), 3, "the partitions created");
        Claims.expectEqual(created.config(name).get().get("retention.ms").value(), "3600000", "the config created");
        TopicDescription description = described("admin");
        Claims.expectEqual(description.topicId(), created.topicId(name).get(), "the topic id");
        Claims.expectEqual(description.partitions().size(), 3, "the partitions described");
        Claims.expect(admin.listTopics().names().get().contains(name), "the topic is not listed");
        Claims.expectError(TopicExistsException.class, () -> create(topic));
        create(new NewTopic(clients.name("assigned"), Map.of(0, List.of(description.partitions().get(0).leader().id()))));
        Claims.expectError(InvalidConfigurationException.class,
                () -> create(new NewTopic(clients.name("wrong"), 1, (short) 1).configs(Map.of("no.such.key", "1"))));
        Claims.expectError(UnknownTopicOrPartitionException.class, () -> described("wrong"));
    }

    private ConfigResource topicResource() {
        return new ConfigResource(ConfigResource.Type.TOPIC, clients.name("admin"));
    }

    private Config config(ConfigResource resource) throws Exception {
        var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        return admin.describeConfigs(List.of(resource), options).all().get().get(resource);
    }

    private void alter(ConfigResource resource, AlterConfigOp... changes) throws Exception {
        admin.incrementalAlterConfigs(Map.<ConfigResource, Collection<AlterConfigOp>>of(resource, List.of(changes)))
                .all().get();
    }

    private static AlterConfigOp change(AlterConfigOp.OpType operation, String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), operation);
    }

    private void topicConfigs() throws Exception {
        ConfigEntry policy = config(topicResource()).get("cleanup.policy");
        Claims.expectEqual(policy.source(), ConfigEntry.ConfigSource.DEFAULT_CONFIG, "the source of cleanup.policy");
        Claims.expectEqual(policy.type(), ConfigEntry.ConfigType.LIST, "the type of cleanup.policy");
        Claims.expect(policy.documentation() != null && !policy.synonyms().isEmpty(), "no documentation or synonyms");
        alter(topicResource(),
                change(AlterConfigOp.OpType.SET, "max.message.bytes", "2000"),
                change(AlterConfigOp.OpType.DELETE, "retention.ms", null),
                change(AlterConfigOp.OpType.APPEND, "cleanup.policy", "compact"));
        Claims.until("the altered config", () -> {
            Config after = config(topicResource());
            return after.get("max.message.bytes").value().equals("2000")
                    && after.get("max.message.bytes").source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG
                    && after.get("retention.ms").value().equals("604800000")
                    && after.get("cleanup.policy").value().equals("delete,compact");
        });
        alter(topicResource(), change(AlterConfigOp.OpType.SUBTRACT, "cleanup.policy", "delete"));
        Claims.until("the subtracted config", () -> config(topicResource()).get("cleanup.policy").value().equals("compact"));
        Claims.expectError(InvalidConfigurationException.class,
                () -> alter(topicResource(), change(AlterConfigOp.OpType.SET, "retention.ms", "soon")));
    }

    private void brokerConfigs() throws Exception {
        int node = admin.describeCluster().nodes().get().iterator().next().id();
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, String.valueOf(node));
        Claims.expect(config(broker).get("log.dirs").isReadOnly(), "log.dirs is not read-only");
        alter(broker, change(AlterConfigOp.OpType.SET, "log.cleaner.threads", "2"));
        Claims.until("the altered broker config", () -> {
            ConfigEntry threads = config(broker).get("log.cleaner.threads");
            return threads.value().equals("2") && threads.source() == ConfigEntry.ConfigSource.DYNAMIC_BROKER_CONFIG;
        });
        alter(broker, change(AlterConfigOp.OpType.DELETE, "log.cleaner.threads", null));
        Claims.until("the default again", () -> config(broker).get("log.cleaner.threads").value().equals("1"));
    }

    private void partitions() throws Exception {
        admin.createPartitions(Map.of(clients.name("admin"), NewPartitions.increaseTo(5))).all().get();
        Claims.until("five partitions", () -> described("admin").partitions().size() == 5);
        Claims.expectError(InvalidPartitionsException.class,
                () -> admin.createPartitions(Map.of(clients.name("admin"), NewPartitions.increaseTo(2))).all().get());
    }

    private void cluster() throws Exception {
        DescribeClusterResult cluster = admin.describeCluster();
        Claims.expectEqual(cluster.nodes().get().size(), 1, "the number of nodes");
        Claims.expect(cluster.clusterId().get().length() == 22, "the cluster id is " + cluster.clusterId().get());
        Claims.expect(cluster.controller().get() != null, "no controller");
        Claims.expect(admin.describeMetadataQuorum().quorumInfo().get().voters().size() == 1, "not one voter");
        var features = admin.describeFeatures().featureMetadata().get().finalizedFeatures();
        Claims.expect(features.get("metadata.version").maxVersionLevel() >= 25, "features " + features);
    }

    private void placement() throws Exception {
        Claims.expect(admin.listPartitionReassignments().reassignments().get().isEmpty(), "something is reassigned");
        Set<TopicPartition> one = Set.of(new TopicPartition(clients.name("admin"), 0));
        var elected = admin.electLeaders(ElectionType.PREFERRED, one).partitions().get();
        Throwable answer = elected.values().iterator().next().orElse(null);
        Claims.expect(answer instanceof ElectionNotNeededException, "the election answered " + answer);
    }

    private void acls() throws Exception {
        Claims.expectError(SecurityDisabledException.class, () -> admin.describeAcls(AclBindingFilter.ANY).values().get());
    }

    private void lists() throws Exception {
        Claims.expectEqual(admin.describeUserScramCredentials().all().get().size(), 0, "the number of users");
        var named = admin.describeUserScramCredentials(List.of("nobody"));
        Claims.expectError(ResourceNotFoundException.class, () -> named.description("nobody").get());
        Claims.expectEqual(admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get().size(), 0, "the quotas");
        // Other checks may have started transactions, but none with this producer id.
        var options = new ListTransactionsOptions().filterProducerIds(Set.of(1L << 40));
        Claims.expectEqual(admin.listTransactions(options).all().get().size(), 0, "the number of transactions");
    }

    private void sasl() throws Exception {
        Properties settings = clients.base();
        settings.put("security.protocol", "SASL_PLAINTEXT");
        settings.put("sasl.mechanism", "PLAIN");
        settings.put("sasl.jaas.config", "org.apache.kafka.common.security.plain.PlainLoginModule required "
                + "username=\"u\" password=\"p\";");
        try (Admin authenticating = Admin.create(settings)) {
            Claims.expectError(IllegalSaslStateException.class, () -> authenticating.describeCluster().nodes().get());
        }
    }

    private void offsets() throws Exception {
        TopicPartition partition = new TopicPartition(clients.name("codec-none"), 0);
        var newest = admin.listOffsets(Map.of(partition, OffsetSpec.maxTimestamp())).partitionResult(partition).get();
        Claims.expectEqual(newest.offset(), 9L, "the offset of the largest timestamp");
        Claims.expectEqual(newest.timestamp(), Clients.START + 27_000, "the largest timestamp");
        var after = admin.listOffsets(Map.of(partition, OffsetSpec.forTimestamp(Clients.START + 3_600_000 * 2)))
                .partitionResult(partition).get();
        Claims.expectEqual(after.offset(), -1L, "the offset of a time to come");
    }

    private void disks() throws Exception {
        int node = admin.describeCluster().nodes().get().iterator().next().id();
        TopicPartition partition = new TopicPartition(clients.name("idempotent"), 0);
        var directories = admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node).values();
        long size = directories.stream().map(directory -> directory.replicaInfos().get(partition))
                .filter(replica -> replica != null).mapToLong(replica -> replica.size()).sum();
        Claims.expect(size > 1000, "the log has " + size + " bytes");
        Claims.expect(directories.iterator().next().totalBytes().isPresent(), "the size of the disk is not told");
        var producers = admin.describeProducers(List.of(partition)).partitionResult(partition).get().activeProducers();
        Claims.expectEqual(producers.size(), 1, "the number of producers");
        Claims.expectEqual(producers.get(0).lastSequence(), 99, "the last sequence");
    }

    private void groups() throws Exception {
        String group = clients.name("commit");
        Collection<ConsumerGroupListing> listed = admin.listConsumerGroups().valid().get();
        Claims.expect(listed.stream().anyMatch(one -> one.groupId().equals(group)), "the group is not listed");
        var description = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        Claims.expectEqual(description.state().toString(), "Empty", "the state");
        TopicPartition partition = new TopicPartition(clients.name("commit"), 0);
        admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(2))).all().get();
        var offsets = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        Claims.expectEqual(offsets.get(partition).offset(), 2L, "the altered offset");
        admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all().get();
        Claims.expect(!admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().containsKey(partition),
                "the offset was not deleted");
        Clients.Member member = clients.new Member("commit", clients.name("commit"), Map.of());
        Claims.until("a member", () -> member.owned() == 3);
        Claims.expectError(GroupNotEmptyException.class, () -> admin.deleteConsumerGroups(List.of(group)).all().get());
        var live = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        Claims.expectEqual(live.members().iterator().next().assignment().topicPartitions().size(), 3, "the assignment");
        member.leave();
        Claims.until("the empty group", () ->
                admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().isEmpty());
        admin.deleteConsumerGroups(List.of(group)).all().get();
    }

    private void deleteRecords() throws Exception {
        TopicPartition partition = new TopicPartition(clients.name("codec-gzip"), 0);
        var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(6)));
        Claims.expectEqual(deleted.lowWatermarks().get(partition).get().lowWatermark(), 6L, "the low watermark");
        var earliest = admin.listOffsets(Map.of(partition, OffsetSpec.earliest())).partitionResult(partition).get();
        Claims.expectEqual(earliest.offset(), 6L, "the first offset");
    }

    private void deleteTopics() throws Exception {
        var id = described("assigned").topicId();
        admin.deleteTopics(org.apache.kafka.common.TopicCollection.ofTopicIds(List.of(id))).all().get();
        admin.deleteTopics(List.of(clients.name("admin"))).all().get();
        Claims.until("the deletion", () -> !admin.listTopics().names().get().contains(clients.name("admin")));
        Claims.expectError(UnknownTopicOrPartitionException.class,
                () -> admin.deleteTopics(List.of(clients.name("admin"))).all().get());
    }
}
