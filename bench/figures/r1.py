"""R1: five times more calls than there is capacity for, of a function that costs 5 ms of processor time."""

import pathlib
import re
import statistics

from measure import load
from report import Row
from support import kinds
from virga import address, invoke_request, virga

ROUNDS, SECONDS, CALLERS = 3, 8, 4
CODE = """import time
def handler(event, context):
    begun = time.process_time()
    while time.process_time() - begun < 0.005:
        pass
    return 1
"""


def run():
    """Goodput of an open loop beside the peak of a closed one, how soon refusals come, and memory over time."""
    with virga("--max-instances", "8") as (server, functions):
        name = functions.deploy({"app.py": CODE}, kinds.system_python())
        call = invoke_request(server, name, {})
        load(address(server), call, 2, CALLERS)
        seen = [_round(server, call) for _ in range(ROUNDS)]
    median = {key: statistics.median(each[key] for each in seen) for key in seen[0]}
    note = f"{median['offered']:.0f} calls/s offered, {median['refused']:.0f} refused in {SECONDS} s"
    return [
        Row("R1", "goodput at 5 × capacity", "peak of a closed loop", median["peak"], median["goodput"], "calls/s", 0.9, note=note),
        Row("R1", "refusals at 5 × capacity, p99", "goal", None, median["refused_p99"], "ms", 10, "value", "less"),
        Row("R1", "server's memory after against before", "before", seen[0]["before"], seen[-1]["after"], "MiB", 1.2, "ratio", "less",
            f"{ROUNDS} rounds of overload; the limit is this page's"),
    ]  # fmt: skip


def _round(server, call):
    before = _resident(server.process.pid)
    peak = load(address(server), call, SECONDS, CALLERS)["rate"]
    offered = peak * 5
    seen = load(address(server), call, SECONDS, 1500, offered, refusals=True)
    return {"peak": peak, "offered": offered, "goodput": seen["rate"], "refused": seen["refused"],
            "refused_p99": (seen["refused_p99"] or 0) / 1e3, "before": before, "after": _resident(server.process.pid)}  # fmt: skip


def _resident(pid):
    """MiB of the server itself."""
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024
