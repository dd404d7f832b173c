"""P8: the same load on 100 functions as on one."""

from measure import ROOT, Contest, load
from report import Row
from support import kinds
from virga import address, invoke_request, url_request, virga

FUNCTIONS, SECONDS, CONNECTIONS = 100, 4, 8
CODE = "def handler(event, context):\n    return 1\n"
SMALL = {"virga:memory": "48"}


def run():
    """A closed loop: rates."""
    return [_row("Python handlers", _python), _row("wasm functions", _wasm)]


def _row(title, deploy):
    contest = Contest()
    with virga("--max-instances", "400") as (server, functions):
        requests = deploy(server, functions)
        for number in range(0, FUNCTIONS, CONNECTIONS):
            load(address(server), requests[number : number + CONNECTIONS], 30, CONNECTIONS, count=CONNECTIONS)
        contest.add("mix", lambda: load(address(server), requests, SECONDS, CONNECTIONS))
        contest.add("one", lambda: load(address(server), requests[0], SECONDS, CONNECTIONS))
        contest.run()
    return Row("P8", f"{title}, a mix of {FUNCTIONS}", "one function", contest.median("one", "rate"), contest.median("mix", "rate"), "calls/s",
               0.9, note=f"{CONNECTIONS} callers")  # fmt: skip


def _python(server, functions):
    names = [functions.deploy({"app.py": CODE}, kinds.system_python(), tags=SMALL) for _ in range(FUNCTIONS)]
    return [invoke_request(server, name, {}) for name in names]


def _wasm(server, functions):
    component = next((ROOT / "examples" / "hello-wasm").rglob("*.wasm"))
    names = [functions.deploy({"main.wasm": component.read_bytes()}, "wasm", "main.wasm", url=True) for _ in range(FUNCTIONS)]
    return [url_request(server, name) for name in names]
