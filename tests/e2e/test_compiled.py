"""Node's compiled code: made by Virga once a version, seen read-only by its instances and by nobody else's."""

import os
import pathlib
import struct
import zlib

import pytest
import requests

from support import kinds
from support.clients import Functions
from support.poll import until
from support.server import Server
from test_versions import others

RUNTIME = "nodejs22.x"
WORD, OTHER = "the word as it was", "what somebody wrote"
HANDLER = """
const fs = require('fs');
const until = Date.now() + 40;
while (Date.now() < until);
const word = 'the word as it was';
const write = (path) => { try { fs.writeFileSync(path, 'x'); return 'written'; } catch (error) { return error.code; } };
exports.handler = async (event) => {
  if (event.exit) process.exit(1);
  const folder = process.env.NODE_COMPILE_CACHE || '/var/cache/node';
  const versions = fs.existsSync(folder) ? fs.readdirSync(folder) : [];
  const files = versions.flatMap((version) => fs.readdirSync(`${folder}/${version}`).map((file) => `${folder}/${version}/${file}`));
  const writes = [`${folder}/x`, ...files].map(write);
  return { word, folder: process.env.NODE_COMPILE_CACHE, files: files.length, writes: [...new Set(writes)] };
};
"""
SERVER = """
const word = 'the word as it was';
require('http').createServer((request, answer) => {
  if (request.url === '/exit') process.exit(1);
  answer.end(word);
}).listen(process.env.PORT);
"""


@pytest.fixture(scope="module")
def with_node(workspace):
    path = ":".join([os.environ["PATH"], *(folder for _, folder in others().values())])
    server = Server(workspace / "compiled", env={"PATH": path}).start()
    yield server
    server.stop()


@pytest.fixture
def made(with_node):
    functions = Functions(with_node)
    yield functions
    functions.delete_all()


def shelf(server):
    """Folders of compiled code, by revision."""
    found = pathlib.Path(server.data, "runtime", "compiled").iterdir()
    return {folder.name.split(".")[0]: folder for folder in found if not folder.name.startswith(".")}


def kept(functions, name):
    """Where the version's compiled code is, once it is."""
    revision = functions.api.get_function_configuration(FunctionName=name)["RevisionId"]
    return until(lambda: shelf(functions.server).get(revision), "compiled code is kept", seconds=30)


def ready(server):
    """What is made ahead."""
    found = next(family for family in server.metric_families() if family.name.endswith("residents"))
    return {sample.labels["name"] for sample in found.samples if sample.value > 0}


def tamper(folder):
    """What whoever may write there can do: the compiled code says something else than its source."""
    done = 0
    for file in filter(pathlib.Path.is_file, folder.rglob("*")):
        content = bytearray(file.read_bytes())
        if (at := content.find(WORD.encode())) >= 0:
            content[at : at + len(WORD)] = OTHER[: len(WORD)].encode()
            # Five numbers before the code, the last a sum of it.
            struct.pack_into("<I", content, 16, zlib.crc32(content[20:]))
            file.write_bytes(content)
            done += 1
    assert done == 1


@pytest.mark.parametrize("start, env", [("runtime", None), ("sandbox", {"TZ": "Asia/Tokyo"})])
def test_instances_run_what_was_compiled_and_cannot_change_it(with_node, made, start, env):
    name = made.deploy({"app.js": HANDLER}, RUNTIME, env=env)
    first = made.invoke(name).ok()
    assert (first["word"], first["files"], first.get("folder")) == (WORD, 0, None) and "written" not in first["writes"]
    tamper(kept(made, name))
    made.invoke(name, {"exit": True})
    until(lambda: ready(with_node) >= {"sandboxes", f"runtime {RUNTIME}"}, "what is made ahead is there")
    second = made.invoke(name)
    assert f"\tStart: {start}\t" in second.log
    value = second.ok()
    assert value.pop("files") >= 1
    assert value == {"word": OTHER[: len(WORD)], "folder": "/var/cache/node", "writes": ["EROFS"]}


def test_nobody_else_sees_it_and_it_goes_with_its_version(with_node, made):
    first = made.deploy({"app.js": HANDLER}, RUNTIME)
    made.invoke(first).ok()
    tamper(folder := kept(made, first))
    # The same package, to the last byte.
    other = made.deploy({"app.js": HANDLER}, RUNTIME)
    assert made.invoke(other).ok()["word"] == WORD
    kept(made, other)
    made.invoke(other, {"exit": True})
    assert made.invoke(other).ok()["word"] == WORD
    with_node.kill()
    with_node.start()
    assert made.invoke(first).ok()["word"] == OTHER[: len(WORD)], "it outlives the server"
    made.delete_all()
    until(lambda: not folder.exists() and not shelf(with_node), "it goes with the version")


def test_a_web_server_has_it_too(made):
    name = made.deploy({"server.js": SERVER}, RUNTIME, handler="server.js", tags=kinds.WEB, url=True)
    assert requests.get(made.path(name)).text == WORD
    tamper(kept(made, name))
    requests.get(made.path(name, "exit"))
    assert requests.get(made.path(name)).text == OTHER[: len(WORD)]


@pytest.mark.parametrize("options", [{"tags": {"virga:template": "off"}}, {"env": {"NODE_COMPILE_CACHE": "/tmp/own"}}])
def test_a_function_can_do_without(with_node, made, options):
    name = made.deploy({"app.js": HANDLER}, RUNTIME, **options)
    made.invoke(name).ok()
    made.invoke(name, {"exit": True})
    again = made.invoke(name).ok()
    assert again.get("folder") == options.get("env", {}).get("NODE_COMPILE_CACHE")
    assert not shelf(with_node)
