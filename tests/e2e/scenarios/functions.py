"""Lambda: every operation that docs/lambda-api.md says works."""

import json
import time

import pytest

from support import kinds, poll, zips
from support.clients import ROLE
from support.families import Refused

ACCOUNT = "111122223333"


def run(call, name, publisher):
    """`call(operation, **input)` does it; `name` is free, and `publisher` the ARN of a signing profile's version."""
    life(call, name)
    versions(call, name)
    called_from_elsewhere(call, name)
    asynchronous(call, name)
    capacity(call, name)
    signatures(call, name, publisher)
    call("DeleteFunction", FunctionName=name)
    with pytest.raises(Refused, match="ResourceNotFoundException"):
        call("GetFunction", FunctionName=name)
    layers(call, name)


def settled(call, **which):
    """The configuration, once the function and its last update are through."""

    def there():
        found = call("GetFunctionConfiguration", **which)
        return found if found["State"] == "Active" and found["LastUpdateStatus"] == "Successful" else None

    return poll.until(there, f"{which} active", 60)


def life(call, name):
    assert call("GetAccountSettings")["AccountLimit"]["ConcurrentExecutions"] > 0
    archive = zips.package(kinds.python_function("echo.py"))
    made = call(
        "CreateFunction", FunctionName=name, Runtime=kinds.python(), Handler="app.handler", Role=ROLE, Timeout=10,
        Code={"ZipFile": archive},
    )  # fmt: skip
    assert made["State"] == "Pending"
    settled(call, FunctionName=name)
    assert name in [each["FunctionName"] for each in call("ListFunctions")["Functions"]]
    assert call("GetFunction", FunctionName=name)["Code"]["Location"].startswith("http")
    answer = call("Invoke", FunctionName=name, Payload=b'{"from": "here"}', LogType="Tail")
    assert answer["StatusCode"] == 200 and json.loads(answer["Payload"])["event"] == {"from": "here"}
    events = call("InvokeWithResponseStream", FunctionName=name, Payload=b'{"in": "pieces"}')
    if events:
        pieces = [event["PayloadChunk"]["Payload"] for event in events["EventStream"] if "PayloadChunk" in event]
        assert json.loads(b"".join(pieces))["event"] == {"in": "pieces"}
    changed = call("UpdateFunctionConfiguration", FunctionName=name, MemorySize=256, Environment={"Variables": {"WHO": "me"}})
    assert changed["MemorySize"] == 256
    assert settled(call, FunctionName=name)["Environment"] == {"Variables": {"WHO": "me"}}
    call("UpdateFunctionCode", FunctionName=name, ZipFile=archive, RevisionId=settled(call, FunctionName=name)["RevisionId"])
    arn = settled(call, FunctionName=name)["FunctionArn"]
    call("TagResource", Resource=arn, Tags={"team": "one", "stage": "two"})
    call("UntagResource", Resource=arn, TagKeys=["stage"])
    assert call("ListTags", Resource=arn)["Tags"] == {"team": "one"}


def versions(call, name):
    assert call("PublishVersion", FunctionName=name, Description="first")["Version"] == "1"
    settled(call, FunctionName=name, Qualifier="1")
    listed = call("ListVersionsByFunction", FunctionName=name)["Versions"]
    assert [each["Version"] for each in listed] == ["$LATEST", "1"]
    alias = {"FunctionName": name, "Name": "live"}
    made = call("CreateAlias", **alias, FunctionVersion="1", Description="what users call")
    assert call("GetAlias", **alias)["AliasArn"] == made["AliasArn"]
    assert call("UpdateAlias", **alias, FunctionVersion="$LATEST", RevisionId=made["RevisionId"])["FunctionVersion"] == "$LATEST"
    assert call("Invoke", FunctionName=name, Qualifier="live", Payload=b"{}")["ExecutedVersion"] == "$LATEST"
    assert [each["Name"] for each in call("ListAliases", FunctionName=name)["Aliases"]] == ["live"]
    call("DeleteAlias", **alias)
    call("PutRuntimeManagementConfig", FunctionName=name, Qualifier="1", UpdateRuntimeOn="FunctionUpdate")
    kept = call("GetRuntimeManagementConfig", FunctionName=name, Qualifier="1")
    assert kept["UpdateRuntimeOn"] == "FunctionUpdate"


def called_from_elsewhere(call, name):
    made = call("CreateFunctionUrlConfig", FunctionName=name, AuthType="NONE", Cors={"AllowOrigins": ["https://here.example"]})
    assert call("GetFunctionUrlConfig", FunctionName=name)["FunctionUrl"] == made["FunctionUrl"]
    assert call("UpdateFunctionUrlConfig", FunctionName=name, AuthType="AWS_IAM")["AuthType"] == "AWS_IAM"
    assert len(call("ListFunctionUrlConfigs", FunctionName=name)["FunctionUrlConfigs"]) == 1
    call("DeleteFunctionUrlConfig", FunctionName=name)
    granted = call(
        "AddPermission", FunctionName=name, StatementId="one", Action="lambda:InvokeFunction", Principal="s3.amazonaws.com",
        SourceArn="arn:aws:s3:::bucket",
    )  # fmt: skip
    statement = json.loads(granted["Statement"])
    policy = json.loads(call("GetPolicy", FunctionName=name)["Policy"])
    assert policy["Statement"] == [statement]
    call("RemovePermission", FunctionName=name, StatementId="one")
    arn = call("GetFunctionConfiguration", FunctionName=name)["FunctionArn"]
    call("PutResourcePolicy", ResourceArn=arn, Policy=json.dumps(policy))
    kept = call("GetResourcePolicy", ResourceArn=arn)
    assert not kept or json.loads(kept["Policy"])["Statement"] == [statement]
    call("DeleteResourcePolicy", ResourceArn=arn)
    with pytest.raises(Refused, match="ResourceNotFoundException"):
        call("GetPolicy", FunctionName=name)


def asynchronous(call, name):
    assert call("InvokeAsync", FunctionName=name, InvokeArgs=b"{}").get("Status", 202) == 202
    assert call("Invoke", FunctionName=name, InvocationType="Event", Payload=b"{}")["StatusCode"] == 202
    call("PutFunctionEventInvokeConfig", FunctionName=name, MaximumRetryAttempts=1)
    call("UpdateFunctionEventInvokeConfig", FunctionName=name, MaximumEventAgeInSeconds=120)
    kept = call("GetFunctionEventInvokeConfig", FunctionName=name)
    assert (kept["MaximumRetryAttempts"], kept["MaximumEventAgeInSeconds"]) == (1, 120)
    assert len(call("ListFunctionEventInvokeConfigs", FunctionName=name)["FunctionEventInvokeConfigs"]) == 1
    call("DeleteFunctionEventInvokeConfig", FunctionName=name)
    assert call("PutFunctionRecursionConfig", FunctionName=name, RecursiveLoop="Allow")["RecursiveLoop"] == "Allow"
    assert call("GetFunctionRecursionConfig", FunctionName=name)["RecursiveLoop"] == "Allow"


def capacity(call, name):
    assert call("PutFunctionConcurrency", FunctionName=name, ReservedConcurrentExecutions=3)["ReservedConcurrentExecutions"] == 3
    assert call("GetFunctionConcurrency", FunctionName=name)["ReservedConcurrentExecutions"] == 3
    of_one = {"FunctionName": name, "Qualifier": "1"}
    call("PutProvisionedConcurrencyConfig", **of_one, ProvisionedConcurrentExecutions=1)
    assert call("GetProvisionedConcurrencyConfig", **of_one)["RequestedProvisionedConcurrentExecutions"] == 1
    assert len(call("ListProvisionedConcurrencyConfigs", FunctionName=name)["ProvisionedConcurrencyConfigs"]) == 1
    call("DeleteProvisionedConcurrencyConfig", **of_one)
    call("DeleteFunctionConcurrency", FunctionName=name)
    assert "ReservedConcurrentExecutions" not in call("GetFunctionConcurrency", FunctionName=name)


def signatures(call, name, publisher):
    allowed = {"SigningProfileVersionArns": [publisher]}
    made = call("CreateCodeSigningConfig", AllowedPublishers=allowed, Description="one")["CodeSigningConfig"]
    config = {"CodeSigningConfigArn": made["CodeSigningConfigArn"]}
    warn = {"UntrustedArtifactOnDeployment": "Warn"}
    assert call("UpdateCodeSigningConfig", **config, CodeSigningPolicies=warn)["CodeSigningConfig"]["CodeSigningPolicies"] == warn
    assert call("GetCodeSigningConfig", **config)["CodeSigningConfig"]["AllowedPublishers"] == allowed
    listed = call("ListCodeSigningConfigs")["CodeSigningConfigs"]
    assert made["CodeSigningConfigArn"] in [each["CodeSigningConfigArn"] for each in listed]
    assert call("PutFunctionCodeSigningConfig", FunctionName=name, **config)["FunctionName"] == name
    assert call("GetFunctionCodeSigningConfig", FunctionName=name)["CodeSigningConfigArn"] == made["CodeSigningConfigArn"]
    (arn,) = call("ListFunctionsByCodeSigningConfig", **config)["FunctionArns"]
    assert arn.endswith(f":{name}")
    call("DeleteFunctionCodeSigningConfig", FunctionName=name)
    call("DeleteCodeSigningConfig", **config)
    with pytest.raises(Refused, match="ResourceNotFoundException"):
        call("GetCodeSigningConfig", **config)


def layers(call, name):
    content = {"ZipFile": zips.package({"python/of_layer.py": f"MADE = {time.time()}\n"})}
    made = call("PublishLayerVersion", LayerName=name, Content=content, CompatibleRuntimes=[kinds.python()])
    one = {"LayerName": name, "VersionNumber": made["Version"]}
    assert call("GetLayerVersion", **one)["LayerVersionArn"] == made["LayerVersionArn"]
    assert call("GetLayerVersionByArn", Arn=made["LayerVersionArn"])["Version"] == 1
    assert name in [each["LayerName"] for each in call("ListLayers")["Layers"]]
    assert len(call("ListLayerVersions", LayerName=name)["LayerVersions"]) == 1
    call("AddLayerVersionPermission", **one, StatementId="all", Action="lambda:GetLayerVersion", Principal="*")
    assert json.loads(call("GetLayerVersionPolicy", **one)["Policy"])["Statement"][0]["Sid"] == "all"
    call("RemoveLayerVersionPermission", **one, StatementId="all")
    call("DeleteLayerVersion", **one)
    with pytest.raises(Refused, match="ResourceNotFoundException"):
        call("GetLayerVersion", **one)
