import java.util.LinkedHashMap;
import java.util.Map;

/** Runs a program's checks in order and prints one line for each, as claims.py does. */
final class Claims {
    interface Check {
        void run() throws Exception;
    }

    private final Map<String, Check> checks = new LinkedHashMap<>();

    void add(String name, Check check) {
        checks.put(name, check);
    }

    void run() {
        checks.forEach((name, check) -> {
            try {
                check.run();
                System.out.println("ok " + name);
            } catch (Throwable error) {
                System.out.println("not ok " + name + ": " + describe(error));
            }
        });
        System.out.println("done");
    }

    static void expect(boolean holds, String otherwise) {
        if (!holds) {
            throw new AssertionError(otherwise);
        }
    }

    static void expectEqual(Object found, Object wanted, String what) {
        expect(wanted.equals(found), what + " is " + found + ", not " + wanted);
    }

    /** Fails unless `check` fails and its root cause has this class. */
    static void expectError(Class<? extends Throwable> wanted, Check check) throws Exception {
        try {
            check.run();
        } catch (Throwable error) {
            expect(wanted.isInstance(root(error)), "failed with " + root(error) + ", not " + wanted.getSimpleName());
            return;
        }
        throw new AssertionError("did not fail with " + wanted.getSimpleName());
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    static void until(String what, Condition condition) throws Exception {
        long end = System.nanoTime() + 40_000_000_000L;
        while (!condition.holds()) {
            expect(System.nanoTime() < end, what + " did not happen");
            Thread.sleep(20);
        }
    }

    private static Throwable root(Throwable error) {
        boolean wrapped = error instanceof java.util.concurrent.ExecutionException && error.getCause() != null;
        return wrapped ? root(error.getCause()) : error;
    }

    private static String describe(Throwable error) {
        StringBuilder text = new StringBuilder(root(error).toString());
        for (StackTraceElement frame : error.getStackTrace()) {
            if (!frame.getClassName().contains(".") && !frame.getClassName().equals("Claims")) {
                text.append(" (").append(frame.getFileName()).append(':').append(frame.getLineNumber()).append(')');
                break;
            }
        }
        String line = text.toString().replaceAll("\\s+", " ");
        return line.length() > 400 ? line.substring(0, 400) + "…" : line;
    }
}
