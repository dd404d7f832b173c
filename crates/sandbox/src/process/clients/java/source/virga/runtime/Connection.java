package virga.runtime;

import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;

/** HTTP/1.1 with the Runtime API over one kept connection. A message is one write. */
final class Connection {
    private static final String API = "/2018-06-01/runtime/";

    /** An answer; the names of headers in lower case. */
    record Reply(int status, Map<String, String> headers, byte[] body) {
    }

    private final String address;
    private Socket socket;
    private byte[] ahead = new byte[8192];
    private int filled;

    Connection(String address) {
        this.address = address;
    }

    Reply get(String path, String headers) throws IOException {
        return exchange("GET " + API + path + " HTTP/1.1\r\nHost: " + address + "\r\n" + headers + "\r\n", new byte[0]);
    }

    Reply post(String path, byte[] body, String headers) throws IOException {
        String head = "POST " + API + path + " HTTP/1.1\r\nHost: " + address + "\r\n" + headers;
        return exchange(head + "Content-Length: " + body.length + "\r\n\r\n", body);
    }

    /** A kept connection that turns out to be broken is opened again once: the API hands out a lost event again. */
    private Reply exchange(String head, byte[] body) throws IOException {
        byte[] start = head.getBytes(StandardCharsets.UTF_8);
        byte[] message = Arrays.copyOf(start, start.length + body.length);
        System.arraycopy(body, 0, message, start.length, body.length);
        boolean kept = socket != null;
        try {
            return send(message);
        } catch (IOException broken) {
            close();
            if (!kept) {
                throw broken;
            }
            return send(message);
        }
    }

    private Reply send(byte[] message) throws IOException {
        if (socket == null) {
            open();
        }
        socket.getOutputStream().write(message);
        return read(socket.getInputStream());
    }

    /** Begins a message whose body comes in pieces: its head, to go out with the first. It is not sent again. */
    String begin(String path, String headers) {
        return "POST " + API + path + " HTTP/1.1\r\nHost: " + address + "\r\n" + headers + "\r\n";
    }

    /** Sends a piece of a message. */
    void write(byte[] piece) throws IOException {
        if (socket == null) {
            open();
        }
        socket.getOutputStream().write(piece);
    }

    /** The answer to a message that was sent in pieces. */
    Reply finish() throws IOException {
        return read(socket.getInputStream());
    }

    private void open() throws IOException {
        int colon = address.lastIndexOf(':');
        // An address, so that no name is looked up.
        InetAddress host = InetAddress.getByName(address.substring(0, colon));
        // Whatever the function says of proxies.
        Socket opened = new Socket(Proxy.NO_PROXY);
        opened.setTcpNoDelay(true);
        opened.connect(new InetSocketAddress(host, Integer.parseInt(address.substring(colon + 1))));
        socket = opened;
        filled = 0;
    }

    void close() throws IOException {
        if (socket != null) {
            socket.close();
            socket = null;
        }
    }

    private Reply read(InputStream stream) throws IOException {
        int end;
        for (int from = 0; (end = endOfHead(from)) < 0; from = Math.max(0, filled - 3), fill(stream)) {
            // More is needed.
        }
        String[] lines = new String(ahead, 0, end, StandardCharsets.UTF_8).split("\r\n");
        Map<String, String> headers = new HashMap<>();
        for (int i = 1; i < lines.length; i++) {
            int colon = lines[i].indexOf(':');
            headers.put(lines[i].substring(0, colon).toLowerCase(Locale.ROOT), lines[i].substring(colon + 1).trim());
        }
        int start = end + 4;
        int length = Integer.parseInt(headers.getOrDefault("content-length", "0"));
        byte[] body = Arrays.copyOfRange(ahead, start, start + length);
        int have = Math.min(filled - start, length);
        for (int at = have; at < length; ) {
            int read = stream.read(body, at, length - at);
            if (read < 0) {
                throw new IOException("the Runtime API ended within an answer");
            }
            at += read;
        }
        filled -= start + have;
        System.arraycopy(ahead, start + have, ahead, 0, filled);
        int status = Integer.parseInt(lines[0].split(" ", 3)[1]);
        return new Reply(status, headers, body);
    }

    private void fill(InputStream stream) throws IOException {
        if (filled == ahead.length) {
            ahead = Arrays.copyOf(ahead, 2 * filled);
        }
        int read = stream.read(ahead, filled, ahead.length - filled);
        if (read < 0) {
            throw new IOException("the Runtime API closed the connection");
        }
        filled += read;
    }

    private int endOfHead(int from) {
        for (int i = from; i + 3 < filled; i++) {
            if (ahead[i] == '\r' && ahead[i + 1] == '\n' && ahead[i + 2] == '\r' && ahead[i + 3] == '\n') {
                return i;
            }
        }
        return -1;
    }
}
