"""Layers: each operation with boto3, what each language finds in /opt, limits, and the command line."""

import base64
import hashlib
import json
import shutil
import uuid

import botocore.exceptions
import pytest
import requests

from support import clients, kinds, poll, zips

LIMIT = 250 << 20


class Layers:
    """Layers of the shared server; all versions are deleted afterwards."""

    def __init__(self, server):
        self.api, self.made = clients.client(server), []

    def publish(self, files, name=None, **options):
        name = name or f"l-{uuid.uuid4().hex[:12]}"
        archive = files if isinstance(files, bytes) else zips.package(files)
        answer = self.api.publish_layer_version(LayerName=name, Content={"ZipFile": archive}, **options)
        self.made.append((answer["LayerArn"].rpartition(":")[2], answer["Version"]))
        return answer

    def arn(self, files, **options):
        return self.publish(files, **options)["LayerVersionArn"]

    def delete_all(self):
        for name, version in self.made:
            self.api.delete_layer_version(LayerName=name, VersionNumber=version)


@pytest.fixture
def layers(server):
    made = Layers(server)
    yield made
    made.delete_all()


def refused(code, call, **options):
    """The message of a refusal."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**options)
    assert caught.value.response["Error"]["Code"] == code, caught.value
    return caught.value.response["Error"]["Message"]


def test_each_operation(server, layers):
    api, name = layers.api, f"ops-{uuid.uuid4().hex[:8]}"
    archive = zips.package({"python/mine.py": "X = 1\n"})
    first = layers.publish(
        archive, name, Description="d", LicenseInfo="MIT", CompatibleRuntimes=["python3.11", "php8.2"],
        CompatibleArchitectures=["x86_64"],
    )  # fmt: skip
    assert first["Version"] == 1 and first["LayerArn"].endswith(f":111122223333:layer:{name}")
    assert first["LayerVersionArn"] == first["LayerArn"] + ":1"
    content = first["Content"]
    assert content["CodeSize"] == len(archive)
    assert content["CodeSha256"] == base64.b64encode(hashlib.sha256(archive).digest()).decode()
    assert requests.get(content["Location"], timeout=10).content == archive
    # The link is for this one package.
    assert requests.get(content["Location"].replace("/1?", "/2?"), timeout=10).status_code == 403
    second = layers.publish({"x": "2"}, name)
    assert second["Version"] == 2

    found = api.get_layer_version(LayerName=name, VersionNumber=1)
    for member in ("Description", "LicenseInfo", "CompatibleRuntimes", "CompatibleArchitectures", "CreatedDate", "LayerArn"):
        assert found[member] == first[member], member
    assert api.get_layer_version(LayerName=first["LayerArn"], VersionNumber=2)["Version"] == 2
    assert api.get_layer_version_by_arn(Arn=first["LayerVersionArn"])["Version"] == 1

    listed = {layer["LayerName"]: layer for layer in api.get_paginator("list_layers").paginate().build_full_result()["Layers"]}
    assert listed[name]["LatestMatchingVersion"]["Version"] == 2 and listed[name]["LayerArn"] == first["LayerArn"]
    matching = api.get_paginator("list_layers").paginate(CompatibleRuntime="php8.2", CompatibleArchitecture="x86_64")
    listed = {layer["LayerName"]: layer for layer in matching.build_full_result()["Layers"]}
    assert listed[name]["LatestMatchingVersion"]["Version"] == 1
    pages = list(api.get_paginator("list_layer_versions").paginate(LayerName=name, PaginationConfig={"PageSize": 1}))
    assert [[version["Version"] for version in page["LayerVersions"]] for page in pages] == [[2], [1]]
    assert api.list_layer_versions(LayerName="no-such-layer")["LayerVersions"] == []

    of = {"LayerName": name, "VersionNumber": 1}
    refused("ResourceNotFoundException", api.get_layer_version_policy, **of)
    added = api.add_layer_version_permission(
        **of, StatementId="xaccount", Action="lambda:GetLayerVersion", Principal="210987654321"
    )
    statement = json.loads(added["Statement"])
    assert statement["Resource"] == first["LayerVersionArn"]
    policy = api.get_layer_version_policy(**of)
    assert json.loads(policy["Policy"])["Statement"] == [statement] and policy["RevisionId"] == added["RevisionId"]
    same = {"StatementId": "xaccount", "Action": "lambda:GetLayerVersion", "Principal": "*"}
    refused("ResourceConflictException", api.add_layer_version_permission, **of, **same)
    refused("PreconditionFailedException", api.remove_layer_version_permission, **of, StatementId="xaccount", RevisionId="x")
    refused("ResourceNotFoundException", api.remove_layer_version_permission, **of, StatementId="other")
    api.remove_layer_version_permission(**of, StatementId="xaccount", RevisionId=added["RevisionId"])
    refused("ResourceNotFoundException", api.get_layer_version_policy, **of)

    api.delete_layer_version(**of)
    api.delete_layer_version(**of)
    refused("ResourceNotFoundException", api.get_layer_version, **of)
    refused("ResourceNotFoundException", api.add_layer_version_permission, **of, **same)
    refused("ResourceNotFoundException", api.get_layer_version_by_arn, Arn=first["LayerVersionArn"])
    refused("InvalidParameterValueException", api.get_layer_version, LayerName=name, VersionNumber=0)
    assert requests.get(content["Location"], timeout=10).status_code == 404


PYTHON = """
import sys, one, two, both
def handler(event, context):
    return [one.X, two.X, both.X, [path for path in sys.path if path.startswith("/opt")]]
"""
NODE = """
exports.handler = async () => [require('one'), require('two'), require('both'), require.resolve('one'),
  require('child_process').execFileSync('tool').toString()];
"""
PHP = """<?php
require 'one.php';
return fn($event, $context) => [ONE, file_get_contents('/opt/php/data'), ini_get('precision')];
"""
RUBY = """
require 'one'
require 'a_gem'
def handler(event:, context:) = [ONE, A_GEM, $LOAD_PATH.include?('/opt/ruby/lib')]
"""
JAVA = """
import java.util.*;
public class Handler {
    public Object handle(Map<String, Object> event) { return shared.One.VALUE; }
}
"""


def node_layer(name, value):
    return {f"nodejs/node_modules/{name}/index.js": f"module.exports = {json.dumps(value)};"}


@pytest.mark.parametrize("python", [kinds.python, kinds.system_python])
def test_python_finds_its_layers(functions, layers, python):
    runtime = python()
    site = f"python/lib/{runtime}/site-packages"
    one = layers.arn({f"{site}/one.py": "X = 'site'", "python/both.py": "X = 1"})
    two = layers.arn({"python/two.py": "X = 'plain'", "python/both.py": "X = 2"})
    name = functions.deploy({"app.py": PYTHON}, runtime, Layers=[one, two])
    expect = ["site", "plain", 2, [f"/opt/{site}", "/opt/python"]]
    assert functions.invoke(name).ok() == expect
    shown = functions.api.get_function_configuration(FunctionName=name)["Layers"]
    assert [layer["Arn"] for layer in shown] == [one, two] and all(layer["CodeSize"] > 0 for layer in shown)
    # The other way round the first wins; and a new instance is a new instance whatever it begins as.
    functions.api.update_function_configuration(FunctionName=name, Layers=[two, one])
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=clients.FAST)
    assert functions.invoke(name).ok()[2] == 1
    functions.api.update_function_configuration(FunctionName=name, Timeout=29)
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=clients.FAST)
    assert functions.invoke(name).ok()[2] == 1
    functions.api.update_function_configuration(FunctionName=name, Layers=[])
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=clients.FAST)
    assert "Layers" not in functions.api.get_function_configuration(FunctionName=name)
    functions.invoke(name).failed("Runtime.ImportModuleError")


def test_node_finds_its_layers(functions, layers):
    runtime = kinds.node()
    major = runtime.removeprefix("nodejs").removesuffix(".x")
    one = layers.arn(node_layer("one", "1") | node_layer("both", "1") | {"bin/tool": zips.executable("#!/bin/sh\nprintf tool")})
    two = layers.arn({
        f"nodejs/node{major}/node_modules/two/index.js": "module.exports = 'for this version';",
        "nodejs/node_modules/both/index.js": "module.exports = '2';",
    })  # fmt: skip
    name = functions.deploy({"app.js": NODE}, runtime, Layers=[one, two])
    expect = ["1", "for this version", "2", "/opt/nodejs/node_modules/one/index.js", "tool"]
    assert functions.invoke(name).ok() == expect


def test_php_finds_its_layers(functions, layers):
    layer = layers.arn({
        "php/one.php": "<?php const ONE = 1;", "php/data": "data", "php/conf.d/mine.ini": "precision = 5\n",
    })  # fmt: skip
    name = functions.deploy({"index.php": PHP}, kinds.php(), "index.php", Layers=[layer])
    assert functions.invoke(name).ok() == [1, "data", "5"]


def test_ruby_finds_its_layers(functions, layers):
    version = kinds.ruby().removeprefix("ruby") + ".0"
    spec = (
        "Gem::Specification.new { |s| s.name = 'a_gem'; s.version = '1.0'; s.summary = 'x'; s.authors = ['x']; "
        "s.files = ['lib/a_gem.rb']; s.require_paths = ['lib'] }"
    )
    layer = layers.arn({
        "ruby/lib/one.rb": "ONE = 1", f"ruby/gems/{version}/gems/a_gem-1.0/lib/a_gem.rb": "A_GEM = 'gem'",
        f"ruby/gems/{version}/specifications/a_gem-1.0.gemspec": spec,
    })  # fmt: skip
    name = functions.deploy({"app.rb": RUBY}, kinds.ruby(), Layers=[layer])
    assert functions.invoke(name).ok() == [1, "gem", True]


def test_java_finds_its_layers(functions, layers, tmp_path):
    shared = kinds.jar({"One.java": "package shared; public class One { public static final Object VALUE = new String(\"layer\"); }"}, tmp_path / "one")
    layer = layers.arn({"java/lib/shared.jar": shared})
    jar = kinds.jar({"Handler.java": JAVA}, tmp_path / "two", path=[tmp_path / "one" / "classes"])
    name = functions.deploy(jar, kinds.java(), "Handler::handle", Layers=[layer], MemorySize=256)
    assert functions.invoke(name).ok() == "layer"


BOOTSTRAP = """#!/bin/sh
while true; do
    id=$(curl -s -D - -o /dev/null "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next" |
        tr -d '\\r' | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //ip')
    answer="\\"$(tool) $(cat /opt/lib/text) $(ls /opt | tr '\\n' ' ') $(touch /opt/x 2>&1 | grep -c 'Read-only\\|denied')\\""
    curl -s -o /dev/null -d "$answer" "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response"
done
"""


def test_a_runtime_in_a_layer_and_what_is_not_run(functions, layers):
    runtime = layers.arn({"bootstrap": zips.executable(BOOTSTRAP)})
    ran = "#!/bin/sh\ntouch /tmp/extension-ran\n"
    tools = layers.arn({
        "bin/tool": zips.executable("#!/bin/sh\n[ -e /tmp/extension-ran ] && printf ran || printf tool"), "lib/text": "text",
        "extensions/spy": zips.executable(ran),
    })  # fmt: skip
    name = functions.deploy({"data": "x"}, kinds.CUSTOM, "any", Layers=[runtime, tools])
    # Nothing of it can be written to, and an extension is a file like any other.
    assert functions.invoke(name).ok() == "tool text bin bootstrap extensions lib  1"


def test_a_web_server_finds_its_layers(functions, layers):
    layer = layers.arn(node_layer("one", "from a layer"))
    source = "require('http').createServer((q, r) => r.end(require('one'))).listen(process.env.PORT);"
    name = functions.deploy({"server.js": source}, kinds.node(), "server.js", tags=kinds.WEB, url=True, Layers=[layer])
    assert requests.get(functions.path(name), timeout=10).text == "from a layer"


def test_a_deleted_version_goes_on_working_and_survives_kill_9(new_server):
    server = new_server()
    server.start()
    functions, layers = clients.Functions(server), Layers(server)
    one, two = layers.arn({"python/one.py": "X = 1"}), layers.arn({"python/two.py": "X = 2"})
    source = "import one, two\ndef handler(event, context):\n    return [one.X, two.X]\n"
    name = functions.deploy({"app.py": source}, kinds.system_python(), Layers=[one, two])
    assert functions.invoke(name).ok() == [1, 2]
    layers.delete_all()
    message = refused("InvalidParameterValueException", functions.api.update_function_configuration, FunctionName=name, Layers=[one])
    assert message == f"Layer version {one} does not exist."
    server.kill()
    # Unpacked code can be made again from what is kept, the merged tree too.
    code = server.data / "code"
    trees = [folder for folder in code.iterdir() if folder.name.startswith("layers-")]
    assert len(trees) == 1
    for folder in code.iterdir():
        shutil.rmtree(folder)
    server.start()
    assert functions.invoke(name).ok() == [1, 2]
    assert trees[0].is_dir()
    functions.delete_all()
    poll.until(lambda: not [f for f in code.iterdir() if f.name != ".staging"], "nothing is kept that nothing needs")
    poll.until(lambda: not [f for f in (server.data / "blobs").rglob("*") if f.is_file()], "no package either")


def test_instances_that_begin_as_copies_see_their_layers(new_server):
    """A template of a version, and of a runtime, restored where /opt is the function's own."""
    server = new_server(arguments=["--pool-runtimes", "1", "--pool-sandboxes", "1"])
    server.start()
    functions, layers = clients.Functions(server), Layers(server)
    names = {}
    for word in ("red", "blue"):
        layer = layers.arn({"python/word.py": f"import time; time.sleep(0.05)\nX = '{word}'\ndef read(): return open('/opt/python/word.py').read()"})
        source = "import word\ndef handler(event, context):\n    return [word.X, word.X in word.read()]\n"
        names[word] = functions.deploy({"app.py": source}, kinds.system_python(), Layers=[layer])

    def begun(word):
        # A changed description makes a new revision: its first instance runs its initialisation, later ones need not.
        functions.api.update_function_configuration(FunctionName=names[word], Environment={"Variables": {"A1": uuid.uuid4().hex}})
        functions.api.get_waiter("function_updated_v2").wait(FunctionName=names[word], WaiterConfig=clients.FAST)
        answer = clients.signed(server, "POST", f"/2015-03-31/functions/{names[word]}/invocations", b"{}", headers={"X-Virga-Trace": "on"})
        assert answer.json() == [word, True]
        return answer.headers.get("server-timing", "")

    seen = set()

    def again():
        for word in names:
            timing = begun(word)
            seen.update(part for part in ("cold", "sandbox", "runtime", "template") if part in timing)
        return seen & {"runtime", "template"}

    poll.until(again, "an instance began as a copy")
    functions.delete_all()


def test_limits_at_and_one_past(functions, layers):
    api = layers.api
    small = [layers.arn({"file": str(number)}) for number in range(6)]
    source = {"app.py": "def handler(event, context):\n    return 1\n"}
    name = functions.deploy(source, kinds.system_python(), Layers=small[:5])
    update = api.update_function_configuration
    message = refused("InvalidParameterValueException", update, FunctionName=name, Layers=small)
    assert message == "Cannot reference more than 5 layers."
    refused("InvalidParameterValueException", update, FunctionName=name, Layers=[small[0], small[0]])
    refused("ValidationException", update, FunctionName=name, Layers=[small[0].rpartition(":")[0]])
    refused("ValidationException", update, FunctionName=name, Layers=["tools"])
    own = sum(len(text) for text in source.values())
    # 250 MB together, to the byte.
    fits = layers.arn(zips.bomb(LIMIT - own, "zeros"))
    update(FunctionName=name, Layers=[fits])
    api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=clients.FAST)
    assert functions.invoke(name).ok() == 1
    one_more = layers.arn({"one": "x"})
    message = refused("InvalidParameterValueException", update, FunctionName=name, Layers=[fits, one_more])
    assert message.endswith(f"maximum allowed size of {LIMIT} bytes. The actual size is {LIMIT + 1} bytes.")
    bigger = zips.package({"app.py": source["app.py"] + "\n"})
    refused("InvalidParameterValueException", api.update_function_code, FunctionName=name, ZipFile=bigger)
    refused("InvalidParameterValueException", layers.publish, files=zips.bomb(LIMIT + 1, "zeros"))
    refused("InvalidParameterValueException", layers.publish, files=zips.link("evil", "/etc"))
    refused("InvalidParameterValueException", layers.publish, files=b"not a zip")
    runtimes = [f"python3.{minor}" for minor in range(8, 14)] + [f"nodejs{major}.x" for major in (16, 18, 20, 22)]
    runtimes += ["java11", "java17", "java21", "ruby3.2", "ruby3.3", "dotnet8"]
    layers.publish({"x": ""}, CompatibleRuntimes=runtimes[:15])
    raw = {"Content": {"ZipFile": base64.b64encode(zips.package({"x": ""})).decode()}, "CompatibleRuntimes": runtimes}
    answer = clients.signed(functions.server, "POST", "/2018-10-31/layers/x/versions", json.dumps(raw).encode())
    assert answer.status_code == 400 and clients.code_of(answer) == "ValidationException", answer.text


def test_the_command_line(server, functions, tmp_path):
    folder = tmp_path / "my-tools"
    (folder / "python").mkdir(parents=True)
    (folder / "python" / "one.py").write_text("X = 1\n")
    app = tmp_path / "uses.py"
    app.write_text("import one\ndef handler(event, context):\n    return one.X\n")
    functions.made.append("uses")
    runtime = ("--runtime", kinds.system_python())
    deployed = lambda *more: json.loads(server.cli("deploy", app, "--json", *runtime, *more, check=0).stdout)
    assert deployed("--layer", folder)["Action"] == "Created"
    assert functions.invoke("uses").ok() == 1
    assert deployed("--layer", folder)["Action"] == "Unchanged", "what is there already is not published again"
    assert deployed()["Action"] == "Unchanged", "what is not said stays"
    (folder / "python" / "one.py").write_text("X = 2\n")
    assert deployed("--layer", folder)["Action"] == "Updated"
    assert functions.invoke("uses").ok() == 2
    listed = json.loads(server.cli("layer", "list", "my-tools", "--json", check=0).stdout)
    assert [version["Version"] for version in listed] == [2, 1]
    arn = server.cli("layer", "publish", folder, "--name", "my-tools", "--runtime", "python3.11", "--license", "MIT", check=0).stdout.strip()
    assert arn.endswith(":layer:my-tools:3")
    assert deployed("--layer", arn)["Action"] == "Updated"
    table = server.cli("layer", "list", check=0).stdout
    assert "my-tools:3" in table and "python3.11" in table
    assert "deleted my-tools:1" in server.cli("layer", "delete", "my-tools:1", "my-tools:2", "my-tools:3", check=0).stdout
    assert functions.invoke("uses").ok() == 2
    assert deployed("--layer", "none")["Action"] == "Updated"
    functions.invoke("uses").failed("Runtime.ImportModuleError")
    done = server.cli("deploy", app, "--layer", tmp_path / "nowhere", check=2)
    assert "neither the ARN of a layer version nor a folder or zip" in done.stderr
    assert server.cli("layer", "delete", "my-tools", check=2).stderr
