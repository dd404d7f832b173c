"""Virga under measurement: started on the server's core, with functions on it."""

import contextlib
import http.client
import json
import os
import pathlib
import sys
import tempfile
import time

from measure import ROOT, SERVER_CORE, pinned, request_bytes

sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from botocore.auth import SigV4Auth  # noqa: E402
from botocore.awsrequest import AWSRequest  # noqa: E402
from botocore.credentials import Credentials  # noqa: E402
from support.clients import Functions  # noqa: E402
from support.server import REGION, Server  # noqa: E402


class PinnedServer(Server):
    """A server on its core, or on all of them."""

    everywhere = False
    own_session = True

    def command(self):
        """The command line with the core named."""
        command = super().command()
        return everywhere(command) if self.everywhere else pinned(SERVER_CORE, command)


def everywhere(command):
    """The command on all cores, wherever the harness itself runs."""
    return ["taskset", "-c", f"0-{(os.cpu_count() or 1) - 1}", *command]


@contextlib.contextmanager
def virga(*arguments, all_cores=False):
    """A fresh server with these further arguments, and the handle to deploy functions on it."""
    with tempfile.TemporaryDirectory(prefix="virga-bench-") as folder:
        server = PinnedServer(pathlib.Path(folder) / "data", env={"VIRGA_LOG": "warn"}, arguments=arguments)
        server.everywhere = all_cores
        server.start()
        try:
            yield server, Functions(server)
        finally:
            server.stop()


def address(server):
    """`host:port` of the data plane."""
    return f"127.0.0.1:{server.port}"


def invoke_request(server, name, event, kind=None):
    """An Invoke, signed; the same signature holds for minutes, so that the load generator signs nothing."""
    body = json.dumps(event).encode()
    path = f"/2015-03-31/functions/{name}/invocations"
    headers = {"X-Amz-Invocation-Type": kind} if kind else {}
    request = AWSRequest(method="POST", url=server.url + path, data=body, headers=headers)
    SigV4Auth(Credentials(server.key, server.secret), "lambda", REGION).add_auth(request)
    headers |= {key: request.headers[key] for key in ("X-Amz-Date", "Authorization")}
    return request_bytes("POST", address(server), path, headers, body)


def url_request(server, name, path=""):
    """A GET of a function's URL by path."""
    return request_bytes("GET", address(server), f"/_fn/{name}/{path}")


def instances(server, name):
    """How many instances a function has now."""
    samples = (sample for family in server.metric_families() if family.name == "faas_instances" for sample in family.samples)
    return sum(sample.value for sample in samples if sample.labels["faas_name"] == name)


def first_call(server, name):
    """Milliseconds of one Invoke over a connection that is open already."""
    request = invoke_request(server, name, {})
    head, body = request.split(b"\r\n\r\n", 1)
    path = head.split(b" ")[1].decode()
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    connection = http.client.HTTPConnection(address(server), timeout=30)
    connection.connect()
    begun = time.perf_counter()
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    answer.read()
    took = (time.perf_counter() - begun) * 1e3
    if answer.status != 200 or answer.headers.get("X-Amz-Function-Error"):
        raise RuntimeError(f"{name}: {answer.status}")
    connection.close()
    return took
