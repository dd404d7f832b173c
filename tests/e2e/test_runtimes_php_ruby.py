"""PHP and Ruby event handlers: how they answer, fail, end and begin."""

import concurrent.futures
import json
import re

import pytest
import requests

from support import kinds
from support.poll import until

KINDS = ["php", "ruby"]
# One of each for every way to end: picked by the event's "do".
PHP = """<?php
echo "loaded\\n";
class Lost extends RuntimeException {}
return function ($event, $context) {
    switch ($event['do'] ?? '') {
        case 'raise': throw new Lost('sorry');
        case 'sleep': sleep(600);
        case 'exit': exit(3);
        case 'fatal': for ($all = [];;) { $all[] = str_repeat('x', 1 << 20); }
        case 'memory': ini_set('memory_limit', '-1'); for ($all = [];;) { $all[] = str_repeat('x', 8 << 20); }
        case 'tmp': $found = scandir('/tmp'); file_put_contents('/tmp/mine', 'x'); return array_slice($found, 2);
        case 'nap': usleep(300000); return getmypid() . gethostname() . bin2hex(random_bytes(8));
        case 'big': return str_repeat('x', 7 << 20);
    }
    echo "event ", json_encode($event), "\\n";
    return ['pid' => getmypid(), 'event' => $event];
};
"""
RUBY = """
puts 'loaded'
class Lost < RuntimeError; end
def handler(event:, context:)
  case event['do']
  when 'raise' then raise Lost, 'sorry'
  when 'sleep' then sleep 600
  when 'exit' then exit!(3)
  when 'fatal' then exit(3)
  when 'memory' then held = []; loop { held << 'x' * (8 << 20) }
  when 'tmp' then found = Dir.children('/tmp'); File.write('/tmp/mine', 'x'); found
  when 'nap' then sleep 0.3; Random.urandom(8).unpack1('H*')
  when 'big' then 'x' * (7 << 20)
  else puts "event #{event.to_json}"; { pid: $$, event: event }
  end
end
"""


def deployed(functions, kind, php=PHP, ruby=RUBY, **options):
    if kind == "php":
        return functions.deploy({"src/index.php": php}, kinds.php(), "src/index.php", **options)
    return functions.deploy({"src/app.rb": ruby}, kinds.ruby(), "src/app.handler", **options)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_and_logs(functions, kind):
    name = deployed(functions, kind)
    first, second = functions.invoke(name, {"a": "ä"}), functions.invoke(name, {"b": [1, 2.5]})
    assert first.ok()["event"] == {"a": "ä"} and second.ok()["event"] == {"b": [1, 2.5]}
    assert first.ok()["pid"] == second.ok()["pid"]
    assert "event {" in first.log and "loaded\n" not in second.log
    assert functions.server.cli("logs", name, check=0).stdout.count("loaded") == 1
    assert 'event {"b":[1,2.5]}\n' in second.log and "REPORT RequestId" in second.log


@pytest.mark.parametrize("kind, error_type", [("php", "Lost"), ("ruby", "Function<Lost>")])
def test_an_error_has_its_languages_stack(functions, kind, error_type):
    name = deployed(functions, kind)
    pid = functions.invoke(name).ok()["pid"]
    for _ in range(2):
        result = functions.invoke(name, {"do": "raise"})
        failed = result.failed(error_type)
        assert failed["errorMessage"] == "sorry"
        assert re.match(r"/var/task/src/(index.php|app.rb):\d+", failed["stackTrace"][0]), failed
        assert error_type in result.log and "sorry" in result.log
    assert functions.invoke(name).ok()["pid"] == pid, "an error does not end the instance"


@pytest.mark.parametrize("kind", KINDS)
def test_time_out_exit_and_memory_end_the_instance_only(functions, kind):
    name = deployed(functions, kind, Timeout=4, MemorySize=128)
    assert functions.invoke(name, {"do": "sleep"}).failed("Sandbox.Timedout")
    assert functions.invoke(name, {"do": "exit"}).failed("Runtime.ExitError")["errorMessage"].endswith("exit status 3")
    # Where memory is held without cgroups the interpreter finds that there is none.
    failed = functions.invoke(name, {"do": "memory"}).value
    assert failed["errorType"] in ("Runtime.OutOfMemory", "FatalError", "Function<NoMemoryError>"), failed
    result = functions.invoke(name, {"do": "fatal"})
    if kind == "php":
        failed = result.failed("FatalError")
        assert re.match(r"Allowed memory size of \d+ bytes exhausted", failed["errorMessage"])
        assert re.match(r"/var/task/src/index.php:\d+", failed["stackTrace"][0])
        assert "PHP Fatal error:  Allowed memory size" in result.log
    else:
        assert result.failed("Function<SystemExit>")["errorMessage"] == "exit"
    assert "Response payload size" in functions.invoke(name, {"do": "big"}).value["errorMessage"]
    assert functions.invoke(name, {"do": "tmp"}).ok() == []


@pytest.mark.parametrize(
    "kind, source, error_type",
    [
        ("php", "<?php return 5;", "Runtime.HandlerNotFound"),
        ("php", "<?php return function (", "ParseError"),
        ("php", "<?php throw new DomainException('at start');", "DomainException"),
        ("php", "<?php function f() {} function f() {}", "FatalError"),
        ("php", "<?php require 'not-there.php';", "Error"),
        ("ruby", "require 'not-there'\n", "Init<LoadError>"),
        ("ruby", "def handler(\n", "Init<SyntaxError>"),
        ("ruby", "raise KeyError, 'at start'\n", "Init<KeyError>"),
        ("ruby", "x = 1\n", "Function<NoMethodError>"),
    ],
)
def test_what_does_not_come_up_says_why(functions, kind, source, error_type):
    name = deployed(functions, kind, php=source, ruby=source)
    for _ in range(2):
        assert functions.invoke(name).failed(error_type)["errorMessage"]


@pytest.mark.parametrize("kind", KINDS)
def test_many_at_once_are_many_instances(functions, kind):
    name = deployed(functions, kind)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: functions.invoke(name, {"do": "nap"}).ok(), range(12)))
    assert len(set(answers)) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_several_calls_on_one_instance_are_refused(functions, kind):
    with pytest.raises(Exception, match="takes one call at a time"):
        deployed(functions, kind, tags={"virga:hard-concurrency": "5"}, wait=False)


@pytest.mark.parametrize("kind", KINDS)
def test_instances_begin_as_copies(functions, kind):
    """A function's first instance begins as the runtime's image, later ones as the image of its version."""
    php = "<?php\nusleep(200000); mt_srand(7); $state = [getmypid(), mt_rand()];\nreturn fn () => ['state' => $state, 'pid' => getmypid(), 'random' => mt_rand(), 'key' => getenv('AWS_ACCESS_KEY_ID')];\n"
    ruby = "sleep 0.2\nSTATE = [$$, rand]\ndef handler(event:, context:) = { state: STATE, pid: $$, random: rand, key: ENV['AWS_ACCESS_KEY_ID'] }\n"
    name = deployed(functions, kind, php, ruby, tags={"virga:idle-timeout": "1"})

    def begun_as(start, name):
        def called():
            result = functions.invoke(name)
            return result.ok() if f"\tStart: {start}" in result.log else None

        return until(called, f"an instance begins as {start}", seconds=60, every=1.5)

    one, other = begun_as("template", name), begun_as("template", name)
    assert one["state"] == other["state"], "initialisation ran again"
    assert one["pid"] != one["state"][0], "the pid of the template"
    assert one["random"] != other["random"] and one["key"] != other["key"]
    fresh = deployed(functions, kind, tags={"virga:idle-timeout": "1"})
    assert begun_as("runtime", fresh)["event"] in ({}, [])


def test_logger_lines_of_ruby_have_the_request_id(functions):
    source = "require 'logger'\nLOG = Logger.new($stdout)\ndef handler(event:, context:) = LOG.error('watch out')\n"
    result = functions.invoke(deployed(functions, "ruby", ruby=source))
    assert re.search(rf"E, \[\S+ #\d+\] ERROR {result.request_id} -- : watch out\n", result.log), result.log


@pytest.mark.parametrize("folder", ["hello-php", "hello-ruby"])
def test_a_url_answers(functions, folder):
    example = kinds.EXAMPLES / folder
    files = {path.name: path.read_text() for path in example.iterdir()}
    runtime, handler = (kinds.php(), "index.php") if folder == "hello-php" else (kinds.ruby(), "handler.handler")
    name = functions.deploy(files, runtime, handler, url=True)
    answer = requests.get(functions.path(name, "?name=Ada"), timeout=30)
    assert answer.status_code == 200 and answer.text.startswith("Hello, Ada, from "), answer.text
    assert functions.invoke(name, {"name": "Bo"}).ok()["message"] == "Hello, Bo!"
    assert json.dumps(answer.headers["content-type"]) == '"text/plain; charset=utf-8"'
