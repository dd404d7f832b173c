package virga.runtime;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * JSON as plain values: maps, lists, strings, numbers, booleans, null. Numbers become the smallest of `Integer`, `Long`
 * and `BigInteger` that holds them, those with a fraction or an exponent `Double`.
 */
final class Json {
    /** Objects within objects. */
    private static final int DEPTH = 1000;

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    static Object parse(byte[] bytes) {
        Json json = new Json(new String(bytes, StandardCharsets.UTF_8));
        Object value = json.value(0);
        json.space();
        if (json.at < json.text.length()) {
            throw json.bad("something follows the value");
        }
        return value;
    }

    private IllegalArgumentException bad(String what) {
        return new IllegalArgumentException(what + " at character " + at);
    }

    private void space() {
        while (at < text.length() && " \t\n\r".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private char next() {
        space();
        if (at == text.length()) {
            throw bad("the text ends");
        }
        return text.charAt(at);
    }

    private boolean take(char wanted) {
        if (next() != wanted) {
            return false;
        }
        at++;
        return true;
    }

    private Object value(int depth) {
        if (depth > DEPTH) {
            throw bad("too many levels");
        }
        return switch (next()) {
            case '{' -> object(depth);
            case '[' -> array(depth);
            case '"' -> string();
            case 't' -> word("true", Boolean.TRUE);
            case 'f' -> word("false", Boolean.FALSE);
            case 'n' -> word("null", null);
            default -> number();
        };
    }

    private Object word(String word, Object value) {
        if (!text.startsWith(word, at)) {
            throw bad("no JSON");
        }
        at += word.length();
        return value;
    }

    private Map<String, Object> object(int depth) {
        Map<String, Object> object = new LinkedHashMap<>();
        at++;
        if (take('}')) {
            return object;
        }
        do {
            if (next() != '"') {
                throw bad("a name should stand here");
            }
            String name = string();
            if (!take(':')) {
                throw bad("a colon should stand here");
            }
            object.put(name, value(depth + 1));
        } while (take(','));
        if (!take('}')) {
            throw bad("the object does not end");
        }
        return object;
    }

    private List<Object> array(int depth) {
        List<Object> array = new ArrayList<>();
        at++;
        if (take(']')) {
            return array;
        }
        do {
            array.add(value(depth + 1));
        } while (take(','));
        if (!take(']')) {
            throw bad("the array does not end");
        }
        return array;
    }

    private String string() {
        int start = ++at;
        while (at < text.length() && text.charAt(at) != '"' && text.charAt(at) != '\\') {
            at++;
        }
        if (at < text.length() && text.charAt(at) == '"') {
            return text.substring(start, at++);
        }
        StringBuilder string = new StringBuilder(text.substring(start, at));
        while (at < text.length()) {
            char c = text.charAt(at++);
            if (c == '"') {
                return string.toString();
            }
            string.append(c == '\\' ? escape() : c);
        }
        throw bad("the string does not end");
    }

    private char escape() {
        if (at == text.length()) {
            throw bad("the string does not end");
        }
        char c = text.charAt(at++);
        switch (c) {
            case 'b':
                return '\b';
            case 'f':
                return '\f';
            case 'n':
                return '\n';
            case 'r':
                return '\r';
            case 't':
                return '\t';
            case 'u':
                if (at + 4 > text.length()) {
                    throw bad("the string does not end");
                }
                at += 4;
                return (char) Integer.parseInt(text.substring(at - 4, at), 16);
            default:
                return c;
        }
    }

    private Number number() {
        int start = at;
        boolean whole = true;
        for (; at < text.length() && "+-.0123456789eE".indexOf(text.charAt(at)) >= 0; at++) {
            whole &= ".eE".indexOf(text.charAt(at)) < 0;
        }
        String digits = text.substring(start, at);
        try {
            if (!whole) {
                return Double.valueOf(digits);
            }
            if (digits.length() < 19) {
                long value = Long.parseLong(digits);
                if (value == (int) value) {
                    return (int) value;
                }
                return value;
            }
            BigInteger value = new BigInteger(digits);
            return value.bitLength() < 64 ? (Number) value.longValue() : value;
        } catch (NumberFormatException no) {
            at = start;
            throw bad("no JSON");
        }
    }

    /** Writes what {@link #parse} can give. */
    static byte[] write(Object tree) {
        StringBuilder text = new StringBuilder();
        write(tree, text);
        return text.toString().getBytes(StandardCharsets.UTF_8);
    }

    private static void write(Object value, StringBuilder into) {
        if (value instanceof String string) {
            quote(string, into);
        } else if (value instanceof Map<?, ?> object) {
            char before = '{';
            for (Map.Entry<?, ?> entry : object.entrySet()) {
                into.append(before);
                before = ',';
                quote((String) entry.getKey(), into);
                into.append(':');
                write(entry.getValue(), into);
            }
            into.append(before == '{' ? "{}" : "}");
        } else if (value instanceof List<?> array) {
            char before = '[';
            for (Object item : array) {
                into.append(before);
                before = ',';
                write(item, into);
            }
            into.append(before == '[' ? "[]" : "]");
        } else if (value instanceof BigDecimal decimal) {
            into.append(decimal);
        } else if (value instanceof Double || value instanceof Float) {
            double number = ((Number) value).doubleValue();
            // JSON has no such numbers; Jackson writes them as strings.
            boolean finite = !Double.isNaN(number) && !Double.isInfinite(number);
            into.append(finite ? value.toString() : "\"" + value + "\"");
        } else {
            into.append(value);
        }
    }

    private static void quote(String string, StringBuilder into) {
        into.append('"');
        for (int i = 0; i < string.length(); i++) {
            char c = string.charAt(i);
            switch (c) {
                case '"' -> into.append("\\\"");
                case '\\' -> into.append("\\\\");
                case '\n' -> into.append("\\n");
                case '\r' -> into.append("\\r");
                case '\t' -> into.append("\\t");
                default -> {
                    // Half of a pair has no UTF-8.
                    boolean lone = Character.isSurrogate(c) && !isPaired(string, i);
                    if (c < ' ' || lone) {
                        into.append(String.format("\\u%04x", (int) c));
                    } else {
                        into.append(c);
                    }
                }
            }
        }
        into.append('"');
    }

    private static boolean isPaired(String string, int i) {
        char c = string.charAt(i);
        if (Character.isHighSurrogate(c)) {
            return i + 1 < string.length() && Character.isLowSurrogate(string.charAt(i + 1));
        }
        return i > 0 && Character.isHighSurrogate(string.charAt(i - 1));
    }
}
