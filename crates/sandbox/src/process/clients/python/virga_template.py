"""The half of the runtime client for processes that are started before their function, or instance, is known.

A client that is booted ahead waits for its orders, the function's environment (clients.rs). A template waits for
nothing: it is a process that has been initialised, once, and stops; instances begin as copies of its memory. A copy
goes on where `stop` returns, as the child of a fork, with its orders there to be read: what modules have
registered for a fork with the interpreter or the C library has run.
"""

import os
import sys
import time

import virga_runtime

ORDERS = 3

# What functions commonly import. Loaded into the template that all functions of an interpreter begin with, so
# that they find it in memory.
COMMON = (
    "base64",
    "collections.abc",
    "concurrent.futures.thread",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "functools",
    "hashlib",
    "hmac",
    "http.client",
    "io",
    "json",
    "logging",
    "pathlib",
    "random",
    "re",
    "socket",
    "ssl",
    "string",
    "struct",
    "tempfile",
    "threading",
    "time",
    "traceback",
    "typing",
    "urllib.parse",
    "urllib.request",
    "uuid",
    "zlib",
)


def boot():
    """A client without a function; it becomes one that was just started."""
    prepared = False
    if os.environ.pop("VIRGA_TEMPLATE", None) is not None:
        common = Common()
        common.load()
        virga_runtime.set_up_process()
        stop()
        given = orders()
        if not given:
            rehearse(lambda: common.give_way([]))
        become(given)
        prepared = not common.give_way([virga_runtime.TASK] + virga_runtime.layers())
    else:
        become(orders())
    os.chdir(virga_runtime.TASK)
    virga_runtime.main(prepared)


def orders():
    chunks = []
    while True:
        chunk = os.read(ORDERS, 65536)
        if not chunk:
            break
        chunks.append(chunk)
    os.close(ORDERS)
    return b"".join(chunks)


def become(given):
    """Makes the orders the environment, and nothing else."""
    if not given:
        # No function will come.
        sys.exit(0)
    environment = virga_runtime.loads(given.decode("utf-8"))
    if "VIRGA_PROBE" in environment:
        # Whoever made the image wanted to see that it goes on.
        os._exit(0)
    os.environ.clear()
    os.environ.update(environment)


def instance():
    """Stops the template of a function. Returns in every instance of it: when its own code began to run there."""
    before()
    virga_runtime.flush()
    stop()
    given = orders()
    if not given:
        rehearse(renew)
    become(given)
    renew()
    began = time.monotonic_ns()
    after()
    return began


def stop():
    """Returns in every instance, never in the template."""
    import _signal
    import gc

    gc.collect()
    # No collection ever looks at these objects again: a look would write to each of them.
    gc.freeze()
    os.kill(os.getpid(), _signal.SIGSTOP)
    # Whoever takes the image lets the process go on to here, and takes that of the child.
    if os.fork():
        while True:
            _signal.pause()


def rehearse(first):
    """Does what every instance does up to its first answer, where nobody hears of it, and stops. The copy that does this
    is thrown away: it shows which memory every instance writes to, so that they have that at once."""
    import _signal
    import _socket

    become(b'{"LANG": "en_US.UTF-8", "LAMBDA_TASK_ROOT": "/var/task", "_HANDLER": "app.handler"}')
    first()
    code = "import json\n\n\ndef handler(event, context):\n    return event\n"
    names = {}
    exec(compile(code, "/var/task/app.py", "exec"), names)
    virga_runtime.began_at(time.monotonic_ns())
    _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM).close()
    asked = virga_runtime.message("GET", virga_runtime.NEXT, "127.0.0.1:9001", "")
    answer = b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 1\r\nLambda-Runtime-Deadline-Ms: 1\r\n\r\n" + asked
    _, headers = virga_runtime.parse_head(answer, len(answer) - len(asked) - 4)
    path, body, lines = virga_runtime.run_one(names["handler"], "1", headers, b'{"key": ["value", 1, 1.5, null]}')
    virga_runtime.message("POST", path, "127.0.0.1:9001", lines, body)
    os.kill(os.getpid(), _signal.SIGSTOP)
    os._exit(0)


def hooks(name):
    """The functions that were registered with `snapshot_restore_py`, the platform's or the package's own."""
    module = sys.modules.get("snapshot_restore_py")
    return getattr(module, name)() if module is not None else []


def before():
    """Runs what is to run before the image is taken: in the reverse order of registration."""
    registered = hooks("get_before_snapshot")
    while registered:
        function, positional, named = registered.pop()
        function(*positional, **named)


def after():
    """Runs what is to run in every new instance: in the order of registration."""
    for function, positional, named in list(hooks("get_after_restore")):
        function(*positional, **named)


def renew():
    """Makes unique what a fork alone does not. `random` has seeded itself anew."""
    modules = sys.modules
    ssl = modules.get("_ssl")
    if ssl is not None:
        ssl.RAND_add(os.urandom(64), 64.0)
    numbers = modules.get("numpy.random")
    if numbers is not None:
        numbers.seed()
    uuid = modules.get("uuid")
    if uuid is not None and hasattr(uuid, "_random_getnode"):
        # Instances that make numbers by clock and node at the same time must differ in the node.
        uuid._node = uuid._random_getnode()
        uuid._last_timestamp = uuid._generate_time_safe = None


class Common:
    """The common modules, as long as no function has files of the same names."""

    def __init__(self):
        self.known = set(sys.modules)
        self.finders = list(sys.meta_path)

    def load(self):
        for name in COMMON:
            try:
                __import__(name)
            except ImportError:
                # Built without it.
                pass

    def give_way(self, folders):
        """Forgets all that was loaded if a folder holds anything that would have been found in its place, and what
        was remembered of the folders. Whether it did the first."""
        gives_way = False
        loaded = {name for name in sys.modules if name not in self.known and "." not in name}
        for folder in folders:
            try:
                entries = os.listdir(folder)
            except OSError:
                continue
            if not loaded.isdisjoint(entry.partition(".")[0] for entry in entries):
                self.forget()
                gives_way = True
                break
        # What was looked for and not found when these folders were not there.
        cache = sys.path_importer_cache
        for path in [path for path in cache if cache[path] is None or path.startswith(tuple(folders))]:
            del cache[path]
        return gives_way

    def forget(self):
        for name in [name for name in sys.modules if name not in self.known]:
            del sys.modules[name]
        sys.meta_path[:] = self.finders
