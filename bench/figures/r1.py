"""R1: five times more calls than there is capacity for, of a function that costs 5 ms of processor time."""

import pathlib
import re
import statistics

from measure import load
from report import Row
from support import kinds
from virga import address, invoke_request, virga

ROUNDS, SECONDS = 8, 5
# Callers of a closed loop: too few leave the function's instances idle between calls, too many only wait.
CALLERS = (4, 8, 16, 32)
CONNECTIONS = 1500
CODE = """import time
def handler(event, context):
    begun = time.process_time()
    while time.process_time() - begun < 0.005:
        pass
    return 1
"""


def run():
    """Goodput of an open loop beside the peak of closed ones, how soon refusals come, and memory over time."""
    with virga("--max-instances", "8") as (server, functions):
        name = functions.deploy({"app.py": CODE}, kinds.system_python())
        call = invoke_request(server, name, {})
        load(address(server), call, 2, max(CALLERS))
        before = _resident(server.process.pid)
        best = max(CALLERS, key=lambda callers: load(address(server), call, SECONDS, callers)["rate"])
        seen = [_round(server, call, best) for _ in range(ROUNDS)]
    median = {key: statistics.median(each[key] for each in seen) for key in seen[0]}
    levels = [each["memory"] for each in seen]
    note = f"{median['offered']:.0f} calls/s offered, {median['refused']:.0f} refused in {SECONDS} s"
    grown = f"{ROUNDS} rounds of overload, {before:.0f} MiB before them; what {CONNECTIONS} connections needed stays with the allocator"
    return [
        Row("R1", "goodput at 5 × capacity", f"peak of closed loops, {best} callers", median["peak"], median["goodput"], "calls/s", 0.9,
            note=note),
        Row("R1", "refusals at 5 × capacity, p99", "goal", None, median["refused_p99"], "ms", 10, "value", "less"),
        # The first round brings it to its level; from there on it must not grow.
        Row("R1", "server's memory after the last round", "after the second", levels[1], levels[-1], "MiB", 1.05, "ratio", "less", grown),
    ]  # fmt: skip


def _round(server, call, callers):
    peak = load(address(server), call, SECONDS, callers)["rate"]
    offered = peak * 5
    seen = load(address(server), call, SECONDS, CONNECTIONS, offered, refusals=True)
    return {"peak": peak, "offered": offered, "goodput": seen["rate"], "refused": seen["refused"],
            "refused_p99": (seen["refused_p99"] or 0) / 1e3, "memory": _resident(server.process.pid)}  # fmt: skip


def _resident(pid):
    """MiB of the server itself."""
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024
