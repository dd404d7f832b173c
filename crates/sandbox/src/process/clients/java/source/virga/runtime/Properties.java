package virga.runtime;

import java.lang.reflect.AccessibleObject;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Member;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/** What a class is made of, as beans have it: setters, getters and public fields; a record's components. */
final class Properties {
    private static final ClassValue<Properties> KNOWN = new ClassValue<>() {
        @Override
        protected Properties computeValue(Class<?> type) {
            return new Properties(type);
        }
    };

    /** A getter or a field. */
    record Readable(Member member) {
        Object get(Object from) throws ReflectiveOperationException {
            return member instanceof Method method ? method.invoke(from) : ((Field) member).get(from);
        }
    }

    /** A setter or a field. */
    record Writable(Type type, Member member) {
        void set(Object into, Object value) throws ReflectiveOperationException {
            if (member instanceof Method method) {
                method.invoke(into, value);
            } else {
                ((Field) member).set(into, value);
            }
        }
    }

    /** By name, in the order of declaration where the machine tells it. */
    final Map<String, Readable> readable = new LinkedHashMap<>();
    private final Map<String, Writable> writable = new LinkedHashMap<>();
    /** By name in lower case: a caller's `Records` is `records`. */
    private final Map<String, Writable> byAnyCase = new LinkedHashMap<>();

    private Properties(Class<?> type) {
        if (type.isRecord()) {
            for (RecordComponent component : type.getRecordComponents()) {
                Method accessor = opened(component.getAccessor());
                readable.put(component.getName(), new Readable(accessor));
            }
            return;
        }
        fields(type);
        methods(type);
        for (Map.Entry<String, Writable> property : writable.entrySet()) {
            byAnyCase.putIfAbsent(property.getKey().toLowerCase(Locale.ROOT), property.getValue());
        }
    }

    static Properties of(Class<?> type) {
        return KNOWN.get(type);
    }

    /** What a name of a JSON object sets, or null. */
    Writable setBy(String name) {
        Writable exact = writable.get(name);
        return exact != null ? exact : byAnyCase.get(name.toLowerCase(Locale.ROOT));
    }

    private void fields(Class<?> type) {
        for (Field field : type.getFields()) {
            if (Modifier.isStatic(field.getModifiers())) {
                continue;
            }
            opened(field);
            readable.put(field.getName(), new Readable(field));
            if (!Modifier.isFinal(field.getModifiers())) {
                writable.put(field.getName(), new Writable(field.getGenericType(), field));
            }
        }
    }

    private void methods(Class<?> type) {
        Map<String, Method> getters = new LinkedHashMap<>();
        for (Method method : type.getMethods()) {
            boolean ours = !Modifier.isStatic(method.getModifiers()) && method.getDeclaringClass() != Object.class;
            if (!ours || method.isBridge()) {
                continue;
            }
            String name = method.getName();
            Class<?> result = method.getReturnType();
            if (method.getParameterCount() == 1 && hasPrefix(name, "set")) {
                setter(method);
            } else if (method.getParameterCount() == 0 && result != void.class && hasPrefix(name, "get")) {
                getters.put(property(name, 3), method);
            } else if (method.getParameterCount() == 0 && result == boolean.class && hasPrefix(name, "is")) {
                getters.putIfAbsent(property(name, 2), method);
            }
        }
        // The machine gives methods in any order: that of the fields behind them is the one that people wrote.
        for (Class<?> at = type; at != null && at != Object.class; at = at.getSuperclass()) {
            for (Field field : at.getDeclaredFields()) {
                Method getter = getters.remove(field.getName());
                if (getter != null) {
                    getter(field.getName(), getter);
                }
            }
        }
        for (Map.Entry<String, Method> rest : new TreeMap<>(getters).entrySet()) {
            getter(rest.getKey(), rest.getValue());
        }
    }

    private void getter(String name, Method method) {
        opened(method);
        readable.put(name, new Readable(method));
    }

    private void setter(Method method) {
        opened(method);
        Type type = method.getGenericParameterTypes()[0];
        String name = property(method.getName(), 3);
        Writable property = new Writable(type, method);
        // Of several with one name, the one that takes what the getter gives.
        if (!writable.containsKey(name) || matchesGetter(method)) {
            writable.put(name, property);
        }
    }

    private static boolean matchesGetter(Method setter) {
        try {
            Method getter = setter.getDeclaringClass().getMethod("g" + setter.getName().substring(1));
            return getter.getReturnType() == setter.getParameterTypes()[0];
        } catch (NoSuchMethodException absent) {
            return true;
        }
    }

    private static boolean hasPrefix(String name, String prefix) {
        return name.startsWith(prefix) && name.length() > prefix.length()
            && !Character.isLowerCase(name.charAt(prefix.length()));
    }

    /** `getUserName` is about `userName`, `getURL` about `URL`. */
    private static String property(String method, int prefix) {
        String name = method.substring(prefix);
        boolean acronym = name.length() > 1 && Character.isUpperCase(name.charAt(0)) && Character.isUpperCase(name.charAt(1));
        return acronym ? name : Character.toLowerCase(name.charAt(0)) + name.substring(1);
    }

    /** Public members of classes that are not public themselves. The platform's own stay as they are. */
    private static <T extends AccessibleObject> T opened(T member) {
        member.trySetAccessible();
        return member;
    }

    /** The error that a getter or a setter threw is the function's own. */
    static RuntimeException thrown(ReflectiveOperationException error) {
        Throwable cause = error instanceof InvocationTargetException ? error.getCause() : error;
        if (cause instanceof Error fatal) {
            throw fatal;
        }
        return cause instanceof RuntimeException unchecked ? unchecked : new IllegalArgumentException(cause.getMessage(), cause);
    }
}
