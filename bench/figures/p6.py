"""P6: a web-server function, warm, Node hello, all of it on the server's core."""

import contextlib
import pathlib
import tempfile

from measure import Contest, load, request_bytes, with_cpu, wrk
from peers import NGINX, nginx, node_server
from report import Row
from support import kinds
from virga import address, virga

SECONDS, CONNECTIONS, RATE = 4, 32, 1000
HELLO = ("import http from 'node:http';\n"
         "const server = http.createServer((request, response) => response.end('hello'));\n"
         "server.keepAliveTimeout = 60000;\nserver.listen(process.env.PORT, '127.0.0.1');\n")  # fmt: skip


def run():
    """The same Node server behind nginx and as a function."""
    rate, delay = Contest(), Contest()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        script = pathlib.Path(folder, "hello.mjs")
        script.write_text(HELLO)
        node, direct = stack.enter_context(node_server(script))
        server, functions = stack.enter_context(virga())
        name = functions.deploy({"hello.mjs": HELLO}, kinds.node(), "hello.mjs", tags=kinds.WEB, url=True)
        ours = request_bytes("GET", address(server), f"/_fn/{name}/")
        rate.add("virga", lambda: with_cpu(server.process.pid, lambda: wrk(functions.path(name), SECONDS, CONNECTIONS)))
        delay.add("virga", lambda: load(address(server), ours, SECONDS, 8, RATE))
        rate.add("direct", lambda: wrk(f"http://{direct}/", SECONDS, CONNECTIONS))
        delay.add("direct", lambda: load(direct, request_bytes("GET", direct, "/"), SECONDS, 8, RATE))
        if NGINX.exists():
            front, proxy = stack.enter_context(nginx(direct))
            rate.add("nginx", lambda: with_cpu([node.pid, front.pid], lambda: wrk(f"http://{proxy}/", SECONDS, CONNECTIONS)))
            told = f"http://{proxy}/forwarded"
            rate.add("telling", lambda: with_cpu([node.pid, front.pid], lambda: wrk(told, SECONDS, CONNECTIONS)))
            delay.add("nginx", lambda: load(proxy, request_bytes("GET", proxy, "/"), SECONDS, 8, RATE))
            delay.add("telling", lambda: load(proxy, request_bytes("GET", proxy, "/forwarded"), SECONDS, 8, RATE))
        rate.run()
        delay.run()
    return _rows(rate, delay)


def _rows(rate, delay):
    there = "nginx" in rate.seen
    theirs_cpu = f"{rate.median('nginx', 'cpu'):.0f} µs" if there else "?"
    bare = delay.median("direct", "p50")
    note = (f"{rate.median('virga', 'cpu'):.0f} µs of CPU a request with Node's, {theirs_cpu} with nginx; Node alone {rate.median('direct', 'rate'):,.0f}/s; "
            f"{CONNECTIONS} connections")  # fmt: skip
    added = delay.median("virga", "p50") - bare
    theirs = delay.median("nginx", "p50") - bare if there else None
    telling = delay.median("telling", "p50") - bare if there else None
    # Virga tells the server who called (X-Forwarded-For, -Proto) and the caller a request id; nginx as it comes
    # does not.
    return [
        Row("P6", "web function, Node hello", "nginx in front of the same Node", rate.median("nginx", "rate") if there else None,
            rate.median("virga", "rate"), "req/s", 0.9, note=note),
        Row("P6", "web function, Node hello", "the same nginx forwarding the headers that Virga does",
            rate.median("telling", "rate") if there else None, rate.median("virga", "rate"), "req/s", 0.9,
            note=f"{rate.median('telling', 'cpu'):.0f} µs with nginx" if there else ""),
        Row("P6", "web function, p50 added", "the same nginx forwarding the headers that Virga does", telling, added, "µs",
            1.0, "ratio", "less", f"at {RATE}/s"),
        Row("P6", "web function, p50 added", "nginx in front of the same Node", theirs, added, "µs", 1.0, "ratio", "less",
            f"at {RATE}/s; Node alone {bare:.0f} µs"),
    ]  # fmt: skip
