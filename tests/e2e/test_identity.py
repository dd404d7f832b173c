"""Roles, policies and sessions as boto3 uses them, and what functions may do in their roles."""

import json
import uuid

import boto3
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from support import clients, kinds, zips
from support.clients import ROLE, code_of
from support.server import REGION

BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
HELLO = "def handler(event, context):\n    return {'statusCode': 200, 'body': 'hello'}\n"
CALLS = """
import boto3, json
from botocore.exceptions import ClientError

def handler(event, context):
    try:
        answer = boto3.client("lambda").invoke(FunctionName=event["call"])
        return {"answer": json.loads(answer["Payload"].read())}
    except ClientError as error:
        return {"code": error.response["Error"]["Code"], "message": error.response["Error"]["Message"]}
"""


def trust(**principal):
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def allow(*actions, resource="*", **more):
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource} | more
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


LAMBDA = trust(Service="lambda.amazonaws.com")


def api(server, service, keys=None):
    """A client with a session's keys, or the first user's."""
    given = {"aws_access_key_id": server.key, "aws_secret_access_key": server.secret}
    if keys:
        given = {"aws_access_key_id": keys["AccessKeyId"], "aws_secret_access_key": keys["SecretAccessKey"],
                 "aws_session_token": keys["SessionToken"]}  # fmt: skip
    config = Config(retries={"total_max_attempts": 1}, read_timeout=90)
    session = boto3.session.Session()
    return session.client(service, endpoint_url=server.url, region_name=REGION, config=config, **given)


@pytest.fixture
def iam(server):
    return api(server, "iam")


@pytest.fixture
def role(server, iam):
    """Makes roles of the shared server, and removes them with all that is attached to them."""
    made = []

    def make(document=LAMBDA, **more):
        name = f"r-{uuid.uuid4().hex[:12]}"
        made.append(name)
        return iam.create_role(RoleName=name, AssumeRolePolicyDocument=document, **more)["Role"]

    yield make
    for name in made:
        try:
            for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
                iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
            for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
                iam.delete_role_policy(RoleName=name, PolicyName=policy)
            iam.delete_role(RoleName=name)
        except iam.exceptions.NoSuchEntityException:
            pass


def assumed(server, role, **more):
    """The keys of a session in a role."""
    session = {"RoleArn": role["Arn"], "RoleSessionName": "one"} | more
    return api(server, "sts").assume_role(**session)["Credentials"]


def refused(call, code, status, **arguments):
    with pytest.raises(ClientError) as error:
        call(**arguments)
    answer = error.value.response
    assert (code_of(error.value), answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status), answer
    return answer["Error"]["Message"]


def own(server):
    """A trust policy for the server's first user."""
    return trust(AWS=f"arn:aws:iam::{server.account}:user/admin")


def test_the_life_of_a_role(server, iam, role):
    made = role(Path="/team/", Description="works", MaxSessionDuration=7200, Tags=[{"Key": "a", "Value": "1"}])
    name = made["RoleName"]
    assert made["Arn"] == f"arn:aws:iam::{server.account}:role/team/{name}" and made["RoleId"].startswith("AROA")
    got = iam.get_role(RoleName=name)["Role"]
    assert got == made and got["AssumeRolePolicyDocument"] == json.loads(LAMBDA)
    assert got["MaxSessionDuration"] == 7200 and got["Tags"] == [{"Key": "a", "Value": "1"}]
    iam.update_role(RoleName=name, Description="rests", MaxSessionDuration=3600)
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=own(server))
    iam.tag_role(RoleName=name, Tags=[{"Key": "b", "Value": "2"}])
    iam.untag_role(RoleName=name, TagKeys=["a"])
    got = iam.get_role(RoleName=name)["Role"]
    assert (got["Description"], got["MaxSessionDuration"]) == ("rests", 3600)
    assert got["AssumeRolePolicyDocument"] == json.loads(own(server))
    assert iam.list_role_tags(RoleName=name)["Tags"] == [{"Key": "b", "Value": "2"}]
    assert iam.list_instance_profiles_for_role(RoleName=name)["InstanceProfiles"] == []
    others = {role()["RoleName"] for _ in range(3)}
    pages = iam.get_paginator("list_roles").paginate(PaginationConfig={"PageSize": 2})
    listed = [each["RoleName"] for page in pages for each in page["Roles"]]
    assert others | {name} <= set(listed) and listed == sorted(set(listed))
    assert [r["RoleName"] for r in iam.list_roles(PathPrefix="/team/")["Roles"]] == [name]
    iam.delete_role(RoleName=name)
    refused(iam.get_role, "NoSuchEntity", 404, RoleName=name)


def test_policies_of_a_role(server, iam, role):
    name = role()["RoleName"]
    iam.put_role_policy(RoleName=name, PolicyName="inline", PolicyDocument=allow("lambda:InvokeFunction"))
    inline = iam.get_role_policy(RoleName=name, PolicyName="inline")
    assert inline["PolicyDocument"] == json.loads(allow("lambda:InvokeFunction"))
    assert iam.list_role_policies(RoleName=name)["PolicyNames"] == ["inline"]
    iam.attach_role_policy(RoleName=name, PolicyArn=BASIC)
    attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    assert attached == [{"PolicyName": "AWSLambdaBasicExecutionRole", "PolicyArn": BASIC}]
    refused(iam.delete_role, "DeleteConflict", 409, RoleName=name)
    iam.detach_role_policy(RoleName=name, PolicyArn=BASIC)
    refused(iam.detach_role_policy, "NoSuchEntity", 404, RoleName=name, PolicyArn=BASIC)
    refused(iam.delete_role, "DeleteConflict", 409, RoleName=name)
    iam.delete_role_policy(RoleName=name, PolicyName="inline")
    refused(iam.get_role_policy, "NoSuchEntity", 404, RoleName=name, PolicyName="inline")


def test_managed_policies_and_their_versions(server, iam, role):
    name = f"p-{uuid.uuid4().hex[:12]}"
    made = iam.create_policy(PolicyName=name, PolicyDocument=allow("s3:GetObject"), Description="reads")["Policy"]
    arn = made["Arn"]
    assert arn == f"arn:aws:iam::{server.account}:policy/{name}" and made["DefaultVersionId"] == "v1"
    refused(iam.create_policy, "EntityAlreadyExists", 409, PolicyName=name, PolicyDocument=allow("s3:*"))
    one = role()["RoleName"]
    iam.attach_role_policy(RoleName=one, PolicyArn=arn)
    got = iam.get_policy(PolicyArn=arn)["Policy"]
    assert (got["AttachmentCount"], got["Description"], got["IsAttachable"]) == (1, "reads", True)
    assert [r["RoleName"] for r in iam.list_entities_for_policy(PolicyArn=arn)["PolicyRoles"]] == [one]
    refused(iam.delete_policy, "DeleteConflict", 409, PolicyArn=arn)
    second = iam.create_policy_version(PolicyArn=arn, PolicyDocument=allow("s3:PutObject"), SetAsDefault=True)
    assert second["PolicyVersion"]["VersionId"] == "v2" and second["PolicyVersion"]["IsDefaultVersion"]
    first = iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]
    assert first["Document"] == json.loads(allow("s3:GetObject")) and not first["IsDefaultVersion"]
    assert [v["VersionId"] for v in iam.list_policy_versions(PolicyArn=arn)["Versions"]] == ["v1", "v2"]
    refused(iam.delete_policy_version, "DeleteConflict", 409, PolicyArn=arn, VersionId="v2")
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
    iam.delete_policy_version(PolicyArn=arn, VersionId="v2")
    assert arn in [p["Arn"] for p in iam.list_policies(Scope="Local")["Policies"]]
    assert BASIC in [p["Arn"] for p in iam.list_policies(Scope="AWS", MaxItems=1000)["Policies"]]
    assert iam.get_policy(PolicyArn=BASIC)["Policy"]["PolicyName"] == "AWSLambdaBasicExecutionRole"
    refused(iam.delete_policy, "AccessDenied", 403, PolicyArn=BASIC)
    iam.detach_role_policy(RoleName=one, PolicyArn=arn)
    iam.delete_policy(PolicyArn=arn)
    refused(iam.get_policy, "NoSuchEntity", 404, PolicyArn=arn)


def test_bad_requests_have_iams_names(iam, role):
    name = role()["RoleName"]
    create = {"RoleName": "r", "AssumeRolePolicyDocument": LAMBDA}
    refused(iam.create_role, "EntityAlreadyExists", 409, **(create | {"RoleName": name.upper()}))
    refused(iam.create_role, "ValidationError", 400, **(create | {"RoleName": "a b"}))
    refused(iam.create_role, "ValidationError", 400, Path="nowhere", **create)
    refused(iam.create_role, "ValidationError", 400, MaxSessionDuration=43201, **create)
    for document in ("{", "{}", allow("s3:*"), trust(AWS="somebody"), trust(Nobody="x")):
        refused(iam.create_role, "MalformedPolicyDocument", 400, **(create | {"AssumeRolePolicyDocument": document}))
    put = {"RoleName": name, "PolicyName": "p"}
    refused(iam.put_role_policy, "MalformedPolicyDocument", 400, PolicyDocument=LAMBDA, **put)
    many = allow(*[f"s3:{n:0>90}" for n in range(110)])
    refused(iam.put_role_policy, "LimitExceeded", 409, PolicyDocument=many, **put)
    refused(iam.attach_role_policy, "NoSuchEntity", 404, RoleName=name, PolicyArn="arn:aws:iam::aws:policy/Nothing")
    refused(iam.get_role, "NoSuchEntity", 404, RoleName="nobody-made-it")
    refused(iam.list_roles, "ValidationError", 400, Marker="%%%")
    refused(iam.create_group, "InvalidAction", 400, GroupName="g")


def test_the_user_and_the_account(server, iam):
    user = iam.get_user()["User"]
    assert (user["UserName"], user["Arn"]) == ("admin", f"arn:aws:iam::{server.account}:user/admin")
    assert iam.get_user(UserName="admin")["User"] == user and user["UserId"].startswith("AIDA")
    assert [each["UserName"] for each in iam.list_users()["Users"]] == ["admin"]
    assert iam.list_account_aliases()["AccountAliases"] == []
    assert api(server, "sts").get_caller_identity()["UserId"] == user["UserId"]
    refused(iam.get_user, "NoSuchEntity", 404, UserName="nobody")


def test_roles_survive_a_crash_and_the_first_one_stays_deleted(new_server):
    server = new_server().start()
    iam = api(server, "iam")
    assert iam.get_role(RoleName="virga-function")["Role"]["Arn"].endswith(":role/virga-function")
    made = iam.create_role(RoleName="kept", AssumeRolePolicyDocument=LAMBDA)["Role"]
    iam.attach_role_policy(RoleName="kept", PolicyArn=BASIC)
    policy = iam.create_policy(PolicyName="kept", PolicyDocument=allow("s3:*"))["Policy"]
    iam.detach_role_policy(RoleName="virga-function", PolicyArn=BASIC)
    iam.delete_role(RoleName="virga-function")
    server.kill()
    server.start()
    iam = api(server, "iam")
    assert iam.get_role(RoleName="kept")["Role"] == made
    assert len(iam.list_attached_role_policies(RoleName="kept")["AttachedPolicies"]) == 1
    assert iam.get_policy(PolicyArn=policy["Arn"])["Policy"]["PolicyId"] == policy["PolicyId"]
    refused(iam.get_role, "NoSuchEntity", 404, RoleName="virga-function")


def test_a_session_may_what_its_role_may(server, iam, role, functions):
    target = functions.deploy({"app.py": HELLO}, kinds.python())
    arn = functions.api.get_function_configuration(FunctionName=target)["FunctionArn"]
    made = role(own(server))
    keys = assumed(server, made)
    who = api(server, "sts", keys).get_caller_identity()
    assert who["Arn"] == f"arn:aws:sts::{server.account}:assumed-role/{made['RoleName']}/one"
    assert who["UserId"] == f"{made['RoleId']}:one"
    session = api(server, "lambda", keys)
    message = refused(session.invoke, "AccessDeniedException", 403, FunctionName=target)
    assert message == (
        f"User: {who['Arn']} is not authorized to perform: lambda:InvokeFunction on resource: {arn} because no "
        "identity-based policy allows the lambda:InvokeFunction action"
    )
    iam.put_role_policy(RoleName=made["RoleName"], PolicyName="p", PolicyDocument=allow("lambda:Invoke*", resource=arn))
    assert session.invoke(FunctionName=target)["StatusCode"] == 200
    refused(session.get_function, "AccessDeniedException", 403, FunctionName=target)
    refused(session.list_functions, "AccessDeniedException", 403)
    refused(api(server, "logs", keys).describe_log_groups, "AccessDeniedException", 400)
    refused(api(server, "iam", keys).list_roles, "AccessDenied", 403)
    # A session's own policy takes away; a boundary does too.
    less = assumed(server, made, Policy=allow("s3:*"))
    message = refused(api(server, "lambda", less).invoke, "AccessDeniedException", 403, FunctionName=target)
    assert "no session policy allows" in message
    iam.put_role_permissions_boundary(RoleName=made["RoleName"], PermissionsBoundary=BASIC)
    message = refused(session.invoke, "AccessDeniedException", 403, FunctionName=target)
    assert "no permissions boundary allows" in message
    iam.delete_role_permissions_boundary(RoleName=made["RoleName"])
    assert session.invoke(FunctionName=target)["StatusCode"] == 200
    # Another role of the same name is another role.
    iam.delete_role_policy(RoleName=made["RoleName"], PolicyName="p")
    iam.delete_role(RoleName=made["RoleName"])
    iam.create_role(RoleName=made["RoleName"], AssumeRolePolicyDocument=own(server))
    refused(session.invoke, "UnrecognizedClientException", 403, FunctionName=target)


def test_roles_are_taken_on_by_whom_they_trust(server, role):
    sts = api(server, "sts")
    ask = {"RoleSessionName": "one"}
    closed = role()
    message = refused(sts.assume_role, "AccessDenied", 403, RoleArn=closed["Arn"], **ask)
    assert "sts:AssumeRole" in message
    refused(sts.assume_role, "AccessDenied", 403, RoleArn=f"arn:aws:iam::{server.account}:role/nobody", **ask)
    keyed = json.loads(own(server))
    keyed["Statement"][0]["Condition"] = {"StringEquals": {"sts:ExternalId": "secret"}}
    keyed = role(json.dumps(keyed))
    refused(sts.assume_role, "AccessDenied", 403, RoleArn=keyed["Arn"], **ask)
    assert sts.assume_role(RoleArn=keyed["Arn"], ExternalId="secret", **ask)["Credentials"]
    made = role(own(server))
    refused(sts.assume_role, "ValidationError", 400, RoleArn=made["Arn"], RoleSessionName="a b")
    refused(sts.assume_role, "ValidationError", 400, RoleArn=made["Arn"], DurationSeconds=3601, **ask)
    refused(sts.assume_role, "MalformedPolicyDocument", 400, RoleArn=made["Arn"], Policy="{}", **ask)
    mine = sts.get_session_token(DurationSeconds=900)["Credentials"]
    assert api(server, "sts", mine).get_caller_identity()["Arn"].endswith(":user/admin")
    assert api(server, "lambda", mine).list_functions()


def test_a_function_is_given_a_role_that_trusts_lambda(server, iam, role, functions):
    archive = zips.package({"app.py": HELLO})
    create = {"Runtime": kinds.python(), "Handler": "app.handler", "Code": {"ZipFile": archive}}
    said = "The role defined for the function cannot be assumed by Lambda."
    other = role(trust(Service="ec2.amazonaws.com"))
    call = functions.api.create_function
    assert refused(call, "InvalidParameterValueException", 400, FunctionName="x", Role=other["Arn"], **create) == said
    name = functions.deploy({"app.py": HELLO}, kinds.python())
    change = functions.api.update_function_configuration
    assert refused(change, "InvalidParameterValueException", 400, FunctionName=name, Role=other["Arn"]) == said
    good = role()
    assert change(FunctionName=name, Role=good["Arn"])["Role"] == good["Arn"]
    # Who may make functions may not give them any role for that.
    maker = role(own(server))
    iam.put_role_policy(RoleName=maker["RoleName"], PolicyName="p", PolicyDocument=allow("lambda:*"))
    session = api(server, "lambda", assumed(server, maker))
    create |= {"FunctionName": f"f-{uuid.uuid4().hex[:12]}", "Role": good["Arn"]}
    message = refused(session.create_function, "AccessDeniedException", 403, **create)
    assert "iam:PassRole on resource: " + good["Arn"] in message
    passing = {"Condition": {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}}
    document = allow("iam:PassRole", resource=good["Arn"], **passing)
    iam.put_role_policy(RoleName=maker["RoleName"], PolicyName="pass", PolicyDocument=document)
    functions.made.append(session.create_function(**create)["FunctionName"])


def test_missing_roles_can_be_refused(new_server):
    server = new_server(arguments=["--missing-roles", "refuse"]).start()
    made = clients.Functions(server)
    archive = zips.package({"app.py": HELLO})
    create = {"FunctionName": "f", "Runtime": kinds.python(), "Handler": "app.handler", "Code": {"ZipFile": archive}}
    message = refused(made.api.create_function, "InvalidParameterValueException", 400, Role=ROLE, **create)
    assert message == "The role defined for the function cannot be assumed by Lambda."
    made.api.create_function(Role=f"arn:aws:iam::{server.account}:role/virga-function", **create)


def test_a_function_may_what_its_role_may(server, iam, role, functions):
    files = zips.folder(kinds.bundle("boto3"), leave_out=(".made-from", "bin")) | {"app.py": CALLS}
    target = functions.deploy({"app.py": HELLO}, kinds.python())
    arn = functions.api.get_function_configuration(FunctionName=target)["FunctionArn"]
    caller = functions.deploy(files, kinds.python(), MemorySize=512)
    said = functions.invoke(caller, {"call": target}).ok()
    assert said["code"] == "AccessDeniedException", said
    made = role()
    functions.api.update_function_configuration(FunctionName=caller, Role=made["Arn"])
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=caller, WaiterConfig=clients.FAST)
    said = functions.invoke(caller, {"call": target}).ok()
    who = f"arn:aws:sts::{server.account}:assumed-role/{made['RoleName']}/{caller}"
    assert said["message"].endswith(
        f"User: {who} is not authorized to perform: lambda:InvokeFunction on resource: {arn} because no identity-based "
        "policy allows the lambda:InvokeFunction action"
    ), said
    # What the role may is asked each time: no new instance is needed.
    document = allow("lambda:InvokeFunction", resource=arn)
    iam.put_role_policy(RoleName=made["RoleName"], PolicyName="call", PolicyDocument=document)
    said = functions.invoke(caller, {"call": target}).ok()
    assert said == {"answer": {"statusCode": 200, "body": "hello"}}, said
    iam.delete_role_policy(RoleName=made["RoleName"], PolicyName="call")
    assert functions.invoke(caller, {"call": target}).ok()["code"] == "AccessDeniedException"
    # The target can let it in by itself.
    let_in = {"FunctionName": target, "StatementId": "in", "Action": "lambda:InvokeFunction", "Principal": made["Arn"]}
    functions.api.add_permission(**let_in)
    assert functions.invoke(caller, {"call": target}).ok() == {"answer": {"statusCode": 200, "body": "hello"}}


def test_signed_urls_ask_for_the_permission(server, iam, role, functions):
    target = functions.deploy({"app.py": HELLO}, kinds.python())
    functions.api.create_function_url_config(FunctionName=target, AuthType="AWS_IAM")
    made = role(own(server))
    keys = assumed(server, made)

    def get():
        request = AWSRequest(method="GET", url=functions.path(target))
        signer = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
        SigV4Auth(signer, "lambda", REGION).add_auth(request)
        return requests.get(functions.path(target), headers=dict(request.headers), timeout=30)

    assert (get().status_code, get().json()) == (403, {"Message": "Forbidden"})
    by_url = {"Condition": {"StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}}}
    document = allow("lambda:InvokeFunctionUrl", **by_url)
    iam.put_role_policy(RoleName=made["RoleName"], PolicyName="p", PolicyDocument=document)
    assert get().status_code == 200
    iam.delete_role_policy(RoleName=made["RoleName"], PolicyName="p")
    assert get().status_code == 403
    let_in = {"FunctionName": target, "StatementId": "in", "Action": "lambda:InvokeFunctionUrl"}
    functions.api.add_permission(Principal=made["Arn"], FunctionUrlAuthType="AWS_IAM", **let_in)
    assert get().status_code == 200
    functions.api.remove_permission(FunctionName=target, StatementId="in")
    functions.api.add_permission(Principal=made["Arn"], FunctionUrlAuthType="NONE", **let_in)
    assert get().status_code == 403
