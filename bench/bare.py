"""Python processes with nothing of Virga's between them and their caller: each answers over a socket of its own.

What a call costs more when a hundred processes take turns than when eight do is what the processor pays for finding
none of a process's memory in its caches; whoever runs functions in processes pays it too."""

import contextlib
import os
import pathlib
import select
import socket
import subprocess
import time

from measure import LOAD_CORE, SERVER_CORE, pinned

CALLERS = 8
PROGRAM = r"""
import json, socket, sys
def handler(event, context):
    return 1
kept = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
kept.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while True:
    data = kept.recv(65536)
    if not data:
        break
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    answer = json.dumps(handler(json.loads(body), fields)).encode()
    kept.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
"""
EVENT = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    b"Lambda-Runtime-Aws-Request-Id: 8f5a3a52-5b43-4fd2-8bd1-4e3f9c1f2a00\r\n"
    b"Lambda-Runtime-Deadline-Ms: 1795184548887\r\n\r\n{}"
)


class Bare:
    """So many processes on the server's core."""

    def __init__(self, count):
        self.count, self.processes, self.sockets = count, [], []

    def __enter__(self):
        with contextlib.ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as listener:
            stack.callback(self.__exit__)
            port = str(listener.getsockname()[1])
            for _ in range(self.count):
                command = pinned(SERVER_CORE, ["/usr/bin/python3", "-s", "-c", PROGRAM, port])
                self.processes.append(subprocess.Popen(command, start_new_session=True))
                accepted, _ = listener.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.sockets.append(accepted)
            stack.pop_all()
        return self

    def __exit__(self, *_):
        for each in self.sockets:
            each.close()
        for process in self.processes:
            process.kill()
            process.wait()

    def load(self, seconds):
        """A closed loop of callers, each call to the next process that is free: rate and processor time a call."""
        mask = os.sched_getaffinity(0)
        if len(mask) > 1:
            os.sched_setaffinity(0, {LOAD_CORE})
        try:
            before, begun = self._cpu(), time.monotonic()
            count = self._turns(begun + seconds)
            took = time.monotonic() - begun
            return {"rate": count / took, "count": count, "cpu": (self._cpu() - before) * 1e6 / count}
        finally:
            os.sched_setaffinity(0, mask)

    def _cpu(self):
        """Seconds of all of them: each has one thread and no children."""
        stats = (pathlib.Path(f"/proc/{process.pid}/schedstat").read_text() for process in self.processes)
        return sum(int(stat.split()[0]) for stat in stats) / 1e9

    def _turns(self, until):
        by_number = {each.fileno(): each for each in self.sockets}
        free, count = list(self.sockets), 0
        with select.epoll() as poll:
            for number in by_number:
                poll.register(number, select.EPOLLIN)
            for _ in range(CALLERS):
                free.pop(0).send(EVENT)
            under_way = CALLERS
            while under_way:
                for number, _ in poll.poll():
                    by_number[number].recv(65536)
                    free.append(by_number[number])
                    count += 1
                    under_way -= 1
                    if time.monotonic() < until:
                        free.pop(0).send(EVENT)
                        under_way += 1
        return count
