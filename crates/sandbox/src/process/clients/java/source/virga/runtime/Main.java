package virga.runtime;

import java.io.File;
import java.io.IOException;
import java.lang.reflect.Constructor;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Virga's runtime client for Java event handlers.
 *
 * <p>Asks the Lambda Runtime API (2018-06-01) for events, calls the handler, posts what it returns. Needs nothing but
 * the module java.base of Java 17. With the argument {@code ahead} it waits for its function first ({@link Ahead}).
 */
public final class Main {
    private static final String JSON = "Content-Type: application/json\r\n";

    private final Connection connection;
    private final PrintStreams streams = new PrintStreams();
    /** What the context has of the environment. */
    private final Map<String, String> facts = new HashMap<>();
    private Constructor<?> context;

    private Main(String address) {
        connection = new Connection(address);
        for (String name : new String[] {"FUNCTION_NAME", "FUNCTION_VERSION", "FUNCTION_MEMORY_SIZE", "LOG_GROUP_NAME",
            "LOG_STREAM_NAME"}) {
            facts.put("AWS_LAMBDA_" + name, System.getenv("AWS_LAMBDA_" + name));
        }
    }

    public static void main(String[] arguments) {
        if (arguments.length > 0 && arguments[0].equals("ahead")) {
            Ahead.becomeAFunction();
        }
        try {
            new Main(System.getenv("AWS_LAMBDA_RUNTIME_API")).run();
        } catch (IOException lost) {
            // Nothing can be done without the API.
            System.err.println(lost.getMessage());
            end();
        }
    }

    private void run() throws IOException {
        String task = System.getenv("LAMBDA_TASK_ROOT");
        long began = System.nanoTime();
        Handler handler;
        try {
            ClassLoader loader =
                new FunctionLoader(FunctionLoader.path(new File(task == null ? "/var/task" : task), new File("/opt")));
            Thread.currentThread().setContextClassLoader(loader);
            context = loader.loadClass("virga.glue.Invocation").getConstructor(Map.class, Map.class, Map.class);
            handler = Handler.load(String.valueOf(System.getenv("_HANDLER")), loader);
        } catch (Throwable error) {
            fail(error);
            return;
        }
        serve(handler, "Virga-Init-Began: " + began + "\r\n");
    }

    /** Initialisation failed. */
    private void fail(Throwable error) throws IOException {
        byte[] report = reported(null, "Init Error", error);
        connection.post("init/error", report, JSON + "Lambda-Runtime-Function-Error-Type: " + errorType(error) + "\r\n");
        end();
    }

    /** Threads of the function's may still run. */
    private static void end() {
        System.exit(1);
    }

    private void serve(Handler handler, String began) throws IOException {
        Connection.Reply event = connection.get("invocation/next", began);
        boolean asked = true;
        while (true) {
            if (event.status() != 200) {
                // The reply to an answer need not be an event.
                if (asked) {
                    throw new IOException("the Runtime API answered " + event.status() + " to next");
                }
                asked = true;
                event = connection.get("invocation/next", "");
                continue;
            }
            asked = false;
            event = answer(handler, event);
        }
    }

    /** One invocation; the reply to its answer. */
    private Connection.Reply answer(Handler handler, Connection.Reply event) throws IOException {
        String id = event.headers().get("lambda-runtime-aws-request-id");
        String path = "invocation/" + id;
        Pieces pieces = new Pieces(connection, path + "/response");
        byte[] answer;
        try {
            trace(event.headers().get("lambda-runtime-trace-id"));
            answer = handler.call(event.body(), context(event.headers()), pieces);
            streams.flush();
        } catch (Throwable error) {
            byte[] report = reported(id, "Invoke Error", error);
            // A machine without memory or stack is not to be trusted with another event.
            boolean last = error instanceof VirtualMachineError && !(error instanceof StackOverflowError);
            String headers = JSON + "Lambda-Runtime-Function-Error-Type: " + errorType(error) + "\r\n";
            Connection.Reply reply = pieces.begun()
                ? pieces.finish(errorType(error), report)
                : connection.post(path + "/error", report, headers + (last ? "" : "Virga-Next: 1\r\n"));
            if (last) {
                end();
            }
            return reply;
        }
        if (answer == null) {
            // The reply is no event: what an answer in pieces comes to is known at its end only.
            return pieces.finish(null, null);
        }
        return connection.post(path + "/response", answer, JSON + "Virga-Next: 1\r\n");
    }

    /** Where Lambda's Java puts it: the environment cannot change. */
    private static void trace(String id) {
        if (id == null) {
            System.clearProperty("com.amazonaws.xray.traceHeader");
        } else {
            System.setProperty("com.amazonaws.xray.traceHeader", id);
        }
    }

    private Object context(Map<String, String> headers) throws ReflectiveOperationException {
        Map<String, String> all = new HashMap<>(facts);
        all.putAll(headers);
        return context.newInstance(
            all,
            object(headers.get("lambda-runtime-client-context")),
            object(headers.get("lambda-runtime-cognito-identity")));
    }

    private static Map<?, ?> object(String json) {
        if (json == null) {
            return null;
        }
        return Json.parse(json.getBytes(StandardCharsets.UTF_8)) instanceof Map<?, ?> map ? map : null;
    }

    /** The report, which is logged too: one line. */
    private byte[] reported(String id, String what, Throwable error) {
        Map<String, Object> described = Errors.described(error);
        byte[] report = Json.write(described);
        streams.flush();
        byte[] line = report;
        String before = (id == null ? what : id + "\t" + what) + "\t";
        if ("JSON".equals(System.getenv("AWS_LAMBDA_LOG_FORMAT"))) {
            Map<String, Object> entry = new LinkedHashMap<>();
            entry.put("timestamp", Instant.now().truncatedTo(ChronoUnit.MILLIS).toString());
            entry.put("level", "ERROR");
            entry.put("message", described.get("errorMessage"));
            if (id != null) {
                entry.put("AWSRequestId", id);
            }
            entry.putAll(described);
            line = Json.write(entry);
            before = "";
        }
        streams.line(before + new String(line, StandardCharsets.UTF_8));
        return report;
    }

    private static String errorType(Throwable error) {
        return Errors.type(error).replaceAll("[^\\x21-\\x7e]", "_");
    }
}
