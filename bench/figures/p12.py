"""P12: asynchronous invokes, accepted durably; and how long an event takes from its sender to its handler."""

import http.client
import json
import os
import pathlib
import re
import sqlite3
import statistics
import tempfile
import time

from measure import Contest, load
from report import Row
from support import kinds, poll
from virga import address, invoke_request, virga

SECONDS, CONNECTIONS, EVENTS = 5, 128, 300
# What a server writes for one event of this size, in as large a group as its own connections make.
ROW, GROUP = 400, 128
STAMP = """import time
def handler(event, context):
    print(f"began {context.aws_request_id} {time.time()} end")
"""


def run():
    """Acceptance alone and beside execution, against SQLite's own group commit; the way of single events."""
    contest = Contest()
    with virga() as (server, functions):
        name = functions.deploy({"app.py": STAMP}, kinds.system_python())
        functions.api.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        request = event_request(server, name)
        contest.add("virga", lambda: load(address(server), request, SECONDS, CONNECTIONS))
        contest.add("sqlite", lambda: {"rate": sqlite_rate()})
        contest.add("fdatasync", lambda: {"rate": fdatasync_rate()})
        contest.run()
    bare = contest.median("fdatasync", "rate")
    note = f"{CONNECTIONS} callers, nothing runs meanwhile; the disk alone: {bare:.0f} fdatasync/s"
    with virga() as (server, functions):
        way = ways(server, functions)
    return [
        Row("P12", "events accepted durably", f"SQLite, {GROUP} rows a commit", contest.median("sqlite", "rate"),
            contest.median("virga", "rate"), "events/s", 20_000, "value", "more", note),
        Row("P12", "from sending an event to its handler, p50", "goal", None, statistics.median(way) * 1e3, "ms", 3,
            "value", "less", f"{len(way)} events, one at a time, warm; with the sync before the 202"),
    ]  # fmt: skip


def event_request(server, name):
    """An Invoke with `Event`, signed."""
    return invoke_request(server, name, {"key1": "value1"}, "Event")


def sqlite_rate():
    """Rows a second that SQLite alone takes in transactions of as many rows, synced each."""
    with tempfile.TemporaryDirectory() as folder:
        base = sqlite3.connect(pathlib.Path(folder, "x.db"), isolation_level=None)
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = FULL")
        base.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)")
        rows, row, end = 0, os.urandom(ROW), time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            base.execute("BEGIN IMMEDIATE")
            base.executemany("INSERT INTO t (body) VALUES (?)", [(row,)] * GROUP)
            base.execute("COMMIT")
            rows += GROUP
        base.close()
        return rows / SECONDS


def fdatasync_rate():
    """Syncs a second of a file that grows by one group."""
    with tempfile.TemporaryDirectory() as folder:
        file = os.open(pathlib.Path(folder, "x"), os.O_WRONLY | os.O_CREAT)
        count, block, end = 0, os.urandom(ROW * GROUP), time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            os.write(file, block)
            os.fdatasync(file)
            count += 1
        os.close(file)
        return count / SECONDS


def ways(server, functions):
    """Seconds from the first byte of each event's request until its handler runs, by the clock that both read."""
    name = functions.deploy({"app.py": STAMP}, kinds.system_python())
    functions.invoke(name).ok()
    head, body = event_request(server, name).split(b"\r\n\r\n", 1)
    path = head.split(b" ")[1].decode()
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    connection, sent = http.client.HTTPConnection(address(server), timeout=30), {}
    connection.connect()
    for _ in range(EVENTS):
        begun = time.time()
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 202:
            raise RuntimeError(f"{name}: {answer.status}")
        sent[answer.headers["x-amzn-requestid"]] = begun
        time.sleep(0.01)

    def began():
        lines = json.dumps(server.cli("logs", name, check=0).stdout)
        found = dict(re.findall(r"began (\S+) (\S+) end", lines))
        return found if len(found.keys() & sent.keys()) == len(sent) else None

    found = poll.until(began, "all events ran", 60)
    return [float(found[request]) - begun for request, begun in sent.items()]
