"""A Lambda handler: answers a browser with a page of text and any other event with JSON."""


def handler(event, context):
    if "requestContext" in event:
        return page(event, context)
    name = event.get("name", "world")
    print(f"greeting {name}")
    return {"message": f"Hello, {name}!", "remaining_ms": context.get_remaining_time_in_millis()}


def page(event, context):
    name = event.get("queryStringParameters", {}).get("name", "world")
    http = event["requestContext"]["http"]
    print(f"{http['method']} {http['path']}: greeting {name}")
    lines = [
        f"Hello, {name}, from Python!",
        f"This is {context.function_name} with {context.memory_limit_in_mb} MB, request {context.aws_request_id}.",
        "Greet somebody else with ?name=Ada",
    ]
    return {
        "statusCode": 200,
        "headers": {"content-type": "text/plain; charset=utf-8"},
        "body": "\n".join(lines) + "\n",
    }
