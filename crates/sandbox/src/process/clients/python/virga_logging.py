"""The log as JSON, an object a line (Lambda: Using structured JSON logs with Python)."""

import json
import os
import sys
import time

import virga_runtime

# What a record has by itself; everything else came with `extra`.
OWN = {
    "name", "msg", "args", "levelname", "levelno", "pathname", "filename", "module", "exc_info", "exc_text", "stack_info",
    "lineno", "funcName", "created", "msecs", "relativeCreated", "thread", "threadName", "processName", "process",
    "taskName", "aws_request_id",
}
# Lambda's names of levels that Python has under another name, or not at all.
LEVELS = {"TRACE": 5, "FATAL": 50}


def set_up(logging):
    """Gives the root logger a handler, and the level that the function is configured for."""

    class Handler(logging.Handler):
        def emit(self, record):
            try:
                sys.stdout.write(line(record) + "\n")
            except Exception:
                self.handleError(record)

    root = logging.getLogger()
    root.addHandler(Handler())
    wanted = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "INFO")
    root.setLevel(LEVELS.get(wanted) or getattr(logging, wanted, logging.INFO))


def line(record):
    """A record as Lambda writes it."""
    entry = {
        "timestamp": timestamp(record.created),
        "level": record.levelname,
        "message": record.getMessage(),
        "logger": record.name,
    }
    invocation = virga_runtime.current_id()
    if invocation:
        entry["requestId"] = invocation
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        entry["errorType"] = type(error).__name__
        entry["errorMessage"] = str(error)
        entry["stackTrace"] = virga_runtime.stack(error)
        entry["location"] = "%s:%s:%d" % (record.pathname, record.funcName, record.lineno)
    for name, value in record.__dict__.items():
        if name not in OWN and name not in entry:
            entry[name] = value
    return json.dumps(entry, default=str)


def write_error(report):
    """What ended an invocation."""
    entry = {
        "timestamp": timestamp(time.time()),
        "level": "ERROR",
        "message": report["errorMessage"],
        "logger": None,
        "errorType": report["errorType"],
        "errorMessage": report["errorMessage"],
        "stackTrace": report["stackTrace"],
    }
    if report["requestId"]:
        entry["requestId"] = report["requestId"]
    virga_runtime.write_line(json.dumps({name: value for name, value in entry.items() if value is not None}))


def timestamp(seconds):
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return "%s.%03dZ" % (whole, int(seconds * 1000) % 1000)
