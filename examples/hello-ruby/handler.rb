# frozen_string_literal: true

# A Lambda handler: answers a browser with a page of text and any other event with JSON.
def handler(event:, context:)
  return page(event, context) if event.key?('requestContext')

  name = event.fetch('name', 'world')
  puts "greeting #{name}"
  { message: "Hello, #{name}!", remaining_ms: context.get_remaining_time_in_millis }
end

def page(event, context)
  name = event.dig('queryStringParameters', 'name') || 'world'
  http = event['requestContext']['http']
  puts "#{http['method']} #{http['path']}: greeting #{name}"
  body = <<~PAGE
    Hello, #{name}, from Ruby!
    This is #{context.function_name} with #{context.memory_limit_in_mb} MB, request #{context.aws_request_id}.
    Greet somebody else with ?name=Ada
  PAGE
  { statusCode: 200, headers: { 'content-type' => 'text/plain; charset=utf-8' }, body: body }
end
