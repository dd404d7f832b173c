"""SQS: every operation that docs/sqs.md says works."""

import json

import pytest

from support import poll
from support.families import Refused

ACCOUNT = "111122223333"


def run(call, name):
    """`call(operation, **input)` does it; `name` is free."""
    url = call("CreateQueue", QueueName=name, tags={"a": "b"})["QueueUrl"]
    assert call("GetQueueUrl", QueueName=name)["QueueUrl"] == url
    assert call("ListQueues", QueueNamePrefix=name)["QueueUrls"] == [url]
    arn = call("GetQueueAttributes", QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    settings(call, url)
    messages(call, url)
    batches(call, url)
    dead_letters(call, name, url, arn)
    call("PurgeQueue", QueueUrl=url)
    call("DeleteQueue", QueueUrl=url)
    with pytest.raises(Refused, match="NonExistentQueue|QueueDoesNotExist"):
        call("GetQueueAttributes", QueueUrl=url)


def settings(call, url):
    call("SetQueueAttributes", QueueUrl=url, Attributes={"VisibilityTimeout": "60"})
    kept = call("GetQueueAttributes", QueueUrl=url, AttributeNames=["VisibilityTimeout"])
    assert kept["Attributes"] == {"VisibilityTimeout": "60"}
    call("TagQueue", QueueUrl=url, Tags={"c": "d"})
    call("UntagQueue", QueueUrl=url, TagKeys=["a"])
    assert call("ListQueueTags", QueueUrl=url)["Tags"] == {"c": "d"}
    call("AddPermission", QueueUrl=url, Label="one", AWSAccountIds=[ACCOUNT], Actions=["SendMessage"])
    policy = call("GetQueueAttributes", QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]
    assert json.loads(policy)["Statement"][0]["Sid"] == "one"
    call("RemovePermission", QueueUrl=url, Label="one")


def messages(call, url):
    sent = call("SendMessage", QueueUrl=url, MessageBody="one ä")
    received = call("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=5)["Messages"][0]
    assert (received["MessageId"], received["Body"]) == (sent["MessageId"], "one ä")
    call("ChangeMessageVisibility", QueueUrl=url, ReceiptHandle=received["ReceiptHandle"], VisibilityTimeout=0)
    again = call("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=5)["Messages"][0]
    call("DeleteMessage", QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
    assert not call("ReceiveMessage", QueueUrl=url).get("Messages")


def batches(call, url):
    entries = [{"Id": f"m{n}", "MessageBody": f"batch {n}"} for n in range(2)]
    assert len(call("SendMessageBatch", QueueUrl=url, Entries=entries)["Successful"]) == 2
    received = call("ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=5)["Messages"]
    assert sorted(each["Body"] for each in received) == ["batch 0", "batch 1"]
    handles = [{"Id": f"m{n}", "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(received)]
    longer = [handle | {"VisibilityTimeout": 90} for handle in handles]
    assert len(call("ChangeMessageVisibilityBatch", QueueUrl=url, Entries=longer)["Successful"]) == 2
    assert len(call("DeleteMessageBatch", QueueUrl=url, Entries=handles)["Successful"]) == 2


def dead_letters(call, name, url, arn):
    source = call(
        "CreateQueue", QueueName=f"{name}-source",
        Attributes={"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1}), "VisibilityTimeout": "0"},
    )["QueueUrl"]  # fmt: skip
    assert call("ListDeadLetterSourceQueues", QueueUrl=url)["queueUrls"] == [source]
    call("SendMessage", QueueUrl=source, MessageBody="poison")
    assert call("ReceiveMessage", QueueUrl=source, WaitTimeSeconds=5)["Messages"]
    assert not call("ReceiveMessage", QueueUrl=source).get("Messages")
    task = call("StartMessageMoveTask", SourceArn=arn)["TaskHandle"]
    tasks = poll.until(lambda: _ended(call("ListMessageMoveTasks", SourceArn=arn)["Results"]), "the task has ended", 20)
    assert tasks[0]["ApproximateNumberOfMessagesMoved"] == 1
    # What has ended is not cancelled.
    with pytest.raises(Refused):
        call("CancelMessageMoveTask", TaskHandle=task)
    call("DeleteQueue", QueueUrl=source)


def _ended(tasks):
    return tasks if tasks[0]["Status"] == "COMPLETED" else None
