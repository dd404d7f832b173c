"""Answers its event; fails in the ways it is told to."""

import os
import sys
import time

COLD = {"count": 0}


class Refused(Exception):
    pass


def handler(event, context):
    COLD["count"] += 1
    do = event.get("do") if isinstance(event, dict) else None
    if do == "raise":
        raise Refused(event["text"])
    if do == "exit":
        sys.stdout.flush()
        os._exit(event.get("code", 3))
    if do == "sys.exit":
        sys.exit(event.get("code", 3))
    if do == "segfault":
        os.kill(os.getpid(), 11)
    if do == "sleep":
        time.sleep(event["seconds"])
        return {"pid": os.getpid(), "instance": context.log_stream_name, "count": COLD["count"]}
    if do == "big":
        return "x" * event["bytes"]
    if do == "print":
        print(event["text"])
        print(event["text"], file=sys.stderr)
    if do == "not-json":
        return {1, 2}
    if do == "memory":
        held = []
        while True:
            held.append(bytearray(b"x" * (1 << 20)))
    return {"event": event, "count": COLD["count"], "instance": context.log_stream_name}
