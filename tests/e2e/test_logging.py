"""LoggingConfig: the log as JSON, levels, and what the runtimes make of it."""

import json

import botocore.exceptions
import pytest

from support import kinds, poll

PYTHON = '''
import logging
log = logging.getLogger("mine")

def handler(event, context):
    print("as it is")
    log.debug("a detail")
    log.info("said %s", "so", extra={"order": 7})
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("caught")
    if event.get("raise"):
        raise ValueError("raised")
    return context.aws_request_id
'''
NODE = '''
exports.handler = async (event, context) => {
  console.debug('a detail');
  console.log('said %s', 'so');
  console.log({ order: 7 });
  console.error('caught', new RangeError('far'));
  const circle = {}; circle.self = circle; console.log(circle);
  if (event.raise) throw new TypeError('raised');
  return context.awsRequestId;
};
'''
RUBY = '''
require 'logger'
$log = Logger.new($stdout)
def handler(event:, context:)
  puts 'as it is'
  $log.debug('a detail')
  $log.info('said so')
  begin
    1 / 0
  rescue ZeroDivisionError => e
    $log.error(e)
  end
  raise ArgumentError, 'raised' if event['raise']
  context.aws_request_id
end
'''
PHP = '''<?php
return function ($event, $context) {
    $log = $context->getLogger();
    echo "as it is\\n";
    $log->debug('a detail');
    $log->info('said so', ['order' => 7]);
    try {
        intdiv(1, 0);
    } catch (DivisionByZeroError $error) {
        $log->error($error->getMessage(), ['exception' => $error]);
    }
    if ($event['raise'] ?? false) {
        throw new DomainException('raised');
    }
    return $context->getAwsRequestId();
};
'''
SOURCES = {
    "python": (kinds.python, "app.py", PYTHON), "system python": (kinds.system_python, "app.py", PYTHON),
    "node": (kinds.node, "app.js", NODE), "ruby": (kinds.ruby, "app.rb", RUBY),
    "php": (kinds.php, "app.php", PHP),
}  # fmt: skip


def deploy(functions, language, config, **options):
    runtime, file, source = SOURCES[language]
    handler = file if language == "php" else "app.handler"
    return functions.deploy({file: source}, runtime(), handler, LoggingConfig=config, **options)


def entries(functions, name):
    """Lines of the whole log: objects where they are JSON."""
    events = functions.server_logs(name)
    return [json.loads(text) if text.startswith("{") else text for text in events]


@pytest.fixture
def logged(server, functions):
    functions.server_logs = lambda name: server.cli("logs", name, check=0).stdout.splitlines()
    return functions


def of_level(found, level):
    return [entry for entry in found if isinstance(entry, dict) and entry.get("level") == level]


@pytest.mark.parametrize("language", SOURCES)
def test_lines_are_objects(logged, language):
    name = deploy(logged, language, {"LogFormat": "JSON"})
    # The third instance at the latest is a copy of one that was made before there was a function.
    invocation = logged.invoke(name).ok()
    poll.until(lambda: "platform.report" in str(logged.server_logs(name)), "the call is in the log")
    found = entries(logged, name)
    if language != "node":
        assert "as it is" in found
    assert not of_level(found, "DEBUG"), "the level is INFO"
    said = of_level(found, "INFO")
    assert said[0]["message"] == "said so" and said[0]["requestId"] == invocation, said
    assert said[0]["timestamp"][10] == "T" and said[0]["timestamp"][-5] == "." and said[0]["timestamp"].endswith("Z")
    (caught,) = of_level(found, "ERROR")
    assert caught["errorType"] in ("ZeroDivisionError", "RangeError", "DivisionByZeroError"), caught
    assert caught["errorMessage"] and isinstance(caught["stackTrace"], list) and caught["stackTrace"]
    if language == "node":
        assert said[1]["message"] == {"order": 7} and "Circular" in said[2]["message"]
    if language == "php":
        assert said[0]["order"] == 7
    if "python" in language:
        assert said[0]["logger"] == "mine" and said[0]["order"] == 7 and "handler" in caught["location"]
    kinds_of = [entry["type"] for entry in found if isinstance(entry, dict) and "type" in entry]
    assert kinds_of == ["platform.initStart", "platform.start", "platform.report"], kinds_of
    report = found[-1]["record"]
    assert report["requestId"] == invocation and report["status"] == "success"
    assert set(report["metrics"]) == {"durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs"}
    assert not [line for line in found if isinstance(line, str) and line.startswith(("START", "END", "REPORT", "INIT"))]


@pytest.mark.parametrize("language", SOURCES)
def test_an_error_is_an_object(logged, language):
    name = deploy(logged, language, {"LogFormat": "JSON", "ApplicationLogLevel": "ERROR"})
    for _ in range(3):
        failed = logged.invoke(name, {"raise": True})
        assert failed.error == "Unhandled"
    found = entries(logged, name)
    assert not of_level(found, "INFO")
    raised = [entry for entry in of_level(found, "ERROR") if "raised" in json.dumps(entry)]
    assert len(raised) == 3 and all(entry["requestId"] for entry in raised), found


def test_levels_and_formats_change(logged):
    name = deploy(logged, "python", {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "SystemLogLevel": "WARN"})
    assert logged.invoke(name).ok()
    found = entries(logged, name)
    assert of_level(found, "DEBUG")[0]["message"] == "a detail"
    assert not [entry for entry in found if isinstance(entry, dict) and "type" in entry], "nothing of the platform's"
    config = logged.api.get_function_configuration(FunctionName=name)["LoggingConfig"]
    wanted = {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "SystemLogLevel": "WARN", "LogGroup": f"/aws/lambda/{name}"}
    assert config == wanted
    # What an update does not name stays.
    logged.api.update_function_configuration(FunctionName=name, LoggingConfig={"SystemLogLevel": "DEBUG"})
    logged.api.get_waiter("function_updated_v2").wait(FunctionName=name)
    assert logged.api.get_function_configuration(FunctionName=name)["LoggingConfig"] == wanted | {"SystemLogLevel": "DEBUG"}
    result = logged.invoke(name)
    assert '"type":"platform.runtimeDone"' in result.log.replace(" ", "")
    logged.api.update_function_configuration(FunctionName=name, LoggingConfig={"LogFormat": "Text"})
    logged.api.get_waiter("function_updated_v2").wait(FunctionName=name)
    assert logged.api.get_function_configuration(FunctionName=name)["LoggingConfig"] == {
        "LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"}  # fmt: skip
    assert "START RequestId" in logged.invoke(name).log


def test_a_time_out_is_an_object(logged):
    source = "import time\ndef handler(event, context):\n    time.sleep(5)\n"
    name = logged.deploy({"app.py": source}, kinds.python(), Timeout=1, LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "WARN"})
    result = logged.invoke(name)
    assert result.error == "Unhandled"
    lines = [json.loads(line) for line in result.log.splitlines()]
    assert [line["type"] for line in lines] == ["platform.fault", "platform.report"]
    assert lines[0]["record"]["message"] == "Task timed out after 1.00 seconds"
    assert lines[1]["record"]["status"] == "timeout"


@pytest.mark.parametrize(("config", "said"), [
    ({"LogFormat": "Text", "ApplicationLogLevel": "DEBUG"}, 'LogLevel is not supported when LogFormat is set to "Text"'),
    ({"ApplicationLogLevel": "INFO"}, "LogLevel is not supported"),
    ({"LogFormat": "YAML"}, "enum value set: [JSON, Text]"),
    ({"LogFormat": "JSON", "SystemLogLevel": "ERROR"}, "enum value set: [DEBUG, INFO, WARN]"),
    ({"LogFormat": "JSON", "LogGroup": "not one"}, "loggingConfig.logGroup"),
])  # fmt: skip
def test_what_cannot_be_is_refused(logged, config, said):
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        deploy(logged, "python", config)
    assert said in str(refused.value)
