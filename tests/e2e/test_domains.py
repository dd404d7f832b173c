"""Function URLs at host names of one's own: the command line, the tag, and who gets which name."""

import pytest
import requests

from support import kinds
from support.clients import Functions, code_of
from support.server import Server

SHOW = """
def handler(event, context):
    return {"path": event["rawPath"], "domain": event["requestContext"]["domainName"]}
"""


def get(server, host, path="/"):
    return requests.get(server.url + path, headers={"Host": host}, timeout=30)


def test_a_name_leads_to_its_function_until_it_is_taken_back(server, functions):
    name = functions.deploy({"app.py": SHOW}, kinds.python(), url=True)
    host = f"{name}.example.com"
    assert get(server, host).status_code == 403, "the API's, and not signed"
    assert "leads to" in server.cli("domain", "add", host.upper(), name, check=0).stdout
    assert get(server, f"{host}:8080", "/_fn/x/y").json() == {"path": "/_fn/x/y", "domain": host}
    listed = server.cli("domain", "list", check=0).stdout
    assert host in listed and name in listed
    other = functions.deploy({"app.py": SHOW}, kinds.python(), url=True)
    refused = server.cli("domain", "add", host, other)
    assert refused.returncode != 0 and "belongs to another function" in refused.stderr
    server.cli("domain", "remove", host, check=0)
    assert get(server, host).status_code == 403
    assert server.cli("domain", "remove", host).returncode != 0
    server.cli("domain", "add", host, other, check=0)
    assert get(server, host, "/a").json()["path"] == "/a"


def test_names_survive_a_kill(new_server):
    server = new_server(arguments=("--domains-of", f"{Server.account}=example.com")).start()
    functions = Functions(server)
    name = functions.deploy({"app.py": SHOW}, kinds.python(), url=True, tags={"virga:domain": "a.example.com b.example.com"})
    assert get(server, "a.example.com").json()["domain"] == "a.example.com"
    server.kill()
    server.start()
    answer = get(server, "b.example.com")
    assert answer.json().get("domain") == "b.example.com", answer.text
    with pytest.raises(functions.api.exceptions.ClientError) as refused:
        functions.deploy({"app.py": SHOW}, kinds.python(), tags={"virga:domain": "b.example.com"}, wait=False)
    assert code_of(refused.value) == "ResourceConflictException"
    assert name in server.cli("domain", "list", check=0).stdout
    # What the operator takes back leads nowhere, and stops nothing else.
    server.stop()
    server.arguments = ["--domains-of", f"{Server.account}=other.example"]
    server.start()
    assert get(server, "b.example.com").status_code == 403
    Functions(server).api.update_function_configuration(FunctionName=name, Timeout=9)


def test_a_name_is_the_operators_to_give(server, functions):
    name = functions.deploy({"app.py": SHOW}, kinds.python(), url=True)
    refused = server.cli("domain", "add", "api.example.org", name)
    assert refused.returncode == 3 and "--domains-of" in refused.stderr, refused.stderr
    with pytest.raises(functions.api.exceptions.ClientError) as error:
        functions.deploy({"app.py": SHOW}, kinds.python(), tags={"virga:domain": "notexample.com"}, wait=False)
    assert code_of(error.value) == "AccessDeniedException"
    assert get(server, "api.example.org").status_code == 403, "the API's, and not signed"


@pytest.mark.parametrize("bad", ["127.0.0.1", "localhost", "api.localhost", "a_b.example.com", "x.amazonaws.com"])
def test_names_that_nobody_gets(functions, bad):
    name = functions.deploy({"app.py": SHOW}, kinds.python())
    arn = functions.api.get_function_configuration(FunctionName=name)["FunctionArn"]
    with pytest.raises(functions.api.exceptions.InvalidParameterValueException):
        functions.api.tag_resource(Resource=arn, Tags={"virga:domain": bad})
