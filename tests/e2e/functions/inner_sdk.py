"""Uses the SDK inside a function, with nothing configured."""

import boto3
from botocore.exceptions import ClientError


def handler(event, context):
    try:
        boto3.client("lambda").list_functions()
    except ClientError as error:
        return {"code": error.response["Error"]["Code"], "status": error.response["ResponseMetadata"]["HTTPStatusCode"],
                "message": error.response["Error"]["Message"]}  # fmt: skip
    return {"code": None}
