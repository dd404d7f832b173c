package virga.runtime;

/** An error that the client itself found, reported under another name than its own. */
final class Fault extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** What Lambda calls it. */
    final String type;

    Fault(String type, String message, Throwable cause) {
        super(message, cause, false, false);
        this.type = type;
    }

    Fault(String type, String message) {
        this(type, message, null);
    }
}
