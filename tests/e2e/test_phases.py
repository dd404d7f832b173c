"""What users see of a cold start and of a call's parts: metrics, REPORT lines, Server-Timing, `virga invoke --trace`."""

import json
import pathlib
import re

import pytest
import wasmtime

from support import host, kinds
from support.clients import signed

SLOW = "import time\ntime.sleep(0.3)\ndef handler(event, context):\n    return 1\n"


@pytest.fixture
def slow(functions):
    return functions.deploy({"app.py": SLOW}, kinds.python())


def limit(process, controller, *names):
    """What the control group of a process says in a file of one of these names (cgroup v2's and v1's)."""
    root = pathlib.Path("/sys/fs/cgroup")
    for line in pathlib.Path(f"/proc/{process}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for folder in (root, root / "unified", root / controllers):
            for name in names:
                file = folder / path.lstrip("/") / name
                if file.exists():
                    return file.read_text().strip()
    raise AssertionError(f"no control group of {process} has {names}")


def timings(header):
    """The metrics of a Server-Timing header: name to parameters."""
    found = {}
    for entry in header.split(", "):
        name, *parameters = entry.split(";")
        found[name] = dict(parameter.split("=") for parameter in parameters)
    return found


def test_an_answer_says_what_the_call_was_made_of(server, functions, slow):
    path = f"/2015-03-31/functions/{slow}/invocations"
    cold = signed(server, "POST", path, b"{}", headers={"X-Virga-Trace": "on"})
    found = timings(cold.headers["Server-Timing"])
    assert found["start"]["desc"] in ("cold", "sandbox", "runtime", "template")
    assert float(found["wait"]["dur"]) >= float(found["start"]["dur"]) > 0
    assert float(found["call"]["dur"]) >= 0
    warm = timings(signed(server, "POST", path, b"{}", headers={"X-Virga-Trace": "on"}).headers["Server-Timing"])
    assert set(warm) == {"wait", "call"}
    assert "Server-Timing" not in signed(server, "POST", path, b"{}").headers
    wrong = signed(server, "POST", path, b"{}", headers={"X-Virga-Trace": "please"})
    assert wrong.status_code == 400


def test_report_lines_keep_lambdas_form(functions, slow):
    log = functions.invoke(slow).log
    report = next(line for line in log.splitlines() if line.startswith("REPORT"))
    lambdas = re.match(
        r"REPORT RequestId: [0-9a-f-]{36}\tDuration: [0-9.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\t"
        r"Max Memory Used: \d+ MB\tInit Duration: ([0-9.]+) ms\t", report
    )  # fmt: skip
    assert lambdas and float(lambdas[1]) > 0
    ours = report[lambdas.end() :]
    assert re.fullmatch(
        r"Start: (cold|sandbox|runtime|template)\tSandbox: [0-9.]+ ms\tRuntime: [0-9.]+ ms\tCode: [0-9.]+ ms\t", ours
    )


def test_the_command_line_draws_it(server, functions, slow):
    done = server.cli("invoke", slow, "--trace", check=0)
    assert json.loads(done.stdout) == 1, "the answer stays alone on standard output"
    rows = [line.split()[0] for line in done.stderr.splitlines()]
    assert rows[:5] == ["wait", "start", "sandbox", "runtime", "init"] and rows[-3:] == ["call", "rest", "total"]
    trace = json.loads(server.cli("invoke", slow, "--trace", "--json", check=0).stdout)["Trace"]
    assert trace["Start"] is None and trace["TotalMs"] > trace["CallMs"] > 0
    assert "Trace" not in json.loads(server.cli("invoke", slow, "--json", check=0).stdout)


def test_metrics_tell_phases_and_accounts(server, functions, slow):
    functions.invoke(slow).ok()
    functions.invoke(slow).ok()
    families = {family.name: family for family in server.metric_families()}
    phases = families["faas_coldstart_phase_duration_seconds"].samples
    counts = {s.labels["phase"]: s.value for s in phases if s.labels["faas_name"] == slow and s.name.endswith("_count")}
    assert counts["first_call"] == 1
    assert set(counts) == {"sandbox", "runtime", "init", "first_call"}
    spent = sum(s.value for s in phases if s.labels["faas_name"] == slow and s.name.endswith("_sum"))
    assert spent > 0
    for family in families.values():
        for sample in family.samples:
            if "faas_name" in sample.labels:
                assert sample.labels["cloud_account_id"] == server.account, sample


def test_a_component_lives_in_one_megabyte(functions):
    """A command of two pages; asking for more than it may have is refused to it."""
    code = wasmtime.wat2wasm(kinds.source("command.wat"))
    name = functions.deploy({"main.wasm": code}, "wasm", "main.wasm", tags={"virga:memory": "1"})
    result = functions.invoke(name, "echo")
    assert result.ok() == "echo" and "\tMemory Size: 1 MB\t" in result.log
    assert functions.invoke(name, "+").error == "Unhandled"


def test_a_call_that_finds_no_instance_counts_as_failed(server, functions):
    name = functions.deploy({"app.py": "import nowhere\ndef handler(event, context): pass\n"}, kinds.python())
    assert functions.invoke(name).error == "Unhandled"
    found = {}
    for family in server.metric_families():
        for sample in family.samples:
            if sample.labels.get("faas_name") == name and sample.name.endswith("_total"):
                found[sample.name] = sample.value
    assert (found["faas_invocations_total"], found["faas_errors_total"], found["faas_init_errors_total"]) == (1, 1, 1)


def test_memory_and_processor_time_are_apart(functions, marker):
    """Sizes that Lambda does not have, in steps of one megabyte and one hundredth of a core."""
    name = functions.deploy(
        {"bootstrap": (kinds.source("shell_bootstrap.sh").encode(), 0o755)}, kinds.CUSTOM, "any",
        env={"MARKER": marker}, tags={"virga:memory": "17", "virga:cpu": "33"},
    )  # fmt: skip
    result = functions.invoke(name, {"a": 1})
    result.ok()
    assert "\tMemory Size: 17 MB\t" in result.log
    process = host.processes(marker)[0]
    assert limit(process, "memory", "memory.max", "memory.limit_in_bytes") == str(17 << 20)
    both = limit(process, "cpu", "cpu.max", "cpu.cfs_quota_us").split()
    if len(both) == 1:
        both.append(limit(process, "cpu", "cpu.cfs_period_us"))
    assert int(both[0]) * 100 == int(both[1]) * 33, "33 hundredths of a core, whatever the memory"
