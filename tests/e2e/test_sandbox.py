"""What a process function can see and do, told by code inside it."""

import os
import pathlib
import socket
import threading
import uuid

import pytest

from support import host, kinds, poll, zips
from support.clients import Functions
from support.server import no_process_left


@pytest.fixture(scope="module")
def probe(server):
    made = Functions(server)
    name = made.deploy(kinds.python_function("probe.py"), kinds.python(), MemorySize=1024, EphemeralStorage={"Size": 512})
    yield lambda look, **more: made.invoke(name, {"look": look} | more).ok()
    made.delete_all()


@pytest.fixture
def make(functions, marker):
    def deploy(**options):
        files = kinds.python_function("probe.py") | kinds_echo()
        return functions.deploy(files, kinds.python(), env={"MARKER": marker}, **options)

    return deploy


def kinds_echo():
    return {"echo.py": kinds.source("echo.py")}


def test_no_privileges(probe):
    status = probe("status")
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"


def test_not_roots_uid(probe):
    ids = probe("ids")
    assert ids["uid"] != 0 and ids["gid"] != 0 and 0 not in ids["groups"]


@pytest.mark.parametrize("path", ["/usr/x", "/var/task/x", "/etc/x", "/x", "/var/runtime/x", "/lib/x", "/opt/x", "/var/x",
                                  "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/usr/bin/env"])  # fmt: skip
def test_nothing_outside_tmp_can_be_written(probe, path):
    assert "error" in probe("write", path=path), path


def test_tmp_is_private_writable_and_limited(probe):
    path = f"/tmp/{uuid.uuid4().hex}"
    assert "ok" in probe("write", path=path)
    assert not pathlib.Path(path).exists()
    full = probe("fill", path="/tmp", megabytes=600)
    assert full["error"] == "OSError" and full["errno"] in (28, 12, 122), full


def test_the_package_is_where_it_belongs(probe):
    assert "app.py" in probe("listdir", path="/var/task")["ok"]


@pytest.mark.parametrize("path", ["/root", "/home", "/etc/shadow", "/work", "/var/lib", "/boot", "/dev/mem", "/dev/kmsg",
                                  "/sys/kernel/debug"])  # fmt: skip
def test_the_hosts_own_things_are_not_there(probe, path):
    listed, read = probe("listdir", path=path), probe("read", path=path)
    assert listed.get("ok", []) == [] and "ok" not in read, (listed, read)


def test_only_its_own_processes_are_seen(probe):
    seen = probe("processes")
    assert len(seen) <= 3 and max(seen) < 1000, seen


def test_no_network_but_loopback(probe):
    assert probe("interfaces") == ["lo"]
    # An address outside answers nothing because there is no way there, at once: not after a time-out.
    outside = probe("reach", host="192.0.2.1", port=80)
    assert outside.get("errno") in (101, 113, 111, 1, 13), outside


def test_the_hosts_loopback_is_out_of_reach(server, probe):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert "error" in probe("reach", host="127.0.0.1", port=listener.getsockname()[1])
    assert "error" in probe("reach", host="127.0.0.1", port=server.admin_port), "the admin address neither"


def test_names_resolve_as_programs_expect(probe):
    assert probe("resolve", host="localhost")["ok"] in ("127.0.0.1", "::1")
    assert probe("hostname")


def test_certificates_are_there(probe):
    assert probe("certificates") > 50


def test_programs_of_usr_run(probe):
    done = probe("run", argv=["sh", "-c", "echo shell; awk 'BEGIN { print \"awk\" }'; id -u; ls -l /etc/alternatives | head -2"])
    assert done["code"] == 0 and done["out"].startswith("shell\nawk\n"), done


def test_no_new_namespaces_or_hostname(probe):
    assert "error" in probe("unshare") and "error" in probe("sethostname")
    assert probe("run", argv=["mount", "-t", "tmpfs", "none", "/tmp"])["code"] != 0


def test_no_core_files(probe):
    assert probe("rlimits")["core"][0] == 0


def test_memory_is_held_and_the_next_call_is_clean(functions):
    name = functions.deploy(kinds.python_function("echo.py"), kinds.python(), MemorySize=128)
    first = functions.invoke(name).ok()["instance"]
    result = functions.invoke(name, {"do": "memory"})
    failed = result.failed("Runtime.OutOfMemory")
    assert result.request_id in failed["errorMessage"]
    assert "REPORT" in result.log and "Max Memory Used: 12" in result.log, result.log
    after = functions.invoke(name).ok()
    assert after["instance"] != first and after["count"] == 1


def test_tmp_counts_as_memory(functions):
    name = functions.deploy(kinds.python_function("probe.py"), kinds.python(), MemorySize=128)
    result = functions.invoke(name, {"look": "fill", "path": "/tmp", "megabytes": 300})
    if result.error:
        result.failed("Runtime.OutOfMemory")
    else:
        assert "error" in result.value, "128 MB hold no 300 MB of files"


def test_virga_memory_goes_below_awss_minimum(functions):
    files = {"bootstrap": zips.executable(kinds.source("shell_bootstrap.sh"))}
    name = functions.deploy(files, kinds.CUSTOM, tags={"virga:memory": "48"})
    assert "Memory Size: 48 MB" in functions.invoke(name).log


def test_a_fork_bomb_is_bounded(functions, make, marker):
    name = make(Timeout=20, MemorySize=1024)
    children = functions.invoke(name, {"look": "fork"}).ok()
    assert children["children"] < 2000 and children["error"] in ("BlockingIOError", "OSError")
    functions.api.delete_function(FunctionName=name)
    no_process_left(marker)


def test_a_time_out_kills_the_whole_tree(functions, make, marker):
    name = make(Timeout=2)
    functions.invoke(name, {"look": "spawn", "argv": ["setsid", "sleep", "600"]}).ok()
    assert len(host.processes(marker)) >= 2
    result = functions.invoke(name, {"look": "run", "argv": ["sh", "-c", "sleep 600 & setsid sleep 600 & wait"]})
    failed = result.failed("Sandbox.Timedout")
    assert failed["errorMessage"].endswith("Error: Task timed out after 2.00 seconds"), failed
    assert result.request_id in failed["errorMessage"] and "Task timed out after 2.00 seconds" in result.log
    no_process_left(marker)
    assert functions.invoke(name, {"look": "hostname"}).ok()


def test_a_cpu_limit_holds(functions):
    name = functions.deploy(kinds.python_function("probe.py"), kinds.python(), tags={"virga:cpu": "20"})
    spun = functions.invoke(name, {"look": "spin", "seconds": 2}).ok()
    assert spun["cpu"] < 1.0, spun


def test_the_sdk_inside_reaches_virga_and_may_do_nothing_by_itself(functions):
    files = zips.folder(kinds.bundle("boto3"), leave_out=(".made-from", "bin")) | kinds.python_function("inner_sdk.py")
    name = functions.deploy(files, kinds.python(), MemorySize=512)
    said = functions.invoke(name).ok()
    assert (said["code"], said["status"]) == ("AccessDeniedException", 403), said
    assert name in said["message"] and "lambda:ListFunctions" in said["message"], said


def test_instances_of_functions_do_not_see_each_other(functions):
    source = kinds.python_function("probe.py")
    one = functions.deploy(source, kinds.python())
    other = functions.deploy(source, kinds.python())
    functions.invoke(one, {"look": "write", "path": "/tmp/secret"}).ok()
    assert "secret" not in functions.invoke(other, {"look": "listdir", "path": "/tmp"}).ok()["ok"]
    assert "secret" in functions.invoke(one, {"look": "listdir", "path": "/tmp"}).ok()["ok"]


def test_a_flood_of_output_is_bounded_and_does_not_stop_others(functions):
    flood = "import sys\ndef handler(e, c):\n    for _ in range(300):\n        sys.stdout.write('z' * 65536)\n    return 1\n"
    name = functions.deploy({"app.py": flood}, kinds.python(), Timeout=60)
    other = functions.deploy(kinds.python_function("echo.py"), kinds.python())
    results = []
    thread = threading.Thread(target=lambda: results.append(functions.invoke(name)))
    thread.start()
    assert functions.invoke(other).ok()
    thread.join()
    assert results[0].ok() == 1 and len(results[0].log) <= 4096


def test_a_flood_is_made_to_wait(new_server):
    server = new_server(arguments=["--max-log-kb-s", "1024"]).start()
    made = Functions(server)
    flood = "import os, time\ndef handler(e, c):\n    begun = time.monotonic()\n    for _ in range(80):\n        os.write(1, b'z' * 65535 + b'\\n')\n    return time.monotonic() - begun\n"
    name = made.deploy({"app.py": flood}, kinds.python(), Timeout=60)
    # 5 MB: twice the first megabyte, and what the pipe holds, come at once.
    assert made.invoke(name).ok() >= 2.5
    patient = made.deploy({"app.py": flood}, kinds.python(), Timeout=1)
    made.invoke(patient).failed("Sandbox.Timedout")


def test_a_call_that_only_an_attack_makes_ends_the_function(functions):
    attack = "import ctypes\ndef handler(e, c):\n    print('before')\n    return ctypes.CDLL(None).syscall(246, 0, 0, 0, 0)\n"
    name = functions.deploy({"app.py": attack}, kinds.python())
    result = functions.invoke(name)
    assert "bad system call" in result.failed("Runtime.ExitError")["errorMessage"] and "before" in result.log


def test_the_servers_files_are_not_reachable_by_handles(probe, server):
    handles = probe("listdir", path="/proc/self/fd")["ok"]
    assert len(handles) <= 6, handles
    mounts = "\n".join(probe("mounts"))
    assert "cgroup" not in mounts and os.fspath(server.data / "virga.db") not in mounts
    assert poll.until(server.healthy, "the server is well")
