import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.Map;

/** Says hello, whether it is called with an event or by its URL. */
public class Hello implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    @Override
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        boolean byUrl = event.containsKey("requestContext");
        Object given = byUrl ? event.getOrDefault("queryStringParameters", Map.of()) : event;
        Object name = given instanceof Map<?, ?> map && map.get("name") != null ? map.get("name") : "world";
        context.getLogger().log("greeting " + name);
        if (!byUrl) {
            return Map.of("message", "Hello, " + name + "!");
        }
        String text = "Hello, " + name + ", from Java " + Runtime.version().feature() + "!\n";
        return Map.of(
            "statusCode", 200,
            "headers", Map.of("content-type", "text/plain; charset=utf-8"),
            "body", text);
    }
}
