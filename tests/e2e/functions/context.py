"""Shows everything a Lambda context object shows."""

import os


def handler(event, context):
    identity, client = context.identity, context.client_context
    return {
        "event": event,
        "request_id": context.aws_request_id,
        "function_name": context.function_name,
        "function_version": context.function_version,
        "arn": context.invoked_function_arn,
        "memory": context.memory_limit_in_mb,
        "log_group": context.log_group_name,
        "log_stream": context.log_stream_name,
        "remaining": context.get_remaining_time_in_millis(),
        "identity": identity and [identity.cognito_identity_id, identity.cognito_identity_pool_id],
        "client": client and {
            "custom": client.custom,
            "env": client.env,
            "title": client.client and client.client.app_title,
        },
        "env": dict(os.environ),
        "cwd": os.getcwd(),
    }
