"""P4: from zero: no instance of that function, full isolation, request to answer."""

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from measure import SERVER_CORE
from report import Row
from support import kinds, zips
from virga import first_call, virga

SAMPLES = 20
# Between two first calls: what is made ahead is made again meanwhile, as it is where functions wake one by one.
PAUSE = 0.1
KINDS = {
    "Python": (kinds.system_python, {"app.py": "def handler(event, context):\n    return 1\n"}, 15, ["/usr/bin/python3", "-c", "pass"]),
    "Node": (kinds.node, {"app.js": "exports.handler = async () => 1;\n"}, 25, [shutil.which("node"), "-e", "0"]),
    "PHP": (kinds.php, {"app.php": "<?php\nreturn fn () => 1;\n"}, 15, [shutil.which("php"), "-r", "1;"]),
    "Ruby": (kinds.ruby, {"app.rb": "def handler(event:, context:) = 1\n"}, 20, [shutil.which("ruby"), "-e", "1"]),
}
HANDLERS = {"PHP": "app.php", "Java": "App::handle"}
JAVA = "public class App { public static int handle() { return 1; } public static void main(String[] none) { } }"

OFF = ("--pool-sandboxes", "0", "--pool-runtimes", "0", "--template-mb", "0")


def run():
    """First calls of functions that were never called, in turn with the bare interpreter's start; then without pools."""
    with tempfile.TemporaryDirectory() as folder:
        return _run(KINDS | {"Java": _java(Path(folder))})


def _java(folder):
    """A method of a class without anything, beside the machine that runs that class's empty main."""
    jar = kinds.jar({"App.java": JAVA}, folder)
    return kinds.java, jar, 80, [shutil.which("java"), "-Xshare:auto", "-cp", str(folder / "made.jar"), "App"]


def _run(all_kinds):
    rows = []
    with virga() as (server, functions):
        for title, (runtime, files, goal, bare) in all_kinds.items():
            ours, theirs = _samples(server, functions, files, runtime(), bare, HANDLERS.get(title, "app.handler"))
            rows.append(_row(f"{title} from zero, p50", ours, goal))
            rows.append(Row("P4", f"{title} from zero, p50", "bare interpreter start", statistics.median(theirs),
                            statistics.median(ours), "ms", 1.0, "ratio", "less"))  # fmt: skip
        ours, _ = _samples(server, functions, _native(), kinds.CUSTOM, ["/bin/true"])
        rows.append(_row("native binary from zero, p50", ours, 8, "a debug build of the official Rust client"))
    with virga(*OFF) as (server, functions):
        for title, (runtime, files, _, bare) in all_kinds.items():
            ours, _ = _samples(server, functions, files, runtime(), bare, HANDLERS.get(title, "app.handler"))
            rows.append(_row(f"{title} from zero, p50, every pool off", ours))
        ours, _ = _samples(server, functions, _native(), kinds.CUSTOM, ["/bin/true"])
        rows.append(_row("native binary from zero, p50, every pool off", ours))
    return rows


def _native():
    return {"bootstrap": zips.executable(kinds.rust_guest("event-handler"))}


def _row(what, samples, goal=None, note=""):
    note = f"p90 {_p90(samples):.0f} ms; {note}".removesuffix("; ")
    return Row("P4", what, "goal" if goal else "", None, statistics.median(samples), "ms", goal, "value", "less", note)


def _samples(server, functions, files, runtime, bare, handler="app.handler"):
    ours, theirs = [], []
    names = [functions.deploy(files, runtime, handler) for _ in range(SAMPLES + 1)]
    for name in names:
        time.sleep(PAUSE)
        begun = time.perf_counter()
        subprocess.run(bare, check=True, preexec_fn=_on_the_servers_core)
        theirs.append((time.perf_counter() - begun) * 1e3)
        ours.append(first_call(server, name))
    functions.delete_all()
    return ours[1:], theirs[1:]


def _on_the_servers_core():
    """In the child itself: a `taskset` before it would count as part of its start."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {SERVER_CORE})


def _p90(values):
    return sorted(values)[int(len(values) * 0.9)]
