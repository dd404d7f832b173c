"""Runs every command block of the README in order, as a new user would: one shell, one folder.

A comment before a block says more: `<!-- readme: background until "TEXT" -->` keeps it running to the end,
`<!-- readme: expect "TEXT" -->` must be in what it prints. The blocks change files of the working tree, so
they run in an overlay over it (as root) or in a copy (which then builds everything once more).
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from support.server import clean_environment, free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
LISTEN, ADMIN = "127.0.0.1:9080", "127.0.0.1:9081"


class Block:
    """A fenced `sh` block and what the comments before it say."""

    def __init__(self, code, comments):
        self.code = code
        self.expects = re.findall(r'expect "([^"]*)"', comments)
        background = re.search(r'background until "([^"]*)"', comments)
        self.until = background and background.group(1)


def blocks(text):
    """All command blocks; every fenced block with another language is for reading only."""
    pattern = r"((?:<!-- readme: .*? -->\n)*)```sh\n(.*?)```\n"
    return [Block(code, comments) for comments, code in re.findall(pattern, text, re.DOTALL)]


class Background:
    """A process group whose output is collected."""

    def __init__(self, command, **options):
        self.lines, self.changed = [], threading.Condition()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            start_new_session=True, **options,
        )  # fmt: skip
        self.ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._note(line)
        self._note(None)

    def _note(self, line):
        with self.changed:
            if line is None:
                self.ended = True
            else:
                self.lines.append(line)
            self.changed.notify_all()

    def text(self):
        return "".join(self.lines)

    def wait_for(self, text, seconds):
        with self.changed:
            self.changed.wait_for(lambda: self.ended or any(text in line for line in self.lines), seconds)
            assert any(text in line for line in self.lines), f"{text!r} did not come\n{self.text()}"

    def signal(self, number):
        os.killpg(self.process.pid, number)


def tree(folder):
    """A command prefix and a folder in which the blocks may do as they like."""
    upper, work, copy = folder / "upper", folder / "work", folder / "copy"
    for each in (upper, work, copy):
        each.mkdir()
    overlay = f'mount -t overlay overlay -o lowerdir={ROOT},upperdir={upper},workdir={work} {ROOT} && cd {ROOT}'
    enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{overlay} && exec "$@"', "sh"]
    if os.geteuid() == 0 and subprocess.run([*enter, "true"], capture_output=True).returncode == 0:
        return enter, ROOT
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in filter(None, subprocess.check_output(listed, cwd=ROOT, text=True).split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return [], copy


def test_the_blocks_are_found():
    """The reader reads what it should."""
    text = '<!-- readme: expect "a" -->\n<!-- readme: expect "b" -->\n```sh\nx\n```\n```python\ny\n```\n```sh\nz\n```\n'
    first, second = blocks(text)
    assert (first.code, first.expects, second.code, second.expects) == ("x\n", ["a", "b"], "z\n", [])
    assert blocks('<!-- readme: background until "c" -->\n```sh\nx\n```\n')[0].until == "c"


@pytest.mark.timeout(2700)
def test_the_readme(workspace):
    """Every block of the README does what the README says; Ctrl-C then stops everything."""
    listen, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    text = (ROOT / "README.md").read_text().replace(LISTEN, listen).replace(ADMIN, admin)
    found = blocks(text)
    assert len(found) >= 6 and found[0].until, "the README's blocks are not where this test looks for them"

    folder = workspace / "readme"
    folder.mkdir()
    enter, root = tree(folder)
    environment = clean_environment(VIRGA_LISTEN=listen, VIRGA_ADMIN=admin)
    running = [block for block in found if block.until]
    rest = [block for block in found if not block.until]

    # Both shells see one tree: the second enters the namespace that the first one made.
    first = f"rm -rf .virga .venv\n{running[0].code}"
    background = Background([*enter, "bash", "-ec", first], cwd=root, env=environment)
    try:
        background.wait_for(running[0].until, 2400)
        inside = ["nsenter", "--target", str(background.process.pid), "--mount", f"--wdns={root}"] if enter else []
        script = "".join(f"echo '@@ block {index}'\n{block.code}" for index, block in enumerate(rest))
        done = subprocess.run(
            [*inside, "bash", "-ec", script], cwd=root, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        printed = re.split(r"@@ block \d+\n", done.stdout + "\n")[1:]
        assert len(printed) == len(rest), done.stdout
        for block, output in zip(rest, printed):
            for expect in block.expects:
                assert expect in output, f"{expect!r} is not in the output of\n{block.code}\n{output}\n{done.stderr}"
        background.signal(signal.SIGINT)
        background.process.wait(30)
    finally:
        if background.process.poll() is None:
            background.signal(signal.SIGKILL)
    for address in (listen, admin):
        host, port = address.split(":")
        with socket.socket() as probe:
            assert probe.connect_ex((host, int(port))) != 0, f"something still listens on {address}"
