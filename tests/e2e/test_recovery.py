"""What is left after the server was killed, and what a stop waits for."""

import concurrent.futures
import http.client
import os
import pathlib
import signal
import subprocess
import threading
import time

import pytest
import requests
from botocore.exceptions import ClientError, EventStreamError

from support import clients, host, kinds, poll, zips
from support.clients import FAST, ROLE, Functions, code_of
from support.server import Server, binary, no_process_left


@pytest.fixture
def own(new_server):
    """A server of the test's own, and functions on it."""
    server = new_server().start()
    return server, Functions(server)


def start_a_long_call(functions, name, seconds=60):
    """Begins a call on a thread of its own, whose fate is not waited for."""
    client = clients.client(functions.server, check=False)

    def call():
        try:
            client.invoke(FunctionName=name, Payload=f'{{"do": "sleep", "seconds": {seconds}}}')
        except Exception:
            pass

    threading.Thread(target=call, daemon=True).start()


def files_of(server):
    """What lies around in its data directory and in the folder that it was told to use for temporary files."""
    return host.tree(server.data) | {str(path) for path in pathlib.Path(server.environment["TMPDIR"]).rglob("*")}


def test_kill_nine_leaves_nothing_behind(new_server, tmp_path, marker):
    server = new_server(env={"TMPDIR": str(tmp_path)}).start()
    functions = Functions(server)
    web = functions.deploy(
        {"s.mjs": "import http from 'node:http';\nhttp.createServer((q, r) => r.end('web')).listen(process.env.PORT);\n"},
        kinds.node(), "s.mjs", tags=kinds.WEB, url=True, env={"MARKER": marker},
    )  # fmt: skip
    name = functions.deploy(kinds.python_function("echo.py"), kinds.python(), env={"MARKER": marker}, Timeout=120)
    assert functions.invoke(web).raw == b"web"
    instance = functions.invoke(name).ok()["instance"][-32:]
    before = files_of(server)
    start_a_long_call(functions, name)
    poll.until(lambda: len(host.processes(marker)) >= 2, "both instances run")
    poll.until(lambda: "START" in server.cli("logs", name, check=0).stdout, "the call began")
    server.kill()
    server.start()
    no_process_left(marker, 5)
    assert not host.cgroups(instance) and not host.mounts(instance)
    assert str(server.data) not in pathlib.Path("/proc/self/mountinfo").read_text()
    assert functions.invoke(name).ok()["count"] == 1
    assert functions.invoke(web).raw == b"web"
    assert files_of(server) <= before


def test_processes_die_with_the_server_or_at_its_next_start(own, marker):
    server, functions = own
    files = kinds.python_function("probe.py")
    name = functions.deploy(files, kinds.python(), env={"MARKER": marker})
    functions.invoke(name, {"look": "spawn", "argv": ["setsid", "sleep", "600"]}).ok()
    assert len(host.processes(marker)) >= 2
    server.kill()
    server.start()
    no_process_left(marker, 5)


def test_a_pending_function_becomes_active_or_failed(own):
    server, functions = own
    names = [f"pending-{number}" for number in range(8)]
    for name in names:
        functions.api.create_function(
            FunctionName=name, Runtime=kinds.python(), Handler="app.handler", Role=ROLE,
            Code={"ZipFile": zips.package(kinds.python_function("echo.py"))},
        )  # fmt: skip
    server.kill()
    server.start()
    for name in names:
        functions.api.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)
        assert functions.invoke(name, {"n": name}).ok()["event"] == {"n": name}


def test_a_kill_in_the_middle_of_deploys(own):
    """Whatever was acknowledged is there and works; whatever was not left no files."""
    server, functions = own
    acknowledged = set()
    stop = threading.Event()

    def deploy(worker):
        client = clients.client(server, check=False)
        number = 0
        while not stop.is_set():
            name = f"d-{worker}-{number}"
            archive = zips.package(kinds.python_function("echo.py") | {"pad": os.urandom(300_000), "name": name})
            try:
                client.create_function(
                    FunctionName=name, Runtime=kinds.python(), Handler="app.handler", Role=ROLE, Code={"ZipFile": archive}
                )
            except Exception:
                return
            acknowledged.add(name)
            number += 1

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        running = [pool.submit(deploy, worker) for worker in range(3)]
        poll.until(lambda: len(acknowledged) >= 6, "some deploys were acknowledged", seconds=60)
        server.kill()
        stop.set()
        concurrent.futures.wait(running)
    server.start()
    listed = {f["FunctionName"] for page in functions.api.get_paginator("list_functions").paginate() for f in page["Functions"]}
    assert acknowledged <= listed and len(listed - acknowledged) <= 3
    for name in sorted(listed)[:5]:
        functions.api.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)
        assert functions.invoke(name).ok()
    for name in listed:
        functions.api.delete_function(FunctionName=name)
    server.stop()
    server.start()
    leftovers = [p for p in server.data.rglob("*") if p.is_file() and p.stat().st_size > 200_000
                 and "db" not in p.name and "logs" not in p.parts]  # fmt: skip
    assert not leftovers, f"packages that nothing refers to: {leftovers}"


def test_one_server_a_data_directory(own):
    server, _ = own
    second = Server(server.data, keys=False)
    done = subprocess.run(second.command(), capture_output=True, text=True, timeout=30, env=second.environment)
    assert done.returncode != 0
    assert str(server.data) in done.stderr and "ready" not in done.stdout, done.stderr
    assert server.healthy()


def test_the_lock_goes_with_its_holder(own):
    server, _ = own
    server.kill()
    server.start()
    assert server.healthy()


def test_a_port_that_is_taken(own, new_server):
    server, _ = own
    second = new_server()
    second.port = server.port
    done = subprocess.run(second.command(), capture_output=True, text=True, timeout=30, env=second.environment)
    assert done.returncode != 0 and str(server.port) in done.stderr, done.stderr


@pytest.mark.parametrize("word", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stop_waits_for_calls_under_way(own, marker, word):
    server, functions = own
    name = functions.deploy(kinds.python_function("echo.py"), kinds.python(), env={"MARKER": marker})
    functions.invoke(name).ok()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(functions.invoke, name, {"do": "sleep", "seconds": 3})
        poll.until(lambda: busy(server), "the call runs")
        server.process.send_signal(word)
        assert call.result(20).ok()["count"] == 2
    assert server.process.wait(20) == 0
    assert not host.processes(marker)


def test_a_live_tail_is_told_of_a_stop_and_does_not_hold_it_up(own):
    server, _ = own
    logs = clients.client(server, "logs", check=False, inject_host_prefix=False)
    logs.create_log_group(logGroupName="g")
    arn = logs.describe_log_groups()["logGroups"][0]["logGroupArn"]
    session = iter(logs.start_live_tail(logGroupIdentifiers=[arn])["responseStream"])
    assert "sessionStart" in next(session)
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    with pytest.raises(EventStreamError) as ended:
        for _ in session:
            pass
    assert code_of(ended.value) == "SessionStreamingException" and "stopping" in str(ended.value)
    assert server.process.wait(20) == 0 and time.monotonic() - began < 5, "calls under way may take ten seconds"


def test_a_stopping_server_refuses_what_is_new(own):
    server, functions = own
    name = functions.deploy(kinds.python_function("echo.py"), kinds.python(), url=True, Timeout=60)
    functions.invoke(name).ok()
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    kept.request("GET", "/_fn/nobody/")
    assert kept.getresponse().read() and kept.sock, "the connection is kept"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(functions.invoke, name, {"do": "sleep", "seconds": 5})
        poll.until(lambda: busy(server), "the call runs")
        server.process.send_signal(signal.SIGTERM)
        poll.until(lambda: requests.get(f"{server.admin}/readyz", timeout=10).status_code == 503, "it is not ready")
        assert server.healthy()
        poll.until(lambda: requests.get(functions.path(name), timeout=20).status_code == 503, "new calls are refused")
        # Without a new connection: what http.client would open by itself where the server had closed this one.
        kept.auto_open = False
        kept.request("GET", f"/_fn/{name}/")
        last = kept.getresponse()
        assert (last.status, last.headers["Connection"], last.headers["Retry-After"]) == (503, "close", "1")
        with pytest.raises(ClientError) as refused:
            functions.invoke(name)
        assert code_of(refused.value) == "ServiceUnavailableException"
        assert not call.done(), "all that while a call was under way"
        assert call.result(20).ok()["count"] == 2
    assert server.process.wait(20) == 0


def busy(server):
    """Whether /metrics shows a call running."""
    return sum(s.value for family in server.metric_families() for s in family.samples if s.name == "faas_running") > 0


def test_the_second_start_is_quick(own):
    import time

    server, functions = own
    functions.deploy(kinds.python_function("echo.py"), kinds.python())
    server.stop()
    began = time.monotonic()
    server.start()
    assert time.monotonic() - began < 10, "an order of magnitude: times belong to the benchmarks"


def test_the_program_says_what_it_is():
    done = subprocess.run([binary(), "--version"], capture_output=True, text=True, timeout=10)
    assert done.returncode == 0 and done.stdout.startswith("virga ")
