"""CloudWatch Logs through boto3 and the AWS CLI: groups of one's own, both directions, patterns, retention, tags."""

import json
import subprocess
import sys
import time
import uuid

import pytest
from botocore.exceptions import ClientError

from support import clients, kinds, poll
from support.clients import code_of
from support.server import REGION, clean_environment

MINUTE = 60_000


@pytest.fixture
def logs(server):
    return clients.client(server, "logs")


@pytest.fixture
def group(logs):
    """A group with the stream `s`."""
    name = f"/e2e/{uuid.uuid4().hex[:12]}"
    logs.create_log_group(logGroupName=name)
    logs.create_log_stream(logGroupName=name, logStreamName="s")
    yield name
    try:
        logs.delete_log_group(logGroupName=name)
    except ClientError as gone:
        assert code_of(gone) == "ResourceNotFoundException"


def now():
    return int(time.time() * 1000)


def put(logs, group, *messages, stream="s", at=None):
    events = [{"timestamp": at or now(), "message": message} for message in messages]
    return logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def texts(answer):
    return [event["message"] for event in answer["events"]]


def refused(code, call, **arguments):
    with pytest.raises(ClientError) as refusal:
        call(**arguments)
    assert code_of(refusal.value) == code, refusal.value
    return refusal.value.response["Error"]["Message"]


def test_groups_have_a_life_of_their_own(logs, group):
    arn = f"arn:aws:logs:{REGION}:"
    shown = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]
    assert shown["logGroupArn"].startswith(arn) and shown["arn"] == shown["logGroupArn"] + ":*"
    assert "retentionInDays" not in shown and now() - MINUTE < shown["creationTime"] <= now()
    assert refused("ResourceAlreadyExistsException", logs.create_log_group, logGroupName=group) == (
        "The specified log group already exists"
    )
    refused("ResourceNotFoundException", logs.delete_log_group, logGroupName=group + "x")
    refused("InvalidParameterException", logs.create_log_group, logGroupName="no spaces")
    refused("InvalidParameterException", logs.create_log_group, logGroupName="aws/x")
    other = group + "-other"
    logs.create_log_group(logGroupName=other, tags={"a": "b"})
    found = logs.describe_log_groups(logGroupNamePattern=group.rsplit("/", 1)[1])["logGroups"]
    assert [each["logGroupName"] for each in found] == [group, other]
    pages = logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=group, PaginationConfig={"PageSize": 1})
    assert [len(page["logGroups"]) for page in pages] == [1, 1]
    logs.delete_log_group(logGroupName=other)
    refused("ResourceNotFoundException", logs.filter_log_events, logGroupName=other)


def test_streams_are_listed_and_deleted(logs, group):
    refused("ResourceAlreadyExistsException", logs.create_log_stream, logGroupName=group, logStreamName="s")
    refused("InvalidParameterException", logs.create_log_stream, logGroupName=group, logStreamName="a:b")
    for name in ("t", "u"):
        logs.create_log_stream(logGroupName=group, logStreamName=name)
    put(logs, group, "to u", stream="u", at=now() - MINUTE)
    put(logs, group, "to s")
    by_time = logs.describe_log_streams(logGroupName=group, orderBy="LastEventTime", descending=True)["logStreams"]
    assert [each["logStreamName"] for each in by_time] == ["s", "u", "t"]
    assert by_time[0]["lastEventTimestamp"] > by_time[1]["lastEventTimestamp"] and "lastEventTimestamp" not in by_time[2]
    paged = logs.get_paginator("describe_log_streams").paginate(logGroupName=group, PaginationConfig={"PageSize": 2})
    assert [each["logStreamName"] for page in paged for each in page["logStreams"]] == ["s", "t", "u"]
    logs.delete_log_stream(logGroupName=group, logStreamName="u")
    refused("ResourceNotFoundException", logs.delete_log_stream, logGroupName=group, logStreamName="u")
    assert texts(logs.filter_log_events(logGroupName=group)) == ["to s"]
    refused("ResourceNotFoundException", logs.get_log_events, logGroupName=group, logStreamName="u")
    refused("ResourceNotFoundException", lambda: put(logs, group, "x", stream="u"))


def test_events_are_read_in_both_directions(logs, group):
    for number in range(7):
        put(logs, group, f"{number}")
    read = lambda **more: logs.get_log_events(logGroupName=group, logStreamName="s", limit=3, **more)  # noqa: E731
    last = read()
    assert texts(last) == ["4", "5", "6"]
    middle = read(nextToken=last["nextBackwardToken"])
    assert texts(middle) == ["1", "2", "3"]
    first = read(nextToken=middle["nextBackwardToken"])
    assert texts(first) == ["0"]
    start = read(nextToken=first["nextBackwardToken"])
    assert texts(start) == [] and start["nextBackwardToken"] == first["nextBackwardToken"]
    forward, found = read(startFromHead=True), []
    while True:
        found += texts(forward)
        following = read(nextToken=forward["nextForwardToken"], startFromHead=True)
        if following["nextForwardToken"] == forward["nextForwardToken"]:
            break
        forward = following
    assert found == [str(number) for number in range(7)]
    refused("InvalidParameterException", read, nextToken="nonsense")
    assert texts(read(endTime=now() - MINUTE)) == []


def test_what_a_batch_may_be(logs, group):
    day = 24 * 60 * MINUTE
    events = [{"timestamp": now() - 15 * day, "message": "old"}]
    info = logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=events)["rejectedLogEventsInfo"]
    assert info == {"tooOldLogEventEndIndex": 1}
    events = [{"timestamp": now(), "message": "fine"}, {"timestamp": now() + 3 * 60 * MINUTE, "message": "new"}]
    info = logs.put_log_events(logGroupName=group, logStreamName="s", logEvents=events)["rejectedLogEventsInfo"]
    assert info == {"tooNewLogEventStartIndex": 1}
    assert "rejectedLogEventsInfo" not in put(logs, group, *["x"] * 10_000)
    # At the limit, in the form that takes most bytes on the wire, and one past it.
    put(logs, group, "\x01" * (1_048_576 - 26))
    message = refused("InvalidParameterException", lambda: put(logs, group, "x" * (1_048_576 - 25)))
    assert "1048577" in message
    refused("InvalidParameterException", lambda: put(logs, group, *["x"] * 10_001))


def test_patterns_find_events(logs, group):
    put(logs, group, "ERROR timed out", "WARN slow", json.dumps({"level": "ERROR", "ms": 12}), "GET /a 404 1534")
    find = lambda pattern, **more: texts(  # noqa: E731
        logs.filter_log_events(logGroupName=group, filterPattern=pattern, **more)
    )
    assert find("ERROR") == ["ERROR timed out", '{"level": "ERROR", "ms": 12}']
    assert find('"timed out"') == ["ERROR timed out"]
    assert find("?WARN ?timed") == ["ERROR timed out", "WARN slow"]
    assert find('{ $.level = "ERR*" && $.ms > 1e1 }') == ['{"level": "ERROR", "ms": 12}']
    assert find("[method, path, status = 4*, bytes > 1000]") == ["GET /a 404 1534"]
    assert find("%s[lm]ow%") == ["WARN slow"]
    assert find("ERROR", logStreamNames=["s"], limit=1) == ["ERROR timed out"]
    assert find("") == find(" ") and len(find("")) == 4
    message = refused("InvalidParameterException", find, pattern="{ $.level = }")
    assert "Invalid filter pattern" in message
    refused("InvalidParameterException", find, pattern="a" * 1025)


def test_retention_and_tags(logs, group):
    logs.put_retention_policy(logGroupName=group, retentionInDays=7)
    assert logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["retentionInDays"] == 7
    put(logs, group, "8 days old", at=now() - 8 * 24 * 60 * MINUTE)
    put(logs, group, "6 days old", at=now() - 6 * 24 * 60 * MINUTE)
    logs.delete_retention_policy(logGroupName=group)
    assert texts(logs.filter_log_events(logGroupName=group)) == ["6 days old"]
    logs.put_retention_policy(logGroupName=group, retentionInDays=5)
    assert texts(logs.filter_log_events(logGroupName=group)) == []
    refused("InvalidParameterException", logs.put_retention_policy, logGroupName=group, retentionInDays=2)
    refused("ResourceNotFoundException", logs.put_retention_policy, logGroupName=group + "x", retentionInDays=1)

    arn = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["logGroupArn"]
    logs.tag_resource(resourceArn=arn, tags={"team": "e2e", "stage": "test"})
    logs.untag_resource(resourceArn=arn, tagKeys=["stage"])
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "e2e"}
    assert logs.list_tags_log_group(logGroupName=group)["tags"] == {"team": "e2e"}
    logs.tag_log_group(logGroupName=group, tags={f"k{n}": "v" for n in range(49)})
    refused("TooManyTagsException", logs.tag_resource, resourceArn=arn, tags={"one": "more"})
    foreign = arn.replace(arn.split(":")[4], "210987654321")
    refused("AccessDeniedException", logs.list_tags_for_resource, resourceArn=foreign)
    refused("AccessDeniedException", logs.filter_log_events, logGroupIdentifier=foreign)


def test_what_was_put_survives_a_kill(new_server):
    server = new_server().start()
    logs = clients.client(server, "logs")
    logs.create_log_group(logGroupName="g", tags={"a": "b"})
    logs.put_retention_policy(logGroupName="g", retentionInDays=1)
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    put(logs, "g", "kept")
    server.kill()
    server.start()
    logs = clients.client(server, "logs")
    assert texts(logs.filter_log_events(logGroupName="g")) == ["kept"]
    assert logs.describe_log_groups()["logGroups"][0]["retentionInDays"] == 1
    assert logs.list_tags_log_group(logGroupName="g")["tags"] == {"a": "b"}
    put(logs, "g", "after")
    assert texts(logs.get_log_events(logGroupName="g", logStreamName="s")) == ["kept", "after"]


def test_a_tail_polls_as_the_clis_does(functions, logs):
    """What `aws logs tail --follow` does: FilterLogEvents again from the last event's time, and what is known left out."""
    name = functions.deploy(kinds.python_function("echo.py"), kinds.python())
    known, found = set(), []
    request = {"logGroupName": f"/aws/lambda/{name}", "interleaved": True, "filterPattern": "number", "startTime": now()}
    for number in range(3):
        functions.invoke(name, {"do": "print", "text": f"number {number}"}).ok()
        for page in logs.get_paginator("filter_log_events").paginate(**request):
            for event in page["events"]:
                if event["eventId"] not in known:
                    known.add(event["eventId"])
                    found.append(event["message"].strip())
                request["startTime"] = event["timestamp"]
    # The function prints to both its outputs.
    assert found == [f"number {number}" for number in range(3) for _ in range(2)]


def test_functions_share_a_group(server, functions, logs, group):
    made = [
        functions.deploy(kinds.python_function("echo.py"), kinds.python(), LoggingConfig={"LogGroup": group})
        for _ in range(2)
    ]
    for name in made:
        functions.invoke(name, {"do": "print", "text": f"from {name}"}).ok()
    streams = [each["logStreamName"] for each in logs.describe_log_streams(logGroupName=group)["logStreams"]]
    assert sorted(s.split("/")[3].split("[")[0] for s in streams if "/" in s) == sorted(made)
    assert functions.api.get_function_configuration(FunctionName=made[0])["LoggingConfig"]["LogGroup"] == group
    said = server.cli("logs", made[0], "--filter", "from", check=0).stdout
    assert f"from {made[0]}" in said and made[1] not in said
    refused("ValidationException", functions.api.update_function_configuration, FunctionName=made[0],
            LoggingConfig={"LogGroup": "no spaces"})  # fmt: skip
    functions.api.update_function_configuration(FunctionName=made[0], LoggingConfig={"LogGroup": f"/aws/lambda/{made[0]}"})
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=made[0])
    functions.invoke(made[0], {"do": "print", "text": "home"}).ok()
    assert "home" in "".join(texts(logs.filter_log_events(logGroupName=f"/aws/lambda/{made[0]}")))


def test_a_log_outlives_its_function(server, functions, logs):
    name = functions.deploy(kinds.python_function("echo.py"), kinds.python())
    functions.invoke(name, {"do": "print", "text": "remember me"}).ok()
    functions.api.delete_function(FunctionName=name)
    functions.made.remove(name)
    assert "remember me" in server.cli("logs", name, check=0).stdout
    logs.delete_log_group(logGroupName=f"/aws/lambda/{name}")
    refused("ResourceNotFoundException", logs.filter_log_events, logGroupName=f"/aws/lambda/{name}")


def test_the_aws_cli(server, tmp_path, logs, group):
    environment = clean_environment(
        AWS_ACCESS_KEY_ID=server.key, AWS_SECRET_ACCESS_KEY=server.secret, AWS_DEFAULT_REGION=REGION, AWS_PAGER="",
        AWS_CONFIG_FILE=str(tmp_path / "none"), AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "none"),
    )  # fmt: skip

    def aws(*arguments):
        command = [sys.executable, "-m", "awscli", "logs", *arguments, "--endpoint-url", server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    aws("create-log-stream", "--log-group-name", group, "--log-stream-name", "cli")
    event = json.dumps([{"timestamp": now(), "message": "ERROR by hand"}, {"timestamp": now(), "message": "fine"}])
    aws("put-log-events", "--log-group-name", group, "--log-stream-name", "cli", "--log-events", event)
    found = aws("filter-log-events", "--log-group-name", group, "--filter-pattern", "ERROR")
    assert texts(found) == ["ERROR by hand"]
    assert texts(aws("get-log-events", "--log-group-name", group, "--log-stream-name", "cli")) == ["ERROR by hand", "fine"]
    aws("put-retention-policy", "--log-group-name", group, "--retention-in-days", "3")
    assert aws("describe-log-groups", "--log-group-name-prefix", group)["logGroups"][0]["retentionInDays"] == 3


def test_a_subscription_calls_a_function(functions, logs, group):
    unpack = (
        "import base64, gzip\n"
        "def handler(event, context):\n"
        "    print('GOT', gzip.decompress(base64.b64decode(event['awslogs']['data'])).decode())\n"
    )
    name = functions.deploy({"app.py": unpack}, kinds.python())
    arn = functions.api.get_function_configuration(FunctionName=name)["FunctionArn"]
    subscribe = lambda to, where=group: logs.put_subscription_filter(  # noqa: E731
        logGroupName=where, filterName="errors", filterPattern="ERROR", destinationArn=to
    )
    refused("InvalidParameterException", subscribe, to=arn + "-absent")
    refused("InvalidParameterException", subscribe, to="arn:aws:kinesis:us-east-1:111122223333:stream/x")
    put(logs, group, "ERROR before")
    subscribe(arn)
    shown = logs.describe_subscription_filters(logGroupName=group)["subscriptionFilters"]
    assert [(each["filterName"], each["filterPattern"], each["destinationArn"]) for each in shown] == [("errors", "ERROR", arn)]
    put(logs, group, "ERROR one", "fine", "ERROR two")
    own = f"/aws/lambda/{name}"
    printed = lambda: [  # noqa: E731
        json.loads(text.split("GOT ", 1)[1]) for text in texts(logs.filter_log_events(logGroupName=own, filterPattern="GOT"))
    ]
    poll.until(lambda: own in str(logs.describe_log_groups(logGroupNamePrefix=own)) and printed(), "the function was called")
    (got,) = printed()
    assert got["messageType"] == "DATA_MESSAGE" and got["subscriptionFilters"] == ["errors"]
    assert (got["logGroup"], got["logStream"]) == (group, "s") and got["owner"] == arn.split(":")[4]
    assert texts({"events": got["logEvents"]}) == ["ERROR one", "ERROR two"]
    assert all(len(event["id"]) == 56 and event["timestamp"] for event in got["logEvents"])
    refused("InvalidParameterException", subscribe, to=arn, where=own)
    logs.delete_subscription_filter(logGroupName=group, filterName="errors")
    refused("ResourceNotFoundException", logs.delete_subscription_filter, logGroupName=group, filterName="errors")


def test_a_live_tail(server, logs, group):
    live = clients.client(server, "logs", check=False, inject_host_prefix=False)
    arn = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["logGroupArn"]
    put(logs, group, "ERROR before")
    session = live.start_live_tail(logGroupIdentifiers=[arn], logEventFilterPattern="ERROR")["responseStream"]
    found = []
    for event in session:
        if "sessionStart" in event:
            assert event["sessionStart"]["logGroupIdentifiers"] == [arn] and event["sessionStart"]["sessionId"]
            assert event["sessionStart"]["logEventFilterPattern"] == "ERROR"
            put(logs, group, "ERROR now", "fine")
        else:
            assert event["sessionUpdate"]["sessionMetadata"] == {"sampled": False}
            found += event["sessionUpdate"]["sessionResults"]
        if found:
            break
    session.close()
    (result,) = found
    assert (result["message"], result["logStreamName"], result["logGroupIdentifier"]) == ("ERROR now", "s", arn)
    refused("ResourceNotFoundException", live.start_live_tail, logGroupIdentifiers=[arn + "x"])
    refused("InvalidParameterException", live.start_live_tail, logGroupIdentifiers=[arn], logEventFilterPattern="{")
    refused("AccessDeniedException", live.start_live_tail,
            logGroupIdentifiers=[arn.replace(arn.split(":")[4], "210987654321")])  # fmt: skip
