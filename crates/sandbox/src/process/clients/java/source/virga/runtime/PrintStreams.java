package virga.runtime;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;

/** Output: what the function holds back is its invocation's, and the client's own lines go where nobody redirected. */
final class PrintStreams {
    private final FileOutputStream log = new FileOutputStream(FileDescriptor.out);

    void flush() {
        System.out.flush();
        System.err.flush();
    }

    void line(String text) {
        try {
            log.write((text + "\n").getBytes(StandardCharsets.UTF_8));
        } catch (IOException closed) {
            // The function closed it: there is nobody to tell.
        }
    }
}
