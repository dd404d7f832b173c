"""Several versions of a runtime side by side: each function runs on its own."""

import os
import re
import subprocess

import pytest
import requests

from support import kinds

NODE = kinds.TARGET / "e2e-node-versions" / "node_modules"
HANDLER = """
import { setTimeout as nap } from 'node:timers/promises';
export const handler = async (event, context) => {
  if (event.raise) throw new RangeError('far');
  await nap(event.nap ?? 0);
  return [process.version, process.env.AWS_EXECUTION_ENV, context.getRemainingTimeInMillis() > 0];
};
"""
SERVER = "require('http').createServer((q, a) => a.end(process.version)).listen(process.env.PORT);"


def others():
    """Names and versions of the Nodes that the suite brings."""
    found = {}
    for folder in sorted(NODE.glob("node-*/bin")):
        version = subprocess.run([folder / "node", "--version"], check=True, text=True, capture_output=True).stdout.strip()
        found[f"nodejs{re.match(r'v([0-9]+)', version)[1]}.x"] = (version, str(folder))
    return found


@pytest.fixture(scope="module")
def beside(workspace):
    from support.clients import Functions
    from support.server import Server

    path = ":".join([os.environ["PATH"], *(folder for _, folder in others().values())])
    server = Server(workspace / "versions", env={"PATH": path}).start()
    functions = Functions(server)
    yield server, functions
    server.stop()


def test_each_function_runs_on_its_own_version(beside):
    _, functions = beside
    host = subprocess.run(["node", "--version"], check=True, text=True, capture_output=True).stdout.strip()
    versions = {kinds.node(): host} | {runtime: version for runtime, (version, _) in others().items()}
    assert len(versions) >= 2, versions
    deployed = {runtime: functions.deploy({"app.mjs": HANDLER}, runtime) for runtime in versions}
    for _ in range(3):
        for runtime, name in deployed.items():
            assert functions.invoke(name).ok() == [versions[runtime], f"AWS_Lambda_{runtime}", True]
            failed = functions.invoke(name, {"raise": True}).failed("RangeError")
            assert failed["errorMessage"] == "far" and "app.mjs" in failed["trace"][1]
    missing = functions.api.exceptions.InvalidParameterValueException
    with pytest.raises(missing, match=".*".join(sorted(versions))):
        functions.deploy({"app.mjs": HANDLER}, "nodejs17.x", wait=False)


def test_web_servers_and_calls_at_once_on_another_version(beside):
    _, functions = beside
    for runtime, (version, _) in others().items():
        name = functions.deploy({"server.js": SERVER}, runtime, "server.js", tags=kinds.WEB, url=True)
        assert requests.get(functions.path(name), timeout=30).text == version
        name = functions.deploy({"app.mjs": HANDLER}, runtime, tags={"virga:hard-concurrency": "4"})
        assert functions.invoke(name, {"nap": 10}).ok()[0] == version
