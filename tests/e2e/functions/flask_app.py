"""The same in Flask, on its own threaded server."""

import os
import sys

sys.path.insert(0, "/var/task")

from flask import Flask, Response, jsonify, request

app = Flask(__name__)


@app.get("/")
def hello():
    return f"hello from {os.getpid()}"


@app.route("/echo", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
def echo():
    return jsonify(method=request.method, path=request.path, args=request.args, body=request.get_data(as_text=True))


@app.get("/events")
def events():
    def produce():
        yield "data: first\n\n"
        yield "data: second\n\n"

    return Response(produce(), mimetype="text/event-stream")


@app.post("/events")
def invoked():
    return jsonify(invoked=request.get_json())


app.run(host="127.0.0.1", port=int(os.environ["PORT"]), threaded=True)
