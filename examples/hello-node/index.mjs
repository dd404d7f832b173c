// A Lambda handler: answers a browser with a page of text and any other event with JSON.

export async function handler(event, context) {
  if (event.requestContext) return page(event, context);
  const name = event.name ?? "world";
  console.log(`greeting ${name}`);
  return { message: `Hello, ${name}!`, remaining_ms: context.getRemainingTimeInMillis() };
}

function page(event, context) {
  const name = event.queryStringParameters?.name ?? "world";
  const { method, path } = event.requestContext.http;
  console.log(`${method} ${path}: greeting ${name}`);
  const lines = [
    `Hello, ${name}, from Node!`,
    `This is ${context.functionName} with ${context.memoryLimitInMB} MB, request ${context.awsRequestId}.`,
    "Greet somebody else with ?name=Ada",
  ];
  return {
    statusCode: 200,
    headers: { "content-type": "text/plain; charset=utf-8" },
    body: lines.join("\n") + "\n",
  };
}
