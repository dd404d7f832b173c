"""FileSystemConfigs: a folder that functions share, and what stays out of reach."""

import os
import stat

import botocore.exceptions
import pytest

from support import clients, kinds, poll, zips

PYTHON = """
import fcntl, os, socket, stat, subprocess
def attempt(action):
    try:
        return repr(action())
    except OSError as error:
        return type(error).__name__
def handler(event, context):
    place = event.get("at", "/mnt/data")
    do = event["do"]
    if do == "write":
        with open(f"{place}/{event['name']}", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(event["text"])
        return os.stat(f"{place}/{event['name']}").st_uid == os.getuid()
    if do == "read":
        return open(f"{place}/{event['name']}").read()
    if do == "remove":
        os.remove(f"{place}/{event['name']}")
        return os.listdir(place)
    if do == "list":
        return [sorted(os.listdir(path)) for path in event["paths"]]
    os.makedirs(f"{place}/deep/er", exist_ok=True)
    os.path.lexists(f"{place}/link") or os.symlink("/etc/shadow", f"{place}/link")
    os.path.lexists(f"{place}/out") or os.symlink("../../../../..", f"{place}/out")
    return {
        "device": attempt(lambda: os.mknod(f"{place}/disk", stat.S_IFBLK | 0o666, os.makedev(8, 0))),
        "above": sorted(os.listdir(f"{place}/..")),
        "outside": sorted(os.listdir(f"{place}/out")) == sorted(os.listdir("/")),
        "link": attempt(lambda: open(f"{place}/link").read()),
        "mnt": attempt(lambda: os.mkdir("/mnt/other")),
        "owner": attempt(lambda: os.chown(f"{place}/deep", 0, 0)),
        "mounts": [line.split()[3] for line in open("/proc/mounts") if line.split()[1] == place],
        "host": attempt(lambda: os.listdir(event["host"])),
    }
"""
POINT = "arn:aws:elasticfilesystem:us-east-1:111122223333:access-point/"


@pytest.fixture
def shared(new_server, tmp_path):
    tmp_path.chmod(0o755)
    folder = tmp_path / "shared"
    server = new_server(arguments=["--file-system", f"team={folder}"])
    return clients.Functions(server.start()), folder


def deploy(functions, config=None, source=PYTHON, **options):
    config = [{"Arn": POINT + "team", "LocalMountPath": "/mnt/data"}] if config is None else config
    return functions.deploy({"app.py": source}, kinds.system_python(), FileSystemConfigs=config, **options)


def refused(code, call, **options):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**options)
    assert caught.value.response["Error"]["Code"] == code, caught.value
    return caught.value.response["Error"]["Message"]


def test_functions_share_a_folder(shared):
    functions, folder = shared
    one = deploy(functions)
    other = deploy(functions, [{"Arn": POINT + "team", "LocalMountPath": "/mnt/elsewhere"}])
    alone = deploy(functions, [])
    shown = functions.api.get_function_configuration(FunctionName=one)["FileSystemConfigs"]
    assert shown == [{"Arn": POINT + "team", "LocalMountPath": "/mnt/data"}]
    assert functions.invoke(one, {"do": "write", "name": "a", "text": "one "}).ok() is True
    assert functions.invoke(other, {"do": "write", "name": "a", "text": "other", "at": "/mnt/elsewhere"}).ok() is True
    assert functions.invoke(one, {"do": "read", "name": "a"}).ok() == "one other"
    assert (folder / "a").read_text() == "one other"
    # On the disk it is one owner, who is nobody else.
    assert {path.stat().st_uid for path in (folder, folder / "a")} == ({993} if os.geteuid() == 0 else {os.geteuid()})
    # Who was not given it does not even see its name.
    assert functions.invoke(alone, {"do": "list", "paths": ["/mnt"]}).ok() == [[]]
    assert functions.invoke(other, {"do": "list", "paths": ["/mnt"]}).ok() == [["elsewhere"]]
    functions.server.kill()
    functions.server.start()
    assert functions.invoke(other, {"do": "read", "name": "a", "at": "/mnt/elsewhere"}).ok() == "one other"
    assert functions.invoke(other, {"do": "remove", "name": "a", "at": "/mnt/elsewhere"}).ok() == []
    # Given up, it is gone from the next instance on.
    functions.api.update_function_configuration(FunctionName=one, FileSystemConfigs=[])
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=one, WaiterConfig=clients.FAST)
    assert functions.invoke(one, {"do": "list", "paths": ["/mnt"]}).ok() == [[]]
    assert "FileSystemConfigs" not in functions.api.get_function_configuration(FunctionName=one)


def test_nothing_but_the_folder_is_reached(shared, tmp_path):
    functions, folder = shared
    (tmp_path / "secret").write_text("the host's own")
    name = deploy(functions)
    tried = functions.invoke(name, {"do": "try", "host": str(tmp_path)}).ok()
    assert tried["device"] == "PermissionError" and not (folder / "disk").exists()
    assert tried["above"] == ["data"] and tried["outside"]
    assert tried["link"] in ("FileNotFoundError", "PermissionError")
    assert tried["mnt"] in ("OSError", "PermissionError") and not (tmp_path / "other").exists()
    assert tried["owner"] in ("OSError", "PermissionError")
    assert tried["host"] in ("FileNotFoundError", "PermissionError")
    options = tried["mounts"][-1].split(",")
    assert "nosuid" in options and "nodev" in options and "rw" in options
    # A device that somebody of the host puts there cannot be used.
    if os.geteuid() == 0:
        os.mknod(folder / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        os.chmod(folder / "zero", 0o666)
        functions.invoke(name, {"do": "read", "name": "zero"}).failed("PermissionError")


def test_other_languages_and_a_template_of_nothing(shared):
    functions, folder = shared
    (folder / "word").write_text("kept")
    for runtime, file, source in [
        (kinds.node(), "app.js", "const fs = require('fs'); exports.handler = async () => { fs.appendFileSync('/mnt/data/log', 'n'); return fs.readFileSync('/mnt/data/word', 'utf8'); };"),
        (kinds.ruby(), "app.rb", "def handler(event:, context:) = (File.write('/mnt/data/log', 'r', mode: 'a'); File.read('/mnt/data/word'))"),
    ]:
        config = [{"Arn": POINT + "team", "LocalMountPath": "/mnt/data"}]
        name = functions.deploy({file: source}, runtime, FileSystemConfigs=config)
        assert functions.invoke(name).ok() == "kept"
    assert sorted((folder / "log").read_text()) == ["n", "r"]
    slow = "import time; time.sleep(0.1); open('/mnt/data/began', 'a').write('x')\ndef handler(event, context):\n    return 1\n"
    name = deploy(functions, source=slow)
    assert functions.invoke(name).ok() == 1
    # Initialised once more for a template it would have written again; a second function's would by now be there.
    begun = functions.deploy({"app.py": "import time; time.sleep(0.1)\ndef handler(event, context):\n    return 1\n"}, kinds.system_python())
    functions.invoke(begun).ok()
    poll.until(lambda: f"template {begun}" in functions.server.metrics(), "the other has its template", seconds=60)
    assert (folder / "began").read_text() == "x"


def test_what_is_refused(shared):
    functions, _ = shared
    make = dict(Runtime=kinds.system_python(), Handler="app.handler", Role=clients.ROLE, FunctionName="no", Code={"ZipFile": zips.package({"app.py": ""})})
    create = functions.api.create_function
    point = lambda arn, path="/mnt/data": {"Arn": arn, "LocalMountPath": path}
    message = refused("InvalidParameterValueException", create, **make, FileSystemConfigs=[point(POINT + "absent")])
    assert message == f"The EFS access point {POINT}absent does not exist."
    refused("InvalidParameterValueException", create, **make, FileSystemConfigs=[point(POINT.replace("111122223333", "210987654321") + "team")])
    for path in ("/mnt/", "/data", "/mnt/a/b", "/mnt/.."):
        refused("ValidationException", create, **make, FileSystemConfigs=[point(POINT + "team", path)])
    refused("ValidationException", create, **make, FileSystemConfigs=[point(POINT + "team"), point(POINT + "team", "/mnt/b")])
    refused("ValidationException", create, **make, FileSystemConfigs=[point("arn:aws:s3:::bucket")])


def test_a_folder_that_the_operator_took_back(shared):
    functions, _ = shared
    name = deploy(functions)
    assert functions.invoke(name, {"do": "list", "paths": ["/mnt"]}).ok() == [["data"]]
    functions.server.kill()
    functions.server.arguments = []
    functions.server.start()
    message = refused("ServiceUnavailableException", functions.api.invoke, FunctionName=name, Payload=b"{}")
    assert "couldn't mount" in message
