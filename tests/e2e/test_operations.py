"""Every operation that the tables in docs/ say works, through each of three families of clients, and none forgotten."""

import functools
import json
import re
import uuid

import pytest

from scenarios import functions as of_functions
from scenarios import identity as of_identity
from scenarios import logs as of_logs
from scenarios import queues as of_queues
from support import kinds
from support.families import FAMILIES


def documented(page, heading=None, end="\n## "):
    """The operations whose row of a page's table says that they work, or partly."""
    text = (kinds.REPOSITORY / "docs" / page).read_text()
    if heading:
        text = text.partition(heading)[2].partition(end)[0]
    rows = re.findall(r"^\| ([A-Z][A-Za-z, ]+?) \| (?:works?|partly)\b", text, re.MULTILINE)
    return {name for row in rows for name in row.split(", ")}


class Recorded:
    """A family of clients that remembers which operations of a service were asked for."""

    def __init__(self, family):
        self.family, self.asked = family, {}

    def service(self, name):
        return functools.partial(self._call, name)

    def _call(self, service, operation, **given):
        if operation in self.family.LACKS:
            return {}
        self.asked.setdefault(service, set()).add(operation)
        return self.family(service, operation, **given)

    def has_all_of(self, service, operations):
        assert operations, "the table has no rows"
        missing = operations - self.family.LACKS - self.asked.get(service, set())
        assert not missing, f"documented, and not tried by {type(self.family).__name__}: {sorted(missing)}"


@pytest.fixture(params=FAMILIES)
def client(request, server):
    family = FAMILIES[request.param](server)
    yield Recorded(family)
    family.close()


@pytest.fixture
def name():
    return f"all-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def publisher(server, tmp_path):
    server.cli("signer", "key", tmp_path / "key", check=0)
    made = server.cli("signer", "put", "operations", "--public-key", tmp_path / "key.pub", "--json", check=0)
    return json.loads(made.stdout)["profileVersionArn"]


def test_lambda(client, name, publisher):
    of_functions.run(client.service("lambda"), name, publisher)
    client.has_all_of("lambda", documented("lambda-api.md", "## Lambda\n", "Virga's own, signed"))


def test_cloudwatch_logs(client, name, functions):
    of_logs.run(client.service("logs"), name, functions)
    client.has_all_of("logs", documented("logs.md"))


def test_iam_and_sts(client, name):
    of_identity.run(client.service("iam"), name, client.service("sts"))
    client.has_all_of("iam", documented("identity.md", "| IAM |", "| STS |"))
    client.has_all_of("sts", documented("identity.md", "| STS |", "\n\n"))


def test_sqs(client, name):
    of_queues.run(client.service("sqs"), name)
    client.has_all_of("sqs", documented("sqs.md"))
