"""Raw HTTP/1.1 over a socket: for what a client library would hide, above all when bytes arrive."""

import socket
import urllib.parse


class Wire:
    """One connection to a function URL by path."""

    def __init__(self, url, seconds=15):
        self.parts = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((self.parts.hostname, self.parts.port), timeout=seconds)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def begin(self, method, headers=()):
        """Sends a request's head."""
        target = self.parts.path + (f"?{self.parts.query}" if self.parts.query else "")
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.parts.netloc}", *headers, "", ""]
        self.socket.sendall("\r\n".join(lines).encode())

    def send_chunk(self, data):
        """Sends one chunk; an empty one ends the body."""
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def _until(self, end):
        while end not in self.buffer:
            more = self.socket.recv(65536)
            assert more, f"the connection ended after {self.buffer[-200:]!r}"
            self.buffer += more
        found, self.buffer = self.buffer.split(end, 1)
        return found

    def head(self):
        """Reads the status and the headers."""
        first, *lines = self._until(b"\r\n\r\n").decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split()[1]), headers

    def chunk(self):
        """Reads one chunk of the answer; empty at its end."""
        size = int(self._until(b"\r\n"), 16)
        while len(self.buffer) < size + 2:
            more = self.socket.recv(65536)
            assert more, "the connection ended within a chunk"
            self.buffer += more
        data, self.buffer = self.buffer[:size], self.buffer[size + 2 :]
        return data

    def chunks_until(self, end):
        """Reads chunks until what was read ends so."""
        data = b""
        while not data.endswith(end):
            more = self.chunk()
            assert more, f"the body ended after {data!r}"
            data += more
        return data
