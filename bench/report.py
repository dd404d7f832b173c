"""Rows, and the table that is made of them."""

import datetime
import os
import pathlib
import platform
import re
import subprocess
from dataclasses import dataclass

from measure import PEERS, ROOT

TARGET = ROOT / "docs" / "benchmarks.md"

# A machine that does other things at the same time makes every absolute number worse, and tails above all.
LOAD_AT_START = os.getloadavg()[0]

HEAD = """# Benchmarks

`make bench` measures these and writes this page. Every figure is a ratio to a peer or to a bare baseline in
the same run, the two in turn, the median of {rounds} rounds after one that does not count; the server on one core, the
load generator on another. Latencies are measured with an open loop: a request counts from when it was due. Times
of another machine differ; the ratios should not differ much. A goal that is not met is recorded as such;
[performance.md](performance.md) says where the time goes.

P1's guest brings a bump allocator, so that a request grows no memory: that helps both sides, Virga somewhat more. P6's
rate varies between runs on two cores; the row with forwarded headers compares the same work. Virga and every peer run in
sessions of their own, as a service manager starts them.

"""

# Cores that other work may keep busy before the numbers mean little.
QUIET = 0.5

DISTURBED = """**This run was disturbed: other work kept the machine busy. Its numbers and verdicts are not to be relied on; the
processor time a request is the least affected.**

"""


@dataclass
class Row:
    """One line: `better` says whether more or less is good, `goal` is the least (or the most) that meets it."""

    figure: str
    what: str
    peer: str
    peer_value: float | None
    value: float | None
    unit: str
    goal: float | None = None
    against: str = "ratio"
    better: str = "more"
    note: str = ""

    @property
    def ratio(self):
        """Virga's number to the peer's."""
        usable = self.against == "ratio" and self.value is not None and self.peer_value and self.peer_value > 0
        return self.value / self.peer_value if usable else None

    @property
    def verdict(self):
        """Whether the goal is met. No verdict where noise swallowed the peer's number (a difference below zero)."""
        judged = self.ratio if self.against == "ratio" else self.value
        if judged is None:
            return "not measured"
        if self.goal is None:
            return "recorded"
        met = judged >= self.goal if self.better == "more" else judged <= self.goal
        return "met" if met else "not met"

    def cells(self):
        """The line's texts."""
        goal = "" if self.goal is None else f"{'≥' if self.better == 'more' else '≤'} {_number(self.goal)}"
        goal += "" if self.goal is None else (" ×" if self.against == "ratio" else f" {self.unit}")
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return [self.figure, self.what, self.peer, _value(self.peer_value, self.unit), _value(self.value, self.unit), ratio,
                goal, self.verdict, self.note]  # fmt: skip


def _number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _value(value, unit):
    return "–" if value is None else f"{_number(value)} {unit}"


def write(rows, rounds):
    """Writes docs/benchmarks.md and prints the table."""
    head = ["figure", "what", "peer", "its value", "Virga", "ratio", "goal", "verdict", "notes"]
    table = ["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *(row.cells() for row in rows)]]
    text = HEAD.format(rounds=rounds) + (DISTURBED if LOAD_AT_START > QUIET else "") + "\n".join(table) + "\n\n" + machine() + "\n"
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text)
    print("\n".join(table))


def machine():
    """The machine and the versions, without its name or paths."""
    model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())
    cgroups = "v2" if pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"
    lines = [
        "## The machine", "",
        f"- {model[1].strip() if model else platform.machine()}, {os.cpu_count()} cores, {int(memory[1]) >> 20} GiB of memory",
        f"- Linux {platform.release().split('-')[0]}, cgroups {cgroups}",
        f"- measured on {datetime.date.today().isoformat()}, Virga {said(os.environ['VIRGA_BIN'], '--version')}"
        f" ({os.environ.get('BENCH_BUILD', 'a binary that was given, not built by this run')})",
        f"- load average when it began: {LOAD_AT_START:.1f}",
    ]  # fmt: skip
    peers = {
        "Python": said("/usr/bin/python3", "--version"), "Node": said("node", "--version"),
        "nginx": said("/usr/sbin/nginx", "-v"), "wasmtime": said(str(PEERS / "bin/wasmtime"), "--version"),
        "workerd": said(str(PEERS / "workerd/node_modules/.bin/workerd"), "--version"),
    }  # fmt: skip
    return "\n".join([*lines, "- " + ", ".join(f"{name} {text}" for name, text in peers.items() if text)])


def said(*command):
    """The version in what a program says of itself; empty where it is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return ""
    found = re.search(r"\d+(\.\d+)+|\d{4}-\d\d-\d\d", done.stdout + done.stderr)
    return found[0] if found else ""
