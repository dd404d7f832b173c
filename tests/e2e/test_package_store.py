"""Packages by reference: a real S3-compatible server, signatures held against botocore's, and a server that misbehaves."""

import contextlib
import http.server
import re
import subprocess
import threading

import boto3
import botocore.exceptions
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from support import clients, kinds, poll, zips
from support.server import clean_environment, free_port

KEY = "S3RVER"
SOURCE = "def handler(event, context):\n    return %r\n"


def package(answer, **more):
    return zips.package({"app.py": SOURCE % answer} | more)


class Store:
    """s3rver on a folder, with TLS where there is a certificate."""

    def __init__(self, folder, certificate=None):
        self.port = free_port()
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"
        program = kinds.TARGET / "e2e-s3" / "node_modules" / "s3rver" / "bin" / "s3rver.js"
        command = ["node", str(program), "-d", str(folder), "-p", str(self.port), "-a", "127.0.0.1", "--configure-bucket", "code"]
        if certificate:
            command += ["--cert", f"{certificate}.crt", "--key", f"{certificate}.key"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environment())
        self.api = boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=KEY,
            config=Config(s3={"addressing_style": "path"}), verify=f"{certificate}.crt" if certificate else None,
        )  # fmt: skip
        poll.until(self.answers, "the store answers")

    def answers(self):
        try:
            return bool(self.api.list_buckets()["Buckets"])
        except botocore.exceptions.BotoCoreError:
            return False

    def put(self, key, content):
        self.api.put_object(Bucket="code", Key=key, Body=content)

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def stores():
    made = []

    def make(*arguments, **options):
        made.append(Store(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def serve(new_server, tmp_path):
    """A server that reads packages from a URL."""

    def make(url, *arguments):
        file = tmp_path / "store-credentials"
        file.write_text(f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {KEY}\n")
        server = new_server(arguments=["--package-store", url, "--package-store-credentials", str(file), *arguments])
        return server.start()

    return make


def create(functions, name, **code):
    functions.api.create_function(
        FunctionName=name, Runtime=kinds.system_python(), Handler="app.handler", Role=clients.ROLE, Code={"S3Bucket": "code"} | code
    )
    functions.made.append(name)
    functions.api.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=clients.FAST)


def refused(code, call, **options):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**options)
    assert caught.value.response["Error"]["Code"] == code, caught.value
    return caught.value.response["Error"]["Message"]


def test_functions_and_layers_come_from_a_store(stores, serve, tmp_path):
    store = stores(tmp_path / "s3")
    functions = clients.Functions(serve(store.url))
    key = "deep/my package+ü (1).zip"
    store.put(key, package("first"))
    create(functions, "app", S3Key=key)
    assert functions.invoke("app").ok() == "first"
    store.put("second.zip", package("second"))
    functions.api.update_function_code(FunctionName="app", S3Bucket="code", S3Key="second.zip")
    functions.api.get_waiter("function_updated_v2").wait(FunctionName="app", WaiterConfig=clients.FAST)
    assert functions.invoke("app").ok() == "second"
    store.put("layer.zip", zips.package({"python/one.py": "X = 1"}))
    layer = functions.api.publish_layer_version(LayerName="one", Content={"S3Bucket": "code", "S3Key": "layer.zip"})
    store.put("uses.zip", zips.package({"app.py": "import one\ndef handler(event, context):\n    return one.X\n"}))
    functions.api.update_function_configuration(FunctionName="app", Layers=[layer["LayerVersionArn"]])
    functions.api.get_waiter("function_updated_v2").wait(FunctionName="app", WaiterConfig=clients.FAST)
    functions.api.update_function_code(FunctionName="app", S3Bucket="code", S3Key="uses.zip")
    functions.api.get_waiter("function_updated_v2").wait(FunctionName="app", WaiterConfig=clients.FAST)
    # What was read is kept: the store need not be there.
    store.stop()
    functions.server.kill()
    functions.server.start()
    assert functions.invoke("app").ok() == 1
    refused("ServiceUnavailableException", functions.api.update_function_code, FunctionName="app", S3Bucket="code", S3Key="uses.zip")


def test_what_the_store_refuses_is_told_in_its_words(stores, serve, tmp_path):
    store = stores(tmp_path / "s3")
    functions = clients.Functions(serve(store.url))
    store.put("text", b"not a zip")
    make = dict(FunctionName="app", Runtime=kinds.system_python(), Handler="app.handler", Role=clients.ROLE)
    call = functions.api.create_function
    message = refused("InvalidParameterValueException", call, **make, Code={"S3Bucket": "code", "S3Key": "absent"})
    assert message.startswith("Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: ")
    message = refused("InvalidParameterValueException", call, **make, Code={"S3Bucket": "absent", "S3Key": "k"})
    assert "S3 Error Code: NoSuchBucket" in message
    refused("InvalidParameterValueException", call, **make, Code={"S3Bucket": "code", "S3Key": "text"})
    # s3rver keeps no versions: another one than was asked for is no answer.
    message = refused("InvalidParameterValueException", call, **make, Code={"S3Bucket": "code", "S3Key": "text", "S3ObjectVersion": "v1"})
    assert "NoSuchVersion" in message or "NotImplemented" in message, message
    both = {"S3Bucket": "code", "S3Key": "text", "ZipFile": package("x")}
    refused("InvalidParameterValueException", call, **make, Code=both)
    # More than 50 MB, which no upload may have; and what no package may be.
    store.put("zeros.zip", package("large", blob=bytes(8)) + bytes())
    store.put("beyond", bytes((250 << 20) + 1))
    message = refused("InvalidParameterValueException", call, **make, Code={"S3Bucket": "code", "S3Key": "beyond"})
    assert message == f"Unzipped size must be smaller than {250 << 20} bytes"


def test_a_package_may_be_larger_than_an_upload(stores, serve, tmp_path):
    import os

    store = stores(tmp_path / "s3")
    functions = clients.Functions(serve(store.url))
    large = package("large", noise=os.urandom(51 << 20))
    assert len(large) > 50 << 20
    make = dict(FunctionName="app", Runtime=kinds.system_python(), Handler="app.handler", Role=clients.ROLE)
    answer = refused("InvalidParameterValueException", functions.api.create_function, **make, Code={"ZipFile": large[: (50 << 20) + 1]})
    assert answer == f"Zipped size must be smaller than {50 << 20} bytes"
    store.put("large.zip", large)
    create(functions, "app", S3Key="large.zip")
    assert functions.invoke("app").ok() == "large"


def test_a_key_that_the_store_does_not_know_is_refused(stores, serve, tmp_path):
    store = stores(tmp_path / "s3")
    store.put("app.zip", package("x"))
    functions = clients.Functions(serve(store.url))
    file = tmp_path / "store-credentials"
    file.write_text("[default]\naws_access_key_id = stranger\naws_secret_access_key = wrong\n")
    make = dict(FunctionName="app", Runtime=kinds.system_python(), Handler="app.handler", Role=clients.ROLE)
    code = {"S3Bucket": "code", "S3Key": "app.zip"}
    message = refused("AccessDeniedException", functions.api.create_function, **make, Code=code)
    assert "S3 Error Code: InvalidAccessKeyId" in message
    # Keys are read anew each time.
    file.write_text(f"[default]\naws_access_key_id={KEY}\naws_secret_access_key={KEY}\n")
    create(functions, "app", S3Key="app.zip")


def test_every_request_is_signed_as_s3_wants_it(serve):
    """What botocore makes of the same request: s3rver looks at the key alone, not at the signature."""
    seen = []

    def answer(handler):
        seen.append((handler.path, dict(handler.headers)))
        handler.send_error(404)

    with answering(answer) as (url, _):
        functions = clients.Functions(serve(url))
        make = dict(FunctionName="app", Runtime=kinds.system_python(), Handler="app.handler", Role=clients.ROLE)
        for key, version in (("plain.zip", None), ("a b/ü+(1)~.zip", None), ("k", "v/1=?&x")):
            code = {"S3Bucket": "code", "S3Key": key} | ({"S3ObjectVersion": version} if version else {})
            refused("InvalidParameterValueException", functions.api.create_function, **make, Code=code)
    assert len(seen) == 3
    for path, headers in seen:
        given = {name.lower(): value for name, value in headers.items()}
        scope = re.search(r"Credential=S3RVER/([0-9]{8})/us-east-1/s3/aws4_request", given["authorization"])
        names = re.search(r"SignedHeaders=([a-z0-9;-]+)", given["authorization"])[1].split(";")
        assert {"host", "x-amz-date", "x-amz-content-sha256"} <= set(names)
        request = AWSRequest("GET", url + path, headers={name: given[name] for name in names})
        request.context["timestamp"] = given["x-amz-date"]
        signer = S3SigV4Auth(Credentials(KEY, KEY), "s3", "us-east-1")
        canonical = signer.canonical_request(request)
        signature = signer.signature(signer.string_to_sign(request, canonical), request)
        assert scope and f"Signature={signature}" in given["authorization"], canonical


def test_tls_needs_a_certificate_that_somebody_vouches_for(stores, serve, tmp_path):
    certificate = tmp_path / "store"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=store", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", f"{certificate}.key", "-out", f"{certificate}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    store = stores(tmp_path / "s3", certificate=certificate)
    store.put("app.zip", package("encrypted"))
    stranger = clients.Functions(serve(store.url))
    make = dict(FunctionName="app", Runtime=kinds.system_python(), Handler="app.handler", Role=clients.ROLE)
    refused("ServiceUnavailableException", stranger.api.create_function, **make, Code={"S3Bucket": "code", "S3Key": "app.zip"})
    functions = clients.Functions(serve(store.url, "--package-store-ca", f"{certificate}.crt"))
    create(functions, "app", S3Key="app.zip")
    assert functions.invoke("app").ok() == "encrypted"


@contextlib.contextmanager
def answering(answer):
    """A server that answers every GET so; what it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answer(self)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def test_a_store_that_misbehaves(serve):
    with answering(lambda handler: (handler.send_response(200), handler.end_headers())) as (elsewhere, stolen):

        def answer(handler):
            key = handler.path.rpartition("/")[2]
            if key == "redirect":
                handler.send_response(307)
                handler.send_header("Location", elsewhere + "/secret")
                handler.end_headers()
            elif key == "early":
                handler.send_response(200)
                handler.send_header("Content-Length", "1000")
                handler.end_headers()
                handler.wfile.write(b"PK")
            elif key == "endless":
                handler.send_response(200)
                handler.end_headers()
            elif key == "broken":
                handler.send_error(500)

        with answering(answer) as (url, asked):
            functions = clients.Functions(serve(url))
            make = dict(FunctionName="app", Runtime=kinds.system_python(), Handler="app.handler", Role=clients.ROLE)

            def told(code, key):
                return refused(code, functions.api.create_function, **make, Code={"S3Bucket": "code", "S3Key": key})

            assert "S3 Error Code: PermanentRedirect" in told("InvalidParameterValueException", "redirect")
            assert "broke off" in told("ServiceUnavailableException", "early")
            assert "how long" in told("ServiceUnavailableException", "endless")
            assert "500" in told("ServiceUnavailableException", "broken")
            told("ServiceUnavailableException", "../../x?list-type=2#y")
            assert asked[-1] == "/code/../../x%3Flist-type%3D2%23y"
        assert stolen == [], "nothing but the endpoint is connected to"
        code = [folder.name for folder in (functions.server.data / "code").iterdir() if folder.name != ".staging"]
        assert code == [] and functions.api.list_functions()["Functions"] == []


def test_without_a_store_it_is_refused(functions):
    make = dict(FunctionName="app", Runtime=kinds.system_python(), Handler="app.handler", Role=clients.ROLE)
    code = {"S3Bucket": "code", "S3Key": "k"}
    message = refused("InvalidParameterValueException", functions.api.create_function, **make, Code=code)
    assert "--package-store" in message
