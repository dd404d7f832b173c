<?php

// A PHP handler: the file returns what is called with every event. Answers a browser with a page of text and any other
// event with JSON.

function page(array $event, $context): array
{
    $name = $event['queryStringParameters']['name'] ?? 'world';
    ['method' => $method, 'path' => $path] = $event['requestContext']['http'];
    echo "$method $path: greeting $name\n";
    $about = "This is {$context->getFunctionName()} with {$context->getMemoryLimitInMb()} MB";
    $lines = [
        "Hello, $name, from PHP!",
        "$about, request {$context->getAwsRequestId()}.",
        'Greet somebody else with ?name=Ada',
    ];
    return [
        'statusCode' => 200,
        'headers' => ['content-type' => 'text/plain; charset=utf-8'],
        'body' => implode("\n", $lines) . "\n",
    ];
}

return function ($event, $context) {
    if (isset($event['requestContext'])) {
        return page($event, $context);
    }
    $name = $event['name'] ?? 'world';
    echo "greeting $name\n";
    return ['message' => "Hello, $name!", 'remaining_ms' => $context->getRemainingTimeInMillis()];
};
