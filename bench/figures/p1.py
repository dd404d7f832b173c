"""P1: a WebAssembly HTTP function, a fresh instance a request, 16 connections."""

import contextlib

from measure import ROOT, Contest, with_cpu, wrk
from peers import WASMTIME, WORKERD, wasmtime_serve, workerd_hello
from report import Row
from virga import virga

CONNECTIONS, SECONDS = 16, 4


def run():
    """Throughput against the same component elsewhere, and against a JavaScript isolate that is not fresh."""
    component = next((ROOT / "examples" / "hello-wasm").rglob("*.wasm"))
    contest = Contest()
    with contextlib.ExitStack() as stack:
        server, functions = stack.enter_context(virga())
        name = functions.deploy({"main.wasm": component.read_bytes()}, "wasm", "main.wasm", url=True)
        url = functions.path(name)
        contest.add("virga", lambda: with_cpu(server.process.pid, lambda: wrk(url, SECONDS, CONNECTIONS)))
        if WASMTIME.exists():
            _contend(contest, "wasmtime", stack.enter_context(wasmtime_serve(component)))
        if WORKERD.exists():
            _contend(contest, "workerd", stack.enter_context(workerd_hello()))
        contest.run()
    cpu = f"{contest.median('virga', 'cpu'):.0f} µs of CPU a request"
    return [_row(contest, "wasmtime", "wasmtime serve, same component", 2.0, cpu), _row(contest, "workerd", "workerd hello", 1.0, "")]


def _contend(contest, name, running):
    process, host = running
    contest.add(name, lambda: with_cpu(process.pid, lambda: wrk(f"http://{host}/", SECONDS, CONNECTIONS)))


def _row(contest, peer, title, goal, note):
    measured = contest.median(peer, "rate") if peer in contest.seen else None
    if measured:
        note = f"{note}; peer {contest.median(peer, 'cpu'):.0f} µs".lstrip("; ")
    return Row("P1", "wasm HTTP, fresh instance a request", title, measured, contest.median("virga", "rate"), "req/s", goal,
               note=note)  # fmt: skip
