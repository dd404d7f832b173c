"""Who may what: every operation of Lambda's asks for its own permission, and what conditions of policies know."""

import json
import uuid

import botocore.session
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from support import clients, kinds, zips
from support.clients import ROLE, code_of
from support.server import REGION
from test_identity import allow, api, assumed, iam, own, role  # noqa: F401  (fixtures)

HELLO = "def handler(event, context):\n    return 'hello'\n"
NAME = "somebodys"
ARN = "arn:aws:lambda:us-east-1:111122223333:function:somebodys"
LAYER = "arn:aws:lambda:us-east-1:111122223333:layer:tools:1"
CONFIG = "arn:aws:lambda:us-east-1:111122223333:code-signing-config:csc-0123456789abcdefg"
PROFILE = "arn:aws:signer:us-east-1:111122223333:/signing-profiles/us"
FUNCTION = {"FunctionName": NAME}
VERSIONED = FUNCTION | {"Qualifier": "1"}
LAYER_VERSION = {"LayerName": "tools", "VersionNumber": 1}
ALIAS = FUNCTION | {"Name": "live"}

# Each operation with a request that is in order; of those whose permission has another name, that.
OPERATIONS = {
    "AddLayerVersionPermission": LAYER_VERSION | {"StatementId": "s", "Action": "lambda:GetLayerVersion", "Principal": "*"},
    "AddPermission": FUNCTION | {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "*"},
    "CreateAlias": ALIAS | {"FunctionVersion": "1"},
    "CreateCodeSigningConfig": {"AllowedPublishers": {"SigningProfileVersionArns": [PROFILE]}},
    "CreateFunction": FUNCTION | {"Role": ROLE, "Runtime": "python3.11", "Handler": "a.b", "Code": {"ZipFile": b"PK"}},
    "CreateFunctionUrlConfig": FUNCTION | {"AuthType": "NONE"},
    "DeleteAlias": ALIAS,
    "DeleteCodeSigningConfig": {"CodeSigningConfigArn": CONFIG},
    "DeleteFunction": FUNCTION,
    "DeleteFunctionCodeSigningConfig": FUNCTION,
    "DeleteFunctionConcurrency": FUNCTION,
    "DeleteFunctionEventInvokeConfig": FUNCTION,
    "DeleteFunctionUrlConfig": FUNCTION,
    "DeleteLayerVersion": LAYER_VERSION,
    "DeleteProvisionedConcurrencyConfig": VERSIONED,
    "DeleteResourcePolicy": {"ResourceArn": ARN},
    "GetAccountSettings": {},
    "GetAlias": ALIAS,
    "GetCodeSigningConfig": {"CodeSigningConfigArn": CONFIG},
    "GetFunction": FUNCTION,
    "GetFunctionCodeSigningConfig": FUNCTION,
    "GetFunctionConcurrency": FUNCTION,
    "GetFunctionConfiguration": FUNCTION,
    "GetFunctionEventInvokeConfig": FUNCTION,
    "GetFunctionRecursionConfig": FUNCTION,
    "GetFunctionUrlConfig": FUNCTION,
    "GetLayerVersion": LAYER_VERSION,
    "GetLayerVersionByArn": {"Arn": LAYER},
    "GetLayerVersionPolicy": LAYER_VERSION,
    "GetPolicy": FUNCTION,
    "GetProvisionedConcurrencyConfig": VERSIONED,
    "GetResourcePolicy": {"ResourceArn": ARN},
    "GetRuntimeManagementConfig": FUNCTION,
    "Invoke": FUNCTION,
    "InvokeAsync": FUNCTION | {"InvokeArgs": b"{}"},
    "InvokeWithResponseStream": FUNCTION,
    "ListAliases": FUNCTION,
    "ListCodeSigningConfigs": {},
    "ListFunctionEventInvokeConfigs": FUNCTION,
    "ListFunctionUrlConfigs": FUNCTION,
    "ListFunctions": {},
    "ListFunctionsByCodeSigningConfig": {"CodeSigningConfigArn": CONFIG},
    "ListLayerVersions": {"LayerName": "tools"},
    "ListLayers": {},
    "ListProvisionedConcurrencyConfigs": FUNCTION,
    "ListTags": {"Resource": ARN},
    "ListVersionsByFunction": FUNCTION,
    "PublishLayerVersion": {"LayerName": "tools", "Content": {"ZipFile": b"PK"}},
    "PublishVersion": FUNCTION,
    "PutFunctionCodeSigningConfig": FUNCTION | {"CodeSigningConfigArn": CONFIG},
    "PutFunctionConcurrency": FUNCTION | {"ReservedConcurrentExecutions": 1},
    "PutFunctionEventInvokeConfig": FUNCTION | {"MaximumRetryAttempts": 1},
    "PutFunctionRecursionConfig": FUNCTION | {"RecursiveLoop": "Allow"},
    "PutProvisionedConcurrencyConfig": VERSIONED | {"ProvisionedConcurrentExecutions": 1},
    "PutResourcePolicy": {"ResourceArn": ARN, "Policy": "{}"},
    "PutRuntimeManagementConfig": FUNCTION | {"UpdateRuntimeOn": "Auto"},
    "RemoveLayerVersionPermission": LAYER_VERSION | {"StatementId": "s"},
    "RemovePermission": FUNCTION | {"StatementId": "s"},
    "TagResource": {"Resource": ARN, "Tags": {"a": "b"}},
    "UntagResource": {"Resource": ARN, "TagKeys": ["a"]},
    "UpdateAlias": ALIAS,
    "UpdateCodeSigningConfig": {"CodeSigningConfigArn": CONFIG},
    "UpdateFunctionCode": FUNCTION | {"ZipFile": b"PK"},
    "UpdateFunctionConfiguration": FUNCTION,
    "UpdateFunctionEventInvokeConfig": FUNCTION | {"MaximumRetryAttempts": 1},
    "UpdateFunctionUrlConfig": FUNCTION,
}
ACTIONS = {
    "Invoke": "InvokeFunction",
    "InvokeAsync": "InvokeFunction",
    "InvokeWithResponseStream": "InvokeFunction",
    "GetLayerVersionByArn": "GetLayerVersion",
    "GetResourcePolicy": "GetPolicy",
}
# What is not built is refused by its name, whoever asks.
ABSENT = ("EventSourceMapping", "FunctionScalingConfig", "DurableExecution", "CapacityProvider")


def snake(name):
    return botocore.xform_name(name)


def test_every_operation_asks_for_its_own_permission(server, role):  # noqa: F811
    made = role(own(server))
    session = api(server, "lambda", assumed(server, made))
    everything = session.meta.service_model.operation_names
    built = {name for name in everything if not any(absent in name for absent in ABSENT)}
    assert built == set(OPERATIONS), "each operation of the model is in the table, or not built"
    wrong = {}
    for name, arguments in OPERATIONS.items():
        try:
            getattr(session, snake(name))(**arguments)
            wrong[name] = "was let in"
        except ClientError as error:
            wanted = f"not authorized to perform: lambda:{ACTIONS.get(name, name)} "
            said = f"{code_of(error)}: {error.response['Error']['Message']}"
            if not said.startswith("AccessDeniedException: ") or wanted not in said:
                wrong[name] = said
    assert not wrong, json.dumps(wrong, indent=1)


def test_virgas_own_operations_ask_too(server, role):  # noqa: F811
    keys = assumed(server, role(own(server)))
    who = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])

    def ask(method, path, service="lambda", body=None):
        body = json.dumps(body) if body else ""
        request = AWSRequest(method=method, url=server.url + path, data=body)
        SigV4Auth(who, service, REGION).add_auth(request)
        answer = requests.request(method, server.url + path, data=body, headers=dict(request.headers), timeout=30)
        assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (403, "AccessDeniedException"), f"{method} {path}: {answer.text}"
        return answer.text

    base = f"/virga/functions/{NAME}"
    for method, path in [("GET", "failed-events"), ("GET", "failed-events/x"), ("POST", "failed-events/redrive"),
                         ("DELETE", "failed-events"), ("POST", "restore")]:  # fmt: skip
        ask(method, f"{base}/{path}")
    key = {"platformId": "Virga-Ed25519", "signingParameters": {"publicKey": "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="}}
    revoke = {"profileVersion": "abcdefghij", "reason": "r", "effectiveTime": 0}
    for method, path, body, action in [
        ("PUT", "/signing-profiles/us", key, "PutSigningProfile"), ("GET", "/signing-profiles/us", None, "GetSigningProfile"),
        ("GET", "/signing-profiles", None, "ListSigningProfiles"), ("DELETE", "/signing-profiles/us", None, "CancelSigningProfile"),
        ("PUT", "/signing-profiles/us/revoke", revoke, "RevokeSigningProfile"),
        ("PUT", "/signing-jobs/x/revoke", {"reason": "r"}, "RevokeSignature"),
    ]:  # fmt: skip
        assert f"signer:{action} " in ask(method, path, "signer", body)


def may(call, **arguments):
    """Whether a call is let in."""
    try:
        call(**arguments)
        return True
    except ClientError as error:
        assert code_of(error) == "AccessDeniedException", error
        return False


def test_conditions_know_tags_and_addresses(server, iam, role, functions):  # noqa: F811
    green = functions.deploy({"app.py": HELLO}, kinds.python(), tags={"team": "green"})
    red = functions.deploy({"app.py": HELLO}, kinds.python(), tags={"team": "red"})
    made = role(own(server))
    session = api(server, "lambda", assumed(server, made))
    arns = {name: functions.api.get_function_configuration(FunctionName=name)["FunctionArn"] for name in (green, red)}

    def given(*actions, **conditions):
        document = allow(*actions, Condition=conditions)
        iam.put_role_policy(RoleName=made["RoleName"], PolicyName="p", PolicyDocument=document)

    given("lambda:*", StringEquals={"aws:ResourceTag/team": "green"})
    assert [may(session.invoke, FunctionName=name) for name in (green, red)] == [True, False]
    assert [may(session.list_tags, Resource=arns[name]) for name in (green, red)] == [True, False]
    given("lambda:TagResource", "lambda:UntagResource", StringLike={"aws:RequestTag/team": "g*"},
          **{"ForAllValues:StringEquals": {"aws:TagKeys": ["team", "more"]}})  # fmt: skip
    assert may(session.tag_resource, Resource=arns[green], Tags={"team": "green"})
    assert not may(session.tag_resource, Resource=arns[green], Tags={"team": "red"})
    assert not may(session.tag_resource, Resource=arns[green], Tags={"team": "green", "other": "x"})
    assert not may(session.untag_resource, Resource=arns[green], TagKeys=["team"]), "a request without values has none"
    given("lambda:UntagResource", **{"ForAllValues:StringEquals": {"aws:TagKeys": ["more"]}})
    assert may(session.untag_resource, Resource=arns[green], TagKeys=["more"])
    assert not may(session.untag_resource, Resource=arns[green], TagKeys=["team"])
    given("lambda:InvokeFunction", IpAddress={"aws:SourceIp": "127.0.0.0/8"})
    assert may(session.invoke, FunctionName=green)
    given("lambda:InvokeFunction", NotIpAddress={"aws:SourceIp": "127.0.0.0/8"})
    assert not may(session.invoke, FunctionName=green)
    # A creation is judged by the tags that it brings.
    create = {"FunctionName": f"f-{uuid.uuid4().hex[:12]}", "Role": ROLE, "Runtime": kinds.python(), "Handler": "app.handler",
              "Code": {"ZipFile": zips.package({"app.py": HELLO})}}  # fmt: skip
    tagged = {"Effect": "Allow", "Action": "lambda:CreateFunction", "Resource": "*", "Condition": {"StringEquals": {"aws:RequestTag/team": "green"}}}
    passing = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [tagged, passing]})
    iam.put_role_policy(RoleName=made["RoleName"], PolicyName="p", PolicyDocument=document)
    assert not may(session.create_function, **create)
    functions.made.append(create["FunctionName"])
    assert may(session.create_function, Tags={"team": "green"}, **create)


def test_a_url_knows_where_a_request_comes_from(functions):
    name = functions.deploy({"app.py": HELLO}, kinds.python(), url=True)
    arn = functions.api.get_function_configuration(FunctionName=name)["FunctionArn"]
    for operator, status in (("IpAddress", 403), ("NotIpAddress", 200)):
        deny = {"Effect": "Deny", "Principal": "*", "Action": "lambda:InvokeFunctionUrl", "Resource": arn,
                "Condition": {operator: {"aws:SourceIp": "127.0.0.1"}}}  # fmt: skip
        functions.api.put_resource_policy(ResourceArn=arn, Policy=json.dumps({"Version": "2012-10-17", "Statement": deny}))
        assert requests.get(functions.path(name), timeout=30).status_code == status, operator


def test_an_aliass_own_policy_decides_its_calls(server, role, functions):  # noqa: F811
    functions_api, made = functions.api, role(own(server))
    name = functions.deploy({"app.py": HELLO}, kinds.python())
    version = functions_api.publish_version(FunctionName=name)["Version"]
    for alias in ("live", "other"):
        functions_api.create_alias(FunctionName=name, Name=alias, FunctionVersion=version)
    grant = {"FunctionName": name, "StatementId": "in", "Action": "lambda:InvokeFunction", "Principal": made["Arn"]}
    functions_api.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=version, WaiterConfig=clients.FAST)
    functions_api.add_permission(Qualifier="live", **grant)
    session = api(server, "lambda", assumed(server, made))
    reached = {which: may(session.invoke, FunctionName=name, **({"Qualifier": which} if which else {}))
               for which in ("", "$LATEST", version, "other", "live")}  # fmt: skip
    assert reached == {"": False, "$LATEST": False, version: False, "other": False, "live": True}
    # It follows the alias, whatever that leads to; and goes with it.
    functions_api.update_alias(FunctionName=name, Name="live", FunctionVersion="$LATEST")
    assert may(session.invoke, FunctionName=name, Qualifier="live")
    functions_api.delete_alias(FunctionName=name, Name="live")
    functions_api.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    assert not may(session.invoke, FunctionName=name, Qualifier="live")


@pytest.mark.parametrize("member", ["Timeout", "MemorySize", "EphemeralStorage"])
def test_a_number_past_its_limit_is_a_constraint_that_failed(functions, member):
    name = functions.deploy({"app.py": HELLO}, kinds.python())
    past = {"Timeout": 901, "MemorySize": 10241, "EphemeralStorage": {"Size": 10241}}[member]
    most = {"Timeout": 900, "MemorySize": 10240, "EphemeralStorage": 10240}[member]
    with pytest.raises(ClientError) as error:
        functions.api.update_function_configuration(FunctionName=name, **{member: past})
    assert code_of(error.value) == "ValidationException"
    path = {"Timeout": "timeout", "MemorySize": "memorySize", "EphemeralStorage": "ephemeralStorage.size"}[member]
    assert error.value.response["Error"]["Message"] == (
        f"1 validation error detected: Value '{most + 1}' at '{path}' failed to satisfy constraint: Member must have value "
        f"less than or equal to {most}"
    )
