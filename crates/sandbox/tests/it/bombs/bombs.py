"""Takes more than its share, in the way that the event names. mod.rs beside this file says what must come of it.

A bomb that its limit defuses answers with how much it got and what the system said then; the others never answer.
"""

import errno
import os
import resource
import signal
import socket
import sys
import threading
import time

HELD = []
PINGS = []
FOREVER = 1 << 30


def until_refused(make, most=1 << 20):
    """Makes things and keeps them until the system says no."""
    made = 0
    try:
        while made < most:
            HELD.append(make(made))
            made += 1
    except (OSError, RuntimeError, MemoryError) as error:
        number = getattr(error, "errno", None)
        return {"made": made, "refused": errno.errorcode.get(number, type(error).__name__)}
    return {"made": made, "refused": None}


def cpu(event, context):
    for _ in range(8):
        if os.fork() == 0:
            break
    threading.Thread(target=spin, daemon=True).start()
    spin()


def spin():
    while True:
        pass


def memory(event, context):
    while True:
        HELD.append(bytearray(b"x" * (8 << 20)))


def fork(event, context):
    """Every copy makes copies, and goes on when it may not."""
    while True:
        try:
            os.fork()
        except OSError:
            pass


def threads(event, context):
    def start(_):
        thread = threading.Thread(target=time.sleep, args=(FOREVER,), daemon=True)
        thread.start()
        return thread

    return until_refused(start)


def files(event, context):
    """In several processes at once, each to its limit."""
    for _ in range(8):
        if os.fork() == 0:
            until_refused(lambda _: os.open("/dev/null", os.O_RDONLY))
            time.sleep(FOREVER)
    result = until_refused(lambda _: os.open("/dev/null", os.O_RDONLY))
    for descriptor in HELD[:16]:
        os.close(descriptor)
    return result


def disk(event, context):
    block = bytes(1 << 20)
    refused = []
    for folder in ("/tmp", "/dev/shm"):
        with open(f"{folder}/file", "wb", buffering=0) as out:
            refused.append(until_refused(lambda _: out.write(block), most=4096))
    return refused[0] | {"shared": refused[1]}


def inodes(event, context):
    os.mkdir("/tmp/many")
    return until_refused(lambda number: os.close(os.open(f"/tmp/many/{number}", os.O_CREAT | os.O_WRONLY)))


def log_flood(event, context):
    """Several writers, and a pipe as large as it may be."""
    import fcntl

    fcntl.fcntl(1, 1031, 1 << 20)
    for _ in range(4):
        if os.fork() == 0:
            break
    line = b"flood " * 10_000 + b"\n"
    while True:
        os.write(1, line)


def endless_answer(event, context):
    """Speaks to the Runtime API itself, and never stops."""
    host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
    head = f"POST /2018-06-01/runtime/invocation/{context.aws_request_id}/response HTTP/1.1\r\nHost: x\r\n"
    with socket.create_connection((host, int(port))) as api:
        api.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                api.sendall(b"10000\r\n" + b"a" * 65536 + b"\r\n")
        except OSError:
            time.sleep(FOREVER)


def sockets(event, context):
    """To everything that listens on its loopback, and pairs with what they can hold."""
    address = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")

    def connect(number):
        if number % 2:
            return socket.socketpair()
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex((address[0], int(address[1]) if number % 4 else 9080))
        return connection

    result = until_refused(connect)
    for _ in range(16):
        HELD.pop()
    return result


def zombies(event, context):
    """Children that nobody waits for; and children of children, which pid 1 has to."""
    for _ in range(100):
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                os._exit(0)
            os._exit(0)
        os.waitpid(child, 0)
    end = time.monotonic() + 10
    # One that is only now dying is found a moment before it is waited for: what counts is what does not go.
    while (left := orphans()) and time.monotonic() < end:
        time.sleep(0.01)

    def child(_):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        return pid

    return until_refused(child) | {"orphans": left}


def orphans():
    """Dead processes whose parent is pid 1."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, parent = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        if state == "Z" and parent == "1":
            found.append(pid)
    return found


def deaf(event, context):
    """Ignores whatever can be ignored, in sessions of its own."""
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    for _ in range(4):
        if os.fork() == 0:
            os.setsid()
    while True:
        try:
            time.sleep(FOREVER)
        except BaseException:
            continue


def handler(event, context):
    if event == "ping":
        PINGS.append(None)
        return len(PINGS)
    return globals()[event](event, context)
