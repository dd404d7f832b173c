#!/bin/sh
# The Lambda Runtime API by hand, with curl.
set -eu
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
while true; do
    event=$(curl -sS -D /tmp/head "$api/invocation/next")
    id=$(grep -i '^lambda-runtime-aws-request-id:' /tmp/head | tr -d '\r' | cut -d' ' -f2)
    arn=$(grep -i '^lambda-runtime-invoked-function-arn:' /tmp/head | tr -d '\r' | cut -d' ' -f2)
    deadline=$(grep -i '^lambda-runtime-deadline-ms:' /tmp/head | tr -d '\r' | cut -d' ' -f2)
    trace=$(grep -i '^lambda-runtime-trace-id:' /tmp/head | tr -d '\r' | cut -d' ' -f2)
    case $event in
    *fail*)
        curl -sS -o /dev/null -X POST -H 'Lambda-Runtime-Function-Error-Type: Shell.Refused' \
            -d '{"errorType":"Shell.Refused","errorMessage":"told to fail","stackTrace":["line 1"]}' \
            "$api/invocation/$id/error"
        ;;
    *)
        echo "shell saw $id" >&2
        curl -sS -o /dev/null -X POST \
            -d "{\"event\":$event,\"request_id\":\"$id\",\"arn\":\"$arn\",\"deadline\":$deadline,\"trace\":\"$trace\",\"handler\":\"$_HANDLER\"}" \
            "$api/invocation/$id/response"
        ;;
    esac
done
