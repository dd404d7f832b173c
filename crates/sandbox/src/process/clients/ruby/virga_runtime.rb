# frozen_string_literal: true

# Virga's runtime client for Ruby event handlers.
#
# Asks the Lambda Runtime API (2018-06-01) for events, calls the handler, posts what it returns. Speaks HTTP over a
# plain socket. Requires, before the function's own code has run, nothing that a gem of the function's could bring in
# another version; afterwards `json`. Needs Ruby 3.0.

require 'socket.so'

module VirgaRuntime
  API = '/2018-06-01/runtime/'
  NEXT = 'invocation/next'
  OURS = "#{__dir__}/"
  MAIN = TOPLEVEL_BINDING.receiver

  class << self
    # The invocation under way, for log lines.
    attr_accessor :request_id

    # An error in a log of JSON.
    def error_entry(error)
      message = error.message.to_s.dup.force_encoding(Encoding::UTF_8).scrub
      { message: message, errorType: error.class.name, errorMessage: message, stackTrace: stack(error) }
    end
  end

  # HTTP/1.1 with the Runtime API over one kept connection. A message is one write.
  class Connection
    CHUNK = 65_536
    # F_SETFL, O_RDWR: a socket that blocks takes one call to wait and read.
    BLOCKING = [4, 2].freeze

    def initialize(address)
      @address = address
      @socket = nil
      @ahead = String.new
    end

    def get(path, headers = '')
      exchange("GET #{API}#{path} HTTP/1.1\r\nHost: #{@address}\r\n#{headers}\r\n")
    end

    def post(path, body, headers)
      head = "POST #{API}#{path} HTTP/1.1\r\nHost: #{@address}\r\n#{headers}Content-Length: #{body.bytesize}\r\n\r\n"
      exchange(head.b << body.b)
    end

    # Begins a message whose body comes in pieces; the head, to go out with the first. It is not sent again.
    def begin(path, headers)
      "POST #{API}#{path} HTTP/1.1\r\nHost: #{@address}\r\n#{headers}\r\n"
    end

    # Sends a piece of a message.
    def write(data)
      open unless @socket
      @socket.write(data)
    end

    # Status, headers and body of the answer to a message that was sent in pieces.
    def finish
      receive
    end

    private

    # Sends a message; status, headers and body of the answer. A kept connection that turns out to be broken is opened
    # again once: the API hands out a lost event again.
    def exchange(message)
      kept = !@socket.nil?
      begin
        open unless @socket
        @socket.write(message)
        receive
      rescue SystemCallError, IOError
        @socket&.close
        @socket = nil
        raise unless kept

        kept = false
        retry
      end
    end

    def open
      host, port = @address.split(':')
      @ahead = String.new
      @socket = TCPSocket.new(host, Integer(port))
      @socket.sync = true
      @socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
      @socket.fcntl(*BLOCKING)
    end

    def receive
      data = @ahead
      data << more until (stop = data.index("\r\n\r\n"))
      status, headers = head(data.byteslice(0, stop))
      start = stop + 4
      length = headers['content-length'].to_i
      data << more while data.bytesize < start + length
      @ahead = data.byteslice(start + length, data.bytesize)
      [status, headers, data.byteslice(start, length)]
    end

    def more
      chunk = @socket.recv(CHUNK)
      raise EOFError, 'the Runtime API closed the connection' if chunk.nil? || chunk.empty?

      chunk
    end

    def head(text)
      lines = text.force_encoding(Encoding::UTF_8).split("\r\n")
      status = lines.shift.split(' ', 3)[1].to_i
      headers = lines.to_h do |line|
        name, value = line.split(':', 2)
        [name.downcase, value.strip]
      end
      [status, headers]
    end
  end

  # An answer in pieces (`Lambda-Runtime-Function-Response-Mode: streaming`): strings as they are, anything else as a line
  # of JSON. If the first is a Hash with `statusCode`, it is the head of an HTTP response. What goes wrong later is told in
  # trailers.
  class Pieces
    HEAD_FIRST = 'application/vnd.awslambda.http-integration-response'
    TYPE = 'Lambda-Runtime-Function-Error-Type'
    BODY = 'Lambda-Runtime-Function-Error-Body'
    HEADERS = "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n" \
              "Trailer: #{TYPE}, #{BODY}\r\n"

    def initialize(connection, path)
      @connection = connection
      @path = path
      @begun = false
    end

    def begun?
      @begun
    end

    def write(item)
      return send(data(item)) if @begun

      head = item.is_a?(Hash) && (item.key?('statusCode') || item.key?(:statusCode))
      return start(HEAD_FIRST, item.to_json.b << ("\0" * 8)) if head

      start(item.is_a?(String) ? text(item) : 'application/x-ndjson', data(item))
    end

    # The end: with an error, its type and its report. The API's reply.
    def finish(kind = nil, report = nil)
      start('application/octet-stream', '') unless @begun
      trailers = kind ? "#{TYPE}: #{kind}\r\n#{BODY}: #{[report].pack('m0')}\r\n" : ''
      @connection.write("0\r\n#{trailers}\r\n")
      @connection.finish
    end

    private

    def text(item)
      item.encoding == Encoding::BINARY ? 'application/octet-stream' : 'text/plain; charset=utf-8'
    end

    def data(item)
      item.is_a?(String) ? item.b : item.to_json.b << "\n"
    end

    def start(type, data)
      @begun = true
      @connection.write(@connection.begin(@path, "Content-Type: #{type}\r\n#{HEADERS}").b << framed(data))
    end

    def send(data)
      @connection.write(framed(data)) unless data.empty?
    end

    # None of nothing, which would be the last one.
    def framed(data)
      data.empty? ? ''.b : "#{data.bytesize.to_s(16)}\r\n".b << data << "\r\n"
    end
  end

  # What a handler is told about its invocation.
  class LambdaContext
    attr_reader :aws_request_id, :invoked_function_arn, :log_group_name, :log_stream_name, :function_name,
                :memory_limit_in_mb, :function_version, :identity, :client_context, :deadline_ms

    def initialize(headers)
      @deadline_ms = headers['lambda-runtime-deadline-ms'].to_i
      @aws_request_id = headers['lambda-runtime-aws-request-id']
      @invoked_function_arn = headers['lambda-runtime-invoked-function-arn']
      @log_group_name = ENV['AWS_LAMBDA_LOG_GROUP_NAME']
      @log_stream_name = ENV['AWS_LAMBDA_LOG_STREAM_NAME']
      @function_name = ENV['AWS_LAMBDA_FUNCTION_NAME']
      @memory_limit_in_mb = ENV['AWS_LAMBDA_FUNCTION_MEMORY_SIZE']
      @function_version = ENV['AWS_LAMBDA_FUNCTION_VERSION']
      @identity = object(headers['lambda-runtime-cognito-identity'])
      @client_context = object(headers['lambda-runtime-client-context'])
    end

    def get_remaining_time_in_millis
      [@deadline_ms - Process.clock_gettime(Process::CLOCK_REALTIME, :millisecond), 0].max
    end

    private

    def object(json)
      value = json && JSON.parse(json)
      value if value.is_a?(Hash)
    rescue JSON::ParserError
      nil
    end
  end

  # Lambda's form of what `logger` writes: with the request's id.
  module LogFormat
    # Lambda's names of levels that Ruby has not.
    LEVELS = { 'TRACE' => 0, 'DEBUG' => 0, 'INFO' => 1, 'WARN' => 2, 'ERROR' => 3, 'FATAL' => 4 }.freeze

    def call(severity, time, progname, message)
      return json(severity, time, progname, message) if ENV['AWS_LAMBDA_LOG_FORMAT'] == 'JSON'

      at = time.strftime('%Y-%m-%dT%H:%M:%S.%6N')
      id = VirgaRuntime.request_id
      format("%s, [%s #%d] %5s %s -- %s: %s\n", severity[0], at, $$, severity, id, progname, msg2str(message))
    end

    # A line of a log of JSON; nothing where the function wants to see no such level.
    def json(severity, time, progname, message)
      return '' if LEVELS.fetch(severity, 5) < LEVELS.fetch(ENV['AWS_LAMBDA_LOG_LEVEL'], 1)

      entry = { timestamp: time.utc.strftime('%Y-%m-%dT%H:%M:%S.%3NZ'), level: severity }
      entry[:requestId] = VirgaRuntime.request_id if VirgaRuntime.request_id
      entry[:logger] = progname if progname
      entry.update(VirgaRuntime.error_entry(message)) if message.is_a?(Exception)
      entry[:message] ||= message.is_a?(Hash) ? message : msg2str(message)
      "#{JSON.generate(entry)}\n"
    end
  end

  # `file.method` or `file.Module::Class.method`, as something to call.
  class Handler
    FORM = 'must be of form FILENAME.METHOD or FILENAME.CLASS.METHOD where FILENAME corresponds with an existing ' \
           'Ruby source file FILENAME.rb, CLASS is an optional module/class namespace and METHOD is a callable ' \
           'method. If using CLASS, METHOD must be a class-level method.'

    def initialize(name)
      parts = name.split('.', -1)
      raise ArgumentError, "Invalid handler #{name}, #{FORM}" unless [2, 3].include?(parts.size)

      @file, *@owner, @method = parts
    end

    # Runs the function's own code.
    def load
      task = VirgaRuntime.task
      $LOAD_PATH.unshift(task) unless $LOAD_PATH.include?(task)
      file = File.join(task, "#{@file}.rb")
      require(File.file?(file) ? file : @file)
    end

    def call(event, context)
      owner = @owner.empty? ? MAIN : Object.const_get(@owner.first)
      owner.__send__(@method, event: event, context: context)
    end
  end

  class << self
    def main
      template = !ENV.delete('VIRGA_TEMPLATE').nil?
      $stdout.sync = $stderr.sync = true
      ARGV.clear
      $PROGRAM_NAME = 'ruby'
      began = now
      handler = initialized { Handler.new(ENV['_HANDLER'].to_s).tap(&:load) }
      load_json
      if template
        # Returns in each instance, never in the template itself.
        Ahead.instance
        began = now
      end
      serve(handler, "Virga-Init-Began: #{began}\r\n")
    end

    def task
      ENV.fetch('LAMBDA_TASK_ROOT', '/var/task')
    end

    private

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
    end

    def connection
      Connection.new(ENV.fetch('AWS_LAMBDA_RUNTIME_API'))
    end

    # What the function's code raises as it loads is reported, and ends the process; an exit ends it as it says.
    def initialized
      yield
    rescue SystemExit
      raise
    rescue Exception => e
      load_json
      connection.post(*failure(e, 'Init'))
      exit(1)
    end

    # Ruby's, or a gem's that the function has activated; never a file of the function's that is called so.
    def load_json
      place = $LOAD_PATH.index(task)
      $LOAD_PATH.delete_at(place) if place
      require 'json'
    ensure
      $LOAD_PATH.insert(place, task) if place
    end

    # One event after another.
    def serve(handler, began)
      connection = self.connection
      path = NEXT
      reply = connection.get(NEXT, began)
      loop do
        status, headers, body = reply
        if status == 200
          path, body, headers, fatal = answer(handler, headers, body)
          # The reply to an answer in pieces is no event: what it comes to is known at its end only.
          reply, path, fatal = stream(connection, path, body) if (streams = body.is_a?(Enumerator))
          reply = connection.post(path, body, fatal ? headers : "#{headers}Virga-Next: 1\r\n") unless streams
          fatal && exit(fatal)
        elsif path == NEXT
          abort("the Runtime API answered #{status} to next")
        else
          # The reply to an answer need not be an event.
          path = NEXT
          reply = connection.get(NEXT)
        end
      end
    end

    # One invocation; its answer: path, body, headers, and how the process ends if it must.
    def answer(handler, headers, body)
      self.request_id = headers['lambda-runtime-aws-request-id']
      ENV['_X_AMZN_TRACE_ID'] = headers['lambda-runtime-trace-id']
      format_logs
      event = JSON.parse(body.force_encoding(Encoding::UTF_8))
      response(handler.call(event, LambdaContext.new(headers)))
    rescue StandardError => e
      failure(e, 'Function')
    rescue Exception => e
      # An exit, no memory, no stack, a script that cannot be parsed: nothing can be said of what is left.
      [*failure(e, 'Function'), e.is_a?(SystemExit) ? e.status : 1]
    end

    # Sends what an enumerator yields, as it does: the API's reply, to which path, and how the process ends if it must.
    def stream(connection, path, enumerator)
      pieces = Pieces.new(connection, path)
      begin
        enumerator.each { |item| pieces.write(item) }
        [pieces.finish, path, nil]
      rescue Exception => e
        fatal = e.is_a?(SystemExit) ? e.status : 1 unless e.is_a?(StandardError)
        failed, json, headers = failure(e, 'Function')
        kind = headers[/Error-Type: ([^\r]*)/, 1]
        [pieces.begun? ? pieces.finish(kind, json) : connection.post(failed, json, headers), path, fatal]
      end
    end

    # A stream is answered as it is (Lambda's marshalling for Ruby).
    def response(result)
      return ["invocation/#{request_id}/response", result, nil] if result.is_a?(Enumerator)

      raw = defined?(::StringIO) && result.is_a?(::StringIO) || result.is_a?(IO)
      body = raw ? result.read : result.to_json
      type = raw ? 'application/unknown' : 'application/json'
      ["invocation/#{request_id}/response", body, "Content-Type: #{type}\r\n"]
    end

    # The answer with an error, which it logs.
    def failure(error, classification)
      kind = "#{classification}<#{error.class}>"
      message = said(error).dup.force_encoding(Encoding::UTF_8).scrub
      report = { errorMessage: message, errorType: kind, stackTrace: stack(error) }
      json = JSON.generate(report)
      init = classification == 'Init'
      log_failure(init ? 'Init error when loading handler' : 'Error raised from handler method', report, json)
      headers = "Content-Type: application/json\r\n" \
                "Lambda-Runtime-Function-Error-Type: #{kind.gsub(/[^\x21-\x7e]/, '_')}\r\n"
      [init ? 'init/error' : "invocation/#{request_id}/error", json, headers]
    end

    # What the error says, or that it cannot: `message` is the function's own code.
    def said(error)
      error.message.to_s
    rescue StandardError => e
      "its message raised #{e.class}"
    end

    # The function's frames, the innermost first.
    def stack(error)
      frames = (error.backtrace || []).reject { |frame| frame.start_with?(OURS, '<internal:') }
      frames.first(100).map { |frame| frame.dup.force_encoding(Encoding::UTF_8).scrub }
    end

    def log_failure(title, report, json)
      return log("#{title}\t#{json}") unless ENV['AWS_LAMBDA_LOG_FORMAT'] == 'JSON'

      at = Time.now.utc.strftime('%Y-%m-%dT%H:%M:%S.%3NZ')
      entry = { timestamp: at, level: 'ERROR', message: title, **report }
      entry[:requestId] = request_id if request_id
      log(JSON.generate(entry))
    end

    # Past whatever the function may have made of `$stdout`.
    def log(text)
      $stdout.flush
      STDOUT.write("#{text}\n")
    rescue IOError, SystemCallError
      # Closed by the function: its loss.
    end

    # Once the function has required `logger`.
    def format_logs
      return if @formatted || !defined?(::Logger::Formatter)

      ::Logger::Formatter.prepend(LogFormat)
      @formatted = true
    end
  end

  # The half for processes that are started before their function, or instance, is known. A template is a process that
  # has been initialised, once, and stops; instances begin as copies of its memory, which go on where `stop` returns,
  # as the child of a fork: what is registered for a fork (`Process._fork`, the C library's handlers) has run.
  module Ahead
    ORDERS = 3
    # What functions commonly require. Loaded into the template that all functions of an interpreter begin with.
    COMMON = %w[
      base64 bigdecimal date digest erb fileutils forwardable json logger net/http open-uri openssl ostruct pathname
      pp securerandom set socket stringio tempfile time timeout uri yaml zlib
    ].freeze

    module_function

    # A client without a function; it becomes one that was just started.
    def boot
      if ENV.delete('VIRGA_TEMPLATE')
        load_common
        stop
      end
      become(orders)
      # What was found out about gems without the function's is forgotten.
      Gem.clear_paths if defined?(Gem)
      Dir.chdir(VirgaRuntime.task)
      VirgaRuntime.main
    end

    # Stops the template of a function. Returns in every instance of it.
    def instance
      stop
      become(orders)
    end

    def load_common
      COMMON.each do |name|
        require name
      rescue LoadError
        # Built or packaged without it.
      end
    end

    # Returns in every instance, never in the template.
    def stop
      $stdout.flush
      $stderr.flush
      # What has lived through a few collections is old: the ones to come do not look at it.
      4.times { GC.start }
      Process.kill(:STOP, $$)
      # Whoever takes the image lets the process go on to here, and takes that of the child.
      sleep if fork
    end

    def orders
      IO.open(ORDERS, 'rb', &:read)
    end

    # Makes the orders the environment, and nothing else.
    def become(given)
      # No function will come.
      exit!(0) if given.empty?
      require 'json'
      environment = JSON.parse(given)
      # Whoever made the image wanted to see that it goes on.
      exit!(0) if environment.key?('VIRGA_PROBE')
      ENV.replace(environment)
    end
  end
end
