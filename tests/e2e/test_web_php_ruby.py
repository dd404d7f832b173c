"""Web applications in PHP and Ruby as they are, deployed from their folders."""

import json

import pytest
import requests

PHP = """<?php
header('X-Mine: yes');
if ($_SERVER['PATH_INFO'] ?? false) { throw new Exception('there is no path info'); }
if ($_GET['die'] ?? false) { throw new LogicException('boom'); }
if ($_GET['warn'] ?? false) { echo $nothing; }
if ($_GET['hold'] ?? false) {
    // It has begun, and goes on when another process says so.
    while (ob_get_level()) { ob_end_flush(); }
    echo getmypid(), "\\n"; flush();
    for ($tries = 0; !is_file('/tmp/let-go') && $tries < 600; $tries++) { usleep(50000); clearstatcache(); }
    exit('let go by ' . @file_get_contents('/tmp/let-go'));
}
if ($_GET['let-go'] ?? false) { file_put_contents('/tmp/own', getmypid()); rename('/tmp/own', '/tmp/let-go'); }
echo json_encode([
    'method' => $_SERVER['REQUEST_METHOD'], 'uri' => $_SERVER['REQUEST_URI'], 'script' => $_SERVER['SCRIPT_NAME'],
    'post' => $_POST, 'body' => file_get_contents('php://input'), 'mine' => getenv('MINE'), 'pid' => getmypid(),
    'from' => $_SERVER['HTTP_X_FORWARDED_FOR'], 'included' => require '../src/other.php',
]);
"""
RACK = """require_relative 'app'
run App.new
"""
RACK_APP = """class App
  def call(env)
    body = [env['REQUEST_METHOD'], env['PATH_INFO'], env['QUERY_STRING'], env['rack.input'].read, ENV['MINE']].join(' ')
    [201, { 'Content-Type' => 'text/plain', 'X-Mine' => 'yes' }, [body]]
  end
end
"""
SINATRA = """require 'sinatra'
set :port, ENV['PORT']
set :bind, '0.0.0.0'
set :environment, :production
get('/hello') { "Hello, #{params['name']}!" }
"""


@pytest.fixture
def deployed(server, tmp_path):
    """Makes a folder and deploys it; what the CLI says of it, and the URL by path."""
    made = []

    def deploy(name, files):
        for path, text in files.items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        said = server.cli("deploy", tmp_path / name, "--env", "MINE=1", check=0).stdout
        made.append(name)
        return said, f"{server.url}/_fn/{name}/"

    yield deploy
    for name in made:
        server.cli("delete", name)


def test_a_php_front_controller(server, deployed):
    files = {"public/index.php": PHP, "public/style.css": "body{}", "public/.env": "secret", "public/data.json": "{}",
             "public/inner.php": "<?php echo 'inner';", "src/other.php": "<?php return 'other';",
             "composer.json": "{}", "package.json": "{}"}  # fmt: skip
    said, url = deployed("php-site", files)
    assert "a PHP front controller, public/index.php, under PHP's own web server" in said
    answer = requests.post(url + "a/b?c=d", data={"k": "v"}, timeout=30)
    assert answer.headers.get("X-Mine") == "yes", answer.text
    seen = answer.json()
    assert seen["uri"] == "/a/b?c=d" and seen["script"] == "/index.php" and seen["method"] == "POST"
    assert seen["post"] == {"k": "v"} and seen["body"] == "k=v" and seen["mine"] == "1" and seen["included"] == "other"
    assert seen["from"] == "127.0.0.1"
    style = requests.get(url + "style.css", timeout=30)
    assert style.text == "body{}" and style.headers["content-type"].startswith("text/css")
    for hidden in (".env", "data.json", "inner.php", "a.css/%2e%2e/.env", "/.env/style.css", "/data.json/style.css",
                   "/inner.php/style.css", "%2f.env/style.css", "./.env/style.css"):  # fmt: skip
        answer = requests.get(url + hidden, timeout=30)
        assert "script" in answer.json(), f"{hidden} is the controller's to answer"
    with requests.get(url + "?hold=1", timeout=60, stream=True) as held:
        lines = held.iter_lines(chunk_size=1)
        holder = next(lines).decode()
        other = requests.get(url + "?let-go=1", timeout=20).json()["pid"]
        assert str(other) != holder, "a request does not wait for one that is being answered"
        assert next(lines).decode() == f"let go by {other}"
    assert requests.get(url + "?die=1", timeout=30).status_code == 500
    assert requests.get(url + "?warn=1", timeout=30).status_code == 200
    log = server.cli("logs", "php-site", check=0).stdout
    assert "PHP Fatal error:  Uncaught LogicException: boom in /var/task/public/index.php:4" in log, log
    assert "PHP Warning:  Undefined variable $nothing in /var/task/public/index.php on line 5" in log, log


def test_a_rack_application(server, deployed):
    said, url = deployed("rack-app", {"config.ru": RACK, "app.rb": RACK_APP})
    assert "a Rack application, config.ru, under puma or rackup" in said
    answer = requests.put(url + "a/b?c=d", data="body", timeout=30)
    assert (answer.status_code, answer.text, answer.headers["X-Mine"]) == (201, "PUT /a/b c=d body 1", "yes")
    invoked = server.cli("invoke", "rack-app", json.dumps({"a": 1}), check=0)
    assert "POST /events" in invoked.stdout


def test_sinatra(deployed):
    said, url = deployed("sinatra-app", {"app.rb": SINATRA})
    assert "a Ruby web server, app.rb" in said
    assert requests.get(url + "hello?name=Ada", timeout=30).text == "Hello, Ada!"
    assert requests.get(url + "nowhere", timeout=30).status_code == 404
