"""Templates: later instances of a Python version begin where its initialisation had ended."""

import re

import pytest

from support import clients, kinds
from support.poll import until

QUICKLY = {"virga:idle-timeout": "1"}
EVENTS = "\ndef handler(event, context):\n    return {'state': state, 'pid': os.getpid(), 'unique': str(uuid.uuid4()), 'random': random.random(), "
EVENTS += "'stream': context.log_stream_name, 'key': os.environ['AWS_ACCESS_KEY_ID'], 'hooks': hooks}\n"
SOURCE = (
    """
import os, random, time, uuid
from snapshot_restore_py import register_after_restore
time.sleep(0.2)
state = [os.getpid(), random.random(), str(uuid.uuid4())]
hooks = []
register_after_restore(hooks.append, "restored")
"""
    + EVENTS
)


def start_of(result):
    """What the instance of a first call began as, by its REPORT line; nothing for a later call."""
    found = re.search(r"\tStart: (\w+)", result.log)
    return found and found[1]


def first_call(functions, name, start):
    """The first call of an instance that began as that. Idle ones are stopped after a second."""

    def called():
        result = functions.invoke(name)
        return result if start_of(result) == start else None

    return until(called, f"an instance begins as {start}", seconds=60, every=1.5)


def test_instances_begin_initialised_and_apart(functions):
    name = functions.deploy({"app.py": SOURCE}, kinds.python(), tags=QUICKLY)
    plain = functions.invoke(name)
    assert start_of(plain) in ("cold", "sandbox", "runtime")
    assert plain.value["hooks"] == []
    one = first_call(functions, name, "template").value
    other = first_call(functions, name, "template").value
    assert one["state"] == other["state"], "initialisation ran again"
    assert one["state"] != plain.value["state"]
    assert one["hooks"] == other["hooks"] == ["restored"]
    assert one["pid"] != one["state"][0], "the pid of the template"
    for what in ("unique", "random", "stream", "key"):
        assert one[what] != other[what], what


def test_what_cannot_be_copied_says_so_and_works(server, functions):
    source = "import threading, time\ntime.sleep(0.1)\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n"
    source += "def handler(event, context):\n    return 'fine'\n"
    name = functions.deploy({"app.py": source}, kinds.python())
    assert functions.invoke(name).value == "fine"
    logs = clients.client(server, "logs")

    def said():
        events = logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
        return [event["message"].rstrip() for event in events if "No template" in event["message"]]

    assert until(said, "the log says why") == ["VIRGA No template of this version: it runs 2 threads. Every instance runs its initialisation."]
    assert functions.invoke(name).value == "fine"


@pytest.mark.parametrize("tags", [{"virga:template": "off"}])
def test_a_function_can_do_without(functions, tags):
    name = functions.deploy({"app.py": SOURCE}, kinds.python(), tags=QUICKLY | tags)
    states = [first_call(functions, name, "runtime").value["state"] for _ in range(2)]
    assert states[0] != states[1]
