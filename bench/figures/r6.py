"""R6: twelve functions that take more than their share, and a neighbour that is called at a steady rate meanwhile."""

import http.client
import threading
import time

from measure import ROOT, ROUNDS
from report import Row
from support import kinds
from virga import address, invoke_request, virga

# The functions that the sandbox's tests are put through.
SOURCE = ROOT / "crates" / "sandbox" / "tests" / "it" / "bombs" / "bombs.py"
BOMBS = ("cpu", "memory", "fork", "threads", "files", "disk", "inodes", "log_flood", "endless_answer", "sockets", "zombies", "deaf")
# What their calls have no answer at: the others meet another limit, and answer.
TIMED = ("cpu", "fork", "log_flood", "deaf")
TIMEOUT_S, SECONDS, RATE = 2, 4, 100


def run():
    """The neighbour's p99 with each bomb going, beside its p99 alone just before; and how soon a bomb's call is over."""
    worst, late = (0, "", 0, 0), (0, "")
    with virga(all_cores=True) as (server, functions):
        neighbour = functions.deploy({"app.py": "def handler(event, context):\n    return 1\n"}, kinds.system_python())
        call = _Caller(server, neighbour, {})
        call.steadily()
        for name in BOMBS:
            function = functions.deploy({"bombs.py": SOURCE.read_text()}, kinds.system_python(), "bombs.handler",
                                        tags={"virga:cpu": "100"}, Timeout=TIMEOUT_S)  # fmt: skip
            pairs, ends = [], []
            for _ in range(ROUNDS):
                alone = call.steadily()
                with _Going(server, function, name, ends):
                    pairs.append((call.steadily(), alone))
            functions.api.delete_function(FunctionName=function)
            with_it, alone = sorted(pairs, key=lambda pair: pair[0] / pair[1])[len(pairs) // 2]
            worst = max(worst, (with_it / alone, name, with_it, alone))
            if name in TIMED:
                late = max(late, (max(ends) - TIMEOUT_S, name))
    return [
        Row("R6", f"neighbour p99, worst of {len(BOMBS)} bombs: {worst[1]}", "the neighbour alone", worst[3], worst[2], "ms", 1.2, "ratio", "less",
            f"{RATE} calls/s; a bomb may take one core"),
        Row("R6", f"a call's end after its time-out, worst of {len(TIMED)} bombs that have none: {late[1]}", "goal", None, late[0], "s", 1, "value", "less",
            "the start of its instance included"),
    ]  # fmt: skip


class _Caller:
    """One connection that sends one prepared Invoke again and again."""

    def __init__(self, server, name, event):
        head, self.body = invoke_request(server, name, event).split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        self.path = lines[0].split(" ")[1]
        self.headers = dict(line.split(": ", 1) for line in lines[1:])
        self.connection = http.client.HTTPConnection(address(server), timeout=60)

    def once(self):
        """Sends it and reads the answer."""
        self.connection.request("POST", self.path, self.body, self.headers)
        answer = self.connection.getresponse()
        answer.read()
        return answer

    def steadily(self):
        """p99 in milliseconds, each call counted from when it was due."""
        begun, seen = time.perf_counter(), []
        for number in range(RATE * SECONDS):
            due = begun + number / RATE
            time.sleep(max(0, due - time.perf_counter()))
            if self.once().status != 200:
                raise RuntimeError("the neighbour was not answered")
            seen.append(time.perf_counter() - due)
        return sorted(seen)[int(len(seen) * 0.99)] * 1e3


class _Going:
    """A bomb that goes off again as soon as it is over."""

    def __init__(self, server, function, name, ends):
        self.call, self.ends, self.over = _Caller(server, function, name), ends, False
        self.thread = threading.Thread(target=self._go)

    def _go(self):
        while not self.over:
            begun = time.perf_counter()
            self.call.once()
            self.ends.append(time.perf_counter() - begun)

    def __enter__(self):
        self.thread.start()
        # It is up, and has begun, once it answers or is silent for a moment.
        self.thread.join(0.5)

    def __exit__(self, *_):
        self.over = True
        self.thread.join()
