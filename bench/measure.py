"""Measuring: cores, load, processor time, memory, medians."""

import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PEERS = TARGET / "bench-peers"
LOAD = TARGET / "bench-load" / "release" / "load"

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SERVER_CORE, LOAD_CORE = 0, 1
TICK = os.sysconf("SC_CLK_TCK")


def pinned(core, command):
    """The command on one core. With a single core there is nothing to separate."""
    if (os.cpu_count() or 1) < 2:
        return list(command)
    return ["taskset", "-c", str(core), *map(str, command)]


def request_bytes(method, host, path, headers=None, body=b""):
    """A request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1"]
    headers = {"Host": host} | (headers or {})
    if body or method == "POST":
        headers["Content-Length"] = str(len(body))
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def load(address, requests, seconds, connections, rate=None, count=None, core=LOAD_CORE, refusals=False):
    """Runs the load generator with one request, or with several in turn. A run with failures is no measurement;
    one with refusals is where they are what is measured."""
    with tempfile.TemporaryDirectory() as folder:
        for number, request in enumerate([requests] if isinstance(requests, bytes) else requests):
            pathlib.Path(folder, f"{number:06}").write_bytes(request)
        options = [f"--{name}={value}" for name, value in (("rate", rate), ("count", count)) if value]
        command = [LOAD, address, folder, seconds, connections, *options]
        done = subprocess.run(pinned(core, command), capture_output=True, text=True, timeout=seconds + 90)
    if done.returncode != 0:
        raise RuntimeError(f"load: {done.stderr}")
    seen = json.loads(done.stdout)
    if not seen["count"] or seen["failed"] or (seen["refused"] and not refusals):
        raise RuntimeError(f"{address}: {seen}")
    return seen


def wrk(url, seconds, connections):
    """Closed-loop throughput with wrk: requests a second and its median latency in microseconds."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url]
    done = subprocess.run(pinned(LOAD_CORE, command), capture_output=True, text=True, timeout=seconds + 60)
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", done.stdout)
    if not rate or wrong:
        raise RuntimeError(f"wrk {url}: {done.stdout}{done.stderr}")
    number, unit = re.search(r"50%\s+([0-9.]+)(us|ms|s)\b", done.stdout).groups()
    count = int(re.search(r"(\d+) requests in", done.stdout)[1])
    return {"rate": float(rate[1]), "p50": float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit], "count": count}


def tree(pid):
    """A process and all it started, directly or not."""
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def cpu_seconds(pid):
    """Processor time of a tree so far, the ended and awaited children of each included."""
    total = 0
    for each in tree(pid):
        try:
            fields = pathlib.Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15])
    return total / TICK


def pss_bytes(pid):
    """Proportional memory of a tree: what is shared counts once."""
    total = 0
    for each in tree(pid):
        try:
            text = pathlib.Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1]) * 1024
    return total


class Contest:
    """Contenders that are measured in turn, so that what disturbs the machine disturbs all of them."""

    def __init__(self, rounds=ROUNDS):
        self.rounds, self.contenders, self.seen = rounds, {}, {}

    def add(self, name, measure):
        """A contender: `measure()` gives a dictionary of numbers."""
        self.contenders[name] = measure
        self.seen[name] = []

    def run(self):
        """Measures; the first turn of each, which warms it up, does not count."""
        for number in range(self.rounds + 1):
            for name, measure in self.contenders.items():
                result = measure()
                if number:
                    self.seen[name].append(result)
        return self

    def median(self, name, key):
        """The median over the rounds."""
        return statistics.median(each[key] for each in self.seen[name])


def with_cpu(pids, measure):
    """The measurement with microseconds of processor time a request added, of one process tree or of several."""
    pids = [pids] if isinstance(pids, int) else pids
    before = sum(cpu_seconds(pid) for pid in pids)
    result = measure()
    return result | {"cpu": (sum(cpu_seconds(pid) for pid in pids) - before) * 1e6 / result["count"]}
