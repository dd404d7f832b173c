"""`virga build`: images of folders without a daemon, judged by skopeo, umoci, a real registry and a running server."""

import base64
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import tarfile
import threading
import time
import urllib.parse
import uuid

import pytest
import requests

from support import clients, images, kinds
from support.server import binary, clean_environment

PAGE = "hello from a build\n"
HTTPD = "/app/busybox httpd -f -p 8080 -h /app/www"
# Steps see interpreters that lie elsewhere, and asking those, version managers' above all, takes longer than most builds.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(scope="module", autouse=True)
def tools():
    """Without them nothing here can be tested."""
    assert not images.available(), f"missing: {images.available()}; tests/e2e/setup.sh installs them"


@pytest.fixture(scope="module")
def registry(workspace):
    """An open registry."""
    started = images.Registry(workspace / "build-registry")
    yield started
    started.stop()


@pytest.fixture
def place(workspace):
    """A folder of the test's own, with one for files on their way."""
    folder = workspace / f"build-{uuid.uuid4().hex[:8]}"
    (folder / "scratch").mkdir(parents=True)
    return folder


@pytest.fixture
def app(place):
    """A web server that runs alone, and its files."""
    folder = place / "app"
    (folder / "www").mkdir(parents=True)
    shutil.copy("/bin/busybox", folder / "busybox")
    (folder / "www/index.html").write_text(PAGE)
    return folder


@pytest.fixture
def build(place):
    """Runs `virga build`; what it needs on the way is gone afterwards, whatever happened."""
    def run(*arguments, check=None, env=None):
        environment = clean_environment(PATH=PATH) | (env or {}) | {"TMPDIR": str(place / "scratch"), "HOME": str(place)}
        command = [binary(), "build", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=place)
        assert list((place / "scratch").iterdir()) == [], "nothing stays behind"
        if check is not None:
            assert done.returncode == check, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def made(done):
    """What `--json` says."""
    return json.loads(done.stdout.splitlines()[0])


def unpacked(layout, tag, into):
    """The tree that umoci makes of an image."""
    images.run("umoci", "unpack", "--rootless", "--image", f"{layout}:{tag}", into)
    return into / "rootfs"


def tree(root):
    """Paths with what they are: content, target, mode."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in folders + files:
            path = os.path.join(folder, name)
            about = os.lstat(path)
            kind = stat.S_IFMT(about.st_mode)
            what = os.readlink(path) if kind == stat.S_IFLNK else None
            if kind == stat.S_IFREG:
                with open(path, "rb") as file:
                    what = hashlib.sha256(file.read()).hexdigest()
            found[os.path.relpath(path, os.fsencode(root))] = (kind, what, bool(about.st_mode & 0o111) or kind == stat.S_IFLNK)
    return found


def blobs(layout):
    """Names of a layout's blobs."""
    return sorted(path.name for path in (layout / "blobs/sha256").iterdir())


def test_a_tree_comes_out_as_it_went_in(build, place):
    folder = place / "app"
    (folder / "sub/empty").mkdir(parents=True)
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o6711)
    (folder / "plain").write_bytes(bytes(range(256)) * 40)
    (folder / "sub/link").symlink_to("../plain")
    (folder / ("n" * 200)).write_text("a long name")
    (folder / "sub" / ("d" * 90)).mkdir()
    (folder / "sub" / ("d" * 90) / ("t" * 120)).symlink_to("../../" + "n" * 200)
    (folder / "日本").write_text("not ASCII")
    odd = os.fsencode(folder) + b"/\xff\xfe"
    pathlib.Path(os.fsdecode(odd)).write_text("not UTF-8")
    long = os.fsencode(folder) + b"/\xff" + b"o" * 150
    pathlib.Path(os.fsdecode(long)).write_text("neither, and long")
    os.link(folder / "plain", folder / "same")
    expect = tree(folder)
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").write_text("x")
    told = made(build(folder, "-o", "oci:out:v1", "-o", "docker-archive:out.tar", "-t", "r.test/app:v1", "--json",
                      "--base", f"oci:{base(place)}", "--entrypoint", "/app/run", check=0))  # fmt: skip
    root = unpacked(place / "out", "v1", place / "bundle")
    assert tree(root / "app") == expect
    assert (root / "app/run").stat().st_mode & 0o7777 == 0o755, "no set-user-id"
    inspected = json.loads(images.run("skopeo", "inspect", f"oci:{place}/out:v1"))
    assert inspected["Digest"] == told["Digest"] and len(inspected["Layers"]) == 2
    # GNU's tar sees the same names, without owners and times.
    layer = place / "out/blobs/sha256" / inspected["Layers"][1].split(":")[1]
    listed = images.run("tar", "--numeric-owner", "--utc", "-tvzf", layer)
    assert all(" 0/0 " in line and "1970-01-01 00:00" in line for line in listed.splitlines()), listed
    images.run("skopeo", "copy", "--insecure-policy", f"docker-archive:{place}/out.tar:r.test/app:v1", f"oci:{place}/again:v1")
    assert tree(unpacked(place / "again", "v1", place / "bundle2")) == tree(root)


def base(place):
    """A small image to build upon, with settings of its own."""
    layout = images.Layout(place / "base")
    layout.image([images.busybox_layer()], Env=["PATH=/bin", "FROM_BASE=yes", "SAME=base"], User="web",
                 Cmd=["/bin/sh"], WorkingDir="/srv")  # fmt: skip
    return layout.folder


def test_the_same_folder_gives_the_same_bytes(build, place, app):
    other = place / "other"
    shutil.copytree(app, other)
    for path in other.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    said = ["--entrypoint", HTTPD, "-t", "x/app:v1", "--json"]
    one = made(build(app, "-o", "oci:one", "-o", "docker-archive:one.tar", *said, check=0))
    two = made(build(other, "-o", "oci:two", "-o", "docker-archive:two.tar", *said, check=0, env={"TZ": "Asia/Tokyo"}))
    assert one["Digest"] == two["Digest"] and blobs(place / "one") == blobs(place / "two")
    for name in ("index.json", "oci-layout"):
        assert (place / "one" / name).read_bytes() == (place / "two" / name).read_bytes()
    assert (place / "one.tar").read_bytes() == (place / "two.tar").read_bytes()
    (other / "www/index.html").write_text("changed")
    assert made(build(other, "-o", "oci:two", *said, check=0))["Digest"] != one["Digest"]


def test_a_layout_keeps_what_else_is_in_it(build, place, app):
    for tag in ("v1", "v2", "v1"):
        (app / "www/index.html").write_text(tag)
        build(app, "-o", f"oci:out:{tag}", "--entrypoint", HTTPD, check=0)
    index = json.loads((place / "out/index.json").read_text())
    assert [each["annotations"]["org.opencontainers.image.ref.name"] for each in index["manifests"]] == ["v2", "v1"]
    assert (unpacked(place / "out", "v2", place / "b2") / "app/www/index.html").read_text() == "v2"
    build(app, "-o", "oci:a folder/with blanks", "--entrypoint", HTTPD, check=0)
    assert (unpacked(place / "a folder/with blanks", "latest", place / "b3") / "app/busybox").is_file()
    # An output inside of the folder is no part of it.
    inside = [made(build(app, "-o", f"oci:{app}/image", "--entrypoint", HTTPD, "--json", check=0)) for _ in range(2)]
    assert inside[0]["Digest"] == inside[1]["Digest"] and inside[0]["Files"] == 2


def test_a_base_is_inherited_and_its_layers_are_untouched(build, place, app):
    folder = base(place)
    told = made(build(app, "-o", "oci:out:v1", "--base", "oci:base:latest", "--entrypoint", "/app/busybox", "--cmd", '["httpd"]',
                      "--env", "SAME=mine", "--env", "NEW=a=b", "--label", "k=v", "--port", "8080", "--json", check=0))  # fmt: skip
    config = json.loads(images.run("skopeo", "inspect", "--config", f"oci:{place}/out:v1"))
    assert config["config"]["Env"] == ["PATH=/bin", "FROM_BASE=yes", "SAME=mine", "NEW=a=b"]
    assert (config["config"]["User"], config["config"]["WorkingDir"]) == ("web", "/app")
    assert (config["config"]["Entrypoint"], config["config"]["Cmd"]) == (["/app/busybox"], ["httpd"])
    assert config["config"]["ExposedPorts"] == {"8080/tcp": {}} and config["config"]["Labels"] == {"k": "v"}
    before = json.loads(images.run("skopeo", "inspect", f"oci:{folder}:latest"))["Layers"]
    after = json.loads(images.run("skopeo", "inspect", f"oci:{place}/out:v1"))["Layers"]
    assert after[: len(before)] == before and len(after) == told["Layers"] == 2
    # The same base out of an archive has its layers uncompressed; what they unpack to is the same.
    images.run("skopeo", "copy", "--insecure-policy", f"oci:{folder}:latest", f"docker-archive:{place}/base.tar:b:v1")
    build(app, "-o", "oci:out2:v1", "--base", "docker-archive:base.tar", "--entrypoint", HTTPD, check=0)
    assert tree(unpacked(place / "out2", "v1", place / "b2")) == tree(unpacked(place / "out", "v1", place / "b1"))


def test_dockerignore(build, place, app):
    for path in ("logs/a.log", "docs/README.md", "docs/x.md", "deep/er/b.log", "Dockerfile", "__pycache__/a.pyc"):
        (app / path).parent.mkdir(parents=True, exist_ok=True)
        (app / path).write_text(path)
    (app / ".dockerignore").write_text("# what nobody needs\n**/*.log\nlogs\ndocs\n!docs/README.md\n")
    build(app, "-o", "oci:out", "--base", "scratch", "--entrypoint", HTTPD, check=0)
    found = tree(unpacked(place / "out", "latest", place / "bundle") / "app")
    assert sorted(found) == [b"busybox", b"deep", b"deep/er", b"docs", b"docs/README.md", b"www", b"www/index.html"]


def test_pushed_deployed_and_answering(server, functions, registry, build, place, app):
    tag = f"{registry.host}/team/app:v1"
    deploy = [app, "-t", tag, "--push", "--entrypoint", HTTPD, "--deploy", "--name", "built-web"]
    done = build(*deploy, "--json", check=0, env=server.client_environment())
    functions.made.append("built-web")
    told, deployed = map(json.loads, done.stdout.splitlines())
    assert told["Pushed"]["Blobs"] == 2 and not told["Pushed"]["Unchanged"]
    assert deployed["ResolvedImageUri"] == told["Pushed"]["ResolvedImageUri"] == f"{tag[:-3]}@{told['Digest']}"
    assert requests.get(functions.path("built-web"), timeout=20).text == PAGE
    inspected = json.loads(images.run("skopeo", "inspect", "--tls-verify=false", f"docker://{tag}"))
    assert inspected["Digest"] == told["Digest"]
    again = json.loads(build(app, "-t", tag, "--push", "--entrypoint", HTTPD, "--json", check=0).stdout)
    assert again["Pushed"] == told["Pushed"] | {"Blobs": 0, "Bytes": 0, "Unchanged": True}
    # Another tag of the same image: its manifest is all that goes.
    again = json.loads(build(app, "-t", f"{tag}b", "--push", "--entrypoint", HTTPD, "--json", check=0).stdout)
    assert (again["Pushed"]["Blobs"], again["Pushed"]["Unchanged"]) == (0, False)
    (app / "www/index.html").write_text("changed\n")
    done = build(*deploy, check=0, env=server.client_environment())
    assert "updated" in done.stdout and "2 blobs sent" in done.stdout, done.stdout
    assert requests.get(functions.path("built-web"), timeout=20).text == "changed\n"


def test_packages_are_a_layer_of_their_own(registry, build, app):
    (app / "node_modules/big").mkdir(parents=True)
    (app / "node_modules/big/index.js").write_bytes(os.urandom(300_000))
    tag = f"{registry.host}/team/packages"
    first = made(build(app, "-t", tag, "--push", "--entrypoint", HTTPD, "--json", check=0))
    assert first["Layers"] == 2 and first["Pushed"]["Blobs"] == 3
    (app / "www/index.html").write_text("changed\n")
    second = made(build(app, "-t", tag, "--push", "--entrypoint", HTTPD, "--json", check=0))
    assert second["Pushed"]["Blobs"] == 2, "the code and the configuration"


def test_a_base_of_another_repository_is_passed_on(registry, build, place, app):
    source = images.Layout(place / "source")
    source.image([images.busybox_layer(), images.layer(files={"from-base": "x"})], Env=["A=1"])
    upon = source.push(registry, "bases/busybox:v1")
    tag = f"{registry.host}/team/upon"
    told = made(build(app, "-t", tag, "--push", "--base", upon, "--entrypoint", HTTPD, "--json", check=0))
    assert told["Layers"] == 3 and told["Pushed"]["Blobs"] == 4
    images.run("skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", f"docker://{tag}", f"oci:{place}/back:v1")
    root = unpacked(place / "back", "v1", place / "bundle")
    assert (root / "from-base").read_text() == "x" and (root / "app/www/index.html").read_text() == PAGE


def test_a_lambda_handler_upon_an_image_with_a_client(new_server, workspace, build, place):
    bundle = kinds.bundle("awslambdaric")
    layers = [images.python_layer(*bundle.glob("*.so")), images.folder_layer(bundle, "opt/client")]
    upon = images.Layout(place / "python")
    upon.image(layers, Entrypoint=["/usr/bin/python3.11", "-m", "awslambdaric"], Env=["PYTHONPATH=/opt/client"])
    folder = place / "hello"
    folder.mkdir()
    (folder / "app.py").write_text("import os\ndef handler(event, context):\n    return [event, os.getcwd()]\n")
    server = new_server(arguments=["--local-images", str(workspace)]).start()
    done = build(folder, "--base", "oci:python", "-o", "oci:image", "--deploy", check=0, env=server.client_environment())
    assert "a Python handler, app.handler" in done.stdout
    assert clients.Functions(server).invoke("hello", {"a": 1}).ok() == [{"a": 1}, "/var/task"]


def test_a_registry_that_wants_credentials(workspace, build, place, app):
    closed = images.Registry(workspace / "build-closed", user="pusher", password="very-secret-word")
    try:
        push = [app, "-t", f"{closed.host}/private/app", "--push", "--entrypoint", HTTPD]
        refused = build(*push, check=3)
        assert "wants credentials and none are configured" in refused.stderr, refused.stderr
        wrong = images.docker_config(place / "wrong.json", closed, "pusher", "wrong-secret-word")
        refused = build(*push, "--registry-auth", wrong, check=3)
        assert "does not accept the credentials" in refused.stderr and "secret-word" not in refused.stderr
        (place / ".docker").mkdir()
        images.docker_config(place / ".docker/config.json", closed, "pusher", "very-secret-word")
        assert "2 blobs sent" in build(*push, check=0).stdout
    finally:
        closed.stop()


class Uploads:
    """A proxy in front of a registry that passes requests on, and lets `meddle` answer an upload in its own way."""

    def __init__(self, registry, meddle=lambda handler, length: False, login=None):
        outer = self
        self.uploads, self.manifests, self.scopes = [], [], []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def bare(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def token(self):
                """Docker's token service: whoever shows the login gets a token for the scope that they ask for."""
                if self.headers.get("Authorization") != login:
                    return self.bare(401)
                outer.scopes.append(urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["scope"][0])
                self.bare(200, json.dumps({"token": f"for-{len(outer.scopes) - 1}"}).encode())

            def may(self):
                """Whether the token shown is one that was given out for what is asked."""
                shown = self.headers.get("Authorization", "").removeprefix("Bearer for-")
                actions = outer.scopes[int(shown)].rsplit(":", 1)[1].split(",") if shown.isdigit() else []
                return ("pull" if self.command in ("GET", "HEAD") else "push") in actions

            def passed(self):
                length = int(self.headers.get("Content-Length", 0))
                if login and self.path.startswith("/token?"):
                    return self.token()
                if login and not self.may():
                    self.rfile.read(length)
                    return self.bare(401, WWW_Authenticate=f'Bearer realm="http://{outer.host}/token",service="test"')
                if self.command == "PUT" and "/uploads/" in self.path:
                    outer.uploads.append(length)
                    if meddle(self, length):
                        return
                if self.command == "PUT" and "/manifests/" in self.path:
                    outer.manifests.append(self.path)
                body = self.rfile.read(length)
                headers = {k: v for k, v in self.headers.items() if k.lower() in ("accept", "content-type")}
                answer = requests.request(self.command, registry.url + self.path, data=body, headers=headers, timeout=30)
                self.send_response(answer.status_code)
                for name in ("Content-Type", "Docker-Content-Digest"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                if "Location" in answer.headers:
                    self.send_header("Location", answer.headers["Location"].split(registry.host)[-1])
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_HEAD = do_POST = do_PUT = passed

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        """Ends it."""
        self.server.shutdown()
        self.server.server_close()


def test_a_registry_that_wants_tokens(registry, build, place, app):
    login = "Basic " + base64.b64encode(b"pusher:very-secret-word").decode()
    proxy = Uploads(registry, login=login)
    push = [app, "-t", f"{proxy.host}/tokens/app", "--push", "--entrypoint", HTTPD]
    refused = build(*push, check=3)
    assert "its token service does not accept the credentials" in refused.stderr, refused.stderr
    auth = images.docker_config(place / "auth.json", proxy, "pusher", "very-secret-word")
    assert "2 blobs sent" in build(*push, check=0, env={"REGISTRY_AUTH_FILE": str(auth)}).stdout
    proxy.stop()
    assert set(proxy.scopes) == {"repository:tokens/app:pull,push"} and len(proxy.manifests) == 1


def test_a_registry_with_tls(workspace, build, place, app):
    images.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
               "-keyout", place / "key.pem", "-out", place / "cert.pem", "-subj", "/CN=registry.test",
               "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE")  # fmt: skip
    tls = {"certificate": str(place / "cert.pem"), "key": str(place / "key.pem")}
    secured = images.Registry(workspace / "build-secured", tls=tls)
    try:
        push = [app, "-t", f"{secured.host}/team/app", "--push", "--entrypoint", HTTPD]
        assert "certificate" in build(*push, check=3).stderr
        told = made(build(*push, "--registry-ca", place / "cert.pem", "--json", check=0))
        inspected = json.loads(images.run("skopeo", "inspect", "--tls-verify=false", f"docker://{secured.host}/team/app"))
        assert inspected["Digest"] == told["Digest"]
    finally:
        secured.stop()


def test_a_web_server_under_the_interpreter_of_its_base(server, functions, registry, build, place):
    layout = images.Layout(place / "python").image([images.python_layer()], Entrypoint=["/usr/bin/python3.11"])
    folder = place / "web"
    folder.mkdir()
    (folder / "app.py").write_text(
        "import os\nfrom http.server import BaseHTTPRequestHandler, HTTPServer\n"
        "class Handler(BaseHTTPRequestHandler):\n    def do_GET(self):\n        self.send_response(200)\n"
        "        self.end_headers()\n        self.wfile.write(os.getcwd().encode())\n"
        'HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()\n'
    )
    done = build(folder, "-t", f"{registry.host}/team/python-web", "--push", "--base", f"oci:{layout.folder}", "--deploy",
                 "--name", "built-python", "--json", check=0, env=server.client_environment())  # fmt: skip
    functions.made.append("built-python")
    told = json.loads(done.stdout.splitlines()[0])
    assert (told["EntryPoint"], told["Contract"]) == (["/usr/bin/python3.11", "app.py"], "http")
    assert requests.get(functions.path("built-python"), timeout=20).text == "/app"


@pytest.mark.parametrize("times,works", [(1, True), (99, False)])
def test_a_registry_that_breaks_off_half_way(registry, build, app, times, works):
    (app / "big").write_bytes(os.urandom(2_000_000))
    left = [times]

    def break_off(handler, length):
        if length < 1_000_000 or left[0] == 0:
            return False
        left[0] -= 1
        handler.rfile.read(length // 2)
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)
        return True

    proxy = Uploads(registry, break_off)
    tag = f"{proxy.host}/half/app{times}"
    done = build(app, "-t", tag, "--push", "--entrypoint", HTTPD, check=0 if works else 3)
    proxy.stop()
    large = [length for length in proxy.uploads if length > 1_000_000]
    if works:
        assert len(large) == 2 and len(proxy.manifests) == 1
    else:
        assert len(large) == 3 and proxy.manifests == [] and proxy.host in done.stderr, done.stderr
        missing = requests.get(f"{registry.url}/v2/half/app{times}/manifests/latest", timeout=20)
        assert missing.status_code == 404


def test_a_base_that_is_corrupt_is_not_passed_on(registry, build, place, app):
    folder = base(place)
    manifest = json.loads((folder / "blobs/sha256" / json.loads((folder / "index.json").read_text())
                           ["manifests"][0]["digest"].split(":")[1]).read_text())  # fmt: skip
    layer = folder / "blobs/sha256" / manifest["layers"][0]["digest"].split(":")[1]
    content = bytearray(layer.read_bytes())
    content[len(content) // 2] ^= 1
    layer.write_bytes(content)
    said = [app, "--base", "oci:base", "--entrypoint", HTTPD]
    refused = build(*said, "-t", f"{registry.host}/corrupt/app", "--push", check=2)
    assert "is not what its digest says" in refused.stderr, refused.stderr
    assert requests.get(f"{registry.url}/v2/corrupt/app/manifests/latest", timeout=20).status_code == 404
    for output in ("oci:new", "docker-archive:folder/new.tar"):
        refused = build(*said, "-o", output, check=2)
        assert "is not what its digest says" in refused.stderr, refused.stderr
    assert not (place / "new").exists() and not (place / "folder").exists(), "nothing half-made stays"


@pytest.mark.parametrize(
    "arguments,code,said",
    [
        (["nowhere", "-o", "oci:out"], 2, "cannot read nowhere"),
        (["app"], 2, "say where the image goes"),
        (["app", "-o", "oci:out"], 2, "say what it starts with --entrypoint"),
        (["app", "-o", "oci:out", "--entrypoint", "node x.js"], 2, "from scratch there is nothing else"),
        (["app", "-o", "oci:out", "--entrypoint", "/app/sh"], 2, "is a script of /bin/sh"),
        (["app", "-o", "oci:out", "--entrypoint", "/app/dynamic"], 2, "is not static"),
        (["app", "-o", "oci:app", "--entrypoint", HTTPD], 2, "neither empty nor an OCI layout"),
        (["app", "-o", "oci:out", "--entrypoint", HTTPD, "--base", "oci:none"], 2, "none"),
        (["app", "-o", "oci:out", "--entrypoint", HTTPD, "--base", "127.0.0.1:1/x"], 3, "cannot be reached"),
        (["app", "-o", "oci:out", "--entrypoint", HTTPD, "--base", "REGISTRY/no/such"], 2, "does not exist"),
        (["app", "-o", "x:out", "--entrypoint", HTTPD], 2, "x:out"),
        (["app", "--push", "--entrypoint", HTTPD], 2, "--tag"),
        (["app", "--push", "-t", "UPPER/x", "--entrypoint", HTTPD], 2, "does not name an image"),
        (["app", "--push", "-t", "127.0.0.1:1/x", "--entrypoint", HTTPD], 3, "cannot be reached"),
        (["wasm", "-o", "oci:out"], 2, "virga deploy takes it as it is"),
        (["handler", "-o", "oci:out"], 2, "client of the Runtime API"),
        (["links", "-o", "oci:out", "--entrypoint", "/app/busybox"], 2, "is a link out of the folder, to /etc/passwd"),
        (["pipes", "-o", "oci:out", "--entrypoint", "/app/busybox"], 2, "is a socket, a pipe or a device"),
    ],
)
def test_what_cannot_be_built_is_said(registry, build, place, app, arguments, code, said):
    (app / "sh").write_text("#!/bin/sh\n")
    (app / "sh").chmod(0o755)
    shutil.copy("/bin/ls", app / "dynamic")
    for name in ("links", "pipes", "wasm", "handler"):
        (place / name).mkdir()
    for name in ("links", "pipes"):
        shutil.copy("/bin/busybox", place / name / "busybox")
    (place / "links/bad").symlink_to("/etc/passwd")
    os.mkfifo(place / "pipes/pipe")
    (place / "wasm/a.wasm").write_bytes(b"\0asm")
    (place / "handler/app.py").write_text("def handler(event, context):\n    return 1\n")
    done = build(*[word.replace("REGISTRY", registry.host) for word in arguments], check=code)
    assert said in done.stderr and done.stdout == "", done.stderr
    assert not (place / "out").exists()


@pytest.fixture
def buildah(place):
    """buildah's own settings: a storage of the test's, and no further namespaces than a test may have."""
    assert shutil.which("buildah"), "missing: buildah; tests/e2e/setup.sh installs it"
    storage = place / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{place}/storage"\nrunroot = "{place}/run"\n')
    return {"CONTAINERS_STORAGE_CONF": str(storage), "BUILDAH_ISOLATION": "chroot"}


def test_a_dockerfile_is_built_by_buildah(server, functions, registry, build, buildah, place, app):
    images.Layout(place / "base").image([images.busybox_layer()], Env=["PATH=/bin"])
    (app / "Dockerfile").write_text(
        f"FROM oci:{place}/base:latest\nARG GREETING\nCOPY www /www\nRUN echo $GREETING >/www/made\n"
        'EXPOSE 8080\nCMD ["/bin/httpd", "-f", "-p", "8080", "-h", "/www"]\n'
    )
    tag = f"{registry.host}/team/dockerfile:v1"
    done = build(app, "-t", tag, "--push", "-o", "oci:out", "--build-arg", "GREETING=from-a-step", "--deploy", "--name", "built-docker",
                 "--json", check=0, env=server.client_environment() | buildah)  # fmt: skip
    functions.made.append("built-docker")
    assert "RUN echo $GREETING" in done.stderr, "what buildah says is shown"
    told, deployed = map(json.loads, done.stdout.splitlines())
    assert deployed["ResolvedImageUri"] == told["Pushed"]["ResolvedImageUri"]
    assert requests.get(functions.path("built-docker"), timeout=20).text == PAGE
    assert requests.get(functions.path("built-docker", "made"), timeout=20).text == "from-a-step\n"
    inspected = json.loads(images.run("skopeo", "inspect", "--tls-verify=false", f"docker://{tag}"))
    assert inspected["Digest"] == told["Digest"] == json.loads(images.run("skopeo", "inspect", f"oci:{place}/out:v1"))["Digest"]


def packed(layout):
    """Paths of files in the last layer of a layout's only image, but for its index."""
    blob = lambda each: layout / "blobs/sha256" / each["digest"].split(":")[1]  # noqa: E731
    manifest = json.loads(blob(json.loads((layout / "index.json").read_text())["manifests"][0]).read_text())
    with tarfile.open(blob(manifest["layers"][-1])) as archive:
        return sorted(each.name for each in archive if each.isfile() and each.name != "stargz.index.json")


def test_dockerignore_means_what_it_means_to_buildah(build, buildah, place):
    paths = ["a.log", "a1", "a2", "b1", "[x]", "star*name", ".env", "README.md", "LICENSE.md", "temp/x", "temp/y.log",
             "sub/temp/z", "sub/deep/er/b.log", "docs/README.md", "docs/x.md", "docs/sub/y.md", "src/lib/a.py"]  # fmt: skip
    for path in paths:
        (place / "app" / path).parent.mkdir(parents=True, exist_ok=True)
        (place / "app" / path).write_text(path)
    (place / "Dockerfile").write_text("FROM scratch\nCOPY . /app\n")
    upon = base(place)
    texts = ["*.log\na?", "**/*.log\n!a.log", "*/temp*", "**/temp", "docs\n!docs/README.md", "*.md\n!README*.md\nREADME.md",
             "[^a]1\n\\[x\\]\nstar\\*name", "./docs/\n  temp  # no comment", "docs/*\n.*", "*\n!src", "sub/*/er\nsub/../temp",
             "**/lib/**\n!a.log\n*.log"]  # fmt: skip
    for number, text in enumerate(texts):
        (place / "app/.dockerignore").write_text(text)
        theirs, ours = place / f"theirs-{number}", place / f"ours-{number}"
        done = subprocess.run(["buildah", "build", "-q", "-f", place / "Dockerfile", "-t", f"oci:{theirs}:x", place / "app"],
                              capture_output=True, text=True, env=clean_environment() | buildah)  # fmt: skip
        assert done.returncode == 0, done.stderr
        build("app", "-o", f"oci:{ours}", "--base", f"oci:{upon}", "--entrypoint", "/bin/sh", check=0)
        assert packed(ours) == [path for path in packed(theirs) if path != "app/.dockerignore"], text


def test_a_dockerfile_that_fails_leaves_nothing(build, buildah, place, app):
    images.Layout(place / "base").image([images.busybox_layer()], Env=["PATH=/bin"])
    (app / "Dockerfile").write_text(f"FROM oci:{place}/base:latest\nRUN echo told && exit 3\n")
    done = build(app, "-o", "oci:out", check=2, env=buildah)
    assert "told" in done.stderr and "buildah could not build app/Dockerfile: exit status" in done.stderr.replace(str(place) + "/", "")
    assert not (place / "out").exists()


def test_a_dockerfile_without_buildah(build, app, place):
    (app / "Dockerfile").write_text("FROM scratch\n")
    done = build(app, "-o", "oci:out", check=2, env={"PATH": "/nowhere"})
    assert "install it (Debian: apt-get install buildah" in done.stderr, done.stderr
    done = build(app, "-o", "oci:out", "--entrypoint", HTTPD, check=2)
    assert "--entrypoint does not go with" in done.stderr and "--base" in done.stderr
    build(app, "-o", "oci:out", "--base", "scratch", "--entrypoint", HTTPD, check=0, env={"PATH": "/nowhere"})
    done = build(app, "-o", "oci:out", "--base", "scratch", "--entrypoint", HTTPD, "--build-arg", "A=1", check=2)
    assert "--build-arg is for a Dockerfile" in done.stderr


def declare(app, *steps):
    """Writes the file that declares steps."""
    (app / "virga-build.json").write_text(json.dumps({"steps": steps}))


def test_steps_run_in_a_copy_and_what_they_make_is_packed(build, place, app):
    before = tree(app)
    declare(app, {"name": "compile", "run": "echo making at $LEVEL; cat secret.src >www/made; pwd", "env": {"LEVEL": "3"}},
            {"name": "more", "run": ["sh", "-c", 'echo "level=$LEVEL home=$HOME" >>www/made; echo oops >&2; rm secret.src']})  # fmt: skip
    (app / "secret.src").write_text("compiled\n")
    (app / "only-for-steps").write_text("x")
    (app / ".dockerignore").write_text("only-for-steps\n")
    said = ["--entrypoint", HTTPD, "--env", "X=1"]
    plain = build(app, "-o", "oci:plain", *said, check=0)
    assert "compile and what follows in virga-build.json runs only with --run-steps" in plain.stderr
    assert "made" not in str(tree(unpacked(place / "plain", "latest", place / "b1")))
    done = build(app, "-o", "oci:out", "--run-steps", *said, check=0)
    assert "compile | making at 3\n" in done.stderr and "more | oops\n" in done.stderr, done.stderr
    assert "compile | /mnt/app\n" in done.stderr and "app: " in done.stdout
    root = unpacked(place / "out", "latest", place / "b2") / "app"
    assert (root / "www/made").read_text() == "compiled\nlevel= home=/mnt/home\n"
    assert sorted(path.name for path in root.iterdir()) == ["busybox", "www"]
    assert (app / "secret.src").exists() and not (app / "www/made").exists(), "the folder itself is not touched"
    assert all(tree(app)[path] == what for path, what in before.items())


@pytest.mark.parametrize(
    "step,code,said",
    [
        ({"name": "bad", "run": "echo told; exit 7"}, 7, "step bad failed: exit status: 7"),
        ({"name": "bad", "run": "kill -9 $$"}, 137, "step bad failed: signal: 9"),
        ({"name": "bad", "run": ["/no/such/program"]}, 127, "exec: /no/such/program: not found"),
        ({"name": "bad", "image": "x"}, 2, "virga-build.json cannot be used: step 2: it has no member run"),
    ],
)
def test_a_step_that_fails_ends_the_build(build, place, app, step, code, said):
    declare(app, {"name": "first", "run": "true"}, step, {"name": "never", "run": f"touch {place}/ran"})
    done = build(app, "-o", "oci:out", "--run-steps", "--entrypoint", HTTPD, check=code)
    assert said in done.stderr, done.stderr
    assert not (place / "ran").exists() and not (place / "out").exists()


def test_what_a_step_forbids_is_taken_away_too(place, app):
    """Without root, nothing can be removed from such a folder."""
    declare(app, {"name": "modules", "run": "mkdir -p deep/er; touch deep/er/x; chmod 500 deep/er deep"})
    for folder in (place, place / "scratch"):
        folder.chmod(0o777)
    other = [] if os.geteuid() else ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
    command = [*other, binary(), "build", str(app), "-o", f"oci:{place}/out", "--run-steps", "--entrypoint", HTTPD]
    environment = clean_environment(TMPDIR=str(place / "scratch"), HOME=str(place), PATH=PATH)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0 and "could not be removed" not in done.stderr, done.stderr
    assert not any((place / "scratch").iterdir())


PRIVATE = "a secret of the host's"
LOOK = """
import json, os, pathlib, socket, sys
place, address, port = sys.argv[1:]
def reads(path):
    try: return pathlib.Path(path).read_text()[:20]
    except OSError as error: return type(error).__name__
def writes(path):
    try: pathlib.Path(path, "x").write_text("x"); return True
    except OSError: return False
def reaches(host, port):
    try: socket.create_connection((host, int(port)), 5).close(); return True
    except OSError: return False
home = pathlib.Path.home()
print(json.dumps({
    "reads": [reads(f"{place}/secret"), reads("/etc/shadow"), reads("/var/lib/dpkg/arch"), reads("/var/lib/dpkg/status")],
    "writes": [writes(path) for path in ("/mnt/app", "/mnt/home", "/tmp")], "elsewhere": [writes(path) for path in ("/usr", "/etc", "/", place)],
    "reaches": [reaches("127.0.0.1", port), reaches(address, port)], "env": sorted(os.environ), "user": os.getuid(),
    "processes": sum(name.isdigit() for name in os.listdir("/proc")), "before": [path.name for path in home.iterdir()]}))
(home / "kept").touch()
"""


def own_address():
    """One of this machine's that is not its loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))
        return probe.getsockname()[0]


def test_steps_are_confined(build, place, app):
    """They see the system and the folder, write to that, and reach what the rule opens."""
    (place / "secret").write_text(PRIVATE)
    (app / "look.py").write_text(LOOK)
    with socket.create_server(("0.0.0.0", 0)) as listening:
        port = listening.getsockname()[1]
        look = ["/usr/bin/python3", "look.py", str(place), own_address(), str(port)]
        declare(app, {"name": "look", "run": look, "env": {"MINE": "1"}}, {"name": "again", "run": look})
        usual = ["-o", "oci:out", "--entrypoint", HTTPD, "--run-steps"]

        def looked(*arguments):
            done = build(app, *usual, *arguments, check=0, env={"A_TOKEN": "secret"})
            lines = [line.partition(" | ") for line in done.stderr.splitlines() if " | {" in line]
            return [json.loads(text) for _, _, text in lines]

        first, second = looked()
        assert first["reads"] == ["FileNotFoundError"] * 4
        assert first["writes"] == [True] * 3 and first["elsewhere"] == [False] * 4
        assert first["reaches"] == [False, False], "the host and its network are not the internet"
        assert first["env"] == sorted([*second["env"], "MINE"]) and "A_TOKEN" not in first["env"]
        assert first["user"] != 0 and first["processes"] <= 4
        assert (first["before"], sorted(second["before"])) == (["x"], ["kept", "x"]), "a home for the steps of one build"
        seen, _ = looked("--step-egress", "open", "--step-env", "OF=all", "--step-sees", "/var/lib/dpkg/status")
        assert seen["reaches"] == [False, True] and "OF" in seen["env"]
        assert seen["reads"][2] == "FileNotFoundError" and seen["reads"][3].startswith("Package: ") and seen["before"] == ["x"], "the next build has another home"
    done = build(app, *usual, "--step-sees", place, check=2)
    assert "cannot be shown to steps: they have a /tmp of their own" in done.stderr


@pytest.mark.parametrize(
    "run, bound, code, said",
    [
        ("echo on; sleep 60", ["--step-timeout", "1"], 124, "step bad failed: it took too long"),
        (["/usr/bin/python3", "-c", "x = bytearray(1 << 28)"], ["--step-memory", "64"], (137, 1), "step bad failed"),
        ("mkfifo package.json", [], 2, "a step made package.json, which is neither a file"),
        ("ln -s /dev/zero package.json", [], 2, "a step made package.json, which is neither a file"),
    ],
)
def test_what_a_step_may_take_is_bounded(build, place, app, run, bound, code, said):
    declare(app, {"name": "bad", "run": run}, {"name": "good", "run": "true"})
    done = build(app, "-o", "oci:out", "--run-steps", *bound, "--entrypoint", HTTPD)
    assert done.returncode in (code if isinstance(code, tuple) else (code,)) and said in done.stderr, done.stderr
    assert not (place / "out").exists()


def test_steps_run_unconfined_where_that_is_said(build, place, app):
    declare(app, {"name": "look", "run": 'pwd; echo "$A_TOKEN $HOME"'})
    usual = [app, "-o", "oci:out", "--entrypoint", HTTPD, "--run-steps=unconfined"]
    done = build(*usual, check=0, env={"A_TOKEN": "seen"})
    assert f"look | {place}/scratch/virga-build-" in done.stderr and f"look | seen {place}\n" in done.stderr
    done = build(*usual, "--step-egress", "none", check=2)
    assert "--step-egress is about a sandbox" in done.stderr
    declare(app, {"name": "bad", "run": ["/no/such/program"]})
    assert "step bad: cannot run /no/such/program" in build(*usual, check=2).stderr


def test_what_becomes_of_a_folder_is_looked_at_under_its_name(build, place):
    (place / "web").mkdir()
    upon = base(place)
    declare(place / "web", {"name": "write", "run": "echo 'app = Flask(1)' >app.py; echo flask >requirements.txt"})
    done = build("web", "-o", "oci:out", "--run-steps", "--base", f"oci:{upon}", check=2)
    assert "have uvicorn" in done.stderr
    declare(place / "web", {"name": "write", "run": "echo gunicorn >requirements.txt; echo 'app = Flask(1)' >app.py"})
    done = build("web", "-o", "oci:out", "--run-steps", "--base", f"oci:{upon}", check=0)
    assert "warning: requirements.txt is not installed here: pip install -t web " in done.stderr, done.stderr
    declare(place / "web", {"name": "nothing", "run": "true"})
    assert "virga: web holds nothing" in build("web", "-o", "oci:out", "--run-steps", check=2).stderr


def test_what_a_step_leaves_running_is_not_waited_for(build, app):
    declare(app, {"name": "bg", "run": "sleep 20 & echo done; printf tail"})
    started = time.monotonic()
    done = build(app, "-o", "oci:out", "--run-steps", "--entrypoint", HTTPD, check=0)
    assert time.monotonic() - started < 15 and "bg | done\nbg | tail\n" in done.stderr


def test_an_interrupt_leaves_nothing(place, app):
    declare(app, {"name": "first", "run": "echo begun"}, {"name": "long", "run": ["sleep", "600"]})
    command = [binary(), "build", str(app), "-o", f"oci:{place}/out", "--run-steps", "--entrypoint", HTTPD]
    environment = clean_environment(TMPDIR=str(place / "scratch"), HOME=str(place), PATH=PATH)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stderr.readline() == "first | begun\n" and any((place / "scratch").iterdir())
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130 and "interrupted" in running.stderr.read()
    assert not any((place / "scratch").iterdir()) and not (place / "out").exists()


def test_a_large_file_takes_little_memory(registry, place, app):
    with open(app / "large", "wb") as file:
        for _ in range(40):
            file.write(os.urandom(1 << 20) * 4)
    limited = ["sh", "-c", 'ulimit -v "$1"; shift; exec "$@"', "sh", str(400 << 10)]
    command = [*limited, binary(), "build", str(app), "-o", f"oci:{place}/out", "--entrypoint", HTTPD, "--json"]
    command += ["-o", f"docker-archive:{place}/out.tar", "-t", f"{registry.host}/team/large", "--push"]
    environment = clean_environment(TMPDIR=str(place / "scratch"), HOME=str(place), PATH=PATH)
    done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    peak = 0
    while done.poll() is None:
        try:
            text = pathlib.Path(f"/proc/{done.pid}/status").read_text()
            peak = max([peak, *(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM"))])
        except OSError:
            break
    out, error = done.communicate()
    assert done.returncode == 0, error
    assert json.loads(out)["Bytes"] > 40 << 20 and 0 < peak < 100_000, f"{peak} KB"
