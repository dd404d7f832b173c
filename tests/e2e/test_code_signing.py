"""Code signing as boto3 sees it, and packages that `virga sign` signs. OpenSSL checks that the format is what it is said to be."""

import base64
import hashlib
import io
import json
import subprocess
import uuid
import zipfile

import pytest
from botocore.exceptions import ClientError

from support import clients, kinds, zips
from support.clients import ROLE, code_of

SHOW = "def handler(event, context):\n    return WORD\n"
SIGNATURE = ".virga-signature.json"


def refused(call, code, status, **arguments):
    with pytest.raises(ClientError) as error:
        call(**arguments)
    answer = error.value.response
    assert (code_of(error.value), answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status), answer
    return answer["Error"]["Message"]


@pytest.fixture
def signer(server):
    return clients.client(server, "signer")


class Profile:
    """A signing profile of the shared server with its key."""

    def __init__(self, server, folder):
        self.server, self.name = server, f"p_{uuid.uuid4().hex[:8]}"
        self.folder, self.key = folder, folder / f"{self.name}.key"
        server.cli("signer", "key", self.key, check=0)
        made = server.cli("signer", "put", self.name, "--public-key", f"{self.key}.pub", "--json", check=0)
        self.version_arn = json.loads(made.stdout)["profileVersionArn"]
        self.arn = self.version_arn.rpartition("/")[0]

    def sign(self, archive, *flags):
        """The package as `virga sign` signs it, and what the command says."""
        plain, signed = self.folder / "plain.zip", self.folder / "signed.zip"
        plain.write_bytes(archive)
        profile = () if "--profile" in flags else ("--profile", self.name)
        done = self.server.cli("sign", plain, "--key", self.key, "-o", signed, "--json", *profile, *flags, check=0)
        return signed.read_bytes(), json.loads(done.stdout)


@pytest.fixture
def profile(server, tmp_path):
    return Profile(server, tmp_path)


@pytest.fixture
def config(functions):
    """Makes configurations, and removes them once their functions are gone."""
    made = []

    def make(*publishers, policy="Enforce", **more):
        allowed = {"SigningProfileVersionArns": list(publishers)}
        policies = {"UntrustedArtifactOnDeployment": policy}
        answer = functions.api.create_code_signing_config(AllowedPublishers=allowed, CodeSigningPolicies=policies, **more)
        made.append(answer["CodeSigningConfig"]["CodeSigningConfigArn"])
        return answer["CodeSigningConfig"]

    yield make
    functions.delete_all()
    for arn in made:
        try:
            functions.api.delete_code_signing_config(CodeSigningConfigArn=arn)
        except functions.api.exceptions.ResourceNotFoundException:
            pass


def word(text):
    return zips.package({"app.py": SHOW.replace("WORD", repr(text))})


def test_only_what_a_publisher_signed_is_deployed(functions, profile, config, tmp_path, server):
    api = functions.api
    made = config(profile.version_arn)
    create = {
        "FunctionName": f"f-{uuid.uuid4().hex[:12]}", "Runtime": kinds.python(), "Handler": "app.handler", "Role": ROLE,
        "CodeSigningConfigArn": made["CodeSigningConfigArn"],
    }  # fmt: skip
    message = refused(api.create_function, "CodeVerificationFailedException", 400, Code={"ZipFile": word("x")}, **create)
    assert "it is not signed" in message
    signed, said = profile.sign(word("one"))
    shown = api.create_function(Code={"ZipFile": signed}, **create)
    functions.made.append(create["FunctionName"])
    name = create["FunctionName"]
    assert (shown["SigningProfileVersionArn"], shown["SigningJobArn"]) == (profile.version_arn, said["SigningJobArn"])
    api.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=clients.FAST)
    assert functions.invoke(name).ok() == "one"

    update = lambda archive, **more: {"FunctionName": name, "ZipFile": archive, **more}  # noqa: E731
    refused(api.update_function_code, "CodeVerificationFailedException", 400, **update(word("two")))
    other, _ = Profile(server, tmp_path).sign(word("two"))
    assert "not an allowed publisher" in refused(api.update_function_code, "CodeVerificationFailedException", 400, **update(other))
    # The file in it with another content; the signature stays.
    with zipfile.ZipFile(io.BytesIO(signed)) as archive:
        signature = archive.read(SIGNATURE)
    forged = zips.package({"app.py": SHOW.replace("WORD", "'evil'"), SIGNATURE: signature})
    for dry in (True, False):
        refused(api.update_function_code, "InvalidCodeSignatureException", 400, **update(forged, DryRun=dry))
    # Packed again by another tool it is the same tree.
    again = zips.package({SIGNATURE: signature, "app.py": SHOW.replace("WORD", "'one'")})
    assert api.update_function_code(**update(again))["SigningJobArn"] == said["SigningJobArn"]
    assert functions.invoke(name).ok() == "one"


def test_the_format_is_what_the_documents_say(profile, tmp_path):
    signed, said = profile.sign(word("one"), "--expires-days", "7")
    with zipfile.ZipFile(io.BytesIO(signed)) as archive:
        envelope = json.loads(archive.read(SIGNATURE))
        source = archive.read("app.py")
    payload = base64.b64decode(envelope["payload"])
    statement = json.loads(payload)
    record = lambda letter, path, content: f"{letter} {path}\0{hashlib.sha256(content).hexdigest()}\0".encode()  # noqa: E731
    tree = hashlib.sha256(b"virga-package-tree-1\0" + record("f", "app.py", source)).hexdigest()
    assert statement["tree"] == f"sha256:{tree}"
    assert (statement["profileVersionArn"], statement["jobArn"]) == (profile.version_arn, said["SigningJobArn"])
    assert statement["expiresAtMs"] - statement["signedAtMs"] == 7 * 86_400_000
    kind = envelope["payloadType"].encode()
    message, signature = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    signature.write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", f"{profile.key}.pub", "-rawin", "-in", message, "-sigfile", signature]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_key_of_openssls_signs_and_a_signature_can_be_revoked(functions, server, signer, config, tmp_path, profile):
    key = tmp_path / "openssl.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, timeout=30)
    public = subprocess.run(["openssl", "pkey", "-in", key, "-pubout"], capture_output=True, text=True, check=True, timeout=30).stdout
    old = profile.version_arn
    validity = {"value": 2, "type": "YEARS"}
    put = signer.put_signing_profile(
        profileName=profile.name, platformId="Virga-Ed25519", signingParameters={"publicKey": public, "team": "a"},
        signatureValidityPeriod=validity,
    )  # fmt: skip
    assert put["arn"] == profile.arn and put["profileVersionArn"] not in (old, profile.arn)
    shown = signer.get_signing_profile(profileName=profile.name)
    assert shown["signatureValidityPeriod"] == validity and shown["signingParameters"]["team"] == "a" and shown["status"] == "Active"
    done = server.cli("sign", tmp_path / f"{profile.name}.key", "--profile", profile.name, "--key", profile.key)
    assert done.returncode != 0 and "neither a folder nor a .zip" in done.stderr
    (tmp_path / "plain.zip").write_bytes(word("x"))
    done = server.cli("sign", tmp_path / "plain.zip", "--profile", profile.name, "--key", profile.key)
    assert done.returncode != 0 and "is not the key of the signing profile" in done.stderr, "its key is another by now"

    made = config(profile.arn)
    name = functions.deploy(word("plain"), kinds.python(), CodeSigningConfigArn=config(profile.arn, policy="Warn")["CodeSigningConfigArn"])
    functions.api.put_function_code_signing_config(FunctionName=name, CodeSigningConfigArn=made["CodeSigningConfigArn"])
    update = lambda archive: {"FunctionName": name, "ZipFile": archive}  # noqa: E731
    profile.key = key
    new, said = profile.sign(word("new"))
    functions.api.update_function_code(**update(new))
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=clients.FAST)
    signer.revoke_signature(jobId=said["SigningJobArn"].rpartition("/")[2], reason="leaked")
    assert "revoked" in refused(functions.api.update_function_code, "CodeVerificationFailedException", 400, **update(new))
    assert functions.invoke(name).ok() == "new", "what is deployed stays"
    # The old key is trusted for as long as its version is.
    profile.key = tmp_path / f"{profile.name}.key"
    by_old, _ = profile.sign(word("old"), "--profile", old)
    functions.api.update_function_code(**update(by_old))
    functions.api.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=clients.FAST)
    server.cli("signer", "revoke", profile.name, "--version", old.rpartition("/")[2], "--reason", "replaced", check=0)
    assert "revoked" in refused(functions.api.update_function_code, "CodeVerificationFailedException", 400, **update(by_old))
    server.cli("signer", "cancel", profile.name, check=0)
    listed = signer.list_signing_profiles(statuses=["Canceled"])["profiles"]
    assert profile.name in [each["profileName"] for each in listed]
    assert profile.name not in [each["profileName"] for each in signer.list_signing_profiles()["profiles"]]
    assert f"{profile.name} " in server.cli("signer", "list", check=0).stdout


def test_what_is_no_profile(signer, server):
    public = {"publicKey": "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="}
    put = signer.put_signing_profile
    refused(put, "ValidationException", 400, profileName="abc", platformId="AWSLambda-SHA384-ECDSA", signingParameters=public)
    refused(put, "ValidationException", 400, profileName="abc", platformId="Virga-Ed25519", signingParameters={"publicKey": "x"})
    refused(put, "ValidationException", 400, profileName="a-b", platformId="Virga-Ed25519", signingParameters=public)
    refused(signer.get_signing_profile, "ResourceNotFoundException", 404, profileName="nobody")
    refused(signer.cancel_signing_profile, "ResourceNotFoundException", 404, profileName="nobody")
    message = refused(clients.client(server, "signer", check=False).list_signing_jobs, "NotImplementedException", 501)
    assert "signing-jobs" in message


def test_configurations(functions, profile, config):
    api = functions.api
    made = config(profile.arn, policy="Warn", Description="one")
    arn = made["CodeSigningConfigArn"]
    assert made["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Warn"} and made["Description"] == "one"
    assert api.get_code_signing_config(CodeSigningConfigArn=arn)["CodeSigningConfig"] == made
    changed = api.update_code_signing_config(
        CodeSigningConfigArn=arn, CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Enforce"}
    )["CodeSigningConfig"]
    assert (changed["CodeSigningPolicies"]["UntrustedArtifactOnDeployment"], changed["Description"]) == ("Enforce", "one")
    assert changed["AllowedPublishers"] == made["AllowedPublishers"] and changed["LastModified"] >= made["LastModified"]
    config(profile.version_arn)
    pages = [page["CodeSigningConfigs"] for page in api.get_paginator("list_code_signing_configs").paginate(PaginationConfig={"PageSize": 1})]
    listed = [each["CodeSigningConfigArn"] for page in pages for each in page]
    assert len(listed) == len(set(listed)) and arn in listed and all(len(page) <= 1 for page in pages)

    name = functions.deploy(word("x"), kinds.python())
    found = api.get_function_code_signing_config
    assert "CodeSigningConfigArn" not in clients.client(functions.server, check=False).get_function_code_signing_config(FunctionName=name)
    put = api.put_function_code_signing_config(FunctionName=name, CodeSigningConfigArn=arn)
    assert (put["FunctionName"], put["CodeSigningConfigArn"]) == (name, arn)
    assert found(FunctionName=name)["CodeSigningConfigArn"] == arn
    function = api.get_function_configuration(FunctionName=name)["FunctionArn"]
    assert api.list_functions_by_code_signing_config(CodeSigningConfigArn=arn)["FunctionArns"] == [function]
    refused(api.delete_code_signing_config, "ResourceConflictException", 409, CodeSigningConfigArn=arn)
    api.delete_function_code_signing_config(FunctionName=name)
    api.delete_code_signing_config(CodeSigningConfigArn=arn)
    refused(api.get_code_signing_config, "ResourceNotFoundException", 404, CodeSigningConfigArn=arn)
    refused(api.put_function_code_signing_config, "CodeSigningConfigNotFoundException", 404, FunctionName=name, CodeSigningConfigArn=arn)
    refused(found, "ResourceNotFoundException", 404, FunctionName="nobody-made-it")
    bad = {"SigningProfileVersionArns": ["arn:aws:s3:::bucket"]}
    refused(api.create_code_signing_config, "InvalidParameterValueException", 400, AllowedPublishers=bad)


def test_layers_are_checked_with_their_function(functions, profile, config):
    api = functions.api
    made = config(profile.arn)
    layer = f"l-{uuid.uuid4().hex[:8]}"
    plain = api.publish_layer_version(LayerName=layer, Content={"ZipFile": zips.package({"a.txt": "plain"})})
    signed, said = profile.sign(zips.package({"a.txt": "signed"}))
    second = api.publish_layer_version(LayerName=layer, Content={"ZipFile": signed})
    assert "SigningJobArn" not in plain["Content"] and second["Content"]["SigningJobArn"] == said["SigningJobArn"]
    code, _ = profile.sign(word("x"))
    arn = made["CodeSigningConfigArn"]
    name = functions.deploy(code, kinds.python(), CodeSigningConfigArn=arn, Layers=[second["LayerVersionArn"]])
    shown = api.get_function_configuration(FunctionName=name)["Layers"][0]
    assert shown["SigningProfileVersionArn"] == profile.version_arn
    message = refused(api.update_function_configuration, "CodeVerificationFailedException", 400, FunctionName=name,
                      Layers=[plain["LayerVersionArn"]])  # fmt: skip
    assert f"{layer}:1" in message
    for each in (plain, second):
        api.delete_layer_version(LayerName=layer, VersionNumber=each["Version"])
