package virga.glue;

import com.amazonaws.services.lambda.runtime.Client;
import com.amazonaws.services.lambda.runtime.ClientContext;
import com.amazonaws.services.lambda.runtime.CognitoIdentity;
import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.LambdaLogger;
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
        return Lines.LOGGER;
    }

    public String getXrayTraceId() {
        return facts.get("lambda-runtime-trace-id");
    }

    /** A message is a line. */
    private static final class Lines implements LambdaLogger {
        static final LambdaLogger LOGGER = new Lines();

        @Override
        public void log(String message) {
            String text = String.valueOf(message);
            System.out.print(text.endsWith("\n") ? text : text + "\n");
            System.out.flush();
        }

        @Override
        public void log(byte[] message) {
            log(new String(message, StandardCharsets.UTF_8));
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
