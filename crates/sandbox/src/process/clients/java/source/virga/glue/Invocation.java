package virga.glue;

import com.amazonaws.services.lambda.runtime.Client;
import com.amazonaws.services.lambda.runtime.ClientContext;
import com.amazonaws.services.lambda.runtime.CognitoIdentity;
import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.LambdaLogger;
import com.amazonaws.services.lambda.runtime.logging.LogLevel;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * What a handler is told about its invocation. The only class of the client's that knows Lambda's interfaces: it is
 * defined by the loader of the function's code, so that they are the ones that code sees, the package's or ours. The
 * client makes it by reflection.
 */
public final class Invocation implements Context {
    private final Map<String, String> facts;
    private final long deadlineMs;
    private final ClientContext clientContext;
    private final CognitoIdentity identity;

    /** Facts are under Lambda's names: those of the environment and those of an event's headers. */
    public Invocation(Map<String, String> facts, Map<?, ?> clientContext, Map<?, ?> identity) {
        this.facts = facts;
        deadlineMs = Long.parseLong(facts.get("lambda-runtime-deadline-ms"));
        this.clientContext = clientContext == null ? null : new Caller(clientContext);
        this.identity = identity == null ? null : new Identity(identity);
    }

    @Override
    public String getAwsRequestId() {
        return facts.get("lambda-runtime-aws-request-id");
    }

    @Override
    public String getLogGroupName() {
        return facts.get("AWS_LAMBDA_LOG_GROUP_NAME");
    }

    @Override
    public String getLogStreamName() {
        return facts.get("AWS_LAMBDA_LOG_STREAM_NAME");
    }

    @Override
    public String getFunctionName() {
        return facts.get("AWS_LAMBDA_FUNCTION_NAME");
    }

    @Override
    public String getFunctionVersion() {
        return facts.get("AWS_LAMBDA_FUNCTION_VERSION");
    }

    @Override
    public String getInvokedFunctionArn() {
        return facts.get("lambda-runtime-invoked-function-arn");
    }

    @Override
    public CognitoIdentity getIdentity() {
        return identity;
    }

    @Override
    public ClientContext getClientContext() {
        return clientContext;
    }

    @Override
    public int getRemainingTimeInMillis() {
        return (int) Math.max(0, Math.min(Integer.MAX_VALUE, deadlineMs - System.currentTimeMillis()));
    }

    @Override
    public int getMemoryLimitInMB() {
        String memory = facts.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE");
        return memory == null ? 0 : Integer.parseInt(memory);
    }

    @Override
    public LambdaLogger getLogger() {
        return new Lines(facts.get("lambda-runtime-aws-request-id"));
    }

    public String getXrayTraceId() {
        return facts.get("lambda-runtime-trace-id");
    }

    /**
     * A message is a line: as it is, with its level where it has one, or as an object (Lambda: Using structured JSON
     * logs with Java). A package's interface may be older than the methods with a level; they are there anyway.
     */
    private static final class Lines implements LambdaLogger {
        private static final boolean JSON = "JSON".equals(System.getenv("AWS_LAMBDA_LOG_FORMAT"));
        /** Names of levels, as this class may not need the type: the least first. */
        private static final String LEVELS = " UNDEFINED TRACE DEBUG INFO WARN ERROR FATAL ";
        private static final int LEAST = JSON ? rank(System.getenv("AWS_LAMBDA_LOG_LEVEL")) : 0;

        private final String requestId;

        Lines(String requestId) {
            this.requestId = requestId;
        }

        @Override
        public void log(String message) {
            write(message, "UNDEFINED");
        }

        @Override
        public void log(byte[] message) {
            log(new String(message, StandardCharsets.UTF_8));
        }

        public void log(String message, LogLevel level) {
            write(message, level == null ? "UNDEFINED" : level.name());
        }

        public void log(byte[] message, LogLevel level) {
            log(new String(message, StandardCharsets.UTF_8), level);
        }

        private static int rank(String level) {
            int place = level == null ? -1 : LEVELS.indexOf(" " + level + " ");
            return place < 0 ? 0 : place;
        }

        private void write(String given, String level) {
            boolean said = !level.equals("UNDEFINED");
            if (said && rank(level) < LEAST) {
                return;
            }
            String message = String.valueOf(given);
            String line = JSON ? object(message, level) : said ? "[" + level + "] " + message : message;
            System.out.print(line.endsWith("\n") ? line : line + "\n");
            System.out.flush();
        }

        private String object(String message, String level) {
            StringBuilder out = new StringBuilder(message.length() + 128);
            out.append("{\"timestamp\":\"").append(timestamp(System.currentTimeMillis())).append("\",\"message\":");
            quote(message, out);
            out.append(",\"level\":\"").append(level).append("\",\"AWSRequestId\":");
            quote(String.valueOf(requestId), out);
            return out.append('}').toString();
        }

        /** With milliseconds even where there are none. */
        private static String timestamp(long millis) {
            String whole = java.time.Instant.ofEpochMilli(millis - millis % 1000).toString();
            return whole.substring(0, whole.length() - 1) + "." + (1000 + millis % 1000 + "").substring(1) + "Z";
        }

        private static void quote(String text, StringBuilder out) {
            out.append('"');
            for (int i = 0; i < text.length(); i++) {
                char c = text.charAt(i);
                switch (c) {
                    case '"' -> out.append("\\\"");
                    case '\\' -> out.append("\\\\");
                    case '\n' -> out.append("\\n");
                    case '\r' -> out.append("\\r");
                    case '\t' -> out.append("\\t");
                    default -> {
                        // A half of a pair alone is no text.
                        if (c < ' ' || Character.isSurrogate(c) && !isHalfOfPair(text, i)) {
                            out.append("\\u").append(Integer.toHexString(0x10000 + c).substring(1));
                        } else {
                            out.append(c);
                        }
                    }
                }
            }
            out.append('"');
        }

        private static boolean isHalfOfPair(String text, int i) {
            return Character.isHighSurrogate(text.charAt(i))
                ? i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1))
                : i > 0 && Character.isHighSurrogate(text.charAt(i - 1));
        }
    }

    private static String text(Map<?, ?> object, String name) {
        Object value = object.get(name);
        return value == null ? null : value.toString();
    }

    private static final class Identity implements CognitoIdentity {
        private final Map<?, ?> given;

        Identity(Map<?, ?> given) {
            this.given = given;
        }

        @Override
        public String getIdentityId() {
            return text(given, "cognitoIdentityId");
        }

        @Override
        public String getIdentityPoolId() {
            return text(given, "cognitoIdentityPoolId");
        }
    }

    private static final class Caller implements ClientContext {
        private final Map<?, ?> given;

        Caller(Map<?, ?> given) {
            this.given = given;
        }

        @Override
        public Client getClient() {
            return given.get("client") instanceof Map<?, ?> client ? new App(client) : null;
        }

        @Override
        public Map<String, String> getCustom() {
            return strings("custom");
        }

        @Override
        public Map<String, String> getEnvironment() {
            return strings("env");
        }

        private Map<String, String> strings(String name) {
            if (!(given.get(name) instanceof Map<?, ?> object)) {
                return null;
            }
            Map<String, String> strings = new LinkedHashMap<>();
            for (Map.Entry<?, ?> entry : object.entrySet()) {
                strings.put(String.valueOf(entry.getKey()), entry.getValue() == null ? null : entry.getValue().toString());
            }
            return Collections.unmodifiableMap(strings);
        }
    }

    private static final class App implements Client {
        private final Map<?, ?> given;

        App(Map<?, ?> given) {
            this.given = given;
        }

        @Override
        public String getInstallationId() {
            return text(given, "installation_id");
        }

        @Override
        public String getAppTitle() {
            return text(given, "app_title");
        }

        @Override
        public String getAppVersionName() {
            return text(given, "app_version_name");
        }

        @Override
        public String getAppVersionCode() {
            return text(given, "app_version_code");
        }

        @Override
        public String getAppPackageName() {
            return text(given, "app_package_name");
        }
    }
}
