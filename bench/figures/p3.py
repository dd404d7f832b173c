"""P3: Python and Node event handlers, warm, one call at a time."""

import contextlib
import pathlib
import shutil
import subprocess
import tempfile

from measure import SERVER_CORE, Contest, load, pinned, request_bytes, with_cpu
from peers import EMULATOR, NODE_CLIENT, PYTHON_CLIENT, emulator
from report import Row
from support import kinds
from virga import address, invoke_request, virga

SECONDS, RATE = 3, 500
EVENT = {"key1": "value1", "key2": "value2"}
PYTHON = "def handler(event, context):\n    return {'ok': event['key1']}\n"
NODE = "exports.handler = async (event) => ({ ok: event.key1 });\n"
PYTHON_LOOP = """
import time, app
event, spent = {"key1": "v"}, []
for _ in range(20000):
    begun = time.perf_counter(); app.handler(event, None); spent.append(time.perf_counter() - begun)
print(sorted(spent)[10000] * 1e6)
"""
NODE_LOOP = """
const { handler } = require("./app.js");
(async () => {
  const spent = [];
  for (let i = 0; i < 20000; i++) { const b = process.hrtime.bigint(); await handler({ key1: "v" }); spent.push(Number(process.hrtime.bigint() - b)); }
  console.log(spent.sort((a, b) => a - b)[10000] / 1000);
})();
"""


def run():
    """What a call costs beyond the handler, against the official emulator with the official client."""
    python = ["/usr/bin/python3", "-m", "awslambdaric", "app.handler"]
    node = [shutil.which("node"), NODE_CLIENT, "app.handler"]
    rows = _language("Python", kinds.system_python(), {"app.py": PYTHON}, python, PYTHON_CLIENT, ["/usr/bin/python3", "-c", PYTHON_LOOP])
    return rows + _language("Node", kinds.node(), {"app.js": NODE}, node, {}, [shutil.which("node"), "-e", NODE_LOOP])


def _language(title, runtime, files, client, environment, loop):
    contest = Contest()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for name, text in files.items():
            pathlib.Path(folder, name).write_text(text)
        done = subprocess.run(pinned(SERVER_CORE, loop), cwd=folder, capture_output=True, text=True, check=True)
        bare = float(done.stdout)
        server, functions = stack.enter_context(virga())
        name = functions.deploy(files, runtime)
        call = invoke_request(server, name, EVENT)
        contest.add("virga", lambda: with_cpu(server.process.pid, lambda: load(address(server), call, SECONDS, 1, RATE)))
        contest.add("virga-closed", lambda: load(address(server), call, SECONDS, 1))
        if EMULATOR.exists():
            process, host = stack.enter_context(emulator(client, environment, folder))
            body = b'{"key1": "value1", "key2": "value2"}'
            theirs = request_bytes("POST", host, "/2015-03-31/functions/function/invocations", {}, body)
            contest.add("emulator", lambda: load(host, theirs, SECONDS, 1))
        contest.run()
    return _rows(title, contest, bare)


def _rows(title, contest, bare):
    added, tail = (contest.median("virga", key) - bare for key in ("p50", "p99"))
    note = f"{contest.median('virga', 'cpu'):.0f} µs of CPU a call, signature check and runtime included; {RATE}/s"
    rows = [
        Row("P3", f"{title} handler, warm: added, p50", "its own loop", bare, added, "µs", 150, "value", "less", note),
        Row("P3", f"{title} handler, warm: added, p99", "its own loop", bare, tail, "µs", 500, "value", "less"),
    ]
    theirs = contest.median("emulator", "rate") if "emulator" in contest.seen else None
    rows.append(Row("P3", f"{title} handler, one caller", "runtime-interface emulator", theirs,
                    contest.median("virga-closed", "rate"), "calls/s", 3.0))  # fmt: skip
    return rows
