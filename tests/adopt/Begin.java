import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/** Fills a directory that Ottla has formatted, with everything that Ottla serves. */
final class Begin {
    private final Wire wire;

    Begin(Wire wire) {
        this.wire = wire;
    }

    void claims(Claims claims) {
        Fill fill = new Fill(wire);
        Carry carry = new Carry(wire);
        claims.add("fills_topics", fill::topics);
        claims.add("fills_records_of_all_codecs", fill::records);
        claims.add("fills_groups", () -> {
            fill.commit("idle-classic", "classic", 11);
            try (Admin admin = Admin.create(wire.base())) {
                admin.alterConsumerGroupOffsets("simple", Map.of(
                        new TopicPartition("plain", 2), new OffsetAndMetadata(5, "by hand"))).all().get();
            }
        });
        claims.add("creates_topics_with_settings_of_its_own", carry::create);
        claims.add("alters_configs_and_settings_of_its_own", carry::alter);
        claims.add("takes_configs_of_every_kind", carry::configs);
        claims.add("deletes_records_and_a_topic", fill::deletions);
        claims.add("deletes_topics_with_settings_of_its_own", carry::delete);
        claims.add("compacts", () -> Carry.compact(wire, "ottla", 20));
    }
}
