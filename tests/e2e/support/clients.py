"""boto3 against a server under test, and a few words shorter than its own."""

import base64
import json
import uuid

import boto3
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from . import shapes, zips
from .server import REGION

ROLE = "arn:aws:iam::111122223333:role/e2e"
FAST = {"Delay": 0.05, "MaxAttempts": 1200}


def client(server, service="lambda", key=None, secret=None, check=True, **config):
    """A boto3 client that holds every answer against the model."""
    settings = {"retries": {"total_max_attempts": 1}, "read_timeout": 90, "max_pool_connections": 32} | config
    made = boto3.session.Session().client(
        service, endpoint_url=server.url, region_name=REGION, aws_access_key_id=key or server.key,
        aws_secret_access_key=secret or server.secret, config=Config(**settings),
    )  # fmt: skip
    if check:
        made.meta.events.register("after-call", shapes.check_answer)
    return made


def signed(server, method, path, body=b"", service="lambda", headers=None, key=None, secret=None, **options):
    """A raw signed request: for what no SDK would send."""
    request = AWSRequest(method=method, url=server.url + path, data=body, headers=headers or {})
    SigV4Auth(Credentials(key or server.key, secret or server.secret), service, REGION).add_auth(request)
    return requests.request(method, server.url + path, data=body, headers=dict(request.headers), timeout=60, **options)


def code_of(error):
    """The error code of a botocore ClientError or a raw answer."""
    if hasattr(error, "response") and isinstance(error.response, dict):
        return error.response["Error"]["Code"]
    code = error.headers.get("x-amzn-errortype") or error.json().get("__type", "")
    return code.split(":")[0].split("#")[-1]


class Result:
    """What came of an Invoke."""

    def __init__(self, answer):
        self.status = answer["StatusCode"]
        self.error = answer.get("FunctionError")
        self.version = answer.get("ExecutedVersion")
        self.raw = answer["Payload"].read()
        self.log = base64.b64decode(answer.get("LogResult", "")).decode(errors="replace")
        self.request_id = answer["ResponseMetadata"]["RequestId"]

    @property
    def value(self):
        """The answer's JSON."""
        return json.loads(self.raw)

    def ok(self):
        """The answer, which must not be an error."""
        assert self.error is None, f"{self.error}: {self.raw.decode(errors='replace')}\n{self.log}"
        return self.value

    def failed(self, error_type):
        """The error, which must be of this type."""
        assert self.error == "Unhandled", f"{self.error}: {self.raw[:500]!r}\n{self.log}"
        assert self.value["errorType"] == error_type, self.value
        return self.value


class Functions:
    """Functions of one server; what a test deploys is deleted after it."""

    def __init__(self, server):
        self.server, self.api, self.made = server, client(server), []

    def deploy(self, files, runtime, handler="app.handler", tags=None, env=None, url=False, wait=True, **options):
        """Creates a function from files (or a ready zip) and waits until it is active."""
        name = options.pop("FunctionName", f"f-{uuid.uuid4().hex[:12]}")
        archive = files if isinstance(files, bytes) else zips.package(files)
        if env:
            options["Environment"] = {"Variables": env}
        self.api.create_function(
            FunctionName=name, Runtime=runtime, Handler=handler, Role=ROLE, Code={"ZipFile": archive}, Tags=tags or {},
            **({"Timeout": 30} | options),
        )  # fmt: skip
        self.made.append(name)
        if wait:
            self.api.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)
        if url:
            self.api.create_function_url_config(FunctionName=name, AuthType="NONE")
        return name

    def invoke(self, name, event=None, **options):
        """Calls it with the log's tail."""
        payload = options.pop("Payload", json.dumps(event if event is not None else {}))
        return Result(self.api.invoke(FunctionName=name, Payload=payload, LogType="Tail", **options))

    def path(self, name, rest=""):
        """Its URL by path, which every resolver understands."""
        return f"{self.server.url}/_fn/{name}/{rest}"

    def delete_all(self):
        """Deletes what was made and is still there."""
        for name in self.made:
            try:
                self.api.delete_function(FunctionName=name)
            except self.api.exceptions.ResourceNotFoundException:
                pass
        self.made.clear()
