"""Answers in pieces, for Python: handlers that are, or return, generators.

What a generator yields is sent as it comes: bytes and text as they are, anything else as a line of JSON. If the first
thing is a dictionary with `statusCode`, it is the head of an HTTP response. What is raised after the first piece is
told in trailers. A generator that is ended by something that is no Exception never ends its answer.
"""

import virga_runtime as runtime

HEAD_FIRST = "application/vnd.awslambda.http-integration-response"
ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
ERROR_BODY = "Lambda-Runtime-Function-Error-Body"
HEAD = (
    "Content-Type: %s\r\nLambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n"
    "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\nVirga-Next: 1\r\n"
)


def piece(item):
    """What is sent of what was yielded."""
    if isinstance(item, (bytes, bytearray, memoryview)):
        return bytes(item)
    if isinstance(item, str):
        return item.encode("utf-8", "surrogatepass")
    return runtime.to_bytes(item) + b"\n"


def opening(item):
    """The first piece, and the type of all of them."""
    if isinstance(item, dict) and "statusCode" in item:
        return HEAD_FIRST, runtime.to_bytes(item) + bytes(8)
    if isinstance(item, str):
        return "text/plain; charset=utf-8", piece(item)
    kind = "application/octet-stream" if isinstance(item, (bytes, bytearray, memoryview)) else "application/x-ndjson"
    return kind, piece(item)


def framed(data):
    """A chunk of a body (RFC 9112, 7.1); none of nothing, which would be the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def ending(error=None, invocation=None):
    """The last chunk, and what went wrong."""
    runtime.flush()
    if error is None:
        return b"0\r\n\r\n"
    import base64

    described = runtime.describe(error, invocation)
    runtime.log_error(described)
    kind = runtime.header_value(described["errorType"])
    body = base64.b64encode(runtime.to_bytes(described)).decode("ascii")
    return ("0\r\n%s: %s\r\n%s: %s\r\n\r\n" % (ERROR_TYPE, kind, ERROR_BODY, body)).encode("ascii")


def response(invocation, generator):
    """The answer of a generator: path, body in chunks, headers. Raises what comes before the first piece."""
    try:
        first = next(generator)
    except StopIteration:
        first = b""
    kind, data = opening(first)
    return "invocation/%s/response" % invocation, chunks(invocation, data, generator), HEAD % kind


def chunks(invocation, first, generator):
    yield framed(first)
    try:
        for item in generator:
            yield framed(piece(item))
    except Exception as error:
        yield ending(error, invocation)
        return
    yield ending()


async def response_of_async(invocation, generator):
    """As `response`, for a generator that waits."""
    try:
        first = await generator.__anext__()
    except StopAsyncIteration:
        first = b""
    kind, data = opening(first)
    return "invocation/%s/response" % invocation, chunks_of_async(invocation, data, generator), HEAD % kind


async def chunks_of_async(invocation, first, generator):
    yield framed(first)
    try:
        async for item in generator:
            yield framed(piece(item))
    except BaseException as error:
        # A task that is cancelled fails its invocation alone.
        if not isinstance(error, Exception) and type(error).__name__ != "CancelledError":
            raise
        yield ending(error, invocation)
        return
    yield ending()


def send(connection, path, body, headers):
    """Sends all of an answer in pieces."""
    head = runtime.message("POST", path, connection.address, headers)
    for chunk in body:
        if chunk or head:
            connection.send(head + chunk)
            head = b""


async def send_async(connection, path, body, headers):
    """As `send`, on the event loop; the chunks of a generator that waits, or of one that does not."""
    head = runtime.message("POST", path, connection.address, headers)
    if hasattr(body, "__aiter__"):
        async for chunk in body:
            head = await send_chunk(connection, head, chunk)
    else:
        for chunk in body:
            head = await send_chunk(connection, head, chunk)


async def send_chunk(connection, head, chunk):
    if chunk or head:
        await connection.send(head + chunk)
    return b""
