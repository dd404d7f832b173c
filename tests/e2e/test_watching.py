"""Logs through the CloudWatch Logs API, metrics for Prometheus, health."""

import pytest
import requests
from botocore.exceptions import ClientError

from support import clients, kinds
from support.clients import code_of


@pytest.fixture
def echo(functions):
    return functions.deploy(kinds.python_function("echo.py"), kinds.python(), Timeout=1)


@pytest.fixture
def logs(server):
    return clients.client(server, "logs")


def test_every_line_of_a_call_is_stored(functions, logs, echo):
    group = f"/aws/lambda/{echo}"
    with pytest.raises(ClientError) as missing:
        logs.filter_log_events(logGroupName=group)
    assert code_of(missing.value) == "ResourceNotFoundException"
    result = functions.invoke(echo, {"do": "print", "text": "stored here"})
    stream = result.ok()["instance"]
    events = logs.filter_log_events(logGroupName=group)["events"]
    messages = [event["message"].rstrip("\n") for event in events]
    assert f"START RequestId: {result.request_id} Version: $LATEST" in messages
    assert messages.count("stored here") == 2
    assert f"END RequestId: {result.request_id}" in messages
    assert any(m.startswith(f"REPORT RequestId: {result.request_id}") for m in messages)
    order = [messages.index(next(m for m in messages if m.startswith(w))) for w in ("START", "stored", "END", "REPORT")]
    assert order == sorted(order)
    assert {event["logStreamName"] for event in events} == {stream}
    ids = [event["eventId"] for event in events]
    assert len(set(ids)) == len(ids)
    times = [event["timestamp"] for event in events]
    assert times == sorted(times) and times[0] > 1_700_000_000_000


def test_logs_are_paged_and_filtered_by_time(functions, logs, echo):
    for number in range(3):
        functions.invoke(echo, {"do": "print", "text": f"number {number}"}).ok()
    group = f"/aws/lambda/{echo}"
    everything = logs.filter_log_events(logGroupName=group)["events"]
    paged, token = [], {}
    while True:
        page = logs.filter_log_events(logGroupName=group, limit=2, **token)
        assert len(page["events"]) <= 2
        paged += page["events"]
        if not page.get("nextToken"):
            break
        token = {"nextToken": page["nextToken"]}
    assert [e["eventId"] for e in paged] == [e["eventId"] for e in everything]
    later = everything[-1]["timestamp"]
    some = logs.filter_log_events(logGroupName=group, startTime=later)["events"]
    assert some and all(event["timestamp"] >= later for event in some)
    assert logs.filter_log_events(logGroupName=group, startTime=later + 60_000)["events"] == []


def test_a_line_is_there_before_the_answer(functions, logs, echo):
    for number in range(10):
        result = functions.invoke(echo, {"do": "print", "text": f"line {number}"})
        events = logs.filter_log_events(logGroupName=f"/aws/lambda/{echo}")["events"]
        messages = [event["message"].rstrip("\n") for event in events]
        assert f"line {number}" in messages
        assert any(m.startswith(f"REPORT RequestId: {result.request_id}") for m in messages)


def test_groups_and_streams(functions, logs, echo):
    functions.invoke(echo)
    group = f"/aws/lambda/{echo}"
    groups = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert [each["logGroupName"] for each in groups] == [group]
    streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
    assert len(streams) == 1 and "[$LATEST]" in streams[0]["logStreamName"]


def counter(families, *words):
    """The one counter or gauge whose name holds all these words."""
    found = [f for f in families if all(word in f.name for word in words)]
    assert found, f"no metric with {words} among {[f.name for f in families]}"
    return found[0]


def test_metrics_count_what_happened(server, functions, echo):
    for event in ({}, {}, {"do": "raise", "text": "x"}, {"do": "sleep", "seconds": 30}, {}):
        functions.invoke(echo, event)
    families = {f.name: f for f in server.metric_families()}

    def value(*words):
        family = counter(families.values(), *words)
        wanted = [s for s in family.samples if echo in s.labels.values() and not s.name.endswith(("_created", "_sum", "_bucket"))]
        return sum(s.value for s in wanted)

    assert value("faas_invocations") == 5
    assert value("faas_errors") == 1
    assert value("faas_timeouts") == 1
    assert value("faas_coldstarts") == 2, "one at first, one after the time-out"
    assert value("faas_invoke_duration") == 5
    assert value("faas_init_duration") == 2


def test_metrics_are_well_formed(server, functions, echo):
    functions.invoke(echo).ok()
    families = server.metric_families()
    names = [family.name for family in families]
    assert len(set(names)) == len(names)
    assert all(family.documentation and family.type != "unknown" for family in families), names
    answer = requests.get(f"{server.admin}/metrics", timeout=10)
    assert answer.headers["Content-Type"].startswith(("text/plain", "application/openmetrics-text"))


def test_health(server, new_server):
    for path in ("/healthz", "/readyz"):
        assert requests.get(server.admin + path, timeout=10).status_code == 200
    assert requests.get(server.admin + "/other", timeout=10).status_code == 404
    for path in ("/metrics", "/healthz", "/readyz"):
        assert requests.get(server.url + path, timeout=10).status_code >= 400, "admin paths are on the admin address only"


def test_the_servers_log_has_no_secrets(server, functions, echo):
    functions.api.update_function_configuration(FunctionName=echo, Environment={"Variables": {"TOKEN": "canary-7f3a"}})
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=echo, WaiterConfig=clients.FAST)
    functions.invoke(echo)
    for word in ("canary-7f3a", server.secret):
        assert word not in server.log.read_text() and word not in server.metrics()
        for name in ("virga.db", "virga.db-wal"):
            assert word.encode() not in (server.data / name).read_bytes(), "secrets are sealed in the database"
