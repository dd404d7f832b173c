"""SnapStart, TracingConfig, RuntimeManagementConfig and Architectures, as boto3 sees them."""

import platform

import botocore.exceptions
import pytest

from support import clients, kinds, poll

SOURCE = """
import os, time
time.sleep(0.1)
def handler(event, context):
    return os.environ.get("_X_AMZN_TRACE_ID", "")
"""


def refused(code, call, **options):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**options)
    assert caught.value.response["Error"]["Code"] == code, caught.value
    return caught.value.response["Error"]["Message"]


def updated(functions, name, **members):
    functions.api.update_function_configuration(FunctionName=name, **members)
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=clients.FAST)
    return functions.api.get_function_configuration(FunctionName=name)


def test_snap_start_is_a_template_of_published_versions(functions):
    api = functions.api
    name = functions.deploy({"app.py": SOURCE}, kinds.system_python(), tags={"virga:template": "off"})
    assert api.get_function_configuration(FunctionName=name)["SnapStart"] == {"ApplyOn": "None", "OptimizationStatus": "Off"}
    plain = api.publish_version(FunctionName=name)["Version"]
    shown = updated(functions, name, SnapStart={"ApplyOn": "PublishedVersions"})
    assert shown["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}, "$LATEST has none"
    version = api.publish_version(FunctionName=name)["Version"]
    assert version != plain
    api.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=version, WaiterConfig=clients.FAST)
    shown = api.get_function_configuration(FunctionName=name, Qualifier=version)["SnapStart"]
    assert shown == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    for qualifier in (plain, "$LATEST", version):
        functions.invoke(name, Qualifier=qualifier).ok()
    poll.until(lambda: f"template {name}:{version}" in functions.server.metrics(), "the version has its template", seconds=60)
    assert f"template {name}:{plain}" not in functions.server.metrics()
    assert f"template {name}:$LATEST" not in functions.server.metrics()
    refused("ValidationException", api.update_function_configuration, FunctionName=name, SnapStart={"ApplyOn": "Always"})


def test_active_tracing_samples_what_nobody_has_decided(functions):
    name = functions.deploy({"app.py": SOURCE}, kinds.system_python())
    assert functions.api.get_function_configuration(FunctionName=name)["TracingConfig"] == {"Mode": "PassThrough"}
    assert functions.invoke(name).ok().split(";")[1] == "Sampled=0"
    assert updated(functions, name, TracingConfig={"Mode": "Active"})["TracingConfig"] == {"Mode": "Active"}
    assert functions.invoke(name).ok().split(";")[1] == "Sampled=1"
    given = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0"
    answer = clients.signed(functions.server, "POST", f"/2015-03-31/functions/{name}/invocations", b"{}", headers={"X-Amzn-Trace-Id": given})
    assert answer.json().startswith(given), "the caller's own decision stands"


def test_runtime_management_is_kept_by_version(functions):
    api = functions.api
    name = functions.deploy({"app.py": SOURCE}, kinds.system_python())
    version = api.publish_version(FunctionName=name)["Version"]
    found = api.get_runtime_management_config(FunctionName=name)
    assert found["UpdateRuntimeOn"] == "Auto" and found["FunctionArn"].endswith(f":{name}:$LATEST")
    arn = "arn:aws:lambda:us-east-1::runtime:0123456789abcdef"
    put = api.put_runtime_management_config(FunctionName=name, Qualifier=version, UpdateRuntimeOn="Manual", RuntimeVersionArn=arn)
    assert (put["RuntimeVersionArn"], put["FunctionArn"].rpartition(":")[2]) == (arn, version)
    assert api.get_runtime_management_config(FunctionName=name, Qualifier=version)["UpdateRuntimeOn"] == "Manual"
    assert api.get_runtime_management_config(FunctionName=name)["UpdateRuntimeOn"] == "Auto"
    api.put_runtime_management_config(FunctionName=name, UpdateRuntimeOn="FunctionUpdate")
    assert api.publish_version(FunctionName=name)["Version"] == version, "that is no change of the function"
    refused("InvalidParameterValueException", api.put_runtime_management_config, FunctionName=name, UpdateRuntimeOn="Manual")
    refused("ResourceNotFoundException", api.get_runtime_management_config, FunctionName="absent")
    functions.invoke(name).ok()


def test_only_this_machines_architecture(functions):
    own = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
    other = {"x86_64": "arm64", "arm64": "x86_64"}[own]
    name = functions.deploy({"app.py": SOURCE}, kinds.system_python(), Architectures=[own])
    assert functions.api.get_function_configuration(FunctionName=name)["Architectures"] == [own]
    make = dict(FunctionName="other", Runtime=kinds.system_python(), Handler="app.handler", Role=clients.ROLE, Code={"ZipFile": b"x"})
    message = refused("InvalidParameterValueException", functions.api.create_function, **make, Architectures=[other])
    assert own in message
