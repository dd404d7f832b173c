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

    def run(*arguments, fails=False, service="lambda"):
        command = [sys.executable, "-m", "awscli", service, *arguments, "--endpoint-url", server.url]
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


def test_the_aws_cli_and_identities(aws, archive):
    name = f"cli-{uuid.uuid4().hex[:8]}"
    trust = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]}  # fmt: skip
    made = aws("create-role", "--role-name", name, "--assume-role-policy-document", json.dumps(trust), service="iam")
    assert made["Role"]["AssumeRolePolicyDocument"] == trust
    basic = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
    aws("attach-role-policy", "--role-name", name, "--policy-arn", basic, service="iam")
    attached = aws("list-attached-role-policies", "--role-name", name, service="iam")["AttachedPolicies"]
    assert [each["PolicyArn"] for each in attached] == [basic]
    aws(
        "create-function", "--function-name", name, "--runtime", kinds.python(), "--handler", "app.handler",
        "--role", made["Role"]["Arn"], "--zip-file", f"fileb://{archive}",
    )  # fmt: skip
    added = aws("add-permission", "--function-name", name, "--statement-id", "one", "--action", "lambda:InvokeFunction",
                "--principal", "s3.amazonaws.com", "--source-arn", "arn:aws:s3:::bucket")  # fmt: skip
    statement = json.loads(added["Statement"])
    assert json.loads(aws("get-policy", "--function-name", name)["Policy"])["Statement"] == [statement]
    aws("remove-permission", "--function-name", name, "--statement-id", "one")
    assert "ResourceNotFoundException" in aws("get-policy", "--function-name", name, fails=True)
    aws("delete-function", "--function-name", name)
    assert "DeleteConflict" in aws("delete-role", "--role-name", name, service="iam", fails=True)
    aws("detach-role-policy", "--role-name", name, "--policy-arn", basic, service="iam")
    aws("delete-role", "--role-name", name, service="iam")
    refusal = aws("assume-role", "--role-arn", made["Role"]["Arn"], "--role-session-name", "me", service="sts", fails=True)
    assert "AccessDenied" in refusal


def test_aliases_through_the_aws_cli(aws, functions, tmp_path):
    # Each command is an interpreter's start: what is not about aliases is done without it.
    name, out = functions.deploy(kinds.python_function("echo.py"), kinds.python()), tmp_path / "out.json"
    assert aws("publish-version", "--function-name", name)["Version"] == "1"
    aws("wait", "published-version-active", "--function-name", name, "--qualifier", "1")
    weights = "AdditionalVersionWeights={1=0.5}"
    aliased = ("--function-name", name, "--name", "live")
    assert "LATEST" in aws("create-alias", *aliased, "--function-version", "$LATEST", "--routing-config", weights, fails=True)
    made = aws("create-alias", *aliased, "--function-version", "1", "--description", "by cli")
    assert made["AliasArn"].endswith(f":{name}:live")
    aws("update-alias", *aliased, "--function-version", "$LATEST", "--revision-id", made["RevisionId"])
    assert aws("get-alias", *aliased)["FunctionVersion"] == "$LATEST"
    assert aws("invoke", "--function-name", name, "--qualifier", "live", str(out))["ExecutedVersion"] == "$LATEST"
    assert [each["Name"] for each in aws("list-aliases", "--function-name", name)["Aliases"]] == ["live"]
    aws("delete-alias", *aliased)


def test_code_signing_through_the_aws_cli(aws, functions, archive):
    name = functions.deploy(kinds.python_function("echo.py"), kinds.python())
    publishers = "SigningProfileVersionArns=arn:aws:signer:us-east-1:111122223333:/signing-profiles/nobody"
    policy = "UntrustedArtifactOnDeployment=Enforce"
    made = aws("create-code-signing-config", "--allowed-publishers", publishers, "--code-signing-policies", policy)
    arn = made["CodeSigningConfig"]["CodeSigningConfigArn"]
    aws("put-function-code-signing-config", "--function-name", name, "--code-signing-config-arn", arn)
    refused = aws("update-function-code", "--function-name", name, "--zip-file", f"fileb://{archive}", fails=True)
    assert "CodeVerificationFailedException" in refused and "not signed" in refused
    functions.delete_all()
    functions.api.delete_code_signing_config(CodeSigningConfigArn=arn)


def test_the_javascript_sdk(server, archive, tmp_path):
    script = kinds.node_modules().parent / "sdk.mjs"
    shutil.copy(kinds.HERE / "node" / "sdk.mjs", script)
    done = subprocess.run(
        ["node", str(script), str(archive), kinds.python()], capture_output=True, text=True, timeout=90,
        env=server.client_environment(AWS_CONFIG_FILE=str(tmp_path / "none")),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "all of it held"
