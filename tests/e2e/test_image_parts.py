"""Images that functions start from before they are all there: a registry behind a proxy that counts and gets in the way."""

import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import threading
import uuid

import pytest
import requests

from support import clients, host, images, kinds, poll
from support.clients import FAST, ROLE
from support.parts import PartsProxy
from support.server import Server, binary, clean_environment

MIB = 1 << 20
BIG = 24 * MIB


@pytest.fixture(scope="module", autouse=True)
def tools():
    """Without them nothing here can be tested."""
    assert not images.available(), f"missing: {images.available()}; tests/e2e/setup.sh installs them"


@pytest.fixture(scope="module")
def registry(workspace):
    """An open registry."""
    started = images.Registry(workspace / "parts-registry")
    yield started
    started.stop()


@pytest.fixture
def proxy(registry):
    """In front of it."""
    started = PartsProxy(registry)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def content():
    """What no compression makes smaller."""
    return random.Random(4).randbytes(BIG)


@pytest.fixture(scope="module")
def built(workspace, registry, content):
    """A web server with two large files, built and pushed: its name in the registry."""
    folder = workspace / "parts-app"
    (folder / "www").mkdir(parents=True)
    shutil.copy("/bin/busybox", folder / "busybox")
    (folder / "www/index.html").write_text("hello in parts\n")
    (folder / "www/big").write_bytes(content)
    (folder / "www/other").write_bytes(content[::-1])
    return push(registry, folder, "parts/app:v1")


def push(registry, folder, name):
    """Builds an image of a folder and pushes it."""
    command = [binary(), "build", folder, "-t", f"{registry.host}/{name}", "--push", "--base", "scratch",
               "--entrypoint", "/app/busybox httpd -f -p 8080 -h /app/www", "--port", "8080"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=clean_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    return name


@pytest.fixture
def serve(new_server):
    """A server of the test's own with its functions."""
    def start(*arguments, **options):
        server = new_server(arguments=arguments, **options).start()
        return server, clients.Functions(server)

    return start


def deploy(functions, uri, name="parts"):
    """Deploys an image, and waits until it is ready."""
    functions.server.cli("deploy", "--image", uri, "--name", name, "--timeout", "60", check=0)
    return name


def anew(functions, name):
    """Has the next call start a new instance."""
    functions.api.update_function_configuration(FunctionName=name, Environment={"Variables": {"ANEW": uuid.uuid4().hex}})
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)


def get(functions, name, path="", timeout=60):
    """A page."""
    return requests.get(functions.path(name, path), timeout=timeout)


def sha(content):
    return hashlib.sha256(content).hexdigest()


def incomplete(server):
    """Images of the store that are not all there."""
    return list((server.data / "images/images").glob("*/parts-from"))


def test_a_function_starts_before_its_image_is_there(serve, proxy, built, content):
    server, functions = serve("--image-parts", "used")
    name = deploy(functions, f"{proxy.host}/{built}")
    assert proxy.bytes() < MIB, "documents and the index alone"
    assert get(functions, name).text == "hello in parts\n"
    at_first = proxy.bytes()
    assert at_first < 6 * MIB, f"{at_first} bytes of {2 * BIG}"
    assert incomplete(server)
    assert sha(get(functions, name, "big").content) == sha(content)
    used = proxy.bytes()
    assert BIG < used < BIG + 12 * MIB, used
    assert proxy.connections <= 4 < len(proxy.blobs), f"{proxy.connections} connections for {len(proxy.blobs)} parts"
    anew(functions, name)
    assert get(functions, name).text == "hello in parts\n"
    assert sha(get(functions, name, "big").content) == sha(content)
    assert proxy.bytes() == used, "nothing is fetched twice"
    assert sha(get(functions, name, "other").content) == sha(content[::-1])
    poll.until(lambda: not incomplete(server), "it is noticed that all is there", 20)
    anew(functions, name)
    assert sha(get(functions, name, "other").content) == sha(content[::-1]), "from the plain tree"


def test_the_rest_comes_in_the_background(serve, registry, proxy, built, content):
    server, functions = serve()
    name = deploy(functions, f"{proxy.host}/{built}")
    assert get(functions, name).text == "hello in parts\n"
    poll.until(lambda: not incomplete(server), "the image is complete", 60)
    assert proxy.bytes() < 2 * BIG + 4 * MIB, "each byte once"
    # Instances that began before go on with what they have, those that come see the tree itself.
    proxy.meddle = lambda handler, *_: handler.send_error(503) or True
    assert sha(get(functions, name, "big").content) == sha(content)
    anew(functions, name)
    assert sha(get(functions, name, "other").content) == sha(content[::-1])
    layers = server.data / "images/layers"
    assert not list(layers.glob("*/partial")) and not list(layers.glob("*/toc.json"))


def part_of(path, part, content):
    """Whether a request is for part of a file, rather than for a layer's index."""
    return part is not None and len(content) > 1000 and path.count("/blobs/")


def test_a_part_that_is_not_what_the_index_says_is_refused(serve, proxy, built, content):
    server, functions = serve("--image-parts", "used")
    name = deploy(functions, f"{proxy.host}/{built}")
    assert get(functions, name).text == "hello in parts\n"

    def meddle(handler, path, part, body):
        if not part_of(path, part, body):
            return False
        wrong = bytearray(body)
        wrong[len(wrong) // 2] ^= 1
        first, last = part.removeprefix("bytes=").split("-")
        handler.pass_on(206, {"Content-Range": f"bytes {first}-{last}/{10**9}"}, bytes(wrong))
        return True

    proxy.meddle = meddle
    with pytest.raises(requests.RequestException):
        get(functions, name, "big")
    said = poll.until(lambda: told(functions, name), "the log says why", 20)
    assert "not what the image's index says" in said or "cannot be unpacked" in said, said
    proxy.meddle = None
    poll.until(lambda: whole(functions, name, "big", content), "it recovers", 10)


def whole(functions, name, path, content):
    """Whether a page comes, and is right."""
    try:
        return sha(get(functions, name, path).content) == sha(content)
    except requests.RequestException:
        return False


def told(functions, name):
    """What the function's log says of parts of its image."""
    done = functions.server.cli("logs", name)
    lines = [line for line in done.stdout.splitlines() if "could not be fetched" in line]
    return lines[0] if lines else None


def test_a_registry_that_fails_half_way(serve, proxy, built, content):
    server, functions = serve("--image-parts", "used")
    name = deploy(functions, f"{proxy.host}/{built}")
    assert get(functions, name).text == "hello in parts\n"
    failures = []

    def briefly(handler, path, part, body):
        failures.append(part)
        if len(failures) > 2:
            return False
        handler.pass_on(503, {}, b"")
        return True

    proxy.meddle = briefly
    assert sha(get(functions, name, "big").content) == sha(content), "it is waited for"
    assert len(failures) > 2
    proxy.meddle = lambda handler, *_: handler.pass_on(503, {}, b"") or True
    with pytest.raises(requests.RequestException):
        get(functions, name, "other")
    assert "503" in poll.until(lambda: told(functions, name), "the log says why", 20)
    assert get(functions, name).text == "hello in parts\n", "the instance goes on"
    proxy.meddle = None
    poll.until(lambda: whole(functions, name, "other", content[::-1]), "it recovers", 10)
    counted = {f.name: f.samples for f in server.metric_families() if f.name.startswith("faas_image_")}
    failures = {s.labels["reason"]: s.value for s in counted["faas_image_fetch_failures"] if s.name.endswith("_total")}
    assert failures.keys() == {"unreachable"} and failures["unreachable"] >= 1, counted
    value = lambda name: next(s.value for s in counted[name] if s.name.endswith(("_total", "_count")))
    assert value("faas_image_parts") >= 2 * BIG / MIB and value("faas_image_fetched_bytes") > 2 * BIG
    assert value("faas_image_fetch_duration_seconds") > failures["unreachable"]


def test_a_registry_that_gives_no_parts(serve, proxy, registry, built, content):
    def whole(handler, path, part, body):
        if part is None:
            return False
        answer = requests.get(registry.url + path, timeout=30)
        proxy.blobs.append((path, None, len(answer.content)))
        handler.pass_on(200, answer.headers, answer.content)
        return True

    proxy.meddle = whole
    server, functions = serve("--image-parts", "used")
    name = deploy(functions, f"{proxy.host}/{built}")
    assert sha(get(functions, name, "big").content) == sha(content)
    assert not incomplete(server) and proxy.bytes() > 2 * BIG


def test_an_index_that_lies(serve, registry, built):
    """The manifest's digest of the index is changed, and pushed as an image of its own."""
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    repository, tag = built.split(":")
    manifest = requests.get(f"{registry.url}/v2/{repository}/manifests/{tag}", headers=accept, timeout=30).json()
    manifest["layers"][-1]["annotations"]["containerd.io/snapshot/stargz/toc.digest"] = f"sha256:{'0' * 64}"
    done = requests.put(f"{registry.url}/v2/{repository}/manifests/lying", data=json.dumps(manifest),
                        headers={"Content-Type": accept["Accept"]}, timeout=30)  # fmt: skip
    assert done.status_code == 201, done.text
    server, functions = serve("--image-parts", "used")
    functions.api.create_function(
        FunctionName="lying", PackageType="Image", Role=ROLE, Code={"ImageUri": f"{registry.host}/{repository}:lying"}
    )
    def settled():
        found = functions.api.get_function_configuration(FunctionName="lying")
        return found if found["State"] != "Pending" else None

    found = poll.until(settled, "it is refused", 30)
    assert (found["State"], found["StateReasonCode"]) == ("Failed", "InvalidImage"), found
    assert "not what the manifest says" in found["StateReason"], found
    for kind in ("layers", "images"):
        assert not list((server.data / "images" / kind).iterdir())


def test_kill_9_and_a_disk_that_lost_something(serve, proxy, built, content):
    server, functions = serve("--image-parts", "used")
    name = deploy(functions, f"{proxy.host}/{built}")
    assert sha(get(functions, name, "big").content) == sha(content)
    server.kill()
    poll.until(lambda: not host.mounts(str(server.data)), "nothing stays mounted", 10)
    [big] = (server.data / "images/layers").glob("*/tree/app/www/big")
    with open(big, "r+b") as file:
        file.seek(5 * MIB)
        file.write(bytes(4096))
    before = proxy.bytes()
    server.start()
    assert incomplete(server)
    assert get(functions, name).text == "hello in parts\n"
    assert sha(get(functions, name, "big").content) == sha(content)
    assert 0 < proxy.bytes() - before < 3 * MIB, "one part comes anew, the others are there"
    assert sha(get(functions, name, "other").content) == sha(content[::-1])
    assert shown(server), "it is shown again"
    functions.api.delete_function(FunctionName=name)
    poll.until(lambda: not list((server.data / "images/images").iterdir()), "the image goes", 20)
    poll.until(lambda: not list((server.data / "images/layers").iterdir()), "and its layer", 20)
    poll.until(lambda: not shown(server), "and what showed it", 10)


def shown(server):
    """Images that somebody sees through a file system of the server's."""
    return [line for line in host.mounts(str(server.data / "images")) if "fuse" in line]


def test_reads_end_when_the_server_does(serve, proxy, built):
    """A registry says nothing, a function and a process that outlives the server wait for it, and the server is killed."""
    if os.geteuid() != 0:
        pytest.skip("needs root to look into the launcher's mounts")
    server, functions = serve("--image-parts", "used")
    name = deploy(functions, f"{proxy.host}/{built}")
    assert get(functions, name).text == "hello in parts\n"
    asked, answer = threading.Semaphore(0), threading.Event()

    def hang(handler, *_):
        asked.release()
        answer.wait(60)
        return False

    proxy.meddle = hang
    waiting = threading.Thread(target=lambda: pytest.raises(requests.RequestException, get, functions, name, "big"))
    waiting.start()
    assert asked.acquire(timeout=20)
    started = host.descendants(server.process.pid)
    [big] = (server.data / "images/images").glob("*/rootfs/app/www/other")
    [viewer] = [pid for pid in started if shown_to(pid, server)][:1]
    reader = subprocess.Popen(["nsenter", f"--mount=/proc/{viewer}/ns/mnt", "/bin/busybox", "cat", big],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert asked.acquire(timeout=20), "it waits too"
    server.kill()
    said = reader.communicate(timeout=10)[1]
    assert reader.returncode and ("abort" in said or "not connected" in said or "I/O error" in said), said
    waiting.join(10)
    poll.until(lambda: not [pid for pid in started if os.path.exists(f"/proc/{pid}")], "its processes end", 10)
    poll.until(lambda: not host.mounts(str(server.data)), "nothing stays mounted", 10)
    answer.set()
    proxy.meddle = None
    server.start()
    assert get(functions, name).text == "hello in parts\n"


def shown_to(pid, server):
    """Whether a process sees images, at their places in the store, through a file system of the server's."""
    mounts = pathlib.Path(f"/proc/{pid}/mounts").read_text().splitlines()
    return [line for line in mounts if "fuse" in line and str(server.data / "images") in line]


def test_what_was_used_is_fetched_ahead(serve, proxy, built):
    server, functions = serve("--image-parts", "used")
    name = deploy(functions, f"{proxy.host}/{built}")
    assert get(functions, name).text == "hello in parts\n"
    used = proxy.bytes()
    poll.until(lambda: list((server.data / "images/touched").iterdir()), "it is remembered", 20)
    functions.api.delete_function(FunctionName=name)
    poll.until(lambda: not list((server.data / "images/layers").iterdir()), "the layer is gone", 20)
    proxy.blobs.clear()
    name = deploy(functions, f"{proxy.host}/{built}", "again")
    poll.until(lambda: proxy.bytes() > MIB, "it is fetched before anybody asks", 20)
    poll.until(lambda: not outstanding(proxy), "all of it", 20)
    ahead = proxy.bytes()
    assert ahead <= used
    assert get(functions, name).text == "hello in parts\n"
    assert proxy.bytes() == ahead, "and nothing was left to fetch"


def outstanding(proxy, seen=[]):
    """Whether bytes came since this was asked last."""
    before, seen[:] = list(seen), [proxy.bytes()]
    return before != seen


def test_the_wait_for_bytes_is_a_phase(serve, workspace, registry, proxy):
    bundle = kinds.bundle("awslambdaric")
    folder = workspace / "parts-lambda"
    folder.mkdir()
    (folder / "app.py").write_text("def handler(event, context):\n    return 'answered'\n")
    (folder / "ballast").write_bytes(random.Random(5).randbytes(8 * MIB))
    base = images.Layout(workspace / "parts-base")
    base.image([images.python_layer(*bundle.glob("*.so")), images.folder_layer(bundle, "opt/client")],
               Env=["PYTHONPATH=/opt/client"])  # fmt: skip
    command = [binary(), "build", folder, "-t", f"{registry.host}/parts/lambda:v1", "--push", "--base",
               f"oci:{base.folder}", "--entrypoint", "/usr/bin/python3.11 -m awslambdaric", "--cmd", "app.handler",
               "--into", "/var/task"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=clean_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    server, functions = serve("--image-parts", "used")
    name = deploy(functions, f"{proxy.host}/parts/lambda:v1", "lambda-in-parts")
    traced = json.loads(server.cli("invoke", name, "--trace", "--json", check=0).stdout)["Trace"]
    assert 0 < traced["Start"]["FetchMs"] <= traced["Start"]["TotalMs"], traced
    families = {family.name: family for family in server.metric_families()}
    samples = families["faas_coldstart_phase_duration_seconds"].samples
    assert [s for s in samples if s.labels.get("phase") == "fetch" and s.name.endswith("_count") and s.value == 1]
    assert "Fetch: " in server.cli("logs", name).stdout


def test_a_base_is_written_anew(serve, workspace, registry, proxy, content):
    """A layer of somebody else's gets an index where the image is built; without that it is fetched whole."""
    base = images.Layout(workspace / "parts-foreign")
    foreign = images.layer(files={"data/big": content[: 12 * MIB], "data/small": "from the base\n"}, folders=["etc"])
    base.image([foreign, images.busybox_layer()])
    app = workspace / "parts-upon"
    (app / "www").mkdir(parents=True)
    (app / "www/index.html").write_text("upon\n")
    for tag, *option in [("whole",), ("parts", "--index-base")]:
        command = [binary(), "build", app, "-t", f"{registry.host}/parts/upon:{tag}", "--push", "--base",
                   f"oci:{base.folder}", *option, "--entrypoint", "/bin/httpd -f -p 8080 -h /data", "--port", "8080"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=clean_environment())
        assert done.returncode == 0, done.stdout + done.stderr
    server, functions = serve("--image-parts", "used")
    name = deploy(functions, f"{proxy.host}/parts/upon:whole", "upon-whole")
    assert proxy.bytes() > 12 * MIB
    proxy.blobs.clear()
    name = deploy(functions, f"{proxy.host}/parts/upon:parts", "upon-parts")
    assert get(functions, name, "small").text == "from the base\n"
    assert proxy.bytes() < 4 * MIB, proxy.blobs
    assert sha(get(functions, name, "big").content) == sha(content[: 12 * MIB])


def test_without_root_images_are_fetched_whole(workspace, proxy, built, content, monkeypatch):
    """Where /dev/fuse may not be opened. Where it may, nothing else is different."""
    if os.geteuid() != 0 or os.stat("/dev/fuse").st_mode & 0o006 == 0o006:
        pytest.skip("needs root, and a /dev/fuse that others may not open")
    folder = workspace / f"rootless-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    program = shutil.copy(binary(), folder / "virga")
    os.chmod(program, 0o755)
    monkeypatch.setenv("VIRGA_BIN", str(program))
    server = Server(folder / "data", uid=65534, env={"HOME": str(folder)}).start()
    try:
        name = deploy(clients.Functions(server), f"{proxy.host}/{built}")
        assert proxy.bytes() > 2 * BIG and not incomplete(server)
        assert sha(get(clients.Functions(server), name, "big").content) == sha(content)
        assert "fetched whole" in server.tail()
    finally:
        server.stop()


class OwnDevice(Server):
    """A server whose user may open the /dev/fuse that it sees."""

    def command(self):
        place = self.data.parent / "device"
        place.mkdir(exist_ok=True)
        make = f"mount -t tmpfs none {place} && mknod {place}/fuse c 10 229 && chmod 666 {place}/fuse && mount --bind {place}/fuse /dev/fuse"
        return ["unshare", "--mount", "sh", "-c", f'{make} && exec "$@"', "sh", *super().command()]


def test_without_root_images_come_in_parts_where_fuse_may_be_opened(workspace, proxy, built, content, monkeypatch):
    """The file system is mounted in a user namespace."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make a device")
    folder = workspace / f"rootless-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    program = shutil.copy(binary(), folder / "virga")
    os.chmod(program, 0o755)
    monkeypatch.setenv("VIRGA_BIN", str(program))
    server = OwnDevice(folder / "data", uid=65534, env={"HOME": str(folder)}, arguments=["--image-parts", "used"]).start()
    try:
        functions = clients.Functions(server)
        name = deploy(functions, f"{proxy.host}/{built}")
        assert get(functions, name).text == "hello in parts\n"
        assert proxy.bytes() < 6 * MIB and incomplete(server)
        assert sha(get(functions, name, "big").content) == sha(content)
    finally:
        server.stop()
