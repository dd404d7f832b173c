package virga.runtime;

import java.lang.reflect.Array;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Calendar;
import java.util.Date;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;

/** Makes what {@link Json} writes of what a handler returned. */
final class Writer {
    /** Objects within objects: one that holds itself has no JSON. */
    private static final int DEPTH = 500;

    private Writer() {
    }

    static Object tree(Object value) {
        return tree(value, 0);
    }

    private static Object tree(Object value, int depth) {
        if (depth > DEPTH) {
            throw new IllegalArgumentException("objects refer to each other in a ring, or are nested too deeply");
        }
        if (value == null || value instanceof String || value instanceof Boolean) {
            return value;
        }
        Class<?> type = value.getClass();
        if (value instanceof Number) {
            // Those that are no more than a number.
            boolean known = type.getName().startsWith("java.lang.") || type.getName().startsWith("java.math.");
            return known || type.getName().startsWith("java.util.") ? value : object(value, type, depth);
        }
        if (value instanceof CharSequence || value instanceof Character) {
            return value.toString();
        }
        if (value instanceof Enum<?> constant) {
            return constant.name();
        }
        if (value instanceof Map<?, ?> map) {
            return map(map, depth);
        }
        if (value instanceof Iterable<?> items && !(value instanceof java.nio.file.Path)) {
            return list(items.iterator(), depth);
        }
        if (value instanceof Iterator<?> items) {
            return list(items, depth);
        }
        if (value instanceof java.util.stream.BaseStream<?, ?> items) {
            return list(items.iterator(), depth);
        }
        if (value instanceof byte[] bytes) {
            return Base64.getEncoder().encodeToString(bytes);
        }
        if (type.isArray()) {
            List<Object> array = new ArrayList<>(Array.getLength(value));
            for (int i = 0; i < Array.getLength(value); i++) {
                array.add(tree(Array.get(value, i), depth + 1));
            }
            return array;
        }
        return other(value, type, depth);
    }

    /** What the platform's own types say of themselves, and objects. */
    private static Object other(Object value, Class<?> type, int depth) {
        if (value instanceof Optional<?> optional) {
            return tree(optional.orElse(null), depth + 1);
        }
        if (value instanceof OptionalInt optional) {
            return optional.isPresent() ? optional.getAsInt() : null;
        }
        if (value instanceof OptionalLong optional) {
            return optional.isPresent() ? optional.getAsLong() : null;
        }
        if (value instanceof OptionalDouble optional) {
            return optional.isPresent() ? optional.getAsDouble() : null;
        }
        if (value instanceof Date date) {
            return date.getTime();
        }
        if (value instanceof Calendar calendar) {
            return calendar.getTimeInMillis();
        }
        if (value instanceof Class<?> named) {
            return named.getName();
        }
        // The function's classes are in no module.
        boolean platforms = type.getModule().isNamed() && type != Object.class;
        return platforms ? value.toString() : object(value, type, depth);
    }

    private static Map<String, Object> map(Map<?, ?> map, int depth) {
        Map<String, Object> object = new LinkedHashMap<>();
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            Object key = entry.getKey();
            String name = key instanceof Enum<?> constant ? constant.name() : String.valueOf(key);
            object.put(name, tree(entry.getValue(), depth + 1));
        }
        return object;
    }

    private static List<Object> list(Iterator<?> items, int depth) {
        List<Object> list = new ArrayList<>();
        while (items.hasNext()) {
            list.add(tree(items.next(), depth + 1));
        }
        return list;
    }

    private static Map<String, Object> object(Object value, Class<?> type, int depth) {
        Map<String, Object> object = new LinkedHashMap<>();
        for (Map.Entry<String, Properties.Readable> property : Properties.of(type).readable.entrySet()) {
            try {
                object.put(property.getKey(), tree(property.getValue().get(value), depth + 1));
            } catch (ReflectiveOperationException error) {
                throw Properties.thrown(error);
            }
        }
        return object;
    }
}
