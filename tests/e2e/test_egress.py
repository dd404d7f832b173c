"""What functions reach outside, by the tag `virga:egress` and the server's flags.

There is no internet here: the host's own address stands for a network that is not public, a resolver of the test's for
the host's. That public addresses are reached is tested with the sandbox crate's own internet.
"""

import http.server
import socket
import struct
import threading

import pytest
from botocore.exceptions import ClientError

from support import kinds
from support.clients import Functions


def own_address():
    """An address of this host that is not loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = probe.getsockname()[0]
    return None if address.startswith("127.") else address


class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def neighbour():
    """A web server on the host's own address: host and port."""
    address = own_address()
    if address is None:
        pytest.fail("this host has no address but loopback")
    server = http.server.ThreadingHTTPServer((address, 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[:2]
    server.shutdown()


@pytest.fixture(scope="module")
def resolver(neighbour):
    """A DNS server that knows db.internal: host:port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                query, client = sock.recvfrom(2000)
            except OSError:
                return
            end = query.index(b"\0", 12) + 5
            known = query[12:end].startswith(b"\2db\10internal\0")
            four = known and query[end - 3 : end - 2] == b"\1"
            head = query[:2] + struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, int(four), 0, 0)
            record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(neighbour[0])
            sock.sendto(head + query[12:end] + (record if four else b""), client)

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{sock.getsockname()[1]}"
    sock.close()


def test_public_is_the_default_and_reaches_nothing_of_the_host(functions, neighbour):
    host, port = neighbour
    name = functions.deploy(kinds.python_function("probe.py"), kinds.python())
    for place in [host, "169.254.169.254", "10.0.0.1", f"::ffff:{host}"]:
        result = functions.invoke(name, {"look": "reach", "host": place, "port": port})
        assert result.ok()["errno"] == 13, place
        assert "refused: " in result.log and "virga:egress = public" in result.log
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        for place in ["127.0.0.1", "0.0.0.0", "localhost", "2130706433", "0x7f.1"]:
            said = functions.invoke(name, {"look": "reach", "host": place, "port": listener.getsockname()[1]}).ok()
            assert said["errno"] == 111, place


@pytest.mark.parametrize("value", ["host", "moon", "open", "10.0.0.0/8:5432", "public 169.254.169.254:80", "a.b:0", "none public"])
def test_more_than_the_server_allows_is_refused(functions, value):
    with pytest.raises(ClientError) as refused:
        functions.deploy(kinds.python_function("probe.py"), kinds.python(), tags={"virga:egress": value})
    assert "virga:egress" in str(refused.value)


def test_none_has_no_network(functions, neighbour):
    name = functions.deploy(kinds.python_function("probe.py"), kinds.python(), tags={"virga:egress": "none"})
    said = functions.invoke(name, {"look": "reach", "host": neighbour[0], "port": neighbour[1]}).ok()
    assert said["errno"] == 101


def test_lists_names_and_open(new_server, neighbour, resolver):
    host, port = neighbour
    server = new_server(arguments=["--max-egress", "open", "--resolver", resolver]).start()
    made = Functions(server)

    def deployed(egress):
        return made.deploy(kinds.python_function("probe.py"), kinds.python(), tags={"virga:egress": egress})

    def fetch(name, place):
        return made.invoke(name, {"look": "fetch", "url": f"http://{place}:{port}/"}).ok()

    listed = deployed(f"{host}/32:{port}")
    assert fetch(listed, host) == {"status": 200}
    assert "not known" in fetch(listed, "db.internal")["error"]
    named = deployed(f"db.internal:{port} {host}/32:{port}")
    assert fetch(named, "db.internal") == {"status": 200}
    only_named = deployed(f"db.internal:{port}")
    assert "error" in fetch(only_named, "db.internal") and "error" in fetch(only_named, host)
    opened = deployed("open")
    assert fetch(opened, host) == fetch(opened, "db.internal") == {"status": 200}
    assert int(made.invoke(opened, {"look": "status"}).ok()["CapEff"], 16) == 0


NODE = """
exports.handler = async url => { try { return (await (await fetch(url)).text()); } catch (e) { return e.cause?.code ?? String(e); } };
"""


def test_node_s_fetch(new_server, neighbour, resolver):
    host, port = neighbour
    server = new_server(arguments=["--max-egress", f"public {host}/32:{port}", "--resolver", resolver]).start()
    made = Functions(server)
    files = {"app.js": NODE}
    closed = made.deploy(files, kinds.node())
    assert made.invoke(closed, f"http://{host}:{port}/").ok() == "EACCES"
    assert made.invoke(closed, f"http://db.internal:{port}/").ok() == "ENOTFOUND"
    opened = made.deploy(files, kinds.node(), tags={"virga:egress": f"public {host}/32:{port}"})
    assert made.invoke(opened, f"http://{host}:{port}/").ok() == "hello"
    assert made.invoke(opened, f"http://db.internal:{port}/").ok() == "hello"


def test_a_lower_bound_holds_for_what_is_deployed_already(new_server, neighbour):
    host, port = neighbour
    server = new_server(arguments=["--max-egress", "open"]).start()
    made = Functions(server)
    name = made.deploy(kinds.python_function("probe.py"), kinds.python(), tags={"virga:egress": "open"})
    assert "ok" in made.invoke(name, {"look": "reach", "host": host, "port": port}).ok()
    server.stop()
    server.arguments = []
    server.start()
    with pytest.raises(ClientError) as refused:
        Functions(server).invoke(name, {"look": "status"})
    assert "virga:egress" in str(refused.value)
