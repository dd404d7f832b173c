"""Web servers on $PORT: requests, streams both ways, events and sockets pass through."""

import concurrent.futures
import json

import pytest
import requests
import urllib3
import websocket

from support import kinds, zips
from support.web import Wire

NODE_PACKAGES_LEFT_OUT = ("@aws-sdk", "@smithy", "@aws", "aws-lambda-ric", ".bin", "@aws-crypto", "node-gyp")


def express_files():
    packages = zips.folder(kinds.node_modules(), "node_modules/", leave_out=NODE_PACKAGES_LEFT_OUT)
    return packages | {"server.mjs": kinds.source("express_app.mjs")}


@pytest.fixture(scope="module")
def express(server):
    from support.clients import Functions

    made = Functions(server)
    name = made.deploy(express_files(), kinds.node(), "server.mjs", tags=kinds.WEB, url=True, env={"MINE": "1"})
    yield made, name
    made.delete_all()


@pytest.fixture(scope="module")
def flask(server):
    from support.clients import Functions

    made = Functions(server)
    packages = zips.folder(kinds.bundle("flask"), leave_out=(".made-from", "bin"))
    files = packages | {"server.py": kinds.source("flask_app.py")}
    name = made.deploy(files, kinds.python(), "server.py", tags=kinds.WEB, url=True)
    yield made, name
    made.delete_all()


def test_a_request_and_its_answer(express):
    made, name = express
    answer = requests.patch(made.path(name, "echo?status=207&x=a%20b"), data="über".encode(), headers={"X-Mine": "m"})
    assert answer.status_code == 207 and answer.headers["X-Reply"] == "yes"
    assert answer.raw.headers.getlist("Set-Cookie") == ["a=1", "b=2"]
    seen = answer.json()
    assert seen["method"] == "PATCH" and seen["url"] == "/echo?status=207&x=a%20b" and seen["body"] == "über"
    assert seen["headers"]["x-mine"] == "m"
    assert seen["headers"].get("x-forwarded-for") == "127.0.0.1"
    assert seen["headers"].get("x-forwarded-proto") == "http"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_every_method(express, method):
    made, name = express
    answer = requests.request(method, made.path(name, "echo"), timeout=20)
    assert answer.status_code == 200
    assert method == "HEAD" or answer.json()["method"] == method


def test_a_request_streams_both_ways(express):
    made, name = express
    with Wire(made.path(name, "mirror")) as wire:
        wire.begin("POST", ["Transfer-Encoding: chunked", "Content-Type: text/plain"])
        wire.send_chunk(b"one")
        status, headers = wire.head()
        assert status == 200 and headers["transfer-encoding"] == "chunked"
        # Each part must come back before the next is sent: a buffering proxy would wait for ever.
        for part in (b"one", b"two", b"three"):
            if part != b"one":
                wire.send_chunk(part)
            assert wire.chunks_until(part) == part
        wire.send_chunk(b"")
        assert wire.chunk() == b""


def test_a_large_body_passes_unchanged(express):
    made, name = express
    body = bytes(range(256)) * 4096 * 10
    answer = requests.post(made.path(name, "mirror"), data=body, timeout=60)
    assert answer.content == body


def test_server_sent_events_arrive_one_by_one(express):
    made, name = express
    with Wire(made.path(name, "events")) as wire:
        wire.begin("GET", ["Accept: text/event-stream"])
        status, headers = wire.head()
        assert status == 200 and headers["content-type"].startswith("text/event-stream")
        assert wire.chunks_until(b"\n\n") == b"data: first\n\n"
        # The second event exists only once this other request has been served, so it cannot have been buffered.
        assert requests.post(made.path(name, "publish/second"), timeout=20).json()["listeners"] == 1
        assert wire.chunks_until(b"\n\n") == b"data: second\n\n"


def test_websockets(express):
    made, name = express
    address = made.path(name, "socket").replace("http://", "ws://")
    connection = websocket.create_connection(address, timeout=20)
    for text in ("first", "x" * 70_000):
        connection.send(text)
        assert connection.recv() == text
    connection.send_binary(b"\x00\x01\xff")
    assert connection.recv() == b"\x00\x01\xff"
    connection.ping("still there")
    connection.close()
    assert requests.get(made.path(name), timeout=20).text.startswith("hello")


def test_many_requests_in_one_instance(express):
    made, name = express
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: requests.get(made.path(name, f"wait/{i // 2}"), timeout=20).text, range(8)))
    assert len(set(answers)) == 1, "each pair is answered only when both are in the same instance"


def test_an_invoke_is_posted_to_events(express):
    made, name = express
    assert made.invoke(name, {"hello": 1}).ok() == {"invoked": {"hello": 1}, "path": "/events"}


def test_the_function_url_by_host(server, express):
    made, name = express
    url = made.api.get_function_url_config(FunctionName=name)["FunctionUrl"]
    host = url.split("/")[2]
    answer = requests.get(f"{server.url}/echo?q=1", headers={"Host": host}, timeout=20).json()
    assert answer["url"] == "/echo?q=1"


def test_its_environment_has_a_port(express):
    made, name = express
    env = requests.get(made.path(name, "env"), timeout=20).json()
    assert int(env["PORT"]) > 0 and env["MINE"] == "1" and env["AWS_LAMBDA_FUNCTION_NAME"] == name


def test_a_port_of_ones_own(functions):
    name = functions.deploy(
        {"server.mjs": "import http from 'node:http';\n"
         "http.createServer((q, r) => r.end(process.env.PORT)).listen(3456, '127.0.0.1');\n"},
        kinds.node(), "server.mjs", tags=kinds.WEB | {"virga:port": "3456"}, url=True,
    )  # fmt: skip
    assert requests.get(functions.path(name), timeout=30).text == "3456"


def test_an_exit_is_a_bad_gateway_and_the_next_call_is_clean(express):
    made, name = express
    assert requests.get(made.path(name, "exit"), timeout=20).status_code == 502
    assert requests.get(made.path(name), timeout=20).status_code == 200


def test_flask(flask):
    made, name = flask
    assert requests.get(made.path(name), timeout=30).text.startswith("hello from")
    seen = requests.post(made.path(name, "echo?x=1"), data="body", timeout=20).json()
    assert seen == {"method": "POST", "path": "/echo", "args": {"x": "1"}, "body": "body"}
    events = requests.get(made.path(name, "events"), timeout=20)
    assert events.text == "data: first\n\ndata: second\n\n"
    assert events.headers["Content-Type"].startswith("text/event-stream")
    assert made.invoke(name, {"e": 1}).ok() == {"invoked": {"e": 1}}


def test_any_program(functions):
    files = {"bootstrap": zips.executable(kinds.rust_guest("web-server"))}
    name = functions.deploy(files, kinds.CUSTOM, "bootstrap", tags=kinds.WEB, url=True)
    assert requests.post(functions.path(name, "a/b?c=d"), data="body", timeout=20).text == "POST /a/b?c=d body"
    # Its answer to an Invoke is no JSON: the body is the result all the same.
    assert functions.invoke(name, {"e": 1}).raw == b"POST /events " + json.dumps({"e": 1}).encode()


def test_a_server_that_never_listens(functions):
    name = functions.deploy(
        {"server.py": "import sys\nsys.exit(2)\n"}, kinds.python(), "server.py", tags=kinds.WEB, url=True
    )
    assert requests.get(functions.path(name), timeout=30).status_code == 502
    assert functions.invoke(name).failed("Runtime.ExitError")


def test_traversal_stays_in_the_function(express):
    made, name = express
    with Wire(made.path(name, "../../2015-03-31/functions/")) as wire:
        wire.begin("GET", ["Connection: close"])
        status, _ = wire.head()
        assert status in (400, 403, 404)


HALVES = """import os, socket
listener = socket.create_server(("0.0.0.0", int(os.environ["PORT"])))
while True:
    connection, _ = listener.accept()
    if connection.recv(4096):
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n4\\r\\nhalf\\r\\n")
    connection.close()
"""


def test_of_an_answer_that_breaks_off_the_caller_sees_what_there_was(functions):
    name = functions.deploy({"server.py": HALVES}, kinds.system_python(), "server.py", tags={"virga:contract": "http"}, url=True)
    for _ in range(50):
        with requests.get(functions.path(name), stream=True, timeout=30) as answer:
            assert answer.status_code == 200
            assert answer.raw.read1(100) == b"half"
            with pytest.raises(urllib3.exceptions.ProtocolError):
                answer.raw.read()
