"""Calls an ASGI application (asgi.readthedocs.io, version 3.0): HTTP, WebSockets, lifespan."""

import asyncio
import base64
import hashlib
import struct
import sys
from urllib.parse import unquote_to_bytes

import virga_runtime
from virga_web import Disconnected, header

VERSION = {"version": "3.0", "spec_version": "2.4"}
# The longest message of a WebSocket, in bytes.
MESSAGE = 16 * 1024 * 1024
# How many messages of a WebSocket wait for the application before it is not read from any more; or as much as one may hold.
WAITING = 32
# How long a caller may take to close what was closed to it, in seconds.
LINGER = 5
MORE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


async def start(application):
    host = Host(application)
    await host.start()
    return host


class Host:
    """The application, started."""

    def __init__(self, application):
        self.application = application
        self.state = {}
        self.lifespan = None

    async def start(self):
        """Runs `lifespan.startup`. An application that raises on it does without."""
        self.lifespan = Lifespan(self.application, self.state)
        await self.lifespan.start()

    async def stop(self):
        await self.lifespan.stop()

    async def serve(self, request, answer):
        if request.method == "GET" and (request.header(b"upgrade") or b"").lower() == b"websocket":
            await WebSocket(request, answer).run(self.application, self.scope(request, "websocket"))
            return
        exchange = Exchange(request, answer)
        await self.application(self.scope(request, "http"), exchange.receive, exchange.send)
        if not answer.ended and not request.gone:
            raise RuntimeError("the application returned without a whole answer")

    def scope(self, request, kind):
        secure = request.header(b"x-forwarded-proto") == b"https"
        scheme = {"http": ("http", "https"), "websocket": ("ws", "wss")}[kind][secure]
        host, _, port = (request.header(b"host") or b"localhost").decode("latin-1").rpartition(":")
        caller = (request.header(b"x-forwarded-for") or b"127.0.0.1").decode("latin-1")
        scope = {
            "type": kind,
            "asgi": VERSION,
            "http_version": "1.1",
            "scheme": scheme,
            "path": unquote_to_bytes(request.path).decode("utf-8", "replace"),
            "raw_path": request.path,
            "query_string": request.query,
            "root_path": "",
            "headers": request.headers,
            "client": (caller.rpartition(",")[2].strip(), 0),
            "server": (host or port, int(port) if host and port.isdigit() else 443 if secure else 80),
            "state": self.state.copy(),
            "extensions": {},
        }
        if kind == "http":
            scope["method"] = request.method
        else:
            asked = (request.header(b"sec-websocket-protocol") or b"").decode("latin-1")
            scope["subprotocols"] = [name.strip() for name in asked.split(",") if name.strip()]
        return scope


class Lifespan:
    """The application's own beginning and end."""

    def __init__(self, application, state):
        self.scope = {"type": "lifespan", "asgi": VERSION, "state": state}
        self.application = application
        self.asked = asyncio.Queue()
        self.answers = asyncio.Queue()
        self.task = None

    async def start(self):
        self.task = asyncio.ensure_future(self.run())
        await self.asked.put({"type": "lifespan.startup"})
        said = await self.answers.get()
        if said["type"] == "lifespan.startup.failed":
            virga_runtime.write_line("[ERROR] the application did not start: " + said.get("message", ""))
            sys.exit(1)

    async def run(self):
        try:
            await self.application(self.scope, self.asked.get, self.answers.put)
        except (Exception, asyncio.CancelledError):
            # The specification's way to say that there is no lifespan.
            pass
        await self.answers.put({"type": "lifespan.ended"})

    async def stop(self):
        if not self.task.done():
            await self.asked.put({"type": "lifespan.shutdown"})
            await self.task


class Exchange:
    """`receive` and `send` of one request."""

    def __init__(self, request, answer):
        self.request = request
        self.answer = answer
        self.read = False

    async def receive(self):
        if self.read:
            # Nothing more comes but the end.
            await self.request.until_over()
            return {"type": "http.disconnect"}
        try:
            body, more = await self.request.read()
        except Disconnected:
            return {"type": "http.disconnect"}
        self.read = not more
        return {"type": "http.request", "body": body, "more_body": more}

    async def send(self, message):
        kind = message["type"]
        if kind == "http.response.start":
            if self.answer.started:
                raise RuntimeError("http.response.start was sent already")
            self.answer.start(message["status"], list(message.get("headers", ())))
        elif kind == "http.response.body":
            if not self.answer.started or self.answer.ended:
                raise RuntimeError("http.response.body without an answer under way")
            try:
                await self.answer.write(bytes(message.get("body", b"")), message.get("more_body", False))
            except Disconnected:
                # As the specification has it: `send` raises an OSError.
                raise OSError("the caller is gone") from None
        else:
            raise RuntimeError("unknown message %s" % kind)


class WebSocket:
    """RFC 6455, the server's side, without extensions."""

    def __init__(self, request, answer):
        self.request = request
        self.answer = answer
        self.transport = request.connection.transport
        self.messages = asyncio.Queue()
        self.waiting = 0
        self.buffer = bytearray()
        self.message = bytearray()
        # Of the message that is coming.
        self.kind = None
        self.accepted = self.closed = False
        self.over = asyncio.Event()
        request.connection.ended = lambda: self.end(1006)

    async def run(self, application, scope):
        if self.request.header(b"sec-websocket-version") != b"13":
            return await self.refuse(426, [(b"sec-websocket-version", b"13")])
        if not self.request.header(b"sec-websocket-key"):
            return await self.refuse(400)
        self.messages.put_nowait({"type": "websocket.connect"})
        try:
            await application(scope, self.receive, self.send)
        finally:
            if self.accepted and not self.closed:
                self.close(1011)
        if not self.accepted and not self.answer.ended:
            await self.refuse()

    async def receive(self):
        message = await self.messages.get()
        self.waiting -= size(message)
        if not self.is_full():
            self.request.connection.resume()
        return message

    async def send(self, message):
        kind = message["type"]
        if kind == "websocket.accept" and not self.accepted:
            self.accept(message)
        elif kind == "websocket.close" and not self.accepted and not self.answer.ended:
            await self.refuse()
        elif kind == "websocket.close" and self.accepted:
            if not self.closed:
                self.close(message.get("code", 1000), message.get("reason") or "")
        elif kind == "websocket.send" and self.accepted:
            if self.closed or self.transport.is_closing():
                raise OSError("the caller is gone")
            text = message.get("text")
            data = message["bytes"] if text is None else text.encode("utf-8")
            self.frame(BINARY if text is None else TEXT, data)
            await self.request.connection.drained.wait()
        else:
            raise RuntimeError("%s is not expected now" % kind)

    async def refuse(self, status=403, headers=()):
        self.answer.start(status, headers)
        await self.answer.write(b"", False)
        self.end(1006)

    def accept(self, message):
        key = (self.request.header(b"sec-websocket-key") or b"") + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        proof = base64.b64encode(hashlib.sha1(key).digest())
        headers = [(b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"sec-websocket-accept", proof)]
        if message.get("subprotocol"):
            headers.append((b"sec-websocket-protocol", message["subprotocol"].encode("latin-1")))
        headers += message.get("headers") or ()
        head = b"HTTP/1.1 101 Switching Protocols\r\n" + b"".join(header(name, value) for name, value in headers)
        self.accepted = self.answer.started = self.answer.ended = True
        connection = self.request.connection
        connection.upgraded = self.received
        self.transport.write(head + b"\r\n")
        early = bytes(connection.buffer)
        connection.buffer.clear()
        if early:
            self.received(early)

    def received(self, data):
        """Bytes from the wire."""
        self.buffer += data
        while self.take_frame():
            pass
        if self.is_full() and not self.closed:
            self.request.connection.pause()

    def is_full(self):
        return self.messages.qsize() >= WAITING or self.waiting >= MESSAGE

    def take_frame(self):
        """One frame off the buffer, if it is whole."""
        buffer = self.buffer
        if len(buffer) < 2:
            return False
        kind, final, short = buffer[0] & 15, buffer[0] & 128, buffer[1] & 127
        if buffer[0] & 112 or not buffer[1] & 128 or not self.is_expected(kind, final, short):
            self.close(1002)
            return False
        start = 2 + {126: 2, 127: 8}.get(short, 0)
        if len(buffer) < start + 4:
            return False
        length = short if short < 126 else int.from_bytes(buffer[2:start], "big")
        if len(self.message) + length > MESSAGE:
            self.close(1009)
            return False
        end = start + 4 + length
        if len(buffer) < end:
            return False
        data = unmask(buffer[start + 4 : end], bytes(buffer[start : start + 4]))
        del buffer[:end]
        self.handle(kind, final, data)
        return True

    def is_expected(self, kind, final, short):
        """Control frames are whole and short and may come between the pieces of a message, which are of one."""
        if kind in (CLOSE, PING, PONG):
            return final and short < 126
        return kind == MORE if self.kind else kind in (TEXT, BINARY)

    def handle(self, kind, final, data):
        if kind == CLOSE:
            self.closing(data)
        elif self.closed:
            # Sent before the caller knew.
            return
        elif kind == PING:
            # A caller that reads nothing gets none.
            if self.request.connection.drained.is_set():
                self.frame(PONG, data)
        elif kind != PONG:
            self.kind = kind or self.kind
            self.message += data
            if final:
                self.deliver()

    def closing(self, data):
        """The caller closes: with a code and a reason, or with nothing."""
        if self.closed:
            self.transport.close()
            return
        code = struct.unpack("!H", data[:2])[0] if len(data) >= 2 else None
        if data and not is_code(code):
            self.close(1002)
            return
        try:
            reason = data[2:].decode("utf-8")
        except UnicodeDecodeError:
            self.close(1007)
            return
        self.end(code or 1005, reason)
        self.close(code or 1000)
        self.transport.close()

    def deliver(self):
        message, self.message = bytes(self.message), bytearray()
        kind, self.kind = self.kind, None
        try:
            content = {"bytes": message} if kind == BINARY else {"text": message.decode("utf-8")}
        except UnicodeDecodeError:
            self.close(1007)
            return
        content["type"] = "websocket.receive"
        self.waiting += size(content)
        self.messages.put_nowait(content)

    def frame(self, kind, data):
        short = len(data) if len(data) < 126 else 126 if len(data) < 65536 else 127
        length = {126: "!H", 127: "!Q"}.get(short)
        head = bytes([128 | kind, short]) + (struct.pack(length, len(data)) if length else b"")
        self.transport.write(head + data)

    def close(self, code, reason=""):
        """Closes towards the caller, who is read on until it closes too: the system takes what was sent to it back where
        something is left unread (RFC 6455, 7.1.1). One that breaks the rules again is not waited for."""
        if self.closed or self.transport.is_closing():
            self.closed = True
            self.transport.close()
            return
        self.closed = True
        # As much of it as has room, in whole characters.
        text = reason.encode("utf-8")[:123].decode("utf-8", "ignore").encode("utf-8")
        self.frame(CLOSE, struct.pack("!H", code) + text)
        self.end(code, reason)
        self.message.clear()
        self.request.connection.resume()
        asyncio.get_running_loop().call_later(LINGER, self.transport.close)

    def end(self, code, reason=""):
        """Tells the application, once."""
        if not self.over.is_set():
            self.over.set()
            self.messages.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})


def size(message):
    """How much a message holds, about."""
    return len(message.get("text") or message.get("bytes") or ())


def is_code(code):
    """Whether a frame may close with this (RFC 6455, 7.4; the registry of close codes)."""
    return code is not None and (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999)


def unmask(data, mask):
    """As one large number: a loop over bytes would be slow in Python."""
    length = len(data)
    whole = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(data, "little") ^ int.from_bytes(whole, "little")).to_bytes(length, "little")
