"""Three clients that nobody here wrote behind one face: boto3, the AWS CLI and aws-sdk-js v3.

`family(service, operation, **input)` is the answer as plain values (bytes where the model has bytes, a list of events where
it streams), or `Refused`. The last two run in a process of their own each, which is told what to do line by line: a start of
an interpreter for each of a hundred operations would take a minute.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile

from botocore import xform_name
from botocore.exceptions import ClientError

from . import clients, kinds


class Refused(Exception):
    """The service's own error: its code."""

    def __init__(self, code, message=""):
        super().__init__(f"{code}: {message}")
        self.code = code


class Child:
    """A process that answers each line of JSON with one."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, self.process.stderr.read()
        return answer

    def close(self):
        self.process.communicate(timeout=10)


class Boto3:
    """The library, each answer held against its model."""

    LACKS = set()

    def __init__(self, server):
        self.server, self.made = server, {}

    def __call__(self, service, operation, **given):
        # The check is of JSON, and reads an answer to its end, which a live tail has not.
        check = service not in ("iam", "sts") and operation != "StartLiveTail"
        if (service, check) not in self.made:
            self.made[service, check] = clients.client(self.server, service, check=check, inject_host_prefix=False)
        api = self.made[service, check]
        try:
            answer = getattr(api, xform_name(operation))(**given)
        except ClientError as error:
            raise Refused(error.response["Error"]["Code"], error.response["Error"]["Message"]) from error
        answer.pop("ResponseMetadata", None)
        return {name: self._read(value) for name, value in answer.items()}

    @staticmethod
    def _read(value):
        if hasattr(value, "read"):
            return value.read()
        if not hasattr(value, "close"):
            return value
        events = []
        for event in value:
            events.append(event)
            if "sessionStart" in event:
                break
        value.close()
        return events

    def close(self):
        for api in self.made.values():
            api.close()


class Cli:
    """The AWS CLI, version 1."""

    # It has no commands for operations whose answers stream events, nor yet for the newest.
    LACKS = {"InvokeWithResponseStream", "StartLiveTail", "GetResourcePolicy", "PutResourcePolicy", "DeleteResourcePolicy"}

    def __init__(self, server):
        self.server, self.folder = server, tempfile.TemporaryDirectory()
        nothing = os.path.join(self.folder.name, "none")
        self.child = Child(
            [sys.executable, str(kinds.HERE / "support" / "cli_lines.py")],
            server.client_environment(AWS_CONFIG_FILE=nothing, AWS_SHARED_CREDENTIALS_FILE=nothing, AWS_PAGER=""),
        )

    def __call__(self, service, operation, **given):
        arguments = [service, xform_name(operation, "-"), "--endpoint-url", self.server.url, "--no-paginate"]
        arguments += self._files(operation, given)
        out = os.path.join(self.folder.name, "out")
        writes = operation == "Invoke"
        if writes:
            # A command that writes a file takes no JSON.
            arguments += [part for name, value in given.items() for part in ("--" + xform_name(name, "-"), value)]
        elif given:
            arguments += ["--cli-input-json", json.dumps(given)]
        said = json.loads(self.child.ask(json.dumps(arguments + ([out] if writes else []))))
        if said["code"]:
            self._refuse(said["complaint"])
        answer = json.loads(said["printed"]) if said["printed"].strip() else {}
        if writes:
            with open(out, "rb") as file:
                answer["Payload"] = file.read()
        return answer

    def _files(self, operation, given):
        """Bytes are given as files, which takes them out of the rest."""
        options = {"ZipFile": "--zip-file", "InvokeArgs": "--invoke-args"}
        if isinstance(given.get("Code"), dict) and isinstance(given["Code"].get("ZipFile"), bytes):
            given["ZipFile"] = given.pop("Code")["ZipFile"]
        if operation == "PublishLayerVersion":
            given["ZipFile"] = given.pop("Content")["ZipFile"]
        arguments = []
        for name, value in list(given.items()):
            if name == "Payload":
                given[name] = value.decode()
            elif isinstance(value, bytes):
                path = os.path.join(self.folder.name, name)
                with open(path, "wb") as file:
                    file.write(given.pop(name))
                arguments += [options[name], path if operation == "InvokeAsync" else f"fileb://{path}"]
        return arguments

    @staticmethod
    def _refuse(complaint):
        _, found, rest = complaint.partition("An error occurred (")
        assert found, complaint
        code, _, message = rest.partition(")")
        raise Refused(code, message)

    def close(self):
        self.child.close()
        self.folder.cleanup()


class JavaScript:
    """aws-sdk-js v3, in a process of its own."""

    # Deprecated, and no longer in the library.
    LACKS = {"InvokeAsync"}

    def __init__(self, server):
        script = kinds.node_modules().parent / "operations.mjs"
        shutil.copy(kinds.HERE / "node" / script.name, script)
        self.child = Child(["node", str(script)], server.client_environment(AWS_CONFIG_FILE="/nowhere"))

    def __call__(self, service, operation, **given):
        line = json.dumps({"service": service, "operation": operation, "input": given}, default=_from_bytes)
        answer = json.loads(self.child.ask(line), object_hook=_to_bytes)
        if "error" in answer:
            raise Refused(answer["error"], answer.get("message", ""))
        return answer["output"]

    def close(self):
        self.child.close()


def _from_bytes(value):
    return {"$bytes": base64.b64encode(value).decode()}


def _to_bytes(value):
    return base64.b64decode(value["$bytes"]) if set(value) == {"$bytes"} else value


FAMILIES = {"boto3": Boto3, "aws-cli": Cli, "aws-sdk-js": JavaScript}
