import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaFilter;

/**
 * Everything in the directory as a broker shows it, as text in named sections. The next broker must show the same; a
 * section that only Kafka serves is compared on the next Kafka.
 */
final class Seen {
    private final Wire wire;
    private final Map<String, String> remembered = new LinkedHashMap<>();
    private final Map<String, String> topicIds = new TreeMap<>();

    Seen(Wire wire) {
        this.wire = wire;
    }

    /** The last known ids of topics, with those of deleted topics. */
    String topicId(String name) {
        return topicIds.get(name);
    }

    void remember(String kind, Claims claims) {
        claims.add("everything_is_shown", () -> {
            for (Map.Entry<String, Callable<String>> section : sections(kind).entrySet()) {
                remembered.put(section.getKey(), section.getValue().call());
            }
        });
    }

    void compare(String kind, Claims claims) throws Exception {
        sections(kind).forEach((name, section) -> {
            // The first Kafka on a directory of Ottla shows more than the brokers before it.
            String before = remembered.get(name);
            if (before != null) {
                claims.add("same_" + name.replace(' ', '_'), () -> expectSame(before, section.call()));
            }
        });
    }

    private static void expectSame(String before, String now) {
        List<String> old = before.lines().toList();
        List<String> found = now.lines().toList();
        for (int line = 0; line < Math.max(old.size(), found.size()); line++) {
            String was = line < old.size() ? old.get(line) : "nothing";
            String is = line < found.size() ? found.get(line) : "nothing";
            Claims.expect(was.equals(is), "line " + line + " is [" + is + "], not [" + was + "]");
        }
    }

    private Map<String, Callable<String>> sections(String kind) throws Exception {
        Map<String, TopicDescription> topics = topics();
        List<TopicPartition> partitions = new ArrayList<>();
        topics.values().stream().filter(topic -> !topic.isInternal()).forEach(topic -> topic.partitions()
                .forEach(partition -> partitions.add(new TopicPartition(topic.name(), partition.partition()))));
        Map<String, Callable<String>> sections = new LinkedHashMap<>();
        sections.put("topics", () -> describe(topics.values()));
        sections.put("configs", () -> configs(topics.keySet()));
        sections.put("directories", () -> with(admin -> lines(admin.describeLogDirs(List.of(1)).allDescriptions().get()
                .get(1).entrySet().stream().flatMap(directory -> directory.getValue().replicaInfos().keySet().stream()
                        .filter(partition -> topics.containsKey(partition.topic()))
                        .map(partition -> directory.getKey() + " " + partition)).toList())));
        sections.put("features", () -> with(admin ->
                new TreeMap<>(admin.describeFeatures().featureMetadata().get().finalizedFeatures()).toString()));
        for (IsolationLevel isolation : IsolationLevel.values()) {
            sections.put("offsets " + isolation, () -> offsets(partitions, isolation));
            sections.put("records " + isolation, () -> records(partitions, isolation.toString().toLowerCase()));
        }
        sections.put("producers", () -> producers(partitions));
        sections.put("groups", this::groups);
        sections.put("committed offsets", this::committed);
        sections.put("quotas", () -> with(admin ->
                lines(admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get().entrySet())));
        sections.put("scram", () -> with(admin ->
                lines(admin.describeUserScramCredentials().all().get().values())));
        if (kind.equals("Kafka")) {
            sections.put("acls", () -> with(admin -> lines(admin.describeAcls(AclBindingFilter.ANY).values().get())));
            sections.put("transactions", () -> with(admin -> lines(admin.listTransactions().all().get())));
        }
        return sections;
    }

    private interface Look {
        String at(Admin admin) throws Exception;
    }

    private String with(Look look) throws Exception {
        try (Admin admin = Admin.create(wire.base())) {
            return look.at(admin);
        }
    }

    private static String lines(Collection<?> things) {
        return String.join("\n", new TreeSet<>(things.stream().map(Object::toString).toList()));
    }

    private Map<String, TopicDescription> topics() throws Exception {
        try (Admin admin = Admin.create(wire.base())) {
            var names = admin.listTopics(new org.apache.kafka.clients.admin.ListTopicsOptions().listInternal(true))
                    .names().get();
            Map<String, TopicDescription> topics = new TreeMap<>(admin.describeTopics(names).allTopicNames().get());
            topics.forEach((name, topic) -> topicIds.put(name, topic.topicId().toString()));
            return topics;
        }
    }

    private static String describe(Collection<TopicDescription> topics) {
        return lines(topics.stream().map(topic -> topic.name() + " " + topic.topicId() + " " + topic.isInternal() + " "
                + topic.partitions().stream().map(partition -> partition.partition() + " led by "
                        + partition.leader().id() + " of " + partition.replicas().size() + ", " + partition.isr().size()
                        + " in sync").toList()).toList());
    }

    /** The configs that were set, without Ottla's own topic settings, which have separate checks. */
    private static String dynamic(Admin admin, ConfigResource resource) throws Exception {
        Map<String, String> set = new TreeMap<>();
        for (ConfigEntry entry : admin.describeConfigs(List.of(resource)).all().get().get(resource).entries()) {
            boolean isDynamic = switch (entry.source()) {
                case STATIC_BROKER_CONFIG, DEFAULT_CONFIG -> false;
                case DYNAMIC_BROKER_CONFIG -> resource.type() == ConfigResource.Type.BROKER;
                case DYNAMIC_DEFAULT_BROKER_CONFIG ->
                        resource.type() == ConfigResource.Type.BROKER && resource.name().isEmpty();
                default -> true;
            };
            if (isDynamic && !entry.name().startsWith("ottla.")) {
                set.put(entry.name(), entry.value());
            }
        }
        return resource + " " + set;
    }

    private String configs(Collection<String> topics) throws Exception {
        return with(admin -> {
            List<String> all = new ArrayList<>();
            for (String topic : topics) {
                all.add(dynamic(admin, Wire.topic(topic)));
            }
            all.add(dynamic(admin, Wire.brokers("")));
            all.add(dynamic(admin, Wire.brokers("1")));
            for (String group : List.of("idle-consumer", "of-ottla", "shared-of-ottla")) {
                all.add(dynamic(admin, new ConfigResource(ConfigResource.Type.GROUP, group)));
            }
            for (String subscription : List.of("subscription", "of-ottla")) {
                all.add(dynamic(admin, new ConfigResource(ConfigResource.Type.CLIENT_METRICS, subscription)));
            }
            return String.join("\n", all);
        });
    }

    private String offsets(List<TopicPartition> partitions, IsolationLevel isolation) throws Exception {
        return with(admin -> {
            Map<TopicPartition, String> found = new TreeMap<>((one, other) ->
                    one.toString().compareTo(other.toString()));
            Map<String, OffsetSpec> asked = new LinkedHashMap<>();
            asked.put("from", OffsetSpec.earliest());
            asked.put("to", OffsetSpec.latest());
            asked.put("newest", OffsetSpec.maxTimestamp());
            for (Map.Entry<String, OffsetSpec> spec : asked.entrySet()) {
                Map<TopicPartition, OffsetSpec> request = new LinkedHashMap<>();
                partitions.forEach(partition -> request.put(partition, spec.getValue()));
                admin.listOffsets(request, new ListOffsetsOptions(isolation)).all().get().forEach((partition, answer) ->
                        found.merge(partition, spec.getKey() + " " + answer.offset() + " at " + answer.timestamp(),
                                (one, other) -> one + ", " + other));
            }
            return lines(found.entrySet());
        });
    }

    private String records(List<TopicPartition> partitions, String isolation) {
        Map<String, StringBuilder> found = new TreeMap<>();
        Map<String, String> latest = new TreeMap<>();
        wire.read(partitions, isolation, record -> {
            if (Adopt.COMPACTED.contains(record.topic())) {
                latest.put(record.key(), text(record));
            } else {
                found.computeIfAbsent(record.topic() + "-" + record.partition(), name -> new StringBuilder())
                        .append(text(record)).append('\n');
            }
        });
        return String.join("\n", found.values()) + lines(latest.values());
    }

    private static String text(ConsumerRecord<String, String> record) {
        return record.topic() + "-" + record.partition() + "@" + record.offset() + " epoch "
                + record.leaderEpoch().orElse(-1) + " " + record.timestampType() + " " + record.timestamp() + " "
                + record.key() + "=" + record.value() + " " + List.of(record.headers().toArray());
    }

    private String producers(List<TopicPartition> partitions) throws Exception {
        return with(admin -> {
            List<String> all = new ArrayList<>();
            admin.describeProducers(partitions).all().get().forEach((partition, state) ->
                    state.activeProducers().forEach(producer -> all.add(partition + " " + producer)));
            return lines(all);
        });
    }

    private String groups() throws Exception {
        return with(admin -> lines(admin.listGroups().all().get().stream()
                .map(group -> group.groupId() + " " + group.type() + " " + group.groupState()).toList()));
    }

    private String committed() throws Exception {
        return with(admin -> {
            List<String> all = new ArrayList<>();
            for (String group : List.of("idle-classic", "idle-consumer", "simple", "of-transactions", "turned")) {
                admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().forEach((partition, offset) ->
                        all.add(group + " " + partition + " " + offset));
            }
            return lines(all);
        });
    }
}
