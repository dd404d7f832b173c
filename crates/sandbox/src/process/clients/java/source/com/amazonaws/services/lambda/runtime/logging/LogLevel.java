package com.amazonaws.services.lambda.runtime.logging;

/** Stands in for the type of that name where a package does not carry it. */
public enum LogLevel {
    UNDEFINED,
    TRACE,
    DEBUG,
    INFO,
    WARN,
    ERROR,
    FATAL;

    public static LogLevel fromString(String name) {
        return name == null ? UNDEFINED : valueOf(name.toUpperCase(java.util.Locale.ROOT));
    }
}
