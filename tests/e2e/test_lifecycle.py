"""Init, invoke, idle, stop: how many instances there are, and how each ending looks."""

import concurrent.futures
import re
import threading

import pytest
import requests

from support import host, kinds, poll, zips
from support.clients import FAST, code_of
from support.server import no_process_left

WEB_SLEEP = """
import http from 'node:http';
http.createServer((q, r) => setTimeout(() => r.end(String(process.pid) + process.env.AWS_LAMBDA_LOG_STREAM_NAME), 300))
  .listen(process.env.PORT, '127.0.0.1');
"""


def together(count, action):
    """Runs the action `count` times at once."""
    barrier = threading.Barrier(count)

    def one(number):
        barrier.wait()
        return action(number)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.fixture
def echo(functions, marker):
    return functions.deploy(kinds.python_function("echo.py"), kinds.python(), env={"MARKER": marker}, Timeout=20)


def test_one_call_an_instance_for_event_handlers(functions, echo):
    seen = together(2, lambda _: functions.invoke(echo, {"do": "sleep", "seconds": 2}).ok())
    assert len({each["instance"] for each in seen}) == 2


def test_many_calls_an_instance_for_web_functions(functions):
    name = functions.deploy({"s.mjs": WEB_SLEEP}, kinds.node(), "s.mjs", tags=kinds.WEB, url=True)
    answers = together(10, lambda _: requests.get(functions.path(name), timeout=30).text)
    assert len(set(answers)) == 1


def test_hard_concurrency_is_never_exceeded(functions):
    tags = kinds.WEB | {"virga:hard-concurrency": "1", "virga:soft-concurrency": "1"}
    name = functions.deploy({"s.mjs": WEB_SLEEP}, kinds.node(), "s.mjs", tags=tags, url=True)
    answers = together(3, lambda _: requests.get(functions.path(name), timeout=30).text)
    assert len(set(answers)) > 1


def test_idle_instances_are_stopped(functions, marker):
    tags = {"virga:idle-timeout": "1"}
    files = kinds.python_function("echo.py")
    name = functions.deploy(files, kinds.python(), env={"MARKER": marker}, tags=tags)
    first = functions.invoke(name).ok()["instance"]
    assert host.processes(marker)
    no_process_left(marker)
    poll.until(lambda: not host.cgroups(first[-32:]), "its control groups are gone")
    assert functions.invoke(name).ok()["instance"] != first


def test_deleting_stops_the_instances(functions, echo, marker):
    functions.invoke(echo).ok()
    assert host.processes(marker)
    functions.api.delete_function(FunctionName=echo)
    no_process_left(marker)


def test_an_update_replaces_the_instances(functions, echo, marker):
    before = functions.invoke(echo).ok()["instance"]
    functions.api.update_function_configuration(FunctionName=echo, Environment={"Variables": {"OTHER": "1"}})
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=echo, WaiterConfig=FAST)
    assert functions.invoke(echo).ok()["instance"] != before
    no_process_left(marker)


@pytest.mark.parametrize(
    "event, error_type, said",
    [
        ({"do": "exit", "code": 3}, "Runtime.ExitError", "exit"),
        ({"do": "exit", "code": 0}, "Runtime.ExitError", "without providing a reason"),
        ({"do": "segfault"}, "Runtime.ExitError", "signal"),
    ],
    ids=["exit 3", "exit 0", "signal"],
)
def test_an_end_during_a_call(functions, echo, event, error_type, said):
    first = functions.invoke(echo).ok()["instance"]
    result = functions.invoke(echo, event)
    failed = result.failed(error_type)
    assert failed["errorMessage"].startswith(f"RequestId: {result.request_id} Error: ")
    assert said in failed["errorMessage"], failed
    assert error_type in result.log or failed["errorMessage"].split("Error: ")[1] in result.log, result.log
    assert f"END RequestId: {result.request_id}" in result.log and "REPORT" in result.log
    after = functions.invoke(echo).ok()
    assert after["instance"] != first and after["count"] == 1


def test_sys_exit_is_an_error_of_the_function(functions, echo):
    assert functions.invoke(echo, {"do": "sys.exit"}).error == "Unhandled"
    assert functions.invoke(echo).ok()


def test_a_time_out(functions):
    name = functions.deploy(kinds.python_function("echo.py"), kinds.python(), Timeout=1)
    result = functions.invoke(name, {"do": "sleep", "seconds": 30})
    message = f"RequestId: {result.request_id} Error: Task timed out after 1.00 seconds"
    assert result.failed("Sandbox.Timedout")["errorMessage"] == message
    assert "Task timed out after 1.00 seconds" in result.log and "REPORT" in result.log
    assert re.search(r"Billed Duration: 1\d\d\d ms", result.log), result.log
    assert functions.invoke(name).ok()["count"] == 1


def test_a_crash_between_calls_is_not_the_next_calls(functions, echo, marker):
    functions.invoke(echo).ok()
    import os
    import signal

    for pid in host.processes(marker):
        os.kill(pid, signal.SIGKILL)
    no_process_left(marker)
    assert functions.invoke(echo).ok()["count"] == 1


ONE_EVENT = """#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
event=$(curl -sS -D /tmp/headers "$api/next")
id=$(sed -n 's/^[Ll]ambda-[Rr]untime-[Aa]ws-[Rr]equest-[Ii]d: *//p' /tmp/headers | tr -d '\\r')
curl -sS -o /dev/null -d "$event" "$api/$id/response"
"""


def test_a_program_that_ends_after_each_answer_fails_no_call(functions):
    name = functions.deploy({"bootstrap": zips.executable(ONE_EVENT)}, kinds.CUSTOM)
    assert [functions.invoke(name, number).ok() for number in range(20)] == list(range(20))


@pytest.mark.timeout(90)
def test_initialisation_has_its_own_time_out(functions, marker):
    slow = "import time\ntime.sleep(600)\ndef handler(e, c): return 1\n"
    name = functions.deploy({"app.py": slow}, kinds.python(), env={"MARKER": marker}, Timeout=60)
    result = functions.invoke(name)
    assert result.error == "Unhandled" and "imed" in result.value["errorType"], result.value
    assert "Init" in result.log or "init" in result.log, result.log
    no_process_left(marker)


def test_an_exit_during_initialisation(functions):
    name = functions.deploy({"app.py": "import os\nos._exit(9)\n"}, kinds.python())
    for _ in range(2):
        result = functions.invoke(name)
        assert result.failed("Runtime.ExitError")["errorMessage"].startswith(f"RequestId: {result.request_id}")


def test_init_duration_is_reported_once(functions, echo):
    first, second = functions.invoke(echo).log, functions.invoke(echo).log
    assert "Init Duration:" in first and "Init Duration:" not in second


def test_the_queue_is_bounded(new_server, marker):
    from support.clients import Functions

    server = new_server(arguments=["--max-instances", "1", "--max-queue", "1"]).start()
    functions = Functions(server)
    name = functions.deploy(kinds.python_function("echo.py"), kinds.python(), env={"MARKER": marker})
    functions.invoke(name).ok()

    def call(_):
        try:
            return functions.invoke(name, {"do": "sleep", "seconds": 2}).status
        except functions.api.exceptions.TooManyRequestsException as refused:
            assert refused.response["ResponseMetadata"]["HTTPStatusCode"] == 429
            return code_of(refused)

    answers = together(6, call)
    assert answers.count(200) == 2 and answers.count("TooManyRequestsException") == 4, answers
    assert poll.until(lambda: functions.invoke(name).ok(), "calls work again")


def test_the_memory_of_all_instances_together_is_capped(new_server):
    from support.clients import Functions

    server = new_server(arguments=["--max-memory-mb", "200", "--queue-timeout-s", "1"]).start()
    functions = Functions(server)
    name = functions.deploy(kinds.python_function("echo.py"), kinds.python(), MemorySize=128)

    def call(_):
        try:
            return functions.invoke(name, {"do": "sleep", "seconds": 4}).status
        except functions.api.exceptions.TooManyRequestsException as refused:
            return code_of(refused)

    assert sorted(together(2, call), key=str) == [200, "TooManyRequestsException"], "128 MB and 128 MB are over 200"
    assert functions.invoke(name).ok()
