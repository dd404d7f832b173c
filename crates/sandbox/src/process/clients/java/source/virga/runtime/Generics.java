package virga.runtime;

import java.lang.reflect.Array;
import java.lang.reflect.GenericArrayType;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.lang.reflect.WildcardType;
import java.util.HashMap;
import java.util.Map;

/** What a declared type is once its variables are known. One that stays unknown is what bounds it. */
final class Generics {
    private Generics() {
    }

    /** A type with arguments, none of which is a variable. */
    private record Applied(Class<?> raw, Type[] arguments) implements ParameterizedType {
        @Override
        public Type[] getActualTypeArguments() {
            return arguments;
        }

        @Override
        public Type getRawType() {
            return raw;
        }

        @Override
        public Type getOwnerType() {
            return null;
        }
    }

    /** The class behind a type. */
    static Class<?> raw(Type type) {
        if (type instanceof Class<?> plain) {
            return plain;
        }
        if (type instanceof ParameterizedType applied) {
            return (Class<?>) applied.getRawType();
        }
        if (type instanceof GenericArrayType array) {
            return Array.newInstance(raw(array.getGenericComponentType()), 0).getClass();
        }
        return Object.class;
    }

    /** What `type`, as it stands in the declaration of `of`'s class or of one that it extends, is for `of`. */
    static Type within(Type of, Type type) {
        return replace(type, variables(of));
    }

    /** The argument that `of` gives `target`, a class or interface above it. */
    static Type argument(Type of, Class<?> target, int index) {
        return replace(target.getTypeParameters()[index], variables(of));
    }

    /** All variables of a type and of those above it. */
    private static Map<TypeVariable<?>, Type> variables(Type of) {
        Map<TypeVariable<?>, Type> known = new HashMap<>();
        collect(of, known);
        return known;
    }

    private static void collect(Type type, Map<TypeVariable<?>, Type> known) {
        if (type == null) {
            return;
        }
        Class<?> raw = raw(type);
        if (type instanceof ParameterizedType applied) {
            TypeVariable<?>[] names = raw.getTypeParameters();
            Type[] arguments = applied.getActualTypeArguments();
            for (int i = 0; i < names.length; i++) {
                known.putIfAbsent(names[i], replace(arguments[i], known));
            }
        }
        collect(raw.getGenericSuperclass(), known);
        for (Type above : raw.getGenericInterfaces()) {
            collect(above, known);
        }
    }

    private static Type replace(Type type, Map<TypeVariable<?>, Type> known) {
        if (type instanceof TypeVariable<?> variable) {
            Type found = known.get(variable);
            // A bound may name the variable itself: its class says enough.
            return found != null ? found : bound(variable.getBounds()[0]);
        }
        if (type instanceof WildcardType wildcard) {
            return replace(wildcard.getUpperBounds()[0], known);
        }
        if (type instanceof ParameterizedType applied) {
            Type[] arguments = applied.getActualTypeArguments().clone();
            for (int i = 0; i < arguments.length; i++) {
                arguments[i] = replace(arguments[i], known);
            }
            return new Applied(raw(applied), arguments);
        }
        if (type instanceof GenericArrayType array) {
            Type item = replace(array.getGenericComponentType(), known);
            return item instanceof Class<?> plain ? Array.newInstance(plain, 0).getClass() : new ArrayOf(item);
        }
        return type;
    }

    private static Type bound(Type bound) {
        return bound instanceof TypeVariable<?> variable ? bound(variable.getBounds()[0]) : raw(bound);
    }

    private record ArrayOf(Type item) implements GenericArrayType {
        @Override
        public Type getGenericComponentType() {
            return item;
        }
    }
}
