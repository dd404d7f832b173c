"""Fixtures: one server for the session, further ones for tests that hurt theirs."""

import os
import pathlib
import shutil
import tempfile
import uuid

import pytest

from support import clients, shapes
from support.server import Server


@pytest.fixture(scope="session")
def workspace():
    """A folder of the session, on a path every user may walk."""
    # Only letters and digits vary: the path becomes part of names of images.
    folder = pathlib.Path(tempfile.gettempdir()) / f"virga-e2e-{uuid.uuid4().hex[:12]}"
    folder.mkdir()
    folder.chmod(0o755)
    yield folder
    if not os.environ.get("E2E_KEEP"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server(workspace):
    """The server that most tests share."""
    # Names below example.com are anybody's, for the tests of domains.
    started = Server(workspace / "shared", arguments=("--domains", "example.com")).start()
    yield started
    started.stop()


@pytest.fixture
def functions(server):
    """Functions of the shared server."""
    made = clients.Functions(server)
    yield made
    made.delete_all()


@pytest.fixture
def new_server(workspace):
    """Makes servers with data directories of their own; stops what is still running."""
    made = []

    def make(**options):
        made.append(Server(workspace / f"own-{uuid.uuid4().hex[:8]}", **options))
        return made[-1]

    yield make
    for each in made:
        if each.process and each.process.poll() is None:
            each.kill()


@pytest.fixture(autouse=True)
def shapes_are_clean():
    """Every answer that boto3 got during a test fits the service's model."""
    yield
    found, shapes.FOUND[:] = sorted(set(shapes.FOUND)), []
    assert not found, "answers that do not fit the model:\n" + "\n".join(found)


@pytest.fixture
def marker():
    """A word that is put into a function's environment and looked for in the host's processes."""
    return f"e2e-marker-{uuid.uuid4().hex}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """A failed test shows the end of its servers' logs."""
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    for value in list(getattr(item, "funcargs", {}).values()):
        if isinstance(value, Server):
            report.sections.append((f"log of {value.data.name}", value.tail()))
