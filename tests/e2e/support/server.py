"""A `virga serve` that a test starts, talks to, and stops."""

import os
import pathlib
import queue
import signal
import socket
import subprocess
import threading

import prometheus_client.openmetrics.parser as openmetrics
import prometheus_client.parser as prometheus
import requests

from . import poll

REGION = "us-east-1"


def binary():
    """The program under test. Without one no test can pass."""
    path = os.environ.get("VIRGA_BIN")
    if not path or not os.access(path, os.X_OK):
        raise AssertionError(f"VIRGA_BIN must name the virga program, not {path!r}")
    return str(pathlib.Path(path).resolve())


def free_port():
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clean_environment(**extra):
    """The environment without anything that would lead a client elsewhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "VIRGA_"))}
    return kept | {"AWS_EC2_METADATA_DISABLED": "true"} | extra


class Server:
    """One server on one data directory. `start` may be called again after `stop` or `kill`."""

    key = "AKIAE2E0000000000001"
    secret = "e2e/Secret+Access/Key0000000000000000001"
    account = "111122223333"
    own_session = False

    def __init__(self, data, uid=None, env=None, arguments=(), keys=True):
        self.data = pathlib.Path(data)
        self.port, self.admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin = f"http://127.0.0.1:{self.admin_port}"
        self.uid, self.arguments = uid, list(arguments)
        first = {
            "VIRGA_ACCESS_KEY_ID": self.key,
            "VIRGA_SECRET_ACCESS_KEY": self.secret,
            "VIRGA_ACCOUNT_ID": self.account,
            "VIRGA_REGION": REGION,
        }
        self.environment = clean_environment(**(first if keys else {}), **(env or {}))
        self.log = self.data.parent / f"{self.data.name}.log"
        self.process = None
        self.lines = []

    def command(self):
        """The command line, as another user where asked."""
        serve = [binary(), "serve", "--data", str(self.data), "--listen", f"127.0.0.1:{self.port}"]
        serve += ["--admin", f"127.0.0.1:{self.admin_port}", *self.arguments]
        if self.uid is None:
            return serve
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", *serve]

    def launch(self):
        """Starts the process without waiting for it to serve."""
        self.lines, self._stdout = [], queue.Queue()
        # A reader of an earlier process must not speak for this one.
        sinks = self.lines, self._stdout
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, env=self.environment,
                text=True, cwd=self.data.parent, start_new_session=self.own_session,
            )  # fmt: skip
        threading.Thread(target=self._read, args=(self.process.stdout, *sinks), daemon=True).start()
        return self

    @staticmethod
    def _read(stdout, lines, waiting):
        for line in stdout:
            lines.append(line.rstrip("\n"))
            waiting.put(line.rstrip("\n"))
        waiting.put(None)

    def start(self, seconds=60):
        """Starts, and returns once the line `ready URL` was printed."""
        self.launch()
        while True:
            try:
                line = self._stdout.get(timeout=seconds)
            except queue.Empty:
                raise AssertionError(f"no `ready` line within {seconds} s\n{self.tail()}") from None
            if line is None:
                raise AssertionError(f"the server ended with {self.process.wait()}\n{self.tail()}")
            if line.startswith("ready "):
                assert line.split()[1].rstrip("/") == self.url, line
                return self

    def tail(self):
        """The end of its log."""
        return self.log.read_text(errors="replace")[-8000:] if self.log.exists() else ""

    def kill(self):
        """SIGKILL: nothing of it gets to clean up."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=30):
        """SIGTERM; returns the exit status."""
        if self.process is None or self.process.poll() is not None:
            return self.process and self.process.returncode
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still there {seconds} s after SIGTERM\n{self.tail()}") from None

    def client_environment(self, **extra):
        """What a command-line client needs, and nothing of the caller's own."""
        own = {"AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret,
               "AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION}  # fmt: skip
        return clean_environment(**(own | extra))

    def metrics(self):
        """The text of /metrics."""
        answer = requests.get(f"{self.admin}/metrics", timeout=10)
        assert answer.status_code == 200
        return answer.text

    def metric_families(self):
        """What /metrics says, read by the parser that its content type names."""
        kind = requests.get(f"{self.admin}/metrics", timeout=10).headers["Content-Type"]
        parser = openmetrics if kind.startswith("application/openmetrics-text") else prometheus
        return list(parser.text_string_to_metric_families(self.metrics()))

    def healthy(self):
        """Whether it serves at all."""
        return requests.get(f"{self.admin}/healthz", timeout=10).status_code == 200

    def cli(self, *arguments, stdin=None, seconds=60, check=None, **environment):
        """Runs the `virga` program as a client of this server."""
        done = subprocess.run(
            [binary(), *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=seconds,
            env=self.client_environment(**environment), cwd=self.data.parent,
        )  # fmt: skip
        if check is not None:
            assert done.returncode == check, f"{arguments} → {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


def no_process_left(marker, seconds=20):
    """Waits until no process carries the marker in its environment."""
    from . import host

    poll.until(lambda: not host.processes(marker), f"processes with {marker} gone", seconds)
