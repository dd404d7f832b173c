"""Calls a WSGI application (PEP 3333), each request in a thread of its own."""

import asyncio
import concurrent.futures
import io
import sys
from urllib.parse import unquote_to_bytes

# As many as Virga lets in by default.
THREADS = 100


async def start(application):
    return Host(application)


class Host:
    """The application and its threads."""

    def __init__(self, application):
        self.application = application
        self.loop = asyncio.get_running_loop()
        self.threads = concurrent.futures.ThreadPoolExecutor(THREADS, "request")

    async def stop(self):
        self.threads.shutdown(wait=False)

    async def serve(self, request, answer):
        last = await self.loop.run_in_executor(self.threads, self.call, request, answer)
        if not answer.ended:
            await answer.write(last, False)

    def call(self, request, answer):
        """In a thread. Returns the end of the body, which needs no going back and forth between threads."""
        response = Response(self.loop, answer)
        pieces = self.application(environ(request, Input(self.loop, request)), response.start)
        try:
            # What is whole is one piece, and goes out with its length.
            if isinstance(pieces, (list, tuple)):
                whole = b"".join(pieces)
                pieces = (whole,)
                if response.length is None or response.length > len(whole):
                    response.length = len(whole)
            for piece in pieces:
                response.write(piece)
        finally:
            if hasattr(pieces, "close"):
                pieces.close()
        return response.end()


class Response:
    """`start_response` and what follows, called in a thread."""

    def __init__(self, loop, answer):
        self.loop = loop
        self.answer = answer
        self.sent = False
        # How many bytes are still to come, where that is known.
        self.length = None
        self.last = b""

    def start(self, status, headers, exc_info=None):
        if exc_info:
            try:
                if self.sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.answer.started:
            raise AssertionError("start_response was called already")
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self.answer.start(int(status.split(" ", 1)[0]), pairs)
        lengths = [int(value) for name, value in headers if name.lower() == "content-length"]
        self.length = lengths[0] if lengths else None
        self.last = b""
        return self.write

    def write(self, data):
        if not self.answer.started:
            raise AssertionError("start_response was not called")
        if self.length is not None:
            # Not more than the header allows.
            data = data[: self.length]
            self.length -= len(data)
            if not self.length:
                self.last += data
                return
        if data:
            self.sent = True
            asyncio.run_coroutine_threadsafe(self.answer.write(data, True), self.loop).result()

    def end(self):
        if not self.answer.started:
            raise AssertionError("start_response was not called")
        return self.last


class Input(io.RawIOBase):
    """The request's body, read as it comes."""

    def __init__(self, loop, request):
        self.loop = loop
        self.request = request
        self.data = b""
        self.more = True

    def readable(self):
        return True

    def readinto(self, buffer):
        while not self.data and self.more:
            reading = asyncio.run_coroutine_threadsafe(self.request.read(), self.loop)
            self.data, self.more = reading.result()
        size = min(len(buffer), len(self.data))
        buffer[:size] = self.data[:size]
        self.data = self.data[size:]
        return size


def environ(request, raw):
    """The variables of PEP 3333."""
    host, _, port = (request.header(b"host") or b"localhost").decode("latin-1").rpartition(":")
    scheme = "https" if request.header(b"x-forwarded-proto") == b"https" else "http"
    caller = (request.header(b"x-forwarded-for") or b"127.0.0.1").decode("latin-1")
    variables = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
        "RAW_URI": request.path.decode("latin-1") + ("?" + request.query.decode("latin-1") if request.query else ""),
        "QUERY_STRING": request.query.decode("latin-1"),
        "SERVER_NAME": host or port,
        "SERVER_PORT": port if host and port.isdigit() else "443" if scheme == "https" else "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": caller.rpartition(",")[2].strip(),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BufferedReader(raw, 65536),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in request.headers:
        key = name.decode("latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        value = value.decode("latin-1")
        if "_" in name.decode("latin-1"):
            # It could pass for another header's variable.
            continue
        variables[key] = variables[key] + "," + value if key in variables else value
    return variables
