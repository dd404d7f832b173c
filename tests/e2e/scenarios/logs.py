"""CloudWatch Logs: every operation that docs/logs.md says works."""

import time

import pytest

from support import kinds, poll, zips
from support.clients import ROLE
from support.families import Refused

ACCOUNT = "111122223333"


def run(call, name, functions):
    """`call(operation, **input)` does it; `functions` makes what a subscription calls."""
    group = f"/scenario/{name}"
    call("CreateLogGroup", logGroupName=group, tags={"a": "b"})
    call("CreateLogStream", logGroupName=group, logStreamName="s")
    events(call, group)
    settings(call, group)
    subscription(call, group, functions)
    call("DeleteLogStream", logGroupName=group, logStreamName="s")
    call("DeleteLogGroup", logGroupName=group)
    with pytest.raises(Refused, match="ResourceNotFoundException"):
        call("DescribeLogStreams", logGroupName=group)


def events(call, group):
    now = int(time.time() * 1000)
    lines = [{"timestamp": now, "message": "one ERROR"}, {"timestamp": now + 1, "message": "two"}]
    call("PutLogEvents", logGroupName=group, logStreamName="s", logEvents=lines)
    read = call("GetLogEvents", logGroupName=group, logStreamName="s", startFromHead=True)
    assert [event["message"] for event in read["events"]] == ["one ERROR", "two"]
    found = call("FilterLogEvents", logGroupName=group, filterPattern="ERROR")["events"]
    assert [event["message"] for event in found] == ["one ERROR"]
    assert [each["logStreamName"] for each in call("DescribeLogStreams", logGroupName=group)["logStreams"]] == ["s"]
    arn = call("DescribeLogGroups", logGroupNamePrefix=group)["logGroups"][0]["logGroupArn"]
    tail = call("StartLiveTail", logGroupIdentifiers=[arn])
    assert not tail or "sessionStart" in tail["responseStream"][0]


def settings(call, group):
    call("PutRetentionPolicy", logGroupName=group, retentionInDays=7)
    described = call("DescribeLogGroups", logGroupNamePrefix=group)["logGroups"][0]
    assert described["retentionInDays"] == 7
    call("DeleteRetentionPolicy", logGroupName=group)
    arn = described["logGroupArn"]
    call("TagResource", resourceArn=arn, tags={"c": "d"})
    call("UntagResource", resourceArn=arn, tagKeys=["a"])
    assert call("ListTagsForResource", resourceArn=arn)["tags"] == {"c": "d"}
    call("TagLogGroup", logGroupName=group, tags={"e": "f"})
    call("UntagLogGroup", logGroupName=group, tags=["c"])
    assert call("ListTagsLogGroup", logGroupName=group)["tags"] == {"e": "f"}


def subscription(call, group, functions):
    name = functions.deploy(zips.package(kinds.python_function("echo.py")), kinds.python())
    arn = functions.api.get_function_configuration(FunctionName=name)["FunctionArn"]
    functions.api.add_permission(
        FunctionName=name, StatementId="logs", Action="lambda:InvokeFunction", Principal="logs.amazonaws.com"
    )
    call("PutSubscriptionFilter", logGroupName=group, filterName="f", filterPattern="", destinationArn=arn)
    assert call("DescribeSubscriptionFilters", logGroupName=group)["subscriptionFilters"][0]["destinationArn"] == arn
    call("DeleteSubscriptionFilter", logGroupName=group, filterName="f")
