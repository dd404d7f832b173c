"""Aliases through boto3 and over HTTP: what they lead to, by weight, by URL, across a crash."""

import collections

import pytest
import requests

from support import kinds, zips
from support.clients import FAST, Functions, code_of

HANDLER = """
import os
def handler(event, context):
    return [os.environ['AWS_LAMBDA_FUNCTION_VERSION'], context.function_version, context.invoked_function_arn, WORD]
"""


def source(word):
    return {"app.py": HANDLER.replace("WORD", repr(word))}


def two_versions(functions):
    """A function with the versions 1 and 2, whose code says `one` and `two`."""
    name = functions.deploy(source("one"), kinds.python())
    functions.api.publish_version(FunctionName=name)
    functions.api.update_function_code(FunctionName=name, ZipFile=zips.package(source("two")))
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=FAST)
    functions.api.publish_version(FunctionName=name)
    return name


@pytest.fixture
def name(functions):
    return two_versions(functions)


def test_an_alias_is_made_read_changed_listed_and_deleted(functions, name):
    api = functions.api
    made = api.create_alias(FunctionName=name, Name="live", FunctionVersion="1", Description="what users get")
    assert made["AliasArn"].endswith(f":function:{name}:live") and "RoutingConfig" not in made
    read = {key: value for key, value in api.get_alias(FunctionName=name, Name="live").items() if key != "ResponseMetadata"}
    assert read == {key: value for key, value in made.items() if key != "ResponseMetadata"}
    said = functions.invoke(name, Qualifier="live")
    assert said.ok() == ["1", "1", made["AliasArn"], "one"] and said.version == "1"
    assert functions.invoke(made["AliasArn"]).ok()[3] == functions.invoke(f"{name}:live").ok()[3] == "one"
    changed = api.update_alias(FunctionName=name, Name="live", FunctionVersion="2", RevisionId=made["RevisionId"])
    assert changed["Description"] == "what users get" and changed["RevisionId"] != made["RevisionId"]
    assert functions.invoke(name, Qualifier="live").ok() == ["2", "2", made["AliasArn"], "two"]
    assert api.get_function_configuration(FunctionName=name, Qualifier="live")["FunctionArn"] == made["AliasArn"]
    assert api.get_function(FunctionName=name, Qualifier="live")["Configuration"]["Version"] == "2"
    for other in ("b", "c"):
        api.create_alias(FunctionName=name, Name=other, FunctionVersion="1")
    pages = api.get_paginator("list_aliases").paginate(FunctionName=name, PaginationConfig={"PageSize": 1})
    assert [alias["Name"] for page in pages for alias in page["Aliases"]] == ["b", "c", "live"]
    assert [each["Name"] for each in api.list_aliases(FunctionName=name, FunctionVersion="2")["Aliases"]] == ["live"]
    api.delete_alias(FunctionName=name, Name="live")
    api.delete_alias(FunctionName=name, Name="live")
    with pytest.raises(api.exceptions.ResourceNotFoundException, match="Cannot find alias arn"):
        api.get_alias(FunctionName=name, Name="live")
    with pytest.raises(api.exceptions.ResourceNotFoundException, match="Function not found"):
        functions.invoke(name, Qualifier="live")


def test_calls_are_divided_by_weight(functions, name):
    weights = {"AdditionalVersionWeights": {"2": 0.3}}
    made = functions.api.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=weights)
    assert made["RoutingConfig"] == weights
    ran = collections.Counter()
    for _ in range(600):
        said = functions.invoke(name, Qualifier="live")
        assert said.ok()[0] == said.version
        ran[said.version] += 1
    # More than four standard deviations to both sides.
    assert set(ran) == {"1", "2"} and 600 * 0.22 < ran["2"] < 600 * 0.38, ran
    functions.api.update_alias(FunctionName=name, Name="live", RoutingConfig={"AdditionalVersionWeights": {}})
    assert {functions.invoke(name, Qualifier="live").version for _ in range(30)} == {"1"}


def test_aliases_have_rules(functions, name):
    api = functions.api

    def refused(code, match, **members):
        request = {"FunctionName": name, "Name": "bad", "FunctionVersion": "1"} | members
        with pytest.raises(api.exceptions.ClientError, match=match) as failed:
            api.create_alias(**request)
        assert code_of(failed.value) == code

    def weights(**versions):
        return {"AdditionalVersionWeights": {number.strip("_"): weight for number, weight in versions.items()}}

    refused("ValidationException", "'name' failed to satisfy constraint", Name="17")
    refused("ValidationException", "'name' failed to satisfy constraint", Name="a.b")
    refused("ValidationException", "less than or equal to 128", Name="a" * 129)
    refused("ValidationException", "'functionVersion'", FunctionVersion="live")
    refused("ValidationException", "'description'", Description="d" * 257)
    refused("ValidationException", "additionalVersionWeights", RoutingConfig=weights(_2=1.5))
    refused("InvalidParameterValueException", "cannot be greater than 1", RoutingConfig=weights(_1=0.1, _2=0.1))
    refused("InvalidParameterValueException", "already included", RoutingConfig=weights(_1=0.1))
    refused("ResourceNotFoundException", "Function not found: .*:9", RoutingConfig=weights(_9=0.1))
    refused("InvalidParameterValueException", "LATEST", FunctionVersion="$LATEST", RoutingConfig=weights(_1=0.1))
    refused("ResourceNotFoundException", "Function not found", FunctionName="nobody")
    longest = api.create_alias(FunctionName=name, Name="a" * 128, FunctionVersion="1", Description="d" * 256)
    with pytest.raises(api.exceptions.ResourceConflictException, match="Alias already exists"):
        api.create_alias(FunctionName=name, Name="a" * 128, FunctionVersion="1")
    with pytest.raises(api.exceptions.PreconditionFailedException):
        api.update_alias(FunctionName=name, Name="a" * 128, RevisionId="stale")
    with pytest.raises(api.exceptions.ResourceNotFoundException):
        api.update_alias(FunctionName=name, Name="nobody", FunctionVersion="1")
    with pytest.raises(api.exceptions.ResourceConflictException, match="following aliases reference it"):
        api.delete_function(FunctionName=name, Qualifier="1")
    api.update_alias(FunctionName=name, Name="a" * 128, FunctionVersion="2", RevisionId=longest["RevisionId"])
    api.delete_function(FunctionName=name, Qualifier="1")
    api.delete_function(FunctionName=name, Qualifier="1")
    assert [each["Version"] for each in api.list_versions_by_function(FunctionName=name)["Versions"]] == ["$LATEST", "2"]


def test_each_qualifier_has_a_url(functions, name):
    api = functions.api
    arn = api.create_alias(FunctionName=name, Name="live", FunctionVersion="1")["AliasArn"]
    made = {q: api.create_function_url_config(FunctionName=name, AuthType="NONE", Qualifier=q) for q in ("live",)}
    made[None] = api.create_function_url_config(FunctionName=name, AuthType="NONE")
    assert made["live"]["FunctionArn"] == arn and made[None]["FunctionArn"] == arn.removesuffix(":live")
    assert made["live"]["FunctionUrl"] != made[None]["FunctionUrl"]

    def over_http(qualifier):
        host = made[qualifier]["FunctionUrl"].split("/")[2]
        return requests.get(functions.server.url, headers={"Host": host}, timeout=30).json()

    assert over_http("live") == ["1", "1", arn, "one"]
    assert over_http(None)[3] == "two"
    assert requests.get(functions.path(f"{name}:live"), timeout=30).json()[3] == "one"
    api.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    assert over_http("live") == ["2", "2", arn, "two"]
    listed = api.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"]
    assert sorted(each["FunctionArn"] for each in listed) == [arn.removesuffix(":live"), arn]
    with pytest.raises(api.exceptions.ResourceNotFoundException):
        api.create_function_url_config(FunctionName=name, AuthType="NONE", Qualifier="nobody")
    api.delete_function_url_config(FunctionName=name, Qualifier="live")
    with pytest.raises(api.exceptions.ResourceNotFoundException):
        api.get_function_url_config(FunctionName=name, Qualifier="live")
    assert api.get_function_url_config(FunctionName=name)["FunctionUrl"] == made[None]["FunctionUrl"]


def test_an_alias_keeps_instances_ready(functions, name):
    api = functions.api
    api.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    api.put_provisioned_concurrency_config(FunctionName=name, Qualifier="live", ProvisionedConcurrentExecutions=1)
    with pytest.raises(api.exceptions.ResourceConflictException, match="pointed by a Provisioned Concurrency alias"):
        api.put_provisioned_concurrency_config(FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=1)
    api.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    listed = api.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"]
    assert [each["FunctionArn"].split(":")[-1] for each in listed] == ["live"]
    api.delete_alias(FunctionName=name, Name="live")
    assert api.list_provisioned_concurrency_configs(FunctionName=name)["ProvisionedConcurrencyConfigs"] == []


def test_aliases_survive_a_kill(new_server):
    server = new_server().start()
    functions = Functions(server)
    name = two_versions(functions)
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    functions.api.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=weights)
    url = functions.api.create_function_url_config(FunctionName=name, AuthType="NONE", Qualifier="live")
    server.kill()
    server.start()
    again = functions.api.get_alias(FunctionName=name, Name="live")
    assert (again["FunctionVersion"], again["RoutingConfig"]) == ("1", weights)
    found = functions.api.get_function_url_config(FunctionName=name, Qualifier="live")
    assert found["FunctionUrl"] == url["FunctionUrl"]
    assert {functions.invoke(name, Qualifier="live").ok()[3] for _ in range(40)} == {"one", "two"}
