"""What the host shows of a function from outside: processes, cgroups, mounts, files."""

import os
import pathlib


def processes(marker):
    """Ids of living processes whose environment holds `marker`. Zombies have no environment."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if marker.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


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
    """Paths under a folder. SQLite's companions, which come and go, and logs are left out."""
    found = set()
    for path in pathlib.Path(folder).rglob("*"):
        name = str(path.relative_to(folder))
        if name.endswith(("-wal", "-shm", "-journal")) or name.split("/")[0] == "logs":
            continue
        found.add(name)
    return found
