"""Reserved and provisioned concurrency through boto3: shapes, rules, words, and what of them is kept."""

import pytest
import requests
from botocore.exceptions import ClientError

from support import clients, kinds, poll
from support.clients import FAST, code_of, signed


def refused(code, call, **arguments):
    """The message of a refusal."""
    with pytest.raises(ClientError) as error:
        call(**arguments)
    assert code_of(error.value) == code, error.value
    return error.value.response["Error"]["Message"]


@pytest.fixture
def echo(functions):
    return functions.deploy(kinds.python_function("echo.py"), kinds.python())


@pytest.fixture
def version(functions, echo):
    functions.api.publish_version(FunctionName=echo)
    functions.api.get_waiter("published_version_active").wait(FunctionName=echo, Qualifier="1", WaiterConfig=FAST)
    return "1"


def test_reserving(functions, echo):
    api = functions.api
    assert "ReservedConcurrentExecutions" not in api.get_function_concurrency(FunctionName=echo)
    before = api.get_account_settings()["AccountLimit"]
    answer = api.put_function_concurrency(FunctionName=echo, ReservedConcurrentExecutions=7)
    assert answer["ReservedConcurrentExecutions"] == 7
    assert api.get_function_concurrency(FunctionName=echo)["ReservedConcurrentExecutions"] == 7
    assert api.get_function(FunctionName=echo)["Concurrency"] == {"ReservedConcurrentExecutions": 7}
    after = api.get_account_settings()["AccountLimit"]
    assert after["ConcurrentExecutions"] == before["ConcurrentExecutions"] == 1000, "the server's --account-concurrency"
    assert before["UnreservedConcurrentExecutions"] - after["UnreservedConcurrentExecutions"] == 7
    for _ in range(2):
        assert api.delete_function_concurrency(FunctionName=echo)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert "Concurrency" not in api.get_function(FunctionName=echo)
    assert functions.invoke(echo).ok()


def test_reserving_has_rules(functions, echo, version):
    put = functions.api.put_function_concurrency
    message = refused("InvalidParameterValueException", put, FunctionName=echo, ReservedConcurrentExecutions=901)
    assert message == (
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below "
        "its minimum value of [100]."
    )
    assert "ReservedConcurrentExecutions" not in functions.api.get_function_concurrency(FunctionName=echo)
    message = refused("InvalidParameterValueException", put, FunctionName=f"{echo}:1", ReservedConcurrentExecutions=1)
    assert message.startswith("This operation is permitted on Lambda functions only.")
    refused("ResourceNotFoundException", put, FunctionName="nobody", ReservedConcurrentExecutions=1)
    for call in (functions.api.get_function_concurrency, functions.api.delete_function_concurrency):
        refused("ResourceNotFoundException", call, FunctionName="nobody")
    path = f"/2017-10-31/functions/{echo}/concurrency"
    for body, code in ((b"{}", "ValidationException"), (b'{"ReservedConcurrentExecutions":-1}', "ValidationException"),
                       (b'{"ReservedConcurrentExecutions":"1"}', "SerializationException")):  # fmt: skip
        assert code_of(signed(functions.server, "PUT", path, body)) == code


def test_reserved_concurrency_is_a_cap(functions, echo):
    api = functions.api
    api.put_function_concurrency(FunctionName=echo, ReservedConcurrentExecutions=0)
    with pytest.raises(ClientError) as none:
        functions.invoke(echo)
    assert code_of(none.value) == "TooManyRequestsException"
    assert none.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert int(none.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"]) >= 1
    api.delete_function_concurrency(FunctionName=echo)
    assert functions.invoke(echo).ok()


def test_provisioning(functions, echo, version):
    api, name = functions.api, {"FunctionName": echo, "Qualifier": version}
    missing = "No Provisioned Concurrency Config found for this function"
    get = api.get_provisioned_concurrency_config
    assert refused("ProvisionedConcurrencyConfigNotFoundException", get, **name) == missing
    made = api.put_provisioned_concurrency_config(**name, ProvisionedConcurrentExecutions=2)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert (made["RequestedProvisionedConcurrentExecutions"], made["Status"]) == (2, "IN_PROGRESS")
    ready = poll.until(lambda: get(**name)["Status"] == "READY" and get(**name), "both instances are ready")
    assert ready["AllocatedProvisionedConcurrentExecutions"] == ready["AvailableProvisionedConcurrentExecutions"] == 2
    (listed,) = api.list_provisioned_concurrency_configs(FunctionName=echo)["ProvisionedConcurrencyConfigs"]
    assert listed["FunctionArn"].endswith(f":function:{echo}:1")
    assert listed["LastModified"] == made["LastModified"]
    for _ in range(2):
        deleted = api.delete_provisioned_concurrency_config(**name)
        assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    refused("ProvisionedConcurrencyConfigNotFoundException", get, **name)
    assert api.list_provisioned_concurrency_configs(FunctionName=echo)["ProvisionedConcurrencyConfigs"] == []


def test_provisioning_has_rules(functions, echo, version):
    api = functions.api
    put = api.put_provisioned_concurrency_config
    message = refused(
        "InvalidParameterValueException", put, FunctionName=echo, Qualifier="$LATEST", ProvisionedConcurrentExecutions=1
    )
    assert message == "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    for qualifier, said in (("2", "Function not found: arn:"), ("live", "Cannot find alias arn: arn:")):
        message = refused(
            "ResourceNotFoundException", put, FunctionName=echo, Qualifier=qualifier, ProvisionedConcurrentExecutions=1
        )
        assert message.startswith(said) and message.endswith(f":{echo}:{qualifier}")
    api.put_function_concurrency(FunctionName=echo, ReservedConcurrentExecutions=1)
    message = refused(
        "InvalidParameterValueException", put, FunctionName=echo, Qualifier="1", ProvisionedConcurrentExecutions=2
    )
    assert message.startswith("Requested Provisioned Concurrency should not be greater than")
    path = f"/2019-09-30/functions/{echo}/provisioned-concurrency"
    assert code_of(signed(functions.server, "GET", path)) == "ValidationException", "the qualifier is required"
    body = b'{"ProvisionedConcurrentExecutions":0}'
    assert code_of(signed(functions.server, "PUT", f"{path}?Qualifier=1", body)) == "ValidationException"


def test_what_is_asked_for_survives_and_goes_with_the_function(new_server):
    server = new_server(arguments=["--account-concurrency", "150"]).start()
    functions = clients.Functions(server)
    name = functions.deploy(kinds.python_function("echo.py"), kinds.python(), Publish=True)
    functions.api.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=30)
    functions.api.put_provisioned_concurrency_config(FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=1)
    limit = functions.api.get_account_settings()["AccountLimit"]
    assert (limit["ConcurrentExecutions"], limit["UnreservedConcurrentExecutions"]) == (150, 120)
    server.kill()
    server.start()
    assert functions.api.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 30
    kept = functions.api.get_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
    assert kept["RequestedProvisionedConcurrentExecutions"] == 1
    functions.api.delete_function(FunctionName=name, Qualifier="1")
    assert not functions.api.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"]
    functions.delete_all()
    assert functions.api.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 150


def test_a_refused_caller_is_told_when_to_come_back(new_server):
    """With no room in the queue the first call, which would wait for an instance, is one too many."""
    server = new_server(arguments=["--max-queue", "0"]).start()
    functions = clients.Functions(server)
    event = functions.deploy(kinds.python_function("echo.py"), kinds.python(), url=True)
    web = functions.deploy({"s.mjs": "import http from 'node:http'; http.createServer().listen(process.env.PORT)"},
                           kinds.node(), "s.mjs", tags=kinds.WEB, url=True)  # fmt: skip
    api = signed(server, "POST", f"/2015-03-31/functions/{event}/invocations", b"{}")
    assert code_of(api) == "TooManyRequestsException" and api.json()["Reason"] == "ConcurrentInvocationLimitExceeded"
    for answer in (api, requests.get(functions.path(event), timeout=10), requests.get(functions.path(web), timeout=10)):
        assert answer.status_code == 429
        milliseconds = int(answer.headers["retry-after-ms"])
        assert milliseconds > 0 and int(answer.headers["Retry-After"]) == -(-milliseconds // 1000)


def test_multiplexing_is_asked_for(functions):
    code = {"app.py": "import os\ndef handler(event, context):\n    return os.environ.get('AWS_LAMBDA_MAX_CONCURRENCY')\n"}
    plain = functions.deploy(code, kinds.python())
    many = functions.deploy(code, kinds.python(), tags={"virga:soft-concurrency": "2", "virga:hard-concurrency": "5"})
    assert functions.invoke(plain).ok() is None
    assert functions.invoke(many).ok() == "5"
