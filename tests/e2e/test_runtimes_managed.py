"""Event handlers of every managed runtime, and what they see of themselves; then Python's and Node's own ways."""

import base64
import json

import pytest

from support import kinds

KINDS = {
    "python": lambda: (kinds.python(), "app.handler", {"app.py": kinds.source("context.py")}),
    "node": lambda: (kinds.node(), "app.handler", {"app.mjs": kinds.source("context.mjs")}),
    "php": lambda: (kinds.php(), "app.php", {"app.php": kinds.source("context.php")}),
    "ruby": lambda: (kinds.ruby(), "app.handler", {"app.rb": kinds.source("context.rb")}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_context_object(server, functions, kind):
    runtime, handler, files = KINDS[kind]()
    name = functions.deploy(files, runtime, handler, Timeout=20, MemorySize=192, env={"MINE": "yes"})
    functions.api.publish_version(FunctionName=name)
    client = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()
    result = functions.invoke(name, {"x": 1}, Qualifier="1", ClientContext=client)
    seen = result.ok()
    assert seen["event"] == {"x": 1}
    assert seen["request_id"] == result.request_id
    assert seen["function_name"] == name and seen["function_version"] == "1"
    assert seen["arn"] == f"arn:aws:lambda:us-east-1:{server.account}:function:{name}:1"
    assert str(seen["memory"]) == "192"
    assert seen["log_group"] == f"/aws/lambda/{name}" and "[1]" in seen["log_stream"]
    assert 10_000 < seen["remaining"] <= 20_000
    assert seen["client"]["custom"] == {"a": "b"}
    unqualified = functions.invoke(name).ok()
    assert unqualified["arn"] == f"arn:aws:lambda:us-east-1:{server.account}:function:{name}"
    assert unqualified["function_version"] == "$LATEST" and not unqualified.get("client")


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_environment(server, functions, kind):
    runtime, handler, files = KINDS[kind]()
    name = functions.deploy(files, runtime, handler, MemorySize=192, env={"MINE": "yes"})
    seen = functions.invoke(name).ok()
    env = seen["env"]
    assert seen["cwd"] == "/var/task" and env["MINE"] == "yes"
    wanted = {
        "_HANDLER": handler, "LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}", "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "192",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}", "AWS_LAMBDA_LOG_STREAM_NAME": seen["log_stream"],
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
        "TZ": ":UTC",
    }  # fmt: skip
    assert {key: env.get(key) for key in wanted} == wanted
    assert env["LANG"].startswith("en_US.UTF-8") or env["LANG"].upper().endswith("UTF-8")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API",
                "AWS_ENDPOINT_URL", "PATH", "LD_LIBRARY_PATH", "_X_AMZN_TRACE_ID"):  # fmt: skip
        assert env.get(key), key
    assert env["_X_AMZN_TRACE_ID"].startswith("Root=1-")
    assert env["AWS_ACCESS_KEY_ID"] != server.key and server.secret not in json.dumps(env)
    strangers = [key for key in env if key.startswith("VIRGA_")]
    assert not strangers, "the server's own environment does not leak"


@pytest.mark.parametrize(
    "handler, answer",
    [("promise", "promise"), ("callback", "callback"), ("plain", "succeed")],
)
def test_ways_of_a_node_handler_to_answer(functions, handler, answer):
    name = functions.deploy({"app.js": kinds.source("node_kinds.cjs")}, kinds.node(), handler=f"app.{handler}")
    assert functions.invoke(name, {"a": 1}).ok() == {"kind": answer, "event": {"a": 1}}


@pytest.mark.parametrize("handler, error_type", [("rejects", "TypeError"), ("calls_back", "RangeError")])
def test_ways_of_a_node_handler_to_fail(functions, handler, error_type):
    name = functions.deploy({"app.js": kinds.source("node_kinds.cjs")}, kinds.node(), handler=f"app.{handler}")
    for _ in range(2):
        failed = functions.invoke(name, {"text": "sorry"}).failed(error_type)
        assert failed["errorMessage"] == "sorry" and isinstance(failed.get("stackTrace", failed.get("trace")), list)


def test_node_process_exit(functions):
    name = functions.deploy({"app.js": kinds.source("node_kinds.cjs")}, kinds.node(), handler="app.exits")
    for _ in range(2):
        assert functions.invoke(name).failed("Runtime.ExitError")


def test_node_uncaught_exception_ends_the_instance_only(functions):
    name = functions.deploy({"app.js": kinds.source("node_kinds.cjs")}, kinds.node(), handler="app.unhandled")
    assert functions.invoke(name).error == "Unhandled"


def test_handlers_in_folders(functions):
    python = {"src/deep/app.py": "from . import other\ndef run(event, context):\n    return other.WORD\n",
              "src/__init__.py": "", "src/deep/__init__.py": "", "src/deep/other.py": "WORD = 'deep'\n"}  # fmt: skip
    name = functions.deploy(python, kinds.python(), handler="src/deep/app.run")
    assert functions.invoke(name).ok() == "deep"
    node = {"lib/app.js": "exports.nested = { run: async () => require('./other').word };\n",
            "lib/other.js": "exports.word = 'deep';\n"}  # fmt: skip
    name = functions.deploy(node, kinds.node(), handler="lib/app.nested.run")
    assert functions.invoke(name).ok() == "deep"


def test_modules_of_the_package_are_importable(functions):
    files = {"app.mjs": "import { word } from 'inner';\nexport const handler = async () => word;\n",
             "node_modules/inner/package.json": '{"name":"inner","type":"module","exports":"./i.js"}',
             "node_modules/inner/i.js": "export const word = 'esm';\n"}  # fmt: skip
    name = functions.deploy(files, kinds.node())
    assert functions.invoke(name).ok() == "esm"


@pytest.mark.parametrize(
    "files, handler, error_type",
    [
        ({"app.py": "x = 1\n"}, "app.handler", "Runtime.HandlerNotFound"),
        ({"app.py": "x = 1\n"}, "other.handler", "Runtime.ImportModuleError"),
        ({"app.py": "import not_there\ndef handler(e, c): pass\n"}, "app.handler", "Runtime.ImportModuleError"),
        ({"app.py": "def handler(e, c:\n"}, "app.handler", "Runtime.UserCodeSyntaxError"),
        ({"app.py": "raise KeyError('at start')\n"}, "app.handler", "KeyError"),
    ],
    ids=["no handler", "no module", "missing import", "syntax error", "raises"],
)
def test_python_that_does_not_come_up(functions, files, handler, error_type):
    name = functions.deploy(files, kinds.python(), handler=handler)
    for _ in range(2):
        result = functions.invoke(name)
        assert result.failed(error_type)["errorMessage"]
    functions.api.update_function_code(FunctionName=name, ZipFile=_good())
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name)
    if handler == "app.handler":
        assert functions.invoke(name).ok() == "mended"


def _good():
    from support import zips

    return zips.package({"app.py": "def handler(event, context): return 'mended'\n"})


@pytest.mark.parametrize(
    "files, handler, error_type",
    [
        ({"app.js": "exports.x = 1;\n"}, "app.handler", "Runtime.HandlerNotFound"),
        ({"app.js": "exports.x = 1;\n"}, "other.handler", "Runtime.ImportModuleError"),
        ({"app.js": "require('not-there');\n"}, "app.handler", "Runtime.ImportModuleError"),
        ({"app.js": "exports.handler = async ( => {};\n"}, "app.handler", "Runtime.UserCodeSyntaxError"),
    ],
    ids=["no handler", "no module", "missing import", "syntax error"],
)
def test_node_that_does_not_come_up(functions, files, handler, error_type):
    name = functions.deploy(files, kinds.node(), handler=handler)
    for _ in range(2):
        assert functions.invoke(name).failed(error_type)["errorMessage"]
