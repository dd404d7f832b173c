"""The life of a function through boto3. Every answer here is also held against botocore's model."""

import base64
import hashlib
import re
import uuid

import pytest
import requests
from botocore.exceptions import ClientError

from support import clients, kinds, zips
from support.clients import FAST, ROLE, code_of

ANSWER = "def handler(event, context):\n    return {!r}\n"


def package(answer="first"):
    return zips.package({"app.py": ANSWER.format(answer)})


def sha256(archive):
    return base64.b64encode(hashlib.sha256(archive).digest()).decode()


def test_create_answers_pending_and_becomes_active(server, functions):
    archive = package()
    name = functions.deploy(archive, kinds.python(), wait=False, Description="said", MemorySize=256, Timeout=7)
    created = functions.api.get_function_configuration(FunctionName=name)
    assert created["State"] in ("Pending", "Active")
    functions.api.get_waiter("function_active_v2").wait(FunctionName=name)
    now = functions.api.get_function_configuration(FunctionName=name)
    assert now["State"] == "Active" and now["LastUpdateStatus"] == "Successful"
    assert now["FunctionArn"] == f"arn:aws:lambda:us-east-1:{server.account}:function:{name}"
    assert now["CodeSha256"] == sha256(archive) and now["CodeSize"] == len(archive)
    assert (now["Description"], now["MemorySize"], now["Timeout"]) == ("said", 256, 7)
    assert now["Version"] == "$LATEST" and now["Role"] == ROLE and now["Handler"] == "app.handler"
    assert now["PackageType"] == "Zip" and now["Runtime"] == kinds.python()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", now["LastModified"])


def test_create_itself_says_pending_and_creating(functions):
    name = f"f-{uuid.uuid4().hex[:12]}"
    functions.made.append(name)
    created = functions.api.create_function(
        FunctionName=name, Runtime=kinds.python(), Handler="app.handler", Role=ROLE, Code={"ZipFile": package()}
    )
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (created["State"], created["StateReasonCode"]) == ("Pending", "Creating")
    assert created["MemorySize"] == 128 and created["Timeout"] == 3
    assert created["EphemeralStorage"] == {"Size": 512} and created["Architectures"] == ["x86_64"]


def test_code_url_gives_the_very_bytes(functions):
    archive = package("bytes")
    name = functions.deploy(archive, kinds.python())
    got = functions.api.get_function(FunctionName=name)
    assert got["Code"]["RepositoryType"] == "S3"
    answer = requests.get(got["Code"]["Location"], timeout=10)
    assert answer.status_code == 200 and answer.content == archive


def test_code_url_cannot_be_forged(functions):
    name = functions.deploy(package(), kinds.python())
    location = functions.api.get_function(FunctionName=name)["Code"]["Location"]
    changed = location[:-1] + ("A" if location[-1] != "A" else "B")
    assert requests.get(changed, timeout=10).status_code in (400, 403)
    assert requests.get(location.split("?")[0], timeout=10).status_code in (400, 403)


def test_update_code_changes_what_runs(functions):
    name = functions.deploy(package("one"), kinds.python())
    assert functions.invoke(name).ok() == "one"
    before = functions.api.get_function_configuration(FunctionName=name)["RevisionId"]
    updated = functions.api.update_function_code(FunctionName=name, ZipFile=package("two"))
    assert updated["LastUpdateStatus"] == "InProgress" and updated["RevisionId"] != before
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name)
    assert functions.invoke(name).ok() == "two"
    assert updated["CodeSha256"] == sha256(package("two"))


def test_update_code_with_a_stale_revision_is_refused(functions):
    name = functions.deploy(package(), kinds.python())
    with pytest.raises(ClientError) as refused:
        functions.api.update_function_code(FunctionName=name, ZipFile=package("x"), RevisionId=str(uuid.uuid4()))
    assert code_of(refused.value) == "PreconditionFailedException"


def test_an_empty_revision_is_no_condition(functions):
    name = functions.deploy(package(), kinds.python())
    api, settled = functions.api, functions.api.get_waiter("function_updated_v2")
    for change in (
        lambda: api.update_function_configuration(FunctionName=name, Timeout=9, RevisionId=""),
        lambda: api.update_function_code(FunctionName=name, ZipFile=package("y"), RevisionId=""),
        lambda: api.publish_version(FunctionName=name, RevisionId=""),
    ):
        assert change()["RevisionId"]
        settled.wait(FunctionName=name, WaiterConfig=FAST)


def test_one_version_is_shown_whole(functions):
    name = functions.deploy(package(), kinds.python(), tags={"team": "a"}, Publish=True)
    shown = functions.api.get_function(FunctionName=name, Qualifier="1")
    assert shown["Configuration"]["Version"] == "1" and shown["Tags"] == {"team": "a"}


def test_update_code_dry_run_changes_nothing(functions):
    name = functions.deploy(package("kept"), kinds.python())
    answer = functions.api.update_function_code(FunctionName=name, ZipFile=package("not"), DryRun=True)
    assert answer["CodeSha256"] == sha256(package("not"))
    assert functions.api.get_function_configuration(FunctionName=name)["CodeSha256"] == sha256(package("kept"))


def test_update_configuration_is_in_force_after_the_waiter(functions):
    files = {"app.py": "import os\ndef handler(event, context):\n    return [os.environ.get('WHO'), context.memory_limit_in_mb]\n"}
    name = functions.deploy(files, kinds.python(), env={"WHO": "one"}, MemorySize=128)
    assert functions.invoke(name).ok() == ["one", "128"]
    functions.api.update_function_configuration(
        FunctionName=name, Environment={"Variables": {"WHO": "two"}}, MemorySize=256, Timeout=9, Description="later"
    )
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)
    assert functions.invoke(name).ok() == ["two", "256"]
    now = functions.api.get_function_configuration(FunctionName=name)
    assert (now["Timeout"], now["Description"], now["Environment"]) == (9, "later", {"Variables": {"WHO": "two"}})


def test_published_versions_are_frozen(functions):
    name = functions.deploy(package("v1"), kinds.python())
    first = functions.api.publish_version(FunctionName=name, Description="the first")
    assert first["Version"] == "1" and first["FunctionArn"].endswith(f":{name}:1")
    assert functions.api.publish_version(FunctionName=name)["Version"] == "1", "nothing changed, so no new version"
    functions.api.update_function_code(FunctionName=name, ZipFile=package("v2"))
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)
    assert functions.api.publish_version(FunctionName=name)["Version"] == "2"
    assert functions.invoke(name, Qualifier="1").ok() == "v1"
    assert functions.invoke(name, Qualifier="2").ok() == "v2"
    assert functions.invoke(name, Qualifier="$LATEST").version == "$LATEST"
    assert functions.invoke(name, Qualifier="1").version == "1"
    listed = functions.api.list_versions_by_function(FunctionName=name)["Versions"]
    assert [each["Version"] for each in listed] == ["$LATEST", "1", "2"]


def test_publish_on_create(functions):
    name = f"f-{uuid.uuid4().hex[:12]}"
    functions.made.append(name)
    created = functions.api.create_function(
        FunctionName=name, Runtime=kinds.python(), Handler="app.handler", Role=ROLE, Code={"ZipFile": package("p")},
        Publish=True,
    )  # fmt: skip
    assert created["Version"] == "1"
    functions.api.get_waiter("published_version_active").wait(FunctionName=name, Qualifier="1", WaiterConfig=FAST)
    assert functions.invoke(name, Qualifier="1").ok() == "p"


def test_lists_come_in_pages(functions):
    names = sorted(functions.deploy(package(), kinds.python(), wait=False) for _ in range(5))
    first = functions.api.list_functions(MaxItems=2)
    assert len(first["Functions"]) == 2 and first["NextMarker"]
    pages = functions.api.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
    listed = [each["FunctionName"] for page in pages for each in page["Functions"]]
    assert set(names) <= set(listed) and len(listed) == len(set(listed))
    everything = functions.api.list_functions(FunctionVersion="ALL")["Functions"]
    assert {each["Version"] for each in everything} >= {"$LATEST"}


def test_delete_is_final(functions):
    name = functions.deploy(package(), kinds.python())
    answer = functions.api.delete_function(FunctionName=name)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] in (200, 204)
    for call in (functions.api.get_function, functions.api.delete_function, functions.api.invoke):
        with pytest.raises(functions.api.exceptions.ResourceNotFoundException) as missing:
            call(FunctionName=name)
        assert name in str(missing.value)
    functions.made.remove(name)
    functions.deploy(package("again"), kinds.python(), FunctionName=name)
    assert functions.invoke(name).ok() == "again"


def test_names_may_be_arns_and_partial_arns(server, functions):
    name = functions.deploy(package("named"), kinds.python())
    arn = f"arn:aws:lambda:us-east-1:{server.account}:function:{name}"
    for spelling in (name, arn, f"{server.account}:function:{name}", f"{arn}:$LATEST", f"{name}:$LATEST"):
        assert functions.invoke(spelling).ok() == "named", spelling
    for spelling in (name, arn):
        assert functions.api.get_function_configuration(FunctionName=spelling)["FunctionName"] == name


def test_a_name_is_taken_once(functions):
    name = functions.deploy(package(), kinds.python())
    with pytest.raises(functions.api.exceptions.ResourceConflictException) as taken:
        functions.deploy(package(), kinds.python(), FunctionName=name)
    assert name in str(taken.value)


def test_tags(functions):
    name = functions.deploy(package(), kinds.python(), tags={"team": "red", "virga:idle-timeout": "30"})
    arn = functions.api.get_function_configuration(FunctionName=name)["FunctionArn"]
    functions.api.tag_resource(Resource=arn, Tags={"stage": "test", "virga:memory": "64"})
    functions.api.untag_resource(Resource=arn, TagKeys=["team"])
    wanted = {"stage": "test", "virga:idle-timeout": "30", "virga:memory": "64"}
    assert functions.api.list_tags(Resource=arn)["Tags"] == wanted
    assert functions.api.get_function(FunctionName=name)["Tags"] == wanted


@pytest.mark.parametrize(
    "tag, value",
    [
        ("virga:unheard-of", "1"), ("virga:contract", "smoke"), ("virga:isolation", "none"), ("virga:memory", "-1"),
        ("virga:cpu", "fast"), ("virga:idle-timeout", "soon"), ("virga:port", "70000"), ("virga:egress", "moon"),
        ("virga:hard-concurrency", "0"), ("virga:isolation", "microvm"),
    ],
)  # fmt: skip
def test_bad_virga_tags_are_refused_everywhere(functions, tag, value):
    with pytest.raises(ClientError) as refused:
        functions.deploy(package(), kinds.python(), tags={tag: value}, wait=False)
    assert code_of(refused.value) in ("InvalidParameterValueException", "ValidationException")
    assert tag in str(refused.value)
    name = functions.deploy(package(), kinds.python())
    arn = functions.api.get_function_configuration(FunctionName=name)["FunctionArn"]
    with pytest.raises(ClientError):
        functions.api.tag_resource(Resource=arn, Tags={tag: value})


@pytest.mark.parametrize("contract", ["wasi", "http lambda"])
def test_combinations_without_sense_are_refused(functions, contract):
    with pytest.raises(ClientError) as refused:
        functions.deploy(package(), kinds.python(), tags={"virga:contract": contract}, wait=False)
    assert code_of(refused.value) in ("InvalidParameterValueException", "ValidationException")


@pytest.mark.parametrize("lacking", ["python3.1", "nodejs99.x", "php5.6", "ruby9.9", "java99", "java8.al2"])
def test_a_runtime_that_is_not_there_says_what_is(functions, lacking):
    with pytest.raises(ClientError) as refused:
        functions.deploy(package(), lacking, wait=False)
    assert code_of(refused.value) in ("InvalidParameterValueException", "ValidationException")
    wanted = ("python3", "nodejs", "php", "ruby", "provided")
    if lacking != "java8.al2":
        wanted = (kinds.python(), kinds.node(), kinds.php(), kinds.ruby(), kinds.java())
    assert all(word in str(refused.value) for word in wanted), refused.value


def test_virga_settings_are_part_of_a_published_version(functions):
    code = {"app.py": "def handler(event, context):\n    return context.memory_limit_in_mb\n"}
    name = functions.deploy(code, kinds.python(), tags={"virga:memory": "96"})
    functions.api.publish_version(FunctionName=name)
    arn = functions.api.get_function_configuration(FunctionName=name)["FunctionArn"]
    functions.api.tag_resource(Resource=arn, Tags={"virga:memory": "112"})
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)
    assert functions.invoke(name, Qualifier="1").ok() == "96"
    assert functions.invoke(name).ok() == "112"


def test_a_server_remembers_across_a_stop(new_server):
    server = new_server().start()
    functions = clients.Functions(server)
    name = functions.deploy(package("kept"), kinds.python())
    functions.api.create_function_url_config(FunctionName=name, AuthType="NONE")
    assert server.stop() == 0
    server.start()
    assert functions.invoke(name).ok() == "kept"
    assert requests.get(functions.path(name), timeout=30).json() == "kept"
