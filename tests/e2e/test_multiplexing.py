"""Several calls at once on one instance of an event handler: coroutines, threads, promises."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import kinds

SEVERAL = {"virga:hard-concurrency": "3"}

# Waits until as many calls as the event says are in, then does what it says.
TASKS = """
import asyncio, logging, os, sys
log, inside, gate = logging.getLogger(), 0, None
async def handler(event, context):
    global inside, gate
    gate = gate or asyncio.Event()
    inside += 1
    if inside >= event.get("met", 0):
        gate.set()
    await gate.wait()
    log.warning("here")
    if event.get("do") == "raise":
        raise KeyError("mine")
    if event.get("do") == "exit":
        sys.exit(4)
    await asyncio.sleep(event.get("sleep", 0))
    return [os.getpid(), os.environ["AWS_LAMBDA_LOG_STREAM_NAME"], context.aws_request_id]
"""
THREADS = """
import logging, os, sys, threading, time
log, inside, gate, lock = logging.getLogger(), 0, threading.Event(), threading.Lock()
def handler(event, context):
    global inside
    with lock:
        inside += 1
        if inside >= event.get("met", 0):
            gate.set()
    gate.wait()
    log.warning("here")
    if event.get("do") == "raise":
        raise KeyError("mine")
    if event.get("do") == "exit":
        sys.exit(4)
    time.sleep(event.get("sleep", 0))
    return [os.getpid(), os.environ["AWS_LAMBDA_LOG_STREAM_NAME"], context.aws_request_id]
"""
NODE = """
let inside = 0, open;
const gate = new Promise((resolve) => { open = resolve; });
exports.handler = async (event, context) => {
  if (++inside >= (event.met || 0)) open();
  await gate;
  console.warn('here');
  if (event.do === 'raise') throw new RangeError('mine');
  if (event.do === 'exit') process.exit(4);
  await new Promise((resolve) => setTimeout(resolve, 1000 * (event.sleep || 0)));
  return [process.pid, process.env.AWS_LAMBDA_LOG_STREAM_NAME, context.awsRequestId];
};
"""
KINDS = {
    "tasks": ({"app.py": TASKS}, kinds.python, "KeyError"),
    "threads": ({"app.py": THREADS}, kinds.python, "KeyError"),
    "node": ({"app.js": NODE}, kinds.node, "RangeError"),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture
def deployed(functions, kind):
    return functions.deploy(kind[0], kind[1](), tags=SEVERAL, Timeout=30)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_calls_meet_in_one_process(functions, deployed, pool):
    calls = [pool.submit(functions.invoke, deployed, {"met": 3}) for _ in range(3)]
    results = [call.result() for call in calls]
    answers = [result.ok() for result in results]
    assert len({tuple(answer[:2]) for answer in answers}) == 1, "one process of one instance"
    assert len({answer[2] for answer in answers}) == 3
    for result, (_, _, request_id) in zip(results, answers):
        assert request_id == result.request_id
    again = functions.invoke(deployed)
    here = [line for line in again.log.splitlines() if "here" in line]
    assert len(here) == 1 and again.request_id in here[0], again.log


def test_an_error_is_of_its_own_call(functions, deployed, kind, pool):
    good, bad = (pool.submit(functions.invoke, deployed, {"met": 2} | more) for more in ({}, {"do": "raise"}))
    bad.result().failed(kind[2])
    pid = good.result().ok()[0]
    assert functions.invoke(deployed).ok()[0] == pid


def test_an_exit_fails_all_that_are_under_way(functions, deployed, pool):
    staying, leaving = (
        pool.submit(functions.invoke, deployed, {"met": 2} | more) for more in ({"sleep": 20}, {"do": "exit"})
    )
    for call in (staying, leaving):
        call.result().failed("Runtime.ExitError")
    functions.invoke(deployed).ok()


def test_a_time_out_leaves_the_others_alone(functions, kind, pool):
    name = functions.deploy(kind[0], kind[1](), tags=SEVERAL, Timeout=3)
    first = functions.invoke(name).ok()
    late = pool.submit(functions.invoke, name, {"sleep": 60})
    time.sleep(1.5)
    other = pool.submit(functions.invoke, name, {"sleep": 2.25})
    late.result().failed("Sandbox.Timedout")
    assert other.result().ok()[:2] == first[:2], "it was on the instance of the call that timed out, and ended well"
    assert functions.invoke(name).ok()[1] != first[1], "which gets no new calls"


def test_one_at_a_time_is_the_default(functions, kind, pool):
    name = functions.deploy(kind[0], kind[1](), Timeout=2)
    # One more than there are: an instance that has had the first call may have the second after it.
    calls = [pool.submit(functions.invoke, name, {"met": 3}) for _ in range(2)]
    for call in calls:
        if kind is KINDS["node"]:
            assert call.result().ok() is None, "nothing is left to do that could end the wait"
        else:
            call.result().failed("Sandbox.Timedout")
