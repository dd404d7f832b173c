"""Starts from zero: what is kept ready for them, and that it makes no other difference."""

import pathlib

import pytest

from support import host, kinds, poll
from support.clients import Functions

HANDLER = """
console.log('loaded');
exports.handler = async (event, context) => ({ event, own: process.env.OWN, zone: new Date(0).getHours(), argv: process.argv,
  cwd: process.cwd(), stream: context.logStreamName === process.env.AWS_LAMBDA_LOG_STREAM_NAME, started: process.uptime() });
"""


def descendants(pid):
    """Ids of the processes below one."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, below = set(), {pid}
    while below := {child for child, parent in parents.items() if parent in below}:
        found |= below
    return found


def booted(server):
    """Node processes that wait for a function, and those that got one."""
    return descendants(server.process.pid) & set(host.command_lines("ahead.cjs"))


@pytest.mark.parametrize("runtimes", [0, 1])
def test_a_node_function_is_the_same_from_a_booted_runtime(new_server, runtimes):
    server = new_server(arguments=["--pool-runtimes", str(runtimes), "--pool-sandboxes", str(runtimes)])
    server.start()
    assert not booted(server), "nobody has used Node yet"
    functions = Functions(server)
    name = functions.deploy({"app.js": HANDLER}, kinds.node(), env={"OWN": "mine"})
    poll.until(lambda: len(booted(server)) == runtimes, "what is booted ahead is there")
    before = booted(server)
    answer = functions.invoke(name, {"a": 1})
    value = answer.ok()
    assert value.pop("started") >= 0
    expect = {"event": {"a": 1}, "own": "mine", "zone": 0, "cwd": "/var/task", "stream": True}
    assert value.pop("argv")[1:] == ["/var/runtime/node/bootstrap.cjs"]
    assert value == expect
    assert before <= booted(server), "the one that was booted runs the function"
    # A second instance comes from another one, and none is left when the server is gone.
    poll.until(lambda: len(booted(server)) == 2 * runtimes, "the next one is booted")
    everything = descendants(server.process.pid)
    server.kill()
    assert len(everything) > 2 * runtimes
    poll.until(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in everything), "nothing is left")
