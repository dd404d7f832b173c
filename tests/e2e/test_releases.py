"""Releases with the `virga` program: publishing, aliases, canaries that are watched, and going back."""

import json
import signal
import subprocess
import threading

import pytest
import requests

from support import clients, kinds, poll, zips
from support.server import binary

GOOD = "def handler(event, context):\n    return WORD\n"
BAD = "def handler(event, context):\n    raise ValueError('the new one fails')\n"


class Release:
    """A function of one file that is deployed again and again."""

    def __init__(self, server, folder, name):
        self.server, self.name, self.script = server, name, folder / f"{name}.py"

    def deploy(self, text, *flags, check=0):
        """Deploys this source; the answer is what the command prints as JSON, or the finished command."""
        self.script.write_text(text)
        done = self.server.cli("deploy", self.script, "--json", *flags)
        assert done.returncode == check, done.stdout + done.stderr
        return json.loads(done.stdout) if check == 0 else done

    def call(self, qualifier="live"):
        return self.server.cli("invoke", f"{self.name}:{qualifier}" if qualifier else self.name).stdout.strip()

    def alias(self):
        """The aliases by name."""
        return {each["Name"]: each for each in json.loads(self.server.cli("alias", "list", self.name, "--json", check=0).stdout)}

    def rollback(self, *flags):
        return json.loads(self.server.cli("rollback", self.name, "--json", *flags, check=0).stdout)


def word(text):
    return GOOD.replace("WORD", repr(text))


@pytest.fixture
def release(server, tmp_path, request):
    made = Release(server, tmp_path, "r-" + request.node.name.replace("_", "-")[5:45].strip("-"))
    yield made
    server.cli("delete", made.name)


class Traffic:
    """Calls of an alias's URL, one after the other, until the block ends."""

    def __init__(self, url):
        self.url, self.over, self.count = url, threading.Event(), 0

    def __enter__(self):
        self.thread = threading.Thread(target=self._call)
        self.thread.start()
        return self

    def _call(self):
        while not self.over.is_set():
            requests.get(self.url, timeout=30)
            self.count += 1

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def test_an_alias_follows_deployments_and_goes_back(release):
    first = release.deploy(word("one"), "--alias", "live")
    assert (first["Version"], first["Alias"]) == ("1", "live")
    assert f"/_fn/{release.name}:live/" in first["PathUrl"]
    assert requests.get(first["PathUrl"], timeout=30).json() == "one"
    for number, text in ((2, "two"), (3, "three")):
        assert release.deploy(word(text), "--alias", "live")["Version"] == str(number)
    assert release.deploy(word("three"), "--alias", "live")["Version"] == "3", "nothing changed, nothing is published"
    assert requests.get(first["PathUrl"], timeout=30).json() == "three"
    assert release.rollback() == {"FunctionName": release.name, "Alias": "live", "From": "3", "To": "2"}
    assert release.call() == '"two"'
    assert release.rollback()["To"] == "1" and release.call() == '"one"'
    done = release.server.cli("rollback", release.name)
    assert done.returncode == 2 and "no other version" in done.stderr
    assert release.rollback("--to", "3")["To"] == "3" and release.call() == '"three"'
    assert release.rollback()["To"] == "1"
    listed = json.loads(release.server.cli("versions", release.name, "--json", check=0).stdout)
    assert [each["Version"] for each in listed] == ["$LATEST", "3", "2", "1"]
    assert [each["Aliases"] for each in listed] == [[], [], [], ["live"]]


def test_a_release_that_was_rolled_back_is_not_gone_back_to(release):
    for text in ("one", "two"):
        release.deploy(word(text), "--alias", "live")
    release.rollback()
    release.deploy(word("three"), "--alias", "live")
    assert release.call() == '"three"'
    assert release.rollback()["To"] == "1"


def test_without_an_alias_the_code_goes_back(release):
    release.deploy(word("one"), "--publish", "--env", "AA=1", "--timeout", "7")
    release.deploy(word("two"), "--publish", "--env", "AA=2")
    assert release.call(None) == '"two"'
    assert release.rollback() == {"FunctionName": release.name, "From": "2", "To": "1"}
    assert release.call(None) == '"one"'
    shown = json.loads(release.server.cli("show", release.name, "--json", check=0).stdout)["Configuration"]
    assert shown["Environment"]["Variables"] == {"AA": "1"} and shown["Timeout"] == 7
    assert release.rollback("--to", "2")["To"] == "2" and release.call(None) == '"two"'


def test_all_that_a_version_has_goes_back(release, functions):
    release.deploy(word("one"), "--publish", "--tag", "virga:soft-concurrency=1", "--tag", "team=a")
    api, name = functions.api, release.name
    layer = api.publish_layer_version(LayerName=name, Content={"ZipFile": zips.package({"a.txt": "a"})})["LayerVersionArn"]
    members = {"Layers": [layer], "TracingConfig": {"Mode": "Active"}, "SnapStart": {"ApplyOn": "PublishedVersions"},
               "LoggingConfig": {"LogFormat": "JSON"}, "MemorySize": 256, "EphemeralStorage": {"Size": 600}, "Description": "two"}  # fmt: skip
    before = api.get_function_configuration(FunctionName=name)
    api.update_function_configuration(FunctionName=name, **members)
    api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=clients.FAST)
    arn = before["FunctionArn"]
    api.untag_resource(Resource=arn, TagKeys=["virga:soft-concurrency"])
    api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=clients.FAST)
    api.publish_version(FunctionName=name)
    assert release.rollback() == {"FunctionName": name, "From": "2", "To": "1"}
    after = api.get_function_configuration(FunctionName=name)
    for changing in ("LastModified", "RevisionId", "ResponseMetadata"):
        before.pop(changing), after.pop(changing)
    assert after == before
    assert api.list_tags(Resource=arn)["Tags"] == {"team": "a", "virga:soft-concurrency": "1"}
    assert release.call(None) == '"one"'
    api.delete_layer_version(LayerName=name, VersionNumber=1)


def test_without_a_published_version_there_is_no_way_back(release):
    release.deploy(word("one"))
    done = release.server.cli("rollback", release.name)
    assert done.returncode == 3 and "--publish" in done.stderr, done.stderr


def test_a_canary_that_does_well_gets_all_calls(release):
    url = release.deploy(word("old"), "--alias", "live")["PathUrl"]
    with Traffic(url) as traffic:
        done = release.deploy(word("new"), "--canary", "50", "--watch", "2s")
    assert done["Version"] == "2" and traffic.count > 0
    live = release.alias()["live"]
    assert live["FunctionVersion"] == "2" and "RoutingConfig" not in live
    assert release.call() == '"new"'


def test_a_canary_that_fails_is_rolled_back_by_itself(release):
    url = release.deploy(word("old"), "--alias", "live")["PathUrl"]
    with Traffic(url):
        # Far longer than it takes: ten calls that fail end it.
        done = release.deploy(BAD, "--canary", "50", "--watch", "10m", check=1)
    assert "rolled back to version 1" in done.stderr and "calls failed" in done.stderr, done.stderr
    live = release.alias()["live"]
    assert live["FunctionVersion"] == "1" and "RoutingConfig" not in live
    assert release.call() == '"old"'


def test_a_few_failing_calls_count_at_the_end(release):
    url = release.deploy(word("old"), "--alias", "live")["PathUrl"]
    watching = deploying(release, BAD, "--canary", "100", "--watch", "8s")
    divided(release)
    assert [requests.get(url, timeout=30).status_code for _ in range(2)] == [502, 502]
    assert watching.wait(60) == 1
    assert release.alias()["live"]["FunctionVersion"] == "1" and release.call() == '"old"'


def test_an_interrupted_canary_is_rolled_back(release):
    release.deploy(word("old"), "--alias", "live")
    watching = deploying(release, word("new"), "--canary", "10", "--watch", "10m")
    divided(release)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(30) == 130
    live = release.alias()["live"]
    assert live["FunctionVersion"] == "1" and "RoutingConfig" not in live


def test_a_killed_canary_is_given_up_by_a_roll_back(release):
    release.deploy(word("old"), "--alias", "live")
    watching = deploying(release, word("new"), "--canary", "10", "--watch", "10m")
    divided(release)
    watching.kill()
    watching.wait()
    assert divided(release)["AdditionalVersionWeights"] == {"2": 0.1}
    assert release.rollback()["To"] == "1"
    assert "RoutingConfig" not in release.alias()["live"]


def test_a_web_servers_errors_end_a_canary(release, tmp_path):
    server = "import os\nfrom http.server import *\nclass H(BaseHTTPRequestHandler):\n    def do_GET(self):\n" \
             "        self.send_response(STATUS)\n        self.send_header('Content-Length', '0')\n        self.end_headers()\n" \
             "HTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()\n"  # fmt: skip
    url = release.deploy(server.replace("STATUS", "200"), "--contract", "http", "--alias", "live")["PathUrl"]
    assert requests.get(url, timeout=30).status_code == 200
    with Traffic(url):
        done = release.deploy(server.replace("STATUS", "500"), "--contract", "http", "--canary", "50", "--watch", "10m", check=1)
    assert "rolled back to version 1" in done.stderr, done.stderr
    assert {requests.get(url, timeout=30).status_code for _ in range(10)} == {200}


def test_aliases_on_the_command_line(release):
    for text in ("one", "two"):
        release.deploy(word(text), "--publish")
    cli, name = release.server.cli, release.name
    assert "90%" in cli("alias", "set", name, "prod", "1", "--also", "2=10%", "--description", "ours", check=0).stdout
    shown = cli("alias", "list", name, check=0).stdout
    assert "prod" in shown and "1 (90%), 2 (10%)" in shown and "ours" in shown
    assert "prod (10%)" in cli("versions", name, check=0).stdout
    assert "leads to 2" in cli("alias", "set", name, "prod", "2", check=0).stdout
    assert release.call("prod") == '"two"'
    cli("alias", "delete", name, "prod", check=0)
    assert release.alias() == {}
    assert cli("alias", "set", name, "prod", "7").returncode == 3


def deploying(release, text, *flags):
    """A deployment under way."""
    release.script.write_text(text)
    return subprocess.Popen(
        [binary(), "deploy", release.script, *flags], env=release.server.client_environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def divided(release):
    """Waits until the alias leads to two versions."""
    return poll.until(lambda: release.alias()["live"].get("RoutingConfig"), f"{release.name}:live is divided", seconds=60)
