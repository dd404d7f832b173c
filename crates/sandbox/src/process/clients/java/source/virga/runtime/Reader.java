package virga.runtime;

import java.lang.reflect.Array;
import java.lang.reflect.Constructor;
import java.lang.reflect.Executable;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.TreeSet;

/** Makes what a handler declares that it takes of what {@link Json} read. */
final class Reader {
    /** An exponent of a few characters would make a whole number that fills the memory. */
    private static final int MAX_DIGITS = 1000;

    private Reader() {
    }

    static Object read(Object tree, Type type) {
        Class<?> raw = Generics.raw(type);
        if (raw == Optional.class) {
            return tree == null ? Optional.empty() : Optional.of(read(tree, Generics.argument(type, Optional.class, 0)));
        }
        if (tree == null) {
            return raw.isPrimitive() ? Array.get(Array.newInstance(raw, 1), 0) : null;
        }
        if (raw == Object.class || raw == Number.class && tree instanceof Number) {
            return tree;
        }
        if (raw == String.class || raw == CharSequence.class) {
            // Lambda's own runtime takes numbers for strings too.
            return tree instanceof Map || tree instanceof List ? refuse(tree, raw) : tree.toString();
        }
        if (raw == boolean.class || raw == Boolean.class) {
            return tree instanceof Boolean ? tree : tree instanceof String s ? Boolean.valueOf(s) : refuse(tree, raw);
        }
        if (raw.isPrimitive() || Number.class.isAssignableFrom(raw) && raw.getName().startsWith("java.") || raw == Character.class) {
            return scalar(tree, raw);
        }
        if (raw.isArray()) {
            return array(tree, type, raw);
        }
        if (Map.class.isAssignableFrom(raw)) {
            return map(tree, type, raw);
        }
        if (Collection.class.isAssignableFrom(raw) || raw == Iterable.class) {
            return collection(tree, type, raw);
        }
        if (raw.isEnum()) {
            return constant(tree, raw);
        }
        if (raw.isRecord()) {
            return record(tree, type, raw);
        }
        return tree instanceof Map<?, ?> object ? bean(object, type, raw) : fromScalar(tree, raw);
    }

    private static Object refuse(Object tree, Class<?> raw) {
        String kind = tree instanceof Map ? "an object" : tree instanceof List ? "an array"
            : tree instanceof String ? "a string" : tree instanceof Boolean ? "a boolean" : "a number";
        throw new IllegalArgumentException("cannot make " + raw.getName() + " of " + kind);
    }

    private static Object scalar(Object tree, Class<?> raw) {
        if (raw == char.class || raw == Character.class) {
            return tree instanceof String s && s.length() == 1 ? s.charAt(0) : refuse(tree, raw);
        }
        Number number = tree instanceof Number given ? given : tree instanceof String s ? new BigDecimal(s.trim()) : null;
        if (number == null) {
            return refuse(tree, raw);
        }
        if (raw == double.class || raw == Double.class) {
            return number.doubleValue();
        }
        if (raw == float.class || raw == Float.class) {
            return number.floatValue();
        }
        BigDecimal exact = new BigDecimal(number.toString());
        if (raw == BigDecimal.class) {
            return exact;
        }
        if (exact.precision() - (long) exact.scale() > MAX_DIGITS) {
            throw new IllegalArgumentException("a number of more than " + MAX_DIGITS + " digits");
        }
        BigInteger whole = exact.toBigInteger();
        return switch (raw.getSimpleName()) {
            case "int", "Integer" -> whole.intValueExact();
            case "long", "Long" -> whole.longValueExact();
            case "short", "Short" -> whole.shortValueExact();
            case "byte", "Byte" -> whole.byteValueExact();
            case "BigInteger" -> whole;
            case "AtomicInteger" -> new java.util.concurrent.atomic.AtomicInteger(whole.intValueExact());
            case "AtomicLong" -> new java.util.concurrent.atomic.AtomicLong(whole.longValueExact());
            default -> refuse(tree, raw);
        };
    }

    private static Object array(Object tree, Type type, Class<?> raw) {
        if (raw == byte[].class && tree instanceof String text) {
            return Base64.getDecoder().decode(text);
        }
        if (!(tree instanceof List<?> items)) {
            return refuse(tree, raw);
        }
        Type item = type instanceof java.lang.reflect.GenericArrayType generic
            ? generic.getGenericComponentType() : raw.getComponentType();
        Object array = Array.newInstance(raw.getComponentType(), items.size());
        for (int i = 0; i < items.size(); i++) {
            Array.set(array, i, read(items.get(i), item));
        }
        return array;
    }

    private static Object map(Object tree, Type type, Class<?> raw) {
        if (!(tree instanceof Map<?, ?> object)) {
            return refuse(tree, raw);
        }
        Type keys = Generics.argument(type, Map.class, 0);
        Type values = Generics.argument(type, Map.class, 1);
        boolean same = (keys == String.class || keys == Object.class) && values == Object.class;
        if (same && raw.isInstance(tree)) {
            return tree;
        }
        @SuppressWarnings("unchecked")
        Map<Object, Object> map = (Map<Object, Object>) empty(raw, new LinkedHashMap<>(), new TreeMap<>());
        for (Map.Entry<?, ?> entry : object.entrySet()) {
            map.put(read(entry.getKey(), keys), read(entry.getValue(), values));
        }
        return map;
    }

    private static Object collection(Object tree, Type type, Class<?> raw) {
        if (!(tree instanceof List<?> items)) {
            return refuse(tree, raw);
        }
        Type item = Generics.argument(type, raw == Iterable.class ? Iterable.class : Collection.class, 0);
        if (item == Object.class && raw.isInstance(tree)) {
            return tree;
        }
        @SuppressWarnings("unchecked")
        Collection<Object> made = (Collection<Object>) empty(
            raw, new ArrayList<>(), new LinkedHashSet<>(), new TreeSet<>(), new ArrayDeque<>());
        for (Object value : items) {
            made.add(read(value, item));
        }
        return made;
    }

    /** The first of the usual ones that is of the type, else one of the type's own. */
    private static Object empty(Class<?> raw, Object... usual) {
        for (Object one : usual) {
            if (raw.isInstance(one) && (raw.isInterface() || raw == one.getClass())) {
                return one;
            }
        }
        return make(raw);
    }

    private static Object constant(Object tree, Class<?> raw) {
        for (Object constant : raw.getEnumConstants()) {
            if (((Enum<?>) constant).name().equals(tree)) {
                return constant;
            }
        }
        throw new IllegalArgumentException(raw.getName() + " has no " + tree);
    }

    private static Object record(Object tree, Type type, Class<?> raw) {
        if (!(tree instanceof Map<?, ?> object)) {
            return refuse(tree, raw);
        }
        RecordComponent[] components = raw.getRecordComponents();
        Class<?>[] types = new Class<?>[components.length];
        Object[] values = new Object[components.length];
        for (int i = 0; i < components.length; i++) {
            types[i] = components[i].getType();
            Type declared = Generics.within(type, components[i].getGenericType());
            values[i] = read(object.get(components[i].getName()), declared);
        }
        try {
            return call(raw.getDeclaredConstructor(types), values);
        } catch (NoSuchMethodException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    private static Object bean(Map<?, ?> object, Type type, Class<?> raw) {
        Object bean = make(raw);
        Properties properties = Properties.of(raw);
        for (Map.Entry<?, ?> entry : object.entrySet()) {
            Properties.Writable property = properties.setBy((String) entry.getKey());
            if (property == null) {
                continue;
            }
            Object value = read(entry.getValue(), Generics.within(type, property.type()));
            try {
                property.set(bean, value);
            } catch (ReflectiveOperationException error) {
                throw Properties.thrown(error);
            }
        }
        return bean;
    }

    private static Object make(Class<?> raw) {
        if (raw.isInterface() || Modifier.isAbstract(raw.getModifiers())) {
            throw new IllegalArgumentException("cannot make " + raw.getName() + ", which is abstract");
        }
        try {
            return call(raw.getDeclaredConstructor());
        } catch (NoSuchMethodException absent) {
            throw new IllegalArgumentException("cannot make " + raw.getName() + ", which has no constructor without parameters");
        }
    }

    /** Types that are written as one word: those that say how it is read. */
    private static Object fromScalar(Object tree, Class<?> raw) {
        if (raw == Date.class && tree instanceof Number millis) {
            return new Date(millis.longValue());
        }
        if (tree instanceof List) {
            return refuse(tree, raw);
        }
        for (String name : List.of("parse", "fromString", "valueOf", "of", "forName")) {
            for (Class<?> parameter : List.of(String.class, CharSequence.class)) {
                try {
                    Method method = raw.getMethod(name, parameter);
                    if (Modifier.isStatic(method.getModifiers()) && raw.isAssignableFrom(method.getReturnType())) {
                        return call(method, tree.toString());
                    }
                } catch (NoSuchMethodException absent) {
                    // The next one.
                }
            }
        }
        try {
            return call(raw.getConstructor(String.class), tree.toString());
        } catch (NoSuchMethodException absent) {
            return refuse(tree, raw);
        }
    }

    private static Object call(Executable what, Object... arguments) {
        what.trySetAccessible();
        try {
            return what instanceof Constructor<?> constructor
                ? constructor.newInstance(arguments) : ((Method) what).invoke(null, arguments);
        } catch (ReflectiveOperationException error) {
            throw Properties.thrown(error);
        }
    }
}
