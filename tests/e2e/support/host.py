"""What the host shows of a function from outside: processes, cgroups, mounts, files."""

import os
import pathlib


def processes(marker):
    """Ids of living processes that were given `marker` in their environment. Zombies have none."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if marker.encode() in (entry / "environ").read_bytes() or _was_told(entry, marker.encode()):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _was_told(entry, marker):
    """Whether a managed runtime that began booted or as a copy has it: its environment came later, into its memory."""
    if b"/var/runtime/" not in (entry / "cmdline").read_bytes():
        return False
    areas = [line.split()[:2] for line in (entry / "maps").read_text().splitlines()]
    with (entry / "mem").open("rb", buffering=0) as memory:
        for area, permissions in areas:
            if permissions.startswith("rw"):
                begin, end = (int(number, 16) for number in area.split("-"))
                memory.seek(begin)
                if end - begin <= 64 << 20 and marker in memory.read(end - begin):
                    return True
    return False


def command_lines(text):
    """Ids of living processes whose command line holds `text`."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def descendants(ancestor):
    """Ids of living processes that come from this one, however far."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    parents[int(entry.name)] = int(fields[1])
        except OSError:
            continue
    found, more = set(), {ancestor}
    while more:
        more = {process for process, parent in parents.items() if parent in more} - found
        found |= more
    return found


def cgroups(name):
    """Control groups whose path holds `name`."""
    found = []
    for folder, folders, _ in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(folder, each) for each in folders if name in each]
    return found


def mounts(name):
    """Mounts, in any process's namespace that can be read, whose line holds `name`."""
    found = set()
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            found |= {line for line in (entry / "mountinfo").read_text().splitlines() if name in line}
        except OSError:
            continue
    return found


def tree(folder):
    """Paths under a folder. SQLite's companions, which come and go, logs, and what a server that has just started makes
    for its interpreters are left out."""
    found = set()
    for path in pathlib.Path(folder).rglob("*"):
        name = str(path.relative_to(folder))
        if name.endswith(("-wal", "-shm", "-journal")) or name.split("/")[0] in ("logs", "runtime"):
            continue
        found.add(name)
    return found
