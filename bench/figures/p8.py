"""P8: the same load on 100 functions as on one."""

import contextlib

from bare import Bare
from measure import ROOT, Contest, load, with_cpu
from report import Row
from support import kinds
from virga import address, invoke_request, url_request, virga

FUNCTIONS, SECONDS, CONNECTIONS = 100, 4, 8
CODE = "def handler(event, context):\n    return 1\n"
SMALL = {"virga:memory": "48"}


def run():
    """A closed loop: rates. For processes, what the processor itself makes of many of them, too."""
    return _rows("Python handlers", _python, bare=True) + _rows("wasm functions", _wasm)


def _rows(title, deploy, bare=False):
    contest = Contest()
    with contextlib.ExitStack() as stack:
        server, functions = stack.enter_context(virga("--max-instances", "400"))
        requests = deploy(server, functions)
        for number in range(0, FUNCTIONS, CONNECTIONS):
            load(address(server), requests[number : number + CONNECTIONS], 30, CONNECTIONS, count=CONNECTIONS)
        for name, called in (("mix", requests), ("one", requests[0])):
            contest.add(name, lambda called=called: _load(server, called))
        if bare:
            for name, count in (("bare mix", FUNCTIONS), ("bare one", CONNECTIONS)):
                processes = stack.enter_context(Bare(count))
                contest.add(name, lambda processes=processes: processes.load(SECONDS))
        contest.run()
    rows = [Row("P8", f"{title}, a mix of {FUNCTIONS}", "one function", contest.median("one", "rate"), contest.median("mix", "rate"), "calls/s",
                0.9, note=f"{CONNECTIONS} callers")]  # fmt: skip
    return [*rows, _against_bare(title, contest)] if bare else rows


def _load(server, called):
    return with_cpu(server.process.pid, lambda: load(address(server), called, SECONDS, CONNECTIONS))


def _against_bare(title, contest):
    """By processor time, since no two of them have the same caller to wait for."""
    cpu = {name: contest.median(name, "cpu") for name in contest.seen}
    note = f"{cpu['one']:.0f} µs of one, {cpu['mix']:.0f} µs of the mix; bare {cpu['bare one']:.0f} and {cpu['bare mix']:.0f} µs"
    return Row("P8", f"{title}, CPU that a call of the mix takes more than one's", f"{FUNCTIONS} bare Python processes in turn, {CONNECTIONS}",
               cpu["bare mix"] - cpu["bare one"], cpu["mix"] - cpu["one"], "µs", better="less", note=note)  # fmt: skip


def _python(server, functions):
    names = [functions.deploy({"app.py": CODE}, kinds.system_python(), tags=SMALL) for _ in range(FUNCTIONS)]
    return [invoke_request(server, name, {}) for name in names]


def _wasm(server, functions):
    component = next((ROOT / "examples" / "hello-wasm").rglob("*.wasm"))
    names = [functions.deploy({"main.wasm": component.read_bytes()}, "wasm", "main.wasm", url=True) for _ in range(FUNCTIONS)]
    return [url_request(server, name) for name in names]
