"""The `virga` program as its users run it."""

import json
import shutil
import subprocess

import pytest
import requests

from support import kinds, poll
from support.server import binary, clean_environment, free_port

# By the kinds that `virga new` writes.
EXAMPLES = {"hello-python": "python", "hello-node": "node", "hello-php": "php", "hello-ruby": "ruby", "hello-java": "java",
            "hello-rust": "rust", "shell": "shell", "web-express": "express", "hello-wasm": "wasm"}  # fmt: skip


@pytest.fixture
def made(server):
    """Names of functions that the CLI made; deleted afterwards."""
    names = []
    yield names
    if names:
        server.cli("delete", *names)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """The samples as `virga new` writes them, with the Node packages, the jar and the program that they need."""
    copy = tmp_path_factory.mktemp("examples")
    for name, kind in EXAMPLES.items():
        written = subprocess.run([binary(), "new", kind], cwd=copy, check=True, capture_output=True, text=True).stdout
        assert written.endswith(f"  virga deploy {name}\n"), written
        if "./build.sh" in written:
            subprocess.run([copy / name / "build.sh"], check=True)
    installed = kinds.EXAMPLES / "web-express" / "node_modules"
    if not installed.exists():
        installed = kinds.node_modules()
    for package in installed.iterdir():
        if package.is_dir() and package.name != "aws-lambda-ric" and not package.name.startswith((".", "@")):
            shutil.copytree(package, copy / "web-express" / "node_modules" / package.name)
    return copy


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_example(server, examples, made, example):
    done = server.cli("deploy", examples / example, "--json", check=0)
    deployed = json.loads(done.stdout)
    made.append(deployed["FunctionName"])
    assert deployed["FunctionName"] == example and deployed["Action"] == "Created"
    answer = requests.get(deployed["PathUrl"], timeout=30)
    assert answer.status_code == 200 and "Hello" in answer.text, answer.text
    assert ".lambda-url." in deployed["FunctionUrl"]
    done = server.cli("invoke", example, '{"name": "Ada"}', "--tail", check=0)
    assert json.loads(done.stdout)
    assert "REPORT RequestId" in done.stderr
    assert json.loads(server.cli("deploy", examples / example, "--json", check=0).stdout)["Action"] == "Unchanged"


def test_a_sample_takes_the_place_of_nothing(tmp_path):
    (tmp_path / "index.html").write_text("mine")
    done = subprocess.run([binary(), "new", "static", "."], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "index.html is there already" in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"] and (tmp_path / "index.html").read_text() == "mine"


def test_editing_and_deploying_again_changes_the_answer(server, examples, made):
    made.append("edited")
    script = examples / "edited.py"
    script.write_text("def handler(event, context):\n    return 'before'\n")
    human = server.cli("deploy", script, check=0)
    assert "created edited" in human.stdout and f"{server.url}/_fn/edited" in human.stdout
    assert json.loads(server.cli("invoke", "edited", check=0).stdout) == "before"
    script.write_text("def handler(event, context):\n    return 'after'\n")
    assert "updated edited" in server.cli("deploy", script, check=0).stdout
    assert json.loads(server.cli("invoke", "edited", check=0).stdout) == "after"


def test_flags_of_deploy(server, made, tmp_path):
    made.append("flags")
    script = tmp_path / "some.py"
    script.write_text("import os\ndef handler(event, context):\n    return [os.environ['AA'], context.memory_limit_in_mb]\n")
    server.cli("deploy", script, "--name", "flags", "--env", "AA=b=c", "--memory", "96", "--timeout", "5", check=0)
    assert json.loads(server.cli("invoke", "flags", check=0).stdout) == ["b=c", "96"]
    shown = json.loads(server.cli("show", "flags", "--json", check=0).stdout)
    assert shown["Configuration"]["Timeout"] == 5 and shown["Tags"]["virga:memory"] == "96"


def test_processor_time_and_concurrency(server, made, tmp_path):
    made.append("sized")
    script = tmp_path / "sized.py"
    script.write_text("def handler(event, context):\n    return 1\n")
    server.cli("deploy", script, "--cpu", "0.25", "--concurrency", "3/4", "--reserved", "6", check=0)
    shown = json.loads(server.cli("show", "sized", "--json", check=0).stdout)
    tags = {"virga:cpu": "25", "virga:soft-concurrency": "3", "virga:hard-concurrency": "4"}
    assert shown["Tags"] == tags and shown["Reserved"] == 6
    server.cli("deploy", script, "--reserved", "none", check=0)
    assert json.loads(server.cli("show", "sized", "--json", check=0).stdout)["Reserved"] is None


def test_a_refused_change_changes_nothing(server, made, tmp_path):
    made.append("whole")
    script = tmp_path / "whole.py"
    script.write_text("def handler(event, context):\n    return context.memory_limit_in_mb\n")
    server.cli("deploy", script, "--memory", "64", "--tag", "team=a", check=0)
    before = json.loads(server.cli("show", "whole", "--json", check=0).stdout)
    script.write_text("def handler(event, context):\n    return 'changed'\n")
    done = server.cli("deploy", script, "--memory", "256", "--timeout", "901", "--tag", "team=b", "--tag", "new=1")
    assert done.returncode == 3 and "timeout" in done.stderr.lower(), done.stderr
    after = json.loads(server.cli("show", "whole", "--json", check=0).stdout)
    assert after["Tags"] == before["Tags"] == {"team": "a", "virga:memory": "64"}
    same = ("MemorySize", "Timeout", "CodeSha256", "State", "LastUpdateStatus")
    assert [after["Configuration"][m] for m in same] == [before["Configuration"][m] for m in same]
    assert json.loads(server.cli("invoke", "whole", check=0).stdout) == "64"
    server.cli("deploy", script, "--memory", "256", check=0)
    assert "virga:memory" not in json.loads(server.cli("show", "whole", "--json", check=0).stdout)["Tags"]


def test_events_from_everywhere(server, made, tmp_path):
    made.append("events")
    script = tmp_path / "events.py"
    script.write_text("def handler(event, context):\n    return event\n")
    server.cli("deploy", script, check=0)
    event = tmp_path / "event.json"
    event.write_text('{"from": "file"}')
    assert json.loads(server.cli("invoke", "events", '{"from": "argument"}').stdout) == {"from": "argument"}
    assert json.loads(server.cli("invoke", "events", f"@{event}").stdout) == {"from": "file"}
    assert json.loads(server.cli("invoke", "events", "--event-file", event).stdout) == {"from": "file"}
    assert json.loads(server.cli("invoke", "events", "-", stdin='{"from": "stdin"}').stdout) == {"from": "stdin"}
    assert json.loads(server.cli("invoke", "events").stdout) == {}


def test_a_functions_error_is_an_exit_code(server, made, tmp_path):
    made.append("failing")
    script = tmp_path / "failing.py"
    script.write_text("def handler(event, context):\n    raise ValueError('as planned')\n")
    server.cli("deploy", script, check=0)
    done = server.cli("invoke", "failing", check=1)
    assert "ValueError" in done.stderr and "as planned" in done.stderr
    done = server.cli("invoke", "failing", "--json", check=1)
    assert json.loads(done.stdout)["FunctionError"] == "Unhandled"


def test_logs_are_followed_live(server, made, tmp_path):
    made.append("talking")
    script = tmp_path / "talking.py"
    script.write_text("import time\ndef handler(event, context):\n    print('said', event['word'], flush=True)\n"
                      "    time.sleep(event.get('then', 0))\n")  # fmt: skip
    server.cli("deploy", script, "--timeout", "20", check=0)
    server.cli("invoke", "talking", '{"word": "early"}', check=0)
    assert "said early" in server.cli("logs", "talking", check=0).stdout
    follow = subprocess.Popen(
        [binary(), "logs", "talking", "-f", "--since", "1m"], stdout=subprocess.PIPE, text=True, env=server.client_environment()
    )
    call = None
    try:
        assert any("said early" in line for line in iter(follow.stdout.readline, ""))
        call = subprocess.Popen(
            [binary(), "invoke", "talking", '{"word": "late", "then": 4}'], env=server.client_environment(),
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for line in iter(follow.stdout.readline, ""):
            if "said late" in line:
                break
        assert call.poll() is None, "the line was there while the call still ran"
        assert call.wait(30) == 0
    finally:
        follow.terminate()
        follow.wait(10)


def test_list_show_delete(server, tmp_path):
    script = tmp_path / "shortlived.py"
    script.write_text("def handler(event, context):\n    return 1\n")
    server.cli("deploy", script, check=0)
    assert "shortlived" in server.cli("list", check=0).stdout
    assert "shortlived" in [each["FunctionName"] for each in json.loads(server.cli("list", "--json", check=0).stdout)]
    assert kinds.python() in server.cli("show", "shortlived", check=0).stdout
    server.cli("delete", "shortlived", check=0)
    assert "shortlived" not in server.cli("list", check=0).stdout
    for command in (["show"], ["invoke"], ["logs"], ["logs", "-f"], ["delete"]):
        done = server.cli(*command, "shortlived")
        assert done.returncode == 3 and "shortlived" in done.stderr, (command, done)


def test_exit_codes_of_wrong_usage(server, tmp_path):
    assert server.cli("deploy", tmp_path / "not-there").returncode == 2
    assert server.cli("frobnicate").returncode == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    done = server.cli("deploy", empty)
    assert done.returncode == 2 and "empty" in done.stderr


def test_a_server_that_is_not_there(server):
    done = server.cli("list", AWS_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 3 and "virga serve" in done.stderr, done.stderr


def test_a_wrong_key(server):
    done = server.cli("list", AWS_SECRET_ACCESS_KEY="wrong")
    assert done.returncode == 3 and "InvalidSignatureException" in done.stderr


def test_keys_from_the_data_directory(server):
    done = subprocess.run(
        [binary(), "--data", str(server.data), "list", "--json"], capture_output=True, text=True, timeout=30,
        env=clean_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)


def test_doctor(server, tmp_path):
    done = subprocess.run(
        [binary(), "doctor", "--json", "--data", str(tmp_path)], capture_output=True, text=True, timeout=30,
        env=clean_environment(),
    )  # fmt: skip
    findings = json.loads(done.stdout)
    assert findings and all(each["name"] and each["verdict"] and each["detail"] for each in findings)
    assert {"isolation", "landlock", "proc"} <= {each["name"] for each in findings}
    assert done.returncode == 0, done.stdout
    human = subprocess.run([binary(), "doctor"], capture_output=True, text=True, timeout=30, cwd=tmp_path)
    assert all(each["name"] in human.stdout for each in findings)
    runtimes = poll.until(lambda: [f for f in findings if kinds.python() in json.dumps(f)], "Python is found", 1)
    assert runtimes


def test_undeployable_code_is_told_at_deploy(server, tmp_path):
    junk = tmp_path / "junk.wasm"
    junk.write_bytes(b"\0asm" + b"\xff" * 40)
    done = server.cli("deploy", junk)
    server.cli("delete", "junk")
    assert done.returncode in (1, 2, 3) and "junk" in done.stderr, done
