"""P4: from zero: no instance of that function, full isolation, request to answer."""

import http.client
import os
import shutil
import statistics
import subprocess
import time

from measure import SERVER_CORE
from report import Row
from support import kinds, zips
from virga import address, invoke_request, virga

SAMPLES = 20
KINDS = {
    "Python": (kinds.system_python, {"app.py": "def handler(event, context):\n    return 1\n"}, 15, ["/usr/bin/python3", "-c", "pass"]),
    "Node": (kinds.node, {"app.js": "exports.handler = async () => 1;\n"}, 25, [shutil.which("node"), "-e", "0"]),
}


def run():
    """First calls of functions that were never called, in turn with the bare interpreter's start."""
    rows = []
    with virga() as (server, functions):
        for title, (runtime, files, goal, bare) in KINDS.items():
            ours, theirs = _samples(server, functions, files, runtime(), bare)
            note = f"p90 {_p90(ours):.0f} ms; no pools or templates exist yet, so on and off are the same"
            rows.append(Row("P4", f"{title} from zero, p50", "goal", None, statistics.median(ours), "ms", goal, "value", "less", note))
            rows.append(Row("P4", f"{title} from zero, p50", "bare interpreter start", statistics.median(theirs),
                            statistics.median(ours), "ms", 1.0, "ratio", "less"))  # fmt: skip
        native = {"bootstrap": zips.executable(kinds.rust_guest("event-handler"))}
        ours, _ = _samples(server, functions, native, kinds.CUSTOM, ["/bin/true"])
        rows.append(Row("P4", "native binary from zero, p50", "goal", None, statistics.median(ours), "ms", 8, "value", "less",
                        f"p90 {_p90(ours):.0f} ms; a debug build of the official Rust client"))  # fmt: skip
    return rows


def _samples(server, functions, files, runtime, bare):
    ours, theirs = [], []
    names = [functions.deploy(files, runtime) for _ in range(SAMPLES + 1)]
    for name in names:
        begun = time.perf_counter()
        subprocess.run(bare, check=True, preexec_fn=_on_the_servers_core)
        theirs.append((time.perf_counter() - begun) * 1e3)
        ours.append(_first_call(server, name))
    functions.delete_all()
    return ours[1:], theirs[1:]


def _on_the_servers_core():
    """In the child itself: a `taskset` before it would count as part of its start."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {SERVER_CORE})


def _first_call(server, name):
    request = invoke_request(server, name, {})
    head, body = request.split(b"\r\n\r\n", 1)
    path = head.split(b" ")[1].decode()
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    connection = http.client.HTTPConnection(address(server), timeout=30)
    connection.connect()
    begun = time.perf_counter()
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    answer.read()
    took = (time.perf_counter() - begun) * 1e3
    if answer.status != 200 or answer.headers.get("X-Amz-Function-Error"):
        raise RuntimeError(f"{name}: {answer.status}")
    connection.close()
    return took


def _p90(values):
    return sorted(values)[int(len(values) * 0.9)]
