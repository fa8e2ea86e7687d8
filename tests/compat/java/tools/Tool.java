import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * Runs one of Kafka's command-line tools in this JVM, by the class that its script starts, and catches its output and exit
 * status. A JVM for each tool would cost more than all the rest of the suite.
 */
final class Tool {
    /** What a tool printed to either stream, and its exit status. */
    record Result(int status, String output) {
        Result expect(String... parts) {
            Claims.expect(status == 0, "exit status " + status + ": " + output);
            for (String part : parts) {
                Claims.expect(output.contains(part), "'" + part + "' is not in: " + output);
            }
            return this;
        }

        void expectFailure(String part) {
            Claims.expect(status != 0, "exit status 0: " + output);
            Claims.expect(output.contains(part), "'" + part + "' is not in: " + output);
        }
    }

    /** Thrown to end a tool where it would exit. */
    private static final class Exited extends Error {
        private Exited() {
            super(null, null, false, false);
        }
    }

    private static final List<Runnable> AT_EXIT = new ArrayList<>();

    /** The status of the first exit: some tools catch everything, our error too, and exit once more. */
    private static Integer exited;

    /** The class of kafka-configs, which Kafka 4.4 has moved. */
    static final String CONFIGS =
            first("org.apache.kafka.tools.ConfigCommand", "kafka.admin.ConfigCommand").getName();

    /** Whether these tools are of Kafka 4.4 or later. */
    static final boolean IS_4_4 = CONFIGS.startsWith("org.");

    static {
        instead("setExitProcedure", "Procedure", (proxy, method, arguments) -> {
            exited = exited == null ? (Integer) arguments[0] : exited;
            throw new Exited();
        });
        instead("setShutdownHookAdder", "ShutdownHookAdder", (proxy, method, arguments) -> {
            // The hook of a producer flushes it; the hook of a consumer waits for the end of its loop.
            if (((String) arguments[0]).startsWith("producer")) {
                AT_EXIT.add((Runnable) arguments[1]);
            }
            return null;
        });
    }

    /** The first of these classes that exists in this release. */
    private static Class<?> first(String... names) {
        for (String name : names) {
            try {
                return Class.forName(name);
            } catch (ClassNotFoundException missing) {
                // The class exists in another release.
            }
        }
        throw new IllegalStateException("no class of " + List.of(names));
    }

    /** Replaces the procedures of Kafka's `Exit`, whose package depends on the release. */
    private static void instead(String setter, String kind, InvocationHandler handler) {
        Class<?> exit = first("org.apache.kafka.common.utils.internals.Exit", "org.apache.kafka.common.utils.Exit");
        try {
            Class<?> type = Class.forName(exit.getName() + "$" + kind);
            Object proxy = Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, handler);
            exit.getMethod(setter, type).invoke(null, proxy);
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(error);
        }
    }

    private Tool() {
    }

    static Result run(String main, String... arguments) throws Exception {
        return runWithInput(main, "", arguments);
    }

    static Result runWithInput(String main, String input, String... arguments) throws Exception {
        PrintStream out = System.out;
        PrintStream err = System.err;
        InputStream in = System.in;
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        PrintStream stream = new PrintStream(printed, true, StandardCharsets.UTF_8);
        System.setOut(stream);
        System.setErr(stream);
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        exited = null;
        try {
            call(main, arguments);
        } finally {
            AT_EXIT.forEach(Runnable::run);
            AT_EXIT.clear();
            stream.flush();
            System.setOut(out);
            System.setErr(err);
            System.setIn(in);
        }
        return new Result(exited == null ? 0 : exited, printed.toString(StandardCharsets.UTF_8));
    }

    private static void call(String main, String[] arguments) throws Exception {
        try {
            Class.forName(main).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException error) {
            if (!(error.getCause() instanceof Exited)) {
                throw new Exception(error.getCause());
            }
        }
    }
}
