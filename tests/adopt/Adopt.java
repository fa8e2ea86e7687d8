import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.List;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;

/**
 * The client of a journey between brokers that share one address. Argument: bootstrap. It reads one command per line, prints
 * a claim for each check and "done" after each command, and remembers the data from one broker to the next.
 */
public final class Adopt {
    private final Wire wire;
    private final Live live;
    private final Steady steady;
    private final Seen seen;
    private String kind = "";

    private Adopt(String bootstrap) {
        wire = new Wire(bootstrap);
        live = new Live(wire);
        steady = new Steady(wire);
        seen = new Seen(wire);
    }

    public static void main(String[] arguments) throws Exception {
        Adopt adopt = new Adopt(arguments[0]);
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            Claims claims = new Claims();
            long start = System.nanoTime();
            adopt.command(List.of(line.split(" ")), claims);
            claims.run();
            System.err.println((System.nanoTime() - start) / 1_000_000 + " ms: " + line);
        }
        System.exit(0);
    }

    private void command(List<String> words, Claims claims) throws Exception {
        switch (words.get(0)) {
            case "arrive" -> arrive(words.get(1), claims);
            case "fill" -> new Fill(wire).claims(claims);
            case "begin" -> new Begin(wire).claims(claims);
            case "return" -> new Alter(wire).claimsOfNewcomer(claims);
            case "live" -> live.claims(claims);
            case "steady" -> claims.add("clients_that_stay_go_on", steady::step);
            case "release" -> live.release(claims);
            case "remember" -> seen.remember(kind, claims);
            case "compare" -> seen.compare(kind, claims);
            case "carry" -> new Carry(wire).claims(claims);
            case "alter" -> new Alter(wire).claims(claims);
            case "snapshots" -> claims.add("snapshot_keeps_settings_of_topics",
                    () -> Snapshots.expectSettings(words.get(1), seen));
            case "arrived" -> new Arrived(wire).claims(claims);
            default -> throw new IllegalArgumentException("unknown command " + words);
        }
    }

    /** After a change of brokers: the finalised features must be the same, and the broker must serve. */
    private void arrive(String broker, Claims claims) {
        kind = broker;
        claims.add("serves", () -> Claims.until("the topics", () -> {
            try (Admin admin = Admin.create(wire.base())) {
                return admin.describeCluster().nodes().get().size() == 1;
            }
        }));
    }

    /** The compacted topics: only the last value of each key must stay. */
    static final Set<String> COMPACTED = Set.of("compacted");
}
