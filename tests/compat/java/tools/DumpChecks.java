import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * kafka-dump-log over the data directory of a broker that was shut down. Argument: the directory.
 *
 * <p>A topic named PREFIX-codec-CODEC must have batches of that codec only, so that a client which silently uses another
 * codec is found. In a topic named PREFIX-compaction offsets are missing, and the tool reports that.
 */
public final class DumpChecks {
    private static final Pattern CODEC = Pattern.compile("-codec-([a-z0-9]+)-\\d+$");

    private final Path data;

    private DumpChecks(Path data) {
        this.data = data;
    }

    public static void main(String[] arguments) {
        DumpChecks checks = new DumpChecks(Path.of(arguments[0]));
        Claims claims = new Claims();
        claims.add("logs_of_topics_are_valid", () -> checks.logs(DumpChecks::isTopic));
        claims.add("logs_of_offsets_are_valid", checks::offsets);
        claims.add("logs_of_metadata_are_valid", checks::metadata);
        claims.add("snapshots_of_metadata_are_valid", checks::metadataSnapshots);
        claims.add("offset_indexes_name_their_batches", () -> checks.indexes(".index", "offset: "));
        claims.add("time_indexes_name_their_batches", () -> checks.indexes(".timeindex", "timestamp: "));
        claims.add("producer_snapshots_are_read", () -> checks.indexes(".snapshot", "producerId: "));
        claims.add("transaction_indexes_are_read", checks::transactionIndexes);
        claims.add("compacted_logs_hold_what_compaction_left", checks::compacted);
        claims.add("batches_have_the_codec_that_was_asked_for", checks::codecs);
        claims.run();
        System.exit(0);
    }

    private static boolean isTopic(Path file) {
        return !partition(file).startsWith("__");
    }

    /** Kafka leaves a deleted partition's directory for a while, and does not close its indexes. */
    private static boolean isDeleted(Path file) {
        return partition(file).endsWith("-delete");
    }

    private static String partition(Path file) {
        return file.getParent().getFileName().toString();
    }

    private List<Path> files(String suffix, Predicate<Path> wanted) throws IOException {
        try (Stream<Path> all = Files.walk(data)) {
            return all.filter(file -> file.toString().endsWith(suffix) && !isDeleted(file)).filter(wanted).sorted().toList();
        }
    }

    /** Dumps the files in one call, and fails on each complaint of Kafka's tool. */
    private String dump(List<Path> files, String... options) throws Exception {
        Claims.expect(!files.isEmpty(), "no such file in " + data);
        List<String> arguments = new ArrayList<>(List.of(options));
        arguments.add("--files");
        arguments.add(String.join(",", files.stream().map(Path::toString).toList()));
        String output = Tool.run("org.apache.kafka.tools.DumpLogSegments", arguments.toArray(String[]::new))
                .expect().output();
        List<String> complaints = complaints(output);
        Claims.expect(complaints.isEmpty(), String.join(" / ", complaints));
        return output;
    }

    private static List<String> complaints(String output) {
        List<String> complaints = new ArrayList<>();
        String file = "";
        for (String line : output.lines().toList()) {
            if (line.startsWith("Non-consecutive offsets in ")) {
                file = line;
            }
            boolean isGap = line.matches("  -?\\d+ is followed by \\d+") && file.contains("-compaction-");
            if (isComplaint(line) && !isGap && complaints.size() < 5) {
                complaints.add(line);
            }
        }
        return complaints;
    }

    private static boolean isComplaint(String line) {
        boolean offsets = line.matches("  -?\\d+ is followed by \\d+") && !line.startsWith("  -1 ");
        return offsets
                || line.contains("isvalid: false")
                || line.contains("invalid bytes at the end")
                || line.startsWith("Mismatches in")
                || line.startsWith("Found timestamp mismatch")
                || line.startsWith("Found out of order timestamp")
                || line.startsWith("The following indexed offsets are not found")
                || line.startsWith("Ignoring unknown file")
                || line.contains("Unknown record type")
                || line.contains(", skipping.")
                || line.contains("Could not read")
                || line.contains("corrupted");
    }

    private void logs(Predicate<Path> wanted) throws Exception {
        String output = dump(files(".log", wanted), "--deep-iteration", "--print-data-log");
        Claims.expect(output.contains("baseOffset: "), "no batch in any log");
    }

    private void offsets() throws Exception {
        List<Path> logs = files(".log", file -> partition(file).startsWith("__consumer_offsets-"));
        String output = dump(logs, "--offsets-decoder", "--deep-iteration");
        for (String part : List.of("\"group\":", "\"offset\":4", "\"metadata\":\"four\"", "\"protocolType\":\"consumer\"",
                "<DELETE>")) {
            Claims.expect(output.contains(part), "'" + part + "' is in no offsets log");
        }
    }

    private void metadata() throws Exception {
        List<Path> logs = files(".log", file -> partition(file).startsWith("__cluster_metadata-"));
        String output = dump(logs, "--cluster-metadata-decoder", "--deep-iteration");
        for (String record : List.of("LeaderChange", "TOPIC_RECORD", "PARTITION_RECORD", "CONFIG_RECORD",
                "REGISTER_BROKER_RECORD", "REMOVE_TOPIC_RECORD")) {
            Claims.expect(output.contains(record), "no " + record + " in the metadata log");
        }
    }

    private void metadataSnapshots() throws Exception {
        // Kafka's tool does not take leader-epoch-checkpoint for a snapshot, because the name has no dot.
        String output = dump(files(".checkpoint", file -> true), "--cluster-metadata-decoder", "--deep-iteration");
        for (String record : List.of("SnapshotHeader", "SnapshotFooter", "FEATURE_LEVEL_RECORD")) {
            Claims.expect(output.contains(record), "no " + record + " in any snapshot");
        }
    }

    private void indexes(String suffix, String entry) throws Exception {
        String output = dump(files(suffix, file -> true));
        Claims.expect(output.contains(entry), "no entry in any " + suffix);
    }

    /** Nothing here aborts a transaction, so there may be none. */
    private void transactionIndexes() throws Exception {
        List<Path> indexes = files(".txnindex", file -> true);
        if (!indexes.isEmpty()) {
            dump(indexes);
        }
    }

    /** The compacted topic of each client: the tombstone has a delete horizon, and the indexes are correct. */
    private void compacted() throws Exception {
        Predicate<Path> wanted = file -> partition(file).contains("-compaction-");
        String output = dump(files(".log", wanted), "--deep-iteration");
        Claims.expect(output.contains("isvalid: true"), "no sound batch in a compacted log");
        Claims.expect(output.lines().anyMatch(line -> line.matches(".*deleteHorizonMs: OptionalLong\\[\\d+].*")),
                "no delete horizon in a compacted log");
        dump(files(".index", wanted));
        dump(files(".timeindex", wanted));
    }

    private void codecs() throws Exception {
        int seen = 0;
        for (Path log : files(".log", file -> CODEC.matcher(partition(file)).find())) {
            Matcher name = CODEC.matcher(partition(log));
            Claims.expect(name.find(), "the pattern matched before");
            String wanted = "compresscodec: " + name.group(1) + " ";
            for (String batch : dump(List.of(log)).lines().filter(line -> line.startsWith("baseOffset: ")).toList()) {
                Claims.expect(batch.contains(wanted), partition(log) + ": " + batch);
                seen++;
            }
        }
        Claims.expect(seen >= 5, "only " + seen + " batches of topics named for a codec");
    }
}
