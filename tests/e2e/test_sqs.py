"""SQS through boto3, the AWS CLI, aws-sdk-js v3 and the older query protocol."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid
import xml.etree.ElementTree as ElementTree

import pytest
from botocore.exceptions import ClientError

from support import clients, kinds, poll
from support.clients import code_of
from support.server import REGION, clean_environment
from test_identity import allow, api, assumed, own

OTHER = "999999999999"
FIFO = {"FifoQueue": "true"}
GONE = "AWS.SimpleQueueService.NonExistentQueue"


@pytest.fixture
def sqs(server):
    return clients.client(server, "sqs")


@pytest.fixture
def queue(sqs):
    """Makes queues, and deletes them."""
    made = []

    def make(fifo=False, **attributes):
        name = f"q-{uuid.uuid4().hex[:12]}" + (".fifo" if fifo else "")
        given = (FIFO if fifo else {}) | {key: str(value) for key, value in attributes.items()}
        made.append(sqs.create_queue(QueueName=name, Attributes=given)["QueueUrl"])
        return made[-1]

    yield make
    for url in made:
        try:
            sqs.delete_queue(QueueUrl=url)
        except sqs.exceptions.QueueDoesNotExist:
            pass


def arn_of(sqs, url):
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def receive(sqs, url, most=10, **more):
    asked = {"MaxNumberOfMessages": most, "MessageSystemAttributeNames": ["All"], "MessageAttributeNames": ["All"]} | more
    return sqs.receive_message(QueueUrl=url, **asked).get("Messages", [])


def bodies(messages):
    return [message["Body"] for message in messages]


def counts(sqs, url):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
    got = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return tuple(int(got[name]) for name in names)


def refused(call, code, **arguments):
    with pytest.raises(ClientError) as error:
        call(**arguments)
    assert code_of(error.value) == code, error.value
    return error.value.response["Error"]["Message"]


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


def test_a_message_goes_through(sqs, queue):
    url = queue()
    sent = sqs.send_message(QueueUrl=url, MessageBody="hello ä")
    assert sent["MD5OfMessageBody"] == md5("hello ä") and "MD5OfMessageAttributes" not in sent
    got = receive(sqs, url)
    assert [(m["Body"], m["MessageId"], m["MD5OfBody"]) for m in got] == [("hello ä", sent["MessageId"], md5("hello ä"))]
    said = got[0]["Attributes"]
    assert said["ApproximateReceiveCount"] == "1" and said["SenderId"].startswith("AIDA")
    assert abs(int(said["SentTimestamp"]) / 1000 - time.time()) < 60
    assert int(said["ApproximateFirstReceiveTimestamp"]) >= int(said["SentTimestamp"])
    assert receive(sqs, url) == [] and counts(sqs, url) == (0, 1, 0)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=got[0]["ReceiptHandle"])
    assert counts(sqs, url) == (0, 0, 0)
    # Deleting twice is no error.
    sqs.delete_message(QueueUrl=url, ReceiptHandle=got[0]["ReceiptHandle"])


def test_the_life_of_a_queue(server, sqs, queue):
    url = queue(VisibilityTimeout=5)
    name = url.rsplit("/", 1)[1]
    assert url == f"{server.url}/{server.account}/{name}"
    assert sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "5"})["QueueUrl"] == url
    assert sqs.create_queue(QueueName=name)["QueueUrl"] == url
    message = refused(sqs.create_queue, "QueueAlreadyExists", QueueName=name, Attributes={"VisibilityTimeout": "6"})
    assert message == "A queue already exists with the same name and a different value for attribute VisibilityTimeout"
    assert sqs.get_queue_url(QueueName=name)["QueueUrl"] == url
    got = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert got["QueueArn"] == f"arn:aws:sqs:{REGION}:{server.account}:{name}" and got["VisibilityTimeout"] == "5"
    assert got["MessageRetentionPeriod"] == "345600" and got["MaximumMessageSize"] == "1048576"
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "7", "VisibilityTimeout": "0"})
    some = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["DelaySeconds", "VisibilityTimeout"])["Attributes"]
    assert some == {"DelaySeconds": "7", "VisibilityTimeout": "0"}
    sqs.delete_queue(QueueUrl=url)
    assert refused(sqs.get_queue_url, GONE, QueueName=name) == "The specified queue does not exist."
    refused(sqs.send_message, GONE, QueueUrl=url, MessageBody="x")
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.delete_queue(QueueUrl=url)


def test_queues_are_listed_in_pages(sqs, queue):
    prefix = f"page-{uuid.uuid4().hex[:6]}-"
    urls = sorted(sqs.create_queue(QueueName=f"{prefix}{n}")["QueueUrl"] for n in range(5))
    assert sqs.list_queues(QueueNamePrefix=prefix)["QueueUrls"] == urls
    pages = sqs.get_paginator("list_queues").paginate(QueueNamePrefix=prefix, PaginationConfig={"PageSize": 2})
    assert [page["QueueUrls"] for page in pages] == [urls[:2], urls[2:4], urls[4:]]
    assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix=prefix + "none")
    for url in urls:
        sqs.delete_queue(QueueUrl=url)


def test_bad_requests_are_refused_in_the_services_words(sqs, queue):
    url, fifo = queue(), queue(fifo=True)
    create = sqs.create_queue
    refused(create, "InvalidParameterValue", QueueName="a b")
    refused(create, "InvalidParameterValue", QueueName="x" * 81)
    refused(create, "InvalidParameterValue", QueueName="x.fifo")
    refused(create, "InvalidParameterValue", QueueName="x", Attributes=FIFO)
    for attributes, code in [
        ({"VisibilityTimeout": "43201"}, "InvalidAttributeValue"), ({"Nonsense": "1"}, "InvalidAttributeName"),
        ({"ContentBasedDeduplication": "true"}, "InvalidAttributeName"), ({"KmsMasterKeyId": "x"}, "InvalidAttributeValue"),
        ({"Policy": "{}"}, "InvalidAttributeValue"), ({"RedrivePolicy": "{}"}, "InvalidAttributeValue"),
    ]:  # fmt: skip
        refused(create, code, QueueName="never-made", Attributes=attributes)
    refused(sqs.get_queue_attributes, "InvalidAttributeName", QueueUrl=url, AttributeNames=["Nonsense"])
    send = sqs.send_message
    refused(send, "MissingParameter", QueueUrl=url, MessageBody="")
    refused(send, "InvalidMessageContents", QueueUrl=url, MessageBody="\x00")
    refused(send, "InvalidParameterValue", QueueUrl=url, MessageBody="x", DelaySeconds=901)
    refused(send, "InvalidParameterValue", QueueUrl=url, MessageBody="x" * (1048576 + 1))
    refused(send, "InvalidParameterValue", QueueUrl=url, MessageBody="x", MessageDeduplicationId="x")
    assert refused(send, "MissingParameter", QueueUrl=fifo, MessageBody="x").endswith("the parameter MessageGroupId.")
    refused(send, "InvalidParameterValue", QueueUrl=fifo, MessageBody="x", MessageGroupId="g")
    refused(send, "InvalidParameterValue", QueueUrl=fifo, MessageBody="x", MessageGroupId="g", DelaySeconds=1)
    for wrong in ({"MaxNumberOfMessages": 11}, {"MaxNumberOfMessages": 0}, {"WaitTimeSeconds": 21}, {"VisibilityTimeout": -1}):
        refused(sqs.receive_message, "InvalidParameterValue", QueueUrl=url, **wrong)
    refused(sqs.delete_message, "ReceiptHandleIsInvalid", QueueUrl=url, ReceiptHandle="x")
    refused(send, "InvalidAddress", QueueUrl="nonsense", MessageBody="x")
    # A handle of one queue is none of another, and a handle that was touched is none at all.
    send(QueueUrl=url, MessageBody="x")
    handle = receive(sqs, url)[0]["ReceiptHandle"]
    refused(sqs.delete_message, "ReceiptHandleIsInvalid", QueueUrl=fifo, ReceiptHandle=handle)
    touched = handle[:40] + ("A" if handle[40] != "A" else "B") + handle[41:]
    refused(sqs.delete_message, "ReceiptHandleIsInvalid", QueueUrl=url, ReceiptHandle=touched)


def test_attributes_travel_with_their_digest(sqs, queue):
    url = queue()
    attributes = {
        "text": {"DataType": "String", "StringValue": "ä"}, "number": {"DataType": "Number.int", "StringValue": "42"},
        "bytes": {"DataType": "Binary.gif", "BinaryValue": b"\x00\xff"},
    }  # fmt: skip
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}}
    sent = sqs.send_message(QueueUrl=url, MessageBody="x", MessageAttributes=attributes, MessageSystemAttributes=trace)
    assert sent["MD5OfMessageAttributes"] == digest(attributes)
    assert sent["MD5OfMessageSystemAttributes"] == digest(trace)
    [got] = receive(sqs, url, VisibilityTimeout=0)
    assert got["MessageAttributes"] == attributes and got["MD5OfMessageAttributes"] == digest(attributes)
    assert got["Attributes"]["AWSTraceHeader"] == trace["AWSTraceHeader"]["StringValue"]
    [got] = receive(sqs, url, VisibilityTimeout=0, MessageAttributeNames=["num.*"], MessageSystemAttributeNames=["SentTimestamp"])
    assert got["MessageAttributes"] == {"number": attributes["number"]} and list(got["Attributes"]) == ["SentTimestamp"]
    assert got["MD5OfMessageAttributes"] == digest({"number": attributes["number"]})
    [got] = receive(sqs, url, MessageAttributeNames=[], MessageSystemAttributeNames=[])
    assert "MessageAttributes" not in got and "Attributes" not in got
    bad = {"x": {"DataType": "Number", "StringValue": "many"}}
    refused(sqs.send_message, "InvalidParameterValue", QueueUrl=url, MessageBody="x", MessageAttributes=bad)


def digest(attributes):
    """The digest as the documentation describes it."""
    out = hashlib.md5()

    def part(data):
        out.update(len(data).to_bytes(4, "big") + data)

    for name, value in sorted(attributes.items()):
        part(name.encode())
        part(value["DataType"].encode())
        binary = "BinaryValue" in value
        out.update(b"\x02" if binary else b"\x01")
        part(value["BinaryValue"] if binary else value["StringValue"].encode())
    return out.hexdigest()


def test_visibility(sqs, queue):
    url = queue(VisibilityTimeout=1)
    sqs.send_message(QueueUrl=url, MessageBody="x")
    first = receive(sqs, url)[0]["ReceiptHandle"]
    # A receiver that waits gets it when the first one's time is over.
    [second] = receive(sqs, url, WaitTimeSeconds=10, VisibilityTimeout=30)
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"
    refused(sqs.change_message_visibility, "AWS.SimpleQueueService.MessageNotInflight", QueueUrl=url, ReceiptHandle=first,
            VisibilityTimeout=5)  # fmt: skip
    # The old handle deletes nothing that another has in hand.
    sqs.delete_message(QueueUrl=url, ReceiptHandle=first)
    assert counts(sqs, url) == (0, 1, 0)
    handle = second["ReceiptHandle"]
    refused(sqs.change_message_visibility, "InvalidParameterValue", QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=43201)
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    [third] = receive(sqs, url)
    assert third["Attributes"]["ApproximateReceiveCount"] == "3"
    assert third["Attributes"]["ApproximateFirstReceiveTimestamp"] == second["Attributes"]["ApproximateFirstReceiveTimestamp"]


def test_delays_and_long_polls(sqs, queue):
    url = queue(ReceiveMessageWaitTimeSeconds=10)
    sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=1)
    assert counts(sqs, url) == (0, 0, 1)
    began = time.monotonic()
    assert bodies(receive(sqs, url)) == ["later"] and 0.5 < time.monotonic() - began < 8
    got = []
    waiter = threading.Thread(target=lambda: got.extend(bodies(receive(sqs, url))))
    waiter.start()
    time.sleep(0.3)
    sent = time.monotonic()
    sqs.send_message(QueueUrl=url, MessageBody="now")
    waiter.join(10)
    assert got == ["now"] and time.monotonic() - sent < 3
    began = time.monotonic()
    assert receive(sqs, url, WaitTimeSeconds=1) == [] and time.monotonic() - began >= 0.9


def test_batches_fail_in_part(sqs, queue):
    url = queue()
    entries = [{"Id": f"m{n}", "MessageBody": f"b{n}"} for n in range(3)] + [{"Id": "bad", "MessageBody": "\x01"}]
    sent = sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert [(e["Id"], e["MD5OfMessageBody"]) for e in sent["Successful"]] == [(f"m{n}", md5(f"b{n}")) for n in range(3)]
    assert [(e["Id"], e["Code"], e["SenderFault"]) for e in sent["Failed"]] == [("bad", "InvalidMessageContents", True)]
    batch, prefix = sqs.send_message_batch, "AWS.SimpleQueueService."
    same = [{"Id": "a", "MessageBody": "x"}] * 2
    refused(batch, prefix + "BatchEntryIdsNotDistinct", QueueUrl=url, Entries=same)
    refused(batch, prefix + "EmptyBatchRequest", QueueUrl=url, Entries=[])
    many = [{"Id": str(n), "MessageBody": "x"} for n in range(11)]
    refused(batch, prefix + "TooManyEntriesInBatchRequest", QueueUrl=url, Entries=many)
    refused(batch, prefix + "InvalidBatchEntryId", QueueUrl=url, Entries=[{"Id": "a b", "MessageBody": "x"}])
    large = [{"Id": str(n), "MessageBody": "x" * 600_000} for n in range(2)]
    refused(batch, prefix + "BatchRequestTooLong", QueueUrl=url, Entries=large)
    handles = [m["ReceiptHandle"] for m in receive(sqs, url)]
    assert len(handles) == 3
    change = [{"Id": "a", "ReceiptHandle": handles[0], "VisibilityTimeout": 0}, {"Id": "b", "ReceiptHandle": "x"}]
    changed = sqs.change_message_visibility_batch(QueueUrl=url, Entries=change)
    assert [e["Id"] for e in changed["Successful"]] == ["a"]
    assert [(e["Id"], e["Code"]) for e in changed["Failed"]] == [("b", "ReceiptHandleIsInvalid")]
    assert counts(sqs, url) == (1, 2, 0)
    delete = [{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate([*handles, "x"])]
    deleted = sqs.delete_message_batch(QueueUrl=url, Entries=delete)
    assert len(deleted["Successful"]) == 3 and [e["Id"] for e in deleted["Failed"]] == ["3"]
    assert counts(sqs, url) == (0, 0, 0)


def test_groups_are_in_order(sqs, queue):
    url = queue(fifo=True, ContentBasedDeduplication="true")
    send = lambda group, body: sqs.send_message(QueueUrl=url, MessageGroupId=group, MessageBody=body)  # noqa: E731
    numbers = [int(send(group, body)["SequenceNumber"]) for group, body in [("g", "1"), ("g", "2"), ("h", "3"), ("g", "4")]]
    assert numbers == sorted(set(numbers))
    first = receive(sqs, url, most=1)
    assert bodies(first) == ["1"] and first[0]["Attributes"]["MessageGroupId"] == "g"
    assert first[0]["Attributes"]["SequenceNumber"] == str(numbers[0])
    other = receive(sqs, url)
    assert bodies(other) == ["3"], "the first group is closed"
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first[0]["ReceiptHandle"], VisibilityTimeout=0)
    # A handle that is over is refused here.
    refused(sqs.delete_message, "InvalidParameterValue", QueueUrl=url, ReceiptHandle=first[0]["ReceiptHandle"])
    again = receive(sqs, url)
    assert bodies(again) == ["1", "2", "4"]
    entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(again)]
    for _ in range(2):
        assert len(sqs.delete_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == 3


def test_duplicates_are_told_and_not_sent(sqs, queue):
    url = queue(fifo=True)
    send = {"QueueUrl": url, "MessageGroupId": "g", "MessageBody": "x"}
    one = sqs.send_message(**send, MessageDeduplicationId="a")
    two = sqs.send_message(**(send | {"MessageBody": "y"}), MessageDeduplicationId="a")
    assert (one["MessageId"], one["SequenceNumber"]) == (two["MessageId"], two["SequenceNumber"])
    [got] = receive(sqs, url)
    assert got["Body"] == "x" and got["Attributes"]["MessageDeduplicationId"] == "a"
    sqs.delete_message(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"])
    sqs.send_message(**send, MessageDeduplicationId="a")
    assert receive(sqs, url) == [], "that the first is gone does not matter"
    entries = [{"Id": str(n), "MessageGroupId": "g", "MessageBody": "x", "MessageDeduplicationId": f"b{n // 2}"} for n in range(4)]
    sent = sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]
    assert len({e["MessageId"] for e in sent}) == 2 and len(receive(sqs, url)) == 2
    by_group = queue(fifo=True, ContentBasedDeduplication="true", DeduplicationScope="messageGroup",
                     FifoThroughputLimit="perMessageGroupId")  # fmt: skip
    for group in ("g", "h", "g"):
        sqs.send_message(QueueUrl=by_group, MessageGroupId=group, MessageBody="x")
    assert len(receive(sqs, by_group)) == 2


@pytest.mark.parametrize("fifo", [False, True])
def test_dead_letters_and_back(sqs, queue, fifo):
    dead = queue(fifo=fifo)
    policy = json.dumps({"deadLetterTargetArn": arn_of(sqs, dead), "maxReceiveCount": 2})
    url = queue(fifo=fifo, RedrivePolicy=policy)
    more = {"MessageGroupId": "g", "MessageDeduplicationId": "1"} if fifo else {}
    sqs.send_message(QueueUrl=url, MessageBody="x", **more)
    for attempt in ("1", "2"):
        [got] = receive(sqs, url, VisibilityTimeout=0)
        assert got["Attributes"]["ApproximateReceiveCount"] == attempt
    assert receive(sqs, url) == [] and counts(sqs, dead) == (1, 0, 0)
    [got] = receive(sqs, dead, VisibilityTimeout=0)
    assert got["Attributes"]["DeadLetterQueueSourceArn"] == arn_of(sqs, url)
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [url]
    task = sqs.start_message_move_task(SourceArn=arn_of(sqs, dead))["TaskHandle"]
    done = lambda: tasks(sqs, dead)[0]["Status"] == "COMPLETED"  # noqa: E731
    poll.until(done, "the task's end")
    [shown] = tasks(sqs, dead)
    assert (shown["ApproximateNumberOfMessagesMoved"], shown["ApproximateNumberOfMessagesToMove"]) == (1, 1)
    assert "TaskHandle" not in shown
    refused(sqs.cancel_message_move_task, "InvalidParameterValue", TaskHandle=task)
    assert bodies(receive(sqs, url)) == ["x"]


def tasks(sqs, url):
    return sqs.list_message_move_tasks(SourceArn=arn_of(sqs, url), MaxResults=10)["Results"]


def test_moves_are_slow_where_asked_and_cancelled(sqs, queue):
    dead, to = queue(), queue()
    queue(RedrivePolicy=json.dumps({"deadLetterTargetArn": arn_of(sqs, dead), "maxReceiveCount": 1}))
    for _ in range(2):
        sqs.send_message_batch(QueueUrl=dead, Entries=[{"Id": str(n), "MessageBody": "x"} for n in range(10)])
    start = {"SourceArn": arn_of(sqs, dead), "DestinationArn": arn_of(sqs, to), "MaxNumberOfMessagesPerSecond": 5}
    refused(sqs.start_message_move_task, "InvalidParameterValue", **(start | {"SourceArn": start["DestinationArn"]}))
    handle = sqs.start_message_move_task(**start)["TaskHandle"]
    refused(sqs.start_message_move_task, "InvalidParameterValue", **start)
    poll.until(lambda: tasks(sqs, dead)[0]["ApproximateNumberOfMessagesMoved"] > 0, "a move")
    sqs.cancel_message_move_task(TaskHandle=handle)
    poll.until(lambda: tasks(sqs, dead)[0]["Status"] == "CANCELLED", "the task's end")
    moved = tasks(sqs, dead)[0]["ApproximateNumberOfMessagesMoved"]
    assert 0 < moved < 20 and counts(sqs, to)[0] == moved and counts(sqs, dead)[0] == 20 - moved
    refused(sqs.cancel_message_move_task, "ResourceNotFoundException", TaskHandle=handle_of("none", start["SourceArn"]))


def handle_of(task, source):
    return base64.b64encode(json.dumps({"taskId": task, "sourceArn": source}).encode()).decode()


def test_redrive_policies_are_held_to_what_there_is(sqs, queue):
    url, fifo = queue(), queue(fifo=True)
    policy = lambda arn: {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 3})}  # noqa: E731
    put = lambda arn: refused(sqs.set_queue_attributes, "InvalidParameterValue", QueueUrl=url, Attributes=policy(arn))  # noqa: E731
    assert "does not exist" in put(arn_of(sqs, url) + "-none")
    assert "same type" in put(arn_of(sqs, fifo))
    closed = queue(RedriveAllowPolicy=json.dumps({"redrivePermission": "denyAll"}))
    assert "allow policy" in put(arn_of(sqs, closed))
    some = json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [arn_of(sqs, url)]})
    sqs.set_queue_attributes(QueueUrl=closed, Attributes={"RedriveAllowPolicy": some})
    sqs.set_queue_attributes(QueueUrl=url, Attributes=policy(arn_of(sqs, closed)))
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": ""})
    assert "RedrivePolicy" not in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]


def test_purging(sqs, queue):
    url = queue()
    for _ in range(3):
        sqs.send_message(QueueUrl=url, MessageBody="x" * 10_000)
    held = receive(sqs, url, most=1)
    sqs.purge_queue(QueueUrl=url)
    assert counts(sqs, url) == (0, 0, 0) and receive(sqs, url) == []
    sqs.delete_message(QueueUrl=url, ReceiptHandle=held[0]["ReceiptHandle"])
    refused(sqs.purge_queue, "AWS.SimpleQueueService.PurgeQueueInProgress", QueueUrl=url)
    sqs.send_message(QueueUrl=url, MessageBody="after")
    assert bodies(receive(sqs, url)) == ["after"]


def test_tags_and_permissions(server, sqs, queue):
    url = queue()
    assert "Tags" not in sqs.list_queue_tags(QueueUrl=url)
    sqs.tag_queue(QueueUrl=url, Tags={"a": "1", "b": "2"})
    sqs.untag_queue(QueueUrl=url, TagKeys=["a"])
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"b": "2"}
    made = sqs.create_queue(QueueName=url.rsplit("/", 1)[1] + "-t", tags={"x": "y"})["QueueUrl"]
    assert sqs.list_queue_tags(QueueUrl=made)["Tags"] == {"x": "y"}
    sqs.delete_queue(QueueUrl=made)
    add = {"QueueUrl": url, "Label": "one", "AWSAccountIds": [OTHER], "Actions": ["SendMessage", "ReceiveMessage"]}
    sqs.add_permission(**add)
    policy = json.loads(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"])
    assert policy["Statement"] == [{
        "Sid": "one", "Effect": "Allow", "Principal": {"AWS": [f"arn:aws:iam::{OTHER}:root"]},
        "Action": ["SQS:SendMessage", "SQS:ReceiveMessage"], "Resource": arn_of(sqs, url),
    }]  # fmt: skip
    refused(sqs.add_permission, "InvalidParameterValue", **add)
    refused(sqs.add_permission, "InvalidParameterValue", **(add | {"Label": "two", "Actions": ["CreateQueue"]}))
    refused(sqs.remove_permission, "InvalidParameterValue", QueueUrl=url, Label="two")
    sqs.remove_permission(QueueUrl=url, Label="one")
    assert "Attributes" not in sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])


def every_operation(url, arn):
    """Each operation, with arguments that only permissions stand in the way of."""
    entry, handle = {"Id": "a"}, {"ReceiptHandle": "x"}
    of = {"QueueUrl": url}
    return [
        ("add_permission", of | {"Label": "l", "AWSAccountIds": [OTHER], "Actions": ["SendMessage"]}),
        ("cancel_message_move_task", {"TaskHandle": handle_of("none", arn)}),
        ("change_message_visibility", of | handle | {"VisibilityTimeout": 1}),
        ("change_message_visibility_batch", of | {"Entries": [entry | handle]}),
        ("delete_message", of | handle),
        ("delete_message_batch", of | {"Entries": [entry | handle]}),
        ("delete_queue", of),
        ("get_queue_attributes", of | {"AttributeNames": ["All"]}),
        ("get_queue_url", {"QueueName": url.rsplit("/", 1)[1], "QueueOwnerAWSAccountId": url.split("/")[-2]}),
        ("list_dead_letter_source_queues", of),
        ("list_message_move_tasks", {"SourceArn": arn}),
        ("list_queue_tags", of),
        ("purge_queue", of),
        ("receive_message", of),
        ("remove_permission", of | {"Label": "l"}),
        ("send_message", of | {"MessageBody": "x"}),
        ("send_message_batch", of | {"Entries": [entry | {"MessageBody": "x"}]}),
        ("set_queue_attributes", of | {"Attributes": {"DelaySeconds": "1"}}),
        ("start_message_move_task", {"SourceArn": arn}),
        ("tag_queue", of | {"Tags": {"a": "b"}}),
        ("untag_queue", of | {"TagKeys": ["a"]}),
    ]


def test_who_may_not_may_nothing(server, sqs, queue):
    """Another account's queues are closed, and so is everything to a role that may nothing of it."""
    url = queue()
    arn, name = arn_of(sqs, url), url.rsplit("/", 1)[1]
    foreign = every_operation(f"{server.url}/{OTHER}/{name}", arn.replace(server.account, OTHER))
    assert {call for call, _ in foreign} | {"create_queue", "list_queues"} == {
        name for name in dir(sqs) if sqs.meta.method_to_api_mapping.get(name)}  # fmt: skip
    for call, arguments in foreign:
        refused(getattr(sqs, call), "AccessDenied", **arguments)
    iam = api(server, "iam")
    role = iam.create_role(RoleName=f"r-{uuid.uuid4().hex[:8]}", AssumeRolePolicyDocument=own(server))["Role"]
    try:
        nobody = api(server, "sqs", assumed(server, role))
        for call, arguments in [
            *every_operation(url, arn), ("create_queue", {"QueueName": "never"}), ("list_queues", {}),
            # What there is not is refused in the same words: nobody is told.
            ("send_message", {"QueueUrl": url + "-none", "MessageBody": "x"}),
        ]:  # fmt: skip
            message = refused(getattr(nobody, call), "AccessDenied", **arguments)
            assert "is not authorized to perform: sqs:" in message, message
        statement = {"Effect": "Allow", "Principal": {"AWS": role["Arn"]}, "Action": "sqs:SendMessage", "Resource": arn}
        policy = json.dumps({"Version": "2012-10-17", "Statement": statement})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        nobody.send_message(QueueUrl=url, MessageBody="let in by the queue")
        refused(nobody.receive_message, "AccessDenied", QueueUrl=url)
        iam.put_role_policy(RoleName=role["RoleName"], PolicyName="p", PolicyDocument=allow("sqs:ReceiveMessage", resource=arn))
        assert bodies(receive(nobody, url)) == ["let in by the queue"]
        deny = json.dumps({"Version": "2012-10-17", "Statement": statement | {"Effect": "Deny"}})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": deny})
        assert "explicit deny" in refused(nobody.send_message, "AccessDenied", QueueUrl=url, MessageBody="x")
    finally:
        for each in iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]:
            iam.delete_role_policy(RoleName=role["RoleName"], PolicyName=each)
        iam.delete_role(RoleName=role["RoleName"])


def test_what_was_acknowledged_outlives_a_crash(new_server):
    server = new_server().start()
    sqs = clients.client(server, "sqs")
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    redrive = json.dumps({"deadLetterTargetArn": arn_of(sqs, dead), "maxReceiveCount": 3})
    sealed = {"SqsManagedSseEnabled": "true", "RedrivePolicy": redrive}
    url = sqs.create_queue(QueueName="q", Attributes=sealed, tags={"a": "b"})["QueueUrl"]
    fifo = sqs.create_queue(QueueName="q.fifo", Attributes=FIFO)["QueueUrl"]
    large, secret = "y" * 300_000, "a-secret-that-nobody-reads"
    sqs.send_message(QueueUrl=url, MessageBody=secret)
    sqs.send_message(QueueUrl=dead, MessageBody=large)
    grouped = {"QueueUrl": fifo, "MessageGroupId": "g", "MessageBody": "x"}
    first = sqs.send_message(**grouped, MessageDeduplicationId="a")
    sqs.send_message(**grouped, MessageDeduplicationId="b")
    for _ in range(2):
        receive(sqs, url, VisibilityTimeout=0)
    held = receive(sqs, fifo, most=1)[0]["ReceiptHandle"]
    server.kill()
    kept = b"".join(path.read_bytes() for path in server.data.glob("virga.db*"))
    assert secret.encode() not in kept
    server.start()
    sqs = clients.client(server, "sqs")
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"a": "b"}
    assert bodies(receive(sqs, dead)) == [large]
    [got] = receive(sqs, url, VisibilityTimeout=0)
    assert got["Body"] == secret and got["Attributes"]["ApproximateReceiveCount"] == "3"
    assert receive(sqs, url) == [] and bodies(receive(sqs, dead)) == [secret]
    # A lease is not written down: the message is there again, and the old handle is over.
    assert sqs.send_message(**grouped, MessageDeduplicationId="a")["MessageId"] == first["MessageId"]
    refused(sqs.delete_message, "InvalidParameterValue", QueueUrl=fifo, ReceiptHandle=held)
    numbers = [m["Attributes"]["SequenceNumber"] for m in receive(sqs, fifo)]
    assert len(numbers) == 2 and numbers == sorted(numbers)
    # A receiver that waits does not hold up the end.
    waiter = threading.Thread(target=receive, args=(sqs, url), kwargs={"WaitTimeSeconds": 20})
    waiter.start()
    time.sleep(0.5)
    began = time.monotonic()
    server.stop()
    waiter.join(10)
    assert time.monotonic() - began < 10


def query(server, path="/", status=200, **form):
    """A request as clients made them before SQS spoke JSON; the answer's XML without namespaces."""
    body = urllib.parse.urlencode({"Version": "2012-11-05", **form})
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    answer = clients.signed(server, "POST", path, body.encode(), service="sqs", headers=headers)
    assert answer.status_code == status and answer.headers["content-type"] == "text/xml", answer.text
    return ElementTree.fromstring(answer.text.replace(' xmlns="http://queue.amazonaws.com/doc/2012-11-05/"', ""))


def test_the_query_protocol(server, sqs):
    name = f"form-{uuid.uuid4().hex[:8]}"
    made = query(server, Action="CreateQueue", QueueName=name, **{
        "Attribute.1.Name": "VisibilityTimeout", "Attribute.1.Value": "9", "Tag.1.Key": "a", "Tag.1.Value": "<b>"})  # fmt: skip
    assert made.tag == "CreateQueueResponse" and made.findtext("ResponseMetadata/RequestId")
    url = made.findtext("CreateQueueResult/QueueUrl")
    path = urllib.parse.urlsplit(url).path
    first = "MessageAttribute.1."
    value = {first + "Name": "n", first + "Value.DataType": "Number", first + "Value.StringValue": "1"}
    # By its path, as these clients do.
    sent = query(server, path, Action="SendMessage", MessageBody="a & b", **value)
    assert sent.findtext("SendMessageResult/MD5OfMessageBody") == md5("a & b")
    got = query(server, Action="ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=10,
                **{"AttributeName.1": "All", "MessageAttributeName.1": "All"}).find("ReceiveMessageResult/Message")  # fmt: skip
    assert got.findtext("Body") == "a & b" and got.findtext("MessageAttribute/Name") == "n"
    assert got.findtext("MessageAttribute/Value/StringValue") == "1"
    said = {each.findtext("Name"): each.findtext("Value") for each in got.findall("Attribute")}
    assert said["ApproximateReceiveCount"] == "1"
    batch = query(server, path, Action="SendMessageBatch", **{
        "SendMessageBatchRequestEntry.1.Id": "a", "SendMessageBatchRequestEntry.1.MessageBody": "x",
        "SendMessageBatchRequestEntry.2.Id": "b", "SendMessageBatchRequestEntry.2.MessageBody": "x",
        "SendMessageBatchRequestEntry.2.DelaySeconds": "901"})  # fmt: skip
    assert batch.findtext("SendMessageBatchResult/SendMessageBatchResultEntry/Id") == "a"
    assert batch.findtext("SendMessageBatchResult/BatchResultErrorEntry/Code") == "InvalidParameterValue"
    query(server, path, Action="DeleteMessage", ReceiptHandle=got.findtext("ReceiptHandle"))
    listed = query(server, Action="ListQueues", QueueNamePrefix=name)
    assert listed.findtext("ListQueuesResult/QueueUrl") == url
    shown = query(server, path, Action="GetQueueAttributes", **{"AttributeName.1": "VisibilityTimeout"})
    assert shown.findtext("GetQueueAttributesResult/Attribute/Value") == "9"
    assert query(server, path, Action="ListQueueTags").findtext("ListQueueTagsResult/Tag/Value") == "<b>"
    answer = clients.signed(server, "GET", f"{path}?Action=ListQueueTags&Version=2012-11-05", service="sqs")
    assert "<Key>a</Key>" in answer.text, answer.text
    query(server, path, Action="DeleteQueue")
    gone = query(server, path, 400, Action="SendMessage", MessageBody="x")
    assert (gone.findtext("Error/Code"), gone.findtext("Error/Type")) == (GONE, "Sender")
    assert query(server, Action="Nonsense", status=400).findtext("Error/Code") == "InvalidAction"
    assert query(server, Action="ReceiveMessage", status=400, QueueUrl=url, MaxNumberOfMessages="x").findtext(
        "Error/Code") == "MalformedInput"  # fmt: skip


def test_the_aws_cli(server, tmp_path):
    environment = clean_environment(
        AWS_ACCESS_KEY_ID=server.key, AWS_SECRET_ACCESS_KEY=server.secret, AWS_DEFAULT_REGION=REGION, AWS_PAGER="",
        AWS_CONFIG_FILE=str(tmp_path / "none"), AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "none"),
    )  # fmt: skip

    def aws(*arguments):
        command = [sys.executable, "-m", "awscli", "sqs", *arguments, "--endpoint-url", server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    url = aws("create-queue", "--queue-name", f"cli-{uuid.uuid4().hex[:8]}")["QueueUrl"]
    aws("send-message", "--queue-url", url, "--message-body", "from the command line")
    [got] = aws("receive-message", "--queue-url", url)["Messages"]
    assert got["Body"] == "from the command line"
    aws("delete-queue", "--queue-url", url)


def test_the_javascript_sdk(server, tmp_path):
    """It checks the digests of what it sends and receives by itself."""
    script = kinds.node_modules().parent / "sqs.mjs"
    shutil.copy(kinds.HERE / "node" / "sqs.mjs", script)
    environment = server.client_environment(AWS_CONFIG_FILE=str(tmp_path / "none"))
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "all of it held"
