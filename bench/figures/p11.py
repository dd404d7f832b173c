"""P11: memory, as proportional set size of the whole process tree."""

import concurrent.futures
import socket
import tempfile
from pathlib import Path

from measure import ROOT, pss_bytes, tree
from report import Row
from support import kinds, poll
from virga import virga

MORE = 8
# A guest costs less than a settled server's memory varies by; so many cost more.
GUESTS = 500
SLEEPER = "import time\ndef handler(event, context):\n    time.sleep(event.get('s', 0))\n    return context.log_stream_name\n"
PHP = "<?php\nreturn function ($event, $context) { sleep($event['s'] ?? 0); return $context->getLogStreamName(); };\n"
RUBY = "def handler(event:, context:)\n  sleep(event.fetch('s', 0))\n  context.log_stream_name\nend\n"
JAVA = """import java.util.Map;
public class App {
    public static String handle(Map<String, Integer> event) throws InterruptedException {
        Thread.sleep(1000L * event.getOrDefault("s", 0));
        return System.getenv("AWS_LAMBDA_LOG_STREAM_NAME");
    }
}
"""
# Without a goal: shown beside Python's.
OTHERS = {"PHP": (kinds.php, "app.php", PHP), "Ruby": (kinds.ruby, "app.rb", RUBY), "Java": (kinds.java, "App.java", JAVA)}
HANDLERS = {"app.php": "app.php", "App.java": "App::handle"}
NO_POOLS = ("--pool-sandboxes", "0", "--pool-runtimes", "0", "--template-mb", "0")
MIB = 1 << 20


def run():
    """An idle server without pools and with them, then one more idle instance of each interpreter, then one more WebAssembly instance."""
    with virga(*NO_POOLS) as (server, _):
        idle = _settled(server.process.pid)
    with virga() as (server, functions):
        pid = server.process.pid
        pools = _settled(pid) - idle
        each = _instance(functions, pid, "app.py", SLEEPER, kinds.system_python())
        kept = _residents(server)
    others = []
    for title, (runtime, file, source) in OTHERS.items():
        with virga() as (server, functions):
            _settled(server.process.pid)
            more = _instance(functions, server.process.pid, file, source, runtime())
            others.append(Row("P11", f"one more idle {title} instance", "", None, more / MIB, "MiB", None, "value", "less"))
    with virga() as (server, functions):
        _settled(server.process.pid)
        guest = _wasm_instance(server, functions)
    return [
        Row("P11", "idle server, no pools", "goal", None, idle / MIB, "MiB", 60, "value", "less", "once it has looked for interpreters"),
        Row("P11", "pools of a server that ran nothing", "goal", None, max(pools, 0) / MIB, "MiB", 15, "value", "less"),
        *(Row("P11", f"kept ready: {name}", "goal", None, size / MIB, "MiB", 15, "value", "less", f"{count:.0f} of them")
          for name, (count, size) in kept.items()),
        Row("P11", "one more idle Python instance", "goal", None, each / MIB, "MiB", 4, "value", "less"),
        *others,
        # Memory that the server let go of meanwhile can outweigh the guests: then nothing was measured.
        Row("P11", "one more wasm instance", "goal", None, guest / 1024 if guest > 0 else None, "KiB", 100, "value", "less",
            f"{GUESTS} of them, half-way through their requests"),
    ]  # fmt: skip


def _settled(pid):
    """The tree's memory once it has stopped changing: a server that has just started asks interpreters for their versions."""
    seen = []

    def same():
        seen.append((len(tree(pid)), pss_bytes(pid)))
        last = seen[-8:]
        sizes = [size for _, size in last]
        return len(last) == 8 and len({count for count, _ in last}) == 1 and max(sizes) - min(sizes) < MIB // 4

    poll.until(same, "the server's memory has settled", seconds=120, every=0.5)
    return seen[-1][1]


def _residents(server):
    """What is kept ready by what it is: how many, and bytes."""
    found = {}
    for family in server.metric_families():
        for sample in family.samples:
            for index, ending in enumerate(("residents", "resident_bytes")):
                if sample.name.endswith(ending) and sample.value:
                    # A version's template is named after it.
                    name = " ".join(sample.labels.values()).partition(" f-")[0]
                    found.setdefault(name, [0, 0])[index] = sample.value
    return {name: tuple(entry) for name, entry in found.items()}


def _instance(functions, pid, file, source, runtime):
    files = {file: source}
    if file.endswith(".java"):
        with tempfile.TemporaryDirectory() as folder:
            files = kinds.jar(files, Path(folder))
    name = functions.deploy(files, runtime, HANDLERS.get(file, "app.handler"))
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
