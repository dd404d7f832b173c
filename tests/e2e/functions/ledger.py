"""Prints what it is given, fails where it is told to, and shows its trace."""

import os
import time


def handler(event, context):
    print(f"ran {event.get('n')} {context.aws_request_id} end", flush=True)
    if "requestContext" in event:
        print(f"record {event['requestContext']['condition']} {event['requestContext']['requestId']} end", flush=True)
    if event.get("sleep"):
        time.sleep(event["sleep"])
    if event.get("fail"):
        raise ValueError("told to")
    return {"n": event.get("n"), "trace": os.environ.get("_X_AMZN_TRACE_ID")}
