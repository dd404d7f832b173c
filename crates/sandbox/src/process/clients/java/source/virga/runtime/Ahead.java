package virga.runtime;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;

/**
 * Boots Java before its function is known: see the orders in clients.rs. What every function needs is done once here, so
 * that it is loaded when the function comes. The environment and the working directory are the process's own, not the
 * machine's: two functions of a small library (native.c) set them, and nothing before has asked for a variable.
 */
final class Ahead {
    /** A function of nobody's. */
    public static final class Warm {
        private List<Integer> numbers;

        public List<Integer> getNumbers() {
            return numbers;
        }

        public void setNumbers(List<Integer> numbers) {
            this.numbers = numbers;
        }

        public static Warm handle(Warm event) {
            return event;
        }
    }

    private Ahead() {
    }

    /** The orders, to their end; then the descriptor is closed. */
    private static native byte[] orders();

    /** Makes these variables, `NAME=value` and a zero byte each, the environment, and goes to a folder. */
    private static native boolean become(byte[] environment, byte[] folder);

    /** Returns as the function's process, if there is ever to be one. */
    static void becomeAFunction() {
        System.load("/var/runtime/java/native.so");
        warm();
        byte[] orders = orders();
        if (orders.length == 0) {
            System.exit(0);
        }
        Map<?, ?> wanted = (Map<?, ?>) Json.parse(orders);
        ByteArrayOutputStream environment = new ByteArrayOutputStream();
        for (Map.Entry<?, ?> variable : wanted.entrySet()) {
            environment.writeBytes((variable.getKey() + "=" + variable.getValue()).getBytes(StandardCharsets.UTF_8));
            environment.write(0);
        }
        Object task = wanted.get("LAMBDA_TASK_ROOT");
        String folder = (task == null ? "/var/task" : task) + "\0";
        if (!become(environment.toByteArray(), folder.getBytes(StandardCharsets.UTF_8))) {
            throw new IllegalStateException("the booted process cannot become a function");
        }
    }

    /** An invocation without anybody, but for the network. */
    private static void warm() {
        try {
            URL jar = Ahead.class.getProtectionDomain().getCodeSource().getLocation();
            try (FunctionLoader loader = new FunctionLoader(List.of(jar))) {
                Class<?> context = loader.loadClass("virga.glue.Invocation");
                context.getConstructor(Map.class, Map.class, Map.class)
                    .newInstance(Map.of("lambda-runtime-deadline-ms", "0"), Map.of(), Map.of());
                Handler handler = Handler.load("virga.runtime.Ahead$Warm::handle", loader);
                handler.call("{\"numbers\":[1,-2e3,\"3\"],\"x\":{}}".getBytes(StandardCharsets.UTF_8), null, null);
            }
            FunctionLoader.path(new File("/var/task"), new File("/opt"));
            Errors.described(new IllegalStateException());
        } catch (Throwable error) {
            throw new IllegalStateException("the client does not work", error);
        }
        try {
            // Where nobody listens: all but the answer is as it will be.
            new Connection("127.0.0.1:1").get("", "");
        } catch (IOException refused) {
            // As it should be.
        }
    }
}
