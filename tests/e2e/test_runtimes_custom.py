"""Custom runtimes: the official clients of the Lambda Runtime API, unmodified, and a shell with curl."""

import base64
import json
import time

import pytest

from support import kinds, zips

BAD_HANDLER = {"app.py": "import not_there\n"}


@pytest.fixture(scope="module")
def python_client():
    """awslambdaric bundled beside the handler, as its own documentation says."""
    start = "#!/bin/sh\nexport PYTHONPATH=/var/task/packages\nexec /usr/bin/python3 -m awslambdaric \"$_HANDLER\"\n"
    files = zips.folder(kinds.bundle("awslambdaric"), "packages/", leave_out=(".made-from", "bin"))
    return files | {"bootstrap": zips.executable(start)}


@pytest.fixture(scope="module")
def node_client():
    """aws-lambda-ric with its native part, without the sources it was built from."""
    start = "#!/bin/sh\nexec node node_modules/aws-lambda-ric/bin/index.mjs \"$_HANDLER\"\n"
    client = kinds.node_modules() / "aws-lambda-ric"
    files = zips.folder(client, "node_modules/aws-lambda-ric/", leave_out=("deps", "src", "node-addon-api", "scripts"))
    return files | {"bootstrap": zips.executable(start)}


def test_a_shell_with_curl(functions):
    files = {"bootstrap": zips.executable(kinds.source("shell_bootstrap.sh"))}
    name = functions.deploy(files, kinds.CUSTOM, handler="any.thing")
    result = functions.invoke(name, {"a": 1})
    seen = result.ok()
    assert seen["event"] == {"a": 1} and seen["request_id"] == result.request_id
    assert seen["arn"].endswith(f":function:{name}") and seen["handler"] == "any.thing"
    assert 0 < seen["deadline"] - time.time() * 1000 <= 30_000
    assert seen["trace"].startswith("Root=")
    assert f"shell saw {result.request_id}" in result.log
    failed = functions.invoke(name, {"please": "fail"}).failed("Shell.Refused")
    assert failed["errorMessage"] == "told to fail" and failed["stackTrace"] == ["line 1"]
    assert functions.invoke(name, {"again": 1}).ok()


def test_awslambdaric(server, functions, python_client):
    name = functions.deploy(python_client | kinds.python_function("context.py"), kinds.CUSTOM)
    client = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()
    result = functions.invoke(name, {"x": 1}, ClientContext=client)
    seen = result.ok()
    assert seen["event"] == {"x": 1} and seen["request_id"] == result.request_id
    assert seen["function_name"] == name and seen["client"]["custom"] == {"a": "b"}
    assert 0 < seen["remaining"] <= 30_000


def test_awslambdaric_reports_errors(functions, python_client):
    name = functions.deploy(python_client | kinds.python_function("echo.py"), kinds.CUSTOM)
    failed = functions.invoke(name, {"do": "raise", "text": "why"}).failed("Refused")
    assert failed["errorMessage"] == "why" and failed["stackTrace"]
    assert functions.invoke(name, {"fine": 1}).ok()["event"] == {"fine": 1}
    name = functions.deploy(python_client | BAD_HANDLER, kinds.CUSTOM)
    for _ in range(2):
        assert "not_there" in functions.invoke(name).failed("Runtime.ImportModuleError")["errorMessage"]


def test_lambda_runtime_crate(functions):
    files = {"bootstrap": zips.executable(kinds.rust_guest("event-handler"))}
    name = functions.deploy(files, kinds.CUSTOM, handler="unused")
    result = functions.invoke(name, {"x": [1]})
    seen = result.ok()
    assert seen["client"] == "lambda_runtime" and seen["event"] == {"x": [1]}
    assert seen["request_id"] == result.request_id and seen["function"] == name
    failed = functions.invoke(name, {"fail": "as told"})
    assert failed.error == "Unhandled" and failed.value["errorMessage"] == "as told"
    assert functions.invoke(name, {}).ok()


def test_aws_lambda_ric(functions, node_client):
    files = node_client | {"app.mjs": kinds.source("context.mjs")}
    name = functions.deploy(files, kinds.CUSTOM)
    result = functions.invoke(name, {"x": 1})
    seen = result.ok()
    assert seen["event"] == {"x": 1} and seen["request_id"] == result.request_id and seen["function_name"] == name
    assert str(seen["memory"]) == "128"
    files = node_client | {"app.js": kinds.source("node_kinds.cjs")}
    name = functions.deploy(files, kinds.CUSTOM, handler="app.rejects")
    assert functions.invoke(name, {"text": "no"}).failed("TypeError")["errorMessage"] == "no"


def test_the_other_names_of_custom_runtimes(functions):
    for runtime in ("provided", "provided.al2"):
        files = {"bootstrap": zips.executable(kinds.source("shell_bootstrap.sh"))}
        name = functions.deploy(files, runtime, handler="h")
        assert functions.invoke(name, {"r": runtime}).ok()["event"] == {"r": runtime}


@pytest.mark.parametrize(
    "bootstrap, error_type",
    [
        (zips.executable("#!/bin/sh\nexit 5\n"), "Runtime.ExitError"),
        (zips.executable("#!/no/such/interpreter\n"), "Runtime.InvalidEntrypoint"),
        (zips.executable(b"\x7fELF garbage"), "Runtime.InvalidEntrypoint"),
    ],
    ids=["exits", "no interpreter", "not a program"],
)
def test_a_bootstrap_that_does_not_come_up(functions, bootstrap, error_type):
    name = functions.deploy({"bootstrap": bootstrap}, kinds.CUSTOM, handler="h")
    for _ in range(2):
        assert functions.invoke(name).failed(error_type)["errorMessage"]


STREAMS = """
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  if (event.head) stream = awslambda.HttpResponseStream.from(stream, event.head);
  stream.write('one ');
  if (event.fail) throw new TypeError('late');
  stream.write('two');
  stream.end();
});
"""


def test_aws_lambda_ric_streams(functions, node_client):
    name = functions.deploy(node_client | {"app.js": STREAMS}, kinds.CUSTOM)

    def call(event):
        answer = functions.api.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event))
        events = list(answer["EventStream"])
        chunks = b"".join(each["PayloadChunk"]["Payload"] for each in events[:-1])
        return chunks, events[-1]["InvokeComplete"]

    assert call({}) == (b"one two", {})
    chunks, last = call({"fail": True})
    assert chunks == b"one " and json.loads(last["ErrorDetails"])["errorMessage"] == "late"
    assert call({"head": {"statusCode": 201}})[0] == b'{"statusCode":201}' + bytes(8) + b"one two"
    assert functions.invoke(name).raw == b"one two"
