"""`virga deploy --build`: package managers run on the server, in a sandbox, against the registries themselves."""

import json
import os
import re
import signal
import socket
import subprocess
import urllib.parse

import pytest
from pip._internal.models.index import PyPI
from support import poll
from support.server import binary


def places(*urls):
    """The hosts of these, and their addresses where those are not public ones."""
    hosts = {urllib.parse.urlsplit(url).hostname for url in urls}
    addresses = {found[4][0] for host in hosts for found in socket.getaddrinfo(host, 443, socket.AF_INET)}
    return " ".join(f"{place}:443" for place in sorted(hosts | addresses))


def npm_registry():
    return subprocess.run(["npm", "config", "get", "registry"], check=True, text=True, capture_output=True).stdout.strip()


@pytest.fixture
def builds(new_server, tmp_path):
    """A server, and a folder to deploy from it: what the CLI did."""
    server = new_server(arguments=["--max-egress", "open"]).start()
    folder = tmp_path / "app"
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}

    def deploy(files, *arguments, **options):
        for name, content in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return server.cli("deploy", folder, "--build", *arguments, seconds=300, **(environment | options))

    yield server, deploy
    # Whatever came of it, the function that ran the package manager is gone.
    assert "virga-build" not in server.cli("list", check=0).stdout
    server.stop()


HANDLER = "import six\n\ndef handler(event, context):\n    return six.__version__\n"


def test_pip(builds):
    server, deploy = builds
    egress = places(PyPI.simple_url, f"https://{PyPI.file_storage_domain}")
    files = {"app.py": HANDLER, "requirements.txt": "six==1.16.0\n"}
    deployed = deploy(files, "--build-egress", egress, check=0)
    assert "is not installed here" not in deployed.stderr
    assert json.loads(server.cli("invoke", "app", check=0).stdout) == "1.16.0"
    # The same lists need no registry a second time; others do.
    again = deploy(files, "--build-egress", "none", "--json", check=0)
    assert json.loads(again.stdout)["Action"] == "Unchanged"
    refused = deploy({"requirements.txt": "six==1.17.0\n"}, "--build-egress", "none")
    assert refused.returncode == 1, refused.stderr
    assert re.search(r"pip install ended with 1:\n.*six==1\.17\.0", refused.stderr, re.DOTALL), refused.stderr
    assert json.loads(server.cli("invoke", "app", check=0).stdout) == "1.16.0", "nothing has changed"
    deploy({}, "--build-egress", egress, check=0)
    assert json.loads(server.cli("invoke", "app", check=0).stdout) == "1.17.0"


def test_npm(builds, tmp_path):
    server, deploy = builds
    lock = tmp_path / "lock"
    lock.mkdir()
    (lock / "package.json").write_text(json.dumps({"name": "x", "version": "1.0.0", "dependencies": {"is-number": "7.0.0"}}))
    subprocess.run(["npm", "install", "--package-lock-only", "--silent"], cwd=lock, check=True)
    files = {name: (lock / name).read_text() for name in ("package.json", "package-lock.json")}
    # Scripts of the project's own need what is not there.
    project = json.loads(files["package.json"]) | {"scripts": {"prepare": "no-such-program", "postinstall": "node nothing.js"}}
    files["package.json"] = json.dumps(project)
    # What lies about is replaced, not mixed in.
    files |= {"index.js": "exports.handler = async () => [require('is-number')(5), require('fs').existsSync('node_modules/old')]",
              "node_modules/old/index.js": ""}  # fmt: skip
    deploy(files, "--build-egress", places(npm_registry()), check=0)
    assert json.loads(server.cli("invoke", "app", check=0).stdout) == [True, False]
    # A lock file that does not fit says so in npm's own words.
    wanted = files["package.json"].replace("7.0.0", "6.0.0")
    broken = deploy({"package.json": wanted}, "--build-egress", places(npm_registry()))
    assert broken.returncode == 1 and "npm ci ended with 1" in broken.stderr and "lock" in broken.stderr, broken.stderr


def test_what_cannot_be_resolved_is_said(builds):
    _, deploy = builds
    for files, said in (
        ({"app.py": HANDLER}, "has no requirements.txt"),
        ({"app.py": HANDLER, "requirements.txt": "nothing-of-this-name==1\n"}, "nothing-of-this-name"),
    ):
        failed = deploy(files, "--build-egress", "none")
        assert failed.returncode in (1, 2) and said in failed.stderr, failed.stderr
    refused = deploy({}, "--build-egress", "nonsense://")
    assert refused.returncode == 3 and "virga:egress" in refused.stderr, refused.stderr


def test_a_build_sees_the_lists_and_nothing_else(builds):
    _, deploy = builds
    # A package manager runs code of strangers: here setup.py of a project that is asked for as `.`.
    curious = (
        "import os, sys\n"
        "found = sorted(os.listdir('/var/task')), sorted(os.listdir('.')), os.environ.get('SECRET')\n"
        "sys.exit(f'found {found}')\n"
    )
    probe = deploy({"app.py": HANDLER, "secret.txt": "secret", "requirements.txt": "--no-index\n./app\n", "setup.py": curious})
    assert probe.returncode == 1 and "./app" in probe.stderr, probe.stderr
    assert "secret.txt" not in probe.stderr


def test_an_interrupt_is_heard(builds, tmp_path):
    server, _ = builds
    folder = tmp_path / "waits"
    folder.mkdir()
    (folder / "app.py").write_text(HANDLER)
    (folder / "requirements.txt").write_text("six==1.16.0\n")
    # Without a way out pip tries again and again.
    command = [binary(), "deploy", folder, "--build", "--build-egress", "none", "--build-env", "PIP_RETRIES=50"]
    environment = server.client_environment(XDG_CACHE_HOME=str(tmp_path / "cache"))

    def begun():
        client = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        poll.until(lambda: "virga-build" in server.cli("list", check=0).stdout, "the build")
        return client

    client = begun()
    client.send_signal(signal.SIGINT)
    assert "interrupted" in client.communicate(timeout=20)[1]
    assert "virga-build" not in server.cli("list", check=0).stdout
    # Nor does it wait for a server that does not answer, if it is told twice.
    client = begun()
    server.process.send_signal(signal.SIGSTOP)
    try:
        poll.until(lambda: client.send_signal(signal.SIGINT) or client.poll() is not None, "its end")
        assert client.wait() == 130
    finally:
        server.process.send_signal(signal.SIGCONT)
        client.kill()
        client.communicate()
    # It may have told the server just before: then there is nothing to delete.
    if left := re.search(r"virga-build-\w+", server.cli("list", check=0).stdout):
        server.cli("delete", left[0])
    poll.until(lambda: "virga-build" not in server.cli("list", check=0).stdout, "nothing is left")


def test_composer(builds, tmp_path):
    server, deploy = builds
    lock = tmp_path / "lock"
    lock.mkdir()
    scripts = {"post-autoload-dump": ["@php artisan package:discover"]}
    (lock / "composer.json").write_text(json.dumps({"autoload": {"psr-4": {"App\\": "src/"}}, "scripts": scripts}))
    subprocess.run(["composer", "update", "--no-install", "--quiet"], cwd=lock, check=True,
                   env=os.environ | {"COMPOSER_ALLOW_SUPERUSER": "1", "COMPOSER_HOME": str(tmp_path)})  # fmt: skip
    files = {name: (lock / name).read_text() for name in ("composer.json", "composer.lock")}
    files |= {"handler.php": "<?php\nrequire 'vendor/autoload.php';\nreturn fn ($event, $context) => App\\Own::name();",
              "src/Own.php": "<?php namespace App; class Own { static function name() { return 'own'; } }"}  # fmt: skip
    deploy(files, "--build-egress", "none", check=0)
    assert json.loads(server.cli("invoke", "app", check=0).stdout) == "own"


def test_bundler(builds, tmp_path):
    server, deploy = builds
    lock = tmp_path / "lock"
    lock.mkdir()
    (lock / "Gemfile").write_text("source 'https://gems.invalid'\n")
    subprocess.run(["bundle", "lock", "--local"], cwd=lock, check=True, env=os.environ | {"HOME": str(tmp_path)})
    files = {name: (lock / name).read_text() for name in ("Gemfile", "Gemfile.lock")}
    files |= {"app.rb": "def handler(event:, context:)\n  'ran'\nend\n"}
    deploy(files, "--build-egress", "none", check=0)
    assert json.loads(server.cli("invoke", "app", check=0).stdout) == "ran"
    # Of gems that would have to be fetched it says that there is no way.
    files = {"Gemfile": "source 'https://gems.invalid'\ngem 'nothing'\n",
             "Gemfile.lock": "GEM\n  remote: https://gems.invalid/\n  specs:\n    nothing (1.0)\n\n"
                             "PLATFORMS\n  ruby\n\nDEPENDENCIES\n  nothing\n"}  # fmt: skip
    failed = deploy(files, "--build-egress", "none")
    assert failed.returncode == 1 and "bundle install ended with" in failed.stderr and "gems.invalid" in failed.stderr, failed.stderr
