"""A Flask application without a server, and beside it one that checks what PEP 3333 asks of servers."""

import wsgiref.validate

from flask import Flask, Response, request

site = Flask(__name__)


@site.get("/")
def hello():
    return {"url": request.url, "client": request.remote_addr, "mine": request.headers.get("X-Mine")}


@site.post("/count")
def count():
    return {"length": len(request.get_data())}


@site.get("/parts")
def parts():
    return Response((f"{number}\n" for number in range(3)), mimetype="text/plain")


@site.get("/fails")
def fails():
    raise ValueError("broken on purpose")


def plain(environ, start_response):
    write = start_response("202 Of Course", [("Content-Type", "text/plain"), ("X-Twice", "1"), ("X-Twice", "2")])
    write(b"written, ")
    first = environ["wsgi.input"].read(2)
    return [first, b"|", environ["wsgi.input"].readline(100), b"|", environ["PATH_INFO"].encode("latin-1")]


checked = wsgiref.validate.validator(plain)


def app(environ, start_response):
    return (checked if environ["PATH_INFO"].startswith("/checked") else site)(environ, start_response)
