"""Clients that nobody here wrote, unmodified: the AWS CLI and aws-sdk-js v3."""

import base64
import json
import shutil
import subprocess
import sys
import uuid

import pytest

from support import kinds, zips
from support.clients import ROLE
from support.server import REGION, clean_environment


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "function.zip"
    path.write_bytes(zips.package(kinds.python_function("echo.py")))
    return path


@pytest.fixture
def aws(server, tmp_path):
    environment = clean_environment(
        AWS_ACCESS_KEY_ID=server.key, AWS_SECRET_ACCESS_KEY=server.secret, AWS_DEFAULT_REGION=REGION, AWS_PAGER="",
        AWS_CONFIG_FILE=str(tmp_path / "none"), AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "none"),
    )  # fmt: skip

    def run(*arguments, fails=False):
        command = [sys.executable, "-m", "awscli", "lambda", *arguments, "--endpoint-url", server.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path)
        assert (done.returncode != 0) == fails, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stderr if fails else (json.loads(done.stdout) if done.stdout.strip() else None)

    return run


def test_the_aws_cli(aws, archive, tmp_path):
    name = f"cli-{uuid.uuid4().hex[:8]}"
    created = aws(
        "create-function", "--function-name", name, "--runtime", kinds.python(), "--handler", "app.handler",
        "--role", ROLE, "--zip-file", f"fileb://{archive}", "--timeout", "10",
    )  # fmt: skip
    assert created["State"] == "Pending"
    aws("wait", "function-active-v2", "--function-name", name)
    out = tmp_path / "out.json"
    event = tmp_path / "event.json"
    event.write_text('{"from": "cli"}')
    said = aws("invoke", "--function-name", name, "--payload", f"file://{event}", "--log-type", "Tail", str(out))
    assert said["StatusCode"] == 200 and json.loads(out.read_text())["event"] == {"from": "cli"}
    assert "REPORT" in base64.b64decode(said["LogResult"]).decode()
    listed = aws("list-functions")["Functions"]
    assert name in [each["FunctionName"] for each in listed]
    aws("update-function-configuration", "--function-name", name, "--environment", "Variables={WHO=cli}")
    aws("wait", "function-updated-v2", "--function-name", name)
    assert aws("get-function-configuration", "--function-name", name)["Environment"] == {"Variables": {"WHO": "cli"}}
    url = aws("create-function-url-config", "--function-name", name, "--auth-type", "NONE")
    assert ".lambda-url." in url["FunctionUrl"]
    aws("delete-function", "--function-name", name)
    assert "ResourceNotFoundException" in aws("get-function", "--function-name", name, fails=True)


def test_the_javascript_sdk(server, archive, tmp_path):
    script = kinds.node_modules().parent / "sdk.mjs"
    shutil.copy(kinds.HERE / "node" / "sdk.mjs", script)
    done = subprocess.run(
        ["node", str(script), str(archive), kinds.python()], capture_output=True, text=True, timeout=90,
        env=server.client_environment(AWS_CONFIG_FILE=str(tmp_path / "none")),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "all of it held"
