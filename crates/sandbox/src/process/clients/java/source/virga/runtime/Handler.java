package virga.runtime;

import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.Constructor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.util.ArrayList;
import java.util.List;

/**
 * The function's method: `package.Class`, which implements one of Lambda's interfaces, or `package.Class::method`, whose
 * parameters are the event, or two streams, and the context, each of which may be left out.
 */
final class Handler {
    private static final String LAMBDA = "com.amazonaws.services.lambda.runtime.";

    private final Object target;
    private final Method method;
    /** What the event becomes; null where the method takes none, or streams. */
    private final Type input;
    private final boolean streams;
    private final boolean takesContext;

    private Handler(Object target, Method method, Type input, boolean streams, boolean takesContext) {
        this.target = target;
        this.method = method;
        this.input = input;
        this.streams = streams;
        this.takesContext = takesContext;
    }

    /** Finds it, and makes the object that it is a method of. */
    static Handler load(String name, ClassLoader loader) throws Throwable {
        String[] parts = name.split("::", -1);
        if (parts.length > 2 || parts[0].isBlank() || parts.length == 2 && parts[1].isBlank()) {
            throw new Fault("Runtime.MalformedHandlerName",
                "'" + name + "' is not a valid handler name: use package.Class or package.Class::method");
        }
        Class<?> type;
        try {
            type = Class.forName(parts[0], true, loader);
        } catch (ClassNotFoundException absent) {
            // One that is missing while the class is initialised is an error of its own.
            throw parts[0].equals(absent.getMessage())
                ? new Fault("java.lang.ClassNotFoundException", "Class not found: " + parts[0]) : absent;
        } catch (NoClassDefFoundError wrong) {
            if (wrong.getMessage() != null && wrong.getMessage().contains("wrong name")) {
                throw new Fault("java.lang.ClassNotFoundException", "Class not found: " + parts[0] + ": " + wrong.getMessage());
            }
            throw wrong;
        } catch (ExceptionInInitializerError failed) {
            throw failed.getCause() == null ? failed : failed.getCause();
        }
        Class<?> context = Class.forName(LAMBDA + "Context", true, loader);
        return parts.length == 1 ? ofInterface(type, loader, context) : ofMethod(type, parts[1], context);
    }

    private static Handler ofInterface(Class<?> type, ClassLoader loader, Class<?> context) throws Throwable {
        Class<?> plain = Class.forName(LAMBDA + "RequestHandler", true, loader);
        Class<?> streaming = Class.forName(LAMBDA + "RequestStreamHandler", true, loader);
        if (streaming.isAssignableFrom(type)) {
            Method method = streaming.getMethod("handleRequest", InputStream.class, OutputStream.class, context);
            return new Handler(instance(type), method, null, true, true);
        }
        if (plain.isAssignableFrom(type)) {
            Method method = plain.getMethod("handleRequest", Object.class, context);
            return new Handler(instance(type), method, Generics.argument(type, plain, 0), false, true);
        }
        throw new Fault("Runtime.HandlerNotFound", "Class " + type.getName() + " does not implement RequestHandler or "
            + "RequestStreamHandler: implement one, or name a method as in " + type.getName() + "::method");
    }

    /** Of methods with one name, as Lambda does: the one with most parameters, then the one that takes the context. */
    private static Handler ofMethod(Class<?> type, String name, Class<?> context) throws Throwable {
        List<Method> named = new ArrayList<>();
        for (Method method : type.getMethods()) {
            if (method.getName().equals(name) && !method.isBridge()) {
                named.add(method);
            }
        }
        if (named.isEmpty()) {
            throw new Fault("Runtime.HandlerNotFound", "No public method named " + name + " on class " + type.getName());
        }
        Method method = null;
        for (Method one : named) {
            if (isPossible(one.getParameterTypes(), context) && (method == null || comesBefore(one, method, context))) {
                method = one;
            }
        }
        if (method == null) {
            throw new Fault("Runtime.HandlerNotFound", "Method " + name + " of class " + type.getName()
                + " must take an event, or an InputStream and an OutputStream, and may take a Context after that");
        }
        Class<?>[] parameters = method.getParameterTypes();
        boolean takesContext = endsWith(parameters, context);
        boolean streams = parameters.length > 1 && parameters[0] == InputStream.class;
        Type input = streams || parameters.length == (takesContext ? 1 : 0)
            ? null : Generics.within(type, method.getGenericParameterTypes()[0]);
        Object target = Modifier.isStatic(method.getModifiers()) ? null : instance(type);
        method.trySetAccessible();
        return new Handler(target, method, input, streams, takesContext);
    }

    private static boolean comesBefore(Method one, Method other, Class<?> context) {
        int more = one.getParameterCount() - other.getParameterCount();
        return more > 0 || more == 0 && endsWith(one.getParameterTypes(), context);
    }

    private static boolean endsWith(Class<?>[] parameters, Class<?> context) {
        return parameters.length > 0 && parameters[parameters.length - 1] == context;
    }

    private static boolean isPossible(Class<?>[] parameters, Class<?> context) {
        int rest = parameters.length - (endsWith(parameters, context) ? 1 : 0);
        return rest <= 1 || rest == 2 && parameters[0] == InputStream.class && parameters[1] == OutputStream.class;
    }

    private static Object instance(Class<?> type) throws Throwable {
        if (type.isInterface() || Modifier.isAbstract(type.getModifiers())) {
            throw new Fault("Runtime.HandlerNotFound", "Class " + type.getName() + " is abstract");
        }
        Constructor<?> constructor;
        try {
            constructor = type.getConstructor();
        } catch (NoSuchMethodException absent) {
            throw new Fault("Runtime.HandlerNotFound",
                "Class " + type.getName() + " has no public constructor without parameters");
        }
        constructor.trySetAccessible();
        try {
            return constructor.newInstance();
        } catch (InvocationTargetException thrown) {
            throw thrown.getCause();
        }
    }

    /**
     * Calls it with an event's JSON; the answer's, or null where that was sent in pieces. What it throws is the
     * function's error.
     */
    byte[] call(byte[] event, Object context, Pieces output) throws Throwable {
        if (streams) {
            Object[] both = {new ByteArrayInputStream(event), output};
            invoke(takesContext ? new Object[] {both[0], both[1], context} : both);
            return output.begun() ? null : output.whole();
        }
        Object result;
        if (input == null) {
            result = invoke(takesContext ? new Object[] {context} : new Object[0]);
        } else {
            Object value = parsed(event);
            result = invoke(takesContext ? new Object[] {value, context} : new Object[] {value});
        }
        try {
            return Json.write(Writer.tree(result));
        } catch (RuntimeException | StackOverflowError error) {
            throw new Fault("java.lang.RuntimeException", "An error occurred during JSON serialization of response", error);
        }
    }

    private Object parsed(byte[] event) {
        try {
            return Generics.raw(input) == InputStream.class
                ? new ByteArrayInputStream(event) : Reader.read(Json.parse(event), input);
        } catch (RuntimeException | StackOverflowError error) {
            throw new Fault("java.lang.RuntimeException", "An error occurred during JSON parsing", error);
        }
    }

    private Object invoke(Object[] arguments) throws Throwable {
        try {
            return method.invoke(target, arguments);
        } catch (InvocationTargetException thrown) {
            throw thrown.getCause();
        }
    }
}
