import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.FileWriter;
import java.io.IOException;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A producer, two members of a group, and a reader without a group, each in a thread, with a ledger (see ledger.py).
 *
 * <p>Arguments: BOOTSTRAP TOPIC PARTITIONS LEDGER RATE SEED. It reads `stop` (the producer ends, and `stopped` is printed) and
 * then `end`.
 */
final class Load {
    private static final String NAME = "java";
    private static final int KEYS = 12;

    private final String bootstrap;
    private final String topic;
    private final int partitions;
    private final BufferedWriter ledger;
    private final int rate;
    private final Random chance;
    private volatile boolean producing = true;
    private volatile boolean reading = true;

    private Load(String[] arguments) throws IOException {
        bootstrap = arguments[0];
        topic = arguments[1];
        partitions = Integer.parseInt(arguments[2]);
        ledger = new BufferedWriter(new FileWriter(arguments[3]));
        rate = Integer.parseInt(arguments[4]);
        chance = new Random(Long.parseLong(arguments[5]));
    }

    public static void main(String[] arguments) throws Exception {
        new Load(arguments).run();
    }

    private void run() throws Exception {
        Thread producer = begin(this::produce);
        List<Thread> readers = new ArrayList<>();
        readers.add(begin(() -> member(0)));
        readers.add(begin(() -> member(1)));
        readers.add(begin(this::readAll));
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        await(commands, "stop");
        producing = false;
        producer.join();
        System.out.println("stopped");
        await(commands, "end");
        reading = false;
        for (Thread reader : readers) {
            reader.join();
        }
    }

    private static void await(BufferedReader commands, String wanted) throws IOException {
        String line;
        do {
            line = commands.readLine();
        } while (line != null && !line.equals(wanted));
    }

    private interface Work {
        void run() throws Exception;
    }

    private Thread begin(Work work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
            } catch (Exception error) {
                failed(NAME, error);
            }
        });
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    /** Writes a line, which is in the file when this returns. */
    private synchronized void write(String kind, long time, Object... fields) {
        try {
            StringBuilder line = new StringBuilder(kind).append(' ').append(time);
            for (Object field : fields) {
                line.append(' ').append(field);
            }
            ledger.append(line).append('\n').flush();
        } catch (IOException error) {
            error.printStackTrace();
            System.exit(1);
        }
    }

    private void failed(String client, Exception error) {
        write("failed", now(), client, error.toString().replaceAll("\\s+", " "));
    }

    private static long now() {
        return System.currentTimeMillis();
    }

    private Properties settings() {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        return settings;
    }

    /** Until it must end; after a fatal error there is a new producer with another name. */
    private void produce() throws Exception {
        for (int life = 1; producing; life++) {
            produce(NAME + "-" + life);
        }
    }

    private void produce(String name) throws Exception {
        Properties settings = settings();
        settings.put("acks", "all");
        settings.put("linger.ms", "2");
        settings.put("key.serializer", StringSerializer.class.getName());
        settings.put("value.serializer", StringSerializer.class.getName());
        int[] sequences = new int[KEYS];
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings)) {
            while (producing) {
                int key = chance.nextInt(KEYS);
                int partition = key % partitions;
                String record = name + " k" + key + " " + ++sequences[key];
                String value = record + " " + "x".repeat(chance.nextInt(300));
                producer.send(new ProducerRecord<>(topic, partition, "k" + key, value), (place, error) -> {
                    if (error == null) {
                        write("acked", now(), partition, place.offset(), record);
                    } else {
                        failed(NAME + "-producer", error);
                    }
                });
                Thread.sleep(1000 / rate);
            }
        } catch (RuntimeException error) {
            failed(NAME + "-producer", error);
        }
    }

    private Properties consumerSettings() {
        Properties settings = settings();
        settings.put("enable.auto.commit", "false");
        settings.put("key.deserializer", StringDeserializer.class.getName());
        settings.put("value.deserializer", StringDeserializer.class.getName());
        return settings;
    }

    private void member(int number) throws Exception {
        Properties settings = consumerSettings();
        settings.put("group.id", NAME);
        settings.put("auto.offset.reset", "earliest");
        String reader = NAME + "/" + number;
        while (reading) {
            try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings)) {
                consumer.subscribe(List.of(topic), new Assigned(consumer, reader));
                while (reading) {
                    poll(consumer, reader);
                }
            } catch (RuntimeException error) {
                failed(reader, error);
            }
        }
    }

    /** Reads and commits once. */
    private void poll(KafkaConsumer<String, String> consumer, String reader) {
        Map<TopicPartition, OffsetAndMetadata> read = new HashMap<>();
        for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
            write(record, reader);
            read.put(new TopicPartition(topic, record.partition()), new OffsetAndMetadata(record.offset() + 1));
        }
        if (read.isEmpty()) {
            return;
        }
        try {
            consumer.commitSync(read);
        } catch (CommitFailedException | RebalanceInProgressException error) {
            // Another member has the partition now; what was read is read again.
            return;
        }
        long time = now();
        read.forEach((place, offset) -> write("commit", time, NAME, place.partition(), offset.offset()));
    }

    private void write(ConsumerRecord<String, String> record, String reader) {
        String value = record.value();
        write("read", now(), reader, record.partition(), record.offset(), value.substring(0, value.lastIndexOf(' ')));
    }

    /** Writes where a member begins to read. */
    private final class Assigned implements ConsumerRebalanceListener {
        private final KafkaConsumer<String, String> consumer;
        private final String reader;

        Assigned(KafkaConsumer<String, String> consumer, String reader) {
            this.consumer = consumer;
            this.reader = reader;
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> places) {}

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> places) {
            Set<TopicPartition> wanted = new HashSet<>(places);
            if (wanted.isEmpty()) {
                return;
            }
            long asked = now();
            Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(wanted);
            for (TopicPartition place : wanted) {
                OffsetAndMetadata found = committed.get(place);
                write("committed", asked, NAME, place.partition(), found == null ? -1 : found.offset());
                write("assigned", now(), reader, place.partition(), consumer.position(place));
            }
        }
    }

    private void readAll() {
        Properties settings = consumerSettings();
        settings.put("auto.offset.reset", "none");
        String reader = NAME + "-reader";
        Map<TopicPartition, Long> positions = new HashMap<>();
        for (int partition = 0; partition < partitions; partition++) {
            positions.put(new TopicPartition(topic, partition), 0L);
            write("assigned", now(), reader, partition, 0);
        }
        while (reading) {
            try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings)) {
                consumer.assign(positions.keySet());
                positions.forEach(consumer::seek);
                while (reading) {
                    for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                        write(record, reader);
                        positions.put(new TopicPartition(topic, record.partition()), record.offset() + 1);
                    }
                }
            } catch (RuntimeException error) {
                failed(reader, error);
            }
        }
    }
}
