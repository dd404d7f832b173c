"""Looks around its sandbox and tells. Each look is an entry of LOOKS."""

import os
import pathlib
import resource
import socket
import ssl
import subprocess
import urllib.error
import urllib.request


def attempt(action):
    """What an action gave, or the name of its error."""
    try:
        return {"ok": action()}
    except OSError as error:
        return {"error": type(error).__name__, "errno": error.errno, "text": str(error)}


def status():
    text = pathlib.Path("/proc/self/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def write(path):
    return lambda: pathlib.Path(path).write_text("x")


def reach(host, port):
    return lambda: socket.create_connection((host, port), timeout=3).close()


def fetch(url):
    try:
        return {"status": urllib.request.urlopen(url, timeout=5).status}
    except urllib.error.HTTPError as error:
        return {"status": error.code}
    except OSError as error:
        return {"error": str(error)}


def fill(folder, megabytes):
    with open(os.path.join(folder, "filler"), "wb") as out:
        for _ in range(megabytes):
            out.write(bytes(1 << 20))


def fork_until_refused():
    children = 0
    try:
        while children < 20000:
            pid = os.fork()
            if pid == 0:
                os.execv("/bin/sleep", ["sleep", "30"])
            children += 1
    except OSError as error:
        return {"children": children, "error": type(error).__name__}
    return {"children": children}


LOOKS = {
    "status": lambda event: status(),
    "ids": lambda event: {"uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(), "pid": os.getpid()},
    "write": lambda event: attempt(write(event["path"])),
    "reach": lambda event: attempt(reach(event["host"], event["port"])),
    "resolve": lambda event: attempt(lambda: socket.getaddrinfo(event["host"], 80)[0][4][0]),
    "fetch": lambda event: fetch(event["url"]),
    "listdir": lambda event: attempt(lambda: sorted(os.listdir(event["path"]))),
    "read": lambda event: attempt(lambda: pathlib.Path(event["path"]).read_text()),
    "processes": lambda event: sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "interfaces": lambda event: [name for _, name in socket.if_nameindex()],
    "fill": lambda event: attempt(lambda: fill(event["path"], event["megabytes"])),
    "fork": lambda event: fork_until_refused(),
    "certificates": lambda event: len(ssl.create_default_context().get_ca_certs()),
    "environment": lambda event: dict(os.environ),
    "run": lambda event: subprocess.run(event["argv"], capture_output=True, text=True).__dict__,
    "mounts": lambda event: pathlib.Path("/proc/self/mountinfo").read_text().splitlines(),
    "rlimits": lambda event: {"core": resource.getrlimit(resource.RLIMIT_CORE)},
    "unshare": lambda event: attempt(lambda: os.unshare(os.CLONE_NEWUSER) if hasattr(os, "unshare") else _unshare()),
    "sethostname": lambda event: attempt(lambda: socket.sethostname("x")),
    "hostname": lambda event: socket.gethostname(),
    "spawn": lambda event: subprocess.Popen(event["argv"], start_new_session=True).pid,
    "spin": lambda event: _spin(event["seconds"]),
}


def _unshare():
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _spin(seconds):
    import time

    end, used = time.monotonic() + seconds, time.process_time()
    while time.monotonic() < end:
        pass
    return {"cpu": time.process_time() - used, "wall": seconds}


def handler(event, context):
    answer = LOOKS[event["look"]](event)
    if isinstance(answer, dict) and "args" in answer:
        answer = {"code": answer["returncode"], "out": answer["stdout"], "err": answer["stderr"]}
    return answer
