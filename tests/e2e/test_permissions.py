"""Resource policies as boto3 makes them, and function URLs that only signed requests may call."""

import hashlib
import json
import urllib.parse

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from support import kinds
from support.clients import code_of
from support.server import REGION

ECHO = """
import json
def handler(event, context):
    return {"statusCode": 200, "body": json.dumps({"context": event.get("requestContext"), "body": event.get("body")})}
"""
S3 = {"Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}


@pytest.fixture
def echo(functions):
    return functions.deploy({"app.py": ECHO}, kinds.python())


def refused(call, code, status, **arguments):
    """Makes a call that must be refused so; the message."""
    with pytest.raises(ClientError) as error:
        call(**arguments)
    answer = error.value.response
    assert (code_of(error.value), answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status), answer
    return answer["Error"]["Message"]


def test_a_policy_is_made_of_statements(functions, echo):
    api = functions.api
    arn = api.get_function_configuration(FunctionName=echo)["FunctionArn"]
    message = refused(api.get_policy, "ResourceNotFoundException", 404, FunctionName=echo)
    assert message == "The resource you requested does not exist."
    added = api.add_permission(
        FunctionName=echo, StatementId="from-s3", SourceArn="arn:aws:s3:::bucket", SourceAccount="123456789012", **S3
    )
    assert added["ResponseMetadata"]["HTTPStatusCode"] == 201
    statement = {
        "Sid": "from-s3", "Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "lambda:InvokeFunction",
        "Resource": arn, "Condition": {"StringEquals": {"AWS:SourceAccount": "123456789012"},
                                       "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"}},
    }  # fmt: skip
    assert json.loads(added["Statement"]) == statement
    policy = api.get_policy(FunctionName=echo)
    assert json.loads(policy["Policy"]) == {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}
    refused(api.add_permission, "ResourceConflictException", 409, FunctionName=echo, StatementId="from-s3", **S3)
    stale = {"FunctionName": echo, "RevisionId": "00000000-0000-4000-8000-000000000000"}
    refused(api.add_permission, "PreconditionFailedException", 412, StatementId="two", **stale, **S3)
    refused(api.remove_permission, "PreconditionFailedException", 412, StatementId="from-s3", **stale)
    second = api.add_permission(FunctionName=echo, StatementId="two", RevisionId=policy["RevisionId"], **S3)
    assert json.loads(second["Statement"])["Sid"] == "two"
    assert api.get_policy(FunctionName=echo)["RevisionId"] != policy["RevisionId"]
    refused(api.remove_permission, "ResourceNotFoundException", 404, FunctionName=echo, StatementId="three")
    for one in ("from-s3", "two"):
        assert api.remove_permission(FunctionName=echo, StatementId=one)["ResponseMetadata"]["HTTPStatusCode"] == 204
    refused(api.get_policy, "ResourceNotFoundException", 404, FunctionName=echo)


def test_each_version_has_its_own(functions, echo):
    api = functions.api
    version = api.publish_version(FunctionName=echo)["Version"]
    added = api.add_permission(FunctionName=echo, Qualifier=version, StatementId="one", **S3)
    assert json.loads(added["Statement"])["Resource"].endswith(f":function:{echo}:{version}")
    refused(api.get_policy, "ResourceNotFoundException", 404, FunctionName=echo)
    assert "one" in api.get_policy(FunctionName=echo, Qualifier=version)["Policy"]
    refused(api.add_permission, "InvalidParameterValueException", 400, FunctionName=echo, Qualifier="$LATEST",
            StatementId="one", **S3)  # fmt: skip
    refused(api.add_permission, "ResourceNotFoundException", 404, FunctionName=echo, Qualifier="99",
            StatementId="one", **S3)  # fmt: skip
    refused(api.get_policy, "ResourceNotFoundException", 404, FunctionName="nobody-made-it")


def test_bad_permissions_are_refused(functions, echo):
    api = functions.api
    add = {"FunctionName": echo, "StatementId": "one"}
    refused(api.add_permission, "InvalidParameterValueException", 400, **add, **(S3 | {"Principal": "nobody"}))
    refused(api.add_permission, "InvalidParameterValueException", 400, **add,
            **(S3 | {"Principal": "arn:aws:iam::12:user/x"}))  # fmt: skip
    refused(api.add_permission, "InvalidParameterValueException", 400, FunctionUrlAuthType="NONE", **add, **S3)
    size, last = 0, None
    for number in range(200):
        try:
            api.add_permission(FunctionName=echo, StatementId=f"{number:0>100}", **S3)
        except ClientError as error:
            last = error
            break
        size = len(api.get_policy(FunctionName=echo)["Policy"]) if number > 50 else 0
    assert code_of(last) == "PolicyLengthExceededException" and 20_000 < size <= 20_480


def test_whole_documents(functions, echo):
    api = functions.api
    arn = api.get_function_configuration(FunctionName=echo)["FunctionArn"]
    document = {"Version": "2012-10-17", "Statement": [
        {"Sid": "no", "Effect": "Deny", "Principal": "*", "Action": "lambda:InvokeFunction", "Resource": arn}]}  # fmt: skip
    put = api.put_resource_policy(ResourceArn=arn, Policy=json.dumps(document))
    assert json.loads(put["Policy"]) == document
    assert api.get_resource_policy(ResourceArn=arn)["RevisionId"] == put["RevisionId"]
    message = refused(api.invoke, "AccessDeniedException", 403, FunctionName=echo)
    assert message.endswith("with an explicit deny in a resource-based policy"), message
    refused(api.put_resource_policy, "InvalidParameterValueException", 400, ResourceArn=arn, Policy='{"Statement":1}')
    refused(api.delete_resource_policy, "PreconditionFailedException", 412, ResourceArn=arn,
            RevisionId="00000000-0000-4000-8000-000000000000")  # fmt: skip
    api.delete_resource_policy(ResourceArn=arn, RevisionId=put["RevisionId"])
    functions.invoke(echo).ok()


def test_policies_survive_a_crash(new_server):
    from support.clients import Functions

    server = new_server().start()
    functions = Functions(server)
    name = functions.deploy({"app.py": ECHO}, kinds.python())
    functions.api.add_permission(FunctionName=name, StatementId="one", **S3)
    before = functions.api.get_policy(FunctionName=name)
    server.kill()
    server.start()
    after = Functions(server).api.get_policy(FunctionName=name)
    assert (after["Policy"], after["RevisionId"]) == (before["Policy"], before["RevisionId"])


def signed_url(server, url, method="GET", body=b"", key=None, secret=None, token=None, headers=None, service="lambda"):
    """A request to a function URL, signed as the SDKs sign."""
    request = AWSRequest(method=method, url=url, data=body, headers=headers or {})
    SigV4Auth(Credentials(key or server.key, secret or server.secret, token), service, REGION).add_auth(request)
    return dict(request.headers)


def test_signed_urls(server, functions, echo):
    made = functions.api.create_function_url_config(FunctionName=echo, AuthType="AWS_IAM")
    assert made["AuthType"] == "AWS_IAM"
    url = functions.path(echo, "some/path?a=b")
    nobody = requests.get(url, timeout=10)
    assert (nobody.status_code, nobody.json()) == (403, {"Message": "Forbidden"})
    assert nobody.headers["x-amzn-errortype"] == "AccessDeniedException"
    answer = requests.get(url, headers=signed_url(server, url), timeout=30)
    assert answer.status_code == 200, answer.text
    context = answer.json()["context"]
    identity = context["authorizer"]["iam"]
    assert context["accountId"] == identity["accountId"] and context["authentication"] is None
    assert identity["accessKey"] == server.key and identity["userArn"].endswith(":user/admin")
    assert identity["cognitoIdentity"] is None and identity["principalOrgId"] is None
    for wrong in ({"secret": "x" * 40}, {"key": "AKIAAAAAAAAAAAAAAAAA"}, {"service": "s3"}):
        answer = requests.get(url, headers=signed_url(server, url, **wrong), timeout=10)
        assert answer.status_code == 403 and "message" in answer.json(), wrong
    # By its own host the same holds.
    host = urllib.parse.urlsplit(made["FunctionUrl"]).netloc
    headers = signed_url(server, f"http://{host}/x")
    answer = requests.get(f"{server.url}/x", headers=headers | {"Host": host}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert requests.get(f"{server.url}/x", headers={"Host": host}, timeout=10).status_code == 403
    functions.api.update_function_url_config(FunctionName=echo, AuthType="NONE")
    assert requests.get(url, timeout=30).status_code == 200


def test_the_bodies_of_signed_urls(server, functions, echo):
    functions.api.create_function_url_config(FunctionName=echo, AuthType="AWS_IAM")
    url = functions.path(echo)
    post = lambda sent, headers: requests.post(url, data=sent, headers=headers, timeout=30)  # noqa: E731
    text = {"Content-Type": "text/plain"}
    plain = signed_url(server, url, "POST", b"hello", headers=text)
    assert post(b"hello", plain).json()["body"] == "hello"
    assert post(b"hellO", plain).status_code == 403
    stated = text | {"X-Amz-Content-SHA256": hashlib.sha256(b"hello").hexdigest()}
    stated = signed_url(server, url, "POST", b"hello", headers=stated)
    assert post(b"hello", stated).json()["body"] == "hello"
    assert post(b"hellO", stated).status_code in (400, 403)
    unsigned = signed_url(server, url, "POST", b"hello", headers=text | {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    assert post(b"hello", unsigned).status_code == 403


def test_a_policy_keeps_strangers_from_a_public_url(functions, echo):
    api = functions.api
    api.create_function_url_config(FunctionName=echo, AuthType="NONE")
    assert requests.get(functions.path(echo), timeout=30).status_code == 200
    arn = api.get_function_configuration(FunctionName=echo)["FunctionArn"]
    deny = {"Effect": "Deny", "Principal": "*", "Action": "lambda:InvokeFunctionUrl", "Resource": arn}
    api.put_resource_policy(ResourceArn=arn, Policy=json.dumps({"Version": "2012-10-17", "Statement": deny}))
    assert requests.get(functions.path(echo), timeout=10).status_code == 403
    api.delete_resource_policy(ResourceArn=arn)
    assert requests.get(functions.path(echo), timeout=30).status_code == 200
