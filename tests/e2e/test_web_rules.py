"""What the server for WSGI and ASGI applications makes of applications, and callers, that break the rules."""

import concurrent.futures
import socket
import struct

import pytest
import requests
import websocket
from support import poll

ASGI = """
import asyncio
import contextlib

sockets = []
released = asyncio.Event()


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        return await {"/accept": accepted, "/twice": twice, "/waits": waits, "/split": split,
                      "/leaves": leaves}[scope["path"]](receive, send)
    if scope["type"] != "http":
        raise NotImplementedError
    path = scope["path"]
    start = {"type": "http.response.start", "status": 200, "headers": []}
    if path in ("/short", "/long"):
        start["headers"] = [(b"content-length", b"5")]
        await send(start)
        await send({"type": "http.response.body", "body": b"abcd" if path == "/short" else b"abcdefgh"})
    elif path == "/short-later":
        start["headers"] = [(b"content-length", b"5")]
        await send(start)
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    elif path == "/cancelled":
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task
    elif path == "/status":
        await send({**start, "status": 100})
        await send({"type": "http.response.body"})
    elif path == "/background":
        await send(start)
        await send({"type": "http.response.body", "body": b"answered"})
        await released.wait()
    elif path == "/release":
        released.set()
        await send(start)
        await send({"type": "http.response.body"})
    elif path == "/unread":
        await send({**start, "status": 413})
        await send({"type": "http.response.body", "body": b"too much"})
    else:
        await send(start)
        await send({"type": "http.response.body", "body": repr(sockets).encode()})


async def accepted(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        with contextlib.suppress(OSError):  # closed meanwhile
            await send({"type": "websocket.send", "text": repr(message.get("text") or len(message["bytes"]))})
    sockets.append(message["code"])


async def leaves(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
    await send({"type": "websocket.close", "code": 4000})


async def twice(receive, send):
    await receive()
    await send({"type": "websocket.close"})
    sockets.append((await receive())["type"])
    await send({"type": "websocket.close"})


async def waits(receive, send):
    await receive()
    sockets.append((await receive())["type"])


async def split(receive, send):
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"x", b"y\\r\\nset-cookie: injected=1")]})
"""

WSGI = """
def app(environ, start_response):
    path = environ["PATH_INFO"]
    length = [] if path == "/plain" else [("Content-Length", "5")]
    start_response("200 OK", length)
    if path == "/pieces":
        return iter([b"abc", b"defgh", b"ij"])
    if path == "/short-pieces":
        return iter([b"ab", b"cd"])
    return {"/short": [b"abcd"], "/long": [b"abc", b"defgh"]}.get(path, [b"fine"] if path == "/plain" else [b"12345"])
"""


@pytest.fixture
def asgi(functions):
    name = functions.deploy({"app.py": ASGI}, "python3.11", "app:app", {"virga:contract": "http"}, url=True)
    return functions.path(name).rstrip("/")


def seen(url):
    return requests.get(url + "/", timeout=10).text


@pytest.mark.parametrize("path", ["short", "long", "cancelled", "status"])
def test_a_wrong_answer_is_an_error_at_once(asgi, path):
    assert requests.get(f"{asgi}/{path}", timeout=10).status_code == 500
    assert requests.get(asgi + "/", timeout=10).status_code == 200


def test_an_answer_shorter_than_it_says_breaks_off(asgi):
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)) as broken:
        requests.get(asgi + "/short-later", timeout=10)
    assert not isinstance(broken.value, requests.exceptions.Timeout)
    assert seen(asgi) == "[]"


def test_work_after_an_answer_holds_up_nobody(asgi):
    assert requests.get(asgi + "/background", timeout=10).text == "answered"
    # What comes next has the same connection to the instance.
    assert requests.get(asgi + "/release", timeout=10).status_code == 200


def test_an_answer_before_the_request_was_read(asgi):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        ask = lambda _: requests.post(asgi + "/unread", data=b"x" * 5_000_000, timeout=20)  # noqa: E731
        for answer in pool.map(ask, range(12)):
            assert (answer.status_code, answer.text) == (413, "too much")


def connect(asgi, path):
    return websocket.create_connection(asgi.replace("http://", "ws://") + path, timeout=10)


def frame(first, data=b"", second=None):
    """A masked frame, its first byte as given."""
    length = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack("!BH", 0x80 | 126, len(data))
    return bytes([first]) + (length if second is None else second) + bytes(4) + data


@pytest.mark.parametrize(
    "frames, code",
    [
        ([frame(0xC1, b"a")], 1002),  # a reserved bit
        ([frame(0x83)], 1002),  # no such opcode
        ([frame(0x09, b"a")], 1002),  # a ping in pieces
        ([frame(0x89, b"a" * 126)], 1002),  # a long ping
        ([frame(0x80, b"a")], 1002),  # the rest of nothing
        ([frame(0x81, b"a"), frame(0x80, b"b")], 1002),  # again, after a whole message
        ([frame(0x01, b"a"), frame(0x81, b"b")], 1002),  # a message within a message
        ([frame(0x81, b"\xff")], 1007),  # no text
        ([frame(0x88, b"\x03")], 1002),  # half a code
        ([frame(0x88, (1005).to_bytes(2, "big"))], 1002),  # a code that is never sent
        ([frame(0x88, (1000).to_bytes(2, "big") + b"\xff")], 1007),  # a reason that is no text
        ([b"\x81\x01a"], 1002),  # not masked
    ],
)
def test_websockets_are_closed_for_what_is_no_protocol(asgi, frames, code):
    connection = connect(asgi, "/accept")
    connection.sock.sendall(b"".join(frames))
    while True:
        opcode, data = connection.recv_data(control_frame=True)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            break
    assert int.from_bytes(data[:2], "big") == code
    poll.until(lambda: seen(asgi) == f"[{code}]", "the application hears of it")


def test_a_caller_in_the_middle_of_sending_hears_why_it_is_closed(asgi):
    for _ in range(10):
        connection = connect(asgi, "/leaves")
        for _ in range(40):
            connection.send("x" * 60_000)
        opcode, data = connection.recv_data(control_frame=True)
        assert opcode == websocket.ABNF.OPCODE_CLOSE and int.from_bytes(data[:2], "big") == 4000
        # The library has answered it, and that ends the connection.
        with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
            connection.recv_data(control_frame=True)


def test_websockets_take_messages_in_pieces(asgi):
    connection = connect(asgi, "/accept")
    connection.sock.sendall(frame(0x01, b"a") + frame(0x89, b"here?") + frame(0x00, b"b") + frame(0x80, b"c"))
    opcode, data = connection.recv_data(control_frame=True)
    assert (opcode, data) == (websocket.ABNF.OPCODE_PONG, b"here?")
    assert connection.recv() == "'abc'"
    connection.sock.sendall(frame(0x88))
    opcode, data = connection.recv_data(control_frame=True)
    assert opcode == websocket.ABNF.OPCODE_CLOSE and int.from_bytes(data[:2], "big") in (0, 1000)
    poll.until(lambda: seen(asgi) == "[1005]", "the application hears of it")


def test_a_websocket_that_is_refused_is_answered_once(asgi):
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        connect(asgi, "/twice")
    assert refused.value.status_code == 403
    # The application's second close is an error of its own, not a second answer.
    assert [seen(asgi) for _ in range(4)] == ["['websocket.disconnect']"] * 4


def test_a_caller_that_leaves_before_the_handshake_is_noticed(asgi):
    seen(asgi)
    host, _, path = asgi.removeprefix("http://").partition("/")
    with socket.create_connection((host.split(":")[0], int(host.split(":")[1]))) as caller:
        lines = [f"GET /{path}/waits HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket",
                 "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", ""]  # fmt: skip
        caller.sendall("\r\n".join(lines).encode())
        assert seen(asgi) == "[]"
    poll.until(lambda: seen(asgi) == "['websocket.disconnect']", "the application hears of it")


def test_a_handshake_has_no_headers_in_its_headers(asgi):
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        connect(asgi, "/split")
    assert refused.value.status_code == 500
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "8"}
    old = requests.get(asgi + "/accept", headers=headers | {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}, timeout=10)
    assert (old.status_code, old.headers["Sec-WebSocket-Version"]) == (426, "13")
    assert requests.get(asgi + "/accept", headers=headers | {"Sec-WebSocket-Version": "13"}, timeout=10).status_code == 400


def test_wsgi_answers_are_as_long_as_they_say(functions):
    name = functions.deploy({"app.py": WSGI}, "python3.11", "app:app", {"virga:contract": "http"}, url=True)
    url = functions.path(name).rstrip("/")
    # PEP 3333: not more bytes than the header allows.
    for path in ("/long", "/pieces", "/exact"):
        answer = requests.get(url + path, timeout=10)
        assert (answer.status_code, len(answer.content)) == (200, 5), path
        assert requests.get(url + "/plain", timeout=10).text == "fine"
        assert requests.head(url + path, timeout=10).headers["Content-Length"] == "5"
    assert requests.get(url + "/short", timeout=10).status_code == 500
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)) as broken:
        requests.get(url + "/short-pieces", timeout=10)
    assert not isinstance(broken.value, requests.exceptions.Timeout)
