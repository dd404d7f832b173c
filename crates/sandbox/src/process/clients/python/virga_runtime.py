"""Virga's runtime client for Python event handlers.

Asks the Lambda Runtime API (2018-06-01) for events, calls the handler, posts what it returns. Written to
start quickly: it speaks HTTP over a plain socket and imports nothing that it can do without. Works with
the standard library of Python 3.8 and later alone.
"""

import sys
import os
import time
import json
import _socket

TASK = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
API = "/2018-06-01/runtime/"

# The invocation under way, for log lines.
request_id = None


class Fault(Exception):
    """An error that the client itself found, with Lambda's name for it."""

    def __init__(self, error_type, message, trace=None):
        Exception.__init__(self, message)
        self.error_type = error_type
        self.message = message
        self.trace = trace or []


# --- The Runtime API over one kept connection -----------------------------------------------------------


class Api:
    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.host = host
        self.port = int(port)
        self.address = address
        self.socket = None
        self.buffer = b""

    def connect(self):
        self.buffer = b""
        self.socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.socket.connect((self.host, self.port))
        self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def call(self, head, body=b""):
        """One request; returns (status, headers, body). A message is one write.

        A connection that a snapshot or the server's end has broken is opened again once."""
        message = ("%s HTTP/1.1\r\nHost: %s\r\n" % (head, self.address)).encode("latin-1")
        if head[0] == "P":
            message += b"Content-Length: %d\r\n\r\n" % len(body)
        else:
            message += b"\r\n"
        message += body
        fresh = self.socket is None
        while True:
            try:
                if self.socket is None:
                    self.connect()
                self.send(message)
                return self.receive()
            except (OSError, EOFError):
                self.close()
                if fresh:
                    raise
                fresh = True

    def send(self, message):
        sent = self.socket.send(message)
        if sent < len(message):
            rest = memoryview(message)[sent:]
            while rest:
                rest = rest[self.socket.send(rest):]

    def more(self, size=65536):
        data = self.socket.recv(size)
        if not data:
            raise EOFError("the Runtime API closed the connection")
        return data

    def receive(self):
        data = self.buffer
        end = data.find(b"\r\n\r\n")
        while end < 0:
            data += self.more()
            end = data.find(b"\r\n\r\n")
        lines = data[:end].decode("utf-8", "replace").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = data[end + 4:]
        length = int(headers.get("content-length", "0"))
        if len(body) < length:
            pieces = [body]
            missing = length - len(body)
            while missing > 0:
                piece = self.more(min(max(missing, 1), 1 << 20))
                pieces.append(piece)
                missing -= len(piece)
            body = b"".join(pieces)
        self.buffer = body[length:]
        return int(lines[0].split(" ", 2)[1]), headers, body[:length]

    def next(self):
        status, headers, body = self.call("GET " + API + "invocation/next")
        if status != 200:
            raise RuntimeError("the Runtime API answered %d: %s" % (status, body.decode("utf-8", "replace")))
        return headers, body

    def respond(self, invocation, body, content_type):
        head = "POST %sinvocation/%s/response HTTP/1.1\r\nContent-Type: %s" % (API, invocation, content_type)
        return self.post(head, body)

    def error(self, path, error):
        head = "POST %s%s HTTP/1.1\r\nContent-Type: application/json\r\nLambda-Runtime-Function-Error-Type: %s"
        kind = "".join(c if " " < c < "\x7f" else "_" for c in error["errorType"])
        self.post(head % (API, path, kind), dump(error).encode("utf-8", "backslashreplace"))

    def post(self, head, body):
        # The version is put in by `call`, before the first header.
        request, _, extra = head.partition(" HTTP/1.1\r\n")
        status, _, _ = self.call(request, body) if not extra else self.call_with(request, extra, body)
        return status

    def call_with(self, request, extra, body):
        return self.call(request + " HTTP/1.1\r\n" + extra, body)


# --- What the handler gets ------------------------------------------------------------------------------


class CognitoIdentity:
    def __init__(self, given):
        given = given or {}
        self.cognito_identity_id = given.get("cognitoIdentityId")
        self.cognito_identity_pool_id = given.get("cognitoIdentityPoolId")

    def __repr__(self):
        return "CognitoIdentity([cognito_identity_id=%s,cognito_identity_pool_id=%s])" % (
            self.cognito_identity_id,
            self.cognito_identity_pool_id,
        )
