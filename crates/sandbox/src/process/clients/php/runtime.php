<?php

// Virga's runtime client for PHP event handlers.
//
// Asks the Lambda Runtime API (2018-06-01) for events, calls what the handler's file returns, posts what that returns.
// Speaks HTTP over a plain stream and needs nothing but PHP 8.1 and what is compiled into it; images of initialised
// processes need the extensions pcntl and posix.
declare(strict_types=1);

namespace Virga;

require __DIR__ . '/logger.php';

/** An error that the client itself found, with a name for it. */
final class Fault extends \Exception
{
    public function __construct(public string $type, string $message)
    {
        parent::__construct($message);
    }
}

/** What a handler is told about its invocation: Bref's methods, and what else Lambda tells. */
final class Context implements \JsonSerializable
{
    public function __construct(
        private string $awsRequestId,
        private int $deadlineMs,
        private string $invokedFunctionArn,
        private string $traceId,
        private ?string $clientContext = null,
        private ?string $cognitoIdentity = null,
    ) {
    }

    public function getAwsRequestId(): string
    {
        return $this->awsRequestId;
    }

    public function getRemainingTimeInMillis(): int
    {
        return max(0, $this->deadlineMs - (int) (microtime(true) * 1000));
    }

    public function getInvokedFunctionArn(): string
    {
        return $this->invokedFunctionArn;
    }

    public function getTraceId(): string
    {
        return $this->traceId;
    }

    public function getDeadlineMs(): int
    {
        return $this->deadlineMs;
    }

    public function getFunctionName(): string
    {
        return (string) getenv('AWS_LAMBDA_FUNCTION_NAME');
    }

    public function getFunctionVersion(): string
    {
        return (string) getenv('AWS_LAMBDA_FUNCTION_VERSION');
    }

    public function getMemoryLimitInMb(): int
    {
        return (int) getenv('AWS_LAMBDA_FUNCTION_MEMORY_SIZE');
    }

    public function getLogGroupName(): string
    {
        return (string) getenv('AWS_LAMBDA_LOG_GROUP_NAME');
    }

    public function getLogStreamName(): string
    {
        return (string) getenv('AWS_LAMBDA_LOG_STREAM_NAME');
    }

    /** The caller's object, or null. */
    public function getClientContext(): ?array
    {
        return self::object($this->clientContext);
    }

    /** `cognitoIdentityId` and `cognitoIdentityPoolId`, or null. */
    public function getIdentity(): ?array
    {
        return self::object($this->cognitoIdentity);
    }

    /** Where the function writes lines to its log: PSR-3's methods, and its interface where the function has that. */
    public function getLogger(): Logger
    {
        return Runtime::logger();
    }

    public function jsonSerialize(): array
    {
        return [
            'awsRequestId' => $this->awsRequestId,
            'deadlineMs' => $this->deadlineMs,
            'invokedFunctionArn' => $this->invokedFunctionArn,
            'traceId' => $this->traceId,
        ];
    }

    private static function object(?string $json): ?array
    {
        $value = $json === null ? null : json_decode($json, true);
        return is_array($value) ? $value : null;
    }
}

/** HTTP/1.1 with the Runtime API over one kept connection. A message is one write. */
final class Connection
{
    private const API = '/2018-06-01/runtime/';

    /** @var resource|null */
    private $stream = null;
    private string $ahead = '';

    public function __construct(private string $address)
    {
    }

    public function get(string $path, string $headers = ''): array
    {
        return $this->exchange('GET ' . self::API . "$path HTTP/1.1\r\nHost: {$this->address}\r\n$headers\r\n");
    }

    public function post(string $path, string $body, string $headers): array
    {
        $head = 'POST ' . self::API . "$path HTTP/1.1\r\nHost: {$this->address}\r\n{$headers}Content-Length: ";
        return $this->exchange($head . strlen($body) . "\r\n\r\n" . $body);
    }

    /**
     * Sends a message; status, headers and body of the answer. A kept connection that turns out to be broken is opened
     * again once: the API hands out a lost event again.
     */
    private function exchange(string $message): array
    {
        $kept = $this->stream !== null;
        while (true) {
            $answer = $this->stream !== null || $this->open() ? $this->tried($message) : null;
            if ($answer !== null) {
                return $answer;
            }
            $this->stream = null;
            if (!$kept) {
                $this->lost();
            }
            $kept = false;
        }
    }

    /** Begins a message whose body comes in pieces: its head, to go out with the first. It is not sent again. */
    public function begin(string $path, string $headers): string
    {
        return 'POST ' . self::API . "$path HTTP/1.1\r\nHost: {$this->address}\r\n$headers\r\n";
    }

    /** Sends a piece of a message. */
    public function write(string $data): void
    {
        if ($this->stream === null && !$this->open() || !$this->sent($data)) {
            $this->lost();
        }
    }

    /** Status, headers and body of the answer to a message that was sent in pieces. */
    public function finish(): array
    {
        return $this->received() ?? $this->lost();
    }

    private function lost(): never
    {
        fwrite(STDERR, "the Runtime API cannot be reached\n");
        exit(1);
    }

    private function open(): bool
    {
        $options = stream_context_create(['socket' => ['tcp_nodelay' => true]]);
        $stream = @stream_socket_client("tcp://{$this->address}", $code, $text, 60.0, STREAM_CLIENT_CONNECT, $options);
        $this->ahead = '';
        $this->stream = $stream === false ? null : $stream;
        return $this->stream !== null;
    }

    private function tried(string $message): ?array
    {
        return $this->sent($message) ? $this->received() : null;
    }

    private function sent(string $message): bool
    {
        $sent = 0;
        $length = strlen($message);
        while ($sent < $length) {
            $count = @stream_socket_sendto($this->stream, $sent === 0 ? $message : substr($message, $sent, 1 << 20));
            if ($count === false || $count < 1) {
                return false;
            }
            $sent += $count;
        }
        return true;
    }

    private function received(): ?array
    {
        $data = $this->ahead;
        while (($end = strpos($data, "\r\n\r\n")) === false) {
            $more = $this->more();
            if ($more === null) {
                return null;
            }
            $data = $data === '' ? $more : $data . $more;
        }
        $headers = [];
        $lines = explode("\r\n", substr($data, 0, $end));
        $status = (int) explode(' ', $lines[0], 3)[1];
        unset($lines[0]);
        foreach ($lines as $line) {
            [$name, $value] = explode(':', $line, 2);
            $headers[strtolower($name)] = trim($value);
        }
        $start = $end + 4;
        $needed = $start + (int) ($headers['content-length'] ?? 0);
        while (strlen($data) < $needed) {
            $more = $this->more();
            if ($more === null) {
                return null;
            }
            $data .= $more;
        }
        $this->ahead = substr($data, $needed);
        return [$status, $headers, substr($data, $start, $needed - $start)];
    }

    /** What has arrived, at least a byte; past the stream's own buffer and its time-out. */
    private function more(): ?string
    {
        $more = @stream_socket_recvfrom($this->stream, 65536);
        return $more === false || $more === '' ? null : $more;
    }
}

/**
 * An answer in pieces (`Lambda-Runtime-Function-Response-Mode: streaming`): strings as they are, anything else as a line
 * of JSON. If the first is an array with `statusCode`, it is the head of an HTTP response. What goes wrong later is told
 * in trailers.
 */
final class Pieces
{
    public const JSON = JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_PRESERVE_ZERO_FRACTION | JSON_THROW_ON_ERROR;
    private const HEAD_FIRST = 'application/vnd.awslambda.http-integration-response';
    private const TYPE = 'Lambda-Runtime-Function-Error-Type';
    private const BODY = 'Lambda-Runtime-Function-Error-Body';

    public bool $begun = false;

    public function __construct(private Connection $connection, private string $path)
    {
    }

    public function write(mixed $item): void
    {
        if ($this->begun) {
            $this->send(self::data($item));
        } elseif (is_array($item) && isset($item['statusCode'])) {
            $this->start(self::HEAD_FIRST, json_encode($item, self::JSON) . str_repeat("\0", 8));
        } else {
            $text = is_string($item) && preg_match('//u', $item) === 1;
            $type = $text ? 'text/plain; charset=utf-8' : (is_string($item) ? 'application/octet-stream' : 'application/x-ndjson');
            $this->start($type, self::data($item));
        }
    }

    /** The end: with an error, its type and its report. The API's reply. */
    public function finish(?string $type = null, string $report = ''): array
    {
        if (!$this->begun) {
            $this->start('application/octet-stream', '');
        }
        $body = base64_encode($report);
        $trailers = $type === null ? '' : self::TYPE . ": $type\r\n" . self::BODY . ": $body\r\n";
        $this->connection->write("0\r\n$trailers\r\n");
        return $this->connection->finish();
    }

    private static function data(mixed $item): string
    {
        return is_string($item) ? $item : json_encode($item, self::JSON) . "\n";
    }

    private function start(string $type, string $data): void
    {
        $this->begun = true;
        $headers = "Content-Type: $type\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n"
            . "Transfer-Encoding: chunked\r\nTrailer: " . self::TYPE . ', ' . self::BODY . "\r\n";
        $this->connection->write($this->connection->begin($this->path, $headers) . self::framed($data));
    }

    private function send(string $data): void
    {
        if ($data !== '') {
            $this->connection->write(self::framed($data));
        }
    }

    /** None of nothing, which would be the last one. */
    private static function framed(string $data): string
    {
        return $data === '' ? '' : dechex(strlen($data)) . "\r\n$data\r\n";
    }
}

/** What a file returns. A function, so that the file sees nothing of the client's. */
function load(): mixed
{
    return require func_get_arg(0);
}

/** One function, one process, one event after another. */
final class Runtime
{
    public const TASK = '/var/task';
    /** Errors that end a script. */
    private const FATAL = E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR | E_RECOVERABLE_ERROR;
    /** Frames of an error that are told: a recursion's are more than an answer may hold. */
    private const FRAMES = 100;
    /** MiB that the interpreter needs beside what its memory limit counts. */
    private const APART = 16;

    private static Connection $connection;
    /** The invocation under way; null while the function initialises. */
    private static ?string $invocation = null;
    /** Whether the function's own code may be running. */
    private static bool $running = false;
    /** The answer under way, where it comes in pieces. */
    private static ?Pieces $pieces = null;
    private static ?Logger $logger = null;

    public static function logger(): Logger
    {
        return self::$logger ??= Logger::make();
    }

    /** Of the invocation under way; null while the function initialises. */
    public static function requestId(): ?string
    {
        return self::$invocation;
    }

    public static function main(): void
    {
        $template = getenv('VIRGA_TEMPLATE') !== false;
        Ahead::unset('VIRGA_TEMPLATE');
        self::setUp();
        $began = hrtime(true);
        self::$running = true;
        try {
            $handler = self::handler((string) getenv('_HANDLER'));
            self::flush();
            if ($template) {
                // Returns in each instance, never in the template itself.
                Ahead::instance();
                $began = hrtime(true);
                self::connect();
            }
        } catch (\Throwable $error) {
            self::fail($error);
            self::$running = false;
            exit(1);
        }
        self::$running = false;
        self::serve($handler, "Virga-Init-Began: $began\r\n");
    }

    private static function setUp(): void
    {
        self::limitMemory();
        ini_set('max_execution_time', '0');
        set_include_path(implode(PATH_SEPARATOR, ['.', self::task(), '/opt/php', get_include_path()]));
        $_SERVER['argv'] = $GLOBALS['argv'] = [];
        $_SERVER['argc'] = $GLOBALS['argc'] = 0;
        self::connect();
        register_shutdown_function(self::ended(...));
        if (Logger::isJson()) {
            set_error_handler(Logger::warned(...));
        }
    }

    private static function connect(): void
    {
        self::$connection = new Connection((string) getenv('AWS_LAMBDA_RUNTIME_API'));
    }

    /** An error that names the line is better than the kernel's end of the process. What the function says wins. */
    private static function limitMemory(): void
    {
        $memory = (int) getenv('AWS_LAMBDA_FUNCTION_MEMORY_SIZE');
        if ($memory > 0 && in_array(get_cfg_var('memory_limit'), [false, '-1'], true)) {
            ini_set('memory_limit', max($memory - self::APART, intdiv($memory, 2)) . 'M');
        }
    }

    private static function task(): string
    {
        $task = getenv('LAMBDA_TASK_ROOT');
        return $task === false ? self::TASK : $task;
    }

    /** What the file returns, as something to call. */
    private static function handler(string $name): callable
    {
        $file = self::task() . '/' . $name;
        if (!str_ends_with($name, '.php') || !is_file($file)) {
            $hint = str_ends_with($name, '.php') ? '' : ': a PHP handler is the path of a file, such as index.php';
            throw new Fault('Runtime.HandlerNotFound', "Handler '$name' does not exist$hint");
        }
        $found = load($file);
        // Bref's classes of handlers.
        if (is_object($found) && !is_callable($found) && method_exists($found, 'handle')) {
            $found = $found->handle(...);
        }
        if (!is_callable($found)) {
            $given = get_debug_type($found);
            throw new Fault('Runtime.HandlerNotFound', "Handler '$name' must return a function, it returned $given");
        }
        if (!class_exists('Bref\Context\Context')) {
            class_alias(Context::class, 'Bref\Context\Context');
        }
        return $found;
    }

    private static function serve(callable $handler, string $began): never
    {
        [$status, $headers, $body] = self::$connection->get('invocation/next', $began);
        $asked = true;
        while (true) {
            if ($status !== 200) {
                // The reply to an answer need not be an event.
                if ($asked) {
                    fwrite(STDERR, "the Runtime API answered $status to next\n");
                    exit(1);
                }
                $asked = true;
                [$status, $headers, $body] = self::$connection->get('invocation/next');
                continue;
            }
            $asked = false;
            [$path, $body, $headers] = self::call($handler, $headers, $body);
            if ($body === null) {
                // Sent in pieces. The reply is no event: what it comes to is known at its end only.
                self::$invocation = self::$pieces = null;
                [$status] = $headers;
                $status = $status === 200 ? 202 : $status;
                continue;
            }
            self::$invocation = null;
            [$status, $headers, $body] = self::$connection->post($path, $body, "{$headers}Virga-Next: 1\r\n");
        }
    }

    /** One invocation; its answer. */
    private static function call(callable $handler, array $headers, string $body): array
    {
        $id = self::$invocation = $headers['lambda-runtime-aws-request-id'];
        $trace = $headers['lambda-runtime-trace-id'] ?? '';
        putenv($trace === '' ? '_X_AMZN_TRACE_ID' : "_X_AMZN_TRACE_ID=$trace");
        // What the invocation before may have set runs on, and would end this one.
        ini_set('max_execution_time', '0');
        self::$running = true;
        try {
            $event = json_decode($body, true, 512, JSON_THROW_ON_ERROR);
            $result = $handler($event, self::context($id, $headers, $trace));
            if ($result instanceof \Generator) {
                return self::stream($id, $result);
            }
            $answer = json_encode($result, Pieces::JSON);
            self::flush();
            return ["invocation/$id/response", $answer, "Content-Type: application/json\r\n"];
        } catch (\Throwable $error) {
            return self::failure($error);
        } finally {
            self::$running = false;
        }
    }

    /** Sends what a generator yields, as it does. In place of headers the API's reply; no body. */
    private static function stream(string $id, \Generator $generator): array
    {
        self::$pieces = new Pieces(self::$connection, "invocation/$id/response");
        try {
            foreach ($generator as $item) {
                self::$pieces->write($item);
            }
            self::flush();
            return ['', null, self::$pieces->finish()];
        } catch (\Throwable $error) {
            if (!self::$pieces->begun) {
                throw $error;
            }
            return ['', null, self::inTrailers(self::failure($error))];
        }
    }

    /** Ends an answer in pieces with the error that would be posted. */
    private static function inTrailers(array $posted): array
    {
        [, $json, $headers] = $posted;
        preg_match('/Error-Type: ([^\r]*)/', $headers, $type);
        return self::$pieces->finish($type[1], $json);
    }

    /** A Bref\Context\Context where the function brings that class, else what stands in for it. */
    private static function context(string $id, array $headers, string $trace): object
    {
        $given = [
            $id,
            (int) $headers['lambda-runtime-deadline-ms'],
            $headers['lambda-runtime-invoked-function-arn'] ?? '',
            $trace,
        ];
        $class = \Bref\Context\Context::class;
        if (is_a($class, Context::class, true)) {
            $given[] = $headers['lambda-runtime-client-context'] ?? null;
            $given[] = $headers['lambda-runtime-cognito-identity'] ?? null;
        }
        return new $class(...$given);
    }

    /** The answer with an error, which it logs: path, body and headers. */
    private static function failure(\Throwable $error): array
    {
        self::flush();
        return self::reported(self::described($error));
    }

    private static function reported(array $report): array
    {
        $flags = JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE | JSON_PARTIAL_OUTPUT_ON_ERROR;
        $json = json_encode($report, $flags);
        $init = self::$invocation === null;
        if (Logger::isJson()) {
            $title = $init ? 'Init error when loading handler' : 'Error raised from handler';
            Logger::entry('ERROR', ['message' => $title] + $report);
        } else {
            self::write(($init ? "Init Error\t" : self::$invocation . "\tInvoke Error\t") . $json . "\n");
        }
        $type = preg_replace('/[^\x21-\x7e]/', '_', $report['errorType']);
        $headers = "Content-Type: application/json\r\nLambda-Runtime-Function-Error-Type: $type\r\n";
        $path = self::$invocation === null ? 'init/error' : 'invocation/' . self::$invocation . '/error';
        return [$path, $json, $headers];
    }

    /** An error in Lambda's shape. */
    public static function described(\Throwable $error): array
    {
        if ($error instanceof Fault) {
            return ['errorType' => $error->type, 'errorMessage' => $error->getMessage(), 'stackTrace' => []];
        }
        return [
            // Of a class without a name, what it extends: its own name is a place in memory.
            'errorType' => get_debug_type($error),
            'errorMessage' => $error->getMessage(),
            'stackTrace' => self::stack($error),
        ];
    }

    /** Where it was thrown, then PHP's own lines, without the client's; then what it was made of. */
    private static function stack(\Throwable $error): array
    {
        $ours = str_starts_with($error->getFile(), __DIR__ . '/');
        $stack = $ours ? [] : [$error->getFile() . ':' . $error->getLine()];
        foreach (explode("\n", $error->getTraceAsString()) as $line) {
            $over = count($stack) > self::FRAMES || str_ends_with($line, ' {main}');
            if ($over || str_contains($line, __DIR__ . '/')) {
                break;
            }
            $stack[] = $line;
        }
        $previous = $error->getPrevious();
        if ($previous !== null) {
            $stack[] = 'Previous: ' . $previous::class . ': ' . $previous->getMessage();
            array_push($stack, ...self::stack($previous));
        }
        return $stack;
    }

    private static function fail(\Throwable $error): void
    {
        self::$connection->post(...self::failure($error));
    }

    /** The script ends: a fatal error is reported; an exit is for the platform to tell. */
    private static function ended(): void
    {
        $error = error_get_last();
        if (!self::$running || $error === null || ($error['type'] & self::FATAL) === 0) {
            return;
        }
        ini_set('memory_limit', '-1');
        self::$running = false;
        $lines = explode("\n", $error['message']);
        $report = [
            'errorType' => $error['type'] === E_USER_ERROR ? 'UserError' : 'FatalError',
            'errorMessage' => $lines[0],
            'stackTrace' => [$error['file'] . ':' . $error['line']],
        ];
        self::flush();
        $posted = self::reported($report);
        self::$pieces?->begun ? self::inTrailers($posted) : self::$connection->post(...$posted);
    }

    /** Output that the function holds back is its invocation's. */
    private static function flush(): void
    {
        while (ob_get_level() > 0 && @ob_end_flush()) {
            // The next one.
        }
    }

    public static function write(string $text): void
    {
        // Closed by the function: its loss.
        if (is_resource(STDOUT)) {
            fwrite(STDOUT, $text);
        }
    }
}

/**
 * The half for processes that are started before their function, or instance, is known. A template is a process that
 * has been initialised, once, and stops; instances begin as copies of its memory, which go on where `stop` returns, as
 * the child of a fork.
 */
final class Ahead
{
    /** A client without a function; it becomes one that was just started. */
    public static function boot(): void
    {
        $template = getenv('VIRGA_TEMPLATE') !== false;
        self::unset('VIRGA_TEMPLATE');
        if ($template) {
            self::stop();
        }
        self::become(self::orders());
        chdir(Runtime::TASK);
        Runtime::main();
    }

    /** Stops the template of a function. Returns in every instance of it. */
    public static function instance(): void
    {
        self::stop();
        self::become(self::orders());
        // Generators that were seeded before the copy. What asks the kernel or OpenSSL needs nothing.
        mt_srand(random_int(PHP_INT_MIN, PHP_INT_MAX));
    }

    public static function unset(string $name): void
    {
        putenv($name);
        unset($_ENV[$name], $_SERVER[$name]);
    }

    /** Returns in every instance, never in the template. Without what it takes there is no template. */
    private static function stop(): void
    {
        if (!function_exists('pcntl_fork') || !function_exists('posix_kill')) {
            fwrite(STDERR, "templates need PHP's extensions pcntl and posix\n");
            exit(1);
        }
        gc_collect_cycles();
        gc_mem_caches();
        clearstatcache(true);
        posix_kill(getmypid(), SIGSTOP);
        // Whoever takes the image lets the process go on to here, and takes that of the child.
        if (pcntl_fork() !== 0) {
            while (true) {
                sleep(3600);
            }
        }
    }

    private static function orders(): string
    {
        return (string) file_get_contents('php://fd/3');
    }

    /** Makes the orders the environment, and nothing else. */
    private static function become(string $orders): void
    {
        if ($orders === '') {
            // No function will come.
            exit(0);
        }
        $environment = json_decode($orders, true, 512, JSON_THROW_ON_ERROR);
        if (isset($environment['VIRGA_PROBE'])) {
            // Whoever made the image wanted to see that it goes on; nothing of the function's is to run.
            pcntl_exec('/bin/true');
            exit(1);
        }
        foreach (array_keys(getenv()) as $name) {
            self::unset((string) $name);
        }
        foreach ($environment as $name => $value) {
            putenv("$name=$value");
            $_ENV[$name] = $_SERVER[$name] = $value;
        }
    }
}
