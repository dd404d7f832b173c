"""How calls end where the code is Node's, a native program's or a shell's: the same cells as of PHP, Ruby and Java, which
have files of their own, and Python, whose are all over the suite."""

import concurrent.futures
import subprocess

import pytest

from support import kinds, zips

NODE = """
console.log('loaded');
class Lost extends Error { constructor(text) { super(text); this.name = 'Lost'; } }
exports.handler = async (event) => {
  switch (event.do) {
    case 'raise': throw new Lost('sorry');
    case 'sleep': return new Promise((done) => setTimeout(done, 600000));
    case 'exit': process.exit(3);
    case 'crash': process.abort();
    case 'memory': for (const held = [];;) held.push(Buffer.alloc(8 << 20, 1));
    case 'nap': await new Promise((done) => setTimeout(done, 300)); return require('crypto').randomUUID();
  }
  console.log('event', event);
  return { event, pid: process.pid };
};
"""
SHELL = """#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
post() { curl -sS -o /dev/null -d "$2" "$api/$1"; }
[ -z "$AT_START" ] || { post init/error '{"errorType": "NotToday", "errorMessage": "at start"}'; exit 1; }
while true; do
    event=$(curl -sS -D /tmp/head "$api/invocation/next")
    id=$(sed -n 's/^[Ll]ambda-[Rr]untime-[Aa]ws-[Rr]equest-[Ii]d: *//p' /tmp/head | tr -d '\\r')
    answer="{\\"event\\": $event, \\"pid\\": $$}" where=response
    case $event in
    *'"sleep"'*) sleep 600 ;;
    *'"exit"'*) exit 3 ;;
    *'"crash"'*) kill -ABRT $$ ;;
    *'"memory"'*) head -c 400000000 /dev/zero >/tmp/held ;;
    *'"nap"'*) sleep 0.3; answer="\\"$(od -An -N8 -tx8 /dev/urandom)\\"" ;;
    *'"raise"'*) where=error answer='{"errorType": "Lost", "errorMessage": "sorry", "stackTrace": ["bootstrap"]}' ;;
    esac
    echo "event of ${#event} bytes"
    post "invocation/$id/$where" "$answer"
done
"""
NODE_AT_START = "throw Object.assign(new Error('at start'), { name: 'NotToday' });\n"
KINDS = ["node", "native", "shell"]


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """A program of C."""
    program = tmp_path_factory.mktemp("native") / "bootstrap"
    source = str(kinds.SOURCES / "native.c")
    subprocess.run(["cc", "-O1", "-D_GNU_SOURCE", "-o", program, source], check=True)
    return program.read_bytes()


@pytest.fixture
def deployed(functions, native):
    def deploy(kind, at_start=False, **options):
        if kind == "node":
            return functions.deploy({"app.js": NODE_AT_START if at_start else NODE}, kinds.node(), **options)
        program = zips.executable(native if kind == "native" else SHELL)
        env = {"AT_START": "1"} if at_start else None
        return functions.deploy({"bootstrap": program}, kinds.CUSTOM, "any", env=env, **options)

    return deploy


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_leaves_the_instance(functions, deployed, kind):
    name = deployed(kind)
    first = functions.invoke(name, {"a": "ä"})
    assert first.ok()["event"] == {"a": "ä"} and "event" in first.log
    failed = functions.invoke(name, {"do": "raise"}).failed("Lost")
    assert failed["errorMessage"] == "sorry" and failed.get("stackTrace", failed.get("trace"))
    assert functions.invoke(name).ok()["pid"] == first.ok()["pid"]


@pytest.mark.parametrize("kind", KINDS)
def test_time_out_exit_crash_and_memory_end_the_instance_only(functions, deployed, kind):
    name = deployed(kind, Timeout=3, MemorySize=128)
    assert functions.invoke(name, {"do": "sleep"}).failed("Sandbox.Timedout")
    assert functions.invoke(name, {"do": "exit"}).failed("Runtime.ExitError")["errorMessage"].endswith("exit status 3")
    assert "signal" in functions.invoke(name, {"do": "crash"}).failed("Runtime.ExitError")["errorMessage"]
    failed = functions.invoke(name, {"do": "memory"}).value
    # Where memory is held without cgroups some programs find that there is none before they are ended.
    assert failed["errorType"] in ("Runtime.OutOfMemory", "Runtime.ExitError", "RangeError"), failed
    assert functions.invoke(name, {"b": 1}).ok()["event"] == {"b": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_what_fails_at_its_start_says_why(functions, deployed, kind):
    name = deployed(kind, at_start=True)
    for _ in range(2):
        assert functions.invoke(name).failed("NotToday")["errorMessage"] == "at start"


@pytest.mark.parametrize("kind", KINDS)
def test_many_at_once_are_many_instances(functions, deployed, kind):
    name = deployed(kind)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: functions.invoke(name, {"do": "nap"}).ok(), range(6)))
    assert len(set(answers)) == 6
