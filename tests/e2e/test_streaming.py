"""Answers in pieces: InvokeWithResponseStream by boto3 and aws-sdk-js v3, and function URLs that stream."""

import base64
import json
import shutil
import subprocess

import pytest
import requests

from support import kinds, poll, zips
from support.clients import client, code_of

NODE = """
const pause = (ms) => new Promise((go) => setTimeout(go, ms));
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
  console.log('streaming');
  const told = event.rawPath ? JSON.parse(event.body) : event;
  if (told.head) stream = awslambda.HttpResponseStream.from(stream, told.head);
  if (told.early) throw new RangeError('early');
  for (const piece of told.pieces || []) stream.write(piece);
  if (told.late) throw new RangeError('late');
  if (told.exit) { await new Promise((go) => stream.write('last', go)); process.exit(7); }
  while (told.forever) { await new Promise((go) => stream.write('.', go)); await pause(20); }
  for (let i = 0; i < (told.megabytes || 0); i++) {
    if (!stream.write(Buffer.alloc(1 << 20, 'x'))) await new Promise((go) => stream.once('drain', go));
  }
  stream.end();
});
"""

PYTHON = """
def handler(event, context):
    yield "one "
    print("in between")
    yield "two"
    if event.get("fail"):
        raise ValueError("late")
"""

SHELL = """#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
while :; do
  head=$(mktemp)
  curl -sS -D "$head" -o /dev/null "$api/invocation/next"
  id=$(tr -d '\\r' < "$head" | sed -n 's/^[Ll]ambda-[Rr]untime-[Aa]ws-[Rr]equest-[Ii]d: //p')
  { printf 'shell '; printf 'streams'; } | curl -sS -o /dev/null -X POST -T - \\
    -H 'Transfer-Encoding: chunked' -H 'Lambda-Runtime-Function-Response-Mode: streaming' \\
    -H 'Content-Type: text/x-shell' "$api/invocation/$id/response"
done
"""


@pytest.fixture
def node(functions):
    return functions.deploy({"app.js": NODE}, kinds.node(), Timeout=5)


def stream(functions, name, event, **options):
    """The events of a streamed call."""
    answer = functions.api.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event), **options)
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST"
    assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    return iter(answer["EventStream"])


def whole(events):
    """All chunks together, and the last event."""
    chunks, last = b"", None
    for event in events:
        assert last is None, "something came after the end"
        if "PayloadChunk" in event:
            chunks += event["PayloadChunk"]["Payload"]
        else:
            last = event["InvokeComplete"]
    return chunks, last


def test_chunks_come_as_they_are_made(functions, node):
    events = stream(functions, node, {"pieces": ["first"], "forever": True})
    seen = b""
    while not seen.startswith(b"first....."):
        seen += next(events)["PayloadChunk"]["Payload"]
    chunks, last = whole(events)
    assert set(chunks) <= set(b".") and last["ErrorCode"] == "Sandbox.Timedout", last
    assert "timed out after 5.00 seconds" in json.loads(last["ErrorDetails"])["errorMessage"]


def test_the_end_tells_the_log(functions, node):
    chunks, last = whole(stream(functions, node, {"pieces": ["a", "b"]}, LogType="Tail"))
    log = base64.b64decode(last["LogResult"]).decode()
    assert chunks == b"ab" and "ErrorCode" not in last
    assert "streaming" in log and "REPORT RequestId" in log
    assert "LogResult" not in whole(stream(functions, node, {}))[1]


@pytest.mark.parametrize(
    "told, chunks, code, error_type",
    [
        ({"early": True}, b"", "Unhandled", "RangeError"),
        ({"pieces": ["x"], "late": True}, b"x", "Unhandled", "RangeError"),
        ({"exit": True}, b"last", "Runtime.ExitError", "Runtime.ExitError"),
    ],
)
def test_errors(functions, node, told, chunks, code, error_type):
    seen, last = whole(stream(functions, node, told))
    assert (seen, last["ErrorCode"]) == (chunks, code)
    assert json.loads(last["ErrorDetails"])["errorType"] == error_type
    assert whole(stream(functions, node, {"pieces": ["fine"]}))[0] == b"fine"


def test_large_answers(functions):
    node = functions.deploy({"app.js": NODE}, kinds.node(), Timeout=90)
    chunks, last = whole(stream(functions, node, {"megabytes": 8}))
    assert (len(chunks), set(chunks), last) == (8 << 20, {ord("x")}, {})
    assert functions.invoke(node, {"megabytes": 5}).raw == b"x" * (5 << 20), "a caller who wants it whole gets it whole"
    functions.invoke(node, {"megabytes": 7}).failed("Function.ResponseSizeTooLarge")
    assert functions.invoke(node, {"pieces": ["1"]}).ok() == 1


def test_other_kinds(functions):
    name = functions.deploy({"app.py": PYTHON}, kinds.python())
    assert whole(stream(functions, name, {})) == (b"one two", {})
    chunks, last = whole(stream(functions, name, {"fail": 1}))
    assert chunks == b"one two" and json.loads(last["ErrorDetails"])["errorMessage"] == "late"
    assert functions.invoke(name).raw == b"one two"
    name = functions.deploy({"bootstrap": zips.executable(SHELL)}, kinds.CUSTOM, handler="h")
    assert whole(stream(functions, name, {})) == (b"shell streams", {})
    name = functions.deploy(kinds.python_function("echo.py"), kinds.python())
    chunks, last = whole(stream(functions, name, {"a": 1}))
    assert json.loads(chunks)["event"] == {"a": 1} and last == {}, "what comes whole comes too"


def test_refusals(functions, node):
    api = functions.api
    dry = api.invoke_with_response_stream(FunctionName=node, InvocationType="DryRun")
    assert dry["StatusCode"] == 204
    with pytest.raises(api.exceptions.ResourceNotFoundException):
        api.invoke_with_response_stream(FunctionName="absent")
    with pytest.raises(api.exceptions.InvalidRequestContentException):
        api.invoke_with_response_stream(FunctionName=node, Payload="{")
    with pytest.raises(api.exceptions.ClientError) as refused:
        api.invoke_with_response_stream(FunctionName=node, InvocationType="Event")
    assert code_of(refused.value) == "ValidationException"


def test_the_javascript_sdk(server, functions, node, tmp_path):
    script = kinds.node_modules().parent / "stream.mjs"
    shutil.copy(kinds.HERE / "node" / "stream.mjs", script)
    done = subprocess.run(
        ["node", str(script), node], capture_output=True, text=True, timeout=90,
        env=server.client_environment(AWS_CONFIG_FILE=str(tmp_path / "none")),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "all of it held"


def test_urls(functions, node):
    api = functions.api
    made = api.create_function_url_config(FunctionName=node, AuthType="NONE", InvokeMode="RESPONSE_STREAM")
    assert made["InvokeMode"] == api.get_function_url_config(FunctionName=node)["InvokeMode"] == "RESPONSE_STREAM"
    url = functions.path(node)
    head = {"statusCode": 201, "headers": {"Content-Type": "text/x-own", "X-Own": "yes"}, "cookies": ["a=1", "b=2"]}
    with requests.post(url, json={"head": head, "pieces": ["first"], "forever": True}, stream=True, timeout=30) as answer:
        assert (answer.status_code, answer.headers["x-own"], answer.headers["content-type"]) == (201, "yes", "text/x-own")
        assert answer.cookies.get_dict() == {"a": "1", "b": "2"}
        body = answer.iter_content(None)
        seen = b""
        while not seen.startswith(b"first....."):
            seen += next(body)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(body)
    assert requests.post(url, json={"early": True}, timeout=30).status_code == 502
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.post(url, json={"pieces": ["x"], "late": True}, timeout=30)
    plain = requests.post(url, json={"pieces": ["plain"]}, timeout=30)
    assert (plain.text, plain.headers["content-type"]) == ("plain", "application/octet-stream")
    assert api.update_function_url_config(FunctionName=node, InvokeMode="BUFFERED")["InvokeMode"] == "BUFFERED"
    answer = requests.post(url, json={"head": head, "pieces": ["whole"]}, timeout=30)
    assert (answer.status_code, answer.text, answer.headers["content-length"]) == (201, "whole", "5")


def test_who_hangs_up_does_not_end_the_call(functions, node):
    functions.api.create_function_url_config(FunctionName=node, AuthType="NONE", InvokeMode="RESPONSE_STREAM")
    with requests.post(functions.path(node), json={"forever": True}, stream=True, timeout=30) as answer:
        next(answer.iter_content(None))
    logs = client(functions.server, "logs")

    def timed_out():
        events = logs.filter_log_events(logGroupName=f"/aws/lambda/{node}")["events"]
        return any("Task timed out" in event["message"] for event in events)

    poll.until(timed_out, "the call runs to its time-out")
