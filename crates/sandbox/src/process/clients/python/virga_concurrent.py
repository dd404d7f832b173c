"""Several invocations at once for Python event handlers, and handlers that are coroutines.

A handler that is `async def` runs on one event loop, each invocation a task of its own; another runs in threads, each
invocation on one of its own. Either way an invocation has a slot: a connection that asks for an event, brings it,
and takes its answer. There are as many slots as invocations were ever under way at once, and one that asks for
more, up to the function's concurrency. What belongs to one invocation is in context variables.
"""

import asyncio
import contextvars
import socket
import sys
import threading

import virga_runtime as runtime

request_id = contextvars.ContextVar("virga_request_id", default=None)

# `logging` asks there.
runtime.current_id = request_id.get


class Slots:
    """How many slots there are, and how many of them ask for an event."""

    def __init__(self, most):
        self.most = most
        self.open = self.asking = 1

    def got_event(self):
        """A slot has an event; true if another slot is to be opened to ask for the next."""
        self.asking -= 1
        if self.asking or self.open == self.most:
            return False
        self.open += 1
        self.asking += 1
        return True

    def asks(self):
        self.asking += 1

    def not_opened(self):
        """A slot could not be opened; true if there are others."""
        self.open -= 1
        self.asking -= 1
        return self.open > 0


# --- Threads ---


def serve_threads(address, handler, most, began):
    slots, lock, ended = Slots(most), threading.Lock(), threading.Semaphore(0)
    endings = []

    def start(headers):
        threading.Thread(target=life, args=(headers,), name="invocations", daemon=True).start()

    def life(headers):
        try:
            run(headers)
        except BaseException as ending:
            # Exit and interrupt end the process as they do in its first thread, and so does a lost API.
            endings.append(ending)
            ended.release()

    def got_event():
        with lock:
            more = slots.got_event()
        if more:
            try:
                start("")
            except RuntimeError:
                may_do_without()

    def may_do_without():
        """The limit of threads or of open files is reached: the slots that there are go on."""
        with lock:
            return slots.not_opened()

    def run(headers):
        connection = runtime.Connection(address)
        try:
            path, reply = runtime.NEXT, connection.get(runtime.NEXT, headers)
        except OSError:
            if not may_do_without():
                raise
            return
        while True:
            status, headers, body = reply
            if not runtime.is_event(status, path):
                path, reply = runtime.NEXT, connection.get(runtime.NEXT)
                continue
            got_event()
            context = contextvars.copy_context()
            path, body, headers = context.run(one, headers, body)
            if type(body) is not bytes:
                context.run(runtime.half("streaming").send, connection, path, body, headers)
            with lock:
                slots.asks()
            reply = connection.post(path, body, headers) if type(body) is bytes else connection.receive()

    def one(headers, body):
        invocation = headers["lambda-runtime-aws-request-id"]
        request_id.set(invocation)
        return runtime.run_one(handler, invocation, headers, body)

    start(began)
    ended.acquire()
    raise endings[0]


# --- Tasks ---


class AsyncConnection:
    """As `virga_runtime.Connection`, for the event loop."""

    def __init__(self, address):
        self.address = address
        self.socket = None

    async def open(self):
        host, _, port = self.address.rpartition(":")
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(self.socket, (host, int(port)))

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    async def exchange(self, message):
        loop, kept = asyncio.get_running_loop(), self.socket is not None
        while True:
            try:
                if self.socket is None:
                    await self.open()
                await self.send(message)
                return await self.receive(loop)
            except (OSError, EOFError):
                self.close()
                if not kept:
                    raise
                kept = False

    async def send(self, message):
        await asyncio.get_running_loop().sock_sendall(self.socket, message)

    async def receive(self, loop):
        data = bytearray()
        end = -1
        while end < 0:
            data += await self.more(loop)
            end = data.find(b"\r\n\r\n")
        status, headers = runtime.parse_head(data, end)
        start = end + 4
        length = start + int(headers.get("content-length", 0))
        while len(data) < length:
            data += await self.more(loop)
        return status, headers, bytes(data[start:length])

    async def more(self, loop):
        more = await loop.sock_recv(self.socket, 65536)
        if not more:
            raise EOFError("the Runtime API closed the connection")
        return more


def serve_tasks(address, handler, most, began):
    # Not `asyncio.run`: a process that ends does not wait for what its tasks have left to do.
    # Before 3.10 what a module makes as it is imported belongs to the loop that there is by then.
    loop = asyncio.get_event_loop() if sys.version_info < (3, 10) else asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    tasks = Tasks(address, handler, most)
    tasks.start(began)
    try:
        loop.run_until_complete(tasks.failed)
    finally:
        for task in asyncio.all_tasks(loop):
            # The process ends; that its tasks are pending is no news.
            task._log_destroy_pending = False


class Tasks:
    def __init__(self, address, handler, most):
        self.address = address
        self.handler = handler
        self.slots = Slots(most)
        # A task that nobody holds may be collected.
        self.running = set()
        self.failed = asyncio.get_event_loop().create_future()

    def start(self, headers):
        task = asyncio.get_event_loop().create_task(self.slot(headers))
        self.running.add(task)
        task.add_done_callback(self.ended)

    def ended(self, task):
        """A slot that is not needed has ended, or the API is lost."""
        self.running.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None and not self.failed.done():
            self.failed.set_exception(error)

    async def slot(self, headers):
        connection = AsyncConnection(self.address)
        try:
            path, reply = runtime.NEXT, await self.next(connection, headers)
        except OSError:
            # The limit of open files is reached: the slots that there are go on.
            if not self.slots.not_opened():
                raise
            return
        while True:
            status, headers, body = reply
            if not runtime.is_event(status, path):
                path, reply = runtime.NEXT, await self.next(connection, "")
                continue
            if self.slots.got_event():
                self.start("")
            # A task of its own: it has its own copy of the context variables, and can be cancelled by itself.
            answer = await asyncio.ensure_future(self.one(connection, headers, body))
            self.slots.asks()
            if answer is None:
                path, reply = None, await connection.receive(asyncio.get_running_loop())
                continue
            path, body, headers = answer
            reply = await connection.exchange(runtime.message("POST", path, self.address, headers, body))

    async def next(self, connection, headers):
        return await connection.exchange(runtime.message("GET", runtime.NEXT, self.address, headers))

    async def one(self, connection, headers, body):
        """One invocation; its answer, or nothing where that was sent piece by piece."""
        invocation = headers["lambda-runtime-aws-request-id"]
        request_id.set(invocation)
        try:
            context = runtime.LambdaContext(headers, int(headers["lambda-runtime-deadline-ms"]))
            result = self.handler(runtime.unmarshal(body), context)
            streams = hasattr(result, "__aiter__")
            if not streams:
                result = await result
                streams = type(result) is runtime.Generator or hasattr(result, "__aiter__")
            if streams:
                return await self.stream(connection, invocation, result)
            result = runtime.marshal(result)
        except (Exception, asyncio.CancelledError) as error:
            return runtime.failure(invocation, error)
        runtime.flush()
        return runtime.response(invocation, result)

    async def stream(self, connection, invocation, result):
        """Sends what a generator yields. What it raises before the first piece is for the caller."""
        streaming = runtime.half("streaming")
        if hasattr(result, "__aiter__"):
            answer = await streaming.response_of_async(invocation, result)
        else:
            answer = streaming.response(invocation, result)
        try:
            await streaming.send_async(connection, *answer)
        except OSError as error:
            raise SystemExit("the Runtime API cannot be reached: %s" % error)
