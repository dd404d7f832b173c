# frozen_string_literal: true

# Shows everything a Lambda context object shows.
def handler(event:, context:)
  {
    event: event,
    request_id: context.aws_request_id,
    function_name: context.function_name,
    function_version: context.function_version,
    arn: context.invoked_function_arn,
    memory: context.memory_limit_in_mb,
    log_group: context.log_group_name,
    log_stream: context.log_stream_name,
    remaining: context.get_remaining_time_in_millis,
    identity: context.identity,
    client: context.client_context,
    env: ENV.to_h,
    cwd: Dir.pwd
  }
end
