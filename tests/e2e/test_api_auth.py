"""Who may call, and how requests that cannot be served are told so."""

import datetime
import json
import stat

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from support import clients, kinds, zips
from support.clients import ROLE, code_of, signed
from support.server import REGION

FUNCTIONS = "/2015-03-31/functions"


def create_body(name, **members):
    import base64

    archive = base64.b64encode(zips.package(kinds.python_function("echo.py"))).decode()
    body = {"FunctionName": name, "Runtime": kinds.python(), "Handler": "app.handler", "Role": ROLE,
            "Code": {"ZipFile": archive}}  # fmt: skip
    return json.dumps(body | members)


def test_an_unknown_key(server):
    with pytest.raises(ClientError) as refused:
        clients.client(server, key="AKIAUNKNOWN000000000").list_functions()
    assert code_of(refused.value) == "UnrecognizedClientException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_a_wrong_secret(server):
    with pytest.raises(ClientError) as refused:
        clients.client(server, secret="wrong").list_functions()
    assert code_of(refused.value) == "InvalidSignatureException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_a_wrong_clock(server):
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    request = AWSRequest(method="GET", url=server.url + FUNCTIONS + "/")
    signer = SigV4Auth(Credentials(server.key, server.secret), "lambda", REGION)
    stamp = past.strftime("%Y%m%dT%H%M%SZ")
    request.context["timestamp"] = stamp
    request.headers["X-Amz-Date"] = stamp
    string = signer.string_to_sign(request, signer.canonical_request(request))
    signed_headers = signer.signed_headers(signer.headers_to_sign(request))
    header = (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={signed_headers}, "
        f"Signature={signer.signature(string, request)}"
    )
    answer = requests.get(request.url, headers={"X-Amz-Date": stamp, "Authorization": header}, timeout=10)
    assert answer.status_code == 403
    assert code_of(answer) == "InvalidSignatureException" and "expired" in answer.text.lower()


def test_no_signature(server):
    answer = requests.get(server.url + FUNCTIONS + "/", timeout=10)
    assert answer.status_code == 403 and code_of(answer) == "MissingAuthenticationTokenException"


def test_half_a_signature(server):
    answer = requests.get(
        server.url + FUNCTIONS + "/", headers={"Authorization": "AWS4-HMAC-SHA256 Credential=x"}, timeout=10
    )
    assert answer.status_code in (400, 403) and code_of(answer) == "IncompleteSignatureException"


def test_a_changed_body_is_noticed(server):
    request = AWSRequest(method="POST", url=f"{server.url}{FUNCTIONS}/x/invocations", data=b"{}")
    SigV4Auth(Credentials(server.key, server.secret), "lambda", REGION).add_auth(request)
    answer = requests.post(request.url, data=b'{"a":1}', headers=dict(request.headers), timeout=10)
    assert answer.status_code == 403 and code_of(answer) == "InvalidSignatureException"


@pytest.mark.parametrize(
    "service, call, name",
    [
        ("lambda", lambda api: api.list_capacity_providers(), "ListCapacityProviders"),
        ("lambda", lambda api: api.list_event_source_mappings(), "ListEventSourceMappings"),
        ("dynamodb", lambda api: api.list_tables(), "dynamodb"),
        ("kinesis", lambda api: api.list_streams(), "kinesis"),
        ("logs", lambda api: api.describe_metric_filters(logGroupName="/x"), "DescribeMetricFilters"),
        (
            "logs",
            lambda api: api.start_query(logGroupName="/x", startTime=0, endTime=1, queryString="fields @message"),
            "StartQuery",
        ),
        ("sns", lambda api: api.list_topics(), "sns"),
        ("s3", lambda api: api.list_buckets(), "s3"),
    ],
)
def test_what_is_not_built_says_its_name(server, service, call, name):
    with pytest.raises(ClientError) as refused:
        call(clients.client(server, service, check=False))
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] >= 400
    assert name.lower() in str(refused.value.response["Error"]).lower(), refused.value.response


def test_members_that_the_model_does_not_know_are_ignored(server, functions):
    functions.made.append("unknown-members")
    answer = signed(server, "POST", FUNCTIONS, create_body("unknown-members", Colour="blue", Nested={"a": [1]}))
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    "members",
    [
        {"VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}},
        {"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:111122223333:q"}},
        {"KMSKeyArn": "arn:aws:kms:us-east-1:111122223333:key/x"},
        {"PackageType": "Image"},
        {"Architectures": ["arm64"]},
    ],
    ids=lambda members: next(iter(members)),
)
def test_known_members_that_are_not_built_are_refused(server, members):
    answer = signed(server, "POST", FUNCTIONS, create_body("unbuilt-members", **members))
    assert answer.status_code == 400, answer.text
    assert next(iter(members)) in answer.text, answer.text
    assert signed(server, "GET", f"{FUNCTIONS}/unbuilt-members").status_code == 404


def test_known_members_at_their_defaults_are_taken(server, functions):
    functions.made.append("default-members")
    defaults = {
        "Layers": [], "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []}, "TracingConfig": {"Mode": "PassThrough"},
        "FileSystemConfigs": [], "SnapStart": {"ApplyOn": "None"}, "PackageType": "Zip", "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512}, "Publish": False, "Description": "",
    }  # fmt: skip
    answer = signed(server, "POST", FUNCTIONS, create_body("default-members", **defaults))
    assert answer.status_code == 201, answer.text


def test_generated_keys_are_kept_private(new_server):
    server = new_server(keys=False).start()
    file = server.data / "credentials"
    text = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    everything = "\n".join(server.lines) + server.tail()
    secret = next(word for word in text.replace('"', " ").replace("=", " ").replace(",", " ").split() if len(word) == 40)
    assert everything.count(secret) <= 1, "the secret is shown at first start, once at most"
    for path in server.data.rglob("*"):
        if path.is_file() and path != file:
            assert secret.encode() not in path.read_bytes(), f"{path.name} holds the secret in the clear"
    server.stop()
    server.log.unlink(missing_ok=True)
    server.start()
    assert secret not in "\n".join(server.lines) + server.tail(), "never again"


def test_the_first_caller_is_the_user_admin(server):
    answer = clients.client(server, secret="wrong", check=False)
    with pytest.raises(ClientError):
        answer.list_functions()
    try:
        identity = clients.client(server, "sts", check=False).get_caller_identity()
    except ClientError as absent:
        assert "GetCallerIdentity" in str(absent) or "sts" in str(absent).lower()
        return
    assert identity["Arn"] == f"arn:aws:iam::{server.account}:user/admin"
