package virga.runtime;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;

/**
 * What a handler of streams writes its answer to. It is sent piece by piece (`Lambda-Runtime-Function-Response-Mode:
 * streaming`) from the first flush on, or once it is more than {@link #ROOM} bytes; else it is an answer like any other.
 * What goes wrong after that is told in trailers.
 */
final class Pieces extends OutputStream {
    private static final int ROOM = 16384;
    private static final String TYPE = "Lambda-Runtime-Function-Error-Type";
    private static final String BODY = "Lambda-Runtime-Function-Error-Body";

    private final Connection connection;
    private final String path;
    private byte[] held = new byte[512];
    private int count;
    private boolean begun;
    private boolean over;

    Pieces(Connection connection, String path) {
        this.connection = connection;
        this.path = path;
    }

    /** Whether something was sent. */
    boolean begun() {
        return begun;
    }

    /** All of it, where nothing was sent. */
    byte[] whole() {
        return Arrays.copyOf(held, count);
    }

    @Override
    public void write(int octet) throws IOException {
        write(new byte[] {(byte) octet}, 0, 1);
    }

    @Override
    public void write(byte[] bytes, int from, int length) throws IOException {
        if (over) {
            throw new IOException("the answer is over");
        }
        if (count + length > ROOM) {
            flush();
        }
        if (length > ROOM) {
            send(bytes, from, length);
            return;
        }
        if (count + length > held.length) {
            held = Arrays.copyOf(held, Math.min(ROOM, Math.max(2 * held.length, count + length)));
        }
        System.arraycopy(bytes, from, held, count, length);
        count += length;
    }

    @Override
    public void flush() throws IOException {
        if (!over && count > 0) {
            send(held, 0, count);
            count = 0;
        }
    }

    /** The end, without an error or with one. The API's reply. */
    Connection.Reply finish(String type, byte[] report) throws IOException {
        flush();
        over = true;
        String trailers = type == null
            ? "" : TYPE + ": " + type + "\r\n" + BODY + ": " + Base64.getEncoder().encodeToString(report) + "\r\n";
        connection.write(("0\r\n" + trailers + "\r\n").getBytes(StandardCharsets.US_ASCII));
        return connection.finish();
    }

    /** The head goes with the first piece. */
    private void send(byte[] bytes, int from, int length) throws IOException {
        String head = begun ? "" : connection.begin(path, "Content-Type: application/json\r\n"
            + "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\nTrailer: "
            + TYPE + ", " + BODY + "\r\n");
        begun = true;
        byte[] before = (head + Integer.toHexString(length) + "\r\n").getBytes(StandardCharsets.UTF_8);
        byte[] chunk = Arrays.copyOf(before, before.length + length + 2);
        System.arraycopy(bytes, from, chunk, before.length, length);
        chunk[chunk.length - 2] = '\r';
        chunk[chunk.length - 1] = '\n';
        connection.write(chunk);
    }
}
