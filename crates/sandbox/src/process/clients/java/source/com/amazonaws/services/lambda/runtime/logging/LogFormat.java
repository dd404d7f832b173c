package com.amazonaws.services.lambda.runtime.logging;

/** Stands in for the type of that name where a package does not carry it. */
public enum LogFormat {
    JSON,
    TEXT;

    public static LogFormat fromString(String name) {
        return name == null ? TEXT : valueOf(name.toUpperCase(java.util.Locale.ROOT));
    }
}
