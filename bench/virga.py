"""Virga under measurement: started on the server's core, with functions on it."""

import contextlib
import json
import pathlib
import sys
import tempfile

from measure import ROOT, SERVER_CORE, pinned, request_bytes

sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from botocore.auth import SigV4Auth  # noqa: E402
from botocore.awsrequest import AWSRequest  # noqa: E402
from botocore.credentials import Credentials  # noqa: E402
from support.clients import Functions  # noqa: E402
from support.server import REGION, Server  # noqa: E402


class PinnedServer(Server):
    """A server on its core."""

    def command(self):
        """The command line with the core named."""
        return pinned(SERVER_CORE, super().command())


@contextlib.contextmanager
def virga():
    """A fresh server and the handle to deploy functions on it."""
    with tempfile.TemporaryDirectory(prefix="virga-bench-") as folder:
        server = PinnedServer(pathlib.Path(folder) / "data", env={"VIRGA_LOG": "warn"}).start()
        try:
            yield server, Functions(server)
        finally:
            server.stop()


def address(server):
    """`host:port` of the data plane."""
    return f"127.0.0.1:{server.port}"


def invoke_request(server, name, event):
    """An Invoke, signed; the same signature holds for minutes, so that the load generator signs nothing."""
    body = json.dumps(event).encode()
    path = f"/2015-03-31/functions/{name}/invocations"
    request = AWSRequest(method="POST", url=server.url + path, data=body)
    SigV4Auth(Credentials(server.key, server.secret), "lambda", REGION).add_auth(request)
    headers = {key: request.headers[key] for key in ("X-Amz-Date", "Authorization")}
    return request_bytes("POST", address(server), path, headers, body)
