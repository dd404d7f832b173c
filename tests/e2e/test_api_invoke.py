"""Invoke through boto3: answers, the function's errors, logs, limits."""

import base64
import json
import re

import pytest
from botocore.exceptions import ClientError

from support import kinds
from support.clients import code_of

LIMIT = 6_291_556


@pytest.fixture
def echo(functions):
    return functions.deploy(kinds.python_function("echo.py"), kinds.python())


def test_an_answer(functions, echo):
    result = functions.invoke(echo, {"a": [1, None, "ü"]})
    assert result.ok()["event"] == {"a": [1, None, "ü"]}
    assert result.status == 200 and result.version == "$LATEST"


@pytest.mark.parametrize("event", ["null", "[]", '"text"', "1.5", "true", ' {"spaced" : 1} '])
def test_events_are_any_json(functions, echo, event):
    assert functions.invoke(echo, Payload=event).ok()["event"] == json.loads(event)


def test_no_payload_is_an_empty_event(functions, echo):
    assert json.loads(functions.api.invoke(FunctionName=echo)["Payload"].read())["event"] == {}


def test_an_instance_is_kept_for_the_next_call(functions, echo):
    first, second = functions.invoke(echo).ok(), functions.invoke(echo).ok()
    assert first["instance"] == second["instance"] and second["count"] == first["count"] + 1


def test_a_raised_error_has_type_message_and_stack(functions, echo):
    result = functions.invoke(echo, {"do": "raise", "text": "no, thanks"})
    assert result.error == "Unhandled" and result.status == 200
    assert result.value["errorType"] == "Refused" and result.value["errorMessage"] == "no, thanks"
    trace = result.value["stackTrace"]
    assert isinstance(trace, list) and "app.py" in "".join(trace) and "raise Refused" in "".join(trace)
    assert result.value.get("requestId", result.request_id) == result.request_id
    assert "no, thanks" in result.log
    assert functions.invoke(echo).ok()


def test_an_answer_that_is_not_json(functions, echo):
    assert functions.invoke(echo, {"do": "not-json"}).failed("Runtime.MarshalError")
    assert functions.invoke(echo).ok()


def test_the_tail_of_the_log(functions, echo):
    result = functions.invoke(echo, {"do": "print", "text": "printed here"})
    assert result.log.count("printed here") == 2
    lines = result.log.splitlines()
    assert lines[0].startswith(f"START RequestId: {result.request_id} Version: $LATEST")
    assert f"END RequestId: {result.request_id}" in lines
    report = next(line for line in lines if line.startswith("REPORT"))
    wanted = (
        rf"REPORT RequestId: {result.request_id}\tDuration: [0-9.]+ ms\tBilled Duration: [0-9]+ ms\t"
        r"Memory Size: 128 MB\tMax Memory Used: [0-9]+ MB\tInit Duration: [0-9.]+ ms"
    )
    assert re.match(wanted, report), report
    assert "Init Duration" not in functions.invoke(echo).log


def test_the_tail_is_four_kibibytes(functions, echo):
    result = functions.invoke(echo, {"do": "print", "text": "\n".join(["y" * 99] * 200)})
    assert 3000 < len(result.log) <= 4096 and "REPORT" in result.log


def test_no_tail_unless_asked_for(functions, echo):
    assert "LogResult" not in functions.api.invoke(FunctionName=echo)


def test_client_context(functions):
    name = functions.deploy(kinds.python_function("context.py"), kinds.python())
    context = {"client": {"app_title": "E2E"}, "custom": {"k": "v"}, "env": {"make": "m"}}
    encoded = base64.b64encode(json.dumps(context).encode()).decode()
    client = functions.invoke(name, ClientContext=encoded).ok()["client"]
    assert client == {"custom": {"k": "v"}, "env": {"make": "m"}, "title": "E2E"}


def test_dry_run_runs_nothing(functions, echo):
    answer = functions.api.invoke(FunctionName=echo, InvocationType="DryRun")
    assert answer["StatusCode"] == 204
    assert functions.invoke(echo).ok()["count"] == 1
    with pytest.raises(functions.api.exceptions.ResourceNotFoundException):
        functions.api.invoke(FunctionName="not-there", InvocationType="DryRun")


def test_a_payload_over_the_limit(functions, echo):
    with pytest.raises(ClientError) as refused:
        functions.api.invoke(FunctionName=echo, Payload=json.dumps("x" * LIMIT))
    assert code_of(refused.value) == "RequestTooLargeException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_a_payload_at_the_limit(functions, echo):
    payload = json.dumps({"x": "y" * (LIMIT - 9)})
    assert len(payload) == LIMIT
    result = functions.invoke(echo, Payload=payload)
    # The echo adds a few bytes of its own, so the answer is over the limit, the event was not.
    assert result.failed("Function.ResponseSizeTooLarge")


def test_an_answer_over_the_limit(functions, echo):
    failed = functions.invoke(echo, {"do": "big", "bytes": LIMIT + 10}).failed("Function.ResponseSizeTooLarge")
    assert str(LIMIT) in failed["errorMessage"]
    assert functions.invoke(echo).ok()
    assert len(functions.invoke(echo, {"do": "big", "bytes": LIMIT - 2}).ok()) == LIMIT - 2


def test_malformed_json(functions, echo):
    with pytest.raises(ClientError) as refused:
        functions.api.invoke(FunctionName=echo, Payload="{not json")
    assert code_of(refused.value) == "InvalidRequestContentException"


@pytest.mark.parametrize("qualifier", ["7", "prod"])
def test_a_version_that_is_not_there(functions, echo, qualifier):
    with pytest.raises(functions.api.exceptions.ResourceNotFoundException):
        functions.api.invoke(FunctionName=echo, Qualifier=qualifier)
