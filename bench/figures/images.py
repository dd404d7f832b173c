"""Large images: first answer against the time to have all of it, bytes fetched, and a second start against a package's.

The registry is Debian's docker-registry on loopback, once as it is and once behind a proxy that lets so many megabytes a second
through, which is what a network does and no more: no latency, no loss. `BENCH_IMAGE_MB` says how large the image is."""

import contextlib
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import uuid

import requests
from measure import ROUNDS
from report import Row
from support import images
from support.clients import FAST
from support.server import binary, clean_environment
from virga import virga

MIB = 1 << 20
SIZE = int(os.environ.get("BENCH_IMAGE_MB", "3072"))
USED = 40
LIMIT_MB_S = 50


class Throttle:
    """A TCP proxy that passes on so many bytes a second, all connections together, and counts them."""

    def __init__(self, target, rate=None):
        host, port = target.rsplit(":", 1)
        self.target, self.rate, self.bytes = (host, int(port)), rate, 0
        self.lock, self.free_at = threading.Lock(), time.monotonic()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                inside, _ = self.listener.accept()
                outside = socket.create_connection(self.target)
                threading.Thread(target=self._copy, args=(inside, outside, False), daemon=True).start()
                threading.Thread(target=self._copy, args=(outside, inside, True), daemon=True).start()

    def _copy(self, source, sink, counted):
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 18):
                if counted:
                    self._wait(len(piece))
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _wait(self, count):
        with self.lock:
            self.bytes += count
            if not self.rate:
                return
            now = time.monotonic()
            self.free_at = max(self.free_at, now) + count / self.rate
            pause = self.free_at - now
        time.sleep(max(0.0, pause))

    def stop(self):
        self.listener.close()


def build(folder, registry):
    """A web server with files that nobody can compress, of which one is asked for; pushed."""
    app = folder / "app"
    (app / "www").mkdir(parents=True)
    shutil.copy("/bin/busybox", app / "busybox")
    (app / "www/index.html").write_text("here\n")
    with open(app / "www/used", "wb") as used:
        used.write(os.urandom(USED * MIB))
    for number in range(max(1, (SIZE - USED) // 64)):
        with open(app / f"ballast-{number:03}", "wb") as ballast:
            for _ in range(64):
                ballast.write(os.urandom(MIB))
    command = [binary(), "build", app, "-t", f"{registry.host}/bench/large:v1", "--push", "--base", "scratch",
               "--entrypoint", "/app/busybox httpd -f -p 8080 -h /app/www", "--port", "8080"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, env=clean_environment() | {"TMPDIR": str(folder)})
    shutil.rmtree(app)


def first_answer(uri, parts):
    """Seconds from the deploy to all that the function uses of a fresh server's image."""
    with virga("--image-parts", parts, all_cores=True) as (server, functions):
        begun = time.perf_counter()
        server.cli("deploy", "--image", uri, "--name", "large", "--timeout", "900", seconds=1800, check=0)
        answer = requests.get(functions.path("large", "used"), timeout=900)
        took = time.perf_counter() - begun
        assert len(answer.content) == USED * MIB, answer.status_code
        return took, second_starts(functions, "large") if parts == "used" else None


def second_starts(functions, name):
    """Milliseconds of the first page of instances that come later."""
    seen = []
    for _ in range(ROUNDS + 1):
        functions.api.update_function_configuration(FunctionName=name, Environment={"Variables": {"ROUND": uuid.uuid4().hex}})
        functions.api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)
        # An instance that was warmed for the change would be none of a cold start.
        functions.api.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        functions.api.delete_function_concurrency(FunctionName=name)
        begun = time.perf_counter()
        answer = requests.get(functions.path(name), timeout=60)
        seen.append((time.perf_counter() - begun) * 1e3)
        assert answer.text == "here\n", answer.text
    return statistics.median(seen[1:])


def package(folder):
    """The same web server as a package of its own."""
    app = folder / "package"
    (app / "www").mkdir(parents=True)
    shutil.copy("/bin/busybox", app / "busybox")
    (app / "www/index.html").write_text("here\n")
    (app / "bootstrap").write_text("#!/bin/sh\nexec ./busybox httpd -f -p $PORT -h www\n")
    os.chmod(app / "bootstrap", 0o755)
    with virga(all_cores=True) as (server, functions):
        server.cli("deploy", app, "--name", "small", "--runtime", "provided.al2023", "--contract", "http", check=0)
        return second_starts(functions, "small")


def run():
    """Two rows of times, two of bytes, one of second starts."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="virga-bench-images-") as place:
        folder = pathlib.Path(place)
        registry = images.Registry(folder / "registry")
        try:
            build(folder, registry)
            second = None
            for rate, label in ((None, "loopback, no limit"), (LIMIT_MB_S * MIB, f"a proxy of {LIMIT_MB_S} MiB/s")):
                seen = {}
                for parts in ("used", "off"):
                    proxy = Throttle(registry.host, rate)
                    took, starts = first_answer(f"{proxy.host}/bench/large:v1", parts)
                    proxy.stop()
                    seen[parts], second = (took, proxy.bytes / MIB), starts or second
                note = f"{SIZE} MiB, of which {USED} are used; {label}; one run"
                rows.append(Row("IMAGES", "deploy to first answer", "the image fetched whole", seen["off"][0], seen["used"][0], "s", 0.1,
                                "ratio", "less", note))  # fmt: skip
                rows.append(Row("IMAGES", "bytes fetched for it", "the image fetched whole", seen["off"][1], seen["used"][1], "MiB", None,
                                "ratio", "less", note))  # fmt: skip
            rows.append(Row("IMAGES", "second start of an image that is not all there", "the same as a package", package(folder), second,
                            "ms", 2, "ratio", "less", "a web server's first page, deploy excluded"))  # fmt: skip
        finally:
            registry.stop()
    return rows
