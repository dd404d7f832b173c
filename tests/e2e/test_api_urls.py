"""Function URLs: their configuration, and how they reach a function that speaks events."""

import base64
import json
import re
import urllib.parse

import pytest
import requests
from botocore.exceptions import ClientError

from support import kinds
from support.clients import code_of

SHOW = """
import base64
def handler(event, context):
    path = event["rawPath"]
    if path == "/full":
        return {"statusCode": 418, "headers": {"X-Own": "yes", "Content-Type": "text/x-own"}, "cookies": ["a=1", "b=2"],
                "body": "short and stout"}
    if path == "/binary":
        return {"statusCode": 200, "headers": {"Content-Type": "application/octet-stream"}, "isBase64Encoded": True,
                "body": base64.b64encode(bytes(range(256))).decode()}
    if path == "/raise":
        raise ValueError("secret detail")
    if path == "/plain":
        return {"any": "thing"}
    return {"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": __import__("json").dumps(event)}
"""


@pytest.fixture
def shower(functions):
    return functions.deploy({"app.py": SHOW}, kinds.python(), url=True)


def by_host(functions, name):
    """The URL's own host, sent to the loopback address since Python does not resolve it."""
    url = functions.api.get_function_url_config(FunctionName=name)["FunctionUrl"]
    return urllib.parse.urlsplit(url).netloc


def test_configurations(server, functions):
    name = functions.deploy({"app.py": SHOW}, kinds.python())
    with pytest.raises(functions.api.exceptions.ResourceNotFoundException):
        functions.api.get_function_url_config(FunctionName=name)
    made = functions.api.create_function_url_config(FunctionName=name, AuthType="NONE", Cors={"AllowOrigins": ["*"]})
    wanted = rf"http://[a-z0-9]{{32}}\.lambda-url\.us-east-1\.localhost:{server.port}/"
    assert re.fullmatch(wanted, made["FunctionUrl"]), made["FunctionUrl"]
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    with pytest.raises(functions.api.exceptions.ResourceConflictException):
        functions.api.create_function_url_config(FunctionName=name, AuthType="NONE")
    got = functions.api.get_function_url_config(FunctionName=name)
    assert got["FunctionUrl"] == made["FunctionUrl"] and got["Cors"]["AllowOrigins"] == ["*"]
    changed = functions.api.update_function_url_config(FunctionName=name, Cors={"AllowMethods": ["GET"]})
    assert changed["Cors"]["AllowMethods"] == ["GET"] and changed["FunctionUrl"] == made["FunctionUrl"]
    listed = functions.api.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"]
    assert [each["FunctionUrl"] for each in listed] == [made["FunctionUrl"]]
    functions.api.delete_function_url_config(FunctionName=name)
    with pytest.raises(functions.api.exceptions.ResourceNotFoundException):
        functions.api.get_function_url_config(FunctionName=name)


def test_a_function_without_a_url_has_none(server, functions):
    name = functions.deploy({"app.py": SHOW}, kinds.python())
    assert requests.get(functions.path(name), timeout=10).status_code in (403, 404)
    functions.api.create_function_url_config(FunctionName=name, AuthType="NONE")
    assert requests.get(functions.path(name), timeout=30).status_code == 200
    host = by_host(functions, name)
    functions.api.delete_function_url_config(FunctionName=name)
    assert requests.get(functions.path(name), timeout=10).status_code in (403, 404)
    assert requests.get(server.url, headers={"Host": host}, timeout=10).status_code in (403, 404)


def test_the_event_is_lambdas(server, functions, shower):
    answer = requests.post(
        f"{server.url}/a%20b/c?x=1&x=2&y=%26", data="text", timeout=30,
        headers={"Host": by_host(functions, shower), "X-Mine": "m", "Cookie": "one=1; two=2", "Content-Type": "text/plain"},
    )  # fmt: skip
    event = answer.json()
    assert event["version"] == "2.0" and event["routeKey"] == "$default"
    assert event["rawPath"] in ("/a b/c", "/a%20b/c") and event["rawQueryString"] == "x=1&x=2&y=%26"
    assert event["queryStringParameters"] == {"x": "1,2", "y": "&"}
    assert event["headers"]["x-mine"] == "m" and event["cookies"] == ["one=1", "two=2"]
    assert event["body"] == "text" and event["isBase64Encoded"] is False
    http = event["requestContext"]["http"]
    assert http["method"] == "POST" and http["sourceIp"] == "127.0.0.1" and http["protocol"] == "HTTP/1.1"
    context = event["requestContext"]
    assert context["stage"] == "$default" and context["requestId"] and context["timeEpoch"] > 1_700_000_000_000
    assert context["domainName"] == by_host(functions, shower).split(":")[0]


def test_binary_bodies_arrive_in_base64(functions, shower):
    event = requests.post(functions.path(shower, "b"), data=bytes(range(256)), timeout=30).json()
    assert event["isBase64Encoded"] is True and base64.b64decode(event["body"]) == bytes(range(256))


def test_answers_become_responses(functions, shower):
    full = requests.get(functions.path(shower, "full"), timeout=30)
    assert full.status_code == 418 and full.text == "short and stout" and full.headers["X-Own"] == "yes"
    assert full.headers["Content-Type"] == "text/x-own" and full.cookies.get_dict() == {"a": "1", "b": "2"}
    assert requests.get(functions.path(shower, "binary"), timeout=30).content == bytes(range(256))
    plain = requests.get(functions.path(shower, "plain"), timeout=30)
    assert plain.json() == {"any": "thing"} and plain.headers["Content-Type"] == "application/json"


def test_an_error_shows_nothing_of_itself(functions, shower):
    answer = requests.get(functions.path(shower, "raise"), timeout=30)
    assert answer.status_code == 502 and "secret detail" not in answer.text


def test_cors_is_answered_for_the_function(functions, shower):
    functions.api.update_function_url_config(
        FunctionName=shower, Cors={"AllowOrigins": ["https://app.example"], "AllowMethods": ["PUT"], "MaxAge": 60}
    )
    preflight = requests.options(
        functions.path(shower), timeout=10,
        headers={"Origin": "https://app.example", "Access-Control-Request-Method": "PUT"},
    )  # fmt: skip
    assert preflight.status_code in (200, 204)
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "PUT" in preflight.headers["Access-Control-Allow-Methods"]
    simple = requests.get(functions.path(shower), headers={"Origin": "https://app.example"}, timeout=30)
    assert simple.headers["Access-Control-Allow-Origin"] == "https://app.example"
    other = requests.get(functions.path(shower), headers={"Origin": "https://other.example"}, timeout=30)
    assert "Access-Control-Allow-Origin" not in other.headers


def test_a_forged_authorization_header_does_not_leave_the_function(server, functions, shower):
    forged = "AWS4-HMAC-SHA256 Credential=AKIAX/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=00"
    answer = requests.get(
        f"{server.url}/2015-03-31/functions/", timeout=30,
        headers={"Host": by_host(functions, shower), "Authorization": forged},
    )  # fmt: skip
    assert answer.status_code == 200 and json.loads(answer.text)["rawPath"] == "/2015-03-31/functions/"


def test_an_unknown_url_host(server):
    host = f"{'a' * 32}.lambda-url.us-east-1.localhost:{server.port}"
    assert requests.get(server.url, headers={"Host": host}, timeout=10).status_code in (403, 404)


def test_code_of_url_errors(functions):
    with pytest.raises(ClientError) as missing:
        functions.api.create_function_url_config(FunctionName="not-there", AuthType="NONE")
    assert code_of(missing.value) == "ResourceNotFoundException"
