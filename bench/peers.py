"""Peers, each started on the server's core and stopped when it was measured."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from measure import PEERS, ROOT, SERVER_CORE, TARGET, pinned

sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from support.server import free_port  # noqa: E402

WASMTIME = PEERS / "bin" / "wasmtime"
WORKERD = PEERS / "workerd" / "node_modules" / ".bin" / "workerd"
EMULATOR = PEERS / "aws-lambda-rie"
NGINX = pathlib.Path("/usr/sbin/nginx")

WORKERD_CONFIG = """using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .hello)],
  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "main")]
);
const hello :Workerd.Worker = (
  modules = [(name = "hello", esModule = embed "hello.js")], compatibilityDate = "2025-01-01"
);
"""
WORKERD_HELLO = "export default { fetch: () => new Response('Hello, world! You asked for /\\n') };\n"

NGINX_CONFIG = """worker_processes 1; daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream node {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{ listen 127.0.0.1:{port};
    proxy_http_version 1.1; proxy_set_header Connection "";
    location / {{ proxy_pass http://node; }}
    location /forwarded {{ proxy_pass http://node; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
      add_header X-Request-Id $request_id; }} }}
}}
"""


@contextlib.contextmanager
def program(command, port, environment=None, folder=None):
    """Runs a program on the server's core until its port answers; gives the process and `host:port`.

    In a session of its own, as a service manager starts programs: the kernel's automatic groups share the processor
    between sessions, and functions have theirs."""
    process = subprocess.Popen(
        pinned(SERVER_CORE, command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
        env=os.environ | (environment or {}), start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not answer")
            time.sleep(0.02)
        yield process, f"127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def wasmtime_serve(component):
    """`wasmtime serve` with the pooling allocator."""
    port = free_port()
    command = [WASMTIME, "serve", "-Scli", "-Opooling-allocator", "--addr", f"127.0.0.1:{port}", component]
    with program(command, port) as running:
        yield running


@contextlib.contextmanager
def workerd_hello():
    """workerd with a worker that says hello."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "hello.js").write_text(WORKERD_HELLO)
        pathlib.Path(folder, "config.capnp").write_text(WORKERD_CONFIG.format(port=port))
        with program([WORKERD.resolve(), "serve", "config.capnp"], port, folder=folder) as running:
            yield running


@contextlib.contextmanager
def emulator(command, environment, folder):
    """Lambda's runtime-interface emulator in front of an official runtime client."""
    port, api = free_port(), free_port()
    options = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", f"127.0.0.1:{api}"]
    with program([EMULATOR, *options, *command], port, environment | {"_HANDLER": "app.handler"}, folder) as running:
        yield running


@contextlib.contextmanager
def node_server(script):
    """A Node web server by itself."""
    port = free_port()
    with program([shutil.which("node"), script], port, {"PORT": str(port)}) as running:
        yield running


@contextlib.contextmanager
def nginx(upstream):
    """nginx as a reverse proxy with a keep-alive upstream."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "nginx.conf")
        config.write_text(NGINX_CONFIG.format(folder=folder, port=port, upstream=upstream.split(":")[1]))
        with program([NGINX, "-p", folder, "-c", config, "-e", f"{folder}/error.log"], port) as running:
            yield running


PYTHON_CLIENT = {"PYTHONPATH": str(TARGET / "e2e-python" / "awslambdaric")}
NODE_CLIENT = TARGET / "e2e-node" / "node_modules" / "aws-lambda-ric" / "bin" / "index.mjs"
