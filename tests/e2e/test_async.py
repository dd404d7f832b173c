"""Asynchronous invokes: accepted durably, run at least once or found among the failed ones, whatever happens."""

import json
import os
import re
import subprocess
import sys

import pytest
import requests
from botocore.exceptions import ClientError

from support import clients, kinds, ledger, poll
from support.clients import Functions, code_of

# Retries after a second instead of a minute.
QUICK = ["--async-retry-s", "1"]


@pytest.fixture
def quick(new_server):
    """A server that retries soon, and functions on it."""
    server = new_server(arguments=QUICK).start()
    return server, Functions(server)


def deploy(functions, **options):
    """The function that prints what it is given."""
    return functions.deploy(kinds.python_function("ledger.py"), kinds.python(), **options)


def send(functions, name, event, **options):
    """An event; its request's id."""
    answer = functions.api.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event), **options)
    assert answer["StatusCode"] == 202
    assert answer["Payload"].read() == b""
    return answer["ResponseMetadata"]["RequestId"]


def lines(server, name):
    """What the function printed."""
    return server.cli("logs", name, check=0).stdout


def failed(server, name):
    """Its failed events."""
    return json.loads(server.cli("failed", "list", name, "--json", check=0).stdout)


def wait_for(server, name, text):
    """Waits until its log has a line with this text."""
    return poll.until(lambda: text in lines(server, name) and lines(server, name), f"{text} in the log")


def test_an_event_runs_with_the_id_of_its_answer(server, functions):
    name = deploy(functions)
    request = send(functions, name, {"n": 1})
    log = wait_for(server, name, f"REPORT RequestId: {request}")
    assert f"ran 1 {request} end" in log
    assert f"START RequestId: {request} Version: $LATEST" in log


def test_dry_run_keeps_nothing(functions):
    name = deploy(functions)
    answer = functions.api.invoke(FunctionName=name, InvocationType="DryRun")
    assert answer["StatusCode"] == 204


def test_invoke_async_is_the_older_form(server, functions):
    name = deploy(functions)
    assert functions.api.invoke_async(FunctionName=name, InvokeArgs=b'{"n": "old"}')["Status"] == 202
    wait_for(server, name, "ran old ")


def test_limits_and_bad_input(functions):
    name = deploy(functions)
    edge = json.dumps({"n": "x"})
    edge = edge[:-1] + " " * ((1 << 20) - len(edge)) + "}"
    assert len(edge) == 1 << 20
    assert functions.api.invoke(FunctionName=name, InvocationType="Event", Payload=edge)["StatusCode"] == 202
    for options, code in [
        ({"Payload": edge + " "}, "RequestTooLargeException"),
        ({"Payload": "{"}, "InvalidRequestContentException"),
        ({"FunctionName": "nobody"}, "ResourceNotFoundException"),
        ({"Qualifier": "7"}, "ResourceNotFoundException"),
    ]:
        with pytest.raises(ClientError) as refused:
            functions.api.invoke(**({"FunctionName": name, "InvocationType": "Event"} | options))
        assert code_of(refused.value) == code


def test_errors_are_retried_and_kept_and_redriven(quick):
    server, functions = quick
    name = deploy(functions)
    request = send(functions, name, {"n": 1, "fail": True})
    poll.until(lambda: failed(server, name), "it is given up", 60)
    assert lines(server, name).count(f"ran 1 {request} end") == 3
    (kept,) = failed(server, name)
    assert (kept["RequestId"], kept["Condition"], kept["ApproximateInvokeCount"]) == (request, "RetriesExhausted", 3)
    shown = json.loads(server.cli("failed", "show", name, kept["Id"], "--json", check=0).stdout)
    assert shown["Payload"] == {"n": 1, "fail": True}
    assert json.loads(shown["Response"])["errorType"] == "ValueError"
    functions.api.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    assert server.cli("failed", "redrive", name, kept["Id"], check=0).stdout == "1 redriven\n"
    poll.until(lambda: failed(server, name), "it is given up again", 60)
    assert lines(server, name).count(f"ran 1 {request} end") == 4
    assert server.cli("failed", "drop", name, "--all", check=0).stdout == "1 dropped\n"
    assert failed(server, name) == []
    assert server.cli("failed", "show", name, kept["Id"]).returncode != 0
    metrics = server.metrics()
    label = f'{{cloud_account_id="{server.account}",faas_name="{name}"}}'
    assert f"faas_async_accepted_total{label} 2\n" in metrics
    assert f"faas_async_retries_total{label} 2\n" in metrics
    assert f"faas_async_failed_total{label} 2\n" in metrics
    assert f"faas_async_queued{label} 0\n" in metrics


def test_destinations_get_the_record(quick):
    server, functions = quick
    sink = deploy(functions)
    name = deploy(functions)
    arn = functions.api.get_function_configuration(FunctionName=sink)["FunctionArn"]
    functions.api.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=0,
        DestinationConfig={"OnSuccess": {"Destination": arn}, "OnFailure": {"Destination": arn}},
    )  # fmt: skip
    good, bad = send(functions, name, {"n": 1}), send(functions, name, {"n": 2, "fail": True})
    wait_for(server, sink, f"record Success {good} end")
    wait_for(server, sink, f"record RetriesExhausted {bad} end")
    assert failed(server, name) == []


TRUST = '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}}'


def test_destinations_are_queues_that_the_role_may_send_to(quick):
    server, functions = quick
    sqs, iam = clients.client(server, "sqs"), clients.client(server, "iam", check=False)
    urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("good", "bad", "other")}
    arn = {name: f"arn:aws:sqs:us-east-1:{server.account}:{name}" for name in urls}
    role = iam.create_role(RoleName="sends", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]

    def may_send_to(*names):
        statement = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": [arn[name] for name in names]}
        document = json.dumps({"Version": "2012-10-17", "Statement": statement})
        iam.put_role_policy(RoleName="sends", PolicyName="p", PolicyDocument=document)

    may_send_to("good", "bad")
    name = deploy(functions)
    functions.api.update_function_configuration(FunctionName=name, Role=role)
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=clients.FAST)

    def configure(good, bad):
        functions.api.put_function_event_invoke_config(
            FunctionName=name, MaximumRetryAttempts=0,
            DestinationConfig={"OnSuccess": {"Destination": good}, "OnFailure": {"Destination": bad}},
        )  # fmt: skip

    for queue, said in [(arn["other"], "sqs:SendMessage"), (arn["good"] + "x", "not authorized"),
                        (arn["good"].replace(server.account, "210987654321"), "not authorized")]:  # fmt: skip
        with pytest.raises(ClientError) as refused:
            configure(queue, arn["bad"])
        assert code_of(refused.value) == "InvalidParameterValueException" and said in str(refused.value)
    configure(arn["good"], arn["bad"])
    for queue, event, condition in [("good", {"n": 1}, "Success"), ("bad", {"n": 2, "fail": True}, "RetriesExhausted")]:
        request = send(functions, name, event)
        (message,) = sqs.receive_message(QueueUrl=urls[queue], WaitTimeSeconds=20)["Messages"]
        record = json.loads(message["Body"])
        assert (record["requestContext"]["requestId"], record["requestContext"]["condition"]) == (request, condition)
        assert record["requestPayload"] == event
    assert failed(server, name) == []
    # A right that is taken away counts at once: the event is kept.
    may_send_to("good")
    request = send(functions, name, {"n": 3, "fail": True})
    (kept,) = poll.until(lambda: failed(server, name), "it is kept")
    assert (kept["RequestId"], kept["Condition"]) == (request, "RetriesExhausted")
    sqs.delete_queue(QueueUrl=urls["good"])
    request = send(functions, name, {"n": 4})
    poll.until(lambda: {event["Condition"] for event in failed(server, name)} >= {"DestinationFailed"}, "so is this")


def test_configurations_fit_the_model(functions):
    name = deploy(functions)
    api = functions.api
    with pytest.raises(ClientError) as absent:
        api.get_function_event_invoke_config(FunctionName=name)
    assert code_of(absent.value) == "ResourceNotFoundException"
    put = api.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=1, MaximumEventAgeInSeconds=60)
    assert put["FunctionArn"].endswith(f":{name}:$LATEST")
    assert (put["MaximumRetryAttempts"], put["MaximumEventAgeInSeconds"]) == (1, 60)
    assert put["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}
    updated = api.update_function_event_invoke_config(FunctionName=name, MaximumEventAgeInSeconds=90)
    assert (updated["MaximumRetryAttempts"], updated["MaximumEventAgeInSeconds"]) == (1, 90)
    got = api.get_function_event_invoke_config(FunctionName=name)
    assert {**got, "ResponseMetadata": 0} == {**updated, "ResponseMetadata": 0}
    version = api.publish_version(FunctionName=name)["Version"]
    api.put_function_event_invoke_config(FunctionName=name, Qualifier=version, MaximumRetryAttempts=0)
    pages = api.get_paginator("list_function_event_invoke_configs").paginate(
        FunctionName=name, PaginationConfig={"PageSize": 1}
    )
    listed = [config["FunctionArn"].split(":")[-1] for page in pages for config in page["FunctionEventInvokeConfigs"]]
    assert listed == ["$LATEST", version]
    api.delete_function_event_invoke_config(FunctionName=name)
    with pytest.raises(ClientError):
        api.delete_function_event_invoke_config(FunctionName=name)
    for destination, said in [
        ("arn:aws:sns:us-east-1:111122223333:t", "SNS is not built"),
        ("arn:aws:sqs:eu-west-1:111122223333:q", "not in the function's region"),
        ("arn:aws:lambda:us-east-1:111122223333:function:nobody", "Function not found"),
    ]:
        with pytest.raises(ClientError) as refused:
            api.put_function_event_invoke_config(
                FunctionName=name, DestinationConfig={"OnFailure": {"Destination": destination}}
            )
        assert code_of(refused.value) == "InvalidParameterValueException"
        assert said in refused.value.response["Error"]["Message"]


def test_reserved_zero_holds_events_back(quick):
    server, functions = quick
    name = deploy(functions)
    functions.api.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    request = send(functions, name, {"n": 1})
    poll.until(lambda: re.search(f'faas_async_throttles_total.*{name}.* [1-9]', server.metrics()), "it was refused")
    assert "ran 1" not in lines(server, name)
    functions.api.delete_function_concurrency(FunctionName=name)
    wait_for(server, name, f"ran 1 {request} end")
    assert failed(server, name) == []


def test_a_circle_is_cut(quick):
    server, functions = quick
    name = deploy(functions)
    api = functions.api
    trace = {"value": None}

    def carry(request, **_):
        if trace["value"]:
            request.headers["X-Amzn-Trace-Id"] = trace["value"]

    api.meta.events.register("before-sign.lambda.Invoke", carry)
    for turn in range(16):
        trace["value"] = functions.invoke(name, {"n": turn}).ok()["trace"]
    assert trace["value"].endswith(":16")
    with pytest.raises(ClientError) as cut:
        functions.invoke(name, {"n": 16})
    assert code_of(cut.value) == "RecursiveInvocationException"
    request = send(functions, name, {"n": 17})
    (kept,) = poll.until(lambda: failed(server, name), "it is given up")
    assert (kept["RequestId"], kept["Condition"]) == (request, "RecursiveLoop")
    assert api.get_function_recursion_config(FunctionName=name)["RecursiveLoop"] == "Terminate"
    assert api.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")["RecursiveLoop"] == "Allow"
    send(functions, name, {"n": 18})
    wait_for(server, name, "ran 18 ")


def test_a_circle_by_a_url_is_cut(server, functions):
    name = functions.deploy({"f.py": "def handler(event, context): return event['headers']['x-amzn-trace-id']"},
                            kinds.python(), "f.handler", url=True)  # fmt: skip
    trace = {}
    for _ in range(16):
        trace = {"X-Amzn-Trace-Id": requests.get(functions.path(name), headers=trace, timeout=20).json()}
    assert trace["X-Amzn-Trace-Id"].endswith(":16")
    cut = requests.get(functions.path(name), headers=trace, timeout=20)
    assert (cut.status_code, cut.headers["x-amzn-errortype"]) == (429, "RecursiveInvocationException")


def test_what_waits_for_a_deleted_function_is_recorded(quick):
    server, functions = quick
    name = deploy(functions)
    functions.api.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    request = send(functions, name, {"n": 1})
    functions.api.delete_function(FunctionName=name)
    (kept,) = poll.until(lambda: failed(server, name), "it is recorded")
    assert (kept["RequestId"], kept["Condition"]) == (request, "FunctionDeleted")


def test_command_lines(server, functions):
    name = deploy(functions)
    request = server.cli("invoke", "--async", name, '{"n": "cli"}', check=0).stdout.strip()
    wait_for(server, name, f"ran cli {request} end")
    out = os.path.join(server.data.parent, "answer.json")
    aws = [sys.executable, "-m", "awscli", "lambda", "invoke", "--function-name", name, "--invocation-type", "Event", "--payload", '{"n": "aws"}', out]  # fmt: skip
    done = subprocess.run(aws, env=server.client_environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["StatusCode"] == 202
    wait_for(server, name, "ran aws ")
    assert "has no failed events" in server.cli("failed", "list", name, check=0).stdout


def test_a_stop_lets_what_runs_end_and_keeps_the_rest(new_server):
    server = new_server(arguments=[*QUICK, "--async-per-function", "1"]).start()
    functions = Functions(server)
    name = deploy(functions)
    first, second = send(functions, name, {"n": 1, "sleep": 2}), send(functions, name, {"n": 2})
    wait_for(server, name, "ran 1 ")
    assert server.stop() == 0
    server.start()
    log = wait_for(server, name, f"ran 2 {second} end")
    assert log.count(f"ran 1 {first} end") == 1
    assert f"REPORT RequestId: {first}" in log


def test_kills_at_random_lose_nothing_acknowledged(new_server):
    server = new_server(arguments=QUICK)
    ledger.run(server, kills=int(os.environ.get("E2E_KILLS", "20")))
