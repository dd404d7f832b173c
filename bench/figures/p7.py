"""P7: bursts from zero: 100 different Python functions at once; one function from nothing to 300 calls at once."""

import statistics

from measure import load
from report import Row
from support import kinds
from virga import address, invoke_request, virga

ROUNDS, FUNCTIONS, CALLS = 3, 100, 300
HOLD = 3
QUICK = "def handler(event, context):\n    return 1\n"
SLOW = f"import time\ndef handler(event, context):\n    time.sleep({HOLD})\n    return 1\n"
SMALL = {"virga:memory": "48", "virga:idle-timeout": "1"}
ROOM = ("--max-instances", "400", "--max-memory-mb", "30000")


def run():
    """The time until the last of them is answered; where calls hold their instance, until the last was begun."""
    different = statistics.median(_different() for _ in range(ROUNDS))
    one = [_one() for _ in range(ROUNDS)]
    return [
        Row("P7", f"{FUNCTIONS} different Python functions at once from zero, all answered", "goal", None, different, "s", 1, "value", "less",
            "both cores, the generator's share included"),
        Row("P7", f"one Python function, 0 to {CALLS} calls at once, all begun", "goal", None, statistics.median(one), "s", 2, "value", "less",
            f"one instance each; calls hold theirs for {HOLD} s; the function was called once before, some seconds earlier"),
    ]  # fmt: skip


def _different():
    with virga(*ROOM, all_cores=True) as (server, functions):
        names = [functions.deploy({"app.py": QUICK}, kinds.system_python(), tags=SMALL) for _ in range(FUNCTIONS)]
        calls = [invoke_request(server, name, {}) for name in names]
        return load(address(server), calls, 60, FUNCTIONS, count=FUNCTIONS)["max"] / 1e6


def _one():
    with virga(*ROOM, all_cores=True) as (server, functions):
        name = functions.deploy({"app.py": SLOW}, kinds.system_python(), tags=SMALL, Timeout=60)
        functions.invoke(name).ok()
        call = invoke_request(server, name, {})
        return load(address(server), call, 60, CALLS, count=CALLS)["max"] / 1e6 - HOLD
