"""Container images as functions: from a real registry, layouts and archives, made by tools that nobody here wrote."""

import hashlib
import json
import os
import pathlib
import random
import shutil
import threading

import pytest
import requests

from support import clients, host, images, kinds, poll
from support.clients import FAST, ROLE
from support.server import Server

WEB = {"Cmd": ["/bin/sh", "-c", "exec httpd -f -p $PORT -h /www"], "ExposedPorts": {"8080/tcp": {}}}
PAGE = {"www/index.html": "hello from an image\n"}
# What a program inside finds out about where it is.
LOOK = """#!/bin/sh
echo "Content-Type: text/plain"
echo
echo "port=$PORT own=$OWN_VARIABLE given=$GIVEN region=$AWS_REGION home=$HOME pwd=$(cat /www/where)"
echo "id=$(id -un) root=$(ls / | tr '\\n' ' ')"
echo "resolv=$(cat /etc/resolv.conf)"
touch /written 2>/dev/null && echo "root is writable"
touch /tmp/written && echo "tmp is writable"
ls /usr 2>/dev/null && echo "there is a usr"
ls /proc/1/root /proc/1/cwd 2>/dev/null | head -1
"""
HANDLER = """import os, pathlib
def handler(event, context):
    if event.get("do") == "raise":
        raise ValueError("told to")
    return {"event": event, "name": context.function_name, "id": context.aws_request_id, "cwd": os.getcwd(),
            "task": os.environ.get("LAMBDA_TASK_ROOT"), "handler": os.environ["_HANDLER"],
            "stage": os.environ.get("STAGE"), "image": os.environ.get("FROM_IMAGE"),
            "usr": sorted(p.name for p in pathlib.Path("/").iterdir())}
def other(event, context):
    return "other"
"""


@pytest.fixture(scope="module", autouse=True)
def tools():
    """Without them nothing here can be tested."""
    assert not images.available(), f"missing: {images.available()}; tests/e2e/setup.sh installs them"


@pytest.fixture(scope="module")
def registry(workspace):
    """An open registry."""
    started = images.Registry(workspace / "registry")
    yield started
    started.stop()


@pytest.fixture
def make(workspace, request):
    """Makes layouts."""
    folder = workspace / f"layouts-{request.node.name[:40]}"
    count = iter(range(100))
    return lambda: images.Layout(folder / str(next(count)))


@pytest.fixture(scope="module")
def busybox():
    return images.busybox_layer()


@pytest.fixture(scope="module")
def python_image(workspace, registry):
    """Lambda's convention: the runtime interface client inside, the handler as command."""
    bundle = kinds.bundle("awslambdaric")
    client = images.folder_layer(bundle, "opt/client")
    layers = [images.python_layer(*bundle.glob("*.so")), client, images.layer(files={"function/app.py": HANDLER})]
    layout = images.Layout(workspace / "python-image")
    layout.image(layers, Entrypoint=["/usr/bin/python3.11", "-m", "awslambdaric"], Cmd=["app.handler"],
                 WorkingDir="/function", Env=["PYTHONPATH=/opt/client", "FROM_IMAGE=yes"])  # fmt: skip
    return layout.push(registry, "lambda/python:v1")


def create(functions, uri, name, wait=True, tags=None, **options):
    """CreateFunction of an image."""
    functions.api.create_function(
        FunctionName=name, PackageType="Image", Role=ROLE, Code={"ImageUri": uri}, Tags=tags or {},
        **({"Timeout": 20} | options),
    )  # fmt: skip
    functions.made.append(name)
    if wait:
        functions.api.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)
    return name


def settled(functions, name):
    """Its configuration once preparing it has come to an end."""
    def look():
        found = functions.api.get_function_configuration(FunctionName=name)
        return found if found["State"] != "Pending" and found["LastUpdateStatus"] != "InProgress" else None

    return poll.until(look, "the function settles", 60)


def refused(functions, uri, code, *said, **options):
    """Deploys what must fail, says so, and leaves nothing in the store."""
    name = create(functions, uri, f"bad-{abs(hash((uri, code))) % 10**8}", wait=False, **options)
    found = settled(functions, name)
    assert (found["State"], found["StateReasonCode"]) == ("Failed", code), found
    for words in said:
        assert words in found["StateReason"], found["StateReason"]
    return found["StateReason"]


def store(server, kind):
    """Names in the store of images."""
    return sorted(path.name for path in (server.data / "images" / kind).iterdir())


def test_a_web_server_from_a_registry(server, functions, registry, make, busybox):
    files = PAGE | {"www/cgi-bin/look": (LOOK, 0o755), "www/where": "x"}
    web = WEB | {"Env": ["OWN_VARIABLE=mine", "AWS_REGION=shadowed"], "WorkingDir": "/srv", "User": "web"}
    uri = make().image([busybox, images.layer(files=files)], **web).push(registry, "web/hello:v1")
    done = server.cli("deploy", "--image", uri, "--name", "img-web", "--env", "GIVEN=by-deploy", "--json", check=0)
    functions.made.append("img-web")
    told = json.loads(done.stdout)
    assert told["ResolvedImageUri"].startswith(f"{registry.host}/web/hello@sha256:")
    answer = requests.get(functions.path("img-web"), timeout=20)
    assert (answer.status_code, answer.text) == (200, "hello from an image\n")
    look = requests.get(functions.path("img-web", "cgi-bin/look"), timeout=20).text
    assert "port=8080 own=mine given=by-deploy region=us-east-1 home=/tmp" in look
    assert "root=bin dev etc proc srv tmp www" in look and "there is a usr" not in look, look
    assert "id=web " in look
    assert "resolv=nameserver 127.0.0.1" in look
    assert "tmp is writable" in look and "root is writable" not in look
    again = json.loads(server.cli("deploy", "--image", uri, "--name", "img-web", "--json", check=0).stdout)
    assert again["Action"] == "Unchanged"


def test_a_lambda_image(functions, python_image):
    name = create(functions, python_image, "img-lambda", Environment={"Variables": {"STAGE": "test"}})
    result = functions.invoke(name, {"a": 1})
    seen = result.ok()
    assert seen["event"] == {"a": 1} and seen["id"] == result.request_id and seen["name"] == name
    assert (seen["cwd"], seen["handler"], seen["stage"], seen["image"]) == ("/function", "app.handler", "test", "yes")
    assert "START" in result.log and "REPORT" in result.log
    failed = functions.invoke(name, {"do": "raise"}).failed("ValueError")
    assert failed["errorMessage"] == "told to"
    got = functions.api.get_function(FunctionName=name)
    code, configuration = got["Code"], got["Configuration"]
    assert code["ImageUri"] == python_image and code["ResolvedImageUri"].split("@")[0] == python_image.rsplit(":", 1)[0]
    assert code["ResolvedImageUri"].endswith(configuration["CodeSha256"])
    assert configuration["PackageType"] == "Image" and "Runtime" not in configuration
    assert "ImageConfigResponse" not in configuration and configuration["CodeSize"] > 1_000_000
    # What the function says wins over what the image says.
    functions.api.update_function_configuration(
        FunctionName=name, ImageConfig={"Command": ["app.other"], "WorkingDirectory": "/tmp"},
    )  # fmt: skip
    configuration = settled(functions, name)
    assert configuration["ImageConfigResponse"]["ImageConfig"]["WorkingDirectory"] == "/tmp"
    functions.api.update_function_configuration(
        FunctionName=name, Environment={"Variables": {"PYTHONPATH": "/opt/client:/function"}},
    )  # fmt: skip
    configuration = settled(functions, name)
    assert configuration["ImageConfigResponse"]["ImageConfig"]["Command"] == ["app.other"]
    assert functions.invoke(name, {}).ok() == "other"
    published = functions.api.publish_version(FunctionName=name)
    assert functions.invoke(name, {}, Qualifier=published["Version"]).ok() == "other"


def test_what_does_not_fit_together_is_refused(functions, python_image):
    api = functions.api
    with pytest.raises(api.exceptions.InvalidParameterValueException, match="Handler or Runtime"):
        create(functions, python_image, "img-x", wait=False, Runtime="python3.11")
    with pytest.raises(api.exceptions.InvalidParameterValueException, match="PackageType"):
        api.create_function(FunctionName="img-x", Role=ROLE, Runtime="python3.11", Code={"ImageUri": "a/b"})
    with pytest.raises(api.exceptions.InvalidParameterValueException, match="does not name an image"):
        create(functions, "no such/REF", "img-x", wait=False)
    zipped = functions.deploy({"app.py": "def handler(e, c): return 1\n"}, kinds.python())
    with pytest.raises(api.exceptions.InvalidParameterValueException, match="packageType Zip"):
        api.update_function_code(FunctionName=zipped, ImageUri=python_image)
    with pytest.raises(api.exceptions.InvalidParameterValueException, match="PackageType is Zip"):
        api.update_function_configuration(FunctionName=zipped, ImageConfig={"Command": ["x"]})


def test_layouts_and_archives_of_the_servers_machine(new_server, workspace, make, busybox):
    layout = make().image([busybox, images.layer(files=PAGE)], **WEB)
    archive = layout.folder / "app.tar"
    images.run("skopeo", "copy", "--insecure-policy", f"oci:{layout.folder}:latest", f"docker-archive:{archive}:app:v1")
    server = new_server(arguments=["--local-images", str(workspace)]).start()
    for number, reference in enumerate([f"oci:{layout.folder}", f"oci:{layout.folder}:latest", f"docker-archive:{archive}"]):
        server.cli("deploy", "--image", reference, "--name", f"local-{number}", check=0)
        answer = requests.get(f"{server.url}/_fn/local-{number}/", timeout=20)
        assert answer.text == "hello from an image\n", reference
    outside = server.cli("deploy", "--image", "oci:/etc", "--name", "local-x")
    assert outside.returncode != 0 and "not in a folder that the server takes images from" in outside.stderr


def test_paths_need_the_operators_word(server, make, busybox):
    layout = make().image([busybox], **WEB)
    done = server.cli("deploy", "--image", f"oci:{layout.folder}", "--name", "img-path")
    assert done.returncode != 0 and "--local-images" in done.stderr, done.stderr


def test_an_image_of_umoci(new_server, workspace, busybox, make):
    layout = make().folder.parent / "umoci"
    images.run("umoci", "init", "--layout", layout)
    images.run("umoci", "new", "--image", f"{layout}:latest")
    bundle = layout.parent / "bundle"
    for step in range(2):
        images.run("umoci", "unpack", "--rootless", "--image", f"{layout}:latest", bundle)
        rootfs = bundle / "rootfs"
        if step == 0:
            for path in ("bin", "www/old"):
                (rootfs / path).mkdir(parents=True)
            (rootfs / "bin/busybox").write_bytes(pathlib.Path("/bin/busybox").read_bytes())
            (rootfs / "bin/busybox").chmod(0o4755)
            (rootfs / "bin/httpd").hardlink_to(rootfs / "bin/busybox")
            (rootfs / "bin/sh").symlink_to("/bin/busybox")
            (rootfs / "www/gone").write_text("gone")
            (rootfs / "www/old/file").write_text("old")
        else:
            (rootfs / "www/gone").unlink()
            (rootfs / "www/old/file").unlink()
            (rootfs / "www/old").rmdir()
            (rootfs / "www/index.html").write_text("two layers")
        images.run("umoci", "repack", "--image", f"{layout}:latest", bundle)
        images.run("rm", "-rf", bundle)
    images.run("umoci", "config", "--image", f"{layout}:latest", "--config.exposedports", "3000",
               "--config.cmd", "/bin/sh", "--config.cmd", "-c", "--config.cmd", "exec httpd -f -p $PORT -h /www")  # fmt: skip
    server = new_server(arguments=["--local-images", str(workspace)]).start()
    server.cli("deploy", "--image", f"oci:{layout}", "--name", "umoci", check=0)
    get = lambda path: requests.get(f"{server.url}/_fn/umoci/{path}", timeout=20)  # noqa: E731
    assert get("").text == "two layers"
    assert get("gone").status_code == 404 and get("old/file").status_code == 404
    modes = {path.stat().st_mode & 0o7777 for path in server.data.glob("images/images/*/rootfs/bin/busybox")}
    assert modes == {0o755}, "no set-user-id"


def test_zstd_layers_and_shared_ones(new_server, registry, make, busybox):
    one = make().image([busybox, images.layer(files={"www/index.html": "one"})], **WEB)
    two = make().image([busybox, images.layer(files={"www/index.html": "two"})], **WEB)
    server = new_server().start()
    own = clients.Functions(server)
    first = create(own, one.push(registry, "shared/one", "--dest-compress-format", "zstd"), "one")
    kinds_of = requests.get(f"{registry.url}/v2/shared/one/manifests/latest", timeout=20,
                            headers={"Accept": "application/vnd.oci.image.manifest.v1+json"}).json()  # fmt: skip
    assert all(each["mediaType"].endswith("tar+zstd") for each in kinds_of["layers"]), kinds_of
    second = create(own, two.push(registry, "shared/two"), "two")
    for name in (first, second):
        own.api.create_function_url_config(FunctionName=name, AuthType="NONE")
        assert requests.get(own.path(name), timeout=20).text == name
    assert (len(store(server, "images")), len(store(server, "layers"))) == (2, 3)
    own.api.delete_function(FunctionName=first)
    poll.until(lambda: len(store(server, "layers")) == 2, "its own layer goes, the shared one stays")
    own.api.delete_function(FunctionName=second)
    poll.until(lambda: not any(store(server, kind) for kind in ("layers", "images", ".staging")), "nothing stays")


def test_a_registry_that_wants_credentials(new_server, workspace, make, busybox):
    closed = images.Registry(workspace / "closed", user="puller", password="very-secret-word")
    try:
        uri = make().image([busybox, images.layer(files=PAGE)], **WEB).push(closed, "private/web")
        server = new_server().start()
        own = clients.Functions(server)
        refused(own, uri, "ImageAccessDenied", "wants credentials and none are configured")
        for password, works in (("wrong-secret-word", False), ("very-secret-word", True)):
            auth = images.docker_config(workspace / f"auth-{works}.json", closed, "puller", password)
            server = new_server(arguments=["--registry-auth", str(auth)], env={"VIRGA_LOG": "trace"}).start()
            own = clients.Functions(server)
            if works:
                name = create(own, uri, "private")
                own.api.create_function_url_config(FunctionName=name, AuthType="NONE")
                assert requests.get(own.path(name), timeout=20).status_code == 200
            else:
                refused(own, uri, "ImageAccessDenied", "does not accept the credentials")
            log = server.log.read_text()
            assert password not in log and "cHVsbGVy" not in log, "no secret in the log"
    finally:
        closed.stop()


def test_a_registry_with_tls(new_server, workspace, make, busybox):
    folder = workspace / "tls"
    folder.mkdir()
    images.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
               "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-subj", "/CN=registry.test",
               "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE")  # fmt: skip
    tls = {"certificate": str(folder / "cert.pem"), "key": str(folder / "key.pem")}
    secured = images.Registry(workspace / "secured", tls=tls)
    try:
        uri = make().image([busybox, images.layer(files=PAGE)], **WEB).push(secured, "web")
        server = new_server().start()
        refused(clients.Functions(server), uri, "InternalError", "certificate")
        server = new_server(arguments=["--registry-ca", str(folder / "cert.pem")]).start()
        own = clients.Functions(server)
        name = create(own, uri, "by-tls")
        own.api.create_function_url_config(FunctionName=name, AuthType="NONE")
        assert requests.get(own.path(name), timeout=20).text == "hello from an image\n"
    finally:
        secured.stop()


def test_blobs_that_are_corrupted_on_the_way(server, functions, registry, make, busybox):
    uri = make().image([busybox, images.layer(files=PAGE)], **WEB).push(registry, "corrupt/web")

    def corrupt(handler, path, body):
        if len(body) < 100_000:
            return False
        images.head(handler, len(body))
        handler.wfile.write(body[:50_000] + bytes([body[50_000] ^ 1]) + body[50_001:])
        return True

    before = [store(server, kind) for kind in ("images", "layers")]
    proxy = images.Proxy(registry, corrupt)
    refused(functions, uri.replace(registry.host, proxy.host), "InvalidImage", "is not what its digest says")
    proxy.stop()
    poll.until(lambda: [store(server, kind) for kind in ("images", "layers")] == before, "nothing of it stays")


@pytest.mark.parametrize("times,works", [(1, True), (99, False)])
def test_a_registry_that_fails_half_way(server, functions, registry, make, busybox, times, works):
    uri = make().image([busybox, images.layer(files=PAGE | {"n": str(times)})], **WEB).push(registry, f"half/web{times}")
    left = [times]
    refetched = []

    def fail(handler, path, body):
        if len(body) < 100_000:
            return False
        refetched.append(path)
        if left[0] == 0:
            return False
        left[0] -= 1
        images.head(handler, len(body))
        handler.wfile.write(body[: len(body) // 2])
        images.break_off(handler)
        return True

    proxy = images.Proxy(registry, fail)
    uri = uri.replace(registry.host, proxy.host)
    if works:
        name = create(functions, uri, "half-works")
        assert functions.api.get_function_configuration(FunctionName=name)["State"] == "Active"
        assert len(refetched) == 2
    else:
        refused(functions, uri, "InternalError", "broke off in the middle")
        assert len(refetched) == 3
    proxy.stop()
    assert store(server, ".staging") == []


def test_images_for_other_machines(functions, registry, make, busybox):
    other = "s390x"
    inner = make().image([busybox], architecture=other, **WEB)
    uri = inner.push(registry, "other/machine")
    refused(functions, uri, "InvalidImage", f"the image is for linux/{other}")
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {key: value for key, value in each.items() if key != "annotations"} for each in inner.manifests]}  # fmt: skip
    blob = json.dumps(index).encode()
    pushed = requests.put(f"{registry.url}/v2/other/machine/manifests/many", data=blob,
                          headers={"Content-Type": index["mediaType"]}, timeout=20)  # fmt: skip
    assert pushed.status_code == 201, pushed.text
    uri = f"{registry.host}/other/machine:many"
    refused(functions, uri, "InvalidImage", "nothing for linux/", f"it is for linux/{other}")


def test_images_of_several_machines(functions, registry, make, busybox):
    layout = make()
    for architecture in ("s390x", images.ARCHITECTURE):
        each = make().image([busybox, images.layer(files=PAGE)], architecture=architecture, **WEB)
        each.push(registry, f"several/web:{architecture}")
        layout.manifests += each.manifests
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {key: value for key, value in each.items() if key != "annotations"} for each in layout.manifests]}  # fmt: skip
    blob = json.dumps(index).encode()
    pushed = requests.put(f"{registry.url}/v2/several/web/manifests/latest", data=blob,
                          headers={"Content-Type": index["mediaType"]}, timeout=20)  # fmt: skip
    assert pushed.status_code == 201, pushed.text
    name = create(functions, f"{registry.host}/several/web", "several")
    digest = hashlib.sha256(blob).hexdigest()
    assert functions.api.get_function(FunctionName=name)["Code"]["ResolvedImageUri"].endswith(digest)


@pytest.mark.parametrize(
    "config,said",
    [
        ({}, "neither entry point nor command"),
        ({"Cmd": ["/no/such"]}, "the program /no/such is not in the image"),
        ({"Cmd": ["nothing"]}, "no program nothing in its PATH"),
        ({"Cmd": ["/etc/passwd"]}, "is not executable"),
        ({"Cmd": ["sh"], "User": "nobody"}, "USER names nobody"),
    ],
)
def test_images_that_cannot_start(functions, registry, make, busybox, config, said):
    name = "cannot/" + hashlib.md5(said.encode()).hexdigest()
    refused(functions, make().image([busybox], **config).push(registry, name), "InvalidImage", said)


def test_programs_that_do_not_serve(functions, registry, make, busybox):
    ends = make().image([busybox], Cmd=["/bin/sh", "-c", "echo about to end; exit 3"], ExposedPorts={"8080/tcp": {}})
    name = create(functions, ends.push(registry, "ends/web"), "img-ends")
    functions.api.create_function_url_config(FunctionName=name, AuthType="NONE")
    assert requests.get(functions.path(name), timeout=30).status_code == 502
    result = functions.invoke(name, {})
    assert result.failed("Runtime.ExitError")["errorMessage"].endswith("exit status 3")
    deaf = make().image([busybox], Cmd=["/bin/sleep", "600"], ExposedPorts={"8080/tcp": {}})
    name = create(functions, deaf.push(registry, "deaf/web"), "img-deaf")
    failed = functions.invoke(name, {})
    assert failed.error == "Unhandled" and "ime" in failed.value["errorMessage"], failed.value


def test_an_image_that_is_not_there(functions, registry):
    refused(functions, f"{registry.host}/no/such:v1", "ImageDeleted", "does not exist")
    refused(functions, "127.0.0.1:1/no/registry", "InternalError", "cannot be reached")


def test_kill_while_an_image_is_unpacked(new_server, registry, make, busybox):
    uri = make().image([busybox, images.layer(files=PAGE)], **WEB).push(registry, "kill/web")
    stalled, go_on = threading.Event(), threading.Event()

    def stall(handler, path, body):
        if len(body) < 100_000 or go_on.is_set():
            return False
        images.head(handler, len(body))
        handler.wfile.write(body[: len(body) // 2])
        handler.wfile.flush()
        stalled.set()
        go_on.wait(60)
        images.break_off(handler)
        return True

    proxy = images.Proxy(registry, stall)
    server = new_server().start()
    own = clients.Functions(server)
    name = create(own, uri.replace(registry.host, proxy.host), "killed", wait=False)
    assert stalled.wait(30)
    poll.until(lambda: store(server, ".staging"), "something is half unpacked")
    server.kill()
    assert store(server, ".staging") and not store(server, "layers")
    # The next start begins with nothing, and finishes what was asked for.
    half = store(server, ".staging")
    go_on.set()
    server.start()
    own.api.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)
    own.api.create_function_url_config(FunctionName=name, AuthType="NONE")
    assert requests.get(own.path(name), timeout=20).text == "hello from an image\n"
    assert store(server, ".staging") == [] and half
    # A store that lost an image gets the very same again.
    digest = own.api.get_function(FunctionName=name)["Code"]["ResolvedImageUri"]
    server.stop()
    images.run("rm", "-rf", server.data / "images")
    server.start()
    own.api.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=FAST)
    assert own.api.get_function(FunctionName=name)["Code"]["ResolvedImageUri"] == digest
    assert requests.get(own.path(name), timeout=20).text == "hello from an image\n"
    proxy.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user to try it")
def test_without_root(workspace, registry, make, busybox, monkeypatch):
    folder = workspace / "rootless"
    folder.mkdir()
    program = shutil.copy(os.environ["VIRGA_BIN"], folder / "virga")
    os.chmod(program, 0o755)
    os.chown(folder, 65534, 65534)
    monkeypatch.setenv("VIRGA_BIN", str(program))
    files = PAGE | {"www/cgi-bin/look": (LOOK, 0o755), "www/where": ("x", 0o600)}
    uri = make().image([busybox, images.layer(files=files)], User="web", **WEB).push(registry, "web/rootless")
    server = Server(folder / "data", uid=65534, env={"HOME": str(folder)}).start()
    try:
        own = clients.Functions(server)
        name = create(own, uri, "rootless")
        own.api.create_function_url_config(FunctionName=name, AuthType="NONE")
        look = requests.get(own.path(name, "cgi-bin/look"), timeout=20).text
        assert "id=web root=bin dev etc proc tmp www" in look.replace("srv ", "") and "pwd=x" in look, look
        assert "tmp is writable" in look and "root is writable" not in look
    finally:
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk to try it")
def test_a_disk_that_is_full(new_server, workspace, registry, make, busybox):
    big = images.layer(files={"big": random.Random(7).randbytes(64 << 20)})
    uri = make().image([busybox, big], **WEB).push(registry, "full/web")
    fits = make().image([busybox, images.layer(files=PAGE)], **WEB).push(registry, "full/fits")
    disk = workspace / "small-disk"
    disk.mkdir()
    images.run("mount", "-t", "tmpfs", "-o", "size=48m,mode=755", "tmpfs", disk)
    try:
        server = new_server()
        server.data = disk / "data"
        server.start()
        own = clients.Functions(server)
        refused(own, uri, "InternalError", "no room is left on the server's disk")
        poll.until(lambda: not any(store(server, kind) for kind in ("images", "layers", ".staging")), "nothing of it stays")
        name = create(own, fits, "fits")
        own.api.create_function_url_config(FunctionName=name, AuthType="NONE")
        assert requests.get(own.path(name), timeout=20).text == "hello from an image\n"
        server.stop()
    finally:
        images.run("umount", "-l", disk)


def test_an_image_is_as_closed_in_as_other_code(server, functions, registry, make, busybox, marker):
    probe = """#!/bin/sh
echo "Content-Type: text/plain"
echo
ls -la /proc/1/root/ 2>&1 | head -3
cat /proc/1/environ 2>&1 | head -1
ls /sys /usr /var 2>&1
mkdir /proc/sys/x 2>&1
echo 1 > /bin/new 2>&1
busybox wget -T 2 -q -O - http://169.254.169.254/ 2>&1
id
"""
    files = PAGE | {"www/cgi-bin/probe": (probe, 0o755)}
    uri = make().image([busybox, images.layer(files=files)], **WEB).push(registry, "closed/web")
    name = create(functions, uri, "img-closed", Environment={"Variables": {"MARKER": marker}})
    functions.api.create_function_url_config(FunctionName=name, AuthType="NONE")
    seen = requests.get(functions.path(name, "cgi-bin/probe"), timeout=30).text
    assert "uid=993" in seen, seen
    for secret in ("VIRGA_", "seal.key", str(server.data)):
        assert secret not in seen, seen
    pids = host.processes(marker)
    assert pids
    for pid in pids:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert int(fields["CapEff"], 16) == 0 and int(fields["CapBnd"], 16) == 0
        assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2"
        assert int(fields["Uid"].split()[0]) != 0
