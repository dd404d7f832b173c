"""Input that is wrong on purpose: a clear error from the API's vocabulary, and nothing left behind."""

import base64
import io
import json
import socket
import uuid
import zipfile

import pytest
from botocore.exceptions import ClientError

from support import host, kinds, poll, zips
from support.clients import ROLE, code_of, signed

FUNCTIONS = "/2015-03-31/functions"
GOOD = {"app.py": "def handler(event, context): return 1\n"}


@pytest.fixture
def nothing_left(server):
    """The data directory's tree is the same after the test as before it."""
    before = host.tree(server.data)
    yield
    poll.until(lambda: host.tree(server.data) <= before, f"nothing new in {server.data.name}", seconds=10)
    assert server.healthy()


def create(server, archive, name=None, **members):
    body = {"FunctionName": name or f"bad-{uuid.uuid4().hex[:8]}", "Runtime": kinds.python(), "Handler": "app.handler",
            "Role": ROLE, "Code": {"ZipFile": base64.b64encode(archive).decode()}}  # fmt: skip
    return signed(server, "POST", FUNCTIONS, json.dumps(body | members))


def named(name, content="x"):
    """A zip with one file of this very name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", GOOD["app.py"])
        archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def twice():
    """A zip with the same file twice, which programs read differently."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", "one")
        archive.writestr("app.py/inner", "two")
    return buffer.getvalue()


PACKAGES = {
    "not a zip": lambda: b"this is not a zip",
    "empty": lambda: b"",
    "cut off": lambda: zips.package(GOOD)[:-30],
    "broken inside": lambda: zips.package({"app.py": "x = 1\n" * 500}).replace(b"\x4b", b"\x4c", 1),
    "wrong checksum": lambda: _flip(zips.package({"app.py": "print('x')\n" * 99})),
    "traversal": lambda: named("../escaped"),
    "deep traversal": lambda: named("a/../../../escaped"),
    "absolute": lambda: named("/tmp/escaped"),
    "backslashes": lambda: named("..\\..\\escaped"),
    "zero byte": zips.zero_byte,
    "link out": lambda: zips.link("escape", "/etc/passwd"),
    "link up": lambda: zips.link("escape", "../../../etc/passwd"),
    "bomb": lambda: zips.bomb(1 << 30),
    "overlapping bomb": zips.overlapping_bomb,
    "lie about size": zips.lying,
    "file as folder": twice,
}


def _flip(archive):
    middle = 60
    return archive[:middle] + bytes([archive[middle] ^ 0xFF]) + archive[middle + 1 :]


@pytest.mark.parametrize("kind", PACKAGES)
def test_packages(server, nothing_left, kind):
    archive = PACKAGES[kind]()
    name = f"bad-{uuid.uuid4().hex[:8]}"
    answer = create(server, archive, name)
    assert answer.status_code == 400, f"{answer.status_code} {answer.text[:300]}"
    wanted = ("InvalidParameterValueException", "CodeStorageExceededException", "InvalidZipFileException", "ValidationException")
    assert code_of(answer) in wanted, answer.text
    assert len(answer.json()["message" if "message" in answer.json() else "Message"]) > 15
    assert signed(server, "GET", f"{FUNCTIONS}/{name}").status_code == 404, "nothing was created"


@pytest.mark.parametrize("kind", ["not a zip", "traversal", "overlapping bomb"])
def test_updates_keep_the_old_code(functions, kind):
    name = functions.deploy(GOOD, kinds.python())
    with pytest.raises(ClientError) as refused:
        functions.api.update_function_code(FunctionName=name, ZipFile=PACKAGES[kind]())
    assert code_of(refused.value) in ("InvalidParameterValueException", "InvalidZipFileException")
    assert functions.invoke(name).ok() == 1


@pytest.mark.parametrize(
    "members",
    [
        {"FunctionName": ""}, {"FunctionName": "a b"}, {"FunctionName": "x" * 141}, {"FunctionName": "../x"},
        {"FunctionName": "ü"}, {"FunctionName": None}, {"FunctionName": 7}, {"Runtime": "cobol"}, {"Runtime": None},
        {"Handler": "x" * 129}, {"Handler": "a b"}, {"Timeout": 0}, {"Timeout": 901}, {"Timeout": "ten"}, {"MemorySize": 127},
        {"MemorySize": 10241}, {"Role": "admin"}, {"Role": None}, {"EphemeralStorage": {"Size": 1}},
        {"Environment": {"Variables": {"1A": "x"}}}, {"Environment": {"Variables": {"AA": 1}}},
        {"Environment": {"Variables": {"AWS_REGION": "x"}}}, {"Environment": {"Variables": {"AA": "x" * 5000}}},
        {"Code": {}}, {"Code": {"ZipFile": "%%%"}}, {"Code": {"S3Bucket": "b", "S3Key": "k"}}, {"Code": {"ImageUri": "x"}},
        {"Tags": {"a*b": "x"}}, {"Tags": {"a": "x,y"}}, {"Tags": "x"}, {"Description": "x" * 257},
    ],
    ids=lambda members: json.dumps(members)[:40],
)  # fmt: skip
def test_members(server, nothing_left, members):
    answer = create(server, zips.package(GOOD), **members)
    assert answer.status_code == 400, f"{answer.status_code} {answer.text[:300]}"
    assert code_of(answer) in (
        "InvalidParameterValueException", "ValidationException", "InvalidRequestContentException", "SerializationException",
    ), answer.text  # fmt: skip


@pytest.mark.parametrize("body", ["{", "", "[]", "null", "\xff", '{"a": ' * 5000, '"text"'], ids=repr)
def test_malformed_json(server, nothing_left, body):
    answer = signed(server, "POST", FUNCTIONS, body.encode("latin-1")[:100_000])
    assert answer.status_code == 400
    assert code_of(answer) in (
        "InvalidRequestContentException", "SerializationException", "ValidationException", "InvalidParameterValueException",
    ), answer.text  # fmt: skip


@pytest.mark.parametrize("name", ["a b", "x" * 200, "a:b:c:d", "arn:aws:lambda:us-east-1:1:function:x", "..%2F..", "%00"])
def test_names_in_paths(server, name):
    from urllib.parse import quote

    for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/invocations")):
        answer = signed(server, method, f"{FUNCTIONS}/{quote(name, safe='%')}{rest}")
        assert answer.status_code in (400, 403, 404), f"{name} {answer.status_code} {answer.text}"
        assert code_of(answer), answer.text


def test_a_body_of_100_megabytes(server, nothing_left):
    """Refused by its declared length or while it comes, never held in memory whole."""
    size = 100 << 20
    head = (f"POST {FUNCTIONS} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: {size}\r\n"
            "Content-Type: application/json\r\n")  # fmt: skip
    answer = _stream(server, _authorized(server, head), size)
    assert answer.startswith(b"HTTP/1.1 413"), answer[:300]
    assert b"RequestEntityTooLargeException" in answer or b"RequestTooLargeException" in answer, answer[:500]
    peak = int(next(line.split()[1] for line in _status(server) if line.startswith("VmHWM")))
    assert peak < 900_000, f"{peak} KB"


def test_a_strangers_body_is_never_read(server):
    head = (f"POST {FUNCTIONS} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: {100 << 20}\r\n\r\n")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 403"), answer[:300]


def _status(server):
    with open(f"/proc/{server.process.pid}/status") as status:
        return status.read().splitlines()


def _authorized(server, head):
    """The head with a signature over some other body: it names a known key, which is all a head can prove."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method="POST", url=server.url + FUNCTIONS, data=b"{}")
    SigV4Auth(Credentials(server.key, server.secret), "lambda", "us-east-1").add_auth(request)
    lines = [f"{name}: {request.headers[name]}" for name in ("X-Amz-Date", "Authorization")]
    return head + "\r\n".join(lines) + "\r\n\r\n"


def _stream(server, head, size):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode())
        try:
            for _ in range(size >> 20):
                connection.sendall(bytes(1 << 20))
        except OSError:
            pass
        answer = b""
        try:
            while more := connection.recv(65536):
                answer += more
        except OSError:
            pass
        return answer


def test_half_sent_requests(server, functions, nothing_left):
    """Connections that stop in the middle hold up nobody else, and are ended."""
    head = _authorized(server, f"POST {FUNCTIONS} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: 500\r\n")
    halves = []
    for part in (b"", b"POST /2015", head.encode()[:120], head.encode(), head.encode() + b'{"FunctionName": "half'):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        connection.sendall(part)
        halves.append(connection)
    assert functions.api.list_functions()
    for connection in halves:
        connection.close()
    assert functions.api.list_functions()
    assert signed(server, "GET", f"{FUNCTIONS}/half").status_code == 404


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
    ],
    ids=range(9),
)  # fmt: skip
def test_hostile_http(server, request_bytes):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        answer = b""
        try:
            connection.sendall(request_bytes)
            connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(65536):
                answer += more
        except OSError:
            pass
    assert not answer or answer.split()[1][:1] == b"4", answer[:200]
    assert server.healthy()


def test_the_largest_package_that_fits_and_the_first_that_does_not(server, functions):
    """Lambda takes 50 MB of zip; what is larger is refused by its own error, not by a broken connection."""
    import os

    answer = create(server, zips.package(GOOD | {"pad": os.urandom(51 << 20)}))
    assert answer.status_code in (400, 413), answer.text[:300]
    assert code_of(answer) in (
        "RequestEntityTooLargeException", "RequestTooLargeException", "InvalidParameterValueException", "CodeStorageExceededException",
    )  # fmt: skip
    name = functions.deploy(GOOD | {"pad": os.urandom(20 << 20)}, kinds.python())
    assert functions.invoke(name).ok() == 1
