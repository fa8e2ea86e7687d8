import java.util.Map;
import java.util.Set;

/** What Ottla must find after Kafka ran on the directory. */
final class Arrived {
    private final Wire wire;

    Arrived(Wire wire) {
        this.wire = wire;
    }

    void claims(Claims claims) {
        claims.add("settings_of_topics_are_still_there", () -> Claims.expectEqual(
                Carry.carriers(wire), Set.of("born", "plain", "transactional"), "who has the setting"));
        claims.add("compacts_on", () -> Carry.compact(wire, "home", 60));
        claims.add("produces_on", () -> wire.send(Map.of(), "plain", 4, "home", 20));
    }
}
