"""Virga's runtime client for Python event handlers.

Asks the Lambda Runtime API (2018-06-01) for events, calls the handler, posts what it returns. Written to
start quickly: it speaks HTTP over a plain socket and imports nothing that it can do without. Needs the
standard library of Python 3.8 or later, nothing else.
"""

import sys
import os
import time
import _socket

TASK = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
API = "/2018-06-01/runtime/"
NEXT = "invocation/next"
OURS = os.path.dirname(os.path.abspath(__file__))

# The invocation under way, for log lines; with several at once `virga_concurrent` knows.
request_id = None


def current_id():
    return request_id


class Fault(Exception):
    """An error that the client itself found, with Lambda's name for it."""

    def __init__(self, error_type, message, trace=None):
        Exception.__init__(self, message)
        self.error_type = error_type
        self.message = message
        self.trace = trace or []


def message(method, path, address, headers, body=None):
    """A request in one piece. `headers` are whole lines."""
    if body is None:
        return ("%s %s%s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (method, API, path, address, headers)).encode("latin-1")
    head = "%s %s%s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n"
    return (head % (method, API, path, address, headers, len(body))).encode("latin-1") + body


def parse_head(data, end):
    """Status and headers of an answer whose head ends there."""
    lines = data[:end].decode("utf-8", "replace").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return int(lines[0].split(" ", 2)[1]), headers


class Connection:
    """HTTP/1.1 with the Runtime API over one kept connection. A message is one write."""

    def __init__(self, address):
        self.address = address
        self.socket = None
        self.ahead = b""

    def open(self):
        host, _, port = self.address.rpartition(":")
        self.ahead = b""
        self.socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def get(self, path, headers=""):
        return self.exchange(message("GET", path, self.address, headers))

    def post(self, path, body, headers):
        if type(body) is not bytes:
            half("streaming").send(self, path, body, headers)
            return self.receive()
        return self.exchange(message("POST", path, self.address, headers, body))

    def exchange(self, message):
        """Sends a message; returns status, headers and body of the answer. A kept connection that turns out
        to be broken is opened again once: the API hands out a lost event again."""
        kept = self.socket is not None
        while True:
            try:
                if self.socket is None:
                    self.open()
                self.send(message)
                return self.receive()
            except (OSError, EOFError):
                self.close()
                if not kept:
                    raise
                kept = False

    def send(self, message):
        sent = self.socket.send(message)
        if sent < len(message):
            rest = memoryview(message)[sent:]
            while rest:
                rest = rest[self.socket.send(rest) :]

    def receive(self):
        data = self.ahead
        while True:
            end = data.find(b"\r\n\r\n")
            if end >= 0:
                break
            more = self.socket.recv(65536)
            if not more:
                raise EOFError("the Runtime API closed the connection")
            data = data + more if data else more
        status, headers = parse_head(data, end)
        length = int(headers.get("content-length", 0))
        start = end + 4
        if len(data) - start >= length:
            self.ahead = data[start + length :]
            body = data[start : start + length]
        else:
            self.ahead = b""
            body = self.rest_of(data[start:], length)
        return status, headers, body

    def rest_of(self, begun, length):
        body = bytearray(length)
        body[: len(begun)] = begun
        missing = memoryview(body)[len(begun) :]
        while missing:
            read = self.socket.recv_into(missing)
            if not read:
                raise EOFError("the Runtime API closed the connection")
            missing = missing[read:]
        return body


class CognitoIdentity:
    def __init__(self, given):
        self.cognito_identity_id = given.get("cognitoIdentityId")
        self.cognito_identity_pool_id = given.get("cognitoIdentityPoolId")

    def __repr__(self):
        return "CognitoIdentity([cognito_identity_id=%s,cognito_identity_pool_id=%s])" % (
            self.cognito_identity_id,
            self.cognito_identity_pool_id,
        )


class Client:
    FIELDS = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")

    def __init__(self, given):
        for field in self.FIELDS:
            setattr(self, field, given.get(field))

    def __repr__(self):
        return "Client([%s])" % ",".join("%s=%s" % (field, getattr(self, field)) for field in self.FIELDS)


class ClientContext:
    def __init__(self, given):
        client = given.get("client")
        self.client = None if client is None else Client(client)
        self.custom = given.get("custom")
        self.env = given.get("env")

    def __repr__(self):
        return "ClientContext([custom=%s,env=%s,client=%s])" % (self.custom, self.env, self.client)


# What every invocation of this process is told; read by the first, since a copied process has its own.
fixed = None


def about_instance():
    global fixed
    if fixed is None:
        get = os.environ.get
        fixed = {
            "log_group_name": get("AWS_LAMBDA_LOG_GROUP_NAME"),
            "log_stream_name": get("AWS_LAMBDA_LOG_STREAM_NAME"),
            "function_name": get("AWS_LAMBDA_FUNCTION_NAME"),
            "memory_limit_in_mb": get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
            "function_version": get("AWS_LAMBDA_FUNCTION_VERSION"),
        }
    return fixed


class LambdaContext:
    """What a handler is told about its invocation."""

    def __init__(self, headers, deadline_ms):
        self.__dict__.update(fixed or about_instance())
        self.aws_request_id = headers.get("lambda-runtime-aws-request-id")
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn")
        self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        self.trace_id = headers.get("lambda-runtime-trace-id")
        client_context = read_json(headers.get("lambda-runtime-client-context"))
        self.client_context = ClientContext(client_context) if client_context else None
        self.identity = CognitoIdentity(read_json(headers.get("lambda-runtime-cognito-identity")) or {})
        self._deadline_ms = deadline_ms

    def get_remaining_time_in_millis(self):
        return max(self._deadline_ms - int(time.time() * 1000), 0)

    def log(self, message):
        sys.stdout.write(str(message))

    def __repr__(self):
        shown = ("aws_request_id", "log_group_name", "log_stream_name", "function_name", "memory_limit_in_mb")
        shown += ("function_version", "invoked_function_arn", "client_context", "identity")
        return "LambdaContext([%s])" % ",".join("%s=%s" % (name, getattr(self, name)) for name in shown)


def read_json(text):
    """The object that a header holds; nothing for a header that is absent or holds something else."""
    if not text:
        return None
    try:
        value = loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def as_json(value):
    """For values that JSON does not know."""
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(value, decimal.Decimal):
        whole = value.is_finite() and value == value.to_integral_value()
        return int(value) if whole else float(value)
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


class Scanning:
    """What the scanner of `_json` asks about how to read: as `json` does by default."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}.__getitem__


try:
    # The C half of `json`. The package itself is not needed for the usual case, and importing it (for regular
    # expressions, most of all) would take longer than all the rest of this file.
    import _json

    scan = _json.make_scanner(Scanning)
except (ImportError, AttributeError, TypeError):
    _json = None


def loads(text):
    if _json is not None:
        start = 0
        while text[start : start + 1] in (" ", "\t", "\n", "\r"):
            start += 1
        try:
            value, end = scan(text, start)
            if end == len(text) or not text[end:].strip(" \t\n\r"):
                return value
        except StopIteration:
            pass
    # For another Python, and for a text that is no JSON: `json` says why.
    import json

    return json.loads(text)


def dumps(value, ascii=False):
    if _json is None:
        import json

        return json.dumps(value, ensure_ascii=ascii, default=as_json)
    escape = _json.encode_basestring_ascii if ascii else _json.encode_basestring
    if isinstance(value, str):
        return escape(value)
    # Made anew each time: it remembers what it is inside of, to notice circles.
    encoder = _json.make_encoder({}, as_json, escape, None, ": ", ", ", False, False, True)
    return "".join(encoder(value, 0))


def to_bytes(value):
    try:
        return dumps(value).encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8, but an escape.
        return dumps(value, ascii=True).encode("ascii")


def marshal(result):
    """The body to answer with and its content type."""
    if isinstance(result, bytes):
        return result, "application/unknown"
    try:
        return to_bytes(result), "application/json"
    except Exception as error:
        raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % error)


def unmarshal(body):
    try:
        return loads(body.decode("utf-8"))
    except Exception as error:
        raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % error)


def find_handler(name):
    """Imports the module that `_HANDLER` names and returns the function in it."""
    try:
        path, function = name.rsplit(".", 1)
    except ValueError as error:
        raise Fault("Runtime.MalformedHandlerName", "Bad handler '%s': %s" % (name, error))
    module = path.replace("/", ".")
    if module.split(".")[0] in sys.builtin_module_names:
        message = "Cannot use built-in module %s as a handler module" % path
        raise Fault("Runtime.BuiltInModuleConflict", message)
    try:
        __import__(module)
    except ImportError as error:
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (path, error))
    except SyntaxError as error:
        trace = ['  File "%s" Line %s\n    %s' % (error.filename, error.lineno, error.text)]
        raise Fault("Runtime.UserCodeSyntaxError", "Syntax error in module '%s': %s" % (path, error), trace)
    except ValueError as error:
        # An empty part of the name.
        if module.strip(".") == module and ".." not in module:
            raise
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (path, error))
    handler = getattr(sys.modules[module], function, None)
    if handler is None:
        message = "Handler '%s' missing on module '%s'" % (function, path)
        raise Fault("Runtime.HandlerNotFound", message)
    return handler


def describe(error, invocation):
    """An exception in the shape that Lambda reports it."""
    if isinstance(error, Fault):
        kind, message, trace = error.error_type, error.message, error.trace
    else:
        kind, message, trace = type(error).__name__, str(error), stack(error)
    return {"errorMessage": message, "errorType": kind, "requestId": invocation or "", "stackTrace": trace}


def stack(error):
    """The traceback from the user's first frame on, an entry a frame."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    frames = [(f.filename, f.lineno, f.name, f.line) for f in frames if not is_ours(f.filename)]
    return traceback.format_list(frames)


def is_ours(filename):
    ours = ("/python/virga_runtime.py", "/python/virga_concurrent.py", "/python/virga_template.py")
    ours += ("/python/virga_logging.py", "/python/virga_streaming.py")
    return filename.startswith("<frozen importlib") or filename.endswith(ours)


def log_error(report):
    """One line, as Lambda's: newlines become carriage returns, so that it stays one event of the log."""
    text = "[ERROR] %s" % report["errorType"]
    if report["errorMessage"]:
        text += ": %s" % report["errorMessage"]
    if is_json_wanted():
        flush()
        half("logging").write_error(report)
        return
    lines = [text, "Traceback (most recent call last):"]
    for entry in report["stackTrace"]:
        lines.extend(entry.splitlines())
    flush()
    write_line("\r".join(line.replace("\n", "\r") for line in lines))


def write_line(text):
    """Past whatever the function may have made of `sys.stdout`."""
    data = memoryview((text + "\n").encode("utf-8", "backslashreplace"))
    while data:
        data = data[os.write(1, data) :]


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            # Closed or replaced by the function; what it held is the function's loss.
            pass


def response(invocation, result):
    """The answer with a result: path, body and headers. Asks for the next event as its reply."""
    body, content_type = result
    headers = "Content-Type: %s\r\nVirga-Next: 1\r\n" % content_type
    return "invocation/%s/response" % invocation, body, headers


def failure(invocation, error):
    """The answer with an error, which it logs: path, body and headers."""
    described = describe(error, invocation)
    log_error(described)
    kind = header_value(described["errorType"])
    headers = "Content-Type: application/json\r\nLambda-Runtime-Function-Error-Type: %s\r\n" % kind
    if invocation is None:
        return "init/error", to_bytes(described), headers
    return "invocation/%s/error" % invocation, to_bytes(described), headers + "Virga-Next: 1\r\n"


def header_value(text):
    return "".join(c if " " < c < "\x7f" else "_" for c in text)


Generator = type((lambda: (yield))())


def is_event(status, path):
    """Whether an answer holds an event. The reply to an answer need not: what was answered may have been too
    large, or answered before over a connection that broke."""
    if status != 200 and path == NEXT:
        raise SystemExit("the Runtime API answered %d to next" % status)
    return status == 200


TRACE = "_X_AMZN_TRACE_ID"
Environ = type(os.environ)


def set_trace(value):
    """Whose trace the invocation is part of, in `os.environ`.

    The C library never frees what `putenv` was given: a process would grow with every invocation. So what only
    child processes look at is told only where the function may start some."""
    environ = os.environ
    if type(environ) is not Environ or "subprocess" in sys.modules:
        if value:
            environ[TRACE] = value
        else:
            environ.pop(TRACE, None)
    elif value:
        environ._data[b"_X_AMZN_TRACE_ID"] = value.encode("utf-8", "surrogateescape")
    else:
        environ._data.pop(b"_X_AMZN_TRACE_ID", None)


def set_up_subprocess(_):
    """Children of this invocation, too, are told its trace."""
    if TRACE in os.environ:
        os.environ[TRACE] = os.environ[TRACE]


class ImportHook:
    """Sets a module up when, and only when, the function imports it."""

    def __init__(self, wanted, set_up):
        self.wanted, self.set_up = wanted, set_up

    def find_spec(self, name, path=None, target=None):
        if name != self.wanted:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            self.set_up(module)

        spec.loader.exec_module = exec_module
        return spec


def is_json_wanted():
    """Whether the function asked for its log as JSON."""
    return os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON"


# The root logger's handler for lines of text, once `logging` was imported.
text_handler = None


def set_up_logging(logging):
    global text_handler
    if is_json_wanted():
        half("logging").set_up(logging)
        return

    class Handler(logging.Handler):
        def emit(self, record):
            try:
                record.aws_request_id = current_id() or ""
                sys.stdout.write(self.format(record))
            except Exception:
                self.handleError(record)

    layout = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
    formatter = logging.Formatter(layout, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    text_handler = Handler()
    text_handler.setFormatter(formatter)
    logging.getLogger().addHandler(text_handler)


def layers():
    """Where layers put modules."""
    layer = "/opt/python"
    return ["%s/lib/python%d.%d/site-packages" % (layer, sys.version_info[0], sys.version_info[1]), layer]


def set_up_process():
    """What the function finds: `sys.path`, line by line output, `logging`."""
    first = [TASK] + layers()
    others = [entry for entry in sys.path if entry not in first and entry != OURS]
    # What functions may import of ours comes last: a package's own wins.
    sys.path[:] = first + others + [OURS + "/packages"]
    sys.argv[:] = [""]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    # Both are slow to import.
    for name, set_up in (("logging", set_up_logging), ("subprocess", set_up_subprocess)):
        if name in sys.modules:
            set_up(sys.modules[name])
        else:
            sys.meta_path.insert(0, ImportHook(name, set_up))


def serve(connection, handler, began):
    """One event after another."""
    global request_id
    path, reply = NEXT, connection.get(NEXT, began)
    while True:
        status, headers, body = reply
        if not is_event(status, path):
            path, reply = NEXT, connection.get(NEXT)
            continue
        request_id = headers["lambda-runtime-aws-request-id"]
        set_trace(headers.get("lambda-runtime-trace-id"))
        path, body, headers = run_one(handler, request_id, headers, body)
        reply = connection.post(path, body, headers)


def run_one(handler, invocation, headers, body):
    """One invocation; its answer. What is no Exception (exit, interrupt) ends the process: Runtime.ExitError."""
    try:
        context = LambdaContext(headers, int(headers["lambda-runtime-deadline-ms"]))
        result = handler(unmarshal(body), context)
        if type(result) is Generator:
            return half("streaming").response(invocation, result)
        result = marshal(result)
    except Exception as error:
        return failure(invocation, error)
    flush()
    return response(invocation, result)


def is_async(handler):
    """Whether calling it gives a coroutine, or a generator that waits."""
    for function in (handler, getattr(handler, "__func__", None), getattr(type(handler), "__call__", None)):
        code = getattr(function, "__code__", None)
        if code is not None:
            # CO_COROUTINE and CO_ASYNC_GENERATOR of `inspect`.
            return bool(code.co_flags & 0x280)
    return False


def half(name):
    """Another half of the client: only who needs it pays for importing it."""
    sys.path.insert(0, OURS)
    try:
        return __import__("virga_" + name)
    finally:
        sys.path.remove(OURS)


def connection():
    return Connection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def began_at(nanoseconds):
    """Tells when the function's own code began, with the first `next`."""
    return "Virga-Init-Began: %d\r\n" % nanoseconds


def main(prepared=False):
    """Runs the function; `prepared`: the process is set up already."""
    template = os.environ.pop("VIRGA_TEMPLATE", None)
    if not prepared:
        set_up_process()
    elif text_handler is not None and is_json_wanted():
        # It was set up before there was a function.
        logging = sys.modules["logging"]
        logging.getLogger().removeHandler(text_handler)
        set_up_logging(logging)
    began = began_at(time.monotonic_ns())
    try:
        handler = find_handler(os.environ.get("_HANDLER", ""))
        if template is not None:
            # Returns in each instance, never in the template itself.
            began = began_at(half("template").instance())
    except Exception as error:
        connection().post(*failure(None, error))
        sys.exit(1)
    flush()
    most = int(os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY") or 1)
    if is_async(handler):
        half("concurrent").serve_tasks(connection().address, handler, most, began)
    elif most > 1:
        half("concurrent").serve_threads(connection().address, handler, most, began)
    else:
        serve(connection(), handler, began)
