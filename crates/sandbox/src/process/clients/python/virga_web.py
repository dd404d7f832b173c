"""Serves a Python web application on $PORT: `python web.py MODULE:NAME`.

The name is an application object of one of Python's two conventions: WSGI (PEP 3333) or ASGI 3. The file is what a
framework's own server would be for it: HTTP/1.1 on loopback, towards Virga alone, which has read and bounded every
request before; so what is malformed ends the connection and nothing is reported. Bodies stream both ways and press
back. This module reads requests and writes answers; `virga_asgi` and `virga_wsgi` call the application.
"""

import asyncio
import os
import sys
import traceback
from http import HTTPStatus

import virga_runtime

# How much of a body is taken in before the application asks for it, in bytes.
WINDOW = 64 * 1024
# The longest head, in bytes: more than Virga lets through.
HEAD = 256 * 1024

PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Disconnected(Exception):
    """The caller is gone."""


class Request:
    """A request whose body may still be coming. `headers` are pairs of bytes, names in lower case."""

    def __init__(self, connection, method, target, headers):
        self.connection = connection
        self.method = method
        self.path, _, self.query = target.partition(b"?")
        self.headers = headers
        self.chunks = []
        self.buffered = 0
        self.complete = False
        self.gone = False
        self.answered = False
        self.news = asyncio.Event()

    def header(self, name):
        for found, value in self.headers:
            if found == name:
                return value
        return None

    def feed(self, data):
        self.chunks.append(data)
        self.buffered += len(data)
        if self.buffered > WINDOW:
            self.connection.pause()
        self.news.set()

    def finish(self):
        self.complete = True
        self.news.set()

    def lost(self):
        self.gone = True
        self.news.set()

    async def read(self):
        """The next piece of the body and whether more follows."""
        while not (self.chunks or self.complete or self.gone):
            self.news.clear()
            await self.news.wait()
        if self.gone and not self.complete:
            raise Disconnected
        data = b"".join(self.chunks)
        self.chunks.clear()
        self.buffered = 0
        self.connection.resume()
        return data, not self.complete

    def over(self):
        """The answer is complete."""
        self.answered = True
        self.news.set()

    async def until_over(self):
        while not (self.gone or self.answered):
            self.news.clear()
            await self.news.wait()


class Body:
    """Takes a request's body off the wire: so many bytes, or chunks (`length` is None)."""

    SIZE, DATA, AFTER, TRAILERS = range(4)

    def __init__(self, length):
        self.chunked = length is None
        self.left = length or 0
        self.expects = self.SIZE if self.chunked else self.DATA

    def take(self, buffer):
        """Removes what can be had from the buffer: the data and whether that was all."""
        data = bytearray()
        while True:
            if self.expects == self.DATA:
                piece = buffer[: self.left]
                del buffer[: len(piece)]
                self.left -= len(piece)
                data += piece
                if self.left or not self.chunked:
                    return bytes(data), not self.left
                self.expects = self.AFTER
            end = buffer.find(b"\r\n")
            if end < 0:
                return bytes(data), False
            line = bytes(buffer[:end])
            del buffer[: end + 2]
            if self.expects == self.SIZE:
                self.left = int(line.partition(b";")[0], 16)
                self.expects = self.DATA if self.left else self.TRAILERS
            elif self.expects == self.AFTER:
                self.expects = self.SIZE
            elif not line:
                return bytes(data), True


class Connection(asyncio.Protocol):
    """One request after another on one connection. `serve` is called with each and answers through this."""

    def __init__(self, serve, tasks):
        self.serve = serve
        self.tasks = tasks
        self.buffer = bytearray()
        self.transport = None
        self.request = None
        self.body = None
        self.paused = False
        self.drained = asyncio.Event()
        self.drained.set()
        # A function that takes what comes after an upgrade.
        self.upgraded = None
        # A function that hears of the end while an upgrade is asked for or in force.
        self.ended = None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        self.drained.set()
        if self.request is not None:
            self.request.lost()
        if self.ended is not None:
            self.ended()

    def pause_writing(self):
        self.drained.clear()

    def resume_writing(self):
        self.drained.set()

    def pause(self):
        if not self.paused:
            self.paused = True
            self.transport.pause_reading()

    def resume(self):
        if self.paused:
            self.paused = False
            self.transport.resume_reading()

    def data_received(self, data):
        if self.upgraded is not None:
            self.upgraded(data)
            return
        self.buffer += data
        try:
            self.advance()
        except (ValueError, IndexError):
            self.transport.abort()

    def advance(self):
        """Reads on as far as it can."""
        if self.request is None and not self.read_head():
            return
        if self.body is not None:
            data, whole = self.body.take(self.buffer)
            if data:
                self.request.feed(data)
            if whole:
                self.body = None
                self.request.finish()

    def read_head(self):
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > HEAD:
                raise ValueError("the head is too long")
            return False
        lines = bytes(self.buffer[:end]).split(b"\r\n")
        del self.buffer[: end + 4]
        method, target, _ = lines[0].split(b" ")
        headers = []
        length = 0
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            name, value = name.lower(), value.strip()
            headers.append((name, value))
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                length = None
        self.request = Request(self, method.decode("ascii"), target, headers)
        self.body = Body(length) if length != 0 else None
        if self.body is None:
            self.request.finish()
        task = asyncio.ensure_future(self.answer(self.request))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return True

    async def answer(self, request):
        answer = Answer(self, request)
        try:
            await self.serve(request, answer)
        except Disconnected:
            pass
        except (Exception, asyncio.CancelledError):
            # A task that the application has cancelled and waits for cancels the application.
            log_exception()
            answer.failed()
        request.over()
        self.go_on(request, answer)
        if self.request is request and self.upgraded is None:
            # It broke off, which the caller must not take for its end; or nobody will read the rest of the body.
            self.transport.close()

    def go_on(self, request, answer):
        """Once an exchange is over the next request may come, whatever the application still does for the last."""
        over = answer.ended and request.complete and self.upgraded is None
        if self.request is not request or not over or self.transport.is_closing():
            return
        self.request = self.ended = None
        self.resume()
        if self.buffer:
            self.data_received(b"")


class Answer:
    """What goes back for a request. The head leaves with the first piece of the body."""

    def __init__(self, connection, request):
        self.connection = connection
        self.request = request
        self.head = None
        self.started = False
        self.ended = False
        self.chunked = False
        self.bodiless = False
        # How many bytes of the body are still to come, where the head says so.
        self.left = None

    def start(self, status, headers):
        """The head: a number, and pairs of bytes."""
        if not 200 <= status <= 999:
            raise ValueError("%d is not the status of an answer" % status)
        lengths = [int(value) for name, value in headers if name.lower() == b"content-length"]
        self.bodiless = status in (204, 304) or self.request.method == "HEAD"
        self.left = lengths[0] if lengths and not self.bodiless else None
        self.chunked = not lengths and not self.bodiless
        lines = [b"HTTP/1.1 %d %s\r\n" % (status, PHRASES.get(status, "").encode())]
        for name, value in headers:
            if name.lower() in (b"transfer-encoding", b"connection"):
                # The connection is ours.
                continue
            lines.append(header(name, value))
        self.head = lines
        self.started = True

    async def write(self, data, more):
        """A piece of the body."""
        transport = self.connection.transport
        if transport.is_closing():
            raise Disconnected
        self.count(data, more)
        parts = []
        if self.head is not None:
            if self.chunked and not more:
                # All of it is here: so its length is known.
                self.chunked = False
                self.head.append(b"content-length: %d\r\n" % len(data))
            elif self.chunked:
                self.head.append(b"transfer-encoding: chunked\r\n")
            parts = [*self.head, b"\r\n"]
            self.head = None
        if self.chunked:
            if data:
                parts += [b"%x\r\n" % len(data), data, b"\r\n"]
            if not more:
                parts.append(b"0\r\n\r\n")
        elif not self.bodiless:
            parts.append(data)
        transport.write(b"".join(parts))
        if not more:
            self.ended = True
            self.request.over()
            self.connection.go_on(self.request, self)
        if not self.connection.drained.is_set():
            await self.connection.drained.wait()
            if transport.is_closing():
                raise Disconnected

    def count(self, data, more):
        """Holds the body to the length that the head says: the caller would wait for the rest, or take it for the next answer."""
        if self.left is None:
            return
        self.left -= len(data)
        if self.left < 0 or self.left and not more:
            raise RuntimeError("the answer is %s than its Content-Length" % ("longer" if self.left < 0 else "shorter"))

    def failed(self):
        """The application raised: a 500 if nothing was said yet."""
        if self.started and self.head is None:
            return
        if not self.connection.transport.is_closing():
            body = b"Internal Server Error"
            head = b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"
            self.connection.transport.write(head % len(body) + (b"" if self.request.method == "HEAD" else body))
            self.ended = True


def header(name, value):
    """A line of a head."""
    line = b"%s: %s" % (name, value)
    if b"\r" in line or b"\n" in line:
        raise ValueError("a header holds a line end")
    return line + b"\r\n"


def log_exception():
    """One entry of the log."""
    text = traceback.format_exc().rstrip("\n").replace("\n", "\r")
    virga_runtime.flush()
    virga_runtime.write_line("[ERROR] " + text)


def load(name):
    """The application that `MODULE:NAME` names, or that `MODULE:NAME()` makes."""
    module, _, path = name.partition(":")
    called = path.endswith("()")
    found = __import__(module, fromlist=["_"])
    for part in (path[:-2] if called else path).split("."):
        found = getattr(found, part)
    return found() if called else found


def is_asgi(application):
    """Whether it is called with scope, receive and send, as a coroutine function."""
    import inspect

    if inspect.isclass(application):
        return hasattr(application, "__await__")
    called = application if inspect.isfunction(application) or inspect.ismethod(application) else type(application).__call__
    return inspect.iscoroutinefunction(called)


async def serve(application):
    import signal

    kind = virga_runtime.half("asgi" if is_asgi(application) else "wsgi")
    host = await kind.start(application)
    loop = asyncio.get_running_loop()
    stopping = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: stopping.done() or stopping.set_result(None))
    tasks = set()
    server = await loop.create_server(lambda: Connection(host.serve, tasks), "127.0.0.1", int(os.environ["PORT"]), backlog=1024)
    await stopping
    server.close()
    if tasks:
        await asyncio.wait(set(tasks))
    await host.stop()


def main():
    name = sys.argv[1]
    virga_runtime.set_up_process()
    try:
        application = load(name)
        asyncio.run(serve(application))
    except Exception:
        log_exception()
        sys.exit(1)
