"""Web frameworks as they are: `virga deploy` of a folder says what it will run, and that answers."""

import concurrent.futures
import json
import shutil

import pytest
import requests
import websocket

from support import kinds, poll
from support.web import Wire


@pytest.fixture
def deploy(server):
    """Deploys a folder by the CLI: what was said, and the function's URL."""
    made = []

    def run(folder, *arguments):
        done = server.cli("deploy", folder, "--json", *arguments, check=0)
        deployed = json.loads(done.stdout)
        made.append(deployed["FunctionName"])
        return deployed, deployed["PathUrl"].rstrip("/")

    yield run
    if made:
        server.cli("delete", *made)


def project(folder, files, bundle=None):
    """A folder with these files and a bundle's packages."""
    folder.mkdir()
    if bundle:
        shutil.copytree(kinds.bundle(bundle), folder, dirs_exist_ok=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_fastapi(deploy, server, tmp_path):
    folder = project(tmp_path / "fastapi-site", {"main.py": kinds.source("fastapi_app.py")}, "fastapi")
    deployed, url = deploy(folder)
    assert deployed["Handler"] == "main:app"
    seen = requests.get(url + "/?name=Ada").json()
    assert seen == {"message": "Hello, Ada!", "began": True, "client": "127.0.0.1"}
    assert requests.get(url + "/items/21").json() == 42
    assert requests.get(url + "/items/x").status_code == 422
    assert requests.get(url + "/nowhere").status_code == 404
    assert requests.post(url + "/count", data=b"x" * 3_000_000).json() == {"length": 3_000_000}
    assert requests.post(url + "/count", data=iter([b"ab" * 50_000, b"c"])).json() == {"length": 100_001}
    assert requests.head(url + "/items/1").status_code == 405
    with concurrent.futures.ThreadPoolExecutor(8) as callers:
        answers = callers.map(lambda number: requests.get(f"{url}/items/{number}").json(), range(40))
        assert list(answers) == [2 * number for number in range(40)]


def test_fastapi_streams(deploy, server, tmp_path):
    folder = project(tmp_path / "fastapi-streams", {"main.py": kinds.source("fastapi_app.py")}, "fastapi")
    deployed, url = deploy(folder)
    with Wire(url + "/events") as wire:
        wire.begin("GET")
        assert wire.head()[0] == 200
        assert wire.chunk() == b"data: 0\n\n"
    log = lambda: server.cli("logs", deployed["FunctionName"], check=0).stdout  # noqa: E731
    poll.until(lambda: "the caller left" in log(), "the application hears of it")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(url + "/breaks")
    poll.until(lambda: "broken on purpose" in log(), "the traceback in the log")


def test_fastapi_websockets(deploy, tmp_path):
    folder = project(tmp_path / "fastapi-sockets", {"app/main.py": kinds.source("fastapi_app.py"), "requirements.txt": ""}, "fastapi")
    deployed, url = deploy(folder)
    assert deployed["Handler"] == "app.main:app"
    address = url.replace("http://", "ws://")
    connection = websocket.create_connection(address + "/socket", subprotocols=["chat"], timeout=20)
    assert connection.subprotocol == "chat"
    for text in ("hello", "ä" * 70_000):
        connection.send(text)
        assert connection.recv() == text.upper()
    connection.ping("still there")
    connection.send("bye")
    opcode, data = connection.recv_data(control_frame=True)
    assert opcode == websocket.ABNF.OPCODE_PONG and data == b"still there"
    opcode, data = connection.recv_data(control_frame=True)
    assert opcode == websocket.ABNF.OPCODE_CLOSE and data == (4001).to_bytes(2, "big") + b"so long"
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(address + "/nowhere", timeout=20)
    assert refused.value.status_code == 403


def test_flask_without_a_server(deploy, server, tmp_path):
    folder = project(tmp_path / "flask-site", {"site_app.py": kinds.source("flask_plain.py")}, "flask")
    deployed, url = deploy(folder, "--handler", "site_app:app", "--contract", "http")
    assert deployed["Handler"] == "site_app:app"
    seen = requests.get(url + "/?a=b%20c", headers={"X-Mine": "m"}).json()
    assert seen == {"url": seen["url"], "client": "127.0.0.1", "mine": "m"} and seen["url"].endswith("/?a=b%20c")
    assert requests.post(url + "/count", data=b"x" * 3_000_000).json() == {"length": 3_000_000}
    answer = requests.post(url + "/checked/%C3%A4", data="first\nsecond\n")
    assert (answer.status_code, answer.content.decode()) == (202, "written, fi|rst\n|/checked/ä")
    assert answer.raw.headers.getlist("X-Twice") == ["1", "2"]
    assert requests.get(url + "/parts").text == "0\n1\n2\n"
    assert requests.get(url + "/fails").status_code == 500
    log = lambda: server.cli("logs", deployed["FunctionName"], check=0).stdout  # noqa: E731
    poll.until(lambda: "broken on purpose" in log(), "the traceback in the log")
    assert "AssertionError" not in log()


def test_applications_that_cannot_start(deploy, server, tmp_path):
    folder = project(tmp_path / "no-such", {"main.py": "app = FastAPI()\n"})
    deployed, url = deploy(folder)
    assert deployed["Handler"] == "main:app"
    assert requests.get(url).status_code == 502
    assert "name 'FastAPI' is not defined" in server.cli("logs", deployed["FunctionName"], check=0).stdout
    refused = server.cli("deploy", folder, "--name", "no-such-module", "--handler", "other:app")
    assert refused.returncode != 0 and "other" in refused.stderr


def test_fastify_by_its_start_script(deploy, tmp_path):
    """The script names a program of a package, as Next's does."""
    routes = "module.exports = async (app, options) => { app.get('/', async () => ({hello: process.env.PORT > 0})) }\n"
    package = {"name": "site", "scripts": {"start": "fastify start -a 127.0.0.1 app.js"}, "dependencies": {"fastify": "4"}}
    folder = project(tmp_path / "fastify-site", {"app.js": routes, "package.json": json.dumps(package)})
    unneeded = shutil.ignore_patterns("@aws-sdk", "@smithy", "@aws", "@aws-crypto", "aws-lambda-ric", "node-gyp", ".bin")
    shutil.copytree(kinds.node_modules(), folder / "node_modules", ignore=unneeded)
    (folder / "node_modules/.bin").mkdir()
    (folder / "node_modules/.bin/fastify").symlink_to("../fastify-cli/cli.js")
    deployed, url = deploy(folder)
    assert deployed["Handler"] == "package.json:start"
    assert requests.get(url).json() == {"hello": True}


# What `next build` leaves with output: 'standalone' begins so; what it calls then is Next, which takes minutes to build.
NEXT_SERVER = """
const path = require('path'), fs = require('fs'), http = require('http');
process.env.NODE_ENV = 'production';
process.chdir(__dirname);
const port = parseInt(process.env.PORT, 10) || 3000, hostname = process.env.HOSTNAME || '0.0.0.0';
process.env.__NEXT_PRIVATE_STANDALONE_CONFIG = JSON.stringify({ distDir: './.next' });
http.createServer((request, response) => {
  const chunk = path.join('.next/static', path.basename(request.url));
  if (request.url.startsWith('/_next/static/') && fs.existsSync(chunk)) return response.end(fs.readFileSync(chunk));
  response.end(`page ${request.url}`);
}).listen(port, hostname);
"""


def test_what_next_builds_to_run_alone(deploy, server, tmp_path):
    """The project's folder is deployed; of it goes what runs without the rest."""
    package = json.dumps({"name": "site", "scripts": {"start": "next start"}, "dependencies": {"next": "16"}})
    files = {"package.json": package, "node_modules/next/package.json": "{}", ".next/static/a.js": "chunk",
             ".next/standalone/server.js": NEXT_SERVER, ".next/standalone/package.json": package}  # fmt: skip
    folder = project(tmp_path / "next-site", files)
    said = server.cli("deploy", folder, check=0)
    assert "a Node web server, server.js" in said.stdout and "cp -r" in said.stderr and ".next/static" in said.stderr
    shutil.copytree(folder / ".next/static", folder / ".next/standalone/.next/static")
    deployed, url = deploy(folder)
    assert deployed["Handler"] == "server.js" and deployed["FunctionName"] == "next-site"
    assert requests.get(url + "/about?x=1").text == "page /about?x=1"
    assert requests.get(url + "/_next/static/a.js").text == "chunk"
