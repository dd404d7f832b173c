"""WebAssembly in processes of the accounts' own (`--wasm-workers always`): walls, ends, the way out."""

import concurrent.futures
import http.server
import os
import pathlib
import re
import signal
import ssl
import threading

import pytest
import requests
import wasmtime

from support import host, images, kinds, poll
from support.clients import Functions
from test_wasm import component

GUESTS = kinds.REPOSITORY / "crates" / "sandbox-wasm" / "tests" / "it" / "guests"


def probe():
    """A component that does what its path says; guests/probe.c."""
    return {"main.wasm": (GUESTS / "probe.wasm").read_bytes()}


def command():
    return {"main.wasm": wasmtime.wat2wasm(kinds.source("command.wat"))}


@pytest.fixture
def apart(new_server):
    server = new_server(arguments=["--wasm-workers", "always", "--max-egress", "open"]).start()
    yield server, Functions(server)
    server.stop()


def workers(server):
    """Ids of the server's workers."""
    return sorted(set(host.command_lines("wasm-worker")) & host.descendants(server.process.pid))


def worker(server):
    (only,) = workers(server)
    return only


def test_a_worker_is_confined(apart):
    server, functions = apart
    name = functions.deploy(probe(), "wasm", "main.wasm", url=True)
    assert not workers(server)
    assert requests.get(functions.path(name, "count"), timeout=30).text == "1"
    proc = pathlib.Path(f"/proc/{worker(server)}")
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
    assert {int(status[which], 16) for which in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2" and status["Seccomp_filters"] == "2"
    assert (proc / "environ").read_bytes() == b""
    for space in ("user", "mnt", "pid", "net", "ipc", "uts"):
        assert (proc / "ns" / space).readlink() != pathlib.Path(f"/proc/self/ns/{space}").readlink()
    # Of the server's data it sees the package of its account's function, and no other file.
    seen = [str(path.relative_to(proc / "root/var/task")) for path in (proc / "root/var/task").rglob("*")]
    assert sorted(pathlib.Path(path).name for path in seen if path.endswith(".wasm")) == ["main.wasm"]
    assert not (proc / f"root{server.data}").exists()
    # Descriptors: no file of the host's but what it was executed with.
    opened = [os.readlink(path) for path in (proc / "fd").iterdir()]
    assert not [path for path in opened if path.startswith("/") and path not in ("/dev/null", "/proc/1/pagemap")
                and not path.startswith(("/memfd:", "/proc/", "/var/task"))], opened  # fmt: skip


def test_a_killed_worker_is_an_error_for_its_calls_and_the_next_call_has_another(apart):
    server, functions = apart
    loops = functions.deploy(command(), "wasm", "main.wasm", Timeout=60)
    other = functions.deploy({"main.wasm": component()}, "wasm", "main.wasm", url=True)
    assert functions.invoke(loops, 1).ok() == 1
    first = worker(server)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(functions.invoke, loops, "~")
        poll.until(lambda: spent(first) > 0.3, "the guest is at work")
        os.kill(first, signal.SIGKILL)
        failed = running.result(30).failed("Runtime.ExitError")
    assert failed["errorMessage"].endswith("Error: Runtime exited with error: signal: killed")
    assert functions.invoke(loops, 2).ok() == 2
    assert requests.get(functions.path(other, "x"), timeout=30).status_code == 200
    assert worker(server) != first


def spent(process):
    """Seconds of processor time."""
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stopped(process):
    """Whether all threads are: on a busy machine the signal is there some time before the last of them stops."""
    stats = pathlib.Path(f"/proc/{process}/task").glob("*/stat")
    return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in stats)


def test_a_request_that_a_killed_worker_has_not_read_goes_to_the_next_one(apart):
    server, functions = apart
    name = functions.deploy({"main.wasm": component()}, "wasm", "main.wasm", url=True)
    url = functions.path(name, "x")
    assert requests.get(url, timeout=30).status_code == 200
    first = worker(server)
    os.kill(first, signal.SIGSTOP)
    poll.until(lambda: stopped(first), "no thread of the worker reads any more")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        # One on the line that is kept, the others on lines that the worker has not yet seen.
        calls = [pool.submit(requests.get, url, timeout=60) for _ in range(4)]
        running = re.compile(rf"^faas_running{{.*{name}.*}} 4$", re.MULTILINE)
        poll.until(lambda: running.search(server.metrics()), "four calls wait for the worker")
        os.kill(first, signal.SIGKILL)
        answers = [call.result() for call in calls]
        assert [answer.status_code for answer in answers] == [200] * 4, [answer.text for answer in answers]
    assert worker(server) != first


def test_many_calls_while_the_worker_is_killed_again_and_again(apart):
    server, functions = apart
    name = functions.deploy({"main.wasm": component()}, "wasm", "main.wasm", url=True)
    url = functions.path(name, "x")
    assert requests.get(url, timeout=30).status_code == 200
    for _ in range(3):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(lambda: requests.get(url, timeout=60).status_code) for _ in range(64)]
            killed = worker(server)
            os.kill(killed, signal.SIGKILL)
            seen = {call.result() for call in calls}
        # Answered, or told that it broke; never left waiting.
        assert seen <= {200, 502}, seen
        # The calls may have been over before the kill, and a process that is killed may still read one more.
        poll.until(lambda killed=killed: killed not in workers(server), "it is gone")
        assert requests.get(url, timeout=30).status_code == 200


def test_memory_ends_at_the_functions_limit(apart):
    server, functions = apart
    name = functions.deploy(probe(), "wasm", "main.wasm", url=True, MemorySize=128)
    answer = requests.get(functions.path(name, "eat"), timeout=60)
    assert answer.status_code == 502, answer.text
    first = worker(server)
    assert requests.get(functions.path(name, "count"), timeout=30).text == "1"
    assert worker(server) == first, "a guest that traps does not take its worker along"


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_the_way_out_is_the_servers(apart):
    server, functions = apart
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{listener.server_port}"
        fetched = {}
        for egress in ("none", "public", place):
            tags = {"virga:egress": egress}
            name = functions.deploy(probe(), "wasm", "main.wasm", url=True, tags=tags)
            fetched[egress] = requests.get(functions.path(name, f"fetch/{place}"), timeout=30).text
            log = server.cli("logs", name, check=0).stdout
            assert ("loopback address" in log) == (egress == "public"), log
        listener.shutdown()
    # error-code: 15 is HTTP-request-denied, 4 destination-IP-prohibited.
    assert fetched == {"none": "error 15", "public": "error 4", place: "status 204"}
    assert len(workers(server)) == 1


@pytest.fixture
def encrypted(tmp_path):
    """A web server with a certificate that nobody but the test vouches for: its port, and the certificate's file."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    images.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
               "-keyout", key, "-out", certificate, "-subj", "/CN=elsewhere.test",
               "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE")  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Listener(http.server.ThreadingHTTPServer):
        def finish_request(self, request, client_address):
            with context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)

        def handle_error(self, *_):
            """A client that does not believe it hangs up."""

    with Listener(("127.0.0.1", 0), Answer) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield listener.server_port, certificate
        listener.shutdown()


@pytest.mark.parametrize("where", ["always", "never"])
def test_https_reaches_whom_the_operator_vouches_for(new_server, encrypted, where):
    port, certificate = encrypted
    fetched = {}
    for vouched in (False, True):
        arguments = ["--wasm-workers", where, "--max-egress", "open"]
        arguments += ["--egress-ca", str(certificate)] if vouched else []
        server = new_server(arguments=arguments).start()
        functions = Functions(server)
        tags = {"virga:egress": "open"}
        name = functions.deploy(probe(), "wasm", "main.wasm", url=True, tags=tags)
        for called in ("127.0.0.1", "localhost"):
            answer = requests.get(functions.path(name, f"fetch-tls/{called}:{port}"), timeout=30)
            fetched[vouched, called] = answer.text
        said = server.cli("logs", name, check=0).stdout
        assert f"https to localhost:{port} failed: invalid peer certificate" in said, said
        assert len(workers(server)) == (where == "always")
        server.stop()
    # error-code: 13 is TLS-certificate-error. The certificate is the address's, not the name's.
    assert fetched == {
        (False, "127.0.0.1"): "error 13",
        (False, "localhost"): "error 13",
        (True, "127.0.0.1"): "status 204",
        (True, "localhost"): "error 13",
    }


def test_certificates_that_cannot_be_read_are_told_at_the_start(new_server, tmp_path):
    (tmp_path / "ca.pem").write_text("not a certificate")
    server = new_server(arguments=["--egress-ca", str(tmp_path / "ca.pem")]).launch()
    assert server.process.wait(60) not in (0, None)
    assert f"reading certificates from {tmp_path / 'ca.pem'}: there is no certificate in it" in server.tail()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_nothing_is_left_of_workers(new_server, end):
    server = new_server(arguments=["--wasm-workers", "always"]).start()
    functions = Functions(server)
    name = functions.deploy(command(), "wasm", "main.wasm", Timeout=60)
    assert functions.invoke(name, 1).ok() == 1
    everything = host.descendants(server.process.pid)
    assert workers(server) and len(everything) >= 3
    thread = threading.Thread(target=lambda: pytest.raises(Exception, functions.invoke, name, "~"), daemon=True)
    thread.start()
    poll.until(lambda: spent(worker(server)) > 0.3, "a guest is at work")
    if end == "stop":
        assert server.stop() == 0
        assert not any(pathlib.Path(f"/proc/{process}").exists() for process in everything)
    else:
        server.kill()
        poll.until(lambda: not any(pathlib.Path(f"/proc/{process}").exists() for process in everything), "all are gone")
    server.start()
    assert not list((server.data / "wasm-workers").iterdir())
    assert Functions(server).invoke(name, 2).ok() == 2
    server.stop()
