"""The same without root: user namespaces instead of privileges."""

import os
import pathlib
import shutil
import tempfile
import uuid

import pytest
import wasmtime

from support import host, kinds
from support.clients import Functions
from support.server import Server, no_process_left

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user to try it")


@pytest.fixture(scope="module")
def rootless():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="virga-e2e-rootless-"))
    os.chown(folder, NOBODY, NOBODY)
    program = shutil.copy(os.environ["VIRGA_BIN"], folder / "virga")
    os.chmod(program, 0o755)
    before = os.environ["VIRGA_BIN"]
    os.environ["VIRGA_BIN"] = str(program)
    arguments = ["--wasm-workers", "always"]
    server = Server(folder / "data", uid=NOBODY, env={"HOME": str(folder)}, arguments=arguments)
    try:
        server.start()
        yield server
        server.stop()
    finally:
        os.environ["VIRGA_BIN"] = before
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def functions(rootless):
    made = Functions(rootless)
    yield made
    made.delete_all()


def runtime():
    return kinds.system_python()


def test_the_server_is_not_root(rootless):
    status = pathlib.Path(f"/proc/{rootless.process.pid}/status").read_text()
    assert f"Uid:\t{NOBODY}\t{NOBODY}" in status


def test_deploy_and_invoke(functions):
    name = functions.deploy(kinds.python_function("echo.py"), runtime())
    assert functions.invoke(name, {"a": 1}).ok()["event"] == {"a": 1}


def test_webassembly_in_a_worker(rootless, functions):
    files = {"main.wasm": wasmtime.wat2wasm(kinds.source("command.wat"))}
    name = functions.deploy(files, "wasm", "main.wasm")
    assert functions.invoke(name, {"a": 1}).ok() == {"a": 1}
    workers = set(host.command_lines("wasm-worker")) & host.descendants(rootless.process.pid)
    assert len(workers) == 1


def test_the_sandbox_holds(functions):
    name = functions.deploy(kinds.python_function("probe.py"), runtime(), MemorySize=256)

    def probe(look, **more):
        return functions.invoke(name, {"look": look} | more).ok()

    status = probe("status")
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"
    assert probe("interfaces") == ["lo"] and "error" in probe("reach", host="192.0.2.1", port=80)
    assert "error" in probe("write", path="/var/task/x") and "error" in probe("write", path="/usr/x")
    assert "ok" in probe("write", path="/tmp/x") and "error" in probe("unshare")
    assert len(probe("processes")) <= 3


def test_memory_is_held(functions):
    name = functions.deploy(kinds.python_function("echo.py"), runtime(), MemorySize=128)
    assert functions.invoke(name, {"do": "memory"}).error == "Unhandled"
    assert functions.invoke(name).ok()["count"] == 1


def test_a_time_out_kills_the_whole_tree(functions):
    marker = f"e2e-marker-{uuid.uuid4().hex}"
    name = functions.deploy(kinds.python_function("probe.py"), runtime(), Timeout=2, env={"MARKER": marker})
    result = functions.invoke(name, {"look": "run", "argv": ["sh", "-c", "setsid sleep 600 & sleep 600"]})
    result.failed("Sandbox.Timedout")
    no_process_left(marker)


def test_kill_nine_leaves_nothing_behind(rootless, functions):
    marker = f"e2e-marker-{uuid.uuid4().hex}"
    name = functions.deploy(kinds.python_function("echo.py"), runtime(), env={"MARKER": marker})
    functions.invoke(name).ok()
    assert host.processes(marker)
    rootless.kill()
    rootless.start()
    no_process_left(marker, 5)
    assert functions.invoke(name).ok()["count"] == 1


def test_a_web_server(functions):
    import requests

    files = {"s.py": "import http.server, os\nclass H(http.server.SimpleHTTPRequestHandler):\n    def do_GET(self):\n"
             "        self.send_response(200); self.end_headers(); self.wfile.write(b'rootless')\n"
             "http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()\n"}  # fmt: skip
    name = functions.deploy(files, runtime(), "s.py", tags=kinds.WEB, url=True)
    assert requests.get(functions.path(name), timeout=30).text == "rootless"


def test_the_missing_limits_are_reported(rootless):
    assert "cgroup" in rootless.tail().lower(), "what the host cannot give is never silent"
