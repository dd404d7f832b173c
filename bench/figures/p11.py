"""P11: memory, as proportional set size of the whole process tree."""

import concurrent.futures
import socket

from measure import ROOT, pss_bytes
from report import Row
from support import kinds, poll
from virga import virga

MORE = 8
GUESTS = 100
SLEEPER = "import time\ndef handler(event, context):\n    time.sleep(event.get('s', 0))\n    return context.log_stream_name\n"


def run():
    """An idle server, then one more idle Python instance, then one more WebAssembly instance."""
    with virga() as (server, functions):
        pid = server.process.pid
        idle = pss_bytes(pid)
        each = _python_instance(functions, pid)
    with virga() as (server, functions):
        guest = _wasm_instance(server, functions)
    mib = 1 << 20
    return [
        Row("P11", "idle server, no pools", "goal", None, idle / mib, "MiB", 60, "value", "less"),
        Row("P11", "one more idle Python instance", "goal", None, each / mib, "MiB", 4, "value", "less"),
        # Memory that the server let go of meanwhile can outweigh the guests: then nothing was measured.
        Row("P11", "one more wasm instance", "goal", None, guest / 1024 if guest > 0 else None, "KiB", 100, "value", "less"),
    ]  # fmt: skip


def _python_instance(functions, pid):
    name = functions.deploy({"app.py": SLEEPER}, kinds.system_python())
    functions.invoke(name).ok()
    one = pss_bytes(pid)
    with concurrent.futures.ThreadPoolExecutor(MORE + 1) as pool:
        streams = set(pool.map(lambda _: functions.invoke(name, {"s": 4}).ok(), range(MORE + 1)))
    if len(streams) != MORE + 1:
        raise RuntimeError(f"{len(streams)} instances instead of {MORE + 1}")
    return (pss_bytes(pid) - one) / MORE


def _wasm_instance(server, functions):
    """Guests that wait for the rest of their request are instances that live."""
    component = next((ROOT / "examples" / "hello-wasm").rglob("*.wasm"))
    name = functions.deploy({"main.wasm": component.read_bytes()}, "wasm", "main.wasm", url=True)
    head = f"POST /_fn/{name}/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n".encode()

    def begin():
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        connection.sendall(head)
        seen = b""
        while not seen.endswith(b"a\r\n"):
            more = connection.recv(4096)
            if not more:
                raise RuntimeError(f"the guest answered {seen!r}")
            seen += more
        return connection

    first = [begin() for _ in range(10)]
    one = pss_bytes(server.process.pid)
    rest = [begin() for _ in range(GUESTS)]
    many = pss_bytes(server.process.pid)
    for connection in first + rest:
        connection.close()
    poll.until(server.healthy, "the server is well")
    return (many - one) / GUESTS
