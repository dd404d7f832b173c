"""A server is killed over and over under asynchronous load; a ledger says whether anything acknowledged was lost.

Also a program: `python -m support.ledger KILLS`, which `scripts/soak-async` runs for as many as the figure asks for.
"""

import json
import pathlib
import random
import re
import sys
import tempfile
import threading
import time

from . import clients, kinds, poll
from .server import Server

# Of every so many events one fails at each try, so that its end is the list of failed ones.
FAILS = 10


class Load:
    """Sends events until it is told to stop; knows which were acknowledged."""

    def __init__(self, server, name):
        self.server, self.name = server, name
        self.acknowledged, self.number, self.lock = {}, 0, threading.Lock()
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(4)]
        for thread in self.threads:
            thread.start()

    def run(self):
        api = clients.client(self.server, check=False, connect_timeout=2, read_timeout=5)
        while not self.over.is_set():
            with self.lock:
                self.number += 1
                number = self.number
            # Now and then one whose body is a file.
            event = {"n": number, "fail": number % FAILS == 0, "fill": "x" * (20_000 if number % 7 == 0 else 10)}
            try:
                answer = api.invoke(FunctionName=self.name, InvocationType="Event", Payload=json.dumps(event))
                if answer["StatusCode"] == 202:
                    self.acknowledged[number] = answer["ResponseMetadata"]["RequestId"]
            except Exception:
                # Not acknowledged: it may have been written or not.
                self.over.wait(0.02)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


def printed(server, name):
    """How often each number was run, from the files of the log itself: they are whole whatever happened."""
    ran = {}
    for line in server.cli("logs", name, check=0, seconds=300).stdout.splitlines():
        for number in re.findall(r"ran (\d+) \S+ end", line):
            ran[int(number)] = ran.get(int(number), 0) + 1
    return ran


def run(server, kills, seed=None):
    """Kills the server so often, then lets everything end and holds the ledger against what happened."""
    chance = random.Random(seed)
    server.start()
    functions = clients.Functions(server)
    name = functions.deploy(kinds.python_function("ledger.py"), kinds.python())
    functions.api.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=1)
    load, slowest = Load(server, name), 0.0
    for _ in range(kills):
        time.sleep(chance.uniform(0.02, 0.6))
        server.kill()
        began = time.monotonic()
        server.start()
        slowest = max(slowest, time.monotonic() - began)
    load.stop()
    label = f'faas_async_queued{{cloud_account_id="{server.account}",faas_name="{name}"}} '
    poll.until(lambda: f"{label}0\n" in server.metrics(), "all events came to an end", 300, every=0.5)
    ran = printed(server, name)
    failed = json.loads(server.cli("failed", "list", name, "--json", check=0, seconds=300).stdout)
    given_up = {event["RequestId"] for event in failed}
    lost = [number for number, request in load.acknowledged.items() if number not in ran and request not in given_up]
    assert load.acknowledged, "nothing was acknowledged at all"
    assert not lost, f"{len(lost)} of {len(load.acknowledged)} acknowledged events are lost: {lost[:20]}"
    unkept = [n for n, request in load.acknowledged.items() if n % FAILS == 0 and request not in given_up]
    assert not unkept, f"events that failed for good are not in the list: {unkept[:20]}"
    again = sum(1 for count in ran.values() if count > 1)
    return {"kills": kills, "acknowledged": len(load.acknowledged), "run": len(ran), "run more than once": again,
            "failed and kept": len(failed), "slowest restart, s": round(slowest, 2)}  # fmt: skip


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder).chmod(0o755)
        own = Server(pathlib.Path(folder) / "data", arguments=["--async-retry-s", "1"])
        try:
            print(json.dumps(run(own, int(sys.argv[1]))))
        finally:
            if own.process.poll() is None:
                own.kill()
