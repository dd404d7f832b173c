"""Container images made here, a registry to keep them, and a proxy that gets in the way."""

import base64
import gzip
import hashlib
import http.server
import io
import json
import pathlib
import platform
import shutil
import socket
import subprocess
import tarfile
import threading

import requests

from . import poll
from .server import free_port

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
REGISTRY = "/usr/bin/docker-registry"


def run(*command):
    """Runs a tool, which must succeed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def layer(files=(), links=(), folders=(), trees=()):
    """A layer's archive: contents by path (a tuple is content and mode), links by path, files of the host as they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for path, content in dict(files).items():
            content, mode = content if isinstance(content, tuple) else (content, 0o644)
            content = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
        for path, target in dict(links).items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
        for host, inside in trees:
            archive.add(host, inside, recursive=False)
    return out.getvalue()


class Layout:
    """An OCI image layout in a folder."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        (self.folder / "blobs/sha256").mkdir(parents=True)
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.manifests = []

    def blob(self, content, kind):
        """Writes a blob; its descriptor."""
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / "blobs/sha256" / digest).write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    def image(self, layers, tag="latest", architecture=ARCHITECTURE, **config):
        """Adds an image of these archives."""
        diffs = [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in layers]
        described = {"os": "linux", "architecture": architecture, "config": config,
                     "rootfs": {"type": "layers", "diff_ids": diffs}}  # fmt: skip
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.blob(json.dumps(described).encode(), "config.v1+json"),
            "layers": [self.blob(gzip.compress(each, 1), "layer.v1.tar+gzip") for each in layers],
        }
        described = self.blob(json.dumps(manifest).encode(), "manifest.v1+json")
        self.list(described | {"platform": {"os": "linux", "architecture": architecture}}, tag)
        return self

    def list(self, described, tag):
        """Has the index list a manifest."""
        self.manifests.append(described | {"annotations": {"org.opencontainers.image.ref.name": tag}})
        (self.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.manifests}))

    def push(self, registry, name, *options):
        """Pushes its image; the reference."""
        run("skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", *registry.login, *options,
            f"oci:{self.folder}:latest", f"docker://{registry.host}/{name}")  # fmt: skip
        return f"{registry.host}/{name}"


class Registry:
    """Debian's docker-registry on loopback."""

    def __init__(self, folder, user=None, password=None, tls=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        self.host = f"127.0.0.1:{free_port()}"
        self.login = ["--dest-creds", f"{user}:{password}"] if user else []
        listen = {"addr": self.host} | ({"tls": tls} if tls else {})
        config = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}},
                  "http": listen, "log": {"level": "error"}}  # fmt: skip
        if user:
            # Debian's own crypt(3) knows bcrypt, the one form that the registry takes.
            salt = "$2b$05$" + "abcdefghijklmnopqrstuO"
            hashed = run("perl", "-e", "print crypt($ARGV[0], $ARGV[1])", password, salt)
            (self.folder / "htpasswd").write_text(f"{user}:{hashed}\n")
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(self.folder / "htpasswd")}}
        (self.folder / "config.yml").write_text(json.dumps(config))
        self.log = open(self.folder / "log", "wb")
        command = [REGISTRY, "serve", str(self.folder / "config.yml")]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, cwd=self.folder)
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        poll.until(self._answers, "the registry answers", 30)

    def _answers(self):
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            return requests.get(f"{self.url}/v2/", timeout=5, verify=False).status_code in (200, 401)
        except requests.ConnectionError:
            return False

    def stop(self):
        """Ends it."""
        self.process.kill()
        self.process.wait()
        self.log.close()


class Proxy:
    """Passes requests on to a registry; `meddle(handler, path, body)` may answer a blob in its own way."""

    def __init__(self, registry, meddle):
        outer = self
        self.requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.requests.append(self.path)
                headers = {k: v for k, v in self.headers.items() if k.lower() in ("accept", "authorization")}
                answer = requests.get(registry.url + self.path, headers=headers, timeout=30)
                if "/blobs/" in self.path and meddle(self, self.path, answer.content):
                    return
                self.send_response(answer.status_code)
                for name in ("Content-Type", "WWW-Authenticate"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

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


def head(handler, length):
    """Begins an answer of so many bytes."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()


def break_off(handler):
    """Ends the connection in the middle of an answer."""
    handler.wfile.flush()
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def docker_config(path, registry, user, password):
    """Docker's file of credentials."""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    pathlib.Path(path).write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    return path


def busybox_layer(**files):
    """Debian's busybox-static with links for its tools."""
    tools = ["sh", "httpd", "cat", "id", "ls", "touch", "sleep", "echo", "env", "pwd", "false", "mkdir"]
    program = pathlib.Path("/bin/busybox").read_bytes()
    return layer(
        files={"bin/busybox": (program, 0o755), "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nweb:x:1234:1234::/:\n"},
        links={f"bin/{tool}": "busybox" for tool in tools},
        folders=["www", "srv"],
    )


def python_layer(*loading):
    """The files of Debian's Python as its packages list them, with the libraries that these and `loading` load."""
    packages = ["python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"]
    listed = [pathlib.Path(line) for line in run("dpkg", "-L", *packages).splitlines()]
    kept = {path for path in listed if path.is_file() and "/share/" not in str(path)}
    libraries = set()
    for binary in [*loading, *(path for path in kept if path.suffix == ".so" or path.parent.name == "bin")]:
        said = subprocess.run(["ldd", binary], capture_output=True, text=True).stdout
        libraries |= {pathlib.Path(word) for word in said.split() if word.startswith("/") and not word.endswith(":")}
    out = io.BytesIO()
    # Files where links lead: an image made so has no link from /lib to /usr/lib.
    with tarfile.open(fileobj=out, mode="w", dereference=True) as archive:
        for path in sorted(kept | libraries):
            archive.add(path, str(path)[1:], recursive=False)
    return out.getvalue()


def folder_layer(folder, inside):
    """A folder of the host at a path."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as archive:
        archive.add(folder, inside)
    return out.getvalue()


def available():
    """What these tests need."""
    return [tool for tool in ("skopeo", "umoci", "docker-registry") if not shutil.which(tool)]
