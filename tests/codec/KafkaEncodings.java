// Prints each message and record of Apache Kafka in each version, as Kafka's own classes encode it.
//
// One line per case, with fields separated by tabs: kind, name or number, version, filling, bytes in hex (for coordinator
// records: the key's and the value's). Fillings: `defaults`; `nulls` (all that may be null is); `tags` (every field
// filled, with unknown tagged fields added at every level); `random-N` (N seeds the values, lengths and nulls).
// Lines of kind `api` give Kafka's own table of APIs, lines of kind `error` its error codes. What must be filled follows from the schemas that Kafka's
// classes carry, so that a new field or version needs no change here. Run by `cargo xtask codec-test`.

import java.io.BufferedOutputStream;
import java.io.PrintStream;
import java.lang.reflect.Method;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.stream.IntStream;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.message.*;
import org.apache.kafka.common.metadata.MetadataRecordType;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.RawTaggedField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.record.internal.BaseRecords;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.metadata.MetadataRecordSerde;
import org.apache.kafka.server.common.ApiMessageAndVersion;

public final class KafkaEncodings {
    private static final int RANDOM_FILLINGS = 6;
    private static final int FIRST_UNKNOWN_TAG = 1000;
    private static final HexFormat HEX = HexFormat.of();
    private static final PrintStream OUT =
        new PrintStream(new BufferedOutputStream(System.out, 1 << 20), false, StandardCharsets.UTF_8);

    private interface Factory {
        Message make();
    }

    private interface Encoder {
        String encode(Message message, short version);
    }

    public static void main(String[] arguments) throws Exception {
        for (ApiKeys api : ApiKeys.values()) {
            if (api.latestVersion() < api.oldestVersion()) continue;
            table(api);
            all("request", Short.toString(api.id), () -> api.messageType.newRequest());
            all("response", Short.toString(api.id), () -> api.messageType.newResponse());
        }
        List<Factory> others = List.of(
            RequestHeaderData::new, ResponseHeaderData::new, ConsumerProtocolAssignment::new,
            ConsumerProtocolSubscription::new, ControlRecordTypeSchema::new, DefaultPrincipalData::new,
            EndTxnMarker::new, KRaftVersionRecord::new, LeaderChangeMessage::new, SnapshotFooterRecord::new,
            SnapshotHeaderRecord::new, VotersRecord::new);
        for (Factory factory : others) all("data", factory.make().getClass().getSimpleName(), factory);
        for (MetadataRecordType type : MetadataRecordType.values()) {
            cases("metadata", Short.toString(type.id()), type::newMetadataRecord, KafkaEncodings::framed);
        }
        for (var type : org.apache.kafka.coordinator.group.generated.CoordinatorRecordType.values()) {
            keyed("group", type.id(), type::newRecordKey, type::newRecordValue);
        }
        for (var type : org.apache.kafka.coordinator.transaction.generated.CoordinatorRecordType.values()) {
            keyed("transaction", type.id(), type::newRecordKey, type::newRecordValue);
        }
        for (var type : org.apache.kafka.coordinator.share.generated.CoordinatorRecordType.values()) {
            keyed("share", type.id(), type::newRecordKey, type::newRecordValue);
        }
        for (Errors error : Errors.values()) {
            OUT.printf("error\t%s\t%d\t%b%n", error, error.code(), error.exception() instanceof RetriableException);
        }
        OUT.flush();
    }

    /** Number, name, lowest and highest stable version, first flexible request and response header. */
    private static void table(ApiKeys api) {
        IntStream all = IntStream.rangeClosed(api.oldestVersion(), api.latestVersion(false));
        int request = all.filter(v -> api.messageType.requestHeaderVersion((short) v) >= 2).findFirst().orElse(-1);
        all = IntStream.rangeClosed(api.oldestVersion(), api.latestVersion(false));
        int response = all.filter(v -> api.messageType.responseHeaderVersion((short) v) >= 1).findFirst().orElse(-1);
        OUT.printf("api\t%d\t%s\t%d\t%d\t%d\t%d%n", api.id, api.name, api.oldestVersion(), api.latestVersion(false),
            request, response);
    }

    private static void all(String kind, String name, Factory factory) throws Exception {
        cases(kind, name, factory, KafkaEncodings::hex);
    }

    private static void keyed(String kind, short type, Factory key, Factory value) throws Exception {
        String name = Short.toString(type);
        cases(kind, name, value, (message, version) -> {
            Random random = new Random(31L * type + version);
            Message filled = key.make();
            try {
                fill(filled, schema(filled, (short) 0), new Filling("random", random));
            } catch (ReflectiveOperationException error) {
                throw new IllegalStateException(error);
            }
            return prefixed(type, filled, (short) 0) + "\t" + prefixed(version, message, version);
        });
    }

    private static String prefixed(short number, Message message, short version) {
        return String.format("%04x", number) + hex(message, version);
    }

    private static String framed(Message message, short version) {
        var serde = new MetadataRecordSerde();
        var record = new ApiMessageAndVersion((ApiMessage) message, version);
        var cache = new org.apache.kafka.common.protocol.ObjectSerializationCache();
        ByteBuffer buffer = ByteBuffer.allocate(serde.recordSize(record, cache));
        serde.write(record, cache, new org.apache.kafka.common.protocol.ByteBufferAccessor(buffer));
        buffer.flip();
        return HEX.formatHex(buffer.array(), 0, buffer.limit());
    }

    private static void cases(String kind, String name, Factory factory, Encoder encoder) throws Exception {
        Message model = factory.make();
        for (int v = model.lowestSupportedVersion(); v <= model.highestSupportedVersion(); v++) {
            short version = (short) v;
            List<String> fillings = new ArrayList<>(List.of("defaults", "nulls", "tags"));
            for (int seed = 0; seed < RANDOM_FILLINGS; seed++) fillings.add("random-" + seed);
            for (String filling : fillings) {
                Message message = factory.make();
                Random random = new Random((kind + name + v + filling).hashCode());
                fill(message, schema(message, version), new Filling(filling, random));
                OUT.println(String.join("\t", kind, name, Short.toString(version), filling,
                    encoder.encode(message, version)));
            }
        }
    }

    private static Schema schema(Message message, short version) throws ReflectiveOperationException {
        Schema[] schemas = (Schema[]) message.getClass().getField("SCHEMAS").get(null);
        return schemas[version];
    }

    private static String hex(Message message, short version) {
        ByteBuffer buffer = MessageUtil.toByteBufferAccessor(message, version).buffer();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return HEX.formatHex(bytes);
    }

    /** How to choose values. */
    private record Filling(String name, Random random) {
        boolean defaults() {
            return name.equals("defaults");
        }

        boolean isNull(boolean nullable) {
            return nullable && (name.equals("nulls") || name.startsWith("random") && random.nextInt(4) == 0);
        }

        int length() {
            return name.startsWith("random") ? random.nextInt(4) : 2;
        }

        boolean unknownTags() {
            return name.equals("tags");
        }
    }

    private static void fill(Message message, Schema schema, Filling filling) throws ReflectiveOperationException {
        for (BoundField bound : schema.fields()) {
            if (bound.def.type instanceof TaggedFields tagged) {
                for (Field field : tagged.fields().values()) set(message, field, filling);
                if (filling.unknownTags()) addUnknownTags(message, filling.random());
            } else {
                set(message, bound.def, filling);
            }
        }
    }

    private static void addUnknownTags(Message message, Random random) {
        for (int tag = FIRST_UNKNOWN_TAG; tag < FIRST_UNKNOWN_TAG + 2; tag++) {
            message.unknownTaggedFields().add(new RawTaggedField(tag, bytes(random, random.nextInt(200))));
        }
    }

    private static void set(Message message, Field field, Filling filling) throws ReflectiveOperationException {
        Method setter = setter(message.getClass(), field.name);
        Class<?> parameter = setter.getParameterTypes()[0];
        // Kafka's default for records is null even in versions that cannot encode null.
        boolean required = BaseRecords.class.isAssignableFrom(parameter) && !field.type.isNullable();
        if (filling.defaults() && !required) return;
        Type generic = setter.getGenericParameterTypes()[0];
        setter.invoke(message, value(field.type, parameter, generic, filling));
    }

    private static Method setter(Class<?> owner, String field) {
        String wanted = "set" + field.replace("_", "");
        for (Method method : owner.getMethods()) {
            if (method.getName().toLowerCase(Locale.ROOT).equals(wanted) && method.getParameterCount() == 1
                && method.getReturnType() == owner) return method;
        }
        throw new IllegalStateException(owner.getName() + " has no setter for " + field);
    }

    private static Object value(
        org.apache.kafka.common.protocol.types.Type type, Class<?> java, Type generic, Filling filling
    ) throws ReflectiveOperationException {
        if (filling.isNull(type.isNullable())) return null;
        if (Collection.class.isAssignableFrom(java)) return collection(type, java, generic, filling);
        if (type instanceof Schema schema) {
            Message message = (Message) java.getDeclaredConstructor().newInstance();
            fill(message, schema, filling);
            return message;
        }
        return scalar(type, java, filling);
    }

    private static Object scalar(org.apache.kafka.common.protocol.types.Type type, Class<?> java, Filling filling) {
        Random random = filling.random();
        if (java == boolean.class || java == Boolean.class) return !filling.name().startsWith("random") || random.nextBoolean();
        if (java == byte.class || java == Byte.class) return (byte) random.nextInt();
        if (java == short.class || java == Short.class) return (short) random.nextInt();
        if (type == org.apache.kafka.common.protocol.types.Type.UINT16) return random.nextInt(1 << 16);
        if (type == org.apache.kafka.common.protocol.types.Type.UNSIGNED_INT32) return random.nextLong(1L << 32);
        if (java == int.class || java == Integer.class) return random.nextInt();
        if (java == long.class || java == Long.class) return random.nextLong();
        if (java == double.class || java == Double.class) return random.nextDouble();
        if (java == Uuid.class) return new Uuid(random.nextLong(), random.nextLong());
        if (java == String.class) return text(random, filling.length() * random.nextInt(60));
        byte[] bytes = bytes(random, filling.length() * random.nextInt(60));
        if (java == byte[].class) return bytes;
        if (java == ByteBuffer.class) return ByteBuffer.wrap(bytes);
        if (BaseRecords.class.isAssignableFrom(java)) {
            return MemoryRecords.readableRecords(ByteBuffer.wrap(filling.defaults() ? new byte[0] : bytes));
        }
        throw new IllegalStateException("no value for " + java);
    }

    private static Collection<Object> collection(
        org.apache.kafka.common.protocol.types.Type type, Class<?> java, Type generic, Filling filling
    ) throws ReflectiveOperationException {
        Type parameters = generic instanceof ParameterizedType ? generic : java.getGenericSuperclass();
        Class<?> element = (Class<?>) ((ParameterizedType) parameters).getActualTypeArguments()[0];
        @SuppressWarnings("unchecked")
        Collection<Object> items = java == List.class
            ? new ArrayList<>()
            : (Collection<Object>) java.getDeclaredConstructor().newInstance();
        int length = filling.length();
        for (int at = 0; at < length; at++) {
            items.add(value(type.arrayElementType().orElseThrow(), element, element, filling));
        }
        return items;
    }

    private static String text(Random random, int length) {
        StringBuilder text = new StringBuilder();
        while (text.length() < length) text.append("abcxyz019._-é€".charAt(random.nextInt(14)));
        return text.toString();
    }

    private static byte[] bytes(Random random, int length) {
        byte[] bytes = new byte[length];
        random.nextBytes(bytes);
        return bytes;
    }

    private KafkaEncodings() { }
}
