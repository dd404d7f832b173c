// Shows everything a Lambda context object shows.
export const handler = async (event, context) => ({
  event,
  request_id: context.awsRequestId,
  function_name: context.functionName,
  function_version: context.functionVersion,
  arn: context.invokedFunctionArn,
  memory: context.memoryLimitInMB,
  log_group: context.logGroupName,
  log_stream: context.logStreamName,
  remaining: context.getRemainingTimeInMillis(),
  identity: context.identity,
  client: context.clientContext,
  waits: context.callbackWaitsForEmptyEventLoop,
  env: process.env,
  cwd: process.cwd(),
});
