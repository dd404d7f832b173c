"""WebAssembly: an HTTP component, a command, a plain preview-1 module; in the server and in workers."""

import concurrent.futures
import json

import pytest
import requests
import wasmtime
from botocore.exceptions import ClientError

from support import host, kinds, zips
from support.clients import Functions
from support.server import Server
from support.web import Wire


def command_module():
    return wasmtime.wat2wasm(kinds.source("command.wat"))


def component():
    """The sample component, as it is shipped or as setup built it."""
    found = sorted((kinds.EXAMPLES / "hello-wasm").rglob("*.wasm"))
    assert found, "examples/hello-wasm has no component"
    return found[0].read_bytes()


@pytest.fixture(scope="module", params=["auto", "always"])
def server(request, workspace):
    started = Server(workspace / f"wasm-{request.param}", arguments=["--wasm-workers", request.param]).start()
    started.workers = request.param == "always"
    yield started
    started.stop()


@pytest.fixture(scope="module")
def hello(server):
    made = Functions(server)
    name = made.deploy({"main.wasm": component()}, "wasm", "main.wasm", url=True, env={"NAME": "wasm"})
    yield made, name
    made.delete_all()


@pytest.fixture
def command(functions):
    return functions.deploy({"main.wasm": command_module()}, "wasm", "main.wasm", url=True, Timeout=2)


def test_a_component_by_its_url(hello):
    made, name = hello
    answer = requests.get(made.path(name, "a/b?c=d"), timeout=30)
    assert answer.status_code == 200 and answer.text.startswith("Hello, wasm! You asked for /a/b")
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_a_component_by_invoke(hello):
    made, name = hello
    result = made.invoke(name, {"x": [1, 2]})
    assert result.ok() == {"event": {"x": [1, 2]}}
    assert f"START RequestId: {result.request_id}" in result.log and "REPORT" in result.log


def test_a_component_by_a_streamed_invoke(hello):
    functions, name = hello
    answer = functions.api.invoke_with_response_stream(FunctionName=name, Payload=b'{"a": 1}')
    events = list(answer["EventStream"])
    chunks = b"".join(each["PayloadChunk"]["Payload"] for each in events[:-1])
    assert chunks == functions.invoke(name, {"a": 1}).raw and events[-1]["InvokeComplete"] == {}


def test_a_component_streams_both_ways(hello):
    made, name = hello
    with Wire(made.path(name, "echo")) as wire:
        wire.begin("POST", ["Transfer-Encoding: chunked"])
        wire.send_chunk(b"one")
        assert wire.head()[0] == 200
        for part in (b"one", b"two"):
            if part != b"one":
                wire.send_chunk(part)
            assert wire.chunks_until(part) == part
        wire.send_chunk(b"")
        assert wire.chunk() == b""


def test_a_large_body_through_a_component(hello):
    made, name = hello
    body = bytes(range(256)) * 4096 * 4
    assert requests.post(made.path(name, "echo"), data=body, timeout=60).content == body


def test_many_at_once(hello):
    made, name = hello
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: requests.get(made.path(name, str(i)), timeout=30).text.strip(), range(64)))
    assert all(answer.endswith(f"/{i}") for i, answer in enumerate(answers))


def test_what_a_component_logs(server, hello):
    made, name = hello
    requests.get(made.path(name, "log"), timeout=30)
    assert "hello-wasm: GET /log" in server.cli("logs", name, check=0).stdout


def test_a_command_by_invoke(functions, command):
    result = functions.invoke(command, {"a": 1})
    assert result.ok() == {"a": 1} and "copied it" in result.log


def test_a_command_by_its_url_gets_lambdas_event(functions, command):
    event = requests.post(functions.path(command, "x?y=z"), data="body", timeout=30).json()
    assert event["version"] == "2.0" and event["rawPath"] == "/x" and event["body"] == "body"
    assert event["rawQueryString"] == "y=z"


def test_a_fresh_instance_for_every_call(functions, command):
    for number in range(3):
        assert functions.invoke(command, number).ok() == number


@pytest.mark.parametrize("word, said", [("!", "unreachable"), ("+", "")])
def test_a_trap_is_an_error_and_the_next_call_is_clean(functions, command, word, said):
    result = functions.invoke(command, word)
    assert result.error == "Unhandled" and said in result.value["errorMessage"], result.value
    assert functions.invoke(command, {"fine": 1}).ok() == {"fine": 1}


def test_an_exit_is_an_error(functions, command):
    assert functions.invoke(command, "?").failed("Runtime.ExitError")
    assert functions.invoke(command, "x").ok() == "x"


def test_a_guest_that_never_ends(functions, command):
    failed = functions.invoke(command, "~").failed("Sandbox.Timedout")
    assert failed["errorMessage"].endswith("Task timed out after 2.00 seconds")
    assert functions.invoke(command, "x").ok() == "x"


def test_provided_with_the_contract_wasi_is_the_same(functions):
    files = {"main.wasm": command_module()}
    name = functions.deploy(files, kinds.CUSTOM, "main.wasm", tags={"virga:contract": "wasi"})
    assert functions.invoke(name, {"p": 1}).ok() == {"p": 1}


def test_no_process_is_made_but_one_for_the_account(functions, command, server):
    def processes():
        return sorted(host.descendants(server.process.pid))

    before = processes()
    assert functions.invoke(command, 1).ok() == 1
    first = processes()
    # A worker is pid 1 of a sandbox and the program in it; an earlier test may have started it.
    assert len(first) in ({len(before), len(before) + 2} if server.workers else {len(before)})
    for number in range(3):
        assert functions.invoke(command, number).ok() == number
    other = functions.deploy({"main.wasm": command_module()}, "wasm", "main.wasm")
    assert functions.invoke(other, 1).ok() == 1
    assert processes() == first


@pytest.mark.parametrize(
    "files, handler",
    [
        ({"main.wasm": b"\0asm\x01\0\0\0" + b"\xff" * 20}, "main.wasm"),
        ({"main.wasm": b"not wasm"}, "main.wasm"),
        ({"main.wasm": wasmtime.wat2wasm("(module)")}, "main.wasm"),
        ({"other.txt": "x"}, "main.wasm"),
        ({"a.wasm": b"", "b.wasm": b""}, ""),
    ],
    ids=["broken", "not wasm", "exports nothing", "no module", "two modules"],
)
def test_what_cannot_be_compiled_fails_at_deploy(functions, files, handler):
    try:
        name = functions.deploy(zips.package(files), "wasm", handler or "any", wait=False)
    except ClientError as refused:
        assert refused.response["Error"]["Message"]
        return
    poll_state(functions, name)
    now = functions.api.get_function_configuration(FunctionName=name)
    assert now["State"] == "Failed" and now["StateReason"] and now["StateReasonCode"], now
    with pytest.raises(ClientError):
        functions.invoke(name)


def poll_state(functions, name):
    from support import poll

    poll.until(
        lambda: functions.api.get_function_configuration(FunctionName=name)["State"] != "Pending", "no longer pending"
    )


@pytest.mark.parametrize("tags", [{"virga:contract": "http"}, {"virga:contract": "lambda"}, {"virga:isolation": "process"}])
def test_combinations_without_sense(functions, tags):
    with pytest.raises(ClientError):
        functions.deploy({"main.wasm": command_module()}, "wasm", "main.wasm", tags=tags, wait=False)


def test_it_is_there_after_a_restart(new_server):
    server = new_server().start()
    functions = Functions(server)
    name = functions.deploy({"main.wasm": command_module()}, "wasm", "main.wasm")
    server.stop()
    server.start()
    assert functions.invoke(name, json.loads('{"k": "v"}')).ok() == {"k": "v"}
