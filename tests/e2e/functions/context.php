<?php

// Shows everything a context object shows.
return fn ($event, $context) => [
    'event' => $event,
    'request_id' => $context->getAwsRequestId(),
    'function_name' => $context->getFunctionName(),
    'function_version' => $context->getFunctionVersion(),
    'arn' => $context->getInvokedFunctionArn(),
    'memory' => $context->getMemoryLimitInMb(),
    'log_group' => $context->getLogGroupName(),
    'log_stream' => $context->getLogStreamName(),
    'remaining' => $context->getRemainingTimeInMillis(),
    'identity' => $context->getIdentity(),
    'client' => $context->getClientContext(),
    'env' => getenv(),
    'cwd' => getcwd(),
];
