package virga.runtime;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Errors in the shape in which Lambda's Java runtime reports them. */
final class Errors {
    /** Causes of causes; a ring of them ends too. */
    private static final int DEPTH = 16;

    private Errors() {
    }

    static Map<String, Object> described(Throwable error) {
        return described(error, DEPTH);
    }

    private static Map<String, Object> described(Throwable error, int left) {
        Map<String, Object> report = new LinkedHashMap<>();
        report.put("errorMessage", message(error));
        report.put("errorType", type(error));
        report.put("stackTrace", stack(error));
        Throwable cause = error.getCause();
        if (cause != null && cause != error && left > 0) {
            report.put("cause", described(cause, left - 1));
        }
        return report;
    }

    static String type(Throwable error) {
        return error instanceof Fault fault ? fault.type : error.getClass().getName();
    }

    /** What the function's own class says may fail too. */
    private static String message(Throwable error) {
        try {
            return error.getMessage();
        } catch (Throwable worse) {
            return null;
        }
    }

    /** The function's frames, without those of the client and of what it called them by. */
    private static List<String> stack(Throwable error) {
        StackTraceElement[] frames = error.getStackTrace();
        int end = frames.length;
        for (int i = 0; i < frames.length; i++) {
            if (frames[i].getClassName().startsWith("virga.runtime.")) {
                end = i;
                break;
            }
        }
        while (end > 0 && isReflection(frames[end - 1].getClassName())) {
            end--;
        }
        List<String> lines = new ArrayList<>(end);
        for (int i = 0; i < end; i++) {
            StackTraceElement frame = frames[i];
            // Without module and loader, which say nothing here.
            String at = frame.isNativeMethod() ? "Native Method"
                : frame.getFileName() == null ? "Unknown Source"
                : frame.getLineNumber() < 0 ? frame.getFileName()
                : frame.getFileName() + ":" + frame.getLineNumber();
            lines.add(frame.getClassName() + "." + frame.getMethodName() + "(" + at + ")");
        }
        return lines;
    }

    private static boolean isReflection(String name) {
        return name.startsWith("java.lang.reflect.") || name.startsWith("jdk.internal.reflect.")
            || name.startsWith("java.lang.invoke.");
    }
}
