import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;

/** Checks the newest metadata snapshot with Kafka's own tool. */
final class Snapshots {
    private Snapshots() {
    }

    /** It must contain Ottla's setting of a topic that Ottla created and of one that Kafka created. */
    static void expectSettings(String directory, Seen seen) throws Exception {
        List<Path> snapshots;
        try (Stream<Path> files = Files.list(Path.of(directory))) {
            snapshots = files.filter(file -> file.toString().endsWith(".checkpoint"))
                    .sorted(Comparator.comparing(Path::getFileName).reversed()).toList();
        }
        // The newest was written by Kafka: its epoch is that of the last leader.
        Path newest = snapshots.get(0);
        String state = Files.readString(Path.of(directory, "quorum-state"));
        String epoch = String.valueOf(Integer.parseInt(newest.toString().replaceAll(".*-0*(\\d+)\\.checkpoint", "$1")));
        Claims.expect(state.contains("\"leaderEpoch\":" + epoch), newest + " is not of the epoch in " + state);
        String shown = Tool.run(tool(), "--cluster-metadata-decoder", "--files", newest.toString()).expect().output();
        for (String topic : List.of("plain", "born", "transactional")) {
            String name = "ottla.topic." + seen.topicId(topic) + ".ack.durability";
            Claims.expect(shown.contains(name), name + " of " + topic + " is not in " + newest);
        }
    }

    /** Kafka 4.3 has the tool in another package. */
    private static String tool() {
        String here = "org.apache.kafka.tools.DumpLogSegments";
        try {
            Class.forName(here);
            return here;
        } catch (ClassNotFoundException before) {
            return "kafka.tools.DumpLogSegments";
        }
    }
}
