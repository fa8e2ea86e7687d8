import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs one of Kafka's command-line tools inside this JVM, by the class that its script starts, and catches what it
 * prints and the status it exits with: a JVM for each would cost more than everything else in the suite.
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

    /** Ends a tool where it would end its process. */
    private static final class Exited extends Error {
        private Exited() {
            super(null, null, false, false);
        }
    }

    private static final List<Runnable> AT_EXIT = new ArrayList<>();

    /** The status of the first exit: some tools catch everything, our error too, and exit once more. */
    private static Integer exited;

    static {
        Exit.setExitProcedure((status, message) -> {
            exited = exited == null ? Integer.valueOf(status) : exited;
            throw new Exited();
        });
        Exit.setShutdownHookAdder((name, hook) -> {
            // A producer is flushed by its hook; a consumer's waits for the end of the loop that is running.
            if (name.startsWith("producer")) {
                AT_EXIT.add(hook);
            }
        });
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
